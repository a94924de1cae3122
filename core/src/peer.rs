//! Peers, their roles, and the state of a peer's record.

use std::fmt;

use crate::ids::{PeerId, StoreId};

/// What part a peer has in its Raft group (spec section 1.3). The numbers are the ones on disk and on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum PeerRole {
    /// Votes, in every configuration.
    #[default]
    Voter = 0,
    /// Receives the log, has no vote.
    Learner = 1,
    /// Joint state: votes in the new half only; becomes a Voter.
    IncomingVoter = 2,
    /// Joint state: votes in the old half only; becomes a Learner.
    DemotingVoter = 3,
}

impl PeerRole {
    /// The role with this number; `None` for a number that no version of this library has written.
    #[must_use]
    pub const fn from_wire(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Voter),
            1 => Some(Self::Learner),
            2 => Some(Self::IncomingVoter),
            3 => Some(Self::DemotingVoter),
            _ => None,
        }
    }

    /// Whether this role exists only while a region is in joint state.
    #[must_use]
    pub const fn is_joint(self) -> bool {
        matches!(self, Self::IncomingVoter | Self::DemotingVoter)
    }
}

/// Peers by their part, for counting and finding the regions of a store. `Voter`, `Learner` and `Joint` have no peer in
/// common, and together they are `Any`; a `Witness` is in one of the three as well.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PeerClass {
    /// Every peer.
    Any,
    /// Votes in every configuration: [`PeerRole::Voter`].
    Voter,
    /// Has no vote: [`PeerRole::Learner`].
    Learner,
    /// In the middle of a membership change: [`PeerRole::IncomingVoter`] or [`PeerRole::DemotingVoter`].
    Joint,
    /// Stores no data, whatever its role.
    Witness,
}

impl PeerClass {
    /// Every class.
    pub const ALL: [Self; 5] = [Self::Any, Self::Voter, Self::Learner, Self::Joint, Self::Witness];

    /// Whether a peer is of this class.
    #[must_use]
    pub const fn includes(self, peer: Peer) -> bool {
        match self {
            Self::Any => true,
            Self::Voter => matches!(peer.role, PeerRole::Voter),
            Self::Learner => matches!(peer.role, PeerRole::Learner),
            Self::Joint => peer.role.is_joint(),
            Self::Witness => peer.is_witness,
        }
    }
}

/// One replica of a region: who it is, where it lives, what it does. 24 bytes, copied freely.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Names the peer; never 0.
    pub id: PeerId,
    /// The store that it lives on; never 0. A region has at most one peer on a store.
    pub store_id: StoreId,
    /// Its part in the Raft group.
    pub role: PeerRole,
    /// A witness stores log and metadata, no data.
    pub is_witness: bool,
}

const ROLE_BITS: u8 = 0b011;
const WITNESS_BIT: u8 = 0b100;

impl Peer {
    /// A voter that holds data.
    #[must_use]
    pub const fn voter(id: PeerId, store_id: StoreId) -> Self {
        Self { id, store_id, role: PeerRole::Voter, is_witness: false }
    }

    /// A learner that holds data.
    #[must_use]
    pub const fn learner(id: PeerId, store_id: StoreId) -> Self {
        Self { id, store_id, role: PeerRole::Learner, is_witness: false }
    }

    /// Role and witness flag in one byte, as in the schema: bits 0-1 the role, bit 2 the witness flag.
    pub(crate) const fn flags(self) -> u8 {
        self.role as u8 | if self.is_witness { WITNESS_BIT } else { 0 }
    }

    /// The inverse of [`flags`](Self::flags); `None` if an unknown bit is set.
    pub(crate) const fn from_flags(id: PeerId, store_id: StoreId, flags: u8) -> Option<Self> {
        if flags & !(ROLE_BITS | WITNESS_BIT) != 0 {
            return None;
        }
        match PeerRole::from_wire(flags & ROLE_BITS) {
            Some(role) => Some(Self { id, store_id, role, is_witness: flags & WITNESS_BIT != 0 }),
            None => None,
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Peer id, store id and role, as in `(3, 1) Learner`; a plain voter's role goes without saying.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {})", self.id, self.store_id)?;
        if self.role != PeerRole::Voter {
            write!(f, " {:?}", self.role)?;
        }
        if self.is_witness {
            f.write_str(" witness")?;
        }
        Ok(())
    }
}

/// The state of a region's record on one store (spec section 1.4). The numbers are the ones on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum PeerState {
    /// Serving.
    #[default]
    Normal = 0,
    /// A snapshot's metadata is durable, its data is not yet ingested.
    Applying = 1,
    /// This store's peer of the region is gone; the record stays, to answer stale messages.
    Tombstone = 2,
    /// PrepareMerge was applied; waits for the target, or for a rollback.
    Merging = 3,
    /// A former witness that waits for its data snapshot.
    Unavailable = 4,
}

impl PeerState {
    /// Every state, in the order of its number.
    pub const ALL: [Self; 5] = [Self::Normal, Self::Applying, Self::Tombstone, Self::Merging, Self::Unavailable];

    /// The state with this number; `None` for a number that no version of this library has written.
    #[must_use]
    pub const fn from_wire(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Normal),
            1 => Some(Self::Applying),
            2 => Some(Self::Tombstone),
            3 => Some(Self::Merging),
            4 => Some(Self::Unavailable),
            _ => None,
        }
    }

    /// Whether a record in this state stands for a peer that exists.
    #[must_use]
    pub const fn is_live(self) -> bool {
        !matches!(self, Self::Tombstone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_round_trip_and_refuse_unknown_bits() {
        for flags in 0..=u8::MAX {
            match Peer::from_flags(PeerId::new(1), StoreId::new(2), flags) {
                Some(peer) => assert_eq!(peer.flags(), flags),
                None => assert!(flags > 7, "{flags}"),
            }
        }
    }

    #[test]
    fn states_keep_their_numbers() {
        for (number, state) in (0u8..).zip(PeerState::ALL) {
            assert_eq!((state as u8, PeerState::from_wire(number)), (number, Some(state)));
        }
        assert_eq!(PeerState::from_wire(5), None);
    }
}
