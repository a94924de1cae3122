//! All contenders side by side: interleaved in one process, because the same code differs from process to process by where
//! its memory happens to lie; round after round, because a machine is never quiet. What counts is the median of the rounds; the
//! best round is reported beside it, because a disturbance only ever adds.

use std::time::{Duration, Instant};

use crate::goals::goals;
use crate::map::Failure;
use crate::report::{Answer, Report};
use crate::roster::{BytesInUse, Choice, CountBytes, REGIONS_PER_COUNT, REGIONS_PER_SCAN, Roster, Workload};
use crate::tasks::{Entrant, Outcome};

/// What to compare, and for how long.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Regions in each map.
    pub regions: usize,
    /// How long to measure, all in all. Building the maps comes on top, and each question takes three rounds however long.
    pub seconds: f64,
    /// The seed of the work.
    pub seed: u64,
    /// Who takes part.
    pub choice: Choice,
}

/// A question: its name in the report, how many units an operation is, and who takes part.
struct Question<'r> {
    name: &'static str,
    unit: &'static str,
    units_per_op: f64,
    entrants: Vec<Entrant<'r>>,
}

/// How long a contender is measured in a round: shorter than a scheduler's turn, so that on a busy machine most rounds are
/// either undisturbed or plainly disturbed, and the median is of the former. It runs as long before that to warm its caches.
const SLICE: Duration = Duration::from_millis(4);
const ROUNDS_MAX: usize = 301;
/// Rounds of a question that has used up its time.
const ROUNDS_MIN: usize = 3;
/// Bytes are not measured in time.
const TIMED_QUESTIONS: u32 = 15;

/// Runs every question with every chosen contender that takes part in it. `count` tells the heap bytes that some work keeps; `say`
/// is told what is being done.
///
/// # Errors
/// [`Failure`] if a contender could not do its work or answered wrongly.
pub fn compare(settings: &Settings, count: &CountBytes, say: &mut dyn FnMut(&str)) -> Result<Report, Failure> {
    say("building");
    let Settings { regions, seconds, seed, ref choice } = *settings;
    let work = Workload::new(regions, seed);
    let (roster, bytes) = Roster::build_counting(&work, choice, count)?;
    let mut report = Report { regions, seconds, seed, ..Report::default() };
    let budget = Duration::from_secs_f64(seconds.max(0.0)) / TIMED_QUESTIONS;
    for question in questions(&roster, regions) {
        say(question.name);
        let (name, answer) = (question.name, ask(question, budget)?);
        report.order.push(name);
        report.answers.insert(name, answer);
    }
    add_scaling(&mut report);
    for (name, answer) in bytes_per_region(&bytes, regions) {
        report.order.push(name);
        report.answers.insert(name, answer);
    }
    report.goals = goals(&report);
    Ok(report)
}

fn questions<'r>(roster: &'r Roster<'_>, regions: usize) -> Vec<Question<'r>> {
    let question = |name, entrants| Question { name, unit: "ns", units_per_op: 1.0, entrants };
    let (scan, bulk_build) = (roster.scan(), roster.bulk_build());
    let counts = REGIONS_PER_COUNT.into_iter().zip(roster.count());
    let counts = counts.map(|((name, _), entrants)| question(name, entrants));
    let before_counts = vec![
        question("lookup", roster.locate()),
        question("lookup_zipf", roster.locate_zipf()),
        question("lookup_batched", roster.locate_batched()),
        question("lookup_two_threads", roster.locate_two_threads()),
        question("lookup_with_writer", roster.locate_beside_writer()),
        question("get", roster.get()),
        Question { unit: "ns a region", units_per_op: REGIONS_PER_SCAN as f64, ..question("scan_100", scan) },
    ];
    let after_counts = vec![
        question("snapshot", roster.take_snapshot()),
        question("publish_split", roster.publish_split()),
        question("publish_conf_change", roster.publish_conf_change()),
        Question { unit: "ns a change", ..question("publish_batch_256", roster.publish_batch()) },
        Question { unit: "ns a region", units_per_op: regions as f64, ..question("bulk_build", bulk_build) },
    ];
    before_counts.into_iter().chain(counts).chain(after_counts).collect()
}

/// A contender in the course of a question.
struct Course<'r> {
    entrant: Entrant<'r>,
    ops: u64,
    rounds: Vec<f64>,
    total: Outcome,
    wall: Duration,
}

fn ask(question: Question<'_>, budget: Duration) -> Result<Answer, Failure> {
    let Question { name, unit, units_per_op, entrants } = question;
    let begun = Instant::now();
    let mut courses = entrants.into_iter().map(calibrated).collect::<Result<Vec<_>, _>>()?;
    let contenders = courses.len().max(1);
    for round in 0..ROUNDS_MAX {
        if round >= ROUNDS_MIN && begun.elapsed() > budget {
            break;
        }
        // Another one begins each round, so that nobody always runs in the same one's wake.
        for nth in 0..contenders {
            if let Some(course) = courses.get_mut((round + nth) % contenders) {
                let ns_per_op = run(course, name)?;
                course.rounds.push(ns_per_op / units_per_op);
            }
        }
    }
    Ok(answer(unit, courses))
}

