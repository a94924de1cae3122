//! The kinds of stored value, each to and from its flatbuffer.

use flatbuffers::{FlatBufferBuilder, Follow, Verifiable, WIPOffset};

use super::envelope::{self, DecodeError, RecordKind};
use crate::raft::{ApplyState, HardState, LogPosition, RaftState};
use crate::region::{Region, verifier_options};
use crate::store_ident::StoreIdent;
use crate::wire;

/// A value that is stored under a key, inside an envelope.
///
/// ```
/// use regionmeta::{ApplyState, Record};
///
/// let mut value = Vec::new();
/// ApplyState::INITIAL.encode(b"some key", &mut value);
/// assert_eq!(ApplyState::decode(b"some key", &value), Ok(ApplyState::INITIAL));
/// assert!(ApplyState::decode(b"another key", &value).is_err());
/// ```
pub trait Record: Sized {
    /// What the envelope calls it.
    const KIND: RecordKind;

    /// Appends the stored form to `out`. The same value and key always give the same bytes. Allocates only to grow `out`,
    /// but for the small records, which also use a scratch buffer.
    fn encode(&self, key: &[u8], out: &mut Vec<u8>);

    /// Reads the stored form of the value under `key`. Never panics, and allocates no more than the value's length.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but the exact bytes of a value that was encoded for this key.
    fn decode(key: &[u8], value: &[u8]) -> Result<Self, DecodeError>;
}

impl Record for Region {
    const KIND: RecordKind = RecordKind::Region;

    fn encode(&self, key: &[u8], out: &mut Vec<u8>) {
        envelope::seal(Self::KIND, key, self.as_bytes(), out);
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self::from_bytes(envelope::open(Self::KIND, key, value)?)?)
    }
}

impl Record for ApplyState {
    const KIND: RecordKind = RecordKind::ApplyState;

    fn encode(&self, key: &[u8], out: &mut Vec<u8>) {
        let (truncated, commit) = (to_wire(self.truncated), to_wire(self.commit));
        let args = wire::ApplyStateArgs {
            applied_index: self.applied_index.get(),
            truncated: Some(&truncated),
            commit: Some(&commit),
        };
        seal_table(Self::KIND, key, out, |builder| wire::ApplyState::create(builder, &args));
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, DecodeError> {
        let table = open_table::<wire::ApplyState<'_>>(Self::KIND, key, value)?;
        Ok(Self {
            applied_index: table.applied_index().into(),
            truncated: from_wire(table.truncated()),
            commit: from_wire(table.commit()),
        })
    }
}

impl Record for RaftState {
    const KIND: RecordKind = RecordKind::RaftState;

    fn encode(&self, key: &[u8], out: &mut Vec<u8>) {
        let HardState { term, vote, commit } = self.hard_state;
        let hard_state = wire::HardState::new(term.get(), vote.get(), commit.get());
        let args = wire::RaftStateArgs { hard_state: Some(&hard_state), last_index: self.last_index.get() };
        seal_table(Self::KIND, key, out, |builder| wire::RaftState::create(builder, &args));
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, DecodeError> {
        let table = open_table::<wire::RaftState<'_>>(Self::KIND, key, value)?;
        let hard_state = table.hard_state().map_or_else(HardState::default, |state| HardState {
            term: state.term().into(),
            vote: state.vote().into(),
            commit: state.commit().into(),
        });
        Ok(Self { hard_state, last_index: table.last_index().into() })
    }
}

impl Record for StoreIdent {
    const KIND: RecordKind = RecordKind::StoreIdent;

    fn encode(&self, key: &[u8], out: &mut Vec<u8>) {
        let args = wire::StoreIdentArgs {
            cluster_id: self.cluster_id.get(),
            store_id: self.store_id.get(),
            api_version: self.api_version,
        };
        seal_table(Self::KIND, key, out, |builder| wire::StoreIdent::create(builder, &args));
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, DecodeError> {
        let table = open_table::<wire::StoreIdent<'_>>(Self::KIND, key, value)?;
        let (cluster_id, store_id) = (table.cluster_id().into(), table.store_id().into());
        if table.store_id() == 0 {
            return Err(DecodeError::Invalid { record: "store ident", what: "the store id is 0" });
        }
        Ok(Self { cluster_id, store_id, api_version: table.api_version() })
    }
}

fn seal_table<T>(
    kind: RecordKind,
    key: &[u8],
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut FlatBufferBuilder<'static>) -> WIPOffset<T>,
) {
    let mut builder = FlatBufferBuilder::with_capacity(128);
    let root = write(&mut builder);
    builder.finish_minimal(root);
    envelope::seal(kind, key, builder.finished_data(), out);
}

fn open_table<'a, T: Follow<'a, Inner = T> + Verifiable + 'a>(
    kind: RecordKind,
    key: &[u8],
    value: &'a [u8],
) -> Result<T, DecodeError> {
    let payload = envelope::open(kind, key, value)?;
    flatbuffers::root_with_opts::<T>(&verifier_options(payload), payload)
        .map_err(|error| DecodeError::Malformed(error.to_string()))
}

fn to_wire(position: LogPosition) -> wire::LogPosition {
    wire::LogPosition::new(position.index.get(), position.term.get())
}

fn from_wire(position: Option<&wire::LogPosition>) -> LogPosition {
    position.map_or_else(LogPosition::default, |position| LogPosition {
        index: position.index().into(),
        term: position.term().into(),
    })
}
