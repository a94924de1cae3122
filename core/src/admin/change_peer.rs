//! ChangePeer: one membership change, without joint consensus (spec section 5.3).

use super::merge::joint_peer;
use super::{AdminError, ApplyContext, Outcome};
use crate::ids::RegionId;
use crate::meta::Reason;
use crate::peer::{Peer, PeerRole, PeerState};
use crate::region::{Region, RegionDraft};

/// What happens to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ChangeKind {
    /// A new voter, or a learner that becomes one.
    AddNode,
    /// The peer leaves. It must equal the stored one in every field.
    RemoveNode,
    /// A new learner.
    AddLearner,
}

/// One membership change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PeerChange {
    /// What happens.
    pub kind: ChangeKind,
    /// To which peer.
    pub peer: Peer,
}

pub(super) fn plan(current: &Region, change: PeerChange, context: &ApplyContext<'_>) -> Result<Outcome, AdminError> {
    if let Some(peer) = joint_peer(current) {
        return Err(AdminError::InJointState { region: current.id(), peer });
    }
    let mut peers = current.peers().collect();
    change_peers(current.id(), &mut peers, change)?;
    outcome(current, peers, 1, context)
}

/// The region with `peers`, after `changes` changes of membership; or its tombstone, if this store's peer is gone.
pub(super) fn outcome(
    current: &Region,
    peers: Vec<Peer>,
    changes: u64,
    context: &ApplyContext<'_>,
) -> Result<Outcome, AdminError> {
    let votes = |peer: &Peer| matches!(peer.role, PeerRole::Voter | PeerRole::IncomingVoter);
    if !peers.is_empty() && !peers.iter().any(votes) {
        return Err(AdminError::NoVoters { region: current.id() });
    }
    let epoch = current
        .epoch()
        .with_conf_ver_moved(changes)
        .map_err(|cause| AdminError::EpochOverflow { region: current.id(), cause })?;
    let draft = RegionDraft { epoch, peers, ..current.to_draft() };
    let mine = current.peer_on(context.store_id);
    let Some(removed) = mine.filter(|mine| draft.peers.iter().all(|peer| peer.id != mine.id)) else {
        return Ok(Outcome::Changed { region: draft.build()?, reason: Reason::ChangePeer });
    };
    // The list no longer has it, and recovery must know it (I12).
    let destroyed_peer = Some(removed.id);
    let tombstone = RegionDraft { state: PeerState::Tombstone, destroyed_peer, ..draft }.build()?;
    Ok(Outcome::Destroyed { tombstone, peer: removed.id })
}

/// One row of the table in spec section 5.3.
fn change_peers(region: RegionId, peers: &mut Vec<Peer>, change: PeerChange) -> Result<(), AdminError> {
    let peer = change.peer;
    let Some(existing) = peers.iter_mut().find(|existing| existing.store_id == peer.store_id) else {
        if change.kind == ChangeKind::RemoveNode {
            return Err(AdminError::MissingPeer { region, change: peer });
        }
        peers.push(Peer { role: role_of(change.kind), ..peer });
        return Ok(());
    };
    match change.kind {
        ChangeKind::AddNode if existing.id == peer.id && existing.role == PeerRole::Learner => {
            existing.role = PeerRole::Voter;
        }
        ChangeKind::AddNode | ChangeKind::AddLearner => {
            return Err(AdminError::DuplicatedPeer { region, change: peer, existing: *existing });
        }
        ChangeKind::RemoveNode if *existing != peer => {
            return Err(AdminError::UnmatchedPeer { region, change: peer, existing: *existing });
        }
        ChangeKind::RemoveNode => peers.retain(|other| other.id != peer.id),
    }
    Ok(())
}

const fn role_of(kind: ChangeKind) -> PeerRole {
    match kind {
        ChangeKind::AddLearner => PeerRole::Learner,
        ChangeKind::AddNode | ChangeKind::RemoveNode => PeerRole::Voter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{AdminCommand, AdminHeader};
    use crate::{ApplyState, KeyRange, LogPosition, PeerId, RegionEpoch, StoreId};

    const HERE: StoreId = StoreId::new(1);

    fn voter(id: u64, store: u64) -> Peer {
        Peer::voter(PeerId::new(id), StoreId::new(store))
    }

    fn learner(id: u64, store: u64) -> Peer {
        Peer::learner(PeerId::new(id), StoreId::new(store))
    }

    fn region(peers: Vec<Peer>) -> Region {
        RegionDraft::new(RegionId::new(1), KeyRange::ALL, RegionEpoch::INITIAL, peers).build().unwrap()
    }

    fn plan_on(store: StoreId, current: &Region, kind: ChangeKind, peer: Peer) -> Result<Outcome, AdminError> {
        let context = ApplyContext::new(store, LogPosition::INITIAL, ApplyState::INITIAL);
        let header = AdminHeader::new(current.id(), current.epoch());
        AdminCommand::ChangePeer(PeerChange { kind, peer }).plan(&header, current, &context)
    }

    /// The example of spec section 5.3, seen from both stores.
    #[test]
    fn the_worked_example() {
        let steps = [
            (ChangeKind::AddLearner, learner(2, 2), vec![voter(1, 1), learner(2, 2)]),
            (ChangeKind::AddNode, voter(2, 2), vec![voter(1, 1), voter(2, 2)]),
            (ChangeKind::RemoveNode, voter(2, 2), vec![voter(1, 1)]),
        ];
        let mut current = region(vec![voter(1, 1)]);
        for (at, (kind, peer, peers)) in (2..).zip(steps) {
            let seen_there = plan_on(StoreId::new(2), &current, kind, peer);
            let Outcome::Changed { region, .. } = plan_on(HERE, &current, kind, peer).unwrap() else { panic!() };
            assert_eq!(region.epoch(), RegionEpoch::new(at, 1));
            assert_eq!(region.peers().collect::<Vec<_>>(), peers);
            if kind == ChangeKind::RemoveNode {
                let Ok(Outcome::Destroyed { tombstone, peer }) = seen_there else { panic!() };
                assert_eq!((tombstone.state(), peer), (PeerState::Tombstone, PeerId::new(2)));
                assert_eq!(tombstone.destroyed_peer(), Some(peer));
                assert_eq!(tombstone.peers().collect::<Vec<_>>(), peers);
                assert_eq!(tombstone.epoch(), region.epoch());
            }
            current = region;
        }
    }

    #[test]
    fn refusals_follow_the_table() {
        let current = region(vec![voter(1, 1), learner(2, 2)]);
        let refused = |kind, peer| plan_on(HERE, &current, kind, peer).unwrap_err();
        let duplicated = |error| matches!(error, AdminError::DuplicatedPeer { .. });
        assert!(duplicated(refused(ChangeKind::AddNode, voter(1, 1))));
        assert!(duplicated(refused(ChangeKind::AddNode, voter(9, 2))));
        assert!(duplicated(refused(ChangeKind::AddLearner, learner(2, 2))));
        assert!(matches!(refused(ChangeKind::RemoveNode, voter(3, 3)), AdminError::MissingPeer { .. }));
        assert!(matches!(refused(ChangeKind::RemoveNode, voter(2, 2)), AdminError::UnmatchedPeer { .. }));
        assert!(matches!(refused(ChangeKind::AddNode, voter(0, 3)), AdminError::Invalid(_)));
        assert!(matches!(refused(ChangeKind::AddNode, voter(2, 3)), AdminError::Invalid(_)));
    }
}
