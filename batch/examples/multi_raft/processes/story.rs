//! What happens to the three processes. What PD does by itself is not done again: this story runs against any PD.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use regionmeta::{
    AdminCommand, ChangeKind, ChangePeerV2, Peer, PeerChange, PeerRole, RegionId, StoreId, TransferLeader,
};

use super::super::Done;
use super::super::arguments::Arguments;
use super::fleet::{Fleet, peer_on};
use super::order::Order;
use super::{Again, compare};

/// An order of which nothing comes is given again.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) fn tell(arguments: &Arguments, again: Again) -> Done {
    let mut fleet = Fleet::start(arguments, again, 3)?;
    let (first, stores) = found(&fleet)?;
    stores.iter().try_for_each(|store| grow(&fleet, first, *store))?;
    fleet.write("the first region is written to", keys(0..60))?;
    split(&fleet, first, &["k10", "k20", "k30", "k40", "k50"])?;
    fleet.write("every region is written to", keys(5..65))?;
    spread(&fleet, &stores)?;

    let [_, _, dead] = stores[..] else { return Err("there are not three stores".into()) };
    let number = fleet.kill(dead)?;
    println!("store {dead} is killed");
    led_by_others(&fleet, dead)?;
    fleet.write("its regions are written to without it", keys(0..30))?;
    split(&fleet, owner(&fleet, "k20")?, &["k25"])?;
    // Not the last region, which the dead store led: its new leader does not know how far the dead replica is.
    merge(&fleet, "k40", "k50")?;
    replace(&fleet, owner(&fleet, "k10")?, dead)?;
    fleet.launch(number)?;
    grow(&fleet, owner(&fleet, "k10")?, dead)?;
    compare::all(&fleet, 6)?;

    spread(&fleet, &stores)?;
    fleet.write("every region is written to once more", keys(0..70))?;
    compare::all(&fleet, 6)?;
    fleet.stop()
}

fn keys(numbers: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    numbers.map(|number| format!("k{number:02}"))
}

/// One of the stores bootstraps the cluster, and the others join it. Returns the first region, and the stores.
fn found(fleet: &Fleet) -> Done<(RegionId, Vec<StoreId>)> {
    fleet.until("PD knows three stores, and one region with a leader", |fleet| {
        let map = fleet.map()?;
        Ok(fleet.pd.get_all_stores()?.len() == 3 && matches!(&map[..], [only] if only.leader.is_some()))
    })?;
    let first = owner(fleet, "")?;
    let mut stores = fleet.get("PD says which stores there are", |fleet| Ok(fleet.pd.get_all_stores()?))?;
    stores.sort_unstable_by_key(|store| store.id);
    Ok((first, stores.into_iter().map(|store| store.id).collect()))
}

/// The region comes to have a peer on a store: first one that only learns, and when it has its snapshot it votes.
fn grow(fleet: &Fleet, region: RegionId, store: StoreId) -> Done {
    let peer = move |fleet: &Fleet| -> Done<Option<Peer>> { Ok(fleet.region(region)?.region.peer_on(store)) };
    let learn = |fleet: &Fleet| match peer(fleet)? {
        None => change(fleet, region, ChangeKind::AddLearner, Peer::learner(fleet.pd.alloc_id()?.into(), store)),
        Some(_) => Ok(()),
    };
    bring_about(fleet, &format!("region {region} has a replica on store {store}"), learn, |fleet| {
        let known = fleet.region(region)?;
        let peer = known.region.peer_on(store);
        Ok(peer.is_some_and(|peer| !known.pending_peers.iter().any(|pending| pending.id == peer.id)))
    })?;
    let vote = |fleet: &Fleet| {
        let peer = peer_on(&fleet.region(region)?.region, store)?;
        change(fleet, region, ChangeKind::AddNode, Peer::voter(peer.id, store))
    };
    bring_about(fleet, "it votes", vote, |fleet| Ok(peer(fleet)?.is_some_and(|peer| peer.role == PeerRole::Voter)))
}

