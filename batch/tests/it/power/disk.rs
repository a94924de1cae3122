//! What a disk may hold after a power loss.
//!
//! A sync of a file makes its content durable, a sync of a directory the names in it; before that, the disk may have taken any
//! part of what was written, in any order. It takes whole sectors of 512 bytes or pages of 4 KiB, and of each the content that
//! it had after any number of the writes that were not synced. A file's length is a fact of its own. Any of the names that were
//! not synced may be lost, but a new file that was synced has its name: so do the journaling file systems of Linux, and RocksDB
//! relies on it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::trace::Event;

/// Files and directories as the process saw them, and how much of that is durable.
#[derive(Default)]
pub(crate) struct Disk {
    files: Vec<Content>,
    /// What was opened: a file, or a directory by its path.
    opened: HashMap<u32, Opened>,
    names: Names,
    durable_names: Names,
    renamings: Vec<Naming>,
    unsynced_directories: HashSet<PathBuf>,
}

type Names = BTreeMap<PathBuf, usize>;

enum Opened {
    File(usize),
    Directory(PathBuf),
}

/// A change of names in a directory that was not synced yet.
#[derive(Clone)]
enum Naming {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

#[derive(Default)]
struct Content {
    durable: Vec<u8>,
    /// In order.
    changes: Vec<Change>,
}

enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Disk {
    pub(crate) fn take(&mut self, event: &Event) {
        match event {
            Event::Open { file, path, creates, truncates } => self.open(*file, path, *creates, *truncates),
            Event::Write { file, offset, data } => self.change(*file, Change::Write(*offset, data.clone())),
            Event::Truncate { file, length } => self.change(*file, Change::Truncate(*length)),
            Event::Sync { file } => self.sync(*file),
            Event::Rename { from, to } => {
                let Some(content) = self.names.get(from).copied() else { return };
                self.rename(Naming::Rename(from.clone(), to.clone(), content));
            }
            Event::Unlink { path } => self.rename(Naming::Unlink(path.clone())),
            Event::CreateDirectory { path } => {
                self.unsynced_directories.insert(path.clone());
            }
        }
    }

    fn open(&mut self, file: u32, path: &Path, creates: bool, truncates: bool) {
        let content = match self.names.get(path) {
            Some(content) => *content,
            None if creates => {
                let directory = path.parent().unwrap();
                assert!(
                    !self.unsynced_directories.contains(directory),
                    "a file is made in a directory that may be lost"
                );
                self.files.push(Content::default());
                self.rename(Naming::Link(path.to_owned(), self.files.len() - 1));
                self.files.len() - 1
            }
            None => {
                self.opened.insert(file, Opened::Directory(path.to_owned()));
                return;
            }
        };
        self.opened.insert(file, Opened::File(content));
        if truncates {
            self.change(file, Change::Truncate(0));
        }
    }

    fn change(&mut self, file: u32, change: Change) {
        let Some(Opened::File(content)) = self.opened.get(&file) else { panic!("a write to a directory") };
        self.files[*content].changes.push(change);
    }

    fn rename(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.renamings.push(naming);
    }

    fn sync(&mut self, file: u32) {
        match &self.opened[&file] {
            Opened::File(content) => {
                self.files[*content].sync();
                let is_its_name = |naming: &Naming| matches!(naming, Naming::Link(_, linked) if linked == content);
                let (durable, others): (Vec<_>, _) = self.renamings.drain(..).partition(is_its_name);
                durable.iter().for_each(|naming| naming.apply(&mut self.durable_names));
                self.renamings = others;
            }
            Opened::Directory(path) => {
                let path = path.join(""); // without a slash at its end or with one
                let path: PathBuf = path.components().collect();
                self.unsynced_directories.retain(|directory| directory.parent() != Some(&path));
                let (synced, others): (Vec<_>, _) = self.renamings.drain(..).partition(|naming| naming.is_in(&path));
                synced.iter().for_each(|naming| naming.apply(&mut self.durable_names));
                self.renamings = others;
            }
        }
    }

    /// The files as the process saw them.
    pub(crate) fn as_seen(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let all = |content: usize| self.files[content].after(Taken::All);
        self.names.iter().map(|(path, content)| (path.clone(), all(*content))).collect()
    }

    /// The files as a power loss may leave them.
    pub(crate) fn after_power_loss(&self, rng: &mut fastrand::Rng) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut names = self.durable_names.clone();
        let share = [0.0, 0.5, 1.0][rng.usize(..3)];
        self.renamings.iter().filter(|_| rng.f64() < share).for_each(|naming| naming.apply(&mut names));
        let style = rng.u8(..5);
        let mut content = |content: usize| self.files[content].after(Taken::draw(style, rng));
        names.into_iter().map(|(path, at)| (path, content(at))).collect()
    }
}

