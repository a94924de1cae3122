//! What damage in RocksDB's logs means, asked before RocksDB reads them.
//!
//! RocksDB's recovery modes know damage by where it lies. A length that leads beyond the end of a log is to both of them a
//! write that a crash cut off, and all behind it is dropped: one flipped bit, and batches are gone that were synced. The mode
//! for buffered writes drops what is behind any damage. The mode for synced writes refuses a log whose last write reached the
//! disk in parts, though nobody was told that it had been written.
//!
//! So damage is judged here by what it looks like. **Torn** is what a power loss leaves of a write: the file ends inside of it,
//! or a sector of it was never written and is zero. Anything else is **rot**, and so is torn damage before whole records where
//! each write was synced before the next one began. Rot is refused. A torn write is cut off the newest log, with whatever follows it:
//! in a store with buffered writes that is the state to which RocksDB would go back, but on some of these logs its reader never comes
//! to an end. Of an older log it is RocksDB that goes back.
//!
//! The manifest, in which RocksDB keeps what its files are, has the same format and the same two weaknesses.
//!
//! The format of the logs is RocksDB's documented one: blocks of 32 KiB, in each of them records of checksum, length, kind and
//! payload. The logs are read once more than RocksDB does, block by
//! block; they are about as large as the write buffers.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::storage::{Durability, StorageError};

const BLOCK_BYTES: usize = 32 * 1024;
const HEADER_BYTES: usize = 7;
/// The least that a disk writes whole.
const SECTOR_BYTES: usize = 512;

/// Refuses logs with rot in them, and cuts a torn write off the manifest and off the newest log.
pub(super) fn check(path: &Path, durability: Durability) -> Result<(), StorageError> {
    if let Some(manifest) = manifest(path) {
        // RocksDB syncs several of its records at once, so whole ones may follow a torn one. If one of them was synced all the
        // same, RocksDB misses the files that it named.
        judge(&manifest, Writes { synced_one_by_one: false, may_be_cut: true })?;
    }
    let logs = logs(path)?;
    let newest = logs.last();
    let synced_one_by_one = durability == Durability::Synced;
    logs.iter().try_for_each(|log| judge(log, Writes { synced_one_by_one, may_be_cut: newest == Some(log) }))
}

/// How a log was written.
#[derive(Clone, Copy)]
struct Writes {
    /// A write was synced before the next one began, so nothing whole follows a torn one.
    synced_one_by_one: bool,
    /// RocksDB would refuse a torn write, or read it for ever.
    may_be_cut: bool,
}

fn judge(log: &Path, writes: Writes) -> Result<(), StorageError> {
    let io = |action| move |source| StorageError::Io { path: log.to_owned(), action, source };
    let Some(damage) = first_damage(log).map_err(io("read the log"))? else { return Ok(()) };
    if !damage.is_torn() || (writes.synced_one_by_one && damage.followed) {
        return Err(StorageError::DamagedLog { path: log.to_owned(), offset: damage.at });
    }
    if writes.may_be_cut {
        tracing::warn!(log = %log.display(), offset = damage.whole, "cutting off a write that a crash interrupted");
        cut(log, damage.whole).map_err(io("cut a torn write off the log"))?;
    }
    Ok(())
}

/// Whether a database has no log at all. A power loss leaves one like that, if its only log had no durable name yet.
pub(super) fn none(path: &Path) -> Result<bool, StorageError> {
    Ok(logs(path)?.is_empty())
}

/// The manifest of a database, which has the format of a log; none if there is no database yet, or if RocksDB has to say what
/// is wrong with it.
fn manifest(path: &Path) -> Option<PathBuf> {
    let name = fs::read_to_string(path.join(super::ROCKSDB_MARKER)).ok()?;
    Some(path.join(name.trim_end())).filter(|manifest| manifest.is_file())
}

fn cut(log: &Path, length: u64) -> io::Result<()> {
    let file = File::options().write(true).open(log)?;
    file.set_len(length)?;
    file.sync_all()
}

/// The logs of a database, oldest first; none if there is no database yet.
fn logs(path: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let io = |source| StorageError::Io { path: path.to_owned(), action: "list the directory", source };
    let mut logs = Vec::new();
    for entry in fs::read_dir(path).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".log")?.parse::<u64>().ok());
        logs.extend(number.map(|number| (number, path)));
    }
    logs.sort_unstable();
    Ok(logs.into_iter().map(|(_, path)| path).collect())
}

/// The first place at which a log is not as it was written.
struct Damage {
    at: u64,
    /// The end of the last batch before it.
    whole: u64,
    /// A sector of the damaged record is zero.
    has_hole: bool,
    /// The file ends before the damaged record does.
    is_short: bool,
    /// A batch begins behind it.
    followed: bool,
}

impl Damage {
    fn is_torn(&self) -> bool {
        // If a batch begins behind a record, that record did not end the file: its length is wrong.
        self.has_hole || (self.is_short && !self.followed)
    }
}

