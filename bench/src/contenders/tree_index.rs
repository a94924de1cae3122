//! `scc::TreeIndex`, a concurrent B+ tree with lock-free reads, by start key.
//!
//! As with the skip list, a split is two steps; the right part goes in first.

use std::sync::Arc;

use scc::tree_index::Proximity;
use scc::{Guard, TreeIndex};

use crate::descriptor::Descriptor;
use crate::map::{Edit, Failure, Found, Locate, Publish, RegionMap, Scan, edits, from};
use crate::model::{Change, RegionSpec};

/// The `TreeIndex` peer.
#[derive(Debug)]
pub struct SccTree(TreeIndex<Box<[u8]>, Arc<Descriptor>>);

impl SccTree {
    fn put(&self, region: Arc<Descriptor>) {
        self.0.upsert_sync(region.start_key.as_slice().into(), region);
    }

    fn apply(&self, edit: Edit<Arc<Descriptor>>) {
        edit.puts.into_iter().rev().for_each(|region| self.put(region));
        if let Some(gone) = edit.gone {
            self.0.remove_sync(gone.boundary.as_slice());
        }
    }

    /// The region that begins last at or before `key`.
    #[inline]
    fn at_or_before<'a>(&'a self, key: &[u8], guard: &'a Guard) -> Option<&'a Descriptor> {
        let entry = match self.0.locate(key, guard) {
            Proximity::Exact(iter) | Proximity::Between(iter) => iter.get(),
            Proximity::Smaller(iter) => iter.get_back(),
            Proximity::Larger(_) | Proximity::Empty => None,
        };
        entry.map(|(_, region)| region.as_ref())
    }
}

impl RegionMap for SccTree {
    type Record = Arc<Descriptor>;

    fn record(spec: &RegionSpec<'_>) -> Result<Arc<Descriptor>, Failure> {
        Ok(Arc::new(Descriptor::new(spec)))
    }

    fn build(records: Vec<Arc<Descriptor>>) -> Result<Self, Failure> {
        let tree = Self(TreeIndex::new());
        records.into_iter().for_each(|region| tree.put(region));
        Ok(tree)
    }
}

impl Locate for &SccTree {
    #[inline]
    fn locate(&mut self, key: &[u8]) -> Option<Found> {
        let guard = Guard::new();
        self.at_or_before(key, &guard).filter(|region| region.ends_after(key)).map(Descriptor::found)
    }
}

impl Scan for &SccTree {
    fn scan(&mut self, key: &[u8], regions: usize, visit: impl FnMut(Found)) {
        let guard = Guard::new();
        let owner = self.at_or_before(key, &guard).filter(|region| region.ends_after(key));
        let first = owner.map_or(key, |region| region.start_key.as_slice());
        let entries = self.0.range::<[u8], _>(from(first), &guard);
        entries.take(regions).map(|(_, region)| region.found()).for_each(visit);
    }
}

impl Publish for SccTree {
    type Plan = Vec<Edit<Arc<Descriptor>>>;

    fn plan(&self, changes: &[Change<'_>]) -> Result<Self::Plan, Failure> {
        edits::<Self>(changes)
    }

    fn publish(&self, plan: Self::Plan) -> Result<(), Failure> {
        plan.into_iter().for_each(|edit| self.apply(edit));
        Ok(())
    }
}
