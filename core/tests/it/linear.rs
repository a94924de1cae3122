//! T20, I2: small histories of real threads are linearizable. Every call is stamped before and after; then a checker looks for
//! an order of the calls in which the naive map, one call after the other, gives all the answers. It takes in every way of
//! reading: by key, by id, by epoch, a whole scan, a cached reader, a view, and the change feed.

mod checker;

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use regionmeta::testkit::{History, Model};
use regionmeta::{
    Change, Changeset, EpochHalves, EpochRefusal, Published, Reader, Region, RegionId, Snapshot, StoreId, StoreMeta,
    Subscription, View,
};

use self::checker::{Call, Held, Map, Question, Version, is_linearizable};
use crate::seed::rng;

const STORE: StoreId = StoreId::new(1);
const WRITERS: usize = 2;
const READERS: usize = 3;
const PUBLISHES: usize = 3;
const READS: usize = 8;
const HISTORIES: u32 = 1_000;

fn version(region: &Region) -> Version {
    region.as_bytes().as_ptr() as usize
}

fn held(region: &Region) -> Held {
    let (id, epoch) = (region.peer_on(STORE).map_or(0, |peer| peer.id.get()), region.epoch());
    let (start, end) = (region.start_key().to_vec(), region.end_key().to_wire().to_vec());
    Held { version: version(region), start, end, peer: id, epoch: (epoch.conf_ver, epoch.version) }
}

/// One call as a thread saw it. What the feed tells is matched with the publishes when all threads are done.
enum Heard {
    Answer(Question),
    Published(Changeset, Snapshot),
    News(Option<Published>),
}

struct Noted {
    asked: u64,
    answered: u64,
    heard: Heard,
}

/// What one thread does, with a stamp before and one after.
struct Thread<'a> {
    clock: &'a AtomicU64,
    rng: fastrand::Rng,
    notes: Vec<Noted>,
    /// What was seen stays alive, or a later version could get its address.
    kept: Vec<Snapshot>,
}

impl<'a> Thread<'a> {
    fn new(clock: &'a AtomicU64, seed: u64) -> Self {
        Self { clock, rng: fastrand::Rng::with_seed(seed), notes: Vec::new(), kept: Vec::new() }
    }

    fn call(&mut self, ask: impl FnOnce(&mut Self) -> Heard) {
        for _ in 0..self.rng.u8(0..40) {
            std::hint::spin_loop();
        }
        // SeqCst: one order of all stamps, on which the checker rests.
        let asked = self.clock.fetch_add(1, Ordering::SeqCst);
        let heard = ask(self);
        let answered = self.clock.fetch_add(1, Ordering::SeqCst);
        self.notes.push(Noted { asked, answered, heard });
    }

    fn write(&mut self, meta: &StoreMeta) {
        let mut history = History::new(self.rng.u64(..), STORE);
        for _ in 0..PUBLISHES {
            let changeset = history.right(&Model::of(&meta.snapshot(), Some(STORE)));
            let Ok(permit) = meta.prepare(changeset.clone()) else { continue };
            if changeset.is_empty() {
                continue;
            }
            self.call(|_| {
                let state = permit.publish();
                Heard::Published(changeset, state)
            });
        }
    }

    fn read(&mut self, meta: &StoreMeta, mut ways: Ways) {
        for _ in 0..READS {
            self.call(|thread| ways.ask(thread, meta));
        }
    }
}

/// What a reader holds from one call to the next.
struct Ways {
    reader: Reader,
    view: Option<View>,
    feed: Subscription,
    /// A planted fault: this reader never renews its snapshot.
    stuck_at: Option<Snapshot>,
}

impl Ways {
    fn new(meta: &StoreMeta, rng: &mut fastrand::Rng, stuck: bool) -> Self {
        let (reader, handle, now) = (meta.reader(), meta.read_handle(), meta.snapshot());
        let followed = rng.choice(now.regions()).map(Region::id);
        let view = followed.and_then(|id| handle.view(id));
        Self { reader, view, feed: handle.subscribe_from(now.sequence()), stuck_at: stuck.then_some(now) }
    }

