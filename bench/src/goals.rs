//! The goals that the project has set itself, held against one run's report, so that nobody has to compute ratios by hand.
//!
//! Nothing here fails a run: a goal that was missed is a line of the table. "Mutex" is the peer that does what TiKV's
//! `StoreMeta` does; the limit of look-ups is the static tree, of snapshots a bare `ArcSwap`.

use std::fmt;

use serde::Serialize;

use crate::report::{Answer, Report};

/// One goal and what a run has reached of it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Goal {
    /// What is meant.
    pub name: &'static str,
    /// Which side of `must` and `aim` is the good one.
    pub good: Good,
    /// What must be reached at this size; `None` if nothing is asked for here.
    pub must: Option<f64>,
    /// What we aim at.
    pub aim: Option<f64>,
    /// What the medians of this run say; `None` if a contender did not take part, or if it takes several runs to tell.
    pub reached: Option<f64>,
    /// The same by everyone's best round, which says more on a busy machine.
    pub reached_by_best: Option<f64>,
    /// Whether the medians reach what they must.
    pub met: Option<bool>,
    /// Whether they reach the aim as well.
    pub aim_met: Option<bool>,
}

/// Which numbers reach a goal. The goal itself does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Good {
    /// The goal and everything above.
    More,
    /// The goal and everything below.
    Less,
}

/// A number for each of 1,000, 100,000 and 1,000,000 regions. A map of another size is held against the nearest of them.
type BySize = [Option<f64>; 3];

const UNSAID: BySize = [None; 3];

const fn sizes(small: f64, medium: f64, large: f64) -> BySize {
    [Some(small), Some(medium), Some(large)]
}

const fn always(number: f64) -> BySize {
    sizes(number, number, number)
}

const fn at_a_million(number: f64) -> BySize {
    [None, None, Some(number)]
}

/// A goal as it was set.
struct Wish {
    name: &'static str,
    good: Good,
    must: BySize,
    aim: BySize,
    reached: fn(&Run<'_>) -> Option<f64>,
}

const fn more(name: &'static str, must: BySize, aim: BySize, reached: fn(&Run<'_>) -> Option<f64>) -> Wish {
    Wish { name, good: Good::More, must, aim, reached }
}

const fn less(name: &'static str, must: BySize, aim: BySize, reached: fn(&Run<'_>) -> Option<f64>) -> Wish {
    Wish { name, good: Good::Less, must, aim, reached }
}

