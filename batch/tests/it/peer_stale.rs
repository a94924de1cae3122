//! Peers that are stale: sources of merges that the store has missed, peers that no leader talks to, and messages that are
//! early instead.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use regionmeta::{
    AdminCommand, KeyRange, LogIndex, Peer, PeerState, PrepareMerge, Region, RegionDraft, RegionEpoch, RegionId,
};
use regionmeta_batch::peers::{
    CreateError, DestroyError, Destroyed, Effect, Finished, LEADER_LOST, LEADER_MISSING, Message, MessageAction,
    MessageKind, Peers, Role, SnapshotError,
};
use regionmeta_batch::storage::{MemStorage, Storage};

use crate::common::{Disk, Mem, add, add_learner, at, learner, on_each_storage, remove, seeded, split, voter};
use crate::peer_life::{CREATED, admin, bury, confirm, own, ready, record, vote};
use crate::peer_snapshot::{merged_elsewhere, snapshot};
use crate::peers::{LEADER, apply, current, started};

on_each_storage!(
    a_source_goes_when_its_target_is_past_the_merge,
    a_source_of_an_earlier_peer_goes_by_itself,
    a_destroy_meets_an_ingestion,
    an_early_message_comes_with_its_peer,
);

const FIRST: RegionId = RegionId::new(2);
const CHILD: RegionId = RegionId::new(10);
const OTHER: RegionId = RegionId::new(50);

fn target<S: Storage>(peers: &Peers<S>, id: RegionId, peer: u64, version: u64) -> Region {
    snapshot(peers.store(), id, peer, ("", ""), version)
}

fn a_source_goes_when_its_target_is_past_the_merge(disk: &impl Disk) {
    let store = started(disk);
    let peers = Peers::new(store.clone());
    apply(&store, FIRST, &split("m", 10, &[11]));
    apply(&store, CHILD, &split("t", 20, &[21]));
    let (first, source) = (own(&peers, FIRST).get(), RegionId::new(20));
    let destroy = MessageAction::Destroy { peer: 21.into() };

    // The target is not past the merge; messages agree with each other, or are refused.
    assert_eq!(merged_elsewhere(&peers, source, FIRST, first, 2).unwrap(), MessageAction::Drop);
    assert_eq!(merged_elsewhere(&peers, source, FIRST, first, 2).unwrap(), MessageAction::Drop);
    let told_before = (FIRST, 2);
    for (target, version) in [(FIRST, 3), (CHILD, 2)] {
        let contradiction = merged_elsewhere(&peers, source, target, first, version);
        let Err(CreateError::OtherMergeTarget { known, told, .. }) = contradiction else { panic!("{contradiction:?}") };
        assert_eq!((known, told), (told_before, (target, version)));
    }
    apply(&store, FIRST, &split("c", 30, &[31]));
    assert_eq!(merged_elsewhere(&peers, source, FIRST, first, 2).unwrap(), destroy);

    // Of another peer of the source nothing is told, nor of a target that was never here, nor of a peer that is not here.
    let then = target(&peers, CHILD, 11, 1);
    let strange = RegionDraft { peers: vec![voter(7, 7)], ..then.to_draft() }.build().unwrap();
    for (peer, target) in [(20, &then), (22, &then), (21, &strange)] {
        let message = Message { merge_target: Some(target), ..vote(&store, source, peer, RegionEpoch::new(1, 1)) };
        assert_eq!(peers.on_message(&message).unwrap(), MessageAction::Drop);
    }
    let nobody = Message { merge_target: Some(&then), ..vote(&store, OTHER, 51, RegionEpoch::new(1, 1)) };
    assert_eq!(peers.on_message(&nobody).unwrap(), MessageAction::Drop);

    // What was told goes with the peer: a later one may be merged into another region.
    bury(&peers, source);
    assert_eq!(peers.on_message(&vote(&store, source, 22, RegionEpoch::new(9, 9))).unwrap(), CREATED);
    assert_eq!(merged_elsewhere(&peers, source, CHILD, 11, 9).unwrap(), MessageAction::Drop);
}

