//! The placement driver, seen from a store: ids, the cluster's stores and regions, heartbeats in, operators out.
//!
//! [`PdClient`] is what a store asks of PD, in calls that block: this library has no runtime of its own, and a client that
//! needs one hides it. [`EmbeddedPd`] answers it inside the process. Every answer is a stranger's, and [`check`] has what
//! must hold of each; [`Checked`] puts it around any client.

pub mod check;
mod checked;
mod embedded;
mod error;
#[cfg(feature = "pd-grpc")]
pub mod grpc;
mod heartbeat;
mod info;
mod operator;
mod proposal;
#[cfg(feature = "testkit")]
pub mod storm;
#[cfg(feature = "pd-grpc")]
pub mod wire;

use std::fmt;
use std::time::Duration;

use regionmeta::{ClusterId, KeyRange, Region, RegionId, StoreId};

pub use self::check::AnswerError;
pub use self::checked::Checked;
pub use self::embedded::{Accepted, EmbeddedPd, HeartbeatError, OpenPdError, RegionLoad, SizePolicy};
pub use self::error::PdError;
pub use self::heartbeat::{
    Clock, DownPeer, Flow, HeartbeatCounts, HeartbeatDriver, HeartbeatSettings, Heartbeats, Interval, Now,
    PeerProgress, PeerReport, RegionHeartbeat, ReplicationState, ReplicationStatus, SystemClock,
};
pub use self::info::{ClusterConfig, RegionInfo, SplitIds, StoreAdvice, StoreInfo, StoreStats};
pub use self::operator::{HeartbeatResponse, Operator, SplitPolicy};
pub use self::proposal::{OperatorError, OperatorHost, Proposal};

/// A placement driver.
///
/// Calls block until PD has answered, or the client's own deadline is over ([`PdError::Timeout`]). An error for which
/// [`PdError::is_transient`] says so may be gone at the next attempt; after [`PdError::Timeout`] the request may have been
/// executed. "Nothing found" is no error but `None`.
pub trait PdClient: Send + Sync + fmt::Debug {
    /// The cluster that PD serves.
    fn cluster_id(&self) -> ClusterId;

    /// A new id, never handed out before; for stores, regions and peers alike.
    ///
    /// # Errors
    /// [`PdError`].
    fn alloc_id(&self) -> Result<u64, PdError>;

    /// `count` new ids in a row, of which the last is returned. A client that hands them out one at a time refuses more.
    ///
    /// # Errors
    /// [`PdError`].
    fn alloc_ids(&self, count: u32) -> Result<u64, PdError> {
        if count == 1 { self.alloc_id() } else { Err(PdError::Refused(format!("{count} ids at a time"))) }
    }

    /// Whether some store has bootstrapped the cluster.
    ///
    /// # Errors
    /// [`PdError`].
    fn is_bootstrapped(&self) -> Result<bool, PdError>;

    /// Bootstraps the cluster with its first store and its first region. Exactly one call in a cluster's life succeeds.
    ///
    /// # Errors
    /// [`PdError::AlreadyBootstrapped`] if another call won, or an earlier one of this store.
    fn bootstrap(&self, store: &StoreInfo, region: &Region) -> Result<(), PdError>;

    /// What holds for the whole cluster.
    ///
    /// # Errors
    /// [`PdError`].
    fn cluster_config(&self) -> Result<ClusterConfig, PdError>;

    /// Registers a store, or tells its new address. Refused before the cluster is bootstrapped.
    ///
    /// # Errors
    /// [`PdError`].
    fn put_store(&self, store: &StoreInfo) -> Result<(), PdError>;

    /// A store that registered.
    ///
    /// # Errors
    /// [`PdError`].
    fn get_store(&self, id: StoreId) -> Result<Option<StoreInfo>, PdError>;

    /// Every store that registered, in no order.
    ///
    /// # Errors
    /// [`PdError`].
    fn get_all_stores(&self) -> Result<Vec<StoreInfo>, PdError>;

    /// How a store is; every 10 s.
    ///
    /// # Errors
    /// [`PdError`].
    fn store_heartbeat(&self, stats: &StoreStats) -> Result<StoreAdvice, PdError>;

    /// Ids for a split of `region` into `children + 1` regions: a region id for each child, and a peer id for each of its
    /// peers. The split is proposed with the epoch of the `region` that was asked with.
    ///
    /// # Errors
    /// [`PdError::Stale`] if PD knows a newer version of the region, [`PdError::RegionNotFound`] if none.
    fn ask_batch_split(&self, region: &Region, children: usize) -> Result<Vec<SplitIds>, PdError>;

    /// What a split has made, in key order: at least two regions, each beginning where the one before it ends. PD notes it
    /// down; its map changes by heartbeats alone.
    ///
    /// # Errors
    /// [`PdError`].
    fn report_batch_split(&self, regions: &[Region]) -> Result<(), PdError>;

    /// The region that owns a key, as PD last heard of it.
    ///
    /// # Errors
    /// [`PdError`].
    fn get_region(&self, key: &[u8]) -> Result<Option<RegionInfo>, PdError>;

    /// The region that ends exactly where the owner of a key begins.
    ///
    /// # Errors
    /// [`PdError`].
    fn get_prev_region(&self, key: &[u8]) -> Result<Option<RegionInfo>, PdError>;

    /// The region with an id, as PD last heard of it.
    ///
    /// # Errors
    /// [`PdError`].
    fn get_region_by_id(&self, id: RegionId) -> Result<Option<RegionInfo>, PdError>;

    /// The regions that share a key with `range`, in key order, the first `limit` of them (0: all). Between them may be holes,
    /// which PD has not heard of yet.
    ///
    /// # Errors
    /// [`PdError`].
    fn scan_regions(&self, range: KeyRange<'_>, limit: usize) -> Result<Vec<RegionInfo>, PdError>;

    /// Opens a stream of region heartbeats.
    ///
    /// # Errors
    /// [`PdError`].
    fn region_heartbeats(&self) -> Result<HeartbeatStream, PdError>;
}

/// A stream of heartbeats to PD, and of responses from it. The halves may live on different threads; dropping both closes
/// the stream.
#[derive(Debug)]
pub struct HeartbeatStream {
    /// Towards PD.
    pub sender: Box<dyn HeartbeatSender>,
    /// From PD.
    pub receiver: Box<dyn HeartbeatReceiver>,
}

/// The half of a heartbeat stream that sends.
pub trait HeartbeatSender: Send + fmt::Debug {
    /// Hands a heartbeat over. It returns when the stream has taken it, not when PD has answered; a full stream makes the
    /// caller wait, for no longer than the client's deadline.
    ///
    /// # Errors
    /// [`PdError`]: the stream is of no use any more, and this heartbeat may or may not have arrived. Open another.
    fn send(&mut self, heartbeat: &RegionHeartbeat) -> Result<(), PdError>;
}

/// The half of a heartbeat stream that receives.
pub trait HeartbeatReceiver: Send + fmt::Debug {
    /// The next response, waiting for it for at most `wait` (zero: only what is there already). `None` if none came.
    ///
    /// # Errors
    /// [`PdError::InvalidAnswer`] for a message that is refused: the stream goes on. After any other error it is of no use.
    fn receive(&mut self, wait: Duration) -> Result<Option<HeartbeatResponse>, PdError>;
}
