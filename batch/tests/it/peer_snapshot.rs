//! Snapshots: what they replace, what goes with them, and what a crash leaves of them.

use std::sync::Arc;

use regionmeta::layout::{region_state_key, snapshot_raft_state_key};
use regionmeta::{
    KeyRange, LogIndex, LogPosition, Peer, PeerId, PeerState, RaftState, Region, RegionDraft, RegionEpoch, RegionId,
    Term,
};
use regionmeta_batch::apply::ApplyError;
use regionmeta_batch::peers::{
    CreateError, DestroyError, Destroyed, Effect, Finished, Message, MessageAction, MessageKind, PeerEvent, Peers,
    Role, SnapshotError,
};
use regionmeta_batch::storage::fault::{Fault, FaultyStorage};
use regionmeta_batch::storage::{Family, MemStorage, Storage};
use regionmeta_batch::{Store, records};

use crate::common::{Disk, add_learner, at, builder, learner, on_each_storage, split, voter};
use crate::peer_life::{CREATED, bury, own, vote};
use crate::peers::{apply, current, listen, started, take};

on_each_storage!(
    a_snapshot_initializes_a_peer_that_waits,
    what_a_snapshot_takes_keys_from_goes_in_the_same_change,
    accepted_snapshots_keep_their_ranges,
    a_persisted_snapshot_reserves_nothing,
    a_split_was_faster_than_the_snapshot,
);

const FIRST: RegionId = RegionId::new(2);
const CHILD: RegionId = RegionId::new(10);
const OTHER: RegionId = RegionId::new(50);
const TERM: Term = Term::new(8);
/// Raft has committed nothing that was not applied.
const NOTHING: LogIndex = LogIndex::new(0);
const NOBODY: PeerId = PeerId::new(0);

/// Has a message make a peer that waits.
fn wait_for_snapshot<S: Storage>(peers: &Peers<S>, region: RegionId, peer: u64) {
    let to = Peer::voter(peer.into(), peers.store().ident().store_id);
    let (from, epoch, kind) = (voter(7, 7), RegionEpoch::new(2, 2), MessageKind::FirstHeartbeat);
    let message =
        Message { region, from, to, epoch, range: None, kind, is_first: false, payload: &[], merge_target: None };
    assert_eq!(peers.on_message(&message).unwrap(), CREATED);
}

/// Messages say that the store has missed how `source` was merged into `target`, whose peer here was `peer` and which was at
/// this version.
pub(crate) fn merged_elsewhere<S: Storage>(
    peers: &Peers<S>,
    source: RegionId,
    target: RegionId,
    peer: u64,
    version: u64,
) -> Result<MessageAction, CreateError> {
    let store = peers.store();
    let then = snapshot(store, target, peer, ("", ""), version);
    let to = own(peers, source);
    let message = vote(store, source, to.get(), RegionEpoch::new(1, 1));
    peers.on_message(&Message { merge_target: Some(&then), ..message })
}

pub(crate) fn snapshot<S: Storage>(
    store: &Store<S>,
    region: RegionId,
    peer: u64,
    range: (&str, &str),
    version: u64,
) -> Region {
    let peers = vec![Peer::voter(peer.into(), store.ident().store_id), voter(7, 7)];
    let range = KeyRange::from_wire(range.0.as_bytes(), range.1.as_bytes());
    RegionDraft::new(region, range, RegionEpoch::new(2, version), peers).build().unwrap()
}

fn position(index: u64) -> LogPosition {
    LogPosition { index: index.into(), term: TERM }
}

fn reopened<D: Disk>(disk: &D, peers: Peers<D::Storage>, store: Arc<Store<D::Storage>>) -> Arc<Store<D::Storage>> {
    drop(peers);
    drop(Arc::into_inner(store).unwrap());
    Arc::new(disk.open().unwrap())
}

