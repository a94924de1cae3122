//! The demo as a person runs it: its exit code, its JSON, and what it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_regionmeta-perf")).arg("demo").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn number(report: &Value, name: &str) -> u64 {
    report[name].as_f64().unwrap_or_else(|| panic!("{name} is missing in {report}")) as u64
}

#[test]
fn a_killed_store_comes_back_whole_and_the_report_says_so() {
    let parent = tempfile::tempdir().unwrap();
    let store = parent.path().join("store");
    let output = demo(&[
        "--regions",
        "700",
        "--seconds",
        "1",
        "--json",
        "--keep",
        "--seed",
        "7",
        "--dir",
        store.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(number(&report, "regions") >= 700);
    for positive in [
        "reads_per_sec",
        "epoch_checks_per_sec",
        "stale_epochs",
        "changes_per_sec",
        "acknowledged",
        "recovered",
        "recovery_ms",
        "recovery_regions_per_sec",
    ] {
        assert!(number(&report, positive) > 0, "{positive} in {report}");
    }
    let (recovered, lost) = (number(&report, "recovered"), number(&report, "lost"));
    assert_eq!(recovered + lost, number(&report, "acknowledged_regions"), "{report}");
    assert!(number(&report, "acknowledged") > number(&report, "acknowledged_regions"), "{report}");
    for zero in ["lost", "violations"] {
        assert_eq!(number(&report, zero), 0, "{zero} in {report}");
    }
    for percentile in ["p50", "p99", "p999"] {
        assert!(number(&report["read_ns"], percentile) > 0, "{percentile} in {report}");
    }
    assert!(store.join("CURRENT").exists(), "--keep keeps the store");
}

#[test]
fn without_keep_nothing_is_left() {
    let parent = tempfile::tempdir().unwrap();
    let store = parent.path().join("store");
    let output = demo(&["--regions", "1", "--seconds", "1", "--dir", store.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.contains("violations            0") && table.contains("lost                  0"), "{table}");
    assert!(!store.exists());
}

/// A demo that fails keeps its store, which is the evidence: here its child is killed by somebody else, too early.
#[test]
fn a_demo_that_fails_keeps_its_store() {
    let temporary = tempfile::tempdir().unwrap();
    let given = temporary.path().join("given");
    for directory in [&["--dir", given.to_str().unwrap()][..], &[]] {
        let mut demo = Command::new(env!("CARGO_BIN_EXE_regionmeta-perf"));
        demo.args(["demo", "--regions", "500", "--seconds", "600", "--seed", "8"]).args(directory);
        let demo = demo.env("TMPDIR", temporary.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        kill_child_of(&demo, temporary.path());
        let output = demo.wait_with_output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("ended before it was killed") && message.contains("the seed was 8"), "{message}");
        let kept = message.lines().find_map(|line| line.strip_prefix("the store is in ")).unwrap();
        assert!(kept.starts_with(temporary.path().to_str().unwrap()) && Path::new(kept).join("CURRENT").exists());
    }
}

/// Kills the demo's child once there is a store below the directory.
fn kill_child_of(demo: &Child, directory: &Path) {
    let stores =
        || listing(directory).iter().flat_map(|name| [name.clone(), format!("{name}/store")]).collect::<Vec<_>>();
    let before: Vec<_> = stores().into_iter().filter(|store| directory.join(store).join("CURRENT").exists()).collect();
    let is_new = |store: &String| !before.contains(store) && directory.join(store).join("CURRENT").exists();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !stores().iter().any(is_new) {
        assert!(Instant::now() < deadline, "the demo makes no store");
        std::thread::sleep(Duration::from_millis(10));
    }
    let children = format!("/proc/{0}/task/{0}/children", demo.id());
    let child = std::fs::read_to_string(children).unwrap();
    assert!(Command::new("kill").args(["-9", child.trim()]).status().unwrap().success());
}

/// A shell that runs the binary with files of at most so many blocks: a disk that is full, as far as a writer can tell.
fn with_small_files(blocks: &str) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    shell.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_regionmeta-perf")]);
    shell
}

#[test]
fn a_writer_that_fails_while_the_demo_serves_ends_it_at_once() {
    let parent = tempfile::tempdir().unwrap();
    let store = parent.path().join("store");
    let mut demo = with_small_files("4000");
    let started = Instant::now();
    let output = demo.args(["demo", "--regions", "50", "--seconds", "600", "--dir"]).arg(&store).output().unwrap();
    assert!(started.elapsed() < Duration::from_secs(300), "it served on without a writer");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the child failed: cannot write"), "{}", text(&output.stderr));
    assert!(store.join("CURRENT").exists());
}

/// After serving the writers go on until the kill. A failure there ended nothing but its own thread.
#[test]
fn a_writer_that_fails_before_the_kill_ends_the_child() {
    let parent = tempfile::tempdir().unwrap();
    let mut child = with_small_files("unlimited");
    child
        .args(["demo-child", "--regions", "50", "--seconds", "1", "--seed", "9", "--dir"])
        .arg(parent.path().join("s"));
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("served ")));
    let limit = Command::new("prlimit").args(["--fsize=1", "--pid", &child.id().to_string()]).status().unwrap();
    assert!(limit.success());
    assert!(lines.any(|line| line.starts_with("failed cannot write")));
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn what_the_demo_refuses_it_leaves_alone() {
    let full = tempfile::tempdir().unwrap();
    std::fs::write(full.path().join("precious"), "data").unwrap();
    let file = full.path().join("precious");
    let missing = full.path().join("no").join("such").join("parent");
    for (directory, why) in
        [(full.path(), "is not empty"), (&file, "Not a directory"), (missing.as_path(), "No such file")]
    {
        let output = demo(&["--regions", "10", "--seconds", "1", "--dir", directory.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
    assert_eq!(listing(full.path()), ["precious"]);
    for usage in [["--regions", "0"], ["--seconds", "0"], ["--regions", "many"]] {
        assert_eq!(demo(&usage).status.code(), Some(2), "{usage:?}");
    }
}

fn listing(directory: &Path) -> Vec<String> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
