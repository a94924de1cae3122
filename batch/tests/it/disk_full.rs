//! A disk that is full, on real RocksDB (T10): the n-th write fails, n = 1, 2, ... until a clean pass.
//!
//! The limit is the system's own on the size of files (`RLIMIT_FSIZE`), which needs no privileges and no file system of its own:
//! a write beyond it is cut off at the limit, then fails with EFBIG, as one on a full disk is cut off and fails with ENOSPC. It
//! holds for the whole process, the log, the manifest and everything else, so the test runs in a process of its own, which
//! ignores the signal that would end it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use regionmeta::{AdminHeader, AdminRequest, RegionEpoch, RegionId};
use regionmeta_batch::Store;
use regionmeta_batch::apply::{AnswerError, ApplySettings, Data, Entry, Mutation};
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::storage::{Family, RocksStorage, Storage};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::child;
use crate::common::{CLUSTER, add, add_learner, at, builder, covers_everything, learner, split, voter};
use crate::pool::Running;

const FIRST: RegionId = RegionId::new(2);

/// The entries of one region, each a batch of its own.
fn entry(index: u64) -> Entry<RocksStorage, u64> {
    let data = || Data::List(vec![Mutation::Put { key: host_key(index), value: vec![b'v'; 300] }]);
    let (conf_ver, version, command) = match index - 6 {
        0 => (1, 1, split("m", 10, &[11])),
        1 => (1, 2, add_learner(learner(20, 2))),
        2 => (2, 2, add(voter(20, 2))),
        3 => (3, 2, split("f", 30, &[31, 32])),
        _ => return Entry::write(at(index), RegionEpoch::new(3, 3), data(), index),
    };
    let header = AdminHeader::new(FIRST, RegionEpoch::new(conf_ver, version));
    Entry::admin(at(index), AdminRequest { header, command }, index).with_data(data())
}

const ENTRIES: u64 = 5;

fn host_key(index: u64) -> Vec<u8> {
    format!("z{index}").into_bytes()
}

#[test]
fn whichever_write_finds_the_disk_full_what_was_acknowledged_is_there() {
    let root = TempDir::new().unwrap();
    let role = child::command("disk full", root.path());
    // What is ignored when a program starts stays so in the program.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(role.get_program()).args(role.get_args());
    command.envs(role.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
    let passes = String::from_utf8_lossy(&text).matches("@child full at").count() as u64;
    assert_eq!(passes, 3 * ENTRIES, "every write was to fail once in each way");
}

/// The child's work.
pub(crate) fn child_fills(root: &Path) {
    for nth in 1..=ENTRIES + 1 {
        // Not a byte of the record, its header in part, and half of it.
        for room in [0, 7, 200] {
            let path = root.join(format!("{nth} {room}"));
            let has_failed = fill(&path, nth, room);
            assert_eq!(has_failed, nth <= ENTRIES, "write {nth}");
            if has_failed {
                child::say(&format!("full at {nth}"));
            }
        }
    }
}

/// Whether the disk was full at the `nth` write, which had `room` bytes left.
fn fill(path: &Path, nth: u64, room: u64) -> bool {
    let settings = ApplySettings { workers: 1, ..ApplySettings::default() };
    let running = Running::over(builder().bootstrap(path, &EmbeddedPd::new(CLUSTER)).unwrap(), settings);
    let mut acknowledged = 0;
    for number in 1..=ENTRIES {
        if number == nth {
            limit_files_to(Some(log_bytes(path) + room));
        }
        let before = running.store.meta().snapshot();
        running.send(FIRST, entry(5 + number));
        let result = running.answer().result;
        assert_eq!(result.is_ok(), number < nth, "write {nth}, {room} bytes left: {result:?}");
        if result.is_ok() {
            acknowledged = number;
            continue;
        }
        assert!(matches!(result, Err(AnswerError::Poisoned(_))), "{result:?}");
        let cause = running.store.check_writable().unwrap_err().cause;
        assert!(cause.contains("write a batch") || number > nth, "{cause}");
        // Nothing is published, and readers go on.
        let after = running.store.meta().snapshot();
        assert_eq!(after.sequence(), before.sequence());
        assert!(after.locate(b"z").is_some());
        assert!(running.store.storage().get(Family::Default, &host_key(6)).is_ok());
    }
    limit_files_to(None);
    let has_failed = running.store.check_writable().is_err();
    drop(running.shut_down());
    let store = builder().open(path).unwrap();
    assert_before_or_after(&store, acknowledged);
    has_failed
}

/// The last batch that was not acknowledged is there as a whole, or not at all.
fn assert_before_or_after(store: &Store<RocksStorage>, acknowledged: u64) {
    let applied = store.apply_state(FIRST).applied_index.get() - 5;
    assert!((acknowledged..=acknowledged + 1).contains(&applied), "{applied} after {acknowledged}");
    let snapshot = store.meta().snapshot();
    assert_eq!(snapshot.validate(), []);
    let regions: Vec<_> = snapshot.regions().cloned().collect();
    assert!(covers_everything(&regions));
    let epochs = [(1, 1), (1, 2), (2, 2), (3, 2), (3, 3), (3, 3)];
    let (conf_ver, version) = epochs[applied as usize];
    assert_eq!(snapshot.get(FIRST).unwrap().region().epoch(), RegionEpoch::new(conf_ver, version));
    for number in 1..=ENTRIES {
        let data = store.storage().get(Family::Default, &host_key(5 + number)).unwrap();
        assert_eq!(data.is_some(), number <= applied, "the data of entry {number}, {applied} applied");
    }
}

/// How long the newest log is.
fn log_bytes(path: &Path) -> u64 {
    let logs = std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path());
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    std::fs::metadata(logs.max_by_key(number).unwrap()).unwrap().len()
}

fn limit_files_to(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}
