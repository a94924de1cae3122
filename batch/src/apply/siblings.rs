//! The regions that an `EpochNotMatch` carries: what the proposer should know instead (spec section 6.2).

use regionmeta::{EndKey, Region, RegionEpoch, Snapshot};

/// However far behind a proposer is, it gets no more siblings than this.
const SIBLINGS_MAX: usize = 10;

/// The region itself, then the products of the splits between the request's version and its own, walking away from it: to
/// the left if the right part of a split keeps the id, else to the right. O(siblings log regions).
pub(super) fn current_regions(
    snapshot: &Snapshot,
    region: Region,
    request: RegionEpoch,
    right_derive: bool,
) -> Vec<Region> {
    let mut newest = region.epoch().version;
    let mut need = newest.saturating_sub(request.version);
    let mut found = vec![region];
    while need > 0 && found.len() <= SIBLINGS_MAX {
        let Some(next) = found.last().and_then(|from| neighbour(snapshot, from, right_derive)) else { break };
        need -= 1;
        // A product that was split further, or merged, has sisters of its own.
        need = need.saturating_add(next.epoch().version.saturating_sub(newest));
        newest = newest.max(next.epoch().version);
        found.push(next);
    }
    found
}

fn neighbour(snapshot: &Snapshot, from: &Region, right_derive: bool) -> Option<Region> {
    let entry = match (right_derive, from.end_key()) {
        (true, _) => snapshot.region_before(from.start_key()),
        (false, EndKey::Infinite) => None,
        (false, EndKey::Finite(_)) => snapshot.region_after(from.start_key()),
    };
    entry.map(|entry| entry.region().clone())
}
