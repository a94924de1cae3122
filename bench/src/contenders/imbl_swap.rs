//! Persistent maps from a library behind one `ArcSwap`: the design of this project with somebody else's tree.

use std::hash::BuildHasherDefault;
use std::sync::Arc;

use arc_swap::ArcSwap;
use imbl::shared_ptr::DefaultSharedPtr;
use imbl::{GenericHashMap, OrdMap};
use regionmeta::KeyRange;
use rustc_hash::FxHasher;

use crate::descriptor::Descriptor;
use crate::map::{
    Count, Edit, Failure, Found, Get, Locate, Publish, RegionMap, Scan, TakeSnapshot, edits, from, starts,
};
use crate::model::{Change, RegionSpec};

/// The `imbl` peer.
#[derive(Debug)]
pub struct ImblSwap(ArcSwap<Maps>);

/// A state that stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Maps {
    by_start: OrdMap<Arc<[u8]>, Arc<Descriptor>>,
    by_id: GenericHashMap<u64, Arc<Descriptor>, BuildHasherDefault<FxHasher>, DefaultSharedPtr>,
}

impl Maps {
    fn locate(&self, key: &[u8]) -> Option<&Arc<Descriptor>> {
        let (_, region) = self.by_start.get_prev(key)?;
        region.ends_after(key).then_some(region)
    }

    fn put(&mut self, region: &Arc<Descriptor>) {
        self.by_id.insert(region.id, region.clone());
        self.by_start.insert(region.start_key.as_slice().into(), region.clone());
    }

    fn apply(&mut self, edit: &Edit<Arc<Descriptor>>) {
        edit.puts.iter().for_each(|region| self.put(region));
        if let Some(gone) = &edit.gone {
            self.by_start.remove(gone.boundary.as_slice());
            self.by_id.remove(&gone.id);
        }
    }
}

impl RegionMap for ImblSwap {
    type Record = Arc<Descriptor>;

    fn record(spec: &RegionSpec<'_>) -> Result<Arc<Descriptor>, Failure> {
        Ok(Arc::new(Descriptor::new(spec)))
    }

    fn build(records: Vec<Arc<Descriptor>>) -> Result<Self, Failure> {
        let mut maps = Maps::default();
        records.iter().for_each(|region| maps.put(region));
        Ok(Self(ArcSwap::from_pointee(maps)))
    }
}

impl Locate for &ImblSwap {
    #[inline]
    fn locate(&mut self, key: &[u8]) -> Option<Found> {
        self.0.load().locate(key).map(|region| region.found())
    }
}

impl Get for &ImblSwap {
    #[inline]
    fn get(&mut self, id: u64) -> Option<Found> {
        self.0.load().by_id.get(&id).map(|region| region.found())
    }
}

/// The map has no sums: the regions are counted one by one.
impl Count for &ImblSwap {
    fn count(&mut self, range: KeyRange<'_>) -> usize {
        let maps = self.0.load();
        let first = maps.locate(range.start).map_or(range.start, |region| region.start_key.as_slice());
        maps.by_start.range::<_, [u8]>(starts(first, range.end)).count()
    }
}

impl Scan for &ImblSwap {
    fn scan(&mut self, key: &[u8], regions: usize, visit: impl FnMut(Found)) {
        let maps = self.0.load();
        let first = maps.locate(key).map_or(key, |region| region.start_key.as_slice());
        let from_first = maps.by_start.range::<_, [u8]>(from(first));
        from_first.take(regions).map(|(_, region)| region.found()).for_each(visit);
    }
}

impl TakeSnapshot for ImblSwap {
    type Snapshot = Arc<Maps>;

    #[inline]
    fn take_snapshot(&self) -> Arc<Maps> {
        self.0.load_full()
    }
}

impl Publish for ImblSwap {
    type Plan = Vec<Edit<Arc<Descriptor>>>;

    fn plan(&self, changes: &[Change<'_>]) -> Result<Self::Plan, Failure> {
        edits::<Self>(changes)
    }

    fn publish(&self, plan: Self::Plan) -> Result<(), Failure> {
        self.0.rcu(|maps| {
            let mut next = Maps::clone(maps);
            plan.iter().for_each(|edit| next.apply(edit));
            next
        });
        Ok(())
    }
}
