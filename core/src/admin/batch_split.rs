//! BatchSplit: one region becomes several (spec section 5.5).

use std::collections::HashSet;

use super::{AdminError, Outcome};
use crate::epoch::RegionEpoch;
use crate::ids::{PeerId, RegionId};
use crate::keys::{EndKey, KeyRange};
use crate::mutant::{Mutant, planted};
use crate::peer::Peer;
use crate::region::{Region, RegionDraft};

/// One new region of a split.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SplitRequest {
    /// Where the range is cut.
    pub split_key: Vec<u8>,
    /// The id of the new region, from PD.
    pub new_region_id: RegionId,
    /// The ids of its peers, from PD: one for each peer of the parent, in the same order.
    pub new_peer_ids: Vec<PeerId>,
}

/// A split at one or more keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchSplit {
    /// The new regions, with strictly ascending keys.
    pub requests: Vec<SplitRequest>,
    /// Whether the last range keeps the parent's id; otherwise the first one does.
    pub right_derive: bool,
    /// Whether each part counts as an equal share of the parent's measured size until it is measured itself; otherwise the
    /// sizes of all parts are unknown until then.
    pub shares_size: bool,
}

pub(super) fn plan(current: &Region, split: &BatchSplit) -> Result<Outcome, AdminError> {
    validate(current, &split.requests)?;
    let steps = if planted(Mutant::M3) { 1 } else { split.requests.len() as u64 };
    let epoch = current
        .epoch()
        .with_version_moved(steps)
        .map_err(|cause| AdminError::EpochOverflow { region: current.id(), cause })?;
    let ranges = ranges(current.range(), &split.requests);
    let children = split.requests.iter().map(Some);
    // The derived region takes the last range or the first one; the children share the others in order.
    let owners: Vec<_> = if split.right_derive {
        children.chain([None]).collect()
    } else {
        [None].into_iter().chain(children).collect()
    };
    let regions = ranges
        .into_iter()
        .zip(owners)
        .map(|(range, child)| match child {
            Some(request) => new_region(current, request, range, epoch),
            None => derived_region(current, range, epoch),
        })
        .collect::<Result<_, _>>()?;
    Ok(Outcome::Split { regions, derived: current.id(), skipped: Vec::new(), shares_size: split.shares_size })
}

/// The conditions of the spec, in its order.
fn validate(current: &Region, requests: &[SplitRequest]) -> Result<(), AdminError> {
    let region = current.id();
    let Some(last) = requests.last() else { return Err(AdminError::MissingSplitRequests { region }) };
    let mut before = current.start_key();
    for (at, request) in requests.iter().enumerate() {
        let key = request.split_key.as_slice();
        if key.is_empty() {
            return Err(AdminError::MissingSplitKey { region, request: at });
        }
        if key <= before {
            return Err(AdminError::UnsortedSplitKeys { region, before: before.into(), key: key.into() });
        }
        before = key;
        let (peers, found) = (current.peers().len(), request.new_peer_ids.len());
        if found != peers {
            return Err(AdminError::NewPeerIdCount { region, request: at, peers, found });
        }
    }
    if !current.range().contains_inside(&last.split_key) {
        let (key, start) = (last.split_key.as_slice().into(), current.start_key().into());
        return Err(AdminError::KeyNotInRegion { region, key, start, end: current.end_key().to_wire().into() });
    }
    check_new_ids(current, requests)
}

/// PD hands out each id once; a region or a peer that shares its id with another could not be told from it.
fn check_new_ids(current: &Region, requests: &[SplitRequest]) -> Result<(), AdminError> {
    let region = current.id();
    let mut regions = HashSet::from([region]);
    if let Some(again) = requests.iter().find(|request| !regions.insert(request.new_region_id)) {
        return Err(AdminError::NewRegionIdTaken { region, id: again.new_region_id });
    }
    let mut peers: HashSet<_> = current.peers().map(|peer| peer.id).collect();
    let new_peers =
        requests.iter().enumerate().flat_map(|(at, request)| request.new_peer_ids.iter().map(move |&id| (at, id)));
    for (request, id) in new_peers {
        if !peers.insert(id) {
            return Err(AdminError::NewPeerIdTaken { region, request, id });
        }
    }
    Ok(())
}

/// The pieces between the parent's start, the split keys and the parent's end.
fn ranges<'a>(parent: KeyRange<'a>, requests: &'a [SplitRequest]) -> Vec<KeyRange<'a>> {
    let keys = requests.iter().map(|request| request.split_key.as_slice());
    let starts = [parent.start].into_iter().chain(keys.clone());
    let ends = keys.map(EndKey::Finite).chain([parent.end]);
    starts.zip(ends).map(|(start, end)| KeyRange::new(start, end)).collect()
}

fn derived_region(current: &Region, range: KeyRange<'_>, epoch: RegionEpoch) -> Result<Region, AdminError> {
    Ok(RegionDraft { range, epoch, ..current.to_draft() }.build()?)
}