/// The target is gone: its tombstone says how far it came, and which peer it was.
#[test]
fn a_source_goes_when_its_target_is_buried() {
    let buried_at = RegionEpoch::new(4, 4);
    let table = [
        (34, RegionEpoch::new(4, 3), true, "a later version is buried"),
        (33, RegionEpoch::new(4, 9), true, "the very peer is buried"),
        (32, RegionEpoch::new(9, 9), true, "a later peer is buried"),
        (34, RegionEpoch::new(4, 4), false, "an earlier peer is buried, and the target is to come"),
    ];
    for (peer, epoch, goes, why) in table {
        let store = started(&Mem::empty());
        let peers = Peers::new(store.clone());
        let target = target(&peers, 30.into(), peer, 1);
        let target = RegionDraft { epoch, ..target.to_draft() }.build().unwrap();
        let message = |target| Message {
            merge_target: Some(target),
            ..vote(&store, FIRST, own(&peers, FIRST).get(), RegionEpoch::new(1, 1))
        };
        assert_eq!(peers.on_message(&message(&target)).unwrap(), MessageAction::Drop, "nothing is known of the target");
        let tombstone = RegionDraft {
            epoch: buried_at,
            state: PeerState::Tombstone,
            destroyed_peer: Some(33.into()),
            peers: vec![voter(7, 7)],
            ..target.to_draft()
        };
        crate::common::put_region(store.storage(), &tombstone.build().unwrap());
        let action = peers.on_message(&message(&target)).unwrap();
        let expected = if goes { MessageAction::Destroy { peer: own(&peers, FIRST) } } else { MessageAction::Drop };
        assert_eq!(action, expected, "{why}");
    }
}

/// Spec 9.1, step 5, and section 10, rule 5: the target's earlier peer was to take the source over, and now there is a later.
fn a_source_of_an_earlier_peer_goes_by_itself(disk: &impl Disk) {
    let store = started(disk);
    let peers = Peers::new(store.clone());
    let me = own(&peers, FIRST);
    let wants = |peer, version| Message {
        range: Some(KeyRange::ALL),
        ..vote(&store, OTHER, peer, RegionEpoch::new(5, version))
    };
    merged_elsewhere(&peers, FIRST, OTHER, 51, 4).unwrap();
    for (peer, version) in [(51, 5), (52, 4)] {
        let action = peers.on_message(&wants(peer, version)).unwrap();
        assert!(matches!(action, MessageAction::Overlaps { is_behind: true, .. }), "{peer} {version}: {action:?}");
    }
    let stale = vec![Effect::DestroyStale { region: FIRST, peer: me }];
    assert_eq!(peers.on_message(&wants(52, 5)).unwrap(), MessageAction::Created { stale: stale.clone() });

    let whole = |version| snapshot(&store, OTHER, 52, ("", ""), version);
    let early = peers.accept_snapshot(&whole(4), at(20), 0.into());
    assert!(matches!(early, Err(SnapshotError::Overlaps { is_behind: true, .. })), "{early:?}");
    assert_eq!(peers.accept_snapshot(&whole(5), at(20), 0.into()).unwrap(), stale);
    let again = peers.accept_snapshot(&whole(5), at(21), 0.into());
    assert!(matches!(again, Err(SnapshotError::InProgress { .. })), "{again:?}");
    let alone = peers.destroy(OTHER, 52.into());
    assert!(matches!(alone, Err(DestroyError::TakesOthers { region: OTHER })), "{alone:?}");
    let early = peers.persist_snapshot(OTHER, 8.into(), 0.into());
    assert!(matches!(early, Err(SnapshotError::StaleSourceStays { stale: FIRST, .. })), "{early:?}");

    // It does not keep its destroyer waiting for its data: the snapshot replaces that.
    let Destroyed::Buried { effects, .. } = peers.destroy(FIRST, me).unwrap() else { panic!() };
    assert_eq!(effects, []);
    assert_eq!(peers.persist_snapshot(OTHER, 8.into(), 0.into()).unwrap(), []);
    assert_eq!(current(&store, OTHER).unwrap().range(), KeyRange::ALL);
}

