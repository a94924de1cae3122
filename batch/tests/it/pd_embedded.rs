//! The embedded placement driver against a naive model of PD's rules (spec section 14.3), and across restarts.

use regionmeta::{KeyRange, Peer, Region, RegionDraft, RegionEpoch};
use regionmeta_batch::pd::{
    Accepted, Checked, EmbeddedPd, Flow, HeartbeatError, Interval, OpenPdError, Operator, PdClient, PdError,
    RegionHeartbeat, RegionInfo, SizePolicy, SplitPolicy, StoreInfo, StoreStats,
};
use regionmeta_batch::storage::MemStorage;
use regionmeta_batch::storage::fault::{Fault, FaultyStorage};

use crate::common::{CLUSTER, Disk, Mem, builder, dump, on_each_storage, put_raw, seeded, setting, voter};

const KEYS: [&str; 8] = ["", "b", "c", "d", "e", "f", "g", ""];

fn store(id: u64) -> StoreInfo {
    StoreInfo { id: id.into(), address: format!("store-{id}") }
}

/// The first region, on store 1; stores 1 and 2 are registered.
fn begin(pd: &EmbeddedPd) -> Region {
    let first = made(100, 0, 7, RegionEpoch::INITIAL, 1);
    pd.bootstrap(&store(1), &first).unwrap();
    pd.put_store(&store(2)).unwrap();
    first
}

/// A region from one of the keys to another, with peers on the first stores.
fn made(id: u64, start: usize, end: usize, epoch: RegionEpoch, peers: u64) -> Region {
    let range = KeyRange::from_wire(KEYS[start].as_bytes(), KEYS[end].as_bytes());
    let peers = (1..=peers).map(|store| voter(id * 10 + store, store)).collect();
    RegionDraft::new(id.into(), range, epoch, peers).build().unwrap()
}

fn heartbeat(region: &Region, leader: Peer, term: u64) -> RegionHeartbeat {
    RegionHeartbeat {
        region: region.clone(),
        leader,
        term: term.into(),
        down_peers: vec![],
        pending_peers: vec![],
        flow: Flow::default(),
        interval: Interval::default(),
        size_bytes: 0,
        keys: 0,
        replication: None,
    }
}

/// A heartbeat of the region's first peer.
fn led(region: &Region, term: u64) -> RegionHeartbeat {
    heartbeat(region, region.peers().next().unwrap(), term)
}

// --- the model ------------------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
struct Known {
    region: Region,
    leader: Option<Peer>,
    pending: Vec<Peer>,
    term: u64,
    size_mib: u64,
}

