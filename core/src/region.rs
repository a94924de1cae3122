//! [`Region`]: one immutable version of a region's metadata, in one verified buffer.
//!
//! A region is built once by [`RegionDraft::build`] or verified once by [`Region::from_bytes`]; these two are the only ways
//! in, and both enforce I13. After that every read goes straight to the bytes, without checks and without copies, and the
//! very same bytes are what storage writes (I6).

mod check;
mod draft;
mod error;

use std::fmt;

use triomphe::ThinArc;

pub(crate) use self::check::verifier_options;
pub use self::check::{PEERS_MAX, REGION_BYTES_MAX};
pub use self::draft::RegionDraft;
pub(crate) use self::draft::write_bytes;
pub use self::error::RegionError;
use crate::epoch::RegionEpoch;
use crate::ids::{LogIndex, PeerId, RegionId, StoreId};
use crate::keys::{EndKey, KeyRange};
use crate::mutant::{Mutant, planted};
use crate::peer::{Peer, PeerState};
use crate::{prefetch, wire};

/// The header of the allocation, the table and the fields in it.
const PREFETCH_BYTES: usize = 128;

/// One immutable version of a region: its range, epoch and peers, the state of this store's record, and the merge state.
///
/// Cloning costs one atomic increment and shares the buffer; there is no way to change it. In memory a region is one
/// allocation of 16 bytes and the buffer: 184 bytes for three voters and two keys of 20 bytes. The handle itself is one
/// pointer wide.
///
/// Equality compares values; [`same_buffer`](Self::same_buffer) tells whether two handles share one allocation.
///
/// ```
/// use regionmeta::{KeyRange, Peer, PeerId, RegionDraft, RegionEpoch, RegionId, StoreId};
///
/// let draft = RegionDraft::new(
///     RegionId::new(2),
///     KeyRange::from_wire(b"k1", b"k5"),
///     RegionEpoch::INITIAL,
///     vec![Peer::voter(PeerId::new(3), StoreId::new(1))],
/// );
/// let region = draft.build()?;
/// assert!(region.range().contains(b"k3"));
/// assert_eq!(region.peer_on(StoreId::new(1)).map(|peer| peer.id), Some(PeerId::new(3)));
/// # Ok::<(), regionmeta::RegionError>(())
/// ```
#[derive(Clone)]
pub struct Region {
    buffer: ThinArc<(), u8>,
}

