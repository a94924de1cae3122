//! [`EmbeddedPd`]: a placement driver inside the process, for one machine, for tests and for the demo.
//!
//! Its region map *is* a [`StoreMeta`]. What else leaders report lies beside it (`infos.rs`), so a heartbeat that says nothing
//! new touches one entry under one of 256 locks; one that does goes through PD's rules (`accept.rs`), is written if there is
//! a storage (`ledger.rs`), and is published.

mod accept;
mod advice;
mod infos;
mod ledger;
mod stream;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use regionmeta::{Changeset, ClusterId, KeyRange, ReadHandle, Refusal, Region, RegionId, Snapshot, StoreId, StoreMeta};

pub use self::accept::{Accepted, HeartbeatError};
use self::advice::Operators;
pub use self::advice::SizePolicy;
pub use self::infos::RegionLoad;
use self::infos::{Info, Infos};
pub use self::ledger::OpenPdError;
use self::ledger::{Found, Ledger, Save, StorageLedger};
use super::{
    ClusterConfig, HeartbeatResponse, HeartbeatStream, Operator, PdClient, PdError, RegionHeartbeat, RegionInfo,
    SplitIds, StoreAdvice, StoreInfo, StoreStats,
};
use crate::poison::Poison;
use crate::storage::{Durability, Storage, StorageError};

/// Ids that are reserved on disk at a time. A crash loses those that were not handed out.
const ID_BATCH: u64 = 1_000;
/// Children of one split.
const CHILDREN_MAX: usize = 100_000;

/// A placement driver in this process. Clones share one state.
///
/// Its region map is a [`StoreMeta`], and holds the very descriptors that stores report. Stale heartbeats are refused, newer
/// regions evict what they overlap, and holes are normal until their owners report, as in PD. A heartbeat that says nothing
/// new costs one short lock and no allocation; one that changes the map costs a publication, and with a storage a write.
///
/// ```
/// use regionmeta_batch::pd::{EmbeddedPd, PdClient};
/// use regionmeta_batch::storage::MemStorage;
///
/// let disk = MemStorage::new();
/// let first = EmbeddedPd::open(7.into(), disk.clone())?.alloc_id()?;
/// assert!(EmbeddedPd::open(7.into(), disk)?.alloc_id()? > first); // also after a restart
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct EmbeddedPd {
    core: Arc<Core>,
}

#[derive(Debug)]
struct Core {
    cluster_id: ClusterId,
    policy: SizePolicy,
    regions: StoreMeta,
    infos: Infos,
    /// The critical section of heartbeats that change something. Taken before every other lock.
    changes: Mutex<()>,
    cluster: Mutex<Cluster>,
    ids: Mutex<Ids>,
    operators: Operators,
    ledger: Option<Box<dyn Ledger>>,
    poison: Poison,
}

#[derive(Debug, Default)]
struct Cluster {
    bootstrapped: bool,
    stores: BTreeMap<StoreId, StoreInfo>,
    stats: BTreeMap<StoreId, StoreStats>,
}

#[derive(Debug, Default)]
struct Ids {
    last: u64,
    /// What the ledger says. No larger id was ever handed out.
    reserved: u64,
}

impl EmbeddedPd {
    /// A driver of a cluster that nobody has bootstrapped, in memory alone.
    #[must_use]
    pub fn new(cluster_id: ClusterId) -> Self {
        Self::from_parts(cluster_id, StoreMeta::new(None), Cluster::default(), 0, None)
    }

    /// The driver that a storage holds, or a new one if it is empty. It must be a storage of its own.
    ///
    /// Costs O(regions log regions). Who leads, and how the peers are doing, is not stored: the next heartbeats tell.
    ///
    /// # Errors
    /// [`OpenPdError`] if the storage is another cluster's, something else's, or damaged.
    pub fn open(cluster_id: ClusterId, storage: impl Storage) -> Result<Self, OpenPdError> {
        let ledger = StorageLedger(storage);
        let Found { last_id, bootstrapped, stores, regions } = ledger.load(cluster_id)?;
        let regions = StoreMeta::recover(None, regions, [])?;
        let cluster = Cluster { bootstrapped, stores: by_id(stores), stats: BTreeMap::new() };
        Ok(Self::from_parts(cluster_id, regions, cluster, last_id, Some(Box::new(ledger))))
    }

