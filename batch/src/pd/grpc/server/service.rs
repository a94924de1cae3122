//! [`Service`]: PD's methods, each as a call of the driver.

use std::net::SocketAddr;
use std::sync::Arc;

use regionmeta::{KeyRange, Region};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tonic::{Request, Response, Status, Streaming};

use super::heartbeats::Responses;
use super::scan;
use crate::pd::grpc::header::{self, Answer};
use crate::pd::grpc::limited_log::LimitedLog;
use crate::pd::grpc::{ServerSettings, status};
use crate::pd::wire::pdpb::pd_server::Pd;
use crate::pd::wire::{metapb, pdpb};
use crate::pd::{AnswerError, PdClient, PdError, RegionInfo, StoreInfo, StoreStats};

/// The only member's number.
const MEMBER: u64 = 1;
/// Children of one split; a request for more could take ids by the million.
const CHILDREN_MAX: u32 = 4096;
/// Ids in one answer.
const IDS_MAX: u32 = 1 << 20;

#[derive(Debug)]
pub(super) struct Service {
    pub(super) pd: Arc<dyn PdClient>,
    pub(super) streams: Arc<Semaphore>,
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) handle: Handle,
    pub(super) log: Arc<LimitedLog>,
    url: String,
}

impl Service {
    pub(super) fn new(
        pd: Arc<dyn PdClient>,
        address: SocketAddr,
        settings: &ServerSettings,
        stopped: watch::Receiver<bool>,
        handle: Handle,
    ) -> Self {
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let url = match &settings.advertise {
            Some(url) if url.contains("://") => url.clone(),
            Some(host) => format!("{scheme}://{host}"),
            None => format!("{scheme}://{address}"),
        };
        let streams = Arc::new(Semaphore::new(settings.streams_max));
        Self { pd, streams, stopped, handle, log: Arc::default(), url }
    }

    /// Runs a call of the driver where it may block. What goes wrong is said in the answer's header, unless this PD cannot answer.
    async fn answer<M: Answer>(
        &self,
        asked: Option<pdpb::RequestHeader>,
        call: impl FnOnce(&dyn PdClient) -> Result<M, PdError> + Send + 'static,
    ) -> Result<Response<M>, Status> {
        let cluster = self.pd.cluster_id();
        header::same_cluster(asked.as_ref(), cluster)
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        let pd = Arc::clone(&self.pd);
        let done = self.handle.spawn_blocking(move || call(&*pd)).await;
        let done = done.map_err(|_| Status::internal("the driver has failed"))?;
        if let Some(status) = done.as_ref().err().and_then(status::of_error) {
            return Err(status);
        }
        let header = header::answer(cluster, done.as_ref().err());
        let mut message = done.unwrap_or_default();
        if message.header().is_none() {
            message.set_header(header);
        }
        Ok(Response::new(message))
    }

    /// As [`answer`](Self::answer), for what makes no sense before the cluster is bootstrapped.
    async fn answer_bootstrapped<M: Answer>(
        &self,
        asked: Option<pdpb::RequestHeader>,
        call: impl FnOnce(&dyn PdClient) -> Result<M, PdError> + Send + 'static,
    ) -> Result<Response<M>, Status> {
        let when_bootstrapped =
            |pd: &dyn PdClient| if pd.is_bootstrapped()? { call(pd) } else { Err(PdError::NotBootstrapped) };
        self.answer(asked, when_bootstrapped).await
    }
}

/// Reads a part of a request, which must be there.
fn read<W, T: TryFrom<W, Error = AnswerError>>(what: &'static str, part: Option<W>) -> Result<T, PdError> {
    let part = part.ok_or_else(|| PdError::Refused(format!("{what} is missing")))?;
    T::try_from(part).map_err(|error| PdError::Refused(error.to_string()))
}

fn found(info: Option<RegionInfo>) -> pdpb::GetRegionResponse {
    info.as_ref().into()
}

/// On the wire 0, and everything below, means no limit.
fn limit(wire: i32) -> usize {
    usize::try_from(wire).unwrap_or(0)
}

#[tonic::async_trait]
impl Pd for Service {
    type RegionHeartbeatStream = Responses;

