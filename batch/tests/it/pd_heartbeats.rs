//! Heartbeats of a store: what they say (spec section 14.2), when they go, and what a storm does to them (T23).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use regionmeta::{
    Changeset, KeyRange, Peer, Reason, Region, RegionDraft, RegionEpoch, RegionId, Stats, StoreMeta, Term,
};
use regionmeta_batch::pd::storm::{self, SimulatedClock, StormSettings};
use regionmeta_batch::pd::{
    DownPeer, EmbeddedPd, Flow, HeartbeatDriver, HeartbeatResponse, HeartbeatSettings, Heartbeats, Operator,
    OperatorError, OperatorHost, PdClient, PdError, PeerProgress, PeerReport, Proposal, RegionHeartbeat, StoreInfo,
    SystemClock,
};
use regionmeta_batch::peers::Effect;

use crate::common::{CLUSTER, HERE, seeded, setting, voter};
use crate::pd_puppet::Puppet;

const INTERVAL: Duration = Duration::from_secs(60);

/// Keeps what comes.
#[derive(Clone, Debug, Default)]
struct Host {
    proposed: Arc<Mutex<Vec<Proposal>>>,
    refused: Arc<Mutex<Vec<OperatorError>>>,
}

impl OperatorHost for Host {
    fn propose(&self, proposal: Proposal) {
        self.proposed.lock().unwrap().push(proposal);
    }

    fn refused(&self, _: &HeartbeatResponse, error: &OperatorError) {
        self.refused.lock().unwrap().push(error.clone());
    }
}

struct Bed {
    meta: StoreMeta,
    clock: SimulatedClock,
    tasks: Arc<Heartbeats<SimulatedClock>>,
    driver: HeartbeatDriver<Arc<dyn PdClient>, Host, SimulatedClock>,
    pd: Puppet,
    host: Host,
}

impl Bed {
    /// Regions 1, 2, ... with peers on stores 1, 2 and 3, whose ids are the region's times ten, and the store's.
    fn new(regions: u64) -> Self {
        let pd = Puppet::new();
        Self::with(regions, Arc::new(pd.clone()), pd)
    }

    fn with(regions: u64, client: Arc<dyn PdClient>, pd: Puppet) -> Self {
        let meta = StoreMeta::recover(Some(HERE), (1..=regions).map(|id| made(id, regions)), []).unwrap();
        let (clock, settings) = (SimulatedClock::default(), HeartbeatSettings::default());
        let tasks = Arc::new(Heartbeats::new(HERE, meta.read_handle(), &settings, clock.clone()));
        let host = Host::default();
        let driver = HeartbeatDriver::new(tasks.clone(), client, host.clone(), &settings);
        Self { meta, clock, tasks, driver, pd, host }
    }

    fn lead(&self, region: u64, term: u64) {
        assert!(self.tasks.lead(region.into(), (region * 10 + 1).into(), term.into()));
    }

    /// What is sent now.
    fn now(&mut self) -> Vec<RegionHeartbeat> {
        while self.driver.turn().is_zero() {}
        self.pd.heard()
    }

    fn one(&mut self) -> RegionHeartbeat {
        let mut heard = self.now();
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard.remove(0)
    }

    /// What is sent until so much time has passed.
    fn within(&mut self, time: Duration) -> Vec<RegionHeartbeat> {
        let steps = 200;
        (0..steps).for_each(|_| {
            self.clock.advance(time / steps);
            while self.driver.turn().is_zero() {}
        });
        self.pd.heard()
    }

    fn update(&self, region: &Region) {
        let base = self.meta.snapshot().get(region.id()).unwrap().changed_at();
        self.meta.prepare(Changeset::new().update(base, region.clone(), Reason::Snapshot)).unwrap().publish();
    }

    fn current(&self, id: u64) -> Region {
        self.meta.snapshot().get(id.into()).unwrap().region().clone()
    }
}

fn made(id: u64, regions: u64) -> Region {
    let key = |at: u64| format!("k{at:05}").into_bytes();
    let (start, end) = (key(id), key(id + 1));
    let start = if id == 1 { &[][..] } else { &start };
    let end = if id == regions { &[][..] } else { &end };
    let peers = (1..=3).map(|store| voter(id * 10 + store, store)).collect();
    RegionDraft::new(id.into(), KeyRange::from_wire(start, end), RegionEpoch::new(3, 5), peers).build().unwrap()
}

fn with_conf_ver(region: &Region, conf_ver: u64) -> Region {
    let epoch = RegionEpoch { conf_ver, ..region.epoch() };
    RegionDraft { epoch, ..region.to_draft() }.build().unwrap()
}

