//! PD's answers are a stranger's: each kind of nonsense is a typed error, and nothing comes of it.

use regionmeta::{
    AdminCommand, AdminError, BatchSwitchWitness, ChangeKind, ChangePeerV2, EndKey, KeyRange, Peer, PeerChange, Region,
    RegionDraft, RegionEpoch, Snapshot, StoreMeta, WitnessSwitch,
};
use regionmeta_batch::pd::{
    AnswerError, Checked, DownPeer, HeartbeatResponse, Operator, OperatorError, PdClient, PdError, Proposal,
    RegionInfo, SplitIds, SplitPolicy, StoreInfo,
};

use crate::common::{HERE, learner, voter};
use crate::pd_puppet::Puppet;

fn region(id: u64, start: &str, end: &str) -> Region {
    let peers = vec![voter(id * 10 + 1, 1), voter(id * 10 + 2, 2)];
    let range = KeyRange::from_wire(start.as_bytes(), end.as_bytes());
    RegionDraft::new(id.into(), range, RegionEpoch::new(3, 5), peers).build().unwrap()
}

fn info(id: u64, start: &str, end: &str) -> RegionInfo {
    RegionInfo::without_leader(region(id, start, end))
}

#[track_caller]
fn invalid<T: std::fmt::Debug>(answer: Result<T, PdError>) -> AnswerError {
    match answer {
        Err(PdError::InvalidAnswer(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn ids_and_stores_are_looked_at() {
    let pd = Puppet { id: 0, ..Puppet::new() };
    assert!(matches!(invalid(Checked::new(&pd).alloc_id()), AnswerError::ZeroId { .. }));
    let store = |id: u64| StoreInfo { id: id.into(), address: String::new() };
    let pd = Puppet { stores: vec![store(2), store(2)], ..Puppet::new() };
    assert!(matches!(invalid(Checked::new(&pd).get_store(1.into())), AnswerError::OtherStore { .. }));
    assert!(matches!(invalid(Checked::new(&pd).get_all_stores()), AnswerError::UsedId { .. }));
    assert_eq!(Checked::new(&pd).get_store(2.into()).unwrap(), Some(store(2)));
    let pd = Puppet { config: 8.into(), ..Puppet::new() };
    assert!(matches!(Checked::new(&pd).cluster_config(), Err(PdError::ClusterMismatch { .. })));
}

#[test]
fn the_ids_of_a_split_are_new_and_as_many_as_asked_for() {
    let parent = region(1, "a", "z");
    let ids = |region: u64, peers: &[u64]| SplitIds {
        region_id: region.into(),
        peer_ids: peers.iter().map(|&id| id.into()).collect(),
    };
    let asked = |split: Vec<SplitIds>| {
        let pd = Puppet { split, ..Puppet::new() };
        Checked::new(&pd).ask_batch_split(&parent, 2)
    };
    assert!(asked(vec![ids(100, &[101, 102]), ids(103, &[104, 105])]).is_ok());
    for wrong in [
        vec![ids(100, &[101, 102])],
        vec![ids(100, &[101, 102]), ids(100, &[104, 105])],
        vec![ids(100, &[101, 102]), ids(103, &[104])],
        vec![ids(100, &[101, 102]), ids(103, &[104, 101])],
        vec![ids(100, &[101, 102]), ids(1, &[104, 105])],
        vec![ids(100, &[101, 102]), ids(103, &[104, 11])],
        vec![ids(0, &[101, 102]), ids(103, &[104, 105])],
        vec![ids(100, &[0, 102]), ids(103, &[104, 105])],
    ] {
        let error = invalid(asked(wrong.clone()));
        assert!(
            matches!(error, AnswerError::Count { .. } | AnswerError::UsedId { .. } | AnswerError::ZeroId { .. }),
            "{wrong:?}: {error}"
        );
    }
}

#[test]
fn regions_are_those_that_were_asked_for() {
    let pd = |regions| Puppet { regions, ..Puppet::new() };
    let one = pd(vec![info(1, "c", "f")]);
    let asked = Checked::new(&one);
    assert!(asked.get_region(b"c").is_ok() && asked.get_region_by_id(1.into()).is_ok());
    assert!(asked.get_prev_region(b"f").is_ok());
    assert!(matches!(invalid(asked.get_region(b"f")), AnswerError::KeyNotInRegion { .. }));
    assert!(matches!(invalid(asked.get_prev_region(b"e")), AnswerError::NotBefore { .. }));
    assert!(matches!(invalid(asked.get_region_by_id(2.into())), AnswerError::OtherRegion { .. }));

    let stranger = voter(99, 9);
    for wrong in [
        RegionInfo { leader: Some(stranger), ..info(1, "c", "f") },
        RegionInfo { pending_peers: vec![stranger], ..info(1, "c", "f") },
        RegionInfo { down_peers: vec![DownPeer { peer: stranger, down_s: 1 }], ..info(1, "c", "f") },
    ] {
        let pd = pd(vec![wrong]);
        assert!(matches!(invalid(Checked::new(&pd).get_region(b"d")), AnswerError::ForeignPeer { .. }));
    }
}

#[test]
fn a_scan_is_in_order_and_in_range() {
    let scanned = |regions: &[RegionInfo], start: &str, end: &str, limit| {
        let pd = Puppet { regions: regions.to_vec(), ..Puppet::new() };
        Checked::new(&pd).scan_regions(KeyRange::from_wire(start.as_bytes(), end.as_bytes()), limit)
    };
    let (a, b, c) = (info(1, "", "c"), info(2, "e", "g"), info(3, "g", ""));
    let all = [a.clone(), b.clone(), c.clone()];
    assert_eq!(scanned(&all, "", "", 0).unwrap(), all, "a hole is no mistake");
    assert_eq!(scanned(&all, "b", "h", 3).unwrap(), all);
    assert!(matches!(invalid(scanned(&all, "", "", 2)), AnswerError::Count { .. }));
    assert!(matches!(invalid(scanned(&all, "d", "", 0)), AnswerError::OutsideOfScan { .. }));
    assert!(matches!(invalid(scanned(&all, "", "g", 0)), AnswerError::OutsideOfScan { .. }));
    assert!(matches!(invalid(scanned(&[b.clone(), a.clone()], "", "", 0)), AnswerError::Unsorted { .. }));
    assert!(matches!(invalid(scanned(&[b, info(4, "f", "h")], "", "", 0)), AnswerError::Unsorted { .. }));
    assert!(matches!(invalid(scanned(&[a.clone(), a], "", "", 0)), AnswerError::UsedId { .. }));
}

// --- operators ------------------------------------------------------------------------------------------------------

/// Region 1 with peers (11, 1) and (12, 2), and its neighbour 2.
fn snapshot() -> Snapshot {
    StoreMeta::recover(Some(HERE), [region(1, "c", "f"), region(2, "f", "k")], []).unwrap().snapshot()
}

fn response(operator: Operator) -> HeartbeatResponse {
    HeartbeatResponse {
        region_id: 1.into(),
        epoch: RegionEpoch::new(3, 5),
        target_peer: voter(11, 1),
        operator: Some(operator),
    }
}

fn received(response: &HeartbeatResponse) -> Result<Option<Proposal>, OperatorError> {
    Proposal::from_response(&snapshot(), HERE, true, response)
}

fn add(peer: Peer) -> PeerChange {
    PeerChange { kind: ChangeKind::AddLearner, peer }
}

fn transfer(peer: Peer) -> Operator {
    Operator::TransferLeader { peers: vec![peer] }
}

fn split(keys: &[&str]) -> Operator {
    Operator::Split { policy: SplitPolicy::UseKeys, keys: keys.iter().map(|key| key.as_bytes().to_vec()).collect() }
}

#[test]
fn operators_become_commands_with_the_epoch_of_the_response() {
    let switch = BatchSwitchWitness { switches: vec![WitnessSwitch { peer_id: 12.into(), is_witness: true }] };
    let commands = [
        (Operator::ChangePeer(add(learner(20, 3))), AdminCommand::ChangePeer(add(learner(20, 3)))),
        (
            Operator::ChangePeerV2(ChangePeerV2 { changes: vec![add(learner(20, 3))] }),
            AdminCommand::ChangePeerV2(ChangePeerV2 { changes: vec![add(learner(20, 3))] }),
        ),
        (
            transfer(voter(12, 2)),
            AdminCommand::TransferLeader(regionmeta::TransferLeader { transferees: vec![voter(12, 2)] }),
        ),
        (Operator::SwitchWitnesses(switch.clone()), AdminCommand::BatchSwitchWitness(switch)),
    ];
    for (operator, expected) in commands {
        let Some(Proposal::Admin(request)) = received(&response(operator)).unwrap() else { panic!("{expected:?}") };
        assert_eq!(request.command, expected);
        assert_eq!((request.header.region_id, request.header.epoch), (1.into(), Some(RegionEpoch::new(3, 5))));
    }
    let proposal = received(&response(split(&["d", "e"]))).unwrap();
    assert!(matches!(proposal, Some(Proposal::Split { keys, .. }) if keys == [b"d", b"e"]));
    let proposal = received(&response(Operator::Merge { target: region(2, "f", "k") })).unwrap();
    assert!(matches!(proposal, Some(Proposal::Merge { target, .. }) if target.id() == 2.into()));
    assert_eq!(received(&HeartbeatResponse { operator: None, ..response(split(&[])) }), Ok(None));
}

#[test]
fn operators_that_do_not_fit_are_refused_with_a_reason() {
    let plain = || response(transfer(voter(12, 2)));
    let epoch = |conf_ver, version| HeartbeatResponse { epoch: RegionEpoch::new(conf_ver, version), ..plain() };
    let refused = |response: HeartbeatResponse| received(&response).unwrap_err();
    let unknown = refused(HeartbeatResponse { region_id: 9.into(), ..plain() });
    assert!(matches!(unknown, OperatorError::UnknownRegion { .. }), "{unknown}");
    let other = refused(HeartbeatResponse { target_peer: voter(12, 2), ..plain() });
    assert!(matches!(other, OperatorError::OtherPeer { .. }), "{other}");
    let follower = Proposal::from_response(&snapshot(), HERE, false, &plain()).unwrap_err();
    assert!(matches!(follower, OperatorError::NotLeader { .. }), "{follower}");
    for old in [epoch(2, 5), epoch(3, 4)] {
        assert!(matches!(refused(old), OperatorError::Epoch { .. }));
    }
    // From the future: only what the command checks has to be exact.
    assert!(received(&epoch(4, 6)).is_ok());
    let future = HeartbeatResponse { epoch: RegionEpoch::new(4, 5), ..response(split(&["d"])) };
    assert!(matches!(refused(future), OperatorError::Epoch { .. }));

    for keys in [&["c"][..], &["d", "f"], &["z"]] {
        assert!(matches!(refused(response(split(keys))), OperatorError::SplitKeyOutside { .. }), "{keys:?}");
    }
    for keys in [&[][..], &["e", "d"], &["d", "d"], &["", "d"]] {
        assert!(matches!(refused(response(split(keys))), OperatorError::Invalid(_)), "{keys:?}");
    }
    assert!(matches!(refused(response(transfer(voter(99, 2)))), OperatorError::UnknownTransferee { .. }));
    let remove_leader = PeerChange { kind: ChangeKind::RemoveNode, peer: voter(11, 1) };
    assert!(matches!(refused(response(Operator::ChangePeer(remove_leader))), OperatorError::NotProposed(_)));
    assert!(refused(response(Operator::ChangePeer(add(learner(20, 2))))).to_string().contains("20"));
    let leave = Operator::ChangePeerV2(ChangePeerV2 { changes: vec![] });
    assert!(received(&response(leave)).is_err(), "it is in no joint state");
    let nobody = BatchSwitchWitness { switches: vec![WitnessSwitch { peer_id: 99.into(), is_witness: true }] };
    let nobody = refused(response(Operator::SwitchWitnesses(nobody)));
    assert!(matches!(nobody, OperatorError::Refused(AdminError::SwitchOfUnknownPeer { .. })), "{nobody}");
}

#[test]
fn a_merge_needs_a_target_that_is_as_pd_says() {
    let merge = |target: Region| received(&response(Operator::Merge { target })).unwrap_err();
    let newer = RegionDraft { epoch: RegionEpoch::new(3, 6), ..region(2, "f", "k").to_draft() }.build().unwrap();
    assert!(matches!(merge(newer), OperatorError::MergeTarget { .. }));
    assert!(matches!(merge(region(8, "f", "k")), OperatorError::MergeTarget { .. }), "it is not here");
    assert!(matches!(merge(region(1, "f", "k")), OperatorError::Invalid(_)), "into itself");
    let end = EndKey::Finite(b"q");
    let apart = RegionDraft { range: KeyRange::new(b"p", end), ..region(2, "f", "k").to_draft() }.build().unwrap();
    let error = merge(apart);
    assert!(matches!(error, OperatorError::Refused(AdminError::NotSiblings { .. })), "{error}");
}

#[test]
fn a_split_is_planned_with_ids_from_pd() {
    let split = vec![SplitIds { region_id: 50.into(), peer_ids: vec![51.into(), 52.into()] }];
    let pd = Puppet { split, ..Puppet::new() };
    let request = Proposal::split(&pd, &region(1, "c", "f"), vec![b"d".to_vec()], true).unwrap();
    let AdminCommand::BatchSplit(split) = request.command else { panic!("{request:?}") };
    assert_eq!((split.requests[0].new_region_id, split.right_derive), (50.into(), true));
    let twice = vec![b"d".to_vec(), b"e".to_vec()];
    assert!(matches!(invalid(Proposal::split(&pd, &region(1, "c", "f"), twice, true)), AnswerError::Count { .. }));
}
