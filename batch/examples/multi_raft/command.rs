//! What goes through the log: admin commands and writes, as entries of Raft on one side and of the apply pool on the other.

use protobuf::Message as _;
use raft::eraftpb::{self, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, EntryType};
use regionmeta::layout::data_key;
use regionmeta::{AdminRequest, ChangeKind, ChangePeerV2, LogPosition, RegionEpoch};
use regionmeta_batch::apply::{Data, Entry, Mutation};
use regionmeta_batch::storage::RocksStorage;

use super::{Done, blobs};

/// Comes back with an entry's answer: the change that Raft has to make in its own configuration once the entry is applied.
pub(crate) type Tag = Option<ConfChangeV2>;

const ADMIN: u8 = b'a';
const WRITE: u8 = b'w';

pub(crate) fn admin(request: &AdminRequest) -> Done<Vec<u8>> {
    let mut bytes = vec![ADMIN];
    bytes.extend(request.encode()?);
    Ok(bytes)
}

/// A write carries the epoch at which it was proposed: what it was meant for may be another region's when it is applied.
/// Without a value it is a deletion.
pub(crate) fn write(epoch: RegionEpoch, key: &[u8], value: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = vec![WRITE];
    for blob in [&epoch.conf_ver.to_be_bytes(), &epoch.version.to_be_bytes(), key].into_iter().chain(value) {
        blobs::push(&mut bytes, blob);
    }
    bytes
}

/// What a committed entry of Raft is to the apply pool. Raft has to understand a conf change itself, so there the command is
/// beside what Raft reads.
pub(crate) fn committed(entry: &eraftpb::Entry) -> Done<Entry<RocksStorage, Tag>> {
    let position = position(entry);
    let (bytes, tag) = match entry.get_entry_type() {
        EntryType::EntryConfChangeV2 => (&entry.context, Some(ConfChangeV2::parse_from_bytes(&entry.data)?)),
        _ => (&entry.data, None),
    };
    match bytes.split_first() {
        None => Ok(Entry::empty(position, tag)), // a new leader's first entry
        Some((&ADMIN, request)) => Ok(Entry::admin(position, AdminRequest::decode(request)?, tag)),
        Some((&WRITE, write)) => {
            let (epoch, mutation) = decode_write(write)?;
            Ok(Entry::write(position, epoch, Data::List(vec![mutation]), tag))
        }
        Some((kind, _)) => Err(format!("entry {} is of the unknown kind {kind}", entry.index).into()),
    }
}

pub(crate) fn position(entry: &eraftpb::Entry) -> LogPosition {
    LogPosition { index: entry.index.into(), term: entry.term.into() }
}

fn decode_write(mut bytes: &[u8]) -> Done<(RegionEpoch, Mutation)> {
    let conf_ver = u64::from_be_bytes(blobs::pop(&mut bytes)?.try_into()?);
    let version = u64::from_be_bytes(blobs::pop(&mut bytes)?.try_into()?);
    let key = data_key(blobs::pop(&mut bytes)?);
    let mutation = match bytes.is_empty() {
        true => Mutation::Delete { key },
        false => Mutation::Put { key, value: blobs::pop(&mut bytes)?.to_vec() },
    };
    Ok((RegionEpoch::new(conf_ver, version), mutation))
}

/// Several changes enter the joint state, and none leaves it: both are commands of their own.
pub(crate) fn conf_change(command: &ChangePeerV2) -> ConfChangeV2 {
    let single = |kind, peer: regionmeta::Peer| {
        let mut single = ConfChangeSingle { node_id: peer.id.get(), ..ConfChangeSingle::default() };
        single.set_change_type(match kind {
            ChangeKind::AddNode => ConfChangeType::AddNode,
            ChangeKind::AddLearner => ConfChangeType::AddLearnerNode,
            ChangeKind::RemoveNode => ConfChangeType::RemoveNode,
        });
        single
    };
    let mut change = ConfChangeV2::default();
    if command.changes.len() > 1 {
        change.set_transition(ConfChangeTransition::Explicit);
    }
    change.set_changes(command.changes.iter().map(|change| single(change.kind, change.peer)).collect());
    change
}
