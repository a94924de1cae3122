//! [`Checked`]: a client whose answers are looked at before they are believed.

use std::time::Duration;

use regionmeta::{ClusterId, KeyRange, Region, RegionId, StoreId};

use super::{
    ClusterConfig, HeartbeatReceiver, HeartbeatResponse, HeartbeatStream, PdClient, PdError, RegionInfo, SplitIds,
    StoreAdvice, StoreInfo, StoreStats, check,
};

/// Passes every call on to another client, and refuses answers that cannot be meant with [`PdError::InvalidAnswer`].
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a> {
    inner: &'a dyn PdClient,
}

impl<'a> Checked<'a> {
    /// Puts the checks around a client.
    #[must_use]
    pub const fn new(inner: &'a dyn PdClient) -> Self {
        Self { inner }
    }

    fn region(
        found: Option<RegionInfo>,
        check: impl FnOnce(&RegionInfo) -> Result<(), check::AnswerError>,
    ) -> Result<Option<RegionInfo>, PdError> {
        found.as_ref().map_or(Ok(()), check)?;
        Ok(found)
    }
}

impl PdClient for Checked<'_> {
    fn cluster_id(&self) -> ClusterId {
        self.inner.cluster_id()
    }

    fn alloc_id(&self) -> Result<u64, PdError> {
        Ok(check::id("a new id", self.inner.alloc_id()?)?)
    }

    fn alloc_ids(&self, count: u32) -> Result<u64, PdError> {
        Ok(check::ids(count, self.inner.alloc_ids(count)?)?)
    }

    fn is_bootstrapped(&self) -> Result<bool, PdError> {
        self.inner.is_bootstrapped()
    }

    fn bootstrap(&self, store: &StoreInfo, region: &Region) -> Result<(), PdError> {
        self.inner.bootstrap(store, region)
    }

    fn cluster_config(&self) -> Result<ClusterConfig, PdError> {
        let config = self.inner.cluster_config()?;
        check::cluster(config.id, self.cluster_id())?;
        Ok(config)
    }

    fn put_store(&self, store: &StoreInfo) -> Result<(), PdError> {
        self.inner.put_store(store)
    }

    fn get_store(&self, id: StoreId) -> Result<Option<StoreInfo>, PdError> {
        let found = self.inner.get_store(id)?;
        found.as_ref().map_or(Ok(()), |found| check::store(id, found))?;
        Ok(found)
    }

    fn get_all_stores(&self) -> Result<Vec<StoreInfo>, PdError> {
        let found = self.inner.get_all_stores()?;
        check::stores(&found)?;
        Ok(found)
    }

    fn store_heartbeat(&self, stats: &StoreStats) -> Result<StoreAdvice, PdError> {
        self.inner.store_heartbeat(stats)
    }

    fn ask_batch_split(&self, region: &Region, children: usize) -> Result<Vec<SplitIds>, PdError> {
        let found = self.inner.ask_batch_split(region, children)?;
        check::split_ids(region, children, &found)?;
        Ok(found)
    }

    fn report_batch_split(&self, regions: &[Region]) -> Result<(), PdError> {
        self.inner.report_batch_split(regions)
    }

    fn get_region(&self, key: &[u8]) -> Result<Option<RegionInfo>, PdError> {
        Self::region(self.inner.get_region(key)?, |found| check::owner(key, found))
    }

    fn get_prev_region(&self, key: &[u8]) -> Result<Option<RegionInfo>, PdError> {
        Self::region(self.inner.get_prev_region(key)?, |found| check::before_owner(key, found))
    }

    fn get_region_by_id(&self, id: RegionId) -> Result<Option<RegionInfo>, PdError> {
        Self::region(self.inner.get_region_by_id(id)?, |found| check::region(id, found))
    }

    fn scan_regions(&self, range: KeyRange<'_>, limit: usize) -> Result<Vec<RegionInfo>, PdError> {
        let found = self.inner.scan_regions(range, limit)?;
        check::scan(range, limit, &found)?;
        Ok(found)
    }

    fn region_heartbeats(&self) -> Result<HeartbeatStream, PdError> {
        let HeartbeatStream { sender, receiver } = self.inner.region_heartbeats()?;
        Ok(HeartbeatStream { sender, receiver: Box::new(CheckedReceiver { inner: receiver }) })
    }
}

#[derive(Debug)]
struct CheckedReceiver {
    inner: Box<dyn HeartbeatReceiver>,
}

impl HeartbeatReceiver for CheckedReceiver {
    fn receive(&mut self, wait: Duration) -> Result<Option<HeartbeatResponse>, PdError> {
        let found = self.inner.receive(wait)?;
        found.as_ref().map_or(Ok(()), check::response)?;
        Ok(found)
    }
}
