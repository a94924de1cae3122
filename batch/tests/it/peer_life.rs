//! The life of a peer: made by a split or a message, told of its entries, destroyed, and never back.

use std::sync::{Arc, Barrier};

use regionmeta::layout::region_state_key;
use regionmeta::{
    AdminCommand, AdminHeader, AdminKind, AdminRequest, KeyRange, LogPosition, MergeState, Outcome, Peer, PeerId,
    PeerState, RaftState, Reason, Region, RegionDraft, RegionEpoch, RegionId, Stats,
};
use regionmeta_batch::apply::{ApplySettings, Entry, ExecResult};
use regionmeta_batch::peers::{
    CreateError, DestroyError, Destroyed, Effect, Message, MessageAction, MessageKind, Peers, Role,
};
use regionmeta_batch::storage::{Family, Storage};
use regionmeta_batch::{Store, records};

use crate::common::{Disk, Mem, add, at, builder, draft, learner, on_each_storage, remove, seeded, split, voter};
use crate::peers::{LEADER, apply, current, started};
use crate::pool::{Running, WATCHDOG};

on_each_storage!(
    a_split_makes_peers_and_shares_the_size,
    a_peer_that_was_removed_leaves_nothing_to_raft,
    an_uninitialized_peer_leaves_its_name,
    a_split_takes_the_place_of_a_peer_that_waits,
    a_destroyed_peer_stays_away,
    a_later_peer_begins_with_nothing,
    a_merged_source_leaves_nothing_to_raft,
    peers_beside_a_pool,
    the_life_of_a_peer_against_a_model,
);

const FIRST: RegionId = RegionId::new(2);
const OTHER: RegionId = RegionId::new(50);
pub(crate) const CREATED: MessageAction = MessageAction::Created { stale: Vec::new() };

pub(crate) fn admin(kind: AdminKind, outcome: Outcome) -> ExecResult {
    ExecResult::Admin { kind, outcome }
}

/// Applies the next entry of a region, and has its peer hear of it.
pub(crate) fn ready<S: Storage>(peers: &Peers<S>, region: RegionId, command: &AdminCommand) -> Vec<Effect> {
    let store = peers.store();
    let epoch = current(store, region).unwrap().epoch();
    let entry = at(store.apply_state(region).applied_index.get() + 1);
    let mut batch = store.begin();
    let outcome = batch.apply(region, entry, epoch, command).unwrap();
    batch.commit().unwrap();
    peers.on_ready_result(region, entry, &admin(AdminKind::Split, outcome)).unwrap()
}

pub(crate) fn own<S: Storage>(peers: &Peers<S>, region: RegionId) -> PeerId {
    peers.peer(region).unwrap().peer_id
}

/// Destroys the store's peer of a region, and deletes its data.
pub(crate) fn bury<S: Storage>(peers: &Peers<S>, region: RegionId) -> Region {
    let buried = peers.destroy(region, own(peers, region)).unwrap();
    let Destroyed::Buried { tombstone, effects } = buried else { panic!("{buried:?}") };
    confirm(peers, &effects);
    tombstone
}

/// Says that the data that is to be deleted is gone.
pub(crate) fn confirm<S: Storage>(peers: &Peers<S>, effects: &[Effect]) {
    for effect in effects {
        if let Effect::DeleteData { range } = effect {
            peers.data_deleted(range);
        }
    }
}

pub(crate) fn delete(start: &str, end: &str) -> Effect {
    Effect::DeleteData { range: KeyRange::from_wire(start.as_bytes(), end.as_bytes()).into() }
}

/// The same split, whose parts share the parent's size.
fn sharing(mut command: AdminCommand) -> AdminCommand {
    let AdminCommand::BatchSplit(split) = &mut command else { panic!("{command:?}") };
    split.shares_size = true;
    command
}

pub(crate) fn record<S: Storage>(store: &Store<S>, region: RegionId) -> Option<Region> {
    records::read(store.storage(), Family::Raft, &region_state_key(region)).unwrap()
}

