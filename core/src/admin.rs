//! Admin commands and their transitions: pure functions from the current region and a command to the regions that replace
//! it, or to a typed refusal. No I/O, no clock, no store: every replica that applies the same command to the same region
//! gets the same answer.
//!
//! One file a command. [`AdminCommand::plan`] makes the checks that all have in common, in this order: the region that was
//! meant, the epoch by the command's row of the table ([`AdminKind::epoch_rule`]), flashback mode, the state of the record.
//! Then the command's own file decides.
//!
//! The store that applies matters in three places only, all of them the spec's: whose peer was removed
//! ([`Outcome::Destroyed`]), whose witness got data to fetch ([`PeerState::Unavailable`]), and whether a witness may
//! truncate its log yet. What a store may lack, and another may have, is no refusal: [`AdminError::verdict`] tells.

mod batch_split;
mod change_peer;
mod change_peer_v2;
mod commit_merge;
mod compact_log;
mod compute_hash;
mod error;
mod finish_flashback;
mod merge;
mod outcome;
mod prepare_flashback;
mod prepare_merge;
mod rollback_merge;
mod split;
mod split_child;
mod switch_witness;
mod transfer_leader;
mod verify_hash;

pub use self::batch_split::{BatchSplit, SplitRequest};
pub use self::change_peer::{ChangeKind, PeerChange};
pub use self::change_peer_v2::{ChangePeerV2, ConfChangeKind, ProposalError};
pub use self::commit_merge::{CommitMerge, LogEntry};
pub use self::compact_log::CompactLog;
pub use self::compute_hash::ComputeHash;
pub use self::error::{AdminError, Verdict};
pub use self::finish_flashback::FinishFlashback;
pub use self::outcome::Outcome;
pub use self::prepare_flashback::PrepareFlashback;
pub use self::prepare_merge::PrepareMerge;
pub use self::rollback_merge::{RollbackMerge, TargetSeen};
pub use self::split::Split;
pub use self::split_child::{ChildDecision, ChildReservation, SplitChild};
pub use self::switch_witness::{BatchSwitchWitness, WitnessSwitch};
pub use self::transfer_leader::TransferLeader;
pub use self::verify_hash::VerifyHash;

use crate::epoch::{AdminKind, EpochHalves, RegionEpoch};
use crate::ids::{LogIndex, RegionId, StoreId, Term};
use crate::mutant::{Mutant, planted};
use crate::peer::PeerState;
use crate::raft::{ApplyState, LogPosition};
use crate::region::Region;

/// A command about region metadata, as one committed log entry carries it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AdminCommand {
    /// One membership change (spec section 5.3).
    ChangePeer(PeerChange),
    /// A split in two, the old form (spec section 5.5).
    Split(Split),
    /// Drops a prefix of the log (spec section 5.9).
    CompactLog(CompactLog),
    /// Hands the leadership over: no change of metadata.
    TransferLeader(TransferLeader),
    /// Begins a consistency check: no change of metadata.
    ComputeHash(ComputeHash),
    /// Ends a consistency check: no change of metadata.
    VerifyHash(VerifyHash),
    /// The source of a merge stops (spec section 5.6).
    PrepareMerge(PrepareMerge),
    /// The target of a merge absorbs its source (spec section 5.7).
    CommitMerge(CommitMerge),
    /// The source of a merge goes on as before (spec section 5.8).
    RollbackMerge(RollbackMerge),
    /// A split into two or more regions (spec section 5.5).
    BatchSplit(BatchSplit),
    /// Membership changes, several at once by joint consensus (spec section 5.4).
    ChangePeerV2(ChangePeerV2),
    /// Flashback mode begins (spec section 5.9).
    PrepareFlashback(PrepareFlashback),
    /// Flashback mode ends (spec section 5.9).
    FinishFlashback(FinishFlashback),
    /// Peers become witnesses, or stop being ones (spec section 5.9).
    BatchSwitchWitness(BatchSwitchWitness),
}

/// What a proposer says about its command.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AdminHeader {
    /// The region that is meant.
    pub region_id: RegionId,
    /// The region's epoch as the proposer knew it. `None` is enough for a command that checks neither half.
    pub epoch: Option<RegionEpoch>,
    /// The proposer's term; 0 if it does not say. It is looked at when a command is proposed, never when it is applied.
    pub term: Term,
    /// Whether the command is part of a flashback: a region in flashback mode takes no others.
    pub flashback: bool,
}

