//! [`Store`]: the facade. Storage, published map, apply path and identity, opened by one builder.

#[cfg(feature = "rocksdb")]
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use regionmeta::{ApplyState, ClusterId, ReadHandle, RegionId, Reported, Stats, StoreIdent, StoreMeta};

use crate::apply::ApplyBatch;
use crate::bootstrap::{self, BootstrapError, BootstrapSettings};
use crate::creating::Creating;
use crate::pd::PdClient;
use crate::poison::{Poison, Poisoned};
use crate::progress::Progress;
use crate::raft_engine::{RaftEngine, StorageRaftEngine};
use crate::recovery::{self, RecoveryError, RecoveryReport};
#[cfg(feature = "rocksdb")]
use crate::storage::RocksStorage;
use crate::storage::{Durability, Storage, StorageError};

/// Why a store could not be opened or bootstrapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Identity and bootstrap.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The records.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
}

/// Why a store was closed without the promise that all of it survives a power loss.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// An earlier write failed.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// The last sync failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Opens a [`Store`]. Settings have the defaults that a server wants; each method says what it changes.
#[derive(Clone, Debug)]
pub struct StoreBuilder {
    bootstrap: BootstrapSettings,
    durability: Durability,
    recovery_threads: usize,
    raft: Option<Arc<dyn RaftEngine>>,
}

impl StoreBuilder {
    /// A store of a cluster: synced writes, one decoding thread a core, raft states in the store's own storage.
    #[must_use]
    pub fn new(cluster_id: ClusterId) -> Self {
        Self {
            bootstrap: BootstrapSettings::new(cluster_id),
            durability: Durability::Synced,
            recovery_threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            raft: None,
        }
    }

    /// How durable an ordinary commit is when it returns. Tombstones and bootstrap marks are synced whatever is chosen here.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How the host encodes its data keys; a store made for another version is refused.
    #[must_use]
    pub fn api_version(mut self, api_version: u32) -> Self {
        self.bootstrap.api_version = api_version;
        self
    }

    /// Where other stores reach this one; PD is told.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.bootstrap.address = address.into();
        self
    }

    /// How often, and at which distance, PD is asked before a bootstrap fails.
    #[must_use]
    pub fn pd_patience(mut self, attempts_max: u32, pause: Duration) -> Self {
        (self.bootstrap.attempts_max, self.bootstrap.pause) = (attempts_max, pause);
        self
    }

    /// How many threads decode records during recovery.
    #[must_use]
    pub fn recovery_threads(mut self, threads: usize) -> Self {
        self.recovery_threads = threads;
        self
    }

    /// The host's own Raft engine.
    #[must_use]
    pub fn raft_engine(mut self, raft: Arc<dyn RaftEngine>) -> Self {
        self.raft = Some(raft);
        self
    }

    /// Opens a store that was bootstrapped before, and recovers it. Creates nothing.
    ///
    /// # Errors
    /// [`OpenError`]; among others [`BootstrapError::NotBootstrapped`] and [`BootstrapError::Unfinished`], after which
    /// [`bootstrap`](Self::bootstrap) is to be called.
    #[cfg(feature = "rocksdb")]
    pub fn open(self, path: impl AsRef<Path>) -> Result<Store<RocksStorage>, OpenError> {
        let storage = RocksStorage::open(path.as_ref(), self.durability)?;
        self.open_storage(storage)
    }

    /// Opens the store in a directory, bootstraps it if that is still to be done, and recovers it. The directory is created
    /// if only its parent exists.
    ///
    /// # Errors
    /// [`OpenError`]. Whatever was written is valid: call it again.
    #[cfg(feature = "rocksdb")]
    pub fn bootstrap(self, path: impl AsRef<Path>, pd: &dyn PdClient) -> Result<Store<RocksStorage>, OpenError> {
        let storage = RocksStorage::create(path.as_ref(), self.durability)?;
        self.bootstrap_storage(storage, pd)
    }

    /// As [`open`](Self::open), in a storage of the caller's: attached to a host's database, or in memory.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_storage<S: Storage>(self, storage: S) -> Result<Store<S>, OpenError> {
        let ident = bootstrap::identity(&storage, self.bootstrap.cluster_id, self.bootstrap.api_version)?;
        let storage = Arc::new(storage);
        let raft = self.raft_engine_over(&storage);
        self.recover(storage, raft, ident)
    }

    /// As [`bootstrap`](Self::bootstrap), in a storage of the caller's.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn bootstrap_storage<S: Storage>(self, storage: S, pd: &dyn PdClient) -> Result<Store<S>, OpenError> {
        let storage = Arc::new(storage);
        let raft = self.raft_engine_over(&storage);
        let ident = bootstrap::bootstrap(&*storage, &*raft, pd, &self.bootstrap)?;
        self.recover(storage, raft, ident)
    }

    fn raft_engine_over<S: Storage>(&self, storage: &Arc<S>) -> Arc<dyn RaftEngine> {
        self.raft.clone().unwrap_or_else(|| Arc::new(StorageRaftEngine::new(storage.clone())))
    }

    fn recover<S: Storage>(
        self,
        storage: Arc<S>,
        raft: Arc<dyn RaftEngine>,
        ident: StoreIdent,
    ) -> Result<Store<S>, OpenError> {
        let recovered = recovery::recover(&*storage, &*raft, ident, self.recovery_threads)?;
        Ok(Store {
            storage,
            raft,
            ident,
            meta: recovered.meta.read_handle(),
            writer: recovered.meta,
            progress: Progress::new(recovered.apply_states),
            creating: Creating::default(),
            recovery: recovered.report,
            durability: self.durability,
            poison: Poison::default(),
        })
    }
}

