//! [`Proposal`]: an operator of PD's that was held against the region it speaks of, ready for the host to propose.

use regionmeta::{
    AdminCommand, AdminError, AdminHeader, AdminKind, AdminRequest, ApplyContext, ApplyState, BatchSplit, ChangePeerV2,
    KeyBuf, LogPosition, Peer, PrepareMerge, ProposalError, Region, RegionEpoch, RegionId, Snapshot, SplitRequest,
    StoreId, TransferLeader,
};

use super::{AnswerError, HeartbeatResponse, Operator, PdClient, PdError, SplitPolicy, check};

/// What a host is to put into its Raft log, or to find out first.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Proposal {
    /// A command as it is to be proposed.
    Admin(AdminRequest),
    /// A PrepareMerge. The host knows the log index from which some replica may lack entries, and whether all are near.
    Merge {
        /// The source.
        header: AdminHeader,
        /// The target, as PD knows it.
        target: Region,
    },
    /// A split. The host finds the keys where there are none, and asks PD for ids: [`Proposal::split`].
    Split {
        /// The region.
        header: AdminHeader,
        /// How the keys are found.
        policy: SplitPolicy,
        /// The keys, ascending and inside of the region, if PD has named them.
        keys: Vec<Vec<u8>>,
    },
}

/// Where proposals go.
pub trait OperatorHost: Send {
    /// PD wants this done. Called on the thread that receives, which waits meanwhile. Whether it is done is the host's
    /// business: PD sees it in a later heartbeat, and asks again if not.
    fn propose(&self, proposal: Proposal);

    /// PD wanted something that does not fit the region. It has been logged already, and needs no answer.
    fn refused(&self, response: &HeartbeatResponse, error: &OperatorError) {
        let _ = (response, error);
    }
}

/// Why an operator was not handed to the host.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum OperatorError {
    #[error("PD speaks of region {region}, which has no peer here")]
    UnknownRegion { region: RegionId },
    #[error("PD speaks of region {region} to peer {target}, the peer here is {own}")]
    OtherPeer { region: RegionId, target: Peer, own: Peer },
    #[error("PD speaks of region {region}, which this store does not lead")]
    NotLeader { region: RegionId },
    #[error("PD knows region {region} at {pd}, it is at {current}: the command is not for this version")]
    Epoch { region: RegionId, pd: RegionEpoch, current: RegionEpoch },
    #[error("region {region} is to be split at {key}, which is not inside of it")]
    SplitKeyOutside { region: RegionId, key: KeyBuf },
    #[error("region {region} is to be led by {peer}, which it does not have")]
    UnknownTransferee { region: RegionId, peer: Peer },
    #[error("region {region} is to be merged into {target}, but this store has it at {current}")]
    MergeTarget { region: RegionId, target: Region, current: RegionEpoch },
    #[error(transparent)]
    Invalid(#[from] AnswerError),
    #[error(transparent)]
    Refused(#[from] AdminError),
    #[error(transparent)]
    NotProposed(#[from] ProposalError),
}

impl OperatorError {
    /// What kind of refusal it is, for a log that says each kind once.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::UnknownRegion { .. } => "operator for an unknown region",
            Self::OtherPeer { .. } => "operator for another peer",
            Self::NotLeader { .. } => "operator for a follower",
            Self::Epoch { .. } => "operator for another epoch",
            _ => "operator that does not fit",
        }
    }
}

impl Proposal {
    /// Holds a response against the region as it is in `snapshot`, on `store`, which `leads` it or not. `None` for a sign of
    /// life.
    ///
    /// # Errors
    /// [`OperatorError`]. PD asks again after the next heartbeat, with what it knows by then.
    pub fn from_response(
        snapshot: &Snapshot,
        store: StoreId,
        leads: bool,
        response: &HeartbeatResponse,
    ) -> Result<Option<Self>, OperatorError> {
        check::response(response)?;
        let Some(operator) = &response.operator else { return Ok(None) };
        let region = response.region_id;
        let unknown = OperatorError::UnknownRegion { region };
        let current = snapshot.get(region).ok_or_else(|| unknown.clone())?.region();
        let own = current.peer_on(store).ok_or(unknown)?;
        let target = response.target_peer;
        if (target.id, target.store_id) != (own.id, own.store_id) {
            return Err(OperatorError::OtherPeer { region, target, own });
        }
        if !leads {
            return Err(OperatorError::NotLeader { region });
        }
        check_epoch(current, response.epoch, operator)?;
        convert(snapshot, current, own, response.epoch, operator).map(Some)
    }

