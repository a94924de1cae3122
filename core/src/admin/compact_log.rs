//! CompactLog: a prefix of the log goes (spec section 5.9). Only the apply state changes.

use super::{AdminError, ApplyContext, Outcome};
use crate::ids::LogIndex;
use crate::peer::PeerState;
use crate::raft::LogPosition;
use crate::region::Region;

/// Every entry up to and including `compact` may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CompactLog {
    /// The last entry that goes, with its term.
    pub compact: LogPosition,
    /// Up to where all voters have the log: a witness must not drop more than that.
    pub voter_replicated_index: LogIndex,
}

/// What every replica refuses comes first: after a snapshot a replica's log begins later than that of the others, and only
/// whether there is anything left to do may depend on it.
pub(super) fn plan(current: &Region, command: &CompactLog, context: &ApplyContext<'_>) -> Result<Outcome, AdminError> {
    let (region, compact, applied) = (current.id(), command.compact, context.apply_state.applied_index);
    if compact.term.get() == 0 {
        return Err(AdminError::CompactTermMissing { region, compact });
    }
    if compact.index > applied {
        return Err(AdminError::CompactNotApplied { region, compact, applied });
    }
    // A region that merges must be able to ship its log to the target.
    if current.state() == PeerState::Merging || compact.index <= context.first_index() {
        return Ok(Outcome::Unchanged);
    }
    let voter_replicated_index = command.voter_replicated_index;
    let is_witness = current.peer_on(context.store_id).is_some_and(|peer| peer.is_witness);
    if is_witness && voter_replicated_index < compact.index {
        return Ok(Outcome::LogTruncationDelayed { truncated: compact, voter_replicated_index });
    }
    Ok(Outcome::LogTruncated { truncated: compact })
}
