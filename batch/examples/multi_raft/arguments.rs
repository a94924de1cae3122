//! What the example is told on its command line.

use std::path::PathBuf;
use std::time::Duration;

use regionmeta::ClusterId;

use super::{CLUSTER, Done};

pub(crate) const USAGE: &str =
    "usage: multi_raft [--pd ADDRESS[,ADDRESS...] [--store DIRECTORY] [--cluster-id N] [--seconds S]]

  without --pd   three stores in this process, and all that they show
  --pd           three stores, each a process of its own, against the placement driver at these addresses
  --store        only one of these stores, in this directory; it serves until SIGTERM or SIGINT
  --cluster-id   the driver's cluster (7)
  --seconds      after so much time the stores fail (60), or the one store ends (never)";

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Arguments {
    /// Where PD's members are; none: everything in this process.
    pub(crate) pd: Vec<String>,
    pub(crate) store: Option<PathBuf>,
    pub(crate) cluster: ClusterId,
    pub(crate) time: Option<Duration>,
}

impl Arguments {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Done<Self> {
        let mut parsed = Self { pd: Vec::new(), store: None, cluster: CLUSTER, time: None };
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} is unknown, or lacks its value\n{USAGE}"))?;
            match name.as_str() {
                "--pd" => parsed.pd = value.split(',').map(str::to_owned).collect(),
                "--store" => parsed.store = Some(value.into()),
                "--cluster-id" => parsed.cluster = value.parse::<u64>()?.into(),
                "--seconds" => parsed.time = Some(Duration::from_secs(value.parse()?)),
                _ => return Err(format!("{name} is unknown\n{USAGE}").into()),
            }
        }
        match parsed.pd.is_empty() && parsed != (Self { pd: Vec::new(), store: None, cluster: CLUSTER, time: None }) {
            true => Err(format!("--pd is missing\n{USAGE}").into()),
            false => Ok(parsed),
        }
    }
}
