//! What only the write half of a store can show.

use regionmeta::{
    AdminCommand, ChangeKind, Changeset, KeyRange, LogPosition, Peer, PeerChange, Refusal, RegionDraft, RegionEpoch,
    RegionId,
};

use super::*;
use crate::pd::EmbeddedPd;
use crate::storage::MemStorage;

const CLUSTER: ClusterId = ClusterId::new(7);
const FIRST: RegionId = RegionId::new(2);

/// The first region moves to store 2; its peer here, number 3, is destroyed.
fn destroy_first(store: &Store<MemStorage>) {
    let changes = [
        (ChangeKind::AddNode, Peer::voter(20.into(), 2.into())),
        (ChangeKind::RemoveNode, Peer::voter(3.into(), 1.into())),
    ];
    for (conf_ver, (kind, peer)) in (1..).zip(changes) {
        let command = AdminCommand::ChangePeer(PeerChange { kind, peer });
        let entry = LogPosition { index: (5 + conf_ver).into(), term: 5.into() };
        let mut batch = store.begin();
        batch.apply(FIRST, entry, RegionEpoch::new(conf_ver, 1), &command).unwrap();
        batch.commit().unwrap();
    }
}

/// I12: neither the same peer nor an earlier one; a later one may.
fn assert_only_a_later_peer_may_come(store: &Store<MemStorage>) {
    let create = |peer: u64| {
        let peers = vec![Peer::voter(peer.into(), 1.into())];
        let region = RegionDraft::new(FIRST, KeyRange::ALL, RegionEpoch::new(9, 9), peers).build().unwrap();
        store.writer().prepare(Changeset::new().create(region)).map(drop)
    };
    for peer in [1, 3] {
        let refusal = create(peer).unwrap_err();
        assert!(matches!(refusal, Refusal::Tombstoned { region: FIRST, .. }), "{refusal}");
    }
    create(4).unwrap();
}

#[test]
fn a_destroyed_peer_does_not_come_back_not_even_after_a_restart() {
    let disk = MemStorage::new();
    let store = StoreBuilder::new(CLUSTER).bootstrap_storage(disk.clone(), &EmbeddedPd::new(CLUSTER)).unwrap();
    destroy_first(&store);
    assert_only_a_later_peer_may_come(&store);
    drop(store);
    let store = StoreBuilder::new(CLUSTER).open_storage(disk).unwrap();
    assert_only_a_later_peer_may_come(&store);
}
