//! Where records are kept: one trait, two implementations, one conformance suite.
//!
//! A [`Storage`] is an ordered map of bytes in two column families with atomic batches. [`RocksStorage`] is the real one;
//! [`MemStorage`] exists for fault injection and for tests without C++. Whatever `suite` (feature `testkit`) demands holds
//! for both.

#[cfg(feature = "testkit")]
pub mod fault;
mod mem;
#[cfg(feature = "rocksdb")]
mod owner;
#[cfg(feature = "rocksdb")]
mod rocks;
#[cfg(feature = "testkit")]
pub mod suite;

use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;

#[cfg(feature = "rocksdb")]
use regionmeta::Key;
use regionmeta::{KeyBuf, KeyRange};

pub use self::mem::MemStorage;
#[cfg(feature = "rocksdb")]
pub use self::rocks::RocksStorage;

/// The column families that hold metadata. Their names are TiKV's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// `default`: the store's identity, a bootstrap that has not finished, and the host's data.
    Default,
    /// `raft`: region states, apply states, and raft states if the host keeps no log engine of its own.
    Raft,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 2] = [Self::Default, Self::Raft];

    /// The name in RocksDB.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Raft => "raft",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How durable a write is when it returns.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Durability {
    /// It survives a power loss: the log was synced.
    #[default]
    Synced,
    /// It survives the end of the process, not of the machine. After a power loss the store is an earlier whole prefix.
    Buffered,
}

/// What a scan calls for each record, with its key and value; it breaks to stop.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// An ordered, atomic, durable map of bytes.
///
/// All methods may be called from any thread. After `write` returned an error the outcome of that batch is unknown; the
/// caller stops writing (I14).
pub trait Storage: Send + Sync + fmt::Debug + 'static {
    /// Mutations that are written together. With RocksDB it is `rocksdb::WriteBatch`, so that a host can add its own.
    type Batch: Send;

    /// An empty batch.
    fn batch(&self) -> Self::Batch;

    /// Adds a put to a batch.
    ///
    /// # Errors
    /// [`StorageError`] if the family is gone.
    fn put(&self, batch: &mut Self::Batch, family: Family, key: &[u8], value: &[u8]) -> Result<(), StorageError>;

    /// Adds a delete to a batch.
    ///
    /// # Errors
    /// [`StorageError`] if the family is gone.
    fn delete(&self, batch: &mut Self::Batch, family: Family, key: &[u8]) -> Result<(), StorageError>;

    /// About how many bytes are in a batch. O(1).
    fn batch_bytes(&self, batch: &Self::Batch) -> usize;

    /// Writes a batch: all of it or nothing, after the batches before it.
    ///
    /// # Errors
    /// [`StorageError::Backend`]; the outcome is then unknown.
    fn write(&self, batch: Self::Batch, durability: Durability) -> Result<(), StorageError>;

    /// The value of a key.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be read.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// Visits the records of a range in key order until the visitor breaks. It sees one consistent state.
    ///
    /// # Errors
    /// [`StorageError`] if the range cannot be read to its end.
    fn scan(&self, family: Family, range: KeyRange<'_>, visit: &mut Visit<'_>) -> Result<(), StorageError>;

    /// Makes every batch so far survive a power loss.
    ///
    /// # Errors
    /// [`StorageError::Backend`]; it is then unknown which of them do.
    fn sync(&self) -> Result<(), StorageError>;
}

/// A storage that cannot be opened, read or written. Each says where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum StorageError {
    #[error("{path}: no such directory; bootstrap creates one, open does not")]
    NoDirectory { path: PathBuf },
    #[error("{path} is not a directory")]
    NotADirectory { path: PathBuf },
    #[error("{path} is a symbolic link: name the directory itself")]
    SymbolicLink { path: PathBuf },
    #[error("{path} belongs to user {owner}, this process runs as user {user}")]
    ForeignOwner { path: PathBuf, owner: u32, user: u32 },
    #[error("{path} may be written by everybody (mode {mode:o}): chmod it to 0700")]
    WorldWritable { path: PathBuf, mode: u32 },
    #[error("{path}: cannot {action}: {source}")]
    Io { path: PathBuf, action: &'static str, source: std::io::Error },
    #[error("{path} is in use by another open store, here or in another process")]
    InUse { path: PathBuf },
    #[error("{path} holds no store: it has no RocksDB in it; bootstrap makes one")]
    NoStore { path: PathBuf },
    #[error("{path} holds the RocksDB of another program: it has no column family raft; choose another directory")]
    ForeignDatabase { path: PathBuf },
    #[error("{path}: column family {family} is not open; open the database with it (`DB::open_cf`) before attaching")]
    MissingFamily { path: PathBuf, family: &'static str },
    #[error("{path}: option {option} is {found}, but crash safety needs {required}: set it before opening")]
    UnsafeOption { path: PathBuf, option: &'static str, found: String, required: String },
    #[error(
        "{path}: damaged at byte {offset}, and not by a write that was cut off: what was written from there on would be lost; \
         restore the file, or this store from other replicas"
    )]
    DamagedLog { path: PathBuf, offset: u64 },
    #[error("cannot {action} in {location}: {cause}")]
    Backend { action: &'static str, location: String, cause: String },
}

#[cfg(feature = "rocksdb")]
impl StorageError {
    /// An error of the backend about one key.
    fn at_key(action: &'static str, family: Family, key: &[u8], cause: impl fmt::Display) -> Self {
        Self::Backend { action, location: format!("family {family} at {}", Key(key)), cause: cause.to_string() }
    }
}

/// A stored value together with its key, for errors that must name where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordAt {
    /// In which family.
    pub family: Family,
    /// Under which key.
    pub key: KeyBuf,
}

impl fmt::Display for RecordAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} in family {}", self.key, self.family)
    }
}
