//! PrepareMerge, on the source: it stops, and waits for the target to absorb it (spec section 5.6).

use super::merge::{check_partners, joint_peer};
use super::{AdminError, ApplyContext, Outcome};
use crate::ids::LogIndex;
use crate::meta::Reason;
use crate::peer::PeerState;
use crate::region::{MergeState, Region, RegionDraft};

/// The region is to be merged into `target`.
///
/// The proposer has more conditions, about the state of replication, which no descriptor tells; it also compares `target`
/// with the region that it has itself. At apply time that comparison would differ from store to store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PrepareMerge {
    /// The target as the proposer knew it: in state Normal.
    pub target: Region,
    /// The first log index that some replica of the source may lack.
    pub min_index: LogIndex,
}

pub(super) fn plan(source: &Region, merge: &PrepareMerge, context: &ApplyContext<'_>) -> Result<Outcome, AdminError> {
    let region = source.id();
    if let Some(peer) = joint_peer(source) {
        return Err(AdminError::InJointState { region, peer });
    }
    check_partners(source, &merge.target)?;
    let (min_index, entry, first_index) = (merge.min_index, context.entry.index, context.first_index());
    if min_index > entry {
        return Err(AdminError::MinIndexAhead { region, min_index, entry });
    }
    // Moving conf_ver makes every membership change void that was proposed before.
    let epoch = source
        .epoch()
        .with_version_moved(1)
        .and_then(|epoch| epoch.with_conf_ver_moved(1))
        .map_err(|cause| AdminError::EpochOverflow { region, cause })?;
    let merge_state = Some(MergeState { min_index, commit: entry, target: merge.target.as_ref() });
    let merging = RegionDraft { state: PeerState::Merging, epoch, merge_state, ..source.to_draft() }.build()?;
    // Last, because it is this store's own trouble: what every replica refuses must be refused here too.
    if min_index < first_index {
        return Err(AdminError::MinIndexTruncated { region, min_index, first_index });
    }
    Ok(Outcome::Changed { region: merging, reason: Reason::PrepareMerge })
}
