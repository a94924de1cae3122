//! Peers come, get or lose the vote, lead, die, and are replaced.

use regionmeta::{
    AdminCommand, ChangeKind, ChangePeerV2, Peer, PeerChange, PeerRole, PeerState, Region, RegionId, StoreId,
    TransferLeader,
};

use super::super::cluster::Cluster;
use super::super::{Done, data};
use super::check;

/// One store has all keys, and alone it decides.
pub(super) fn first_region(cluster: &mut Cluster, store: StoreId) -> Done<Region> {
    let first = cluster.pd.get_region(b"")?.ok_or("PD knows no region")?.region;
    cluster.host(store)?.campaign(first.id())?;
    cluster.wait("store one leads the first region", |cluster| cluster.leader(first.id()) == Some(store))?;
    cluster.write("it is written to", &["apple", "fig", "kiwi", "mango", "pear", "tamarind", "yuzu"])?;
    Ok(first)
}

/// The new peer comes to be by its leader's first heartbeat, and gets a snapshot.
pub(super) fn add_learner(cluster: &mut Cluster, region: RegionId, store: StoreId) -> Done {
    let peer = Peer::learner(cluster.pd.alloc_id()?.into(), store);
    change(cluster, "a learner on store two has a snapshot", region, vec![add(ChangeKind::AddLearner, peer)])?;
    check(cluster.host(store)?.seen.snapshots == 1, "it took one snapshot")?;
    check(cluster.host(store)?.region(region).is_some(), "it knows its region")
}

/// The learner gets the vote, and store three a peer that votes at once: two changes, and so a joint state. Store three dies
/// when its snapshot is persisted and its data is not in place.
pub(super) fn add_jointly(cluster: &mut Cluster, region: RegionId, learner: StoreId, store: StoreId) -> Done {
    let promoted = peer_on(cluster, region, learner)?;
    let new = Peer::voter(cluster.pd.alloc_id()?.into(), store);
    let changes = [promoted, new].map(|peer| add(ChangeKind::AddNode, Peer::voter(peer.id, peer.store_id)));
    let enter = AdminCommand::ChangePeerV2(ChangePeerV2 { changes: changes.to_vec() });
    cluster.begin("a joint state is entered, with a new voter on store three", region, enter)?;
    let state = move |cluster: &Cluster| Some(cluster.hosts.get(&store)?.region(region)?.state());
    cluster.wait("its snapshot is persisted", |cluster| state(cluster) == Some(PeerState::Applying))?;
    cluster.kill(store)?;
    cluster.write("the others go on without it", &["quince"])?;
    cluster.restart(store)?;
    check(cluster.host(store)?.store.recovery().applying == [region], "recovery says which snapshot was interrupted")?;
    check(state(cluster) == Some(PeerState::Normal), "the host has put its data in place")?;
    leave_joint(cluster, region)?;
    check(cluster.region(region)?.peers().all(|peer| peer.role == PeerRole::Voter), "all three vote")
}

/// Takes the vote of a region's peers on some stores, which takes a joint state.
pub(super) fn demote(cluster: &mut Cluster, region: RegionId, stores: &[StoreId]) -> Done {
    let before = cluster.region(region)?;
    let peers = before.peers().filter(|peer| stores.contains(&peer.store_id));
    let changes = peers.map(|peer| add(ChangeKind::AddLearner, Peer::learner(peer.id, peer.store_id)));
    change(cluster, "a joint state is entered", region, changes.collect())?;
    check(cluster.region(region)?.peers().any(|peer| peer.role.is_joint()), "old and new voters decide together")?;
    leave_joint(cluster, region)?;
    let learners = cluster.region(region)?.peers().filter(|peer| peer.role == PeerRole::Learner).count();
    check(learners == stores.len(), "who was demoted is a learner")
}

/// Gives a learner the vote back.
pub(super) fn promote(cluster: &mut Cluster, region: RegionId, store: StoreId) -> Done {
    let peer = peer_on(cluster, region, store)?;
    change(cluster, "a learner votes again", region, vec![add(ChangeKind::AddNode, Peer::voter(peer.id, store))])
}