/// A vote for the peer of `region` that has this id, from peer 7 on store 7.
pub(crate) fn vote<S: Storage>(store: &Store<S>, region: RegionId, to: u64, epoch: RegionEpoch) -> Message<'static> {
    Message {
        region,
        from: voter(7, 7),
        to: Peer::voter(to.into(), store.ident().store_id),
        epoch,
        range: None,
        kind: MessageKind::Vote,
        is_first: false,
        payload: &[],
        merge_target: None,
    }
}

/// Spec section 12.5, row by row, for a leader and for a follower.
#[test]
fn the_table_of_results() {
    let entry = at(9);
    let store = started(&Mem::empty());
    let peers = Peers::new(store.clone());
    let region = current(&store, FIRST).unwrap();
    let me = own(&peers, FIRST);
    let demoted =
        RegionDraft { peers: vec![learner(me.get(), store.ident().store_id.get()), voter(9, 9)], ..region.to_draft() };
    let demoted = demoted.build().unwrap();
    let changed = |region: &Region, reason| Outcome::Changed { region: region.clone(), reason };
    let heartbeat = || Effect::Heartbeat { region: FIRST };
    let members = |region: &Region| Effect::ChangeMembers { region: region.clone(), entry };
    let truncated = LogPosition::INITIAL;
    let table = [
        (changed(&region, Reason::ChangePeer), vec![members(&region)], true),
        (changed(&demoted, Reason::ChangePeer), vec![members(&demoted)], true),
        (changed(&region, Reason::PrepareMerge), vec![Effect::CheckMerge { region: FIRST }], false),
        (changed(&region, Reason::RollbackMerge), vec![Effect::ForgetMerge { region: FIRST }], true),
        (changed(&region, Reason::SwitchWitness), vec![Effect::SwitchWitness { region: region.clone() }], true),
        (changed(&region, Reason::Flashback), vec![], false),
        (Outcome::LogTruncated { truncated }, vec![Effect::CompactLog { region: FIRST, truncated }], false),
        (Outcome::Unchanged, vec![], false),
    ];
    for (outcome, effects, heard_by_pd) in table {
        let kind = AdminKind::CompactLog;
        for role in [Role::Follower, LEADER] {
            peers.set_role(FIRST, me, role);
            let mut expected = effects.clone();
            if role.is_leader() && matches!(&outcome, Outcome::Changed { region, .. } if *region == demoted) {
                expected.push(Effect::StepDown { region: FIRST });
            }
            if role.is_leader() && heard_by_pd {
                expected.push(heartbeat());
            }
            let done = peers.on_ready_result(FIRST, entry, &admin(kind, outcome.clone())).unwrap();
            assert_eq!(done, expected, "{role:?} {outcome:?}");
        }
    }
    assert_eq!(peers.on_ready_result(FIRST, entry, &ExecResult::Written).unwrap(), vec![]);
    let transferees = vec![voter(9, 9)];
    let handed_over = vec![Effect::TransferLeader { region: FIRST, transferees: transferees.clone() }];
    assert_eq!(peers.on_ready_result(FIRST, entry, &ExecResult::TransferLeader { transferees }).unwrap(), handed_over);
}

