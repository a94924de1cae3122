//! M19: a host's methods are called with no lock held. From each of them the host goes back into everything that has locks:
//! mailboxes, the router, the store's claims, reservations and writers, and the peers. A lock that was held would never be free.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam::channel::{Sender, unbounded};
use regionmeta::{
    AdminCommand, AdminError, AdminHeader, AdminRequest, CommitMerge, MergeState, PeerState, PrepareMerge, Region,
    RegionDraft, RegionEpoch, RegionId,
};
use regionmeta_batch::Store;
use regionmeta_batch::apply::{Answer, ApplyError, ApplyHost, ApplyPool, ApplySettings, Committed, Entry, Router};
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::peers::{Peers, Role};
use regionmeta_batch::storage::{MemStorage, Storage};

use crate::common::{CLUSTER, at, builder, split};
use crate::pool::WATCHDOG;

/// `["", h)`, `[h, p)` and `[p, "")`, each with one peer, on store 1.
const LEFT: RegionId = RegionId::new(2);
const MIDDLE: RegionId = RegionId::new(10);
const RIGHT: RegionId = RegionId::new(20);
/// Only the host's own batches change it.
const APART: RegionId = RegionId::new(30);
const METHODS: [&str; 4] = ["committed", "answer", "catch_up", "stopped"];

struct Curious<S: Storage> {
    store: Arc<Store<S>>,
    peers: Peers<S>,
    router: OnceLock<Router<S, u64>>,
    last_id: AtomicU64,
    called: Sender<&'static str>,
}

impl<S: Storage> Curious<S> {
    fn goes_everywhere(&self, method: &'static str) {
        self.asks_the_router();
        self.changes_the_store();
        self.asks_the_peers();
        self.called.send(method).unwrap();
    }

    fn asks_the_router(&self) {
        let router = self.router.wait();
        for region in [LEFT, MIDDLE, RIGHT, APART] {
            // Refused as a duplicate, and answered with another tag than the one that calls this.
            drop(router.try_send(region, Entry::empty(at(1), 0)));
            drop(router.region(region).map(|sender| sender.send_within(Entry::empty(at(1), 0), Duration::ZERO)));
        }
        // A region that comes and goes.
        let id = RegionId::new(self.last_id.fetch_add(10, Ordering::Relaxed) + 5);
        assert!(router.add(id) && !router.add(id) && router.region(id).is_some() && !router.is_empty());
        assert!(router.stop(id));
    }

    /// A whole batch: claims, reservations of children, the writers' lock.
    fn changes_the_store(&self) {
        let mut batch = self.store.begin();
        let Some(apart) = batch.region(APART) else { return };
        let child = self.last_id.fetch_add(10, Ordering::Relaxed);
        let next = self.store.apply_state(APART).applied_index.get() + 1;
        // Ever further to the left, where the region keeps its keys.
        let command = split(&format!("z{}", 99_999 - child), child, &[child + 1]);
        match batch.apply(APART, at(next), apart.epoch(), &command) {
            Ok(_) => drop(batch.commit().unwrap()),
            // Two workers call at once, and one of the two has the region, or has changed it since it was looked at.
            Err(ApplyError::Busy { .. } | ApplyError::AlreadyApplied { .. }) => {}
            Err(ApplyError::Refused(error)) => assert!(matches!(error, AdminError::EpochNotMatch { .. }), "{error}"),
            Err(error) => panic!("{error}"),
        }
        self.store.report([(APART, regionmeta::Stats::default())]);
        self.store.check_writable().unwrap();
    }

    fn asks_the_peers(&self) {
        assert!(self.peers.destroy(RegionId::new(999_999), 1.into()).is_err());
        let own = self.peers.peer(APART).map(|peer| peer.peer_id);
        if let Some(own) = own {
            self.peers.set_role(APART, own, Role::Follower);
        }
    }
}

impl<S: Storage> ApplyHost<S> for Curious<S> {
    type Tag = u64;

    fn committed(&self, _: &Committed) {
        self.goes_everywhere("committed");
    }

