//! Finishing what a crash interrupted. Each repair may itself be interrupted and done again.

use regionmeta::layout::{apply_state_key, region_state_key};
use regionmeta::{PeerState, RaftState, Region};

use super::scan::Found;
use super::{RecoveryError, RecoveryReport};
use crate::raft_engine::RaftEngine;
use crate::records;
use crate::storage::{Durability, Family, Storage};

pub(super) fn finish_what_crashed(
    storage: &impl Storage,
    raft: &dyn RaftEngine,
    found: &mut Found,
    report: &mut RecoveryReport,
) -> Result<(), RecoveryError> {
    // What must not be missing is looked for first: nothing is repaired in a store that will be refused.
    let snapshots = unfinished_snapshots(found)?;
    let destroys = unfinished_destroys(found);
    finish_destroys(storage, raft, found, &destroys)?;
    for (region, state) in &snapshots {
        raft.clean(region.id())?;
        raft.put_raft_state(region.id(), state)?;
    }
    (report.destroys_finished, report.snapshots_finished) = (destroys.len(), snapshots.len());
    Ok(())
}

/// Tombstones whose Raft records are still there: the crash hit the middle of a destroy.
fn unfinished_destroys(found: &Found) -> Vec<Region> {
    let destroyed = found.regions.iter().filter(|region| region.state() == PeerState::Tombstone);
    destroyed.filter(|region| found.raft_states.contains_key(&region.id())).cloned().collect()
}

/// The apply states go and the tombstones are put back as they were, in one batch; the Raft records follow, because they
/// are the mark by which an interrupted repair is found again.
fn finish_destroys(
    storage: &impl Storage,
    raft: &dyn RaftEngine,
    found: &mut Found,
    destroyed: &[Region],
) -> Result<(), RecoveryError> {
    if destroyed.is_empty() {
        return Ok(());
    }
    let mut batch = storage.batch();
    for region in destroyed {
        storage.delete(&mut batch, Family::Raft, &apply_state_key(region.id()))?;
        records::put(storage, &mut batch, Family::Raft, &region_state_key(region.id()), region)?;
        found.apply_states.remove(&region.id());
    }
    storage.write(batch, Durability::Synced)?;
    for region in destroyed {
        raft.clean(region.id())?;
    }
    Ok(())
}

/// Regions in state Applying whose raft state did not reach the Raft engine: the crash hit between the two writes.
fn unfinished_snapshots(found: &Found) -> Result<Vec<(Region, RaftState)>, RecoveryError> {
    let mut unfinished = Vec::new();
    for region in found.regions.iter().filter(|region| region.state() == PeerState::Applying) {
        let id = region.id();
        let snapshot =
            *found.snapshot_raft_states.get(&id).ok_or(RecoveryError::SnapshotStateMissing { region: id })?;
        let known = found.raft_states.get(&id);
        if known.is_none_or(|known| known.hard_state.commit < snapshot.hard_state.commit) {
            unfinished.push((region.clone(), snapshot));
        }
    }
    Ok(unfinished)
}
