//! The header around every stored value.

use crate::mutant::{Mutant, planted};
use crate::region::RegionError;

/// The format version that this library writes. It reads this one and every older one.
pub const FORMAT_VERSION: u16 = 1;

/// The length of the header in front of the payload.
pub const ENVELOPE_BYTES: usize = 16;

const MAGIC: [u8; 4] = *b"RGNM";
/// The part of the header that the checksum covers; the checksum itself follows.
const COVERED_BYTES: usize = 12;

/// What a stored value is. Part of the envelope, so that no kind is ever read as another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum RecordKind {
    /// A [`Region`](crate::Region) with its peer state and merge state.
    Region = 1,
    /// An [`ApplyState`](crate::ApplyState).
    ApplyState = 2,
    /// A [`RaftState`](crate::RaftState).
    RaftState = 3,
    /// A [`StoreIdent`](crate::StoreIdent).
    StoreIdent = 4,
}

/// Why a stored value was refused. Nothing of it is ever used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum DecodeError {
    #[error("the value has {bytes} bytes, fewer than the {ENVELOPE_BYTES} of its header: it was cut off")]
    Truncated { bytes: usize },
    #[error("the value does not begin with a record header: it was not written by this library, or is damaged")]
    BadMagic,
    #[error("format version {found}: this library reads up to {FORMAT_VERSION}; open the store with a newer one")]
    UnknownVersion { found: u16 },
    #[error("format version 0, which was never used: the value was not written by this library")]
    ZeroVersion,
    #[error("the header declares {declared} bytes of payload and {present} are there: cut off or overwritten")]
    Length { declared: usize, present: usize },
    #[error("checksum {computed:#010x} does not match the stored {stored:#010x}: damaged, or stored under another key")]
    Checksum { stored: u32, computed: u32 },
    #[error("record kind {found} where {expected:?} belongs")]
    Kind { expected: RecordKind, found: u8 },
    #[error("the payload is not a valid flatbuffer: {0}")]
    Malformed(String),
    #[error("{0}")]
    Region(#[from] RegionError),
    #[error("{record}: {what}")]
    Invalid { record: &'static str, what: &'static str },
}

/// Appends the envelope of `payload`, then `payload`. The payload's length fits because every record has a bound below 4 GiB.
pub(crate) fn seal(kind: RecordKind, key: &[u8], payload: &[u8], out: &mut Vec<u8>) {
    let mut header = [0; COVERED_BYTES];
    let fields = MAGIC
        .into_iter()
        .chain(FORMAT_VERSION.to_le_bytes())
        .chain([kind as u8, 0])
        .chain(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (byte, field) in header.iter_mut().zip(fields) {
        *byte = field;
    }
    out.reserve(ENVELOPE_BYTES + payload.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(&checksum(key, &header, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// The payload of a stored value, after its envelope was checked.
pub(crate) fn open<'a>(kind: RecordKind, key: &[u8], value: &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let truncated = DecodeError::Truncated { bytes: value.len() };
    let (covered, rest) = value.split_first_chunk::<COVERED_BYTES>().ok_or(truncated.clone())?;
    let (stored, payload) = rest.split_first_chunk::<4>().ok_or(truncated)?;
    let [m0, m1, m2, m3, v0, v1, found_kind, reserved, l0, l1, l2, l3] = *covered;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(DecodeError::BadMagic);
    }
    let declared = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let (stored, computed) = (u32::from_le_bytes(*stored), checksum(key, covered, payload));
    let version = u16::from_le_bytes([v0, v1]);
    // A version from the future may lay out the rest differently, so it is named before anything else is judged; unless the
    // checksum shows that the version itself is damage.
    if version > FORMAT_VERSION && stored == computed {
        return Err(DecodeError::UnknownVersion { found: version });
    }
    if declared != payload.len() {
        return Err(DecodeError::Length { declared, present: payload.len() });
    }
    if stored != computed {
        return Err(DecodeError::Checksum { stored, computed });
    }
    // A higher one with this checksum is out of the way already.
    if version == 0 {
        return Err(DecodeError::ZeroVersion);
    }
    if reserved != 0 {
        return Err(DecodeError::Invalid { record: "header", what: "the reserved byte is not 0" });
    }
    if found_kind != kind as u8 {
        return Err(DecodeError::Kind { expected: kind, found: found_kind });
    }
    Ok(payload)
}

fn checksum(key: &[u8], header: &[u8], payload: &[u8]) -> u32 {
    let key = if planted(Mutant::M17) { &[] } else { key };
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(key), header), payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"key";

    fn sealed(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        seal(RecordKind::ApplyState, KEY, payload, &mut out);
        out
    }

    #[test]
    fn a_sealed_payload_opens() {
        assert_eq!(open(RecordKind::ApplyState, KEY, &sealed(b"payload")), Ok(&b"payload"[..]));
        assert_eq!(open(RecordKind::ApplyState, KEY, &sealed(b"")), Ok(&b""[..]));
    }

    #[test]
    fn another_key_or_kind_is_refused() {
        // M17 of known-bugs: a checksum without the key.
        assert!(matches!(open(RecordKind::ApplyState, b"kez", &sealed(b"p")), Err(DecodeError::Checksum { .. })));
        let expected = DecodeError::Kind { expected: RecordKind::RaftState, found: RecordKind::ApplyState as u8 };
        assert_eq!(open(RecordKind::RaftState, KEY, &sealed(b"p")), Err(expected));
    }

    #[test]
    fn a_newer_version_is_named_and_a_damaged_one_is_damage() {
        let mut value = sealed(b"p");
        value[4] = 9;
        assert!(matches!(open(RecordKind::ApplyState, KEY, &value), Err(DecodeError::Checksum { .. })));
        let sum = checksum(KEY, &value[..COVERED_BYTES], b"p");
        value[COVERED_BYTES..ENVELOPE_BYTES].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(open(RecordKind::ApplyState, KEY, &value), Err(DecodeError::UnknownVersion { found: 9 }));
    }

    #[test]
    fn the_checksum_is_crc32c() {
        // The check value of CRC-32C, so that the format does not silently follow a library.
        assert_eq!(checksum(b"123", b"456", b"789"), 0xe306_9283);
    }
}
