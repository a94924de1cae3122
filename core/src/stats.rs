//! [`Stats`]: how much a region holds, as its host last said; [`Sums`]: how much a range does.

/// The approximate size of one region. No part of its descriptor: it is not stored, and no epoch moves with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Stats {
    /// Approximate size of its data, in bytes.
    pub size_bytes: u64,
    /// Approximate number of its keys.
    pub keys: u64,
}

/// What a region counts for in a sum at most, so that no sum overflows.
const COUNTABLE_MAX: u64 = 1 << 40;

impl Stats {
    /// As they count in a sum.
    pub(crate) fn countable(self) -> Self {
        Self { size_bytes: self.size_bytes.min(COUNTABLE_MAX), keys: self.keys.min(COUNTABLE_MAX) }
    }
}

/// Regions, and what was reported of them, added up. A region counts for 2^40 bytes and keys at most, which is far above
/// what any region can hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Sums {
    /// The number of regions, also of those that nothing was reported of.
    pub regions: usize,
    /// Approximate size of their data, in bytes.
    pub size_bytes: u64,
    /// Approximate number of their keys.
    pub keys: u64,
}
