//! Applying: committed entries become batches, writes, published changesets and answers.
//!
//! Two layers. An [`ApplyBatch`] is the one way of a change: entries of any number of regions, checked one after another,
//! then written and published together. An [`ApplyPool`] drives it for a host: a bounded mailbox for each region
//! ([`Router`]), workers that drain many regions into one batch, and answers through the host's own [`ApplyHost`].
//!
//! # The way of an entry through the pool
//!
//! 1. The host puts it into its region's mailbox; a full one says so, or makes the sender wait, as the sender chooses.
//! 2. A worker takes the region: one owner at a time, a bounded number of entries a turn, then the next region.
//! 3. The entry is checked against the region as the entries before it have left it, and put into the batch: data,
//!    descriptors, apply state. Refused commands count as applied and change nothing else.
//! 4. The batch is written and published when it is full, before a command that has to see the storage up to date, and at
//!    the end of every round.
//! 5. Then, and only then, the host is answered, in the order of each region's log.
//!
//! # Merges
//!
//! A `CommitMerge` that finds its source behind parks the target, not the worker: the host is asked for the entries that
//! the source lacks ([`ApplyHost::catch_up`]), the source stops when it has applied and *written* its `PrepareMerge`, and
//! that wakes the target. The merged target and the source's tombstone are in one batch.
//!
//! # What it costs
//!
//! A region that waits for nothing costs its mailbox, about 200 bytes, and no thread. An entry costs two short locks of its
//! mailbox; all else is paid once a batch.

mod answer;
mod batch;
mod delegate;
mod entry;
mod flush;
mod mailbox;
mod merge;
mod pool;
mod round;
mod router;
mod settings;
mod siblings;
mod turn;
mod waits;

pub use self::answer::{Answer, AnswerError, ApplyHost, ChannelHost, ExecResult};
pub use self::batch::{ApplyBatch, ApplyError, CommitError, Committed};
pub use self::entry::{Data, Entry, Mutation, PutData};
pub use self::mailbox::SendError;
pub use self::pool::{ApplyPool, PoolError};
pub use self::router::{RegionSender, Router};
pub use self::settings::{ApplySettings, SyncPolicy};
