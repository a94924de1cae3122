//! Recovery: from the records on disk to a published map (spec section 4).
//!
//! 1. **Scan.** Region states and apply states are read in two ordered scans; decoding, the expensive part, is spread over
//!    threads.
//! 2. **Check.** What recovery builds on must prove itself: integrity, identity, a peer on this store, no overlap, apply
//!    states that are not behind their truncation. A record that does not is an error that names it; nothing is skipped and
//!    nothing is guessed (I8).
//! 3. **Build.** All regions are published at once, to nobody yet; regions that contradict one another are refused here.
//! 4. **Repair.** What a crash can leave half-done is finished: a destroyed peer's leftovers, a snapshot whose raft state is
//!    not in the Raft engine yet.
//!
//! Nothing is written before every record has passed its checks. Doing it again changes nothing.

mod repair;
mod scan;

use std::time::{Duration, Instant};

use regionmeta::layout::{decode_raft_key, region_state_key};
use regionmeta::mutant::{Mutant, planted};
use regionmeta::{
    ApplyState, KeyBuf, LogIndex, PeerState, RaftState, Refusal, Region, RegionId, StoreId, StoreIdent, StoreMeta,
};

use crate::raft_engine::RaftEngine;
use crate::records::ReadError;
use crate::region_map::RegionMap;
use crate::storage::{Family, RecordAt, Storage, StorageError};

/// What recovery found, and how long each phase took.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// Live regions, now published.
    pub regions: usize,
    /// Records of peers that are gone; they stay.
    pub tombstones: usize,
    /// Regions whose snapshot data is still to be ingested: the host resumes that.
    pub applying: Vec<RegionId>,
    /// Regions that wait for their merge target or a rollback: the host re-checks the merge.
    pub merging: Vec<RegionId>,
    /// Regions that wait for their data: the host asks the leader for a snapshot.
    pub unavailable: Vec<RegionId>,
    /// Destroyed peers whose Raft records were still there, now cleaned.
    pub destroys_finished: usize,
    /// Snapshots whose raft state had not reached the Raft engine, now there.
    pub snapshots_finished: usize,
    /// Apply states without a region: what a peer left that was never initialized. They are not touched.
    pub orphan_apply_states: usize,
    /// Stored bytes of region states, keys included.
    pub region_state_bytes: u64,
    /// Reading and decoding.
    pub scan_time: Duration,
    /// Checking every record, and building the indexes.
    pub build_time: Duration,
    /// Finishing what a crash had interrupted.
    pub repair_time: Duration,
}

impl RecoveryReport {
    /// All phases together.
    #[must_use]
    pub fn total_time(&self) -> Duration {
        self.scan_time + self.repair_time + self.build_time
    }
}

/// Why a store was not recovered. Each names the record, and nothing was changed unless a repair itself failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum RecoveryError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("{}{error}", region.map(|region| format!("region {region}: ")).unwrap_or_default())]
    Damaged { region: Option<RegionId>, error: ReadError },
    #[error("family {family} has {key} among its region records: {cause}")]
    UnknownKey { family: Family, key: KeyBuf, cause: regionmeta::layout::LayoutError },
    #[error("region {region}: {at} holds {found}: it was stored under a foreign key")]
    Misplaced { region: RegionId, at: RecordAt, found: Region },
    #[error("{region} has no peer on store {store}: the record is another store's")]
    Foreign { region: Region, store: StoreId },
    #[error("region {region}: applied index {} is behind the truncated index {}", state.applied_index, state.truncated.index)]
    ApplyBehindTruncation { region: RegionId, state: ApplyState },
    #[error(
        "region {region}: applied index {} and the log begins at {first}: the entries between are gone, another replica has them",
        state.applied_index
    )]
    ApplyBehindLog { region: RegionId, state: ApplyState, first: LogIndex },
    #[error("region {region}: last log index {} is behind the truncated index {}", raft.last_index, apply.truncated.index)]
    LogBehindTruncation { region: RegionId, raft: RaftState, apply: ApplyState },
    #[error("region {region}: commit {} is beyond the last log index {}", raft.hard_state.commit, raft.last_index)]
    CommitBeyondLog { region: RegionId, raft: RaftState },
    #[error("region {region} is initialized, and its raft state has term 0")]
    NoTerm { region: RegionId, raft: RaftState },
    #[error("cannot start a thread for recovery: {0}")]
    Thread(std::io::Error),
    #[error("region {region} is Applying, and the raft state of its snapshot is missing")]
    SnapshotStateMissing { region: RegionId },
    #[error("the regions on disk contradict one another: {0}")]
    Tiling(Refusal),
}

impl RecoveryError {
    fn at(region: RegionId) -> impl FnOnce(ReadError) -> Self {
        move |error| Self::Damaged { region: Some(region), error }
    }
}

impl From<ReadError> for RecoveryError {
    /// A record that was read elsewhere, such as in the Raft engine, still says by its key whose it is.
    fn from(error: ReadError) -> Self {
        let region = match &error {
            ReadError::Damaged { at, .. } => decode_raft_key(at.key.as_bytes()).ok().map(|(region, _)| region),
            ReadError::Storage(_) => None,
        };
        Self::Damaged { region, error }
    }
}

