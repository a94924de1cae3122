//! The apply pool: mailboxes, workers, answers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use regionmeta::{
    AdminCommand, AdminError, AdminHeader, AdminRequest, FinishFlashback, LogPosition, Outcome, PrepareFlashback,
    RegionEpoch, RegionId,
};
use regionmeta_batch::Store;
use regionmeta_batch::apply::{
    Answer, AnswerError, ApplyError, ApplyHost, ApplyPool, ApplySettings, ChannelHost, Committed, Data, Entry,
    ExecResult, Mutation, PoolError, RegionSender, Router, SendError, SyncPolicy,
};
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::storage::fault::{Fault, FaultyStorage};
use regionmeta_batch::storage::{Durability, Family, MemStorage, Storage};

use crate::common::{
    CLUSTER, Disk, Mem, add_learner, at, builder, dump, learner, on_each_storage, remove, split, voter,
};

on_each_storage!(
    an_answer_comes_after_it_is_written_and_published,
    one_entry_writes_its_data_with_its_descriptor,
    a_refused_entry_drops_its_data_and_names_the_current_regions,
    a_region_in_flashback_takes_nothing_else,
    duplicates_and_strangers_are_recognised,
    a_region_that_another_batch_holds_waits_and_nobody_else_does,
    a_region_that_leaves_answers_what_is_left,
    five_changes_of_one_region_in_one_batch,
);

const FIRST: RegionId = RegionId::new(2);
const CHILD: RegionId = RegionId::new(10);
/// Longer than anything takes on a busy machine; a test that waits for so long has found a deadlock (T5).
pub(crate) const WATCHDOG: Duration = Duration::from_secs(30);

fn epoch(conf_ver: u64, version: u64) -> RegionEpoch {
    RegionEpoch::new(conf_ver, version)
}

/// A pool whose answers arrive in a channel; tags are numbers.
pub(crate) struct Running<S: Storage> {
    pub(crate) store: Arc<Store<S>>,
    pub(crate) pool: ApplyPool<S, ChannelHost<u64>>,
    answers: Receiver<Answer<u64>>,
}

impl<S: Storage> Running<S> {
    pub(crate) fn over(store: Store<S>, settings: ApplySettings) -> Self {
        let store = Arc::new(store);
        let (sender, answers) = unbounded();
        let pool = ApplyPool::start(store.clone(), ChannelHost::new(sender), settings).unwrap();
        Self { store, pool, answers }
    }

    pub(crate) fn bootstrapped(storage: S, settings: ApplySettings) -> Self {
        Self::over(builder().bootstrap_storage(storage, &EmbeddedPd::new(CLUSTER)).unwrap(), settings)
    }

    pub(crate) fn send(&self, region: RegionId, entry: Entry<S, u64>) {
        self.pool.router().send(region, entry).unwrap();
    }

    #[track_caller]
    pub(crate) fn answer(&self) -> Answer<u64> {
        self.answers.recv_timeout(WATCHDOG).expect("no answer: a deadlock, or an entry was lost")
    }

    /// As [`answer`](Self::answer); says what is missing if nothing comes.
    #[track_caller]
    pub(crate) fn answer_or(&self, missing: &impl std::fmt::Debug) -> Answer<u64> {
        self.answers.recv_timeout(WATCHDOG).unwrap_or_else(|_| panic!("a deadlock, or a lost entry: {missing:?}"))
    }

    #[track_caller]
    fn expect_ok(&self) -> ExecResult {
        self.answer().result.unwrap()
    }

    /// Nothing of the pool is left behind, so that the directory can be opened again.
    pub(crate) fn shut_down(self) -> Store<S> {
        self.pool.shut_down();
        Arc::into_inner(self.store).expect("the pool kept the store")
    }
}

fn one_worker() -> ApplySettings {
    ApplySettings { workers: 1, ..ApplySettings::default() }
}

fn put(key: &str, value: &str) -> Mutation {
    Mutation::Put { key: key.into(), value: value.into() }
}

fn write<S: Storage>(index: u64, epoch: RegionEpoch, key: &str) -> Entry<S, u64> {
    Entry::write(at(index), epoch, Data::List(vec![put(key, "value")]), index)
}

fn admin<S: Storage, T>(
    region: RegionId,
    index: u64,
    epoch: RegionEpoch,
    command: AdminCommand,
    tag: T,
) -> Entry<S, T> {
    Entry::admin(at(index), AdminRequest { header: AdminHeader::new(region, epoch), command }, tag)
}

fn data<S: Storage>(store: &Store<S>, key: &str) -> Option<Vec<u8>> {
    store.storage().get(Family::Default, key.as_bytes()).unwrap()
}

