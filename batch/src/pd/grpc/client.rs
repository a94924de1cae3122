//! [`GrpcPd`]: a client of any PD.

use std::future::Future;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use regionmeta::{ClusterId, KeyRange, Region, RegionId, StoreId};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::header::{self, About, Answer};
use super::leader::{Leader, Leaders};
use super::status::{Failure, failure};
use super::{GrpcError, GrpcSettings, stream};
use crate::pd::wire::metapb::StoreState;
use crate::pd::wire::pdpb::pd_client::PdClient as Client;
use crate::pd::wire::{needed, pdpb};
use crate::pd::{
    AnswerError, ClusterConfig, HeartbeatStream, PdClient, PdError, RegionInfo, SplitIds, StoreAdvice, StoreInfo,
    StoreStats, check,
};

/// How often a call is tried, at one leader after the other. Every request may be executed twice: an id is lost at worst.
const ATTEMPTS_MAX: usize = 3;
/// Regions in one answer to a scan. Each has two keys, which PD says twice: with keys of 4 KiB that is the longest message by default.
const PAGE_REGIONS: usize = 1024;
/// How often a scan starts over because regions changed between two of its pages.
const SCANS_MAX: usize = 4;

/// A client of PD over gRPC. It finds the leader by itself, and finds it again when it is lost.
///
/// Every answer is checked before it is given out. Calls block the thread that makes them and may come from any, of an
/// asynchronous runtime too; two threads of its own wait for the network.
///
/// ```no_run
/// use regionmeta_batch::pd::PdClient;
/// use regionmeta_batch::pd::grpc::{GrpcPd, GrpcSettings};
///
/// let pd = GrpcPd::new(7.into(), &["127.0.0.1:2379".to_owned()], GrpcSettings::default())?;
/// println!("bootstrapped: {}", pd.is_bootstrapped()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct GrpcPd {
    caller: Caller,
    runtime: Option<Runtime>,
}

impl GrpcPd {
    /// A client of the cluster's PD, some of whose members are at `endpoints` (`host:port`, or a URL). Nothing is connected before
    /// the first call.
    ///
    /// # Errors
    /// [`GrpcError`] for an address or a certificate that cannot be one.
    pub fn new(cluster: ClusterId, endpoints: &[String], settings: GrpcSettings) -> Result<Self, GrpcError> {
        let leaders = Leaders::new(cluster, endpoints, &settings)?;
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).thread_name("pd-client").enable_all().build();
        let runtime = runtime.map_err(GrpcError::Runtime)?;
        let shared = Arc::new(Shared { cluster, leaders, settings });
        Ok(Self { caller: Caller { shared, handle: runtime.handle().clone() }, runtime: Some(runtime) })
    }

    fn header(&self) -> Option<pdpb::RequestHeader> {
        header::request(self.cluster_id())
    }

    /// One call, checked up to the header of its answer.
    fn call<M, F>(
        &self,
        what: &'static str,
        about: About,
        call: impl Fn(Client<Channel>) -> F + Send + Sync + 'static,
    ) -> Result<M, PdError>
    where
        M: Answer,
        F: Future<Output = Result<Response<M>, Status>> + Send + 'static,
    {
        let shared = Arc::clone(&self.caller.shared);
        let answer = self.caller.wait(async move { shared.call(what, call).await })?;
        header::check(what, answer.header(), self.cluster_id(), about)?;
        Ok(answer)
    }

    fn get(
        &self,
        what: &'static str,
        request: pdpb::GetRegionRequest,
        check: impl FnOnce(&RegionInfo) -> Result<(), AnswerError>,
    ) -> Result<Option<RegionInfo>, PdError> {
        let previous = what == "GetPrevRegion";
        let found =
            self.call(what, About::Cluster, move |mut client| {
                let request = request.clone();
                async move {
                    if previous { client.get_prev_region(request).await } else { client.get_region(request).await }
                }
            })?;
        checked(found, check)
    }

    fn page(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<RegionInfo>, PdError> {
        let request = pdpb::ScanRegionsRequest {
            header: self.header(),
            start_key: start.to_vec(),
            limit: i32::try_from(limit).unwrap_or(i32::MAX),
            end_key: end.to_vec(),
        };
        let found: pdpb::ScanRegionsResponse = self.call("ScanRegions", About::Cluster, move |mut client| {
            let request = request.clone();
            async move { client.scan_regions(request).await }
        })?;
        let found = found.into_infos()?;
        check::scan(KeyRange::from_wire(start, end), limit, &found)?;
        Ok(found)
    }

    /// All pages of a scan. The second begins where the first has ended, so between the two a merge may have moved that border.
    fn pages(&self, range: KeyRange<'_>, limit: usize) -> Result<Vec<RegionInfo>, PdError> {
        let limit = if limit == 0 { usize::MAX } else { limit };
        let (mut found, mut start) = (Vec::new(), range.start.to_vec());
        loop {
            let asked = PAGE_REGIONS.min(limit - found.len());
            let page = self.page(&start, range.end.to_wire(), asked)?;
            let full = page.len() == asked;
            found.extend(page);
            let end = found.last().map(|last: &RegionInfo| last.region.end_key());
            match end {
                Some(end) if full && found.len() < limit && range.end > end => start = end.to_wire().to_vec(),
                _ => return Ok(found),
            }
        }
    }
}

