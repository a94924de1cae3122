//! What only the write half of a store can show.

use regionmeta::{
    AdminCommand, AdminHeader, AdminRequest, ChangeKind, Changeset, KeyRange, LogPosition, Peer, PeerChange, Permit,
    Reason, Refusal, RegionDraft, RegionEpoch, RegionId,
};

use super::*;
use crate::apply::{Answer, AnswerError, ApplyError, ApplyPool, ApplySettings, ChannelHost, CommitError, Data, Entry};
use crate::pd::EmbeddedPd;
use crate::storage::MemStorage;

const CLUSTER: ClusterId = ClusterId::new(7);
const FIRST: RegionId = RegionId::new(2);

/// The first region moves to store 2; its peer here, number 3, is destroyed.
fn destroy_first(store: &Store<MemStorage>) {
    let changes = [
        (ChangeKind::AddNode, Peer::voter(20.into(), 2.into())),
        (ChangeKind::RemoveNode, Peer::voter(3.into(), 1.into())),
    ];
    for (conf_ver, (kind, peer)) in (1..).zip(changes) {
        let command = AdminCommand::ChangePeer(PeerChange { kind, peer });
        let entry = LogPosition { index: (5 + conf_ver).into(), term: 5.into() };
        let mut batch = store.begin();
        batch.apply(FIRST, entry, RegionEpoch::new(conf_ver, 1), &command).unwrap();
        batch.commit().unwrap();
    }
}

/// I12: neither the same peer nor an earlier one; a later one may.
fn assert_only_a_later_peer_may_come(store: &Store<MemStorage>) {
    let create = |peer: u64| {
        let peers = vec![Peer::voter(peer.into(), 1.into())];
        let region = RegionDraft::new(FIRST, KeyRange::ALL, RegionEpoch::new(9, 9), peers).build().unwrap();
        store.writer().prepare(Changeset::new().create(region)).map(drop)
    };
    for peer in [1, 3] {
        let refusal = create(peer).unwrap_err();
        assert!(matches!(refusal, Refusal::Tombstoned { region: FIRST, .. }), "{refusal}");
    }
    create(4).unwrap();
}

#[test]
fn a_destroyed_peer_does_not_come_back_not_even_after_a_restart() {
    let disk = MemStorage::new();
    let store = StoreBuilder::new(CLUSTER).bootstrap_storage(disk.clone(), &EmbeddedPd::new(CLUSTER)).unwrap();
    destroy_first(&store);
    assert_only_a_later_peer_may_come(&store);
    drop(store);
    let store = StoreBuilder::new(CLUSTER).open_storage(disk).unwrap();
    assert_only_a_later_peer_may_come(&store);
}

fn bootstrapped() -> Store<MemStorage> {
    StoreBuilder::new(CLUSTER).bootstrap_storage(MemStorage::new(), &EmbeddedPd::new(CLUSTER)).unwrap()
}

fn add_learner(number: u64) -> AdminCommand {
    let peer = Peer::learner((20 + number).into(), (2 + number).into());
    AdminCommand::ChangePeer(PeerChange { kind: ChangeKind::AddLearner, peer })
}

fn entry(index: u64) -> LogPosition {
    LogPosition { index: index.into(), term: 6.into() }
}

/// Reserves the first region, to be left as it is.
fn reserve(store: &Store<MemStorage>) -> Permit<'_> {
    let snapshot = store.meta().snapshot();
    let first = snapshot.get(FIRST).unwrap();
    let same = Changeset::new().update(first.changed_at(), first.region().clone(), Reason::ChangePeer);
    store.writer().prepare(same).unwrap()
}

/// What another batch has reserved is free again when that one ends: the commit waits for it, and is not refused.
#[test]
fn a_commit_waits_for_what_another_batch_has_reserved() {
    let store = bootstrapped();
    let other = (reserve(&store), store.begin()); // dropped in this order, as in a commit
    std::thread::scope(|scope| {
        let commit = scope.spawn(|| {
            let mut batch = store.begin();
            batch.apply(FIRST, entry(6), RegionEpoch::INITIAL, &add_learner(0)).unwrap();
            batch.commit().map(drop)
        });
        for _ in 0..3 {
            // The end of a third one is not what it waits for.
            drop(store.begin());
            std::thread::sleep(Duration::from_millis(10));
            assert!(!commit.is_finished());
        }
        drop(other);
        commit.join().unwrap().unwrap();
    });
    assert_eq!(store.apply_state(FIRST).applied_index.get(), 6);
    store.check_writable().unwrap();
}

/// The map was changed behind the back of a batch: nothing of the batch is written, no entry counts, none that follows is
/// acknowledged, and the store goes on.
#[test]
fn a_refused_batch_is_told_and_poisons_nothing() {
    let store = Arc::new(bootstrapped());
    let (answers, heard) = crossbeam::channel::unbounded::<Answer<u64>>();
    let settings = ApplySettings { workers: 1, ..ApplySettings::default() };
    let pool = ApplyPool::start(store.clone(), ChannelHost::new(answers), settings).unwrap();
    let admin = |index: u64, conf_ver| {
        let header = AdminHeader::new(FIRST, RegionEpoch::new(conf_ver, 1));
        Entry::admin(entry(index), AdminRequest { header, command: add_learner(index) }, index)
    };
    let stored = |store: &Store<MemStorage>| {
        let key = regionmeta::layout::region_state_key(FIRST);
        store.storage().get(crate::storage::Family::Raft, &key).unwrap()
    };
    let before = stored(&store);
    let behind_its_back = {
        let store = store.clone();
        Data::with(move |_, _, _| {
            drop(reserve(&store).publish());
            Ok(())
        })
    };
    let batch = [admin(6, 1).with_data(behind_its_back), admin(7, 2), admin(8, 3)];
    pool.router().region(FIRST).unwrap().try_send_all(&mut batch.into()).unwrap();
    for index in 6..9 {
        let Answer { tag, result, .. } = heard.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(tag, index);
        let Err(AnswerError::NotApplied(ApplyError::BatchRefused(refusal))) = result else { panic!("{result:?}") };
        assert!(matches!(refusal, Refusal::Stale { region: FIRST, .. }), "{refusal}");
    }
    let started = std::time::Instant::now();
    while pool.router().region(FIRST).is_some() {
        assert!(started.elapsed() < Duration::from_secs(10), "the region stays"); // it leaves after the answers
        std::thread::yield_now();
    }
    store.check_writable().unwrap();
    assert_eq!((store.apply_state(FIRST).applied_index.get(), stored(&store)), (5, before));
    assert!(pool.router().add(FIRST));
    pool.router().send(FIRST, admin(6, 1)).unwrap();
    assert!(heard.recv_timeout(Duration::from_secs(30)).unwrap().result.is_ok());
    assert_eq!(store.apply_state(FIRST).applied_index.get(), 6);
    // A host's own batch is told as well.
    let mut batch = store.begin();
    batch.apply(FIRST, entry(7), RegionEpoch::new(2, 1), &add_learner(7)).unwrap();
    drop(reserve(&store).publish());
    assert!(matches!(batch.commit(), Err(CommitError::Refused(Refusal::Stale { .. }))));
    store.check_writable().unwrap();
}