fn an_answer_comes_after_it_is_written_and_published(disk: &impl Disk) {
    struct Host<S: Storage> {
        store: Arc<Store<S>>,
        done: Sender<()>,
        batches: AtomicUsize,
    }
    impl<S: Storage> ApplyHost<S> for Host<S> {
        type Tag = (RegionId, RegionEpoch);
        fn committed(&self, committed: &Committed) {
            assert!(self.store.meta().sequence() >= committed.sequence, "heard of what nobody can read");
            self.batches.fetch_add(1, Ordering::Relaxed);
        }
        fn answer(&self, answer: Answer<Self::Tag>) {
            assert!(self.batches.load(Ordering::Relaxed) > 0, "answered before its batch");
            let (region, epoch) = answer.tag;
            assert!(answer.result.is_ok());
            assert_eq!(self.store.meta().snapshot().get(region).unwrap().region().epoch(), epoch);
            assert!(self.store.apply_state(answer.region).applied_index >= answer.position.index);
            self.done.send(()).unwrap();
        }
    }
    let store = Arc::new(builder().bootstrap_storage(disk.storage(), &EmbeddedPd::new(CLUSTER)).unwrap());
    let (done, heard) = unbounded();
    let host = Host { store: store.clone(), done, batches: AtomicUsize::new(0) };
    let pool = ApplyPool::start(store, host, one_worker()).unwrap();
    let split = admin(FIRST, 6, epoch(1, 1), split("m", 10, &[11]), (CHILD, epoch(1, 2)));
    pool.router().send(FIRST, split).unwrap();
    heard.recv_timeout(WATCHDOG).unwrap();
    // The child has a mailbox as soon as its split is answered.
    let entry = admin(CHILD, 6, epoch(1, 2), add_learner(learner(20, 2)), (CHILD, epoch(2, 2)));
    pool.router().send(CHILD, entry).unwrap();
    heard.recv_timeout(WATCHDOG).unwrap();
    assert_eq!(pool.router().len(), 2);
}

fn one_entry_writes_its_data_with_its_descriptor(disk: &impl Disk) {
    let running = Running::bootstrapped(disk.storage(), one_worker());
    running.send(FIRST, Entry::empty(at(6), 0));
    running.send(FIRST, write(7, epoch(1, 1), "before"));
    let closure = Data::with(|region, storage: &_, batch: &mut _| {
        assert_eq!(region.epoch(), epoch(1, 2), "a closure sees the region as its entry leaves it");
        Storage::put(storage, batch, Family::Default, b"split", b"yes")
    });
    running.send(FIRST, admin(FIRST, 8, epoch(1, 1), split("m", 10, &[11]), 8).with_data(closure));
    let delete = Data::List(vec![Mutation::Delete { key: "before".into() }]);
    running.send(FIRST, Entry::write(at(9), epoch(1, 2), delete, 9));
    assert_eq!((running.expect_ok(), running.expect_ok()), (ExecResult::Written, ExecResult::Written));
    let ExecResult::Admin { outcome: Outcome::Split { regions, .. }, .. } = running.expect_ok() else { panic!() };
    assert_eq!(regions.len(), 2);
    running.expect_ok();
    assert_eq!((data(&running.store, "before"), data(&running.store, "split")), (None, Some(b"yes".to_vec())));
    assert_eq!(running.store.apply_state(FIRST).applied_index.get(), 9);
}

fn a_refused_entry_drops_its_data_and_names_the_current_regions(disk: &impl Disk) {
    let running = Running::bootstrapped(disk.storage(), ApplySettings { right_derive: false, ..one_worker() });
    running.send(FIRST, admin(FIRST, 6, epoch(1, 1), split("t", 10, &[11]), 6));
    running.send(FIRST, admin(FIRST, 7, epoch(1, 2), split("m", 20, &[21]), 7));
    running.expect_ok();
    running.expect_ok();
    // The oldest proposer gets every region that was its own, the newest only the one that it asked.
    for (index, stale, expected) in [(8, 1, vec![2, 20, 10]), (9, 2, vec![2, 20]), (10, 4, vec![2])] {
        running.send(FIRST, write(index, epoch(1, stale), "refused"));
        let Err(AnswerError::EpochNotMatch { request, current }) = running.answer().result else { panic!() };
        assert_eq!(request, epoch(1, stale));
        assert_eq!(current.iter().map(|region| region.id().get()).collect::<Vec<_>>(), expected);
    }
    let data_of_refused = Data::List(vec![put("refused", "no")]);
    running.send(FIRST, admin(FIRST, 11, epoch(1, 3), split("z", 30, &[31]), 11).with_data(data_of_refused));
    assert!(matches!(running.answer().result, Err(AnswerError::Refused(_))));
    assert_eq!(data(&running.store, "refused"), None);
    assert_eq!(running.store.apply_state(FIRST).applied_index.get(), 11, "a refused entry counts");
}

