//! Bad input through the pool: commands that no correct proposer sends. Each is refused with a typed error, the same on two
//! replicas whose stores hold other things, nothing is written but the applied index, and that one moves on (spec section
//! 5.2). So it is with an entry that cannot even be decoded, which comes as an empty one.

use regionmeta::layout::{apply_state_key, region_state_key};
use regionmeta::{
    AdminCodecError, AdminCommand, AdminError, AdminHeader, AdminKind, AdminRequest, ApplyState, BatchSplit,
    BatchSwitchWitness, ChangeKind, ChangePeerV2, CommitMerge, CompactLog, ComputeHash, FinishFlashback, KeyRange,
    LogPosition, MergeState, Peer, PeerChange, PeerState, PrepareFlashback, PrepareMerge, Region, RegionDraft,
    RegionEpoch, RegionId, RollbackMerge, Split, SplitRequest, StoreId, StoreIdent, TransferLeader, VerifyHash,
    WitnessSwitch,
};
use regionmeta_batch::apply::{AnswerError, ApplySettings, Data, Entry, ExecResult, Mutation};
use regionmeta_batch::storage::{Durability, Family, MemStorage, Storage};
use regionmeta_batch::{Store, records};

use crate::common::{Dump, IDENT, at, builder, dump, learner, put, put_raw, put_region, voter};
use crate::pool::Running;

/// `[d, m)` at epoch 5/5, with peers 3 and 4 on the stores 1 and 2.
const REGION: RegionId = RegionId::new(2);
const EPOCH: RegionEpoch = RegionEpoch { conf_ver: 5, version: 5 };

fn draft<'a>(id: u64, start: &'a str, end: &'a str, peers: Vec<Peer>) -> RegionDraft<'a> {
    RegionDraft::new(id.into(), KeyRange::from_wire(start.as_bytes(), end.as_bytes()), EPOCH, peers)
}

fn region() -> Region {
    draft(2, "d", "m", vec![voter(3, 1), voter(4, 2)]).build().unwrap()
}

/// The neighbour on the right, on the same stores.
fn sibling() -> Region {
    draft(10, "m", "t", vec![voter(11, 1), voter(12, 2)]).build().unwrap()
}

/// A replica on a store: the region, and what only this store has.
fn replica(store_id: u64, others: &[Region]) -> Running<MemStorage> {
    let storage = MemStorage::new();
    put(
        &storage,
        Family::Default,
        regionmeta::layout::STORE_IDENT_KEY,
        &StoreIdent { store_id: StoreId::new(store_id), ..IDENT },
    );
    for region in others.iter().chain([&region()]) {
        put_region(&storage, region);
        let mut batch = storage.batch();
        records::write_apply_state(&storage, &mut batch, region.id(), &ApplyState::INITIAL).unwrap();
        storage.write(batch, Durability::Synced).unwrap();
    }
    put_raw(&storage, Family::Default, b"zdata", store_id.to_string().as_bytes());
    let store: Store<MemStorage> = builder().open_storage(storage).unwrap();
    Running::over(store, ApplySettings { workers: 1, ..ApplySettings::default() })
}

fn split_of(requests: &[(&str, u64, &[u64])]) -> AdminCommand {
    let request = |&(key, id, peers): &(&str, u64, &[u64])| SplitRequest {
        split_key: key.into(),
        new_region_id: id.into(),
        new_peer_ids: peers.iter().map(|&id| id.into()).collect(),
    };
    AdminCommand::BatchSplit(BatchSplit {
        requests: requests.iter().map(request).collect(),
        right_derive: true,
        shares_size: false,
    })
}

fn change(kind: ChangeKind, peer: Peer) -> AdminCommand {
    AdminCommand::ChangePeer(PeerChange { kind, peer })
}

fn prepare(target: Region) -> AdminCommand {
    AdminCommand::PrepareMerge(PrepareMerge { target, min_index: 6.into() })
}

/// The source as a PrepareMerge would leave it that names this region, or another.
fn commit(source: &Region, target: &Region) -> AdminCommand {
    let merge = MergeState { min_index: 6.into(), commit: 6.into(), target: target.as_ref() };
    let draft = RegionDraft { state: PeerState::Merging, merge_state: Some(merge), ..source.to_draft() };
    AdminCommand::CommitMerge(CommitMerge { source: draft.build().unwrap(), commit: 6.into(), entries: Vec::new() })
}

