//! What Raft has ready: a snapshot, entries and votes to make durable, messages to send, committed entries to apply.

use raft::eraftpb::{Message, MessageType};
use raft::{SnapshotStatus, SoftState, StateRole};
use regionmeta::RegionId;
use regionmeta_batch::peers::Role;

use super::Done;
use super::host::Host;
use super::wire::{Body, Letter};

impl Host {
    pub(super) fn ready(&mut self, region: RegionId) -> Done {
        let ready = self.node(region)?.raft.ready();
        let role = ready.ss().map(|state| (state.leader_id, state.raft_state));
        if !ready.snapshot().is_empty() {
            self.persist_snapshot(region, ready.snapshot())?;
        }
        let node = self.node(region)?;
        let snapshot = ready.snapshot().get_metadata().index;
        let (messages, committed) = node.persist(ready)?;
        node.raft.advance_apply_to(snapshot);
        self.post(region, messages)?;
        if let Some((leader_id, raft_state)) = role {
            self.role_changed(region, &SoftState { leader_id, raft_state })?;
        }
        let router = self.pool.router().clone();
        self.node(region)?.apply(&router, region, &committed)
    }

    fn post(&mut self, region: RegionId, messages: Vec<Message>) -> Done {
        for message in messages {
            let node = self.node(region)?;
            let Some(to) = node.address(message.to) else { continue };
            let (from, is_snapshot) = (node.peer, message.get_msg_type() == MessageType::MsgSnapshot);
            if is_snapshot {
                // It is on its way. Whether it arrives Raft finds out by itself, and sends another one if not.
                node.raft.report_snapshot(message.to, SnapshotStatus::Finish);
            }
            let (known, body) = (self.region(region), Body::Raft(Box::new(message)));
            self.send(&Letter { region, from, to, known, body })?;
        }
        Ok(())
    }

    /// The library has to know who leads before it hears what the next entries have done: that decides who reports to PD,
    /// and which children of a split ask for votes.
    fn role_changed(&mut self, region: RegionId, state: &SoftState) -> Done {
        let node = self.node(region)?;
        let (peer, term) = (node.peer.id, node.raft.raft.term.into());
        let role = match state.raft_state {
            StateRole::Leader => Role::Leader { term },
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        };
        let led = self.peers.peer(region).is_some_and(|peer| peer.role.is_leader());
        if self.peers.set_role(region, peer, role) {
            match role {
                Role::Leader { term } => {
                    self.heartbeats.lead(region, peer, term);
                }
                _ if led => self.heartbeats.follow(region),
                _ => {} // a child is reported although it only asks for votes
            }
        }
        if state.leader_id == 0 {
            return Ok(());
        }
        self.follow(self.peers.on_leader(region, state.leader_id.into()), None)
    }
}
