//! What a process did to its files, as the shim wrote it down.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One call, in the order of the calls.
#[derive(Debug)]
pub(crate) enum Event {
    /// `file` is a number that no two opens share; the path may be a directory's.
    Open {
        file: u32,
        path: PathBuf,
        creates: bool,
        truncates: bool,
    },
    Write {
        file: u32,
        offset: usize,
        data: Vec<u8>,
    },
    Truncate {
        file: u32,
        length: usize,
    },
    Sync {
        file: u32,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    CreateDirectory {
        path: PathBuf,
    },
}

const HEADER_BYTES: usize = 24;
const CREATES: u64 = 0o100;
const TRUNCATES: u64 = 0o1000;

/// Reads a trace. Panics at a call whose loss cannot be replayed.
pub(crate) fn read(path: &Path) -> Vec<Event> {
    let bytes = fs::read(path).unwrap();
    let (mut at, mut events) = (0, Vec::new());
    while at < bytes.len() {
        let word = |from: usize| u32::from_le_bytes(bytes[at + from..at + from + 4].try_into().unwrap());
        let (kind, file) = (word(0), word(4));
        let number = u64::from_le_bytes(bytes[at + 8..at + 16].try_into().unwrap());
        let path_end = at + HEADER_BYTES + word(16) as usize;
        let end = path_end + word(20) as usize;
        let text = String::from_utf8_lossy(&bytes[at + HEADER_BYTES..path_end]).into_owned();
        events.push(event(kind, file, number, text.into(), &bytes[path_end..end]));
        at = end;
    }
    events
}

fn event(kind: u32, file: u32, number: u64, path: PathBuf, data: &[u8]) -> Event {
    let size = usize::try_from(number).unwrap();
    match kind {
        1 => Event::Open { file, path, creates: number & CREATES != 0, truncates: number & TRUNCATES != 0 },
        2 => Event::Write { file, offset: size, data: data.to_vec() },
        3 => Event::Truncate { file, length: size },
        4 => Event::Sync { file },
        5 => Event::Rename { from: path, to: String::from_utf8(data.to_vec()).unwrap().into() },
        6 => Event::Unlink { path },
        7 => Event::CreateDirectory { path },
        _ => panic!("the traced process did what cannot be replayed: {}", path.display()),
    }
}

/// Compiles the shim; `None` where there is no C compiler.
pub(crate) fn shim(into: &Path) -> Option<PathBuf> {
    let (source, shim) = (into.join("shim.c"), into.join("shim.so"));
    fs::write(&source, include_str!("shim.c")).unwrap();
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&shim).arg(&source);
    let compiled = command.args(["-ldl", "-pthread"]).status();
    match compiled {
        Ok(status) => {
            assert!(status.success(), "the shim does not compile");
            Some(shim)
        }
        Err(error) => {
            println!("SKIPPED: no C compiler: {error}");
            None
        }
    }
}
