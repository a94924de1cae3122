//! Merges through the pool: the target waits, no worker does; and both regions change in one step.

use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, unbounded};
use regionmeta::layout::{apply_state_key, region_state_key};
use regionmeta::{
    AdminCommand, AdminHeader, AdminRequest, ApplyState, CommitMerge, MergeState, PeerState, PrepareMerge, Region,
    RegionDraft, RegionEpoch, RegionId, RollbackMerge,
};
use regionmeta_batch::Store;
use regionmeta_batch::apply::{Answer, AnswerError, ApplyError, ApplyHost, ApplyPool, ApplySettings, Data, Entry};
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::records;
use regionmeta_batch::storage::{Family, Storage, StorageError};

use crate::common::{CLUSTER, Disk, add_learner, at, builder, dump, learner, on_each_storage, remove, split, voter};
use crate::pool::WATCHDOG;

on_each_storage!(
    both_regions_change_in_one_step,
    a_target_waits_and_nobody_else_does,
    prepare_and_commit_may_meet_in_one_round,
    a_stale_commit_stops_nobody,
    a_rollback_lets_the_source_go_on,
    a_chain_of_merges_resolves,
    a_merge_goes_on_after_a_restart,
    a_waiting_target_can_be_stopped,
    a_target_is_not_destroyed_in_the_batch_of_its_merge,
    merges_that_wait_for_each_other_end_where_they_were,
    who_waits_for_a_circle_ends_as_well,
    who_waits_hears_that_the_store_is_poisoned,
);

/// `["", h)`, `[h, p)` and `[p, "")`, each with one peer, on store 1.
pub(crate) const LEFT: RegionId = RegionId::new(2);
pub(crate) const MIDDLE: RegionId = RegionId::new(10);
pub(crate) const RIGHT: RegionId = RegionId::new(20);

#[derive(Debug)]
pub(crate) enum Event {
    Answered(RegionId, u64, Result<(), AnswerError>),
    CatchUp { target: RegionId, source: RegionId },
    Stopped(RegionId),
}

pub(crate) struct Recorder(Sender<Event>);

impl<S: Storage> ApplyHost<S> for Recorder {
    type Tag = ();

    fn answer(&self, answer: Answer<()>) {
        let Answer { region, position, result, .. } = answer;
        let _ = self.0.send(Event::Answered(region, position.index.get(), result.map(drop)));
    }

    fn catch_up(&self, target: RegionId, merge: &CommitMerge) {
        let _ = self.0.send(Event::CatchUp { target, source: merge.source.id() });
    }

    fn stopped(&self, region: RegionId) {
        let _ = self.0.send(Event::Stopped(region));
    }
}

pub(crate) struct Merging<S: Storage> {
    pub(crate) store: Arc<Store<S>>,
    pub(crate) pool: ApplyPool<S, Recorder>,
    pub(crate) events: Receiver<Event>,
}

impl<S: Storage> Merging<S> {
    pub(crate) fn bootstrapped(storage: S) -> Self {
        let store = builder().bootstrap_storage(storage, &EmbeddedPd::new(CLUSTER)).unwrap();
        let mut batch = store.begin();
        batch.apply(LEFT, at(6), RegionEpoch::new(1, 1), &split("p", 20, &[21])).unwrap();
        batch.apply(LEFT, at(7), RegionEpoch::new(1, 2), &split("h", 10, &[11])).unwrap();
        batch.commit().unwrap();
        Self::over(store)
    }

    fn over(store: Store<S>) -> Self {
        let (sender, events) = unbounded();
        let store = Arc::new(store);
        let settings = ApplySettings { workers: 2, ..ApplySettings::default() };
        let pool = ApplyPool::start(store.clone(), Recorder(sender), settings).unwrap();
        Self { store, pool, events }
    }

    pub(crate) fn region(&self, id: RegionId) -> Region {
        self.store.meta().snapshot().get(id).unwrap().region().clone()
    }

    pub(crate) fn next(&self, id: RegionId) -> u64 {
        self.store.apply_state(id).applied_index.get() + 1
    }

    pub(crate) fn send(&self, id: RegionId, index: u64, epoch: RegionEpoch, command: AdminCommand) {
        let request = AdminRequest { header: AdminHeader::new(id, epoch), command };
        self.pool.router().send(id, Entry::admin(at(index), request, ())).unwrap();
    }

    pub(crate) fn write(&self, id: RegionId, index: u64) {
        let entry = Entry::write(at(index), self.region(id).epoch(), Data::None, ());
        self.pool.router().send(id, entry).unwrap();
    }

