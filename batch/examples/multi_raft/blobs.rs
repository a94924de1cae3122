//! Byte strings one after another, each behind its length: how this host packs what goes into log entries and snapshots.

use super::Done;

pub(crate) fn push(packed: &mut Vec<u8>, blob: &[u8]) {
    packed.extend_from_slice(&(blob.len() as u64).to_be_bytes());
    packed.extend_from_slice(blob);
}

/// Takes the first one off. The bytes come from another store, and may be anything.
pub(crate) fn pop<'a>(packed: &mut &'a [u8]) -> Done<&'a [u8]> {
    let (length, rest) = packed.split_first_chunk().ok_or("a length is cut off")?;
    let length = usize::try_from(u64::from_be_bytes(*length))?;
    let (blob, rest) = rest.split_at_checked(length).ok_or("a byte string is cut off")?;
    *packed = rest;
    Ok(blob)
}
