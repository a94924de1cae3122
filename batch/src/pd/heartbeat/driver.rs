//! [`HeartbeatDriver`]: sends the heartbeats that a store owes, and hands over what PD wants done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::clock::Clock;
use super::complaints::Complaints;
use super::pace::{Backoff, Pace};
use super::tasks::Heartbeats;
use super::{HeartbeatSettings, RegionHeartbeat};
use crate::pd::proposal::{OperatorError, OperatorHost, Proposal};
use crate::pd::{HeartbeatResponse, HeartbeatStream, PdClient, PdError};
use regionmeta::mutant::{Mutant, planted};

/// Messages in each direction before the other one has its turn.
const BATCH: usize = 256;
/// How long a thread sends, or sleeps, before it looks whether it is to stop.
const NAP: Duration = Duration::from_millis(100);
/// How long a thread that has a stream sleeps before it looks for operators. Nothing wakes it for them: a second thread would be
/// needed for what PD asks a few times a minute.
const DOZE: Duration = Duration::from_millis(20);

/// What a driver has done since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeartbeatCounts {
    /// Heartbeats that a stream has taken.
    pub sent: u64,
    /// Streams that were asked for.
    pub connects: u64,
    /// Streams that were not opened, or broke.
    pub failures: u64,
    /// Operators that were handed to the host.
    pub operators: u64,
    /// Operators that were refused: unknown region, old epoch, no sense.
    pub refused: u64,
    /// Messages that were no valid answer.
    pub invalid: u64,
}

/// Sends the heartbeats of one store over one stream at a time. One thread [runs](Self::run) it, or calls
/// [`turn`](Self::turn) when it has nothing better to do.
///
/// A slow PD makes that thread wait and nobody else. When a stream breaks it is opened again after a pause that doubles each
/// time; what PD missed meanwhile is one heartbeat for each region, with the state of that moment.
#[derive(Debug)]
pub struct HeartbeatDriver<P, H, K> {
    tasks: Arc<Heartbeats<K>>,
    pd: P,
    host: H,
    stream: Option<HeartbeatStream>,
    opened_at: Duration,
    stable_after: Duration,
    backoff: Backoff,
    pace: Pace,
    scratch: Option<RegionHeartbeat>,
    complaints: Complaints,
    counts: HeartbeatCounts,
}