/// Hands the leadership of a region to a store, unless that leads it already.
pub(super) fn lead(cluster: &mut Cluster, region: RegionId, store: StoreId) -> Done {
    if cluster.leader(region) == Some(store) {
        return Ok(());
    }
    let (epoch, heir) = (cluster.region(region)?.epoch(), peer_on(cluster, region, store)?);
    cluster.propose_at(region, epoch, AdminCommand::TransferLeader(TransferLeader { transferees: vec![heir] }))?;
    cluster.wait("another store leads the region", |cluster| cluster.leader(region) == Some(store))
}

/// The store that leads a region dies; the others elect another leader, and it comes back as a follower.
pub(super) fn lose_leader(cluster: &mut Cluster, region: RegionId) -> Done {
    let leader = cluster.leader(region).ok_or("nobody leads the region")?;
    cluster.kill(leader)?;
    cluster.wait("its followers have elected another leader", |cluster| cluster.leader(region).is_some())?;
    cluster.write("who writes finds the new leader", &["papaya"])?;
    cluster.restart(leader)?;
    cluster.wait("the store that was the leader has caught up", Cluster::agrees)
}

/// A peer is removed, and its store gets another one of the same region: of a larger id, because a tombstone is final.
pub(super) fn replace(cluster: &mut Cluster, region: RegionId, store: StoreId) -> Done {
    let before = cluster.region(region)?;
    remove(cluster, region, store)?;
    cluster.wait("it has gone by its own log", |cluster| {
        cluster.hosts.get(&store).is_some_and(|host| host.region(region).is_none()) && cluster.agrees()
    })?;
    let left = data::pairs(cluster.host(store)?.store.storage(), before.range())?;
    check(left.is_empty(), "its data is deleted")?;
    let new = Peer::voter(cluster.pd.alloc_id()?.into(), store);
    change(cluster, "its store has a new peer", region, vec![add(ChangeKind::AddNode, new)])
}

/// The same, but the old peer does not hear of it: a message for the new one tells the store that the old one is gone.
pub(super) fn replace_unheard(cluster: &mut Cluster, region: RegionId, store: StoreId) -> Done {
    let old = peer_on(cluster, region, store)?;
    cluster.cut = Some((region, store));
    remove(cluster, region, store)?;
    let new = Peer::voter(cluster.pd.alloc_id()?.into(), store);
    let command = AdminCommand::ChangePeerV2(ChangePeerV2 { changes: vec![add(ChangeKind::AddNode, new)] });
    cluster.begin("its store is to have a new peer", region, command)?;
    let here = cluster.host(store)?.region(region).and_then(|region| region.peer_on(store));
    check(here == Some(old), "the old one is there and knows nothing")?;
    cluster.cut = None;
    cluster.wait("the new one is in its place", Cluster::agrees)
}

fn remove(cluster: &mut Cluster, region: RegionId, store: StoreId) -> Done {
    let old = peer_on(cluster, region, store)?;
    let remove = AdminCommand::ChangePeerV2(ChangePeerV2 { changes: vec![add(ChangeKind::RemoveNode, old)] });
    cluster.begin("a peer is removed", region, remove)
}

fn leave_joint(cluster: &mut Cluster, region: RegionId) -> Done {
    change(cluster, "the joint state is left", region, Vec::new())
}

fn change(cluster: &mut Cluster, what: &str, region: RegionId, changes: Vec<PeerChange>) -> Done {
    cluster.change(what, region, AdminCommand::ChangePeerV2(ChangePeerV2 { changes }))
}

/// The kind says what becomes of the peer.
fn add(kind: ChangeKind, peer: Peer) -> PeerChange {
    PeerChange { kind, peer }
}

fn peer_on(cluster: &Cluster, region: RegionId, store: StoreId) -> Done<Peer> {
    Ok(cluster.region(region)?.peer_on(store).ok_or("there is no such peer")?)
}
