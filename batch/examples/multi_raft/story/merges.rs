//! A region is merged into its neighbour.

use regionmeta::{PeerState, RegionId, StoreId};

use super::super::Done;
use super::super::cluster::Cluster;
use super::check;

/// One replica of the source hears nothing of its last entries. The target's command brings them along.
pub(super) fn with_a_late_replica(
    cluster: &mut Cluster,
    source: RegionId,
    target: RegionId,
    late: StoreId,
) -> Done {
    cluster.settle()?;
    cluster.cut = Some((source, late));
    cluster.write("one replica misses what the source is told", &["ugli", "vanilla", "walnut"])?;
    let before = cluster.host(late)?.region(source).ok_or("the source is not there")?;
    let end = before.to_draft().range.end;
    cluster.leading_host(source)?.prepare_merge(source, target)?;
    cluster.wait("no store has the source any more", |cluster| {
        cluster.hosts.values().all(|host| host.region(source).is_none()) && cluster.agrees()
    })?;
    cluster.cut = None;
    check(before.state() == PeerState::Normal, "the late replica knew nothing of the merge")?;
    check(cluster.host(late)?.seen.caught_up > 3, "it got what it lacked from the target's command")?;
    check(cluster.region(target)?.end_key() == end, "the target ends where the source did")?;
    let went = (source, Some(target));
    check(cluster.hosts.values().all(|host| host.seen.destroyed.contains(&went)), "its peers went with the merge")
}
