//! The data that this host keeps for its regions: keys and values in the family `default`, behind the prefix that keeps them
//! apart from the store's own records.

use std::ops::ControlFlow;

use regionmeta::layout::{data_end_key, data_key};
use regionmeta::{EndKey, KeyRange};
use regionmeta_batch::storage::{Durability, Family, RocksStorage, Storage};

use super::Done;

/// Stored keys with their values, in order.
pub(crate) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

pub(crate) fn read(storage: &RocksStorage, key: &[u8]) -> Done<Option<Vec<u8>>> {
    Ok(storage.get(Family::Default, &data_key(key))?)
}

pub(crate) fn pairs(storage: &RocksStorage, range: KeyRange<'_>) -> Done<Pairs> {
    let mut found = Pairs::new();
    let (start, end) = (data_key(range.start), data_end_key(range.end));
    storage.scan(Family::Default, KeyRange::new(&start, EndKey::Finite(&end)), &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Puts these pairs in place of all that a range holds, in one batch. Doing it again changes nothing.
pub(crate) fn replace(storage: &RocksStorage, range: KeyRange<'_>, with: &Pairs) -> Done {
    let mut batch = storage.batch();
    for (key, _) in pairs(storage, range)? {
        storage.delete(&mut batch, Family::Default, &key)?;
    }
    for (key, value) in with {
        storage.put(&mut batch, Family::Default, key, value)?;
    }
    Ok(storage.write(batch, Durability::Synced)?)
}

pub(crate) fn delete(storage: &RocksStorage, range: KeyRange<'_>) -> Done {
    replace(storage, range, &Pairs::new())
}
