//! The placement driver, as far as a store needs it to be born: ids, and who bootstraps the cluster.

mod embedded;

use std::fmt;

use regionmeta::{ClusterId, Region, RegionError, RegionId, StoreId};

pub use self::embedded::EmbeddedPd;

/// What a store tells PD about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreInfo {
    /// The store's id.
    pub id: StoreId,
    /// Where other stores reach it. This library only passes it on.
    pub address: String,
}

/// Why PD did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum PdError {
    #[error("PD serves cluster {pd}, this store belongs to cluster {store}")]
    ClusterMismatch { pd: ClusterId, store: ClusterId },
    #[error("the cluster is not bootstrapped")]
    NotBootstrapped,
    #[error("the cluster is bootstrapped already")]
    AlreadyBootstrapped,
    #[error("PD refused the request: {0}")]
    Refused(String),
    #[error("PD answered with an invalid region: {0}")]
    InvalidAnswer(#[from] RegionError),
    #[error("PD cannot be reached: {0}")]
    Unavailable(String),
}

/// A placement driver. Every answer is a stranger's: callers check what they build on.
pub trait PdClient: Send + Sync + fmt::Debug {
    /// The cluster that PD serves.
    fn cluster_id(&self) -> ClusterId;

    /// A new id, never handed out before; for stores, regions and peers alike.
    ///
    /// # Errors
    /// [`PdError`].
    fn alloc_id(&self) -> Result<u64, PdError>;

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

    /// Registers a store. Refused before the cluster is bootstrapped.
    ///
    /// # Errors
    /// [`PdError`].
    fn put_store(&self, store: &StoreInfo) -> Result<(), PdError>;

    /// The region that owns a key, as PD last heard of it.
    ///
    /// # Errors
    /// [`PdError`].
    fn get_region(&self, key: &[u8]) -> Result<Option<Region>, PdError>;

    /// The region with an id, as PD last heard of it.
    ///
    /// # Errors
    /// [`PdError`].
    fn get_region_by_id(&self, id: RegionId) -> Result<Option<Region>, PdError>;
}
