//! What the fuzz targets share: forging a checksum, and reading everything that a decoded value offers.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a fuzz target reports what it finds by panicking"
)]

use regionmeta::{PEERS_MAX, PeerState, Record, RecordKind, Region};

/// A stored value around any payload, with the checksum that belongs to it: a fuzzer does not guess a CRC.
#[must_use]
pub fn seal(kind: RecordKind, key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut value = b"RGNM\x01\x00".to_vec();
    value.extend([kind as u8, 0]);
    value.extend(u32::try_from(payload.len()).expect("inputs are short").to_le_bytes());
    let sum = crc32c::crc32c(&[key, &value, payload].concat());
    value.extend(sum.to_le_bytes());
    value.extend(payload);
    value
}

/// Decodes a value; what is accepted must survive being encoded and decoded again.
pub fn decode<R: Record + PartialEq + std::fmt::Debug>(key: &[u8], value: &[u8]) -> Option<R> {
    let record = R::decode(key, value).ok()?;
    let mut again = Vec::new();
    record.encode(key, &mut again);
    assert_eq!(R::decode(key, &again).as_ref(), Ok(&record));
    Some(record)
}

/// Reads every accessor of a region and checks I13 on what they say.
pub fn exercise(region: &Region) {
    let text = region.to_string();
    let (epoch, state, end) = (region.epoch(), region.state(), region.end_key().to_wire());
    assert!(region.id().get() > 0, "{text}");
    assert!(end.is_empty() || region.start_key() < end, "{text}");
    assert!(state == PeerState::Tombstone || (epoch.conf_ver > 0 && epoch.version > 0), "{text}");
    let peers: Vec<_> = region.peers().collect();
    assert!((1..=PEERS_MAX).contains(&peers.len()), "{text}");
    for (at, peer) in peers.iter().enumerate() {
        assert!(peer.id.get() > 0 && peer.store_id.get() > 0, "{text}");
        assert!(peers[..at].iter().all(|other| other.id != peer.id && other.store_id != peer.store_id), "{text}");
        assert_eq!(region.peer_on(peer.store_id), Some(*peer), "{text}");
    }
    assert!(region.destroyed_peer().is_none_or(|peer| state == PeerState::Tombstone && peer.get() > 0), "{text}");
    let belongs = matches!(state, PeerState::Merging | PeerState::Tombstone);
    assert!(region.merge_state().is_some() == (state == PeerState::Merging) || belongs, "{text}");
    if let Some(merge) = region.merge_state() {
        assert!(merge.target.id() != region.id() && merge.target.merge_state().is_none(), "{text}");
        exercise(&merge.target.to_draft().build().expect("a target is a region"));
    }
    let rebuilt = region.to_draft().build().expect("a region's draft builds");
    assert_eq!(&rebuilt, region);
    assert_eq!(rebuilt.as_ref().encryption_meta(), region.as_ref().encryption_meta());
}
