//! One heartbeat stream on the server: a thread that takes heartbeats, and one that passes on what PD wants.
//!
//! Threads, because the driver's calls block. A store has one stream, and their number is bounded.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use regionmeta::ClusterId;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::service::Service;
use crate::pd::grpc::codec::Framed;
use crate::pd::grpc::limited_log::LimitedLog;
use crate::pd::grpc::{header, status};
use crate::pd::wire::pdpb::{RegionHeartbeatRequest, RegionHeartbeatResponse};
use crate::pd::{HeartbeatReceiver, HeartbeatSender, HeartbeatStream, PdError, RegionHeartbeat};

pub(super) type Responses = ReceiverStream<Result<RegionHeartbeatResponse, Status>>;

/// Responses that wait for the network.
const RESPONSES_MAX: usize = 1024;
/// How often a thread that waits for the driver looks whether the stream is still there.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Service {
    /// Opens a stream of the driver for a stream of a store.
    pub(super) fn heartbeats(&self, requests: Streaming<Framed<RegionHeartbeatRequest>>) -> Result<Responses, Status> {
        let permit = Arc::clone(&self.streams).try_acquire_owned();
        let permit = permit.map_err(|_| Status::resource_exhausted("too many heartbeat streams"))?;
        let HeartbeatStream { sender, receiver } = self.pd.region_heartbeats().map_err(|error| unusable(&error))?;
        let (out, responses) = mpsc::channel(RESPONSES_MAX);
        let cluster = self.pd.cluster_id();
        let incoming = Incoming {
            cluster,
            requests,
            out: out.clone(),
            sender,
            stopped: self.stopped.clone(),
            handle: self.handle.clone(),
            log: Arc::clone(&self.log),
            _permit: permit,
        };
        start("pd-heartbeats", move || incoming.run())?;
        let (stopped, log) = (self.stopped.clone(), Arc::clone(&self.log));
        start("pd-operators", move || pass_on(cluster, receiver, &out, &stopped, &log))?;
        Ok(ReceiverStream::new(responses))
    }
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Status> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map(drop).map_err(|error| Status::resource_exhausted(error.to_string()))
}

fn unusable(error: &PdError) -> Status {
    status::of_error(error).unwrap_or_else(|| Status::failed_precondition(error.to_string()))
}

/// The way in.
struct Incoming {
    cluster: ClusterId,
    requests: Streaming<Framed<RegionHeartbeatRequest>>,
    /// Dropped before the driver's sender: the other thread then knows why the driver has no more to say.
    out: Sender<Result<RegionHeartbeatResponse, Status>>,
    sender: Box<dyn HeartbeatSender>,
    stopped: watch::Receiver<bool>,
    handle: Handle,
    log: Arc<LimitedLog>,
    _permit: OwnedSemaphorePermit,
}

impl Incoming {
    fn run(mut self) {
        let last = loop {
            let message = match self.next() {
                Ok(Some(message)) => message,
                Ok(None) => return,
                Err(status) => break status,
            };
            if let Err(status) = self.take(message) {
                break status;
            }
        };
        let _ = self.handle.block_on(self.out.send(Err(last))); // the store may be gone
    }

    fn next(&mut self) -> Result<Option<Framed<RegionHeartbeatRequest>>, Status> {
        let Self { requests, stopped, handle, out, .. } = self;
        handle.block_on(async {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => Err(Status::unavailable("PD is shutting down")),
                () = out.closed() => Ok(None),
                message = requests.message() => message,
            }
        })
    }

    /// Hands one heartbeat to the driver. What is wrong with this one alone is said to the store, and the stream goes on.
    fn take(&mut self, message: Framed<RegionHeartbeatRequest>) -> Result<(), Status> {
        let region = message.as_ref().ok().and_then(|message| message.region.as_ref()).map_or(0, |region| region.id);
        let result = self.hand_over(message);
        let Err(error) = result else { return Ok(()) };
        match error {
            PdError::ClusterMismatch { .. } => Err(Status::failed_precondition(error.to_string())),
            PdError::Storage(_) => Err(Status::unavailable(error.to_string())),
            error if error.is_transient() => Err(Status::unavailable(error.to_string())),
            error => {
                self.refuse(region, &error);
                Ok(())
            }
        }
    }

    fn hand_over(&mut self, message: Framed<RegionHeartbeatRequest>) -> Result<(), PdError> {
        let refused = |error: crate::pd::AnswerError| PdError::Refused(error.to_string());
        let message = message.map_err(refused)?;
        header::same_cluster(message.header.as_ref(), self.cluster)?;
        self.sender.send(&RegionHeartbeat::try_from(message).map_err(refused)?)
    }

    /// Best effort: who does not read the answers shall not hold up the heartbeats.
    fn refuse(&self, region_id: u64, error: &PdError) {
        self.log.warn("a heartbeat is refused", error);
        let header = Some(header::answer(self.cluster, Some(error)));
        let _ = self.out.try_send(Ok(RegionHeartbeatResponse { header, region_id, ..Default::default() }));
    }
}

/// The way out, until the stream is gone or the driver says that it is of no use any more.
fn pass_on(
    cluster: ClusterId,
    mut receiver: Box<dyn HeartbeatReceiver>,
    out: &Sender<Result<RegionHeartbeatResponse, Status>>,
    stopped: &watch::Receiver<bool>,
    log: &LimitedLog,
) {
    while !out.is_closed() && !*stopped.borrow() {
        let message = match receiver.receive(LOOK_EVERY) {
            Ok(None) => continue,
            Ok(Some(response)) => {
                let header = Some(header::answer(cluster, None));
                Ok(RegionHeartbeatResponse { header, ..(&response).into() })
            }
            Err(error @ PdError::InvalidAnswer(_)) => {
                log.warn("a response is not passed on", &error);
                continue;
            }
            Err(_) if out.strong_count() == 1 => return, // the store has closed its half
            Err(error) => Err(unusable(&error)),
        };
        let last = message.is_err();
        if out.blocking_send(message).is_err() || last {
            return;
        }
    }
}
