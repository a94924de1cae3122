//! Admin commands on the wire: one flatbuffer a request, for the host's Raft log.
//!
//! There is no envelope around it: the log has checksums of its own, and its key is an index, not a region. So the bytes are
//! trusted with nothing. They must pass the verifier, say a kind that is known, set exactly the fields of that kind, and
//! hold regions that keep I13 (I10). A field from the future is refused like an unknown kind: a replica that ignored it
//! would come to another result than one that knows it.

use flatbuffers::{FlatBufferBuilder, Table, Vector, WIPOffset};

use crate::admin::{
    AdminCommand, AdminHeader, AdminRequest, BatchSplit, BatchSwitchWitness, ChangeKind, ChangePeerV2, CommitMerge,
    CompactLog, ComputeHash, FinishFlashback, LogEntry, PeerChange, PrepareFlashback, PrepareMerge, RollbackMerge,
    Split, SplitRequest, TransferLeader, VerifyHash, WitnessSwitch,
};
use crate::epoch::{AdminKind, RegionEpoch};
use crate::ids::{PeerId, RegionId};
use crate::peer::Peer;
use crate::raft::LogPosition;
use crate::region::{Region, RegionError, verifier_options, write_bytes};
use crate::wire;

/// The longest admin request, in bytes: what a Raft entry may hold (spec section 17).
pub const ADMIN_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Why bytes are no admin request, or a request has no bytes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum AdminCodecError {
    #[error("admin request of {bytes} bytes: at most {max} are allowed")]
    TooLong { bytes: usize, max: usize },
    #[error("admin request is not a valid flatbuffer: {0}")]
    Malformed(String),
    #[error("admin request for region {region} has no command")]
    MissingCommand { region: RegionId },
    #[error("admin request for region {region}: unknown type {number}; a newer version may have written it")]
    UnknownKind { region: RegionId, number: u8 },
    #[error("admin request for region {region}: {table} has a field that this version does not know")]
    UnknownField { region: RegionId, table: &'static str },
    #[error("{kind:?} for region {region} sets {field}, which belongs to other commands")]
    UnexpectedField { region: RegionId, kind: AdminKind, field: &'static str },
    #[error("{kind:?} for region {region} does not set {field}")]
    MissingField { region: RegionId, kind: AdminKind, field: &'static str },
    #[error("{kind:?} for region {region}: {found} {field}, where exactly one belongs")]
    NotOne { region: RegionId, kind: AdminKind, field: &'static str, found: usize },
    #[error("{kind:?} for region {region}: unknown change {number} of peer {peer}")]
    UnknownChange { region: RegionId, kind: AdminKind, peer: PeerId, number: u8 },
    #[error("{kind:?} for region {region}: peer {peer} has unknown flags {flags:#04x}")]
    UnknownPeerFlags { region: RegionId, kind: AdminKind, peer: PeerId, flags: u8 },
    #[error("{kind:?} for region {region}: invalid {field}: {cause}")]
    Region { region: RegionId, kind: AdminKind, field: &'static str, cause: RegionError },
}

impl AdminRequest {
    /// The bytes of this request. Equal requests give equal bytes. Costs one allocation, of their size and what the builder
    /// grows by.
    ///
    /// # Errors
    /// [`AdminCodecError::TooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, AdminCodecError> {
        check_length(carried_bytes(&self.command))?; // the builder panics at 2 GiB
        let mut builder = FlatBufferBuilder::with_capacity(256);
        let command = Some(write_command(&self.command, &mut builder));
        let AdminHeader { region_id, epoch, term, flashback } = self.header;
        let epoch = epoch.map(|epoch| wire::Epoch::new(epoch.conf_ver, epoch.version));
        let (region_id, term) = (region_id.get(), term.get());
        let args = wire::AdminRequestArgs { region_id, epoch: epoch.as_ref(), term, command, flashback };
        let root = wire::AdminRequest::create(&mut builder, &args);
        builder.finish_minimal(root);
        let bytes = builder.finished_data();
        check_length(bytes.len())?;
        Ok(bytes.to_vec())
    }

    /// Reads a request from bytes of unknown origin. Never panics, and allocates no more than a small multiple of their
    /// length.
    ///
    /// # Errors
    /// [`AdminCodecError`]. The same bytes give the same answer on every replica of this version. So a committed entry that
    /// cannot be read is refused like a command whose conditions do not hold: it counts as applied and changes nothing. Whoever
    /// applies the log puts an empty entry in its position, and tells its proposer this error; left out, it would be a gap that
    /// no later entry gets over. Propose a command of a new version only when every store of the group has that version: an
    /// older one would refuse what the others execute.
    pub fn decode(bytes: &[u8]) -> Result<Self, AdminCodecError> {
        check_length(bytes.len())?;
        let table = flatbuffers::root_with_opts::<wire::AdminRequest<'_>>(&verifier_options(bytes), bytes)
            .map_err(|error| AdminCodecError::Malformed(error.to_string()))?;
        let region_id = RegionId::new(table.region_id());
        let command = table.command().ok_or(AdminCodecError::MissingCommand { region: region_id })?;
        let number = command.kind().0;
        let kind = AdminKind::ALL.into_iter().find(|&kind| kind as u8 == number);
        let kind = kind.ok_or(AdminCodecError::UnknownKind { region: region_id, number })?;
        let reader = Reader { region: region_id, kind };
        reader.check_fields("request", table._tab, wire::AdminRequest::VT_FLASHBACK)?;
        let header = AdminHeader {
            region_id,
            epoch: table.epoch().map(|epoch| RegionEpoch::new(epoch.conf_ver(), epoch.version())),
            term: table.term().into(),
            flashback: table.flashback(),
        };
        Ok(Self { header, command: reader.command(command)? })
    }
}

fn check_length(bytes: usize) -> Result<(), AdminCodecError> {
    if bytes <= ADMIN_BYTES_MAX { Ok(()) } else { Err(AdminCodecError::TooLong { bytes, max: ADMIN_BYTES_MAX }) }
}

/// A lower bound of what a command takes, from the lengths of its lists and byte strings.
fn carried_bytes(command: &AdminCommand) -> usize {
    let split = |request: &SplitRequest| request.split_key.len() + size_of_val(request.new_peer_ids.as_slice());
    match command {
        AdminCommand::Split(command) => split(&command.request),
        AdminCommand::BatchSplit(command) => command.requests.iter().map(split).sum(),
        AdminCommand::ChangePeerV2(command) => size_of_val(command.changes.as_slice()),
        AdminCommand::CommitMerge(command) => command.entries.iter().map(|entry| entry.data.len() + 16).sum(),
        AdminCommand::BatchSwitchWitness(command) => size_of_val(command.switches.as_slice()),
        AdminCommand::TransferLeader(command) => size_of_val(command.transferees.as_slice()),
        AdminCommand::ComputeHash(command) => command.context.len(),
        AdminCommand::VerifyHash(command) => command.context.len() + command.hash.len(),
        _ => 0,
    }
}

// --- to bytes ---------------------------------------------------------------------------------------------------------

type Builder = FlatBufferBuilder<'static>;

fn write_command(command: &AdminCommand, builder: &mut Builder) -> WIPOffset<wire::AdminCommand<'static>> {
    let compact;
    let mut args = wire::AdminCommandArgs { kind: wire::AdminKind(command.kind() as u8), ..Default::default() };
    match command {
        AdminCommand::ChangePeer(change) => args.changes = Some(write_changes(&[*change], builder)),
        AdminCommand::ChangePeerV2(command) => args.changes = Some(write_changes(&command.changes, builder)),
        AdminCommand::Split(command) => {
            args.splits = Some(write_splits(std::slice::from_ref(&command.request), builder));
            args.right_derive = command.right_derive;
            args.shares_size = command.shares_size;
        }
        AdminCommand::BatchSplit(command) => {
            args.splits = Some(write_splits(&command.requests, builder));
            args.right_derive = command.right_derive;
            args.shares_size = command.shares_size;
        }
        AdminCommand::PrepareMerge(command) => {
            args.merge_target = Some(command.target.to_draft().write(builder));
            args.min_index = command.min_index.get();
        }
        AdminCommand::CommitMerge(command) => args.commit_merge = Some(write_commit_merge(command, builder)),
        AdminCommand::RollbackMerge(command) => args.rollback_commit = command.commit.get(),
        AdminCommand::CompactLog(command) => {
            compact = wire::LogPosition::new(command.compact.index.get(), command.compact.term.get());
            args.compact = Some(&compact);
            args.voter_replicated_index = command.voter_replicated_index.get();
        }
        AdminCommand::BatchSwitchWitness(command) => args.switches = Some(write_switches(&command.switches, builder)),
        AdminCommand::PrepareFlashback(command) => args.flashback_start_ts = command.start_ts,
        AdminCommand::FinishFlashback(FinishFlashback) => {}
        AdminCommand::TransferLeader(command) => {
            let peers: Vec<_> = command.transferees.iter().map(|peer| descriptor(*peer)).collect();
            args.transferees = Some(builder.create_vector(&peers));
        }
        AdminCommand::ComputeHash(command) => args.hash_context = write_bytes(builder, &command.context),
        AdminCommand::VerifyHash(command) => {
            args.hash_context = write_bytes(builder, &command.context);
            args.hash = write_bytes(builder, &command.hash);
            args.hash_index = command.index.get();
        }
    }
    wire::AdminCommand::create(builder, &args)
}

fn descriptor(peer: Peer) -> wire::PeerDescriptor {
    wire::PeerDescriptor::new(peer.id.get(), peer.store_id.get(), peer.flags())
}

fn write_changes(changes: &[PeerChange], builder: &mut Builder) -> WIPOffset<Vector<'static, wire::PeerChange>> {
    let to_wire = |change: &PeerChange| {
        wire::PeerChange::new(&descriptor(change.peer), wire::ChangeKind(change_number(change.kind)))
    };
    let changes: Vec<_> = changes.iter().map(to_wire).collect();
    builder.create_vector(&changes)
}

const fn change_number(kind: ChangeKind) -> u8 {
    match kind {
        ChangeKind::AddNode => 0,
        ChangeKind::RemoveNode => 1,
        ChangeKind::AddLearner => 2,
    }
}

type Tables<'a, T> = Vector<'a, flatbuffers::ForwardsUOffset<T>>;

fn write_splits(
    requests: &[SplitRequest],
    builder: &mut Builder,
) -> WIPOffset<Tables<'static, wire::SplitRequest<'static>>> {
    let mut tables = Vec::with_capacity(requests.len());
    for request in requests {
        let split_key = write_bytes(builder, &request.split_key);
        let ids: Vec<_> = request.new_peer_ids.iter().map(|id| id.get()).collect();
        let new_peer_ids = Some(builder.create_vector(&ids));
        let args = wire::SplitRequestArgs { split_key, new_region_id: request.new_region_id.get(), new_peer_ids };
        tables.push(wire::SplitRequest::create(builder, &args));
    }
    builder.create_vector(&tables)
}

fn write_commit_merge(command: &CommitMerge, builder: &mut Builder) -> WIPOffset<wire::CommitMerge<'static>> {
    let mut tables = Vec::with_capacity(command.entries.len());
    for entry in &command.entries {
        let data = write_bytes(builder, &entry.data);
        let args = wire::LogEntryArgs { index: entry.index.get(), term: entry.term.get(), data };
        tables.push(wire::LogEntry::create(builder, &args));
    }
    let entries = Some(builder.create_vector(&tables));
    let source = Some(command.source.to_draft().write(builder));
    wire::CommitMerge::create(builder, &wire::CommitMergeArgs { source, commit: command.commit.get(), entries })
}

fn write_switches(
    switches: &[WitnessSwitch],
    builder: &mut Builder,
) -> WIPOffset<Vector<'static, wire::WitnessSwitch>> {
    let to_wire = |switch: &WitnessSwitch| wire::WitnessSwitch::new(switch.peer_id.get(), switch.is_witness);
    let switches: Vec<_> = switches.iter().map(to_wire).collect();
    builder.create_vector(&switches)
}

