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
use crate::tasks::{self, Entrant, Kind, Role, Stage, Writers, snapshots, variant};
use crate::workload::{Layout, Probes, Ranges, SEED};

/// Changes in a large changeset.
pub const CHANGES_PER_BATCH: usize = 256;
/// Inserting one by one is tried with no more regions than this.
const REGIONS_INSERTED_MAX: usize = 100_000;
/// Regions in a scan.
pub const REGIONS_PER_SCAN: usize = 100;

/// Names of the questions of [`Roster::count`], and how many regions a range has to do with there.
pub const REGIONS_PER_COUNT: [(&str, RegionsCounted); 3] =
    [("count_100", |_| 100), ("count_10000", |_| 10_000), ("count_half", |regions| regions / 2)];

/// How many of all regions are counted.
pub type RegionsCounted = fn(usize) -> usize;

/// Everyone who can take part.
pub const CONTENDERS: [(&str, Role); 14] = [
    ("ours", Role::Ours),
    ("mutex", Role::Peer),
    ("rwlock", Role::Peer),
    ("tokio", Role::Peer),
    ("skip_map", Role::Peer),
    ("tree_index", Role::Peer),
    ("imbl", Role::Peer),
    ("papaya", Role::Peer),
    ("dashmap", Role::Peer),
    ("sorted_array", Role::Peer),
    ("static_tree", Role::Limit),
    ("dense_ids", Role::Limit),
    ("arc_swap", Role::Limit),
    ("arc_swap_guard", Role::Peer),
];
/// What [`Choice`] takes for all limits together.
pub const LIMIT: &str = "limit";

/// Which contenders take part. This project always does: it is what the others are compared with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Choice(Vec<String>);

impl Choice {
    /// These contenders, each one of [`CONTENDERS`] or [`LIMIT`]; all of them if none is named.
    #[must_use]
    pub fn only(names: Vec<String>) -> Self {
        Self(names)
    }

    /// Whether a contender takes part.
    #[must_use]
    pub fn takes(&self, name: &str, role: Role) -> bool {
        let named = |chosen: &String| chosen == name || (chosen == LIMIT && role == Role::Limit);
        role == Role::Ours || self.0.is_empty() || self.0.iter().any(named)
    }

    /// How many contenders take part.
    #[must_use]
    pub fn count(&self) -> usize {
        CONTENDERS.iter().filter(|(name, role)| self.takes(name, *role)).count()
    }
}

/// The work that all contenders share.
#[derive(Debug)]
pub struct Workload {
    layout: Layout,
    uniform: Probes,
    zipfian: Probes,
    ranges: [Ranges; 3],
}

impl Workload {
    /// The work on a map of so many regions.
    #[must_use]
    pub fn new(regions: usize, seed: u64) -> Self {
        let layout = Layout::new(regions, seed);
        let (uniform, zipfian) = (Probes::uniform(&layout, seed), Probes::zipfian(&layout, seed));
        let ranges = REGIONS_PER_COUNT.map(|(_, counted)| Ranges::of_about(counted(regions), &layout, seed));
        Self { layout, uniform, zipfian, ranges }
    }
}

/// The chosen contenders, built on the same regions.
#[derive(Debug)]
pub struct Roster<'w> {
    work: &'w Workload,
    ours: Stage<'w, Ours>,
    mutex: Option<Stage<'w, MutexClone>>,
    rwlock: Option<Stage<'w, RwLockArc>>,
    tokio: Option<Stage<'w, TokioCache>>,
    skip_map: Option<Stage<'w, SkipList>>,
    tree_index: Option<Stage<'w, SccTree>>,
    imbl: Option<Stage<'w, ImblSwap>>,
    papaya: Option<Stage<'w, PapayaIds>>,
    dashmap: Option<Stage<'w, DashmapIds>>,
    sorted_array: Option<Stage<'w, SortedArray>>,
    static_tree: Option<Stage<'w, StaticTree>>,
    dense_ids: Option<Stage<'w, DenseIds>>,
    arc_swap: Option<ArcSwapCell>,
    arc_swap_guard: Option<ArcSwapGuard>,
}

