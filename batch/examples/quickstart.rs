//! A store from its first start to its second: bootstrap, split a region, look a key up, open it again.
//!
//! `cargo run --example quickstart`

use std::error::Error;
use std::sync::Arc;

use crossbeam::channel;
use regionmeta::{AdminCommand, AdminHeader, AdminRequest, BatchSplit, ClusterId, LogPosition, SplitRequest};
use regionmeta_batch::StoreBuilder;
use regionmeta_batch::apply::{ApplyPool, ApplySettings, ChannelHost, Entry};
use regionmeta_batch::pd::{EmbeddedPd, PdClient};

const CLUSTER: ClusterId = ClusterId::new(7);

/// Everything that the example shows; an error if anything is not as it says.
pub fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");

    // The first start makes the directory, the store's identity, and a region of all keys.
    let pd = EmbeddedPd::new(CLUSTER);
    let store = Arc::new(StoreBuilder::new(CLUSTER).bootstrap(&path, &pd)?);
    let whole = store.meta().snapshot().locate(b"any key").ok_or("no region")?.region().clone();

    // A split, as it comes out of the region's Raft log. 6 is the first entry of a new region.
    let (child, peer) = (pd.alloc_id()?.into(), pd.alloc_id()?.into());
    let request = SplitRequest { split_key: b"m".to_vec(), new_region_id: child, new_peer_ids: vec![peer] };
    let command =
        AdminCommand::BatchSplit(BatchSplit { requests: vec![request], right_derive: false, shares_size: false });
    let request = AdminRequest { header: AdminHeader::new(whole.id(), whole.epoch()), command };
    let entry = Entry::admin(LogPosition { index: 6.into(), term: 6.into() }, request, "the split");

    // The pool checks it, writes it, publishes it, and only then answers.
    let (answers, heard) = channel::unbounded();
    let pool = ApplyPool::start(store.clone(), ChannelHost::new(answers), ApplySettings::default())?;
    pool.router().send(whole.id(), entry)?;
    let answer = heard.recv()?;
    println!("{}: {:?}", answer.tag, answer.result?);
    pool.shut_down();

    // Lookups take no lock. A region's descriptor is the very buffer that was stored.
    let owner = store.meta().snapshot().locate(b"zebra").ok_or("no owner")?.region().clone();
    if owner.id() != child {
        return Err(format!("{owner} owns the key, and not region {child}").into());
    }

    // The second start finds what the first one has left.
    Arc::into_inner(store).ok_or("the store is still in use")?.close()?;
    let store = StoreBuilder::new(CLUSTER).open(&path)?;
    let found = store.meta().snapshot().locate(b"zebra").ok_or("no owner after reopening")?.region().clone();
    if found != owner {
        return Err(format!("reopened, {found} owns the key, and not {owner}").into());
    }
    println!("zebra belongs to {found}, before and after reopening");
    Ok(())
}
