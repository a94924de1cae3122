//! A store from its first start to its second: bootstrap, split a region, look a key up, open it again.
//!
//! `cargo run --example quickstart`

use std::error::Error;

use regionmeta::{ClusterId, LogPosition};
use regionmeta_batch::StoreBuilder;
use regionmeta_batch::pd::{EmbeddedPd, Proposal};

const CLUSTER: ClusterId = ClusterId::new(7);

/// Everything that the example shows; an error if anything is not as it says.
pub fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");

    // The first start makes the directory, the store's identity, and a region of all keys.
    let pd = EmbeddedPd::new(CLUSTER);
    let store = StoreBuilder::new(CLUSTER).bootstrap(&path, &pd)?;
    let whole = store.meta().snapshot().locate(b"any key").ok_or("no region")?.region().clone();

    // A split, as it comes out of the region's Raft log; 6 is the first entry of a new region. Checked, written, published.
    let split = Proposal::split(&pd, &whole, vec![b"m".to_vec()], false)?;
    let mut batch = store.begin();
    batch.execute(whole.id(), LogPosition { index: 6.into(), term: 6.into() }, &split.header, &split.command)?;
    batch.commit()?;

    // Lookups take no lock. A region's descriptor is the very buffer that was stored.
    let owner = store.meta().snapshot().locate(b"zebra").ok_or("no owner")?.region().clone();

    // The second start finds what the first one has left.
    store.close()?;
    let store = StoreBuilder::new(CLUSTER).open(&path)?;
    let found = store.meta().snapshot().locate(b"zebra").ok_or("no owner after reopening")?.region().clone();
    println!("\"zebra\" belongs to {owner}, and after reopening to {found}");
    if found == owner && owner.id() != whole.id() { Ok(()) } else { Err("the split is not what was found".into()) }
}
