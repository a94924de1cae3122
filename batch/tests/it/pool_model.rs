//! Random histories through the whole pipeline, against the plain model (T1): many regions in flight at once, a third of the
//! commands stale, duplicates, merges whose commit may come before their prepare, and one, two or four workers.

use std::collections::{BTreeSet, HashMap};

use regionmeta::{
    AdminCommand, AdminHeader, AdminRequest, CommitMerge, KeyRange, MergeState, Peer, PeerState, PrepareMerge, Region,
    RegionDraft, RegionEpoch, RegionId, RollbackMerge,
};
use regionmeta_batch::apply::{AnswerError, ApplySettings, Data, Entry, Mutation};
use regionmeta_batch::storage::{Family, Storage};

use crate::common::{Disk, Mem, Rocks, at, seeded, setting};
use crate::model::{Answer, Generator, History, Model, ModelRegion, assert_same, describe};
use crate::pool::Running;

/// What an entry must be answered.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Expected {
    Done,
    Refused,
    Duplicate,
}

struct Histories<'a, S: Storage> {
    running: Running<S>,
    model: Model,
    generator: Generator<'a>,
    history: History,
    /// What was sent and not yet heard of.
    expected: HashMap<(u64, u64), Vec<Expected>>,
    in_flight: usize,
    /// Regions whose record exists for certain: a split that names one skips it, whichever comes first.
    settled: Vec<u64>,
    /// The last write of each region's host data, which must be there with the region's apply state.
    written: HashMap<u64, u64>,
}

impl<'a, S: Storage> Histories<'a, S> {
    fn new(running: Running<S>, rng: &'a mut fastrand::Rng) -> Self {
        let first = running.store.meta().snapshot().locate(b"").unwrap().region().clone();
        let mut model = Model::default();
        model.live.insert(first.id().get(), describe(&running.store, &first));
        let generator = Generator { rng, last_id: 100 };
        let settled = vec![first.id().get()];
        let (history, expected) = (History::default(), HashMap::new());
        Self { running, model, generator, history, expected, in_flight: 0, settled, written: HashMap::new() }
    }

    fn step(&mut self) {
        let ids: Vec<_> = self.model.live.keys().copied().collect();
        let id = ids[self.generator.rng.usize(..ids.len())];
        match self.generator.rng.u8(0..100) {
            0..10 => self.write(id),
            10..15 => self.duplicate(id),
            15..30 => self.merge(id),
            _ => self.change(id),
        }
        if self.in_flight > 64 || self.generator.percent(5) {
            self.settle();
        }
    }

    fn write(&mut self, id: u64) {
        let region = self.model.live.get_mut(&id).unwrap();
        region.applied += 1;
        let (index, version) = (region.applied, region.version);
        let stale = self.generator.percent(30);
        let put = Mutation::Put { key: data_key(id), value: index.to_string().into_bytes() };
        let epoch = RegionEpoch::new(0, version + u64::from(stale));
        self.history.0.push(format!("region {id} entry {index}: write at version {}", epoch.version));
        if !stale {
            self.written.insert(id, index);
        }
        let entry = Entry::write(at(index), epoch, Data::List(vec![put]), index);
        self.send(id, entry, if stale { Expected::Refused } else { Expected::Done });
    }

    fn duplicate(&mut self, id: u64) {
        let index = self.model.live[&id].applied;
        if index > 5 {
            self.send(id, Entry::empty(at(index), index), Expected::Duplicate);
        }
    }

    fn change(&mut self, id: u64) {
        let region = self.model.live[&id].clone();
        let (epoch, command) = (self.generator.epoch(&region), self.generator.command(&region, &self.settled));
        let answer = self.model.apply(id, epoch, &command, &BTreeSet::new());
        self.send_admin(id, region.applied + 1, epoch, command, answer == Answer::Done);
    }

