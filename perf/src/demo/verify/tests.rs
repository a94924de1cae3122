//! The proof itself can fail: against a store or an acknowledgement that was tampered with, it says what is wrong.

use regionmeta_batch::StoreBuilder;
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::storage::Durability;

use super::super::CLUSTER_ID;
use super::super::workload::Writer;
use super::*;

/// A small store, and everything that it acknowledged.
struct Honest {
    store: Store<RocksStorage>,
    acknowledged: Acknowledged,
    _directory: tempfile::TempDir,
}

impl Honest {
    /// Grows to ten regions, then commits three times more as writer 1.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pd = EmbeddedPd::new(CLUSTER_ID.into());
        let store = StoreBuilder::new(CLUSTER_ID.into()).bootstrap(directory.path().join("store"), &pd).unwrap();
        let mut acknowledged = Acknowledged::default();
        let mut grower = Writer::new(&store, &pd, 0);
        acknowledged.add(grower.add_replicas(0).unwrap().commit);
        let keys: Vec<u64> = (1..10).map(|at| at << 60).collect();
        acknowledged.add(grower.split_at(&keys, 4).unwrap().commit);
        let mut writer = Writer::new(&store, &pd, 1);
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..3 {
            acknowledged.add(writer.change_randomly(&mut rng, 0..u64::MAX, 8).unwrap().commit);
        }
        Self { store, acknowledged, _directory: directory }
    }

    fn prove(&self, acknowledged: &Acknowledged) -> Proof {
        let proof = prove(&self.store, acknowledged).unwrap();
        assert_eq!(proof.acknowledged_regions, acknowledged.regions.len() as u64);
        assert_eq!(proof.recovered + proof.lost, proof.acknowledged_regions);
        proof
    }

    /// The proof after the acknowledgement was changed.
    fn prove_doctored(&self, doctor: impl FnOnce(&mut Acknowledged)) -> Proof {
        let mut acknowledged = self.acknowledged.clone();
        doctor(&mut acknowledged);
        self.prove(&acknowledged)
    }

    /// The proof after a host's record was replaced, or removed.
    fn prove_tampered(&self, family: Family, key: &[u8], value: Option<&[u8]>) -> Proof {
        let storage = self.store.storage();
        let mut batch = storage.batch();
        match value {
            Some(value) => storage.put(&mut batch, family, key, value).unwrap(),
            None => storage.delete(&mut batch, family, key).unwrap(),
        }
        storage.write(batch, Durability::Synced).unwrap();
        self.prove(&self.acknowledged)
    }

    fn data(&self, region: RegionId) -> RegionData {
        let value = self.store.storage().get(Family::Default, &region_data_key(region)).unwrap().unwrap();
        RegionData::from_bytes(&value).unwrap()
    }

    /// A region that writer 1's last commit did not touch.
    fn region_at_rest(&self) -> RegionId {
        let at_rest = |id: &&RegionId| self.data(**id).commit != 3;
        *self.acknowledged.regions.keys().find(at_rest).unwrap()
    }

    /// A region of writer 1's last commit.
    fn region_just_changed(&self) -> RegionId {
        let just_changed = |id: &&RegionId| (self.data(**id).writer, self.data(**id).commit) == (1, 3);
        *self.acknowledged.regions.keys().find(just_changed).unwrap()
    }
}

/// Nothing is lost, and this is all that is wrong.
#[track_caller]
fn assert_only(proof: &Proof, violation: &str) {
    assert_eq!((proof.lost, proof.violations.count), (0, 1), "{proof:?}");
    assert!(proof.violations.first[0].contains(violation), "{proof:?}");
}

#[test]
fn an_honest_store_passes() {
    let honest = Honest::new();
    let proof = honest.prove(&honest.acknowledged);
    assert_eq!((proof.lost, proof.in_flight, proof.violations.count), (0, 0, 0), "{proof:?}");
    assert!(proof.recovered >= 10 && proof.acknowledged > proof.acknowledged_regions, "{proof:?}");
}

