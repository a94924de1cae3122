//! What stores say to each other, and where they put it.
//!
//! A host knows nothing of the network but a channel to put letters into. Here they are carried by hand, so that a test
//! can lose them; in a server another thread would take them from there to the sockets.

use raft::eraftpb::{Message, MessageType};
use regionmeta::{INIT_LOG_INDEX, INIT_LOG_TERM, Peer, Region, RegionEpoch, RegionId};
use regionmeta_batch::peers::{self, MessageKind};

/// From one peer of a region to another.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) region: RegionId,
    pub(crate) from: Peer,
    pub(crate) to: Peer,
    /// The region as its sender knows it; nothing from a peer that does not know it yet.
    pub(crate) known: Option<Region>,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    Raft(Box<Message>),
    /// The sender has no leader, and asks whether it is a peer still.
    AmIWanted,
    /// The receiver is a peer no longer.
    YouAreGone,
    /// The receiver's region was merged into this one.
    Merged(RegionId),
}

impl Letter {
    /// What the library has to know, to say what becomes of it.
    pub(crate) fn about(&self) -> peers::Message<'_> {
        peers::Message {
            region: self.region,
            from: self.from,
            to: self.to,
            epoch: self.known.as_ref().map_or(RegionEpoch::default(), Region::epoch),
            range: self.known.as_ref().map(Region::range),
            kind: self.kind(),
            is_first: self.is_first(),
        }
    }

    fn kind(&self) -> MessageKind {
        match &self.body {
            Body::AmIWanted => MessageKind::StaleCheck,
            Body::YouAreGone | Body::Merged(_) => MessageKind::Tombstone,
            Body::Raft(message) => match message.get_msg_type() {
                MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => MessageKind::Vote,
                MessageType::MsgHeartbeat if message.commit == 0 => MessageKind::FirstHeartbeat,
                _ => MessageKind::Other,
            },
        }
    }

    /// Whether nothing can have been before it in its group.
    fn is_first(&self) -> bool {
        let Body::Raft(message) = &self.body else { return false };
        let first_index = INIT_LOG_INDEX.get() + 1;
        match message.get_msg_type() {
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => message.term == INIT_LOG_TERM.get() + 1,
            MessageType::MsgAppend => {
                message.entries.first().is_some_and(|entry| entry.index == first_index && entry.data.is_empty())
            }
            _ => false,
        }
    }
}
