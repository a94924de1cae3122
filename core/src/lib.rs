//! PLACEHOLDER
mod codec;
mod epoch;
mod ids;
mod index;
mod keys;
pub mod layout;
mod meta;
mod peer;
mod prefetch;
mod raft;
mod region;
mod store_ident;
mod sync;

#[rustfmt::skip]
#[allow(warnings, clippy::all, clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, clippy::undocumented_unsafe_blocks, clippy::host_endian_bytes, clippy::expect_used, unsafe_code, missing_docs, missing_debug_implementations, unreachable_pub, rust_2018_idioms, unsafe_op_in_unsafe_fn)]
#[path = "generated/region_generated.rs"]
mod generated;
use generated::regionmeta::wire;

pub use codec::{DecodeError, ENVELOPE_BYTES, FORMAT_VERSION, Record, RecordKind};
pub use epoch::{AdminKind, EpochHalves, EpochOverflow, EpochRule, RegionEpoch};
pub use ids::{ClusterId, LogIndex, PeerId, RegionId, Sequence, StoreId, Term};
pub use index::Entry;
pub use keys::{EndKey, KEY_BYTES_MAX, Key, KeyBuf, KeyRange};
pub use meta::{Change, Changeset, Permit, Reader, Reason, Refusal, Removal, Snapshot, StoreMeta, Violation};
pub use peer::{Peer, PeerRole, PeerState};
pub use raft::{ApplyState, HardState, INIT_LOG_INDEX, INIT_LOG_TERM, LogPosition, RaftState};
pub use region::{MergeState, PEERS_MAX, REGION_BYTES_MAX, Region, RegionDraft, RegionError, RegionRef};
pub use store_ident::StoreIdent;
