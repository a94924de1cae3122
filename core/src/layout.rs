//! Where every record lives: the key layout of spec section 2, byte for byte, with decoders that are total.
//!
//! All integers are big-endian, so byte order sorts by id first, then suffix, then log index. Local keys begin with 01, data
//! keys with `z`.

use crate::ids::{LogIndex, RegionId};
use crate::keys::{EndKey, KeyBuf, KeyRange};

/// First byte of everything that is not data.
pub const LOCAL_PREFIX: u8 = 0x01;
/// First byte of every data key, `z`.
pub const DATA_PREFIX: u8 = 0x7a;
/// The end of the data range: the encoded form of an unbounded end key.
pub const DATA_MAX: u8 = DATA_PREFIX + 1;

/// The store's identity, in the default column family.
pub const STORE_IDENT_KEY: &[u8] = &[LOCAL_PREFIX, 0x01];
/// The region of a bootstrap that has not finished, in the default column family.
pub const PREPARE_BOOTSTRAP_KEY: &[u8] = &[LOCAL_PREFIX, 0x02];
/// State of a recovery tool, in the default column family.
pub const RECOVER_STATE_KEY: &[u8] = &[LOCAL_PREFIX, 0x03];

/// Prefix of Raft logs, raft states and apply states.
pub const REGION_RAFT_PREFIX: [u8; 2] = [LOCAL_PREFIX, 0x02];
/// Prefix of region states.
pub const REGION_META_PREFIX: [u8; 2] = [LOCAL_PREFIX, 0x03];

/// Suffix of a Raft log entry, before its index.
pub const RAFT_LOG_SUFFIX: u8 = 0x01;
/// Suffix of a raft state.
pub const RAFT_STATE_SUFFIX: u8 = 0x02;
/// Suffix of an apply state.
pub const APPLY_STATE_SUFFIX: u8 = 0x03;
/// Suffix of the raft state that belongs to a snapshot.
pub const SNAPSHOT_RAFT_STATE_SUFFIX: u8 = 0x04;
/// Suffix of a region state.
pub const REGION_STATE_SUFFIX: u8 = 0x01;

/// Length of a key that names one record of a region.
pub const REGION_KEY_BYTES: usize = 11;
/// Length of a Raft log key.
pub const RAFT_LOG_KEY_BYTES: usize = 19;

/// A key that is none of the kind asked for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum LayoutError {
    #[error("{key} is no region key: {} bytes instead of {REGION_KEY_BYTES}", key.as_bytes().len())]
    InvalidRegionKeyLength { key: KeyBuf },
    #[error("{key} is no region key: it does not begin with {}", prefix.escape_ascii())]
    InvalidRegionPrefix { key: KeyBuf, prefix: [u8; 2] },
    #[error("{key} is no Raft log key")]
    InvalidRaftLogKey { key: KeyBuf },
    #[error("{key} is no data key: it does not begin with 'z'")]
    NotADataKey { key: KeyBuf },
}

const fn region_key(prefix: [u8; 2], id: RegionId, suffix: u8) -> [u8; REGION_KEY_BYTES] {
    let [p0, p1] = prefix;
    let [a, b, c, d, e, f, g, h] = id.get().to_be_bytes();
    [p0, p1, a, b, c, d, e, f, g, h, suffix]
}

/// Where a region's state is stored, in the raft column family.
#[must_use]
pub const fn region_state_key(id: RegionId) -> [u8; REGION_KEY_BYTES] {
    region_key(REGION_META_PREFIX, id, REGION_STATE_SUFFIX)
}

/// Where a region's apply state is stored, in the raft column family.
#[must_use]
pub const fn apply_state_key(id: RegionId) -> [u8; REGION_KEY_BYTES] {
    region_key(REGION_RAFT_PREFIX, id, APPLY_STATE_SUFFIX)
}

/// Where a region's raft state is stored, with the Raft log.
#[must_use]
pub const fn raft_state_key(id: RegionId) -> [u8; REGION_KEY_BYTES] {
    region_key(REGION_RAFT_PREFIX, id, RAFT_STATE_SUFFIX)
}

/// Where the raft state of a snapshot that is being applied is stored, in the raft column family.
#[must_use]
pub const fn snapshot_raft_state_key(id: RegionId) -> [u8; REGION_KEY_BYTES] {
    region_key(REGION_RAFT_PREFIX, id, SNAPSHOT_RAFT_STATE_SUFFIX)
}

/// Where a Raft log entry is stored.
#[must_use]
pub const fn raft_log_key(id: RegionId, index: LogIndex) -> [u8; RAFT_LOG_KEY_BYTES] {
    let [k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10] = region_key(REGION_RAFT_PREFIX, id, RAFT_LOG_SUFFIX);
    let [a, b, c, d, e, f, g, h] = index.get().to_be_bytes();
    [k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, a, b, c, d, e, f, g, h]
}

