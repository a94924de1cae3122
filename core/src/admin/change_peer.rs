//! ChangePeer: one membership change, without joint consensus (spec section 5.3).

use super::{AdminError, Outcome};
use crate::ids::StoreId;
use crate::peer::{Peer, PeerRole, PeerState};
use crate::region::Region;

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

pub(super) fn plan(current: &Region, change: PeerChange, store_id: StoreId) -> Result<Outcome, AdminError> {
    let mut draft = current.to_draft();
    draft.epoch = draft
        .epoch
        .with_conf_ver_moved(1)
        .map_err(|cause| AdminError::EpochOverflow { region: current.id(), cause })?;
    let removed = change_peers(current, &mut draft.peers, change)?;
    if removed.is_some_and(|removed| removed.store_id == store_id) {
        draft.state = PeerState::Tombstone;
        draft.destroyed_peer = Some(change.peer.id); // the list no longer has it, and recovery must know it (I12)
        return Ok(Outcome::Destroyed { tombstone: draft.build()?, peer: change.peer.id });
    }
    Ok(Outcome::Changed { region: draft.build()? })
}

/// Changes the list and returns the peer that left it.
fn change_peers(current: &Region, peers: &mut Vec<Peer>, change: PeerChange) -> Result<Option<Peer>, AdminError> {
    let (region, peer) = (current.id(), change.peer);
    let at = peers.iter().position(|existing| existing.store_id == peer.store_id);
    let Some(existing) = at.and_then(|at| peers.get_mut(at)) else {
        return match change.kind {
            ChangeKind::RemoveNode => Err(AdminError::MissingPeer { region, change: peer }),
            ChangeKind::AddNode | ChangeKind::AddLearner => {
                peers.push(Peer { role: role_of(change.kind), ..peer });
                Ok(None)
            }
        };
    };
    match change.kind {
        ChangeKind::AddNode if existing.id == peer.id && existing.role == PeerRole::Learner => {
            existing.role = PeerRole::Voter;
            Ok(None)
        }
        ChangeKind::AddNode | ChangeKind::AddLearner => {
            Err(AdminError::DuplicatedPeer { region, change: peer, existing: *existing })
        }
        ChangeKind::RemoveNode if *existing != peer => {
            Err(AdminError::UnmatchedPeer { region, change: peer, existing: *existing })
        }
        ChangeKind::RemoveNode => {
            peers.retain(|other| other.id != peer.id);
            Ok(Some(peer))
        }
    }
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
    use crate::admin::AdminCommand;
    use crate::{KeyRange, PeerId, RegionDraft, RegionEpoch, RegionId};

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
        AdminCommand::ChangePeer(PeerChange { kind, peer }).plan(current, current.epoch(), store)
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
            let Outcome::Changed { region } = plan_on(HERE, &current, kind, peer).unwrap() else { panic!() };
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

    #[test]
    fn the_conf_ver_must_match_and_the_version_need_not() {
        let current = region(vec![voter(1, 1)]);
        let command = AdminCommand::ChangePeer(PeerChange { kind: ChangeKind::AddNode, peer: voter(2, 2) });
        assert!(command.plan(&current, RegionEpoch::new(1, 99), HERE).is_ok());
        for conf_ver in [0, 2] {
            let error = command.plan(&current, RegionEpoch::new(conf_ver, 1), HERE).unwrap_err();
            assert!(matches!(error, AdminError::EpochNotMatch { .. }), "{error}");
        }
    }
}
