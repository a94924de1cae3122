//! Random histories of splits and membership changes, a third of them stale, against a model that is as plain as can be (T1).

use std::collections::{BTreeMap, BTreeSet};

use regionmeta::{
    AdminCommand, BatchSplit, ChangeKind, LogPosition, Peer, PeerChange, PeerRole, RegionEpoch, RegionId, SplitRequest,
};
use regionmeta_batch::Store;
use regionmeta_batch::apply::{ApplyBatch, ApplyError};
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::storage::Storage;

use crate::common::{CLUSTER, Disk, HERE, Mem, Rocks, at, builder, seeded, setting};

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ModelRegion {
    pub(crate) start: Vec<u8>,
    /// Empty for unbounded.
    pub(crate) end: Vec<u8>,
    pub(crate) conf_ver: u64,
    pub(crate) version: u64,
    pub(crate) peers: Vec<Peer>,
    pub(crate) applied: u64,
}

/// What a store must hold, by the rules of the spec and nothing else.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Model {
    pub(crate) live: BTreeMap<u64, ModelRegion>,
    pub(crate) buried: BTreeSet<u64>,
}

#[derive(PartialEq, Debug)]
pub(crate) enum Answer {
    Done,
    Refused,
    CommitFirst,
}

impl Model {
    /// Applies the next entry of a region. `fresh` are the regions that the running batch has created.
    pub(crate) fn apply(
        &mut self,
        id: u64,
        epoch: RegionEpoch,
        command: &AdminCommand,
        fresh: &BTreeSet<u64>,
    ) -> Answer {
        let before = self.live[&id].clone();
        self.live.get_mut(&id).unwrap().applied += 1;
        let answer = match command {
            AdminCommand::ChangePeer(change) if epoch.conf_ver == before.conf_ver => self.change(id, *change, fresh),
            AdminCommand::BatchSplit(split) if epoch == RegionEpoch::new(before.conf_ver, before.version) => {
                self.split(id, split)
            }
            _ => Answer::Refused,
        };
        if answer == Answer::CommitFirst {
            self.live.insert(id, before);
        }
        answer
    }

    fn change(&mut self, id: u64, change: PeerChange, fresh: &BTreeSet<u64>) -> Answer {
        let region = self.live.get_mut(&id).unwrap();
        let existing = region.peers.iter().position(|peer| peer.store_id == change.peer.store_id);
        match (change.kind, existing) {
            (ChangeKind::AddNode, None) => region.peers.push(Peer { role: PeerRole::Voter, ..change.peer }),
            (ChangeKind::AddLearner, None) => region.peers.push(Peer { role: PeerRole::Learner, ..change.peer }),
            (ChangeKind::AddNode, Some(at))
                if region.peers[at].id == change.peer.id && region.peers[at].role == PeerRole::Learner =>
            {
                region.peers[at].role = PeerRole::Voter;
            }
            (ChangeKind::RemoveNode, Some(at))
                if region.peers[at] == change.peer
                    && region.peers.iter().any(|peer| peer.id != change.peer.id && peer.role == PeerRole::Voter) =>
            {
                if change.peer.store_id == HERE && fresh.contains(&id) {
                    return Answer::CommitFirst;
                }
                region.peers.remove(at);
                if change.peer.store_id == HERE {
                    self.live.remove(&id);
                    self.buried.insert(id);
                    return Answer::Done;
                }
            }
            _ => return Answer::Refused,
        }
        region.conf_ver += 1;
        Answer::Done
    }

