//! Three stores in one process, several regions, and the real `raft` crate: splits, joint conf changes, a leader change and
//! a merge go through its log and this library, and stores die and come back in between.
//!
//! Each peer's configuration, its way to the other stores, and where it goes on after a restart come from the descriptor
//! and the apply state; nothing else remembers them. Log and hard state are in the same RocksDB, under the library's keys.
//! A host that drives its peers in one thread needs no apply pool: it fills and commits its batches itself.
//!
//! Left out: Raft snapshots and log compaction. The three stores get their peers of the first region by hand instead, a
//! peer that is added later would need a snapshot, and the merge waits until no replica of its source lacks an entry.
//!
//! `cargo run --example multi_raft`

mod cluster;
mod host;
mod log;

use std::error::Error;

use regionmeta::{
    AdminCommand, BatchSplit, ChangeKind, ChangePeerV2, ClusterId, CommitMerge, Peer, PeerChange, PeerRole,
    PrepareMerge, Region, RegionId, SplitRequest, StoreId,
};
use regionmeta_batch::StoreBuilder;
use regionmeta_batch::pd::PdClient;

use self::cluster::Cluster;

type Done<T = ()> = Result<T, Box<dyn Error>>;

const CLUSTER: ClusterId = ClusterId::new(7);

fn builder() -> StoreBuilder {
    StoreBuilder::new(CLUSTER)
}

/// Everything that the example shows; an error if anything is not as it says.
pub fn main() -> Done {
    let (mut cluster, first) = Cluster::start(3)?;
    let [one, two, three] = *cluster.hosts.keys().copied().collect::<Vec<_>>() else {
        return Err("there are not three stores".into());
    };
    let root = first.id();
    cluster.host(one)?.campaign(root)?;
    cluster.wait("store one leads the first region", |cluster| cluster.leader(root) == Some(one))?;

    let right = split(&mut cluster, root, b"m")?;
    let far_right = split_without(&mut cluster, right, three)?;
    demote(&mut cluster, root, &[two, three])?;
    promote(&mut cluster, root, two)?;
    hand_over(&mut cluster, root, two)?;
    split(&mut cluster, root, b"f")?;
    merge(&mut cluster, far_right, right)?;
    lose_leader(&mut cluster, right, one)?;
    refuse_stale(&mut cluster, &first)?;
    compare(&mut cluster)
}

/// Splits a region everywhere, and waits until the child has a leader. Returns the child.
fn split(cluster: &mut Cluster, region: RegionId, key: &[u8]) -> Done<RegionId> {
    let child = cluster.pd.alloc_id()?.into();
    let peers = cluster.region(region)?.peers().count();
    let new_peer_ids = (0..peers).map(|_| Ok(cluster.pd.alloc_id()?.into())).collect::<Done<_>>()?;
    let request = SplitRequest { split_key: key.to_vec(), new_region_id: child, new_peer_ids };
    let command =
        AdminCommand::BatchSplit(BatchSplit { requests: vec![request], right_derive: false, shares_size: false });
    cluster.change(
        &format!("region {region} is split at {}, and {child} is led", key.escape_ascii()),
        region,
        command,
    )?;
    Ok(child)
}

/// Splits a region while one store is dead; it hears of that from the log when it is back.
fn split_without(cluster: &mut Cluster, region: RegionId, dead: StoreId) -> Done<RegionId> {
    cluster.kill(dead)?;
    let child = split(cluster, region, b"t")?;
    cluster.restart(dead)?;
    check(cluster.host(dead)?.region(child).is_none(), "it recovered to what it had")?;
    cluster.wait("the store that was dead has caught up", Cluster::agrees)?;
    Ok(child)
}

/// Takes the vote of a region's peers on some stores, which takes a joint state.
fn demote(cluster: &mut Cluster, region: RegionId, stores: &[StoreId]) -> Done {
    let before = cluster.region(region)?;
    let peers = before.peers().filter(|peer| stores.contains(&peer.store_id));
    let to_learner =
        |peer: Peer| PeerChange { kind: ChangeKind::AddLearner, peer: Peer::learner(peer.id, peer.store_id) };
    let enter = ChangePeerV2 { changes: peers.map(to_learner).collect() };
    cluster.change("a joint state is entered", region, AdminCommand::ChangePeerV2(enter))?;
    check(cluster.region(region)?.peers().any(|peer| peer.role.is_joint()), "old and new voters decide together")?;
    let leave = ChangePeerV2 { changes: Vec::new() };
    cluster.change("the joint state is left", region, AdminCommand::ChangePeerV2(leave))?;
    let learners = cluster.region(region)?.peers().filter(|peer| peer.role == PeerRole::Learner).count();
    check(learners == stores.len(), "who was demoted is a learner")
}

