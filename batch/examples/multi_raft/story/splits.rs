//! Regions are split, also while a store is dead, and not at an epoch that is over.

use regionmeta::{AdminCommand, Region, RegionId, StoreId};

use super::super::Done;
use super::super::cluster::Cluster;
use super::super::errand::{Brought, Errand};
use super::{check, members};

/// Splits a region everywhere, and waits until the child has a leader. Returns the child.
pub(super) fn split(cluster: &mut Cluster, region: RegionId, key: &[u8]) -> Done<RegionId> {
    let (child, command) = at(cluster, &cluster.region(region)?, key)?;
    let what = format!("region {region} is split at {}, and {child} is led", key.escape_ascii());
    cluster.propose_at(region, cluster.region(region)?.epoch(), command)?;
    cluster.wait(&what, |cluster| cluster.leader(child).is_some() && cluster.agrees())?;
    // It asks for votes where its parent leads, but its first letters may come before the other stores have split.
    let parent_leader = cluster.leader(region).ok_or("nobody leads the parent")?;
    members::lead(cluster, child, parent_leader)?;
    Ok(child)
}

/// Splits a region while one store is dead; it hears of that from the log when it is back.
pub(super) fn split_without(cluster: &mut Cluster, region: RegionId, dead: StoreId) -> Done<RegionId> {
    cluster.kill(dead)?;
    let child = split(cluster, region, b"t")?;
    cluster.write("the child is written to", &["ugli", "zucchini"])?;
    cluster.restart(dead)?;
    check(cluster.host(dead)?.region(child).is_none(), "it recovered to what it had")?;
    cluster.wait("the store that was dead has caught up", Cluster::agrees)?;
    check(cluster.host(dead)?.seen.snapshots == 0, "from the log alone")?;
    Ok(child)
}

/// A store dies when the split is in its apply pool. Whether the child came to be there or not: recovery tells.
pub(super) fn split_and_die(cluster: &mut Cluster, region: RegionId, key: &[u8], store: StoreId) -> Done<RegionId> {
    cluster.doomed = Some(store);
    let child = split(cluster, region, key)?;
    check(!cluster.hosts.contains_key(&store), "a store died while it applied a split")?;
    cluster.restart(store)?;
    cluster.wait("it is back, and has the child", Cluster::agrees)?;
    Ok(child)
}

/// A proposal that was made before the region changed: every replica refuses it, and none has changed anything.
pub(super) fn refuse_stale(cluster: &mut Cluster, old: &Region) -> Done {
    let before = cluster.region(old.id())?;
    let (_, command) = at(cluster, &before, b"c")?;
    let refused: Vec<_> = cluster.hosts.values().map(|host| host.seen.refused).collect();
    cluster.propose_at(old.id(), old.epoch(), command)?;
    cluster.wait("every replica refuses a stale command", |cluster| {
        let now = cluster.hosts.values().map(|host| host.seen.refused);
        now.zip(&refused).all(|(now, before)| now == before + 1)
    })?;
    check(cluster.region(old.id())? == before, "a refused command changes nothing")
}

fn at(cluster: &Cluster, region: &Region, key: &[u8]) -> Done<(RegionId, AdminCommand)> {
    let errand = Errand::Split { region: region.clone(), keys: vec![key.to_vec()] };
    let Brought::Split(request) = errand.run(&*cluster.pd)? else { return Err("PD gave no ids".into()) };
    match &request.command {
        AdminCommand::BatchSplit(split) => match &split.requests[..] {
            [only] => Ok((only.new_region_id, request.command)),
            _ => Err("one key makes one child".into()),
        },
        _ => Err("this is no split".into()),
    }
}
