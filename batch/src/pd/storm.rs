//! The storm: a store that goes on changing while its placement driver is slow, leaderless, flapping, babbling or another
//! cluster's (T23 of the known bugs).
//!
//! One thread, a clock that it moves itself, and a seed: the same storm each time. It returns what it saw, or the first thing
//! that must not happen: a heartbeat that went back or was not the newest (I16), a queue longer than the regions, a rate or a
//! number of connects above the bound, traffic that was lost or counted twice, an operator that should have been refused.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use regionmeta::{
    AdminCommand, Changeset, ClusterId, EndKey, KeyRange, Peer, ReadHandle, Reason, Region, RegionDraft, RegionEpoch,
    RegionId, StoreId, StoreMeta, Term,
};

use super::check::AnswerError;
use super::{
    Clock, ClusterConfig, Flow, HeartbeatCounts, HeartbeatDriver, HeartbeatReceiver, HeartbeatResponse,
    HeartbeatSender, HeartbeatSettings, HeartbeatStream, Heartbeats, Now, Operator, OperatorError, OperatorHost,
    PdClient, PdError, PeerProgress, PeerReport, Proposal, RegionHeartbeat, RegionInfo, SplitIds, SplitPolicy,
    StoreAdvice, StoreInfo, StoreStats,
};

const HERE: StoreId = StoreId::new(1);
const OTHER: StoreId = StoreId::new(2);
/// How long a slow driver takes.
const SLOW: Duration = Duration::from_secs(4);
/// Responses on their way; more are dropped.
const RESPONSES_MAX: usize = 1_000;
/// How often the store changes.
const STEP: Duration = Duration::from_millis(100);
/// Attempts to connect in ten seconds: pauses of 100 ms that double come to nine, and one more for a stream that had lasted.
const CONNECTS_MAX: usize = 10;
const CONNECTS_IN: Duration = Duration::from_secs(10);

/// How large a storm is.
#[derive(Clone, Copy, Debug)]
pub struct StormSettings {
    /// Regions of the store, all of which it leads now and then.
    pub regions: usize,
    /// How long each kind of weather lasts.
    pub phase: Duration,
    /// Regions that change in each tenth of a second.
    pub changes: usize,
    /// How often heartbeats are sent.
    pub heartbeats: HeartbeatSettings,
    /// Of everything that is random.
    pub seed: u64,
}

/// What a storm has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StormReport {
    /// What the driver has counted.
    pub counts: HeartbeatCounts,
    /// The longest queue.
    pub queued_max: usize,
    /// The most attempts to connect in ten seconds.
    pub connects_max: usize,
    /// How long the whole storm took, on its own clock.
    pub simulated_s: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Weather {
    Calm,
    Slow,
    NoLeader,
    Unreachable,
    Flapping,
    Babbling,
    OtherCluster,
}

impl Weather {
    const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Slow => "slow",
            Self::NoLeader => "no leader",
            Self::Unreachable => "unreachable",
            Self::Flapping => "flapping",
            Self::Babbling => "babbling",
            Self::OtherCluster => "other cluster",
        }
    }
}

const FORECAST: [Weather; 8] = [
    Weather::Calm,
    Weather::Slow,
    Weather::Unreachable,
    Weather::Flapping,
    Weather::NoLeader,
    Weather::Babbling,
    Weather::OtherCluster,
    Weather::Calm,
];

/// A clock that moves when it is told to.
#[derive(Clone, Debug, Default)]
pub struct SimulatedClock {
    /// Nanoseconds. Relaxed: one thread uses it, or threads that are told by other means.
    elapsed: Arc<AtomicU64>,
}

impl SimulatedClock {
    /// Moves it on.
    pub fn advance(&self, by: Duration) {
        self.elapsed.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Now {
        let elapsed = Duration::from_nanos(self.elapsed.load(Ordering::Relaxed));
        Now { elapsed, unix_s: 1_700_000_000 + elapsed.as_secs() }
    }
}

// --- the driver in bad weather --------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
struct StormPd {
    clock: SimulatedClock,
    regions: ReadHandle,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug)]
struct Seen {
    weather: Weather,
    rng: fastrand::Rng,
    told: HashMap<RegionId, (Term, RegionEpoch)>,
    flow: Flow,
    connects: VecDeque<Duration>,
    connects_max: usize,
    /// Since the weather changed.
    sent: u64,
    responses: VecDeque<(Duration, HeartbeatResponse)>,
    /// Operators that the host was told of as refused.
    refused: u64,
    wrong: Option<String>,
}

