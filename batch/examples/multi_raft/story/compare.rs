//! The end: all stores have the same.

use std::ops::ControlFlow;

use regionmeta::KeyRange;
use regionmeta::layout::{REGION_RAFT_RANGE, decode_raft_key, origin_key};
use regionmeta_batch::storage::{Family, Storage};

use super::super::cluster::Cluster;
use super::super::{Done, data};
use super::check;

pub(super) fn all(cluster: &mut Cluster) -> Done {
    cluster.wait("all stores have applied the same entries", Cluster::agrees)?;
    metadata(cluster)?;
    logs(cluster)?;
    contents(cluster)?;
    reports(cluster)
}

/// The same regions, byte for byte.
fn metadata(cluster: &Cluster) -> Done {
    let mut stored = Vec::new();
    for host in cluster.hosts.values() {
        let snapshot = host.store.meta().snapshot();
        check(snapshot.validate().is_empty(), "a store's map is sound")?;
        stored.push(snapshot.regions().map(|region| region.as_bytes().to_vec()).collect::<Vec<_>>());
    }
    let first = stored.first().ok_or("there is no store")?;
    check(first.len() == 2, "three splits and two merges have made two regions of one")?;
    check(stored.iter().all(|regions| regions == first), "their regions are the same to the last byte")
}

/// What Raft knew of a peer goes with it.
fn logs(cluster: &Cluster) -> Done {
    for host in cluster.hosts.values() {
        let mut keys = Vec::new();
        host.store.storage().scan(Family::Raft, REGION_RAFT_RANGE, &mut |key, _| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        })?;
        for key in keys {
            let (region, _) = decode_raft_key(&key)?;
            if host.region(region).is_none() {
                return Err(format!("region {region} is gone, and its log is not").into());
            }
        }
    }
    check(true, "no store has a log of a peer that is gone")
}

/// The same data, and all that was ever written.
pub(super) fn contents(cluster: &Cluster) -> Done {
    for host in cluster.hosts.values() {
        let mut found = Vec::new();
        for (key, value) in data::pairs(host.store.storage(), KeyRange::ALL)? {
            found.push((origin_key(&key)?.to_vec(), value));
        }
        let written = cluster.written.iter().map(|(key, value)| (key.clone(), value.clone()));
        check(written.eq(found), "a store has what was written, and nothing else")?;
    }
    Ok(())
}

/// PD's map is the stores' map, with the same leaders.
fn reports(cluster: &mut Cluster) -> Done {
    cluster.wait("PD has heard from every leader", |cluster| {
        let Ok(known) = cluster.pd.scan_regions(KeyRange::ALL, 0) else { return false };
        let led = known.iter().map(|known| (cluster.region(known.region.id()).ok(), known));
        let mut agrees = led.map(|(region, known)| {
            let leader = known.leader.map(|leader| leader.store_id);
            region.as_ref() == Some(&known.region) && leader == cluster.leader(known.region.id())
        });
        agrees.all(|agrees| agrees)
    })?;
    let known = cluster.pd.scan_regions(KeyRange::ALL, 0)?;
    let host = cluster.hosts.values().next().ok_or("there is no store")?;
    let here = host.regions().into_iter().map(|(region, _)| region);
    check(here.eq(known.into_iter().map(|known| known.region)), "PD has the regions that the stores have")
}
