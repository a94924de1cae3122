//! The result: a short table, or one JSON object.

use std::fmt;
use std::time::Duration;

use regionmeta_batch::Store;
use regionmeta_batch::storage::RocksStorage;
use serde::Serialize;

use super::messages::{Percentiles, ServeStats};
use super::verify::Proof;

/// What the demo measured and proved. Field names are the JSON's and stay.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    seed: u64,
    /// Regions of the recovered store.
    regions: usize,
    seconds: f64,
    readers: usize,
    writers: usize,
    reads_per_sec: u64,
    read_ns: Percentiles,
    clock_ns: u64,
    /// Every read checks the epoch that came with its request; some of these were out of date.
    epoch_checks_per_sec: u64,
    stale_epochs: u64,
    changes_per_sec: u64,
    changes_per_commit_mean: f64,
    changes_per_commit_max: u64,
    /// Region versions, and the regions they are of: recovered plus lost.
    acknowledged: u64,
    acknowledged_regions: u64,
    recovered: u64,
    lost: u64,
    in_flight: u64,
    snapshots_checked: u64,
    violations: u64,
    recovery_ms: f64,
    /// RocksDB's own part: opening, and replaying its log.
    recovery_open_ms: f64,
    recovery_scan_ms: f64,
    recovery_repair_ms: f64,
    recovery_build_ms: f64,
    recovery_regions_per_sec: u64,
    stored_bytes_per_region: u64,
    descriptor_bytes_per_region: u64,
}

/// What the handle of a shared descriptor costs on top of its buffer: a reference count and a length.
const DESCRIPTOR_HEADER_BYTES: usize = 16;

impl Report {
    pub(super) fn new(
        seed: u64,
        served: &ServeStats,
        store: &Store<RocksStorage>,
        recovery_time: Duration,
        proof: &Proof,
    ) -> Self {
        let recovery = store.recovery();
        let regions = recovery.regions;
        let descriptor_bytes: usize =
            store.meta().snapshot().regions().map(|region| region.as_bytes().len() + DESCRIPTOR_HEADER_BYTES).sum();
        Self {
            seed,
            regions,
            seconds: served.seconds,
            readers: served.readers,
            writers: served.writers,
            reads_per_sec: rate(served.reads, served.seconds),
            read_ns: served.read_ns,
            clock_ns: served.clock_ns,
            epoch_checks_per_sec: rate(served.epochs_accepted + served.epochs_refused, served.seconds),
            stale_epochs: served.epochs_refused,
            changes_per_sec: rate(served.changes, served.seconds),
            changes_per_commit_mean: served.changes as f64 / served.commits.max(1) as f64,
            changes_per_commit_max: served.commit_changes_max,
            acknowledged: proof.acknowledged,
            acknowledged_regions: proof.acknowledged_regions,
            recovered: proof.recovered,
            lost: proof.lost,
            in_flight: proof.in_flight,
            snapshots_checked: served.snapshots_checked,
            violations: served.violations.count + proof.violations.count,
            recovery_ms: millis(recovery_time),
            recovery_open_ms: millis(recovery_time.saturating_sub(recovery.total_time())),
            recovery_scan_ms: millis(recovery.scan_time),
            recovery_repair_ms: millis(recovery.repair_time),
            recovery_build_ms: millis(recovery.build_time),
            recovery_regions_per_sec: rate(regions as u64, recovery_time.as_secs_f64()),
            stored_bytes_per_region: recovery.region_state_bytes / regions.max(1) as u64,
            descriptor_bytes_per_region: (descriptor_bytes / regions.max(1)) as u64,
        }
    }

    /// Whether every check held.
    pub(super) fn holds(&self) -> bool {
        let checked = self.recovered > 0 && self.snapshots_checked > 0 && self.epoch_checks_per_sec > 0;
        checked && self.lost == 0 && self.violations == 0
    }
}

fn rate(count: u64, seconds: f64) -> u64 {
    (count as f64 / seconds.max(1e-9)) as u64
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Percentiles { p50, p99, p999 } = self.read_ns;
        let mut row = |name: &str, value: String| writeln!(f, "{name:<22}{value}");
        row("regions", grouped(self.regions as u64))?;
        row(
            "reads",
            format!("{}/s by {} threads beside {} writers", grouped(self.reads_per_sec), self.readers, self.writers),
        )?;
        row("read latency", format!("p50 {p50} ns, p99 {p99} ns, p99.9 {p999} ns (the clock: {} ns)", self.clock_ns))?;
        row(
            "epoch checks",
            format!("{}/s, {} of a stale epoch", grouped(self.epoch_checks_per_sec), grouped(self.stale_epochs)),
        )?;
        row("changes", format!("{}/s, synced", grouped(self.changes_per_sec)))?;
        row(
            "changes a commit",
            format!("mean {:.1}, max {}", self.changes_per_commit_mean, self.changes_per_commit_max),
        )?;
        row("snapshots checked", grouped(self.snapshots_checked))?;
        let (versions, regions) = (grouped(self.acknowledged), grouped(self.acknowledged_regions));
        row("acknowledged", format!("{versions} versions of {regions} regions before kill -9"))?;
        row(
            "recovered",
            format!("{} regions, {} of them from commits in flight", grouped(self.recovered), grouped(self.in_flight)),
        )?;
        row("lost", grouped(self.lost))?;
        row("violations", grouped(self.violations))?;
        row("recovery", format!("{:.1} ms, {} regions/s", self.recovery_ms, grouped(self.recovery_regions_per_sec)))?;
        let phases = (self.recovery_scan_ms, self.recovery_repair_ms, self.recovery_build_ms);
        row("  RocksDB's part", format!("{:.1} ms", self.recovery_open_ms))?;
        row("  ours", format!("scan {:.1} ms, repair {:.1} ms, build {:.1} ms", phases.0, phases.1, phases.2))?;
        let bytes = (self.stored_bytes_per_region, self.descriptor_bytes_per_region);
        row("bytes a region", format!("{} stored, {} in memory without the indexes", bytes.0, bytes.1))?;
        row("seed", self.seed.to_string())
    }
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_groups() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn the_table_fits_into_100_columns() {
        let (count, millis) = (100_000_000, 100_000.5);
        let report = Report {
            seed: u64::MAX,
            regions: 10_000_000,
            seconds: 86_400.0,
            readers: 256,
            writers: 2,
            reads_per_sec: count,
            read_ns: Percentiles { p50: 1_000_000, p99: 100_000_000, p999: 10_000_000_000 },
            clock_ns: 1000,
            epoch_checks_per_sec: count,
            stale_epochs: u64::MAX,
            changes_per_sec: count,
            changes_per_commit_mean: 64.5,
            changes_per_commit_max: count,
            acknowledged: u64::MAX,
            acknowledged_regions: count,
            recovered: count,
            lost: count,
            in_flight: count,
            snapshots_checked: count,
            violations: u64::MAX,
            recovery_ms: millis,
            recovery_open_ms: millis,
            recovery_scan_ms: millis,
            recovery_repair_ms: millis,
            recovery_build_ms: millis,
            recovery_regions_per_sec: count,
            stored_bytes_per_region: count,
            descriptor_bytes_per_region: count,
        };
        for line in report.to_string().lines() {
            assert!(line.len() <= 100, "{} columns: {line}", line.len());
        }
    }
}
