//! [`PdError`]: why PD did not do what it was asked.

use std::time::Duration;

use regionmeta::{ClusterId, RegionError, RegionId, StoreId};

use super::check::AnswerError;

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
    #[error("PD knows no region {region} with these keys")]
    RegionNotFound { region: RegionId },
    #[error("PD knows a newer version of region {region}: {why}")]
    Stale { region: RegionId, why: String },
    #[error("PD knows no store {store}")]
    UnknownStore { store: StoreId },
    #[error("store {store} is a tombstone: it was removed from the cluster for good")]
    StoreTombstone { store: StoreId },
    #[error("PD refused the request: {0}")]
    Refused(String),
    #[error("PD gave an invalid answer: {0}")]
    InvalidAnswer(#[from] AnswerError),
    #[error("PD cannot write: {0}")]
    Storage(String),
    #[error("PD cannot be reached: {0}")]
    Unavailable(String),
    #[error("PD has no leader at present")]
    NoLeader,
    #[error("PD did not answer {what} within {after:?}; it may have executed it")]
    Timeout { what: &'static str, after: Duration },
}

impl PdError {
    /// Whether the same call may succeed a little later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::NoLeader | Self::Timeout { .. })
    }
}

impl From<RegionError> for PdError {
    fn from(error: RegionError) -> Self {
        Self::InvalidAnswer(error.into())
    }
}
