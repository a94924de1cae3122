//! ChangePeerV2: membership changes, several at once by joint consensus (spec section 5.4).

use std::collections::HashSet;

use super::merge::joint_peer;
use super::{AdminError, ApplyContext, ChangeKind, Outcome, PeerChange, change_peer};
use crate::ids::{PeerId, RegionId};
use crate::peer::{Peer, PeerRole};
use crate::region::Region;

/// Membership changes. Their number says what they are: [`kind`](Self::kind).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangePeerV2 {
    /// None: leave the joint state. One: a simple change. More: enter the joint state.
    pub changes: Vec<PeerChange>,
}

/// What the number of changes means.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ConfChangeKind {
    /// One change takes effect at once.
    Simple,
    /// Several changes: until the joint state is left, both the old and the new voters decide.
    EnterJoint,
    /// The new voters alone decide from now on.
    LeaveJoint,
}

/// Why a leader must not even propose a change that could be applied (spec section 5.4).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum ProposalError {
    #[error("region {region}: op not match role: {kind:?} of {peer}")]
    RoleMismatch { region: RegionId, kind: ChangeKind, peer: Peer },
    #[error("region {region}: ignore remove leader or demote leader {leader}")]
    RemovesLeader { region: RegionId, leader: PeerId },
    #[error("region {region}: ignore leave joint command that demoting leader {leader}")]
    LeaveDemotesLeader { region: RegionId, leader: PeerId },
    #[error(transparent)]
    Refused(#[from] AdminError),
}

impl ChangePeerV2 {
    /// What the number of changes means.
    #[must_use]
    pub fn kind(&self) -> ConfChangeKind {
        match self.changes.len() {
            0 => ConfChangeKind::LeaveJoint,
            1 => ConfChangeKind::Simple,
            _ => ConfChangeKind::EnterJoint,
        }
    }

    /// Whether `leader` may propose this: what [`plan`](super::AdminCommand::plan) decides, and what only matters before the
    /// command is in the log. The conditions about the progress of replicas are the host's.
    ///
    /// # Errors
    /// [`ProposalError`].
    pub fn check_proposal(
        &self,
        current: &Region,
        leader: PeerId,
        allow_remove_leader: bool,
    ) -> Result<(), ProposalError> {
        let region = current.id();
        let mismatch = self.changes.iter().find(|change| !role_fits(**change));
        if let Some(&PeerChange { kind, peer }) = mismatch {
            return Err(ProposalError::RoleMismatch { region, kind, peer });
        }
        let after = new_peers(current, self)?;
        let mine = after.iter().find(|peer| peer.id == leader);
        let loses_leader = match self.kind() {
            // A joint change demotes its leader in two steps, and the leader may hand over in between.
            ConfChangeKind::EnterJoint => mine.is_none(),
            ConfChangeKind::Simple => mine.is_none_or(|peer| peer.role == PeerRole::Learner),
            ConfChangeKind::LeaveJoint => {
                let demoted = mine.is_some_and(|peer| peer.role == PeerRole::Learner);
                return if demoted { Err(ProposalError::LeaveDemotesLeader { region, leader }) } else { Ok(()) };
            }
        };
        match loses_leader && !allow_remove_leader {
            true => Err(ProposalError::RemovesLeader { region, leader }),
            false => Ok(()),
        }
    }
}

fn role_fits(change: PeerChange) -> bool {
    match change.kind {
        ChangeKind::AddNode => change.peer.role == PeerRole::Voter,
        ChangeKind::AddLearner => change.peer.role == PeerRole::Learner,
        ChangeKind::RemoveNode => true,
    }
}

pub(super) fn plan(
    current: &Region,
    command: &ChangePeerV2,
    context: &ApplyContext<'_>,
) -> Result<Outcome, AdminError> {
    let peers = new_peers(current, command)?;
    let moved = match command.kind() {
        ConfChangeKind::LeaveJoint => current.peers().filter(|peer| peer.role.is_joint()).count(),
        ConfChangeKind::Simple | ConfChangeKind::EnterJoint => command.changes.len(),
    };
    change_peer::outcome(current, peers, moved as u64, context)
}

/// The list of peers after the command.
fn new_peers(current: &Region, command: &ChangePeerV2) -> Result<Vec<Peer>, AdminError> {
    let kind = command.kind();
    if kind == ConfChangeKind::LeaveJoint {
        return leave(current);
    }
    let region = current.id();
    if let Some(peer) = joint_peer(current) {
        return Err(AdminError::InJointState { region, peer });
    }
    let mut seen = HashSet::new();
    if let Some(again) = command.changes.iter().find(|change| !seen.insert(change.peer.id)) {
        return Err(AdminError::PeerChangedTwice { region, peer: again.peer.id });
    }
    let mut peers: Vec<_> = current.peers().collect();
    for change in &command.changes {
        change_one(region, &mut peers, *change, kind)?;
    }
    if kind == ConfChangeKind::EnterJoint && !peers.iter().any(|peer| peer.role.is_joint()) {
        return Err(AdminError::OnlyLearners { region });
    }
    Ok(peers)
}

/// Incoming voters vote, demoting ones no longer do.
fn leave(current: &Region) -> Result<Vec<Peer>, AdminError> {
    if joint_peer(current).is_none() {
        return Err(AdminError::NotInJointState { region: current.id() });
    }
    let settled = |peer: Peer| Peer {
        role: match peer.role {
            PeerRole::Voter | PeerRole::IncomingVoter => PeerRole::Voter,
            PeerRole::Learner | PeerRole::DemotingVoter => PeerRole::Learner,
        },
        ..peer
    };
    Ok(current.peers().map(settled).collect())
}

/// One row of the table in spec section 5.4.
fn change_one(
    region: RegionId,
    peers: &mut Vec<Peer>,
    PeerChange { kind, peer }: PeerChange,
    conf_change: ConfChangeKind,
) -> Result<(), AdminError> {
    let is_simple = conf_change == ConfChangeKind::Simple;
    let (promoted, demoted) = match is_simple {
        true => (PeerRole::Voter, PeerRole::Learner),
        false => (PeerRole::IncomingVoter, PeerRole::DemotingVoter),
    };
    let Some(existing) = peers.iter_mut().find(|existing| existing.store_id == peer.store_id) else {
        let role = match kind {
            ChangeKind::AddNode => promoted,
            ChangeKind::AddLearner => PeerRole::Learner,
            ChangeKind::RemoveNode => return Err(AdminError::MissingPeer { region, change: peer }),
        };
        peers.push(Peer { role, ..peer });
        return Ok(());
    };
    let is_same = existing.id == peer.id && existing.is_witness == peer.is_witness;
    match (kind, existing.role) {
        (ChangeKind::AddNode, PeerRole::Learner) if is_same => existing.role = promoted,
        (ChangeKind::AddLearner, PeerRole::Voter) if is_same => existing.role = demoted,
        (ChangeKind::AddNode | ChangeKind::AddLearner, _) => {
            return Err(AdminError::DuplicatedPeer { region, change: peer, existing: *existing });
        }
        (ChangeKind::RemoveNode, PeerRole::Voter) if !is_simple => {
            return Err(AdminError::RemovesVoter { region, existing: *existing });
        }
        (ChangeKind::RemoveNode, _) if *existing != peer => {
            return Err(AdminError::UnmatchedPeer { region, change: peer, existing: *existing });
        }
        (ChangeKind::RemoveNode, _) => peers.retain(|other| *other != peer),
    }
    Ok(())
}