#[test]
fn a_commit_in_flight_passes() {
    let proof = Honest::new().prove_doctored(|acknowledged| {
        acknowledged.commits.insert(1, 2);
    });
    assert_eq!((proof.lost, proof.violations.count), (0, 0), "{proof:?}");
    assert!(proof.in_flight > 0);
}

#[test]
fn what_is_missing_or_older_is_lost() {
    let honest = Honest::new();
    let proof = honest.prove_doctored(|acknowledged| {
        let mark = *acknowledged.regions.values().next().unwrap();
        acknowledged.regions.insert(u64::MAX.into(), RegionMark { id: u64::MAX.into(), ..mark });
    });
    assert_eq!(proof.lost, 1, "an unknown region: {proof:?}");
    let older: [fn(&mut RegionMark); 3] = [
        |mark| mark.applied = mark.applied.next().unwrap(),
        |mark| mark.epoch.version += 1,
        |mark| mark.epoch.conf_ver += 1,
    ];
    for ahead in older {
        let proof = honest.prove_doctored(|acknowledged| ahead(acknowledged.regions.values_mut().next().unwrap()));
        assert_eq!(proof.lost, 1, "{proof:?}");
    }
}

#[test]
fn another_descriptor_than_the_acknowledged_one_is_found() {
    let proof = Honest::new().prove_doctored(|acknowledged| {
        acknowledged.regions.values_mut().next().unwrap().checksum ^= 1;
    });
    assert_only(&proof, "is not what was acknowledged");
}

#[test]
fn commits_that_are_missing_or_too_many_are_found() {
    let honest = Honest::new();
    for last in [1, 4, 5] {
        let proof = honest.prove_doctored(|acknowledged| {
            acknowledged.commits.insert(1, last);
        });
        assert_only(&proof, &format!("writer 1 acknowledged commit {last}"));
    }
    let proof = honest.prove_tampered(Family::Default, &commit_data_key(1), None);
    assert_only(&proof, "the store has (commit, regions) None");
}

#[test]
fn a_commit_that_is_half_there_is_found() {
    let honest = Honest::new();
    let key = commit_data_key(1);
    let value = honest.store.storage().get(Family::Default, &key).unwrap().unwrap();
    let (number, regions) = commit_from_bytes(&value).unwrap();
    let more = [number, regions + 1].map(u64::to_be_bytes).concat();
    assert_only(&honest.prove_tampered(Family::Default, &key, Some(&more)), "regions are there");
}

#[test]
fn a_missing_host_record_is_found() {
    let honest = Honest::new();
    let key = region_data_key(honest.region_at_rest());
    assert_only(&honest.prove_tampered(Family::Default, &key, None), "has no host data");
    let honest = Honest::new();
    let key = region_data_key(honest.region_just_changed());
    let proof = honest.prove_tampered(Family::Default, &key, None);
    assert_eq!(proof.violations.count, 2, "its commit is not whole either: {proof:?}");
}

#[test]
fn host_data_that_disagrees_is_found() {
    let disagreements: [fn(&mut RegionData); 3] =
        [|data| data.version += 1, |data| data.conf_ver += 1, |data| data.applied -= 1];
    for disagree in disagreements {
        let honest = Honest::new();
        let id = honest.region_at_rest();
        let mut data = honest.data(id);
        disagree(&mut data);
        let proof = honest.prove_tampered(Family::Default, &region_data_key(id), Some(&data.to_bytes()));
        assert_only(&proof, "stands beside host data");
    }
}

#[test]
fn stored_bytes_that_readers_do_not_see_are_found() {
    let honest = Honest::new();
    let key = layout::region_state_key(honest.region_at_rest());
    assert_only(&honest.prove_tampered(Family::Raft, &key, None), "the stored bytes of");
}
