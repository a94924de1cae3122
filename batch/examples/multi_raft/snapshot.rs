//! A region's Raft snapshot: its descriptor and its data, as they were at one moment.

use raft::eraftpb;
use regionmeta::layout::{apply_state_key, data_end_key, data_key, region_state_key};
use regionmeta::{ApplyState, LogPosition, PeerState, Record, Region, RegionId};
use regionmeta_batch::Store;
use regionmeta_batch::storage::{Durability, Family, RocksStorage, Storage};
use rocksdb::ReadOptions;

use super::data::Pairs;
use super::log::configuration;
use super::{Done, blobs};

/// Makes the snapshot of a region that this store leads; `None` if it is not in a state to be copied.
///
/// The apply pool goes on meanwhile. What belongs together is written in one batch, so a RocksDB snapshot shows descriptor,
/// apply state and data of the same entry.
pub(crate) fn make(store: &Store<RocksStorage>, id: RegionId) -> Done<Option<eraftpb::Snapshot>> {
    let db = store.storage().db();
    let view = db.snapshot();
    let raft = db.cf_handle(Family::Raft.name()).ok_or("the family is gone")?;
    let (at, applied_at) = (region_state_key(id), apply_state_key(id));
    let Some(record) = view.get_cf(raft, at)? else { return Ok(None) };
    let region = Region::decode(&at, &record)?;
    if region.state() != PeerState::Normal {
        return Ok(None);
    }
    let applied = view.get_cf(raft, applied_at)?.ok_or("the region has no apply state")?;
    let position = last_applied(&ApplyState::decode(&applied_at, &applied)?);

    let mut packed = Vec::new();
    blobs::push(&mut packed, &record);
    let mut data = ReadOptions::default();
    data.set_iterate_range(data_key(region.start_key())..data_end_key(region.end_key()));
    for pair in view.iterator_opt(rocksdb::IteratorMode::Start, data) {
        let (key, value) = pair?;
        blobs::push(&mut packed, &key);
        blobs::push(&mut packed, &value);
    }
    Ok(Some(for_raft(&region, position, packed)))
}

/// A region to which nothing was applied yet stands where its log begins.
fn last_applied(state: &ApplyState) -> LogPosition {
    if state.applied_index == state.truncated.index { state.truncated } else { state.commit }
}

fn for_raft(region: &Region, position: LogPosition, data: Vec<u8>) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot::default();
    let metadata = snapshot.mut_metadata();
    (metadata.index, metadata.term) = (position.index.get(), position.term.get());
    metadata.set_conf_state(configuration(region));
    snapshot.data = data.into();
    snapshot
}

pub(crate) fn position(snapshot: &eraftpb::Snapshot) -> LogPosition {
    let metadata = snapshot.get_metadata();
    LogPosition { index: metadata.index.into(), term: metadata.term.into() }
}

/// What is in a snapshot of a region. It comes from another store: the record's checksum covers the region's id too.
pub(crate) fn unpack(id: RegionId, mut packed: &[u8]) -> Done<(Region, Pairs)> {
    let region = Region::decode(&region_state_key(id), blobs::pop(&mut packed)?)?;
    let mut data = Pairs::new();
    while !packed.is_empty() {
        data.push((blobs::pop(&mut packed)?.to_vec(), blobs::pop(&mut packed)?.to_vec()));
    }
    Ok((region, data))
}

/// Where a snapshot waits until its data is in place: after a crash in between it is needed once more.
fn waiting_key(region: RegionId) -> Vec<u8> {
    [b"snapshot/".as_slice(), &region.get().to_be_bytes()].concat()
}

pub(crate) fn keep(storage: &RocksStorage, region: RegionId, packed: &[u8]) -> Done {
    let mut batch = storage.batch();
    storage.put(&mut batch, Family::Default, &waiting_key(region), packed)?;
    Ok(storage.write(batch, Durability::Synced)?)
}

pub(crate) fn kept(storage: &RocksStorage, region: RegionId) -> Done<Vec<u8>> {
    let kept = storage.get(Family::Default, &waiting_key(region))?;
    Ok(kept.ok_or_else(|| format!("region {region} applies a snapshot, and it is not there"))?)
}

pub(crate) fn forget(storage: &RocksStorage, region: RegionId) -> Done {
    let mut batch = storage.batch();
    storage.delete(&mut batch, Family::Default, &waiting_key(region))?;
    Ok(storage.write(batch, Durability::Buffered)?)
}
