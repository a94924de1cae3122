//! What a snapshot must answer about ranges, neighbours and epochs: each question put to a list of regions, key by key.

use std::collections::{BTreeMap, BTreeSet};

use super::stores;
use crate::epoch::{EpochHalves, RegionEpoch};
use crate::ids::RegionId;
use crate::keys::KeyRange;
use crate::meta::{EpochRefusal, Snapshot};
use crate::region::Region;
use crate::stats::Stats;

/// The first answer that differs, if any. `regions` are those of the snapshot, in key order.
pub(super) fn check(snapshot: &Snapshot, regions: &[&Region], stats: &BTreeMap<RegionId, Stats>) -> Result<(), String> {
    let bounds: BTreeSet<&[u8]> = regions.iter().flat_map(|r| [r.start_key(), r.end_key().to_wire()]).collect();
    let bounds: Vec<&[u8]> = bounds.into_iter().collect();
    for range in ranges(&bounds) {
        let range = KeyRange::from_wire(&range.0, &range.1);
        check_range(snapshot, regions, range)?;
        stores::check_sums(snapshot, regions, stats, range)?;
    }
    for region in regions {
        check_siblings(snapshot, regions, region)?;
        check_epochs(snapshot, region)?;
    }
    let keys: Vec<Vec<u8>> = bounds.iter().flat_map(|bound| [bound.to_vec(), behind(bound)]).collect();
    check_groups(snapshot, regions, &keys)?;
    check_groups(snapshot, regions, &keys.into_iter().step_by(5).collect::<Vec<_>>())
}

fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// From each bound to some of the others, and from just behind it to just behind those; some of them are empty.
fn ranges(bounds: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let some = |at: usize| [at.wrapping_sub(1), at, at + 1, at + 4].into_iter().filter_map(|at| bounds.get(at));
    let pairs = bounds.iter().enumerate().flat_map(|(at, start)| some(at).map(move |end| (start, end)));
    let all = [(vec![], vec![])];
    all.into_iter().chain(pairs.flat_map(|(a, b)| [(a.to_vec(), b.to_vec()), (behind(a), behind(b))])).collect()
}

fn owner<'a>(regions: &[&'a Region], key: &[u8]) -> Option<&'a Region> {
    regions.iter().copied().find(|region| region.range().contains(key))
}

fn check_range(snapshot: &Snapshot, regions: &[&Region], range: KeyRange<'_>) -> Result<(), String> {
    // Between two of these keys nothing begins or ends, so the lower one speaks for all.
    let within = regions.iter().flat_map(|r| [r.start_key(), r.end_key().to_wire()]).filter(|key| range.contains(key));
    let mut keys: Vec<&[u8]> = within.chain(range.contains(range.start).then_some(range.start)).collect();
    keys.sort_unstable();
    keys.dedup();
    let owners: BTreeSet<RegionId> = keys.iter().filter_map(|key| owner(regions, key)).map(Region::id).collect();
    let ends = keys.iter().skip(1).copied().chain([range.end.to_wire()]);
    let holes: Vec<_> = keys.iter().zip(ends).filter(|(key, _)| owner(regions, key).is_none()).collect();
    let expected: Vec<_> = holes.into_iter().map(|(start, end)| KeyRange::from_wire(start, end)).collect();
    let found: Vec<_> = snapshot.holes(range).collect();
    if found != expected || snapshot.covers(range) != expected.is_empty() {
        return Err(format!("holes({range}): {found:?} instead of {expected:?}, or covers() says otherwise"));
    }
    let count = snapshot.count(range);
    if count == owners.len() { Ok(()) } else { Err(format!("count({range}): {count} instead of {}", owners.len())) }
}

fn check_siblings(snapshot: &Snapshot, regions: &[&Region], region: &Region) -> Result<(), String> {
    let left = regions.iter().find(|other| other.range().touches(region.range())).map(|left| left.id());
    let right = regions.iter().find(|other| region.range().touches(other.range())).map(|right| right.id());
    let found = snapshot.siblings(region.id());
    let ids = found.map(|s| (s.left.map(|e| e.region().id()), s.right.map(|e| e.region().id())));
    if ids == Some((left, right)) { Ok(()) } else { Err(format!("siblings({region}): {found:?}")) }
}

fn check_epochs(snapshot: &Snapshot, region: &Region) -> Result<(), String> {
    let RegionEpoch { conf_ver, version } = region.epoch();
    for asked in [region.epoch(), RegionEpoch::new(conf_ver + 1, version), RegionEpoch::new(conf_ver, version - 1)] {
        let [conf_differs, version_differs] = [asked.conf_ver != conf_ver, asked.version != version];
        for halves in [EpochHalves::NONE, EpochHalves::CONF_VER, EpochHalves::VERSION, EpochHalves::BOTH] {
            let differs = halves.conf_ver && conf_differs || halves.version && version_differs;
            let right = match snapshot.check_epoch(region.id(), asked, halves) {
                Ok(entry) => !differs && entry.region().same_buffer(region),
                Err(EpochRefusal::EpochNotMatch { asked: named, current }) => {
                    differs && named == asked && current.same_buffer(region)
                }
                Err(EpochRefusal::RegionNotFound { .. }) => false,
            };
            right.then_some(()).ok_or_else(|| format!("check_epoch({region}, {asked}, {halves:?})"))?;
        }
    }
    let unknown = RegionId::new(u64::MAX);
    let refusal = snapshot.check_epoch(unknown, region.epoch(), EpochHalves::NONE).map(|entry| entry.region().id());
    let expected = Err(EpochRefusal::RegionNotFound { region: unknown });
    if refusal == expected { Ok(()) } else { Err(format!("check_epoch({unknown:?}): {refusal:?}")) }
}

/// Two keys go together if one region owns both, or nobody does and no region begins in between.
fn check_groups(snapshot: &Snapshot, regions: &[&Region], keys: &[Vec<u8>]) -> Result<(), String> {
    let begun = |key: &[u8]| regions.iter().filter(|region| region.start_key() <= key).count();
    let group_of = |key: &Vec<u8>| (owner(regions, key).map(Region::id), begun(key));
    let chunks: Vec<_> = keys.chunk_by(|a, b| group_of(a) == group_of(b)).collect();
    let expected =
        chunks.iter().map(|keys| (keys.first().and_then(|key| owner(regions, key)).map(Region::id), keys.len()));
    let expected: Vec<_> = expected.collect();
    let groups = snapshot.group_by_region(keys);
    let found: Vec<_> = groups.map(|(entry, at)| (entry.map(|entry| entry.region().id()), at)).collect();
    let in_order = found
        .iter()
        .map(|(_, at)| at.start)
        .eq((0..found.len()).map(|n| expected.iter().take(n).map(|(_, keys)| keys).sum::<usize>()));
    let lengths: Vec<_> = found.iter().map(|(id, at)| (*id, at.len())).collect();
    if in_order && lengths == expected { Ok(()) } else { Err(format!("groups: {found:?} instead of {expected:?}")) }
}