/// One command of each kind, none of which its own conditions refuse before the epoch is looked at.
fn of_each_kind() -> Vec<AdminCommand> {
    use AdminCommand as C;
    let request =
        SplitRequest { split_key: b"f".into(), new_region_id: 30.into(), new_peer_ids: vec![31.into(), 32.into()] };
    vec![
        change(ChangeKind::AddLearner, learner(40, 3)),
        C::Split(Split { request, right_derive: true, shares_size: false }),
        C::CompactLog(CompactLog {
            compact: LogPosition { index: 5.into(), term: 5.into() },
            voter_replicated_index: 5.into(),
        }),
        C::TransferLeader(TransferLeader { transferees: vec![voter(4, 2)] }),
        C::ComputeHash(ComputeHash { context: Vec::new() }),
        C::VerifyHash(VerifyHash { index: 5.into(), hash: Vec::new(), context: Vec::new() }),
        prepare(sibling()),
        commit(&sibling(), &region()),
        C::RollbackMerge(RollbackMerge { commit: 6.into() }),
        split_of(&[("f", 30, &[31, 32])]),
        C::ChangePeerV2(ChangePeerV2 {
            changes: vec![PeerChange { kind: ChangeKind::AddLearner, peer: learner(40, 3) }],
        }),
        C::PrepareFlashback(PrepareFlashback { start_ts: 9 }),
        C::FinishFlashback(FinishFlashback),
        C::BatchSwitchWitness(BatchSwitchWitness {
            switches: vec![WitnessSwitch { peer_id: 4.into(), is_witness: true }],
        }),
    ]
}

type Refused = fn(&AdminError) -> bool;

macro_rules! refused {
    ($pattern:pat) => {
        (|error| matches!(error, $pattern)) as Refused
    };
}