/// The region's peer on a store that is away goes, and another one is to come there. It is told when it is back.
fn replace(fleet: &Fleet, region: RegionId, store: StoreId) -> Done {
    let old = fleet.get("the region has a peer there", |fleet| peer_on(&fleet.region(region)?.region, store))?;
    let remove = |fleet: &Fleet| change(fleet, region, ChangeKind::RemoveNode, old);
    bring_about(fleet, &format!("region {region} has no peer on store {store}"), remove, |fleet| {
        Ok(!fleet.region(region)?.region.peers().any(|peer| peer.id == old.id))
    })?;
    let add = |fleet: &Fleet| {
        change(fleet, region, ChangeKind::AddLearner, Peer::learner(fleet.pd.alloc_id()?.into(), store))
    };
    bring_about(fleet, "a new one waits for its store", add, |fleet| {
        Ok(fleet.region(region)?.region.peer_on(store).is_some())
    })
}

fn change(fleet: &Fleet, region: RegionId, kind: ChangeKind, peer: Peer) -> Done {
    let change = ChangePeerV2 { changes: vec![PeerChange { kind, peer }] };
    fleet.propose(&fleet.region(region)?, AdminCommand::ChangePeerV2(change))
}

fn split(fleet: &Fleet, region: RegionId, keys: &[&str]) -> Done {
    let keys: Vec<_> = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
    let order = Order::Split { region, keys: keys.clone() };
    let split = |fleet: &Fleet| fleet.order_leader(&fleet.region(region)?, &order);
    bring_about(fleet, &format!("region {region} is split at {} keys", keys.len()), split, |fleet| {
        let map = fleet.map()?;
        Ok(keys.iter().all(|key| map.iter().any(|known| known.region.start_key() == key && known.leader.is_some())))
    })
}

/// The region that begins with one key is merged into the one that begins with another.
fn merge(fleet: &Fleet, source: &str, target: &str) -> Done {
    let (source, target) = (owner(fleet, source)?, owner(fleet, target)?);
    let merge = |fleet: &Fleet| match fleet.pd.get_region_by_id(source)? {
        Some(known) => fleet.order_leader(&known, &Order::Merge { source, target }),
        None => Ok(()),
    };
    bring_about(fleet, &format!("region {source} is merged into region {target}"), merge, |fleet| {
        Ok(fleet.pd.get_region_by_id(source)?.is_none())
    })
}

/// Every store comes to lead some region.
fn spread(fleet: &Fleet, stores: &[StoreId]) -> Done {
    let regions = fleet.get("PD has a map", |fleet| Ok(fleet.map()?.into_iter().map(|known| known.region.id())))?;
    for (region, &store) in regions.zip(stores.iter().cycle()) {
        let hand_over = |fleet: &Fleet| {
            let known = fleet.region(region)?;
            let transferees = vec![peer_on(&known.region, store)?];
            fleet.propose(&known, AdminCommand::TransferLeader(TransferLeader { transferees }))
        };
        bring_about(fleet, &format!("store {store} leads region {region}"), hand_over, |fleet| {
            Ok(fleet.region(region)?.leader.is_some_and(|leader| leader.store_id == store))
        })?;
    }
    Ok(())
}

fn led_by_others(fleet: &Fleet, dead: StoreId) -> Done {
    fleet.until("its followers have elected other leaders, and PD knows", |fleet| {
        let leaders: BTreeSet<_> =
            fleet.map()?.iter().map(|known| known.leader.map(|leader| leader.store_id)).collect();
        Ok(!leaders.contains(&None) && !leaders.contains(&Some(dead)))
    })
}

fn owner(fleet: &Fleet, key: &str) -> Done<RegionId> {
    fleet.get("PD knows who owns a key", |fleet| Ok(fleet.owner(key.as_bytes())?.region.id()))
}

/// Gives an order, now and then again, until something holds.
fn bring_about(
    fleet: &Fleet,
    what: &str,
    order: impl Fn(&Fleet) -> Done,
    holds: impl Fn(&Fleet) -> Done<bool>,
) -> Done {
    let mut due = Instant::now();
    fleet.until(what, |fleet| {
        if holds(fleet)? {
            return Ok(true);
        }
        if Instant::now() >= due {
            due = Instant::now() + PATIENCE;
            order(fleet)?;
        }
        Ok(false)
    })
}
