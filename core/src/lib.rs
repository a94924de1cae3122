//! Region metadata for multi-Raft storage servers: which region owns this key, at which epoch, and may I still serve it?
//!
//! A storage server that shards its keys into regions asks that before every request, and changes the answer with every
//! split, merge and membership change. This crate holds the answer once. A region's metadata is one immutable buffer
//! ([`Region`]); the bytes that are stored are the bytes that every reader sees. All regions hang on one root that is swapped
//! atomically ([`StoreMeta`]); readers take no lock, and nobody ever sees half a split.
//!
//! There is no I/O in here, no thread, no clock and no storage: `regionmeta-batch` adds RocksDB, bootstrap, recovery and the
//! apply path.
//!
//! # The nouns
//!
//! - [`Region`]: one version of a region, verified once when it enters, then read without checks and shared without copies.
//! - [`RegionEpoch`]: `conf_ver` and `version`, with three comparisons by name and the table of what each command checks and
//!   moves ([`AdminKind::epoch_rule`]).
//! - [`AdminCommand`]: [`plan`](AdminCommand::plan) is a pure function from the current region to the regions that replace
//!   it, or to a typed refusal.
//! - [`Changeset`]: what one batch changes, each change with the version counter it was computed from. Published whole or
//!   refused whole.
//! - [`StoreMeta`]: the published map; [`Snapshot`]: one consistent state of it; [`ReadHandle`]: the half of the map that
//!   cannot write; [`Reader`]: a thread's cached snapshot.
//!
//! # What it promises
//!
//! In any one snapshot no two regions overlap, and no split or merge opens a hole. No reader sees a region go back once a
//! newer version was seen by something that happened before, whichever way it looks. A change computed from a version that
//! is no longer current is refused, with both sides named. `ARCHITECTURE.md` numbers these promises, I1 to I16, and says
//! where each is kept; [`Snapshot::validate`] is the checkable part as code.
//!
//! # What it costs
//!
//! A lookup through a [`Reader`] is one atomic load and a search, O(log regions). [`StoreMeta::snapshot`] is O(1), lock-free,
//! and one reference count. A publish copies O(log regions) nodes a change, under a lock that only writers know. A region is
//! its buffer and 16 bytes. A snapshot that is held keeps the memory of its version: do not hold one for hours.
//!
//! # One split, from the command to the readers
//!
//! ```
//! use regionmeta::{
//!     AdminCommand, AdminHeader, ApplyContext, ApplyState, BatchSplit, Changeset, KeyRange, LogPosition, Outcome, Peer,
//!     Reason, RegionDraft, RegionEpoch, SplitRequest, StoreId, StoreMeta,
//! };
//!
//! let store = StoreId::new(1);
//! let meta = StoreMeta::new(Some(store));
//! let first = RegionDraft::new(1.into(), KeyRange::ALL, RegionEpoch::INITIAL, vec![Peer::voter(2.into(), store)]).build()?;
//! meta.prepare(Changeset::new().create(first))?.publish();
//!
//! // Decide, purely: region 3 takes what lies below "m".
//! let before = meta.snapshot();
//! let entry = before.locate(b"m").ok_or("no region")?;
//! let request = SplitRequest { split_key: b"m".to_vec(), new_region_id: 3.into(), new_peer_ids: vec![4.into()] };
//! let command = AdminCommand::BatchSplit(BatchSplit { requests: vec![request], right_derive: true, shares_size: false });
//! let header = AdminHeader::new(1.into(), entry.region().epoch());
//! let context = ApplyContext::new(store, LogPosition { index: 6.into(), term: 6.into() }, ApplyState::INITIAL);
//! let Outcome::Split { regions, derived, .. } = command.plan(&header, entry.region(), &context)? else {
//!     return Err("a split has one kind of outcome".into());
//! };
//!
//! // Check and reserve; persist; publish.
//! let changes = regions.into_iter().fold(Changeset::new(), |changes, region| match region.id() == derived {
//!     true => changes.update(entry.changed_at(), region, Reason::Split),
//!     false => changes.create(region),
//! });
//! let permit = meta.prepare(changes)?;
//! // ... the batch is written to disk here ...
//! let after = permit.publish();
//!
//! assert_eq!(after.locate(b"a").map(|entry| entry.region().id()), Some(3.into()));
//! assert_eq!(before.locate(b"a").map(|entry| entry.region().id()), Some(1.into())); // a snapshot stays as it is
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod admin;
mod codec;
mod epoch;
mod ids;
mod index;
mod keys;
pub mod layout;
mod meta;
#[doc(hidden)]
pub mod mutant;
mod peer;
mod prefetch;
mod raft;
mod region;
mod stats;
mod store_ident;
mod sync;
#[cfg(feature = "testkit")]
pub mod testkit;

#[rustfmt::skip]
#[allow(clippy::all, clippy::restriction, unsafe_code, missing_docs, missing_debug_implementations, unreachable_pub)]
#[allow(dead_code, deprecated, rust_2018_idioms, unsafe_op_in_unsafe_fn, unused_imports)]
#[path = "generated/region_generated.rs"]
mod generated;
use generated::regionmeta::wire;

// What the READMEs show compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme_of_the_package {}
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme_of_the_repository {}

pub use admin::{
    AdminCommand, AdminError, AdminHeader, AdminRequest, ApplyContext, BatchSplit, BatchSwitchWitness, ChangeKind,
    ChangePeerV2, ChildDecision, ChildReservation, CommitMerge, CompactLog, ComputeHash, ConfChangeKind,
    FinishFlashback, LogEntry, Outcome, PeerChange, PrepareFlashback, PrepareMerge, ProposalError, RollbackMerge,
    Split, SplitChild, SplitRequest, TargetSeen, TransferLeader, Verdict, VerifyHash, WitnessSwitch,
};
pub use codec::{ADMIN_BYTES_MAX, AdminCodecError, DecodeError, ENVELOPE_BYTES, FORMAT_VERSION, Record, RecordKind};
pub use epoch::{AdminKind, EpochHalves, EpochOverflow, EpochRule, RegionEpoch};
pub use ids::{ClusterId, LogIndex, PeerId, RegionId, Sequence, StoreId, Term};
pub use index::Entry;
pub use keys::{EndKey, KEY_BYTES_MAX, Key, KeyBuf, KeyRange};
pub use meta::{
    Change, Changeset, EpochRefusal, Gone, Lagged, Permit, Published, ReadHandle, Reader, Reason, Refusal, Removal,
    Reported, Siblings, Snapshot, StoreMeta, Subscription, Version, View, Violation,
};
pub use peer::{Peer, PeerClass, PeerRole, PeerState};
pub use raft::{ApplyState, HardState, INIT_LOG_INDEX, INIT_LOG_TERM, LogPosition, RaftState};
pub use region::{MergeState, PEERS_MAX, REGION_BYTES_MAX, Region, RegionDraft, RegionError, RegionRef};
pub use stats::{Stats, Sums};
pub use store_ident::StoreIdent;
