//! The comparison: this project's region map, its peers and the limits on the same work. `bench` does the measuring.

use clap::builder::PossibleValuesParser;
use regionmeta_bench::counting::Counting;
use regionmeta_bench::roster::{CONTENDERS, Choice, LIMIT};
use regionmeta_bench::{Settings, compare, workload};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What a contender takes a region, roughly: its map, and the model that checks it. Building takes one map more.
const BYTES_PER_REGION: u64 = 400;

/// Options of the comparison.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Regions in each map.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    regions: u64,
    /// How many seconds to measure. Building the maps comes on top, and every question takes three rounds however long.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Seed of the regions and of the keys asked for.
    #[arg(long, default_value_t = workload::SEED)]
    seed: u64,
    /// Compare with these alone, separated by commas; this map always takes part.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = names())]
    only: Vec<String>,
    /// Print the result as one JSON object on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(CONTENDERS.iter().map(|(name, _)| *name).chain([LIMIT]))
}

/// Runs the comparison. It fails only if a contender cannot do its work or answers wrongly: numbers are no failure.
pub(crate) fn run<A>(arguments: Arguments, allocator: &'static Counting<A>) -> Result<bool, Error> {
    let Arguments { regions, seconds, seed, only, json } = arguments;
    let choice = Choice::only(only);
    refuse_what_does_not_fit(regions, choice.count() as u64)?;
    let settings = Settings { regions: usize::try_from(regions)?, seconds: seconds as f64, seed, choice };
    let report = compare(&settings, &|work| allocator.count(work), &mut |what| eprintln!("{what} ..."))?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(true)
}

/// Running out of memory after minutes of building would say less.
fn refuse_what_does_not_fit(regions: u64, contenders: u64) -> Result<(), Error> {
    let needed = regions * BYTES_PER_REGION * (contenders + 1);
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|meminfo| available_bytes(&meminfo));
    match available {
        Some(available) if available < needed => Err(format!(
            "{contenders} contenders with {regions} regions each need about {} MB of memory, and {} MB are available: \
             take fewer regions, or fewer contenders (--only {LIMIT})",
            needed >> 20,
            available >> 20
        )
        .into()),
        _ => Ok(()), // a system that does not say has to try
    }
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let kilobytes = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?.trim().strip_suffix(" kB")?;
    kilobytes.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_bytes() {
        assert_eq!(available_bytes("MemFree:  7 kB\nMemAvailable:    3 kB\nBuffers: 1 kB\n"), Some(3 * 1024));
        assert_eq!(available_bytes("MemFree:  7 kB\n"), None);
    }

    #[test]
    fn what_cannot_fit_is_refused_with_a_way_out() {
        let refused = refuse_what_does_not_fit(1 << 50, 2).unwrap_err().to_string();
        assert!(refused.contains("--only limit"), "{refused}");
        assert!(refuse_what_does_not_fit(1, 14).is_ok());
    }
}