/// What is bad about a command that is proposed at the region's own epoch, and how it is refused.
fn bad_commands() -> Vec<(&'static str, AdminCommand, Refused)> {
    use AdminError as E;
    let others = draft(10, "m", "t", vec![voter(11, 1), voter(13, 3)]).build().unwrap();
    let fewer = draft(10, "m", "t", vec![voter(11, 1)]).build().unwrap();
    let roles = draft(10, "m", "t", vec![voter(11, 1), learner(12, 2)]).build().unwrap();
    let apart = draft(10, "n", "t", vec![voter(11, 1), voter(12, 2)]).build().unwrap();
    let elsewhere = draft(60, "t", "", vec![voter(61, 1), voter(62, 2)]).build().unwrap();
    let switch = |peer: u64, is_witness| WitnessSwitch { peer_id: peer.into(), is_witness };
    let switches = |switches| AdminCommand::BatchSwitchWitness(BatchSwitchWitness { switches });
    let add = |id: u64, store: u64| PeerChange { kind: ChangeKind::AddNode, peer: voter(id, store) };
    let joint = |changes| AdminCommand::ChangePeerV2(ChangePeerV2 { changes });
    vec![
        ("no split", split_of(&[]), refused!(E::MissingSplitRequests { .. })),
        ("an empty split key", split_of(&[("", 30, &[31, 32])]), refused!(E::MissingSplitKey { .. })),
        (
            "unsorted split keys",
            split_of(&[("g", 30, &[31, 32]), ("f", 40, &[41, 42])]),
            refused!(E::UnsortedSplitKeys { .. }),
        ),
        (
            "the same split key twice",
            split_of(&[("f", 30, &[31, 32]), ("f", 40, &[41, 42])]),
            refused!(E::UnsortedSplitKeys { .. }),
        ),
        ("a split key before the region", split_of(&[("a", 30, &[31, 32])]), refused!(E::UnsortedSplitKeys { .. })),
        ("a split key at its start", split_of(&[("d", 30, &[31, 32])]), refused!(E::UnsortedSplitKeys { .. })),
        ("a split key at its end", split_of(&[("m", 30, &[31, 32])]), refused!(E::KeyNotInRegion { .. })),
        (
            "a split key behind it",
            split_of(&[("f", 30, &[31, 32]), ("z", 40, &[41, 42])]),
            refused!(E::KeyNotInRegion { .. }),
        ),
        ("no peer ids", split_of(&[("f", 30, &[])]), refused!(E::NewPeerIdCount { found: 0, .. })),
        ("a peer id too few", split_of(&[("f", 30, &[31])]), refused!(E::NewPeerIdCount { found: 1, .. })),
        ("a peer id too many", split_of(&[("f", 30, &[31, 32, 33])]), refused!(E::NewPeerIdCount { found: 3, .. })),
        ("a peer id twice", split_of(&[("f", 30, &[31, 31])]), refused!(E::NewPeerIdTaken { .. })),
        (
            "a peer id twice in two children",
            split_of(&[("f", 30, &[31, 32]), ("g", 40, &[41, 31])]),
            refused!(E::NewPeerIdTaken { .. }),
        ),
        ("one of the region's own peer ids", split_of(&[("f", 30, &[31, 4])]), refused!(E::NewPeerIdTaken { .. })),
        ("peer id 0", split_of(&[("f", 30, &[31, 0])]), refused!(E::Invalid(_))),
        ("region id 0", split_of(&[("f", 0, &[31, 32])]), refused!(E::Invalid(_))),
        ("its own region id", split_of(&[("f", 2, &[31, 32])]), refused!(E::NewRegionIdTaken { .. })),
        (
            "a region id twice",
            split_of(&[("f", 30, &[31, 32]), ("g", 30, &[41, 42])]),
            refused!(E::NewRegionIdTaken { .. }),
        ),
        ("a second peer on a store", change(ChangeKind::AddNode, voter(40, 2)), refused!(E::DuplicatedPeer { .. })),
        ("a peer id that is taken", change(ChangeKind::AddNode, voter(4, 3)), refused!(E::Invalid(_))),
        ("a peer without id", change(ChangeKind::AddNode, voter(0, 3)), refused!(E::Invalid(_))),
        (
            "the removal of a peer that is not there",
            change(ChangeKind::RemoveNode, voter(40, 3)),
            refused!(E::MissingPeer { .. }),
        ),
        (
            "the removal of another peer",
            change(ChangeKind::RemoveNode, voter(40, 2)),
            refused!(E::UnmatchedPeer { .. }),
        ),
        ("two changes of one peer", joint(vec![add(40, 3), add(40, 3)]), refused!(E::PeerChangedTwice { .. })),
        ("leaving no joint state", joint(Vec::new()), refused!(E::NotInJointState { .. })),
        ("a merge with itself", prepare(region()), refused!(E::NotSiblings { .. })),
        ("a merge with one that is not beside it", prepare(apart.clone()), refused!(E::NotSiblings { .. })),
        ("a merge with one on another store", prepare(others.clone()), refused!(E::OtherPeers { .. })),
        ("a merge with one of fewer peers", prepare(fewer), refused!(E::OtherPeers { .. })),
        ("a merge with one of other roles", prepare(roles), refused!(E::OtherPeers { .. })),
        (
            "a merge that begins after itself",
            AdminCommand::PrepareMerge(PrepareMerge { target: sibling(), min_index: u64::MAX.into() }),
            refused!(E::MinIndexAhead { .. }),
        ),
        ("a source that is not beside it", commit(&apart, &region()), refused!(E::NotSiblings { .. })),
        ("a source on another store", commit(&others, &region()), refused!(E::OtherPeers { .. })),
        ("a source that merges elsewhere", commit(&sibling(), &elsewhere), refused!(E::NotMergingHere { .. })),
        (
            "a source that does not merge",
            AdminCommand::CommitMerge(CommitMerge { source: sibling(), commit: 6.into(), entries: Vec::new() }),
            refused!(E::NotMergingHere { .. }),
        ),
        (
            "the rollback of no merge",
            AdminCommand::RollbackMerge(RollbackMerge { commit: 6.into() }),
            refused!(E::WrongState { .. }),
        ),
        (
            "a truncation of what is not applied",
            AdminCommand::CompactLog(CompactLog {
                compact: LogPosition { index: u64::MAX.into(), term: 6.into() },
                voter_replicated_index: u64::MAX.into(),
            }),
            refused!(E::CompactNotApplied { .. }),
        ),
        (
            "a truncation without a term",
            AdminCommand::CompactLog(CompactLog {
                compact: LogPosition { index: 7.into(), term: 0.into() },
                voter_replicated_index: 9.into(),
            }),
            refused!(E::CompactTermMissing { .. }),
        ),
        ("no switch", switches(Vec::new()), refused!(E::MissingSwitches { .. })),
        ("a switch of a stranger", switches(vec![switch(99, true)]), refused!(E::SwitchOfUnknownPeer { .. })),
        ("a switch to what it is", switches(vec![switch(4, false)]), refused!(E::NothingToSwitch { .. })),
    ]
}