fn progress(peer: u64, matched: u64, heard: bool) -> PeerProgress {
    PeerProgress { peer: peer.into(), matched: matched.into(), heard, waits_for_data: false }
}

fn ids(peers: &[Peer]) -> Vec<u64> {
    peers.iter().map(|peer| peer.id.get()).collect()
}

fn written(bytes: u64) -> PeerReport<'static> {
    PeerReport { flow: Flow { written_bytes: bytes, ..Flow::default() }, ..PeerReport::default() }
}

// --- what they say --------------------------------------------------------------------------------------------------

#[test]
fn the_first_heartbeat_of_a_leader_carries_the_published_descriptor() {
    let mut bed = Bed::new(1);
    assert_eq!(bed.now(), [], "it follows");
    bed.lead(1, 6);
    let sent = bed.one();
    assert!(sent.region.same_buffer(&bed.current(1)), "shared, not copied");
    assert_eq!((sent.leader, sent.term, sent.size_bytes, sent.keys), (voter(11, 1), Term::new(6), 0, 0));
    assert_eq!((sent.flow, sent.down_peers), (Flow::default(), vec![]));
    assert_eq!(ids(&sent.pending_peers), [12, 13], "nobody has said anything of them");
    assert_eq!(bed.now(), []);
}

/// A merge once went ahead on a wrong "no pending peers".
#[test]
fn a_peer_is_pending_until_it_has_what_the_log_no_longer_has() {
    let mut bed = Bed::new(1);
    let tasks = bed.tasks.clone();
    let report = |progress: &[PeerProgress], truncated: u64| {
        tasks.report(1.into(), &PeerReport { progress, truncated: truncated.into(), ..PeerReport::default() });
    };
    let waiting = |progress| PeerProgress { waits_for_data: true, ..progress };
    bed.lead(1, 6);
    bed.now();
    report(&[progress(12, 20, true), waiting(progress(13, 30, true))], 20);
    assert_eq!(ids(&bed.one().pending_peers), [13], "one has caught up, which is news");
    report(&[waiting(progress(13, 30, true)), progress(12, 19, true)], 0);
    assert_eq!(bed.now(), [], "to fall behind is none");
    bed.tasks.announce(1.into());
    assert_eq!(ids(&bed.one().pending_peers), [13, 12], "who waits for data comes first");
    report(&[progress(12, 20, true), progress(13, 30, true)], 0);
    assert_eq!(bed.one().pending_peers, []);
    bed.lead(1, 7);
    assert_eq!(ids(&bed.one().pending_peers), [12, 13], "what the leader before knew is forgotten");
}

#[test]
fn a_peer_is_down_after_ten_minutes_of_silence_under_this_leader() {
    let mut bed = Bed::new(1);
    let heard = |bed: &Bed, peers: &[u64]| {
        let progress: Vec<_> = peers.iter().map(|&peer| progress(peer, 100, true)).collect();
        bed.tasks.report(1.into(), &PeerReport { progress: &progress, ..PeerReport::default() });
    };
    bed.lead(1, 6);
    heard(&bed, &[12, 13]);
    bed.now();
    for _ in 0..20 {
        bed.within(Duration::from_secs(29));
        heard(&bed, &[12]);
    }
    bed.clock.advance(Duration::from_secs(19));
    bed.tasks.announce(1.into());
    assert_eq!(bed.one().down_peers, [], "599 s");
    bed.clock.advance(Duration::from_secs(2));
    bed.tasks.announce(1.into());
    let sent = bed.now().pop().unwrap();
    assert_eq!(sent.down_peers, [DownPeer { peer: voter(13, 3), down_s: 601 }]);
    heard(&bed, &[13]);
    assert_eq!(bed.one().down_peers, [], "it is back, which is news");
    bed.clock.advance(Duration::from_secs(599));
    bed.tasks.follow(1.into());
    bed.lead(1, 8);
    bed.now();
    bed.clock.advance(Duration::from_secs(10));
    bed.tasks.announce(1.into());
    assert!(bed.now().iter().all(|sent| sent.down_peers.is_empty()), "the clock begins anew with the leader");
}

