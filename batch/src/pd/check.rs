//! What must hold of an answer from PD, which is a stranger's (I10).
//!
//! One function for each kind of answer, used by every client on what it has decoded; [`Checked`](super::Checked) calls them
//! for any client. None of them allocates in proportion to anything but the answer itself.

use std::collections::HashSet;

use regionmeta::{ClusterId, KeyBuf, KeyRange, Peer, PeerId, Region, RegionError, RegionId, StoreId};

use super::{DownPeer, HeartbeatResponse, Operator, PdError, RegionHeartbeat, RegionInfo, SplitIds, StoreInfo};

/// What is wrong with an answer of PD's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum AnswerError {
    #[error("{what}: the message cannot be decoded: {cause}")]
    Malformed { what: &'static str, cause: String },
    #[error("{what}: {bytes} bytes, at most {max} are allowed")]
    TooLong { what: &'static str, bytes: usize, max: usize },
    #[error("invalid region: {0}")]
    Region(#[from] RegionError),
    #[error("{what}: the id is 0")]
    ZeroId { what: &'static str },
    #[error("{what}: id {id} is there twice, or is in use")]
    UsedId { what: &'static str, id: u64 },
    #[error("{what}: {found} instead of {asked}")]
    Count { what: &'static str, asked: usize, found: usize },
    #[error("asked for region {asked}, got {found}")]
    OtherRegion { asked: RegionId, found: Region },
    #[error("asked for store {asked}, got {found}")]
    OtherStore { asked: StoreId, found: StoreId },
    #[error("asked for the owner of {key}, got {found}")]
    KeyNotInRegion { key: KeyBuf, found: Region },
    #[error("asked for what lies before the owner of {key}, got {found}")]
    NotBefore { key: KeyBuf, found: Region },
    #[error("scanned from {start} to {end}, got {found}")]
    OutsideOfScan { start: KeyBuf, end: KeyBuf, found: Region },
    #[error("{left} comes before {right} in a scan: not in key order, or overlapping")]
    Unsorted { left: Region, right: Region },
    #[error("peer {peer} is named as {what} of {region}, which does not have it")]
    ForeignPeer { what: &'static str, peer: Peer, region: Region },
    #[error("region {region}: split key {at} is empty, or not above the one before it")]
    SplitKey { region: RegionId, at: usize },
    #[error("region {region}: the operator {operator} names nothing")]
    EmptyOperator { region: RegionId, operator: &'static str },
}

/// PD serves the cluster that the store belongs to. For the header of each answer.
///
/// # Errors
/// [`PdError::ClusterMismatch`].
pub fn cluster(pd: ClusterId, store: ClusterId) -> Result<(), PdError> {
    if pd == store { Ok(()) } else { Err(PdError::ClusterMismatch { pd, store }) }
}

/// An id is not 0.
///
/// # Errors
/// [`AnswerError::ZeroId`].
pub fn id(what: &'static str, id: u64) -> Result<u64, AnswerError> {
    if id == 0 { Err(AnswerError::ZeroId { what }) } else { Ok(id) }
}

/// As many ids as were asked for, none of them 0, end in this one.
///
/// # Errors
/// [`AnswerError::ZeroId`].
pub fn ids(asked: u32, last: u64) -> Result<u64, AnswerError> {
    id("a new id", last.saturating_sub(u64::from(asked.saturating_sub(1)))).map(|_| last)
}

/// The store that was asked for.
///
/// # Errors
/// [`AnswerError`].
pub fn store(asked: StoreId, found: &StoreInfo) -> Result<(), AnswerError> {
    let known = id("store", found.id.get())?;
    if known == asked.get() { Ok(()) } else { Err(AnswerError::OtherStore { asked, found: found.id }) }
}

/// Stores with ids of their own.
///
/// # Errors
/// [`AnswerError`].
pub fn stores(found: &[StoreInfo]) -> Result<(), AnswerError> {
    let mut ids = Ids::new("store");
    found.iter().try_for_each(|store| ids.take(store.id.get()))
}

/// Ids for the children of a split: as many as were asked for, a peer id for each peer, none of them 0, used twice, or the
/// parent's.
///
/// # Errors
/// [`AnswerError`].
pub fn split_ids(parent: &Region, children: usize, found: &[SplitIds]) -> Result<(), AnswerError> {
    count("regions of a split", children, found.len())?;
    let (mut regions, mut peers) = (Ids::new("region of a split"), Ids::new("peer of a split"));
    regions.take(parent.id().get())?;
    parent.peers().try_for_each(|peer| peers.take(peer.id.get()))?;
    for ids in found {
        regions.take(ids.region_id.get())?;
        count("peers of a split's region", parent.peers().len(), ids.peer_ids.len())?;
        ids.peer_ids.iter().map(|id: &PeerId| id.get()).try_for_each(|id| peers.take(id))?;
    }
    Ok(())
}

/// The region that owns a key.
///
/// # Errors
/// [`AnswerError`].
pub fn owner(key: &[u8], found: &RegionInfo) -> Result<(), AnswerError> {
    if !found.region.range().contains(key) {
        return Err(AnswerError::KeyNotInRegion { key: key.into(), found: found.region.clone() });
    }
    info(found)
}

/// The region before the one that owns a key.
///
/// # Errors
/// [`AnswerError`].
pub fn before_owner(key: &[u8], found: &RegionInfo) -> Result<(), AnswerError> {
    if found.region.end_key().is_after(key) {
        return Err(AnswerError::NotBefore { key: key.into(), found: found.region.clone() });
    }
    info(found)
}

/// The region with an id.
///
/// # Errors
/// [`AnswerError`].
pub fn region(asked: RegionId, found: &RegionInfo) -> Result<(), AnswerError> {
    if found.region.id() != asked {
        return Err(AnswerError::OtherRegion { asked, found: found.region.clone() });
    }
    info(found)
}

/// Regions of a range: in key order, none overlapping another, each with a key of the range, at most `limit` (0: any
/// number), each with an id of its own.
///
/// # Errors
/// [`AnswerError`].
pub fn scan(range: KeyRange<'_>, limit: usize, found: &[RegionInfo]) -> Result<(), AnswerError> {
    if limit > 0 && found.len() > limit {
        return Err(AnswerError::Count { what: "regions of a scan", asked: limit, found: found.len() });
    }
    let mut ids = Ids::new("region of a scan");
    for found in found {
        ids.take(found.region.id().get())?;
        info(found)?;
        if !found.region.range().overlaps(range) {
            let (start, end) = (range.start.into(), range.end.to_wire().into());
            return Err(AnswerError::OutsideOfScan { start, end, found: found.region.clone() });
        }
    }
    let mut pairs = found.iter().zip(found.iter().skip(1));
    match pairs.find(|(left, right)| left.region.end_key().is_after(right.region.start_key())) {
        Some((left, right)) => Err(AnswerError::Unsorted { left: left.region.clone(), right: right.region.clone() }),
        None => Ok(()),
    }
}

/// Leader, down and pending peers are the region's.
///
/// # Errors
/// [`AnswerError::ForeignPeer`].
pub fn info(found: &RegionInfo) -> Result<(), AnswerError> {
    let leader = found.leader.map(|leader| ("leader", leader));
    own_peers(&found.region, leader.into_iter().chain(lagging(&found.down_peers, &found.pending_peers)))
}

/// Down and pending peers are the region's: PD would tell everyone who asks. For a heartbeat that comes over the wire.
///
/// # Errors
/// [`AnswerError::ForeignPeer`].
pub fn heartbeat(found: &RegionHeartbeat) -> Result<(), AnswerError> {
    own_peers(&found.region, lagging(&found.down_peers, &found.pending_peers))
}

fn lagging(down: &[DownPeer], pending: &[Peer]) -> impl Iterator<Item = (&'static str, Peer)> {
    let down = down.iter().map(|down| ("down peer", down.peer));
    down.chain(pending.iter().map(|&peer| ("pending peer", peer)))
}

fn own_peers(region: &Region, named: impl IntoIterator<Item = (&'static str, Peer)>) -> Result<(), AnswerError> {
    let foreign =
        |&(_, peer): &(_, Peer)| !region.peers().any(|own| (own.id, own.store_id) == (peer.id, peer.store_id));
    match named.into_iter().find(foreign) {
        Some((what, peer)) => Err(AnswerError::ForeignPeer { what, peer, region: region.clone() }),
        None => Ok(()),
    }
}

/// A response names a region, a leader, and an operator that can be meant. Whether it fits the region is not asked here.
///
/// # Errors
/// [`AnswerError`].
pub fn response(found: &HeartbeatResponse) -> Result<(), AnswerError> {
    id("region of a response", found.region_id.get())?;
    peer("target of a response", found.target_peer)?;
    found.operator.as_ref().map_or(Ok(()), |operator| check_operator(found.region_id, operator))
}

fn check_operator(region: RegionId, operator: &Operator) -> Result<(), AnswerError> {
    match operator {
        Operator::ChangePeer(change) => peer("peer of a change", change.peer),
        Operator::ChangePeerV2(change) => {
            change.changes.iter().try_for_each(|change| peer("peer of a change", change.peer))
        }
        Operator::TransferLeader { peers } if peers.is_empty() => {
            Err(AnswerError::EmptyOperator { region, operator: "transfer_leader" })
        }
        Operator::TransferLeader { peers } => peers.iter().try_for_each(|&found| peer("next leader", found)),
        Operator::Split { policy: super::SplitPolicy::UseKeys, keys } => split_keys(region, keys),
        Operator::Split { .. } => Ok(()),
        Operator::Merge { target } if target.id() == region => {
            Err(AnswerError::UsedId { what: "target of a merge", id: region.get() })
        }
        Operator::Merge { .. } => Ok(()),
        Operator::SwitchWitnesses(switch) if switch.switches.is_empty() => {
            Err(AnswerError::EmptyOperator { region, operator: "switch_witnesses" })
        }
        Operator::SwitchWitnesses(switch) => {
            switch.switches.iter().try_for_each(|switch| id("witness", switch.peer_id.get()).map(drop))
        }
    }
}

/// Split keys are there, and strictly ascending.
///
/// # Errors
/// [`AnswerError`].
pub fn split_keys(region: RegionId, keys: &[Vec<u8>]) -> Result<(), AnswerError> {
    if keys.is_empty() {
        return Err(AnswerError::EmptyOperator { region, operator: "split_region" });
    }
    let before = [&[][..]].into_iter().chain(keys.iter().map(Vec::as_slice));
    match keys.iter().zip(before).position(|(key, before)| key.as_slice() <= before) {
        Some(at) => Err(AnswerError::SplitKey { region, at }),
        None => Ok(()),
    }
}

fn peer(what: &'static str, peer: Peer) -> Result<(), AnswerError> {
    id(what, peer.id.get())?;
    id(what, peer.store_id.get()).map(drop)
}

fn count(what: &'static str, asked: usize, found: usize) -> Result<(), AnswerError> {
    if asked == found { Ok(()) } else { Err(AnswerError::Count { what, asked, found }) }
}

/// Ids that must not come twice.
struct Ids {
    what: &'static str,
    taken: HashSet<u64>,
}

impl Ids {
    fn new(what: &'static str) -> Self {
        Self { what, taken: HashSet::new() }
    }

    fn take(&mut self, found: u64) -> Result<(), AnswerError> {
        let id = id(self.what, found)?;
        if self.taken.insert(id) { Ok(()) } else { Err(AnswerError::UsedId { what: self.what, id }) }
    }
}