// --- from bytes -------------------------------------------------------------------------------------------------------

/// Which fields of the one table a kind may set.
const fn fields_of(kind: AdminKind) -> &'static [&'static str] {
    match kind {
        AdminKind::ChangePeer | AdminKind::ChangePeerV2 => &["changes"],
        AdminKind::Split | AdminKind::BatchSplit => &["splits", "right_derive", "shares_size"],
        AdminKind::PrepareMerge => &["merge_target", "min_index"],
        AdminKind::CommitMerge => &["commit_merge"],
        AdminKind::RollbackMerge => &["rollback_commit"],
        AdminKind::CompactLog => &["compact", "voter_replicated_index"],
        AdminKind::BatchSwitchWitness => &["switches"],
        AdminKind::PrepareFlashback => &["flashback_start_ts"],
        AdminKind::FinishFlashback => &[],
        AdminKind::TransferLeader => &["transferees"],
        AdminKind::ComputeHash => &["hash_context"],
        AdminKind::VerifyHash => &["hash_context", "hash_index", "hash"],
    }
}

/// Every field but the kind, and whether it is set.
fn fields(table: wire::AdminCommand<'_>) -> [(&'static str, bool); 16] {
    [
        ("changes", table.changes().is_some()),
        ("splits", table.splits().is_some()),
        ("right_derive", table.right_derive()),
        ("merge_target", table.merge_target().is_some()),
        ("min_index", table.min_index() != 0),
        ("commit_merge", table.commit_merge().is_some()),
        ("rollback_commit", table.rollback_commit() != 0),
        ("compact", table.compact().is_some()),
        ("voter_replicated_index", table.voter_replicated_index() != 0),
        ("switches", table.switches().is_some()),
        ("flashback_start_ts", table.flashback_start_ts() != 0),
        ("transferees", table.transferees().is_some()),
        ("hash_context", table.hash_context().is_some()),
        ("hash_index", table.hash_index() != 0),
        ("hash", table.hash().is_some()),
        ("shares_size", table.shares_size()),
    ]
}

