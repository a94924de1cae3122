//! What damage to RocksDB's log does to a store (T6): an exact prefix where that is right, a loud refusal where it is not,
//! and never a hole.
//!
//! `REGIONMETA_WAL_STORES` says how many stores are damaged; 1 by default.

mod log;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::storage::{Durability, Family, RocksStorage};
use regionmeta_batch::{OpenError, Store};
use tempfile::TempDir;

use crate::common::{CLUSTER, builder, copy_directory, scratch, seeded, setting};
use crate::numbered::{History, Model};

use log::{logs, record_ends};

const BATCHES: usize = 30;
const BOTH: [Durability; 2] = [Durability::Synced, Durability::Buffered];

/// A store that was left as a kill leaves it: everything is in the logs.
struct Victim {
    directory: TempDir,
    durability: Durability,
    model: Model,
}

/// What became of a damaged store.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// It opened, and is exactly the state of this number.
    State(usize),
    Refused(String),
}

impl Victim {
    /// Each of these batches is followed by a flush of the host's family, and so by a new log.
    fn new(seed: u64, durability: Durability, flushed: &[usize]) -> Self {
        let directory = scratch();
        let path = directory.path().join("store");
        let store = builder().durability(durability).bootstrap(&path, &EmbeddedPd::new(CLUSTER)).unwrap();
        let mut history = History::begin(seed);
        for number in 1..=BATCHES {
            history.commit_next(&store);
            if flushed.contains(&number) {
                flush_host_data(&store);
            }
        }
        drop(store);
        assert_eq!(logs(&path).len(), flushed.len() + 1);
        Self { directory, durability, model: Model::of(seed, BATCHES) }
    }

    fn log(&self, at: usize) -> Vec<u8> {
        fs::read(&logs(&self.directory.path().join("store"))[at]).unwrap()
    }

    #[track_caller]
    fn assert_refused(&self, what: &str, damage: impl FnOnce(&Path)) {
        let verdict = self.after(what, damage);
        assert!(matches!(verdict, Verdict::Refused(_)), "{what}: {verdict:?}");
    }

    /// Damage that no power loss makes is refused. A damaged record that has zeros of its own up to the border of a sector
    /// looks like one that was torn, and then the state before it may be opened, if nothing says that it was synced.
    #[track_caller]
    fn assert_refused_or_before(&self, what: &str, ends: &[usize], offset: usize, damage: impl FnOnce(&Path)) {
        if let Verdict::State(number) = self.after(what, damage) {
            let is_last = offset >= ends[ends.len() - 2];
            assert!(is_last || self.durability == Durability::Buffered, "{what}: state {number}");
            assert_eq!(number, state_at(ends, offset), "{what}");
        }
    }

    /// Opens a copy of the store, after damage was done to it.
    #[track_caller]
    fn after(&self, what: &str, damage: impl FnOnce(&Path)) -> Verdict {
        let directory = scratch();
        let path = directory.path().join("store");
        copy_directory(&self.directory.path().join("store"), &path);
        damage(&path);
        let open = || builder().durability(self.durability).open(&path);
        match open() {
            Ok(store) => {
                let number = self.model.assert_is_a_state(&store, what);
                drop(store);
                assert_eq!(self.model.assert_is_a_state(&open().unwrap(), what), number, "{what}, opened again");
                Verdict::State(number)
            }
            Err(OpenError::Storage(error)) => {
                let text = error.to_string();
                assert!(text.contains(path.to_str().unwrap()), "{what}: it does not say where: {text}");
                assert!(matches!(open(), Err(OpenError::Storage(_))), "{what}: it opens at the second attempt");
                Verdict::Refused(text)
            }
            Err(other) => panic!("{what}: {other}"),
        }
    }
}

fn flush_host_data(store: &Store<RocksStorage>) {
    let db = store.storage().db();
    db.flush_cf(db.cf_handle(Family::Default.name()).unwrap()).unwrap();
}

fn cut(log: &Path, length: usize) {
    fs::File::options().write(true).open(log).unwrap().set_len(length as u64).unwrap();
}