    /// A driver of a bootstrapped cluster that goes on where another one ended, from what the cluster's stores recovered.
    ///
    /// Ids go on above `last_id` and above every region, peer and store id in `regions` and `stores`. What was handed out and
    /// then removed again, such as the peer of an undone conf change, no store remembers: who has kept the last id passes
    /// it, others pass 0. Costs O(regions log regions).
    ///
    /// # Errors
    /// [`Refusal`] if two regions have the same id or overlap, or if one is a tombstone.
    ///
    /// ```
    /// use regionmeta_batch::pd::{EmbeddedPd, PdClient};
    /// use regionmeta_batch::storage::MemStorage;
    /// use regionmeta_batch::StoreBuilder;
    ///
    /// let store = StoreBuilder::new(7.into()).bootstrap_storage(MemStorage::new(), &EmbeddedPd::new(7.into()))?;
    /// let pd = EmbeddedPd::resume(7.into(), store.meta().snapshot().regions().cloned(), [], 0)?;
    /// assert!(pd.is_bootstrapped()?);
    /// assert!(pd.alloc_id()? > store.ident().store_id.get());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume(
        cluster_id: ClusterId,
        regions: impl IntoIterator<Item = Region>,
        stores: impl IntoIterator<Item = StoreInfo>,
        last_id: u64,
    ) -> Result<Self, Refusal> {
        let regions = StoreMeta::recover(None, regions, [])?;
        let stores = by_id(stores);
        let of_regions = regions.snapshot().regions().map(largest_id).max();
        let of_stores = stores.keys().map(|id| id.get()).max();
        let last_id = of_regions.max(of_stores).unwrap_or(0).max(last_id);
        let cluster = Cluster { bootstrapped: true, stores, stats: BTreeMap::new() };
        Ok(Self::from_parts(cluster_id, regions, cluster, last_id, None))
    }

    fn from_parts(
        cluster_id: ClusterId,
        regions: StoreMeta,
        cluster: Cluster,
        last_id: u64,
        ledger: Option<Box<dyn Ledger>>,
    ) -> Self {
        let core = Core {
            cluster_id,
            policy: SizePolicy::default(),
            regions,
            infos: Infos::new(),
            changes: Mutex::default(),
            cluster: Mutex::new(cluster),
            ids: Mutex::new(Ids { last: last_id, reserved: last_id }),
            operators: Operators::default(),
            ledger,
            poison: Poison::default(),
        };
        Self { core: Arc::new(core) }
    }

    /// Asks leaders to split and merge their regions by size from now on. Without it nothing is asked. Has no effect once
    /// the driver is shared.
    #[must_use]
    pub fn with_policy(mut self, policy: SizePolicy) -> Self {
        if let Some(core) = Arc::get_mut(&mut self.core) {
            core.policy = policy;
        }
        self
    }

    /// The stores that registered, by id.
    #[must_use]
    pub fn stores(&self) -> Vec<StoreInfo> {
        self.core.cluster().stores.values().cloned().collect()
    }

    /// What a store said last of how it is.
    #[must_use]
    pub fn store_stats(&self, id: StoreId) -> Option<StoreStats> {
        self.core.cluster().stats.get(&id).copied()
    }

    /// The regions as PD knows them, to read.
    #[must_use]
    pub fn regions(&self) -> ReadHandle {
        self.core.regions.read_handle()
    }

    /// How large and how busy a region is, as its leader last said.
    #[must_use]
    pub fn load(&self, id: RegionId) -> Option<RegionLoad> {
        self.core.infos.get(id, Info::load)
    }

    /// Takes in a heartbeat, as a stream does, and says what it has changed.
    ///
    /// # Errors
    /// [`HeartbeatError`]; nothing has changed then.
    pub fn heartbeat(&self, heartbeat: &RegionHeartbeat) -> Result<Accepted, HeartbeatError> {
        self.core.heartbeat(heartbeat)
    }

    /// What the leader that has just sent this heartbeat is to do: the response that its stream gets.
    #[must_use]
    pub fn advise(&self, heartbeat: &RegionHeartbeat) -> Option<HeartbeatResponse> {
        self.core.advise(heartbeat)
    }

    /// Wants something done to a region: its leader is told after its next heartbeats, until its epoch has moved, but eight
    /// times at most. Operators of one region are done one after the other.
    pub fn add_operator(&self, region: RegionId, operator: Operator) {
        self.core.operators.push(region, Some(operator));
    }
}

