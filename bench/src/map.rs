//! What a contender is and can do. Each capability is a trait of its own: nobody has to pretend.

use std::ops::Bound;

use regionmeta::{EndKey, KeyRange, RegionEpoch};

use crate::model::{Change, RegionSpec};

/// Look-ups that a batched one has in flight.
pub const BATCH: usize = 16;

/// The answer to a look-up: what an epoch check needs. It is read from the region's record, so that a look-up is not done
/// before the record's memory has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Which region.
    pub id: u64,
    /// At which epoch.
    pub epoch: RegionEpoch,
}

/// Why a contender could not do its work. It ends a run: numbers of a map that fails or answers wrongly mean nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A region could not be built.
    #[error("cannot build a region: {0}")]
    Region(#[from] regionmeta::RegionError),
    /// A change was refused.
    #[error("refused: {0}")]
    Refused(Box<regionmeta::Refusal>),
    /// A region to be changed is not there.
    #[error("region {0} is not in the map")]
    NotFound(u64),
    /// A key is too long for a contender that keeps keys inline.
    #[error("a key of {0} bytes does not fit inline")]
    KeyTooLong(usize),
    /// A contender's answer was not the oracle's.
    #[error("{contender} answered wrongly in {question}")]
    WrongAnswer {
        /// Who.
        contender: &'static str,
        /// Where.
        question: &'static str,
    },
    /// A measuring thread panicked.
    #[error("a measuring thread panicked")]
    Panicked,
}

impl From<regionmeta::Refusal> for Failure {
    fn from(refusal: regionmeta::Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// A map of regions that can be built from all of them at once.
pub trait RegionMap: Send + Sync + Sized {
    /// A region's descriptor in the form that this map keeps. It is made before the clock starts and handed over.
    type Record: Send;

    /// Makes a descriptor.
    ///
    /// # Errors
    /// [`Failure`] if the region cannot be expressed.
    fn record(spec: &RegionSpec<'_>) -> Result<Self::Record, Failure>;

    /// Builds the map from descriptors in key order.
    ///
    /// # Errors
    /// [`Failure`] if the map refuses them.
    fn build(records: Vec<Self::Record>) -> Result<Self, Failure>;
}

/// Look-up by key. Implemented by what a reading thread holds: a plain reference to a map, or a handle of its own.
pub trait Locate {
    /// The region that owns `key`.
    fn locate(&mut self, key: &[u8]) -> Option<Found>;

    /// Several look-ups at once; a map that can overlap their cache misses does.
    #[inline]
    fn locate_many(&mut self, keys: &[&[u8]; BATCH], found: &mut [Option<Found>; BATCH]) {
        for (key, found) in keys.iter().zip(found) {
            *found = self.locate(key);
        }
    }
}

/// Look-up by id.
pub trait Get {
    /// The region with this id.
    fn get(&mut self, id: u64) -> Option<Found>;
}

/// Reading regions in key order.
pub trait Scan {
    /// Calls `visit` with the region that owns `key` and those after it, at most `regions` of them.
    fn scan(&mut self, key: &[u8], regions: usize, visit: impl FnMut(Found));
}

/// Counting regions.
pub trait Count {
    /// How many regions share a key with `range`, which is not empty.
    fn count(&mut self, range: KeyRange<'_>) -> usize;
}

/// Taking a consistent state of the whole map that stays as it is.
pub trait TakeSnapshot {
    /// What is held.
    type Snapshot;

    /// Takes it.
    fn take_snapshot(&self) -> Self::Snapshot;
}

/// Changing regions while others read.
pub trait Publish: RegionMap {
    /// A batch of changes in the form that this map takes, computed before the clock starts.
    type Plan: Send;

    /// Prepares changes of distinct regions, for the state that the map is in now.
    ///
    /// # Errors
    /// [`Failure`] if a region cannot be expressed or is not there.
    fn plan(&self, changes: &[Change<'_>]) -> Result<Self::Plan, Failure>;

    /// Makes the changes visible: together where the map can, else one by one in the order that harms readers least.
    ///
    /// # Errors
    /// [`Failure`] if the map refuses them.
    fn publish(&self, plan: Self::Plan) -> Result<(), Failure>;
}

/// The bounds of all keys up to `key`, as ordered maps want them.
#[inline]
#[must_use]
pub fn up_to(key: &[u8]) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Unbounded, Bound::Included(key))
}

/// The bounds of `key` and all keys after it.
#[inline]
#[must_use]
pub fn from(key: &[u8]) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Included(key), Bound::Unbounded)
}

/// The bounds of all start keys from `first` on that lie before `end`.
#[inline]
#[must_use]
pub fn starts<'a>(first: &'a [u8], end: EndKey<'a>) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    let end = match end {
        EndKey::Finite(end) => Bound::Excluded(end),
        EndKey::Infinite => Bound::Unbounded,
    };
    (Bound::Included(first), end)
}

/// The changes of one region or two neighbours, for maps that are changed in place.
#[derive(Debug)]
pub struct Edit<R> {
    /// New versions, in key order.
    pub puts: Vec<R>,
    /// The region that leaves.
    pub gone: Option<Gone>,
}

/// A region that leaves, and the boundary that leaves with it.
#[derive(Debug)]
pub struct Gone {
    /// The region.
    pub id: u64,
    /// Where it began, and where the region that takes it over ended before.
    pub boundary: Vec<u8>,
}

/// The plan of a map that is changed in place: one edit a change.
///
/// # Errors
/// [`Failure`] if a region cannot be expressed.
pub fn edits<M: RegionMap>(changes: &[Change<'_>]) -> Result<Vec<Edit<M::Record>>, Failure> {
    let edit = |change: &Change<'_>| {
        let puts = change.after().map(|spec| M::record(&spec)).collect::<Result<_, _>>()?;
        let gone = change.gone().map(|gone| Gone { id: gone.id, boundary: gone.range.start.to_vec() });
        Ok(Edit { puts, gone })
    };
    changes.iter().map(edit).collect()
}
