//! The options that crash safety rests on: set for a database of our own, checked for every database.
//!
//! RocksDB has no way to ask an open database for its options, but it writes them into a file at each open. That file is
//! what is checked, so a host's database is held to the same rules as our own.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use rocksdb::{DBCompressionType, DBRecoveryMode, Options};

use crate::storage::{Durability, Family, StorageError};

/// Records are small and are put at random places of a skip list: one that fits into the processor's caches takes them in half
/// the time that RocksDB's 64 MiB take (docs/performance.md, "Applying"). The same regions change again and again, so little of
/// a full buffer is left when it is flushed.
const RAFT_WRITE_BUFFER_BYTES: usize = 16 * 1024 * 1024;
/// In all as much as one default buffer: a burst does not wait for the flush of what came before it.
const RAFT_WRITE_BUFFERS: i32 = 4;

/// What must be, by the name in RocksDB's options file, and what goes wrong otherwise.
const REQUIRED: [(&str, &[&str]); 7] = [
    ("manual_wal_flush", &["false"]), // families disagree after a crash, the tail is never synced
    ("wal_bytes_per_sync", &["0"]),   // ranges of a log become durable out of order
    ("recycle_log_file_num", &["0"]), // an old log's records can be taken for the new one's
    ("paranoid_checks", &["true"]),   // damage goes unseen
    ("track_and_verify_wals_in_manifest", &["true"]), // a lost or cut older log is a silent hole
    ("unordered_write", &["false"]),  // a later batch may be visible before an earlier one
    // Skipping damaged records leaves silent holes.
    ("wal_recovery_mode", &["kTolerateCorruptedTailRecords", "kPointInTimeRecovery", "kAbsoluteConsistency"]),
];

/// For a database of our own.
pub(super) fn safe(durability: Durability) -> Options {
    let mut options = compressed();
    options.set_manual_wal_flush(false);
    options.set_wal_bytes_per_sync(0);
    options.set_recycle_log_file_num(0);
    options.set_paranoid_checks(true);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_wal_recovery_mode(recovery_mode(durability));
    options.set_keep_log_file_num(4);
    options
}

/// Has each log say what the one before it ended with, and verifies it. Without it a log that lost its end at the border of a
/// record, and that no flush has entered into the manifest yet, is a silent hole before the next log's batches.
pub(super) fn with_chained_logs(mut options: Options) -> Result<Options, StorageError> {
    // No binding sets this one by itself.
    options.get_options_from_string("track_and_verify_wals=true").map_err(|error| StorageError::Backend {
        action: "set track_and_verify_wals",
        location: "RocksDB's options".to_owned(),
        cause: error.to_string(),
    })
}

/// Synced writes: a torn tail is the only damage that a crash makes, anything else must be refused, not cut off silently.
/// Buffered writes: a power loss may tear an older log, and then the state must be a prefix.
const fn recovery_mode(durability: Durability) -> DBRecoveryMode {
    match durability {
        Durability::Synced => DBRecoveryMode::TolerateCorruptedTailRecords,
        Durability::Buffered => DBRecoveryMode::PointInTime,
    }
}

/// For a column family of a database of our own.
pub(super) fn family(family: Family) -> Options {
    let mut options = compressed();
    if family == Family::Raft {
        options.set_write_buffer_size(RAFT_WRITE_BUFFER_BYTES);
        options.set_max_write_buffer_number(RAFT_WRITE_BUFFERS);
    }
    options
}

fn compressed() -> Options {
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::Lz4);
    options
}

/// Refuses a database whose options are not safe, naming the first that is not.
pub(super) fn check(path: &Path) -> Result<(), StorageError> {
    let found = db_options(path)?;
    for (option, required) in REQUIRED {
        let value = found.get(option).map_or("missing", String::as_str);
        if !required.contains(&value) {
            let (path, found, required) = (path.to_owned(), value.to_owned(), required.join(" or "));
            return Err(StorageError::UnsafeOption { path, option, found, required });
        }
    }
    Ok(())
}

/// The `[DBOptions]` section of the newest options file.
fn db_options(path: &Path) -> Result<HashMap<String, String>, StorageError> {
    let file = newest_options_file(path)?;
    let text = fs::read_to_string(&file).map_err(|source| StorageError::Io {
        path: file,
        action: "read RocksDB's options",
        source,
    })?;
    let section = text
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "[DBOptions]")
        .skip(1)
        .take_while(|line| !line.starts_with('['));
    let pairs = section.filter_map(|line| line.split_once('='));
    Ok(pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect())
}

fn newest_options_file(path: &Path) -> Result<PathBuf, StorageError> {
    let io = |source| StorageError::Io { path: path.to_owned(), action: "list the directory", source };
    let mut newest = None;
    for entry in fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?;
        let number = entry.file_name().to_str().and_then(|name| name.strip_prefix("OPTIONS-")?.parse::<u64>().ok());
        newest = newest.max(number.map(|number| (number, entry.path())));
    }
    let missing = || StorageError::Io {
        path: path.to_owned(),
        action: "find RocksDB's options file",
        source: std::io::ErrorKind::NotFound.into(),
    };
    newest.map(|(_, path)| path).ok_or_else(missing)
}