impl Core {
    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self, saves: &[Save<'_>]) -> Result<(), StorageError> {
        self.ledger.as_ref().map_or(Ok(()), |ledger| ledger.save(saves, Durability::Synced))
    }

    /// The last of so many ids in a row.
    fn alloc_ids(&self, count: u32) -> Result<u64, PdError> {
        if count == 0 {
            return Err(PdError::Refused("no ids are asked for".to_owned()));
        }
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let last = ids.last.checked_add(count.into()).ok_or_else(|| PdError::Refused("out of ids".to_owned()))?;
        if last > ids.reserved {
            let reserved = ids.reserved.saturating_add(ID_BATCH).max(last);
            // Whatever becomes of a write that fails: ids up to there are handed out only after one that does not.
            self.save(&[Save::Ids(reserved)]).map_err(storage)?;
            ids.reserved = reserved;
        }
        ids.last = last;
        Ok(last)
    }

    /// Answers from one moment: if descriptor and info do not belong together, once more while nothing changes.
    fn describe<T>(&self, find: impl Fn(&Snapshot, &dyn Fn(&Region) -> Option<RegionInfo>) -> Option<T>) -> Option<T> {
        let strict = |region: &Region| {
            let found = self.infos.get(region.id(), |info| info.region.same_buffer(region).then(|| info.describe()));
            found.flatten()
        };
        if let Some(found) = find(&self.regions.snapshot(), &strict) {
            return Some(found);
        }
        let _nothing_changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let lenient = |region: &Region| strict(region).or_else(|| Some(RegionInfo::without_leader(region.clone())));
        find(&self.regions.snapshot(), &lenient)
    }
}

impl PdClient for EmbeddedPd {
    fn cluster_id(&self) -> ClusterId {
        self.core.cluster_id
    }

    fn alloc_id(&self) -> Result<u64, PdError> {
        self.core.alloc_ids(1)
    }

    fn alloc_ids(&self, count: u32) -> Result<u64, PdError> {
        self.core.alloc_ids(count)
    }

    fn is_bootstrapped(&self) -> Result<bool, PdError> {
        Ok(self.core.cluster().bootstrapped)
    }

    fn bootstrap(&self, store: &StoreInfo, region: &Region) -> Result<(), PdError> {
        check_bootstrap(store, region)?;
        let mut cluster = self.core.cluster();
        if cluster.bootstrapped {
            return Err(PdError::AlreadyBootstrapped);
        }
        let refused = |refusal: Refusal| PdError::Refused(refusal.to_string());
        self.core.poison.check().map_err(storage)?;
        let permit = self.core.regions.prepare(Changeset::new().create(region.clone())).map_err(refused)?;
        let saved = self.core.save(&[Save::Bootstrapped, Save::Store(store), Save::Region(region)]);
        saved.inspect_err(|error| self.core.poison.set(error)).map_err(storage)?;
        permit.publish();
        cluster.stores.insert(store.id, store.clone());
        cluster.bootstrapped = true;
        Ok(())
    }

    fn cluster_config(&self) -> Result<ClusterConfig, PdError> {
        Ok(ClusterConfig { id: self.core.cluster_id, peers_max: 3 })
    }

    fn put_store(&self, store: &StoreInfo) -> Result<(), PdError> {
        let mut cluster = self.core.cluster();
        if !cluster.bootstrapped {
            return Err(PdError::NotBootstrapped);
        }
        if store.id.get() == 0 {
            return Err(PdError::Refused("store id is 0".to_owned()));
        }
        if cluster.stores.get(&store.id) != Some(store) {
            self.core.save(&[Save::Store(store)]).map_err(storage)?;
            cluster.stores.insert(store.id, store.clone());
        }
        Ok(())
    }

    fn get_store(&self, id: StoreId) -> Result<Option<StoreInfo>, PdError> {
        Ok(self.core.cluster().stores.get(&id).cloned())
    }

    fn get_all_stores(&self) -> Result<Vec<StoreInfo>, PdError> {
        Ok(self.stores())
    }

