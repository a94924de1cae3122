//! Reading every record: one thread walks each range, others decode.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::thread::{Scope, ScopedJoinHandle};

use crossbeam::channel::{Receiver, Sender, bounded};
use regionmeta::layout::{
    APPLY_STATE_SUFFIX, RAFT_LOG_KEY_BYTES, REGION_META_RANGE, REGION_RAFT_RANGE, REGION_STATE_SUFFIX,
    SNAPSHOT_RAFT_STATE_SUFFIX, decode_raft_log_key, decode_region_meta_key, decode_region_raft_key,
};
use regionmeta::{ApplyState, KeyRange, LogIndex, RaftState, Region, RegionId};

use super::{RecoveryError, region_state_at};
use crate::raft_engine::RaftEngine;
use crate::records::{self, ReadError};
use crate::region_map::RegionMap;
use crate::storage::{Family, Storage};

/// Bytes of records that travel to a decoder at once: large enough that the hand-over costs nothing.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that may wait for decoders; the scan pauses beyond (I9).
const CHUNKS_QUEUED_MAX: usize = 16;

/// More decoders than this would only wait for the scan.
const DECODERS_MAX: usize = 64;

/// Everything that was found, decoded.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In ascending id order.
    pub(super) regions: Vec<Region>,
    pub(super) apply_states: RegionMap<ApplyState>,
    pub(super) snapshot_raft_states: HashMap<RegionId, RaftState>,
    /// From the Raft engine.
    pub(super) raft_states: HashMap<RegionId, RaftState>,
    /// The first entry of each log, of those that there are.
    pub(super) first_indexes: HashMap<RegionId, LogIndex>,
    pub(super) region_state_bytes: u64,
}

/// A run of records in key order, in one allocation.
#[derive(Default)]
struct Chunk {
    /// Position of the chunk in its scan.
    number: usize,
    bytes: Vec<u8>,
    /// Where each record's key ends and its value ends.
    ends: Vec<(usize, usize)>,
}

impl Chunk {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((key_end, self.bytes.len()));
    }

    fn records(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let starts = [0].into_iter().chain(self.ends.iter().map(|&(_, end)| end));
        // The bounds were made by `push` from this very buffer.
        starts.zip(&self.ends).filter_map(|(start, &(key_end, end))| {
            Some((self.bytes.get(start..key_end)?, self.bytes.get(key_end..end)?))
        })
    }
}

/// Reads and decodes all records, with `threads` decoders.
pub(super) fn scan(storage: &impl Storage, raft: &dyn RaftEngine, threads: usize) -> Result<Found, RecoveryError> {
    std::thread::scope(|scope| {
        // The few small records of each region are decoded where they are read, beside the scan of the large ones.
        let raft_records = spawn(scope, || scan_raft_range(storage))?;
        let raft_states = spawn(scope, || Ok((raft.raft_states()?, raft.first_indexes()?)))?;
        let regions = scan_regions(scope, storage, threads.clamp(1, DECODERS_MAX));
        let (raft_records, raft_states) = (join(raft_records), join(raft_states));
        let mut found = raft_records?;
        let first_indexes;
        (found.raft_states, first_indexes) = raft_states.map_err(|error: ReadError| RecoveryError::from(error))?;
        found.first_indexes.extend(first_indexes);
        (found.regions, found.region_state_bytes) = regions?;
        Ok(found)
    })
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, RecoveryError> {
    let thread = std::thread::Builder::new().name("regionmeta-recovery".to_owned());
    thread.spawn_scoped(scope, work).map_err(RecoveryError::Thread)
}

/// A panic of a scoped thread is this thread's panic.
fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn scan_regions<'scope>(
    scope: &'scope Scope<'scope, '_>,
    storage: &impl Storage,
    threads: usize,
) -> Result<(Vec<Region>, u64), RecoveryError> {
    let (to_decoders, chunks) = bounded(CHUNKS_QUEUED_MAX);
    let decoders: Vec<_> = (0..threads)
        .map(|_| {
            let chunks = chunks.clone();
            spawn(scope, move || decode_chunks(&chunks))
        })
        .collect::<Result<_, _>>()?;
    drop(chunks);
    let bytes = read_chunks(storage, REGION_META_RANGE, to_decoders);
    // Every decoder is joined before any error is returned: the one that names the lowest key is reported, whichever
    // thread met its own first.
    let decoded: Vec<_> = decoders.into_iter().map(join).collect();
    let bytes = bytes?;
    let mut chunks: Vec<_> = decoded.into_iter().flatten().collect();
    chunks.sort_unstable_by_key(|(number, _)| *number);
    let mut regions = Vec::with_capacity(chunks.iter().map(|(_, chunk)| chunk.as_ref().map_or(0, Vec::len)).sum());
    for (_, chunk) in chunks {
        regions.extend(chunk?);
    }
    Ok((regions, bytes))
}