/// Spec section 7.2, for ordinary writes; all in one batch, whose view is ahead of what is published.
fn a_region_in_flashback_takes_nothing_else(disk: &impl Disk) {
    let running = Running::bootstrapped(disk.storage(), one_worker());
    let data_of = |index: u64| Data::List(vec![put(&index.to_string(), "")]);
    let plain = |index, version| Entry::write(at(index), epoch(1, version), data_of(index), index);
    let flagged = |index, version| Entry::write_in_flashback(at(index), epoch(1, version), data_of(index), index);
    let prepare = AdminCommand::PrepareFlashback(PrepareFlashback { start_ts: 9 });
    let finish = AdminCommand::FinishFlashback(FinishFlashback);
    let entries = [
        flagged(6, 1),
        plain(7, 1),
        admin(FIRST, 8, epoch(1, 1), prepare, 8),
        plain(9, 1),
        flagged(10, 1),
        plain(11, 2),
        admin(FIRST, 12, epoch(1, 1), finish, 12),
        flagged(13, 1),
        plain(14, 1),
    ];
    running.pool.router().region(FIRST).unwrap().try_send_all(&mut VecDeque::from(entries)).unwrap();
    let results: Vec<_> = (6..15).map(|_| running.answer().result).collect();
    for (index, result) in (6..).zip(&results) {
        let as_expected = match index {
            6 | 13 => matches!(result, Err(AnswerError::Refused(AdminError::FlashbackNotPrepared { region: FIRST }))),
            9 => {
                matches!(
                    result,
                    Err(AnswerError::Refused(AdminError::FlashbackInProgress { region: FIRST, start_ts: 9 }))
                )
            }
            11 => matches!(result, Err(AnswerError::EpochNotMatch { .. })), // the epoch is looked at first
            _ => result.is_ok(),
        };
        assert!(as_expected, "{index}: {result:?}");
        let is_written = matches!(index, 7 | 10 | 14);
        assert_eq!(data(&running.store, &index.to_string()).is_some(), is_written, "the data of {index}");
    }
    assert_eq!(running.store.apply_state(FIRST).applied_index.get(), 14, "what is refused counts");
    let store = running.shut_down();
    let mut batch = store.begin();
    let refused = batch.write_in_flashback(FIRST, at(15), epoch(1, 1)).unwrap_err();
    assert!(matches!(refused, ApplyError::Refused(AdminError::FlashbackNotPrepared { .. })) && refused.counts());
    assert_eq!(batch.write(FIRST, at(16), epoch(1, 1)).unwrap().id(), FIRST);
}

/// A thread beside the pool has a region in its batch, as a destruction or a snapshot has.
fn a_region_that_another_batch_holds_waits_and_nobody_else_does(disk: &impl Disk) {
    let running = Running::bootstrapped(disk.storage(), ApplySettings { workers: 2, ..ApplySettings::default() });
    running.send(FIRST, admin(FIRST, 6, epoch(1, 1), split("m", 10, &[11]), 6));
    running.expect_ok();
    let mut other = running.store.begin();
    other.advance(FIRST, at(7)).unwrap();
    running.send(FIRST, write(7, epoch(1, 2), "mine"));
    running.send(FIRST, write(8, epoch(1, 2), "next"));
    for index in 6..56 {
        running.send(CHILD, write(index, epoch(1, 2), "child"));
        assert_eq!(running.answer().region, CHILD);
    }
    drop(other);
    assert_eq!([running.answer().tag, running.answer().tag], [7, 8]);
    // The other one may also have gone further.
    let mut other = running.store.begin();
    other.advance(FIRST, at(9)).unwrap();
    running.send(FIRST, write(9, epoch(1, 2), "late"));
    other.commit().unwrap();
    let late = running.answer().result;
    assert!(matches!(late, Err(AnswerError::NotApplied(ApplyError::AlreadyApplied { .. }))), "{late:?}");
    // One that waits is stopped all the same.
    let other = {
        let mut other = running.store.begin();
        other.advance(FIRST, at(10)).unwrap();
        other
    };
    running.send(FIRST, write(10, epoch(1, 2), "never"));
    assert!(running.pool.router().stop(FIRST));
    assert!(matches!(running.answer().result, Err(AnswerError::Closed { region: FIRST })));
    drop(other);
}

