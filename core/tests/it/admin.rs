//! T1 for the transitions: random commands on random regions, 30 % of them stale and many otherwise bad, against the naive
//! oracle; and after each step the promises that need no oracle: the epoch law (I3), the tiling (I1), joint consensus, and
//! agreement of all stores.

use std::collections::BTreeMap;

use regionmeta::{
    AdminCommand, AdminError, AdminHeader, AdminKind, AdminRequest, ApplyContext, ApplyState, ChangeKind, ChangePeerV2,
    Changeset, KeyRange, LogPosition, Outcome, Peer, PeerChange, PeerRole, PeerState, PrepareMerge, Region,
    RegionDraft, RegionEpoch, Removal, RollbackMerge, StoreMeta, TargetSeen, Verdict,
};

use crate::admin_oracle::{self, Plain};
use crate::admin_world::{NOBODY, World, commit_of};
use crate::seed;

const HISTORIES: usize = 100;
const STEPS: usize = 200;

#[test]
fn random_commands_do_what_the_tables_of_the_spec_say() {
    let seed = seed::seed();
    println!("random_commands_do_what_the_tables_of_the_spec_say: REGIONMETA_SEED={seed}");
    let mut seen = BTreeMap::<String, usize>::new();
    for history in 0..HISTORIES as u64 {
        let mut world = World::new(seed.wrapping_add(history));
        for _ in 0..STEPS {
            step(&mut world, &mut seen);
        }
    }
    println!("{seen:#?}");
    for kind in AdminKind::ALL {
        for answer in ["done", "refused"] {
            let count = seen.get(&format!("{kind:?} {answer}")).copied().unwrap_or(0);
            assert!(count > 20, "{kind:?} was {answer} only {count} times: the histories show nothing");
        }
    }
}

fn step(world: &mut World, seen: &mut BTreeMap<String, usize>) {
    world.entry += 1;
    let (region, request) = world.next();
    let before = world.regions.clone();
    assert_eq!(AdminRequest::decode(&request.encode().unwrap()).as_ref(), Ok(&request));
    let plain = Plain::of(region.as_ref());
    let answers: Vec<_> = (1..=NOBODY).map(|store| (store, world.plan(store, &request, &region))).collect();
    for (store, answer) in &answers {
        let expected = admin_oracle::expect(&request.command, &request.header, &plain, *store, world.entry);
        assert_as_expected(&region, &request, *store, answer, expected);
        assert_eq!(&world.plan(*store, &request, &region), answer, "asked again");
    }
    let (_, answer) = answers.into_iter().last().unwrap();
    let name = if answer.is_ok() { "done" } else { "refused" };
    *seen.entry(format!("{:?} {name}", request.command.kind())).or_default() += 1;
    match answer {
        Ok(outcome) => {
            assert_epoch_law(&region, request.command.kind(), &outcome);
            assert_joint(&region, &request.command, &outcome);
            // A child that exists already is the store's affair, not the transition's: `SplitChild` decides it.
            let is_split = matches!(outcome, Outcome::Split { .. });
            let known = |record: &Region| record.id() != region.id() && world.regions.contains_key(&record.id().get());
            if is_split && outcome.records().any(known) {
                return;
            }
            publish(world, &region, &outcome);
            world.take(&outcome);
            assert_tiling(world);
        }
        Err(error) => {
            assert_eq!(error.verdict(), Verdict::Refused, "{error}");
            // M29 of known-bugs: a refusal moves nothing.
            let same = |(a, b): (&Region, &Region)| a.same_buffer(b);
            assert!(before.values().zip(world.regions.values()).all(same));
        }
    }
}

fn assert_as_expected(
    region: &Region,
    request: &AdminRequest,
    store: u64,
    answer: &Result<Outcome, AdminError>,
    expected: Option<Vec<Plain>>,
) {
    let text = || format!("{region}, {request:?} on store {store}");
    match (answer, expected) {
        (Err(_), None) => {}
        (Ok(outcome), Some(expected)) => {
            let found: Vec<_> = outcome.records().map(|record| Plain::of(record.as_ref())).collect();
            assert_eq!(found, expected, "{}", text());
        }
        (answer, expected) => panic!("{}: {answer:?}, where {expected:?} is expected", text()),
    }
}