    fn split(&mut self, id: u64, split: &BatchSplit) -> Answer {
        let parent = self.live[&id].clone();
        let keys: Vec<_> = split.requests.iter().map(|request| request.split_key.clone()).collect();
        let ids: Vec<_> = split.requests.iter().map(|request| request.new_region_id.get()).collect();
        let borders = [vec![parent.start.clone()], keys.clone()].concat();
        let ascending = borders.windows(2).all(|pair| pair[0] < pair[1]);
        let inside = keys.last().is_some_and(|last| parent.end.is_empty() || *last < parent.end);
        let counts = split.requests.iter().all(|request| request.new_peer_ids.len() == parent.peers.len());
        let distinct = ids.iter().chain([&id]).collect::<BTreeSet<_>>().len() == ids.len() + 1;
        if !(ascending && inside && counts && distinct) {
            return Answer::Refused;
        }
        // What has a record here stays as it is: neither a live region nor a tombstone is overwritten by a split.
        let taken: BTreeSet<_> =
            ids.iter().filter(|id| self.live.contains_key(id) || self.buried.contains(id)).collect();
        let ends = [keys, vec![parent.end.clone()]].concat();
        let mut owners: Vec<_> = split.requests.iter().map(Some).collect();
        owners.insert(if split.right_derive { owners.len() } else { 0 }, None);
        for ((start, end), owner) in borders.into_iter().zip(ends).zip(owners) {
            let version = parent.version + ids.len() as u64;
            let mut piece = ModelRegion { start, end, version, ..parent.clone() };
            if let Some(request) = owner {
                if taken.contains(&request.new_region_id.get()) {
                    continue;
                }
                piece.applied = 5;
                for (peer, id) in piece.peers.iter_mut().zip(&request.new_peer_ids) {
                    peer.id = *id;
                }
            }
            self.live.insert(owner.map_or(id, |request| request.new_region_id.get()), piece);
        }
        Answer::Done
    }
}

/// Fails unless the store shows exactly what the model holds.
#[track_caller]
pub(crate) fn assert_same<S: Storage>(store: &Store<S>, model: &Model) {
    let snapshot = store.meta().snapshot();
    assert_eq!(snapshot.validate(), []);
    let found: BTreeMap<_, _> = snapshot.regions().map(|region| (region.id().get(), describe(store, region))).collect();
    assert_eq!(found, model.live);
}

pub(crate) fn describe<S: Storage>(store: &Store<S>, region: &regionmeta::Region) -> ModelRegion {
    ModelRegion {
        start: region.start_key().to_vec(),
        end: region.end_key().to_wire().to_vec(),
        conf_ver: region.epoch().conf_ver,
        version: region.epoch().version,
        peers: region.peers().collect(),
        applied: store.apply_state(region.id()).applied_index.get(),
    }
}

/// Makes commands that mostly fit, with ids that are mostly new.
pub(crate) struct Generator<'a> {
    pub(crate) rng: &'a mut fastrand::Rng,
    pub(crate) last_id: u64,
}

impl Generator<'_> {
    pub(crate) fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(crate) fn percent(&mut self, chance: u8) -> bool {
        self.rng.u8(0..100) < chance
    }

    /// The region's epoch; three in ten times another one.
    pub(crate) fn epoch(&mut self, region: &ModelRegion) -> RegionEpoch {
        let mut epoch = RegionEpoch::new(region.conf_ver, region.version);
        if self.percent(30) {
            let half = if self.rng.bool() { &mut epoch.conf_ver } else { &mut epoch.version };
            *half = if self.rng.bool() { *half + 1 } else { half.saturating_sub(1) };
        }
        epoch
    }

    pub(crate) fn command(&mut self, region: &ModelRegion, taken: &[u64]) -> AdminCommand {
        if self.percent(40) { self.split(region, taken) } else { self.change(region) }
    }

    /// 16 distinct keys, so that splits often meet a border.
    fn split(&mut self, region: &ModelRegion, taken: &[u64]) -> AdminCommand {
        let mut keys: Vec<_> = (0..self.rng.usize(1..4)).map(|_| vec![self.rng.u8(b'a'..=b'p')]).collect();
        if self.percent(80) {
            keys.sort();
            keys.dedup();
        }
        let requests = keys.into_iter().map(|split_key| {
            let new_region_id =
                if self.percent(5) { taken[self.rng.usize(..taken.len())] } else { self.new_id() }.into();
            let peers = region.peers.len() + usize::from(self.percent(3));
            let new_peer_ids = (0..peers).map(|_| self.new_id().into()).collect();
            SplitRequest { split_key, new_region_id, new_peer_ids }
        });
        let requests = requests.collect();
        AdminCommand::BatchSplit(BatchSplit { requests, right_derive: self.rng.bool(), shares_size: false })
    }

    fn change(&mut self, region: &ModelRegion) -> AdminCommand {
        let kinds = [ChangeKind::AddNode, ChangeKind::AddLearner, ChangeKind::RemoveNode];
        let kind = kinds[self.rng.usize(..3)];
        let known = region.peers[self.rng.usize(..region.peers.len())];
        // This store's own peer leaves now and then; if it left as often as others, few regions would be old.
        let own = known.store_id == HERE && kind == ChangeKind::RemoveNode;
        let peer = if self.percent(if own { 10 } else { 60 }) {
            known
        } else {
            Peer::voter(self.new_id().into(), self.rng.u64(1..6).into())
        };
        AdminCommand::ChangePeer(PeerChange { kind, peer })
    }
}

