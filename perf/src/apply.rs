//! The apply pipeline beside raw RocksDB writes of the same bytes. `bench` does the measuring.

use regionmeta_bench::apply::{Settings, run as measure};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Options of the measurement.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Regions in the store.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    regions: u32,
    /// Rounds; the result is their median.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Changes in one unsynced measurement.
    #[arg(long, default_value_t = 40_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    changes: u32,
    /// Print the result as one JSON object on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

/// Runs the measurement. It fails only if a change is not applied: numbers are no failure.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Error> {
    let Arguments { regions, rounds, changes, json } = *arguments;
    let settings = Settings { regions: regions as usize, rounds: rounds as usize, changes: changes as usize };
    let report = measure(&settings, &mut |what| eprintln!("{what} ..."))?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(true)
}
