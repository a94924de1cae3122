//! A snapshot on its way in: persisted with its Ready, filled with its data afterwards. A crash may come at any moment.

use raft::eraftpb::Snapshot;
use regionmeta::{Region, RegionId};
use regionmeta_batch::peers::Effect;

use super::host::Host;
use super::{Done, data, snapshot};

impl Host {
    /// The descriptor is durable and published when this returns, in state Applying; the data is put in place at the next
    /// tick. Real snapshots are large, and other regions go on meanwhile.
    pub(super) fn persist_snapshot(&mut self, region: RegionId, raft_snapshot: &Snapshot) -> Done {
        let (descriptor, _) = snapshot::unpack(region, &raft_snapshot.data)?;
        let before = self.region(region);
        let raft = &self.node(region)?.raft.raft;
        let (term, vote) = (raft.term.into(), raft.vote.into());
        // Behind the descriptor it would be too late: recovery needs what it finds a region applying.
        snapshot::keep(self.store.storage(), region, &raft_snapshot.data)?;
        for overlapped in self.overlapped(&descriptor) {
            self.stop(overlapped)?;
        }
        for effect in self.peers.persist_snapshot(region, term, vote)? {
            if let Effect::Destroy { region, merged_into, .. } = effect {
                self.forget(region, merged_into);
            }
        }
        if let Some(before) = before {
            data::drop_unowned(&self.store, before.range())?;
        }
        let node = self.node(region)?;
        node.raft.mut_store().reopen()?;
        node.meet(descriptor.peers());
        self.applying.insert(region);
        self.seen.snapshots += 1;
        Ok(())
    }

    /// The region itself, if it is here, and those that go for its snapshot. None may be in the pool then.
    fn overlapped(&self, descriptor: &Region) -> Vec<RegionId> {
        let regions = self.store.meta().snapshot();
        let overlapped = regions.overlapping(descriptor.range()).map(Region::id);
        let mut overlapped = overlapped.collect::<Vec<_>>();
        overlapped.retain(|other| *other != descriptor.id());
        overlapped.push(descriptor.id());
        overlapped
    }

    /// Puts the data of persisted snapshots in place, after a crash once more. From then on the regions are Normal, and apply.
    pub(super) fn fill_in_snapshots(&mut self) -> Done {
        for region in std::mem::take(&mut self.applying) {
            let storage = self.store.storage();
            let (descriptor, pairs) = snapshot::unpack(region, &snapshot::kept(storage, region)?)?;
            data::replace(storage, descriptor.range(), &pairs)?;
            self.peers.finish_snapshot(region)?;
            snapshot::forget(storage, region)?;
            self.pool.router().add(region);
        }
        Ok(())
    }
}