/// I3: the halves of the table move, and no other; every product of a change of range is newer than all that went in.
fn assert_epoch_law(before: &Region, kind: AdminKind, outcome: &Outcome) {
    let moves = kind.epoch_rule().moves;
    let derived = outcome.records().find(|record| record.id() == before.id());
    let Some(after) = derived else { return assert_eq!(outcome.records().count(), 0, "{outcome:?}") };
    assert_eq!(after.epoch().conf_ver > before.epoch().conf_ver, moves.conf_ver, "{before} to {after}");
    assert_eq!(after.epoch().version > before.epoch().version, moves.version, "{before} to {after}");
    assert!(!after.epoch().is_behind_any(before.epoch()), "{before} to {after}");
    match outcome {
        Outcome::Split { regions, .. } => assert!(regions.iter().all(|child| child.epoch() == after.epoch())),
        Outcome::Merged { target, source, .. } => assert!(target.epoch().version > source.epoch().version),
        _ => assert_eq!(outcome.records().count(), 1),
    }
}

/// Only a change of several peers begins a joint state, and only leaving it ends it; somebody always votes, in both halves.
fn assert_joint(before: &Region, command: &AdminCommand, outcome: &Outcome) {
    let is_joint = |region: &Region| Plain::of(region.as_ref()).is_joint();
    for after in outcome.records().filter(|record| record.id() == before.id()) {
        let expected = match command {
            AdminCommand::ChangePeerV2(command) => command.changes.len() > 1,
            _ => is_joint(before),
        };
        assert_eq!(is_joint(after), expected, "{before} to {after} by {command:?}");
        let votes = |roles: [PeerRole; 2]| after.peers().any(|peer| roles.contains(&peer.role));
        assert!(votes([PeerRole::Voter, PeerRole::IncomingVoter]), "{after}");
        assert!(votes([PeerRole::Voter, PeerRole::DemotingVoter]), "{after}");
    }
}

/// I1, from the records alone: the live regions follow each other without overlap and without hole.
fn assert_tiling(world: &World) {
    let live = world.live();
    assert_eq!(live[0].start_key(), b"");
    for pair in live.windows(2) {
        assert!(pair[0].range().touches(pair[1].range()), "{} and {}", pair[0], pair[1]);
    }
    assert!(live.last().unwrap().range().end.to_wire().is_empty());
}

/// The outcome is what the published map takes: all of it in one changeset, both indexes in agreement afterwards, and a
/// merged source in neither (M5 of known-bugs).
fn publish(world: &World, before: &Region, outcome: &Outcome) {
    if outcome.records().next().is_none() {
        return;
    }
    let meta = StoreMeta::new(None);
    let all = world.live().into_iter().fold(Changeset::new(), Changeset::create);
    let snapshot = meta.prepare(all).unwrap().publish();
    let base = |id| snapshot.get(id).unwrap().changed_at();
    let mut changes = Changeset::new();
    let reason = match outcome {
        Outcome::Changed { reason, .. } => *reason,
        Outcome::Split { .. } => regionmeta::Reason::Split,
        _ => regionmeta::Reason::CommitMerge,
    };
    for record in outcome.records() {
        changes = match record.state() {
            PeerState::Tombstone => changes.remove(record.id(), base(record.id()), Removal::Merged, None),
            _ if snapshot.get(record.id()).is_none() => changes.create(record.clone()),
            _ => changes.update(base(record.id()), record.clone(), reason),
        };
    }
    let after = meta.prepare(changes).unwrap_or_else(|refusal| panic!("{before}, {outcome:?}: {refusal}")).publish();
    assert_eq!(after.validate(), []);
    for record in outcome.records() {
        assert_eq!(after.get(record.id()).is_some(), record.state().is_live());
        let owner = after.locate(record.start_key()).unwrap().region().id();
        assert_eq!(owner == record.id(), record.state().is_live());
    }
}

