//! CommitMerge, on the target: it absorbs its source (spec section 5.7).

use super::merge::check_partners;
use super::{AdminError, ApplyContext, Outcome};
use crate::epoch::{EpochOverflow, RegionEpoch};
use crate::ids::{LogIndex, Term};
use crate::keys::KeyRange;
use crate::mutant::{Mutant, planted};
use crate::peer::PeerState;
use crate::region::{MergeState, Region, RegionDraft};

/// An entry of the source's log that some replica of it may lack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEntry {
    /// Its index.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// The host's bytes.
    pub data: Vec<u8>,
}

/// The region absorbs `source`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitMerge {
    /// The source as PrepareMerge left it, with its state and merge state.
    pub source: Region,
    /// The log index of that PrepareMerge.
    pub commit: LogIndex,
    /// The source's entries from the merge state's `min_index` to `commit`; or none, if the host brings a source up to date
    /// in another way.
    pub entries: Vec<LogEntry>,
}

pub(super) fn plan(target: &Region, merge: &CommitMerge, context: &ApplyContext<'_>) -> Result<Outcome, AdminError> {
    check_command(target, merge)?;
    let region = merged(target, &merge.source)?;
    let tombstone = tombstone(target, &merge.source)?;
    check_source(target, merge, context.merge_source)?;
    let source_peer = merge.source.peer_on(context.store_id).map(|peer| peer.id);
    Ok(Outcome::Merged { target: region, source: tombstone, source_peer })
}

/// The half that every replica answers alike, because it looks at the target and at the command only.
fn check_command(target: &Region, merge: &CommitMerge) -> Result<(), AdminError> {
    let CommitMerge { source, commit, entries } = merge;
    let region = target.id();
    let state = source.merge_state().filter(|_| source.state() == PeerState::Merging);
    let state = state
        .filter(|state| state.target.id() == region)
        .ok_or_else(|| AdminError::NotMergingHere { region, merging: source.clone() })?;
    if state.commit != *commit {
        return Err(AdminError::OtherPrepare { region: source.id(), prepared: state.commit, request: *commit });
    }
    check_partners(target, source)?;
    let expected = state.min_index.get()..=commit.get();
    if !entries.is_empty() && !entries.iter().map(|entry| entry.index.get()).eq(expected) {
        return Err(AdminError::MergeEntries { region, min_index: state.min_index, commit: *commit });
    }
    Ok(())
}

/// The half that depends on this store: its source must have come to where the command says, and not have gone on.
fn check_source(target: &Region, merge: &CommitMerge, found: Option<&Region>) -> Result<(), AdminError> {
    let (region, expected) = (target.id(), merge.source.clone());
    let Some(found) = found.cloned() else { return Err(AdminError::SourceMissing { region, expected }) };
    if found == expected {
        return Ok(());
    }
    let is_on_its_way = found.id() == expected.id()
        && found.state().is_live()
        && found.epoch().version < expected.epoch().version
        && found.epoch().conf_ver < expected.epoch().conf_ver;
    Err(match is_on_its_way {
        true => AdminError::SourceNotReady { region, expected, found },
        false => AdminError::SourceMismatch { region, expected, found },
    })
}

/// The version is above both, so that it wins against every descriptor of either range.
fn merged(target: &Region, source: &Region) -> Result<Region, AdminError> {
    let RegionEpoch { conf_ver, version } = target.epoch();
    let of_source = if planted(Mutant::M4) { 0 } else { source.epoch().version };
    let above = RegionEpoch { conf_ver, version: version.max(of_source) };
    let overflow = |cause: EpochOverflow| AdminError::EpochOverflow { region: target.id(), cause };
    let epoch = above.with_version_moved(1).map_err(overflow)?;
    let range = match target.range().touches(source.range()) {
        true => KeyRange::new(target.start_key(), source.end_key()),
        false => KeyRange::new(source.start_key(), target.end_key()),
    };
    Ok(RegionDraft { range, epoch, ..target.to_draft() }.build()?)
}

/// Keeps the source's epoch and peers, which answer stale messages, and the target as it was before, which tells that the
/// region was merged away.
fn tombstone(target: &Region, source: &Region) -> Result<Region, AdminError> {
    let merge_state = Some(MergeState { min_index: 0.into(), commit: 0.into(), target: target.as_ref() });
    Ok(RegionDraft { state: PeerState::Tombstone, merge_state, ..source.to_draft() }.build()?)
}
