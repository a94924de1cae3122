//! Why bytes or a draft are no region.

use crate::epoch::RegionEpoch;
use crate::ids::{PeerId, RegionId, StoreId};
use crate::keys::KeyBuf;
use crate::peer::PeerState;

/// A descriptor that breaks I13, the schema, or one of the size limits. Each says which region and what is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum RegionError {
    #[error("region descriptor of {bytes} bytes: at most {max} are allowed")]
    TooLong { bytes: usize, max: usize },
    #[error("region descriptor is not a valid flatbuffer: {0}")]
    Malformed(String),
    #[error("region id is 0")]
    ZeroId,
    #[error("region {region}: {which} key of {bytes} bytes, at most {max} are allowed")]
    KeyTooLong { region: RegionId, which: &'static str, bytes: usize, max: usize },
    #[error("region {region}: the range [{start}, {end}) is empty or reversed")]
    EmptyRange { region: RegionId, start: KeyBuf, end: KeyBuf },
    #[error("region {region}: epoch {epoch} has a zero half, which only a tombstone may have")]
    ZeroEpoch { region: RegionId, epoch: RegionEpoch },
    #[error("region {region} has no peers")]
    NoPeers { region: RegionId },
    #[error("region {region} has {peers} peers, at most {max} are allowed")]
    TooManyPeers { region: RegionId, peers: usize, max: usize },
    #[error("region {region}: the peer on store {store} has id 0")]
    ZeroPeerId { region: RegionId, store: StoreId },
    #[error("region {region}: peer {peer} is on store 0")]
    ZeroStoreId { region: RegionId, peer: PeerId },
    #[error("region {region} lists peer {peer} twice")]
    DuplicatePeer { region: RegionId, peer: PeerId },
    #[error("region {region}: peers {first} and {second} are both on store {store}")]
    TwoPeersOnStore { region: RegionId, store: StoreId, first: PeerId, second: PeerId },
    #[error("region {region}: {peers} peers but {flags} peer flags")]
    PeerFlagsLength { region: RegionId, peers: usize, flags: usize },
    #[error("region {region}: peer {peer} has unknown flags {flags:#04x}; a newer version may have written them")]
    UnknownPeerFlags { region: RegionId, peer: PeerId, flags: u8 },
    #[error("region {region}: unknown peer state {number}; a newer version may have written it")]
    UnknownState { region: RegionId, number: u8 },
    #[error("region {region} is {state:?} and has no merge state with a target")]
    MergeStateMissing { region: RegionId, state: PeerState },
    #[error("region {region} is {state:?} and must not have a merge state")]
    MergeStateUnexpected { region: RegionId, state: PeerState },
    #[error("region {region}: its merge target is invalid: {cause}")]
    MergeTarget { region: RegionId, cause: Box<RegionError> },
    #[error("region {region} is {state:?} and names peer {peer} as destroyed, which only a tombstone may do")]
    DestroyedPeerUnexpected { region: RegionId, state: PeerState, peer: PeerId },
    #[error("region {region}: the destroyed peer has id 0")]
    ZeroDestroyedPeer { region: RegionId },
    #[error("region {region} is its own merge target")]
    MergeIntoItself { region: RegionId },
}