/// Spec section 10, rules 1, 2 and 5, by their smallest causes.
#[test]
fn what_a_snapshot_is_refused_for() {
    let store = started(&Mem::empty());
    let peers = Peers::new(store.clone());
    apply(&store, FIRST, &split("m", 10, &[11]));
    let (me, here) = (own(&peers, FIRST), store.ident().store_id);
    let accept = |region: &Region, index, committed: u64| {
        let accepted = peers.accept_snapshot(region, at(index), LogIndex::new(committed));
        if accepted.is_ok() {
            assert_eq!(peers.give_up_snapshot(region.id()), []);
        }
        accepted
    };
    let own_range = snapshot(&store, FIRST, me.get(), ("", "m"), 4);
    let witness = Peer { is_witness: true, ..Peer::voter(me, here) };
    let witness = RegionDraft { peers: vec![witness, voter(7, 7)], ..own_range.to_draft() }.build().unwrap();
    assert!(matches!(accept(&witness, 5, 0), Err(SnapshotError::OtherWitness { witness: true, .. })));
    assert!(matches!(accept(&own_range, 5, 0), Err(SnapshotError::Behind { .. })), "Raft is to ignore it");
    accept(&witness, 6, 0).unwrap();

    let whole = snapshot(&store, FIRST, me.get(), ("", ""), 4);
    merged_elsewhere(&peers, CHILD, FIRST, me.get(), 3).unwrap();
    let behind = accept(&whole, 20, 7);
    let Err(SnapshotError::Unapplied { applied, committed, .. }) = behind else { panic!("{behind:?}") };
    assert_eq!((applied, committed), (6.into(), 7.into()));
    accept(&own_range, 20, 7).unwrap(); // it takes nobody's keys
    accept(&whole, 20, 6).unwrap();
    peers.accept_snapshot(&own_range, at(20), 0.into()).unwrap();
    assert!(matches!(accept(&whole, 20, 6), Err(SnapshotError::InProgress { .. })), "one is accepted already");
    peers.persist_snapshot(FIRST, 8.into(), 0.into()).unwrap();
    assert!(matches!(accept(&whole, 21, 20), Err(SnapshotError::InProgress { .. })), "one is not ingested yet");

    // A split has made the peer of which the host still thinks that it waits.
    assert_eq!(peers.on_message(&vote(&store, 20.into(), 21, RegionEpoch::new(3, 3))).unwrap(), CREATED);
    apply(&store, CHILD, &split("t", 20, &[21]));
    let late = accept(&snapshot(&store, 20.into(), 21, ("t", ""), 9), 20, 0);
    assert!(matches!(late, Err(SnapshotError::Replaced { .. })), "{late:?}");
}

fn a_destroy_meets_an_ingestion(disk: &impl Disk) {
    let store = started(disk);
    let peers = Peers::new(store.clone());
    bury(&peers, FIRST);
    assert!(!peers.start_ingestion(FIRST), "nothing is to be ingested");
    let persist = |peer: u64| {
        assert_eq!(peers.on_message(&vote(&store, OTHER, peer, RegionEpoch::new(9, 9))).unwrap(), CREATED);
        peers.accept_snapshot(&snapshot(&store, OTHER, peer, ("a", "m"), 9), at(20), 0.into()).unwrap();
        assert!(!peers.start_ingestion(OTHER), "nothing is persisted");
        assert_eq!(peers.persist_snapshot(OTHER, 8.into(), 0.into()).unwrap(), []);
    };
    // Nobody has begun: it is cancelled.
    persist(51);
    bury(&peers, OTHER);
    assert!(!peers.start_ingestion(OTHER));

    // It is under way: the destroy waits for it, and a later snapshot too.
    persist(52);
    assert!(peers.start_ingestion(OTHER) && !peers.start_ingestion(OTHER));
    assert!(
        matches!(peers.destroy(OTHER, 51.into()), Err(DestroyError::NotHere { .. })),
        "it was never to be destroyed"
    );
    assert_eq!(peers.destroy(OTHER, 52.into()).unwrap(), Destroyed::Later);
    peers.accept_snapshot(&snapshot(&store, OTHER, 52, ("a", "m"), 9), at(21), 0.into()).unwrap();
    let twice = peers.persist_snapshot(OTHER, 8.into(), 0.into());
    assert!(matches!(twice, Err(SnapshotError::InProgress { .. })), "{twice:?}");
    assert_eq!(current(&store, OTHER).unwrap().state(), PeerState::Applying);
    let finished = peers.finish_snapshot(OTHER).unwrap();
    let Finished::Destroyed { tombstone, effects } = finished else { panic!("{finished:?}") };
    assert_eq!((tombstone.destroyed_peer(), effects.len()), (Some(52.into()), 1));
    assert_eq!(record(&store, OTHER), Some(tombstone));
    assert!(current(&store, OTHER).is_none() && !peers.start_ingestion(OTHER));
    confirm(&peers, &effects);

    // And nothing of that is left for the next one.
    persist(53);
    assert!(peers.start_ingestion(OTHER));
    assert!(matches!(peers.finish_snapshot(OTHER).unwrap(), Finished::Normal(_)));
}

