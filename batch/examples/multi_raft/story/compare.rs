//! The end: all stores have the same.

use std::ops::ControlFlow;

use regionmeta::layout::{REGION_RAFT_RANGE, decode_raft_key, origin_key};
use regionmeta::{KeyRange, RegionId};
use regionmeta_batch::storage::{Family, Storage};

use super::super::cluster::Cluster;
use super::super::host::Host;
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

/// What PD was told last of each region is how it is.
fn reports(cluster: &Cluster) -> Done {
    let is_known = |host: &Host, region: RegionId| {
        let epoch = host.region(region).map(|region| region.epoch());
        epoch.is_some() && host.seen.reported.get(&region).copied() == epoch
    };
    let led = |host: &Host| -> Vec<RegionId> {
        let ids = host.regions().into_iter().map(|(region, _)| region.id());
        ids.filter(|region| host.leads(*region)).collect()
    };
    let told = cluster.hosts.values().all(|host| led(host).into_iter().all(|region| is_known(host, region)));
    check(told, "every leader has reported its regions as they are")
}
