//! What the child tells its parent: one line a message, so that a kill in the middle of one is seen.

use std::fmt::Write;

use regionmeta::{LogIndex, Region, RegionEpoch, RegionId};
use serde::{Deserialize, Serialize};

use super::Error;
use super::violations::Violations;

/// A message of the child.
#[derive(Debug)]
pub(super) enum Message {
    /// So many regions exist.
    Grown(u64),
    /// Readers and the checker have begun.
    Serving,
    /// A commit has returned: all of this is durable.
    Committed(Commit),
    /// The time is over; the writers go on until the kill.
    Served(ServeStats),
    /// A writer failed; the child ends.
    Failed(String),
}

/// One commit of one writer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Commit {
    pub(super) writer: u64,
    /// Counts this writer's commits, from 1.
    pub(super) number: u64,
    pub(super) regions: Vec<RegionMark>,
}

/// Enough of a region's version to tell it from every other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RegionMark {
    pub(super) id: RegionId,
    pub(super) epoch: RegionEpoch,
    pub(super) applied: LogIndex,
    /// CRC32C of the descriptor.
    pub(super) checksum: u32,
}

impl RegionMark {
    pub(super) fn of(region: &Region, applied: LogIndex) -> Self {
        let checksum = crc32c::crc32c(region.as_bytes());
        Self { id: region.id(), epoch: region.epoch(), applied, checksum }
    }
}

/// What serving measured.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct ServeStats {
    pub(super) seconds: f64,
    pub(super) readers: usize,
    pub(super) writers: usize,
    pub(super) reads: u64,
    /// Latency of sampled reads, the clock's own cost included.
    pub(super) read_ns: Percentiles,
    /// What reading the clock twice costs with nothing in between.
    pub(super) clock_ns: u64,
    pub(super) changes: u64,
    pub(super) commits: u64,
    pub(super) commit_changes_max: u64,
    /// Requests whose epoch matched, and requests whose epoch was out of date.
    pub(super) epochs_accepted: u64,
    pub(super) epochs_refused: u64,
    pub(super) snapshots_checked: u64,
    pub(super) violations: Violations,
}

/// Percentiles of a latency, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Percentiles {
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) p999: u64,
}

impl Message {
    pub(super) fn to_line(&self) -> Result<String, Error> {
        let mut line = String::new();
        match self {
            Self::Grown(regions) => write!(line, "grown {regions}")?,
            Self::Serving => line.push_str("serving"),
            Self::Committed(commit) => {
                write!(line, "committed {} {}", commit.writer, commit.number)?;
                for RegionMark { id, epoch, applied, checksum } in &commit.regions {
                    write!(line, " {id} {} {} {applied} {checksum}", epoch.conf_ver, epoch.version)?;
                }
            }
            Self::Served(stats) => write!(line, "served {}", serde_json::to_string(stats)?)?,
            Self::Failed(why) => write!(line, "failed {}", why.replace('\n', " "))?,
        }
        line.push('\n');
        Ok(line)
    }

    pub(super) fn parse(line: &str) -> Result<Self, Error> {
        let unknown = || format!("unknown message of the child: {line:?}");
        let (kind, rest) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        match kind {
            "grown" => Ok(Self::Grown(rest.parse()?)),
            "serving" => Ok(Self::Serving),
            "served" => Ok(Self::Served(serde_json::from_str(rest)?)),
            "failed" => Ok(Self::Failed(rest.to_owned())),
            "committed" => {
                let numbers = rest.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
                let (head, marks) = numbers.split_first_chunk::<2>().ok_or_else(unknown)?;
                let (marks, rest) = marks.as_chunks::<5>();
                if !rest.is_empty() {
                    return Err(unknown().into());
                }
                let regions = marks.iter().map(|&mark| parse_mark(mark)).collect::<Result<_, _>>()?;
                let [writer, number] = *head;
                Ok(Self::Committed(Commit { writer, number, regions }))
            }
            _ => Err(unknown().into()),
        }
    }
}

fn parse_mark([id, conf_ver, version, applied, checksum]: [u64; 5]) -> Result<RegionMark, Error> {
    let epoch = RegionEpoch::new(conf_ver, version);
    Ok(RegionMark { id: id.into(), epoch, applied: applied.into(), checksum: checksum.try_into()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_survives_its_line() {
        let mark = |id: u64| RegionMark {
            id: id.into(),
            epoch: RegionEpoch::new(id, 2),
            applied: LogIndex::new(6),
            checksum: u32::MAX,
        };
        let commit = Commit { writer: 1, number: 7, regions: vec![mark(3), mark(4)] };
        let line = Message::Committed(commit.clone()).to_line().unwrap();
        let Ok(Message::Committed(parsed)) = Message::parse(&line) else { panic!("{line}") };
        assert_eq!(parsed, commit);
    }

    #[test]
    fn a_failure_is_one_line() {
        let line = Message::Failed("disk full:\nno space".to_owned()).to_line().unwrap();
        assert_eq!(line.lines().count(), 1);
        assert!(matches!(Message::parse(&line), Ok(Message::Failed(why)) if why == "disk full: no space"));
    }

    #[test]
    fn a_cut_line_is_no_message() {
        assert!(Message::parse("committed 1 7 3 4 5\n").is_err());
        assert!(Message::parse("\n").is_err());
    }
}