/// Sends all records of a range to the decoders, in chunks.
fn read_chunks(storage: &impl Storage, range: KeyRange<'_>, chunks: Sender<Chunk>) -> Result<u64, RecoveryError> {
    let mut bytes = 0;
    let mut chunk = Chunk::default();
    storage.scan(Family::Raft, range, &mut |key, value| {
        chunk.push(key, value);
        bytes += (key.len() + value.len()) as u64;
        if chunk.bytes.len() < CHUNK_BYTES {
            return ControlFlow::Continue(());
        }
        let next = Chunk { number: chunk.number + 1, ..Chunk::default() };
        match chunks.send(std::mem::replace(&mut chunk, next)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()), // the decoders are gone only if one panicked; its join says so
        }
    })?;
    // The same as above.
    let _ = chunks.send(chunk);
    Ok(bytes)
}

type DecodedChunk = (usize, Result<Vec<Region>, RecoveryError>);

fn decode_chunks(chunks: &Receiver<Chunk>) -> Vec<DecodedChunk> {
    chunks.iter().map(|chunk| (chunk.number, decode_chunk(&chunk))).collect()
}

fn decode_chunk(chunk: &Chunk) -> Result<Vec<Region>, RecoveryError> {
    let mut regions = Vec::with_capacity(chunk.ends.len());
    for (key, value) in chunk.records() {
        regions.extend(decode_region(key, value)?);
    }
    Ok(regions)
}

/// The region under a key of the meta range; `None` for a suffix that is not a region state.
fn decode_region(key: &[u8], value: &[u8]) -> Result<Option<Region>, RecoveryError> {
    let family = Family::Raft;
    let (id, suffix) =
        decode_region_meta_key(key).map_err(|cause| RecoveryError::UnknownKey { family, key: key.into(), cause })?;
    if suffix != REGION_STATE_SUFFIX {
        return Ok(None);
    }
    let region: Region = records::decode(family, key, value).map_err(RecoveryError::at(id))?;
    if region.id() != id {
        return Err(RecoveryError::Misplaced { region: id, at: region_state_at(id), found: region });
    }
    Ok(Some(region))
}

/// Apply states, and raft states of snapshots. Other records of the range are the Raft engine's.
fn scan_raft_range(storage: &impl Storage) -> Result<Found, RecoveryError> {
    let mut found = Found::default();
    let mut outcome = Ok(());
    storage.scan(Family::Raft, REGION_RAFT_RANGE, &mut |key, value| {
        outcome = found.take_raft_record(key, value);
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome.map(|()| found)
}

impl Found {
    fn take_raft_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), RecoveryError> {
        let family = Family::Raft;
        if key.len() == RAFT_LOG_KEY_BYTES {
            // Of a host that keeps its log here. A key that is none is the host's to judge.
            if let Ok((id, index)) = decode_raft_log_key(key) {
                self.first_indexes.entry(id).or_insert(index);
            }
            return Ok(());
        }
        let (id, suffix) = decode_region_raft_key(key).map_err(|cause| RecoveryError::UnknownKey {
            family,
            key: key.into(),
            cause,
        })?;
        match suffix {
            APPLY_STATE_SUFFIX => {
                let state = records::decode(family, key, value).map_err(RecoveryError::at(id))?;
                self.apply_states.insert(id, state);
            }
            SNAPSHOT_RAFT_STATE_SUFFIX => {
                let state = records::decode(family, key, value).map_err(RecoveryError::at(id))?;
                self.snapshot_raft_states.insert(id, state);
            }
            _ => {}
        }
        Ok(())
    }
}
