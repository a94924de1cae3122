//! The invariants of a state, and of a step between two states, as code.

use crate::ids::RegionId;
use crate::index::{Entry, Index};
use crate::mutant::{Mutant, planted};
use crate::peer::{Peer, PeerClass};
use crate::region::{Region, RegionError};

use super::Snapshot;

/// An invariant that does not hold, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum Violation {
    #[error("I1: {left} and {right} overlap")]
    Overlap { left: Region, right: Region },
    #[error("I1: {region} was covered, and part of it no longer is")]
    Hole { region: Region },
    #[error("I2, I3: {before} went back to {after}")]
    Backwards { before: Region, after: Region },
    #[error("I11: {region} is in one index and not, or differently, in the other")]
    IndexesDisagree { region: RegionId },
    #[error("I11: {by_key} regions by key, {by_id} by id")]
    CountsDisagree { by_key: usize, by_id: usize },
    #[error("I11: {region} has the peer {peer}, and is not among its store's regions of that part, or of another")]
    StoreDisagrees { region: RegionId, peer: Peer },
    #[error("I11: {by_region} peers by region, {by_store} by store")]
    PeerCountsDisagree { by_region: usize, by_store: usize },
    #[error("I11: {reported} regions have reported sizes, of which {live} are there")]
    StatsDisagree { reported: usize, live: usize },
    #[error("I13: {0}")]
    Malformed(#[from] RegionError),
    #[error("I13: {region} is published, and is a tombstone")]
    NotLive { region: Region },
}

pub(super) fn state(snapshot: &Snapshot) -> Vec<Violation> {
    let index = snapshot.index();
    let mut found = Vec::new();
    if index.len() != index.len_by_key() {
        found.push(Violation::CountsDisagree { by_key: index.len_by_key(), by_id: index.len() });
    }
    found.extend(counts_of_stores(index));
    found.extend(count_of_stats(index));
    let mut left: Option<&Region> = None;
    for region in index.iter() {
        found.extend(overlap(left, region));
        found.extend(disagreement(snapshot, region));
        found.extend(disagreement_of_store(index, region));
        found.extend(malformed(region));
        left = Some(region);
    }
    found
}

fn overlap(left: Option<&Region>, right: &Region) -> Option<Violation> {
    let left = left.filter(|left| left.end_key().is_after(right.start_key()))?;
    Some(Violation::Overlap { left: left.clone(), right: right.clone() })
}

fn disagreement(snapshot: &Snapshot, region: &Region) -> Option<Violation> {
    let same = |found: Option<Entry<'_>>| found.is_some_and(|entry| entry.region().same_buffer(region));
    let agree = same(snapshot.get(region.id())) && same(snapshot.locate(region.start_key()));
    (!agree).then(|| Violation::IndexesDisagree { region: region.id() })
}

/// A peer's region is among its store's regions of exactly the classes that the peer is of.
fn disagreement_of_store(index: &Index, region: &Region) -> Option<Violation> {
    let agrees = |peer: Peer, class: PeerClass| {
        index.stores().contains(peer.store_id, class, region.id()) == class.includes(peer)
    };
    let peer = region.peers().find(|peer| PeerClass::ALL.iter().any(|class| !agrees(*peer, *class)))?;
    Some(Violation::StoreDisagrees { region: region.id(), peer })
}

/// If every peer is where it belongs, the number of all of them says that nothing else is there.
fn counts_of_stores(index: &Index) -> Option<Violation> {
    let stores = index.stores();
    let by_store = stores.iter().map(|store| stores.count(store, PeerClass::Any)).sum();
    let by_region = index.iter().map(|region| region.peers().len()).sum();
    (by_store != by_region).then_some(Violation::PeerCountsDisagree { by_region, by_store })
}

fn count_of_stats(index: &Index) -> Option<Violation> {
    let (reported, live) =
        (index.len_of_stats(), index.iter().filter(|region| index.stats(region.id()).is_some()).count());
    (reported != live).then_some(Violation::StatsDisagree { reported, live })
}

/// Verified again from the bytes, so that damage in memory is found too.
fn malformed(region: &Region) -> Option<Violation> {
    match Region::from_bytes(region.as_bytes()) {
        Err(error) => Some(Violation::Malformed(error)),
        Ok(_) if !region.state().is_live() => Some(Violation::NotLive { region: region.clone() }),
        Ok(_) => None,
    }
}

pub(super) fn change(
    earlier: &Snapshot,
    later: &Snapshot,
    may_leave_hole: impl Fn(RegionId) -> bool,
) -> Vec<Violation> {
    let later = if planted(Mutant::M27) { earlier } else { later };
    let step = |before: &Region| step_back(before, later).or_else(|| hole(before, later, &may_leave_hole));
    earlier.regions().filter_map(step).collect()
}

fn step_back(before: &Region, later: &Snapshot) -> Option<Violation> {
    let after = later.get(before.id())?.region();
    let went_back = after.epoch().is_behind_any(before.epoch());
    went_back.then(|| Violation::Backwards { before: before.clone(), after: after.clone() })
}

fn hole(before: &Region, later: &Snapshot, may_leave_hole: impl Fn(RegionId) -> bool) -> Option<Violation> {
    (!may_leave_hole(before.id()) && !later.covers(before.range())).then(|| Violation::Hole { region: before.clone() })
}
