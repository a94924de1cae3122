//! Heartbeats into the embedded placement driver, in this process and on one thread, beside a locked map of clones.
//!
//! Both take in the very same heartbeats in the same random order, interleaved, and the maps are compared at the end. What a
//! wire would add is left out; a copy stands for a descriptor that came over one.

mod mutex_clone;

use std::fmt;
use std::time::Instant;

use regionmeta::{Region, RegionDraft, StoreId};
use regionmeta_batch::pd::{EmbeddedPd, Flow, Interval, PdClient, RegionHeartbeat, StoreInfo};
use serde::Serialize;

pub use self::mutex_clone::MutexClone;
use crate::contenders::ours::Ours;
use crate::map::{Failure, RegionMap};
use crate::model::Model;
use crate::workload::Layout;

/// Why a measurement ended.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Regions, each of which sends one heartbeat in each measurement.
    pub regions: usize,
    /// Rounds; the report has their medians.
    pub rounds: usize,
    /// Of the regions and of the order of heartbeats.
    pub seed: u64,
}

/// What a heartbeat says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nothing but traffic, and the descriptor is the one that the driver has.
    Unchanged,
    /// The same, in a copy of the descriptor.
    UnchangedCopy,
    /// The membership has changed.
    Changed,
}

const KINDS: [Kind; 3] = [Kind::Unchanged, Kind::UnchangedCopy, Kind::Changed];

/// Heartbeats of one kind.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// What they said.
    pub kind: Kind,
    /// Heartbeats a second into the embedded driver, the median of all rounds.
    pub per_s: f64,
    /// The slowest and the fastest round.
    pub range: [f64; 2],
    /// Heartbeats a second into the locked map of clones.
    pub mutex_clone_per_s: f64,
    /// Against that, the median of the rounds' own ratios.
    pub ratio: f64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Regions.
    pub regions: usize,
    /// Rounds.
    pub rounds: usize,
    /// One for each kind.
    pub measured: Vec<Measured>,
}

/// Measures every kind, both drivers in turn.
///
/// # Errors
/// If a heartbeat is refused, or the drivers end with different regions.
pub fn run(settings: &Settings, progress: &mut dyn FnMut(&str)) -> Result<Report, Error> {
    progress(&format!("two drivers of {} regions", settings.regions));
    let mut bed = Bed::new(settings)?;
    let mut rates = [(); KINDS.len()].map(|()| Vec::new());
    for round in 1..=settings.rounds {
        progress(&format!("round {round} of {}", settings.rounds));
        for (kind, rates) in KINDS.into_iter().zip(&mut rates) {
            rates.push(bed.measure(kind, round % 2 == 0)?);
        }
    }
    bed.compare()?;
    let measured = KINDS.into_iter().zip(rates).map(|(kind, rates)| Measured::new(kind, &rates)).collect();
    Ok(Report { regions: settings.regions, rounds: settings.rounds, measured })
}