    /// A split of `region` at `keys`, with ids from PD. The keys were checked, or are the host's own. Each part counts as an
    /// equal share of the region's size until it is measured.
    ///
    /// # Errors
    /// [`PdError`].
    pub fn split(
        pd: &dyn PdClient,
        region: &Region,
        keys: Vec<Vec<u8>>,
        right_derive: bool,
    ) -> Result<AdminRequest, PdError> {
        check::split_keys(region.id(), &keys)?;
        let ids = super::Checked::new(pd).ask_batch_split(region, keys.len())?;
        let requests = keys.into_iter().zip(ids).map(|(split_key, ids)| SplitRequest {
            split_key,
            new_region_id: ids.region_id,
            new_peer_ids: ids.peer_ids,
        });
        let command =
            AdminCommand::BatchSplit(BatchSplit { requests: requests.collect(), right_derive, shares_size: true });
        Ok(AdminRequest { header: AdminHeader::new(region.id(), region.epoch()), command })
    }
}

/// PD must not be behind, and where the command checks a half of the epoch it must know exactly that one.
fn check_epoch(current: &Region, pd: RegionEpoch, operator: &Operator) -> Result<(), OperatorError> {
    let kind = match operator {
        Operator::ChangePeer(_) => AdminKind::ChangePeer,
        Operator::ChangePeerV2(_) => AdminKind::ChangePeerV2,
        Operator::TransferLeader { .. } => AdminKind::TransferLeader,
        Operator::Split { .. } => AdminKind::BatchSplit,
        Operator::Merge { .. } => AdminKind::PrepareMerge,
        Operator::SwitchWitnesses(_) => AdminKind::BatchSwitchWitness,
    };
    let now = current.epoch();
    if pd.is_behind_any(now) || !pd.matches(now, kind.epoch_rule().checks) {
        return Err(OperatorError::Epoch { region: current.id(), pd, current: now });
    }
    Ok(())
}

fn convert(
    snapshot: &Snapshot,
    current: &Region,
    own: Peer,
    epoch: RegionEpoch,
    operator: &Operator,
) -> Result<Proposal, OperatorError> {
    let header = AdminHeader::new(current.id(), epoch);
    let admin = |command| {
        let request = AdminRequest { header, command };
        rehearse(&request, current, own)?;
        Ok(Proposal::Admin(request))
    };
    match operator {
        Operator::ChangePeer(change) => {
            ChangePeerV2 { changes: vec![*change] }.check_proposal(current, own.id, false)?;
            admin(AdminCommand::ChangePeer(*change))
        }
        Operator::ChangePeerV2(change) => {
            change.check_proposal(current, own.id, false)?;
            admin(AdminCommand::ChangePeerV2(change.clone()))
        }
        Operator::TransferLeader { peers } => {
            if let Some(&peer) = peers.iter().find(|&&peer| !current.peers().any(|known| known == peer)) {
                return Err(OperatorError::UnknownTransferee { region: current.id(), peer });
            }
            admin(AdminCommand::TransferLeader(TransferLeader { transferees: peers.clone() }))
        }
        Operator::SwitchWitnesses(switch) => admin(AdminCommand::BatchSwitchWitness(switch.clone())),
        Operator::Split { policy, keys } => {
            check_inside(current, keys)?;
            Ok(Proposal::Split { header, policy: *policy, keys: keys.clone() })
        }
        Operator::Merge { target } => merge(snapshot, current, own, header, target),
    }
}

fn check_inside(current: &Region, keys: &[Vec<u8>]) -> Result<(), OperatorError> {
    match keys.iter().find(|key| !current.range().contains_inside(key)) {
        Some(key) => Err(OperatorError::SplitKeyOutside { region: current.id(), key: key.as_slice().into() }),
        None => Ok(()),
    }
}

fn merge(
    snapshot: &Snapshot,
    current: &Region,
    own: Peer,
    header: AdminHeader,
    target: &Region,
) -> Result<Proposal, OperatorError> {
    let here = snapshot.get(target.id()).map(|entry| entry.region().epoch()).unwrap_or_default();
    if here != target.epoch() {
        return Err(OperatorError::MergeTarget { region: current.id(), target: target.clone(), current: here });
    }
    let command = AdminCommand::PrepareMerge(PrepareMerge { target: target.clone(), min_index: REHEARSAL.index });
    rehearse(&AdminRequest { header, command }, current, own)?;
    Ok(Proposal::Merge { header, target: target.clone() })
}

/// An entry that could be the next one of a fresh log.
const REHEARSAL: LogPosition = LogPosition { index: regionmeta::LogIndex::new(6), term: regionmeta::Term::new(6) };

/// A command that every replica would refuse is not worth an entry of the log. Nothing comes of the outcome.
fn rehearse(request: &AdminRequest, current: &Region, own: Peer) -> Result<(), OperatorError> {
    let context = ApplyContext::new(own.store_id, REHEARSAL, ApplyState::INITIAL);
    request.plan(current, &context)?;
    Ok(())
}
