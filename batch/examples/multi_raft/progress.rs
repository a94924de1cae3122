//! How the regions that a store leads are doing, for PD: which of their peers are down or wait for a snapshot, and their sizes.
//!
//! It is only noted down here; the next heartbeats say it.

use regionmeta::{RegionId, Stats};
use regionmeta_batch::pd::{PeerProgress, PeerReport};

use super::host::Host;
use super::{Done, data};

impl Host {
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

    /// Into the published map, where a split shares them out, and to PD. A server asks its storage engine for an estimate.
    pub(super) fn measure_sizes(&mut self) -> Done {
        let led: Vec<RegionId> = self.nodes.keys().copied().filter(|region| self.leads(*region)).collect();
        for region in led {
            let Some(known) = self.region(region) else { continue };
            let pairs = data::pairs(self.store.storage(), known.range())?;
            let size_bytes = pairs.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
            let sizes = Stats { size_bytes, keys: pairs.len() as u64 };
            self.store.report([(region, sizes)]);
            self.heartbeats.report(region, &PeerReport { sizes: Some(sizes), ..PeerReport::default() });
        }
        Ok(())
    }
}