impl Measured {
    fn new(kind: Kind, rates: &[(f64, f64)]) -> Self {
        let ours = sorted(rates.iter().map(|rates| rates.0));
        let ends = [ours.first(), ours.last()].map(|rate| rate.copied().unwrap_or(f64::NAN));
        Self {
            kind,
            per_s: median(&ours),
            range: ends,
            mutex_clone_per_s: median(&sorted(rates.iter().map(|rates| rates.1))),
            ratio: median(&sorted(rates.iter().map(|rates| rates.0 / rates.1))),
        }
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

struct Bed {
    ours: EmbeddedPd,
    theirs: MutexClone,
    /// What the regions have reported last, in the order in which they report.
    sent: Vec<RegionHeartbeat>,
}

impl Bed {
    fn new(settings: &Settings) -> Result<Self, Error> {
        let (ours, sent) = driver(settings)?;
        let bed = Self { ours, theirs: MutexClone::default(), sent };
        bed.tell_ours(&bed.sent)?;
        bed.tell_theirs(&bed.sent)?;
        Ok(bed)
    }

    /// Heartbeats a second, into ours and into theirs.
    fn measure(&mut self, kind: Kind, theirs_first: bool) -> Result<(f64, f64), Error> {
        let said: Vec<_> = self.sent.iter().map(|sent| next(sent, kind)).collect::<Result<_, _>>()?;
        let first = if theirs_first { self.tell_theirs(&said)? } else { self.tell_ours(&said)? };
        let second = if theirs_first { self.tell_ours(&said)? } else { self.tell_theirs(&said)? };
        if kind == Kind::Changed {
            self.sent = said;
        }
        Ok(if theirs_first { (second, first) } else { (first, second) })
    }

    fn tell_ours(&self, said: &[RegionHeartbeat]) -> Result<f64, Error> {
        let started = Instant::now();
        for heartbeat in said {
            self.ours.heartbeat(heartbeat)?;
        }
        Ok(said.len() as f64 / started.elapsed().as_secs_f64())
    }

    fn tell_theirs(&self, said: &[RegionHeartbeat]) -> Result<f64, Error> {
        let started = Instant::now();
        let refused = said.iter().filter(|heartbeat| !self.theirs.take_in(heartbeat)).count();
        let rate = said.len() as f64 / started.elapsed().as_secs_f64();
        if refused == 0 { Ok(rate) } else { Err(format!("the locked map refused {refused} heartbeats").into()) }
    }

    fn compare(&self) -> Result<(), Error> {
        let snapshot = self.ours.regions().snapshot();
        let ours = (snapshot.len(), snapshot.regions().map(|region| region.epoch().conf_ver).sum());
        let led = self.ours.get_region(b"")?.is_none_or(|first| first.leader.is_some());
        match ours == self.theirs.summary() && led {
            true => Ok(()),
            false => Err(format!("the drivers disagree: {ours:?} and {:?}", self.theirs.summary()).into()),
        }
    }
}

/// A driver that knows every region, and the first heartbeat of each, in random order. The driver has not heard them.
///
/// # Errors
/// If the regions are not what a driver takes.
pub fn driver(settings: &Settings) -> Result<(EmbeddedPd, Vec<RegionHeartbeat>), Error> {
    let layout = Layout::new(settings.regions, settings.seed);
    let mut regions = Vec::with_capacity(settings.regions);
    Model::new(&layout).try_for_each(|spec| {
        regions.push(Ours::record(&spec)?);
        Ok::<_, Failure>(())
    })?;
    let mut stores: Vec<StoreId> = regions.iter().flat_map(Region::peers).map(|peer| peer.store_id).collect();
    stores.sort();
    stores.dedup();
    let stores = stores.into_iter().map(|id| StoreInfo { id, address: String::new() });
    let ours = EmbeddedPd::resume(7.into(), regions.iter().cloned(), stores, 0)?;
    let mut sent = regions.into_iter().map(heartbeat).collect::<Result<Vec<_>, _>>()?;
    fastrand::Rng::with_seed(settings.seed).shuffle(&mut sent);
    Ok((ours, sent))
}

fn heartbeat(region: Region) -> Result<RegionHeartbeat, Error> {
    let leader = region.peers().next().ok_or("a region without peers")?;
    Ok(RegionHeartbeat {
        region,
        leader,
        term: 6.into(),
        down_peers: Vec::new(),
        pending_peers: Vec::new(),
        flow: Flow::default(),
        interval: Interval::default(),
        size_bytes: 64 << 20,
        keys: 1_000_000,
        replication: None,
    })
}

/// What a region says after what it has said last.
///
/// # Errors
/// If its epoch has come to an end.
pub fn next(sent: &RegionHeartbeat, kind: Kind) -> Result<RegionHeartbeat, Error> {
    let region = match kind {
        Kind::Unchanged => sent.region.clone(),
        Kind::UnchangedCopy => Region::from_bytes(sent.region.as_bytes())?,
        Kind::Changed => {
            let epoch = sent.region.epoch().with_conf_ver_moved(1)?;
            RegionDraft { epoch, ..sent.region.to_draft() }.build()?
        }
    };
    let flow = Flow { written_bytes: 1 << 20, written_keys: 1_000, ..sent.flow };
    Ok(RegionHeartbeat { region, flow, ..sent.clone() })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} regions, medians of {} rounds, one thread", self.regions, self.rounds)?;
        writeln!(f, "{:<16} {:>14} {:>18} {:>8}", "heartbeats/s", "embedded PD", "mutex and clone", "ratio")?;
        for Measured { kind, per_s, mutex_clone_per_s, ratio, .. } in &self.measured {
            let kind = match kind {
                Kind::Unchanged => "unchanged",
                Kind::UnchangedCopy => "unchanged, copy",
                Kind::Changed => "changed",
            };
            writeln!(f, "{kind:<16} {per_s:>14.0} {mutex_clone_per_s:>18.0} {ratio:>8.2}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_drivers_end_with_the_same_regions() {
        let report = run(&Settings { regions: 1_000, rounds: 2, seed: 7 }, &mut |_| ()).unwrap();
        assert_eq!(report.measured.len(), KINDS.len());
    }
}