impl StormPd {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self) -> Result<(), PdError> {
        let now = self.clock.now().elapsed;
        let mut seen = self.seen();
        seen.connects.push_back(now);
        while seen.connects.front().is_some_and(|&at| at + CONNECTS_IN < now) {
            seen.connects.pop_front();
        }
        seen.connects_max = seen.connects_max.max(seen.connects.len());
        match seen.weather {
            Weather::NoLeader => Err(PdError::NoLeader),
            Weather::OtherCluster => Err(PdError::ClusterMismatch { pd: 8.into(), store: 7.into() }),
            Weather::Unreachable => {
                self.clock.advance(SLOW);
                Err(PdError::Timeout { what: "RegionHeartbeat", after: SLOW })
            }
            Weather::Slow => {
                self.clock.advance(SLOW);
                Ok(())
            }
            Weather::Calm | Weather::Flapping | Weather::Babbling => Ok(()),
        }
    }

    fn take_in(&self, heartbeat: &RegionHeartbeat) -> Result<(), PdError> {
        let mut seen = self.seen();
        seen.sent += 1;
        let weather = seen.weather;
        match weather {
            Weather::Slow if seen.sent.is_multiple_of(500) => self.clock.advance(SLOW),
            Weather::Flapping if seen.rng.u32(0..300) == 0 => return Err(PdError::Unavailable("reset".to_owned())),
            Weather::NoLeader | Weather::Unreachable | Weather::OtherCluster => return Err(PdError::NoLeader),
            _ => {}
        }
        seen.note(heartbeat, &self.regions);
        if seen.weather == Weather::Babbling {
            let response = seen.babble(heartbeat);
            let delay = if seen.rng.bool() { SLOW } else { Duration::ZERO };
            if seen.responses.len() < RESPONSES_MAX {
                seen.responses.push_back((self.clock.now().elapsed + delay, response));
            }
        }
        Ok(())
    }

    fn answer(&self) -> Result<Option<HeartbeatResponse>, PdError> {
        let mut seen = self.seen();
        if seen.weather == Weather::Babbling && seen.rng.u32(0..4) == 0 {
            let cause = "a group that never ends".to_owned();
            return Err(AnswerError::Malformed { what: "RegionHeartbeatResponse", cause }.into());
        }
        let now = self.clock.now().elapsed;
        match seen.responses.front() {
            Some((due, _)) if *due <= now => Ok(seen.responses.pop_front().map(|(_, response)| response)),
            _ => Ok(None),
        }
    }
}

