//! [`Route`]: PD's service, with heartbeat streams decoded frame by frame.
//!
//! The generated service ends a stream at the first message that cannot be decoded. One store's broken heartbeat must not cost
//! PD the others of the same store, so this one method is taken out and served with a codec of our own.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service as TowerService, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use super::heartbeats::Responses;
use super::service::Service;
use crate::pd::grpc::codec::{FRAME_BYTES_MAX, Framed, FramedCodec};
use crate::pd::wire::pdpb::pd_server::PdServer;
use crate::pd::wire::pdpb::{RegionHeartbeatRequest, RegionHeartbeatResponse};

#[derive(Clone, Debug)]
pub(super) struct Route {
    service: Arc<Service>,
    generated: PdServer<Service>,
}

impl Route {
    pub(super) fn new(service: Service, message_bytes_max: usize) -> Self {
        let service = Arc::new(service);
        let generated = PdServer::from_arc(Arc::clone(&service)).max_decoding_message_size(message_bytes_max);
        Self { service, generated }
    }
}

impl NamedService for Route {
    const NAME: &'static str = <PdServer<Service> as NamedService>::NAME;
}

impl TowerService<http::Request<Body>> for Route {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != "/pdpb.PD/RegionHeartbeat" {
            return self.generated.call(request);
        }
        let heartbeats = Heartbeats(Arc::clone(&self.service));
        Box::pin(async move {
            let codec = FramedCodec::<RegionHeartbeatResponse, RegionHeartbeatRequest>::new("RegionHeartbeat");
            let mut grpc = Grpc::new(codec).max_decoding_message_size(FRAME_BYTES_MAX);
            Ok(grpc.streaming(heartbeats, request).await)
        })
    }
}

struct Heartbeats(Arc<Service>);

impl StreamingService<Framed<RegionHeartbeatRequest>> for Heartbeats {
    type Response = RegionHeartbeatResponse;
    type ResponseStream = Responses;
    type Future = BoxFuture<Response<Responses>, Status>;

    fn call(&mut self, request: Request<Streaming<Framed<RegionHeartbeatRequest>>>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move { service.heartbeats(request.into_inner()).map(Response::new) })
    }
}
