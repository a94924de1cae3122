//! The end: PD's map is the stores' map, and every store has what was written.

use regionmeta::{EndKey, Region};
use regionmeta_batch::pd::RegionInfo;

use super::super::Done;
use super::fleet::Fleet;
use super::order::{Held, Shown};

/// Waits until it is so: heartbeats and the last entries may be on their way.
pub(super) fn all(fleet: &Fleet, regions: usize) -> Done {
    fleet.until(&format!("PD's map and every store's map are the same {regions} regions, with all data"), |fleet| {
        let (map, shown) = (fleet.map()?, fleet.ask_all()?);
        tiles(&map)?;
        let [first, others @ ..] = &shown[..] else { return Err("there is no store".into()) };
        others.iter().try_for_each(|other| same(first, other))?;
        knows(&map, &shown)?;
        let written = fleet.written.iter().map(|(key, value)| (key.clone(), value.clone()));
        require(written.eq(first.data.iter().cloned()), "the stores do not have what was written")?;
        Ok(map.len() == regions)
    })
}

/// Every key is owned once.
fn tiles(map: &[RegionInfo]) -> Done {
    let (first, last) = map.first().zip(map.last()).ok_or("PD's map is empty")?;
    let touch = map.iter().zip(map.iter().skip(1)).all(|(one, next)| one.region.range().touches(next.region.range()));
    let complete = first.region.start_key().is_empty() && last.region.end_key() == EndKey::Infinite;
    require(touch && complete, "PD's map has a hole")
}

/// The same regions to the last byte, applied as far, and the same data.
fn same(one: &Shown, other: &Shown) -> Done {
    let bytes = |shown: &Shown| {
        let held = shown.regions.iter().map(|held| (held.region.as_bytes().to_vec(), held.applied));
        held.collect::<Vec<_>>()
    };
    require(bytes(one) == bytes(other), &format!("stores {} and {} differ", one.store, other.store))?;
    require(one.data == other.data, &format!("stores {} and {} have other data", one.store, other.store))
}

/// What PD knows of each region is how it is, and who leads it.
fn knows(map: &[RegionInfo], shown: &[Shown]) -> Done {
    let led = |held: &&Held| held.leads;
    for known in map {
        let id = known.region.id();
        let leading = shown.iter().find(|shown| shown.regions.iter().filter(led).any(|held| held.region.id() == id));
        let leading = leading.ok_or_else(|| format!("nobody leads region {id}"))?;
        let leader = known.leader.map(|leader| leader.store_id);
        require(leader == Some(leading.store), &format!("PD takes another store for the leader of region {id}"))?;
        let here = leading.regions.iter().any(|held| agree(&held.region, &known.region));
        require(here, &format!("PD has region {id} in another version"))?;
        require(known.pending_peers.is_empty(), &format!("PD takes peers of region {id} for pending"))?;
    }
    let counted = shown.iter().all(|shown| shown.regions.len() == map.len());
    require(counted, "a store has regions that PD does not know")
}

/// On the way through PD's protocol a region is built anew, so its bytes may differ.
fn agree(one: &Region, other: &Region) -> bool {
    let same_peers = one.peers().eq(other.peers());
    one.id() == other.id() && one.range() == other.range() && one.epoch() == other.epoch() && same_peers
}

fn require(holds: bool, why_not: &str) -> Done {
    if holds { Ok(()) } else { Err(why_not.into()) }
}
