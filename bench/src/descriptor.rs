//! The peers' descriptor: a region as code generated from its protobuf definition holds it.

use regionmeta::{Peer, RegionEpoch};

use crate::map::Found;
use crate::model::RegionSpec;

/// A region with the fields of its protobuf message. Cloning copies both keys and the peers: three allocations.
#[derive(Clone, Debug)]
pub struct Descriptor {
    /// Its id.
    pub id: u64,
    /// Inclusive.
    pub start_key: Vec<u8>,
    /// Exclusive; empty for unbounded.
    pub end_key: Vec<u8>,
    /// Its epoch.
    pub epoch: RegionEpoch,
    /// Its peers.
    pub peers: Vec<DescriptorPeer>,
    /// Carried for the host.
    pub encryption_meta: Option<Box<[u8]>>,
    /// Whether it is in flashback mode.
    pub is_in_flashback: bool,
    /// Since when.
    pub flashback_start_ts: u64,
}

/// A peer with the fields of its protobuf message.
#[derive(Clone, Debug)]
pub struct DescriptorPeer {
    /// Its id.
    pub id: u64,
    /// Where it lives.
    pub store_id: u64,
    /// Its role, as a number.
    pub role: i32,
    /// Whether it holds no data.
    pub is_witness: bool,
}

impl From<Peer> for DescriptorPeer {
    fn from(peer: Peer) -> Self {
        Self { id: peer.id.get(), store_id: peer.store_id.get(), role: peer.role as i32, is_witness: peer.is_witness }
    }
}

impl Descriptor {
    /// The descriptor of a region.
    #[must_use]
    pub fn new(spec: &RegionSpec<'_>) -> Self {
        Self {
            id: spec.id,
            start_key: spec.range.start.to_vec(),
            end_key: spec.range.end.to_wire().to_vec(),
            epoch: spec.epoch,
            peers: spec.peers().map(DescriptorPeer::from).to_vec(),
            encryption_meta: None,
            is_in_flashback: false,
            flashback_start_ts: 0,
        }
    }

    /// Whether the region ends after `key`: with an ordered search by start key, all that is left to ask.
    #[inline]
    #[must_use]
    pub fn ends_after(&self, key: &[u8]) -> bool {
        self.end_key.is_empty() || key < self.end_key.as_slice()
    }

    /// Whether the region starts at or before `key`: the same for a search by end key.
    #[inline]
    #[must_use]
    pub fn starts_by(&self, key: &[u8]) -> bool {
        self.start_key.as_slice() <= key
    }

    /// The answer to a look-up that ended here.
    #[inline]
    #[must_use]
    pub fn found(&self) -> Found {
        Found { id: self.id, epoch: self.epoch }
    }
}
