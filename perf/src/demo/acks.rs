//! What was acknowledged, as the parent heard it.

use std::collections::HashMap;

use regionmeta::RegionId;

use super::messages::{Commit, RegionMark};

/// The last acknowledged version of every region, and the last acknowledged commit of every writer.
#[derive(Clone, Debug, Default)]
pub(super) struct Acknowledged {
    pub(super) regions: HashMap<RegionId, RegionMark>,
    pub(super) commits: HashMap<u64, u64>,
    /// Region versions in all commits.
    pub(super) versions: u64,
}

impl Acknowledged {
    pub(super) fn add(&mut self, commit: Commit) {
        self.versions += commit.regions.len() as u64;
        self.commits.insert(commit.writer, commit.number);
        self.regions.extend(commit.regions.into_iter().map(|mark| (mark.id, mark)));
    }
}
