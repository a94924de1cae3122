//! Bootstrap, killed between any two of its writes and started again, ends in one bootstrapped store (M13, spec section 3).

use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use regionmeta::layout::{PREPARE_BOOTSTRAP_KEY, STORE_IDENT_KEY, apply_state_key, raft_state_key, region_state_key};
use regionmeta::{
    ApplyState, ClusterId, KeyRange, RaftState, Refusal, Region, RegionDraft, RegionId, StoreId, StoreIdent,
};
use regionmeta_batch::bootstrap::BootstrapError;
use regionmeta_batch::pd::{
    ClusterConfig, EmbeddedPd, HeartbeatStream, PdClient, PdError, RegionInfo, SplitIds, StoreAdvice, StoreInfo,
    StoreStats,
};
use regionmeta_batch::storage::fault::{Fault, FaultyStorage};
use regionmeta_batch::storage::{Family, MemStorage, Storage};
use regionmeta_batch::{OpenError, Store, StoreBuilder, records};

use crate::common::{
    CLUSTER, Disk, Mem, Rocks, builder, draft, dump, on_each_storage, put, put_ident, put_raw, put_region, region,
};

/// A placement driver that can be out of reach, and that can hold stores up until all of them have asked.
#[derive(Debug)]
struct TestPd {
    inner: EmbeddedPd,
    /// The calls that find nobody, counted from 0.
    away: Range<u64>,
    calls: AtomicU64,
    /// Whether it knows no region, as a PD that is still loading.
    knows_no_region: bool,
    /// Hands out 0 for every id.
    zero_ids: bool,
    /// Where stores wait for one another after they were told whether the cluster is bootstrapped.
    meeting: Option<Barrier>,
}

impl TestPd {
    fn away(away: Range<u64>) -> Self {
        Self {
            inner: EmbeddedPd::new(CLUSTER),
            away,
            calls: AtomicU64::new(0),
            knows_no_region: false,
            zero_ids: false,
            meeting: None,
        }
    }

    fn reached(&self) -> Result<&EmbeddedPd, PdError> {
        // Relaxed: the counter orders nothing but itself.
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if self.away.contains(&call) { Err(PdError::Unavailable("nobody there".to_owned())) } else { Ok(&self.inner) }
    }
}

impl PdClient for TestPd {
    fn cluster_id(&self) -> ClusterId {
        self.inner.cluster_id()
    }

    fn alloc_id(&self) -> Result<u64, PdError> {
        let id = self.reached()?.alloc_id()?;
        Ok(if self.zero_ids { 0 } else { id })
    }

    fn is_bootstrapped(&self) -> Result<bool, PdError> {
        let answer = self.reached()?.is_bootstrapped();
        if let Some(meeting) = &self.meeting {
            meeting.wait();
        }
        answer
    }

    fn bootstrap(&self, store: &StoreInfo, region: &Region) -> Result<(), PdError> {
        self.reached()?.bootstrap(store, region)
    }

    fn put_store(&self, store: &StoreInfo) -> Result<(), PdError> {
        self.reached()?.put_store(store)
    }

    fn get_region(&self, key: &[u8]) -> Result<Option<RegionInfo>, PdError> {
        let region = self.reached()?.get_region(key)?;
        Ok(region.filter(|_| !self.knows_no_region))
    }

    fn get_region_by_id(&self, id: RegionId) -> Result<Option<RegionInfo>, PdError> {
        self.reached()?.get_region_by_id(id)
    }

    // What follows no bootstrap asks.

    fn cluster_config(&self) -> Result<ClusterConfig, PdError> {
        self.inner.cluster_config()
    }

    fn get_store(&self, id: StoreId) -> Result<Option<StoreInfo>, PdError> {
        self.inner.get_store(id)
    }

    fn get_all_stores(&self) -> Result<Vec<StoreInfo>, PdError> {
        self.inner.get_all_stores()
    }

    fn store_heartbeat(&self, stats: &StoreStats) -> Result<StoreAdvice, PdError> {
        self.inner.store_heartbeat(stats)
    }

    fn ask_batch_split(&self, region: &Region, children: usize) -> Result<Vec<SplitIds>, PdError> {
        self.inner.ask_batch_split(region, children)
    }

