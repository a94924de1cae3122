//! [`RegionDraft`]: the mutable form from which one immutable region is built.

use flatbuffers::{FlatBufferBuilder, WIPOffset};
use triomphe::ThinArc;

use super::{MergeState, PEERS_MAX, REGION_BYTES_MAX, Region, RegionError, check};
use crate::epoch::RegionEpoch;
use crate::ids::{PeerId, RegionId};
use crate::keys::{EndKey, KEY_BYTES_MAX, KeyBuf, KeyRange};
use crate::peer::{Peer, PeerState};
use crate::wire;

/// What a region is to contain. A transition takes the current region's draft, changes a field or two and builds the next
/// version; keys are borrowed, so a draft never copies them.
#[derive(Clone, Debug)]
pub struct RegionDraft<'a> {
    /// Never 0.
    pub id: RegionId,
    /// Never empty.
    pub range: KeyRange<'a>,
    /// At least 1/1, but for tombstones.
    pub epoch: RegionEpoch,
    /// At least one; distinct ids, distinct stores.
    pub peers: Vec<Peer>,
    /// The state of this store's record.
    pub state: PeerState,
    /// Needed in state Merging, allowed in a Tombstone, refused elsewhere.
    pub merge_state: Option<MergeState<'a>>,
    /// The start timestamp if the region is in flashback mode.
    pub flashback_start_ts: Option<u64>,
    /// Carried for the host.
    pub encryption_meta: &'a [u8],
    /// This store's peer that was destroyed: for tombstones whose list of peers no longer has it. Never 0.
    pub destroyed_peer: Option<PeerId>,
}

impl<'a> RegionDraft<'a> {
    /// A draft in state Normal, with nothing that most regions do not have.
    #[must_use]
    pub const fn new(id: RegionId, range: KeyRange<'a>, epoch: RegionEpoch, peers: Vec<Peer>) -> Self {
        Self {
            id,
            range,
            epoch,
            peers,
            state: PeerState::Normal,
            merge_state: None,
            flashback_start_ts: None,
            encryption_meta: &[],
            destroyed_peer: None,
        }
    }

    /// Builds the one immutable buffer. Equal drafts give equal bytes.
    ///
    /// Costs a few hundred nanoseconds and two allocations: a scratch buffer, and the region's own.
    ///
    /// # Errors
    /// [`RegionError`] if the draft breaks I13 or exceeds a size limit.
    pub fn build(&self) -> Result<Region, RegionError> {
        self.check_lengths()?;
        self.check_end()?;
        self.check_destroyed_peer()?;
        let mut builder = FlatBufferBuilder::with_capacity(256);
        let root = self.write(&mut builder);
        builder.finish_minimal(root);
        let bytes = builder.finished_data();
        if bytes.len() > REGION_BYTES_MAX {
            return Err(RegionError::TooLong { bytes: bytes.len(), max: REGION_BYTES_MAX });
        }
        let region = Region { buffer: ThinArc::from_header_and_slice((), bytes) };
        check::check(region.as_ref())?;
        Ok(region)
    }

    /// Bounds what is copied into the scratch buffer; the flatbuffers builder panics at 2 GiB.
    fn check_lengths(&self) -> Result<(), RegionError> {
        let region = self.id;
        for (which, key) in [("start", self.range.start), ("end", self.range.end.to_wire())] {
            if key.len() > KEY_BYTES_MAX {
                return Err(RegionError::KeyTooLong { region, which, bytes: key.len(), max: KEY_BYTES_MAX });
            }
        }
        if self.peers.len() > PEERS_MAX {
            return Err(RegionError::TooManyPeers { region, peers: self.peers.len(), max: PEERS_MAX });
        }
        if self.encryption_meta.len() > REGION_BYTES_MAX {
            return Err(RegionError::TooLong { bytes: self.encryption_meta.len(), max: REGION_BYTES_MAX });
        }
        Ok(())
    }

    /// An end that is the empty key would be read back as the unbounded end. Every other empty range is found in the bytes.
    fn check_end(&self) -> Result<(), RegionError> {
        match self.range.end {
            EndKey::Finite(&[]) => {
                let (start, end) = (self.range.start.into(), KeyBuf::default());
                Err(RegionError::EmptyRange { region: self.id, start, end })
            }
            _ => Ok(()),
        }
    }

    /// 0 would be read back as nobody.
    fn check_destroyed_peer(&self) -> Result<(), RegionError> {
        match self.destroyed_peer {
            Some(peer) if peer.get() == 0 => Err(RegionError::ZeroDestroyedPeer { region: self.id }),
            _ => Ok(()),
        }
    }

    /// Writes the table. Absent means default for every field, so that the usual region is as short as it can be.
    pub(crate) fn write<'b>(&self, builder: &mut FlatBufferBuilder<'b>) -> WIPOffset<wire::Region<'b>> {
        let merge = self.merge_state.map(|merge| {
            let target = Some(merge.target.to_draft().write(builder));
            let (min_index, commit) = (merge.min_index.get(), merge.commit.get());
            wire::MergeState::create(builder, &wire::MergeStateArgs { min_index, commit, target })
        });
        let encryption_meta = write_bytes(builder, self.encryption_meta);
        let end_key = write_bytes(builder, self.range.end.to_wire());
        let start_key = write_bytes(builder, self.range.start);
        let peer_flags = self.write_peer_flags(builder);
        let ids: Vec<_> =
            self.peers.iter().map(|peer| wire::PeerIds::new(peer.id.get(), peer.store_id.get())).collect();
        let peers = Some(builder.create_vector(&ids));
        let epoch = wire::Epoch::new(self.epoch.conf_ver, self.epoch.version);
        let args = wire::RegionArgs {
            id: self.id.get(),
            epoch: Some(&epoch),
            start_key,
            end_key,
            peers,
            state: wire::PeerState(self.state as u8),
            peer_flags,
            merge,
            in_flashback: self.flashback_start_ts.is_some(),
            flashback_start_ts: self.flashback_start_ts.unwrap_or(0),
            encryption_meta,
            destroyed_peer: self.destroyed_peer.map_or(0, PeerId::get),
        };
        wire::Region::create(builder, &args)
    }

    fn write_peer_flags<'b>(
        &self,
        builder: &mut FlatBufferBuilder<'b>,
    ) -> Option<WIPOffset<flatbuffers::Vector<'b, u8>>> {
        let flags: Vec<u8> = self.peers.iter().map(|peer| peer.flags()).collect();
        if flags.iter().all(|&flags| flags == 0) { None } else { Some(builder.create_vector(&flags)) }
    }
}

pub(crate) fn write_bytes<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    bytes: &[u8],
) -> Option<WIPOffset<flatbuffers::Vector<'b, u8>>> {
    if bytes.is_empty() { None } else { Some(builder.create_vector(bytes)) }
}