/// Reads the parts of one request; it knows what an error has to name.
#[derive(Clone, Copy)]
struct Reader {
    region: RegionId,
    kind: AdminKind,
}

impl Reader {
    /// Refuses a field behind the last one that this version knows.
    fn check_fields(self, name: &'static str, table: Table<'_>, last: u16) -> Result<(), AdminCodecError> {
        let known_bytes = usize::from(last) + size_of::<u16>();
        // Not `num_fields`: it subtracts from a length that the verifier lets be too short for that.
        if table.vtable().num_bytes() <= known_bytes {
            return Ok(());
        }
        Err(AdminCodecError::UnknownField { region: self.region, table: name })
    }

    fn command(self, table: wire::AdminCommand<'_>) -> Result<AdminCommand, AdminCodecError> {
        self.check_fields("command", table._tab, wire::AdminCommand::VT_SHARES_SIZE)?;
        let allowed = fields_of(self.kind);
        if let Some((field, _)) = fields(table).into_iter().find(|(field, set)| *set && !allowed.contains(field)) {
            return Err(AdminCodecError::UnexpectedField { region: self.region, kind: self.kind, field });
        }
        let bytes = |field: Option<Vector<'_, u8>>| field.map(|field| field.bytes().to_vec()).unwrap_or_default();
        Ok(match self.kind {
            AdminKind::ChangePeer => AdminCommand::ChangePeer(self.one("changes", self.changes(table)?)?),
            AdminKind::ChangePeerV2 => AdminCommand::ChangePeerV2(ChangePeerV2 { changes: self.changes(table)? }),
            AdminKind::Split => {
                let request = self.one("splits", self.splits(table)?)?;
                let (right_derive, shares_size) = (table.right_derive(), table.shares_size());
                AdminCommand::Split(Split { request, right_derive, shares_size })
            }
            AdminKind::BatchSplit => {
                let requests = self.splits(table)?;
                let (right_derive, shares_size) = (table.right_derive(), table.shares_size());
                AdminCommand::BatchSplit(BatchSplit { requests, right_derive, shares_size })
            }
            AdminKind::PrepareMerge => {
                let target = self.region("merge_target", table.merge_target())?;
                AdminCommand::PrepareMerge(PrepareMerge { target, min_index: table.min_index().into() })
            }
            AdminKind::CommitMerge => AdminCommand::CommitMerge(self.commit_merge(table)?),
            AdminKind::RollbackMerge => {
                AdminCommand::RollbackMerge(RollbackMerge { commit: table.rollback_commit().into() })
            }
            AdminKind::CompactLog => AdminCommand::CompactLog(self.compact_log(table)?),
            AdminKind::BatchSwitchWitness => AdminCommand::BatchSwitchWitness(switches(table)),
            AdminKind::PrepareFlashback => {
                AdminCommand::PrepareFlashback(PrepareFlashback { start_ts: table.flashback_start_ts() })
            }
            AdminKind::FinishFlashback => AdminCommand::FinishFlashback(FinishFlashback),
            AdminKind::TransferLeader => AdminCommand::TransferLeader(self.transfer_leader(table)?),
            AdminKind::ComputeHash => AdminCommand::ComputeHash(ComputeHash { context: bytes(table.hash_context()) }),
            AdminKind::VerifyHash => AdminCommand::VerifyHash(VerifyHash {
                index: table.hash_index().into(),
                hash: bytes(table.hash()),
                context: bytes(table.hash_context()),
            }),
        })
    }

