//! A host's database is attached only if its options keep what crash safety rests on (known-bugs, RocksDB options).

use std::sync::Arc;

use regionmeta_batch::storage::{RocksStorage, StorageError};
use rocksdb::{DB, Options};
use tempfile::TempDir;

use crate::storage::host_options;

fn attach(families: &[&str], change: impl FnOnce(&mut Options)) -> Result<RocksStorage, StorageError> {
    let dir = TempDir::new().unwrap();
    let mut options = host_options();
    change(&mut options);
    RocksStorage::attach(Arc::new(DB::open_cf(&options, dir.path(), families).unwrap()))
}

#[track_caller]
fn assert_refused(named: &str, change: impl FnOnce(&mut Options)) {
    let error = attach(&["default", "raft"], change).unwrap_err();
    assert!(matches!(error, StorageError::UnsafeOption { option, .. } if option == named), "{error}");
    assert!(error.to_string().contains(named), "{error}");
}

#[test]
fn a_database_with_the_required_options_is_attached() {
    attach(&["default", "raft"], |_| {}).unwrap();
}

#[test]
fn manual_wal_flush_is_refused() {
    assert_refused("manual_wal_flush", |options| options.set_manual_wal_flush(true));
}

#[test]
fn wal_bytes_per_sync_is_refused() {
    assert_refused("wal_bytes_per_sync", |options| options.set_wal_bytes_per_sync(1 << 20));
}

#[test]
fn recycled_logs_are_refused() {
    // RocksDB takes this option back by itself in the recovery modes in which it would lose data.
    assert_refused("recycle_log_file_num", |options| {
        options.set_wal_recovery_mode(rocksdb::DBRecoveryMode::SkipAnyCorruptedRecord);
        options.set_recycle_log_file_num(2);
    });
}

#[test]
fn checks_that_are_off_are_refused() {
    assert_refused("paranoid_checks", |options| options.set_paranoid_checks(false));
}

#[test]
fn untracked_logs_are_refused() {
    assert_refused("track_and_verify_wals_in_manifest", |options| {
        options.set_track_and_verify_wals_in_manifest(false);
    });
}

#[test]
fn unordered_writes_are_refused() {
    assert_refused("unordered_write", |options| {
        options.set_unordered_write(true);
    });
}

#[test]
fn skipping_damaged_log_records_is_refused() {
    let mode = rocksdb::DBRecoveryMode::SkipAnyCorruptedRecord;
    assert_refused("wal_recovery_mode", |options| options.set_wal_recovery_mode(mode));
}

#[test]
fn a_missing_family_is_named() {
    let error = attach(&["default"], |_| {}).unwrap_err();
    assert!(matches!(error, StorageError::MissingFamily { family: "raft", .. }), "{error}");
}