    /// A whole merge: prepared, then committed or rolled back. What is prepared and what is committed may be sent in any
    /// order.
    fn merge(&mut self, source_id: u64) {
        let source = self.model.live[&source_id].clone();
        let Some((target_id, target)) = self.partner(&source) else { return };
        if self.running.pool.router().region(source_id.into()).is_none() {
            self.hear_all(); // so that a target that is told first does not wait for what cannot be sent
        }
        let index = source.applied + 1;
        let stale = self.generator.percent(20);
        let epoch = RegionEpoch::new(source.conf_ver, source.version + u64::from(stale));
        let target_region = to_region(target_id, &target);
        let command =
            AdminCommand::PrepareMerge(PrepareMerge { target: target_region.clone(), min_index: index.into() });
        self.model.live.get_mut(&source_id).unwrap().applied = index;
        if stale {
            return self.send_admin(source_id, index, epoch, command, false);
        }
        let merging = self.merging(source_id, &target_region, index);
        let commit = AdminCommand::CommitMerge(CommitMerge {
            source: merging.clone(),
            commit: index.into(),
            entries: Vec::new(),
        });
        let prepare = (source_id, index, epoch, command);
        if self.generator.percent(30) {
            self.send_admin(prepare.0, prepare.1, prepare.2, prepare.3, true);
            return self.give_up(source_id, target_id, &merging, commit);
        }
        let to_target = (target_id, target.applied + 1, target_region.epoch(), commit);
        self.absorb(source_id, target_id);
        let mut both = [prepare, to_target];
        self.generator.rng.shuffle(&mut both);
        for (id, index, epoch, command) in both {
            self.send_admin(id, index, epoch, command, true);
        }
    }

    /// A neighbour on the same stores, in the same roles.
    fn partner(&self, source: &ModelRegion) -> Option<(u64, ModelRegion)> {
        let places = |region: &ModelRegion| {
            region
                .peers
                .iter()
                .map(|peer| (peer.store_id, peer.role))
                .map(|(store, role)| (store.get(), role as u8))
                .collect::<BTreeSet<_>>()
        };
        let touches = |other: &ModelRegion| {
            (!source.end.is_empty() && source.end == other.start)
                || (!other.end.is_empty() && other.end == source.start)
        };
        let found = self.model.live.iter().find(|(_, other)| touches(other) && places(other) == places(source));
        found.map(|(id, region)| (*id, region.clone()))
    }

    /// The source as its PrepareMerge leaves it.
    fn merging(&mut self, id: u64, target: &Region, commit: u64) -> Region {
        let region = self.model.live.get_mut(&id).unwrap();
        region.conf_ver += 1;
        region.version += 1;
        let merge = MergeState { min_index: commit.into(), commit: commit.into(), target: target.as_ref() };
        let plain = to_region(id, region);
        RegionDraft { state: PeerState::Merging, merge_state: Some(merge), ..plain.to_draft() }.build().unwrap()
    }

    fn absorb(&mut self, source_id: u64, target_id: u64) {
        let source = self.model.live.remove(&source_id).unwrap();
        self.model.buried.insert(source_id);
        let target = self.model.live.get_mut(&target_id).unwrap();
        target.applied += 1;
        target.version = target.version.max(source.version) + 1;
        if !target.end.is_empty() && target.end == source.start {
            target.end = source.end
        } else {
            target.start = source.start
        }
    }

    /// The target moves on, so its CommitMerge is stale and the source is rolled back.
    fn give_up(&mut self, source_id: u64, target_id: u64, merging: &Region, commit: AdminCommand) {
        let stale = merging.merge_state().unwrap().target.epoch().with_version_moved(1).unwrap();
        let target = self.model.live.get_mut(&target_id).unwrap();
        target.applied += 1;
        let index = target.applied;
        self.send_admin(target_id, index, stale, commit, false);
        let source = self.model.live.get_mut(&source_id).unwrap();
        source.applied += 1;
        source.version += 1;
        let (index, commit) = (source.applied, merging.merge_state().unwrap().commit);
        let rollback = AdminCommand::RollbackMerge(RollbackMerge { commit });
        self.send_admin(source_id, index, merging.epoch(), rollback, true);
    }

