//! Any bytes, decoded as every kind of record: a verified value or a typed error (I10).
//!
//! The input is the length of the key in one byte, the key, and the stored value.

#![no_main]

use libfuzzer_sys::fuzz_target;
use regionmeta::{ApplyState, ENVELOPE_BYTES, RaftState, Record, Region, StoreIdent};
use regionmeta_fuzz::{decode, exercise, seal};

fuzz_target!(|input: &[u8]| {
    let Some((&length, rest)) = input.split_first() else { return };
    let Some((key, value)) = rest.split_at_checked(usize::from(length)) else { return };
    decode_every_kind(key, value);
    let payload = value.get(ENVELOPE_BYTES..).unwrap_or(value);
    for kind in [Region::KIND, ApplyState::KIND, RaftState::KIND, StoreIdent::KIND] {
        decode_every_kind(key, &seal(kind, key, payload));
    }
    for bytes in [input, payload] {
        if let Ok(region) = Region::from_bytes(bytes) {
            exercise(&region);
        }
    }
});

fn decode_every_kind(key: &[u8], value: &[u8]) {
    if let Some(region) = decode::<Region>(key, value) {
        exercise(&region);
    }
    decode::<ApplyState>(key, value);
    decode::<RaftState>(key, value);
    decode::<StoreIdent>(key, value);
}