/// What only reports of several sizes, or of something else than a comparison, can tell.
const NOT_HERE: fn(&Run<'_>) -> Option<f64> = |_| None;

/// All of them, in the order in which they were set.
const WISHES: [Wish; 34] = [
    more("lookup, mutex over ours", sizes(4.0, 6.0, 6.0), sizes(5.0, 8.0, 8.0), |run| run.times("lookup", "mutex")),
    less("lookup, ours over limit", sizes(2.0, 1.5, 1.5), sizes(1.8, 1.25, 1.2), |run| {
        run.over("lookup", "static_tree")
    }),
    more("lookup, fastest concurrent peer over ours", always(1.0), UNSAID, |run| run.times_fastest("lookup")),
    more("lookup, sorted array over ours", always(1.8), UNSAID, |run| run.times("lookup", "sorted_array")),
    more("zipfian, mutex over ours", sizes(4.0, 6.0, 6.0), sizes(5.0, 8.0, 8.0), |run| {
        run.times("lookup_zipf", "mutex")
    }),
    less("zipfian, ours over limit", sizes(2.0, 1.5, 1.5), sizes(1.8, 1.25, 1.2), |run| {
        run.over("lookup_zipf", "static_tree")
    }),
    more("zipfian, fastest concurrent peer over ours", always(1.0), UNSAID, |run| run.times_fastest("lookup_zipf")),
    more("zipfian, sorted array over ours", always(1.8), UNSAID, |run| run.times("lookup_zipf", "sorted_array")),
    more("16 in flight, mutex over ours", sizes(6.0, 15.0, 18.0), sizes(9.0, 20.0, 24.0), |run| {
        run.times("lookup_batched", "mutex")
    }),
    more("two threads, mutex over ours", always(12.0), UNSAID, |run| run.times("lookup_two_threads", "mutex")),
    more("two threads over one", always(1.9), UNSAID, |run| {
        Some(run.cost("lookup", "ours")? / run.cost("lookup_two_threads", "ours")?)
    }),
    more("beside a writer, mutex over ours", at_a_million(7.0), at_a_million(10.0), |run| {
        run.times("lookup_with_writer", "mutex")
    }),
    less("beside a writer, p99, us", sizes(1.5, 2.0, 3.0), UNSAID, |run| {
        run.answer("lookup_with_writer")?.p99_ns.get("ours").map(|ns| ns / 1e3)
    }),
    less("beside a writer, keys missed", always(0.0), UNSAID, |run| {
        run.answer("lookup_with_writer")?.misses.get("ours").map(|&misses| misses as f64)
    }),
    more("get, mutex over ours", always(2.0), sizes(3.0, 2.3, 2.5), |run| run.times("get", "mutex")),
    more("get, DashMap over ours", always(1.0), UNSAID, |run| run.times("get", "dashmap")),
    more("get, papaya over ours", always(1.0), UNSAID, |run| run.times("get", "papaya")),
    less("snapshot, ours over an ArcSwap load", always(1.5), UNSAID, |run| run.over("snapshot", "arc_swap")),
    less("snapshot, 10,000,000 regions over 1,000", UNSAID, UNSAID, NOT_HERE),
    less("count of about 100, in look-ups", at_a_million(3.0), UNSAID, |run| run.in_lookups("count_100")),
    less("count of about 10,000, in look-ups", at_a_million(3.0), UNSAID, |run| run.in_lookups("count_10000")),
    less("count of half of all, in look-ups", at_a_million(3.0), UNSAID, |run| run.in_lookups("count_half")),
    less("publish a split, us", at_a_million(7.0), at_a_million(5.0), |run| run.us("publish_split")),
    less("publish a conf change, us", at_a_million(4.2), at_a_million(3.0), |run| run.us("publish_conf_change")),
    more("a change in 256, mutex over ours", always(1.0), UNSAID, |run| run.times("publish_batch_256", "mutex")),
    less("publish a split, 1,000,000 over 1,000", always(10.0), always(6.0), NOT_HERE),
    less("publish a split, 10,000,000 over 1,000,000", always(2.0), UNSAID, NOT_HERE),
    less("publish a conf change, 1,000,000 over 1,000", always(10.0), always(6.0), NOT_HERE),
    less("publish a conf change, 10,000,000 over 1,000,000", always(2.0), UNSAID, NOT_HERE),
    more("bulk build, inserting over ours", always(3.0), UNSAID, |run| run.times("bulk_build", "ours_by_inserting")),
    less("bytes, ours over mutex", at_a_million(0.4), UNSAID, |run| run.over("bytes_per_region", "mutex")),
    less("bytes of the index a region", at_a_million(40.0), UNSAID, |run| run.cost("index_bytes_per_region", "ours")),
    less("bytes kept after 10,000,000 publishes", always(0.0), UNSAID, NOT_HERE),
    more("scan of 100, mutex over ours", UNSAID, UNSAID, |run| run.times("scan_100", "mutex")),
];

/// Those that many threads can use while somebody writes.
const CONCURRENT: [&str; 6] = ["mutex", "rwlock", "tokio", "skip_map", "tree_index", "imbl"];

/// The goals and what a report says of each.
#[must_use]
pub fn goals(report: &Report) -> Vec<Goal> {
    let by_median = Run { report, cost_of: Answer::median_of };
    let by_best = Run { report, cost_of: |answer, name| answer.best.get(name).copied() };
    WISHES.iter().map(|wish| wish.held_against(&by_median, &by_best)).collect()
}

impl Wish {
    fn held_against(&self, by_median: &Run<'_>, by_best: &Run<'_>) -> Goal {
        let asked = |by_size: BySize| by_size.get(by_median.size()).copied().flatten();
        let (must, aim) = (asked(self.must), asked(self.aim));
        let reached = (self.reached)(by_median);
        let reaches = |goal: Option<f64>| Some(self.good.reaches(reached?, goal?));
        Goal {
            name: self.name,
            good: self.good,
            must,
            aim,
            reached,
            reached_by_best: (self.reached)(by_best),
            met: reaches(must),
            aim_met: reaches(aim),
        }
    }
}

impl Good {
    fn reaches(self, reached: f64, goal: f64) -> bool {
        match self {
            Self::More => reached >= goal,
            Self::Less => reached <= goal,
        }
    }
}

/// A report, and which of a contender's rounds stands for it.
struct Run<'r> {
    report: &'r Report,
    cost_of: fn(&Answer, &str) -> Option<f64>,
}

impl Run<'_> {
    /// The place in [`BySize`] that is nearest, as factors go.
    fn size(&self) -> usize {
        match self.report.regions {
            ..10_000 => 0,
            10_000..316_228 => 1,
            316_228.. => 2,
        }
    }

    fn answer(&self, question: &str) -> Option<&Answer> {
        self.report.answers.get(question)
    }

    fn cost(&self, question: &str, name: &str) -> Option<f64> {
        (self.cost_of)(self.answer(question)?, name)
    }

    /// How many times ours another one takes.
    fn times(&self, question: &str, name: &str) -> Option<f64> {
        Some(self.cost(question, name)? / self.cost(question, "ours")?)
    }

    /// How many times another one's ours takes.
    fn over(&self, question: &str, name: &str) -> Option<f64> {
        Some(self.cost(question, "ours")? / self.cost(question, name)?)
    }

    fn times_fastest(&self, question: &str) -> Option<f64> {
        CONCURRENT.iter().filter_map(|name| self.times(question, name)).min_by(f64::total_cmp)
    }

    fn in_lookups(&self, question: &str) -> Option<f64> {
        Some(self.cost(question, "ours")? / self.cost("lookup", "ours")?)
    }

    fn us(&self, question: &str) -> Option<f64> {
        Some(self.cost(question, "ours")? / 1e3)
    }
}

