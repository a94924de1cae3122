//! [`RocksStorage`]: metadata in RocksDB. With its folder, the only place that names `rocksdb`.

mod logs;
mod options;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use regionmeta::{EndKey, KeyRange};
use rocksdb::{ColumnFamilyDescriptor, DB, Options, ReadOptions, WriteBatch, WriteOptions};

use super::owner::{self, Owner};
use super::{Durability, Family, Storage, StorageError, Visit};

/// A file that every RocksDB directory has.
const ROCKSDB_MARKER: &str = "CURRENT";
const SCAN_READAHEAD_BYTES: usize = 2 * 1024 * 1024;

/// Metadata in a RocksDB of its own, or in the host's.
///
/// One handle owns a directory; a second one, in this process or another, gets [`StorageError::InUse`] (I15).
pub struct RocksStorage {
    db: Arc<DB>,
    _owner: Owner,
}

impl RocksStorage {
    /// Opens the store in an existing directory. Creates nothing: a database without the column families of a store is left
    /// as it is.
    ///
    /// # Errors
    /// [`StorageError`]: no directory, no RocksDB in it, no rights, in use, damaged logs, an unsafe option, or
    /// RocksDB's own refusal.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, StorageError> {
        owner::check_directory(path)?;
        if !is_database(path) {
            return Err(StorageError::NoStore { path: path.to_owned() });
        }
        Self::open_owned(path, durability, false)
    }

    /// Opens the store in a directory, and creates both if they are not there. The directory is created for this user only;
    /// its parent must exist.
    ///
    /// # Errors
    /// [`StorageError`], as for [`open`](Self::open).
    pub fn create(path: &Path, durability: Durability) -> Result<Self, StorageError> {
        owner::create_directory(path)?;
        owner::check_directory(path)?;
        Self::open_owned(path, durability, true)
    }

    fn open_owned(path: &Path, durability: Durability, creating: bool) -> Result<Self, StorageError> {
        // Another program's directory does not even get a lock file.
        let is_known = owner::was_owned(path);
        if !is_known && is_database(path) {
            check_ours(path, creating)?;
        }
        let owner = Owner::of(path)?;
        logs::check(path, durability)?;
        if is_known && is_database(path) {
            check_ours(path, creating)?;
        }
        let mut options = options::safe(durability);
        options.create_if_missing(creating);
        options.create_missing_column_families(creating);
        if is_database(path) && logs::none(path)? {
            // Logs that are verified must have a first one, which opening makes.
            drop(open_families(path, &options)?);
        }
        let db = open_families(path, &options::with_chained_logs(options)?)?;
        Self::checked(Arc::new(db), owner)
    }

    /// Attaches to the host's own database, which must have a column family named `raft` beside `default`. The host goes on
    /// using the database; metadata and host data can share one batch.
    ///
    /// Whoever opened the database has read its logs: what [`open`](Self::open) refuses of their damage, and the option
    /// `track_and_verify_wals`, are the host's to see to (docs/reliability.md).
    ///
    /// # Errors
    /// [`StorageError::MissingFamily`], [`StorageError::UnsafeOption`] naming the option, or [`StorageError::InUse`] if
    /// another store is attached to the same directory.
    pub fn attach(db: Arc<DB>) -> Result<Self, StorageError> {
        let owner = Owner::of(db.path())?;
        Self::checked(db, owner)
    }

    fn checked(db: Arc<DB>, owner: Owner) -> Result<Self, StorageError> {
        for family in Family::ALL {
            if db.cf_handle(family.name()).is_none() {
                return Err(StorageError::MissingFamily { path: db.path().to_owned(), family: family.name() });
            }
        }
        options::check(db.path())?;
        Ok(Self { db, _owner: owner })
    }

    /// The database, for the host's own reads and column families. A host that keeps it for longer than the store keeps the
    /// directory from being opened again: RocksDB's own lock is then still held.
    #[must_use]
    pub fn db(&self) -> &Arc<DB> {
        &self.db
    }
}

fn is_database(path: &Path) -> bool {
    path.join(ROCKSDB_MARKER).exists()
}

