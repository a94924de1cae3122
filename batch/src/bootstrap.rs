//! Bootstrap: the first start of a store, and of a cluster (spec section 3).
//!
//! Every step may be interrupted by a crash and is safe to repeat: the next start finds the marks that were written and
//! continues, or clears what another store made obsolete. The order of the writes is what makes that so:
//!
//! 1. the store's identity;
//! 2. the prepare mark, together with the first region's records: until PD has answered, the mark says that the region may
//!    not be ours;
//! 3. the raft state;
//! 4. PD decides; then the mark goes, alone or together with the region.

use std::time::Duration;

use regionmeta::layout::{
    PREPARE_BOOTSTRAP_KEY, REGION_META_RANGE, STORE_IDENT_KEY, apply_state_key, region_state_key,
};
use regionmeta::mutant::{Mutant, planted};
use regionmeta::{
    ApplyState, ClusterId, KeyBuf, KeyRange, Peer, PeerState, RaftState, Region, RegionDraft, RegionEpoch, RegionError,
    StoreId, StoreIdent,
};

use crate::pd::{Checked, PdClient, PdError, StoreInfo};
use crate::raft_engine::RaftEngine;
use crate::records::{self, ReadError, WriteStateError};
use crate::storage::{Durability, Family, Storage, StorageError};

/// Who the store is to be, and how patiently PD is asked.
#[derive(Clone, Debug)]
pub struct BootstrapSettings {
    /// The cluster that the store belongs to.
    pub cluster_id: ClusterId,
    /// How the host encodes its data keys.
    pub api_version: u32,
    /// Where other stores reach this one.
    pub address: String,
    /// How often PD is asked before the start fails.
    pub attempts_max: u32,
    /// How long to wait between two attempts.
    pub pause: Duration,
}

impl BootstrapSettings {
    /// The usual patience: 60 attempts, 3 s apart.
    #[must_use]
    pub fn new(cluster_id: ClusterId) -> Self {
        Self { cluster_id, api_version: 1, address: String::new(), attempts_max: 60, pause: Duration::from_secs(3) }
    }
}