fn a_split_makes_peers_and_shares_the_size(disk: &impl Disk) {
    let store = started(disk);
    let peers = Peers::new(store.clone());
    let _ = store.report([(FIRST, Stats { size_bytes: 1_000, keys: 11 })]);

    // A follower's child keeps quiet until its parent leads.
    let effects = ready(&peers, FIRST, &sharing(split("m", 10, &[11])));
    let child = current(&store, RegionId::new(10)).unwrap();
    let created = |region: &Region, peer: u64, campaign| Effect::Create {
        region: region.clone(),
        peer: peer.into(),
        replaces: false,
        campaign,
        first_message: None,
    };
    assert_eq!(effects, [created(&child, 11, false)]);
    assert_eq!(peers.on_leader(FIRST, own(&peers, FIRST)), [Effect::Campaign { region: child.id() }]);
    assert!(peers.on_leader(FIRST, own(&peers, FIRST)).is_empty(), "told once");
    for region in [FIRST, child.id()] {
        assert_eq!(store.meta().snapshot().stats(region), Some(Stats { size_bytes: 500, keys: 5 }));
    }

    // A leader's child asks for votes, and PD hears of both.
    peers.set_role(FIRST, own(&peers, FIRST), LEADER);
    let effects = ready(&peers, FIRST, &split("c", 20, &[21]));
    for region in [FIRST, 20.into()] {
        assert_eq!(store.meta().snapshot().stats(region), None, "nobody said that the parts are equal");
    }
    let child = current(&store, RegionId::new(20)).unwrap();
    let heartbeats = [FIRST, child.id()].map(|region| Effect::Heartbeat { region });
    assert_eq!(effects[0], created(&child, 21, true));
    assert!(effects.len() == 3 && heartbeats.iter().all(|heartbeat| effects.contains(heartbeat)), "{effects:?}");

    // Another's peer leads: the children have somebody to wait for.
    peers.set_role(FIRST, own(&peers, FIRST), Role::Follower);
    ready(&peers, FIRST, &split("b", 30, &[31]));
    assert!(peers.on_leader(FIRST, 999.into()).is_empty());
    assert!(peers.on_leader(FIRST, own(&peers, FIRST)).is_empty(), "they were forgotten");

    // A child that has found a leader by itself needs no votes any more.
    ready(&peers, FIRST, &split("a", 40, &[41]));
    assert!(peers.on_leader(RegionId::new(40), 41.into()).is_empty());
    assert!(peers.on_leader(FIRST, own(&peers, FIRST)).is_empty(), "it has a leader");
}

/// tikv#12470: stale Raft records of a peer that is gone.
fn a_peer_that_was_removed_leaves_nothing_to_raft(disk: &impl Disk) {
    let store = started(disk);
    let peers = Peers::new(store.clone());
    let me = own(&peers, FIRST);
    peers.set_role(FIRST, me, LEADER);
    ready(&peers, FIRST, &add(voter(9, 9)));
    let epoch = current(&store, FIRST).unwrap().epoch();
    assert!(store.raft().raft_state(FIRST).unwrap().is_some());

    let entry = at(store.apply_state(FIRST).applied_index.get() + 1);
    let mut batch = store.begin();
    let gone = remove(voter(me.get(), store.ident().store_id.get()));
    let outcome = batch.apply(FIRST, entry, epoch, &gone).unwrap();
    batch.commit().unwrap();
    let result = admin(AdminKind::ChangePeer, outcome);
    let effects = peers.on_ready_result(FIRST, entry, &result).unwrap();
    assert_eq!(effects, [Effect::Destroy { region: FIRST, peer: me, merged_into: None }, delete("", "")]);
    assert!(store.raft().raft_state(FIRST).unwrap().is_none());
    assert!(peers.peer(FIRST).is_none() && !peers.set_role(FIRST, me, LEADER));

    // A later peer is here before the host takes the result in: its Raft records are its own.
    let later = vote(&store, FIRST, 100, epoch.with_conf_ver_moved(5).unwrap());
    assert_eq!(peers.on_message(&later).unwrap(), CREATED);
    store.raft().put_raft_state(FIRST, &RaftState::INITIAL).unwrap();
    peers.on_ready_result(FIRST, entry, &result).unwrap();
    assert!(store.raft().raft_state(FIRST).unwrap().is_some(), "a later peer forgot its vote");
}

/// M9, tikv#10533: the tombstone of an uninitialized peer was empty, and its old self came back.
fn an_uninitialized_peer_leaves_its_name(disk: &impl Disk) {
    let store = started(disk);
    let peers = Peers::new(store.clone());
    let epoch = RegionEpoch::new(3, 3);
    assert_eq!(peers.on_message(&vote(&store, OTHER, 51, epoch)).unwrap(), CREATED);
    assert_eq!(peers.on_message(&vote(&store, OTHER, 51, epoch)).unwrap(), MessageAction::Deliver);
    assert!(peers.peer(OTHER).is_some_and(|peer| !peer.is_initialized()));
    store.raft().put_raft_state(OTHER, &RaftState::INITIAL).unwrap();
    // A later one is wanted: the earlier one goes first.
    let replaced = MessageAction::Destroy { peer: 51.into() };
    assert_eq!(peers.on_message(&vote(&store, OTHER, 52, epoch)).unwrap(), replaced);

    let Destroyed::Buried { tombstone, .. } = peers.destroy(OTHER, 51.into()).unwrap() else {
        panic!("no split is here")
    };
    assert_eq!((tombstone.state(), tombstone.destroyed_peer()), (PeerState::Tombstone, Some(51.into())));
    assert!(peers.peer(OTHER).is_none() && store.raft().raft_state(OTHER).unwrap().is_none());
    assert!(matches!(peers.destroy(OTHER, 51.into()), Err(DestroyError::Apply(_))), "it was destroyed twice");

    drop(peers);
    let store = Arc::into_inner(store).unwrap();
    store.close().unwrap();
    let store = Arc::new(disk.open().unwrap());
    let peers = Peers::new(store.clone());
    assert_eq!(record(&store, OTHER), Some(tombstone));
    assert_eq!(peers.on_message(&vote(&store, OTHER, 51, epoch)).unwrap(), MessageAction::Drop, "it came back");
    assert_eq!(peers.on_message(&vote(&store, OTHER, 50, epoch)).unwrap(), MessageAction::Drop);
    assert_eq!(peers.on_message(&vote(&store, OTHER, 52, epoch)).unwrap(), CREATED);
}