fn first_damage(log: &Path) -> io::Result<Option<Damage>> {
    let mut file = File::open(log)?;
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    let mut reading = Reading::default();
    let mut damage: Option<Damage> = None;
    loop {
        block.clear();
        if file.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block)? == 0 {
            break;
        }
        match &mut damage {
            Some(damage) => damage.followed |= begins_batch(&block, 0),
            None => damage = reading.block(&block),
        }
    }
    Ok(damage.or_else(|| reading.end()))
}

/// How far a log was read, block by block.
#[derive(Default)]
struct Reading {
    /// Where the next block begins.
    block: u64,
    whole: u64,
    /// Inside of a batch that goes on in the next block.
    open: bool,
}

impl Reading {
    /// Follows the records of the next block, and stops at the first that is damaged.
    fn block(&mut self, bytes: &[u8]) -> Option<Damage> {
        let mut at = 0;
        // What is left at the end of a block is too short for a header.
        while at < bytes.len() && at + HEADER_BYTES <= BLOCK_BYTES {
            match Record::at(bytes, at).filter(|record| record.fits(self.open)) {
                Some(record) => {
                    at = record.end;
                    self.open = record.goes_on();
                    if !self.open {
                        self.whole = self.block + at as u64;
                    }
                }
                None => return Some(self.damage(bytes, at)),
            }
        }
        self.block += BLOCK_BYTES as u64;
        None
    }

    fn damage(&self, bytes: &[u8], at: usize) -> Damage {
        Damage {
            at: self.block + at as u64,
            whole: self.whole,
            has_hole: has_hole(bytes, at),
            is_short: is_short(bytes, at),
            followed: begins_batch(bytes, at + 1),
        }
    }

    /// The log ended: a batch that was to go on never did.
    fn end(&self) -> Option<Damage> {
        let whole = self.whole;
        self.open.then_some(Damage { at: whole, whole, has_hole: false, is_short: true, followed: false })
    }
}

/// A physical record whose checksum holds: a batch, a part of one, or a note of RocksDB's own.
struct Record {
    kind: u8,
    end: usize,
}

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;
/// Compression, sizes of timestamps, and the predecessor of a log. Recycled logs, which have other kinds, are off.
const NOTES: [u8; 3] = [9, 10, 130];

impl Record {
    fn at(bytes: &[u8], at: usize) -> Option<Self> {
        let length = length_at(bytes, at)?;
        let end = at + HEADER_BYTES + length;
        is_intact(bytes, at, end).then_some(Self { kind: *bytes.get(at + 6)?, end })
    }

    fn fits(&self, open: bool) -> bool {
        match self.kind {
            FULL | FIRST => !open,
            MIDDLE | LAST => open,
            kind => !open && NOTES.contains(&kind),
        }
    }

    fn goes_on(&self) -> bool {
        matches!(self.kind, FIRST | MIDDLE)
    }
}

fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at + 4..at + 6)?.try_into().ok()?;
    Some(usize::from(u16::from_le_bytes(length)))
}

/// Whether the checksum at `at` is that of the kind and the payload up to `end`.
fn is_intact(bytes: &[u8], at: usize, end: usize) -> bool {
    let checksum = bytes.get(at..at + 4).and_then(|checksum| checksum.try_into().ok()).map(u32::from_le_bytes);
    let kind_and_payload = bytes.get(at + 6..end).filter(|bytes| !bytes.is_empty());
    checksum.is_some() && checksum == kind_and_payload.map(masked_checksum)
}

/// RocksDB turns its checksums, because a checksum over bytes that contain their own is a poor one.
fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Whether a sector of the record at `at`, as far as it belongs to the record, is zero.
fn has_hole(bytes: &[u8], at: usize) -> bool {
    let fits = |end: &usize| *end <= bytes.len();
    let end = length_at(bytes, at).map(|length| at + HEADER_BYTES + length).filter(fits);
    let end = end.unwrap_or_else(|| (at + HEADER_BYTES).min(bytes.len()));
    let mut from = at;
    while from < end {
        let to = (from + 1).next_multiple_of(SECTOR_BYTES).min(end);
        if bytes.get(from..to).is_some_and(|part| part.iter().all(|byte| *byte == 0)) {
            return true;
        }
        from = to;
    }
    false
}

/// Whether the file ends before the record at `at` does. One that is whole but for its length does not.
fn is_short(bytes: &[u8], at: usize) -> bool {
    let claimed = length_at(bytes, at).map(|length| at + HEADER_BYTES + length);
    let leaves_block = claimed.is_some_and(|end| end > BLOCK_BYTES);
    let leaves_file = claimed.is_none_or(|end| end > bytes.len());
    leaves_file && !leaves_block && !is_intact(bytes, at, bytes.len())
}

/// Whether a batch begins anywhere from `from` on.
fn begins_batch(bytes: &[u8], from: usize) -> bool {
    (from..bytes.len()).any(|at| match bytes.get(at + 6) {
        Some(&FULL) => Record::at(bytes, at).is_some(),
        // A batch that goes on fills its block.
        Some(&FIRST) => Record::at(bytes, at).is_some_and(|record| record.end == BLOCK_BYTES),
        _ => false,
    })
}