#[derive(Debug, Default)]
struct Model(Vec<Known>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refused {
    NoLeader,
    Store,
    Overlapped,
    Epoch,
    Term,
}

fn kind(error: &HeartbeatError) -> Refused {
    match error {
        HeartbeatError::LeaderMissing { .. } => Refused::NoLeader,
        HeartbeatError::UnknownStore { .. } => Refused::Store,
        HeartbeatError::Overlapped { .. } => Refused::Overlapped,
        HeartbeatError::StaleEpoch { .. } => Refused::Epoch,
        HeartbeatError::StaleTerm { .. } => Refused::Term,
        other => panic!("{other}"),
    }
}

impl Model {
    /// The rules, as the specification tells them, over a list.
    fn take_in(&mut self, sent: &RegionHeartbeat) -> Result<(), Refused> {
        let (new, term) = (&sent.region, sent.term.get());
        if sent.leader.id.get() == 0 {
            return Err(Refused::NoLeader);
        }
        if sent.leader.store_id.get() > 2 {
            return Err(Refused::Store);
        }
        let recreated = new.epoch() == RegionEpoch::new(1, 1) && new.range() != KeyRange::ALL;
        let origin = self.0.iter().position(|known| known.region.id() == new.id());
        let overlaps = |known: &Known| known.region.id() != new.id() && known.region.range().overlaps(new.range());
        if !recreated {
            let ours = new.epoch();
            if self.0.iter().any(|known| overlaps(known) && known.region.epoch().version > ours.version) {
                return Err(Refused::Overlapped);
            }
            if let Some(known) = origin.map(|at| &self.0[at]) {
                let theirs = known.region.epoch();
                if ours.version < theirs.version || ours.conf_ver < theirs.conf_ver {
                    return Err(Refused::Epoch);
                }
                if term > 0 && term < known.term {
                    return Err(Refused::Term);
                }
            }
        }
        let before = origin.map(|at| self.0.remove(at));
        self.0.retain(|known| !overlaps(known));
        let size_mib = match sent.size_bytes {
            0 => before.as_ref().map_or(1, |before| before.size_mib),
            bytes => (bytes >> 20).max(1),
        };
        let term = if term == 0 { before.map_or(0, |before| before.term) } else { term };
        let (leader, pending) = (Some(sent.leader), sent.pending_peers.clone());
        self.0.push(Known { region: new.clone(), leader, pending, term, size_mib });
        self.0.sort_by(|a, b| a.region.start_key().cmp(b.region.start_key()));
        Ok(())
    }

    fn infos(&self) -> Vec<RegionInfo> {
        self.0.iter().map(Known::info).collect()
    }
}

impl Known {
    fn info(&self) -> RegionInfo {
        RegionInfo {
            region: self.region.clone(),
            leader: self.leader,
            down_peers: vec![],
            pending_peers: self.pending.clone(),
        }
    }
}

/// Mostly a step from something that the model knows, so that much is accepted; else anything.
fn random_heartbeat(rng: &mut fastrand::Rng, model: &Model) -> RegionHeartbeat {
    let known = rng.choice(&model.0).filter(|_| rng.u8(0..4) > 0).cloned();
    let (id, mut epoch, term) = match &known {
        Some(known) if rng.bool() => (known.region.id().get(), known.region.epoch(), known.term),
        Some(known) => (rng.u64(1..12), known.region.epoch(), 0),
        None => (rng.u64(1..12), RegionEpoch::new(rng.u64(1..4), rng.u64(1..4)), rng.u64(0..4)),
    };
    let start = rng.usize(0..7);
    let (mut range, end) = (None, rng.usize(start + 1..8));
    match rng.u8(0..6) {
        0 | 1 => range = known.as_ref().map(|known| known.region.clone()), // as it is
        2 => epoch.version += rng.u64(1..3),
        3 => epoch.conf_ver += 1,
        4 => epoch = RegionEpoch::INITIAL,
        _ => {}
    }
    let region = range.unwrap_or_else(|| made(id, start, end, epoch, rng.u64(1..4)));
    let term = (term + rng.u64(0..3)).saturating_sub(rng.u64(0..2));
    let mut leader = rng.choice(region.peers().collect::<Vec<_>>()).unwrap();
    if rng.u8(0..40) == 0 {
        leader = Peer::voter(0.into(), leader.store_id);
    }
    let pending_peers = region.peers().filter(|peer| *peer != leader && rng.u8(0..8) == 0).collect();
    RegionHeartbeat { size_bytes: rng.u64(0..4) << rng.u32(0..24), pending_peers, ..heartbeat(&region, leader, term) }
}

/// Every answer of the driver is the model's, whoever is asked how, and each passes the checks of strangers' answers.
fn assert_same(pd: &EmbeddedPd, model: &Model) {
    let asked = Checked::new(pd);
    assert_eq!(asked.scan_regions(KeyRange::ALL, 0).unwrap(), model.infos());
    assert_eq!(pd.regions().snapshot().validate(), vec![]);
    for key in ["", "a", "b", "bb", "c", "d", "dd", "e", "f", "g", "z"] {
        let owner = model.0.iter().position(|known| known.region.range().contains(key.as_bytes()));
        let expected = owner.map(|at| model.0[at].info());
        assert_eq!(asked.get_region(key.as_bytes()).unwrap(), expected);
        let before = owner.and_then(|at| Some((&model.0[at], model.0.get(at.checked_sub(1)?)?)));
        let before = before.filter(|(owner, before)| before.region.end_key().to_wire() == owner.region.start_key());
        assert_eq!(asked.get_prev_region(key.as_bytes()).unwrap(), before.map(|(_, before)| before.info()));
        let from: Vec<_> =
            model.infos().into_iter().filter(|info| info.region.end_key().is_after(key.as_bytes())).collect();
        let scanned = asked.scan_regions(KeyRange::from_wire(key.as_bytes(), b""), 2).unwrap();
        assert_eq!(scanned, from[..from.len().min(2)]);
    }
    for known in &model.0 {
        assert_eq!(asked.get_region_by_id(known.region.id()).unwrap(), Some(known.info()));
        if known.leader.is_some() {
            assert_eq!(pd.load(known.region.id()).unwrap().size_mib, known.size_mib);
        }
    }
}

/// Random heartbeats: accepted and refused as the model does, with a restart now and then.
fn heartbeats_follow_the_model(disk: &impl Disk) {
    let (seed, mut rng) = seeded("heartbeats_follow_the_model");
    let storage = disk.storage();
    let mut counts = [0_u32; 2];
    let mut pd = EmbeddedPd::open(CLUSTER, storage).unwrap();
    let first = begin(&pd);
    let mut model = Model(vec![Known { region: first, leader: None, pending: vec![], term: 0, size_mib: 1 }]);
    for step in 0..setting("REGIONMETA_STEPS", 3_000) {
        let sent = random_heartbeat(&mut rng, &model);
        let expected = model.take_in(&sent);
        let found = pd.heartbeat(&sent).map(drop).map_err(|error| kind(&error));
        assert_eq!(found, expected, "seed {seed}, step {step}: {sent:?}");
        counts[usize::from(found.is_ok())] += 1;
        if step % 16 == 0 {
            assert_same(&pd, &model);
        }
        if rng.u32(0..400) == 0 {
            drop(pd);
            pd = EmbeddedPd::open(CLUSTER, disk.storage()).unwrap();
            for known in &mut model.0 {
                (known.leader, known.term, known.size_mib) = (None, 0, 1);
                known.pending.clear();
            }
        }
    }
    assert_same(&pd, &model);
    assert!(counts.iter().all(|&count| count > 200), "{counts:?}");
}

// --- examples -------------------------------------------------------------------------------------------------------

#[test]
fn what_is_accepted_says_how_much_it_changed() {
    let pd = EmbeddedPd::new(CLUSTER);
    let first = begin(&pd);
    assert_eq!(pd.heartbeat(&led(&first, 6)), Ok(Accepted::Refreshed));
    assert_eq!(pd.heartbeat(&led(&first, 6)), Ok(Accepted::Unchanged));
    let copy = Region::from_bytes(first.as_bytes()).unwrap();
    assert_eq!(pd.heartbeat(&led(&copy, 6)), Ok(Accepted::Unchanged));
    assert!(pd.get_region(b"x").unwrap().unwrap().region.same_buffer(&first), "the known allocation stays");
    assert_eq!(pd.heartbeat(&led(&first, 7)), Ok(Accepted::Refreshed));

    // The parent of a split reports first, and leaves a hole; then its child.
    let split = RegionEpoch::new(1, 2);
    let (left, right) = (made(100, 0, 3, split, 1), made(5, 3, 7, split, 1));
    assert_eq!(pd.heartbeat(&led(&left, 7)), Ok(Accepted::Changed { evicted: 0 }));
    assert_eq!(pd.get_region(b"x").unwrap(), None);
    assert_eq!(pd.heartbeat(&led(&right, 6)), Ok(Accepted::Changed { evicted: 0 }));
    assert!(matches!(pd.heartbeat(&led(&first, 8)), Err(HeartbeatError::Overlapped { .. })));

    // The child swallows its parent.
    let merged = made(5, 0, 7, RegionEpoch::new(1, 4), 1);
    assert_eq!(pd.heartbeat(&led(&merged, 6)), Ok(Accepted::Changed { evicted: 1 }));
    assert_eq!(pd.get_region_by_id(100.into()).unwrap(), None);
}

#[test]
fn sizes_and_flows_are_believed_within_reason() {
    let pd = EmbeddedPd::new(CLUSTER);
    let first = begin(&pd);
    let load = |size_bytes, written_bytes| {
        let flow = Flow { written_bytes, ..Flow::default() };
        pd.heartbeat(&RegionHeartbeat { size_bytes, flow, ..led(&first, 6) }).unwrap();
        let load = pd.load(first.id()).unwrap();
        (load.size_mib, load.flow.written_bytes)
    };
    assert_eq!(load(0, 7), (1, 7));
    assert_eq!(load(1, (1 << 50) - 1), (1, (1 << 50) - 1));
    assert_eq!(load(5 << 20, 1 << 50), (5, 0));
    assert_eq!(load(0, 0), (5, 0), "unknown: as before");
}

#[test]
fn splits_are_asked_for_with_a_current_region() {
    let pd = EmbeddedPd::new(CLUSTER);
    let first = begin(&pd);
    let asked = Checked::new(&pd);
    assert_eq!(asked.ask_batch_split(&first, 3).unwrap().len(), 3);
    pd.heartbeat(&led(&made(100, 0, 3, RegionEpoch::new(2, 2), 2), 6)).unwrap();
    assert!(matches!(asked.ask_batch_split(&first, 1), Err(PdError::Stale { .. })));
    let hole = made(9, 4, 7, RegionEpoch::new(9, 9), 1);
    assert_eq!(asked.ask_batch_split(&hole, 1), Err(PdError::RegionNotFound { region: 9.into() }));
    assert!(asked.ask_batch_split(&first, 0).is_err() && asked.ask_batch_split(&first, usize::MAX).is_err());

    let (left, right) = (made(1, 0, 3, RegionEpoch::INITIAL, 1), made(2, 3, 7, RegionEpoch::INITIAL, 1));
    assert_eq!(pd.report_batch_split(&[left.clone(), right.clone()]), Ok(()));
    assert!(pd.report_batch_split(&[right, left.clone()]).is_err() && pd.report_batch_split(&[left]).is_err());
}

#[test]
fn the_policy_splits_what_is_large_and_merges_what_is_small() {
    let pd = EmbeddedPd::new(CLUSTER).with_policy(SizePolicy { split_mib: 96, merge_mib: 8 });
    begin(&pd);
    let epoch = RegionEpoch::new(1, 2);
    let [a, b, c] = [made(1, 0, 2, epoch, 1), made(2, 2, 5, epoch, 1), made(3, 5, 7, epoch, 2)];
    let sized = |region: &Region, mib: u64| RegionHeartbeat { size_bytes: mib << 20, ..led(region, 6) };
    for (region, mib) in [(&a, 20), (&b, 4), (&c, 4)] {
        pd.heartbeat(&sized(region, mib)).unwrap();
    }
    let asked = |region: &Region, mib| pd.advise(&sized(region, mib)).map(|response| response.operator.unwrap());
    assert_eq!(asked(&a, 20), None);
    let split = Operator::Split { policy: SplitPolicy::Approximate, keys: vec![] };
    assert_eq!(asked(&a, 96), Some(split));
    assert_eq!(asked(&c, 4), None, "its neighbour lives on other stores");
    assert_eq!(asked(&b, 4), Some(Operator::Merge { target: a.clone() }));
    assert_eq!(asked(&a, 4), None, "it is the target of a merge");
}

#[test]
fn an_operator_is_repeated_until_the_epoch_moves_or_eight_times() {
    let pd = EmbeddedPd::new(CLUSTER);
    let region = begin(&pd);
    let switch = Operator::TransferLeader { peers: vec![voter(1_009, 9)] };
    pd.add_operator(region.id(), switch.clone());
    pd.add_operator(region.id(), Operator::TransferLeader { peers: vec![region.peers().next().unwrap()] });
    for _ in 0..8 {
        let response = pd.advise(&led(&region, 6)).unwrap();
        assert_eq!((response.region_id, response.epoch), (region.id(), region.epoch()));
        assert_eq!(response.operator, Some(switch.clone()));
    }
    assert_eq!(pd.advise(&led(&region, 6)), None, "the second one is done already: that peer leads");
    pd.add_operator(region.id(), switch);
    assert!(pd.advise(&led(&region, 6)).is_some());
    assert_eq!(pd.advise(&led(&made(100, 0, 7, RegionEpoch::new(2, 1), 2), 6)), None);
}

/// Nothing is kept for a region that is gone: it may never report again, as the source of a merge does not.
#[test]
fn the_operators_of_an_evicted_region_go_with_it() {
    let pd = EmbeddedPd::new(CLUSTER);
    begin(&pd);
    let at = |version| RegionEpoch::new(1, version);
    let [left, right] = [made(1, 0, 2, at(2), 1), made(2, 2, 7, at(2), 1)];
    for region in [&left, &right] {
        pd.heartbeat(&led(region, 6)).unwrap();
    }
    pd.add_operator(right.id(), Operator::TransferLeader { peers: vec![voter(29, 9)] });
    assert_eq!(pd.heartbeat(&led(&made(1, 0, 7, at(3), 1), 6)), Ok(Accepted::Changed { evicted: 1 }));
    let again = made(2, 2, 7, at(4), 1);
    pd.heartbeat(&led(&again, 6)).unwrap();
    assert_eq!(pd.advise(&led(&again, 6)), None);
}

// --- restarts -------------------------------------------------------------------------------------------------------

/// What was told before comes back, and no id twice.
fn a_driver_that_is_opened_again_knows_the_cluster(disk: &impl Disk) {
    let (region, last);
    {
        let pd = EmbeddedPd::open(CLUSTER, disk.storage()).unwrap();
        assert!(!pd.is_bootstrapped().unwrap());
        begin(&pd);
        region = made(100, 0, 7, RegionEpoch::new(2, 1), 2);
        pd.heartbeat(&led(&region, 6)).unwrap();
        last = (0..2_500).map(|_| pd.alloc_id().unwrap()).max().unwrap();
    }
    let pd = EmbeddedPd::open(CLUSTER, disk.storage()).unwrap();
    assert!(pd.is_bootstrapped().unwrap());
    assert_eq!(pd.stores(), [store(1), store(2)]);
    assert_eq!(pd.get_region(b"").unwrap(), Some(RegionInfo::without_leader(region)));
    let next = pd.alloc_id().unwrap();
    assert!(next > last && next <= last + 1_000, "{last}, then {next}");
    drop(pd);
    let other = EmbeddedPd::open(8.into(), disk.storage());
    assert!(matches!(other, Err(OpenPdError::ForeignCluster { .. })), "{other:?}");
}

on_each_storage!(heartbeats_follow_the_model, a_driver_that_is_opened_again_knows_the_cluster);

#[test]
fn a_store_and_a_driver_do_not_share_a_storage() {
    let disk = Mem::empty();
    let pd = EmbeddedPd::open(CLUSTER, disk.storage()).unwrap();
    assert!(builder().bootstrap_storage(disk.storage(), &pd).is_err());
    let disk = Mem::empty();
    drop(builder().bootstrap_storage(disk.storage(), &EmbeddedPd::new(CLUSTER)).unwrap());
    let refused = EmbeddedPd::open(CLUSTER, disk.storage());
    assert!(matches!(refused, Err(OpenPdError::NotEmpty { .. })), "{refused:?}");
}

#[test]
fn every_flipped_bit_of_a_driver_is_found() {
    let disk = Mem::empty();
    begin(&EmbeddedPd::open(CLUSTER, disk.storage()).unwrap());
    EmbeddedPd::open(CLUSTER, disk.storage()).unwrap().alloc_id().unwrap();
    for (family, key, value) in dump(&disk.storage()) {
        for bit in 0..value.len() * 8 {
            let storage = disk.storage().fork();
            let mut damaged = value.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            put_raw(&storage, family, &key, &damaged);
            assert!(EmbeddedPd::open(CLUSTER, storage).is_err(), "{key:?}, bit {bit}");
        }
    }
}

/// M17: a checksum without the key.
#[test]
fn a_record_under_another_key_is_found() {
    let disk = Mem::empty();
    begin(&EmbeddedPd::open(CLUSTER, disk.storage()).unwrap());
    let stores: Vec<_> =
        dump(&disk.storage()).into_iter().filter(|(_, key, _)| key.starts_with(&[1, 0x10, 4])).collect();
    let [(family, one, _), (_, _, other)] = stores.as_slice() else { panic!("{stores:?}") };
    put_raw(&disk.storage(), *family, one, other);
    let opened = EmbeddedPd::open(CLUSTER, disk.storage());
    assert!(matches!(opened, Err(OpenPdError::Damaged { .. })), "{opened:?}");
}

/// Four threads tell of overlapping regions while one asks: each answer makes sense, and in the end every region of the map
/// has a leader, which only the entry that belongs to that very descriptor knows.
#[test]
fn heartbeats_from_many_threads_leave_map_and_infos_together() {
    let (_, mut rng) = seeded("heartbeats_from_many_threads_leave_map_and_infos_together");
    let pd = EmbeddedPd::new(CLUSTER);
    let first = begin(&pd);
    pd.heartbeat(&led(&first, 6)).unwrap();
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for mut rng in (0..4).map(|_| rng.fork()).collect::<Vec<_>>() {
            let pd = &pd;
            running.push(scope.spawn(move || {
                for _ in 0..2_000 {
                    let sent = random_heartbeat(&mut rng, &Model::default());
                    for sent in [sent.clone(), RegionHeartbeat { term: 9.into(), ..sent }] {
                        let accepted = pd.heartbeat(&sent);
                        assert!(!matches!(accepted, Err(HeartbeatError::Storage(_))), "{accepted:?}");
                    }
                }
            }));
        }
        while running.iter().any(|thread| !thread.is_finished()) {
            let found = Checked::new(&pd).scan_regions(KeyRange::ALL, 0).unwrap();
            assert!(found.iter().all(|info| info.leader.is_some()), "{found:?}");
            Checked::new(&pd).get_region(b"d").unwrap();
        }
    });
    assert_eq!(pd.regions().snapshot().validate(), vec![]);
    let found = pd.scan_regions(KeyRange::ALL, 0).unwrap();
    assert!(!found.is_empty() && found.iter().all(|info| info.leader.is_some()), "{found:?}");
}