/// Spec section 5.5, and tikv#13311: a split and a message make the same region.
fn a_split_takes_the_place_of_a_peer_that_waits(disk: &impl Disk) {
    let store = started(disk);
    let peers = Peers::new(store.clone());
    let epoch = current(&store, FIRST).unwrap().epoch();
    let child = RegionId::new(10);
    let entry = at(store.apply_state(FIRST).applied_index.get() + 1);
    assert_eq!(peers.on_message(&vote(&store, child, 11, epoch)).unwrap(), CREATED);

    // The split is on its way: the waiting peer must not be buried, and when the batch is given up it is as before.
    let mut batch = store.begin();
    batch.apply(FIRST, entry, epoch, &split("m", 10, &[11])).unwrap();
    assert_eq!(peers.destroy(child, 11.into()).unwrap(), Destroyed::NotYet);
    assert!(record(&store, child).is_none());
    drop(batch);
    assert_eq!(peers.peer(child).map(|peer| peer.peer_id), Some(11.into()), "the host was not told that it is gone");
    let mut batch = store.begin();
    let others = batch.apply(FIRST, entry, epoch, &split("m", 10, &[12])).unwrap();
    assert_eq!(others.records().count(), 1, "the reservation of the peer that waits is gone");
    drop(batch);
    assert!(matches!(peers.destroy(child, 11.into()).unwrap(), Destroyed::Buried { .. }), "still reserved for a split");

    // With a tombstone the child is left alone; with a waiting peer of another id, too. Its data is the parent's to delete.
    assert_eq!(ready(&peers, FIRST, &split("m", 10, &[11])), [delete("m", "")]);
    assert!(current(&store, child).is_none());
    assert_eq!(peers.on_message(&vote(&store, RegionId::new(20), 22, epoch)).unwrap(), CREATED);
    assert_eq!(ready(&peers, FIRST, &split("k", 20, &[21])), [delete("k", "m")]);
    assert!(record(&store, RegionId::new(20)).is_none(), "a child was written over a peer of another id");

    // With a waiting peer of its own id it takes that one's place.
    assert_eq!(peers.on_message(&vote(&store, RegionId::new(30), 31, epoch)).unwrap(), CREATED);
    let effects = ready(&peers, FIRST, &split("c", 30, &[31]));
    let region = current(&store, RegionId::new(30)).unwrap();
    assert_eq!(
        effects,
        [Effect::Create { region, peer: 31.into(), replaces: true, campaign: false, first_message: None }]
    );
    assert!(peers.peer(RegionId::new(30)).unwrap().is_initialized());
    let epoch = current(&store, RegionId::new(30)).unwrap().epoch();
    assert_eq!(peers.on_message(&vote(&store, RegionId::new(30), 31, epoch)).unwrap(), MessageAction::Deliver);
    // That is final from the commit on, before the host has taken the result.
    let fast = RegionId::new(40);
    assert_eq!(peers.on_message(&vote(&store, fast, 41, epoch)).unwrap(), CREATED);
    let mut batch = store.begin();
    let (entry, parent) =
        (at(store.apply_state(FIRST).applied_index.get() + 1), current(&store, FIRST).unwrap().epoch());
    batch.apply(FIRST, entry, parent, &split("b", 40, &[41])).unwrap();
    assert_eq!(peers.destroy(fast, 41.into()).unwrap(), Destroyed::NotYet);
    batch.commit().unwrap();
    assert_eq!(peers.destroy(fast, 41.into()).unwrap(), Destroyed::Replaced);
    // And nothing of the reservation is left.
    assert!(matches!(peers.destroy(RegionId::new(30), 31.into()).unwrap(), Destroyed::Buried { .. }));
    assert_eq!(peers.on_message(&vote(&store, RegionId::new(30), 32, epoch)).unwrap(), CREATED);
}