/// The steps of one history, printed when it fails.
#[derive(Default)]
pub(crate) struct History(pub(crate) Vec<String>);

impl Drop for History {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.0.join("\n"));
        }
    }
}

/// One step: an entry of some region, applied to the batch and to the model; both must answer alike.
fn apply_one<S: Storage>(
    batch: &mut ApplyBatch<'_, S>,
    model: &mut Model,
    fresh: &mut BTreeSet<u64>,
    generator: &mut Generator<'_>,
    history: &mut History,
) {
    let ids: Vec<_> = model.live.keys().copied().collect();
    let id = ids[generator.rng.usize(..ids.len())];
    let region = model.live[&id].clone();
    let taken: Vec<_> = ids.iter().chain(&model.buried).copied().collect();
    let (epoch, command) = (generator.epoch(&region), generator.command(&region, &taken));
    let entry = at(region.applied + 1);
    history.0.push(format!("region {id} entry {} epoch {epoch} {command:?}", entry.index));

    assert_misplaced_entries_are_refused(batch, id.into(), region.applied, epoch, &command);
    let before = batch.region(id.into()).unwrap();
    let found = match batch.apply(id.into(), entry, epoch, &command) {
        Ok(_) => Answer::Done,
        Err(ApplyError::Refused(_)) => Answer::Refused,
        Err(ApplyError::CommitFirst { .. }) => Answer::CommitFirst,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(found, model.apply(id, epoch, &command, fresh));
    if found != Answer::Done {
        assert!(batch.region(id.into()).unwrap().same_buffer(&before), "a refusal changed the region");
    }
    fresh.extend(model.live.keys().filter(|id| !ids.contains(id)));
}

fn assert_misplaced_entries_are_refused<S: Storage>(
    batch: &mut ApplyBatch<'_, S>,
    id: RegionId,
    applied: u64,
    epoch: RegionEpoch,
    command: &AdminCommand,
) {
    let mut apply = |entry: LogPosition| batch.apply(id, entry, epoch, command);
    assert!(matches!(apply(at(applied)), Err(ApplyError::AlreadyApplied { .. })));
    assert!(matches!(apply(at(applied + 2)), Err(ApplyError::Gap { .. })));
}

/// Runs one history, in batches of a few entries that are committed, or dropped now and then, with restarts in between.
fn run_history(disk: &impl Disk, rng: &mut fastrand::Rng, steps: usize) {
    let mut store = builder().bootstrap_storage(disk.storage(), &EmbeddedPd::new(CLUSTER)).unwrap();
    let mut committed = Model::default();
    let first = store.meta().snapshot().locate(b"").unwrap().region().clone();
    committed.live.insert(first.id().get(), describe(&store, &first));
    let (mut generator, mut history) = (Generator { rng, last_id: 100 }, History::default());
    let mut done = 0;
    while done < steps && !committed.live.is_empty() {
        let (mut model, mut fresh, mut batch) = (committed.clone(), BTreeSet::new(), store.begin());
        for _ in 0..generator.rng.usize(1..7) {
            if !model.live.is_empty() {
                apply_one(&mut batch, &mut model, &mut fresh, &mut generator, &mut history);
                done += 1;
            }
        }
        assert_same(&store, &committed);
        if generator.percent(90) {
            batch.commit().unwrap();
            committed = model;
        } else {
            drop(batch);
        }
        history.0.push("-- end of batch".to_owned());
        assert_same(&store, &committed);
        if generator.percent(15) {
            history.0.push("-- restart".to_owned());
            drop(store);
            store = disk.open().unwrap();
            assert_same(&store, &committed);
            assert_eq!(store.recovery().tombstones, committed.buried.len());
        }
    }
}

#[test]
fn random_histories_follow_the_model() {
    let (_, mut rng) = seeded("random_histories_follow_the_model");
    for _ in 0..setting("REGIONMETA_RUNS", 64) {
        run_history(&Mem::empty(), &mut rng, 100);
    }
}

#[test]
fn random_histories_follow_the_model_on_rocksdb() {
    let (_, mut rng) = seeded("random_histories_follow_the_model_on_rocksdb");
    for _ in 0..6 {
        run_history(&Rocks::empty(), &mut rng, 60);
    }
}