/// Gives a learner the vote back.
fn promote(cluster: &mut Cluster, region: RegionId, store: StoreId) -> Done {
    let peer = cluster.region(region)?.peer_on(store).ok_or("there is no such peer")?;
    let change = PeerChange { kind: ChangeKind::AddNode, peer: Peer::voter(peer.id, store) };
    let command = AdminCommand::ChangePeerV2(ChangePeerV2 { changes: vec![change] });
    cluster.change("a learner votes again", region, command)
}

fn hand_over(cluster: &mut Cluster, region: RegionId, to: StoreId) -> Done {
    let from = cluster.leader(region).ok_or("nobody leads the region")?;
    cluster.host(from)?.hand_over(region, to)?;
    cluster.wait("another store leads the region", |cluster| cluster.leader(region) == Some(to))
}

/// The source stops, on every store; then the target takes over its keys. The source's entries need not come along with the
/// command, because each store has applied them all when it is proposed.
fn merge(cluster: &mut Cluster, source: RegionId, target: RegionId) -> Done {
    let leader = cluster.leader(source).ok_or("nobody leads the source")?;
    let applied = cluster.host(leader)?.store.apply_state(source).applied_index;
    let min_index = applied.next().ok_or("the log is full")?;
    let prepare = PrepareMerge { target: cluster.region(target)?, min_index };
    cluster.change("the source of a merge stops", source, AdminCommand::PrepareMerge(prepare))?;
    let stopped = cluster.region(source)?;
    let commit = stopped.merge_state().ok_or("the source does not merge")?.commit;
    let merge = CommitMerge { source: stopped.clone(), commit, entries: Vec::new() };
    cluster.change("the target takes over its keys", target, AdminCommand::CommitMerge(merge))?;
    let whole = cluster.region(target)?;
    check(whole.end_key() == stopped.end_key(), "the target ends where the source did")?;
    check(cluster.hosts.values().all(|host| host.region(source).is_none()), "no store has the source any more")
}

/// The store that leads a region dies; the others elect another leader, and it comes back as a follower.
fn lose_leader(cluster: &mut Cluster, region: RegionId, leader: StoreId) -> Done {
    check(cluster.leader(region) == Some(leader), "the store that dies is the leader")?;
    cluster.kill(leader)?;
    cluster.wait("its followers have elected another leader", |cluster| cluster.leader(region).is_some())?;
    cluster.restart(leader)?;
    cluster.wait("the store that was the leader has caught up", Cluster::agrees)
}

/// A proposal that was made before the region changed: every replica refuses it, and none has changed anything.
fn refuse_stale(cluster: &mut Cluster, old: &Region) -> Done {
    let before = cluster.region(old.id())?;
    let new_peer_ids = old.peers().map(|_| Ok(cluster.pd.alloc_id()?.into())).collect::<Done<_>>()?;
    let request = SplitRequest { split_key: b"c".to_vec(), new_region_id: cluster.pd.alloc_id()?.into(), new_peer_ids };
    let command =
        AdminCommand::BatchSplit(BatchSplit { requests: vec![request], right_derive: false, shares_size: false });
    cluster.propose_at(old.id(), old.epoch(), command)?;
    cluster.wait("every replica refuses a stale command", |cluster| {
        cluster.hosts.values().all(|host| host.refused == 1)
    })?;
    check(cluster.region(old.id())? == before, "a refused command changes nothing")
}

/// The stores have applied the same entries, and have the same regions, byte for byte.
fn compare(cluster: &mut Cluster) -> Done {
    cluster.wait("all stores have the same regions, and have applied the same entries", Cluster::agrees)?;
    let mut stored = Vec::new();
    for host in cluster.hosts.values() {
        let snapshot = host.store.meta().snapshot();
        check(snapshot.validate().is_empty(), "a store's map is sound")?;
        stored.push(snapshot.regions().map(|region| region.as_bytes().to_vec()).collect::<Vec<_>>());
    }
    let first = stored.first().ok_or("there is no store")?;
    check(first.len() == 3, "three splits and a merge have made three regions of one")?;
    check(stored.iter().all(|regions| regions == first), "they are the same to the last byte")
}

fn check(holds: bool, claim: &str) -> Done {
    println!("{} {claim}", if holds { "yes:" } else { "NO: " });
    if holds { Ok(()) } else { Err(format!("it does not hold that {claim}").into()) }
}