    fn send_admin(&mut self, id: u64, index: u64, epoch: RegionEpoch, command: AdminCommand, done: bool) {
        self.history.0.push(format!("region {id} entry {index} epoch {epoch} {command:?}, done: {done}"));
        let request = AdminRequest { header: AdminHeader::new(id.into(), epoch), command };
        let entry = Entry::admin(at(index), request, index);
        self.send(id, entry, if done { Expected::Done } else { Expected::Refused });
    }

    fn send(&mut self, id: u64, entry: Entry<S, u64>, expected: Expected) {
        if self.running.pool.router().region(RegionId::new(id)).is_none() {
            self.hear_all(); // a child has no mailbox before its split is applied
        }
        self.expected.entry((id, entry.position().index.get())).or_default().push(expected);
        self.in_flight += 1;
        self.running.send(id.into(), entry);
    }

    fn hear_all(&mut self) {
        while self.in_flight > 0 {
            let answer = self.running.answer_or(&self.expected);
            self.in_flight -= 1;
            let found = match &answer.result {
                Ok(_) => Expected::Done,
                Err(AnswerError::NotApplied(_)) => Expected::Duplicate,
                Err(AnswerError::Refused(_) | AnswerError::EpochNotMatch { .. }) => Expected::Refused,
                Err(error) => panic!("{error}"),
            };
            let waiting = self.expected.get_mut(&(answer.region.get(), answer.position.index.get())).unwrap();
            assert_eq!(waiting.remove(0), found, "{answer:?}");
            self.expected.retain(|_, waiting| !waiting.is_empty());
        }
    }

    /// Everything is heard of, and the store is as the model says.
    fn settle(&mut self) {
        self.hear_all();
        assert_same(&self.running.store, &self.model);
        for (id, index) in &self.written {
            let found = self.running.store.storage().get(Family::Default, &data_key(*id)).unwrap();
            assert_eq!(found, Some(index.to_string().into_bytes()), "the data of region {id}");
        }
        self.settled = self.model.live.keys().chain(&self.model.buried).copied().collect();
        self.history.0.push("-- settled".to_owned());
    }
}

fn data_key(id: u64) -> Vec<u8> {
    format!("z{id}").into_bytes()
}

fn to_region(id: u64, region: &ModelRegion) -> Region {
    let range = KeyRange::from_wire(&region.start, &region.end);
    let peers: Vec<Peer> = region.peers.clone();
    RegionDraft::new(id.into(), range, RegionEpoch::new(region.conf_ver, region.version), peers).build().unwrap()
}

fn run(disk: &impl Disk, rng: &mut fastrand::Rng, workers: usize, steps: usize) {
    let settings = ApplySettings {
        workers,
        turn_entries_max: rng.usize(1..20),
        batch_entries_max: rng.usize(1..50),
        round_regions_max: rng.usize(1..8),
        ..ApplySettings::default()
    };
    let mut histories = Histories::new(Running::bootstrapped(disk.storage(), settings), rng);
    for _ in 0..steps {
        if histories.model.live.is_empty() {
            break;
        }
        histories.step();
    }
    histories.settle();
    let Histories { running, model, .. } = histories;
    running.shut_down();
    let reopened = disk.open().unwrap();
    assert_same(&reopened, &model);
    assert_eq!(reopened.recovery().tombstones, model.buried.len());
}

#[test]
fn random_histories_through_the_pool_follow_the_model() {
    let (_, mut rng) = seeded("random_histories_through_the_pool_follow_the_model");
    for round in 0..setting("REGIONMETA_RUNS", 60) {
        run(&Mem::empty(), &mut rng, [1, 2, 4][round as usize % 3], 200);
    }
}

#[test]
fn random_histories_through_the_pool_follow_the_model_on_rocksdb() {
    let (_, mut rng) = seeded("random_histories_through_the_pool_follow_the_model_on_rocksdb");
    for workers in [1, 2, 4] {
        run(&Rocks::empty(), &mut rng, workers, 150);
    }
}