/// The parent's peers with new ids, in the same order. Flashback is not inherited.
fn new_region(
    current: &Region,
    request: &SplitRequest,
    range: KeyRange<'_>,
    epoch: RegionEpoch,
) -> Result<Region, AdminError> {
    let peers = current.peers().zip(&request.new_peer_ids).map(|(peer, &id)| Peer { id, ..peer }).collect();
    Ok(RegionDraft::new(request.new_region_id, range, epoch, peers).build()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{AdminCommand, AdminHeader, ApplyContext};
    use crate::ids::StoreId;
    use crate::raft::{ApplyState, LogPosition};

    fn request(key: &str, region: u64, peers: &[u64]) -> SplitRequest {
        SplitRequest {
            split_key: key.into(),
            new_region_id: RegionId::new(region),
            new_peer_ids: peers.iter().copied().map(PeerId::new).collect(),
        }
    }

    fn region() -> Region {
        let peer = |id, store| Peer::voter(PeerId::new(id), StoreId::new(store));
        let peers = vec![peer(3, 1), peer(5, 2), Peer::learner(PeerId::new(7), StoreId::new(3))];
        let range = KeyRange::from_wire(b"", b"k5");
        RegionDraft::new(RegionId::new(1), range, RegionEpoch::new(1, 3), peers).build().unwrap()
    }

    fn split(current: &Region, requests: Vec<SplitRequest>, right_derive: bool) -> Result<Vec<Region>, AdminError> {
        let command = AdminCommand::BatchSplit(BatchSplit { requests, right_derive, shares_size: false });
        let context = ApplyContext::new(StoreId::new(1), LogPosition::INITIAL, ApplyState::INITIAL);
        let header = AdminHeader {
            flashback: current.flashback_start_ts().is_some(),
            ..AdminHeader::new(current.id(), current.epoch())
        };
        match command.plan(&header, current, &context)? {
            Outcome::Split { regions, derived, .. } => {
                assert_eq!(derived, current.id());
                Ok(regions)
            }
            other => panic!("{other:?}"),
        }
    }

    fn shape(regions: &[Region]) -> Vec<(u64, String, u64)> {
        regions.iter().map(|r| (r.id().get(), r.range().to_string(), r.epoch().version)).collect()
    }

    /// The example of spec section 5.5: three splits of one region.
    #[test]
    fn the_worked_example() {
        let right = split(&region(), vec![request("k1", 8, &[9, 10, 11])], true).unwrap();
        assert_eq!(shape(&right), [(8, "[\"\", \"k1\")".to_string(), 4), (1, "[\"k1\", \"k5\")".to_string(), 4)]);
        let peers: Vec<_> = right[0].peers().map(|p| p.to_string()).collect();
        assert_eq!(peers, ["(9, 1)", "(10, 2)", "(11, 3) Learner"]);

        let left = split(&right[1], vec![request("k4", 12, &[13, 14, 15])], false).unwrap();
        assert_eq!(shape(&left), [(1, "[\"k1\", \"k4\")".to_string(), 5), (12, "[\"k4\", \"k5\")".to_string(), 5)]);
        let requests = vec![request("k2", 16, &[17, 18, 19]), request("k3", 20, &[21, 22, 23])];
        let three = split(&left[0], requests, true).unwrap();
        let expected = [(16, "k1", "k2"), (20, "k2", "k3"), (1, "k3", "k4")];
        let expected = expected.map(|(id, start, end)| (id, format!("[\"{start}\", \"{end}\")"), 7));
        assert_eq!(shape(&three), expected);
    }

    #[test]
    fn refusals_follow_the_order_of_the_spec() {
        let ids: &[u64] = &[9, 10, 11];
        let refused = |requests| split(&region(), requests, true).unwrap_err();
        assert!(matches!(refused(vec![]), AdminError::MissingSplitRequests { .. }));
        assert!(matches!(refused(vec![request("", 8, ids)]), AdminError::MissingSplitKey { .. }));
        let unsorted = vec![request("k2", 8, ids), request("k2", 12, ids)];
        assert!(matches!(refused(unsorted), AdminError::UnsortedSplitKeys { .. }));
        assert!(matches!(refused(vec![request("k2", 8, &[9])]), AdminError::NewPeerIdCount { .. }));
        assert!(matches!(refused(vec![request("k5", 8, ids)]), AdminError::KeyNotInRegion { .. }));
        assert!(matches!(refused(vec![request("k2", 1, ids)]), AdminError::NewRegionIdTaken { .. }));
        assert!(matches!(refused(vec![request("k2", 0, ids)]), AdminError::Invalid(_)));
        assert!(matches!(refused(vec![request("k2", 8, &[9, 9, 11])]), AdminError::NewPeerIdTaken { .. }));
        let at_start =
            split(&split(&region(), vec![request("k1", 8, ids)], true).unwrap()[1], vec![request("k1", 12, ids)], true);
        assert!(matches!(at_start, Err(AdminError::UnsortedSplitKeys { .. })));
    }

    #[test]
    fn flashback_stays_with_the_derived_region() {
        let flashback = RegionDraft { flashback_start_ts: Some(7), ..region().to_draft() }.build().unwrap();
        let regions = split(&flashback, vec![request("k1", 8, &[9, 10, 11])], true).unwrap();
        assert_eq!((regions[0].flashback_start_ts(), regions[1].flashback_start_ts()), (None, Some(7)));
    }
}