fn checked(
    found: pdpb::GetRegionResponse,
    check: impl FnOnce(&RegionInfo) -> Result<(), AnswerError>,
) -> Result<Option<RegionInfo>, PdError> {
    let found = found.into_info()?;
    found.as_ref().map_or(Ok(()), check)?;
    Ok(found)
}

impl PdClient for GrpcPd {
    fn cluster_id(&self) -> ClusterId {
        self.caller.shared.cluster
    }

    fn alloc_id(&self) -> Result<u64, PdError> {
        self.alloc_ids(1)
    }

    fn alloc_ids(&self, count: u32) -> Result<u64, PdError> {
        let request = pdpb::AllocIdRequest { header: self.header(), count };
        let found: pdpb::AllocIdResponse =
            self.call("AllocID", About::Cluster, move |mut client| async move { client.alloc_id(request).await })?;
        // A PD that knows nothing of counts has given one.
        let (asked, given) = (count as usize, found.count.max(1) as usize);
        if given != asked {
            return Err(AnswerError::Count { what: "new ids", asked, found: given }.into());
        }
        Ok(check::ids(count, found.id)?)
    }

    fn is_bootstrapped(&self) -> Result<bool, PdError> {
        let request = pdpb::IsBootstrappedRequest { header: self.header() };
        let found: pdpb::IsBootstrappedResponse =
            self.call("IsBootstrapped", About::Cluster, move |mut client| async move {
                client.is_bootstrapped(request).await
            })?;
        Ok(found.bootstrapped)
    }

    fn bootstrap(&self, store: &StoreInfo, region: &Region) -> Result<(), PdError> {
        let about = About::Store(store.id);
        let (store, region) = (Some(store.into()), Some(region.into()));
        let request = pdpb::BootstrapRequest { header: self.header(), store, region };
        let _: pdpb::BootstrapResponse = self.call("Bootstrap", about, move |mut client| {
            let request = request.clone();
            async move { client.bootstrap(request).await }
        })?;
        Ok(())
    }

    fn cluster_config(&self) -> Result<ClusterConfig, PdError> {
        let request = pdpb::GetClusterConfigRequest { header: self.header() };
        let found: pdpb::GetClusterConfigResponse =
            self.call("GetClusterConfig", About::Cluster, move |mut client| async move {
                client.get_cluster_config(request).await
            })?;
        let config = ClusterConfig::from(needed("cluster", found.cluster)?);
        check::cluster(config.id, self.cluster_id())?;
        Ok(config)
    }

    fn put_store(&self, store: &StoreInfo) -> Result<(), PdError> {
        let request = pdpb::PutStoreRequest { header: self.header(), store: Some(store.into()) };
        let _: pdpb::PutStoreResponse = self.call("PutStore", About::Store(store.id), move |mut client| {
            let request = request.clone();
            async move { client.put_store(request).await }
        })?;
        Ok(())
    }

    fn get_store(&self, id: StoreId) -> Result<Option<StoreInfo>, PdError> {
        let request = pdpb::GetStoreRequest { header: self.header(), store_id: id.get() };
        let answer: Result<pdpb::GetStoreResponse, _> =
            self.call("GetStore", About::Store(id), move |mut client| async move { client.get_store(request).await });
        let found = match answer {
            Err(PdError::UnknownStore { .. }) => return Ok(None),
            answer => needed("store", answer?.store)?,
        };
        if found.state == i32::from(StoreState::Tombstone) {
            return Err(PdError::StoreTombstone { store: id });
        }
        let found = StoreInfo::try_from(found)?;
        check::store(id, &found)?;
        Ok(Some(found))
    }

    fn get_all_stores(&self) -> Result<Vec<StoreInfo>, PdError> {
        let request = pdpb::GetAllStoresRequest { header: self.header(), exclude_tombstone_stores: true };
        let found: pdpb::GetAllStoresResponse =
            self.call("GetAllStores", About::Cluster, move |mut client| async move {
                client.get_all_stores(request).await
            })?;
        let live = found.stores.into_iter().filter(|store| store.state != i32::from(StoreState::Tombstone));
        let found = live.map(StoreInfo::try_from).collect::<Result<Vec<_>, _>>()?;
        check::stores(&found)?;
        Ok(found)
    }

    fn store_heartbeat(&self, stats: &StoreStats) -> Result<StoreAdvice, PdError> {
        let request = pdpb::StoreHeartbeatRequest { header: self.header(), stats: Some(stats.into()) };
        let about = About::Store(stats.store_id);
        let found: pdpb::StoreHeartbeatResponse =
            self.call("StoreHeartbeat", about, move |mut client| async move { client.store_heartbeat(request).await })?;
        Ok(found.try_into()?)
    }

