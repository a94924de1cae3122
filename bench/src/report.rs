//! What a comparison found, as data and as a table.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::goals::{Goal, HEADING};
use crate::tasks::Role;

/// Numbers by contender.
pub type ByName = BTreeMap<&'static str, f64>;

/// All answers of one run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Regions in each map.
    pub regions: usize,
    /// The time budget.
    pub seconds: f64,
    /// The seed of the work.
    pub seed: u64,
    /// Each question's answer, by the question's name.
    #[serde(flatten)]
    pub answers: BTreeMap<&'static str, Answer>,
    /// What was asked for, and what of it this run has reached.
    pub goals: Vec<Goal>,
    /// The questions, in the order they were asked.
    #[serde(skip)]
    pub order: Vec<&'static str>,
}

/// The answer to one question. Every number is a cost: less is better.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Answer {
    /// What the numbers count.
    pub unit: &'static str,
    /// This project's median.
    pub ours: Option<f64>,
    /// Medians of this project used in other ways.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variants: ByName,
    /// The peers' medians.
    pub peers: ByName,
    /// The median of what cannot be beaten.
    pub limit: Option<f64>,
    /// Everyone's median over ours: above 1, ours is better. The limit's is under the name `limit`.
    pub ratios: ByName,
    /// Everyone's best round. On a busy machine it says more than the median.
    pub best: ByName,
    /// Everyone's best round over ours, as in `ratios`.
    pub best_ratios: ByName,
    /// Every round's number, by contender, in the order they were measured.
    pub rounds: BTreeMap<&'static str, Vec<f64>>,
    /// One thread's median over this one's, by contender: how much a second thread brings.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub scaling: ByName,
    /// The 99th percentile of single look-ups in nanoseconds, the reading of the clock included.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub p99_ns: ByName,
    /// Keys that seemed to have no region, out of all that were looked up.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub misses: BTreeMap<&'static str, u64>,
    /// Changes published per second meanwhile.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub published_per_second: ByName,
    #[serde(skip)]
    shown: Vec<&'static str>,
    #[serde(skip)]
    limit_name: Option<&'static str>,
}

impl Answer {
    /// An answer without numbers.
    #[must_use]
    pub fn new(unit: &'static str) -> Self {
        Self { unit, ..Self::default() }
    }

    /// Adds a contender's numbers, one for each round.
    pub fn add(&mut self, name: &'static str, role: Role, rounds: Vec<f64>) {
        let median = median(&rounds);
        self.best.insert(name, rounds.iter().copied().fold(f64::INFINITY, f64::min));
        if role == Role::Limit {
            self.limit_name = Some(name);
        }
        match role {
            Role::Ours => self.ours = Some(median),
            Role::Limit => self.limit = Some(median),
            Role::Variant => drop(self.variants.insert(name, median)),
            Role::Peer => drop(self.peers.insert(name, median)),
        }
        self.rounds.insert(name, rounds);
        self.shown.push(name);
        self.update_ratios();
    }

    /// A contender's median.
    #[must_use]
    pub fn median_of(&self, name: &str) -> Option<f64> {
        self.rounds.get(name).map(|rounds| median(rounds))
    }

    fn update_ratios(&mut self) {
        let Some((ours, best)) = self.ours.zip(self.best.get("ours").copied()) else { return };
        for &name in self.shown.iter().filter(|&&name| name != "ours") {
            let label = if self.limit_name == Some(name) { "limit" } else { name };
            if let Some((median, lowest)) = self.median_of(name).zip(self.best.get(name)) {
                self.ratios.insert(label, median / ours);
                self.best_ratios.insert(label, lowest / best);
            }
        }
    }
}

/// The middle number; the mean of the two middle ones if there are two. 0 if there is none.
#[must_use]
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |place: usize| sorted.get(place).copied().unwrap_or(0.0);
    if sorted.is_empty() { 0.0 } else { (at((sorted.len() - 1) / 2) + at(sorted.len() / 2)) / 2.0 }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} regions, {} s, seed {:#x}; a ratio above 1 means that ours is better",
            self.regions, self.seconds, self.seed
        )?;
        for question in &self.order {
            if let Some(answer) = self.answers.get(question) {
                writeln!(f, "\n{question} ({})", answer.unit)?;
                fmt::Display::fmt(answer, f)?;
            }
        }
        writeln!(f, "\ngoals\n{HEADING}")?;
        self.goals.iter().try_for_each(|goal| writeln!(f, "{goal}"))
    }
}

/// One line a contender: median and best round, each with its ratio to ours, and what else was counted.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let best_of_ours = self.best.get("ours").copied();
        let over = |number: f64, ours: Option<f64>| ours.map_or(f64::NAN, |ours| number / ours);
        for &name in &self.shown {
            let (median, best) = (self.median_of(name).unwrap_or(0.0), self.best.get(name).copied().unwrap_or(0.0));
            let (ratio, best_ratio) = (over(median, self.ours), over(best, best_of_ours));
            write!(f, "  {name:<17}{median:>12.1} {ratio:>8.2}x  best {best:>12.1} {best_ratio:>8.2}x")?;
            self.fmt_extras(name, f)?;
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Answer {
    fn fmt_extras(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scaling) = self.scaling.get(name) {
            write!(f, "  {scaling:.2}x one thread")?;
        }
        if let Some(p99) = self.p99_ns.get(name) {
            write!(f, "  p99 {p99:.0} ns")?;
        }
        if let Some(misses) = self.misses.get(name) {
            write!(f, "  {misses} misses")?;
        }
        if let Some(published) = self.published_per_second.get(name) {
            write!(f, "  {published:.0} changes/s")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[9.0, 1.0, 2.0, 4.0]), 3.0);
    }

    #[test]
    fn ratios_are_costs_over_ours_whoever_comes_first() {
        let mut answer = Answer::new("ns");
        answer.add("mutex", Role::Peer, vec![40.0]);
        answer.add("ours", Role::Ours, vec![11.0, 10.0, 2.0]);
        answer.add("static_tree", Role::Limit, vec![5.0]);
        assert_eq!(answer.ratios, ByName::from([("mutex", 4.0), ("limit", 0.5)]));
        assert_eq!(answer.best_ratios, ByName::from([("mutex", 20.0), ("limit", 2.5)]));
        let json = serde_json::to_value(&answer).unwrap();
        assert_eq!((&json["ours"], &json["peers"]["mutex"], &json["limit"]), (&10.0.into(), &40.0.into(), &5.0.into()));
        assert!(json.get("misses").is_none());
    }
}