    fn store_heartbeat(&self, stats: &StoreStats) -> Result<StoreAdvice, PdError> {
        let mut cluster = self.core.cluster();
        if !cluster.stores.contains_key(&stats.store_id) {
            return Err(PdError::UnknownStore { store: stats.store_id });
        }
        cluster.stats.insert(stats.store_id, *stats);
        Ok(StoreAdvice::default())
    }

    fn ask_batch_split(&self, region: &Region, children: usize) -> Result<Vec<SplitIds>, PdError> {
        if !(1..=CHILDREN_MAX).contains(&children) {
            return Err(PdError::Refused(format!("a split into {children} children")));
        }
        let snapshot = self.core.regions.snapshot();
        let known = snapshot.locate(region.start_key()).map(|entry| entry.region());
        let known = known.ok_or(PdError::RegionNotFound { region: region.id() })?;
        if region.epoch().is_behind_any(known.epoch()) {
            let why = format!("{known}, the request says {}", region.epoch());
            return Err(PdError::Stale { region: region.id(), why });
        }
        let ids = |_| {
            let region_id = self.alloc_id()?.into();
            let peer_ids = region.peers().map(|_| Ok(self.alloc_id()?.into())).collect::<Result<_, PdError>>()?;
            Ok(SplitIds { region_id, peer_ids })
        };
        (0..children).map(ids).collect()
    }

    fn report_batch_split(&self, regions: &[Region]) -> Result<(), PdError> {
        let mut pairs = regions.iter().zip(regions.iter().skip(1));
        match regions.len() >= 2 && pairs.all(|(left, right)| left.range().touches(right.range())) {
            true => Ok(()),
            false => Err(PdError::Refused("a split makes two or more regions, one beside the other".to_owned())),
        }
    }

    fn get_region(&self, key: &[u8]) -> Result<Option<RegionInfo>, PdError> {
        Ok(self.core.describe(|snapshot, info| info(snapshot.locate(key)?.region())))
    }

    fn get_prev_region(&self, key: &[u8]) -> Result<Option<RegionInfo>, PdError> {
        Ok(self.core.describe(|snapshot, info| {
            let owner = snapshot.locate(key)?.region().range();
            let before = snapshot.region_before(owner.start)?.region();
            if before.range().touches(owner) { info(before) } else { None }
        }))
    }

    fn get_region_by_id(&self, id: RegionId) -> Result<Option<RegionInfo>, PdError> {
        Ok(self.core.describe(|snapshot, info| info(snapshot.get(id)?.region())))
    }

    fn scan_regions(&self, range: KeyRange<'_>, limit: usize) -> Result<Vec<RegionInfo>, PdError> {
        let limit = if limit == 0 { usize::MAX } else { limit };
        let found = self.core.describe(|snapshot, info| snapshot.overlapping(range).take(limit).map(info).collect());
        Ok(found.unwrap_or_default())
    }

    fn region_heartbeats(&self) -> Result<HeartbeatStream, PdError> {
        Ok(stream::open(self.core.clone()))
    }
}

fn by_id(stores: impl IntoIterator<Item = StoreInfo>) -> BTreeMap<StoreId, StoreInfo> {
    stores.into_iter().map(|store| (store.id, store)).collect()
}

fn storage(error: impl std::fmt::Display) -> PdError {
    PdError::Storage(error.to_string())
}

/// The largest id in a region: its own, its peers', or that of a store they are on.
fn largest_id(region: &Region) -> u64 {
    let of_peers = region.peers().map(|peer| peer.id.get().max(peer.store_id.get()));
    of_peers.fold(region.id().get(), u64::max)
}

/// What PD demands of the first region (spec section 3.5). Zero ids cannot occur: no [`Region`] has them.
fn check_bootstrap(store: &StoreInfo, region: &Region) -> Result<(), PdError> {
    let refuse = |why: String| Err(PdError::Refused(why));
    if store.id.get() == 0 {
        return refuse("store id is 0".to_owned());
    }
    if region.range() != KeyRange::ALL {
        return refuse(format!("the first region must own every key, not {}", region.range()));
    }
    let mut peers = region.peers();
    match (peers.next(), peers.next()) {
        (Some(peer), None) if peer.store_id == store.id => Ok(()),
        (Some(peer), None) => refuse(format!("the peer is on store {}, the store is {}", peer.store_id, store.id)),
        _ => refuse(format!("the first region has {} peers instead of one", region.peers().len())),
    }
}
