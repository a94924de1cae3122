//! All contenders side by side, on standard output as a table or as JSON.

use clap::Parser;
use mimalloc::MiMalloc;
use regionmeta_bench::counting::Counting;
use regionmeta_bench::workload::SEED;
use regionmeta_bench::{Failure, Settings, compare};

#[global_allocator]
static ALLOCATOR: Counting<MiMalloc> = Counting::new(MiMalloc);

/// Runs this project's region map and its peers on the same work, interleaved, and prints medians and ratios.
#[derive(Parser)]
struct Arguments {
    /// Regions in each map.
    #[arg(long, default_value_t = 100_000)]
    regions: usize,
    /// How long to measure; building the maps comes on top.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { regions, seconds, json } = Arguments::parse();
    let settings = Settings { regions, seconds, seed: SEED };
    let mut say = |what: &str| eprintln!("{what} ...");
    let report = compare(&settings, &|work| ALLOCATOR.count(work), &mut say).map_err(Box::<Failure>::from)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}