fn a_snapshot_initializes_a_peer_that_waits<D: Disk>(disk: &D) {
    let store = started(disk);
    let peers = Arc::new(Peers::new(store.clone()));
    bury(&peers, FIRST);
    wait_for_snapshot(&peers, OTHER, 51);
    let (mut notifier, heard) = listen(&peers);
    assert!(peers.set_role(OTHER, 51.into(), Role::Candidate));
    assert_eq!(notifier.deliver(), 0, "a role of a peer that has no region");
    let region = snapshot(&store, OTHER, 51, ("a", "m"), 4);
    let wrong = snapshot(&store, OTHER, 52, ("a", "m"), 4);
    assert!(matches!(peers.accept_snapshot(&wrong, position(20), NOTHING), Err(SnapshotError::OtherPeer { .. })));
    assert!(matches!(peers.persist_snapshot(OTHER, TERM, NOBODY), Err(SnapshotError::NotAccepted { .. })));
    peers.accept_snapshot(&region, position(20), NOTHING).unwrap();
    assert_eq!(peers.persist_snapshot(OTHER, TERM, 7.into()).unwrap(), []);

    // Its role was no news before it had a region.
    let role = |event: &PeerEvent| matches!(event, PeerEvent::RoleChanged { role: Role::Candidate, .. });
    assert_eq!((notifier.deliver(), take(&heard).iter().filter(|event| role(event)).count()), (2, 1));
    drop(notifier);

    // The descriptor is there, the data is not.
    assert_eq!(current(&store, OTHER).unwrap().state(), PeerState::Applying);
    assert!(peers.peer(OTHER).unwrap().is_initialized());
    let raft_state = store.raft().raft_state(OTHER).unwrap().unwrap();
    assert_eq!((raft_state.hard_state.vote, raft_state.last_index), (7.into(), 20.into()));
    let suspended = store.begin().advance(OTHER, position(21));
    assert!(matches!(suspended, Err(ApplyError::Suspended { .. })), "{suspended:?}");

    // A crash before the Raft engine had it: recovery brings it there, and says what is to be ingested.
    store.raft().put_raft_state(OTHER, &RaftState::INITIAL).unwrap();
    let store = reopened(disk, Arc::into_inner(peers).unwrap(), store);
    assert_eq!((store.recovery().applying.as_slice(), store.recovery().snapshots_finished), (&[OTHER][..], 1));
    assert_eq!(store.raft().raft_state(OTHER).unwrap(), Some(raft_state));
    let peers = Peers::new(store.clone());
    assert_eq!(peers.finish_snapshot(OTHER).unwrap(), Finished::Normal(region.clone()));
    assert!(matches!(peers.finish_snapshot(OTHER), Err(SnapshotError::NotApplying { .. })));
    assert!(store.storage().get(Family::Raft, &snapshot_raft_state_key(OTHER)).unwrap().is_none());

    let store = reopened(disk, peers, store);
    assert!(store.recovery().applying.is_empty());
    assert_eq!(current(&store, OTHER), Some(region));
    let mut batch = store.begin();
    batch.advance(OTHER, position(21)).unwrap();
    batch.commit().unwrap();
}

/// While a snapshot is written nobody else may make or bury its peer; afterwards nothing of that is left.
fn a_persisted_snapshot_reserves_nothing<D: Disk>(disk: &D) {
    let store = started(disk);
    let peers = Peers::new(store.clone());
    bury(&peers, FIRST);
    wait_for_snapshot(&peers, OTHER, 51);
    peers.accept_snapshot(&snapshot(&store, OTHER, 51, ("a", "m"), 2), position(20), NOTHING).unwrap();
    peers.persist_snapshot(OTHER, TERM, NOBODY).unwrap();
    bury(&peers, OTHER);
    assert!(store.storage().get(Family::Raft, &snapshot_raft_state_key(OTHER)).unwrap().is_none());
    wait_for_snapshot(&peers, OTHER, 52);
    peers.accept_snapshot(&snapshot(&store, OTHER, 52, ("a", "m"), 2), position(20), NOTHING).unwrap();
    peers.persist_snapshot(OTHER, TERM, NOBODY).unwrap();
    let _ = peers.finish_snapshot(OTHER).unwrap();
    assert_eq!(own(&peers, OTHER), 52.into());
}