    /// The current state, one way or another.
    fn state(&mut self, thread: &mut Thread<'_>, meta: &StoreMeta) -> Snapshot {
        let state = match &self.stuck_at {
            Some(stuck) => stuck.clone(),
            None if thread.rng.bool() => meta.snapshot(),
            None => self.reader.snapshot().clone(),
        };
        thread.kept.push(state.clone());
        state
    }

    fn ask(&mut self, thread: &mut Thread<'_>, meta: &StoreMeta) -> Heard {
        match thread.rng.u8(0..8) {
            0 => Heard::News(self.feed.next().unwrap()),
            1 | 2 => self.follow().map_or_else(|| Heard::News(self.feed.next().unwrap()), Heard::Answer),
            way => {
                let state = self.state(thread, meta);
                Heard::Answer(look(&state, way, &mut thread.rng))
            }
        }
    }

    fn follow(&mut self) -> Option<Question> {
        let view = self.view.as_mut()?;
        let (id, peer) = (view.id().get(), view.peer()?.get());
        Some(Question::View(id, peer, view.current().ok().map(version)))
    }
}

fn look(state: &Snapshot, way: u8, rng: &mut fastrand::Rng) -> Question {
    let any = rng.choice(state.regions()).map(|region| (region.id(), region.epoch()));
    match (way, any) {
        (3, _) => Question::Scan(state.regions().map(version).collect()),
        (4, Some((id, _))) => Question::Get(id.get(), state.get(id).map(|entry| version(entry.region()))),
        (5, Some((id, epoch))) => {
            let found = match state.check_epoch(id, epoch, EpochHalves::BOTH) {
                Ok(entry) => Ok(version(entry.region())),
                Err(EpochRefusal::EpochNotMatch { current, .. }) => Err(Some(version(&current))),
                Err(EpochRefusal::RegionNotFound { .. }) => Err(None),
            };
            Question::CheckEpoch(id.get(), (epoch.conf_ver, epoch.version), found)
        }
        (6, _) => {
            let id = RegionId::new(rng.u64(101..120));
            Question::Get(id.get(), state.get(id).map(|entry| version(entry.region())))
        }
        _ => {
            let key = vec![b'k', rng.u8(0..18)];
            let found = state.locate(&key).map(|entry| version(entry.region()));
            Question::Locate(key, found)
        }
    }
}

/// Every call of one history, the map that it began with, and what keeps the addresses of its versions apart.
struct Recorded {
    initial: Map,
    calls: Vec<Call>,
    _kept: Vec<Snapshot>,
}

/// A change, so that an event is recognised: no two of a history have the same.
fn mark(change: &Change) -> (RegionId, Option<u64>, Option<Version>) {
    (change.id(), change.base().map(|base| base.get()), change.after().map(version))
}

fn record(threads: Vec<Thread<'_>>, before: &Snapshot) -> Recorded {
    let mut kept = vec![before.clone()];
    let mut calls = Vec::new();
    let mut publishes = Vec::new();
    let mut readers = Vec::new();
    for mut thread in threads {
        kept.append(&mut thread.kept);
        let mut news = Vec::new();
        for Noted { asked, answered, heard } in thread.notes {
            let call = |after, question| Call { asked, answered, after, question };
            match heard {
                Heard::Answer(question) => calls.push(call(None, question)),
                Heard::News(published) => news.push((asked, answered, published)),
                Heard::Published(changeset, state) => {
                    let at = calls.len();
                    let effect = |change: &Change| (change.id().get(), change.after().map(held));
                    publishes.push((at, changeset.changes().iter().map(mark).collect::<Vec<_>>()));
                    calls.push(call(None, Question::Publish(changeset.changes().iter().map(effect).collect())));
                    calls.push(call(Some(at), Question::Announce(at)));
                    calls.push(call(Some(at), Question::Scan(state.regions().map(version).collect())));
                    kept.push(state);
                }
            }
        }
        readers.push(news);
    }
    for news in readers {
        let mut known = Vec::new();
        for (asked, answered, published) in news {
            let found = published.map_or(vec![], |published| publishes_in(&published, &publishes));
            let question = Question::Hear(known.clone(), found.clone());
            known.extend(found);
            calls.push(Call { asked, answered, after: None, question });
        }
    }
    let initial = before.regions().map(|region| (region.id().get(), held(region))).collect();
    Recorded { initial, calls, _kept: kept }
}