/// The source's own snapshot is not finished when the target's takes its keys.
#[test]
fn a_snapshot_waits_for_the_data_of_a_source() {
    let store = started(&Mem::empty());
    let peers = Peers::new(store.clone());
    apply(&store, FIRST, &split("m", 10, &[11]));
    apply(&store, CHILD, &split("t", 20, &[21]));
    let (me, idle) = (own(&peers, FIRST), CHILD);
    let busy = RegionId::new(20);
    for (region, peer, range) in [(idle, 11, ("m", "t")), (busy, 21, ("t", ""))] {
        peers.accept_snapshot(&snapshot(&store, region, peer, range, 4), at(20), 0.into()).unwrap();
        peers.persist_snapshot(region, 8.into(), 0.into()).unwrap();
        merged_elsewhere(&peers, region, FIRST, me.get(), 3).unwrap();
    }
    assert!(peers.start_ingestion(busy));
    peers.accept_snapshot(&snapshot(&store, FIRST, me.get(), ("", ""), 9), at(20), 0.into()).unwrap();
    for _ in 0..2 {
        let early = peers.persist_snapshot(FIRST, 8.into(), 0.into());
        assert!(matches!(early, Err(SnapshotError::InProgress { region }) if region == busy), "{early:?}");
    }
    assert!(matches!(peers.finish_snapshot(busy).unwrap(), Finished::Normal(_)));
    // The refusal has left the other one as it was.
    assert!(peers.start_ingestion(idle));
    assert!(matches!(peers.finish_snapshot(idle).unwrap(), Finished::Normal(_)));
    peers.persist_snapshot(FIRST, 8.into(), 0.into()).unwrap();
    assert!(current(&store, busy).is_none() && !peers.start_ingestion(busy));
    assert!(peers.start_ingestion(FIRST));
    assert!(matches!(peers.finish_snapshot(FIRST).unwrap(), Finished::Normal(_)));
}

/// Spec section 10: a snapshot of a region that merges here is of a time after the rollback.
#[test]
fn a_snapshot_ends_a_merge() {
    let store = started(&Mem::empty());
    let peers = Peers::new(store.clone());
    apply(&store, FIRST, &split("m", 10, &[11]));
    let target = current(&store, CHILD).unwrap();
    apply(&store, FIRST, &AdminCommand::PrepareMerge(PrepareMerge { target, min_index: 7.into() }));
    assert_eq!(current(&store, FIRST).unwrap().state(), PeerState::Merging);
    let rolled_back = snapshot(&store, FIRST, own(&peers, FIRST).get(), ("", "m"), 9);
    peers.accept_snapshot(&rolled_back, at(20), 0.into()).unwrap();
    let effects = peers.persist_snapshot(FIRST, 8.into(), 0.into()).unwrap();
    assert_eq!(effects, [Effect::ForgetMerge { region: FIRST }]);
}

/// Spec section 10: a destroy gives up the reservation, also one that comes by the log.
#[test]
fn a_peer_that_was_removed_keeps_no_range() {
    let store = started(&Mem::empty());
    let peers = Peers::new(store.clone());
    apply(&store, FIRST, &add(voter(9, 9)));
    let me = own(&peers, FIRST);
    peers.accept_snapshot(&snapshot(&store, FIRST, me.get(), ("", ""), 9), at(20), 0.into()).unwrap();
    confirm(&peers, &ready(&peers, FIRST, &remove(voter(me.get(), store.ident().store_id.get()))));
    assert_eq!(peers.on_message(&vote(&store, OTHER, 51, RegionEpoch::new(3, 3))).unwrap(), CREATED);
    peers.accept_snapshot(&snapshot(&store, OTHER, 51, ("", ""), 3), at(20), 0.into()).unwrap();
}