/// Counts the heap bytes that some work takes and keeps.
pub type CountBytes = dyn Fn(&mut dyn FnMut()) -> usize;

/// The heap bytes of a contender's map.
#[derive(Clone, Copy, Debug)]
pub struct BytesInUse {
    /// Whose.
    pub name: &'static str,
    /// Its part.
    pub role: Role,
    /// All of them.
    pub total: usize,
    /// Those of the descriptors alone. A handle to one is the index's; a descriptor that lies within the index is not.
    pub descriptors: usize,
}

impl<'w> Roster<'w> {
    /// Builds every contender.
    ///
    /// # Errors
    /// [`Failure`] if one cannot be built.
    pub fn build(work: &'w Workload) -> Result<Self, Failure> {
        let uncounted = |build: &mut dyn FnMut()| {
            build();
            0
        };
        Self::build_counting(work, &Choice::default(), &uncounted).map(|(roster, _)| roster)
    }

    /// Builds the chosen contenders, and counts the bytes of each.
    ///
    /// # Errors
    /// [`Failure`] if one cannot be built.
    pub fn build_counting(
        work: &'w Workload,
        choice: &Choice,
        count: &CountBytes,
    ) -> Result<(Self, Vec<BytesInUse>), Failure> {
        let mut builder = Builder { model: Model::new(&work.layout), choice, count, bytes: Vec::new() };
        let roster = Self {
            work,
            ours: builder.build("ours", Role::Ours)?,
            mutex: builder.build_if_chosen("mutex", Role::Peer)?,
            rwlock: builder.build_if_chosen("rwlock", Role::Peer)?,
            tokio: builder.build_if_chosen("tokio", Role::Peer)?,
            skip_map: builder.build_if_chosen("skip_map", Role::Peer)?,
            tree_index: builder.build_if_chosen("tree_index", Role::Peer)?,
            imbl: builder.build_if_chosen("imbl", Role::Peer)?,
            papaya: builder.build_if_chosen("papaya", Role::Peer)?,
            dashmap: builder.build_if_chosen("dashmap", Role::Peer)?,
            sorted_array: builder.build_if_chosen("sorted_array", Role::Peer)?,
            static_tree: builder.build_if_chosen("static_tree", Role::Limit)?,
            dense_ids: builder.build_if_chosen("dense_ids", Role::Limit)?,
            arc_swap: choice.takes("arc_swap", Role::Limit).then(ArcSwapCell::default),
            arc_swap_guard: choice.takes("arc_swap_guard", Role::Peer).then(ArcSwapGuard::default),
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
        present([
            Some(self.ours.locate(probes, Ours::reader)),
            Some(variant("ours_by_snapshot", self.ours.locate(probes, Ours::by_snapshot))),
            self.mutex.as_ref().map(|it| it.locate(probes, |map| map)),
            self.rwlock.as_ref().map(|it| it.locate(probes, |map| map)),
            self.tokio.as_ref().map(|it| it.locate(probes, |map| map)),
            self.skip_map.as_ref().map(|it| it.locate(probes, |map| map)),
            self.tree_index.as_ref().map(|it| it.locate(probes, |map| map)),
            self.imbl.as_ref().map(|it| it.locate(probes, |map| map)),
            self.sorted_array.as_ref().map(|it| it.locate(probes, |map| map)),
            self.static_tree.as_ref().map(|it| it.locate(probes, |map| map)),
        ])
    }

    /// Look-ups by key, [`BATCH`](crate::map::BATCH) in flight; who cannot do that does them one by one.
    #[must_use]
    pub fn locate_batched(&self) -> Vec<Entrant<'_>> {
        let probes = &self.work.uniform;
        present([
            Some(self.ours.locate_batched(probes, Ours::reader)),
            self.mutex.as_ref().map(|it| it.locate_batched(probes, |map| map)),
            self.rwlock.as_ref().map(|it| it.locate_batched(probes, |map| map)),
            self.tokio.as_ref().map(|it| it.locate_batched(probes, |map| map)),
            self.skip_map.as_ref().map(|it| it.locate_batched(probes, |map| map)),
            self.tree_index.as_ref().map(|it| it.locate_batched(probes, |map| map)),
            self.imbl.as_ref().map(|it| it.locate_batched(probes, |map| map)),
            self.sorted_array.as_ref().map(|it| it.locate_batched(probes, |map| map)),
            self.static_tree.as_ref().map(|it| it.locate_batched(probes, |map| map)),
        ])
    }