/// The host is slow: a later peer is wanted before it has heard that the earlier one is gone.
fn a_later_peer_begins_with_nothing(disk: &impl Disk) {
    let store = started(disk);
    let peers = Peers::new(store.clone());
    let me = own(&peers, FIRST);
    apply(&store, FIRST, &add(voter(9, 9)));
    apply(&store, FIRST, &remove(voter(me.get(), store.ident().store_id.get())));
    assert!(store.raft().raft_state(FIRST).unwrap().is_some(), "what the earlier peer knew");
    assert_eq!(peers.on_message(&vote(&store, FIRST, 100, RegionEpoch::new(9, 9))).unwrap(), CREATED);
    assert!(store.raft().raft_state(FIRST).unwrap().is_none(), "it votes with an earlier peer's term");
}

/// The source of a merge is gone with its tombstone; Raft forgets it at once, and the host keeps its data.
fn a_merged_source_leaves_nothing_to_raft(disk: &impl Disk) {
    let store = started(disk);
    let peers = Peers::new(store.clone());
    peers.set_role(FIRST, own(&peers, FIRST), LEADER);
    let (target, source) = (current(&store, FIRST).unwrap(), draft(61, "a", "m", RegionEpoch::new(2, 7)));
    let source = RegionDraft { state: PeerState::Tombstone, ..source }.build().unwrap();
    store.raft().put_raft_state(source.id(), &RaftState::INITIAL).unwrap();
    let id = source.id();
    let outcome = Outcome::Merged { target, source, source_peer: Some(610.into()) };
    let effects = peers.on_ready_result(FIRST, at(6), &admin(AdminKind::CommitMerge, outcome)).unwrap();
    let destroy = Effect::Destroy { region: id, peer: 610.into(), merged_into: Some(FIRST) };
    assert_eq!(effects, [destroy, Effect::Heartbeat { region: FIRST }]);
    assert!(store.raft().raft_state(id).unwrap().is_none());
}

fn a_destroyed_peer_stays_away(disk: &impl Disk) {
    let store = started(disk);
    let peers = Peers::new(store.clone());
    let (me, before) = (own(&peers, FIRST), current(&store, FIRST).unwrap());
    assert!(matches!(peers.destroy(FIRST, 999.into()), Err(DestroyError::NotHere { .. })));
    let stale = Message { kind: MessageKind::Tombstone, ..vote(&store, FIRST, me.get(), before.epoch()) };
    assert_eq!(peers.on_message(&stale).unwrap(), MessageAction::Drop, "told so at its own epoch");
    let told = Message { epoch: before.epoch().with_conf_ver_moved(1).unwrap(), ..stale };
    assert_eq!(peers.on_message(&told).unwrap(), MessageAction::Destroy { peer: me });
    let Destroyed::Buried { tombstone, .. } = peers.destroy(FIRST, me).unwrap() else { panic!() };
    assert_eq!((tombstone.epoch(), tombstone.destroyed_peer()), (before.epoch(), Some(me)));
    assert!(current(&store, FIRST).is_none() && store.raft().raft_state(FIRST).unwrap().is_none());

    let old = vote(&store, FIRST, me.get(), RegionEpoch::new(9, 9));
    assert_eq!(peers.on_message(&old).unwrap(), MessageAction::Drop);
    let behind = vote(&store, FIRST, 100, RegionEpoch::new(0, 1));
    assert_eq!(peers.on_message(&behind).unwrap(), MessageAction::ReplyTombstone, "the sender is no member");
    let member = Message { from: Peer::voter(me, store.ident().store_id), ..behind };
    assert_eq!(peers.on_message(&member).unwrap(), MessageAction::ReplyMembers { tombstone: tombstone.clone() });
    let member = Message { kind: MessageKind::Other, ..member };
    assert_eq!(peers.on_message(&member).unwrap(), MessageAction::Drop);
    let data = Message { kind: MessageKind::Other, ..vote(&store, FIRST, 100, RegionEpoch::new(9, 9)) };
    assert_eq!(peers.on_message(&data).unwrap(), MessageAction::Drop, "only first messages make peers");
    let elsewhere = Message { to: voter(100, 99), ..data };
    assert_eq!(peers.on_message(&elsewhere).unwrap(), MessageAction::Drop);
}

