//! [`Stats`]: how much a region holds, as its host last said; [`Sums`]: how much a range does.

/// The approximate size of one region. No part of its descriptor: it is not stored, and no epoch moves with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Stats {
    /// Approximate size of its data, in bytes.
    pub size_bytes: u64,
    /// Approximate number of its keys.
    pub keys: u64,
}

/// Regions, and what was reported of them, added up. A sum that no longer fits stays at the largest number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Sums {
    /// The number of regions, also of those that nothing was reported of.
    pub regions: usize,
    /// Approximate size of their data, in bytes.
    pub size_bytes: u64,
    /// Approximate number of their keys.
    pub keys: u64,
}

impl Sums {
    /// With one more region's stats. It does not count the region.
    pub(crate) fn plus(self, stats: Stats) -> Self {
        Self {
            size_bytes: self.size_bytes.saturating_add(stats.size_bytes),
            keys: self.keys.saturating_add(stats.keys),
            ..self
        }
    }
}