#[test]
fn traffic_is_told_once_and_intervals_join() {
    let mut bed = Bed::new(1);
    bed.lead(1, 6);
    let mut end = bed.one().interval.end_unix_s;
    for round in 1..5 {
        bed.clock.advance(Duration::from_secs(7));
        bed.tasks.report(1.into(), &written(round));
        bed.tasks.report(1.into(), &written(10));
        // The stream breaks under one of them: nothing is lost.
        if round == 3 {
            bed.pd.line.lock().unwrap().breaks = Some(PdError::Unavailable("reset".to_owned()));
        }
        bed.tasks.announce(1.into());
        assert_eq!(bed.now().len(), usize::from(round != 3));
        if round == 3 {
            bed.tasks.report(1.into(), &written(100));
            let sent = bed.within(Duration::from_secs(1)).remove(0);
            assert_eq!(sent.flow.written_bytes, 113);
            assert_eq!(sent.interval.start_unix_s, end);
            end = sent.interval.end_unix_s;
            continue;
        }
        bed.tasks.announce(1.into());
        let again = bed.one();
        assert_eq!(again.flow, Flow::default());
        assert_eq!(again.interval.end_unix_s, again.interval.start_unix_s);
        end = again.interval.end_unix_s;
    }
}

#[test]
fn sizes_are_unknown_until_measured_and_nothing_is_one_byte() {
    let mut bed = Bed::new(1);
    bed.lead(1, 6);
    assert_eq!(bed.one().size_bytes, 0);
    let measured = |bed: &mut Bed, size_bytes, keys| {
        let sizes = Some(Stats { size_bytes, keys });
        bed.tasks.report(1.into(), &PeerReport { sizes, ..PeerReport::default() });
        bed.tasks.announce(1.into());
        let sent = bed.one();
        (sent.size_bytes, sent.keys)
    };
    assert_eq!(measured(&mut bed, 0, 0), (1, 0));
    assert_eq!(measured(&mut bed, 700, 7), (700, 7));
    bed.lead(1, 7);
    assert_eq!(bed.one().size_bytes, 0, "another leadership has not measured");
}

// --- when they go ---------------------------------------------------------------------------------------------------

#[test]
fn every_region_is_reported_once_in_an_interval_and_not_all_together() {
    let mut bed = Bed::new(1_000);
    (1..=1_000).for_each(|region| bed.lead(region, 6));
    assert_eq!(bed.now().len(), 1_000);
    for _ in 0..3 {
        let (mut seen, mut most) = (BTreeMap::<RegionId, u32>::new(), 0);
        for _ in 0..60 {
            let heard = bed.within(INTERVAL / 60);
            most = most.max(heard.len());
            heard.iter().for_each(|sent| *seen.entry(sent.region.id()).or_default() += 1);
        }
        assert!(seen.len() == 1_000 && seen.values().all(|&times| times == 1), "{seen:?}");
        assert!(most < 100, "{most} of 1,000 in one second");
    }
}

#[test]
fn a_region_waits_once_and_its_newest_state_is_sent() {
    let mut bed = Bed::new(2);
    bed.pd.line.lock().unwrap().breaks = Some(PdError::NoLeader);
    bed.lead(1, 6);
    bed.now(); // breaks, and leaves PD alone for a while
    let mut region = bed.current(1);
    for conf_ver in 4..50 {
        region = with_conf_ver(&region, conf_ver);
        bed.update(&region);
        bed.tasks.announce(1.into());
        bed.lead(1, conf_ver + 10);
        assert_eq!(bed.tasks.queued(), 1);
    }
    let sent = bed.within(Duration::from_millis(200));
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].region.epoch().conf_ver, sent[0].term), (49, Term::new(59)));
    assert!(!bed.tasks.lead(1.into(), 11.into(), 58.into()), "a leader of an earlier term");
    assert!(!bed.tasks.lead(1.into(), 10.into(), 90.into()), "an earlier peer");
}

#[test]
fn what_is_led_no_longer_is_not_reported() {
    let mut bed = Bed::new(3);
    (1..=3).for_each(|region| bed.lead(region, 6));
    bed.tasks.follow(1.into());
    bed.tasks.forget(2.into(), 21.into());
    bed.tasks.forget(3.into(), 30.into()); // an earlier peer of that region
    assert_eq!(bed.tasks.queued(), 1);
    assert_eq!(bed.one().region.id(), RegionId::new(3));
    bed.tasks.report(1.into(), &written(7));
    bed.tasks.announce(1.into());
    assert_eq!(bed.within(2 * INTERVAL).len(), 2, "region 3, twice");
    bed.lead(1, 7);
    assert_eq!(bed.one().flow, Flow::default(), "a follower's report does not count");
}