    #[track_caller]
    pub(crate) fn write_and_expect(&self, id: RegionId) {
        let index = self.next(id);
        self.write(id, index);
        self.expect_applied(id, index);
    }

    #[track_caller]
    pub(crate) fn event(&self) -> Event {
        self.events.recv_timeout(WATCHDOG).expect("nothing happens: a deadlock")
    }

    #[track_caller]
    pub(crate) fn expect_applied(&self, id: RegionId, index: u64) {
        match self.event() {
            Event::Answered(region, found, Ok(())) if (region, found) == (id, index) => {}
            other => panic!("{id} {index} should be applied, but {other:?}"),
        }
    }

    /// Prepares `source` to be merged into `target`, and returns it as it then is.
    #[track_caller]
    pub(crate) fn prepare(&self, source: RegionId, target: RegionId) -> Region {
        let index = self.next(source);
        self.send(source, index, self.region(source).epoch(), prepare(&self.region(target), index));
        self.expect_applied(source, index);
        self.region(source)
    }

    pub(crate) fn commit(&self, target: RegionId, source: &Region) {
        let epoch = source.merge_state().unwrap().target.epoch();
        self.send(target, self.next(target), epoch, commit(source));
    }

    fn restart(self, disk: &impl Disk<Storage = S>) -> Self {
        self.pool.shut_down();
        drop(self.store);
        Self::over(disk.open().unwrap())
    }
}

pub(crate) fn prepare(target: &Region, index: u64) -> AdminCommand {
    AdminCommand::PrepareMerge(PrepareMerge { target: target.clone(), min_index: index.into() })
}

pub(crate) fn commit(source: &Region) -> AdminCommand {
    let commit = source.merge_state().unwrap().commit;
    AdminCommand::CommitMerge(CommitMerge { source: source.clone(), commit, entries: Vec::new() })
}

fn ranges<S: Storage>(store: &Store<S>) -> Vec<(u64, u64, String)> {
    let describe = |region: &Region| {
        (region.id().get(), region.epoch().version, String::from_utf8(region.start_key().to_vec()).unwrap())
    };
    store.meta().snapshot().regions().map(describe).collect()
}

#[track_caller]
pub(crate) fn assert_merged_away<S: Storage>(store: &Store<S>, source: &Region, target: RegionId) {
    let record: Region = records::read(store.storage(), Family::Raft, &region_state_key(source.id())).unwrap().unwrap();
    assert_eq!((record.state(), record.epoch()), (PeerState::Tombstone, source.epoch()));
    assert_eq!(record.merge_state().unwrap().target.id(), target);
    assert_eq!(store.storage().get(Family::Raft, &apply_state_key(source.id())).unwrap(), None);
    assert!(store.meta().snapshot().get(source.id()).is_none());
    assert_eq!(store.apply_state(source.id()), ApplyState::INITIAL, "what was applied of it is forgotten");
    assert_eq!(store.meta().snapshot().validate(), []);
}

/// The source on the right, then the source on the left. M4: the version is above both.
fn both_regions_change_in_one_step(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    for (source, target, expected) in [(RIGHT, MIDDLE, (10, 4, "h")), (LEFT, MIDDLE, (10, 5, ""))] {
        let source = merging.prepare(source, target);
        assert_eq!(source.state(), PeerState::Merging);
        let (before, sequence) = (merging.store.meta().snapshot(), merging.store.meta().sequence().get());
        let index = merging.next(target);
        merging.commit(target, &source);
        merging.expect_applied(target, index);
        assert!(matches!(merging.event(), Event::Stopped(id) if id == source.id()), "the source leaves the pool");
        let after = merging.store.meta().snapshot();
        assert_eq!((after.sequence().get(), before.validate_change_to(&after, |_| false)), (sequence + 1, vec![]));
        assert!(ranges(&merging.store).contains(&(expected.0, expected.1, expected.2.to_owned())));
        assert_merged_away(&merging.store, &source, target);
        assert!(merging.pool.router().region(source.id()).is_none());
    }
    let expected = ranges(&merging.store);
    assert_eq!(expected, [(10, 5, String::new())]);
    let merging = merging.restart(disk);
    assert_eq!((ranges(&merging.store), merging.store.recovery().tombstones), (expected, 2));
}