    /// Answers any cluster: a client learns here which one this is.
    async fn get_members(
        &self,
        _: Request<pdpb::GetMembersRequest>,
    ) -> Result<Response<pdpb::GetMembersResponse>, Status> {
        let member = pdpb::Member {
            name: "regionmeta-pd".to_owned(),
            member_id: MEMBER,
            client_urls: vec![self.url.clone()],
            ..Default::default()
        };
        Ok(Response::new(pdpb::GetMembersResponse {
            header: Some(header::answer(self.pd.cluster_id(), None)),
            members: vec![member.clone()],
            etcd_leader: Some(member.clone()),
            leader: Some(member),
        }))
    }

    async fn bootstrap(
        &self,
        request: Request<pdpb::BootstrapRequest>,
    ) -> Result<Response<pdpb::BootstrapResponse>, Status> {
        let request = request.into_inner();
        self.answer(request.header, move |pd| {
            let (store, region): (StoreInfo, Region) = (read("store", request.store)?, read("region", request.region)?);
            pd.bootstrap(&store, &region).map(|()| pdpb::BootstrapResponse::default())
        })
        .await
    }

    async fn is_bootstrapped(
        &self,
        request: Request<pdpb::IsBootstrappedRequest>,
    ) -> Result<Response<pdpb::IsBootstrappedResponse>, Status> {
        let to_wire = |bootstrapped| pdpb::IsBootstrappedResponse { header: None, bootstrapped };
        self.answer(request.into_inner().header, move |pd| pd.is_bootstrapped().map(to_wire)).await
    }

    /// A request that says no number is one of a client that knows of none.
    async fn alloc_id(
        &self,
        request: Request<pdpb::AllocIdRequest>,
    ) -> Result<Response<pdpb::AllocIdResponse>, Status> {
        let request = request.into_inner();
        let count = request.count.max(1);
        self.answer(request.header, move |pd| {
            if count > IDS_MAX {
                return Err(PdError::Refused(format!("{count} ids at a time")));
            }
            pd.alloc_ids(count).map(|id| pdpb::AllocIdResponse { header: None, id, count })
        })
        .await
    }

    async fn get_store(
        &self,
        request: Request<pdpb::GetStoreRequest>,
    ) -> Result<Response<pdpb::GetStoreResponse>, Status> {
        let request = request.into_inner();
        self.answer_bootstrapped(request.header, move |pd| {
            let store = request.store_id.into();
            let found = pd.get_store(store)?.ok_or(PdError::UnknownStore { store })?;
            Ok(pdpb::GetStoreResponse { store: Some((&found).into()), ..Default::default() })
        })
        .await
    }

    async fn put_store(
        &self,
        request: Request<pdpb::PutStoreRequest>,
    ) -> Result<Response<pdpb::PutStoreResponse>, Status> {
        let request = request.into_inner();
        self.answer_bootstrapped(request.header, move |pd| {
            let store: StoreInfo = read("store", request.store)?;
            pd.put_store(&store).map(|()| pdpb::PutStoreResponse::default())
        })
        .await
    }

    async fn get_all_stores(
        &self,
        request: Request<pdpb::GetAllStoresRequest>,
    ) -> Result<Response<pdpb::GetAllStoresResponse>, Status> {
        self.answer_bootstrapped(request.into_inner().header, move |pd| {
            let stores = pd.get_all_stores()?.iter().map(metapb::Store::from).collect();
            Ok(pdpb::GetAllStoresResponse { header: None, stores })
        })
        .await
    }

    async fn store_heartbeat(
        &self,
        request: Request<pdpb::StoreHeartbeatRequest>,
    ) -> Result<Response<pdpb::StoreHeartbeatResponse>, Status> {
        let request = request.into_inner();
        self.answer_bootstrapped(request.header, move |pd| {
            let stats: StoreStats = read("stats", request.stats)?;
            Ok((&pd.store_heartbeat(&stats)?).into())
        })
        .await
    }

    /// Not reached: [`Route`](super::route::Route) takes this method before the generated service sees it.
    async fn region_heartbeat(
        &self,
        _: Request<Streaming<pdpb::RegionHeartbeatRequest>>,
    ) -> Result<Response<Responses>, Status> {
        Err(Status::internal("heartbeats have a route of their own"))
    }

    async fn get_region(
        &self,
        request: Request<pdpb::GetRegionRequest>,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        let request = request.into_inner();
        self.answer_bootstrapped(request.header, move |pd| pd.get_region(&request.region_key).map(found)).await
    }

    async fn get_prev_region(
        &self,
        request: Request<pdpb::GetRegionRequest>,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        let request = request.into_inner();
        self.answer_bootstrapped(request.header, move |pd| pd.get_prev_region(&request.region_key).map(found)).await
    }