/// One store's region metadata: durable in a [`Storage`], published in a [`StoreMeta`], changed through [`ApplyBatch`]es.
///
/// ```
/// use regionmeta_batch::pd::EmbeddedPd;
/// use regionmeta_batch::storage::MemStorage;
/// use regionmeta_batch::StoreBuilder;
///
/// let pd = EmbeddedPd::new(7.into());
/// let store = StoreBuilder::new(7.into()).bootstrap_storage(MemStorage::new(), &pd)?;
/// assert!(store.meta().snapshot().locate(b"any key").is_some());
/// store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Store<S: Storage> {
    storage: Arc<S>,
    raft: Arc<dyn RaftEngine>,
    ident: StoreIdent,
    meta: ReadHandle,
    /// The only way to change what `meta` shows.
    writer: StoreMeta,
    progress: Progress,
    creating: Creating,
    recovery: RecoveryReport,
    durability: Durability,
    poison: Poison,
}

impl<S: Storage> Store<S> {
    /// The published map, to read: where every lookup goes. A clone of the handle may outlive the store.
    #[must_use]
    pub fn meta(&self) -> &ReadHandle {
        &self.meta
    }

    /// Who this store is.
    #[must_use]
    pub fn ident(&self) -> StoreIdent {
        self.ident
    }

    /// What recovery found when the store was opened.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// The storage, for the host's own data.
    #[must_use]
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// The Raft engine that bootstrap and recovery work with.
    #[must_use]
    pub fn raft(&self) -> &dyn RaftEngine {
        &*self.raft
    }

    /// How far a region was applied; the initial state for a region that is not here. Takes a short lock: for apply workers,
    /// not for readers.
    #[must_use]
    pub fn apply_state(&self, region: RegionId) -> ApplyState {
        self.progress.get(region).unwrap_or(ApplyState::INITIAL)
    }

    /// A batch to apply committed entries into.
    pub fn begin(&self) -> ApplyBatch<'_, S> {
        ApplyBatch::new(self, self.durability)
    }

    /// A batch of another durability than the store's. A buffered one is still synced if something in it asks for that.
    pub(crate) fn begin_with(&self, durability: Durability) -> ApplyBatch<'_, S> {
        ApplyBatch::new(self, durability)
    }

    /// Takes in how much some regions hold, as their peers have measured it; see [`StoreMeta::report`].
    pub fn report<T: Into<Option<Stats>>>(&self, stats: impl IntoIterator<Item = (RegionId, T)>) -> Reported {
        self.writer.report(stats)
    }

    /// Whether writing goes on; the error says why not (I14).
    ///
    /// # Errors
    /// [`Poisoned`] after a write whose outcome is unknown.
    pub fn check_writable(&self) -> Result<(), Poisoned> {
        self.poison.check()
    }

    /// Closes the store: everything that was committed survives a power loss, whatever the durability. Dropping it instead
    /// leaves that to the storage.
    ///
    /// # Errors
    /// [`CloseError`] if the last sync failed, or an earlier write: then it is unknown what survives, and opening the store
    /// again tells.
    pub fn close(self) -> Result<(), CloseError> {
        // A sync must not make a write durable whose outcome is unknown.
        self.poison.check()?;
        Ok(self.storage.sync()?)
    }

    /// The write half, for [`ApplyBatch`] alone: what is published must be on disk first (I4).
    pub(crate) fn writer(&self) -> &StoreMeta {
        &self.writer
    }

    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    pub(crate) fn poison(&self) -> &Poison {
        &self.poison
    }

    pub(crate) fn creating(&self) -> &Creating {
        &self.creating
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }
}

#[cfg(test)]
mod tests;
