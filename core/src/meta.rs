//! [`StoreMeta`]: the published map of a store's regions.
//!
//! One root holds the indexes by key, by id and by store, the reported sizes and the sequence number; it is replaced whole,
//! and that swap is the only linearization point. A changeset of any number of regions is one swap, so nobody sees half a
//! split, and the indexes cannot disagree.
//!
//! A change goes through three steps, with a token in between:
//!
//! 1. [`prepare`](StoreMeta::prepare) checks a [`Changeset`] against the current root and against every other changeset
//!    that is under way, and reserves what it touches: a [`Permit`];
//! 2. the caller persists it (I4);
//! 3. [`Permit::publish`] swaps the root. It cannot be refused: whatever could speak against it was reserved in step 1.
//!
//! Dropping the permit instead gives the reservation back and leaves the root untouched.

mod changeset;
mod epoch_check;
mod feed;
mod history;
mod permit;
mod random;
mod ranges;
mod reader;
mod shared;
mod snapshot;
mod stats;
mod stores;
mod validate;
mod view;

pub use self::changeset::{Change, Changeset, Reason, Removal};
pub use self::epoch_check::EpochRefusal;
pub use self::feed::{Lagged, Published, Subscription};
pub use self::history::Version;
pub use self::permit::{Permit, Refusal};
pub use self::ranges::Siblings;
pub use self::reader::{ReadHandle, Reader};
pub use self::snapshot::Snapshot;
pub use self::stats::Reported;
pub use self::validate::Violation;
pub use self::view::{Gone, View};

use self::permit::Writers;
use self::shared::Shared;
use crate::ids::{PeerId, RegionId, Sequence, StoreId};
use crate::index::IndexWriter;
use crate::region::Region;
use crate::sync::{Arc, Mutex};

/// How many changesets, and how many changes in one of them, the feed keeps if nothing else is said.
const FEED_CAPACITY: usize = if cfg!(any(feature = "loom", feature = "shuttle")) { 2 } else { 1_024 };

/// The regions of one store, published for everyone at once.
///
/// - Reading: [`snapshot`](Self::snapshot) is O(1), takes no lock and stays consistent for as long as it is held.
///   A thread that reads often keeps a [`Reader`], which reuses its snapshot until the version counter moves. Who must not
///   write gets a [`ReadHandle`].
/// - Writing: [`prepare`](Self::prepare), persist, [`Permit::publish`]. Writers exclude one another for the microseconds of
///   a check or a swap, never while the caller persists; readers are never held up (I7).
///
/// ```
/// use regionmeta::{Changeset, KeyRange, Peer, RegionDraft, RegionEpoch, StoreId, StoreMeta};
///
/// let store = StoreId::new(1);
/// let meta = StoreMeta::new(Some(store));
/// let peers = vec![Peer::voter(3.into(), store)];
/// let region = RegionDraft::new(2.into(), KeyRange::ALL, RegionEpoch::INITIAL, peers).build()?;
///
/// let permit = meta.prepare(Changeset::new().create(region.clone()))?;
/// // ... write the region to disk here ...
/// let snapshot = permit.publish();
///
/// assert!(snapshot.locate(b"any key").is_some_and(|entry| entry.region().same_buffer(&region)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct StoreMeta {
    /// What readers load; a [`ReadHandle`] is a share of it.
    shared: Arc<Shared>,
    /// Reservations and tombstones: what only writers need to agree on. No read path touches it.
    writers: Mutex<Writers>,
}

impl StoreMeta {
    /// An empty map. `store_id` names the store whose peers it holds; with it a changeset is refused that has a region
    /// without a peer there, or that would bring back a destroyed peer (I12). A map of many stores' regions, such as a
    /// placement driver's, has none.
    #[must_use]
    pub fn new(store_id: Option<StoreId>) -> Self {
        Self::with_feed_capacity(store_id, FEED_CAPACITY)
    }

    /// An empty map whose change feed keeps the last `capacity` changesets, where [`new`](Self::new) keeps 1,024. What is
    /// kept keeps its regions in memory, so a changeset of more than `capacity` changes is not. 0 turns the feed off:
    /// subscribers are sent to snapshots.
    #[must_use]
    pub fn with_feed_capacity(store_id: Option<StoreId>, capacity: usize) -> Self {
        let (writer, index) = IndexWriter::new();
        let shared = Arc::new(Shared::new(store_id, index, capacity));
        Self { shared, writers: Mutex::new(Writers::new(writer)) }
    }

    /// A map of regions that were found on disk, published as one changeset, and of the peers known to be destroyed.
    ///
    /// # Errors
    /// [`Refusal`] if two regions have the same id or overlap, or if one has no peer on the store: recovery must refuse, not
    /// guess.
    pub fn recover(
        store_id: Option<StoreId>,
        regions: impl IntoIterator<Item = Region>,
        tombstones: impl IntoIterator<Item = (RegionId, Option<PeerId>)>,
    ) -> Result<Self, Refusal> {
        let meta = Self::new(store_id);
        let changeset = regions.into_iter().fold(Changeset::new(), Changeset::create);
        meta.prepare(changeset)?.publish();
        meta.writers.lock().bury_all(tombstones);
        Ok(meta)
    }

    /// The store whose peers this map holds, if it is the map of one store.
    #[must_use]
    pub fn store_id(&self) -> Option<StoreId> {
        self.shared.store_id()
    }

    /// The current state, consistent for as long as it is held. O(1), lock-free, no allocation.
    ///
    /// What is held keeps the memory of its version; drop snapshots that are no longer needed (I9).
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// The version counter: the sequence number of the newest changeset or report that is being published, or was. One
    /// atomic load.
    ///
    /// A cached snapshot whose [`sequence`](Snapshot::sequence) equals it is current.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.shared.sequence()
    }

    /// A reader that keeps its snapshot for as long as it is current: the way to look up often.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.read_handle().reader()
    }

    /// The read half, for whoever looks regions up and has no business changing them. O(1).
    #[must_use]
    pub fn read_handle(&self) -> ReadHandle {
        ReadHandle::new(self.shared.clone())
    }

    /// Notes that a peer was destroyed which never had a region here, so that neither it nor an earlier one of the region can
    /// be created any more (I12). Write its tombstone first: this is gone at the next start. O(1), under the writers' lock.
    pub fn bury(&self, region: RegionId, peer: PeerId) {
        self.writers.lock().bury_all([(region, Some(peer))]);
    }

    /// Frees the memory of states that nobody holds any more.
    ///
    /// Letting go of a snapshot is no more than lowering a count; the memory behind it is freed by the next publication. A
    /// map that changes seldom and whose readers hold snapshots for long may call this from a timer. O(states that were held,
    /// and what is freed); the freeing outside the writers' lock.
    pub fn reclaim(&self) {
        let unused = self.writers.lock().reclaim();
        drop(unused);
    }

    /// Checks a changeset against the current root and reserves what it touches.
    ///
    /// Costs O(changes log regions), and for each permit that is under way O(changes log regions of that permit), all of it
    /// under the writers' lock. Nothing that readers see is changed.
    ///
    /// # Errors
    /// [`Refusal`], which names both sides; the root and all reservations are as before.
    pub fn prepare(&self, changeset: Changeset) -> Result<Permit<'_>, Refusal> {
        let mut writers = self.writers.lock();
        let current = self.snapshot();
        let reservation = writers.reserve(current.index(), self.store_id(), &changeset)?;
        Ok(Permit::new(self, changeset, reservation))
    }
}