type Marks = Vec<(RegionId, Option<u64>, Option<Version>)>;

/// The publishes whose changes an event brings, in its order.
fn publishes_in(published: &Published, publishes: &[(usize, Marks)]) -> Vec<usize> {
    let mut found = Vec::new();
    for change in published.changes() {
        let (at, _) = publishes.iter().find(|(_, marks)| marks.contains(&mark(change))).expect("somebody published it");
        if !found.contains(at) {
            found.push(*at);
        }
    }
    found
}

/// A map with some regions, and all threads on it at once.
fn run(rng: &mut fastrand::Rng, stuck: bool) -> Recorded {
    let meta = StoreMeta::new(Some(STORE));
    let mut history = History::new(rng.u64(..), STORE);
    for _ in 0..8 {
        let changeset = history.right(&Model::of(&meta.snapshot(), Some(STORE)));
        let _ = meta.prepare(changeset).map(|permit| permit.publish());
    }
    let (before, clock, start) = (meta.snapshot(), AtomicU64::new(0), Barrier::new(WRITERS + READERS));
    let threads = std::thread::scope(|scope| {
        let (meta, clock, start) = (&meta, &clock, &start);
        let mut running = Vec::new();
        for n in 0..WRITERS + READERS {
            let (seed, ways) = (rng.u64(..), (n >= WRITERS).then(|| Ways::new(meta, rng, stuck && n == WRITERS)));
            running.push(scope.spawn(move || {
                let mut thread = Thread::new(clock, seed);
                start.wait();
                match ways {
                    Some(ways) => thread.read(meta, ways),
                    None => thread.write(meta),
                }
                thread
            }));
        }
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    record(threads, &before)
}

/// How many reads took place while a publish was under way.
fn reads_beside_a_publish(calls: &[Call]) -> usize {
    let publishes: Vec<_> = calls.iter().filter(|call| matches!(call.question, Question::Publish(_))).collect();
    let beside = |call: &&Call| publishes.iter().any(|p| p.asked < call.answered && call.asked < p.answered);
    calls
        .iter()
        .filter(|call| call.after.is_none() && !matches!(call.question, Question::Publish(_)))
        .filter(beside)
        .count()
}

#[test]
fn small_histories_are_linearizable() {
    let mut rng = rng("small_histories_are_linearizable");
    let (mut calls, mut beside) = (0, 0);
    // On a busy machine threads take turns, and more histories are needed until enough reads fall beside a publish.
    let is_enough = |n: u32, beside: usize| n >= HISTORIES && beside > HISTORIES as usize / 4;
    let mut n = 0;
    while !is_enough(n, beside) {
        n += 1;
        assert!(n < 100 * HISTORIES, "{beside} reads beside a publish: the threads take turns");
        let Recorded { initial, calls: history, _kept } = run(&mut rng, false);
        calls += history.len();
        beside += reads_beside_a_publish(&history);
        assert!(is_linearizable(initial, &history), "history {n} has no order that explains it: {history:#?}");
    }
    println!("{n} histories of {calls} calls, {beside} reads beside a publish");
}

/// The whole of it, from threads to verdict, sees a reader that looks at an old state.
#[test]
fn a_reader_that_is_stuck_is_noticed() {
    let mut rng = rng("a_reader_that_is_stuck_is_noticed");
    // On a busy machine threads take turns, and a reader is seldom behind a publish.
    let (mut noticed, mut n) = (0, 0);
    while noticed < 20 {
        n += 1;
        assert!(n < 10_000, "{noticed} of {n}: the threads take turns, or nothing is noticed");
        let Recorded { initial, calls, _kept } = run(&mut rng, true);
        noticed += usize::from(!is_linearizable(initial, &calls));
    }
    println!("{noticed} of {n} histories with a stuck reader are refused");
}

/// Histories made by hand. Region 1 is all keys as version 10; a split leaves it "m" and above as 11, and makes region 2.
mod by_hand {
    use super::*;

    fn whole() -> Held {
        Held { version: 10, start: vec![], end: vec![], peer: 5, epoch: (1, 1) }
    }

    fn right() -> Held {
        Held { version: 11, start: b"m".to_vec(), epoch: (1, 2), ..whole() }
    }

    fn left() -> Held {
        Held { version: 20, end: b"m".to_vec(), epoch: (1, 2), peer: 6, ..whole() }
    }

    fn call(asked: u64, answered: u64, question: Question) -> Call {
        Call { asked, answered, after: None, question }
    }

    fn split(asked: u64, answered: u64) -> Vec<Call> {
        let publish = call(asked, answered, Question::Publish(vec![(1, Some(right())), (2, Some(left()))]));
        vec![publish, Call { after: Some(0), ..call(asked, answered, Question::Announce(0)) }]
    }

    /// The split takes from 10 to 20; what else was asked comes on top.
    fn explains(reads: impl IntoIterator<Item = (u64, u64, Question)>) -> bool {
        let reads = reads.into_iter().map(|(asked, answered, question)| call(asked, answered, question));
        is_linearizable([(1, whole())].into(), &split(10, 20).into_iter().chain(reads).collect::<Vec<_>>())
    }

    #[test]
    fn beside_the_split_old_and_new_are_right_in_this_order_alone() {
        let (old, new) = (Question::Get(1, Some(10)), Question::Get(1, Some(11)));
        assert!(explains([(11, 12, old.clone()), (13, 14, new.clone())]));
        assert!(!explains([(11, 12, new.clone()), (13, 14, old.clone())]), "an old answer after a newer one");
        assert!(explains([(11, 15, new), (12, 16, old)]), "the two were asked at the same time");
    }

    #[test]
    fn what_was_answered_before_the_question_binds_it() {
        assert!(!explains([(21, 22, Question::Get(1, Some(10)))]), "a stale read");
        assert!(!explains([(1, 2, Question::Get(1, Some(11)))]), "seen before it was published");
        assert!(!explains([(21, 22, Question::Get(2, None))]), "a lost update");
        assert!(explains([(1, 2, Question::Get(2, None)), (21, 22, Question::Get(2, Some(20)))]));
    }

    #[test]
    fn half_a_split_is_refused() {
        assert!(!explains([(11, 12, Question::Scan(vec![11]))]));
        assert!(!explains([(11, 12, Question::Scan(vec![20, 10]))]));
        assert!(!explains([(11, 12, Question::Locate(b"a".to_vec(), None))]));
        assert!(!explains([(11, 12, Question::Get(2, Some(20))), (13, 14, Question::Locate(b"z".to_vec(), Some(10)))]));
        assert!(explains([(11, 12, Question::Scan(vec![20, 11]))]));
        assert!(explains([(11, 12, Question::Scan(vec![10]))]));
    }

    #[test]
    fn an_epoch_check_has_one_right_answer_at_a_time() {
        let asked = |found| Question::CheckEpoch(1, (1, 1), found);
        assert!(explains([(1, 2, asked(Ok(10))), (21, 22, asked(Err(Some(11))))]));
        assert!(!explains([(21, 22, asked(Ok(10)))]), "an outdated epoch was let through");
        assert!(!explains([(21, 22, asked(Err(None)))]), "the region is there");
    }

    #[test]
    fn a_view_follows_one_peer() {
        assert!(!explains([(21, 22, Question::View(1, 5, Some(10)))]), "not renewed");
        assert!(!explains([(21, 22, Question::View(1, 4, Some(11)))]), "another incarnation");
        assert!(explains([(21, 22, Question::View(1, 5, Some(11))), (23, 24, Question::View(1, 4, None))]));
    }

    #[test]
    fn news_come_after_the_state_once_and_are_not_kept_back() {
        let (nothing, news) = (Question::Hear(vec![], vec![]), Question::Hear(vec![], vec![0]));
        assert!(explains([(11, 12, Question::Get(1, Some(11))), (13, 14, nothing.clone()), (15, 16, news.clone())]));
        assert!(!explains([(11, 12, news.clone()), (13, 14, Question::Get(1, Some(10)))]), "news before the state");
        assert!(!explains([(21, 22, nothing)]), "kept back after the publish had returned");
        assert!(!explains([(21, 22, news.clone()), (23, 24, Question::Hear(vec![0], vec![0]))]), "twice");
    }
}
