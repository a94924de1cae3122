//! Letters from other stores. The library says of each whether its receiver is here, may come to be, or is gone.

use raft::eraftpb::{Message, MessageType};
use regionmeta::layout::region_state_key;
use regionmeta::{PeerId, Region, RegionId};
use regionmeta_batch::peers::{Destroyed, MessageAction};
use regionmeta_batch::records;
use regionmeta_batch::storage::Family;

use super::host::Host;
use super::node::Node;
use super::wire::{Body, Letter};
use super::{Done, snapshot};

impl Host {
    /// What is dropped here Raft sends again, if it is still needed. What is no letter is dropped for good.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Done {
        let Ok(letter) = Letter::decode(bytes) else { return Ok(()) };
        match self.peers.on_message(&letter.about(bytes))? {
            MessageAction::Deliver => self.deliver(letter),
            MessageAction::Created { stale } => {
                self.follow(stale, None)?;
                self.add(letter.region, letter.to)?;
                self.deliver(letter)
            }
            MessageAction::Destroy { peer } => {
                let ended = self.destroy(letter.region, peer)?;
                // It may be for a later peer, which can come to be now.
                if ended && letter.to.id > peer { self.receive(bytes) } else { Ok(()) }
            }
            MessageAction::ReplyTombstone => self.reply(&letter, Body::YouAreGone),
            MessageAction::ReplyMerged { target } => self.reply(&letter, Body::Merged(target)),
            _ => Ok(()),
        }
    }

    fn deliver(&mut self, letter: Letter) -> Done {
        let Body::Raft(message) = letter.body else { return Ok(()) };
        // A split has made the peer and its answer is on the way here.
        let Some(node) = self.nodes.get_mut(&letter.region) else { return Ok(()) };
        node.meet([letter.from]);
        node.heard.insert(letter.from.id.get());
        match message.get_msg_type() {
            MessageType::MsgSnapshot => self.take_snapshot(letter.region, *message),
            // What Raft refuses, such as a response from a peer that it knows no longer, is no reason to stop.
            _ => Ok(node.raft.step(*message).or_else(|error| match error {
                raft::Error::Store(_) => Err(error),
                _ => Ok(()),
            })?),
        }
    }

    /// Raft gets a snapshot if the library accepts it: from then on its range is kept from others. Nothing of the peer, or of
    /// those that go for it, may still be in the pool: a merge could be among it.
    fn take_snapshot(&mut self, region: RegionId, message: Message) -> Done {
        let position = snapshot::position(message.get_snapshot());
        // Another store's bytes: what cannot be read is no snapshot.
        let Ok((descriptor, _)) = snapshot::unpack(region, &message.get_snapshot().data) else { return Ok(()) };
        let meta = self.store.meta().snapshot();
        let overlapped: Vec<_> = meta.overlapping(descriptor.range()).map(Region::id).collect();
        if !overlapped.iter().chain([&region]).all(|region| self.is_idle(*region)) {
            return Ok(());
        }
        let committed = self.node(region)?.raft.raft.raft_log.committed;
        let Ok(effects) = self.peers.accept_snapshot(&descriptor, position, committed.into()) else { return Ok(()) };
        self.follow(effects, None)?;
        let node = self.node(region)?;
        node.raft.step(message)?;
        if node.raft.snap().is_none() {
            self.follow(self.peers.give_up_snapshot(region), None)?;
            for stopped in overlapped {
                self.pool.router().add(stopped);
            }
        }
        Ok(())
    }

    fn is_idle(&self, region: RegionId) -> bool {
        self.nodes.get(&region).is_none_or(Node::is_idle)
    }

    /// Ends a peer that does not leave by its own log. Whether it is gone now; if not, the sender will say so again.
    pub(super) fn destroy(&mut self, region: RegionId, peer: PeerId) -> Done<bool> {
        if !self.is_idle(region) {
            return Ok(false);
        }
        self.stop(region)?;
        let Destroyed::Buried { effects, .. } = self.peers.destroy(region, peer)? else { return Ok(false) };
        self.forget(region, None);
        self.follow(effects, None)?;
        Ok(true)
    }

    fn reply(&self, letter: &Letter, body: Body) -> Done {
        let (region, known) = (letter.region, self.record(letter.region)?);
        self.send(&Letter { region, from: letter.to, to: letter.from, known, body })
    }

    /// The region's record, also of a peer that is gone: its epoch proves to the other that it is behind.
    fn record(&self, region: RegionId) -> Done<Option<Region>> {
        Ok(records::read(self.store.storage(), Family::Raft, &region_state_key(region))?)
    }
}