fn duplicates_and_strangers_are_recognised(disk: &impl Disk) {
    let running = Running::bootstrapped(disk.storage(), one_worker());
    running.send(FIRST, write(6, epoch(1, 1), "once"));
    running.expect_ok();
    let before = dump(running.store.storage());
    let not_applied = |entry| {
        running.send(FIRST, entry);
        match running.answer().result {
            Err(AnswerError::NotApplied(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(not_applied(write(6, epoch(1, 1), "twice")), ApplyError::AlreadyApplied { .. }));
    assert!(matches!(not_applied(write(8, epoch(1, 1), "early")), ApplyError::Gap { .. }));
    for (index, term) in [(6, 5), (6, 7), (5, 7), (7, 5)] {
        let position = LogPosition { index: index.into(), term: term.into() };
        let entry = Entry::write(position, epoch(1, 1), Data::List(vec![put("stranger", "")]), 0);
        assert!(matches!(not_applied(entry), ApplyError::OtherLog { .. }), "{position:?}");
    }
    assert_eq!(dump(running.store.storage()), before);
    running.send(FIRST, write(7, epoch(1, 1), "next"));
    running.expect_ok();
}

fn a_region_that_leaves_answers_what_is_left(disk: &impl Disk) {
    let running = Running::bootstrapped(disk.storage(), one_worker());
    let child = running.pool.router().region(FIRST).unwrap();
    let entries = [
        admin(FIRST, 6, epoch(1, 1), add_learner(learner(20, 2)), 6),
        admin(FIRST, 7, epoch(2, 1), crate::common::add(voter(20, 2)), 7),
        admin(FIRST, 8, epoch(3, 1), remove(voter(3, 1)), 8),
        write(9, epoch(4, 1), "too late"),
    ];
    child.try_send_all(&mut VecDeque::from(entries)).unwrap();
    let answers: Vec<_> = (0..4).map(|_| running.answer()).collect();
    assert_eq!(answers.iter().map(|answer| answer.tag).collect::<Vec<_>>(), [6, 7, 8, 9]);
    let destroyed = answers[2].result.as_ref().unwrap();
    assert!(matches!(destroyed, ExecResult::Admin { outcome: Outcome::Destroyed { .. }, .. }));
    assert!(matches!(answers[3].result, Err(AnswerError::Closed { region: FIRST })));
    let refused = child.try_send(write(10, epoch(4, 1), "too late"));
    assert!(matches!(refused, Err(SendError::Closed(_))));
    assert!(running.pool.router().is_empty() && running.store.meta().snapshot().is_empty());
}

fn five_changes_of_one_region_in_one_batch(disk: &impl Disk) {
    let running = Running::bootstrapped(disk.storage(), one_worker());
    let sequence = running.store.meta().sequence().get();
    let commands = [
        (epoch(1, 1), add_learner(learner(20, 2))),
        (epoch(2, 1), crate::common::add(voter(20, 2))),
        (epoch(3, 1), split("t", 10, &[11, 12])),
        (epoch(3, 2), add_learner(learner(21, 3))),
        (epoch(4, 2), split("m", 30, &[31, 32, 33])),
    ];
    let entries = (6..).zip(commands).map(|(index, (epoch, command))| admin(FIRST, index, epoch, command, index));
    running.pool.router().region(FIRST).unwrap().try_send_all(&mut entries.collect()).unwrap();
    (0..5).for_each(|_| drop(running.expect_ok()));
    assert_eq!(running.store.meta().sequence().get(), sequence + 1, "one batch, one swap");
    let expected: Vec<_> = running.store.meta().snapshot().regions().cloned().collect();
    assert_eq!(expected.len(), 3);
    drop(running.shut_down());
    assert_eq!(disk.open().unwrap().meta().snapshot().regions().cloned().collect::<Vec<_>>(), expected);
}

/// Holds every round up until it is told to go on.
struct Held {
    answers: Sender<(RegionId, u64)>,
    arrived: Sender<()>,
    gate: Receiver<()>,
}

/// The test's side of it.
struct Gate {
    heard: Receiver<(RegionId, u64)>,
    arrived: Receiver<()>,
    open: Sender<()>,
}

impl Gate {
    fn answers(&self) -> impl Iterator<Item = (RegionId, u64)> + '_ {
        std::iter::from_fn(|| self.heard.recv_timeout(WATCHDOG).ok())
    }

    fn open(&self, times: usize) {
        (0..times).for_each(|_| self.open.send(()).unwrap());
    }
}

impl<S: Storage> ApplyHost<S> for Held {
    type Tag = u64;
    fn committed(&self, _: &Committed) {
        let _ = self.arrived.send(());
        let _ = self.gate.recv_timeout(WATCHDOG);
    }
    fn answer(&self, answer: Answer<u64>) {
        let _ = self.answers.send((answer.region, answer.tag));
    }
}

/// A pool of one worker over the first region and its child, which waits at the gate after every batch.
fn held(settings: ApplySettings) -> (ApplyPool<MemStorage, Held>, Gate) {
    let store = builder().bootstrap_storage(MemStorage::new(), &EmbeddedPd::new(CLUSTER)).unwrap();
    let mut batch = store.begin();
    batch.apply(FIRST, at(6), epoch(1, 1), &split("m", 10, &[11])).unwrap();
    batch.commit().unwrap();
    let ((answers, heard), (open, gate), (at_gate, arrived)) = (unbounded(), unbounded(), unbounded());
    let pool = ApplyPool::start(Arc::new(store), Held { answers, arrived: at_gate, gate }, settings).unwrap();
    (pool, Gate { heard, arrived, open })
}

#[test]
fn a_full_mailbox_says_so_or_makes_the_sender_wait() {
    let (pool, gate) = held(ApplySettings { mailbox_entries_max: 3, ..one_worker() });
    let sender = pool.router().region(FIRST).unwrap();
    sender.try_send(write(7, epoch(1, 2), "a")).unwrap();
    gate.arrived.recv_timeout(WATCHDOG).unwrap();
    // The worker is at the gate with the first entry, so three more fit and no fourth.
    (8..11).for_each(|index| sender.try_send(write(index, epoch(1, 2), "a")).unwrap());
    let refused = sender.try_send(write(11, epoch(1, 2), "a")).unwrap_err();
    assert!(refused.is_full() && refused.into_inner().position() == at(11), "the entry comes back");
    let impatient = sender.send_within(write(11, epoch(1, 2), "a"), Duration::from_millis(20)).unwrap_err();
    assert!(impatient.is_full());
    let mut two = VecDeque::from([write(11, epoch(1, 2), "a"), write(12, epoch(1, 2), "a")]);
    assert!(sender.try_send_all(&mut two).unwrap_err().is_full() && two.len() == 2);
    std::thread::scope(|scope| {
        let patient = scope.spawn(|| sender.send_within(write(11, epoch(1, 2), "a"), WATCHDOG));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!patient.is_finished(), "it was let in though the mailbox is full");
        gate.open(5);
        patient.join().unwrap().unwrap();
    });
    assert!(gate.answers().take(5).eq((7..12).map(|tag| (FIRST, tag))));
}

/// One region has far more to do than the other; the other does not wait for its end.
#[test]
fn a_busy_region_does_not_starve_another() {
    // Batches as small as turns, so that the gate is met in the middle of the busy region's turn.
    let (pool, gate) = held(ApplySettings { turn_entries_max: 8, batch_entries_max: 8, ..one_worker() });
    let mut entries: VecDeque<_> = (7..1_007).map(|index| write(index, epoch(1, 2), "busy")).collect();
    pool.router().region(FIRST).unwrap().try_send_all(&mut entries).unwrap();
    gate.arrived.recv_timeout(WATCHDOG).unwrap();
    pool.router().send(CHILD, write(6, epoch(1, 2), "idle")).unwrap();
    gate.open(1_001);
    let before = gate.answers().take(1_001).position(|(region, _)| region == CHILD).unwrap();
    assert!(before <= 2 * 8, "the other region waited for {before} entries");
}

/// The bound of a turn's bytes holds over all the batches that are written in the middle of it.
#[test]
fn a_turn_ends_by_its_bytes_however_small_its_batches_are() {
    const ENTRY_BYTES: usize = "busyvalue".len();
    let settings = ApplySettings {
        turn_entries_max: 1 << 20,
        turn_bytes_max: 8 * ENTRY_BYTES,
        batch_entries_max: 1,
        ..one_worker()
    };
    let (pool, gate) = held(settings);
    let mut entries: VecDeque<_> = (7..1_007).map(|index| write(index, epoch(1, 2), "busy")).collect();
    pool.router().region(FIRST).unwrap().try_send_all(&mut entries).unwrap();
    gate.arrived.recv_timeout(WATCHDOG).unwrap();
    pool.router().send(CHILD, write(6, epoch(1, 2), "idle")).unwrap();
    gate.open(1_001);
    let before = gate.answers().take(1_001).position(|(region, _)| region == CHILD);
    assert_eq!(before, Some(8), "the other region comes after the busy one's turn");
}

/// Two regions share a batch, so the second turn begins with bytes in it.
#[test]
fn a_turn_may_have_no_bound_of_bytes() {
    let (pool, gate) = held(ApplySettings { turn_bytes_max: usize::MAX, ..one_worker() });
    pool.router().send(FIRST, write(7, epoch(1, 2), "first")).unwrap();
    gate.arrived.recv_timeout(WATCHDOG).unwrap();
    for (region, index) in [(CHILD, 6), (FIRST, 8)] {
        pool.router().send(region, write(index, epoch(1, 2), "both")).unwrap();
    }
    gate.open(2);
    gate.arrived.recv_timeout(WATCHDOG).expect("the store was poisoned, and wrote no second batch");
    assert!(gate.answers().take(3).eq([(FIRST, 7), (CHILD, 6), (FIRST, 8)]));
}

/// A host that sends from its callback into a full mailbox would wait for itself.
#[test]
fn a_host_does_not_wait_for_its_own_worker() {
    struct Echo {
        pool: std::sync::OnceLock<regionmeta_batch::apply::Router<MemStorage, u64>>,
        seen: Sender<bool>,
    }
    impl ApplyHost<MemStorage> for Echo {
        type Tag = u64;
        fn answer(&self, answer: Answer<u64>) {
            if answer.tag == 6 {
                let router = self.pool.wait();
                while router.try_send(FIRST, write(100, epoch(1, 1), "fill")).is_ok() {}
                self.seen.send(router.send(FIRST, write(100, epoch(1, 1), "wait")).unwrap_err().is_full()).unwrap();
            }
        }
    }
    let store = builder().bootstrap_storage(MemStorage::new(), &EmbeddedPd::new(CLUSTER)).unwrap();
    let (seen, heard) = bounded(1);
    let host = Echo { pool: std::sync::OnceLock::new(), seen };
    let pool = ApplyPool::start(Arc::new(store), host, one_worker()).unwrap();
    assert!(pool.host().pool.set(pool.router().clone()).is_ok());
    pool.router().send(FIRST, write(6, epoch(1, 1), "first")).unwrap();
    assert_eq!(heard.recv_timeout(WATCHDOG), Ok(true));
}

#[test]
fn a_region_that_is_stopped_is_announced_and_can_be_added_again() {
    struct Stops(Sender<RegionId>);
    impl ApplyHost<MemStorage> for Stops {
        type Tag = u64;
        fn answer(&self, _: Answer<u64>) {}
        fn stopped(&self, region: RegionId) {
            self.0.send(region).unwrap();
        }
    }
    let store = Arc::new(builder().bootstrap_storage(MemStorage::new(), &EmbeddedPd::new(CLUSTER)).unwrap());
    let (stops, heard) = unbounded();
    let pool = ApplyPool::start(store.clone(), Stops(stops), one_worker()).unwrap();
    pool.router().send(FIRST, write(6, epoch(1, 1), "a")).unwrap();
    assert!(pool.router().stop(FIRST) && !pool.router().stop(CHILD));
    assert_eq!(heard.recv_timeout(WATCHDOG), Ok(FIRST));
    assert!(pool.router().region(FIRST).is_none());
    // Nobody else has the region now.
    store.begin().advance(FIRST, at(store.apply_state(FIRST).applied_index.get() + 1)).unwrap();
    assert!(pool.router().add(FIRST) && !pool.router().add(FIRST));
    drop(pool);
    assert_eq!(heard.recv_timeout(WATCHDOG), Ok(FIRST), "shutting down stops every region");
}

#[test]
fn what_waits_is_answered_at_the_end() {
    let (pool, gate) = held(one_worker());
    let mut entries: VecDeque<_> = (7..600).map(|index| write(index, epoch(1, 2), "a")).collect();
    pool.router().region(FIRST).unwrap().try_send_all(&mut entries).unwrap();
    gate.open(600);
    pool.shut_down();
    assert!(gate.answers().eq((7..600).map(|tag| (FIRST, tag))));
}

/// A worker that met the end in the middle of a round took another worker's share of it as well, and that one waited for ever.
#[test]
fn a_pool_ends_whatever_is_in_flight() {
    for _ in 0..50 {
        let running =
            Running::bootstrapped(MemStorage::new(), ApplySettings { workers: 4, ..ApplySettings::default() });
        for (index, key) in (6..30).zip(10..) {
            running.send(
                FIRST,
                admin(FIRST, index, epoch(1, index - 5), split(&format!("k{:02}", 99 - key), key, &[key + 100]), 0),
            );
        }
        let (ended, heard) = bounded(1);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                drop(running.shut_down());
                ended.send(()).unwrap();
            });
            heard.recv_timeout(WATCHDOG).expect("the pool does not end");
        });
    }
}

