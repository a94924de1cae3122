//! [`ApplySettings`]: how an [`ApplyPool`](super::ApplyPool) works, apart from what it works with.

/// When a batch of the pool is synced. Batches with a tombstone are synced whatever is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum SyncPolicy {
    /// Every batch.
    #[default]
    Every,
    /// A batch with an admin command that changes metadata, or with an entry that [asks for it](super::Entry::synced). All
    /// else relies on the Raft log.
    Hinted,
    /// No batch: after a power loss the Raft log brings everything back.
    Never,
}

/// Bounds and policies of an [`ApplyPool`](super::ApplyPool). The defaults are those of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApplySettings {
    /// Threads that apply. At least 1.
    pub workers: usize,
    /// How many entries may wait in one region's mailbox. At least 1.
    pub mailbox_entries_max: usize,
    /// How many entries a region applies in a turn before the next region has its own.
    pub turn_entries_max: usize,
    /// How many bytes a region puts into batches in a turn before the next region has its own.
    pub turn_bytes_max: usize,
    /// How many regions a worker drains into one batch.
    pub round_regions_max: usize,
    /// A batch of more bytes is written at once.
    pub batch_bytes_max: usize,
    /// A batch of more entries is written at once.
    pub batch_entries_max: usize,
    /// When batches are synced.
    pub sync: SyncPolicy,
    /// Which way to look for the siblings that an `EpochNotMatch` carries: where splits leave new regions on the left,
    /// because the right one keeps the id.
    pub right_derive: bool,
}

impl Default for ApplySettings {
    fn default() -> Self {
        Self {
            workers: 2,
            mailbox_entries_max: 4_096,
            turn_entries_max: 256,
            turn_bytes_max: 32 * 1024,
            round_regions_max: 256,
            batch_bytes_max: 4 * 1024 * 1024,
            batch_entries_max: 1_024,
            sync: SyncPolicy::Every,
            right_derive: true,
        }
    }
}

impl ApplySettings {
    /// A bound of 0 would let nothing through.
    pub(super) fn at_least_one(self) -> Self {
        Self {
            workers: self.workers.max(1),
            mailbox_entries_max: self.mailbox_entries_max.max(1),
            turn_entries_max: self.turn_entries_max.max(1),
            turn_bytes_max: self.turn_bytes_max.max(1),
            round_regions_max: self.round_regions_max.max(1),
            batch_bytes_max: self.batch_bytes_max.max(1),
            batch_entries_max: self.batch_entries_max.max(1),
            ..self
        }
    }
}
