//! A snapshot on its way in: persisted with its Ready, filled with its data afterwards. A crash may come at any moment.

use raft::eraftpb::Snapshot;
use regionmeta::RegionId;
use regionmeta_batch::peers::Finished;

use super::host::Host;
use super::{Done, data, snapshot};

impl Host {
    /// The descriptor is durable and published when this returns, in state Applying; the data is put in place at the next
    /// tick. Real snapshots are large, and other regions go on meanwhile.
    pub(super) fn persist_snapshot(&mut self, region: RegionId, raft_snapshot: &Snapshot) -> Done {
        let (descriptor, _) = snapshot::unpack(region, &raft_snapshot.data)?;
        let raft = &self.node(region)?.raft.raft;
        let (term, vote) = (raft.term.into(), raft.vote.into());
        // Behind the descriptor it would be too late: recovery needs what it finds a region applying.
        snapshot::keep(self.store.storage(), region, &raft_snapshot.data)?;
        self.stop(region)?;
        let effects = self.peers.persist_snapshot(region, term, vote)?;
        self.follow(effects, None)?;
        let node = self.node(region)?;
        node.raft.mut_store().reopen()?;
        node.meet(descriptor.peers());
        self.applying.insert(region);
        self.seen.snapshots += 1;
        Ok(())
    }

    /// Puts the data of persisted snapshots in place, after a crash once more. From then on the regions are Normal, and apply.
    pub(super) fn fill_in_snapshots(&mut self) -> Done {
        for region in std::mem::take(&mut self.applying) {
            if !self.peers.start_ingestion(region) {
                continue;
            }
            let storage = self.store.storage();
            let (descriptor, pairs) = snapshot::unpack(region, &snapshot::kept(storage, region)?)?;
            data::replace(storage, descriptor.range(), &pairs)?;
            let finished = self.peers.finish_snapshot(region)?;
            snapshot::forget(storage, region)?;
            match finished {
                Finished::Normal(_) => {
                    self.pool.router().add(region);
                }
                Finished::Destroyed { effects, .. } => {
                    self.forget(region, None);
                    self.follow(effects, None)?;
                }
            }
        }
        Ok(())
    }
}