/// I14: the outcome of a write is unknown; nothing that is in it, or comes later, is acknowledged.
#[test]
fn a_failed_write_is_acknowledged_to_nobody() {
    for fault in [Fault::Lost, Fault::Applied, Fault::Panics] {
        let disk = Mem::empty();
        drop(builder().bootstrap_storage(disk.storage(), &EmbeddedPd::new(CLUSTER)).unwrap());
        let faulty = FaultyStorage::new(disk.storage(), 2, fault);
        let running = Running::over(builder().open_storage(faulty).unwrap(), one_worker());
        running.send(FIRST, write(6, epoch(1, 1), "kept"));
        running.expect_ok();
        let before = running.store.meta().sequence();
        running.send(FIRST, admin(FIRST, 7, epoch(1, 1), split("m", 10, &[11]), 7));
        assert!(matches!(running.answer().result, Err(AnswerError::Poisoned(_))), "{fault:?}");
        running.send(FIRST, write(8, epoch(1, 1), "later"));
        assert!(matches!(running.answer().result, Err(AnswerError::Poisoned(_))), "{fault:?}");
        assert_eq!((running.store.meta().sequence(), running.store.meta().snapshot().len()), (before, 1));
        running.shut_down();
        let store = disk.open().unwrap();
        assert_eq!(store.meta().snapshot().len(), if fault == Fault::Lost { 1 } else { 2 });
        assert!(data(&store, "kept").is_some() && data(&store, "later").is_none());
    }
}

