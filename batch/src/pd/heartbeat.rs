//! [`RegionHeartbeat`]: what the leader of a region tells PD about it.
//!
//! A host tells [`Heartbeats`] what it sees, and a [`HeartbeatDriver`] tells PD: at once what has just changed, once a minute
//! everything, never more than one heartbeat of a region at a time, never faster than the settings allow.

mod clock;
mod complaints;
mod driver;
mod lines;
mod pace;
mod slot;
mod tasks;

use std::time::Duration;

use regionmeta::{LogIndex, Peer, PeerId, Region, Stats, Term};

pub use self::clock::{Clock, Now, SystemClock};
pub use self::driver::{HeartbeatCounts, HeartbeatDriver};
pub(super) use self::pace::mix;
pub use self::tasks::Heartbeats;

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

/// What a leader has seen of its region since it last said so.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerReport<'a> {
    /// The other peers; those that are left out are as before. A peer of which nothing was said in this leadership counts as
    /// one that has nothing.
    pub progress: &'a [PeerProgress],
    /// The last log index that is compacted away.
    pub truncated: LogIndex,
    /// What was read and written since the last report.
    pub flow: Flow,
    /// Measured anew, if it was.
    pub sizes: Option<Stats>,
    /// Where replication by labels stands, if that is in use.
    pub replication: Option<ReplicationStatus>,
}

/// How far another peer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerProgress {
    /// Which.
    pub peer: PeerId,
    /// The last log index that it is known to have.
    pub matched: LogIndex,
    /// Whether something came from it since the last report.
    pub heard: bool,
    /// Whether it is a former witness that waits for its data.
    pub waits_for_data: bool,
}

/// When heartbeats are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeartbeatSettings {
    /// How often a region is reported that nothing happens to. 60 s.
    pub interval: Duration,
    /// How long a peer is silent before it is down. 10 min.
    pub down_after: Duration,
    /// Heartbeats a second at most. 50,000.
    pub rate_per_s: u32,
    /// Heartbeats that may go at once after a quiet time. 1,000.
    pub burst: u32,
    /// The pause after a stream has failed for the first time. 100 ms.
    pub backoff_min: Duration,
    /// The longest pause; a stream that lasted this long makes the next pause the shortest. 10 s.
    pub backoff_max: Duration,
}

impl Default for HeartbeatSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            down_after: Duration::from_secs(600),
            rate_per_s: 50_000,
            burst: 1_000,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
        }
    }
}
