//! What the tests apply: every command, an ordinary write, and the removal of this store's peer, each to a region that has a
//! neighbour and a partner to merge with.

use regionmeta::layout::raft_state_key;
use regionmeta::{
    AdminCommand, AdminHeader, AdminKind, AdminRequest, BatchSwitchWitness, ChangeKind, ChangePeerV2, CommitMerge,
    CompactLog, ComputeHash, FinishFlashback, HardState, LogPosition, PeerChange, PrepareFlashback, PrepareMerge,
    RaftState, Region, RegionId, RollbackMerge, Split, SplitRequest, TransferLeader, VerifyHash, WitnessSwitch,
};
use regionmeta_batch::apply::{Data, Entry, Mutation};
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::storage::{Family, Storage};
use regionmeta_batch::{Store, records};

use crate::common::{CLUSTER, add, add_learner, at, builder, learner, remove, split, voter};

/// Every command, an ordinary write, and the removal of this store's peer.
pub(crate) const CASES: [&str; 16] = [
    "write",
    "ChangePeer",
    "Destroy",
    "Split",
    "CompactLog",
    "TransferLeader",
    "ComputeHash",
    "VerifyHash",
    "PrepareMerge",
    "CommitMerge",
    "RollbackMerge",
    "BatchSplit",
    "ChangePeerV2",
    "PrepareFlashback",
    "FinishFlashback",
    "BatchSwitchWitness",
];

#[test]
fn the_cases_have_every_command() {
    for kind in AdminKind::ALL {
        assert!(CASES.contains(&&*format!("{kind:?}")), "{kind:?}");
    }
}

/// A case, the region that it is applied to, and the one that this one merges with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) region: RegionId,
    pub(crate) partner: RegionId,
}

/// Three regions in a row, each with peers on stores 1 and 2.
pub(crate) const NEAR: RegionId = RegionId::new(2);
pub(crate) const MAIN: RegionId = RegionId::new(10);
pub(crate) const PARTNER: RegionId = RegionId::new(50);

pub(crate) fn in_the_middle(name: &str) -> Case {
    let name = CASES.into_iter().find(|case| *case == name).unwrap_or("five changes");
    Case { name, region: MAIN, partner: PARTNER }
}

/// A store with the three regions.
pub(crate) fn three_regions<S: Storage>(storage: S) -> Store<S> {
    let store = builder().bootstrap_storage(storage, &EmbeddedPd::new(CLUSTER)).unwrap();
    apply(&store, NEAR, &add(voter(4, 2)));
    apply(&store, NEAR, &split("m", 10, &[11, 12]));
    apply(&store, MAIN, &split("t", 50, &[51, 52]));
    store
}

/// What must have happened before a case. It may be refused when another case was prepared before; then the case will be
/// refused as well.
pub(crate) fn prepare<S: Storage>(store: &Store<S>, case: Case) {
    let Case { name, region, partner } = case;
    match name {
        "CommitMerge" => apply(store, partner, &prepare_merge(store, partner, region)),
        "RollbackMerge" => apply(store, region, &prepare_merge(store, region, partner)),
        "FinishFlashback" => apply(store, region, &AdminCommand::PrepareFlashback(PrepareFlashback { start_ts: 9 })),
        "CompactLog" => {
            let mut batch = store.begin();
            (0..2).for_each(|more| drop(batch.advance(region, at(next(store, region) + more)).unwrap()));
            // The host's log, which the truncation must not overtake.
            let last_index = (batch.applied_index(region).get() + 9).into();
            let hard_state = HardState { term: 6.into(), vote: 0.into(), commit: last_index };
            let log = RaftState { hard_state, last_index };
            records::put(store.storage(), batch.data(), Family::Raft, &raft_state_key(region), &log).unwrap();
            batch.commit().unwrap();
        }
        _ => {}
    }
}

fn apply<S: Storage>(store: &Store<S>, id: RegionId, command: &AdminCommand) {
    let mut batch = store.begin();
    let applied = batch.apply(id, at(next(store, id)), find(store, id).epoch(), command);
    assert!(applied.as_ref().map_or_else(|error| error.counts(), |_| true), "{applied:?}");
    batch.commit().unwrap();
}

pub(crate) fn find<S: Storage>(store: &Store<S>, id: RegionId) -> Region {
    store.meta().snapshot().get(id).unwrap().region().clone()
}

pub(crate) fn next<S: Storage>(store: &Store<S>, id: RegionId) -> u64 {
    store.apply_state(id).applied_index.get() + 1
}

fn prepare_merge<S: Storage>(store: &Store<S>, source: RegionId, target: RegionId) -> AdminCommand {
    AdminCommand::PrepareMerge(PrepareMerge { target: find(store, target), min_index: next(store, source).into() })
}