/// What is bad about the header, for every command.
fn bad_headers() -> Vec<(String, AdminRequest, Refused)> {
    let mut bad = Vec::new();
    for command in of_each_kind() {
        let (kind, header) = (command.kind(), AdminHeader::new(REGION, EPOCH));
        let mut add = |what: String, header, refused: Refused| {
            bad.push((format!("{kind:?} {what}"), AdminRequest { header, command: command.clone() }, refused));
        };
        add(
            "for another region".to_owned(),
            AdminHeader { region_id: 99.into(), ..header },
            refused!(AdminError::OtherRegion { .. }),
        );
        let checks = kind.epoch_rule().checks;
        let stale = refused!(AdminError::EpochNotMatch { .. });
        for (conf_ver, version, is_checked) in
            [(4, 5, checks.conf_ver), (6, 5, checks.conf_ver), (5, 4, checks.version), (5, 6, checks.version)]
        {
            if is_checked {
                let epoch = Some(RegionEpoch { conf_ver, version });
                add(format!("at epoch {conf_ver}/{version}"), AdminHeader { epoch, ..header }, stale);
            }
        }
        if checks.conf_ver || checks.version {
            add(
                "without an epoch".to_owned(),
                AdminHeader { epoch: None, ..header },
                refused!(AdminError::MissingEpoch { .. }),
            );
        }
        if !matches!(kind, AdminKind::PrepareFlashback | AdminKind::FinishFlashback) {
            let header = AdminHeader { flashback: true, ..header };
            add("in a flashback that is not".to_owned(), header, refused!(AdminError::FlashbackNotPrepared { .. }));
        }
    }
    bad
}

#[test]
fn bad_input_is_refused_alike_and_writes_nothing() {
    let commands = bad_commands().into_iter().map(|(what, command, refused)| {
        let header = AdminHeader::new(REGION, EPOCH);
        (what.to_owned(), AdminRequest { header, command }, refused)
    });
    // Store 1 has the sibling as well; store 2 has not, but other regions, and a tombstone under an id that commands name.
    let elsewhere = draft(50, "t", "", vec![voter(51, 2)]).build().unwrap();
    let buried = draft(30, "x", "y", vec![voter(31, 2)]);
    let buried = RegionDraft { state: PeerState::Tombstone, ..buried }.build().unwrap();
    let replicas = [replica(1, &[sibling()]), replica(2, &[elsewhere, buried])];
    for (index, (what, request, refused)) in (6..).zip(commands.chain(bad_headers())) {
        let answers = replicas.each_ref().map(|replica| answer_to_bad(replica, index, &request, &what));
        assert_eq!(answers[0], answers[1], "{what}: the replicas disagree");
        assert!(refused(&answers[0]), "{what}: {:?}", answers[0]);
        assert_eq!(answers[0].verdict(), regionmeta::Verdict::Refused, "{what}");
    }
}

/// What a store has, but for how far the region was applied.
fn but_apply_state(replica: &Running<MemStorage>) -> Dump {
    let mut dump = dump(replica.store.storage());
    dump.retain(|(_, key, _)| *key != apply_state_key(REGION));
    dump
}

