//! What happens to the cluster, and what must hold then. One chapter a file.

mod compaction;
mod compare;
mod members;
mod merges;
mod splits;

use super::Done;
use super::cluster::Cluster;

pub(super) fn tell() -> Done {
    let mut cluster = Cluster::start(3)?;
    let [one, two, three] = *cluster.hosts.keys().copied().collect::<Vec<_>>() else {
        return Err("there are not three stores".into());
    };
    let first = members::first_region(&mut cluster, one)?;
    let root = first.id();
    members::add_learner(&mut cluster, root, two)?;
    members::add_jointly(&mut cluster, root, two, three)?;

    let right = splits::split(&mut cluster, root, b"m")?;
    let far_right = splits::split_without(&mut cluster, right, three)?;
    members::demote(&mut cluster, root, &[two, three])?;
    members::promote(&mut cluster, root, two)?;
    members::lead(&mut cluster, root, two)?;
    let left = splits::split_and_die(&mut cluster, root, b"f", three)?;

    compaction::sleep_through(&mut cluster, right, three)?;
    members::lead(&mut cluster, far_right, one)?;
    merges::with_a_late_replica(&mut cluster, far_right, right, three)?;
    merges::asleep(&mut cluster, left, root, three)?;
    members::lose_leader(&mut cluster, right)?;
    members::lead(&mut cluster, right, one)?;
    members::replace(&mut cluster, right, three)?;
    members::replace_unheard(&mut cluster, right, three)?;
    splits::refuse_stale(&mut cluster, &first)?;
    compare::all(&mut cluster)
}

fn check(holds: bool, claim: &str) -> Done {
    println!("{} {claim}", if holds { "yes:" } else { "NO: " });
    if holds { Ok(()) } else { Err(format!("it does not hold that {claim}").into()) }
}
