//! The change feed: what was published, in order, for whoever keeps a picture of its own.
//!
//! The last changesets stand in a ring of cells, each in the place of its sequence number. A writer replaces one cell; a
//! subscriber knows which number it wants next and looks into that number's cell. So nobody waits for anybody: a subscriber
//! that is too slow finds a newer changeset there, or none, and starts over from a snapshot. Subscribers hold a number,
//! never a changeset, so they keep nothing alive.

use std::fmt;

use super::{Change, Changeset, ReadHandle, Snapshot};
use crate::ids::Sequence;
use crate::sync::{Arc, AtomicU64, Ordering, Swap};

/// One published changeset and its sequence number. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Published {
    batch: Arc<Batch>,
}

#[derive(Debug)]
struct Batch {
    sequence: Sequence,
    changeset: Changeset,
}

impl Published {
    pub(super) fn new(sequence: Sequence, changeset: Changeset) -> Self {
        Self { batch: Arc::new(Batch { sequence, changeset }) }
    }

    /// The number of the state that the changes made.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.batch.sequence
    }

    /// What was created, updated (and why) and removed (and how), each region once. Nothing, if the state was made by a
    /// [report](super::StoreMeta::report) of sizes.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        self.batch.changeset.changes()
    }
}

/// The subscriber was too slow, or asked for changes from before the feed's memory: what it missed is in this snapshot, and
/// the next event is the one after it.
#[derive(Clone, Debug)]
pub struct Lagged {
    /// The state to start over from.
    pub resync: Snapshot,
}

impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "changes were missed: start over from the state at {}", self.resync.sequence())
    }
}

impl std::error::Error for Lagged {}

/// Receives every published changeset once, in order of sequence numbers, at its own pace.
///
/// ```
/// use regionmeta::{Changeset, KeyRange, Peer, RegionDraft, RegionEpoch, StoreMeta};
///
/// let meta = StoreMeta::new(None);
/// let mut feed = meta.read_handle().subscribe_from(meta.sequence());
/// let peers = vec![Peer::voter(3.into(), 1.into())];
/// let region = RegionDraft::new(2.into(), KeyRange::ALL, RegionEpoch::INITIAL, peers).build()?;
/// meta.prepare(Changeset::new().create(region))?.publish();
///
/// let published = feed.next()?.ok_or("nothing was published")?;
/// assert_eq!(published.changes().len(), 1);
/// assert!(feed.next()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Subscription {
    handle: ReadHandle,
    /// The sequence number of the next event. 0, which no changeset has, if only a snapshot can help.
    next: u64,
}

impl ReadHandle {
    /// Subscribes to what was published after the state of that number. If the feed no longer has the first of those
    /// changes, or the number is not of this map, the first call of [`Subscription::next`] says [`Lagged`]. O(1).
    #[must_use]
    pub fn subscribe_from(&self, sequence: Sequence) -> Subscription {
        let known = sequence <= self.sequence();
        let next = if known { sequence.get().wrapping_add(1) } else { 0 };
        Subscription { handle: self.clone(), next }
    }
}

impl Subscription {
    /// The next changeset; `None` if there is none yet, which costs one atomic load. Otherwise O(1), lock-free, no
    /// allocation. Its changes are visible in every snapshot that is taken afterwards.
    ///
    /// # Errors
    /// [`Lagged`] if changes were missed; the next call goes on after its snapshot.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot go on after `None` or an error; this does")]
    pub fn next(&mut self) -> Result<Option<Published>, Lagged> {
        let feed = self.handle.feed();
        if self.next > feed.newest() {
            return Ok(None);
        }
        if let Some(published) = feed.get(self.next) {
            self.next = self.next.wrapping_add(1);
            return Ok(Some(published));
        }
        let resync = self.handle.snapshot();
        self.next = resync.sequence().get().wrapping_add(1);
        Err(Lagged { resync })
    }
}

/// The ring. Written under the writers' lock only.
#[derive(Debug)]
pub(super) struct Feed {
    cells: Box<[Swap<Batch>]>,
    /// What stands in a cell that keeps nothing.
    nothing: Arc<Batch>,
    /// The number of the newest changeset that the ring has taken in.
    newest: AtomicU64,
}

impl Feed {
    /// A ring of that many changesets, none of which has more changes than that.
    pub(super) fn new(capacity: usize) -> Self {
        // No changeset has the number 0: it is that of the empty map.
        let nothing = Arc::new(Batch { sequence: Sequence::new(0), changeset: Changeset::new() });
        let cells = (0..capacity).map(|_| Swap::new(nothing.clone())).collect();
        Self { cells, nothing, newest: AtomicU64::new(0) }
    }

    fn newest(&self) -> u64 {
        // Acquire, with the Release store in `push`: whoever finds a number here finds its cell, or a later one's, filled,
        // and a root that is at least as new.
        self.newest.load(Ordering::Acquire)
    }

    fn cell(&self, sequence: u64) -> Option<&Swap<Batch>> {
        let at = sequence.checked_rem(self.cells.len() as u64)?;
        self.cells.get(at as usize)
    }

    fn get(&self, sequence: u64) -> Option<Published> {
        let batch = self.cell(sequence)?.load_full();
        (sequence != 0 && batch.sequence.get() == sequence).then_some(Published { batch })
    }

    /// Takes in what was just published, and returns what it replaces, to be freed when nobody waits. Called under the
    /// writers' lock, after the root was swapped: an event never comes before its state. O(1).
    pub(super) fn push(&self, published: Published) -> Option<Published> {
        let sequence = published.sequence().get();
        // A changeset as large as a whole map would keep all its regions: whoever wants it takes a snapshot instead.
        let (kept, too_large) = match published.changes().len() > self.cells.len() {
            true => (self.nothing.clone(), Some(published)),
            false => (published.batch, None),
        };
        let replaced = self.cell(sequence).map(|cell| Published { batch: cell.swap(kept) });
        // Release, with the Acquire load in `newest`: the cell is filled before its number can be seen.
        self.newest.store(sequence, Ordering::Release);
        too_large.or(replaced)
    }
}