    fn report_batch_split(&self, regions: &[Region]) -> Result<(), PdError> {
        self.inner.report_batch_split(regions)
    }

    fn get_prev_region(&self, key: &[u8]) -> Result<Option<RegionInfo>, PdError> {
        self.inner.get_prev_region(key)
    }

    fn scan_regions(&self, range: KeyRange<'_>, limit: usize) -> Result<Vec<RegionInfo>, PdError> {
        self.inner.scan_regions(range, limit)
    }

    fn region_heartbeats(&self) -> Result<HeartbeatStream, PdError> {
        self.inner.region_heartbeats()
    }
}

fn bootstrap<S: Storage>(storage: S, pd: &dyn PdClient) -> Result<Store<S>, OpenError> {
    builder().bootstrap_storage(storage, pd)
}

/// Bootstraps until the `nth` write, which fails, and comes back as if the process had been killed there.
fn bootstrap_until(disk: &impl Disk, pd: &dyn PdClient, nth: u64, fault: Fault) {
    let error = bootstrap(FaultyStorage::new(disk.storage(), nth, fault), pd).unwrap_err();
    assert!(error.to_string().contains("injected"), "{error}");
}

fn bootstrap_error<S: Storage>(storage: S, pd: &dyn PdClient) -> BootstrapError {
    match bootstrap(storage, pd) {
        Err(OpenError::Bootstrap(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn keys(storage: &impl Storage) -> Vec<(Family, Vec<u8>)> {
    dump(storage).into_iter().map(|(family, key, _)| (family, key)).collect()
}

fn the_ident() -> (Family, Vec<u8>) {
    (Family::Default, STORE_IDENT_KEY.to_vec())
}

/// What a bootstrapped store consists of, and nothing else.
fn complete_keys(region: RegionId) -> Vec<(Family, Vec<u8>)> {
    let raft = [raft_state_key(region), apply_state_key(region), region_state_key(region)];
    [the_ident()].into_iter().chain(raft.map(|key| (Family::Raft, key.to_vec()))).collect()
}

/// Exactly one store, one region, which PD knows as it is; no mark, and no id used twice.
#[track_caller]
fn assert_bootstrapped<S: Storage>(store: &Store<S>, pd: &EmbeddedPd) -> Region {
    let snapshot = store.meta().snapshot();
    assert_eq!((snapshot.len(), snapshot.validate()), (1, vec![]));
    let region = snapshot.locate(b"").unwrap().region().clone();
    assert!(pd.regions().snapshot().regions().eq([&region]), "PD knows other regions than {region}");
    assert_eq!(pd.stores().iter().map(|store| store.id).collect::<Vec<_>>(), [store.ident().store_id]);
    let peer = region.peer_on(store.ident().store_id).unwrap();
    let mut ids = vec![store.ident().store_id.get(), region.id().get(), peer.id.get(), pd.alloc_id().unwrap()];
    ids.dedup();
    assert!(ids.len() == 4 && ids.is_sorted(), "ids are handed out once, in order: {ids:?}");
    assert_eq!(store.apply_state(region.id()), ApplyState::INITIAL);
    assert_eq!(store.recovery().regions, 1);
    region
}

/// Fails each write in turn, both ways, lets `crash` happen, and starts again.
fn every_failed_write_is_repaired_by_the_next_start<D: Disk>(crash: impl Fn(&D)) {
    for fault in [Fault::Lost, Fault::Applied] {
        for nth in 1.. {
            let (disk, pd) = (D::empty(), EmbeddedPd::new(CLUSTER));
            let first = bootstrap(FaultyStorage::new(disk.storage(), nth, fault), &pd);
            if let Ok(store) = first {
                assert_bootstrapped(&store, &pd);
                assert_eq!(nth, 5, "bootstrap has four writes, each of them was made to fail");
                break;
            }
            drop(first);
            crash(&disk);
            let store = bootstrap(disk.storage(), &pd).unwrap();
            let region = assert_bootstrapped(&store, &pd);
            // A raft state that was lost stays away: it is known to be the initial one (spec section 1.5).
            let keys = keys(store.storage());
            let mut expected = complete_keys(region.id());
            if matches!((nth, fault), (2, Fault::Applied) | (3, Fault::Lost)) {
                expected.remove(1);
            }
            assert_eq!(keys, expected, "after write {nth} was {fault:?}");
            drop(store);
            let store = disk.open().unwrap();
            assert_eq!(assert_bootstrapped(&store, &pd), region);
        }
    }
}

#[test]
fn every_failed_write_is_repaired_in_memory() {
    every_failed_write_is_repaired_by_the_next_start::<Mem>(|_| {});
}

#[test]
fn every_failed_write_is_repaired_on_rocksdb() {
    every_failed_write_is_repaired_by_the_next_start::<Rocks>(|_| {});
}

/// M13: a bootstrap whose writes are not synced loses them with the power, and then PD knows a region that no store has.
#[test]
fn every_failed_write_is_repaired_after_a_power_loss() {
    every_failed_write_is_repaired_by_the_next_start::<Mem>(|disk| disk.0.crash(0));
}

#[test]
fn a_finished_bootstrap_survives_a_power_loss() {
    let (disk, pd) = (Mem::empty(), EmbeddedPd::new(CLUSTER));
    let before = dump(bootstrap(disk.storage(), &pd).unwrap().storage());
    disk.0.crash(0);
    assert_eq!(dump(&disk.0), before);
    assert_bootstrapped(&disk.open().unwrap(), &pd);
}

/// M13: PD would keep a store that never comes back, and the disk would get a second name.
#[test]
fn a_store_that_joined_keeps_its_identity_after_a_power_loss() {
    let (disk, pd) = (Mem::empty(), EmbeddedPd::new(CLUSTER));
    bootstrap(MemStorage::new(), &pd).unwrap();
    let ident = bootstrap(disk.storage(), &pd).unwrap().ident();
    disk.0.crash(0);
    assert_eq!(disk.open().unwrap().ident(), ident);
}

mod crash_matrix {
    //! Spec section 3.4, row by row.

    use super::*;

    on_each_storage!(
        id_allocated_and_ident_not_written,
        ident_written,
        prepared_without_raft_state,
        prepared_completely,
        pd_accepted_and_the_mark_is_still_there,
        pd_accepted_and_does_not_know_the_region_yet,
        pd_hands_out_the_id_0,
        another_store_won_and_nothing_is_cleared,
        raft_part_cleared_and_the_rest_not,
        all_written,
    );

    fn id_allocated_and_ident_not_written(disk: &impl Disk) {
        let pd = EmbeddedPd::new(CLUSTER);
        bootstrap_until(disk, &pd, 1, Fault::Lost);
        assert_eq!(dump(&disk.storage()), []);
        let store = bootstrap(disk.storage(), &pd).unwrap();
        assert_eq!(store.ident().store_id, StoreId::new(2), "the first id is wasted");
        assert_bootstrapped(&store, &pd);
    }

    fn ident_written(disk: &impl Disk) {
        let pd = EmbeddedPd::new(CLUSTER);
        bootstrap_until(disk, &pd, 1, Fault::Applied);
        assert_eq!(keys(&disk.storage()), [the_ident()]);
        let store = bootstrap(disk.storage(), &pd).unwrap();
        assert_eq!(store.ident().store_id, StoreId::new(1), "the identity is kept");
        assert_bootstrapped(&store, &pd);
    }

    fn prepared_region(disk: &impl Disk) -> Region {
        let storage = disk.storage();
        let mark: Region = records::read(&storage, Family::Default, PREPARE_BOOTSTRAP_KEY).unwrap().unwrap();
        let state: Region = records::read(&storage, Family::Raft, &region_state_key(mark.id())).unwrap().unwrap();
        assert_eq!(mark, state);
        mark
    }

    fn has_raft_state(disk: &impl Disk, region: &Region) -> bool {
        let state = records::read(&disk.storage(), Family::Raft, &raft_state_key(region.id())).unwrap();
        assert!(state.is_none_or(|state: RaftState| state == RaftState::INITIAL));
        state.is_some()
    }

    fn prepared_without_raft_state(disk: &impl Disk) {
        let pd = EmbeddedPd::new(CLUSTER);
        bootstrap_until(disk, &pd, 3, Fault::Lost);
        let prepared = prepared_region(disk);
        assert!(!has_raft_state(disk, &prepared));
        assert_eq!(assert_bootstrapped(&bootstrap(disk.storage(), &pd).unwrap(), &pd), prepared);
    }

    fn prepared_completely(disk: &impl Disk) {
        let pd = EmbeddedPd::new(CLUSTER);
        bootstrap_until(disk, &pd, 3, Fault::Applied);
        let prepared = prepared_region(disk);
        assert!(has_raft_state(disk, &prepared));
        assert!(!pd.is_bootstrapped().unwrap());
        assert_eq!(assert_bootstrapped(&bootstrap(disk.storage(), &pd).unwrap(), &pd), prepared);
    }

    fn pd_accepted_and_the_mark_is_still_there(disk: &impl Disk) {
        let pd = EmbeddedPd::new(CLUSTER);
        bootstrap_until(disk, &pd, 4, Fault::Lost);
        let prepared = prepared_region(disk);
        assert!(pd.is_bootstrapped().unwrap());
        let store = bootstrap(disk.storage(), &pd).unwrap();
        assert_eq!(assert_bootstrapped(&store, &pd), prepared);
        assert!(store.storage().get(Family::Default, PREPARE_BOOTSTRAP_KEY).unwrap().is_none());
    }

    /// A PD that has accepted us and is still loading its regions says "bootstrapped" and knows none. It once made the store
    /// clear the only region of the cluster.
    fn pd_accepted_and_does_not_know_the_region_yet(disk: &impl Disk) {
        let mut pd = TestPd { knows_no_region: true, ..TestPd::away(0..0) };
        bootstrap_until(disk, &pd, 4, Fault::Lost);
        let prepared = prepared_region(disk);
        let before = dump(&disk.storage());
        let error = bootstrap_error(disk.storage(), &pd);
        assert!(matches!(error, BootstrapError::PdUnavailable { attempts: 3, .. }), "{error}");
        assert_eq!(dump(&disk.storage()), before);
        pd.knows_no_region = false;
        assert_eq!(assert_bootstrapped(&bootstrap(disk.storage(), &pd).unwrap(), &pd.inner), prepared);
    }

    /// The id 0 was once written as the store's identity, which no later start accepted.
    fn pd_hands_out_the_id_0(disk: &impl Disk) {
        let mut pd = TestPd { zero_ids: true, ..TestPd::away(0..0) };
        let error = bootstrap_error(disk.storage(), &pd);
        assert!(matches!(error, BootstrapError::Pd(PdError::InvalidAnswer(_))), "{error}");
        assert_eq!(dump(&disk.storage()), []);
        pd.zero_ids = false;
        assert_bootstrapped(&bootstrap(disk.storage(), &pd).unwrap(), &pd.inner);
    }

    /// A disk with everything prepared, in a cluster that another store has bootstrapped since.
    fn another_store_wins(disk: &impl Disk, pd: &EmbeddedPd) -> Region {
        bootstrap_until(disk, pd, 3, Fault::Applied);
        let prepared = prepared_region(disk);
        let winner = bootstrap(MemStorage::new(), pd).unwrap();
        assert_bootstrapped(&winner, pd);
        prepared
    }

    #[track_caller]
    fn assert_lost_cleanly<S: Storage>(store: &Store<S>, pd: &EmbeddedPd) {
        assert!(store.meta().snapshot().is_empty());
        assert_eq!(keys(store.storage()), [the_ident()]);
        let stores: Vec<_> = pd.stores().iter().map(|store| store.id).collect();
        assert!(stores.len() == 2 && stores.contains(&store.ident().store_id), "{stores:?}");
        assert_eq!(pd.regions().snapshot().len(), 1);
    }

    fn another_store_won_and_nothing_is_cleared(disk: &impl Disk) {
        let pd = EmbeddedPd::new(CLUSTER);
        another_store_wins(disk, &pd);
        assert_lost_cleanly(&bootstrap(disk.storage(), &pd).unwrap(), &pd);
        assert_lost_cleanly(&disk.open().unwrap(), &pd);
    }

    fn raft_part_cleared_and_the_rest_not(disk: &impl Disk) {
        let pd = EmbeddedPd::new(CLUSTER);
        let prepared = another_store_wins(disk, &pd);
        bootstrap_until(disk, &pd, 1, Fault::Lost);
        assert!(has_raft_state(disk, &prepared_region(disk)));
        // The second write of the clearing: the raft part is gone, the mark has to be there still.
        bootstrap_until(disk, &pd, 2, Fault::Lost);
        assert_eq!(prepared_region(disk), prepared);
        assert!(!has_raft_state(disk, &prepared));
        assert_lost_cleanly(&bootstrap(disk.storage(), &pd).unwrap(), &pd);
    }

    fn all_written(disk: &impl Disk) {
        let pd = EmbeddedPd::new(CLUSTER);
        bootstrap_until(disk, &pd, 4, Fault::Applied);
        let before = dump(&disk.storage());
        let region = assert_bootstrapped(&bootstrap(disk.storage(), &pd).unwrap(), &pd);
        assert_eq!(assert_bootstrapped(&disk.open().unwrap(), &pd), region);
        assert_eq!(assert_bootstrapped(&bootstrap(disk.storage(), &pd).unwrap(), &pd), region);
        assert_eq!(dump(&disk.storage()), before, "a store that is complete is not written to");
    }
}

mod refusals {
    use super::*;

    on_each_storage!(
        a_store_of_another_cluster,
        a_store_of_another_api_version,
        data_without_an_identity,
        regions_without_an_identity,
        an_unfinished_bootstrap_cannot_be_opened,
        a_store_that_was_never_bootstrapped,
        regions_that_pd_never_heard_of,
    );

    fn unchanged_by(disk: &impl Disk, refused: impl FnOnce()) {
        let before = dump(&disk.storage());
        refused();
        assert_eq!(dump(&disk.storage()), before);
    }

    fn a_store_of_another_cluster(disk: &impl Disk) {
        let other = ClusterId::new(8);
        bootstrap(disk.storage(), &EmbeddedPd::new(CLUSTER)).unwrap();
        unchanged_by(disk, || {
            let pd = EmbeddedPd::new(other);
            for result in [
                StoreBuilder::new(other).open_storage(disk.storage()).map(drop),
                StoreBuilder::new(other).bootstrap_storage(disk.storage(), &pd).map(drop),
            ] {
                let error = result.unwrap_err();
                let OpenError::Bootstrap(BootstrapError::ForeignCluster { expected, found }) = error else {
                    panic!("{error}")
                };
                assert_eq!((expected, found), (other, CLUSTER));
            }
            assert!(pd.stores().is_empty() && pd.alloc_id() == Ok(1), "PD was not asked for anything");
        });
    }

    fn a_store_of_another_api_version(disk: &impl Disk) {
        let pd = EmbeddedPd::new(CLUSTER);
        bootstrap(disk.storage(), &pd).unwrap();
        unchanged_by(disk, || {
            let v2 = || builder().api_version(2);
            for result in
                [v2().open_storage(disk.storage()).map(drop), v2().bootstrap_storage(disk.storage(), &pd).map(drop)]
            {
                let error = result.unwrap_err();
                let expected = BootstrapError::ApiVersion { expected: 2, found: 1 };
                assert_eq!(error.to_string(), expected.to_string());
            }
        });
    }

    fn data_without_an_identity(disk: &impl Disk) {
        put_raw(&disk.storage(), Family::Default, b"zprecious", b"data");
        unchanged_by(disk, || {
            let error = bootstrap_error(disk.storage(), &EmbeddedPd::new(CLUSTER));
            assert!(matches!(&error, BootstrapError::NotEmpty { first_key } if first_key.as_bytes() == b"zprecious"));
        });
    }

    /// TiKV looks at one family only (spec section 18); we look at both.
    fn regions_without_an_identity(disk: &impl Disk) {
        put_region(&disk.storage(), &region(2, "", ""));
        unchanged_by(disk, || {
            let error = bootstrap_error(disk.storage(), &EmbeddedPd::new(CLUSTER));
            assert!(matches!(error, BootstrapError::NotEmpty { .. }), "{error}");
        });
    }

    fn an_unfinished_bootstrap_cannot_be_opened(disk: &impl Disk) {
        bootstrap_until(disk, &EmbeddedPd::new(CLUSTER), 2, Fault::Applied);
        unchanged_by(disk, || {
            let error = disk.open().unwrap_err();
            assert!(matches!(error, OpenError::Bootstrap(BootstrapError::Unfinished)), "{error}");
        });
    }

    fn a_store_that_was_never_bootstrapped(disk: &impl Disk) {
        unchanged_by(disk, || {
            let error = disk.open().unwrap_err();
            assert!(matches!(error, OpenError::Bootstrap(BootstrapError::NotBootstrapped)), "{error}");
        });
    }

    fn regions_that_pd_never_heard_of(disk: &impl Disk) {
        put_ident(&disk.storage());
        put_region(&disk.storage(), &region(2, "", ""));
        unchanged_by(disk, || {
            let pd = EmbeddedPd::new(CLUSTER);
            let error = bootstrap_error(disk.storage(), &pd);
            let BootstrapError::RegionsButNoCluster { first_key } = &error else { panic!("{error}") };
            assert_eq!(first_key.as_bytes(), region_state_key(2.into()));
            assert!(!pd.is_bootstrapped().unwrap());
        });
    }

    #[test]
    fn a_damaged_identity_is_named() {
        let storage = MemStorage::new();
        let mut value = Vec::new();
        let ident = StoreIdent { cluster_id: CLUSTER, store_id: 1.into(), api_version: 1 };
        regionmeta::Record::encode(&ident, STORE_IDENT_KEY, &mut value);
        *value.last_mut().unwrap() ^= 1;
        put_raw(&storage, Family::Default, STORE_IDENT_KEY, &value);
        let error = bootstrap_error(storage.clone(), &EmbeddedPd::new(CLUSTER));
        assert!(matches!(error, BootstrapError::Read(_)) && error.to_string().contains("\\x01\\x01"), "{error}");
        assert!(builder().open_storage(storage).is_err());
    }

    #[test]
    fn a_mark_of_a_store_without_identity_is_data() {
        let storage = MemStorage::new();
        put(&storage, Family::Default, PREPARE_BOOTSTRAP_KEY, &region(2, "", ""));
        let error = bootstrap_error(storage, &EmbeddedPd::new(CLUSTER));
        assert!(matches!(error, BootstrapError::NotEmpty { .. }), "{error}");
    }
}

#[test]
fn pd_of_another_cluster_is_refused_before_anything_is_written() {
    let (storage, pd) = (MemStorage::new(), EmbeddedPd::new(9.into()));
    let error = bootstrap_error(storage.clone(), &pd);
    let expected = PdError::ClusterMismatch { pd: 9.into(), store: CLUSTER };
    assert!(matches!(&error, BootstrapError::Pd(found) if *found == expected), "{error}");
    assert_eq!(dump(&storage), []);
    assert_eq!(pd.alloc_id(), Ok(1));
}

/// The calls that an undisturbed bootstrap makes.
const PD_CALLS: u64 = 6;

#[test]
fn pd_that_comes_back_in_time_is_waited_for() {
    for call in 0..PD_CALLS {
        for missed in 0..3 {
            let pd = TestPd::away(call..call + missed);
            let store = bootstrap(MemStorage::new(), &pd).unwrap();
            assert_bootstrapped(&store, &pd.inner);
            assert_eq!(pd.calls.load(Ordering::Relaxed), PD_CALLS + missed);
        }
    }
}

/// PD goes away for good before each of the calls; the next start finishes the work.
#[test]
fn pd_that_stays_away_is_named_with_the_attempts_that_were_made() {
    for answered in 0..PD_CALLS {
        let (storage, pd) = (MemStorage::new(), TestPd::away(answered..u64::MAX));
        let error = bootstrap_error(storage.clone(), &pd);
        let BootstrapError::PdUnavailable { attempts: 3, last: PdError::Unavailable(_) } = error else {
            panic!("{error}")
        };
        assert_eq!(pd.calls.load(Ordering::Relaxed), answered + 3);
        assert_bootstrapped(&bootstrap(storage, &pd.inner).unwrap(), &pd.inner);
    }
}

/// Both stores are told that nobody has bootstrapped the cluster, and both try.
fn two_stores_race<D: Disk>()
where
    D::Storage: 'static,
{
    let pd = TestPd { meeting: Some(Barrier::new(2)), ..TestPd::away(0..0) };
    let disks = [D::empty(), D::empty()];
    let start = |disk: &D| {
        let storage = disk.storage();
        let pd = &pd;
        move || bootstrap(storage, pd).unwrap()
    };
    let stores: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = disks.iter().map(|disk| scope.spawn(start(disk))).collect();
        running.into_iter().map(|store| store.join().unwrap()).collect()
    });
    let winners: Vec<_> = stores.iter().filter(|store| !store.meta().snapshot().is_empty()).collect();
    assert_eq!(winners.len(), 1, "exactly one store may win");
    let region = winners[0].meta().snapshot().locate(b"").unwrap().region().clone();
    assert_eq!(pd.inner.get_region(b"").unwrap().map(|found| found.region).as_ref(), Some(&region));
    let loser = stores.iter().find(|store| store.meta().snapshot().is_empty()).unwrap();
    assert_eq!(keys(loser.storage()), [the_ident()], "the loser ends empty");
    assert_eq!(pd.inner.stores().len(), 2, "and registered");
    assert_eq!(keys(winners[0].storage()).len(), complete_keys(region.id()).len());
}

#[test]
fn of_two_racing_stores_one_wins() {
    for _ in 0..20 {
        two_stores_race::<Mem>();
    }
}

#[test]
fn of_two_racing_stores_one_wins_on_rocksdb() {
    two_stores_race::<Rocks>();
}

#[test]
fn a_later_store_starts_empty_and_registers() {
    let pd = EmbeddedPd::new(CLUSTER);
    bootstrap(MemStorage::new(), &pd).unwrap();
    let second = builder().address("second:1").bootstrap_storage(MemStorage::new(), &pd).unwrap();
    assert!(second.meta().snapshot().is_empty());
    assert_eq!(pd.stores()[1], StoreInfo { id: second.ident().store_id, address: "second:1".to_owned() });
}

/// The driver after a restart handed out the ids of living regions, because it had forgotten them.
#[test]
fn a_resumed_driver_knows_the_regions_and_reuses_no_id() {
    let with_peer = |region: u64, start: &str, end: &str, peer: u64, store: u64| {
        let peers = vec![regionmeta::Peer::voter(peer.into(), store.into())];
        RegionDraft { peers, ..draft(region, start, end, regionmeta::RegionEpoch::INITIAL) }.build().unwrap()
    };
    let info = |id: u64| StoreInfo { id: id.into(), address: String::new() };
    // The largest id in turn: a region's, a peer's, a peer's store's, a registered store's, and the one handed over.
    for (region, peer, store, registered, last_id) in
        [(90, 2, 3, 4, 5), (2, 90, 3, 4, 5), (2, 3, 90, 4, 5), (2, 3, 4, 90, 5), (2, 3, 4, 5, 90), (90, 90, 90, 90, 90)]
    {
        let regions = [with_peer(1, "", "m", 6, 7), with_peer(region, "m", "", peer, store)];
        let pd = EmbeddedPd::resume(CLUSTER, regions.clone(), [info(registered)], last_id).unwrap();
        assert_eq!(pd.alloc_id().unwrap(), 91);
        assert_eq!(pd.get_region(b"a").unwrap().map(|found| found.region).as_ref(), Some(&regions[0]));
        assert_eq!(pd.get_region_by_id(region.into()).unwrap().map(|found| found.region).as_ref(), Some(&regions[1]));
        assert_eq!(pd.stores(), [info(registered)]);
        assert!(pd.is_bootstrapped().unwrap());
        let again = pd.bootstrap(&info(7), &with_peer(100, "", "", 101, 7));
        assert_eq!(again, Err(PdError::AlreadyBootstrapped));
    }
    let exhausted = EmbeddedPd::resume(CLUSTER, [], [], u64::MAX).unwrap();
    assert!(matches!(exhausted.alloc_id(), Err(PdError::Refused(_))));
}

#[test]
fn a_driver_does_not_resume_from_regions_that_contradict_each_other() {
    let overlap = EmbeddedPd::resume(CLUSTER, [region(1, "", "n"), region(2, "m", "")], [], 0);
    assert!(matches!(overlap, Err(Refusal::Overlap { .. } | Refusal::NotNewer { .. })), "{overlap:?}");
    let twice = EmbeddedPd::resume(CLUSTER, [region(1, "", "m"), region(1, "m", "")], [], 0);
    assert!(matches!(twice, Err(Refusal::ChangedTwice { .. })), "{twice:?}");
}
