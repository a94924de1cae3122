//! Heartbeats of a store: what they say, when they go, and what a storm does to them.

use std::time::Duration;

use regionmeta_batch::pd::HeartbeatSettings;
use regionmeta_batch::pd::storm::{self, StormSettings};

use crate::common::{seeded, setting};

/// T23: I16, a bounded queue, a bounded rate, few connects.
#[test]
fn a_storm_takes_nothing_back_and_piles_nothing_up() {
    let (seed, _) = seeded("a_storm_takes_nothing_back_and_piles_nothing_up");
    let settings = StormSettings {
        regions: setting("REGIONMETA_REGIONS", 10_000) as usize,
        phase: Duration::from_secs(90),
        changes: 20,
        heartbeats: HeartbeatSettings { rate_per_s: 2_000, burst: 500, ..HeartbeatSettings::default() },
        seed,
    };
    let report = storm::run(&settings).unwrap();
    println!("{report:?}");
    assert!(report.counts.sent > 50_000 && report.counts.failures > 20, "{report:?}");
    assert!(report.counts.invalid > 100 && report.counts.refused > 1_000, "{report:?}");
}