    /// Look-ups by key on two threads.
    #[must_use]
    pub fn locate_two_threads(&self) -> Vec<Entrant<'_>> {
        let probes = &self.work.uniform;
        present([
            Some(self.ours.locate_on_two_threads(probes, Ours::reader)),
            Some(variant("ours_by_snapshot", self.ours.locate_on_two_threads(probes, Ours::by_snapshot))),
            self.mutex.as_ref().map(|it| it.locate_on_two_threads(probes, |map| map)),
            self.rwlock.as_ref().map(|it| it.locate_on_two_threads(probes, |map| map)),
            self.tokio.as_ref().map(|it| it.locate_on_two_threads(probes, |map| map)),
            self.skip_map.as_ref().map(|it| it.locate_on_two_threads(probes, |map| map)),
            self.tree_index.as_ref().map(|it| it.locate_on_two_threads(probes, |map| map)),
            self.imbl.as_ref().map(|it| it.locate_on_two_threads(probes, |map| map)),
            self.sorted_array.as_ref().map(|it| it.locate_on_two_threads(probes, |map| map)),
            self.static_tree.as_ref().map(|it| it.locate_on_two_threads(probes, |map| map)),
        ])
    }

    /// Look-ups by key beside a writer.
    #[must_use]
    pub fn locate_beside_writer(&self) -> Vec<Entrant<'_>> {
        let probes = &self.work.uniform;
        present([
            Some(self.ours.locate_beside_writer(probes, SEED, Ours::reader)),
            Some(variant("ours_by_snapshot", self.ours.locate_beside_writer(probes, SEED, Ours::by_snapshot))),
            self.mutex.as_ref().map(|it| it.locate_beside_writer(probes, SEED, |map| map)),
            self.rwlock.as_ref().map(|it| it.locate_beside_writer(probes, SEED, |map| map)),
            self.tokio.as_ref().map(|it| it.locate_beside_writer(probes, SEED, |map| map)),
            self.skip_map.as_ref().map(|it| it.locate_beside_writer(probes, SEED, |map| map)),
            self.tree_index.as_ref().map(|it| it.locate_beside_writer(probes, SEED, |map| map)),
            self.imbl.as_ref().map(|it| it.locate_beside_writer(probes, SEED, |map| map)),
        ])
    }

    /// Look-ups by id.
    #[must_use]
    pub fn get(&self) -> Vec<Entrant<'_>> {
        let probes = &self.work.uniform;
        present([
            Some(self.ours.get(probes, Ours::reader)),
            Some(variant("ours_by_snapshot", self.ours.get(probes, Ours::by_snapshot))),
            self.mutex.as_ref().map(|it| it.get(probes, |map| map)),
            self.rwlock.as_ref().map(|it| it.get(probes, |map| map)),
            self.tokio.as_ref().map(|it| it.get(probes, |map| map)),
            self.imbl.as_ref().map(|it| it.get(probes, |map| map)),
            self.papaya.as_ref().map(|it| it.get(probes, |map| map)),
            self.dashmap.as_ref().map(|it| it.get(probes, |map| map)),
            self.dense_ids.as_ref().map(|it| it.get(probes, |map| map)),
        ])
    }

    /// Scans of [`REGIONS_PER_SCAN`] regions.
    #[must_use]
    pub fn scan(&self) -> Vec<Entrant<'_>> {
        let (probes, regions) = (&self.work.uniform, REGIONS_PER_SCAN);
        present([
            Some(self.ours.scan(probes, regions, Ours::reader)),
            self.mutex.as_ref().map(|it| it.scan(probes, regions, |map| map)),
            self.rwlock.as_ref().map(|it| it.scan(probes, regions, |map| map)),
            self.skip_map.as_ref().map(|it| it.scan(probes, regions, |map| map)),
            self.tree_index.as_ref().map(|it| it.scan(probes, regions, |map| map)),
            self.imbl.as_ref().map(|it| it.scan(probes, regions, |map| map)),
            self.sorted_array.as_ref().map(|it| it.scan(probes, regions, |map| map)),
        ])
    }

    /// Counts of about [`REGIONS_PER_COUNT`] regions, one question each.
    #[must_use]
    pub fn count(&self) -> [Vec<Entrant<'_>>; 3] {
        self.work.ranges.each_ref().map(|ranges| {
            present([
                Some(self.ours.count(ranges, Ours::reader)),
                self.mutex.as_ref().map(|it| it.count(ranges, |map| map)),
                self.rwlock.as_ref().map(|it| it.count(ranges, |map| map)),
                self.imbl.as_ref().map(|it| it.count(ranges, |map| map)),
                self.sorted_array.as_ref().map(|it| it.count(ranges, |map| map)),
            ])
        })
    }

    /// Several writers at once, each persisting for a while between the check and the swap.
    #[must_use]
    pub fn publish_on_threads(&self, writers: Writers) -> Vec<Entrant<'_>> {
        vec![self.ours.publish_on_threads(writers, SEED)]
    }

    /// Snapshots.
    #[must_use]
    pub fn take_snapshot(&self) -> Vec<Entrant<'_>> {
        present([
            Some(self.ours.take_snapshot()),
            self.mutex.as_ref().map(|it| it.take_snapshot()),
            self.imbl.as_ref().map(|it| it.take_snapshot()),
            self.arc_swap_guard.as_ref().map(|it| snapshots("arc_swap_guard", Role::Peer, it)),
            self.arc_swap.as_ref().map(|it| snapshots("arc_swap", Role::Limit, it)),
        ])
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
        present([
            Some(self.ours.publish(kind, batch, SEED)),
            self.mutex.as_ref().map(|it| it.publish(kind, batch, SEED)),
            self.rwlock.as_ref().map(|it| it.publish(kind, batch, SEED)),
            self.tokio.as_ref().map(|it| it.publish(kind, batch, SEED)),
            self.skip_map.as_ref().map(|it| it.publish(kind, batch, SEED)),
            self.tree_index.as_ref().map(|it| it.publish(kind, batch, SEED)),
            self.imbl.as_ref().map(|it| it.publish(kind, batch, SEED)),
        ])
    }

    /// Building the whole map from sorted descriptors.
    #[must_use]
    pub fn bulk_build(&self) -> Vec<Entrant<'_>> {
        present([
            Some(self.ours.bulk_build()),
            Some(variant("ours_by_inserting", self.ours.build_with(REGIONS_INSERTED_MAX, Ours::build_by_inserting))),
            self.mutex.as_ref().map(|it| it.bulk_build()),
            self.rwlock.as_ref().map(|it| it.bulk_build()),
            self.tokio.as_ref().map(|it| it.bulk_build()),
            self.skip_map.as_ref().map(|it| it.bulk_build()),
            self.tree_index.as_ref().map(|it| it.bulk_build()),
            self.imbl.as_ref().map(|it| it.bulk_build()),
            self.static_tree.as_ref().map(|it| it.bulk_build()),
        ])
    }
}