fn flip(log: &Path, offset: usize, mask: u8) {
    let mut bytes = fs::read(log).unwrap();
    bytes[offset] ^= mask;
    fs::write(log, bytes).unwrap();
}

/// Runs a check on stores of both kinds, each with these flushes in its history.
fn on_each_store(test: &str, flushed: &[usize], check: impl Fn(&Victim, &mut fastrand::Rng)) {
    let (_, mut rng) = seeded(test);
    for _ in 0..setting("REGIONMETA_WAL_STORES", 1) {
        let seed = rng.u64(..);
        BOTH.iter().for_each(|durability| check(&Victim::new(seed, *durability, flushed), &mut rng));
    }
}

const FLUSHED: [usize; 2] = [10, 20];
const OLDER_LOGS: usize = 2;
const NEWEST: usize = 2;

/// The batches that are whole in the newest log, when it ends at an offset.
fn state_at(ends: &[usize], offset: usize) -> usize {
    FLUSHED[1] + ends.iter().filter(|end| **end <= offset).count()
}

/// A kill or a power loss ends the newest log anywhere. What is whole up to there is the state, and nothing else is.
#[test]
fn the_newest_log_may_end_anywhere() {
    on_each_store("the_newest_log_may_end_anywhere", &FLUSHED, |victim, rng| {
        let ends = record_ends(&victim.log(NEWEST));
        assert_eq!(ends.len(), BATCHES - FLUSHED[1], "a batch is a record");
        let length = *ends.last().unwrap();
        let borders = ends.iter().flat_map(|end| [end - 1, *end, end + 1]);
        let random: Vec<_> = (0..60).map(|_| rng.usize(..length)).collect();
        for offset in borders.chain(random).filter(|offset| *offset <= length) {
            let verdict = victim.after(&format!("cut at {offset}"), |path| cut(&logs(path)[NEWEST], offset));
            assert_eq!(verdict, Verdict::State(state_at(&ends, offset)), "cut at {offset}");
        }
        let deleted = victim.after("deleted", |path| fs::remove_file(&logs(path)[NEWEST]).unwrap());
        assert_eq!(deleted, Verdict::State(FLUSHED[1]), "what is left is a whole prefix");
    });
}

/// rocksdb#12467, #12489: what comes after an older log is not to be replayed over a hole.
#[test]
fn an_older_log_is_whole_or_the_store_is_refused() {
    on_each_store("an_older_log_is_whole_or_the_store_is_refused", &FLUSHED, |victim, rng| {
        for older in 0..OLDER_LOGS {
            let bytes = victim.log(older);
            let ends = record_ends(&bytes);
            let borders = ends.iter().flat_map(|end| [end - 1, *end, end + 1]);
            let random: Vec<_> = (0..10).map(|_| rng.usize(..bytes.len())).collect();
            for offset in borders.chain(random).chain([0]).filter(|offset| *offset < bytes.len()) {
                victim.assert_refused(&format!("log {older} cut at {offset}"), |path| cut(&logs(path)[older], offset));
            }
            victim.assert_refused(&format!("log {older} deleted"), |path| fs::remove_file(&logs(path)[older]).unwrap());
            let random: Vec<_> = (0..20).map(|_| rng.usize(..bytes.len())).collect();
            for offset in headers(&ends).step_by(5).chain(random) {
                let mask = 1 << rng.u8(..8);
                let damage = |path: &Path| flip(&logs(path)[older], offset, mask);
                victim.assert_refused(&format!("log {older}: {mask:#04x} flipped at {offset}"), damage);
            }
        }
    });
}

/// The story: one flipped bit in a length of the newest log's last block, and RocksDB took the rest of the log for a write
/// that was cut off. Of thirty synced batches eight were gone, and the store opened without a word.
/// One of these bits, in the newest log of a store with buffered writes (REGIONMETA_SEED=4838048762749564150), sent RocksDB's
/// reader round in a circle for ever, until such a log was cut off before it was opened.
#[test]
fn a_flipped_bit_is_refused() {
    on_each_store("a_flipped_bit_is_refused", &FLUSHED, |victim, rng| {
        let bytes = victim.log(NEWEST);
        let ends = record_ends(&bytes);
        let random: Vec<_> = (0..60).map(|_| rng.usize(..bytes.len())).collect();
        for offset in headers(&ends).chain(random) {
            let mask = 1 << rng.u8(..8);
            let damage = |path: &Path| flip(&logs(path)[NEWEST], offset, mask);
            victim.assert_refused_or_before(&format!("{mask:#04x} flipped at {offset}"), &ends, offset, damage);
        }
    });
}

