//! One Raft peer: the `raft` crate's node, and what its host has to remember beside it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use raft::eraftpb::{self, ConfState, Message};
use raft::{Config, RawNode, Ready, StateRole};
use regionmeta::{Peer, PeerId, Region, RegionId};
use regionmeta_batch::Store;
use regionmeta_batch::apply::{Entry, Router};
use regionmeta_batch::storage::RocksStorage;

use super::Done;
use super::command::{self, Tag};
use super::log::{Log, configuration};

pub(crate) struct Node {
    pub(crate) raft: RawNode<Log>,
    pub(crate) peer: Peer,
    /// Raft names peers; which store has a peer is known from the descriptor, or from the peer's own letters.
    addresses: BTreeMap<u64, Peer>,
    /// Committed entries for which the region's mailbox had no room. Raft's thread must not wait for room: what keeps the
    /// mailbox full may wait for this very thread.
    queue: VecDeque<Entry<RocksStorage, Tag>>,
    /// Peers of which something came since PD was told how they are.
    pub(crate) heard: BTreeSet<u64>,
    /// Entries that the pool has not answered.
    in_pool: usize,
}

impl Node {
    /// A peer that goes on where its records say. Without records it knows nothing, and waits for a snapshot.
    pub(crate) fn open(store: &Arc<Store<RocksStorage>>, region: RegionId, peer: Peer) -> Done<Self> {
        let known = store.meta().snapshot().get(region).map(|entry| entry.region().clone());
        let applied = known.as_ref().map_or(0, |_| store.apply_state(region).applied_index.get());
        let config = Config {
            id: peer.id.get(),
            election_tick: 10,
            heartbeat_tick: 3,
            applied,
            pre_vote: true,
            ..Config::default()
        };
        let silent = slog::Logger::root(slog::Discard, slog::o!());
        let raft = RawNode::new(&config, Log::open(store.clone(), region)?, &silent)?;
        let mut node =
            Self { raft, peer, addresses: BTreeMap::new(), queue: VecDeque::new(), heard: BTreeSet::new(), in_pool: 0 };
        known.iter().for_each(|region| node.meet(region.peers()));
        Ok(node)
    }

    pub(crate) fn meet(&mut self, peers: impl IntoIterator<Item = Peer>) {
        self.addresses.extend(peers.into_iter().map(|peer| (peer.id.get(), peer)));
    }

    pub(crate) fn address(&self, peer: u64) -> Option<Peer> {
        self.addresses.get(&peer).copied()
    }

    /// Makes durable what is new. Returns the messages that may go out now, and the entries that are committed.
    pub(crate) fn persist(&mut self, mut ready: Ready) -> Done<(Vec<Message>, Vec<eraftpb::Entry>)> {
        let (mut messages, mut committed) = (ready.take_messages(), ready.take_committed_entries());
        let hard_state = self.raft.raft.hard_state();
        self.raft.mut_store().append(ready.entries(), &hard_state)?;
        messages.extend(ready.take_persisted_messages());
        let mut more = self.raft.advance_append(ready);
        if more.commit_index().is_some() {
            let hard_state = self.raft.raft.hard_state();
            self.raft.mut_store().append(&[], &hard_state)?;
        }
        messages.extend(more.take_messages());
        committed.extend(more.take_committed_entries());
        Ok((messages, committed))
    }

    pub(crate) fn leads(&self) -> bool {
        self.raft.raft.state == StateRole::Leader
    }

    pub(crate) fn leader(&self) -> Option<PeerId> {
        Some(self.raft.raft.leader_id).filter(|leader| *leader != 0).map(PeerId::new)
    }

    /// Whether the pool owes this peer nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_pool == 0 && self.queue.is_empty()
    }

    /// Hands committed entries to the apply pool; what finds no room goes with a later call.
    pub(crate) fn apply(
        &mut self,
        router: &Router<RocksStorage, Tag>,
        region: RegionId,
        entries: &[eraftpb::Entry],
    ) -> Done {
        for entry in entries {
            self.queue.push_back(command::committed(entry)?);
        }
        let Some(mailbox) = router.region(region).filter(|_| !self.queue.is_empty()) else { return Ok(()) };
        let waiting = self.queue.len();
        // Full is no error here, and a region that has left takes its log with it.
        let _ = mailbox.try_send_all(&mut self.queue);
        self.in_pool += waiting - self.queue.len();
        Ok(())
    }

    /// The pool has answered an entry, and all that follows from it is done.
    pub(crate) fn applied(&mut self, index: u64) {
        self.in_pool = self.in_pool.saturating_sub(1);
        self.raft.advance_apply_to(index);
    }

    /// Tells Raft of a change that is applied. Raft and the descriptor count the peers each for themselves, and must agree.
    pub(crate) fn change_members(&mut self, region: &Region, change: &eraftpb::ConfChangeV2) -> Done {
        let counted = sorted(self.raft.apply_conf_change(change)?);
        self.meet(region.peers());
        match counted == configuration(region) {
            true => Ok(()),
            false => Err(format!("Raft takes {counted:?} for the peers of {region}").into()),
        }
    }
}

fn sorted(mut state: ConfState) -> ConfState {
    for peers in [&mut state.voters, &mut state.learners, &mut state.voters_outgoing, &mut state.learners_next] {
        peers.sort_unstable();
    }
    state
}
