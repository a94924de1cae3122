//! The client's side of a heartbeat stream.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Sender};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;

use super::client::{Caller, Shared};
use super::codec::{FRAME_BYTES_MAX, Framed, FramedCodec};
use super::header::{self, About};
use super::leader::{Leader, chain};
use super::limited_log::LimitedLog;
use super::status::failure;
use crate::pd::wire::pdpb::{RegionHeartbeatRequest, RegionHeartbeatResponse};
use crate::pd::{HeartbeatReceiver, HeartbeatResponse, HeartbeatSender, HeartbeatStream, PdError, RegionHeartbeat};

const METHOD: &str = "/pdpb.PD/RegionHeartbeat";
const WHAT: &str = "RegionHeartbeat";
/// Responses that wait for their receiver, before PD has to.
const RESPONSES_MAX: usize = 1024;
/// How often a full queue of responses is looked at again.
const FULL_PAUSE: Duration = Duration::from_millis(5);

type Response = Result<HeartbeatResponse, PdError>;

/// Opens a stream to a leader. It may yet turn out not to be one: the receiver says so.
pub(super) fn open(caller: &Caller, leader: Leader) -> HeartbeatStream {
    let (queue, requests) = mpsc::channel(caller.shared.settings.stream_queue_max.max(1));
    let (out, responses) = channel::bounded(RESPONSES_MAX);
    let task = Task { shared: Arc::clone(&caller.shared), leader, out };
    let running = caller.handle.spawn(task.run(ReceiverStream::new(requests)));
    let open = Arc::new(Open(running.abort_handle()));
    let sender = GrpcSender { caller: caller.clone(), queue, _open: Arc::clone(&open) };
    let receiver = GrpcReceiver { responses, _open: open };
    HeartbeatStream { sender: Box::new(sender), receiver: Box::new(receiver) }
}

/// Ends the stream when the second of its halves is dropped.
#[derive(Debug)]
struct Open(AbortHandle);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
struct GrpcSender {
    caller: Caller,
    queue: Sender<RegionHeartbeatRequest>,
    _open: Arc<Open>,
}

impl HeartbeatSender for GrpcSender {
    fn send(&mut self, heartbeat: &RegionHeartbeat) -> Result<(), PdError> {
        let mut message = RegionHeartbeatRequest::from(heartbeat);
        message.header = header::request(self.caller.shared.cluster);
        match self.queue.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(_)) => Err(ended()),
            Err(TrySendError::Full(message)) => self.send_later(message),
        }
    }
}

impl GrpcSender {
    fn send_later(&self, message: RegionHeartbeatRequest) -> Result<(), PdError> {
        let (queue, after) = (self.queue.clone(), self.caller.deadline());
        self.caller.wait(async move {
            let sent = timeout(after, queue.send(message)).await;
            sent.map_err(|_| PdError::Timeout { what: WHAT, after })?.map_err(|_| ended())
        })
    }
}

#[derive(Debug)]
struct GrpcReceiver {
    responses: channel::Receiver<Response>,
    _open: Arc<Open>,
}

impl HeartbeatReceiver for GrpcReceiver {
    fn receive(&mut self, wait: Duration) -> Result<Option<HeartbeatResponse>, PdError> {
        match self.responses.recv_timeout(wait) {
            Ok(response) => response.map(Some),
            Err(channel::RecvTimeoutError::Timeout) => Ok(None),
            Err(channel::RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }
}

fn ended() -> PdError {
    PdError::Unavailable("the heartbeat stream has ended".to_owned())
}

/// What runs on the hidden runtime while the stream is open.
struct Task {
    shared: Arc<Shared>,
    leader: Leader,
    out: channel::Sender<Response>,
}

impl Task {
    async fn run(self, requests: ReceiverStream<RegionHeartbeatRequest>) {
        let error = self.exchange(requests).await;
        self.shared.leaders.lost(&self.leader);
        self.deliver(Err(error)).await;
    }

    /// Until the stream ends; says why. PD's first answer may come only after the first heartbeat, so both ways are open at once.
    async fn exchange(&self, requests: ReceiverStream<RegionHeartbeatRequest>) -> PdError {
        let mut grpc = Grpc::new(self.leader.channel.clone()).max_decoding_message_size(FRAME_BYTES_MAX);
        if let Err(error) = grpc.ready().await {
            return PdError::Unavailable(chain(&error));
        }
        let codec = FramedCodec::<RegionHeartbeatRequest, RegionHeartbeatResponse>::new(WHAT);
        let answer = grpc.streaming(Request::new(requests), PathAndQuery::from_static(METHOD), codec).await;
        let mut responses = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) => return failure(WHAT, &status).into_error(),
        };
        let log = LimitedLog::default();
        loop {
            let message = match responses.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return ended(),
                Err(status) => return failure(WHAT, &status).into_error(),
            };
            match self.understand(message) {
                Err(PdError::Refused(cause)) => log.warn("PD refused a heartbeat", &cause),
                Err(error @ PdError::InvalidAnswer(_)) => self.deliver(Err(error)).await,
                Err(error) => return error,
                Ok(Some(response)) => self.deliver(Ok(response)).await,
                Ok(None) => {}
            }
        }
    }

    /// The response in a message; `None` for the empty one by which PD says every minute that it is still there.
    fn understand(&self, message: Framed<RegionHeartbeatResponse>) -> Result<Option<HeartbeatResponse>, PdError> {
        let message = message?;
        let about = About::Region(message.region_id.into());
        match header::check(WHAT, message.header.as_ref(), self.shared.cluster, about) {
            Ok(()) => {}
            // About one region: the stream is as good as before.
            Err(error @ (PdError::RegionNotFound { .. } | PdError::UnknownStore { .. })) => {
                return Err(PdError::Refused(error.to_string()));
            }
            Err(error) => return Err(error),
        }
        let empty = RegionHeartbeatResponse { header: message.header.clone(), ..RegionHeartbeatResponse::default() };
        if message == empty { Ok(None) } else { Ok(Some(message.try_into()?)) }
    }

    /// Nothing if nobody receives any more: the sender may still be at work.
    async fn deliver(&self, mut response: Response) {
        while let Err(channel::TrySendError::Full(back)) = self.out.try_send(response) {
            response = back;
            sleep(FULL_PAUSE).await;
        }
    }
}
