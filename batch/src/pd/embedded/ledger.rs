//! [`Ledger`]: where a driver keeps what it must not forget, in any [`Storage`].
//!
//! Regions are stored as everywhere in this project. The driver's own small records have a key `01 10` and a kind in family
//! `default`, and a value of 12 bytes header (magic, version, kind, CRC32C over key and value) and the content: numbers
//! little-endian, text to the end.

use std::ops::ControlFlow;

use regionmeta::layout::{REGION_META_RANGE, region_state_key};
use regionmeta::{ClusterId, EndKey, KeyBuf, KeyRange, Refusal, Region, RegionId, StoreId};

use super::super::StoreInfo;
use crate::records::{self, ReadError};
use crate::storage::{Durability, Family, Storage, StorageError};

const PREFIX: [u8; 2] = [0x01, 0x10];
const PREFIX_END: [u8; 2] = [0x01, 0x11];
const MAGIC: [u8; 4] = *b"RGPD";
const VERSION: u16 = 1;
/// Magic, version and kind; the checksum follows.
const COVERED_BYTES: usize = 8;

/// The kinds of record. A store's key goes on with its id, big-endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Kind {
    Cluster = 1,
    Ids = 2,
    Bootstrapped = 3,
    Store = 4,
}

/// Something to be kept.
#[derive(Clone, Copy, Debug)]
pub(super) enum Save<'a> {
    /// The driver belongs to a cluster.
    Cluster(ClusterId),
    /// No id above this one was handed out.
    Ids(u64),
    /// The cluster is bootstrapped.
    Bootstrapped,
    /// A store registered.
    Store(&'a StoreInfo),
    /// A region is as this.
    Region(&'a Region),
    /// A region is no longer there.
    Forget(RegionId),
}

/// A directory that is no placement driver's, or is damaged. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum OpenPdError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Record(#[from] ReadError),
    #[error("the storage belongs to cluster {found}, not to {expected}")]
    ForeignCluster { expected: ClusterId, found: ClusterId },
    #[error("the storage is no placement driver's, and is not empty: it begins with {first_key}")]
    NotEmpty { first_key: KeyBuf },
    #[error("record {key}: {what}")]
    Damaged { key: KeyBuf, what: &'static str },
    #[error("the stored regions contradict each other: {0}")]
    Regions(#[from] Refusal),
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) last_id: u64,
    pub(super) bootstrapped: bool,
    pub(super) stores: Vec<StoreInfo>,
    pub(super) regions: Vec<Region>,
}

/// Writes records together.
pub(super) trait Ledger: Send + Sync + std::fmt::Debug {
    /// All of it, or nothing. After an error the outcome is unknown.
    fn save(&self, saves: &[Save<'_>], durability: Durability) -> Result<(), StorageError>;
}

#[derive(Debug)]
pub(super) struct StorageLedger<S>(pub(super) S);

impl<S: Storage> Ledger for StorageLedger<S> {
    fn save(&self, saves: &[Save<'_>], durability: Durability) -> Result<(), StorageError> {
        let mut batch = self.0.batch();
        for save in saves {
            self.put(&mut batch, save)?;
        }
        self.0.write(batch, durability)
    }
}

impl<S: Storage> StorageLedger<S> {
    fn put(&self, batch: &mut S::Batch, save: &Save<'_>) -> Result<(), StorageError> {
        let (kind, store, content) = match save {
            Save::Region(region) => {
                return records::put(&self.0, batch, Family::Raft, &region_state_key(region.id()), *region);
            }
            Save::Forget(id) => return self.0.delete(batch, Family::Raft, &region_state_key(*id)),
            Save::Cluster(id) => (Kind::Cluster, None, id.get().to_le_bytes().to_vec()),
            Save::Ids(last) => (Kind::Ids, None, last.to_le_bytes().to_vec()),
            Save::Bootstrapped => (Kind::Bootstrapped, None, Vec::new()),
            Save::Store(store) => (Kind::Store, Some(store.id), store.address.clone().into_bytes()),
        };
        let key = key_of(kind, store);
        self.0.put(batch, Family::Default, &key, &seal(kind, &key, &content))
    }

    /// Opens the ledger of a cluster, or begins it in an empty storage.
    pub(super) fn load(&self, cluster: ClusterId) -> Result<Found, OpenPdError> {
        let Some(found) = self.read(Kind::Cluster)? else {
            self.check_empty()?;
            self.save(&[Save::Cluster(cluster)], Durability::Synced)?;
            return Ok(Found::default());
        };
        if found != cluster.get() {
            return Err(OpenPdError::ForeignCluster { expected: cluster, found: found.into() });
        }
        Ok(Found {
            last_id: self.read(Kind::Ids)?.unwrap_or(0),
            bootstrapped: self.is_marked(Kind::Bootstrapped)?,
            stores: self.stores()?,
            regions: self.regions()?,
        })
    }

    fn check_empty(&self) -> Result<(), OpenPdError> {
        for family in Family::ALL {
            let mut first: Option<KeyBuf> = None;
            self.0.scan(family, KeyRange::ALL, &mut |key, _| {
                first = Some(key.into());
                ControlFlow::Break(())
            })?;
            if let Some(first_key) = first {
                return Err(OpenPdError::NotEmpty { first_key });
            }
        }
        Ok(())
    }

    fn read(&self, kind: Kind) -> Result<Option<u64>, OpenPdError> {
        let key = key_of(kind, None);
        let Some(value) = self.0.get(Family::Default, &key)? else { return Ok(None) };
        let content = open(kind, &key, &value)?;
        let number = content.try_into().map_err(|_| damaged(&key, "its content is not eight bytes"))?;
        Ok(Some(u64::from_le_bytes(number)))
    }

    /// Whether a record is there that has no content.
    fn is_marked(&self, kind: Kind) -> Result<bool, OpenPdError> {
        let key = key_of(kind, None);
        let Some(value) = self.0.get(Family::Default, &key)? else { return Ok(false) };
        match open(kind, &key, &value)? {
            [] => Ok(true),
            _ => Err(damaged(&key, "it has a content")),
        }
    }

    fn stores(&self) -> Result<Vec<StoreInfo>, OpenPdError> {
        let mut stores = Vec::new();
        self.scan(Family::Default, KeyRange::new(&PREFIX, EndKey::Finite(&PREFIX_END)), |key, value| {
            if key.get(2) == Some(&(Kind::Store as u8)) {
                stores.push(decode_store(key, value)?);
            }
            Ok(())
        })?;
        Ok(stores)
    }

    fn regions(&self) -> Result<Vec<Region>, OpenPdError> {
        let mut regions = Vec::new();
        self.scan(Family::Raft, REGION_META_RANGE, |key, value| {
            regions.push(records::decode(Family::Raft, key, value)?);
            Ok(())
        })?;
        Ok(regions)
    }

    fn scan(
        &self,
        family: Family,
        range: KeyRange<'_>,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), OpenPdError>,
    ) -> Result<(), OpenPdError> {
        let mut outcome = Ok(());
        self.0.scan(family, range, &mut |key, value| {
            outcome = visit(key, value);
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        outcome
    }
}

fn key_of(kind: Kind, store: Option<StoreId>) -> Vec<u8> {
    let mut key = PREFIX.to_vec();
    key.push(kind as u8);
    key.extend(store.into_iter().flat_map(|store| store.get().to_be_bytes()));
    key
}

fn decode_store(key: &[u8], value: &[u8]) -> Result<StoreInfo, OpenPdError> {
    let content = open(Kind::Store, key, value)?;
    let id = key.get(3..).and_then(|id| id.try_into().ok()).map(u64::from_be_bytes);
    let id = id.filter(|&id| id > 0).ok_or_else(|| damaged(key, "it names no store"))?;
    let address = std::str::from_utf8(content).map_err(|_| damaged(key, "the address is not text"))?;
    Ok(StoreInfo { id: id.into(), address: address.to_owned() })
}

fn seal(kind: Kind, key: &[u8], content: &[u8]) -> Vec<u8> {
    let [v0, v1] = VERSION.to_le_bytes();
    let [m0, m1, m2, m3] = MAGIC;
    let header = [m0, m1, m2, m3, v0, v1, kind as u8, 0];
    let checksum = checksum(key, &header, content).to_le_bytes();
    [&header, checksum.as_slice(), content].concat()
}

/// Damage is found before anything is believed.
fn open<'a>(kind: Kind, key: &[u8], value: &'a [u8]) -> Result<&'a [u8], OpenPdError> {
    let cut = || damaged(key, "it was cut off");
    let (header, rest) = value.split_first_chunk::<COVERED_BYTES>().ok_or_else(cut)?;
    let (stored, content) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
    if u32::from_le_bytes(*stored) != checksum(key, header, content) {
        return Err(damaged(key, "the checksum does not match"));
    }
    let [m0, m1, m2, m3, v0, v1, found, reserved] = *header;
    match () {
        () if [m0, m1, m2, m3] != MAGIC => Err(damaged(key, "it is no record of a placement driver")),
        () if u16::from_le_bytes([v0, v1]) != VERSION => Err(damaged(key, "it is of another format version")),
        () if (found, reserved) != (kind as u8, 0) => Err(damaged(key, "it is of another kind")),
        () => Ok(content),
    }
}

fn checksum(key: &[u8], header: &[u8], content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(key), header), content)
}

fn damaged(key: &[u8], what: &'static str) -> OpenPdError {
    OpenPdError::Damaged { key: key.into(), what }
}
