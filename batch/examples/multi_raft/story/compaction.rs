//! Logs are compacted, and who needs what is gone gets a snapshot.

use regionmeta::{AdminCommand, CompactLog, LogPosition, RegionId, StoreId};

use super::super::Done;
use super::super::cluster::Cluster;
use super::{check, compare};

/// A store is down while its region is written to and its log is compacted.
pub(super) fn sleep_through(cluster: &mut Cluster, region: RegionId, dead: StoreId) -> Done {
    cluster.kill(dead)?;
    cluster.write("a store sleeps while others write", &["nashi", "orange", "plum"])?;
    cluster.delete("pear")?;
    let compacted = compact(cluster, region)?;
    cluster.restart(dead)?;
    cluster.wait("it is back, and has caught up", Cluster::agrees)?;
    let host = cluster.host(dead)?;
    check(host.seen.snapshots == 1, "it took a snapshot, because the log was gone")?;
    check(host.store.apply_state(region).truncated.index >= compacted.index, "its own log begins behind that")?;
    compare::contents(cluster)
}

/// Proposes that all goes that every store has applied, and waits until it is gone.
pub(super) fn compact(cluster: &mut Cluster, region: RegionId) -> Done<LogPosition> {
    cluster.settle()?;
    let compact = cluster.leading_host(region)?.store.apply_state(region).commit;
    let command = CompactLog { compact, voter_replicated_index: compact.index };
    let epoch = cluster.region(region)?.epoch();
    cluster.propose_at(region, epoch, AdminCommand::CompactLog(command))?;
    cluster.wait("the log is compacted", |cluster| {
        cluster.hosts.values().all(|host| host.store.apply_state(region).truncated == compact)
    })?;
    for host in cluster.hosts.values_mut() {
        let left = host.node(region)?.raft.store().stored_keys(compact.index)?;
        check(left.is_empty(), "its entries are deleted")?;
    }
    Ok(compact)
}
