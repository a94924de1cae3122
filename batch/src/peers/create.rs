//! Messages between stores: whom they are for, and whether they make a peer (spec sections 9.1 and 9.2).

use regionmeta::layout::region_state_key;
use regionmeta::{ChildReservation, KeyRange, PeerId, PeerState, Region, RegionEpoch, RegionId};

use super::stale_source::MergedInto;
use super::{Effect, Peers};
use crate::poison::Poisoned;
use crate::records::{self, ReadError};
use crate::storage::{Family, Storage, StorageError};

/// What a message between two peers is, as far as the life of peers is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MessageKind {
    /// A vote or pre-vote.
    Vote,
    /// A heartbeat whose commit is 0: a leader wants this peer to be there.
    FirstHeartbeat,
    /// "Do I still exist?", from a peer without a leader.
    StaleCheck,
    /// The group says that the receiver is gone.
    Tombstone,
    /// Everything else.
    Other,
}

/// A message that came from another store.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The region of both.
    pub region: RegionId,
    /// Who sent it.
    pub from: regionmeta::Peer,
    /// Whom it is for.
    pub to: regionmeta::Peer,
    /// The sender's epoch.
    pub epoch: RegionEpoch,
    /// The sender's range, which it tells in messages that may make a peer.
    pub range: Option<KeyRange<'a>>,
    /// What it is.
    pub kind: MessageKind,
    /// Whether it can only be the first of its group: a vote of term 6, or an append whose first entry is empty and has index 6.
    pub is_first: bool,
    /// The message itself. It is not looked at; if it has to wait for its peer, it comes back with [`Effect::Create`].
    pub payload: &'a [u8],
    /// The group says that the receiver's region was merged into this one, as it was then.
    pub merge_target: Option<&'a Region>,
}

/// What is to be done with a message.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MessageAction {
    /// Give it to the peer that it is for.
    Deliver,
    /// An uninitialized peer was made: build its Raft group, then give it the message.
    Created {
        /// Stale sources of earlier merges that have keys of the new peer's, to be destroyed.
        stale: Vec<Effect>,
    },
    /// Drop it.
    Drop,
    /// The peer is about to come by a split, and gets the message then. Nothing is to be done.
    Kept,
    /// Drop it, and tell the sender that its peer is gone.
    ReplyTombstone,
    /// Drop it, and tell the sender who the members were when this store's peer was destroyed.
    ReplyMembers {
        /// The record.
        tombstone: Region,
    },
    /// Drop it, and tell the sender that the region was merged into this one.
    ReplyMerged {
        /// The target, as it was then.
        target: Region,
    },
    /// The store's own peer is an earlier one, the group says that it is gone, or it is the source of a merge that is over:
    /// [destroy](Peers::destroy) it. Then look at the message again, if it is for a later peer.
    Destroy {
        /// The peer to destroy.
        peer: PeerId,
    },
    /// A region here has keys of the new peer's: drop the message, and wake that region if its version is behind the sender's.
    Overlaps {
        /// The region.
        region: Region,
        /// Whether it is behind.
        is_behind: bool,
    },
}