    fn missing(self, field: &'static str) -> AdminCodecError {
        AdminCodecError::MissingField { region: self.region, kind: self.kind, field }
    }

    fn one<T>(self, field: &'static str, list: Vec<T>) -> Result<T, AdminCodecError> {
        let found = list.len();
        match (list.into_iter().next(), found) {
            (Some(item), 1) => Ok(item),
            _ => Err(AdminCodecError::NotOne { region: self.region, kind: self.kind, field, found }),
        }
    }

    fn region(self, field: &'static str, table: Option<wire::Region<'_>>) -> Result<Region, AdminCodecError> {
        let invalid = |cause| AdminCodecError::Region { region: self.region, kind: self.kind, field, cause };
        Region::from_table(table.ok_or(self.missing(field))?).map_err(invalid)
    }

    fn peer(self, peer: &wire::PeerDescriptor) -> Result<Peer, AdminCodecError> {
        let (id, flags) = (PeerId::new(peer.id()), peer.flags());
        let unknown = AdminCodecError::UnknownPeerFlags { region: self.region, kind: self.kind, peer: id, flags };
        Peer::from_flags(id, peer.store_id().into(), flags).ok_or(unknown)
    }

    fn changes(self, table: wire::AdminCommand<'_>) -> Result<Vec<PeerChange>, AdminCodecError> {
        let change = |change: &wire::PeerChange| {
            let peer = self.peer(change.peer())?;
            let kind = match change.kind().0 {
                0 => ChangeKind::AddNode,
                1 => ChangeKind::RemoveNode,
                2 => ChangeKind::AddLearner,
                number => {
                    let (region, kind, peer) = (self.region, self.kind, peer.id);
                    return Err(AdminCodecError::UnknownChange { region, kind, peer, number });
                }
            };
            Ok(PeerChange { kind, peer })
        };
        table.changes().into_iter().flatten().map(change).collect()
    }

