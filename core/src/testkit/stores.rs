//! What a snapshot must answer about stores and reported sizes: each question put to a list of regions.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{RegionId, StoreId};
use crate::keys::KeyRange;
use crate::meta::Snapshot;
use crate::peer::{Peer, PeerClass};
use crate::region::Region;
use crate::stats::{Stats, Sums};

/// The first answer that differs, if any. `regions` are those of the snapshot.
pub(super) fn check(snapshot: &Snapshot, regions: &[&Region], stats: &BTreeMap<RegionId, Stats>) -> Result<(), String> {
    let mut peers: Vec<(Peer, RegionId)> = Vec::new();
    regions.iter().for_each(|region| peers.extend(region.peers().map(|peer| (peer, region.id()))));
    peers.sort_by_key(|(_, region)| *region);
    let stores: BTreeSet<StoreId> = peers.iter().map(|(peer, _)| peer.store_id).collect();
    if !snapshot.stores().eq(stores.iter().copied()) {
        return Err(format!("stores: {:?} instead of {stores:?}", snapshot.stores().collect::<Vec<_>>()));
    }
    for store in stores.into_iter().chain([StoreId::new(0), StoreId::new(u64::MAX)]) {
        PeerClass::ALL.into_iter().try_for_each(|class| check_store(snapshot, &peers, store, class))?;
    }
    for id in regions.iter().map(|region| region.id()).chain([RegionId::new(0)]) {
        let (found, expected) = (snapshot.stats(id), stats.get(&id).copied());
        if found != expected {
            return Err(format!("stats of region {id}: {found:?} instead of {expected:?}"));
        }
    }
    check_sums(snapshot, regions, stats, KeyRange::ALL)
}

fn check_store(
    snapshot: &Snapshot,
    peers: &[(Peer, RegionId)],
    store: StoreId,
    class: PeerClass,
) -> Result<(), String> {
    let there = peers.iter().filter(|(peer, _)| peer.store_id == store && class.includes(*peer));
    let expected: Vec<RegionId> = there.map(|(_, region)| *region).collect();
    let found: Vec<RegionId> = snapshot.regions_on(store, class).map(|entry| entry.region().id()).collect();
    if found != expected || snapshot.store_count(store, class) != expected.len() {
        let count = snapshot.store_count(store, class);
        return Err(format!("{class:?} on store {store}: {found:?}, {count} in all, instead of {expected:?}"));
    }
    Ok(())
}

/// The sums of one range.
pub(super) fn check_sums(
    snapshot: &Snapshot,
    regions: &[&Region],
    stats: &BTreeMap<RegionId, Stats>,
    range: KeyRange<'_>,
) -> Result<(), String> {
    let mut expected = Sums::default();
    for region in regions.iter().filter(|region| range.contains(region.start_key())) {
        let Stats { size_bytes, keys } = stats.get(&region.id()).copied().unwrap_or_default();
        expected.regions += 1;
        expected.size_bytes = expected.size_bytes.saturating_add(size_bytes.min(1 << 40));
        expected.keys = expected.keys.saturating_add(keys.min(1 << 40));
    }
    let found = snapshot.sums(range);
    if found == expected { Ok(()) } else { Err(format!("sums({range}): {found:?} instead of {expected:?}")) }
}