#[test]
fn children_of_a_split_are_reported_once_before_they_have_a_leader() {
    let mut bed = Bed::new(2);
    bed.lead(1, 9);
    bed.now();
    let child = bed.current(2);
    bed.meta.report([1, 2].map(|id| (id.into(), Stats { size_bytes: 50, keys: 5 })));
    let create =
        Effect::Create { region: child.clone(), peer: 21.into(), replaces: false, campaign: true, first_message: None };
    let heartbeat = |id: u64| Effect::Heartbeat { region: id.into() };
    bed.tasks.on_effects(&[create, heartbeat(1), heartbeat(2)]);
    let heard = bed.now();
    assert_eq!(heard.iter().map(|sent| sent.region.id().get()).collect::<Vec<_>>(), [1, 2]);
    assert!(heard.iter().all(|sent| sent.size_bytes == 50), "the parent's size is shared");
    assert_eq!((heard[1].leader, heard[1].term), (voter(21, 1), Term::new(5)));
    assert_eq!(ids(&heard[1].pending_peers), [22, 23]);
    let later: BTreeSet<_> = bed.within(INTERVAL).iter().map(|sent| sent.region.id().get()).collect();
    assert_eq!(later, BTreeSet::from([1]));
    bed.lead(2, 6);
    assert_eq!(bed.one().term, Term::new(6));
    let gone = Effect::Destroy { region: 2.into(), peer: 21.into(), merged_into: None };
    bed.tasks.on_effects(&[Effect::StepDown { region: 1.into() }, gone]);
    assert_eq!(bed.within(INTERVAL), []);
}

// --- driver ---------------------------------------------------------------------------------------------------------

#[test]
fn operators_come_to_the_host_and_nonsense_does_not_end_the_stream() {
    let mut bed = Bed::new(1);
    bed.lead(1, 6);
    let transfer = HeartbeatResponse {
        region_id: 1.into(),
        epoch: RegionEpoch::new(3, 5),
        target_peer: voter(11, 1),
        operator: Some(Operator::TransferLeader { peers: vec![voter(12, 2)] }),
    };
    let garbage = regionmeta_batch::pd::AnswerError::Malformed { what: "frame", cause: "garbage".to_owned() };
    bed.pd.line.lock().unwrap().responses.extend([
        Err(garbage.into()),
        Ok(HeartbeatResponse { region_id: 9.into(), ..transfer.clone() }),
        Ok(HeartbeatResponse { epoch: RegionEpoch::new(1, 1), ..transfer.clone() }),
        Ok(transfer),
    ]);
    bed.now();
    let counts = bed.driver.counts();
    assert_eq!((counts.invalid, counts.refused, counts.operators, counts.connects), (1, 2, 1, 1));
    assert_eq!((bed.host.proposed.lock().unwrap().len(), bed.host.refused.lock().unwrap().len()), (1, 2));

    bed.pd.line.lock().unwrap().responses.push_back(Err(PdError::ClusterMismatch { pd: 8.into(), store: CLUSTER }));
    bed.now();
    assert_eq!(bed.driver.counts().failures, 1, "another cluster's answer ends it");
    bed.within(Duration::from_secs(1));
    assert_eq!(bed.driver.counts().connects, 2);
}

/// M20: thousands of connects a second, by stores that tried again and again at once.
#[test]
fn a_stream_that_breaks_at_once_is_not_opened_more_often_than_one_that_does_not_open() {
    let mut bed = Bed::new(1);
    bed.lead(1, 6);
    for _ in 0..6_000 {
        bed.pd.line.lock().unwrap().breaks = Some(PdError::Unavailable("reset".to_owned()));
        bed.clock.advance(Duration::from_millis(10));
        bed.driver.turn();
    }
    let connects = bed.pd.line.lock().unwrap().connects;
    assert!((8..=20).contains(&connects), "{connects} connects in a minute");
}

/// What has just happened wakes the thread that sends.
#[test]
fn what_is_urgent_goes_at_once() {
    let pd = Puppet::new();
    let (tasks, mut driver) = on_the_machines_clock(50, &pd);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| driver.run(&stop));
        std::thread::sleep(Duration::from_millis(50)); // it has nothing to do, and sleeps
        let mut waited: Vec<_> = (1..=50).map(|region| time_to_send(&tasks, &pd, region)).collect();
        stop.store(true, Ordering::Relaxed);
        waited.sort_unstable();
        // A sleep that nobody ends has 17 ms to go; some may take longer for other reasons.
        assert!(waited[12] < Duration::from_millis(8), "{waited:?}");
    });
}

/// From the moment at which this store leads a region until PD has the heartbeat.
fn time_to_send(tasks: &Heartbeats<SystemClock>, pd: &Puppet, region: u64) -> Duration {
    std::thread::sleep(Duration::from_millis(3));
    let began = Instant::now();
    assert!(tasks.lead(region.into(), (region * 10 + 1).into(), 6.into()));
    while pd.heard().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_micros(200));
    }
    began.elapsed()
}