/// Every byte of the headers behind these ends of records.
fn headers(ends: &[usize]) -> impl Iterator<Item = usize> {
    ends[..ends.len() - 1].iter().flat_map(|end| *end..end + 7)
}

/// The story: RocksDB refuses a log of synced writes whose last write reached the disk in parts, so a power loss in the middle
/// of a write that nobody was told of made the store impossible to open. Before whole records the same picture is rot.
#[test]
fn a_write_that_reached_the_disk_in_parts_is_no_damage() {
    let test = "a_write_that_reached_the_disk_in_parts_is_no_damage";
    on_each_store(test, &FLUSHED, |victim, _| {
        let bytes = victim.log(NEWEST);
        let ends = record_ends(&bytes);
        for (at, end) in ends.iter().enumerate() {
            let start = at.checked_sub(1).map_or(0, |before| ends[before]);
            let is_seen = |hole: &Range<usize>| bytes[hole.clone()].iter().any(|byte| *byte != 0);
            for hole in sectors(start, *end).filter(is_seen) {
                let verdict = victim.after(&format!("hole {hole:?}"), |path| erase(&logs(path)[NEWEST], hole.clone()));
                let is_last = at + 1 == ends.len();
                match verdict {
                    Verdict::State(number) => {
                        assert!(is_last || victim.durability == Durability::Buffered, "hole {hole:?}");
                        assert_eq!(number, FLUSHED[1] + at, "hole {hole:?}");
                    }
                    Verdict::Refused(why) => {
                        assert!(!is_last && victim.durability == Durability::Synced, "hole {hole:?}: {why}");
                    }
                }
            }
        }
    });
}

/// The first and the last sector of a record, as far as they belong to it.
fn sectors(start: usize, end: usize) -> impl Iterator<Item = Range<usize>> {
    [start..(start + 1).next_multiple_of(512).min(end), ((end - 1) / 512 * 512).max(start)..end].into_iter()
}

fn erase(log: &Path, range: Range<usize>) {
    let mut bytes = fs::read(log).unwrap();
    bytes[range].fill(0);
    fs::write(log, bytes).unwrap();
}

/// The manifest says which files the database has. RocksDB takes a damaged length at its end for its end, as in a log, and then
/// works with the files of an earlier day.
#[test]
fn a_flipped_bit_of_the_manifest_is_refused() {
    on_each_store("a_flipped_bit_of_the_manifest_is_refused", &FLUSHED, |victim, rng| {
        let bytes = fs::read(manifest(&victim.directory.path().join("store"))).unwrap();
        let ends = record_ends(&bytes);
        assert!(ends.len() > 5 && ends.last() == Some(&bytes.len()), "{ends:?}");
        let random: Vec<_> = (0..30).map(|_| rng.usize(..bytes.len())).collect();
        for offset in headers(&ends).step_by(2).chain(random) {
            let mask = 1 << rng.u8(..8);
            let damage = |path: &Path| flip(&manifest(path), offset, mask);
            victim.assert_refused(&format!("{mask:#04x} flipped at {offset} of the manifest"), damage);
        }
    });
}

fn manifest(directory: &Path) -> PathBuf {
    directory.join(fs::read_to_string(directory.join("CURRENT")).unwrap().trim())
}

/// What the check looks for costs nothing where there is nothing to find: a store that was closed opens as it is.
#[test]
fn a_log_without_damage_is_left_as_it_is() {
    on_each_store("a_log_without_damage_is_left_as_it_is", &[], |victim, _| {
        assert_eq!(victim.after("nothing", |_| ()), Verdict::State(BATCHES));
    });
}
