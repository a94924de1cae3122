//! One store and the Raft peers on it: what Raft has committed goes into an apply batch, and what the batch has made of the
//! region goes back to Raft.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use protobuf::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType, Message,
};
use raft::{Config, RawNode, StateRole};
use regionmeta::{
    AdminCommand, AdminRequest, ChangeKind, ChangePeerV2, LogIndex, LogPosition, Outcome, Region, RegionId, StoreId,
};
use regionmeta_batch::Store;
use regionmeta_batch::storage::RocksStorage;

use super::log::{Log, configuration};
use super::{Done, builder};

/// A Raft message on its way to another store.
pub(crate) struct Letter {
    pub(crate) to: StoreId,
    pub(crate) region: RegionId,
    pub(crate) message: Message,
}

/// Dropping it is what a crash is to the others: nothing is said, nothing is written.
pub(crate) struct Host {
    pub(crate) store: Arc<Store<RocksStorage>>,
    peers: BTreeMap<RegionId, RawNode<Log>>,
    /// How many commands were refused by what this store knows of their region.
    pub(crate) refused: usize,
}

impl Host {
    pub(crate) fn open(path: &Path) -> Done<Self> {
        let store = Arc::new(builder().open(path)?);
        let mut host = Self { store, peers: BTreeMap::new(), refused: 0 };
        let regions: Vec<_> = host.store.meta().snapshot().regions().cloned().collect();
        regions.iter().try_for_each(|region| host.add(region, false))?;
        Ok(host)
    }

    /// Starts the peer that this store has of a region.
    fn add(&mut self, region: &Region, campaign: bool) -> Done {
        let peer = region.peer_on(self.store.ident().store_id).ok_or("the region has no peer here")?;
        let config = Config {
            id: peer.id.get(),
            election_tick: 10,
            heartbeat_tick: 3,
            applied: self.store.apply_state(region.id()).applied_index.get(),
            pre_vote: true,
            ..Config::default()
        };
        let silent = slog::Logger::root(slog::Discard, slog::o!());
        let mut node = RawNode::new(&config, Log::new(self.store.clone(), region.id()), &silent)?;
        if campaign {
            node.campaign()?;
        }
        self.peers.insert(region.id(), node);
        Ok(())
    }

    pub(crate) fn region(&self, id: RegionId) -> Option<Region> {
        self.store.meta().snapshot().get(id).map(|entry| entry.region().clone())
    }

    /// Every region of the store, in key order, and how far it is applied.
    pub(crate) fn regions(&self) -> Vec<(Region, LogIndex)> {
        let applied = |region: &Region| self.store.apply_state(region.id()).applied_index;
        self.store.meta().snapshot().regions().map(|region| (region.clone(), applied(region))).collect()
    }

    pub(crate) fn leads(&self, region: RegionId) -> bool {
        self.peers.get(&region).is_some_and(|node| node.raft.state == StateRole::Leader)
    }

    fn peer(&mut self, region: RegionId) -> Done<&mut RawNode<Log>> {
        Ok(self.peers.get_mut(&region).ok_or_else(|| format!("region {region} has no peer here"))?)
    }

    pub(crate) fn campaign(&mut self, region: RegionId) -> Done {
        Ok(self.peer(region)?.campaign()?)
    }

    /// Hands the leadership to the region's peer on another store.
    pub(crate) fn hand_over(&mut self, region: RegionId, to: StoreId) -> Done {
        let heir = self.region(region).and_then(|region| region.peer_on(to)).ok_or("there is no such peer")?;
        self.peer(region)?.transfer_leader(heir.id.get());
        Ok(())
    }

    /// An admin command goes through the log as it is; Raft itself has to understand one that changes its configuration.
    pub(crate) fn propose(&mut self, request: &AdminRequest) -> Done {
        let bytes = request.encode()?;
        let node = self.peer(request.header.region_id)?;
        match &request.command {
            AdminCommand::ChangePeerV2(change) => node.propose_conf_change(bytes, raft_change(change))?,
            _ => node.propose(Vec::new(), bytes)?,
        }
        Ok(())
    }

    pub(crate) fn tick(&mut self) {
        for node in self.peers.values_mut() {
            node.tick();
        }
    }

    /// What comes for a peer that is not here yet is lost; Raft sends it again.
    pub(crate) fn receive(&mut self, letter: Letter) -> Done {
        match self.peers.get_mut(&letter.region) {
            Some(node) => Ok(node.step(letter.message)?),
            None => Ok(()),
        }
    }