/// Those who take part.
fn present<'r, const N: usize>(entrants: [Option<Entrant<'r>>; N]) -> Vec<Entrant<'r>> {
    entrants.into_iter().flatten().collect()
}

/// The heap bytes of a list of descriptors without the list itself, but with what lies in the list and is no mere handle.
fn descriptor_bytes<R>(records: &Vec<R>, recorded: usize) -> usize {
    let inline = if size_of::<R>() > size_of::<usize>() { size_of::<R>() } else { 0 };
    recorded.wrapping_sub(records.capacity() * size_of::<R>()).wrapping_add(records.len() * inline)
}

/// Builds one contender after the other.
struct Builder<'w, 'c> {
    model: Model<'w>,
    choice: &'c Choice,
    count: &'c CountBytes,
    bytes: Vec<BytesInUse>,
}

impl<'w> Builder<'w, '_> {
    fn build_if_chosen<M: RegionMap>(
        &mut self,
        name: &'static str,
        role: Role,
    ) -> Result<Option<Stage<'w, M>>, Failure> {
        self.choice.takes(name, role).then(|| self.build(name, role)).transpose()
    }

    fn build<M: RegionMap>(&mut self, name: &'static str, role: Role) -> Result<Stage<'w, M>, Failure> {
        let (mut records, mut built) = (None, None);
        let recorded = (self.count)(&mut || records = Some(tasks::records::<M>(&self.model, usize::MAX)));
        let mut records = records.ok_or(Failure::Panicked)??;
        let descriptors = descriptor_bytes(&records, recorded);
        // What building gives back counts below zero.
        let total = recorded.wrapping_add((self.count)(&mut || built = Some(M::build(std::mem::take(&mut records)))));
        self.bytes.push(BytesInUse { name, role, total, descriptors });
        let map = built.ok_or(Failure::Panicked)??;
        Ok(Stage::new(name, role, map, self.model.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_no_part_of_a_descriptor_and_an_inline_descriptor_is() {
        let mut handles: Vec<Box<[u8; 50]>> = Vec::with_capacity(10);
        handles.extend([Box::new([0; 50]), Box::new([1; 50])]);
        assert_eq!(descriptor_bytes(&handles, 10 * 8 + 2 * 50), 2 * 50);
        let mut inline: Vec<[u64; 8]> = Vec::with_capacity(10);
        inline.extend([[0; 8], [1; 8]]);
        assert_eq!(descriptor_bytes(&inline, 10 * 64), 2 * 64);
    }

    #[test]
    fn who_is_not_chosen_is_not_built() {
        let work = Workload::new(50, SEED);
        let counted = |work: &mut dyn FnMut()| {
            work();
            1
        };
        let built = |names: &[&str]| {
            let choice = Choice::only(names.iter().map(ToString::to_string).collect());
            let (roster, bytes) = Roster::build_counting(&work, &choice, &counted).unwrap();
            let names = |entrants: Vec<Entrant<'_>>| entrants.iter().map(|entrant| entrant.name).collect::<Vec<_>>();
            let counted = bytes.iter().map(|bytes| bytes.name).collect::<Vec<_>>();
            (counted, names(roster.locate()), names(roster.take_snapshot()))
        };
        let limits = (
            vec!["ours", "static_tree", "dense_ids"],
            vec!["ours", "ours_by_snapshot", "static_tree"],
            vec!["ours", "arc_swap"],
        );
        assert_eq!(built(&[LIMIT]), limits);
        assert_eq!(built(&["mutex"]).0, ["ours", "mutex"]);
        let (counted, _, snapshots) = built(&[]);
        assert!(counted.iter().eq(CONTENDERS[..12].iter().map(|(name, _)| name)));
        assert_eq!(snapshots[3..], ["arc_swap_guard", "arc_swap"]);
        assert_eq!(Choice::only(vec![LIMIT.into(), "mutex".into()]).count(), 5);
    }
}