/// A recovered store.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) meta: StoreMeta,
    pub(crate) apply_states: RegionMap<ApplyState>,
    pub(crate) report: RecoveryReport,
}

/// Recovers the store from its records.
pub(crate) fn recover(
    storage: &impl Storage,
    raft: &dyn RaftEngine,
    ident: StoreIdent,
    threads: usize,
) -> Result<Recovered, RecoveryError> {
    let started = Instant::now();
    let mut found = scan::scan(storage, raft, threads)?;
    let mut report = RecoveryReport { region_state_bytes: found.region_state_bytes, ..RecoveryReport::default() };
    report.scan_time = started.elapsed();

    let started = Instant::now();
    check_all(&found, ident.store_id)?;
    let meta = build(&found, ident.store_id)?;
    report.build_time = started.elapsed();

    let started = Instant::now();
    repair::finish_what_crashed(storage, raft, &mut found, &mut report)?;
    classify(&mut report, &found.regions);
    let mut orphans = found.apply_states;
    let live = found.regions.iter().filter(|region| region.state().is_live());
    let apply_states =
        live.map(|region| (region.id(), orphans.remove(&region.id()).unwrap_or(ApplyState::INITIAL))).collect();
    report.orphan_apply_states = orphans.len();
    report.repair_time = started.elapsed();
    tracing::info!(regions = report.regions, tombstones = report.tombstones, time = ?report.total_time(), "recovered");
    Ok(Recovered { meta, apply_states, report })
}

/// The published map. Whether the regions contradict one another shows here, and only here, so it comes before any repair.
fn build(found: &scan::Found, store: StoreId) -> Result<StoreMeta, RecoveryError> {
    let (mut live, tombstones): (Vec<_>, Vec<_>) = found.regions.iter().partition(|region| region.state().is_live());
    if planted(Mutant::M8) {
        live.dedup_by(|later, earlier| later.range().overlaps(earlier.range()));
    }
    // After a removal the list of peers no longer has the destroyed one.
    let buried_peer = |region: &Region| region.destroyed_peer().or_else(|| region.peer_on(store).map(|peer| peer.id));
    let buried = tombstones.iter().map(|region| (region.id(), buried_peer(region)));
    StoreMeta::recover(Some(store), live.into_iter().cloned(), buried).map_err(RecoveryError::Tiling)
}

fn classify(report: &mut RecoveryReport, regions: &[Region]) {
    for region in regions {
        match region.state() {
            PeerState::Applying => report.applying.push(region.id()),
            PeerState::Merging => report.merging.push(region.id()),
            PeerState::Unavailable => report.unavailable.push(region.id()),
            PeerState::Tombstone => report.tombstones += 1,
            PeerState::Normal => {}
        }
    }
    report.regions = regions.len() - report.tombstones;
}

fn check_all(found: &scan::Found, store: StoreId) -> Result<(), RecoveryError> {
    for region in found.regions.iter().filter(|region| region.state().is_live()) {
        if region.peer_on(store).is_none() {
            return Err(RecoveryError::Foreign { region: region.clone(), store });
        }
        let apply = found.apply_states.get(&region.id()).copied().unwrap_or(ApplyState::INITIAL);
        check_positions(region, apply, found.raft_states.get(&region.id()))?;
        check_log_begin(region, apply, found.first_indexes.get(&region.id()))?;
    }
    Ok(())
}

/// Whether the log still has what the region has not applied. While a snapshot is being applied the log is another one's.
fn check_log_begin(region: &Region, apply: ApplyState, first: Option<&LogIndex>) -> Result<(), RecoveryError> {
    let Some(&first) = first.filter(|_| region.state() != PeerState::Applying) else { return Ok(()) };
    if apply.applied_index.next().is_some_and(|next| first > next) {
        return Err(RecoveryError::ApplyBehindLog { region: region.id(), state: apply, first });
    }
    Ok(())
}

/// Of spec section 1.5 what needs neither the log's entries nor a raft state that the host writes with each of them: a
/// recorded commit beyond the raft state's is the host's to judge, which has the entries.
fn check_positions(region: &Region, apply: ApplyState, raft: Option<&RaftState>) -> Result<(), RecoveryError> {
    let id = region.id();
    if apply.applied_index < apply.truncated.index {
        return Err(RecoveryError::ApplyBehindTruncation { region: id, state: apply });
    }
    // While a snapshot is being applied the Raft engine is behind on purpose: the repair brings it up.
    let Some(&raft) = raft.filter(|_| region.state() != PeerState::Applying) else { return Ok(()) };
    if raft.last_index < apply.truncated.index {
        return Err(RecoveryError::LogBehindTruncation { region: id, raft, apply });
    }
    if raft.hard_state.commit > raft.last_index {
        return Err(RecoveryError::CommitBeyondLog { region: id, raft });
    }
    if raft.hard_state.term.get() == 0 {
        return Err(RecoveryError::NoTerm { region: id, raft });
    }
    Ok(())
}

/// Where a region's state stands, for errors.
fn region_state_at(region: RegionId) -> RecordAt {
    RecordAt { family: Family::Raft, key: region_state_key(region).as_slice().into() }
}
