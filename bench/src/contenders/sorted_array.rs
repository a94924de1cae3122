//! An immutable sorted array of inline keys beside an array of records: what a plain binary search costs.

use regionmeta::{EndKey, KeyRange};

use crate::flat::FlatRegion;
use crate::inline_key::InlineKey;
use crate::map::{Count, Failure, Found, Locate, RegionMap, Scan};
use crate::model::RegionSpec;

/// Keys and records, in key order.
#[derive(Debug)]
pub struct SortedArray {
    starts: Vec<InlineKey>,
    regions: Vec<FlatRegion>,
}

impl SortedArray {
    /// The number of regions that begin at or before `key`.
    #[inline]
    fn beginning_by(&self, key: &InlineKey) -> usize {
        self.starts.partition_point(|start| start <= key)
    }

    /// The place of the region that owns `key`, found by its start alone and then checked against the record.
    #[inline]
    pub(super) fn place(&self, key: &InlineKey) -> Option<usize> {
        let place = self.beginning_by(key).checked_sub(1)?;
        self.regions.get(place)?.contains(key).then_some(place)
    }

    #[inline]
    pub(super) fn regions(&self) -> &[FlatRegion] {
        &self.regions
    }
}

impl RegionMap for SortedArray {
    type Record = FlatRegion;

    fn record(spec: &RegionSpec<'_>) -> Result<FlatRegion, Failure> {
        FlatRegion::new(spec)
    }

    fn build(regions: Vec<FlatRegion>) -> Result<Self, Failure> {
        Ok(Self { starts: regions.iter().map(|region| region.start).collect(), regions })
    }
}

impl Locate for &SortedArray {
    #[inline]
    fn locate(&mut self, key: &[u8]) -> Option<Found> {
        let place = self.place(&InlineKey::query(key))?;
        self.regions.get(place).map(FlatRegion::found)
    }
}

impl Count for &SortedArray {
    fn count(&mut self, range: KeyRange<'_>) -> usize {
        let start = InlineKey::query(range.start);
        let first = self.place(&start).unwrap_or_else(|| self.beginning_by(&start));
        let after = match range.end {
            EndKey::Finite(end) => self.starts.partition_point(|start| *start < InlineKey::query(end)),
            EndKey::Infinite => self.regions.len(),
        };
        after - first
    }
}

impl Scan for &SortedArray {
    fn scan(&mut self, key: &[u8], regions: usize, visit: impl FnMut(Found)) {
        let key = InlineKey::query(key);
        let first = self.place(&key).unwrap_or_else(|| self.beginning_by(&key));
        self.regions.iter().skip(first).take(regions).map(FlatRegion::found).for_each(visit);
    }
}
