//! Where the records of a RocksDB log end, read without RocksDB.

use std::fs;
use std::path::{Path, PathBuf};

const BLOCK_BYTES: usize = 32 * 1024;
const HEADER_BYTES: usize = 7;
const FULL: u8 = 1;
const LAST: u8 = 4;

/// The logs of a directory, oldest first.
pub(crate) fn logs(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    logs.sort();
    logs
}

/// The offset behind each batch in a log, in order.
pub(crate) fn record_ends(log: &[u8]) -> Vec<usize> {
    let (mut ends, mut at) = (Vec::new(), 0);
    while at + HEADER_BYTES <= log.len() {
        if BLOCK_BYTES - at % BLOCK_BYTES < HEADER_BYTES {
            at = at.next_multiple_of(BLOCK_BYTES); // the rest of a block is too short for a header
            continue;
        }
        let length = usize::from(u16::from_le_bytes([log[at + 4], log[at + 5]]));
        let kind = log[at + 6];
        at += HEADER_BYTES + length;
        if matches!(kind, FULL | LAST) {
            ends.push(at);
        }
    }
    ends
}
