//! Every point x every command with kill -9, on real RocksDB (T4): a process of its own applies the command, and kills itself
//! when it comes to the point.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use fail::FailScenario;
use regionmeta_batch::FailPoint;
use regionmeta_batch::storage::{Durability, RocksStorage};
use rustix::process::{Signal, getpid, kill_process};
use tempfile::TempDir;

use crate::alone;
use crate::cases::{self, CASES, Case};
use crate::common::builder;
use crate::points::{before_and_after, is_written_at, prepared, reopened, run};

const CHILD_CASE: &str = "REGIONMETA_TEST_FAILPOINT";
const CHILD_DIRECTORY: &str = "REGIONMETA_TEST_DIRECTORY";

/// Not a test of its own: runs a case on RocksDB and kills itself at a point.
#[test]
#[ignore = "plays the process that is killed"]
fn child() {
    let (Ok(case), Ok(directory)) = (std::env::var(CHILD_CASE), std::env::var(CHILD_DIRECTORY)) else { return };
    let (case, point) = case.rsplit_once(' ').unwrap();
    let store = builder().open(&directory).unwrap();
    let _scenario = FailScenario::setup();
    fail::cfg_callback(point, || kill_process(getpid(), Signal::KILL).unwrap()).unwrap();
    drop(run(store, cases::in_the_middle(case)));
}

#[test]
fn every_point_and_every_command_with_kill_9_on_rocksdb() {
    let names: Vec<_> = CASES.into_iter().chain(["five changes"]).collect();
    let expected: Vec<_> = {
        let _alone = alone();
        names.iter().map(|name| before_and_after(cases::in_the_middle(name))).collect()
    };
    let cases: Vec<_> = names.into_iter().map(cases::in_the_middle).zip(expected).collect();
    // The points are the children's, so the parent may have several at a time.
    std::thread::scope(|scope| {
        for half in cases.chunks(cases.len().div_ceil(2)) {
            scope.spawn(move || {
                for (case, expected) in half {
                    kill_at_every_point(*case, expected);
                }
            });
        }
    });
}

fn kill_at_every_point(case: Case, expected: &(crate::common::Dump, crate::common::Dump)) {
    let root = TempDir::new().unwrap();
    let before = root.path().join("before");
    drop(prepared(RocksStorage::create(&before, Durability::Synced).unwrap(), case));
    for point in FailPoint::ALL {
        let what = format!("{} at {} with kill -9", case.name, point.name());
        let path = root.path().join("store");
        copy(&before, &path);
        kill_at(case, point, &path);
        let storage = RocksStorage::open(&path, Durability::Synced).unwrap();
        assert_eq!(reopened(storage, expected, &what), is_written_at(point), "{what}");
        std::fs::remove_dir_all(&path).unwrap();
    }
}

/// A store that was closed is its files.
fn copy(from: &Path, to: &Path) {
    let mut cp = Command::new("cp");
    assert!(cp.arg("-a").arg(from).arg(to).status().unwrap().success());
}

fn kill_at(case: Case, point: FailPoint, path: &Path) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "killed::child", "--ignored", "--test-threads=1", "--quiet"]);
    child.env(CHILD_CASE, format!("{} {}", case.name, point.name())).env(CHILD_DIRECTORY, path);
    let output = child.output().unwrap();
    assert_eq!(output.status.signal(), Some(9), "{} never came to {}: {output:?}", case.name, point.name());
}