/// The n-th write fails, n = 1, 2, ... until a clean pass (T10, T11): before it everything is acknowledged, from it on nothing,
/// and a reopen finds the state before it or after it.
#[test]
fn whichever_write_fails_what_was_acknowledged_is_there() {
    let commands = [
        split("m", 10, &[11]),
        add_learner(learner(20, 2)),
        crate::common::add(voter(20, 2)),
        split("f", 30, &[31, 32]),
        add_learner(learner(21, 3)),
    ];
    let epochs = [epoch(1, 1), epoch(1, 2), epoch(2, 2), epoch(3, 2), epoch(3, 3)];
    for fault in [Fault::Lost, Fault::Applied, Fault::Panics] {
        for nth in 1.. {
            let disk = Mem::empty();
            drop(builder().bootstrap_storage(disk.storage(), &EmbeddedPd::new(CLUSTER)).unwrap());
            let faulty = FaultyStorage::new(disk.storage(), nth, fault);
            let running = Running::over(builder().open_storage(faulty.clone()).unwrap(), one_worker());
            let mut acknowledged = 0;
            for (index, (command, epoch)) in (6..).zip(commands.iter().zip(epochs)) {
                running.send(FIRST, admin(FIRST, index, epoch, command.clone(), index));
                let result = running.answer().result;
                assert_eq!(result.is_ok(), index < 5 + nth, "write {nth}, {fault:?}: {result:?}");
                acknowledged += u64::from(result.is_ok());
                assert_eq!(running.store.check_writable().is_ok(), result.is_ok());
            }
            running.shut_down();
            let applied = disk.open().unwrap().apply_state(FIRST).applied_index.get() - 5;
            let unknown = u64::from(faulty.has_failed() && fault != Fault::Lost);
            assert_eq!(applied, acknowledged + unknown, "write {nth}, {fault:?}");
            if !faulty.has_failed() {
                assert_eq!(nth, 1 + commands.len() as u64);
                break;
            }
        }
    }
}

