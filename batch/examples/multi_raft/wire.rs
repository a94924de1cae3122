//! What stores say to each other, and where they put it.
//!
//! A host knows nothing of the network but a channel to put letters into, as bytes and with the store that they are for. In
//! one process they are carried by hand, so that they can be lost on purpose; between processes other threads take them to the
//! sockets (`processes/post.rs`).

use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};
use regionmeta::{INIT_LOG_INDEX, INIT_LOG_TERM, Peer, Region, RegionEpoch, RegionId, StoreId};
use regionmeta_batch::peers::{self, MessageKind};

use super::{Done, blobs};

/// A letter on its way.
pub(crate) type Mail = (StoreId, Vec<u8>);

/// From one peer of a region to another. It says of them who and where they are; which role they have the descriptor knows.
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
    /// The receiver's region was merged into this one, as it was then.
    Merged(Region),
}

const RAFT: u8 = 0;
const AM_I_WANTED: u8 = 1;
const YOU_ARE_GONE: u8 = 2;
const MERGED: u8 = 3;

impl Letter {
    /// What the library has to know, to say what becomes of it. It keeps the bytes of a letter whose receiver is about to come.
    pub(crate) fn about<'a>(&'a self, bytes: &'a [u8]) -> peers::Message<'a> {
        peers::Message {
            region: self.region,
            from: self.from,
            to: self.to,
            epoch: self.known.as_ref().map_or(RegionEpoch::default(), Region::epoch),
            range: self.known.as_ref().map(Region::range),
            kind: self.kind(),
            is_first: self.is_first(),
            payload: bytes,
            merge_target: if let Body::Merged(target) = &self.body { Some(target) } else { None },
        }
    }

    pub(crate) fn encode(&self) -> Done<Mail> {
        let mut bytes = Vec::new();
        let ids = [self.from.id.get(), self.from.store_id.get(), self.to.id.get(), self.to.store_id.get()];
        for id in [self.region.get()].into_iter().chain(ids) {
            blobs::push(&mut bytes, &id.to_be_bytes());
        }
        blobs::push(&mut bytes, self.known.as_ref().map_or(&[], Region::as_bytes));
        let (kind, body) = match &self.body {
            Body::Raft(message) => (RAFT, message.write_to_bytes()?),
            Body::AmIWanted => (AM_I_WANTED, Vec::new()),
            Body::YouAreGone => (YOU_ARE_GONE, Vec::new()),
            Body::Merged(target) => (MERGED, target.as_bytes().to_vec()),
        };
        blobs::push(&mut bytes, &[kind]);
        blobs::push(&mut bytes, &body);
        Ok((self.to.store_id, bytes))
    }

    /// # Errors
    /// If these are not a letter's bytes.
    pub(crate) fn decode(mut bytes: &[u8]) -> Done<Self> {
        let mut id = || -> Done<u64> { Ok(u64::from_be_bytes(blobs::pop(&mut bytes)?.try_into()?)) };
        let region = id()?.into();
        let from = Peer::voter(id()?.into(), id()?.into());
        let to = Peer::voter(id()?.into(), id()?.into());
        let known = blobs::pop(&mut bytes)?;
        let known = if known.is_empty() { None } else { Some(Region::from_bytes(known)?) };
        let (kind, body) = (blobs::pop(&mut bytes)?, blobs::pop(&mut bytes)?);
        let body = match kind {
            [RAFT] => Body::Raft(Box::new(Message::parse_from_bytes(body)?)),
            [AM_I_WANTED] => Body::AmIWanted,
            [YOU_ARE_GONE] => Body::YouAreGone,
            [MERGED] => Body::Merged(Region::from_bytes(body)?),
            _ => return Err("a letter of an unknown kind".into()),
        };
        Ok(Self { region, from, to, known, body })
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