#[test]
fn after_a_failed_write_nothing_is_believed_until_the_driver_is_opened_again() {
    for fault in [Fault::Lost, Fault::Applied] {
        let disk = MemStorage::new();
        begin(&EmbeddedPd::open(CLUSTER, disk.clone()).unwrap());
        let faulty = FaultyStorage::new(disk.clone(), 1, fault);
        let pd = EmbeddedPd::open(CLUSTER, faulty).unwrap();
        let before = pd.get_region(b"").unwrap();
        let next = made(100, 0, 7, RegionEpoch::new(2, 1), 2);
        for _ in 0..2 {
            assert!(matches!(pd.heartbeat(&led(&next, 6)), Err(HeartbeatError::Storage(_))));
            assert_eq!(pd.get_region(b"").unwrap(), before);
        }
        let pd = EmbeddedPd::open(CLUSTER, disk).unwrap();
        let wrote = pd.get_region(b"").unwrap().unwrap().region == next;
        assert_eq!(wrote, fault == Fault::Applied);
        pd.heartbeat(&led(&next, 6)).unwrap();
    }
}

#[test]
fn no_id_is_handed_out_before_its_batch_is_on_disk() {
    let disk = MemStorage::new();
    drop(EmbeddedPd::open(CLUSTER, disk.clone()).unwrap());
    let pd = EmbeddedPd::open(CLUSTER, FaultyStorage::new(disk.clone(), 1, Fault::Lost)).unwrap();
    assert!(matches!(pd.alloc_id(), Err(PdError::Storage(_))));
    let first = pd.alloc_id().unwrap();
    disk.crash(0);
    assert!(EmbeddedPd::open(CLUSTER, disk).unwrap().alloc_id().unwrap() > first);
}