impl Seen {
    fn complain(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    fn note(&mut self, heartbeat: &RegionHeartbeat, regions: &ReadHandle) {
        let (id, new) = (heartbeat.region.id(), (heartbeat.term, heartbeat.region.epoch()));
        self.flow = self.flow.plus(heartbeat.flow);
        let old = self.told.insert(id, new).unwrap_or_default();
        if new.0 < old.0 || new.1.is_behind_any(old.1) {
            self.complain(format!("region {id} went back from {old:?} to {new:?}"));
        }
        let newest = regions.snapshot().get(id).is_some_and(|entry| entry.region().same_buffer(&heartbeat.region));
        if !newest {
            self.complain(format!("{} is not the newest of its region", heartbeat.region));
        }
    }

    /// Sense, and several kinds of nonsense.
    fn babble(&mut self, heartbeat: &RegionHeartbeat) -> HeartbeatResponse {
        let (region, epoch) = (&heartbeat.region, heartbeat.region.epoch());
        let transfer_to = |store| {
            let peers = region.peers().filter(|peer| peer.store_id == store).collect();
            Some(Operator::TransferLeader { peers })
        };
        let mut response = HeartbeatResponse {
            region_id: region.id(),
            epoch,
            target_peer: heartbeat.leader,
            operator: transfer_to(HERE), // which no leader may be asked for: it must not come through
        };
        match self.rng.u32(0..7) {
            0 => response.region_id = RegionId::new(u64::MAX),
            1 => response.epoch.version -= 1,
            2 => response.target_peer.id = 1.into(),
            3 => response.operator = Some(split_at(&[b"z", b"y"])),
            4 => response.operator = Some(split_at(&[b"\xff\xff"])),
            5 => response.operator = None,
            _ => response.operator = transfer_to(OTHER),
        }
        response
    }
}

fn split_at(keys: &[&[u8]]) -> Operator {
    Operator::Split { policy: SplitPolicy::UseKeys, keys: keys.iter().map(|key| key.to_vec()).collect() }
}

impl HeartbeatSender for StormPd {
    fn send(&mut self, heartbeat: &RegionHeartbeat) -> Result<(), PdError> {
        self.take_in(heartbeat)
    }
}

impl HeartbeatReceiver for StormPd {
    fn receive(&mut self, _: Duration) -> Result<Option<HeartbeatResponse>, PdError> {
        self.answer()
    }
}

fn nobody<T>() -> Result<T, PdError> {
    Err(PdError::Unavailable("there is nothing but heartbeats in a storm".to_owned()))
}

impl PdClient for StormPd {
    fn cluster_id(&self) -> ClusterId {
        7.into()
    }
    fn region_heartbeats(&self) -> Result<HeartbeatStream, PdError> {
        self.connect()?;
        Ok(HeartbeatStream { sender: Box::new(self.clone()), receiver: Box::new(self.clone()) })
    }
    fn alloc_id(&self) -> Result<u64, PdError> {
        nobody()
    }
    fn is_bootstrapped(&self) -> Result<bool, PdError> {
        nobody()
    }
    fn bootstrap(&self, _: &StoreInfo, _: &Region) -> Result<(), PdError> {
        nobody()
    }
    fn cluster_config(&self) -> Result<ClusterConfig, PdError> {
        nobody()
    }
    fn put_store(&self, _: &StoreInfo) -> Result<(), PdError> {
        nobody()
    }
    fn get_store(&self, _: StoreId) -> Result<Option<StoreInfo>, PdError> {
        nobody()
    }
    fn get_all_stores(&self) -> Result<Vec<StoreInfo>, PdError> {
        nobody()
    }
    fn store_heartbeat(&self, _: &StoreStats) -> Result<StoreAdvice, PdError> {
        nobody()
    }
    fn ask_batch_split(&self, _: &Region, _: usize) -> Result<Vec<SplitIds>, PdError> {
        nobody()
    }
    fn report_batch_split(&self, _: &[Region]) -> Result<(), PdError> {
        nobody()
    }
    fn get_region(&self, _: &[u8]) -> Result<Option<RegionInfo>, PdError> {
        nobody()
    }
    fn get_prev_region(&self, _: &[u8]) -> Result<Option<RegionInfo>, PdError> {
        nobody()
    }
    fn get_region_by_id(&self, _: RegionId) -> Result<Option<RegionInfo>, PdError> {
        nobody()
    }
    fn scan_regions(&self, _: KeyRange<'_>, _: usize) -> Result<Vec<RegionInfo>, PdError> {
        nobody()
    }
}

// --- the store ------------------------------------------------------------------------------------------------------

/// Counts, and looks whether what comes through makes sense.
#[derive(Clone, Debug)]
struct Listener {
    seen: Arc<Mutex<Seen>>,
}

impl OperatorHost for Listener {
    fn propose(&self, proposal: Proposal) {
        let sound = match &proposal {
            Proposal::Admin(request) => match &request.command {
                AdminCommand::TransferLeader(transfer) => {
                    transfer.transferees.iter().all(|peer| peer.store_id == OTHER)
                }
                _ => false,
            },
            _ => false,
        };
        if !sound {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.complain(format!("this should not have come through: {proposal:?}"));
        }
    }

    fn refused(&self, _: &HeartbeatResponse, _: &OperatorError) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).refused += 1;
    }
}

/// The store, its regions, and what it does while the weather is bad.
#[derive(Debug)]
struct Storm {
    settings: StormSettings,
    clock: SimulatedClock,
    meta: StoreMeta,
    tasks: Arc<Heartbeats<SimulatedClock>>,
    /// The term in which each region was led last, and whether it still is.
    terms: Vec<(u64, bool)>,
    rng: fastrand::Rng,
    flow: Flow,
    report: StormReport,
}

