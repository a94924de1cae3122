//! Scans of several ranges at once.

use regionmeta::{EndKey, KeyRange};

use crate::pd::wire::pdpb;
use crate::pd::{PdClient, PdError, RegionInfo};

/// What a scan of several ranges has found.
pub(super) struct Scanned {
    pub(super) regions: Vec<RegionInfo>,
    /// Whether some key of some range has no owner, up to where the scan came.
    pub(super) has_hole: bool,
}

/// Scans ranges that are in key order and do not overlap. A region that reaches into two of them is found once.
pub(super) fn scan_ranges(pd: &dyn PdClient, ranges: &[pdpb::KeyRange], limit: usize) -> Result<Scanned, PdError> {
    let ranges: Vec<_> = ranges.iter().map(|range| KeyRange::from_wire(&range.start_key, &range.end_key)).collect();
    check_order(&ranges)?;
    let mut scanned = Scanned { regions: Vec::new(), has_hole: false };
    for range in ranges {
        let left = limit.saturating_sub(scanned.regions.len());
        if limit > 0 && left == 0 {
            break;
        }
        // One more, for the first may be the last of the range before.
        let mut found = pd.scan_regions(range, if limit > 0 { left.saturating_add(1) } else { 0 })?;
        let known = scanned.regions.last().map(|info: &RegionInfo| info.region.id());
        let again = usize::from(known.is_some() && found.first().map(|info| info.region.id()) == known);
        let cut = limit > 0 && found.len() >= left.saturating_add(again);
        if cut {
            found.truncate(left.saturating_add(again));
        }
        scanned.has_hole |= has_hole(range, &found, cut);
        scanned.regions.extend(found.into_iter().skip(again));
    }
    Ok(scanned)
}

fn check_order(ranges: &[KeyRange<'_>]) -> Result<(), PdError> {
    let reversed = ranges.iter().any(|range| range.is_empty());
    let unsorted = ranges.iter().zip(ranges.iter().skip(1)).any(|(left, right)| left.end.is_after(right.start));
    if reversed || unsorted {
        return Err(PdError::Refused("the ranges are empty, or not in key order".to_owned()));
    }
    Ok(())
}

/// Whether regions in key order leave a key of the range to nobody. What lies behind a scan that was cut is not known.
fn has_hole(range: KeyRange<'_>, found: &[RegionInfo], cut: bool) -> bool {
    let mut covered = EndKey::Finite(range.start);
    for info in found {
        if EndKey::Finite(info.region.start_key()) > covered {
            return true;
        }
        covered = info.region.end_key();
    }
    !cut && covered < range.end
}