/// The range that holds the region states of all regions, and nothing else: `[01 03, 01 04)`.
pub const REGION_META_RANGE: KeyRange<'static> =
    KeyRange::new(&REGION_META_PREFIX, EndKey::Finite(&[LOCAL_PREFIX, 0x04]));

/// The range that holds logs, raft states and apply states of all regions: `[01 02, 01 03)`.
pub const REGION_RAFT_RANGE: KeyRange<'static> =
    KeyRange::new(&REGION_RAFT_PREFIX, EndKey::Finite(&REGION_META_PREFIX));

/// Region id and suffix of a key in [`REGION_META_RANGE`]. Any suffix is accepted: the caller decides what it knows.
///
/// # Errors
/// [`LayoutError`]; the length is tested before the prefix.
pub fn decode_region_meta_key(key: &[u8]) -> Result<(RegionId, u8), LayoutError> {
    decode_region_key(key, REGION_META_PREFIX)
}

/// Region id and suffix of an 11-byte key in [`REGION_RAFT_RANGE`].
///
/// # Errors
/// [`LayoutError`]; the length is tested before the prefix.
pub fn decode_region_raft_key(key: &[u8]) -> Result<(RegionId, u8), LayoutError> {
    decode_region_key(key, REGION_RAFT_PREFIX)
}

fn decode_region_key(key: &[u8], prefix: [u8; 2]) -> Result<(RegionId, u8), LayoutError> {
    let Ok([p0, p1, a, b, c, d, e, f, g, h, suffix]) = <[u8; REGION_KEY_BYTES]>::try_from(key) else {
        return Err(LayoutError::InvalidRegionKeyLength { key: key.into() });
    };
    if [p0, p1] != prefix {
        return Err(LayoutError::InvalidRegionPrefix { key: key.into(), prefix });
    }
    Ok((RegionId::new(u64::from_be_bytes([a, b, c, d, e, f, g, h])), suffix))
}

/// Region id and log index of a Raft log key.
///
/// # Errors
/// [`LayoutError::InvalidRaftLogKey`].
pub fn decode_raft_log_key(key: &[u8]) -> Result<(RegionId, LogIndex), LayoutError> {
    let invalid = || LayoutError::InvalidRaftLogKey { key: key.into() };
    let (id, suffix) = decode_raft_key(key)?;
    if suffix != RAFT_LOG_SUFFIX {
        return Err(invalid());
    }
    Ok((id, decode_raft_log_index(key)?))
}

/// Region id and suffix of any key of a region's Raft records: at least 11 bytes.
///
/// # Errors
/// [`LayoutError::InvalidRaftLogKey`].
pub fn decode_raft_key(key: &[u8]) -> Result<(RegionId, u8), LayoutError> {
    let head = key.first_chunk::<REGION_KEY_BYTES>().ok_or(LayoutError::InvalidRaftLogKey { key: key.into() })?;
    decode_region_raft_key(head).map_err(|_| LayoutError::InvalidRaftLogKey { key: key.into() })
}

/// The log index at the end of a Raft log key; nothing but the length is tested.
///
/// # Errors
/// [`LayoutError::InvalidRaftLogKey`].
pub fn decode_raft_log_index(key: &[u8]) -> Result<LogIndex, LayoutError> {
    match (key.len(), key.last_chunk::<8>()) {
        (RAFT_LOG_KEY_BYTES, Some(index)) => Ok(LogIndex::new(u64::from_be_bytes(*index))),
        _ => Err(LayoutError::InvalidRaftLogKey { key: key.into() }),
    }
}

/// The stored form of a host's key, or of the start of a region's range. Allocates.
#[must_use]
pub fn data_key(key: &[u8]) -> Vec<u8> {
    [&[DATA_PREFIX], key].concat()
}

/// The stored form of the end of a region's range; an unbounded end becomes the end of all data. Allocates.
#[must_use]
pub fn data_end_key(end: EndKey<'_>) -> Vec<u8> {
    match end {
        EndKey::Finite(key) => data_key(key),
        EndKey::Infinite => vec![DATA_MAX],
    }
}

/// The host's key of a stored data key.
///
/// # Errors
/// [`LayoutError::NotADataKey`].
pub fn origin_key(data_key: &[u8]) -> Result<&[u8], LayoutError> {
    data_key.strip_prefix(&[DATA_PREFIX]).ok_or(LayoutError::NotADataKey { key: data_key.into() })
}

/// The inverse of [`data_end_key`].
///
/// # Errors
/// [`LayoutError::NotADataKey`].
pub fn origin_end_key(data_end_key: &[u8]) -> Result<EndKey<'_>, LayoutError> {
    if data_end_key == [DATA_MAX] {
        return Ok(EndKey::Infinite);
    }
    match origin_key(data_end_key)? {
        [] => Err(LayoutError::NotADataKey { key: data_end_key.into() }),
        key => Ok(EndKey::Finite(key)),
    }
}