impl AdminHeader {
    /// A command for `region_id` as it was at `epoch`; no term, no flashback.
    #[must_use]
    pub const fn new(region_id: RegionId, epoch: RegionEpoch) -> Self {
        Self { region_id, epoch: Some(epoch), term: Term::new(0), flashback: false }
    }
}

/// A command with its header: what a host puts into its Raft log, as [`encode`](Self::encode) writes it.
///
/// ```
/// use regionmeta::{
///     AdminCommand, AdminHeader, AdminRequest, ApplyContext, ApplyState, ChangeKind, KeyRange, LogPosition, Outcome, Peer,
///     PeerChange, RegionDraft, RegionEpoch,
/// };
///
/// // The leader proposes: store 2 gets a learner.
/// let change = PeerChange { kind: ChangeKind::AddLearner, peer: Peer::learner(4.into(), 2.into()) };
/// let header = AdminHeader::new(1.into(), RegionEpoch::INITIAL);
/// let bytes = AdminRequest { header, command: AdminCommand::ChangePeer(change) }.encode()?;
///
/// // Each replica applies the entry.
/// let peers = vec![Peer::voter(2.into(), 1.into())];
/// let region = RegionDraft::new(1.into(), KeyRange::ALL, RegionEpoch::INITIAL, peers).build()?;
/// let entry = LogPosition { index: 6.into(), term: 6.into() };
/// let context = ApplyContext::new(1.into(), entry, ApplyState::INITIAL);
/// let Outcome::Changed { region, .. } = AdminRequest::decode(&bytes)?.plan(&region, &context)? else {
///     return Err("nobody left".into());
/// };
/// assert_eq!((region.epoch(), region.peers().len()), (RegionEpoch::new(2, 1), 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdminRequest {
    /// Whom it is for.
    pub header: AdminHeader,
    /// What is to be done.
    pub command: AdminCommand,
}

impl AdminRequest {
    /// [`AdminCommand::plan`] with this request's header.
    ///
    /// # Errors
    /// See [`AdminCommand::plan`].
    pub fn plan(&self, current: &Region, context: &ApplyContext<'_>) -> Result<Outcome, AdminError> {
        self.command.plan(&self.header, current, context)
    }
}

/// Where a command is applied: the store, the log, and for CommitMerge the other region.
#[derive(Clone, Copy, Debug)]
pub struct ApplyContext<'a> {
    /// The store that applies.
    pub store_id: StoreId,
    /// The command's own log entry.
    pub entry: LogPosition,
    /// The apply state of the region as the entry before left it.
    pub apply_state: ApplyState,
    /// CommitMerge only: the source's record as this store has it now, a tombstone included.
    pub merge_source: Option<&'a Region>,
}

impl<'a> ApplyContext<'a> {
    /// For every command but CommitMerge.
    #[must_use]
    pub const fn new(store_id: StoreId, entry: LogPosition, apply_state: ApplyState) -> Self {
        Self { store_id, entry, apply_state, merge_source: None }
    }

    /// With the source of a CommitMerge, as this store has it.
    #[must_use]
    pub const fn with_merge_source(self, source: &'a Region) -> Self {
        Self { merge_source: Some(source), ..self }
    }

    /// The first log index that was not truncated.
    fn first_index(&self) -> LogIndex {
        self.apply_state.truncated.index.next().unwrap_or(LogIndex::new(u64::MAX))
    }
}

impl AdminCommand {
    /// Which command this is.
    #[must_use]
    pub const fn kind(&self) -> AdminKind {
        match self {
            Self::ChangePeer(_) => AdminKind::ChangePeer,
            Self::Split(_) => AdminKind::Split,
            Self::CompactLog(_) => AdminKind::CompactLog,
            Self::TransferLeader(_) => AdminKind::TransferLeader,
            Self::ComputeHash(_) => AdminKind::ComputeHash,
            Self::VerifyHash(_) => AdminKind::VerifyHash,
            Self::PrepareMerge(_) => AdminKind::PrepareMerge,
            Self::CommitMerge(_) => AdminKind::CommitMerge,
            Self::RollbackMerge(_) => AdminKind::RollbackMerge,
            Self::BatchSplit(_) => AdminKind::BatchSplit,
            Self::ChangePeerV2(_) => AdminKind::ChangePeerV2,
            Self::PrepareFlashback(_) => AdminKind::PrepareFlashback,
            Self::FinishFlashback(_) => AdminKind::FinishFlashback,
            Self::BatchSwitchWitness(_) => AdminKind::BatchSwitchWitness,
        }
    }

