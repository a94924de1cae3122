//! The two gates in front of every [`Region`](super::Region): the flatbuffers verifier with tight limits, and I13.

use flatbuffers::VerifierOptions;

use super::{RegionError, RegionRef};
use crate::keys::{KEY_BYTES_MAX, KeyBuf};
use crate::peer::{Peer, PeerState};
use crate::wire;

/// The longest descriptor, in bytes.
pub const REGION_BYTES_MAX: usize = 1024 * 1024;

/// The most peers that a region may have.
pub const PEERS_MAX: usize = 128;

/// Nesting: a region, its merge state, the target.
const DEPTH_MAX: usize = 8;
const TABLES_MAX: usize = 4096;
/// How much the parts of a buffer may add up to, as a multiple of its length: parts that share bytes are counted each time.
const APPARENT_SIZE_FACTOR: usize = 4;

/// The limits of every buffer of the schema that comes from outside.
pub(crate) fn verifier_options(bytes: &[u8]) -> VerifierOptions {
    VerifierOptions {
        max_depth: DEPTH_MAX,
        max_tables: TABLES_MAX,
        max_apparent_size: bytes.len().saturating_mul(APPARENT_SIZE_FACTOR),
        ..VerifierOptions::default()
    }
}

/// Structure: after this the generated accessors are safe on these bytes.
pub(super) fn verify(bytes: &[u8]) -> Result<(), RegionError> {
    if bytes.len() > REGION_BYTES_MAX {
        return Err(RegionError::TooLong { bytes: bytes.len(), max: REGION_BYTES_MAX });
    }
    match flatbuffers::root_with_opts::<wire::Region<'_>>(&verifier_options(bytes), bytes) {
        Ok(_) => Ok(()),
        Err(error) => Err(RegionError::Malformed(error.to_string())),
    }
}

/// Meaning: I13, and a merge state and a destroyed peer only where they belong.
pub(super) fn check(region: RegionRef<'_>) -> Result<(), RegionError> {
    let number = region.0.state().0;
    let state = PeerState::from_wire(number).ok_or(RegionError::UnknownState { region: region.id(), number })?;
    check_identity(region, state)?;
    check_peers(region)?;
    check_destroyed_peer(region, state)?;
    check_merge_state(region, state)
}

fn check_identity(region: RegionRef<'_>, state: PeerState) -> Result<(), RegionError> {
    let (id, range, epoch) = (region.id(), region.range(), region.epoch());
    if id.get() == 0 {
        return Err(RegionError::ZeroId);
    }
    for (which, key) in [("start", range.start), ("end", range.end.to_wire())] {
        if key.len() > KEY_BYTES_MAX {
            return Err(RegionError::KeyTooLong { region: id, which, bytes: key.len(), max: KEY_BYTES_MAX });
        }
    }
    if range.is_empty() {
        let (start, end) = (KeyBuf::from(range.start), KeyBuf::from(range.end.to_wire()));
        return Err(RegionError::EmptyRange { region: id, start, end });
    }
    // A peer that dies uninitialized leaves a tombstone of epoch 0/0 (spec section 11).
    if state.is_live() && (epoch.conf_ver == 0 || epoch.version == 0) {
        return Err(RegionError::ZeroEpoch { region: id, epoch });
    }
    Ok(())
}

fn check_peers(region: RegionRef<'_>) -> Result<(), RegionError> {
    let id = region.id();
    let count = region.peers().len();
    if count == 0 {
        // A tombstone too: without its peer an old self could come back (tikv#10533).
        return Err(RegionError::NoPeers { region: id });
    }
    if count > PEERS_MAX {
        return Err(RegionError::TooManyPeers { region: id, peers: count, max: PEERS_MAX });
    }
    check_peer_flags(region, count)?;
    for (at, peer) in region.peers().enumerate() {
        check_peer(region, peer, region.peers().take(at))?;
    }
    Ok(())
}

fn check_peer_flags(region: RegionRef<'_>, count: usize) -> Result<(), RegionError> {
    let Some(flags) = region.0.peer_flags() else { return Ok(()) };
    if flags.len() != count {
        return Err(RegionError::PeerFlagsLength { region: region.id(), peers: count, flags: flags.len() });
    }
    for (peer, &flags) in region.peers().zip(flags.bytes()) {
        if Peer::from_flags(peer.id, peer.store_id, flags).is_none() {
            return Err(RegionError::UnknownPeerFlags { region: region.id(), peer: peer.id, flags });
        }
    }
    Ok(())
}

fn check_peer(
    region: RegionRef<'_>,
    peer: Peer,
    mut before: impl Iterator<Item = Peer> + Clone,
) -> Result<(), RegionError> {
    let (id, store) = (region.id(), peer.store_id);
    if peer.id.get() == 0 {
        return Err(RegionError::ZeroPeerId { region: id, store });
    }
    if store.get() == 0 {
        return Err(RegionError::ZeroStoreId { region: id, peer: peer.id });
    }
    if before.clone().any(|other| other.id == peer.id) {
        return Err(RegionError::DuplicatePeer { region: id, peer: peer.id });
    }
    match before.find(|other| other.store_id == store) {
        Some(first) => Err(RegionError::TwoPeersOnStore { region: id, store, first: first.id, second: peer.id }),
        None => Ok(()),
    }
}

fn check_destroyed_peer(region: RegionRef<'_>, state: PeerState) -> Result<(), RegionError> {
    match region.destroyed_peer() {
        Some(peer) if state != PeerState::Tombstone => {
            Err(RegionError::DestroyedPeerUnexpected { region: region.id(), state, peer })
        }
        _ => Ok(()),
    }
}

fn check_merge_state(region: RegionRef<'_>, state: PeerState) -> Result<(), RegionError> {
    let id = region.id();
    let Some(merge) = region.0.merge() else {
        let needed = state == PeerState::Merging;
        return if needed { Err(RegionError::MergeStateMissing { region: id, state }) } else { Ok(()) };
    };
    if !matches!(state, PeerState::Merging | PeerState::Tombstone) {
        return Err(RegionError::MergeStateUnexpected { region: id, state });
    }
    let target = merge.target().map(RegionRef).ok_or(RegionError::MergeStateMissing { region: id, state })?;
    if target.id() == id {
        return Err(RegionError::MergeIntoItself { region: id });
    }
    if target.0.merge().is_some() || target.0.state() != wire::PeerState::Normal {
        let cause = Box::new(RegionError::MergeStateUnexpected { region: target.id(), state: target.state() });
        return Err(RegionError::MergeTarget { region: id, cause });
    }
    check(target).map_err(|cause| RegionError::MergeTarget { region: id, cause: Box::new(cause) })
}
