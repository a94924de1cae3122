//! Every storage passes the same suite, and a host may put its own data into the batch.

use std::sync::Arc;

use regionmeta::PeerState;
use regionmeta_batch::records;
use regionmeta_batch::storage::fault::{Fault, FaultyStorage};
use regionmeta_batch::storage::{Durability, Family, RocksStorage, Storage, suite};
use rocksdb::{DB, Options};
use tempfile::TempDir;

use crate::common::{Disk, on_each_storage, region, stored_payload};

on_each_storage!(passes_the_suite, passes_the_suite_behind_a_fault_that_never_comes);

fn passes_the_suite(disk: &impl Disk) {
    suite::run(&disk.storage()).unwrap();
}

fn passes_the_suite_behind_a_fault_that_never_comes(disk: &impl Disk) {
    suite::run(&FaultyStorage::new(disk.storage(), 0, Fault::Lost)).unwrap();
}

/// A host's database with a family of its own, opened with everything that is required.
pub(crate) fn host_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_track_and_verify_wals_in_manifest(true);
    options
}

fn host_db(dir: &TempDir) -> Arc<DB> {
    Arc::new(DB::open_cf(&host_options(), dir.path(), ["default", "raft", "own"]).unwrap())
}

#[test]
fn an_attached_database_passes_the_suite() {
    let dir = TempDir::new().unwrap();
    suite::run(&RocksStorage::attach(host_db(&dir)).unwrap()).unwrap();
}

#[test]
fn host_data_and_metadata_share_one_rocksdb_batch() {
    let dir = TempDir::new().unwrap();
    let db = host_db(&dir);
    let storage = RocksStorage::attach(db.clone()).unwrap();
    let region = region(2, "", "");

    let mut batch = rocksdb::WriteBatch::default();
    batch.put_cf(db.cf_handle("own").unwrap(), b"host key", b"host value");
    let stored = records::write_peer_state(&storage, &mut batch, &region, PeerState::Normal, None).unwrap();
    assert!(stored.same_buffer(&region), "I6: a region that is stored as it is is not built again");
    assert_eq!(db.get_cf(db.cf_handle("own").unwrap(), b"host key").unwrap(), None);
    db.write(batch).unwrap();

    assert_eq!(stored_payload(&storage, region.id()), region.as_bytes());
    drop((storage, db));
    let db = host_db(&dir);
    assert_eq!(db.get_cf(db.cf_handle("own").unwrap(), b"host key").unwrap().unwrap(), b"host value");
    assert_eq!(stored_payload(&RocksStorage::attach(db).unwrap(), region.id()), region.as_bytes());
}

/// The suite itself must be able to fail: here a value is visible before its batch is written.
#[test]
#[should_panic(expected = "assertion")]
fn the_suite_refuses_a_storage_that_shows_a_batch_too_early() {
    let disk = crate::common::Mem::empty();
    let mut batch = disk.storage().batch();
    disk.storage().put(&mut batch, Family::Raft, b"invisible", b"0").unwrap();
    disk.storage().write(batch, Durability::Synced).unwrap();
    suite::run(&disk.storage()).unwrap();
}