fn open_families(path: &Path, options: &Options) -> Result<DB, StorageError> {
    let families = Family::ALL.map(|family| ColumnFamilyDescriptor::new(family.name(), options::family(family)));
    DB::open_cf_descriptors(options, path, families).map_err(|error| backend("open", path, &error))
}

/// Refuses another program's database before anything in it is changed: opening it with a family of ours would make it
/// unusable for that program. What an interrupted creation left is ours: the default family alone, and empty.
fn check_ours(path: &Path, creating: bool) -> Result<(), StorageError> {
    let options = Options::default();
    let families = DB::list_cf(&options, path).map_err(|error| backend("list the column families", path, &error))?;
    if families.iter().any(|family| family == Family::Raft.name()) {
        return Ok(());
    }
    let foreign = || StorageError::ForeignDatabase { path: path.to_owned() };
    if !creating || families != [Family::Default.name()] {
        return Err(foreign());
    }
    let db = DB::open_for_read_only(&options, path, false).map_err(|error| backend("look into", path, &error))?;
    let mut first = db.raw_iterator();
    first.seek_to_first();
    if first.valid() { Err(foreign()) } else { first.status().map_err(|error| backend("look into", path, &error)) }
}

/// Runs an expression with the handle of a family, or returns the error that it is gone. A macro, because the handle's type
/// depends on a feature of the `rocksdb` crate that the host chooses.
macro_rules! with_family {
    ($self:ident, $family:expr, |$handle:ident| $body:expr) => {{
        let family: Family = $family;
        match $self.db.cf_handle(family.name()) {
            Some(handle) => {
                let $handle = &handle;
                $body
            }
            None => {
                return Err(StorageError::MissingFamily { path: $self.db.path().to_owned(), family: family.name() });
            }
        }
    }};
}

impl Storage for RocksStorage {
    type Batch = WriteBatch;

    fn batch(&self) -> WriteBatch {
        WriteBatch::default()
    }

    fn put(&self, batch: &mut WriteBatch, family: Family, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        with_family!(self, family, |handle| batch.put_cf(handle, key, value));
        Ok(())
    }

    fn delete(&self, batch: &mut WriteBatch, family: Family, key: &[u8]) -> Result<(), StorageError> {
        with_family!(self, family, |handle| batch.delete_cf(handle, key));
        Ok(())
    }

    fn batch_bytes(&self, batch: &WriteBatch) -> usize {
        batch.size_in_bytes()
    }

    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StorageError> {
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        self.db.write_opt(batch, &options).map_err(|error| backend("write a batch", self.db.path(), &error))
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        with_family!(self, family, |handle| self
            .db
            .get_cf(handle, key)
            .map_err(|error| StorageError::at_key("read", family, key, error)))
    }

    fn scan(&self, family: Family, range: KeyRange<'_>, visit: &mut Visit<'_>) -> Result<(), StorageError> {
        if range.is_empty() {
            return Ok(());
        }
        let mut options = ReadOptions::default();
        if let EndKey::Finite(end) = range.end {
            options.set_iterate_upper_bound(end);
        }
        options.set_total_order_seek(true);
        options.fill_cache(false);
        options.set_readahead_size(SCAN_READAHEAD_BYTES);
        let mut at = with_family!(self, family, |handle| self.db.raw_iterator_cf_opt(handle, options));
        at.seek(range.start);
        while let Some((key, value)) = at.item() {
            if visit(key, value).is_break() {
                return Ok(());
            }
            at.next();
        }
        // The iterator stops at a damaged block as it does at the end: only its status tells them apart.
        at.status().map_err(|error| StorageError::at_key("scan", family, range.start, error))
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.db.flush_wal(true).map_err(|error| backend("sync the log", self.db.path(), &error))
    }
}

impl fmt::Debug for RocksStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksStorage").field("path", &self.db.path()).finish_non_exhaustive()
    }
}

fn backend(action: &'static str, path: &Path, error: &rocksdb::Error) -> StorageError {
    StorageError::Backend { action, location: path.display().to_string(), cause: error.to_string() }
}