/// Sends a bad command with data of the host's, and asserts that nothing but the apply state has changed.
fn answer_to_bad(replica: &Running<MemStorage>, index: u64, request: &AdminRequest, what: &str) -> AdminError {
    let (before, sequence) = (but_apply_state(replica), replica.store.meta().sequence());
    assert!(before.iter().any(|(_, key, _)| *key == region_state_key(REGION)));
    let data = Data::List(vec![Mutation::Put { key: b"zbad".to_vec(), value: b"bad".to_vec() }]);
    // As the log brings it.
    let request = AdminRequest::decode(&request.encode().unwrap()).unwrap();
    replica.send(REGION, Entry::admin(at(index), request.clone(), index).with_data(data));
    let error = match replica.answer().result {
        Err(AnswerError::Refused(error)) => error,
        // The answer names the regions that the proposer should know; the error behind it is the transition's.
        Err(AnswerError::EpochNotMatch { request: epoch, current }) => {
            assert_eq!(current.first().map(Region::id), Some(REGION));
            let (kind, current) = (request.command.kind(), current.into_iter().next().unwrap());
            AdminError::EpochNotMatch { kind, request: epoch, current }
        }
        other => panic!("{what}: {other:?}"),
    };
    assert!(but_apply_state(replica) == before, "{what}: something was written");
    assert_eq!(replica.store.meta().sequence(), sequence, "{what}: something was published");
    assert_eq!(replica.store.apply_state(REGION).applied_index.get(), index, "{what}: it does not count");
    let stored: ApplyState =
        records::read(replica.store.storage(), Family::Raft, &apply_state_key(REGION)).unwrap().unwrap();
    assert_eq!(stored, replica.store.apply_state(REGION), "{what}");
    error
}

/// The request with every byte in turn that may be its type's number made an unknown one; those that say so when read.
fn of_unknown_type(command: AdminCommand) -> Vec<(Vec<u8>, AdminCodecError)> {
    let kind = command.kind() as u8;
    let bytes = AdminRequest { header: AdminHeader::new(REGION, EPOCH), command }.encode().unwrap();
    let unknown = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] = 99;
        let error = AdminRequest::decode(&bytes).err()?;
        matches!(error, AdminCodecError::UnknownKind { number: 99, .. }).then_some((bytes, error))
    };
    (0..bytes.len()).filter(|&at| bytes[at] == kind).filter_map(unknown).collect()
}

/// As a host brings a committed entry: what cannot be read is counted and nothing else, and its error is the proposer's answer.
fn committed<S: Storage>(index: u64, bytes: &[u8]) -> (Entry<S, u64>, Option<AdminCodecError>) {
    match AdminRequest::decode(bytes) {
        Ok(request) => (Entry::admin(at(index), request, index), None),
        Err(error) => (Entry::empty(at(index), index), Some(error)),
    }
}

/// No replica can know what such an entry was to do, and all meet the same bytes: they agree, and go on behind it.
#[test]
fn an_entry_of_an_unknown_type_is_refused_alike_and_counts() {
    let elsewhere = draft(50, "t", "", vec![voter(51, 2)]).build().unwrap();
    let replicas = [replica(1, &[sibling()]), replica(2, &[elsewhere])];
    let mut index = 5;
    for command in of_each_kind() {
        let kind = command.kind();
        let entries = of_unknown_type(command);
        assert!(!entries.is_empty(), "{kind:?}");
        for (bytes, error) in entries {
            index += 1;
            let before = replicas.each_ref().map(but_apply_state);
            let sequences = replicas.each_ref().map(|replica| replica.store.meta().sequence());
            for replica in &replicas {
                let (entry, refused) = committed(index, &bytes);
                assert_eq!(refused.as_ref(), Some(&error), "{kind:?}");
                replica.send(REGION, entry);
                assert_eq!(replica.answer().result.unwrap(), ExecResult::Written, "{kind:?}");
                assert_eq!(replica.store.apply_state(REGION).applied_index.get(), index, "{kind:?}: it does not count");
            }
            assert!(replicas.each_ref().map(but_apply_state) == before, "{kind:?}: something was written");
            assert_eq!(replicas.each_ref().map(|replica| replica.store.meta().sequence()), sequences, "{kind:?}");
        }
    }
    // The next command that can be read is executed by both.
    let next = split_of(&[("f", 30, &[31, 32])]);
    let bytes = AdminRequest { header: AdminHeader::new(REGION, EPOCH), command: next }.encode().unwrap();
    for replica in &replicas {
        replica.send(REGION, committed(index + 1, &bytes).0);
        assert!(matches!(replica.answer().result, Ok(ExecResult::Admin { .. })));
        assert!(replica.store.meta().snapshot().get(30.into()).is_some());
    }
}