/// However slowly PD takes each heartbeat, who stops the driver does not wait for all of them.
#[test]
fn a_driver_before_a_slow_pd_stops_soon() {
    let pd = Puppet::new();
    pd.line.lock().unwrap().pause = Duration::from_millis(50);
    let (tasks, mut driver) = on_the_machines_clock(256, &pd);
    (1..=256).for_each(|region| assert!(tasks.lead(region.into(), (region * 10 + 1).into(), 6.into())));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| driver.run(&stop));
        while pd.heard().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let began = Instant::now();
        stop.store(true, Ordering::Relaxed);
        running.join().unwrap();
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    });
}

/// However long a store has run, the next part of the interval is ahead.
#[test]
fn a_store_of_many_years_does_not_spin() {
    let meta = StoreMeta::recover(Some(HERE), [made(1, 1)], []).unwrap();
    let (clock, settings) =
        (SimulatedClock::default(), HeartbeatSettings { interval: INTERVAL / 60, ..Default::default() });
    let tasks = Arc::new(Heartbeats::new(HERE, meta.read_handle(), &settings, clock.clone()));
    let pd: Arc<dyn PdClient> = Arc::new(Puppet::new());
    let mut driver = HeartbeatDriver::new(tasks, pd, Host::default(), &settings);
    clock.advance(Duration::from_secs(5 * 366 * 86_400));
    driver.turn();
    assert!(!driver.turn().is_zero());
}

type OnTheMachinesClock = (Arc<Heartbeats<SystemClock>>, HeartbeatDriver<Arc<dyn PdClient>, Host, SystemClock>);

fn on_the_machines_clock(regions: u64, pd: &Puppet) -> OnTheMachinesClock {
    let meta = StoreMeta::recover(Some(HERE), (1..=regions).map(|id| made(id, regions)), []).unwrap();
    let settings = HeartbeatSettings::default();
    let tasks = Arc::new(Heartbeats::new(HERE, meta.read_handle(), &settings, SystemClock::new()));
    let driver = HeartbeatDriver::new(tasks.clone(), Arc::new(pd.clone()) as _, Host::default(), &settings);
    (tasks, driver)
}

/// Another leader of PD knows nothing of what the one before it was told.
#[test]
fn after_a_reconnect_everything_is_told_again() {
    let mut bed = Bed::new(100);
    (1..=100).for_each(|region| bed.lead(region, 6));
    assert_eq!(bed.now().len(), 100);
    bed.pd.line.lock().unwrap().responses.push_back(Err(PdError::NoLeader));
    let told: BTreeSet<_> = bed.within(Duration::from_millis(200)).iter().map(|sent| sent.region.id()).collect();
    assert_eq!(told.len(), 100);
}

/// A store beside the embedded driver: what the store has is what PD knows.
#[test]
fn the_embedded_driver_hears_everything() {
    let embedded = EmbeddedPd::new(CLUSTER);
    let first = RegionDraft::new(900.into(), KeyRange::ALL, RegionEpoch::INITIAL, vec![voter(901, 1)]).build().unwrap();
    embedded.bootstrap(&StoreInfo { id: HERE, address: String::new() }, &first).unwrap();
    let mut bed = Bed::with(100, Arc::new(embedded.clone()), Puppet::new());
    (1..=100).for_each(|region| bed.lead(region, 6));
    bed.now();
    let known = embedded.regions().snapshot();
    assert!(known.regions().eq(bed.meta.snapshot().regions()));
    assert!(known.regions().zip(bed.meta.snapshot().regions()).all(|(pd, store)| pd.same_buffer(store)));
    embedded.add_operator(7.into(), Operator::TransferLeader { peers: vec![voter(72, 2)] });
    bed.within(INTERVAL);
    assert_eq!(bed.host.proposed.lock().unwrap().len(), 1);
}

/// T23: I16, a bounded queue, a bounded rate, few connects.
#[test]
fn a_storm_takes_nothing_back_and_piles_nothing_up() {
    let (seed, _) = seeded("a_storm_takes_nothing_back_and_piles_nothing_up");
    let settings = StormSettings {
        regions: setting("REGIONMETA_REGIONS", 10_000) as usize,
        phase: Duration::from_secs(60),
        changes: 20,
        heartbeats: HeartbeatSettings { rate_per_s: 2_000, burst: 500, ..HeartbeatSettings::default() },
        seed,
    };
    let report = storm::run(&settings, &mut |_| ()).unwrap();
    println!("{report:?}");
    assert!(report.counts.sent > 50_000 && report.counts.failures > 20, "{report:?}");
    assert!(report.counts.invalid > 100 && report.counts.refused > 1_000, "{report:?}");
}