/// M10, tikv#7027: the overlapped peers' end and the snapshot's begin were two writes.
fn what_a_snapshot_takes_keys_from_goes_in_the_same_change<D: Disk>(disk: &D) {
    let store = started(disk);
    let peers = Peers::new(store.clone());
    apply(&store, FIRST, &split("m", 10, &[11]));
    store.raft().put_raft_state(CHILD, &RaftState::INITIAL).unwrap();
    let me = own(&peers, FIRST);
    let merged = snapshot(&store, FIRST, me.get(), ("", ""), 4);
    assert!(matches!(peers.accept_snapshot(&merged, position(5), NOTHING), Err(SnapshotError::Behind { .. })));
    assert!(matches!(peers.accept_snapshot(&merged, position(20), NOTHING), Err(SnapshotError::Overlaps { .. })));
    assert_eq!(merged_elsewhere(&peers, CHILD, FIRST, me.get(), 3).unwrap(), MessageAction::Drop);
    let effects = peers.accept_snapshot(&merged, position(20), NOTHING).unwrap();
    assert_eq!(effects, [Effect::StopSource { region: CHILD }]);
    let alone = peers.destroy(CHILD, 11.into());
    assert!(matches!(alone, Err(DestroyError::GoesWithSnapshot { taker: FIRST, .. })), "{alone:?}");

    let mut feed = store.meta().subscribe_from(store.meta().sequence());
    let effects = peers.persist_snapshot(FIRST, TERM, NOBODY).unwrap();
    assert_eq!(effects, [Effect::Destroy { region: CHILD, peer: 11.into(), merged_into: Some(FIRST) }]);
    assert_eq!(feed.next().unwrap().unwrap().changes().len(), 2, "one of them could be seen without the other");
    assert!(feed.next().unwrap().is_none());
    assert!(current(&store, CHILD).is_none() && store.raft().raft_state(CHILD).unwrap().is_none());
    assert_eq!(current(&store, FIRST).unwrap().range(), KeyRange::ALL);
    assert_eq!(store.apply_state(FIRST).applied_index, 20.into());

    let store = reopened(disk, peers, store);
    assert_eq!((store.meta().snapshot().len(), store.recovery().tombstones), (1, 1));
    assert_eq!(store.apply_state(FIRST).truncated, position(20));
}

fn accepted_snapshots_keep_their_ranges<D: Disk>(disk: &D) {
    let store = started(disk);
    let peers = Peers::new(store.clone());
    bury(&peers, FIRST);
    wait_for_snapshot(&peers, OTHER, 51);
    wait_for_snapshot(&peers, RegionId::new(60), 61);
    let one = snapshot(&store, OTHER, 51, ("a", "m"), 4);
    let two = snapshot(&store, RegionId::new(60), 61, ("l", "z"), 4);
    peers.accept_snapshot(&one, position(20), NOTHING).unwrap();
    peers.accept_snapshot(&one, position(21), NOTHING).unwrap(); // a later one of the same region
    let overlaps =
        || matches!(peers.accept_snapshot(&two, position(20), NOTHING), Err(SnapshotError::OverlapsSnapshot { .. }));
    assert!(overlaps());
    assert_eq!(peers.give_up_snapshot(OTHER), []);
    assert!(!overlaps(), "a snapshot that was given up keeps its range");
    assert_eq!(peers.give_up_snapshot(two.id()), []);
    peers.accept_snapshot(&one, position(20), NOTHING).unwrap();
    assert!(overlaps());
    assert!(matches!(peers.destroy(OTHER, 51.into()).unwrap(), Destroyed::Buried { .. }));
    assert!(!overlaps(), "a destroyed peer keeps the range of its snapshot");
    assert!(matches!(peers.persist_snapshot(OTHER, TERM, NOBODY), Err(SnapshotError::NotAccepted { .. })));
}