#[test]
fn data_that_cannot_be_put_poisons_the_store() {
    let failing: [fn() -> Data<MemStorage>; 2] = [
        || {
            Data::with(|_, storage: &MemStorage, batch| {
                storage.put(batch, Family::Default, b"half", b"")?;
                let (location, cause) = (String::new(), String::new());
                Err(regionmeta_batch::storage::StorageError::Backend { action: "put", location, cause })
            })
        },
        || Data::with(|_, _, _| panic!("on purpose")),
    ];
    for data_of in failing {
        let disk = Mem::empty();
        let running = Running::bootstrapped(disk.storage(), one_worker());
        running.send(FIRST, Entry::write(at(6), epoch(1, 1), data_of(), 6));
        running.send(FIRST, write(7, epoch(1, 1), "later"));
        // The entry that panicked is dropped with its tag; the one behind it is answered.
        let last = std::iter::from_fn(|| Some(running.answer())).find(|answer| answer.tag == 7).unwrap();
        assert!(matches!(last.result, Err(AnswerError::Poisoned(_))));
        running.shut_down();
        let store = disk.open().unwrap();
        assert_eq!((data(&store, "half"), store.apply_state(FIRST).applied_index.get()), (None, 5));
    }
}

/// What survives a power loss is what the policy says, and every tombstone. The store itself is opened without syncs.
#[test]
fn batches_are_synced_as_the_policy_says() {
    for (policy, expected) in
        [(SyncPolicy::Every, [6, 7, 8]), (SyncPolicy::Hinted, [5, 7, 8]), (SyncPolicy::Never, [5, 5, 5])]
    {
        let disk = MemStorage::new();
        let open = || builder().durability(Durability::Buffered);
        let store = open().bootstrap_storage(disk.clone(), &EmbeddedPd::new(CLUSTER)).unwrap();
        let running = Running::over(store, ApplySettings { sync: policy, ..one_worker() });
        let entries = [
            write(6, epoch(1, 1), "plain"),
            admin(FIRST, 7, epoch(1, 1), add_learner(learner(20, 2)), 7),
            write(8, epoch(2, 1), "hinted").synced(),
        ];
        for (entry, applied) in entries.into_iter().zip(expected) {
            running.send(FIRST, entry);
            running.expect_ok();
            let survivor = MemStorage::new();
            crate::common::restore(&survivor, &durable(&disk));
            assert_eq!(open().open_storage(survivor).unwrap().apply_state(FIRST).applied_index.get(), applied);
        }
        running.send(FIRST, admin(FIRST, 9, epoch(2, 1), crate::common::add(voter(20, 2)), 9));
        running.send(FIRST, admin(FIRST, 10, epoch(3, 1), remove(voter(3, 1)), 10));
        running.expect_ok();
        running.expect_ok();
        assert_eq!(dump(&disk), durable(&disk), "a tombstone was not synced");
        running.shut_down();
    }
    let synced = Arc::new(builder().bootstrap_storage(MemStorage::new(), &EmbeddedPd::new(CLUSTER)).unwrap());
    let settings = ApplySettings { sync: SyncPolicy::Never, ..one_worker() };
    let (answers, _heard) = unbounded::<Answer<u64>>();
    let refused = ApplyPool::start(synced, ChannelHost::new(answers), settings);
    assert!(matches!(refused, Err(PoolError::StoreIsSynced { .. })));
}