/// Spec section 9.1, step 3: a message came between the record of a split's child and its peer.
fn an_early_message_comes_with_its_peer(disk: &impl Disk) {
    let store = started(disk);
    let peers = Peers::new(store.clone());
    let epoch = current(&store, FIRST).unwrap().epoch();
    let mut batch = store.begin();
    let outcome = batch.apply(FIRST, at(6), epoch, &split("m", 10, &[11])).unwrap();
    let message = vote(&store, CHILD, 11, epoch);
    let early = |to: u64, payload| Message {
        is_first: true,
        payload,
        to: Peer::voter(to.into(), store.ident().store_id),
        ..message
    };
    assert_eq!(peers.on_message(&message).unwrap(), MessageAction::Drop, "it is no first message");
    for (to, payload) in [(11, &b"old"[..]), (11, b"new"), (12, b"of another peer")] {
        assert_eq!(peers.on_message(&early(to, payload)).unwrap(), MessageAction::Kept);
    }
    batch.commit().unwrap();
    let late = Message { epoch: current(&store, CHILD).unwrap().epoch(), ..early(11, b"late") };
    assert_eq!(peers.on_message(&late).unwrap(), MessageAction::Deliver);
    let split = admin(regionmeta::AdminKind::BatchSplit, outcome);
    let effects = peers.on_ready_result(FIRST, at(6), &split).unwrap();
    let Some(Effect::Create { first_message, .. }) = effects.first() else { panic!("{effects:?}") };
    assert_eq!(first_message.as_deref(), Some(&b"new"[..]));
    let again = peers.on_ready_result(FIRST, at(6), &split).unwrap();
    assert!(matches!(again.first(), Some(Effect::Create { first_message: None, .. })), "it came twice");
}

/// T5: while a split makes a peer, messages for it come. Who was told that his message is kept finds it with the peer.
#[test]
fn no_early_message_is_lost() {
    let store = started(&Mem::empty());
    let peers = Peers::new(store.clone());
    let mut kept_rounds = 0;
    for round in 0..1_000_u64 {
        let child = 1_000 + 10 * round;
        let epoch = RegionEpoch::new(1, 2 + round);
        let message = Message { is_first: true, payload: b"first", ..vote(&store, child.into(), child + 1, epoch) };
        let entry = at(store.apply_state(FIRST).applied_index.get() + 1);
        let key = format!("{:04}", 9_999 - round);
        let mut batch = store.begin();
        let current = current(&store, FIRST).unwrap().epoch();
        let outcome = batch.apply(FIRST, entry, current, &split(&key, child, &[child + 1])).unwrap();
        let is_over = std::sync::atomic::AtomicBool::new(false);
        let (kept, effects) = std::thread::scope(|scope| {
            let messages = scope.spawn(|| {
                let mut kept = 0;
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    match peers.on_message(&message).unwrap() {
                        MessageAction::Kept => kept += 1,
                        MessageAction::Deliver => break,
                        other => panic!("{other:?}"),
                    }
                }
                kept
            });
            batch.commit().unwrap();
            let result = admin(regionmeta::AdminKind::BatchSplit, outcome);
            let effects = peers.on_ready_result(FIRST, entry, &result).unwrap();
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            (messages.join().unwrap(), effects)
        });
        let Some(Effect::Create { first_message, .. }) = effects.first() else { panic!("{effects:?}") };
        assert_eq!(first_message.is_some(), kept > 0, "round {round}: {kept} were kept");
        kept_rounds += u32::from(kept > 0);
    }
    println!("messages were kept in {kept_rounds} rounds");
}

