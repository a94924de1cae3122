//! [`EmbeddedPd`]: a placement driver inside the process, for one machine, for tests and for the demo.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use regionmeta::{Changeset, ClusterId, KeyRange, ReadHandle, Refusal, Region, RegionId, StoreId, StoreMeta};

use super::{
    ClusterConfig, HeartbeatStream, PdClient, PdError, RegionInfo, SplitIds, StoreAdvice, StoreInfo, StoreStats,
};

/// A placement driver in memory. Its region map is a [`StoreMeta`], and holds the very descriptors that stores report.
#[derive(Debug)]
pub struct EmbeddedPd {
    cluster_id: ClusterId,
    regions: StoreMeta,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bootstrapped: bool,
    last_id: u64,
    stores: BTreeMap<StoreId, StoreInfo>,
}

impl EmbeddedPd {
    /// A driver of a cluster that nobody has bootstrapped.
    #[must_use]
    pub fn new(cluster_id: ClusterId) -> Self {
        let state = State { bootstrapped: false, last_id: 0, stores: BTreeMap::new() };
        Self { cluster_id, regions: StoreMeta::new(None), state: Mutex::new(state) }
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
        let stores: BTreeMap<_, _> = stores.into_iter().map(|store| (store.id, store)).collect();
        let of_regions = regions.snapshot().regions().map(largest_id).max();
        let of_stores = stores.keys().map(|id| id.get()).max();
        let last_id = of_regions.max(of_stores).unwrap_or(0).max(last_id);
        let state = State { bootstrapped: true, last_id, stores };
        Ok(Self { cluster_id, regions, state: Mutex::new(state) })
    }

    /// The stores that registered, by id.
    #[must_use]
    pub fn stores(&self) -> Vec<StoreInfo> {
        self.lock().stores.values().cloned().collect()
    }

    /// The regions as PD knows them, to read.
    #[must_use]
    pub fn regions(&self) -> ReadHandle {
        self.regions.read_handle()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PdClient for EmbeddedPd {
    fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    fn alloc_id(&self) -> Result<u64, PdError> {
        let mut state = self.lock();
        state.last_id = state.last_id.checked_add(1).ok_or_else(|| PdError::Refused("out of ids".to_owned()))?;
        Ok(state.last_id)
    }

    fn is_bootstrapped(&self) -> Result<bool, PdError> {
        Ok(self.lock().bootstrapped)
    }

    fn bootstrap(&self, store: &StoreInfo, region: &Region) -> Result<(), PdError> {
        check_bootstrap(store, region)?;
        let mut state = self.lock();
        if state.bootstrapped {
            return Err(PdError::AlreadyBootstrapped);
        }
        let refused = |refusal: Refusal| PdError::Refused(refusal.to_string());
        self.regions.prepare(Changeset::new().create(region.clone())).map_err(refused)?.publish();
        state.stores.insert(store.id, store.clone());
        state.bootstrapped = true;
        Ok(())
    }

    fn put_store(&self, store: &StoreInfo) -> Result<(), PdError> {
        let mut state = self.lock();
        if !state.bootstrapped {
            return Err(PdError::NotBootstrapped);
        }
        if store.id.get() == 0 {
            return Err(PdError::Refused("store id is 0".to_owned()));
        }
        state.stores.insert(store.id, store.clone());
        Ok(())
    }

    fn cluster_config(&self) -> Result<ClusterConfig, PdError> {
        Ok(ClusterConfig { id: self.cluster_id, peers_max: 3 })
    }

    fn get_store(&self, id: StoreId) -> Result<Option<StoreInfo>, PdError> {
        Ok(self.lock().stores.get(&id).cloned())
    }

    fn get_all_stores(&self) -> Result<Vec<StoreInfo>, PdError> {
        Ok(self.stores())
    }

    fn store_heartbeat(&self, stats: &StoreStats) -> Result<StoreAdvice, PdError> {
        match self.lock().stores.contains_key(&stats.store_id) {
            true => Ok(StoreAdvice::default()),
            false => Err(PdError::UnknownStore { store: stats.store_id }),
        }
    }

    fn ask_batch_split(&self, region: &Region, children: usize) -> Result<Vec<SplitIds>, PdError> {
        let ids = |_| {
            let peer_ids = region.peers().map(|_| Ok(self.alloc_id()?.into())).collect::<Result<_, PdError>>()?;
            Ok(SplitIds { region_id: self.alloc_id()?.into(), peer_ids })
        };
        (0..children).map(ids).collect()
    }

    fn report_batch_split(&self, _: &[Region]) -> Result<(), PdError> {
        Ok(())
    }

    fn get_region(&self, key: &[u8]) -> Result<Option<RegionInfo>, PdError> {
        let snapshot = self.regions.snapshot();
        Ok(snapshot.locate(key).map(|entry| RegionInfo::without_leader(entry.region().clone())))
    }

    fn get_prev_region(&self, key: &[u8]) -> Result<Option<RegionInfo>, PdError> {
        let snapshot = self.regions.snapshot();
        let Some(owner) = snapshot.locate(key) else { return Ok(None) };
        let before = snapshot.region_before(owner.region().start_key());
        let adjacent = before.filter(|before| before.region().range().touches(owner.region().range()));
        Ok(adjacent.map(|entry| RegionInfo::without_leader(entry.region().clone())))
    }

    fn get_region_by_id(&self, id: RegionId) -> Result<Option<RegionInfo>, PdError> {
        let snapshot = self.regions.snapshot();
        Ok(snapshot.get(id).map(|entry| RegionInfo::without_leader(entry.region().clone())))
    }

    fn scan_regions(&self, range: KeyRange<'_>, limit: usize) -> Result<Vec<RegionInfo>, PdError> {
        let snapshot = self.regions.snapshot();
        let limit = if limit == 0 { usize::MAX } else { limit };
        Ok(snapshot.overlapping(range).take(limit).cloned().map(RegionInfo::without_leader).collect())
    }

    fn region_heartbeats(&self) -> Result<HeartbeatStream, PdError> {
        Err(PdError::Unavailable("no heartbeats yet".to_owned()))
    }
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
