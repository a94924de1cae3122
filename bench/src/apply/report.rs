//! What a run has found: rates, ratios, stages; as JSON, or as a table for people.

use std::fmt;

use serde::Serialize;

use super::{Settings, Stages, Way};

/// The median rate of one way.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// Whether every batch was synced.
    pub synced: bool,
    /// Changes in a batch.
    pub batch: usize,
    /// Workers of the pipeline; 0 for raw writes.
    pub workers: usize,
    /// Changes a second, the median of all rounds.
    pub changes_per_s: f64,
    /// The slowest and the fastest round.
    pub range: [f64; 2],
    /// Against raw writes of the same batch size and durability.
    pub to_raw: f64,
    /// Against the pipeline with one change a batch and the same durability.
    pub to_one_a_batch: f64,
}

/// The whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Regions in the store.
    pub regions: usize,
    /// Rounds.
    pub rounds: usize,
    /// Every way.
    pub measured: Vec<Measured>,
    /// Where the time of a change goes.
    pub stages: Stages,
}

impl Report {
    pub(super) fn new(settings: &Settings, ways: Vec<Way>, rates: Vec<Vec<f64>>, stages: Stages) -> Self {
        let medians: Vec<_> = ways.into_iter().zip(rates).map(|(way, rates)| (way, sorted(rates))).collect();
        let rate_of = |synced, batch, workers| {
            let found = medians.iter().find(|(way, _)| *way == Way { synced, batch, workers });
            found.map_or(f64::NAN, |(_, rates)| median(rates))
        };
        let measured = medians.iter().map(|(way, rates)| {
            let Way { synced, batch, workers } = *way;
            let changes_per_s = median(rates);
            Measured {
                synced,
                batch,
                workers,
                changes_per_s,
                range: [rates.first().copied().unwrap_or(f64::NAN), rates.last().copied().unwrap_or(f64::NAN)],
                to_raw: changes_per_s / rate_of(synced, batch, 0),
                to_one_a_batch: changes_per_s / rate_of(synced, 1, 1),
            }
        });
        Self { regions: settings.regions, rounds: settings.rounds, measured: measured.collect(), stages }
    }
}

fn sorted(mut rates: Vec<f64>) -> Vec<f64> {
    rates.sort_by(f64::total_cmp);
    rates
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} regions, medians of {} rounds; a change is two records", self.regions, self.rounds)?;
        writeln!(
            f,
            "{:<9} {:>6} {:<12} {:>12} {:>8} {:>16}",
            "", "batch", "", "changes/s", "to raw", "to one a batch"
        )?;
        for way in &self.measured {
            let synced = if way.synced { "synced" } else { "unsynced" };
            let who = match way.workers {
                0 => "raw RocksDB".to_owned(),
                1 => "1 worker".to_owned(),
                workers => format!("{workers} workers"),
            };
            let Measured { batch, changes_per_s, to_raw, to_one_a_batch, .. } = way;
            writeln!(f, "{synced:<9} {batch:>6} {who:<12} {changes_per_s:>12.0} {to_raw:>8.2} {to_one_a_batch:>16.1}")?;
        }
        let Stages { batch, transition_ns, encode_ns, batch_ns, write_ns, publish_ns, answer_ns, whole_ns, rest_ns } =
            self.stages;
        writeln!(f, "where a change of an unsynced batch of {batch} spends its {whole_ns:.0} ns:")?;
        writeln!(
            f,
            "  transition {transition_ns:.0}, encode {encode_ns:.0}, batch {batch_ns:.0}, write {write_ns:.0}"
        )?;
        writeln!(f, "  publish {publish_ns:.0}, answer {answer_ns:.0}, mailboxes and bookkeeping {rest_ns:.0}")
    }
}
