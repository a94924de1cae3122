//! Who takes part in which question.

use crate::contenders::arc_swap_cell::{ArcSwapCell, ArcSwapGuard};
use crate::contenders::dashmap_ids::DashmapIds;
use crate::contenders::dense_ids::DenseIds;
use crate::contenders::imbl_swap::ImblSwap;
use crate::contenders::mutex_clone::MutexClone;
use crate::contenders::ours::Ours;
use crate::contenders::papaya_ids::PapayaIds;
use crate::contenders::rwlock_arc::RwLockArc;
use crate::contenders::skip_map::SkipList;
use crate::contenders::sorted_array::SortedArray;
use crate::contenders::static_tree::StaticTree;
use crate::contenders::tokio_cache::TokioCache;
use crate::contenders::tree_index::SccTree;
use crate::map::{Failure, RegionMap};
use crate::model::Model;
use crate::tasks::{Entrant, Kind, Role, Stage, snapshots, variant};
use crate::workload::{Layout, Probes, SEED};

/// Changes in a large changeset.
pub const CHANGES_PER_BATCH: usize = 256;
/// Inserting one by one is tried with no more regions than this.
const REGIONS_INSERTED_MAX: usize = 100_000;
/// Regions in a scan.
pub const REGIONS_PER_SCAN: usize = 100;

/// The work that all contenders share.
#[derive(Debug)]
pub struct Workload {
    layout: Layout,
    uniform: Probes,
    zipfian: Probes,
}

impl Workload {
    /// The work on a map of so many regions.
    #[must_use]
    pub fn new(regions: usize, seed: u64) -> Self {
        let layout = Layout::new(regions, seed);
        let (uniform, zipfian) = (Probes::uniform(&layout, seed), Probes::zipfian(&layout, seed));
        Self { layout, uniform, zipfian }
    }
}

/// Every contender, built on the same regions.
#[derive(Debug)]
pub struct Roster<'w> {
    work: &'w Workload,
    ours: Stage<'w, Ours>,
    mutex: Stage<'w, MutexClone>,
    rwlock: Stage<'w, RwLockArc>,
    tokio: Stage<'w, TokioCache>,
    skip_map: Stage<'w, SkipList>,
    tree_index: Stage<'w, SccTree>,
    imbl: Stage<'w, ImblSwap>,
    papaya: Stage<'w, PapayaIds>,
    dashmap: Stage<'w, DashmapIds>,
    sorted_array: Stage<'w, SortedArray>,
    static_tree: Stage<'w, StaticTree>,
    dense_ids: Stage<'w, DenseIds>,
    arc_swap: ArcSwapCell,
    arc_swap_guard: ArcSwapGuard,
}

/// Counts the heap bytes that some work takes and keeps.
pub type CountBytes = dyn Fn(&mut dyn FnMut()) -> usize;