    /// Does what the peers have ready: append, send, apply.
    pub(crate) fn work(&mut self) -> Done<Vec<Letter>> {
        let ready: Vec<_> = self.peers.iter().filter(|(_, node)| node.has_ready()).map(|(id, _)| *id).collect();
        let mut letters = Vec::new();
        for region in ready {
            if !self.peers.contains_key(&region) {
                continue; // a merge of this very round has taken it
            }
            let (messages, committed) = self.persist(region)?;
            let known = self.region(region).ok_or("the region is gone")?;
            letters.extend(messages.into_iter().filter_map(|message| address(&known, message)));
            for outcome in self.apply(region, &committed)? {
                self.follow(region, outcome)?;
            }
            self.peer(region)?.advance_apply();
        }
        Ok(letters)
    }

    /// Appends what is new; returns the messages, and the entries that are committed.
    fn persist(&mut self, region: RegionId) -> Done<(Vec<Message>, Vec<Entry>)> {
        let node = self.peer(region)?;
        let mut ready = node.ready();
        let (mut messages, mut committed) = (ready.take_messages(), ready.take_committed_entries());
        node.store().append(ready.entries(), &node.raft.hard_state())?;
        messages.extend(ready.take_persisted_messages());
        let mut more = node.advance_append(ready);
        if more.commit_index().is_some() {
            node.store().append(&[], &node.raft.hard_state())?;
        }
        messages.extend(more.take_messages());
        committed.extend(more.take_committed_entries());
        Ok((messages, committed))
    }

    /// Peers come with the regions of a split, and go with the source of a merge.
    fn follow(&mut self, region: RegionId, outcome: Outcome) -> Done {
        match outcome {
            Outcome::Split { regions, derived, .. } => {
                let children = regions.iter().filter(|child| child.id() != derived);
                for child in children {
                    self.add(child, self.leads(region))?;
                }
                Ok(())
            }
            Outcome::Merged { source, .. } => {
                self.peers.remove(&source.id());
                Ok(self.store.raft().clean(source.id())?)
            }
            _ => Ok(()),
        }
    }

    /// Applies committed entries in one batch; returns what they have done.
    fn apply(&mut self, region: RegionId, entries: &[Entry]) -> Done<Vec<Outcome>> {
        let store = self.store.clone();
        let (mut outcomes, mut changes) = (Vec::new(), Vec::new());
        let mut batch = store.begin();
        for entry in entries {
            let position = LogPosition { index: entry.index.into(), term: entry.term.into() };
            let is_change = entry.get_entry_type() == EntryType::EntryConfChangeV2;
            let request = if is_change { &entry.context } else { &entry.data };
            if request.is_empty() {
                batch.advance(region, position)?; // a new leader's first entry
                continue;
            }
            let request = AdminRequest::decode(request)?;
            match batch.execute(region, position, &request.header, &request.command) {
                Ok(_) if is_change => changes.push(ConfChangeV2::parse_from_bytes(&entry.data)?),
                Ok(outcome) => outcomes.push(outcome),
                Err(error) if error.counts() => self.refused += 1,
                Err(error) => return Err(error.into()),
            }
        }
        batch.commit()?;
        self.configure(region, &changes)?;
        Ok(outcomes)
    }

    /// Tells Raft of changes that are applied. Raft and descriptor count the peers each for themselves, and must agree.
    fn configure(&mut self, region: RegionId, changes: &[ConfChangeV2]) -> Done {
        let descriptor = self.region(region).ok_or("the region is gone")?;
        let node = self.peer(region)?;
        let mut last = None;
        for change in changes {
            last = Some(node.apply_conf_change(change)?);
        }
        match last.map(sorted).filter(|raft| *raft != sorted(configuration(&descriptor))) {
            Some(raft) => Err(format!("Raft takes {raft:?} for the peers of {descriptor}").into()),
            None => Ok(()),
        }
    }
}

/// Raft names peers, a letter names the store that has the peer.
fn address(region: &Region, message: Message) -> Option<Letter> {
    let to = region.peers().find(|peer| peer.id.get() == message.to)?.store_id;
    Some(Letter { to, region: region.id(), message })
}

/// Several changes enter the joint state, and none leaves it: both are commands of their own.
fn raft_change(command: &ChangePeerV2) -> ConfChangeV2 {
    let single = |kind, peer: regionmeta::Peer| {
        let mut single = ConfChangeSingle { node_id: peer.id.get(), ..ConfChangeSingle::default() };
        single.set_change_type(match kind {
            ChangeKind::AddNode => ConfChangeType::AddNode,
            ChangeKind::AddLearner => ConfChangeType::AddLearnerNode,
            ChangeKind::RemoveNode => ConfChangeType::RemoveNode,
        });
        single
    };
    let mut change = ConfChangeV2::default();
    if command.changes.len() > 1 {
        change.set_transition(ConfChangeTransition::Explicit);
    }
    change.set_changes(command.changes.iter().map(|change| single(change.kind, change.peer)).collect());
    change
}

fn sorted(mut state: ConfState) -> ConfState {
    for peers in [&mut state.voters, &mut state.learners, &mut state.voters_outgoing, &mut state.learners_next] {
        peers.sort_unstable();
    }
    state
}
