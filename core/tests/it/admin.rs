//! T1 for the transitions: random commands on random regions, 30 % of them stale and many otherwise bad, against the naive
//! oracle; and after each step the promises that need no oracle: the epoch law (I3), the tiling (I1), joint consensus, and
//! agreement of all stores.

use std::collections::BTreeMap;

use fastrand::Rng;
use regionmeta::{
    AdminCommand, AdminError, AdminHeader, AdminKind, AdminRequest, ApplyContext, ApplyState, BatchSplit,
    BatchSwitchWitness, ChangeKind, ChangePeerV2, Changeset, CommitMerge, CompactLog, ComputeHash, FinishFlashback,
    KeyRange, LogEntry, LogPosition, Outcome, Peer, PeerChange, PeerRole, PeerState, PrepareFlashback, PrepareMerge,
    Region, RegionDraft, RegionEpoch, Removal, RollbackMerge, Split, SplitRequest, StoreMeta, TargetSeen,
    TransferLeader, Verdict, VerifyHash, WitnessSwitch,
};

use crate::admin_oracle::{self, Plain};
use crate::seed;

const HISTORIES: usize = 100;
const STEPS: usize = 200;
const STORES: u64 = 5;

/// The regions of a cluster, as every replica of them sees the log.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) regions: BTreeMap<u64, Region>,
    last_id: u64,
    entry: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let peers = (1..=3).map(|n| Peer::voter((n + 1).into(), n.into())).collect();
        let first = RegionDraft::new(1.into(), KeyRange::ALL, RegionEpoch::INITIAL, peers).build().unwrap();
        Self { rng: Rng::with_seed(seed), regions: BTreeMap::from([(1, first)]), last_id: 10, entry: 10 }
    }

    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        // Sometimes an id that cannot be, or that is taken.
        if self.rng.u8(..) < 3 { self.rng.u64(0..=self.last_id) } else { self.last_id }
    }

    fn live(&self) -> Vec<Region> {
        let mut live: Vec<_> = self.regions.values().filter(|region| region.state().is_live()).cloned().collect();
        live.sort_by(|a, b| a.start_key().cmp(b.start_key()));
        live
    }

    /// A region and a request for it: mostly one that could be meant.
    pub(crate) fn request(&mut self) -> (Region, AdminRequest) {
        let live = self.live();
        let region = self.rng.choice(live).unwrap();
        let command = self.command(&region);
        let stale = |rng: &mut Rng, half: u64| if rng.bool() { half + 1 } else { half.saturating_sub(1) };
        let mut epoch = region.epoch();
        let mut header = AdminHeader::new(region.id(), epoch);
        if self.rng.u8(0..10) < 3 {
            let half = if self.rng.bool() { &mut epoch.version } else { &mut epoch.conf_ver };
            *half = stale(&mut self.rng, *half);
            header.epoch = Some(epoch).filter(|_| self.rng.u8(0..8) > 0);
        }
        header.flashback = region.flashback_start_ts().is_some() != (self.rng.u8(0..16) == 0);
        if self.rng.u8(0..40) == 0 {
            header.region_id = self.new_id().into();
        }
        (region, AdminRequest { header, command })
    }

    /// Now and then the end of a merge that waits for it, or the world would stand still; else anything.
    fn next(&mut self) -> (Region, AdminRequest) {
        let due = if self.rng.u8(0..24) == 0 { self.end_of_merge() } else { None };
        due.unwrap_or_else(|| self.request())
    }

    /// The next request, after which the world is as if it was applied.
    pub(crate) fn request_and_go_on(&mut self) -> AdminRequest {
        let (region, request) = self.next();
        self.entry += 1;
        if let Ok(outcome) = self.plan(NOBODY, &request, &region) {
            self.take(&outcome);
        }
        request
    }

    fn command(&mut self, region: &Region) -> AdminCommand {
        if region.flashback_start_ts().is_some() && self.rng.bool() {
            return AdminCommand::FinishFlashback(FinishFlashback);
        }
        let is_joint = region.peers().any(|peer| peer.role.is_joint());
        let kind = match self.rng.choice(AdminKind::ALL).unwrap() {
            // What the most others need to be there, in the place of what changes the least.
            AdminKind::ComputeHash | AdminKind::TransferLeader if self.rng.bool() => AdminKind::Split,
            AdminKind::PrepareFlashback | AdminKind::CompactLog if self.rng.bool() => AdminKind::PrepareMerge,
            kind => kind,
        };
        match kind {
            AdminKind::ChangePeer => AdminCommand::ChangePeer(self.change(region)),
            AdminKind::ChangePeerV2 => {
                let count = if is_joint { 0 } else { self.rng.usize(0..=4) };
                let changes = (0..count).map(|_| self.change(region)).collect();
                AdminCommand::ChangePeerV2(ChangePeerV2 { changes })
            }
            AdminKind::Split => AdminCommand::Split(Split {
                request: self.split(region),
                right_derive: self.rng.bool(),
                shares_size: self.rng.bool(),
            }),
            AdminKind::BatchSplit => {
                let mut requests: Vec<_> = (0..self.rng.usize(0..=3)).map(|_| self.split(region)).collect();
                if self.rng.u8(0..5) > 0 {
                    requests.sort_by(|a, b| a.split_key.cmp(&b.split_key));
                }
                AdminCommand::BatchSplit(BatchSplit {
                    requests,
                    right_derive: self.rng.bool(),
                    shares_size: self.rng.bool(),
                })
            }
            AdminKind::PrepareMerge => {
                let target = self.neighbour(region);
                let min_index = (self.entry + 2).saturating_sub(self.rng.u64(0..5)).into();
                AdminCommand::PrepareMerge(PrepareMerge { target, min_index })
            }
            AdminKind::CommitMerge => self.commit(region),
            AdminKind::RollbackMerge => {
                AdminCommand::RollbackMerge(RollbackMerge { commit: self.rng.u64(0..=self.entry).into() })
            }
            AdminKind::CompactLog => {
                let compact = LogPosition { index: self.rng.u64(0..=self.entry).into(), term: 6.into() };
                AdminCommand::CompactLog(CompactLog { compact, voter_replicated_index: self.rng.u64(0..100).into() })
            }
            AdminKind::BatchSwitchWitness => {
                let switches = (0..self.rng.usize(0..=2)).map(|_| self.switch(region)).collect();
                AdminCommand::BatchSwitchWitness(BatchSwitchWitness { switches })
            }
            AdminKind::PrepareFlashback => {
                AdminCommand::PrepareFlashback(PrepareFlashback { start_ts: self.rng.u64(0..9) })
            }
            AdminKind::FinishFlashback => AdminCommand::FinishFlashback(FinishFlashback),
            AdminKind::TransferLeader => {
                AdminCommand::TransferLeader(TransferLeader { transferees: region.peers().collect() })
            }
            AdminKind::ComputeHash => AdminCommand::ComputeHash(ComputeHash { context: self.key() }),
            AdminKind::VerifyHash => {
                let (index, hash) = (self.entry.into(), self.key());
                AdminCommand::VerifyHash(VerifyHash { index, hash, context: vec![] })
            }
        }
    }

    fn key(&mut self) -> Vec<u8> {
        match self.rng.u8(0..=16) {
            0 => vec![],
            n => vec![b'k', n],
        }
    }

    fn split(&mut self, region: &Region) -> SplitRequest {
        let peers = region.peers().len() + usize::from(self.rng.u8(0..20) == 0);
        let new_peer_ids = (0..peers).map(|_| self.new_id().into()).collect();
        SplitRequest { split_key: self.key(), new_region_id: self.new_id().into(), new_peer_ids }
    }

    fn change(&mut self, region: &Region) -> PeerChange {
        let kinds = [ChangeKind::AddNode, ChangeKind::AddLearner, ChangeKind::RemoveNode];
        let kind = self.rng.choice(kinds).unwrap();
        let mut peer = match self.rng.u8(0..3) {
            0 => Peer::voter(self.new_id().into(), self.rng.u64(1..=STORES).into()),
            _ => self.rng.choice(region.peers().collect::<Vec<_>>()).unwrap(),
        };
        if self.rng.u8(0..12) == 0 {
            peer.role = PeerRole::Learner;
        }
        peer.is_witness ^= self.rng.u8(0..16) == 0;
        PeerChange { kind, peer }
    }

    fn switch(&mut self, region: &Region) -> WitnessSwitch {
        let peer = self.rng.choice(region.peers().collect::<Vec<_>>()).unwrap();
        let peer_id = if self.rng.u8(0..8) == 0 { self.new_id().into() } else { peer.id };
        WitnessSwitch { peer_id, is_witness: peer.is_witness == (self.rng.u8(0..6) == 0) }
    }

    /// One side's neighbour, or sometimes any region, made to have peers on the same stores if it has others.
    fn neighbour(&mut self, region: &Region) -> Region {
        let live = self.live();
        let beside: Vec<_> = live
            .iter()
            .filter(|other| region.range().touches(other.range()) || other.range().touches(region.range()))
            .collect();
        match self.rng.choice(beside).filter(|_| self.rng.u8(0..8) > 0) {
            Some(beside) => beside.clone(),
            None => self.rng.choice(live).unwrap(),
        }
    }

    fn commit(&mut self, target: &Region) -> AdminCommand {
        let sources: Vec<_> = self.live().into_iter().filter(|region| region.merge_state().is_some()).collect();
        let source = self.rng.choice(sources).unwrap_or_else(|| target.clone());
        commit_of(&source, self.rng.bool())
    }

    /// The request that ends a merge, if one waits for its end: a rollback if its target has moved, else the commit.
    fn end_of_merge(&self) -> Option<(Region, AdminRequest)> {
        let request = |region: &Region, command| {
            let flashback = region.flashback_start_ts().is_some();
            let header = AdminHeader { flashback, ..AdminHeader::new(region.id(), region.epoch()) };
            (region.clone(), AdminRequest { header, command })
        };
        self.live().into_iter().find_map(|source| {
            let target = self.regions.get(&source.merge_state()?.target.id().get())?;
            Some(match RollbackMerge::wanted(&source, TargetSeen::Here(target)) {
                Some(rollback) => request(&source, AdminCommand::RollbackMerge(rollback)),
                None => request(target, commit_of(&source, true)),
            })
        })
    }

    pub(crate) fn plan(&self, store: u64, request: &AdminRequest, current: &Region) -> Result<Outcome, AdminError> {
        let applied = ApplyState { applied_index: (self.entry - 1).into(), ..ApplyState::INITIAL };
        let entry = LogPosition { index: self.entry.into(), term: 6.into() };
        let context = ApplyContext::new(store.into(), entry, applied);
        match &request.command {
            AdminCommand::CommitMerge(merge) => {
                request.plan(current, &context.with_merge_source(&self.regions[&merge.source.id().get()]))
            }
            _ => request.plan(current, &context),
        }
    }

    /// Takes the records as a replica keeps them whose own peer neither leaves nor waits for data: the group's view.
    fn take(&mut self, outcome: &Outcome) {
        for record in outcome.records() {
            self.regions.insert(record.id().get(), record.clone());
        }
        self.last_id = self.last_id.max(self.regions.keys().copied().max().unwrap());
    }
}

fn commit_of(source: &Region, with_entries: bool) -> AdminCommand {
    let merge = source.merge_state().map(|merge| (merge.min_index.get(), merge.commit.get()));
    let (min, commit) = merge.unwrap_or((1, 0));
    let entry = |index: u64| LogEntry { index: index.into(), term: 6.into(), data: vec![7; 3] };
    let entries = if with_entries { (min..=commit).map(entry).collect() } else { vec![] };
    AdminCommand::CommitMerge(CommitMerge { source: source.clone(), commit: commit.into(), entries })
}

/// A store on which no region ever has a peer: nobody's own peer leaves there.
const NOBODY: u64 = STORES + 1;

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