impl<P: AsRef<dyn PdClient>, H: OperatorHost, K: Clock> HeartbeatDriver<P, H, K> {
    /// A driver that has no stream yet.
    #[must_use]
    pub fn new(tasks: Arc<Heartbeats<K>>, pd: P, host: H, settings: &HeartbeatSettings) -> Self {
        let seed = tasks.store().get() ^ tasks.clock().now().unix_s.rotate_left(32);
        Self {
            pd,
            host,
            stream: None,
            opened_at: Duration::ZERO,
            stable_after: settings.backoff_max,
            backoff: Backoff::new(settings.backoff_min, settings.backoff_max, seed),
            pace: Pace::new(settings.rate_per_s, settings.burst),
            scratch: None,
            complaints: Complaints::default(),
            counts: HeartbeatCounts::default(),
            tasks,
        }
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> HeartbeatCounts {
        self.counts
    }

    /// The host.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// Takes turns until told to stop. In between it sleeps, until something urgent is to be reported; it looks for operators fifty
    /// times a second, and ten times a second whether it is to stop.
    pub fn run(&mut self, stop: &AtomicBool) {
        // Relaxed: nothing is handed over with it.
        while !stop.load(Ordering::Relaxed) {
            let wait = self.turn();
            match (&self.stream, wait.is_zero()) {
                (_, true) => {}
                // While the rate is used up it is no use to be woken.
                (Some(_), _) if self.pace.is_ready(self.now()) => self.tasks.sleep(wait.min(DOZE)),
                (Some(_), _) => std::thread::sleep(wait.min(DOZE)),
                (None, _) => std::thread::sleep(wait.min(NAP)),
            }
        }
    }

    /// Sends what is due and may go, and takes in what has come. Waits for PD as long as the client does, and for nothing
    /// else. How long until there is something to do; zero if there is more.
    pub fn turn(&mut self) -> Duration {
        let now = self.tasks.clock().now();
        let due = self.tasks.tick(now);
        if self.stream.is_none() {
            let wait = self.backoff.wait(now.elapsed);
            if !wait.is_zero() {
                return wait;
            }
            self.connect();
        }
        let wait = self.send_batch().min(due);
        self.receive();
        match self.stream {
            Some(_) => wait,
            None => self.backoff.wait(self.now()),
        }
    }

    fn connect(&mut self) {
        self.counts.connects += 1;
        match self.pd.as_ref().region_heartbeats() {
            Ok(stream) => {
                self.stream = Some(stream);
                self.opened_at = self.now();
                self.tasks.queue_all();
            }
            Err(_) if planted(Mutant::M20) && !self.counts.connects.is_multiple_of(10) => self.connect(),
            Err(error) => self.broken(&error),
        }
    }

    /// How long until the next one may go. A PD that takes each of them slowly does not get the whole batch.
    fn send_batch(&mut self) -> Duration {
        let until = self.now().saturating_add(NAP);
        for _ in 0..BATCH {
            let now = self.tasks.clock().now();
            let Some(stream) = &mut self.stream else { return Duration::ZERO };
            if now.elapsed > until {
                return Duration::ZERO;
            }
            if !self.pace.is_ready(now.elapsed) {
                return self.pace.wait();
            }
            if !self.tasks.compose(now, &mut self.scratch) {
                return NAP; // until somebody reports
            }
            self.pace.spend();
            let Some(heartbeat) = &self.scratch else { return NAP };
            if let Err(error) = stream.sender.send(heartbeat) {
                self.tasks.take_back(heartbeat);
                self.broken(&error);
                return Duration::ZERO;
            }
            self.counts.sent += 1;
        }
        Duration::ZERO
    }

    /// What is there already.
    fn receive(&mut self) {
        for _ in 0..BATCH {
            let Some(stream) = &mut self.stream else { return };
            match stream.receiver.receive(Duration::ZERO) {
                Ok(Some(response)) => self.take_in(&response),
                Ok(None) => return,
                Err(error @ PdError::InvalidAnswer(_)) => {
                    self.counts.invalid += 1;
                    self.complaints.say("invalid answer", self.tasks.clock().now(), &error);
                }
                Err(error) => self.broken(&error),
            }
        }
    }

    fn take_in(&mut self, response: &HeartbeatResponse) {
        match self.check(response) {
            Ok(None) => {}
            Ok(Some(proposal)) => {
                self.counts.operators += 1;
                self.host.propose(proposal);
            }
            Err(error) => {
                self.counts.refused += 1;
                self.complaints.say(error.kind(), self.tasks.clock().now(), &error);
                self.host.refused(response, &error);
            }
        }
    }

    fn check(&self, response: &HeartbeatResponse) -> Result<Option<Proposal>, OperatorError> {
        let snapshot = self.tasks.regions().snapshot();
        let leads = self.tasks.leads(response.region_id);
        Proposal::from_response(&snapshot, self.tasks.store(), leads, response)
    }

    /// The stream is of no use. Only one that lasted makes the next pause a short one: a PD that takes streams and drops them
    /// is as bad as one that takes none.
    fn broken(&mut self, error: &PdError) {
        let now = self.tasks.clock().now();
        let lasted = self.stream.take().is_some() && now.elapsed.saturating_sub(self.opened_at) >= self.stable_after;
        if lasted {
            self.backoff.succeed();
        }
        self.backoff.fail(now.elapsed);
        self.counts.failures += 1;
        self.complaints.say("stream", now, error);
    }

    fn now(&self) -> Duration {
        self.tasks.clock().now().elapsed
    }
}