/// Spec section 9.2, last paragraph, minute by minute.
#[test]
fn a_peer_without_a_leader_asks_its_group_and_then_pd() {
    let store = started(&Mem::empty());
    let peers = Peers::new(store.clone());
    let (start, me) = (Instant::now(), own(&peers, FIRST));
    let region = current(&store, FIRST).unwrap();
    let minutes = |minutes: u64| start + Duration::from_secs(60 * minutes);
    let check = |at: u64| peers.check_leader(FIRST, None, minutes(at));
    let check_stale = || Some(Effect::CheckStale { region: region.clone() });
    let ask = || Some(Effect::AskPd { region: FIRST, peer: me });
    assert_eq!((LEADER_MISSING, LEADER_LOST), (Duration::from_secs(600), Duration::from_secs(7_200)));
    assert_eq!((check(0), check(9), check(10), check(119)), (None, None, check_stale(), check_stale()));
    assert_eq!((check(120), check(121), check(130), check(240)), (ask(), None, check_stale(), ask()));
    assert_eq!(check(0), None, "a clock that goes back");
    // A leader, by either way, ends it.
    assert_eq!(peers.check_leader(FIRST, Some(7.into()), minutes(245)), None);
    assert_eq!((check(250), check(259), check(260)), (None, None, check_stale()));
    let _ = peers.on_leader(FIRST, 7.into());
    assert_eq!((check(300), check(309)), (None, None));

    // A peer that waits knows nobody to ask but PD; one that came later has not waited for as long.
    let waits = |at: u64| peers.check_leader(OTHER, None, minutes(at));
    assert_eq!(waits(0), None, "nobody is here");
    assert_eq!(peers.on_message(&vote(&store, OTHER, 51, RegionEpoch::new(3, 3))).unwrap(), CREATED);
    assert_eq!((waits(0), waits(60)), (None, None));
    assert_eq!(waits(120), Some(Effect::AskPd { region: OTHER, peer: 51.into() }));
    assert_eq!(waits(130), None);
    let _ = peers.destroy(OTHER, 51.into()).unwrap();
    assert_eq!(peers.on_message(&vote(&store, OTHER, 52, RegionEpoch::new(3, 3))).unwrap(), CREATED);
    assert_eq!((waits(240), waits(250)), (None, None));
}

#[test]
fn what_pd_says_of_a_peer() {
    let store = started(&Mem::empty());
    let peers = Peers::new(store.clone());
    apply(&store, FIRST, &add_learner(learner(30, 3)));
    apply(&store, FIRST, &split("m", 10, &[11, 12]));
    let me = own(&peers, FIRST);
    let answer = |id: RegionId, conf_ver, version, member: bool| {
        let peer = if member { learner(me.get(), 1) } else { voter(7, 7) };
        let epoch = RegionEpoch::new(conf_ver, version);
        RegionDraft::new(id, KeyRange::ALL, epoch, vec![peer, voter(8, 8)]).build().unwrap()
    };
    let stale = Some(Effect::DestroyStale { region: FIRST, peer: me });
    let table = [
        (None, None, "PD knows nothing"),
        (Some(answer(FIRST, 3, 2, false)), stale.clone(), "no member of a later version"),
        (Some(answer(FIRST, 2, 3, false)), stale.clone(), "no member of a later version"),
        (Some(answer(FIRST, 3, 3, true)), None, "still a member"),
        (Some(answer(FIRST, 1, 2, false)), None, "PD is behind"),
        (Some(answer(FIRST, 1, 3, false)), None, "PD is behind in one half"),
        (Some(answer(FIRST, 2, 2, false)), None, "PD contradicts this very version"),
        (Some(answer(OTHER, 9, 9, false)), None, "of another region"),
    ];
    for (answer, expected, why) in table {
        assert_eq!(peers.on_pd_region(FIRST, me, answer.as_ref()), expected, "{why}");
    }
    let gone = answer(FIRST, 9, 9, false);
    assert_eq!(peers.on_pd_region(FIRST, 999.into(), Some(&gone)), None, "the question was for an earlier peer");
    peers.set_role(FIRST, me, Role::Candidate);
    assert_eq!(peers.on_pd_region(FIRST, me, Some(&gone)), stale, "who has no leader asks for votes");
    peers.set_role(FIRST, me, LEADER);
    assert_eq!(peers.on_pd_region(FIRST, me, Some(&gone)), None, "it leads by now");
    assert_eq!(peers.on_message(&vote(&store, OTHER, 51, RegionEpoch::new(3, 3))).unwrap(), CREATED);
    let waits = Some(Effect::DestroyStale { region: OTHER, peer: 51.into() });
    assert_eq!(peers.on_pd_region(OTHER, 51.into(), Some(&answer(OTHER, 1, 1, false))), waits);
}

