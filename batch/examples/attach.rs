//! A host that has a RocksDB already: metadata moves in beside the host's own column families, and one batch holds both.
//!
//! The host here keeps accounts. It brings a database that it opened itself; metadata lives in the families `raft` and
//! `default`, in which a host that attaches for the first time has nothing. All other families are the host's alone.
//!
//! `cargo run --example attach`

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use crossbeam::channel;
use regionmeta::{
    AdminCommand, AdminHeader, AdminRequest, BatchSplit, ClusterId, LogPosition, Region, RegionEpoch, SplitRequest,
};
use regionmeta_batch::apply::{Answer, AnswerError, ApplyPool, ApplySettings, ChannelHost, Data, Entry};
use regionmeta_batch::pd::{EmbeddedPd, PdClient};
use regionmeta_batch::storage::{RocksStorage, StorageError};
use regionmeta_batch::{Store, StoreBuilder};
use rocksdb::{DB, Options, WriteBatch};

type Done<T = ()> = Result<T, Box<dyn Error>>;
type HostEntry = Entry<RocksStorage, &'static str>;

const CLUSTER: ClusterId = ClusterId::new(7);
const ACCOUNTS: &str = "accounts";
const JOURNAL: &str = "journal";

/// Everything that the example shows; an error if anything is not as it says.
pub fn main() -> Done {
    let directory = tempfile::tempdir()?;
    let child = first_start(directory.path())?;
    second_start(directory.path(), &child)
}

/// The host's own way to open its database. What crash safety rests on is checked when the store attaches: with RocksDB's
/// defaults, the last option is all that a host has to set.
fn open_database(path: &Path) -> Result<Arc<DB>, rocksdb::Error> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_track_and_verify_wals_in_manifest(true);
    Ok(Arc::new(DB::open_cf(&options, path, ["default", "raft", ACCOUNTS, JOURNAL])?))
}

/// Attaches to a database that is in use, and splits its one region. Returns the new region.
fn first_start(path: &Path) -> Done<Region> {
    let db = open_database(path)?;
    db.put_cf(family(&db, ACCOUNTS)?, b"alice", b"10")?; // the host was there first

    let pd = EmbeddedPd::new(CLUSTER);
    let store = Arc::new(StoreBuilder::new(CLUSTER).bootstrap_storage(RocksStorage::attach(db.clone())?, &pd)?);
    let whole = store.meta().snapshot().locate(b"zoe").ok_or("no region")?.region().clone();
    let host = Host::over(&store)?;

    let last = db.latest_sequence_number();
    host.apply(&whole, split_with_data(&whole, &pd)?)?.result?;
    check(db.get_updates_since(last)?.count() == 1, "the split, both families and the apply state are one batch")?;
    check(read(&db, JOURNAL, b"6")?.as_deref() == Some(b"split"), "the journal has the split")?;

    let refused = host.apply(&whole, write(7, whole.epoch(), b"bob", b"13"))?.result;
    check(matches!(refused, Err(AnswerError::EpochNotMatch { .. })), "who did not hear of the split is refused")?;
    check(read(&db, ACCOUNTS, b"bob")?.is_none(), "what was refused left no data")?;

    host.pool.shut_down();
    let child = store.meta().snapshot().locate(b"zoe").ok_or("no child")?.region().clone();
    check(child.id() != whole.id(), "the new region owns the key")?;
    Arc::into_inner(store).ok_or("the store is still in use")?.close()?;
    Ok(child)
}

/// Opens the same database again: the host reads its data, the store recovers its metadata.
fn second_start(path: &Path, child: &Region) -> Done {
    let db = open_database(path)?;
    let store = StoreBuilder::new(CLUSTER).open_storage(RocksStorage::attach(db.clone())?)?;
    let found = store.meta().snapshot().locate(b"zoe").ok_or("no region after reopening")?.region().clone();
    check(found == *child, "the region is as it was")?;
    check(read(&db, ACCOUNTS, b"alice")?.as_deref() == Some(b"10"), "what the host had before is there")?;
    check(read(&db, ACCOUNTS, b"zoe")?.as_deref() == Some(b"20"), "what came with the split is there")?;
    check(read(&db, JOURNAL, b"6")?.as_deref() == Some(b"split"), "so is the journal")?;
    println!("after reopening: {found}, and every account");
    Ok(())
}

/// The new region takes the keys from "m" on; the host's own records of that are part of the same entry.
fn split_with_data(whole: &Region, pd: &EmbeddedPd) -> Done<HostEntry> {
    let new_peer_ids = vec![pd.alloc_id()?.into()];
    let request = SplitRequest { split_key: b"m".to_vec(), new_region_id: pd.alloc_id()?.into(), new_peer_ids };
    let command =
        AdminCommand::BatchSplit(BatchSplit { requests: vec![request], right_derive: false, shares_size: false });
    let request = AdminRequest { header: AdminHeader::new(whole.id(), whole.epoch()), command };
    let data = Data::with(|_, storage: &RocksStorage, batch| {
        put(storage, batch, ACCOUNTS, b"zoe", b"20")?;
        put(storage, batch, JOURNAL, b"6", b"split")
    });
    Ok(Entry::admin(position(6), request, "split").with_data(data))
}

/// An ordinary write of the host, proposed at an epoch.
fn write(index: u64, epoch: RegionEpoch, key: &'static [u8], value: &'static [u8]) -> HostEntry {
    let data = Data::with(move |_, storage: &RocksStorage, batch| put(storage, batch, ACCOUNTS, key, value));
    Entry::write(position(index), epoch, data, "write")
}

fn position(index: u64) -> LogPosition {
    LogPosition { index: index.into(), term: 6.into() }
}

/// The batch is RocksDB's own, so a host puts into it what it likes.
fn put(
    storage: &RocksStorage,
    batch: &mut WriteBatch,
    name: &'static str,
    key: &[u8],
    value: &[u8],
) -> Result<(), StorageError> {
    let missing = || StorageError::MissingFamily { path: storage.db().path().to_owned(), family: name };
    batch.put_cf(storage.db().cf_handle(name).ok_or_else(missing)?, key, value);
    Ok(())
}

fn read(db: &DB, name: &str, key: &[u8]) -> Done<Option<Vec<u8>>> {
    Ok(db.get_cf(family(db, name)?, key)?)
}

fn family<'a>(db: &'a DB, name: &str) -> Result<&'a rocksdb::ColumnFamily, String> {
    db.cf_handle(name).ok_or_else(|| format!("the database has no family {name}"))
}

/// An apply pool, and where its answers arrive.
struct Host {
    pool: ApplyPool<RocksStorage, ChannelHost<&'static str>>,
    heard: channel::Receiver<Answer<&'static str>>,
}

impl Host {
    fn over(store: &Arc<Store<RocksStorage>>) -> Done<Self> {
        let (answers, heard) = channel::unbounded();
        let pool = ApplyPool::start(store.clone(), ChannelHost::new(answers), ApplySettings::default())?;
        Ok(Self { pool, heard })
    }

    fn apply(&self, region: &Region, entry: HostEntry) -> Done<Answer<&'static str>> {
        self.pool.router().send(region.id(), entry)?;
        Ok(self.heard.recv()?)
    }
}

fn check(holds: bool, claim: &str) -> Done {
    println!("{} {claim}", if holds { "yes:" } else { "NO: " });
    if holds { Ok(()) } else { Err(format!("it does not hold that {claim}").into()) }
}
