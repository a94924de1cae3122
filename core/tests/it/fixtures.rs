//! T26: a stored record of each format version that was ever released decodes for ever.
//!
//! A fixture is a text file of two lines, key and value in hexadecimal. It is never changed: a new format version gets a
//! folder of its own, and `what_is_written_today` moves on to that one.

use std::path::PathBuf;

use regionmeta::FORMAT_VERSION;

use crate::records::{self, Stored};

fn fixture(version: u16, record: &Stored) -> (Vec<u8>, Vec<u8>) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/testdata/v{version}"));
    let text = std::fs::read_to_string(folder.join(format!("{}.hex", record.name))).unwrap();
    let mut lines = text.lines().map(unhex);
    (lines.next().unwrap(), lines.next().unwrap())
}

fn unhex(line: &str) -> Vec<u8> {
    assert!(line.len().is_multiple_of(2), "{line}");
    (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn version_1_is_read_for_ever() {
    for record in records::all() {
        let (key, value) = fixture(1, &record);
        assert_eq!(value[4..6], [1, 0], "{}: the fixture's own format version", record.name);
        assert_eq!(record.value.decode_same_kind(&key, &value), Ok(record.value), "{}", record.name);
    }
}

/// The format does not drift without a new version number.
#[test]
fn what_is_written_today_is_what_the_newest_fixture_holds() {
    for record in records::all() {
        let (key, value) = fixture(FORMAT_VERSION, &record);
        assert_eq!((&record.key, record.bytes()), (&key, value), "{}", record.name);
    }
}
