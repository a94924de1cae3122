//! [`RegionHeartbeat`]: what the leader of a region tells PD about it.

use regionmeta::{Peer, Region, Term};

/// One report of a region's leader. Region, leader and peers are of one moment.
///
/// Its descriptor is the shared one, so a heartbeat is as small for a region of a hundred peers as for one of three. The
/// numbers are those of the wire: sizes are 0 where they are unknown, and flows are what came since the last report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionHeartbeat {
    /// The region as it is published.
    pub region: Region,
    /// The peer that reports; one of the region's.
    pub leader: Peer,
    /// The Raft term in which it leads.
    pub term: Term,
    /// Other peers that were last heard ten minutes ago, or earlier.
    pub down_peers: Vec<DownPeer>,
    /// Other peers that the log alone cannot bring up to date.
    pub pending_peers: Vec<Peer>,
    /// What was read and written since the last report.
    pub flow: Flow,
    /// From the last report, or the store's start, to this one.
    pub interval: Interval,
    /// Approximate size in bytes; 0 if unknown, 1 if empty.
    pub size_bytes: u64,
    /// Approximate number of keys; 0 if unknown, or none.
    pub keys: u64,
    /// The state of replication by labels; `None` if there is no such mode.
    pub replication: Option<ReplicationStatus>,
}

/// A peer that its leader has not heard for long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DownPeer {
    /// Which.
    pub peer: Peer,
    /// For how many seconds.
    pub down_s: u64,
}

/// What was read and written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flow {
    /// Bytes written.
    pub written_bytes: u64,
    /// Keys written.
    pub written_keys: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Keys read.
    pub read_keys: u64,
}

impl Flow {
    /// Both together; a number that would not fit stays at the end of its range.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            written_bytes: self.written_bytes.saturating_add(other.written_bytes),
            written_keys: self.written_keys.saturating_add(other.written_keys),
            read_bytes: self.read_bytes.saturating_add(other.read_bytes),
            read_keys: self.read_keys.saturating_add(other.read_keys),
        }
    }
}

/// A half-open interval of time, in seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Interval {
    /// Its first second.
    pub start_unix_s: u64,
    /// The first second after it.
    pub end_unix_s: u64,
}

/// Where a region's replication by labels stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReplicationStatus {
    /// What is guaranteed.
    pub state: ReplicationState,
    /// PD's number of the state that the region follows.
    pub state_id: u64,
}

/// What replication by labels guarantees. The numbers are those of the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum ReplicationState {
    /// Not said.
    #[default]
    Unknown = 0,
    /// A majority of the peers.
    SimpleMajority = 1,
    /// At least one peer of each label.
    IntegrityOverLabel = 2,
}