/// Why nothing can be said about a message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// Messages contradict each other about the target of a merge; the first one counts.
    #[error("region {source_region} was merged into {known:?} (region, version), and now a message says {told:?}")]
    OtherMergeTarget {
        /// The source.
        source_region: RegionId,
        /// The target and its version that were told first.
        known: (RegionId, u64),
        /// Those that were told now.
        told: (RegionId, u64),
    },
    /// The region's record.
    #[error(transparent)]
    Record(#[from] ReadError),
    /// What an earlier peer has left behind was not removed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An earlier write failed.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

impl<S: Storage> Peers<S> {
    /// Says what is to be done with a message, and makes the peer that it is for if it may.
    ///
    /// For a peer that is here: a look-up. Otherwise one read of the storage, and a synced write if an earlier peer was here.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn on_message(&self, message: &Message<'_>) -> Result<MessageAction, CreateError> {
        if message.to.store_id != self.store().ident().store_id {
            return Ok(MessageAction::Drop);
        }
        if let Some(target) = message.merge_target {
            return self.on_merged_elsewhere(message.region, message.to.id, target);
        }
        if let Some(action) = self.for_a_peer_that_is_here(message) {
            return Ok(action);
        }
        if message.kind == MessageKind::Tombstone {
            return Ok(MessageAction::Drop);
        }
        match self.record(message.region)? {
            None => self.create(message, None),
            Some(record) if record.state() == PeerState::Tombstone => match self.by_tombstone(message, &record) {
                Some(action) => Ok(action),
                None => self.create(message, Some(&record)),
            },
            Some(_) => Ok(self.keep(message)),
        }
    }

    /// The peer is being made. Once it is published nobody looks for kept messages any more, so that is asked under the lock
    /// under which they are taken out.
    fn keep(&self, message: &Message<'_>) -> MessageAction {
        let (region, to) = (message.region, message.to.id);
        let mut state = self.lock();
        match self.peer_id(&state, region) {
            Some(peer) if peer == to => MessageAction::Deliver,
            None if message.is_first && state.first_messages.keep(region, to, message.payload) => MessageAction::Kept,
            _ => MessageAction::Drop,
        }
    }

    /// `None` if there is none.
    fn for_a_peer_that_is_here(&self, message: &Message<'_>) -> Option<MessageAction> {
        let mut peer = self.peer(message.region)?;
        let region = peer.view.as_mut().and_then(|view| view.current().ok());
        let epoch = region.map_or(RegionEpoch::default(), Region::epoch);
        let knows_sender = region.is_none_or(|region| region.peer_on(message.from.store_id).is_some());
        let own = peer.peer_id;
        Some(match message.to.id {
            _ if message.kind == MessageKind::Tombstone => {
                let is_gone = message.to.id == own && epoch.is_behind_any(message.epoch);
                if is_gone { MessageAction::Destroy { peer: own } } else { MessageAction::Drop }
            }
            _ if message.epoch.is_behind_any(epoch) && !knows_sender => MessageAction::ReplyTombstone,
            to if to < own => MessageAction::Drop,
            to if to > own => MessageAction::Destroy { peer: own },
            _ => MessageAction::Deliver,
        })
    }

    /// `None` if a later peer may be made.
    fn by_tombstone(&self, message: &Message<'_>, tombstone: &Region) -> Option<MessageAction> {
        let sender = tombstone.peer_on(message.from.store_id);
        if let Some(merge) = tombstone.merge_state() {
            let target = || merge.target.to_draft().build().ok();
            return Some(match sender.and_then(|_| target()) {
                Some(target) => MessageAction::ReplyMerged { target },
                None => MessageAction::ReplyTombstone,
            });
        }
        if message.epoch.is_behind_any(tombstone.epoch()) {
            let answers = matches!(message.kind, MessageKind::Vote | MessageKind::StaleCheck);
            return Some(match sender {
                None => MessageAction::ReplyTombstone,
                Some(_) if answers => MessageAction::ReplyMembers { tombstone: tombstone.clone() },
                Some(_) => MessageAction::Drop,
            });
        }
        let last = tombstone.destroyed_peer().max(self.peer_here(tombstone));
        (last >= Some(message.to.id)).then_some(MessageAction::Drop)
    }

    /// Makes an uninitialized peer. A region without a record is reserved before the record is looked for once more, so that a
    /// split that makes the same region either finds the reservation, or has left a record.
    fn create(&self, message: &Message<'_>, tombstone: Option<&Region>) -> Result<MessageAction, CreateError> {
        if !matches!(message.kind, MessageKind::Vote | MessageKind::FirstHeartbeat) {
            return Ok(MessageAction::Drop);
        }
        self.store().check_writable()?;
        let region = message.region;
        let mut creating = self.store().creating().lock();
        let record = self.record(region)?;
        if creating.contains_key(&region) || record.as_ref() != tombstone {
            return Ok(self.keep(message));
        }
        let stale = match self.stale_in(message) {
            Ok(stale) => stale,
            Err(overlaps) => return Ok(overlaps),
        };
        // Somebody else was faster: the same message came twice.
        if self.peer(region).is_some() {
            return Ok(MessageAction::Deliver);
        }
        match tombstone {
            Some(_) => self.store().raft().clean(region).inspect_err(|error| self.store().poison().set(error))?,
            None => {
                creating.insert(region, ChildReservation { peer: message.to.id, by_split: false });
            }
        }
        let mut state = self.lock();
        state.first_messages.forget(region, message.to.id);
        state.uninitialized.insert(region, message.to.id);
        Ok(MessageAction::Created { stale })
    }

    /// The regions that have keys of the new peer's: all of them have to be stale sources, which earlier peers of the new
    /// one's region were to take over.
    fn stale_in(&self, message: &Message<'_>) -> Result<Vec<Effect>, MessageAction> {
        let state = self.lock();
        let snapshot = self.store().meta().snapshot();
        let (target, peer, version) = (message.region, message.to.id, message.epoch.version);
        let mut stale = Vec::new();
        for region in message.range.into_iter().flat_map(|range| snapshot.overlapping(range)) {
            let merged_into = state.stale_sources.may_go(region.id(), target, peer, version);
            match (merged_into, self.peer_here(region)) {
                (Some(MergedInto::EarlierPeer), Some(peer)) => {
                    stale.push(Effect::DestroyStale { region: region.id(), peer });
                }
                _ => {
                    let is_behind = region.epoch().version < version;
                    return Err(MessageAction::Overlaps { region: region.clone(), is_behind });
                }
            }
        }
        Ok(stale)
    }

    pub(super) fn record(&self, region: RegionId) -> Result<Option<Region>, ReadError> {
        records::read(self.store().storage(), Family::Raft, &region_state_key(region))
    }
}