impl Naming {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Link(path, content) => {
                names.insert(path.clone(), *content);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, content) => {
                names.remove(from);
                names.insert(to.clone(), *content);
            }
        }
    }

    fn is_in(&self, directory: &Path) -> bool {
        let (Self::Link(path, _) | Self::Unlink(path) | Self::Rename(path, ..)) = self;
        path.parent() == Some(directory)
    }
}

/// How much of the changes that were not synced a disk has taken.
enum Taken<'a> {
    Nothing,
    All,
    /// The first of them.
    First(&'a mut fastrand::Rng),
    /// Of each unit of so many bytes what it was after any of the changes, or before all or after all of them.
    Units {
        bytes: usize,
        extremes: bool,
        rng: &'a mut fastrand::Rng,
    },
}

impl<'a> Taken<'a> {
    /// Every file of a state is torn in the same style, but for some that are whole.
    fn draw(style: u8, rng: &'a mut fastrand::Rng) -> Self {
        match (rng.u8(..6), style) {
            (0, _) => Self::All,
            (1, _) | (_, 0) => Self::Nothing,
            (_, 1) => Self::First(rng),
            (_, style) => Self::Units { bytes: [512, 4096][rng.usize(..2)], extremes: style == 2, rng },
        }
    }
}

impl Content {
    fn sync(&mut self) {
        self.durable = self.after(Taken::All);
        self.changes.clear();
    }

    /// The length after some of the changes.
    fn length(&self, changes: usize) -> usize {
        self.changes[..changes].iter().fold(self.durable.len(), |length, change| match change {
            Change::Write(offset, data) => length.max(offset + data.len()),
            Change::Truncate(length) => *length,
        })
    }

    fn after(&self, taken: Taken<'_>) -> Vec<u8> {
        let all = self.changes.len();
        match taken {
            Taken::All => self.mix(all, usize::MAX, |_| all),
            Taken::Nothing => self.durable.clone(),
            Taken::First(rng) => {
                let first = rng.usize(..=all);
                self.mix(first, usize::MAX, |_| first)
            }
            Taken::Units { bytes, extremes, rng } => {
                let mut any = || if extremes { all * rng.usize(..2) } else { rng.usize(..=all) };
                let length = any();
                self.mix(length, bytes, |_| any())
            }
        }
    }

    /// A content of the length after `length` changes, whose units are each as after as many changes as `taken` says.
    fn mix(&self, length: usize, unit_bytes: usize, mut taken: impl FnMut(usize) -> usize) -> Vec<u8> {
        let longest = (0..=self.changes.len()).map(|changes| self.length(changes)).max().unwrap_or(0);
        let units = if unit_bytes == usize::MAX { 1 } else { longest.div_ceil(unit_bytes) };
        let taken: Vec<usize> = (0..units).map(&mut taken).collect();
        let mut content = self.durable.clone();
        content.resize(longest.max(content.len()), 0);
        for (at, change) in self.changes.iter().enumerate() {
            let has_taken = |byte: usize| taken[byte / unit_bytes] > at;
            match change {
                Change::Write(offset, data) => {
                    for (byte, value) in (*offset..).zip(data).filter(|(byte, _)| has_taken(*byte)) {
                        content[byte] = *value;
                    }
                }
                Change::Truncate(length) => {
                    (*length..content.len()).filter(|byte| has_taken(*byte)).for_each(|byte| content[byte] = 0);
                }
            }
        }
        content.truncate(self.length(length));
        content
    }
}