/// Blocks and single ids, over restarts: each id once, and a block larger than what is reserved at a time too.
#[test]
fn ids_in_a_row_are_handed_out_once() {
    let disk = MemStorage::new();
    let mut last = 0;
    for count in [1, 7, 999, 1, 5_000, 1, 1_000] {
        let pd = EmbeddedPd::open(CLUSTER, disk.clone()).unwrap();
        for _ in 0..3 {
            let end = Checked::new(&pd).alloc_ids(count).unwrap();
            assert!(end - u64::from(count) >= last, "{count} ids up to {end}, after {last}");
            last = end;
        }
        assert!(pd.alloc_ids(0).is_err());
        disk.crash(0);
    }
}

#[test]
fn a_store_tells_how_it_is_once_it_registered() {
    let pd = EmbeddedPd::new(CLUSTER);
    begin(&pd);
    let stats = StoreStats { store_id: 2.into(), capacity_bytes: 7, ..StoreStats::default() };
    pd.store_heartbeat(&stats).unwrap();
    assert_eq!(pd.store_stats(2.into()), Some(stats));
    let stranger = StoreStats { store_id: 3.into(), ..stats };
    assert_eq!(pd.store_heartbeat(&stranger), Err(PdError::UnknownStore { store: 3.into() }));
    assert_eq!(pd.get_store(2.into()).unwrap(), Some(store(2)));
    assert_eq!(pd.get_store(3.into()).unwrap(), None);
}