impl Region {
    /// Verifies bytes of unknown origin and takes a copy of them.
    ///
    /// Costs one verification (about 100 ns for three peers) and one allocation of the size of the input, never more.
    ///
    /// # Errors
    /// [`RegionError`] if the bytes are no flatbuffer of the schema within its limits, or break I13.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RegionError> {
        if !planted(Mutant::M18) {
            check::verify(bytes)?;
        }
        let region = Self { buffer: ThinArc::from_header_and_slice((), bytes) };
        check::check(region.as_ref())?;
        Ok(region)
    }

    /// The region in a table that is part of a larger buffer, which the verifier has passed.
    pub(crate) fn from_table(table: wire::Region<'_>) -> Result<Self, RegionError> {
        check::check(RegionRef(table))?; // before the accessors, which rely on it, read what is copied
        RegionRef(table).to_draft().build()
    }

    /// The flatbuffer itself: what is stored, inside an envelope, and what may be sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer.slice
    }

    /// A view of this region with the same accessors, for code that also reads merge targets.
    #[must_use]
    #[inline]
    #[expect(unsafe_code, reason = "reads skip the checks that the constructor has made")]
    pub fn as_ref(&self) -> RegionRef<'_> {
        // SAFETY: a `Region` is made in two places. `from_bytes` has run the flatbuffers verifier for `wire::Region` over
        // exactly these bytes, and `RegionDraft::build` has just had the flatbuffers builder finish them with such a table
        // as root. The buffer is never changed afterwards: `ThinArc` hands out shared references only. Positions inside are
        // relative to the start of the buffer, and scalars are read byte-wise, so the copy's address does not matter.
        RegionRef(unsafe { flatbuffers::root_unchecked::<wire::Region<'_>>(&self.buffer.slice) })
    }

    /// Starts loading what every reader looks at first: id, epoch and state, and the way to everything else.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        prefetch::lines(self.buffer.as_ptr().cast(), PREFETCH_BYTES);
    }

    /// How many handles there are.
    #[cfg(test)]
    pub(crate) fn holders(&self) -> usize {
        ThinArc::strong_count(&self.buffer)
    }

    /// Whether both handles share one allocation (I6).
    #[must_use]
    pub fn same_buffer(&self, other: &Self) -> bool {
        std::ptr::eq(self.buffer.ptr(), other.buffer.ptr())
    }

    /// The region's id.
    #[must_use]
    #[inline]
    pub fn id(&self) -> RegionId {
        self.as_ref().id()
    }

    /// The region's epoch.
    #[must_use]
    #[inline]
    pub fn epoch(&self) -> RegionEpoch {
        self.as_ref().epoch()
    }

    /// The inclusive lower bound.
    #[must_use]
    #[inline]
    pub fn start_key(&self) -> &[u8] {
        self.as_ref().start_key()
    }

    /// The exclusive upper bound.
    #[must_use]
    #[inline]
    pub fn end_key(&self) -> EndKey<'_> {
        self.as_ref().end_key()
    }

    /// The half-open range of keys that the region owns.
    #[must_use]
    #[inline]
    pub fn range(&self) -> KeyRange<'_> {
        self.as_ref().range()
    }

    /// The peers, in their stored order.
    pub fn peers(&self) -> impl ExactSizeIterator<Item = Peer> + Clone + '_ {
        self.as_ref().peers()
    }

    /// The peer that lives on a store, if any.
    #[must_use]
    pub fn peer_on(&self, store: StoreId) -> Option<Peer> {
        self.as_ref().peer_on(store)
    }

    /// The state of this store's record.
    #[must_use]
    #[inline]
    pub fn state(&self) -> PeerState {
        self.as_ref().state()
    }

    /// The merge state: always there in state Merging, sometimes in a Tombstone, never otherwise.
    #[must_use]
    pub fn merge_state(&self) -> Option<MergeState<'_>> {
        self.as_ref().merge_state()
    }

    /// The start timestamp of flashback mode, if the region is in it.
    #[must_use]
    pub fn flashback_start_ts(&self) -> Option<u64> {
        self.as_ref().flashback_start_ts()
    }

    /// This store's peer that was destroyed, if this is a tombstone that says so. The list of peers may no longer have it
    /// (a tombstone keeps the peers *after* a removal), and it must never come back (I12).
    #[must_use]
    pub fn destroyed_peer(&self) -> Option<PeerId> {
        self.as_ref().destroyed_peer()
    }

    /// A draft with the same content, from which the next version is made.
    #[must_use]
    pub fn to_draft(&self) -> RegionDraft<'_> {
        self.as_ref().to_draft()
    }
}

impl PartialEq for Region {
    fn eq(&self, other: &Self) -> bool {
        self.same_buffer(other) || self.as_bytes() == other.as_bytes() || self.as_ref() == other.as_ref()
    }
}

impl Eq for Region {}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_ref(), f)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_ref(), f)
    }
}

/// A borrowed view of a region's bytes: the region of a [`Region`], or the target inside its merge state.
#[derive(Clone, Copy)]
pub struct RegionRef<'a>(wire::Region<'a>);

impl<'a> RegionRef<'a> {
    /// The region's id.
    #[must_use]
    #[inline]
    pub fn id(self) -> RegionId {
        RegionId::new(self.0.id())
    }

    /// The region's epoch.
    #[must_use]
    #[inline]
    pub fn epoch(self) -> RegionEpoch {
        self.0.epoch().map_or_else(RegionEpoch::default, |epoch| RegionEpoch::new(epoch.conf_ver(), epoch.version()))
    }

