//! RollbackMerge, on the source: the merge is given up, the region goes on (spec section 5.8).

use super::{AdminError, Outcome};
use crate::ids::LogIndex;
use crate::meta::Reason;
use crate::mutant::{Mutant, planted};
use crate::peer::PeerState;
use crate::region::{Region, RegionDraft};

/// The merge that was prepared at `commit` is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RollbackMerge {
    /// The log index of the PrepareMerge.
    pub commit: LogIndex,
}

/// What a replica of the source sees of the target.
#[derive(Clone, Copy, Debug)]
pub enum TargetSeen<'a> {
    /// The target, live on this store.
    Here(&'a Region),
    /// The target's tombstone on this store: it was merged into a third region, or its peer was removed.
    Gone(&'a Region),
    /// Nothing certain: it is not here yet, or it could not be asked.
    Unknown,
}

impl RollbackMerge {
    /// Whether a replica of `source` may ask for the rollback; the leader proposes it when a quorum asks.
    ///
    /// A CommitMerge needs the target at exactly the epoch that the PrepareMerge recorded, and a rollback needs it beyond
    /// that one. So a merge is never both committed and rolled back, as it was when an error that passes counted as a
    /// reason (tikv#15682, M23 of known-bugs). `None` if `source` does not merge, or the target has not moved.
    #[must_use]
    pub fn wanted(source: &Region, target: TargetSeen<'_>) -> Option<Self> {
        let merge = source.merge_state().filter(|_| source.state() == PeerState::Merging)?;
        let seen = match target {
            TargetSeen::Here(target) | TargetSeen::Gone(target) => target,
            TargetSeen::Unknown => return planted(Mutant::M23).then_some(Self { commit: merge.commit }),
        };
        let has_moved = seen.id() == merge.target.id() && merge.target.epoch().is_behind_any(seen.epoch());
        has_moved.then_some(Self { commit: merge.commit })
    }
}

/// The extra `conf_ver` of the prepare stays.
pub(super) fn plan(source: &Region, merge: RollbackMerge) -> Result<Outcome, AdminError> {
    let region = source.id();
    let prepared = source.merge_state().map(|merge| merge.commit).unwrap_or_default();
    if prepared != merge.commit {
        return Err(AdminError::OtherPrepare { region, prepared, request: merge.commit });
    }
    let epoch = source.epoch().with_version_moved(1).map_err(|cause| AdminError::EpochOverflow { region, cause })?;
    let region = RegionDraft { state: PeerState::Normal, epoch, merge_state: None, ..source.to_draft() }.build()?;
    Ok(Outcome::Changed { region, reason: Reason::RollbackMerge })
}