/// Runs a storm from its first calm to its last. `watch` is called at the end of each kind of weather, with its name.
///
/// # Errors
/// What must not happen, and did.
pub fn run(settings: &StormSettings, watch: &mut dyn FnMut(&'static str)) -> Result<StormReport, String> {
    let clock = SimulatedClock::default();
    let meta = filled(settings.regions).map_err(|error| error.to_string())?;
    let tasks = Arc::new(Heartbeats::new(HERE, meta.read_handle(), &settings.heartbeats, clock.clone()));
    let mut rng = fastrand::Rng::with_seed(settings.seed);
    let seen = Seen {
        weather: Weather::Calm,
        rng: rng.fork(),
        told: HashMap::with_capacity(settings.regions),
        flow: Flow::default(),
        connects: VecDeque::new(),
        connects_max: 0,
        sent: 0,
        responses: VecDeque::with_capacity(RESPONSES_MAX),
        refused: 0,
        wrong: None,
    };
    let pd = StormPd { clock: clock.clone(), regions: meta.read_handle(), seen: Arc::new(Mutex::new(seen)) };
    let client: Arc<dyn PdClient> = Arc::new(pd.clone());
    let host = Listener { seen: pd.seen.clone() };
    let mut driver = HeartbeatDriver::new(tasks.clone(), client, host, &settings.heartbeats);
    let terms = vec![(6, false); settings.regions];
    let mut storm = Storm {
        settings: *settings,
        clock,
        meta,
        tasks,
        terms,
        rng,
        flow: Flow::default(),
        report: StormReport::default(),
    };
    storm.lead_all();
    for weather in FORECAST {
        storm.weather(weather, &pd, &mut driver)?;
        watch(weather.name());
    }
    storm.settle(&pd, &mut driver)
}

type Driver = HeartbeatDriver<Arc<dyn PdClient>, Listener, SimulatedClock>;

impl Storm {
    fn weather(&mut self, weather: Weather, pd: &StormPd, driver: &mut Driver) -> Result<(), String> {
        let until = self.clock.now().elapsed + self.settings.phase;
        let mut seen = pd.seen();
        (seen.weather, seen.sent) = (weather, 0);
        drop(seen);
        tracing::debug!(?weather, "the weather changes");
        while self.clock.now().elapsed < until {
            self.change().map_err(|error| error.to_string())?;
            self.turn(pd, driver).map_err(|wrong| format!("{weather:?}: {wrong}"))?;
        }
        Ok(())
    }

    /// As long as there is something to do, but no longer than until the store changes again.
    fn turn(&mut self, pd: &StormPd, driver: &mut Driver) -> Result<(), String> {
        let (started, sent) = (self.clock.now().elapsed, driver.counts().sent);
        let until = started + STEP;
        while self.clock.now().elapsed < until {
            let wait = driver.turn().clamp(Duration::from_micros(10), STEP);
            self.look(pd)?;
            self.clock.advance(wait);
        }
        let HeartbeatSettings { rate_per_s, burst, .. } = self.settings.heartbeats;
        let took = self.clock.now().elapsed - started;
        let allowed = f64::from(burst) + f64::from(rate_per_s) * took.as_secs_f64() + 1.0;
        match (driver.counts().sent - sent) as f64 <= allowed {
            true => Ok(()),
            false => Err(format!("more than {allowed} heartbeats in {took:?}")),
        }
    }

    fn look(&mut self, pd: &StormPd) -> Result<(), String> {
        let queued = self.tasks.queued();
        self.report.queued_max = self.report.queued_max.max(queued);
        if queued > self.settings.regions {
            return Err(format!("{queued} heartbeats wait, of {} regions", self.settings.regions));
        }
        let mut seen = pd.seen();
        if seen.connects_max > CONNECTS_MAX {
            return Err(format!("{} connects in {CONNECTS_IN:?}", seen.connects_max));
        }
        seen.wrong.take().map_or(Ok(()), Err)
    }

    /// Some regions get another leader, membership or version; some report traffic.
    fn change(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let snapshot = self.meta.snapshot();
        let mut changes: HashMap<RegionId, Region> = HashMap::with_capacity(self.settings.changes);
        for _ in 0..self.settings.changes {
            let at = self.rng.usize(0..self.terms.len());
            let Some(entry) = snapshot.get(id_of(at)) else { continue };
            match self.rng.u32(0..4) {
                0 => self.hand_over(at),
                1 => self.report(at),
                _ => drop(changes.insert(id_of(at), next_version(entry.region(), self.rng.bool())?)),
            }
        }
        let base = |id| snapshot.get(id).map(|entry| entry.changed_at()).unwrap_or_default();
        let changed: Vec<_> = changes.keys().copied().collect();
        let update = |all: Changeset, region: Region| all.update(base(region.id()), region, Reason::ChangePeer);
        self.meta.prepare(changes.into_values().fold(Changeset::new(), update))?.publish();
        changed.into_iter().for_each(|id| self.tasks.announce(id));
        Ok(())
    }

    fn hand_over(&mut self, at: usize) {
        let Some((term, leads)) = self.terms.get_mut(at) else { return };
        *leads = !*leads;
        *term += 1;
        match *leads {
            true => drop(self.tasks.lead(id_of(at), peer_here(at).id, (*term).into())),
            false => self.tasks.follow(id_of(at)),
        }
    }

    fn report(&mut self, at: usize) {
        if !self.terms.get(at).is_some_and(|(_, leads)| *leads) {
            return;
        }
        let flow = Flow { written_bytes: self.rng.u64(1..1_000), written_keys: 1, ..Flow::default() };
        self.flow = self.flow.plus(flow);
        let progress =
            [PeerProgress { peer: peer_there(at).id, matched: 100.into(), heard: true, waits_for_data: false }];
        self.tasks.report(id_of(at), &PeerReport { progress: &progress, flow, ..PeerReport::default() });
    }

    fn lead_all(&mut self) {
        for at in 0..self.terms.len() {
            if !self.terms.get(at).is_some_and(|(_, leads)| *leads) {
                self.hand_over(at);
            }
        }
    }

    /// The weather is fine and nothing changes: before long PD knows everything.
    fn settle(mut self, pd: &StormPd, driver: &mut Driver) -> Result<StormReport, String> {
        self.lead_all();
        let HeartbeatSettings { rate_per_s, interval, backoff_max, .. } = self.settings.heartbeats;
        let all = Duration::from_secs_f64(self.settings.regions as f64 / f64::from(rate_per_s));
        let until = self.clock.now().elapsed + all + interval + backoff_max;
        while self.clock.now().elapsed < until {
            self.turn(pd, driver)?;
        }
        let seen = pd.seen();
        for (at, (term, _)) in self.terms.iter().enumerate() {
            let epoch = self.meta.snapshot().get(id_of(at)).map(|entry| entry.region().epoch()).unwrap_or_default();
            let (told, expected) = (seen.told.get(&id_of(at)).copied(), (Term::new(*term), epoch));
            if told != Some(expected) {
                return Err(format!("region {} is at {expected:?}, PD was told {told:?}", id_of(at)));
            }
        }
        if seen.flow != self.flow {
            return Err(format!("PD was told of {:?}, there were {:?}", seen.flow, self.flow));
        }
        let counts = driver.counts();
        if seen.refused != counts.refused {
            return Err(format!("{} refusals were told, {} counted", seen.refused, counts.refused));
        }
        let (connects_max, simulated_s) = (seen.connects_max, self.clock.now().elapsed.as_secs());
        Ok(StormReport { counts, connects_max, simulated_s, ..self.report })
    }
}

fn id_of(at: usize) -> RegionId {
    (at as u64 + 1).into()
}

fn peer_here(at: usize) -> Peer {
    Peer::voter((at as u64 * 2 + 10).into(), HERE)
}

fn peer_there(at: usize) -> Peer {
    Peer::voter((at as u64 * 2 + 11).into(), OTHER)
}

/// A store with regions side by side.
fn filled(regions: usize) -> Result<StoreMeta, Box<dyn std::error::Error>> {
    let key = |at: usize| (at as u64).to_be_bytes();
    let mut all = Vec::with_capacity(regions);
    for at in 0..regions {
        let (start, end) = (key(at), key(at + 1));
        let range = KeyRange::new(if at == 0 { &[] } else { &start }, EndKey::Finite(&end));
        let peers = vec![peer_here(at), peer_there(at)];
        all.push(RegionDraft::new(id_of(at), range, RegionEpoch::new(2, 2), peers).build()?);
    }
    let meta = StoreMeta::with_feed_capacity(Some(HERE), 0); // a feed would keep old versions
    meta.prepare(all.into_iter().fold(Changeset::new(), Changeset::create))?.publish();
    Ok(meta)
}

/// The other peer becomes a learner or a voter, or a split and a merge that left the range as it was moved the version.
fn next_version(region: &Region, of_membership: bool) -> Result<Region, Box<dyn std::error::Error>> {
    let mut draft = region.to_draft();
    match of_membership {
        true => draft.epoch = draft.epoch.with_conf_ver_moved(1)?,
        false => draft.epoch = draft.epoch.with_version_moved(1)?,
    }
    if of_membership {
        for peer in draft.peers.iter_mut().filter(|peer| peer.store_id == OTHER) {
            peer.is_witness = !peer.is_witness;
        }
    }
    Ok(draft.build()?)
}