fn a_target_waits_and_nobody_else_does(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    // The leader's source has prepared; this store's source has not come there yet.
    let (behind, target, index) = (merging.region(RIGHT), merging.region(MIDDLE), merging.next(RIGHT) + 1);
    let expected = {
        let ahead = Merging::bootstrapped(regionmeta_batch::storage::MemStorage::new());
        ahead.write(RIGHT, index - 1);
        ahead.expect_applied(RIGHT, index - 1);
        ahead.prepare(RIGHT, MIDDLE)
    };
    let first = merging.next(MIDDLE);
    merging.commit(MIDDLE, &expected);
    merging.write(MIDDLE, first + 1);
    assert!(matches!(merging.event(), Event::CatchUp { target: MIDDLE, source: RIGHT }));
    // Both workers are free: many entries of another region go through.
    (0..50).for_each(|_| merging.write_and_expect(LEFT));
    merging.write(RIGHT, index - 1);
    merging.expect_applied(RIGHT, index - 1);
    merging.send(RIGHT, index, behind.epoch(), prepare(&target, index));
    merging.expect_applied(RIGHT, index);
    merging.expect_applied(MIDDLE, first);
    // The answers to the target and the end of the source come from one worker, in that order.
    let rest = [merging.event(), merging.event()];
    assert!(rest.iter().any(|event| matches!(event, Event::Stopped(RIGHT))), "{rest:?}");
    let late = |event: &&Event| matches!(event, Event::Answered(MIDDLE, _, Err(AnswerError::EpochNotMatch { .. })));
    assert!(rest.iter().find(late).is_some(), "a write of before the merge came after it: {rest:?}");
    assert_merged_away(&merging.store, &expected, MIDDLE);
}

fn prepare_and_commit_may_meet_in_one_round(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    let expected = Merging::bootstrapped(regionmeta_batch::storage::MemStorage::new()).prepare(RIGHT, MIDDLE);
    for round in 0..2 {
        let (source, target) = if round == 0 { (RIGHT, MIDDLE) } else { (MIDDLE, LEFT) };
        if round == 0 {
            let index = merging.next(source);
            merging.send(source, index, merging.region(source).epoch(), prepare(&merging.region(target), index));
            merging.commit(target, &expected);
        } else {
            let source = merging.prepare(source, target);
            merging.commit(target, &source);
        }
        while !matches!(merging.event(), Event::Stopped(id) if id == source) {}
    }
    assert_eq!(merging.store.meta().snapshot().len(), 1);
}

/// M23 and the order of the checks: what every replica refuses is refused before anybody is stopped for it.
fn a_stale_commit_stops_nobody(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    let source = merging.prepare(RIGHT, MIDDLE);
    // The target splits: the recorded epoch is no longer its own.
    let index = merging.next(MIDDLE);
    merging.send(MIDDLE, index, merging.region(MIDDLE).epoch(), split("k", 30, &[31]));
    merging.expect_applied(MIDDLE, index);
    merging.commit(MIDDLE, &source);
    let refused = merging.event();
    assert!(matches!(refused, Event::Answered(MIDDLE, _, Err(AnswerError::EpochNotMatch { .. }))), "{refused:?}");
    merging.write_and_expect(RIGHT);
    assert_eq!(merging.region(RIGHT).state(), PeerState::Merging);
    rolled_back(&merging, &source);
}

#[track_caller]
fn rolled_back<S: Storage>(merging: &Merging<S>, source: &Region) {
    let (id, index) = (source.id(), merging.next(source.id()));
    let commit = source.merge_state().unwrap().commit;
    merging.send(id, index, source.epoch(), AdminCommand::RollbackMerge(RollbackMerge { commit }));
    merging.expect_applied(id, index);
    let region = merging.region(id);
    assert_eq!((region.state(), region.merge_state()), (PeerState::Normal, None));
    assert_eq!(region.epoch(), source.epoch().with_version_moved(1).unwrap(), "the extra conf_ver stays");
    // The merge that was given up can never be committed.
    assert!(matches!(merging.store.meta().snapshot().validate()[..], []));
}

fn a_rollback_lets_the_source_go_on(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    let source = merging.prepare(MIDDLE, LEFT);
    // A region that merges takes no other change.
    let index = merging.next(MIDDLE);
    merging.send(MIDDLE, index, source.epoch(), add_learner(learner(90, 2)));
    assert!(matches!(merging.event(), Event::Answered(MIDDLE, _, Err(AnswerError::Refused(_)))));
    rolled_back(&merging, &source);
    let index = merging.next(MIDDLE);
    merging.send(MIDDLE, index, merging.region(MIDDLE).epoch(), add_learner(learner(90, 2)));
    merging.expect_applied(MIDDLE, index);
}