/// What a merged source answers, and whom a new peer would take keys from.
#[test]
fn messages_that_meet_other_regions() {
    let store = started(&Mem::empty());
    let peers = Peers::new(store.clone());
    let target = draft(60, "m", "z", RegionEpoch::new(2, 8)).build().unwrap();
    let merge = MergeState { min_index: 0.into(), commit: 0.into(), target: target.as_ref() };
    let mut source = draft(61, "a", "m", RegionEpoch::new(2, 7));
    source.peers.push(voter(7, 7));
    let source = RegionDraft { state: PeerState::Tombstone, merge_state: Some(merge), ..source }.build().unwrap();
    crate::common::put_region(store.storage(), &source);
    let message = vote(&store, source.id(), 1_000, RegionEpoch::new(2, 7));
    assert_eq!(peers.on_message(&message).unwrap(), MessageAction::ReplyMerged { target });
    let stranger = Message { from: voter(8, 8), ..message };
    assert_eq!(peers.on_message(&stranger).unwrap(), MessageAction::ReplyTombstone);

    let region = current(&store, FIRST).unwrap();
    for (version, is_behind) in [(1, false), (2, true)] {
        let message = Message { range: Some(KeyRange::ALL), ..vote(&store, OTHER, 51, RegionEpoch::new(1, version)) };
        let overlaps = MessageAction::Overlaps { region: region.clone(), is_behind };
        assert_eq!(peers.on_message(&message).unwrap(), overlaps);
    }
    assert!(peers.peer(OTHER).is_none());
    // The refusal has given its reservation back.
    assert_eq!(peers.on_message(&vote(&store, OTHER, 51, RegionEpoch::new(1, 1))).unwrap(), CREATED);
}

/// A naive model of one region id on one store: the peer that waits, and the last that was destroyed.
fn the_life_of_a_peer_against_a_model(disk: &impl Disk) {
    let (_, mut random) = seeded("the_life_of_a_peer_against_a_model");
    let mut store = started(disk);
    let mut peers = Peers::new(store.clone());
    let (mut waits, mut buried): (Option<u64>, Option<u64>) = (None, None);
    for step in 0..150 {
        let id = random.u64(1..12);
        match random.u32(..10) {
            0 => {
                drop(peers);
                drop(Arc::into_inner(store).unwrap());
                store = Arc::new(disk.open().unwrap());
                peers = Peers::new(store.clone());
                waits = None; // it has no record, and its next message makes it again
            }
            1..=3 => match (peers.destroy(OTHER, id.into()), waits == Some(id)) {
                (Ok(Destroyed::Buried { tombstone, .. }), true) => {
                    assert_eq!(tombstone.destroyed_peer(), Some(id.into()));
                    (waits, buried) = (None, Some(id));
                }
                (Err(_), false) => {}
                other => panic!("step {step}, {waits:?} waits: {other:?}"),
            },
            _ => {
                let expected = match (waits, buried) {
                    (Some(here), _) if id < here => MessageAction::Drop,
                    (Some(here), _) if id > here => MessageAction::Destroy { peer: here.into() },
                    (Some(_), _) => MessageAction::Deliver,
                    (None, Some(last)) if id <= last => MessageAction::Drop,
                    (None, _) => {
                        waits = Some(id);
                        CREATED
                    }
                };
                let done: Result<_, CreateError> = peers.on_message(&vote(&store, OTHER, id, RegionEpoch::new(2, 2)));
                assert_eq!(done.unwrap(), expected, "step {step}");
            }
        }
        assert_eq!(peers.peer(OTHER).map(|peer| peer.peer_id.get()), waits, "step {step}");
    }
}

