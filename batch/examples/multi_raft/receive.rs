//! Letters from other stores. The library says of each whether its receiver is here, may come to be, or is gone.

use raft::eraftpb::{Message, MessageType};
use regionmeta::layout::region_state_key;
use regionmeta::{PeerId, Region, RegionId};
use regionmeta_batch::peers::{Destroyed, MessageAction};
use regionmeta_batch::records;
use regionmeta_batch::storage::Family;

use super::host::{Host, LEADERLESS_TICKS};
use super::node::Node;
use super::wire::{Body, Letter};
use super::{Done, data, snapshot};

impl Host {
    /// What is dropped here Raft sends again, if it is still needed.
    pub(crate) fn receive(&mut self, letter: Letter) -> Done {
        if let Body::Merged(target) = letter.body {
            self.merged.insert(letter.region, target);
            return Ok(());
        }
        match self.peers.on_message(&letter.about())? {
            MessageAction::Deliver => self.deliver(letter),
            MessageAction::Created => {
                self.add(letter.region, letter.to)?;
                self.deliver(letter)
            }
            MessageAction::Destroy { peer } => {
                let ended = self.destroy(letter.region, peer)?;
                // It may be for a later peer, which can come to be now.
                if ended && letter.to.id > peer { self.receive(letter) } else { Ok(()) }
            }
            MessageAction::ReplyTombstone => self.reply(&letter, Body::YouAreGone),
            MessageAction::ReplyMerged { target } => self.reply(&letter, Body::Merged(target.id())),
            _ => Ok(()),
        }
    }

    fn deliver(&mut self, letter: Letter) -> Done {
        let Body::Raft(message) = letter.body else { return Ok(()) };
        // A split has made the peer and its answer is on the way here.
        let Some(node) = self.nodes.get_mut(&letter.region) else { return Ok(()) };
        node.meet([letter.from]);
        match message.get_msg_type() {
            MessageType::MsgSnapshot => self.take_snapshot(letter.region, *message),
            // A response from a peer that Raft knows no longer is no reason to stop.
            _ => Ok(node.raft.step(*message).or_else(|error| match error {
                raft::Error::StepPeerNotFound => Ok(()),
                error => Err(error),
            })?),
        }
    }

    /// Raft gets a snapshot if the library accepts it: from then on its range is kept from others. Nothing of the peer, or of
    /// those that go for it, may still be in the pool: a merge could be among it.
    fn take_snapshot(&mut self, region: RegionId, message: Message) -> Done {
        let position = snapshot::position(message.get_snapshot());
        // Another store's bytes: what cannot be read is no snapshot.
        let Ok((descriptor, _)) = snapshot::unpack(region, &message.get_snapshot().data) else { return Ok(()) };
        let going = self.merged_into(region);
        if !self.is_idle(region) || !going.iter().all(|source| self.is_idle(*source)) {
            return Ok(());
        }
        if self.peers.accept_snapshot(&descriptor, position, &going).is_err() {
            return Ok(());
        }
        let node = self.node(region)?;
        node.raft.step(message)?;
        if node.raft.snap().is_none() {
            self.peers.give_up_snapshot(region);
        }
        Ok(())
    }

    /// The regions of this store that may go for a snapshot of the region, because the others have merged them into it.
    fn merged_into(&self, region: RegionId) -> Vec<RegionId> {
        let sources = self.merged.iter().filter(|(_, target)| **target == region);
        sources.map(|(source, _)| *source).collect()
    }

    fn is_idle(&self, region: RegionId) -> bool {
        self.nodes.get(&region).is_none_or(Node::is_idle)
    }

    /// Ends a peer that does not leave by its own log. Whether it is gone now; if not, the sender will say so again.
    fn destroy(&mut self, region: RegionId, peer: PeerId) -> Done<bool> {
        if !self.is_idle(region) || self.applying.contains(&region) {
            return Ok(false);
        }
        self.stop(region)?;
        let Destroyed::Buried(tombstone) = self.peers.destroy(region, peer)? else { return Ok(false) };
        self.nodes.remove(&region);
        self.seen.destroyed.push((region, None));
        data::drop_unowned(&self.store, tombstone.range())?;
        Ok(true)
    }

    /// Asks on behalf of peers that have had no leader for long. A group that is there ignores it; where a peer's region is gone,
    /// the library knows what became of it.
    pub(super) fn ask_whether_wanted(&mut self) -> Done {
        for (region, node) in &self.nodes {
            if node.leaderless_ticks % LEADERLESS_TICKS != LEADERLESS_TICKS - 1 {
                continue;
            }
            for to in node.others() {
                let (region, known, body) = (*region, self.region(*region), Body::AmIWanted);
                self.send(&Letter { region, from: node.peer, to, known, body })?;
            }
        }
        Ok(())
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
