//! The churn as a person runs it: its exit code and its JSON. What it finds in memory is real, only shorter than usual.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::process::Command;

use serde_json::Value;

#[test]
fn a_churned_map_has_no_more_in_use_than_a_fresh_one() {
    let arguments = ["churn", "--regions", "2000", "--changes", "20000", "--json"];
    let output = Command::new(env!("CARGO_BIN_EXE_regionmeta-perf")).args(arguments).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{report}");
    for positive in ["changes_per_sec", "snapshots_held", "bytes_before", "bytes_after", "index_bytes_fresh"] {
        assert!(report[positive].as_f64().unwrap() > 0.0, "{positive} in {report}");
    }
    assert!(report["retained_percent"].as_f64().unwrap() <= 5.0, "{report}");
    assert!(report["bytes_peak"].as_u64() > report["bytes_before"].as_u64(), "{report}");
}