/// M23 of known-bugs (tikv#15682): a rollback only when the target has moved for certain, and then the commit is refused.
#[test]
fn a_merge_is_never_both_committed_and_rolled_back() {
    let build = |id: u64, start: &str, end: &str, epoch: RegionEpoch| {
        let peers = vec![Peer::voter((id * 10).into(), 1.into())];
        RegionDraft::new(id.into(), KeyRange::from_wire(start.as_bytes(), end.as_bytes()), epoch, peers)
            .build()
            .unwrap()
    };
    let recorded = RegionEpoch::new(5, 5);
    let target = build(2, "m", "", recorded);
    let mut source = build(1, "", "m", RegionEpoch::new(2, 2)).to_draft().build().unwrap();
    let context = ApplyContext::new(1.into(), LogPosition { index: 9.into(), term: 6.into() }, ApplyState::INITIAL);
    let prepare = AdminCommand::PrepareMerge(PrepareMerge { target: target.clone(), min_index: 9.into() });
    let header = AdminHeader::new(source.id(), source.epoch());
    let Ok(Outcome::Changed { region, .. }) = prepare.plan(&header, &source, &context) else { panic!() };
    assert!(RollbackMerge::wanted(&source, TargetSeen::Here(&target)).is_none(), "it does not merge yet");
    source = region;
    assert!(RollbackMerge::wanted(&source, TargetSeen::Unknown).is_none(), "an error that passes");
    for conf_ver in 4..=6 {
        for version in 4..=6 {
            let seen = build(2, "m", "", RegionEpoch::new(conf_ver, version));
            let header = AdminHeader::new(target.id(), recorded);
            let commit = commit_of(&source, true).plan(&header, &seen, &context.with_merge_source(&source));
            let rollback = RollbackMerge::wanted(&source, TargetSeen::Here(&seen));
            assert!(commit.is_err() || rollback.is_none(), "{seen}: both");
            assert_eq!(rollback.is_some(), conf_ver > 5 || version > 5, "{seen}");
            assert_eq!(commit.is_ok(), (conf_ver, version) == (5, 5), "{seen}");
            assert_eq!(RollbackMerge::wanted(&source, TargetSeen::Gone(&seen)), rollback);
        }
    }
    let stranger = build(3, "m", "", RegionEpoch::new(9, 9));
    assert!(RollbackMerge::wanted(&source, TargetSeen::Here(&stranger)).is_none(), "another region");
}

/// The refusals of spec section 5.4 that only a proposer needs.
#[test]
fn a_leader_does_not_propose_its_own_end() {
    use regionmeta::ProposalError as P;
    let peers =
        vec![Peer::voter(1.into(), 1.into()), Peer::voter(2.into(), 2.into()), Peer::learner(3.into(), 3.into())];
    let region = RegionDraft::new(1.into(), KeyRange::ALL, RegionEpoch::INITIAL, peers.clone()).build().unwrap();
    let change = |kind, peer: Peer| PeerChange { kind, peer };
    let check = |changes: Vec<PeerChange>, allow| ChangePeerV2 { changes }.check_proposal(&region, 1.into(), allow);
    let remove = change(ChangeKind::RemoveNode, peers[0]);
    assert!(matches!(check(vec![remove], false), Err(P::RemovesLeader { .. })));
    assert_eq!(check(vec![remove], true), Ok(()));
    let demote = change(ChangeKind::AddLearner, Peer::learner(1.into(), 1.into()));
    assert!(matches!(check(vec![demote], false), Err(P::RemovesLeader { .. })));
    let promote = change(ChangeKind::AddNode, Peer::voter(3.into(), 3.into()));
    assert_eq!(check(vec![demote, promote], false), Ok(()));
    let mismatch = change(ChangeKind::AddNode, peers[2]);
    assert!(matches!(check(vec![mismatch], false), Err(P::RoleMismatch { .. })));
    let twice = check(vec![promote, promote], false);
    assert!(matches!(twice, Err(P::Refused(AdminError::PeerChangedTwice { .. }))), "{twice:?}");
    let joint = RegionDraft {
        peers: vec![
            Peer { role: PeerRole::DemotingVoter, ..peers[0] },
            Peer { role: PeerRole::IncomingVoter, ..peers[1] },
        ],
        ..region.to_draft()
    };
    let (joint, leave) = (joint.build().unwrap(), ChangePeerV2 { changes: vec![] });
    assert!(matches!(leave.check_proposal(&joint, 1.into(), true), Err(P::LeaveDemotesLeader { .. })));
    assert_eq!(leave.check_proposal(&joint, 2.into(), false), Ok(()));
}
