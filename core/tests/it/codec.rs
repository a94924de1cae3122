//! T8: damage to a stored record is a typed error, never another value and never a panic (I8, I10).

use regionmeta::{DecodeError, ENVELOPE_BYTES, PEERS_MAX, PeerState, Record, Region};

use crate::alloc;
use crate::records::{self, Stored, Value};
use crate::seed::rng;

const RANDOM_MUTATIONS: usize = 10_000;

/// What an error may allocate for its text, whatever the input.
const ERROR_TEXT_BYTES: u64 = 4096;

// --- accidents: the checksum no longer fits ----------------------------------------------------------------------------

/// Decodes damaged bytes. They are refused, by an error that allocates no more than the input allows.
fn assert_refused(record: &Stored, key: &[u8], damaged: &[u8], damage: &str) {
    let (allocated, found) = alloc::count(|| record.value.decode_same_kind(key, damaged));
    assert!(allocated.bytes <= 4 * damaged.len() as u64, "{}, {damage}: {allocated:?}", record.name);
    assert!(found.is_err(), "{}, {damage}: decoded as {found:?}", record.name);
}

#[test]
fn the_records_themselves_decode_within_the_bound() {
    for record in records::all() {
        let bytes = record.bytes();
        let (allocated, found) = alloc::count(|| record.value.decode_same_kind(&record.key, &bytes));
        assert_eq!(found.as_ref(), Ok(&record.value), "{}", record.name);
        assert!(allocated.bytes <= 4 * bytes.len() as u64, "{}: {allocated:?}", record.name);
    }
}