/// T5: a message makes and a host destroys the very peer that a split makes. However it ends, the record, the map and the
/// registry say the same.
#[test]
fn a_split_races_with_a_message_and_a_destroy() {
    let store = Arc::new(builder().bootstrap_storage(Mem::empty().storage(), &embedded()).unwrap());
    let peers = Peers::new(store.clone());
    let (mut split_off, mut skipped) = (0, 0);
    for round in 0..200_u64 {
        let child = 1_000 + 10 * round;
        let epoch = current(&store, FIRST).unwrap().epoch();
        let start = Barrier::new(2);
        let message = vote(&store, child.into(), child + 1, epoch);
        let make_and_destroy = || {
            start.wait();
            let made = peers.on_message(&message).unwrap();
            let destroyed = (made == CREATED).then(|| peers.destroy(child.into(), (child + 1).into()));
            matches!(destroyed, Some(Ok(Destroyed::Buried { .. })))
        };
        let key = format!("{:04}", 9_999 - round);
        let (effects, buried) = std::thread::scope(|scope| {
            let messages = scope.spawn(make_and_destroy);
            start.wait();
            let effects = ready(&peers, FIRST, &split(&key, child, &[child + 1]));
            (effects, messages.join().unwrap())
        });
        let state = record(&store, child.into()).map(|record| record.state());
        let published = current(&store, child.into()).is_some();
        // A peer that was split off may then have been destroyed as itself.
        match (published, buried) {
            (true, false) => assert!(state == Some(PeerState::Normal) && effects.len() == 1, "{effects:?}"),
            (false, true) => assert_eq!(state, Some(PeerState::Tombstone)),
            other => panic!("round {round}: {other:?} {state:?} {effects:?}"),
        }
        *(if published { &mut split_off } else { &mut skipped }) += 1;
    }
    println!("{split_off} children were split off, {skipped} were buried before");
    assert!(store.meta().snapshot().validate().is_empty());
}

/// The whole way beside a pool: an answer becomes effects, and a peer is stopped before it is destroyed.
fn peers_beside_a_pool(disk: &impl Disk) {
    let running = Running::bootstrapped(disk.storage(), ApplySettings { workers: 1, ..ApplySettings::default() });
    let peers = Peers::new(running.store.clone());
    peers.set_role(FIRST, own(&peers, FIRST), LEADER);
    let header = AdminHeader::new(FIRST, current(&running.store, FIRST).unwrap().epoch());
    let request = AdminRequest { header, command: split("m", 10, &[11]) };
    running.send(FIRST, Entry::admin(at(6), request, 1));
    let answer = running.answer();
    let effects = peers.on_ready_result(answer.region, answer.position, &answer.result.unwrap()).unwrap();
    assert!(matches!(effects.first(), Some(Effect::Create { campaign: true, .. })), "{effects:?}");
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Heartbeat { .. })).count(), 2);

    // A hand-over of the leadership changes nothing here; whom it names is what the host has to know.
    let transferees = vec![voter(9, 9)];
    let command = AdminCommand::TransferLeader(regionmeta::TransferLeader { transferees: transferees.clone() });
    running.send(FIRST, Entry::admin(at(7), AdminRequest { header, command }, 2));
    let answer = running.answer();
    let effects = peers.on_ready_result(answer.region, answer.position, &answer.result.unwrap()).unwrap();
    assert_eq!(effects, [Effect::TransferLeader { region: FIRST, transferees }]);

    let child = RegionId::new(10);
    assert!(running.pool.router().stop(child));
    let patience = std::time::Instant::now();
    while running.pool.router().region(child).is_some() {
        assert!(patience.elapsed() < WATCHDOG, "the region never stopped");
        std::thread::yield_now();
    }
    assert!(matches!(peers.destroy(child, 11.into()).unwrap(), Destroyed::Buried { .. }));
    assert!(current(&running.store, child).is_none());
}

fn embedded() -> regionmeta_batch::pd::EmbeddedPd {
    regionmeta_batch::pd::EmbeddedPd::new(crate::common::CLUSTER)
}
