//! Power loss (T7): whatever part of what was not synced a disk has taken, a store opens as a state that it promised.
//!
//! A child process goes through a [numbered history](crate::numbered) on RocksDB, under a shim that writes down each write, sync,
//! rename and removal. From every moment of that trace any number of disks can be made that a power loss may leave. Each is
//! opened: with synced writes it must hold every batch that was acknowledged, and of the one in flight all or nothing; without,
//! some whole prefix, which holds at least what was synced on purpose.
//!
//! `REGIONMETA_POWER_STATES` says how many disks are made, 1,000 by default; `REGIONMETA_SEED` replays a run, and
//! `REGIONMETA_POWER_STATE` one state of it.

mod disk;
mod trace;

use std::fs;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use regionmeta_batch::bootstrap::BootstrapError;
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::storage::{Durability, Family, RocksStorage};
use regionmeta_batch::{OpenError, Store, StoreBuilder};
use rocksdb::FlushOptions;
use tempfile::TempDir;

use crate::child;
use crate::common::{CLUSTER, builder, covers_everything, scratch, seeded, setting};
use crate::numbered::{History, Model};

use disk::Disk;
use trace::Event;
pub(crate) use trace::shim;

const BATCHES: usize = 40;
/// Every so many batches a family is flushed, beside the batches that follow.
const BATCHES_PER_FLUSH: usize = 6;
/// After this batch the child opens its store again, so that the trace has a recovery in it.
const REOPENED_AFTER: usize = 25;
/// How long a sync takes: while a log that was left behind is synced, batches go into the next one.
const SYNC_US: &str = "3000";
const SEED: &str = "REGIONMETA_POWER_CHILD_SEED";

// --- the child ------------------------------------------------------------------------------------------------------

/// Goes through the history, and notes in a file beside the store what it was told is durable.
pub(crate) fn child_writes(root: &Path, synced: bool) {
    let with = || builder().durability(if synced { Durability::Synced } else { Durability::Buffered });
    let acknowledge = |line: String| {
        let mut file = fs::File::options().create(true).append(true).open(root.join(ACKNOWLEDGED)).unwrap();
        std::io::Write::write_all(&mut file, line.as_bytes()).unwrap();
    };
    let path = root.join("store");
    let mut history = History::begin(std::env::var(SEED).unwrap().parse().unwrap());
    let mut store = with().bootstrap(&path, &EmbeddedPd::new(CLUSTER)).unwrap();
    acknowledge("synced 0".to_owned());
    for number in 1..=BATCHES {
        let is_synced = history.commit_next(&store) || synced;
        acknowledge(format!("{} {number}", if is_synced { "synced" } else { "written" }));
        if number % BATCHES_PER_FLUSH == 0 {
            flush_beside(&store, Family::ALL[number / BATCHES_PER_FLUSH % 2]);
        }
        if number == REOPENED_AFTER {
            drop(store);
            store = with().open(&path).unwrap();
        }
    }
    store.close().unwrap();
    acknowledge(format!("synced {BATCHES}"));
    child::say("done");
}

fn flush_beside(store: &Store<RocksStorage>, family: Family) {
    let (db, mut options) = (store.storage().db(), FlushOptions::default());
    options.set_wait(false);
    db.flush_cf_opt(db.cf_handle(family.name()).unwrap(), &options).unwrap();
}

const ACKNOWLEDGED: &str = "acknowledged";

// --- the trace, and what was promised at each moment of it ---------------------------------------------------------------

struct Recording {
    durability: Durability,
    root: PathBuf,
    events: Vec<Event>,
    model: Model,
    /// The directory as it was when the child had ended.
    _directory: TempDir,
}

impl Recording {
    /// `None` where no shim can be made.
    fn make(synced: bool, seed: u64) -> Option<Self> {
        let directory = scratch();
        let shim = trace::shim(directory.path())?;
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        let written = directory.path().join("trace");
        let mut command = child::command(if synced { "power synced" } else { "power buffered" }, &root);
        command.env("LD_PRELOAD", shim).env("POWER_ROOT", &root).env("POWER_TRACE", &written);
        command.env("POWER_SLOW_US", SYNC_US).env(SEED, seed.to_string());
        let mut child = child::Running::from_command(command).unwrap();
        assert_eq!(child.heard().as_deref(), Some("done"));
        drop(child);
        let durability = if synced { Durability::Synced } else { Durability::Buffered };
        let model = Model::of(seed, BATCHES);
        Some(Self { durability, root, events: trace::read(&written), model, _directory: directory })
    }

    /// Every byte of every file is in the trace, and the calls that durability rests on.
    fn assert_complete(&self) {
        let mut disk = Disk::default();
        self.events.iter().for_each(|event| disk.take(event));
        let seen = disk.as_seen();
        for entry in fs::read_dir(self.root.join("store")).unwrap() {
            let path = entry.unwrap().path();
            // RocksDB's text for people goes through the C library's buffers.
            if !path.file_name().unwrap().to_str().unwrap().starts_with("LOG") {
                assert!(seen.get(&path) == Some(&fs::read(&path).unwrap()), "{} is not as traced", path.display());
            }
        }
        let count = |is: fn(&Event) -> bool| self.events.iter().filter(|event| is(event)).count();
        let renames = count(|event| matches!(event, Event::Rename { to, .. } if to.ends_with("CURRENT")));
        let (writes, syncs) =
            (count(|event| matches!(event, Event::Write { .. })), count(|event| matches!(event, Event::Sync { .. })));
        println!("{:?}: {} events, {writes} writes, {syncs} syncs", self.durability, self.events.len());
        assert!(renames >= 1 && writes > 3 * BATCHES && syncs > 10);
    }