    fn ask_batch_split(&self, region: &Region, children: usize) -> Result<Vec<SplitIds>, PdError> {
        let split_count = u32::try_from(children).map_err(|_| PdError::Refused(format!("{children} children")))?;
        let reason = pdpb::SplitReason::Size.into();
        let request =
            pdpb::AskBatchSplitRequest { header: self.header(), region: Some(region.into()), split_count, reason };
        let found: pdpb::AskBatchSplitResponse =
            self.call("AskBatchSplit", About::Region(region.id()), move |mut client| {
                let request = request.clone();
                async move { client.ask_batch_split(request).await }
            })?;
        let found: Vec<SplitIds> = found.ids.into_iter().map(Into::into).collect();
        check::split_ids(region, children, &found)?;
        Ok(found)
    }

    fn report_batch_split(&self, regions: &[Region]) -> Result<(), PdError> {
        let regions = regions.iter().map(Into::into).collect();
        let request = pdpb::ReportBatchSplitRequest { header: self.header(), regions };
        let _: pdpb::ReportBatchSplitResponse = self.call("ReportBatchSplit", About::Cluster, move |mut client| {
            let request = request.clone();
            async move { client.report_batch_split(request).await }
        })?;
        Ok(())
    }

    fn get_region(&self, key: &[u8]) -> Result<Option<RegionInfo>, PdError> {
        let request = pdpb::GetRegionRequest { header: self.header(), region_key: key.to_vec(), need_buckets: false };
        self.get("GetRegion", request, |found| check::owner(key, found))
    }

    fn get_prev_region(&self, key: &[u8]) -> Result<Option<RegionInfo>, PdError> {
        let request = pdpb::GetRegionRequest { header: self.header(), region_key: key.to_vec(), need_buckets: false };
        self.get("GetPrevRegion", request, |found| check::before_owner(key, found))
    }

    fn get_region_by_id(&self, id: RegionId) -> Result<Option<RegionInfo>, PdError> {
        let request = pdpb::GetRegionByIdRequest { header: self.header(), region_id: id.get(), need_buckets: false };
        let found = self.call("GetRegionByID", About::Region(id), move |mut client| async move {
            client.get_region_by_id(request).await
        });
        match found {
            Err(PdError::RegionNotFound { .. }) => Ok(None),
            found => checked(found?, |found| check::region(id, found)),
        }
    }

    fn scan_regions(&self, range: KeyRange<'_>, limit: usize) -> Result<Vec<RegionInfo>, PdError> {
        let mut scans = 0;
        loop {
            scans += 1;
            let found = self.pages(range, limit)?;
            match check::scan(range, limit, &found) {
                Ok(()) => return Ok(found),
                Err(error) if scans == SCANS_MAX => return Err(error.into()),
                Err(_) => {}
            }
        }
    }

    fn region_heartbeats(&self) -> Result<HeartbeatStream, PdError> {
        let shared = Arc::clone(&self.caller.shared);
        let deadline = Instant::now() + shared.settings.deadline;
        let leader = self.caller.wait(async move { shared.leader(deadline).await })?;
        Ok(stream::open(&self.caller, leader))
    }
}

impl Drop for GrpcPd {
    /// Does not wait: it may happen on a thread that must not.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What the client and its heartbeat streams share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) cluster: ClusterId,
    pub(super) leaders: Leaders,
    pub(super) settings: GrpcSettings,
}

impl Shared {
    /// The leader, if it is found before the deadline: nothing was sent if not.
    async fn leader(&self, deadline: Instant) -> Result<Leader, PdError> {
        let late = |_| PdError::Unavailable(format!("no leader found within {:?}", self.settings.deadline));
        timeout_at(deadline, self.leaders.get()).await.map_err(late)?
    }

    async fn call<M, F>(&self, what: &'static str, call: impl Fn(Client<Channel>) -> F + Send) -> Result<M, PdError>
    where
        F: Future<Output = Result<Response<M>, Status>> + Send,
    {
        let after = self.settings.deadline;
        let deadline = Instant::now() + after;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let leader = self.leader(deadline).await?;
            let error = match timeout_at(deadline, call(leader.client.clone())).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => match failure(what, &status) {
                    Failure::Final(error) => return Err(error),
                    Failure::Elsewhere(error) => error,
                },
                Err(_) => PdError::Timeout { what, after },
            };
            self.leaders.lost(&leader);
            if attempts == ATTEMPTS_MAX || matches!(error, PdError::Timeout { .. }) {
                return Err(error);
            }
        }
    }
}

/// Makes the hidden runtime work for a thread that waits.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) shared: Arc<Shared>,
    pub(super) handle: Handle,
}

impl Caller {
    /// Waits for a future on a thread of the runtime. The runtime's own way of waiting panics where another runtime is at work.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, PdError>> + Send + 'static,
    ) -> Result<T, PdError> {
        let (done, result) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            let _ = done.send(future.await); // nobody waits any more if it cannot be sent
        });
        result.recv().unwrap_or_else(|_| Err(PdError::Unavailable("the client is gone".to_owned())))
    }

    pub(super) fn deadline(&self) -> Duration {
        self.shared.settings.deadline
    }
}