/// `RIGHT` into `MIDDLE`, which goes into `LEFT` at once; everything is sent before anything waits for an answer.
fn a_chain_of_merges_resolves(disk: &impl Disk) {
    let (merging, twin) =
        (Merging::bootstrapped(disk.storage()), Merging::bootstrapped(regionmeta_batch::storage::MemStorage::new()));
    let right = twin.prepare(RIGHT, MIDDLE);
    let middle_index = twin.next(MIDDLE);
    twin.commit(MIDDLE, &right);
    twin.expect_applied(MIDDLE, middle_index);
    assert!(matches!(twin.event(), Event::Stopped(RIGHT)));
    let merged = twin.region(MIDDLE);
    let middle = twin.prepare(MIDDLE, LEFT);

    merging.commit(LEFT, &middle);
    assert!(matches!(merging.event(), Event::CatchUp { target: LEFT, source: MIDDLE }));
    merging.commit(MIDDLE, &right);
    let prepared = middle.merge_state().unwrap().commit.get();
    merging.send(MIDDLE, prepared, merged.epoch(), prepare(&merging.region(LEFT), prepared));
    assert!(matches!(merging.event(), Event::CatchUp { target: MIDDLE, source: RIGHT }));
    let index = merging.next(RIGHT);
    merging.send(RIGHT, index, merging.region(RIGHT).epoch(), prepare(&merging.region(MIDDLE), index));
    let mut stopped = 0;
    while stopped < 2 {
        match merging.event() {
            Event::Stopped(_) => stopped += 1,
            Event::Answered(_, _, Ok(())) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(merging.store.meta().snapshot().len(), 1);
    assert_eq!(merging.store.meta().snapshot().validate(), []);
}

/// Restarts between prepare and commit, and after the commit, when the log brings both again.
fn a_merge_goes_on_after_a_restart(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    let source = merging.prepare(RIGHT, MIDDLE);
    let merging = merging.restart(disk);
    assert_eq!(merging.store.recovery().merging, [RIGHT]);
    assert_eq!(merging.region(RIGHT), source);
    let index = merging.next(MIDDLE);
    merging.commit(MIDDLE, &source);
    merging.expect_applied(MIDDLE, index);
    let merging = merging.restart(disk);
    assert_merged_away(&merging.store, &source, MIDDLE);
    // The host's log may replay the command; it is recognised by its index.
    let epoch = source.merge_state().unwrap().target.epoch();
    merging.send(MIDDLE, index, epoch, commit(&source));
    assert!(matches!(merging.event(), Event::Answered(MIDDLE, _, Err(AnswerError::NotApplied(_)))));
    assert_merged_away(&merging.store, &source, MIDDLE);
}

/// A source that is ahead of this store, as the other stores have it.
pub(crate) fn source_to_come() -> Region {
    Merging::bootstrapped(regionmeta_batch::storage::MemStorage::new()).prepare(RIGHT, MIDDLE)
}

fn a_waiting_target_can_be_stopped(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    let index = merging.next(MIDDLE);
    merging.commit(MIDDLE, &source_to_come());
    assert!(matches!(merging.event(), Event::CatchUp { .. }));
    assert!(merging.pool.router().stop(MIDDLE));
    let closed = merging.event();
    assert!(matches!(closed, Event::Answered(MIDDLE, found, Err(AnswerError::Closed { .. })) if found == index));
    assert!(matches!(merging.event(), Event::Stopped(MIDDLE)));
    merging.write_and_expect(LEFT);
}

/// The keys of the source went to the target, and the target's to another store: in one changeset that looked as if the
/// merge had lost them, and the whole batch was refused.
fn a_target_is_not_destroyed_in_the_batch_of_its_merge(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    for (id, peer) in [(MIDDLE, 91), (RIGHT, 92)] {
        let index = merging.next(id);
        merging.send(id, index, merging.region(id).epoch(), crate::common::add(voter(peer, 2)));
        merging.expect_applied(id, index);
    }
    let source = merging.prepare(RIGHT, MIDDLE);
    let Merging { store, pool, .. } = merging;
    pool.shut_down();
    let (epoch, index) =
        (source.merge_state().unwrap().target.epoch(), store.apply_state(MIDDLE).applied_index.get() + 1);
    let mut batch = store.begin();
    batch.apply(MIDDLE, at(index), epoch, &commit(&source)).unwrap();
    let own = batch.region(MIDDLE).unwrap().peer_on(store.ident().store_id).unwrap();
    let merged = batch.region(MIDDLE).unwrap().epoch();
    let error = batch.apply(MIDDLE, at(index + 1), merged, &remove(own)).unwrap_err();
    assert!(matches!(error, ApplyError::CommitFirst { region: MIDDLE }), "{error}");
    batch.commit().unwrap();
    let mut batch = store.begin();
    batch.apply(MIDDLE, at(index + 1), merged, &remove(own)).unwrap();
    batch.commit().unwrap();
    assert_eq!(store.meta().snapshot().len(), 1);
}

/// The region as a PrepareMerge that never was would leave it.
pub(crate) fn as_if_prepared(region: &Region, target: &Region, commit: u64) -> Region {
    let merge = MergeState { min_index: commit.into(), commit: commit.into(), target: target.as_ref() };
    let epoch = region.epoch().with_conf_ver_moved(1).unwrap().with_version_moved(1).unwrap();
    RegionDraft { state: PeerState::Merging, merge_state: Some(merge), epoch, ..region.to_draft() }.build().unwrap()
}

/// Sends each of these regions the CommitMerge of the next one, the last one that of the first; each has its PrepareMerge
/// behind it in the log. The entries of all end unapplied, whoever was told first, and nothing was written.
#[track_caller]
fn assert_circle_ends(merging: &Merging<impl Storage>, circle: &[(RegionId, RegionId)]) {
    let (before, sequence) = (dump(merging.store.storage()), merging.store.meta().sequence());
    for (target, source) in circle {
        let source = as_if_prepared(&merging.region(*source), &merging.region(*target), 9);
        merging.commit(*target, &source);
    }
    let (mut answered, mut stopped, mut circles) = (0, 0, 0);
    while stopped < circle.len() {
        match merging.event() {
            Event::CatchUp { .. } => {}
            Event::Answered(_, _, Err(AnswerError::NotApplied(error))) => {
                answered += 1;
                circles += usize::from(matches!(error, ApplyError::MergeCircle { .. }));
                assert!(matches!(error, ApplyError::MergeCircle { .. } | ApplyError::Waits(_)), "{error}");
                assert!(!error.counts());
            }
            Event::Stopped(_) => stopped += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((answered, circles), (circle.len(), 1));
    assert_eq!((dump(merging.store.storage()), merging.store.meta().sequence()), (before, sequence));
}

/// cockroach#46639. No correct log holds this, so every replica is to end alike, and none is to hang.
fn merges_that_wait_for_each_other_end_where_they_were(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    for circle in [[(MIDDLE, RIGHT), (RIGHT, MIDDLE)], [(RIGHT, MIDDLE), (MIDDLE, RIGHT)]] {
        assert_circle_ends(&merging, &circle);
        for (target, _) in circle {
            assert!(merging.pool.router().add(target), "it has left");
        }
        merging.write_and_expect(LEFT);
    }
    // What was left in the circle's place goes on.
    merging.write_and_expect(RIGHT);
    let source = merging.prepare(RIGHT, MIDDLE);
    let index = merging.next(MIDDLE);
    merging.commit(MIDDLE, &source);
    merging.expect_applied(MIDDLE, index);
}

/// One waits for a circle without being part of it.
fn who_waits_for_a_circle_ends_as_well(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    assert_circle_ends(&merging, &[(LEFT, MIDDLE), (MIDDLE, RIGHT), (RIGHT, MIDDLE)]);
    assert_eq!(merging.store.meta().snapshot().validate(), []);
}

/// I14: nobody who waits is left waiting, neither the target nor what stands behind it in its mailbox.
fn who_waits_hears_that_the_store_is_poisoned(disk: &impl Disk) {
    let merging = Merging::bootstrapped(disk.storage());
    let index = merging.next(MIDDLE);
    merging.commit(MIDDLE, &source_to_come());
    assert!(matches!(merging.event(), Event::CatchUp { .. }));
    merging.write(MIDDLE, index + 1);
    let failing = Data::with(|_, _, _| {
        let (location, cause) = (String::new(), String::new());
        Err(StorageError::Backend { action: "put", location, cause })
    });
    let entry = Entry::write(at(merging.next(LEFT)), merging.region(LEFT).epoch(), failing, ());
    merging.pool.router().send(LEFT, entry).unwrap();
    let mut poisoned: Vec<_> = (0..3)
        .map(|_| match merging.event() {
            Event::Answered(region, index, Err(AnswerError::Poisoned(_))) => (region, index),
            other => panic!("{other:?}"),
        })
        .collect();
    poisoned.sort_unstable();
    assert_eq!(poisoned, [(LEFT, merging.next(LEFT)), (MIDDLE, index), (MIDDLE, index + 1)]);
}