    fn answer(&self, answer: Answer<u64>) {
        if answer.tag > 0 {
            self.goes_everywhere("answer");
        }
    }

    fn catch_up(&self, _: RegionId, _: &CommitMerge) {
        self.goes_everywhere("catch_up");
    }

    fn stopped(&self, region: RegionId) {
        if [LEFT, MIDDLE, RIGHT].contains(&region) {
            self.goes_everywhere("stopped");
        }
    }
}

fn region(store: &Store<MemStorage>, id: RegionId) -> Region {
    store.meta().snapshot().get(id).unwrap().region().clone()
}

/// `RIGHT` as its PrepareMerge, which comes later, will leave it.
fn to_come(store: &Store<MemStorage>, commit: u64) -> Region {
    let (source, target) = (region(store, RIGHT), region(store, MIDDLE));
    let merge = MergeState { min_index: commit.into(), commit: commit.into(), target: target.as_ref() };
    let epoch = source.epoch().with_conf_ver_moved(1).unwrap().with_version_moved(1).unwrap();
    RegionDraft { state: PeerState::Merging, merge_state: Some(merge), epoch, ..source.to_draft() }.build().unwrap()
}

#[test]
fn a_host_may_go_anywhere_from_each_of_its_methods() {
    for workers in [1, 2] {
        let store = Arc::new(builder().bootstrap_storage(MemStorage::new(), &EmbeddedPd::new(CLUSTER)).unwrap());
        let mut batch = store.begin();
        batch.apply(LEFT, at(6), RegionEpoch::new(1, 1), &split("z", 30, &[31])).unwrap();
        batch.apply(LEFT, at(7), RegionEpoch::new(1, 2), &split("p", 20, &[21])).unwrap();
        batch.apply(LEFT, at(8), RegionEpoch::new(1, 3), &split("h", 10, &[11])).unwrap();
        batch.commit().unwrap();
        let (called, calls) = unbounded();
        let (peers, last_id) = (Peers::new(store.clone()), AtomicU64::new(1_000));
        let host = Curious { store: store.clone(), peers, router: OnceLock::new(), last_id, called };
        let settings = ApplySettings { workers, ..ApplySettings::default() };
        // Not dropped when the test fails: that would wait for workers that wait for ever.
        let pool = ManuallyDrop::new(ApplyPool::start(store.clone(), host, settings).unwrap());
        let router = pool.router().clone();
        assert!(pool.host().router.set(router.clone()).is_ok());
        let admin = |id, index, command| {
            let request = AdminRequest { header: AdminHeader::new(id, region(&store, id).epoch()), command };
            router.send(id, Entry::admin(at(index), request, 1)).unwrap();
        };
        let mut waiting: Vec<_> = METHODS.into();
        let mut hear = |until: &str| {
            while waiting.contains(&until) {
                let heard = calls.recv_timeout(WATCHDOG);
                let heard =
                    heard.unwrap_or_else(|_| panic!("a deadlock with {workers} workers: {waiting:?} not heard"));
                waiting.retain(|method| *method != heard);
            }
        };
        let source = to_come(&store, 6);
        let commit = CommitMerge { source: source.clone(), commit: 6.into(), entries: Vec::new() };
        admin(MIDDLE, 6, AdminCommand::CommitMerge(commit));
        hear("catch_up");
        let target = region(&store, MIDDLE);
        admin(RIGHT, 6, AdminCommand::PrepareMerge(PrepareMerge { target, min_index: 6.into() }));
        for method in METHODS {
            hear(method);
        }
        assert!(router.stop(LEFT));
        // Ending is a method's business as well: what is left is answered and stopped by the caller's thread.
        let (ended, end) = unbounded();
        let end_it = move || {
            ManuallyDrop::into_inner(pool).shut_down();
            ended.send(()).unwrap();
        };
        std::thread::Builder::new().name("ends the pool".to_owned()).spawn(end_it).unwrap();
        end.recv_timeout(WATCHDOG).expect("the pool does not end");
        assert_eq!(store.meta().snapshot().validate(), []);
    }
}