const SOURCES: [u64; 4] = [2, 10, 20, 30];
const BORDERS: [&str; 5] = ["", "d", "h", "p", ""];

/// What messages have told: by source the target's id, its peer and its version.
type Told = HashMap<RegionId, (RegionId, u64, u64)>;

/// Some messages tell of merges, and contradict each other now and then; then a peer comes that wants keys, first by a
/// message and then by a snapshot. What becomes of it is what the table of the first messages says.
#[test]
fn missed_merges_against_a_model() {
    let (_, mut random) = seeded("missed_merges_against_a_model");
    for _ in 0..400 {
        let store = started(&Mem::empty());
        let peers = Peers::new(store.clone());
        for (region, (key, child)) in [(2, ("d", 10)), (10, ("h", 20)), (20, ("p", 30))] {
            apply(&store, region.into(), &split(key, child, &[child + 1]));
        }
        let mut told = Told::new();
        for _ in 0..random.usize(..12) {
            tell(&peers, &mut told, &mut random);
        }
        a_target_comes(&peers, &told, &mut random);
    }
}

fn tell(peers: &Peers<MemStorage>, known: &mut Told, random: &mut fastrand::Rng) {
    let source = RegionId::new(SOURCES[random.usize(..4)]);
    let told = (RegionId::new(random.u64(50..52)), random.u64(500..502), random.u64(4..6));
    let done = merged_elsewhere(peers, source, told.0, told.1, told.2);
    match *known.entry(source).or_insert(told) == told {
        true => assert_eq!(done.unwrap(), MessageAction::Drop),
        false => assert!(matches!(done, Err(CreateError::OtherMergeTarget { .. })), "{done:?}"),
    }
}

fn a_target_comes(peers: &Peers<MemStorage>, told: &Told, random: &mut fastrand::Rng) {
    let (region, peer, version) = (RegionId::new(random.u64(50..52)), random.u64(500..502), random.u64(4..7));
    let from = random.usize(..4);
    let to = random.usize(from + 1..=4);
    let fate = |source: u64| {
        let (into, its_peer, then) = *told.get(&source.into())?;
        (into == region && then < version).then_some(its_peer == peer)
    };
    let fates: Vec<_> = SOURCES[from..to].iter().map(|&source| (RegionId::new(source), fate(source))).collect();
    let stale = |id: RegionId| Effect::DestroyStale { region: id, peer: own(peers, id) };

    let range = Some(KeyRange::from_wire(BORDERS[from].as_bytes(), BORDERS[to].as_bytes()));
    let message = vote(peers.store(), region, peer, RegionEpoch::new(9, version));
    let action = peers.on_message(&Message { range, kind: MessageKind::FirstHeartbeat, ..message }).unwrap();
    match fates.iter().find(|(_, fate)| *fate != Some(false)) {
        Some((first, _)) => {
            assert!(matches!(&action, MessageAction::Overlaps { region, .. } if region.id() == *first), "{action:?}");
            assert_eq!(peers.on_message(&message).unwrap(), CREATED);
        }
        None => {
            let stale = fates.iter().map(|(id, _)| stale(*id)).collect();
            assert_eq!(action, MessageAction::Created { stale });
        }
    }
    let taken = snapshot(peers.store(), region, peer, (BORDERS[from], BORDERS[to]), version);
    let accepted = peers.accept_snapshot(&taken, at(20), 0.into());
    match fates.iter().find(|(_, fate)| fate.is_none()) {
        Some((first, _)) => {
            let overlaps = matches!(&accepted, Err(SnapshotError::Overlaps { other, .. }) if other.id() == *first);
            assert!(overlaps, "{accepted:?}");
        }
        None => {
            let effect = |(id, fate): &(RegionId, Option<bool>)| match fate {
                Some(true) => Effect::StopSource { region: *id },
                _ => stale(*id),
            };
            assert_eq!(accepted.unwrap(), fates.iter().map(effect).collect::<Vec<_>>());
        }
    }
}
