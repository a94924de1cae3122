//! What this library keeps of a region's Raft group: positions, hard state, apply state. The log itself is the host's.

use crate::ids::{LogIndex, PeerId, Term};

/// The log index at which every region begins. Anything above 0 forces a new replica to be fed a snapshot, and the snapshot
/// is what carries the region (spec section 3.1).
pub const INIT_LOG_INDEX: LogIndex = LogIndex::new(5);

/// The term at which every region begins.
pub const INIT_LOG_TERM: Term = Term::new(5);

/// A log entry's index together with its term.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct LogPosition {
    /// The entry's index.
    pub index: LogIndex,
    /// The entry's term.
    pub term: Term,
}

impl LogPosition {
    /// The position that every initialized region begins at, 5 in term 5.
    pub const INITIAL: Self = Self { index: INIT_LOG_INDEX, term: INIT_LOG_TERM };
}

/// Raft's hard state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct HardState {
    /// The newest term this peer has seen.
    pub term: Term,
    /// Whom it voted for in that term; 0 for nobody.
    pub vote: PeerId,
    /// The highest index known to be committed.
    pub commit: LogIndex,
}

/// Hard state and last index of one region (spec section 1.5). It lives with the Raft log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct RaftState {
    /// Term, vote and commit.
    pub hard_state: HardState,
    /// The last entry of the log.
    pub last_index: LogIndex,
}

impl RaftState {
    /// Of an initialized region that has none yet: last and commit 5, term 5, no vote. A region that was just split off
    /// has none on purpose; this rule makes the crash window after the split harmless.
    pub const INITIAL: Self = Self {
        hard_state: HardState { term: INIT_LOG_TERM, vote: PeerId::new(0), commit: INIT_LOG_INDEX },
        last_index: INIT_LOG_INDEX,
    };
}

/// How far one region's log was applied (spec section 1.5). Written in the same batch as the data it describes (I5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ApplyState {
    /// The last entry that was applied.
    pub applied_index: LogIndex,
    /// The last entry that log compaction dropped; the first index is the one after it.
    pub truncated: LogPosition,
    /// The commit position that was known when the entry was applied.
    pub commit: LogPosition,
}

impl ApplyState {
    /// Of an initialized region that has none yet: applied 5, truncated 5 in term 5.
    pub const INITIAL: Self = Self {
        applied_index: INIT_LOG_INDEX,
        truncated: LogPosition::INITIAL,
        commit: LogPosition { index: LogIndex::new(0), term: Term::new(0) },
    };
}