/// What would be left after a power loss now.
fn durable(disk: &MemStorage) -> crate::common::Dump {
    let copy = disk.fork();
    copy.crash(0);
    dump(&copy)
}

/// A later peer of a region may come as soon as the earlier one has left, though the worker that had it is still in its
/// round: the end of that round must not close the mailbox of the later one.
#[test]
fn a_region_that_comes_back_at_once_stays() {
    struct Returning {
        router: OnceLock<Router<MemStorage, u64>>,
        has_returned: AtomicBool,
        answers: Sender<Answer<u64>>,
    }
    impl ApplyHost<MemStorage> for Returning {
        type Tag = u64;
        fn answer(&self, answer: Answer<u64>) {
            self.answers.send(answer).unwrap();
        }
        fn stopped(&self, region: RegionId) {
            if !self.has_returned.swap(true, Ordering::Relaxed) {
                assert!(self.router.wait().add(region));
                self.router.wait().try_send(region, Entry::empty(at(99), 99)).unwrap();
            }
        }
    }
    let store = Arc::new(builder().bootstrap_storage(MemStorage::new(), &EmbeddedPd::new(CLUSTER)).unwrap());
    let (answers, heard) = unbounded();
    let host = Returning { router: OnceLock::new(), has_returned: AtomicBool::new(false), answers };
    let pool = ApplyPool::start(store, host, one_worker()).unwrap();
    pool.host().router.set(pool.router().clone()).unwrap();
    pool.router().send(FIRST, admin(FIRST, 6, epoch(1, 1), crate::common::add(voter(20, 2)), 6)).unwrap();
    pool.router().send(FIRST, admin(FIRST, 7, epoch(2, 1), remove(voter(3, 1)), 7)).unwrap();
    let next = || heard.recv_timeout(WATCHDOG).unwrap();
    assert!(next().result.is_ok() && next().result.is_ok());
    let of_the_later_one = next().result;
    let not_applied = matches!(of_the_later_one, Err(AnswerError::NotApplied(ApplyError::RegionNotFound { .. })));
    assert!(not_applied, "its mailbox was closed: {of_the_later_one:?}");
    assert!(pool.router().region(FIRST).is_some());
}

/// Nobody would ever answer an entry that a pool without workers has taken.
#[test]
fn a_pool_that_was_shut_down_takes_nothing() {
    let running = Running::bootstrapped(MemStorage::new(), one_worker());
    let (router, sender) = (running.pool.router().clone(), running.pool.router().region(FIRST).unwrap());
    running.shut_down();
    assert!(matches!(sender.try_send(write(6, epoch(1, 1), "late")), Err(SendError::Closed(_))));
    assert!(!router.add(FIRST) && router.is_empty());
    assert!(matches!(router.send(FIRST, write(6, epoch(1, 1), "late")), Err(SendError::Closed(_))));
}

/// What is left is answered on the thread that ends the pool. A host that then sends, and waits for room, must not wait for
/// workers that are gone.
#[test]
fn a_send_does_not_hold_up_the_end() {
    struct Sending {
        all: OnceLock<Vec<RegionSender<MemStorage, u64>>>,
    }
    impl ApplyHost<MemStorage> for Sending {
        type Tag = u64;
        fn answer(&self, _: Answer<u64>) {
            self.all.wait().iter().for_each(|region| drop(region.send(Entry::empty(at(99), 99))));
        }
    }
    let store = Arc::new(builder().bootstrap_storage(MemStorage::new(), &EmbeddedPd::new(CLUSTER)).unwrap());
    let mut batch = store.begin();
    batch.apply(FIRST, at(6), epoch(1, 1), &split("m", 10, &[11])).unwrap();
    batch.commit().unwrap();
    let (ended, end) = unbounded();
    let end_it = move || {
        let host = Sending { all: OnceLock::new() };
        let settings = ApplySettings { mailbox_entries_max: 1, ..one_worker() };
        let mut other = store.begin();
        for (region, index) in [(FIRST, 7), (CHILD, 6)] {
            other.advance(region, at(index)).unwrap();
        }
        let pool = ApplyPool::start(store.clone(), host, settings).unwrap();
        let senders = [FIRST, CHILD].map(|region| pool.router().region(region).unwrap());
        // One is held back for the other batch, and one more fills the mailbox.
        for (sender, index) in senders.iter().zip([7, 6]) {
            (0..2).for_each(|more| sender.send(Entry::empty(at(index + more), index)).unwrap());
        }
        assert!(pool.host().all.set(senders.into()).is_ok());
        pool.shut_down();
        ended.send(()).unwrap();
    };
    std::thread::Builder::new().name("ends the pool".to_owned()).spawn(end_it).unwrap();
    end.recv_timeout(WATCHDOG).expect("the pool does not end");
}