/// Spec section 10, acceptance rule 2: a split has taken the place of the peer that waited.
fn a_split_was_faster_than_the_snapshot<D: Disk>(disk: &D) {
    let store = started(disk);
    let peers = Peers::new(store.clone());
    bury(&peers, FIRST);
    wait_for_snapshot(&peers, OTHER, 51);
    let whole = snapshot(&store, OTHER, 51, ("", ""), 4);
    peers.accept_snapshot(&whole, position(20), NOTHING).unwrap();
    peers.persist_snapshot(OTHER, TERM, NOBODY).unwrap();
    let _ = peers.finish_snapshot(OTHER).unwrap();

    wait_for_snapshot(&peers, CHILD, 11);
    let child = snapshot(&store, CHILD, 11, ("m", ""), 9);
    assert_eq!(merged_elsewhere(&peers, OTHER, CHILD, 11, 8).unwrap(), MessageAction::Drop);
    peers.accept_snapshot(&child, position(20), NOTHING).unwrap();
    assert_eq!(peers.give_up_snapshot(CHILD), []);
    let lone = snapshot(&store, CHILD, 11, ("m", ""), 8);
    assert!(matches!(peers.accept_snapshot(&lone, position(20), NOTHING), Err(SnapshotError::Overlaps { .. })));
    peers.accept_snapshot(&child, position(20), NOTHING).unwrap();
    let mut batch = store.begin();
    batch.apply(OTHER, position(21), RegionEpoch::new(2, 4), &split("m", 10, &[11, 12])).unwrap();
    let busy = peers.persist_snapshot(CHILD, TERM, NOBODY);
    assert!(busy.is_err(), "{busy:?}");
    batch.commit().unwrap();
    let late = peers.persist_snapshot(CHILD, TERM, NOBODY);
    assert!(matches!(late, Err(SnapshotError::Replaced { region: CHILD })), "{late:?}");
    assert_eq!(current(&store, CHILD).unwrap().state(), PeerState::Normal);
    assert!(current(&store, OTHER).is_some(), "it went with a snapshot that was refused");
}

/// T10: the n-th write fails, n = 1, 2, ... until nothing does. What the reopened store finds is all of the snapshot or
/// nothing, and the Raft engine agrees with it.
#[test]
fn each_write_of_a_snapshot_may_fail() {
    for fault in [Fault::Lost, Fault::Applied] {
        let passed = (1..20).find(|&n| !nth_write_fails(n, fault)).expect("it never succeeded");
        assert!(passed > 3, "too few writes failed");
    }
}

/// Whether it did.
fn nth_write_fails(n: u64, fault: Fault) -> bool {
    let disk = MemStorage::new();
    let pd = regionmeta_batch::pd::EmbeddedPd::new(crate::common::CLUSTER);
    let setup = builder().bootstrap_storage(disk.clone(), &pd).unwrap();
    apply(&setup, FIRST, &add_learner(learner(30, 3)));
    apply(&setup, FIRST, &split("m", 10, &[11, 12]));
    setup.raft().put_raft_state(CHILD, &RaftState::INITIAL).unwrap();
    setup.close().unwrap();

    let faulty = FaultyStorage::new(disk.clone(), n, fault);
    let failed = match builder().open_storage(faulty) {
        Err(_) => true,
        Ok(store) => {
            let peers = Peers::new(Arc::new(store));
            let merged = snapshot(peers.store(), FIRST, own(&peers, FIRST).get(), ("", ""), 4);
            merged_elsewhere(&peers, CHILD, FIRST, own(&peers, FIRST).get(), 3).unwrap();
            peers.accept_snapshot(&merged, position(20), NOTHING).unwrap();
            let done = peers.persist_snapshot(FIRST, TERM, NOBODY).map(drop);
            let done = done.and_then(|()| peers.finish_snapshot(FIRST).map(drop));
            assert_eq!(done.is_err(), peers.store().check_writable().is_err(), "I14: {done:?}");
            done.is_err()
        }
    };
    let store = builder().open_storage(disk).unwrap();
    let (first, child) = (current(&store, FIRST).unwrap(), current(&store, CHILD));
    let raft_state = store.raft().raft_state(FIRST).unwrap().unwrap();
    match first.range() == KeyRange::ALL {
        true => {
            assert!(child.is_none() && store.raft().raft_state(CHILD).unwrap().is_none(), "write {n}");
            assert_eq!((raft_state.last_index, store.apply_state(FIRST).applied_index), (20.into(), 20.into()));
            let buried: Option<Region> =
                records::read(store.storage(), Family::Raft, &region_state_key(CHILD)).unwrap();
            assert_eq!(buried.unwrap().destroyed_peer(), Some(11.into()), "write {n}");
        }
        false => {
            assert!(child.is_some() && first.state() == PeerState::Normal, "write {n}");
            assert_eq!(store.apply_state(FIRST).applied_index, at(7).index);
        }
    }
    failed
}
