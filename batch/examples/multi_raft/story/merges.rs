//! A region is merged into its neighbour.

use regionmeta::{PeerState, RegionId, StoreId};

use super::super::Done;
use super::super::cluster::Cluster;
use super::{check, compaction};

/// One replica of the source hears nothing of its last entries. The target's command brings them along.
pub(super) fn with_a_late_replica(cluster: &mut Cluster, source: RegionId, target: RegionId, late: StoreId) -> Done {
    cluster.settle()?;
    cluster.cut = Some((source, late));
    cluster.write("one replica misses what the source is told", &["ugli", "vanilla", "walnut"])?;
    let before = cluster.host(late)?.region(source).ok_or("the source is not there")?;
    let end = before.to_draft().range.end;
    merge(cluster, source, target)?;
    cluster.cut = None;
    check(before.state() == PeerState::Normal, "the late replica knew nothing of the merge")?;
    check(cluster.host(late)?.seen.caught_up > 3, "it got what it lacked from the target's command")?;
    check(cluster.region(target)?.end_key() == end, "the target ends where the source did")?;
    let went = (source, Some(target));
    check(cluster.hosts.values().all(|host| host.seen.destroyed.contains(&went)), "its peers went with the merge")
}

/// A store sleeps while two regions become one, and the target's log is compacted. The target's snapshot takes the keys of
/// the source, which may go because the other stores say that it was merged.
pub(super) fn asleep(cluster: &mut Cluster, source: RegionId, target: RegionId, dead: StoreId) -> Done {
    cluster.kill(dead)?;
    merge(cluster, source, target)?;
    cluster.write("the merged region is written to", &["apricot", "grape"])?;
    compaction::compact(cluster, target)?;
    cluster.restart(dead)?;
    check(cluster.host(dead)?.region(source).is_some(), "the store that slept still has the source")?;
    cluster.wait("it has caught up", Cluster::agrees)?;
    let seen = &cluster.host(dead)?.seen;
    check(seen.snapshots == 1, "by a snapshot of the target")?;
    check(seen.destroyed.contains(&(source, Some(target))), "the source went with it")
}

/// Only the beginning is anybody's to propose: each store looks after the source from then on.
fn merge(cluster: &mut Cluster, source: RegionId, target: RegionId) -> Done {
    cluster.leading_host(source)?.prepare_merge(source, target)?;
    cluster.wait("no store has the source any more", |cluster| {
        cluster.hosts.values().all(|host| host.region(source).is_none()) && cluster.agrees()
    })
}
