//! Random admin commands on random regions: mostly such as could be meant, 30 % stale and many otherwise bad. Shared with the
//! tests of the packages that apply them.

use std::collections::BTreeMap;

use fastrand::Rng;
use regionmeta::{
    AdminCommand, AdminError, AdminHeader, AdminKind, AdminRequest, ApplyContext, ApplyState, BatchSplit,
    BatchSwitchWitness, ChangeKind, ChangePeerV2, CommitMerge, CompactLog, ComputeHash, FinishFlashback, KeyRange,
    LogEntry, LogPosition, Outcome, Peer, PeerChange, PeerRole, PrepareFlashback, PrepareMerge, Region, RegionDraft,
    RegionEpoch, RollbackMerge, Split, SplitRequest, TargetSeen, TransferLeader, VerifyHash, WitnessSwitch,
};

const STORES: u64 = 5;

/// The regions of a cluster, as every replica of them sees the log.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) regions: BTreeMap<u64, Region>,
    last_id: u64,
    /// The log index of the entry that is being made.
    pub(crate) entry: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let peers = (1..=3).map(|n| Peer::voter((n + 1).into(), n.into())).collect();
        let first = RegionDraft::new(1.into(), KeyRange::ALL, RegionEpoch::INITIAL, peers).build().unwrap();
        Self::over(first, seed)
    }

    /// A world that begins with one region.
    pub(crate) fn over(first: Region, seed: u64) -> Self {
        let id = first.id().get();
        Self { rng: Rng::with_seed(seed), regions: BTreeMap::from([(id, first)]), last_id: 10, entry: 10 }
    }

    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        // Sometimes an id that cannot be, or that is taken.
        if self.rng.u8(..) < 3 { self.rng.u64(0..=self.last_id) } else { self.last_id }
    }

    pub(crate) fn live(&self) -> Vec<Region> {
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
    pub(crate) fn next(&mut self) -> (Region, AdminRequest) {
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
    pub(crate) fn take(&mut self, outcome: &Outcome) {
        for record in outcome.records() {
            self.regions.insert(record.id().get(), record.clone());
        }
        self.last_id = self.last_id.max(self.regions.keys().copied().max().unwrap());
    }
}

pub(crate) fn commit_of(source: &Region, with_entries: bool) -> AdminCommand {
    let merge = source.merge_state().map(|merge| (merge.min_index.get(), merge.commit.get()));
    let (min, commit) = merge.unwrap_or((1, 0));
    let entry = |index: u64| LogEntry { index: index.into(), term: 6.into(), data: vec![7; 3] };
    let entries = if with_entries { (min..=commit).map(entry).collect() } else { vec![] };
    AdminCommand::CommitMerge(CommitMerge { source: source.clone(), commit: commit.into(), entries })
}

/// A store on which no region ever has a peer: nobody's own peer leaves there.
pub(crate) const NOBODY: u64 = STORES + 1;
