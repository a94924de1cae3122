//! [`Entry`]: one committed entry of a region's log, as the host hands it over.

use std::fmt;

use regionmeta::{AdminRequest, LogPosition, Region, RegionEpoch, RegionId};

use super::answer::{Answer, AnswerError, ExecResult};
use crate::storage::{Family, Storage, StorageError};

/// One committed entry. `T` is the host's own tag, such as a proposal's callback; it comes back with the answer.
pub struct Entry<S: Storage, T> {
    pub(super) position: LogPosition,
    pub(super) work: Work,
    pub(super) data: Data<S>,
    pub(super) wants_sync: bool,
    pub(super) flush_first: bool,
    pub(super) tag: T,
}

/// What an entry does with its region.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Work {
    /// Nothing: a new leader's first entry.
    Nothing,
    /// An ordinary write, proposed at this epoch, and whether it is part of a flashback.
    Write { epoch: RegionEpoch, is_flashback: bool },
    /// An admin command, with what its proposer said. Boxed, because most entries are none, and all wait in mailboxes.
    Admin(Box<AdminRequest>),
}

/// Puts an entry's data into the batch; gets the region as the entry leaves it.
pub type PutData<S> = dyn FnOnce(&Region, &S, &mut <S as Storage>::Batch) -> Result<(), StorageError> + Send + 'static;

/// The host's data of an entry. It is written with the entry's descriptors and apply state, or not at all (I5); the data of
/// an entry that is refused is dropped.
pub enum Data<S: Storage> {
    /// None.
    None,
    /// Mutations, in order.
    List(Vec<Mutation>),
    /// Whatever the closure puts into the batch: any column family, any kind of mutation. If it fails or panics, part of it
    /// may be in the batch, so the store is poisoned.
    With(Box<PutData<S>>),
}

/// One mutation of the host's data, in the default column family. Keys are taken as they are.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Mutation {
    Put { key: Vec<u8>, value: Vec<u8> },
    Delete { key: Vec<u8> },
}

impl<S: Storage, T> Entry<S, T> {
    fn new(position: LogPosition, work: Work, tag: T) -> Self {
        Self { position, work, data: Data::None, wants_sync: false, flush_first: false, tag }
    }

    /// An entry that does nothing, such as a new leader's first. It checks no epoch.
    pub fn empty(position: LogPosition, tag: T) -> Self {
        Self::new(position, Work::Nothing, tag)
    }

    /// An ordinary write, proposed at `epoch`: its version must be the region's, and the region not in flashback mode.
    pub fn write(position: LogPosition, epoch: RegionEpoch, data: Data<S>, tag: T) -> Self {
        Self { data, ..Self::new(position, Work::Write { epoch, is_flashback: false }, tag) }
    }

    /// A write that is part of a flashback: as [`write`](Self::write), but the region must be in flashback mode. A command says
    /// the same by its header.
    pub fn write_in_flashback(position: LogPosition, epoch: RegionEpoch, data: Data<S>, tag: T) -> Self {
        Self { data, ..Self::new(position, Work::Write { epoch, is_flashback: true }, tag) }
    }

    /// An admin command, as it was proposed.
    pub fn admin(position: LogPosition, request: AdminRequest, tag: T) -> Self {
        Self::new(position, Work::Admin(Box::new(request)), tag)
    }

    /// Data to write with an admin command; dropped if the command is refused.
    #[must_use]
    pub fn with_data(self, data: Data<S>) -> Self {
        Self { data, ..self }
    }

    /// Asks for the batch of this entry to be synced, where [`SyncPolicy::Hinted`](super::SyncPolicy::Hinted) is chosen.
    #[must_use]
    pub fn synced(self) -> Self {
        Self { wants_sync: true, ..self }
    }

    /// Has everything before this entry written first, because its data is computed from what is in the storage.
    #[must_use]
    pub fn after_flush(self) -> Self {
        Self { flush_first: true, ..self }
    }

    pub(super) fn answer(self, region: RegionId, result: Result<ExecResult, AnswerError>) -> Answer<T> {
        Answer { region, position: self.position, tag: self.tag, result }
    }

    /// Where the entry stands in its region's log.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        self.position
    }
}

impl<S: Storage> Data<S> {
    /// Data that a closure puts into the batch.
    pub fn with(put: impl FnOnce(&Region, &S, &mut S::Batch) -> Result<(), StorageError> + Send + 'static) -> Self {
        Self::With(Box::new(put))
    }

    pub(super) fn put(self, region: &Region, storage: &S, batch: &mut S::Batch) -> Result<(), StorageError> {
        match self {
            Self::None => Ok(()),
            Self::List(mutations) => mutations.iter().try_for_each(|mutation| mutation.put(storage, batch)),
            Self::With(put) => put(region, storage, batch),
        }
    }
}

impl Mutation {
    fn put<S: Storage>(&self, storage: &S, batch: &mut S::Batch) -> Result<(), StorageError> {
        match self {
            Self::Put { key, value } => storage.put(batch, Family::Default, key, value),
            Self::Delete { key } => storage.delete(batch, Family::Default, key),
        }
    }
}

impl<S: Storage, T> fmt::Debug for Entry<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("position", &self.position)
            .field("work", &self.work)
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

impl<S: Storage> fmt::Debug for Data<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::List(mutations) => write!(f, "List of {}", mutations.len()),
            Self::With(_) => f.write_str("With a closure"),
        }
    }
}
