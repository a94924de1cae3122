//! A placement driver that says what it is told to say, and keeps what it was told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use regionmeta::{ClusterId, KeyRange, Region, RegionId, StoreId};
use regionmeta_batch::pd::{
    ClusterConfig, HeartbeatReceiver, HeartbeatResponse, HeartbeatSender, HeartbeatStream, PdClient, PdError,
    RegionHeartbeat, RegionInfo, SplitIds, StoreAdvice, StoreInfo, StoreStats,
};

use crate::common::CLUSTER;

/// Its answers are whatever the fields say.
#[derive(Clone, Debug)]
pub(crate) struct Puppet {
    pub(crate) config: ClusterId,
    pub(crate) id: u64,
    pub(crate) stores: Vec<StoreInfo>,
    pub(crate) split: Vec<SplitIds>,
    pub(crate) regions: Vec<RegionInfo>,
    pub(crate) line: Arc<Mutex<Line>>,
}

/// What goes over its heartbeat streams.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) sent: Vec<RegionHeartbeat>,
    pub(crate) responses: VecDeque<Result<HeartbeatResponse, PdError>>,
    /// The next heartbeat is answered with this, and is not kept.
    pub(crate) breaks: Option<PdError>,
    pub(crate) connects: usize,
    /// How long each heartbeat takes.
    pub(crate) pause: Duration,
}

impl Puppet {
    pub(crate) fn new() -> Self {
        let (stores, split, regions) = (vec![], vec![], vec![]);
        Self { config: CLUSTER, id: 1, stores, split, regions, line: Arc::default() }
    }

    /// The heartbeats since it was last asked.
    pub(crate) fn heard(&self) -> Vec<RegionHeartbeat> {
        std::mem::take(&mut self.line.lock().unwrap().sent)
    }
}

impl HeartbeatSender for Puppet {
    fn send(&mut self, heartbeat: &RegionHeartbeat) -> Result<(), PdError> {
        let pause = self.line.lock().unwrap().pause;
        std::thread::sleep(pause);
        let mut line = self.line.lock().unwrap();
        match line.breaks.take() {
            Some(error) => Err(error),
            None => {
                line.sent.push(heartbeat.clone());
                Ok(())
            }
        }
    }
}

impl HeartbeatReceiver for Puppet {
    fn receive(&mut self, wait: Duration) -> Result<Option<HeartbeatResponse>, PdError> {
        let found = self.line.lock().unwrap().responses.pop_front().transpose();
        if found == Ok(None) {
            std::thread::sleep(wait);
        }
        found
    }
}

impl PdClient for Puppet {
    fn cluster_id(&self) -> ClusterId {
        CLUSTER
    }

    fn alloc_id(&self) -> Result<u64, PdError> {
        Ok(self.id)
    }

    fn is_bootstrapped(&self) -> Result<bool, PdError> {
        Ok(true)
    }

    fn bootstrap(&self, _: &StoreInfo, _: &Region) -> Result<(), PdError> {
        Err(PdError::AlreadyBootstrapped)
    }

    fn cluster_config(&self) -> Result<ClusterConfig, PdError> {
        Ok(ClusterConfig { id: self.config, peers_max: 3 })
    }

    fn put_store(&self, _: &StoreInfo) -> Result<(), PdError> {
        Ok(())
    }

    fn get_store(&self, _: StoreId) -> Result<Option<StoreInfo>, PdError> {
        Ok(self.stores.first().cloned())
    }

    fn get_all_stores(&self) -> Result<Vec<StoreInfo>, PdError> {
        Ok(self.stores.clone())
    }

    fn store_heartbeat(&self, _: &StoreStats) -> Result<StoreAdvice, PdError> {
        Ok(StoreAdvice::default())
    }

    fn ask_batch_split(&self, _: &Region, _: usize) -> Result<Vec<SplitIds>, PdError> {
        Ok(self.split.clone())
    }

    fn report_batch_split(&self, _: &[Region]) -> Result<(), PdError> {
        Ok(())
    }

    fn get_region(&self, _: &[u8]) -> Result<Option<RegionInfo>, PdError> {
        Ok(self.regions.first().cloned())
    }

    fn get_prev_region(&self, _: &[u8]) -> Result<Option<RegionInfo>, PdError> {
        Ok(self.regions.first().cloned())
    }

    fn get_region_by_id(&self, _: RegionId) -> Result<Option<RegionInfo>, PdError> {
        Ok(self.regions.first().cloned())
    }

    fn scan_regions(&self, _: KeyRange<'_>, _: usize) -> Result<Vec<RegionInfo>, PdError> {
        Ok(self.regions.clone())
    }

    fn region_heartbeats(&self) -> Result<HeartbeatStream, PdError> {
        self.line.lock().unwrap().connects += 1;
        Ok(HeartbeatStream { sender: Box::new(self.clone()), receiver: Box::new(self.clone()) })
    }
}