    /// Decides what this command makes of `current`. For a merge `current` is the source of PrepareMerge and RollbackMerge,
    /// and the target of CommitMerge.
    ///
    /// Pure and deterministic. Costs the building of each resulting region, and one comparison of the epoch if it is
    /// refused.
    ///
    /// # Errors
    /// [`AdminError`]: the command is for another region, the epoch does not match by the command's row of the table (a
    /// request from the future is refused too), the region is in no state to take it, or the command's own conditions do
    /// not hold. [`AdminError::verdict`] says whether the entry counts as applied.
    pub fn plan(
        &self,
        header: &AdminHeader,
        current: &Region,
        context: &ApplyContext<'_>,
    ) -> Result<Outcome, AdminError> {
        self.check_header(header, current)?;
        self.check_state(current)?;
        match self {
            Self::ChangePeer(change) => change_peer::plan(current, *change, context),
            Self::Split(split) => split::plan(current, split),
            Self::CompactLog(compact) => compact_log::plan(current, compact, context),
            Self::TransferLeader(_) | Self::ComputeHash(_) | Self::VerifyHash(_) => Ok(Outcome::Unchanged),
            Self::PrepareMerge(merge) => prepare_merge::plan(current, merge, context),
            Self::CommitMerge(merge) => commit_merge::plan(current, merge, context),
            Self::RollbackMerge(merge) => rollback_merge::plan(current, *merge),
            Self::BatchSplit(split) => batch_split::plan(current, split),
            Self::ChangePeerV2(changes) => change_peer_v2::plan(current, changes, context),
            Self::PrepareFlashback(flashback) => prepare_flashback::plan(current, *flashback),
            Self::FinishFlashback(FinishFlashback) => finish_flashback::plan(current),
            Self::BatchSwitchWitness(switches) => switch_witness::plan(current, switches, context),
        }
    }

    fn check_header(&self, header: &AdminHeader, current: &Region) -> Result<(), AdminError> {
        if header.region_id != current.id() {
            return Err(AdminError::OtherRegion { region: current.id(), request: header.region_id });
        }
        let (kind, checks) = (self.kind(), self.kind().epoch_rule().checks);
        if checks != EpochHalves::NONE {
            let current = current.clone();
            let Some(request) = header.epoch else { return Err(AdminError::MissingEpoch { kind, current }) };
            let is_ahead = planted(Mutant::M2) && !request.is_behind_any(current.epoch());
            if !request.matches(current.epoch(), checks) && !is_ahead {
                return Err(AdminError::EpochNotMatch { kind, request, current });
            }
        }
        match kind {
            // The two flashback commands pass always (spec section 7.2).
            AdminKind::PrepareFlashback | AdminKind::FinishFlashback => Ok(()),
            _ => current.check_flashback(header.flashback),
        }
    }

    /// A region that merges only takes what leaves it as it is, and what ends the merge (spec section 7.2).
    fn check_state(&self, current: &Region) -> Result<(), AdminError> {
        let (region, state, kind) = (current.id(), current.state(), self.kind());
        let takes = match kind {
            AdminKind::RollbackMerge => state == PeerState::Merging,
            AdminKind::CompactLog | AdminKind::TransferLeader | AdminKind::ComputeHash | AdminKind::VerifyHash => {
                matches!(state, PeerState::Normal | PeerState::Merging)
            }
            _ => state == PeerState::Normal,
        };
        if takes { Ok(()) } else { Err(AdminError::WrongState { region, state, kind }) }
    }
}

impl Region {
    /// Whether the region takes a command or a write that is part of a flashback, or is not: in flashback mode it takes
    /// nothing else, and out of it none (spec section 7.2). O(1).
    ///
    /// # Errors
    /// [`AdminError::FlashbackInProgress`], [`AdminError::FlashbackNotPrepared`].
    pub fn check_flashback(&self, is_flashback: bool) -> Result<(), AdminError> {
        let region = self.id();
        match (self.flashback_start_ts(), is_flashback) {
            (Some(start_ts), false) => Err(AdminError::FlashbackInProgress { region, start_ts }),
            (None, true) => Err(AdminError::FlashbackNotPrepared { region }),
            _ => Ok(()),
        }
    }
}
