//! [`Changeset`]: what one flushed batch changes.

use crate::ids::{PeerId, RegionId, Sequence};
use crate::region::Region;

/// Why a region changed. Observers hear it, and it decides which rule a change has to keep: only a snapshot may move a
/// region away from keys that it owned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// Membership changed.
    ChangePeer,
    /// A split took part of the range.
    Split,
    /// A merge into another region began.
    PrepareMerge,
    /// Another region was merged into this one.
    CommitMerge,
    /// A merge was given up.
    RollbackMerge,
    /// Witness flags changed.
    SwitchWitness,
    /// Flashback mode began or ended.
    Flashback,
    /// A Raft snapshot replaced the region: its range may be any.
    Snapshot,
}

/// How a region leaves the map.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Removal {
    /// Its range went to other regions of the same changeset; a hole is refused.
    Merged,
    /// This store's peer is gone; other stores own the range.
    Destroyed,
}

/// One region's change.
#[derive(Clone, Debug)]
pub enum Change {
    /// A region that this map does not have yet.
    Create {
        /// The new region.
        region: Region,
    },
    /// A new version of a region.
    Update {
        /// The version counter of the entry that the change was computed from.
        base: Sequence,
        /// The new version.
        region: Region,
        /// Why it changed.
        reason: Reason,
    },
    /// A region leaves.
    Remove {
        /// Which.
        id: RegionId,
        /// The version counter of the entry that the decision was taken from.
        base: Sequence,
        /// What becomes of its range.
        removal: Removal,
        /// This store's peer, which must never come back (I12); `None` if the removed region had none here.
        peer: Option<PeerId>,
    },
}

impl Change {
    /// The region that changes.
    #[must_use]
    pub fn id(&self) -> RegionId {
        match self {
            Self::Create { region } | Self::Update { region, .. } => region.id(),
            Self::Remove { id, .. } => *id,
        }
    }

    /// The region as it is after the change; `None` if it leaves.
    #[must_use]
    pub fn after(&self) -> Option<&Region> {
        match self {
            Self::Create { region } | Self::Update { region, .. } => Some(region),
            Self::Remove { .. } => None,
        }
    }

    /// The version counter that the change was computed from; `None` for a new region.
    #[must_use]
    pub fn base(&self) -> Option<Sequence> {
        match self {
            Self::Create { .. } => None,
            Self::Update { base, .. } | Self::Remove { base, .. } => Some(*base),
        }
    }

    /// Whether every key that the region owned must be owned by some region afterwards (I1).
    pub(super) fn must_leave_no_hole(&self) -> bool {
        match self {
            Self::Create { .. } => false,
            Self::Update { reason, .. } => *reason != Reason::Snapshot,
            Self::Remove { removal, .. } => *removal == Removal::Merged,
        }
    }
}

/// The regions that one batch creates, replaces and removes, each with the version counter that it was computed from.
/// Published whole, or refused whole. At most one change a region: a batch that changes a region several times hands in the
/// last version, with the counter that the first one started from.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Changeset {
    changes: Vec<Change>,
    left: Vec<Region>,
}

impl Changeset {
    /// No changes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a region that the map does not have yet.
    pub fn create(self, region: Region) -> Self {
        self.with(Change::Create { region })
    }

    /// Adds a new version of a region, computed from the entry that changed last at `base`.
    pub fn update(self, base: Sequence, region: Region, reason: Reason) -> Self {
        self.with(Change::Update { base, region, reason })
    }

    /// Adds the removal of a region, decided from the entry that changed last at `base`.
    pub fn remove(self, id: RegionId, base: Sequence, removal: Removal, peer: Option<PeerId>) -> Self {
        self.with(Change::Remove { id, base, removal, peer })
    }

    /// Gives keys up to a region that this changeset does not bring: a split's child that the store has, or had, in another
    /// way already (spec section 5.5). No region need own them afterwards.
    pub fn leave(mut self, child: Region) -> Self {
        self.left.push(child);
        self
    }

    /// The regions that keys are given up to.
    #[must_use]
    pub fn left(&self) -> &[Region] {
        &self.left
    }

    /// Adds a change.
    pub fn with(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// The changes, in the order they were added.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}