    async fn get_region_by_id(
        &self,
        request: Request<pdpb::GetRegionByIdRequest>,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        let request = request.into_inner();
        self.answer_bootstrapped(request.header, move |pd| pd.get_region_by_id(request.region_id.into()).map(found))
            .await
    }

    async fn scan_regions(
        &self,
        request: Request<pdpb::ScanRegionsRequest>,
    ) -> Result<Response<pdpb::ScanRegionsResponse>, Status> {
        let request = request.into_inner();
        self.answer_bootstrapped(request.header, move |pd| {
            let range = KeyRange::from_wire(&request.start_key, &request.end_key);
            pd.scan_regions(range, limit(request.limit)).map(|found| found.as_slice().into())
        })
        .await
    }

    async fn batch_scan_regions(
        &self,
        request: Request<pdpb::BatchScanRegionsRequest>,
    ) -> Result<Response<pdpb::BatchScanRegionsResponse>, Status> {
        let request = request.into_inner();
        let whole = request.contain_all_key_range;
        let cluster = self.pd.cluster_id();
        self.answer_bootstrapped(request.header, move |pd| {
            let scanned = scan::scan_ranges(pd, &request.ranges, limit(request.limit))?;
            if whole && scanned.has_hole {
                return Ok(pdpb::BatchScanRegionsResponse { header: Some(header::hole(cluster)), regions: Vec::new() });
            }
            let regions = scanned.regions.iter().map(Into::into).collect();
            Ok(pdpb::BatchScanRegionsResponse { header: None, regions })
        })
        .await
    }

    async fn ask_split(
        &self,
        request: Request<pdpb::AskSplitRequest>,
    ) -> Result<Response<pdpb::AskSplitResponse>, Status> {
        let request = request.into_inner();
        self.answer_bootstrapped(request.header, move |pd| {
            let ids = pd.ask_batch_split(&read("region", request.region)?, 1)?;
            let ids = ids.first().map(pdpb::SplitId::from).unwrap_or_default();
            let (new_region_id, new_peer_ids) = (ids.new_region_id, ids.new_peer_ids);
            Ok(pdpb::AskSplitResponse { header: None, new_region_id, new_peer_ids })
        })
        .await
    }

    async fn report_split(
        &self,
        request: Request<pdpb::ReportSplitRequest>,
    ) -> Result<Response<pdpb::ReportSplitResponse>, Status> {
        let request = request.into_inner();
        self.answer_bootstrapped(request.header, move |pd| {
            let regions = [read("left region", request.left)?, read("right region", request.right)?];
            pd.report_batch_split(&regions).map(|()| pdpb::ReportSplitResponse::default())
        })
        .await
    }

    async fn ask_batch_split(
        &self,
        request: Request<pdpb::AskBatchSplitRequest>,
    ) -> Result<Response<pdpb::AskBatchSplitResponse>, Status> {
        let request = request.into_inner();
        self.answer_bootstrapped(request.header, move |pd| {
            if request.split_count == 0 || request.split_count > CHILDREN_MAX {
                return Err(PdError::Refused(format!("a split into {} more regions", request.split_count)));
            }
            let ids = pd.ask_batch_split(&read("region", request.region)?, request.split_count as usize)?;
            Ok(pdpb::AskBatchSplitResponse { header: None, ids: ids.iter().map(Into::into).collect() })
        })
        .await
    }

    async fn report_batch_split(
        &self,
        request: Request<pdpb::ReportBatchSplitRequest>,
    ) -> Result<Response<pdpb::ReportBatchSplitResponse>, Status> {
        let request = request.into_inner();
        self.answer_bootstrapped(request.header, move |pd| {
            let regions = request.regions.into_iter().map(|region| read("region", Some(region)));
            let regions = regions.collect::<Result<Vec<Region>, _>>()?;
            pd.report_batch_split(&regions).map(|()| pdpb::ReportBatchSplitResponse::default())
        })
        .await
    }

    async fn get_cluster_config(
        &self,
        request: Request<pdpb::GetClusterConfigRequest>,
    ) -> Result<Response<pdpb::GetClusterConfigResponse>, Status> {
        self.answer_bootstrapped(request.into_inner().header, move |pd| {
            let cluster = Some(pd.cluster_config()?.into());
            Ok(pdpb::GetClusterConfigResponse { header: None, cluster })
        })
        .await
    }
}
