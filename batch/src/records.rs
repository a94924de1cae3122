//! Typed records over a [`Storage`]: reading one, and putting one into a caller's batch.

use regionmeta::layout::{apply_state_key, region_state_key};
use regionmeta::{ApplyState, DecodeError, MergeState, PeerState, Record, Region, RegionDraft, RegionError, RegionId};

use crate::storage::{Family, RecordAt, Storage, StorageError};

/// A record that cannot be read, or is damaged. Nothing of it is used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The bytes are there and are no such record.
    #[error("{at} is damaged or foreign: {cause}")]
    Damaged {
        /// Where it stands.
        at: RecordAt,
        /// What is wrong with it.
        cause: DecodeError,
    },
}

/// A region state that cannot be put into a batch.
#[derive(Debug, thiserror::Error)]
pub enum WriteStateError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Region, state and merge state do not fit together.
    #[error(transparent)]
    Region(#[from] RegionError),
}

/// Reads the record under a key.
///
/// # Errors
/// [`ReadError`] if the storage fails or the value is not such a record.
pub fn read<R: Record>(storage: &impl Storage, family: Family, key: &[u8]) -> Result<Option<R>, ReadError> {
    let Some(value) = storage.get(family, key)? else { return Ok(None) };
    decode(family, key, &value).map(Some)
}

/// Decodes a value that was found under a key.
pub(crate) fn decode<R: Record>(family: Family, key: &[u8], value: &[u8]) -> Result<R, ReadError> {
    R::decode(key, value).map_err(|cause| ReadError::Damaged { at: RecordAt { family, key: key.into() }, cause })
}

/// Puts a record into a batch.
///
/// # Errors
/// [`StorageError`] if the family is gone.
pub fn put<S: Storage>(
    storage: &S,
    batch: &mut S::Batch,
    family: Family,
    key: &[u8],
    record: &impl Record,
) -> Result<(), StorageError> {
    let mut value = Vec::with_capacity(256);
    record.encode(key, &mut value);
    storage.put(batch, family, key, &value)
}

/// Puts the complete state of a region into a caller's batch, and returns the region as it is stored (spec section 5.1).
///
/// It replaces the record: a merge state that is not passed is dropped. It never writes, syncs or reads, and touches no
/// memory that readers see; publish the returned region after the batch was written. If state and merge state are what the
/// region has already, its own buffer is stored and returned (I6).
///
/// # Errors
/// [`WriteStateError`] if the three do not fit together, or the storage's family is gone. The batch is then unchanged.
pub fn write_peer_state<S: Storage>(
    storage: &S,
    batch: &mut S::Batch,
    region: &Region,
    state: PeerState,
    merge_state: Option<MergeState<'_>>,
) -> Result<Region, WriteStateError> {
    let stored = if region.state() == state && region.merge_state() == merge_state {
        region.clone()
    } else {
        RegionDraft { state, merge_state, ..region.to_draft() }.build()?
    };
    put(storage, batch, Family::Raft, &region_state_key(stored.id()), &stored)?;
    Ok(stored)
}

/// Puts a region's apply state into a caller's batch: the one that holds the data which it describes (I5).
///
/// # Errors
/// [`StorageError`] if the family is gone.
pub fn write_apply_state<S: Storage>(
    storage: &S,
    batch: &mut S::Batch,
    region: RegionId,
    state: &ApplyState,
) -> Result<(), StorageError> {
    put(storage, batch, Family::Raft, &apply_state_key(region), state)
}
