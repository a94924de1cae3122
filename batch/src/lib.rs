//! The runtime of `regionmeta`: region metadata that is durable before it is visible.
//!
//! [`Store`] puts the parts together: a [`storage`] with atomic batches (RocksDB, of its own or the host's), the published
//! map of the `regionmeta` crate, and [`apply`] batches that turn committed Raft entries into one write and one publication.
//! The Raft log, the data and the network stay the host's.
//!
//! # The way of a change
//!
//! An [`apply::ApplyBatch`] checks each entry against the regions as the entries before it have left them, and gathers data,
//! descriptors and apply states. Its commit then goes one way only:
//!
//! 1. check the changeset against the published map, and reserve what it touches: the last moment at which it can be refused;
//! 2. write the batch: all of it or nothing, as durable as [`storage::Durability`] says;
//! 3. publish: one swap, and every reader sees all of it.
//!
//! If the write fails its outcome is unknown, and the store is poisoned: readers go on, writers get [`Poisoned`] until the
//! store is opened again. Opening tells which of the two it was.
//!
//! # Peers
//!
//! [`peers::Peers`] is what a host asks of the replicas themselves: their roles, what a message from another store means, what an
//! applied entry asks of Raft and PD, how a snapshot replaces a region, how a peer ends. Observers hear of all of it at their own pace.
//!
//! # Which thread owns what
//!
//! The library starts no thread but those that scan and decode records during recovery, which end with it, and the workers
//! of an [`apply::ApplyPool`], if the host wants one. A client or a server of PD over gRPC has a runtime of its own. Readers need no coordination. Any number of threads may fill and commit
//! batches; a region belongs to one batch at a time, and another batch gets [`apply::ApplyError::Busy`].
//!
//! # Shutdown
//!
//! [`Store::close`] syncs. A store that is dropped, or killed, recovers to the last batch that was committed (after a power
//! loss, and with [`storage::Durability::Buffered`], to an earlier one, but never to part of one).
//!
//! ```
//! use regionmeta::{AdminCommand, ChangeKind, LogPosition, Peer, PeerChange};
//! use regionmeta_batch::pd::EmbeddedPd;
//! use regionmeta_batch::storage::MemStorage;
//! use regionmeta_batch::StoreBuilder;
//!
//! let pd = EmbeddedPd::new(7.into());
//! let store = StoreBuilder::new(7.into()).bootstrap_storage(MemStorage::new(), &pd)?;
//! let region = store.meta().snapshot().locate(b"key").ok_or("no region")?.region().clone();
//!
//! let add = PeerChange { kind: ChangeKind::AddNode, peer: Peer::voter(100.into(), 2.into()) };
//! let mut batch = store.begin();
//! let entry = LogPosition { index: 6.into(), term: 6.into() };
//! batch.apply(region.id(), entry, region.epoch(), &AdminCommand::ChangePeer(add))?;
//! batch.commit()?;
//!
//! assert_eq!(store.meta().snapshot().get(region.id()).map(|entry| entry.region().peers().len()), Some(2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod apply;
pub mod bootstrap;
mod creating;
mod failpoint;
pub mod pd;
pub mod peers;
mod poison;
mod progress;
pub mod raft_engine;
pub mod records;
pub mod recovery;
mod region_map;
pub mod storage;
mod store;

pub use self::failpoint::FailPoint;
pub use self::poison::Poisoned;
pub use self::store::{CloseError, OpenError, Store, StoreBuilder};
