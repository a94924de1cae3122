//! A PD that answers each method with whatever a test gives it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use prost::Message;
use regionmeta_batch::pd::wire::pdpb;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};

use crate::common::{CLUSTER, Raw};

/// What a method answers.
#[derive(Clone)]
pub(crate) enum Answer {
    Bytes(Vec<u8>),
    /// The messages of a stream, which then stays open.
    Stream(Vec<Vec<u8>>),
    Fails(Status),
    Nothing,
}

impl Answer {
    pub(crate) fn message(message: &impl Message) -> Self {
        Self::Bytes(message.encode_to_vec())
    }
}

type Answers = Arc<Mutex<HashMap<&'static str, Answer>>>;

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    answers: Answers,
    calls: Arc<Mutex<HashMap<String, usize>>>,
    _runtime: Runtime,
}

pub(crate) fn header(cluster_id: u64) -> Option<pdpb::ResponseHeader> {
    Some(pdpb::ResponseHeader { cluster_id, error: None })
}

pub(crate) fn members(leader: Option<SocketAddr>) -> Answer {
    let leader =
        leader.map(|address| pdpb::Member { client_urls: vec![format!("http://{address}")], ..Default::default() });
    let members = leader.clone().into_iter().collect();
    Answer::message(&pdpb::GetMembersResponse { header: header(CLUSTER.get()), members, leader, etcd_leader: None })
}

impl Fake {
    /// A member that says that it leads, and answers nothing else.
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let (address, answers, calls) = (listener.local_addr().unwrap(), Answers::default(), Arc::default());
        let route = Route { answers: Arc::clone(&answers), calls: Arc::clone(&calls) };
        let router = tonic::transport::Server::builder().add_service(route);
        runtime.spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        let fake = Self { address, answers, calls, _runtime: runtime };
        fake.answers("GetMembers", members(Some(address)));
        fake
    }

    pub(crate) fn answers(&self, method: &'static str, answer: Answer) {
        self.answers.lock().unwrap().insert(method, answer);
    }

    pub(crate) fn calls(&self, method: &str) -> usize {
        self.calls.lock().unwrap().get(method).copied().unwrap_or(0)
    }
}

#[derive(Clone)]
struct Route {
    answers: Answers,
    calls: Arc<Mutex<HashMap<String, usize>>>,
}

impl NamedService for Route {
    const NAME: &'static str = "pdpb.PD";
}

impl Service<http::Request<Body>> for Route {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = request.uri().path().trim_start_matches("/pdpb.PD/").to_owned();
        *self.calls.lock().unwrap().entry(method.clone()).or_default() += 1;
        let answer = self.answers.lock().unwrap().get(method.as_str()).cloned();
        let answer = Fixed(answer.unwrap_or_else(|| Answer::Fails(Status::unimplemented(method.clone()))));
        Box::pin(async move {
            match method.as_str() {
                "RegionHeartbeat" => Ok(Grpc::new(Raw).streaming(answer, request).await),
                _ => Ok(Grpc::new(Raw).unary(answer, request).await),
            }
        })
    }
}

struct Fixed(Answer);

impl UnaryService<Vec<u8>> for Fixed {
    type Response = Vec<u8>;
    type Future = BoxFuture<Response<Vec<u8>>, Status>;

    fn call(&mut self, _: Request<Vec<u8>>) -> Self::Future {
        let answer = self.0.clone();
        Box::pin(async move {
            match answer {
                Answer::Bytes(bytes) => Ok(Response::new(bytes)),
                Answer::Fails(status) => Err(status),
                Answer::Stream(_) => Err(Status::internal("no stream")),
                Answer::Nothing => {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    Err(Status::cancelled("late"))
                }
            }
        })
    }
}

impl StreamingService<Vec<u8>> for Fixed {
    type Response = Vec<u8>;
    type ResponseStream = ReceiverStream<Result<Vec<u8>, Status>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, requests: Request<Streaming<Vec<u8>>>) -> Self::Future {
        let answer = self.0.clone();
        Box::pin(async move {
            let reads = !matches!(answer, Answer::Nothing);
            let messages = match answer {
                Answer::Stream(messages) => messages,
                Answer::Fails(status) => return Err(status),
                Answer::Bytes(_) | Answer::Nothing => Vec::new(),
            };
            let (out, responses) = tokio::sync::mpsc::channel(messages.len() + 1);
            for message in messages {
                out.send(Ok(message)).await.unwrap();
            }
            // Open while the client's half is.
            tokio::spawn(async move {
                let mut requests = requests.into_inner();
                if !reads {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                while let Ok(Some(_)) = requests.message().await {}
                drop(out);
            });
            Ok(Response::new(ReceiverStream::new(responses)))
        })
    }
}
