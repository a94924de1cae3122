//! PD's messages as they are on the wire, and what each of them means here.
//!
//! The types are compiled from `batch/proto`. A message from outside becomes a value of this library by `try_from`, which refuses
//! with an [`AnswerError`] what cannot be meant and never panics (I10); the other direction cannot fail. What a
//! value means in its place, such as the owner of the key that was asked for, is [`check`](super::check)'s.

mod heartbeat;
mod info;
mod region;

/// Package `pdpb`: PD's service and its messages.
#[allow(missing_docs, rustdoc::all, clippy::all, unreachable_pub, reason = "generated")]
pub mod pdpb {
    tonic::include_proto!("pdpb");
}

/// Package `metapb`: stores, regions and peers.
#[allow(missing_docs, rustdoc::all, clippy::all, unreachable_pub, reason = "generated")]
pub mod metapb {
    tonic::include_proto!("metapb");
}

/// Package `eraftpb`: the kinds of membership changes.
#[allow(missing_docs, rustdoc::all, clippy::all, unreachable_pub, reason = "generated")]
pub mod eraftpb {
    tonic::include_proto!("eraftpb");
}

/// Package `replication_modepb`: replication by labels.
#[allow(missing_docs, rustdoc::all, clippy::all, unreachable_pub, reason = "generated")]
pub mod replication_modepb {
    tonic::include_proto!("replication_modepb");
}

use super::AnswerError;

/// A field that must be there.
pub(super) fn needed<T>(what: &'static str, field: Option<T>) -> Result<T, AnswerError> {
    field.ok_or_else(|| malformed(what, "it is missing"))
}

fn malformed(what: &'static str, cause: impl Into<String>) -> AnswerError {
    AnswerError::Malformed { what, cause: cause.into() }
}

/// Converts every element, or says what is wrong with the first that cannot be.
fn each<W, T>(found: impl IntoIterator<Item = W>) -> Result<Vec<T>, AnswerError>
where
    T: TryFrom<W, Error = AnswerError>,
{
    found.into_iter().map(T::try_from).collect()
}