/// Finds how many operations fill a slice, by doubling. What comes before and after the clock counts here too.
fn calibrated(mut entrant: Entrant<'_>) -> Result<Course<'_>, Failure> {
    let mut ops = 1_u64;
    loop {
        let wall = shortest_of_three(&mut entrant, ops)?;
        if wall * 4 > SLICE {
            let fitting = ops as f64 * SLICE.as_secs_f64() / wall.as_secs_f64().max(1e-9);
            let ops = (fitting as u64).max(1);
            return Ok(Course { entrant, ops, rounds: Vec::new(), total: Outcome::default(), wall: Duration::ZERO });
        }
        ops = ops.saturating_mul(2);
    }
}

/// One long run may be the scheduler's doing, not the contender's; but who takes many slices is believed at once.
fn shortest_of_three(entrant: &mut Entrant<'_>, ops: u64) -> Result<Duration, Failure> {
    let mut shortest = Duration::MAX;
    for _ in 0..3 {
        let started = Instant::now();
        entrant.run(ops)?;
        shortest = shortest.min(started.elapsed());
        if shortest > SLICE * 10 || shortest * 4 < SLICE {
            break;
        }
    }
    Ok(shortest)
}

fn run(course: &mut Course<'_>, question: &'static str) -> Result<f64, Failure> {
    if course.ops > 1 {
        course.entrant.run(course.ops)?;
    }
    let started = Instant::now();
    let mut outcome = course.entrant.run(course.ops)?;
    course.wall += started.elapsed();
    if outcome.wrong > 0 {
        return Err(Failure::WrongAnswer { contender: course.entrant.name, question });
    }
    course.total.misses += outcome.misses;
    course.total.published += outcome.published;
    course.total.samples_ns.append(&mut outcome.samples_ns);
    Ok(outcome.ns_per_op())
}

fn answer(unit: &'static str, courses: Vec<Course<'_>>) -> Answer {
    let mut answer = Answer::new(unit);
    for Course { entrant, rounds, mut total, wall, .. } in courses {
        let Entrant { name, role, .. } = entrant;
        answer.add(name, role, rounds);
        if total.samples_ns.is_empty() {
            continue;
        }
        answer.p99_ns.insert(name, percentile(&mut total.samples_ns, 99) as f64);
        answer.misses.insert(name, total.misses);
        answer.published_per_second.insert(name, total.published as f64 / wall.as_secs_f64().max(1e-9));
    }
    answer
}

fn percentile(samples: &mut [u64], percent: usize) -> u64 {
    samples.sort_unstable();
    samples.get((samples.len() * percent / 100).min(samples.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// What a second thread brings: 2 is all that it can.
fn add_scaling(report: &mut Report) {
    let Some(single) = report.answers.get("lookup").cloned() else { return };
    let Some(double) = report.answers.get_mut("lookup_two_threads") else { return };
    let scaling = |&name: &&'static str| Some((name, single.median_of(name)? / double.median_of(name)?));
    double.scaling = double.rounds.keys().filter_map(scaling).collect();
}

/// Both together, and the index alone. Only contenders that hold all that a server needs: keys, ids and descriptors.
fn bytes_per_region(bytes: &[BytesInUse], regions: usize) -> [(&'static str, Answer); 2] {
    let (mut total, mut index) = (Answer::new("bytes a region"), Answer::new("bytes a region"));
    for bytes in bytes.iter().filter(|bytes| bytes.name != "dense_ids") {
        let a_region = |bytes: usize| vec![bytes as f64 / regions.max(1) as f64];
        total.add(bytes.name, bytes.role, a_region(bytes.total));
        index.add(bytes.name, bytes.role, a_region(bytes.total.saturating_sub(bytes.descriptors)));
    }
    [("bytes_per_region", total), ("index_bytes_per_region", index)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTIONS: [&str; 17] = [
        "bulk_build",
        "bytes_per_region",
        "count_100",
        "count_10000",
        "count_half",
        "get",
        "index_bytes_per_region",
        "lookup",
        "lookup_batched",
        "lookup_two_threads",
        "lookup_with_writer",
        "lookup_zipf",
        "publish_batch_256",
        "publish_conf_change",
        "publish_split",
        "scan_100",
        "snapshot",
    ];

    #[test]
    fn every_question_is_answered_by_ours_the_mutex_and_where_there_is_one_the_limit() {
        let settings = Settings { regions: 300, seconds: 0.1, seed: 1, choice: Choice::default() };
        let counted = |work: &mut dyn FnMut()| {
            work();
            3_000
        };
        let report = compare(&settings, &counted, &mut |_| {}).unwrap();
        assert_eq!(report.answers.keys().copied().collect::<Vec<_>>(), QUESTIONS);
        for (name, answer) in &report.answers {
            assert!(answer.ours.is_some_and(|ours| ours > 0.0), "{name}");
            assert!(answer.peers.get("mutex").is_some_and(|&mutex| mutex > 0.0), "{name}");
            let without_limit = ["publish", "count", "scan", "lookup_with_writer"];
            let has_limit = !without_limit.iter().any(|question| name.starts_with(question));
            assert_eq!(answer.limit.is_some(), has_limit, "{name}");
        }
        assert_eq!(report.answers["bytes_per_region"].ours, Some(20.0));
        assert_eq!(report.answers["lookup_with_writer"].misses["ours"], 0);
        assert!(report.answers["lookup_two_threads"].scaling.contains_key("ours"));
        let table = report.to_string();
        assert!(table.lines().count() > 100);
        assert!(table.lines().all(|line| line.len() <= 120), "{table}");
    }

    #[test]
    fn a_percentile_is_a_sample() {
        let mut samples: Vec<u64> = (1..=200).rev().collect();
        assert_eq!(percentile(&mut samples, 99), 199);
        assert_eq!(percentile(&mut [7], 99), 7);
        assert_eq!(percentile(&mut [], 99), 0);
    }
}
