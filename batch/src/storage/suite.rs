//! What every storage must do. A storage of your own passes [`run`] on an empty instance, or it is not one.

use std::ops::ControlFlow;

use regionmeta::KeyRange;

use super::{Durability, Family, Storage, StorageError};

/// Runs every check on an empty storage.
///
/// # Errors
/// [`StorageError`] from the storage itself.
///
/// # Panics
/// When the storage answers anything but what the trait promises.
pub fn run<S: Storage>(storage: &S) -> Result<(), StorageError> {
    a_batch_is_invisible_until_written(storage)?;
    the_last_mutation_of_a_key_wins(storage)?;
    families_are_apart(storage)?;
    a_scan_is_ordered_bounded_and_stoppable(storage)?;
    a_scan_sees_one_state(storage)?;
    an_empty_batch_may_be_written(storage)
}

fn put<S: Storage>(storage: &S, family: Family, records: &[(&[u8], &[u8])]) -> Result<(), StorageError> {
    let mut batch = storage.batch();
    for (key, value) in records {
        storage.put(&mut batch, family, key, value)?;
    }
    storage.write(batch, Durability::Buffered)
}

fn keys<S: Storage>(storage: &S, family: Family, range: KeyRange<'_>) -> Result<Vec<Vec<u8>>, StorageError> {
    let mut keys = Vec::new();
    storage.scan(family, range, &mut |key, _| {
        keys.push(key.to_vec());
        ControlFlow::Continue(())
    })?;
    Ok(keys)
}

fn a_batch_is_invisible_until_written<S: Storage>(storage: &S) -> Result<(), StorageError> {
    let mut batch = storage.batch();
    storage.put(&mut batch, Family::Raft, b"invisible", b"1")?;
    assert_eq!(storage.get(Family::Raft, b"invisible")?, None);
    storage.write(batch, Durability::Synced)?;
    assert_eq!(storage.get(Family::Raft, b"invisible")?, Some(b"1".to_vec()));
    let mut batch = storage.batch();
    storage.delete(&mut batch, Family::Raft, b"invisible")?;
    assert_eq!(storage.get(Family::Raft, b"invisible")?, Some(b"1".to_vec()));
    storage.write(batch, Durability::Synced)?;
    assert_eq!(storage.get(Family::Raft, b"invisible")?, None);
    Ok(())
}

fn the_last_mutation_of_a_key_wins<S: Storage>(storage: &S) -> Result<(), StorageError> {
    let mut batch = storage.batch();
    storage.delete(&mut batch, Family::Raft, b"twice")?;
    storage.put(&mut batch, Family::Raft, b"twice", b"1")?;
    storage.put(&mut batch, Family::Raft, b"twice", b"2")?;
    storage.put(&mut batch, Family::Raft, b"gone", b"1")?;
    storage.delete(&mut batch, Family::Raft, b"gone")?;
    storage.write(batch, Durability::Buffered)?;
    assert_eq!(storage.get(Family::Raft, b"twice")?, Some(b"2".to_vec()));
    assert_eq!(storage.get(Family::Raft, b"gone")?, None);
    Ok(())
}

fn families_are_apart<S: Storage>(storage: &S) -> Result<(), StorageError> {
    let mut batch = storage.batch();
    storage.put(&mut batch, Family::Default, b"families", b"default")?;
    storage.put(&mut batch, Family::Raft, b"families", b"raft")?;
    storage.write(batch, Durability::Buffered)?;
    assert_eq!(storage.get(Family::Default, b"families")?, Some(b"default".to_vec()));
    assert_eq!(storage.get(Family::Raft, b"families")?, Some(b"raft".to_vec()));
    Ok(())
}

fn a_scan_is_ordered_bounded_and_stoppable<S: Storage>(storage: &S) -> Result<(), StorageError> {
    put(storage, Family::Raft, &[(b"s3", b""), (b"s1", b""), (b"s\xff", b""), (b"s2", b"value"), (b"s", b"")])?;
    let range = |start, end| KeyRange::from_wire(start, end);
    assert_eq!(keys(storage, Family::Raft, range(b"s1", b"s3"))?, [b"s1", b"s2"]);
    assert_eq!(keys(storage, Family::Raft, range(b"s3", b"t"))?, [b"s3", b"s\xff"]);
    assert_eq!(keys(storage, Family::Raft, range(b"s3", b"s3"))?, [[0u8; 0]; 0]);
    assert_eq!(keys(storage, Family::Raft, range(b"s3", b"s1"))?, [[0u8; 0]; 0]);
    assert!(keys(storage, Family::Raft, KeyRange::ALL)?.is_sorted());
    let mut seen = 0;
    storage.scan(Family::Raft, range(b"s", b"t"), &mut |_, _| {
        seen += 1;
        ControlFlow::Break(())
    })?;
    assert_eq!(seen, 1);
    Ok(())
}

fn a_scan_sees_one_state<S: Storage>(storage: &S) -> Result<(), StorageError> {
    put(storage, Family::Raft, &[(b"v1", b"old"), (b"v2", b"old")])?;
    let mut seen = Vec::new();
    let mut written = Ok(());
    storage.scan(Family::Raft, KeyRange::from_wire(b"v", b"w"), &mut |_, value| {
        seen.push(value.to_vec());
        if seen.len() == 1 {
            written = put(storage, Family::Raft, &[(b"v2", b"new"), (b"v3", b"new")]);
        }
        ControlFlow::Continue(())
    })?;
    written?;
    assert_eq!(seen, [b"old", b"old"]);
    assert_eq!(storage.get(Family::Raft, b"v2")?, Some(b"new".to_vec()));
    Ok(())
}

fn an_empty_batch_may_be_written<S: Storage>(storage: &S) -> Result<(), StorageError> {
    storage.write(storage.batch(), Durability::Synced)?;
    storage.write(storage.batch(), Durability::Buffered)?;
    storage.sync()
}