/// The smallest key that is greater than every key with this prefix; `None` if there is no such key.
#[must_use]
pub fn next_key(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.pop() {
        if let Some(last) = last.checked_add(1) {
            next.push(last);
            return Some(next);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        text.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }

    /// The worked examples of spec section 2.
    #[test]
    fn keys_follow_the_worked_examples() {
        let r = RegionId::new;
        assert_eq!(region_state_key(r(1)), *hex("01 03 00 00 00 00 00 00 00 01 01"));
        assert_eq!(region_state_key(r(1024)), *hex("01 03 00 00 00 00 00 00 04 00 01"));
        assert_eq!(region_state_key(r(u64::MAX)), *hex("01 03 ff ff ff ff ff ff ff ff 01"));
        assert_eq!(apply_state_key(r(1)), *hex("01 02 00 00 00 00 00 00 00 01 03"));
        assert_eq!(raft_state_key(r(1)), *hex("01 02 00 00 00 00 00 00 00 01 02"));
        assert_eq!(snapshot_raft_state_key(r(2)), *hex("01 02 00 00 00 00 00 00 00 02 04"));
        assert_eq!(
            raft_log_key(r(1), LogIndex::new(6)),
            *hex("01 02 00 00 00 00 00 00 00 01 01 00 00 00 00 00 00 00 06")
        );
        assert_eq!(data_key(b"abc"), hex("7a 61 62 63"));
        assert_eq!(data_end_key(EndKey::Finite(b"k2")), hex("7a 6b 32"));
        assert_eq!(data_end_key(EndKey::Infinite), hex("7b"));
        assert_eq!((STORE_IDENT_KEY, PREPARE_BOOTSTRAP_KEY), (&*hex("01 01"), &*hex("01 02")));
        assert_eq!(RECOVER_STATE_KEY, &*hex("01 03"));
    }

    #[test]
    fn byte_order_is_id_order() {
        let ids = [0, 1, 255, 256, u64::MAX].map(RegionId::new);
        assert!(ids.map(region_state_key).is_sorted());
        assert!(ids.map(|id| REGION_META_RANGE.contains(&region_state_key(id))).iter().all(|&inside| inside));
        assert!(ids.map(|id| REGION_RAFT_RANGE.contains(&apply_state_key(id))).iter().all(|&inside| inside));
        assert!(!REGION_META_RANGE.contains(&apply_state_key(RegionId::new(u64::MAX))));
    }

    #[test]
    fn decoders_invert_and_refuse() {
        let (id, index) = (RegionId::new(0x0102_0304_0506_0708), LogIndex::new(9));
        assert_eq!(decode_region_meta_key(&region_state_key(id)), Ok((id, REGION_STATE_SUFFIX)));
        assert_eq!(decode_region_raft_key(&apply_state_key(id)), Ok((id, APPLY_STATE_SUFFIX)));
        let log = raft_log_key(id, index);
        assert_eq!(decode_raft_log_key(&log), Ok((id, index)));
        assert_eq!(decode_raft_key(&log), Ok((id, RAFT_LOG_SUFFIX)));

        let short = &region_state_key(id)[..10];
        let wrong = apply_state_key(id);
        assert!(matches!(decode_region_meta_key(short), Err(LayoutError::InvalidRegionKeyLength { .. })));
        assert!(matches!(decode_region_meta_key(&wrong), Err(LayoutError::InvalidRegionPrefix { .. })));
        assert!(matches!(decode_region_meta_key(&[0; 12]), Err(LayoutError::InvalidRegionKeyLength { .. })));
        assert!(matches!(decode_raft_key(short), Err(LayoutError::InvalidRaftLogKey { .. })));
        assert!(matches!(decode_raft_log_key(&wrong), Err(LayoutError::InvalidRaftLogKey { .. })));
        assert!(matches!(decode_raft_log_index(&wrong), Err(LayoutError::InvalidRaftLogKey { .. })));
    }

    #[test]
    fn data_keys_invert_and_refuse() {
        assert_eq!(origin_key(&data_key(b"a")), Ok(&b"a"[..]));
        assert_eq!(origin_end_key(&[DATA_MAX]), Ok(EndKey::Infinite));
        assert_eq!(origin_end_key(b"zq"), Ok(EndKey::Finite(b"q")));
        assert!(origin_key(b"a").is_err() && origin_key(b"").is_err());
        assert!(origin_end_key(b"z").is_err() && origin_end_key(b"{{").is_err());
    }

    #[test]
    fn the_next_key_drops_trailing_ff() {
        assert_eq!(next_key(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(next_key(b"ab"), Some(b"ac".to_vec()));
        assert_eq!((next_key(b""), next_key(b"\xff\xff")), (None, None));
    }
}