    /// The inclusive lower bound.
    #[must_use]
    #[inline]
    pub fn start_key(self) -> &'a [u8] {
        self.0.start_key().map_or(&[], |key| key.bytes())
    }

    /// The exclusive upper bound.
    #[must_use]
    #[inline]
    pub fn end_key(self) -> EndKey<'a> {
        EndKey::from_wire(self.0.end_key().map_or(&[], |key| key.bytes()))
    }

    /// The half-open range of keys that the region owns.
    #[must_use]
    #[inline]
    pub fn range(self) -> KeyRange<'a> {
        KeyRange::new(self.start_key(), self.end_key())
    }

    /// The peers, in their stored order.
    pub fn peers(self) -> impl ExactSizeIterator<Item = Peer> + Clone + 'a {
        let ids = self.0.peers();
        let flags = self.0.peer_flags().map(|flags| flags.bytes());
        (0..ids.map_or(0, |ids| ids.len())).map(move |at| {
            // Neither default is ever taken: `at` is below the length, and the constructor has checked the flags.
            let (id, store) = ids.map_or((0, 0), |ids| (ids.get(at).id(), ids.get(at).store_id()));
            let flags = flags.and_then(|flags| flags.get(at)).copied().unwrap_or(0);
            let (id, store) = (PeerId::new(id), StoreId::new(store));
            Peer::from_flags(id, store, flags).unwrap_or(Peer::voter(id, store))
        })
    }

    /// The peer that lives on a store, if any.
    #[must_use]
    pub fn peer_on(self, store: StoreId) -> Option<Peer> {
        self.peers().find(|peer| peer.store_id == store)
    }

    /// The state of this store's record.
    #[must_use]
    #[inline]
    pub fn state(self) -> PeerState {
        PeerState::from_wire(self.0.state().0).unwrap_or(PeerState::Tombstone) // the constructor has checked it
    }

    /// The merge state: always there in state Merging, sometimes in a Tombstone, never otherwise.
    #[must_use]
    pub fn merge_state(self) -> Option<MergeState<'a>> {
        let merge = self.0.merge()?;
        let target = RegionRef(merge.target()?);
        Some(MergeState { min_index: merge.min_index().into(), commit: merge.commit().into(), target })
    }

    /// The start timestamp of flashback mode, if the region is in it.
    #[must_use]
    pub fn flashback_start_ts(self) -> Option<u64> {
        self.0.in_flashback().then(|| self.0.flashback_start_ts())
    }

    /// The host's encryption metadata, carried and not interpreted.
    #[must_use]
    pub fn encryption_meta(self) -> &'a [u8] {
        self.0.encryption_meta().map_or(&[], |meta| meta.bytes())
    }

    /// This store's peer that was destroyed, if this is a tombstone that says so.
    #[must_use]
    pub fn destroyed_peer(self) -> Option<PeerId> {
        Some(PeerId::new(self.0.destroyed_peer())).filter(|peer| peer.get() != 0)
    }

    /// A draft with the same content, from which the next version is made.
    #[must_use]
    pub fn to_draft(self) -> RegionDraft<'a> {
        RegionDraft {
            id: self.id(),
            range: self.range(),
            epoch: self.epoch(),
            peers: self.peers().collect(),
            state: self.state(),
            merge_state: self.merge_state(),
            flashback_start_ts: self.flashback_start_ts(),
            encryption_meta: self.encryption_meta(),
            destroyed_peer: self.destroyed_peer(),
        }
    }
}

impl PartialEq for RegionRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
            && self.epoch() == other.epoch()
            && self.range() == other.range()
            && self.state() == other.state()
            && self.peers().eq(other.peers())
            && self.merge_state() == other.merge_state()
            && self.flashback_start_ts() == other.flashback_start_ts()
            && self.encryption_meta() == other.encryption_meta()
            && self.destroyed_peer() == other.destroyed_peer()
    }
}

impl Eq for RegionRef<'_> {}

/// One line: `region 1 [start, end) epoch 3/7 peers [(1, 1), (2, 2) Learner] Normal`.
impl fmt::Display for RegionRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "region {} {} epoch {} peers ", self.id(), self.range(), self.epoch())?;
        f.debug_list().entries(self.peers()).finish()?;
        write!(f, " {:?}", self.state())?;
        if let Some(peer) = self.destroyed_peer() {
            write!(f, " of peer {peer}")?;
        }
        if let Some(merge) = self.merge_state() {
            let MergeState { min_index, commit, target } = merge;
            write!(f, " merge into {} at {} (min {min_index}, commit {commit})", target.id(), target.epoch())?;
        }
        match self.flashback_start_ts() {
            Some(ts) => write!(f, " flashback {ts}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for RegionRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a merge stands (spec section 1.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MergeState<'a> {
    /// First log index that the target must ship. 0 in a Tombstone.
    pub min_index: LogIndex,
    /// Log index of the PrepareMerge entry itself. 0 in a Tombstone.
    pub commit: LogIndex,
    /// The target, as known when the merge was proposed.
    pub target: RegionRef<'a>,
}

#[cfg(test)]
mod tests;
