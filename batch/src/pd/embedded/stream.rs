//! A heartbeat stream into a driver in the same process: no wire, no copy, no wait.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use super::super::{
    HeartbeatReceiver, HeartbeatResponse, HeartbeatSender, HeartbeatStream, PdError, heartbeat::RegionHeartbeat,
};
use super::{Core, HeartbeatError};

/// Responses that nobody has received yet. What does not fit is dropped: it comes again after the next heartbeat.
const RESPONSES_MAX: usize = 1_024;

#[derive(Debug)]
struct Incoming {
    core: Arc<Core>,
    responses: Sender<HeartbeatResponse>,
}

#[derive(Debug)]
struct Outgoing {
    responses: Receiver<HeartbeatResponse>,
}

pub(super) fn open(core: Arc<Core>) -> HeartbeatStream {
    let (responses, received) = bounded(RESPONSES_MAX);
    HeartbeatStream {
        sender: Box::new(Incoming { core, responses }),
        receiver: Box::new(Outgoing { responses: received }),
    }
}

impl HeartbeatSender for Incoming {
    /// A heartbeat that is not accepted does not end the stream, as in PD.
    fn send(&mut self, heartbeat: &RegionHeartbeat) -> Result<(), PdError> {
        match self.core.heartbeat(heartbeat) {
            Ok(_) => {}
            Err(HeartbeatError::Storage(cause)) => return Err(PdError::Storage(cause)),
            Err(error) => {
                tracing::debug!(%error, "heartbeat refused");
                return Ok(());
            }
        }
        if let Some(response) = self.core.advise(heartbeat) {
            let _ = self.responses.try_send(response);
        }
        Ok(())
    }
}

impl HeartbeatReceiver for Outgoing {
    fn receive(&mut self, wait: Duration) -> Result<Option<HeartbeatResponse>, PdError> {
        let closed = || PdError::Unavailable("the other half of the stream is gone".to_owned());
        if wait.is_zero() {
            return match self.responses.try_recv() {
                Ok(response) => Ok(Some(response)),
                Err(TryRecvError::Empty) => Ok(None),
                Err(TryRecvError::Disconnected) => Err(closed()),
            };
        }
        match self.responses.recv_timeout(wait) {
            Ok(response) => Ok(Some(response)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(closed()),
        }
    }
}
