//! Values on disk: an [envelope](RecordKind) that proves integrity around a flatbuffer that proves structure.
//!
//! A flatbuffer alone passes its verifier after most single bit flips, so every stored value begins with a header:
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | magic `RGNM` |
//! | 4..6 | format version, little-endian |
//! | 6 | record kind |
//! | 7 | reserved, 0 |
//! | 8..12 | length of the payload, little-endian |
//! | 12..16 | CRC32C over the key, the header's first 12 bytes and the payload |
//! | 16.. | payload: a flatbuffer of the schema |
//!
//! The key is part of the checksum, so a value that was stored under another key is damage too. The header is tested before
//! the payload is parsed, and no length is trusted that was not compared with the bytes present. This stops accidents, not
//! forgers; what a forger wrote is still memory-safe and still has to pass the verifier and I13 (I10).

mod admin;
mod envelope;
mod records;

pub use self::admin::{ADMIN_BYTES_MAX, AdminCodecError};
pub use self::envelope::{DecodeError, ENVELOPE_BYTES, FORMAT_VERSION, RecordKind};
pub use self::records::Record;