/// Why a store could not be bootstrapped. Everything that was written stays valid for the next attempt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum BootstrapError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the store belongs to cluster {found}, not to {expected}: this is another cluster's directory")]
    ForeignCluster { expected: ClusterId, found: ClusterId },
    #[error("the store was made for api version {found}, the host uses {expected}")]
    ApiVersion { expected: u32, found: u32 },
    #[error("the store is not empty and has no identity: it has data at {first_key}; refusing to bootstrap over it")]
    NotEmpty { first_key: KeyBuf },
    #[error("the store has no identity: bootstrap it first")]
    NotBootstrapped,
    #[error("an earlier bootstrap of this store has not finished: bootstrap it again, PD has to decide")]
    Unfinished,
    #[error(
        "PD says the cluster was never bootstrapped, but this store holds regions, the first at {first_key}: wrong PD?"
    )]
    RegionsButNoCluster { first_key: KeyBuf },
    #[error(transparent)]
    Pd(#[from] PdError),
    #[error("PD did not answer in {attempts} attempts; last: {last}")]
    PdUnavailable { attempts: u32, last: PdError },
    #[error("the first region cannot be built: {0}")]
    Region(#[from] RegionError),
}

impl From<WriteStateError> for BootstrapError {
    fn from(error: WriteStateError) -> Self {
        match error {
            WriteStateError::Storage(error) => Self::Storage(error),
            WriteStateError::Region(error) => Self::Region(error),
        }
    }
}

/// The identity of a store that was bootstrapped to the end.
pub(crate) fn identity(
    storage: &impl Storage,
    cluster_id: ClusterId,
    api_version: u32,
) -> Result<StoreIdent, BootstrapError> {
    let ident = read_ident(storage, cluster_id, api_version)?.ok_or(BootstrapError::NotBootstrapped)?;
    if storage.get(Family::Default, PREPARE_BOOTSTRAP_KEY)?.is_some() {
        return Err(BootstrapError::Unfinished);
    }
    Ok(ident)
}

/// Makes sure that the store has an identity, that the cluster is bootstrapped, and that PD knows the store.
///
/// Re-entrant: it continues whatever an earlier call began, and does nothing to a store that is complete.
///
/// # Errors
/// [`BootstrapError`].
pub fn bootstrap(
    storage: &impl Storage,
    raft: &dyn RaftEngine,
    pd: &dyn PdClient,
    settings: &BootstrapSettings,
) -> Result<StoreIdent, BootstrapError> {
    if pd.cluster_id() != settings.cluster_id {
        let (pd, store) = (pd.cluster_id(), settings.cluster_id);
        return Err(PdError::ClusterMismatch { pd, store }.into());
    }
    let pd = Patient { pd: &Checked::new(pd), settings };
    let ident = match read_ident(storage, settings.cluster_id, settings.api_version)? {
        Some(ident) => ident,
        None => bootstrap_store(storage, &pd, settings)?,
    };
    let store = StoreInfo { id: ident.store_id, address: settings.address.clone() };
    bootstrap_cluster(storage, raft, &pd, &store)?;
    pd.ask(|pd| pd.put_store(&store))?;
    tracing::info!(cluster = %ident.cluster_id, store = %ident.store_id, "store is bootstrapped");
    Ok(ident)
}

// --- phase A: the store ---------------------------------------------------------------------------------------------

fn read_ident(
    storage: &impl Storage,
    cluster_id: ClusterId,
    api_version: u32,
) -> Result<Option<StoreIdent>, BootstrapError> {
    let Some(ident) = records::read::<StoreIdent>(storage, Family::Default, STORE_IDENT_KEY)? else { return Ok(None) };
    if ident.cluster_id != cluster_id {
        return Err(BootstrapError::ForeignCluster { expected: cluster_id, found: ident.cluster_id });
    }
    if ident.api_version != api_version {
        return Err(BootstrapError::ApiVersion { expected: api_version, found: ident.api_version });
    }
    Ok(Some(ident))
}

fn bootstrap_store(
    storage: &impl Storage,
    pd: &Patient<'_>,
    settings: &BootstrapSettings,
) -> Result<StoreIdent, BootstrapError> {
    for family in Family::ALL {
        if let Some(first_key) = first_key(storage, family, KeyRange::ALL)? {
            return Err(BootstrapError::NotEmpty { first_key });
        }
    }
    let store_id = StoreId::new(pd.ask(|pd| pd.alloc_id())?);
    let ident = StoreIdent { cluster_id: settings.cluster_id, store_id, api_version: settings.api_version };
    let mut batch = storage.batch();
    records::put(storage, &mut batch, Family::Default, STORE_IDENT_KEY, &ident)?;
    storage.write(batch, mark_durability())?;
    Ok(ident)
}

// --- phase B: the cluster -------------------------------------------------------------------------------------------

fn bootstrap_cluster(
    storage: &impl Storage,
    raft: &dyn RaftEngine,
    pd: &Patient<'_>,
    store: &StoreInfo,
) -> Result<(), BootstrapError> {
    let region = match records::read::<Region>(storage, Family::Default, PREPARE_BOOTSTRAP_KEY)? {
        Some(region) => region,
        None if pd.ask(|pd| pd.is_bootstrapped())? => return Ok(()),
        None => prepare(storage, raft, pd, store)?,
    };
    match pd.ask(|pd| pd.bootstrap(store, &region)) {
        Ok(()) => delete_prepare_mark(storage),
        // Our own earlier call may have won before the crash: PD then knows exactly our region.
        Err(BootstrapError::Pd(PdError::AlreadyBootstrapped)) => match pd.ask(first_region)? {
            first if first == region => delete_prepare_mark(storage),
            _ => clear_prepared(storage, raft, &region),
        },
        Err(error) => Err(error),
    }
}

/// PD's region of the smallest key. A bootstrapped cluster has one, but a PD that is still loading may not know it yet, and
/// nothing may be cleared on the strength of what PD does not know.
fn first_region(pd: &dyn PdClient) -> Result<Region, PdError> {
    let unknown = || PdError::Unavailable("it is bootstrapped and does not know the first region yet".to_owned());
    Ok(pd.get_region(b"")?.ok_or_else(unknown)?.region)
}

/// Writes the first region under the prepare mark: the mark says that it may not be ours yet.
fn prepare(
    storage: &impl Storage,
    raft: &dyn RaftEngine,
    pd: &Patient<'_>,
    store: &StoreInfo,
) -> Result<Region, BootstrapError> {
    if let Some(first_key) = first_key(storage, Family::Raft, REGION_META_RANGE)? {
        return Err(BootstrapError::RegionsButNoCluster { first_key });
    }
    let region_id = pd.ask(|pd| pd.alloc_id())?.into();
    let peer = Peer::voter(pd.ask(|pd| pd.alloc_id())?.into(), store.id);
    let region = RegionDraft::new(region_id, KeyRange::ALL, RegionEpoch::INITIAL, vec![peer]).build()?;
    let mut batch = storage.batch();
    records::put(storage, &mut batch, Family::Default, PREPARE_BOOTSTRAP_KEY, &region)?;
    records::write_peer_state(storage, &mut batch, &region, PeerState::Normal, None)?;
    records::write_apply_state(storage, &mut batch, region.id(), &ApplyState::INITIAL)?;
    storage.write(batch, mark_durability())?;
    raft.put_raft_state(region.id(), &RaftState::INITIAL)?;
    Ok(region)
}

/// Every step is durable before the next one is taken: a power loss between two of them finds the first.
fn mark_durability() -> Durability {
    if planted(Mutant::M13) { Durability::Buffered } else { Durability::Synced }
}

fn delete_prepare_mark(storage: &impl Storage) -> Result<(), BootstrapError> {
    let mut batch = storage.batch();
    storage.delete(&mut batch, Family::Default, PREPARE_BOOTSTRAP_KEY)?;
    Ok(storage.write(batch, mark_durability())?)
}

/// Another store bootstrapped the cluster: our region never was. The raft records go first, so that a crash in between
/// still finds the mark and comes here again.
fn clear_prepared(storage: &impl Storage, raft: &dyn RaftEngine, region: &Region) -> Result<(), BootstrapError> {
    tracing::info!(region = %region.id(), "another store bootstrapped the cluster; clearing the prepared region");
    raft.clean(region.id())?;
    let mut batch = storage.batch();
    storage.delete(&mut batch, Family::Default, PREPARE_BOOTSTRAP_KEY)?;
    storage.delete(&mut batch, Family::Raft, &region_state_key(region.id()))?;
    storage.delete(&mut batch, Family::Raft, &apply_state_key(region.id()))?;
    Ok(storage.write(batch, mark_durability())?)
}

fn first_key(storage: &impl Storage, family: Family, range: KeyRange<'_>) -> Result<Option<KeyBuf>, StorageError> {
    let mut first = None;
    storage.scan(family, range, &mut |key, _| {
        first = Some(key.into());
        std::ops::ControlFlow::Break(())
    })?;
    Ok(first)
}

/// Asks PD again while it cannot be reached or does not know yet. A refusal is an answer and is not asked again: a client
/// that maps PD's answers says [`PdError::Unavailable`] for those that may change, such as a lost transaction.
struct Patient<'a> {
    pd: &'a dyn PdClient,
    settings: &'a BootstrapSettings,
}

impl Patient<'_> {
    fn ask<T>(&self, mut call: impl FnMut(&dyn PdClient) -> Result<T, PdError>) -> Result<T, BootstrapError> {
        let mut attempt = 1;
        loop {
            match call(self.pd) {
                Err(last) if last.is_transient() && attempt >= self.settings.attempts_max => {
                    return Err(BootstrapError::PdUnavailable { attempts: attempt, last });
                }
                Err(error) if error.is_transient() => {
                    tracing::warn!(attempt, %error, "PD did not answer; asking again");
                    std::thread::sleep(self.settings.pause);
                    attempt += 1;
                }
                answer => return Ok(answer?),
            }
        }
    }
}
