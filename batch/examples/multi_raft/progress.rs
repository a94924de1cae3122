//! How the peers of the regions are doing, for PD: which are down, and which wait for a snapshot.

use regionmeta_batch::pd::{PeerProgress, PeerReport};

use super::host::Host;

impl Host {
    /// Notes it down of every region that this store leads. Their next heartbeats say it.
    pub(super) fn report_progress(&mut self) {
        for (&region, node) in self.nodes.iter_mut().filter(|(_, node)| node.leads()) {
            let heard = std::mem::take(&mut node.heard);
            let all = node.raft.raft.prs().iter();
            let others = all.filter(|(id, _)| **id != node.peer.id.get()).map(|(&id, progress)| PeerProgress {
                peer: id.into(),
                matched: progress.matched.into(),
                heard: heard.contains(&id),
                waits_for_data: false,
            });
            let truncated = self.store.apply_state(region).truncated.index;
            let others: Vec<_> = others.collect();
            self.heartbeats.report(region, &PeerReport { progress: &others, truncated, ..PeerReport::default() });
        }
    }
}