    fn builder(&self) -> StoreBuilder {
        builder().durability(self.durability)
    }

    /// The numbers of the states that a store may be in after the first `events` calls; `None` before it was bootstrapped.
    fn promised(&self, events: usize) -> Option<RangeInclusive<usize>> {
        let mut promised = None;
        let mut acknowledged = 0;
        for event in &self.events[..events] {
            let Event::Write { data, .. } = event else { continue };
            let text = std::str::from_utf8(data).unwrap_or("");
            let number = |prefix| text.strip_prefix(prefix).and_then(|number: &str| number.parse::<usize>().ok());
            if let Some(number) = number("synced ") {
                (promised, acknowledged) = (Some(number), number);
            }
            acknowledged = number("written ").unwrap_or(acknowledged);
        }
        promised.map(|promised| promised..=(acknowledged + 1).min(BATCHES))
    }

    /// Cuts the power at some moment, and opens what the disk then holds. Returns how many batches were lost that had been
    /// acknowledged.
    fn check_state(&self, state: u64, seed: u64) -> u64 {
        let mut rng = fastrand::Rng::with_seed(seed ^ state.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let moment = rng.usize(..=self.events.len());
        let what = format!("REGIONMETA_POWER_STATE={state}, {:?}, after {moment} events", self.durability);
        let mut disk = Disk::default();
        self.events[..moment].iter().for_each(|event| disk.take(event));
        let directory = scratch();
        let path = directory.path().join("store");
        for (name, content) in disk.after_power_loss(&mut rng) {
            let Ok(name) = name.strip_prefix(self.root.join("store")) else { continue };
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(name), content).unwrap();
        }
        match self.promised(moment) {
            Some(promised) => self.check_opened(&path, promised, &what),
            None => {
                self.check_bootstrap(&path, &what);
                0
            }
        }
    }

    fn check_opened(&self, path: &Path, promised: RangeInclusive<usize>, what: &str) -> u64 {
        let open = || self.builder().open(path).unwrap_or_else(|error| panic!("{what}: {promised:?}: {error}"));
        let number = self.model.assert_is_a_state(&open(), what);
        assert!(promised.contains(&number), "{what}: state {number}, promised {promised:?}");
        let again = self.model.assert_is_a_state(&open(), what);
        assert_eq!(again, number, "{what}: opened again");
        (promised.end() - 1).saturating_sub(number) as u64
    }

    /// A bootstrap that was cut off is finished by the next one, whatever PD knows by then.
    fn check_bootstrap(&self, path: &Path, what: &str) {
        let new_pd = EmbeddedPd::new(CLUSTER);
        let store = match self.builder().bootstrap(path, &new_pd) {
            // PD had been told of the region, and the mark that says so was gone already.
            Err(OpenError::Bootstrap(BootstrapError::RegionsButNoCluster { .. })) => self.builder().open(path),
            result => result,
        };
        let store = store.unwrap_or_else(|error| panic!("{what}: bootstrap: {error}"));
        let snapshot = store.meta().snapshot();
        assert_eq!(snapshot.validate(), [], "{what}");
        let regions: Vec<_> = snapshot.regions().cloned().collect();
        assert!(regions.len() == 1 && covers_everything(&regions), "{what}: {regions:?}");
    }
}

fn check_states(test: &str, synced: bool) {
    let (seed, _) = seeded(test);
    let Some(recording) = Recording::make(synced, seed) else { return };
    recording.assert_complete();
    let states = match std::env::var("REGIONMETA_POWER_STATE") {
        Ok(state) => state.parse().unwrap()..=state.parse().unwrap(),
        Err(_) => 1..=setting("REGIONMETA_POWER_STATES", 1_000) / 2,
    };
    // Relaxed: all of them only count.
    let (next, lost, failed) = (AtomicU64::new(*states.start()), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let state = next.fetch_add(1, Ordering::Relaxed);
                    if state > *states.end() {
                        break;
                    }
                    let checked = catch_unwind(AssertUnwindSafe(|| recording.check_state(state, seed)));
                    // Every state is looked at: how many fail, and which, tells more than the first.
                    match checked {
                        Ok(batches) => lost.fetch_add(batches, Ordering::Relaxed),
                        Err(_) => failed.fetch_add(1, Ordering::Relaxed),
                    };
                }
            });
        }
    });
    println!("{states:?}: {} acknowledged batches lost", lost.load(Ordering::Relaxed));
    assert_eq!(failed.into_inner(), 0, "states that were not as promised; each is named above");
    if synced {
        assert_eq!(lost.into_inner(), 0);
    } else if states.clone().count() > 100 {
        assert!(lost.into_inner() > 0, "no state lost what was not synced: the disk loses nothing");
    }
}

#[test]
fn after_a_power_loss_every_synced_batch_is_there() {
    check_states("after_a_power_loss_every_synced_batch_is_there", true);
}

#[test]
fn after_a_power_loss_a_buffered_store_is_an_earlier_whole_prefix() {
    check_states("after_a_power_loss_a_buffered_store_is_an_earlier_whole_prefix", false);
}