/// One line of the table that [`HEADING`] begins.
impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.good {
            Good::More => ">=",
            Good::Less => "<=",
        };
        let asked = |number: Option<f64>| number.map_or("-".to_owned(), |number| format!("{sign} {number}"));
        let found = |number: Option<f64>| number.map_or("-".to_owned(), |number| format!("{number:.2}"));
        let met = match (self.met, self.aim_met) {
            (None, _) => "-",
            (Some(false), _) => "no",
            (Some(true), Some(true)) => "yes, aim too",
            (Some(true), _) => "yes",
        };
        let (must, aim) = (asked(self.must), asked(self.aim));
        let (reached, best) = (found(self.reached), found(self.reached_by_best));
        write!(f, "  {:<50}{must:>8}{aim:>9}{reached:>10}{best:>10}  {met}", self.name)
    }
}

/// What stands above the goals in a table.
pub const HEADING: &str =
    "  goal                                                  must      aim   reached (by best)  met";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Role;

    /// A report in which ours takes 100 ns a look-up and a contender so many.
    fn report(regions: usize, costs: &[(&'static str, Role, f64)]) -> Report {
        let mut lookup = Answer::new("ns");
        lookup.add("ours", Role::Ours, vec![100.0, 90.0, 300.0]);
        costs.iter().for_each(|&(name, role, cost)| lookup.add(name, role, vec![cost]));
        let mut report = Report { regions, ..Report::default() };
        report.answers.insert("lookup", lookup);
        report
    }

    fn goal(report: &Report, name: &str) -> Goal {
        goals(report).into_iter().find(|goal| goal.name == name).unwrap()
    }

    #[test]
    fn a_goal_is_met_from_its_number_on_in_the_right_direction() {
        let at = |mutex, tree| report(100_000, &[("mutex", Role::Peer, mutex), ("static_tree", Role::Limit, tree)]);
        let met = |report: &Report, name| (goal(report, name).met, goal(report, name).aim_met);
        let (mutex, limit) = ("lookup, mutex over ours", "lookup, ours over limit");
        assert_eq!(met(&at(599.0, 66.0), mutex), (Some(false), Some(false)));
        assert_eq!(met(&at(600.0, 66.0), mutex), (Some(true), Some(false)));
        assert_eq!(met(&at(800.0, 66.0), mutex), (Some(true), Some(true)));
        assert_eq!(met(&at(600.0, 66.0), limit), (Some(false), Some(false)));
        assert_eq!(met(&at(600.0, 70.0), limit), (Some(true), Some(false)));
        assert_eq!(met(&at(600.0, 80.0), limit), (Some(true), Some(true)));
    }

    #[test]
    fn medians_judge_and_best_rounds_stand_beside_them() {
        let goal = goal(&report(1_000, &[("mutex", Role::Peer, 450.0)]), "lookup, mutex over ours");
        assert_eq!(
            (goal.must, goal.aim, goal.reached, goal.reached_by_best),
            (Some(4.0), Some(5.0), Some(4.5), Some(5.0))
        );
        assert_eq!((goal.met, goal.aim_met), (Some(true), Some(false)));
        assert!(goal.to_string().ends_with(">= 4     >= 5      4.50      5.00  yes"), "{goal}");
    }

    #[test]
    fn the_nearest_size_says_what_is_asked() {
        let must = |regions| goal(&report(regions, &[]), "beside a writer, p99, us").must;
        assert_eq!(
            [1_000, 9_999, 10_000, 316_227, 316_228, 10_000_000].map(must).map(Option::unwrap),
            [1.5, 1.5, 2.0, 2.0, 3.0, 3.0]
        );
        assert_eq!(goal(&report(1_000, &[]), "publish a split, us").must, None);
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let goals = goals(&report(1_000_000, &[]));
        assert!(goals.iter().all(|goal| goal.met.is_none() && goal.reached.is_none()));
        assert!(goals.iter().all(|goal| goal.to_string().ends_with("  -")));
    }

    #[test]
    fn the_fastest_concurrent_peer_counts_and_no_array_does() {
        let peers = [("mutex", 300.0), ("rwlock", 120.0), ("imbl", 150.0), ("sorted_array", 50.0)];
        let report = report(1_000, &peers.map(|(name, cost)| (name, Role::Peer, cost)));
        assert_eq!(goal(&report, "lookup, fastest concurrent peer over ours").reached, Some(1.2));
        assert_eq!(goal(&report, "lookup, sorted array over ours").reached, Some(0.5));
    }
}