/// The heap bytes of each contender's map.
pub type BytesInUse = Vec<(&'static str, Role, usize)>;

impl<'w> Roster<'w> {
    /// Builds every contender.
    ///
    /// # Errors
    /// [`Failure`] if one cannot be built.
    pub fn build(work: &'w Workload) -> Result<Self, Failure> {
        Self::build_counting(work, &|build| {
            build();
            0
        })
        .map(|(roster, _)| roster)
    }

    /// Builds every contender, and counts the bytes of each.
    ///
    /// # Errors
    /// [`Failure`] if one cannot be built.
    pub fn build_counting(work: &'w Workload, count: &CountBytes) -> Result<(Self, BytesInUse), Failure> {
        let mut builder = Builder { model: Model::new(&work.layout), count, bytes: Vec::new() };
        let roster = Self {
            work,
            ours: builder.build("ours", Role::Ours)?,
            mutex: builder.build("mutex", Role::Peer)?,
            rwlock: builder.build("rwlock", Role::Peer)?,
            tokio: builder.build("tokio", Role::Peer)?,
            skip_map: builder.build("skip_map", Role::Peer)?,
            tree_index: builder.build("tree_index", Role::Peer)?,
            imbl: builder.build("imbl", Role::Peer)?,
            papaya: builder.build("papaya", Role::Peer)?,
            dashmap: builder.build("dashmap", Role::Peer)?,
            sorted_array: builder.build("sorted_array", Role::Peer)?,
            static_tree: builder.build("static_tree", Role::Limit)?,
            dense_ids: builder.build("dense_ids", Role::Limit)?,
            arc_swap: ArcSwapCell::default(),
            arc_swap_guard: ArcSwapGuard::default(),
        };
        Ok((roster, builder.bytes))
    }

    /// Look-ups by key, one thread, all regions alike.
    #[must_use]
    pub fn locate(&self) -> Vec<Entrant<'_>> {
        self.locate_among(&self.work.uniform)
    }

    /// Look-ups by key, one thread, a few regions hot.
    #[must_use]
    pub fn locate_zipf(&self) -> Vec<Entrant<'_>> {
        self.locate_among(&self.work.zipfian)
    }

    fn locate_among<'r>(&'r self, probes: &'r Probes) -> Vec<Entrant<'r>> {
        vec![
            self.ours.locate(probes, Ours::reader),
            variant("ours_by_snapshot", self.ours.locate(probes, Ours::by_snapshot)),
            self.mutex.locate(probes, |map| map),
            self.rwlock.locate(probes, |map| map),
            self.tokio.locate(probes, |map| map),
            self.skip_map.locate(probes, |map| map),
            self.tree_index.locate(probes, |map| map),
            self.imbl.locate(probes, |map| map),
            self.sorted_array.locate(probes, |map| map),
            self.static_tree.locate(probes, |map| map),
        ]
    }

    /// Look-ups by key, [`BATCH`](crate::map::BATCH) in flight; who cannot do that does them one by one.
    #[must_use]
    pub fn locate_batched(&self) -> Vec<Entrant<'_>> {
        let probes = &self.work.uniform;
        vec![
            self.ours.locate_batched(probes, Ours::reader),
            self.mutex.locate_batched(probes, |map| map),
            self.rwlock.locate_batched(probes, |map| map),
            self.tokio.locate_batched(probes, |map| map),
            self.skip_map.locate_batched(probes, |map| map),
            self.tree_index.locate_batched(probes, |map| map),
            self.imbl.locate_batched(probes, |map| map),
            self.sorted_array.locate_batched(probes, |map| map),
            self.static_tree.locate_batched(probes, |map| map),
        ]
    }

    /// Look-ups by key on two threads.
    #[must_use]
    pub fn locate_two_threads(&self) -> Vec<Entrant<'_>> {
        let probes = &self.work.uniform;
        vec![
            self.ours.locate_on_two_threads(probes, Ours::reader),
            variant("ours_by_snapshot", self.ours.locate_on_two_threads(probes, Ours::by_snapshot)),
            self.mutex.locate_on_two_threads(probes, |map| map),
            self.rwlock.locate_on_two_threads(probes, |map| map),
            self.tokio.locate_on_two_threads(probes, |map| map),
            self.skip_map.locate_on_two_threads(probes, |map| map),
            self.tree_index.locate_on_two_threads(probes, |map| map),
            self.imbl.locate_on_two_threads(probes, |map| map),
            self.sorted_array.locate_on_two_threads(probes, |map| map),
            self.static_tree.locate_on_two_threads(probes, |map| map),
        ]
    }

    /// Look-ups by key beside a writer.
    #[must_use]
    pub fn locate_beside_writer(&self) -> Vec<Entrant<'_>> {
        let probes = &self.work.uniform;
        vec![
            self.ours.locate_beside_writer(probes, SEED, Ours::reader),
            variant("ours_by_snapshot", self.ours.locate_beside_writer(probes, SEED, Ours::by_snapshot)),
            self.mutex.locate_beside_writer(probes, SEED, |map| map),
            self.rwlock.locate_beside_writer(probes, SEED, |map| map),
            self.tokio.locate_beside_writer(probes, SEED, |map| map),
            self.skip_map.locate_beside_writer(probes, SEED, |map| map),
            self.tree_index.locate_beside_writer(probes, SEED, |map| map),
            self.imbl.locate_beside_writer(probes, SEED, |map| map),
        ]
    }

    /// Look-ups by id.
    #[must_use]
    pub fn get(&self) -> Vec<Entrant<'_>> {
        let probes = &self.work.uniform;
        vec![
            self.ours.get(probes, Ours::reader),
            variant("ours_by_snapshot", self.ours.get(probes, Ours::by_snapshot)),
            self.mutex.get(probes, |map| map),
            self.rwlock.get(probes, |map| map),
            self.tokio.get(probes, |map| map),
            self.imbl.get(probes, |map| map),
            self.papaya.get(probes, |map| map),
            self.dashmap.get(probes, |map| map),
            self.dense_ids.get(probes, |map| map),
        ]
    }

    /// Scans of [`REGIONS_PER_SCAN`] regions.
    #[must_use]
    pub fn scan(&self) -> Vec<Entrant<'_>> {
        let (probes, regions) = (&self.work.uniform, REGIONS_PER_SCAN);
        vec![
            self.ours.scan(probes, regions, Ours::reader),
            self.mutex.scan(probes, regions, |map| map),
            self.rwlock.scan(probes, regions, |map| map),
            self.skip_map.scan(probes, regions, |map| map),
            self.tree_index.scan(probes, regions, |map| map),
            self.imbl.scan(probes, regions, |map| map),
            self.sorted_array.scan(probes, regions, |map| map),
        ]
    }

    /// Snapshots.
    #[must_use]
    pub fn take_snapshot(&self) -> Vec<Entrant<'_>> {
        vec![
            self.ours.take_snapshot(),
            self.mutex.take_snapshot(),
            self.imbl.take_snapshot(),
            snapshots("arc_swap_guard", Role::Peer, &self.arc_swap_guard),
            snapshots("arc_swap", Role::Limit, &self.arc_swap),
        ]
    }

    /// Publishing one split.
    #[must_use]
    pub fn publish_split(&self) -> Vec<Entrant<'_>> {
        self.publish(Kind::SplitOrMerge, 1)
    }

    /// Publishing one conf change.
    #[must_use]
    pub fn publish_conf_change(&self) -> Vec<Entrant<'_>> {
        self.publish(Kind::ChangePeer, 1)
    }

    /// Publishing splits, [`CHANGES_PER_BATCH`] at once.
    #[must_use]
    pub fn publish_batch(&self) -> Vec<Entrant<'_>> {
        self.publish(Kind::SplitOrMerge, CHANGES_PER_BATCH)
    }

    fn publish(&self, kind: Kind, batch: usize) -> Vec<Entrant<'_>> {
        vec![
            self.ours.publish(kind, batch, SEED),
            self.mutex.publish(kind, batch, SEED),
            self.rwlock.publish(kind, batch, SEED),
            self.tokio.publish(kind, batch, SEED),
            self.skip_map.publish(kind, batch, SEED),
            self.tree_index.publish(kind, batch, SEED),
            self.imbl.publish(kind, batch, SEED),
        ]
    }

    /// Building the whole map from sorted descriptors.
    #[must_use]
    pub fn bulk_build(&self) -> Vec<Entrant<'_>> {
        vec![
            self.ours.bulk_build(),
            variant("ours_by_inserting", self.ours.build_with(REGIONS_INSERTED_MAX, Ours::build_by_inserting)),
            self.mutex.bulk_build(),
            self.rwlock.bulk_build(),
            self.tokio.bulk_build(),
            self.skip_map.bulk_build(),
            self.tree_index.bulk_build(),
            self.imbl.bulk_build(),
            self.static_tree.bulk_build(),
        ]
    }
}

/// Builds one contender after the other.
struct Builder<'w, 'c> {
    model: Model<'w>,
    count: &'c CountBytes,
    bytes: BytesInUse,
}

impl<'w> Builder<'w, '_> {
    fn build<M: RegionMap>(&mut self, name: &'static str, role: Role) -> Result<Stage<'w, M>, Failure> {
        let mut built = None;
        let bytes = (self.count)(&mut || built = Some(Stage::<M>::map_of(&self.model)));
        self.bytes.push((name, role, bytes));
        let map = built.ok_or(Failure::Panicked)??;
        Ok(Stage::new(name, role, map, self.model.clone()))
    }
}