#[test]
fn every_flipped_bit_is_found() {
    for record in records::all() {
        let mut bytes = record.bytes();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_refused(&record, &record.key, &bytes, &format!("bit {bit} flipped"));
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn every_truncation_is_found() {
    for record in records::all() {
        let bytes = record.bytes();
        for length in 0..bytes.len() {
            assert_refused(&record, &record.key, &bytes[..length], &format!("cut to {length}"));
            assert_refused(&record, &record.key, &bytes[bytes.len() - length..], &format!("first cut, {length} left"));
        }
    }
}

#[test]
fn every_inserted_and_every_missing_byte_is_found() {
    for record in records::all() {
        let bytes = record.bytes();
        for at in 0..=bytes.len() {
            let mut longer = [&bytes[..at], &[0], &bytes[at..]].concat();
            for inserted in 0..=u8::MAX {
                longer[at] = inserted;
                assert_refused(&record, &record.key, &longer, "byte inserted");
            }
        }
        for at in 0..bytes.len() {
            let shorter = [&bytes[..at], &bytes[at + 1..]].concat();
            assert_refused(&record, &record.key, &shorter, &format!("byte {at} missing"));
        }
    }
}

#[test]
fn appended_bytes_are_found() {
    for record in records::all() {
        let bytes = record.bytes();
        for count in 1..=64 {
            for filler in [vec![0; count], vec![0xff; count], bytes[..count.min(bytes.len())].to_vec()] {
                assert_refused(&record, &record.key, &[&bytes[..], &filler].concat(), "bytes appended");
            }
        }
    }
}

#[test]
fn a_value_under_another_records_key_is_found() {
    let all = records::all();
    for record in &all {
        for other in all.iter().filter(|other| other.name != record.name) {
            assert_refused(record, &record.key, &other.bytes(), &format!("value of {}", other.name));
            assert_refused(record, &other.key, &record.bytes(), &format!("key of {}", other.name));
            // Under its own key, but asked for as another kind.
            let kinds_differ = std::mem::discriminant(&record.value) != std::mem::discriminant(&other.value);
            let found = record.value.decode_same_kind(&other.key, &other.bytes());
            assert_eq!(matches!(found, Err(DecodeError::Kind { .. })), kinds_differ, "{found:?}");
        }
    }
}

#[test]
fn random_damage_is_found() {
    let mut rng = rng("random_damage_is_found");
    for record in records::all() {
        let bytes = record.bytes();
        for step in 0..RANDOM_MUTATIONS {
            let mut damaged = bytes.clone();
            for _ in 0..rng.usize(1..=8) {
                mutate(&mut rng, &mut damaged);
            }
            if damaged != bytes {
                assert_refused(&record, &record.key, &damaged, &format!("mutation {step}"));
            }
        }
    }
}

/// One multi-byte change of the kind that disks, buffers and editors make.
fn mutate(rng: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    let from = rng.usize(0..=bytes.len());
    let to = rng.usize(from..=bytes.len().min(from + 16));
    match rng.u8(0..7) {
        0 => bytes[from..to].fill(0),
        1 => bytes[from..to].iter_mut().for_each(|byte| *byte = rng.u8(..)),
        2 => bytes[from..to].reverse(),
        3 => drop(bytes.drain(from..to)),
        4 => {
            let copy = bytes[from..to].to_vec();
            let at = rng.usize(0..=bytes.len());
            bytes.splice(at..at, copy);
        }
        5 => bytes.truncate(to),
        _ => {
            if let Some(byte) = bytes.get_mut(from) {
                *byte ^= 1 << rng.u8(0..8);
            }
        }
    }
}

// --- forgery: the checksum fits, the payload is hostile ----------------------------------------------------------------

/// A sealed value made by the table in the documentation of the codec, not by the code under test.
fn seal(version: u16, kind: u8, reserved: u8, key: &[u8], payload: &[u8]) -> Vec<u8> {
    seal_declaring(payload.len() as u32, version, kind, reserved, key, payload)
}

fn seal_declaring(length: u32, version: u16, kind: u8, reserved: u8, key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut value = b"RGNM".to_vec();
    value.extend(version.to_le_bytes());
    value.extend([kind, reserved]);
    value.extend(length.to_le_bytes());
    let sum = crc32c::crc32c(&[key, &value, payload].concat());
    value.extend(sum.to_le_bytes());
    value.extend(payload);
    value
}

fn kind_of(value: &Value) -> u8 {
    match value {
        Value::Region(_) => 1,
        Value::ApplyState(_) => 2,
        Value::RaftState(_) => 3,
        Value::StoreIdent(_) => 4,
    }
}

/// Decodes a forged payload. Whatever comes out is a value that this library could have written itself.
fn assert_harmless(record: &Stored, payload: &[u8], forgery: &str) {
    let sealed = seal(1, kind_of(&record.value), 0, &record.key, payload);
    let (allocated, found) = alloc::count(|| record.value.decode_same_kind(&record.key, &sealed));
    let allowed = 4 * sealed.len() as u64 + if found.is_err() { ERROR_TEXT_BYTES } else { 0 };
    assert!(allocated.bytes <= allowed, "{}, {forgery}: {allocated:?}", record.name);
    let Ok(value) = found else { return };
    if let Value::Region(region) = &value {
        assert_well_formed(region, true);
        assert_eq!(&region.to_draft().build().unwrap(), region, "{}, {forgery}", record.name);
    }
    let again = value.decode_same_kind(&record.key, &value.encode(&record.key));
    assert_eq!(again, Ok(value), "{}, {forgery}", record.name);
}

/// I13, read through the public accessors and compared in the plainest way.
fn assert_well_formed(region: &Region, may_merge: bool) {
    let text = region.to_string();
    assert!(region.id().get() > 0, "{text}");
    let end = region.end_key().to_wire();
    assert!(end.is_empty() || region.start_key() < end, "{text}");
    let (epoch, state) = (region.epoch(), region.state());
    assert!(state == PeerState::Tombstone || (epoch.conf_ver > 0 && epoch.version > 0), "{text}");
    let peers: Vec<_> = region.peers().collect();
    assert!((1..=PEERS_MAX).contains(&peers.len()), "{text}");
    for (at, peer) in peers.iter().enumerate() {
        assert!(peer.id.get() > 0 && peer.store_id.get() > 0, "{text}");
        assert!(peers[..at].iter().all(|other| other.id != peer.id && other.store_id != peer.store_id), "{text}");
        assert_eq!(region.peer_on(peer.store_id), Some(*peer), "{text}");
    }
    assert!(region.destroyed_peer().is_none_or(|peer| state == PeerState::Tombstone && peer.get() > 0), "{text}");
    let merge = region.merge_state();
    assert!(state != PeerState::Merging || merge.is_some(), "{text}");
    assert!(merge.is_none() || (may_merge && matches!(state, PeerState::Merging | PeerState::Tombstone)), "{text}");
    if let Some(merge) = merge {
        assert_ne!(merge.target.id(), region.id(), "{text}");
        assert_eq!(merge.target.state(), PeerState::Normal, "{text}");
        assert_well_formed(&merge.target.to_draft().build().unwrap(), false);
    }
}

#[test]
fn the_envelope_is_the_documented_one() {
    for record in records::all() {
        let bytes = record.bytes();
        assert_eq!(bytes, seal(1, kind_of(&record.value), 0, &record.key, &bytes[ENVELOPE_BYTES..]), "{}", record.name);
    }
}

#[test]
fn a_forged_payload_is_harmless() {
    let mut rng = rng("a_forged_payload_is_harmless");
    for record in records::all() {
        let payload = record.bytes().split_off(ENVELOPE_BYTES);
        let mut forged = payload.clone();
        for bit in 0..payload.len() * 8 {
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_harmless(&record, &forged, &format!("bit {bit} flipped"));
            forged[bit / 8] ^= 1 << (bit % 8);
        }
        for at in 0..=payload.len() {
            assert_harmless(&record, &payload[..at], &format!("cut to {at}"));
            for inserted in [0, 1, 0x7f, 0xff] {
                assert_harmless(&record, &[&payload[..at], &[inserted], &payload[at..]].concat(), "byte inserted");
            }
        }
        for step in 0..RANDOM_MUTATIONS {
            forged.clone_from(&payload);
            for _ in 0..rng.usize(1..=4) {
                mutate(&mut rng, &mut forged);
            }
            assert_harmless(&record, &forged, &format!("mutation {step}"));
        }
    }
}

#[test]
fn a_forged_header_is_refused() {
    for record in records::all() {
        let payload = record.bytes().split_off(ENVELOPE_BYTES);
        let kind = kind_of(&record.value);
        let decode = |sealed: &[u8]| record.value.decode_same_kind(&record.key, sealed).unwrap_err();
        assert_eq!(decode(&seal(0, kind, 0, &record.key, &payload)), DecodeError::ZeroVersion);
        for version in [2, 256, u16::MAX] {
            let found = decode(&seal(version, kind, 0, &record.key, &payload));
            assert_eq!(found, DecodeError::UnknownVersion { found: version });
        }
        for other in (0..=u8::MAX).filter(|&other| other != kind) {
            let found = decode(&seal(1, other, 0, &record.key, &payload));
            assert!(matches!(found, DecodeError::Kind { found, .. } if found == other), "{found:?}");
        }
        for reserved in 1..=u8::MAX {
            decode(&seal(1, kind, reserved, &record.key, &payload));
        }
        let present = payload.len();
        for declared in [0, present - 1, present + 1, u32::MAX as usize] {
            let found = decode(&seal_declaring(declared as u32, 1, kind, 0, &record.key, &payload));
            assert_eq!(found, DecodeError::Length { declared, present });
        }
    }
}

/// A store without an id could never be told from another.
#[test]
fn a_store_ident_without_a_store_is_refused() {
    use regionmeta::StoreIdent;
    let ident = StoreIdent { cluster_id: 1.into(), store_id: 0.into(), api_version: 1 };
    let mut value = Vec::new();
    ident.encode(b"key", &mut value);
    assert!(matches!(StoreIdent::decode(b"key", &value), Err(DecodeError::Invalid { record: "store ident", .. })));
}
