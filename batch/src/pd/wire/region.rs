//! Regions, epochs, peers and stores.

use regionmeta::{KeyRange, Peer, PeerRole, Region, RegionDraft, RegionEpoch};

use super::{malformed, metapb, needed};
use crate::pd::{AnswerError, DownPeer, StoreInfo, check};

impl From<Peer> for metapb::Peer {
    fn from(peer: Peer) -> Self {
        let (id, store_id) = (peer.id.get(), peer.store_id.get());
        Self { id, store_id, role: i32::from(peer.role as u8), is_witness: peer.is_witness }
    }
}

/// Refuses a role that no version of this library knows. Ids are the caller's to check: a region does.
impl TryFrom<metapb::Peer> for Peer {
    type Error = AnswerError;

    fn try_from(peer: metapb::Peer) -> Result<Self, AnswerError> {
        let role = u8::try_from(peer.role).ok().and_then(PeerRole::from_wire);
        let role = role.ok_or_else(|| malformed("peer", format!("unknown role {}", peer.role)))?;
        Ok(Self { id: peer.id.into(), store_id: peer.store_id.into(), role, is_witness: peer.is_witness })
    }
}

impl From<RegionEpoch> for metapb::RegionEpoch {
    fn from(epoch: RegionEpoch) -> Self {
        Self { conf_ver: epoch.conf_ver, version: epoch.version }
    }
}

impl From<metapb::RegionEpoch> for RegionEpoch {
    fn from(epoch: metapb::RegionEpoch) -> Self {
        Self::new(epoch.conf_ver, epoch.version)
    }
}

/// Keys and peers are copied. What only a store's own record has (its state, a merge) is not part of the message.
impl From<&Region> for metapb::Region {
    fn from(region: &Region) -> Self {
        Self {
            id: region.id().get(),
            start_key: region.start_key().to_vec(),
            end_key: region.end_key().to_wire().to_vec(),
            region_epoch: Some(region.epoch().into()),
            peers: region.peers().map(Into::into).collect(),
            encryption_meta: region.as_ref().encryption_meta().to_vec(),
            is_in_flashback: region.flashback_start_ts().is_some(),
            flashback_start_ts: region.flashback_start_ts().unwrap_or(0),
        }
    }
}

/// Refuses what breaks I13: the message becomes a region by the one way in that every region takes.
impl TryFrom<metapb::Region> for Region {
    type Error = AnswerError;

    fn try_from(region: metapb::Region) -> Result<Self, AnswerError> {
        let epoch = region.region_epoch.unwrap_or_default().into();
        let range = KeyRange::from_wire(&region.start_key, &region.end_key);
        let mut draft = RegionDraft::new(region.id.into(), range, epoch, super::each(region.peers)?);
        draft.encryption_meta = &region.encryption_meta;
        draft.flashback_start_ts = region.is_in_flashback.then_some(region.flashback_start_ts);
        Ok(draft.build()?)
    }
}

impl From<&StoreInfo> for metapb::Store {
    fn from(store: &StoreInfo) -> Self {
        Self { id: store.id.get(), address: store.address.clone(), ..Self::default() }
    }
}

/// Refuses id 0.
impl TryFrom<metapb::Store> for StoreInfo {
    type Error = AnswerError;

    fn try_from(store: metapb::Store) -> Result<Self, AnswerError> {
        Ok(Self { id: check::id("store", store.id)?.into(), address: store.address })
    }
}

impl From<DownPeer> for super::pdpb::PeerStats {
    fn from(down: DownPeer) -> Self {
        Self { peer: Some(down.peer.into()), down_seconds: down.down_s }
    }
}

impl TryFrom<super::pdpb::PeerStats> for DownPeer {
    type Error = AnswerError;

    fn try_from(down: super::pdpb::PeerStats) -> Result<Self, AnswerError> {
        Ok(Self { peer: needed("down peer", down.peer)?.try_into()?, down_s: down.down_seconds })
    }
}