    fn splits(self, table: wire::AdminCommand<'_>) -> Result<Vec<SplitRequest>, AdminCodecError> {
        let split = |table: wire::SplitRequest<'_>| {
            self.check_fields("split request", table._tab, wire::SplitRequest::VT_NEW_PEER_IDS)?;
            Ok(SplitRequest {
                split_key: table.split_key().map(|key| key.bytes().to_vec()).unwrap_or_default(),
                new_region_id: table.new_region_id().into(),
                new_peer_ids: table.new_peer_ids().into_iter().flatten().map(PeerId::new).collect(),
            })
        };
        table.splits().into_iter().flatten().map(split).collect()
    }

    fn commit_merge(self, table: wire::AdminCommand<'_>) -> Result<CommitMerge, AdminCodecError> {
        let table = table.commit_merge().ok_or(self.missing("commit_merge"))?;
        self.check_fields("commit merge", table._tab, wire::CommitMerge::VT_ENTRIES)?;
        let entry = |table: wire::LogEntry<'_>| {
            self.check_fields("log entry", table._tab, wire::LogEntry::VT_DATA)?;
            let data = table.data().map(|data| data.bytes().to_vec()).unwrap_or_default();
            Ok(LogEntry { index: table.index().into(), term: table.term().into(), data })
        };
        let entries = table.entries().into_iter().flatten().map(entry).collect::<Result<_, AdminCodecError>>()?;
        Ok(CommitMerge { source: self.region("commit_merge", table.source())?, commit: table.commit().into(), entries })
    }

    fn compact_log(self, table: wire::AdminCommand<'_>) -> Result<CompactLog, AdminCodecError> {
        let compact = table.compact().ok_or(self.missing("compact"))?;
        let compact = LogPosition { index: compact.index().into(), term: compact.term().into() };
        Ok(CompactLog { compact, voter_replicated_index: table.voter_replicated_index().into() })
    }

    fn transfer_leader(self, table: wire::AdminCommand<'_>) -> Result<TransferLeader, AdminCodecError> {
        let peers = table.transferees().into_iter().flatten();
        Ok(TransferLeader { transferees: peers.map(|peer| self.peer(peer)).collect::<Result<_, _>>()? })
    }
}

fn switches(table: wire::AdminCommand<'_>) -> BatchSwitchWitness {
    let switches = table.switches().into_iter().flatten();
    let switch = |switch: &wire::WitnessSwitch| WitnessSwitch {
        peer_id: switch.peer_id().into(),
        is_witness: switch.is_witness(),
    };
    BatchSwitchWitness { switches: switches.map(switch).collect() }
}