/// What a case applies; `None` for an ordinary write.
fn command<S: Storage>(store: &Store<S>, case: Case) -> Option<AdminCommand> {
    let Case { name, region, partner } = case;
    // Ids that no other region's case uses.
    let id = |offset: u64| 1_000 * region.get() + offset;
    let peers: Vec<_> = find(store, region).peers().collect();
    let (own, other) = (peers[0], peers[1]);
    let merge_of = |region: &Region| region.merge_state().map_or(7.into(), |merge| merge.commit);
    let key = String::from_utf8(find(store, region).start_key().to_vec()).unwrap() + "f";
    let request = SplitRequest {
        split_key: key.clone().into_bytes(),
        new_region_id: id(30).into(),
        new_peer_ids: vec![id(31).into(), id(32).into()],
    };
    let change = |kind, peer| PeerChange { kind, peer };
    Some(match name {
        "write" => return None,
        "ChangePeer" => add_learner(learner(id(40), 3)),
        "Destroy" => remove(own),
        "Split" => AdminCommand::Split(Split { request, right_derive: true, shares_size: false }),
        "CompactLog" => {
            let compact = LogPosition { index: (next(store, region) - 2).into(), term: 6.into() };
            let voter_replicated_index = (next(store, region) - 1).into();
            AdminCommand::CompactLog(CompactLog { compact, voter_replicated_index })
        }
        "TransferLeader" => AdminCommand::TransferLeader(TransferLeader { transferees: vec![other] }),
        "ComputeHash" => AdminCommand::ComputeHash(ComputeHash { context: Vec::new() }),
        "VerifyHash" => AdminCommand::VerifyHash(VerifyHash { index: 6.into(), hash: vec![1], context: Vec::new() }),
        "PrepareMerge" => prepare_merge(store, region, partner),
        "CommitMerge" => {
            let source = find(store, partner);
            AdminCommand::CommitMerge(CommitMerge { commit: merge_of(&source), source, entries: Vec::new() })
        }
        "RollbackMerge" => AdminCommand::RollbackMerge(RollbackMerge { commit: merge_of(&find(store, region)) }),
        "BatchSplit" => split(&key, id(30), &[id(31), id(32)]),
        "ChangePeerV2" => {
            let demoted = regionmeta::Peer { role: regionmeta::PeerRole::Learner, ..other };
            let changes = vec![change(ChangeKind::AddLearner, demoted), change(ChangeKind::AddNode, voter(id(40), 3))];
            AdminCommand::ChangePeerV2(ChangePeerV2 { changes })
        }
        "PrepareFlashback" => AdminCommand::PrepareFlashback(PrepareFlashback { start_ts: 9 }),
        "FinishFlashback" => AdminCommand::FinishFlashback(FinishFlashback),
        "BatchSwitchWitness" => {
            let switches = vec![WitnessSwitch { peer_id: other.id, is_witness: true }];
            AdminCommand::BatchSwitchWitness(BatchSwitchWitness { switches })
        }
        other => panic!("no such case: {other}"),
    })
}

/// The entry of a case, with data of the host's.
pub(crate) fn entry<S: Storage, T>(store: &Store<S>, case: Case, tag: T) -> Entry<S, T> {
    let (key, value) = (host_key(case.region), case.name.as_bytes().to_vec());
    let data = Data::List(vec![Mutation::Put { key, value }]);
    let (position, epoch) = (at(next(store, case.region)), find(store, case.region).epoch());
    match command(store, case) {
        None => Entry::write(position, epoch, data, tag),
        Some(command) => {
            let header = AdminHeader::new(case.region, epoch);
            Entry::admin(position, AdminRequest { header, command }, tag).with_data(data)
        }
    }
}

pub(crate) fn host_key(region: RegionId) -> Vec<u8> {
    format!("host{region}").into_bytes()
}

/// What a case sends: one entry, or five changes of one region.
pub(crate) fn entries<S: Storage, T: Clone>(store: &Store<S>, case: Case, tag: &T) -> Vec<Entry<S, T>> {
    if case.name != "five changes" {
        return vec![entry(store, case, tag.clone())];
    }
    let (first, epoch) = (next(store, case.region), find(store, case.region).epoch());
    let changes = [
        (0, add_learner(learner(40, 3))),
        (1, add(voter(40, 3))),
        (2, add_learner(learner(41, 4))),
        (3, remove(learner(41, 4))),
        (4, split("p", 30, &[31, 32, 33])),
    ];
    let entry = |(number, command)| {
        let epoch = epoch.with_conf_ver_moved(number).unwrap();
        let request = AdminRequest { header: AdminHeader::new(case.region, epoch), command };
        let put = Mutation::Put { key: host_key(case.region), value: number.to_string().into_bytes() };
        Entry::admin(at(first + number), request, tag.clone()).with_data(Data::List(vec![put]))
    };
    changes.into_iter().map(entry).collect()
}
