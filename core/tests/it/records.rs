//! One stored record of each kind and shape, for the tests of the codec.

use regionmeta::{
    ApplyState, DecodeError, HardState, KeyRange, LogIndex, LogPosition, MergeState, Peer, PeerId, PeerRole, PeerState,
    RaftState, Record, Region, RegionDraft, RegionEpoch, RegionId, StoreId, StoreIdent, layout,
};

/// A decoded value of any kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Value {
    Region(Region),
    ApplyState(ApplyState),
    RaftState(RaftState),
    StoreIdent(StoreIdent),
}

impl Value {
    pub(crate) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Region(region) => region.encode(key, &mut out),
            Self::ApplyState(state) => state.encode(key, &mut out),
            Self::RaftState(state) => state.encode(key, &mut out),
            Self::StoreIdent(ident) => ident.encode(key, &mut out),
        }
        out
    }

    /// Decodes the kind of value that `self` is.
    pub(crate) fn decode_same_kind(&self, key: &[u8], bytes: &[u8]) -> Result<Self, DecodeError> {
        match self {
            Self::Region(_) => Region::decode(key, bytes).map(Self::Region),
            Self::ApplyState(_) => ApplyState::decode(key, bytes).map(Self::ApplyState),
            Self::RaftState(_) => RaftState::decode(key, bytes).map(Self::RaftState),
            Self::StoreIdent(_) => StoreIdent::decode(key, bytes).map(Self::StoreIdent),
        }
    }
}

/// A value where it is stored. The name is also that of its fixture.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) name: &'static str,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Value,
}

impl Stored {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.value.encode(&self.key)
    }
}

fn peer(id: u64, store: u64, role: PeerRole, is_witness: bool) -> Peer {
    Peer { id: PeerId::new(id), store_id: StoreId::new(store), role, is_witness }
}

fn draft(id: u64, start: &'static [u8], end: &'static [u8]) -> RegionDraft<'static> {
    let voter = |n| peer(id * 10 + n, n, PeerRole::Voter, false);
    let range = KeyRange::from_wire(start, end);
    RegionDraft::new(RegionId::new(id), range, RegionEpoch::new(3, id + 4), (1..=3).map(voter).collect())
}

fn region(name: &'static str, draft: &RegionDraft<'_>) -> Stored {
    let value = Value::Region(draft.build().unwrap());
    Stored { name, key: layout::region_state_key(draft.id).to_vec(), value }
}

fn regions() -> Vec<Stored> {
    let roles = vec![
        peer(31, 1, PeerRole::Voter, false),
        peer(32, 2, PeerRole::Learner, false),
        peer(33, 3, PeerRole::Voter, true),
        peer(34, 4, PeerRole::IncomingVoter, false),
        peer(35, 5, PeerRole::DemotingVoter, false),
    ];
    let target = draft(5, b"k50", b"k60").build().unwrap();
    let (min_index, commit) = (LogIndex::new(90), LogIndex::new(99));
    let merging = Some(MergeState { min_index, commit, target: target.as_ref() });
    let merged = merging.map(|merge| MergeState { min_index: LogIndex::new(0), commit: LogIndex::new(0), ..merge });
    vec![
        region("region_plain", &draft(2, b"k20", b"k30")),
        region("region_whole", &draft(1, b"", b"")),
        region("region_roles", &RegionDraft { peers: roles, ..draft(3, b"k30", b"k40") }),
        region(
            "region_merging",
            &RegionDraft { state: PeerState::Merging, merge_state: merging, ..draft(4, b"k40", b"k50") },
        ),
        region(
            "region_tombstone",
            &RegionDraft { state: PeerState::Tombstone, epoch: RegionEpoch::new(0, 0), ..draft(6, b"", b"") },
        ),
        region(
            "region_destroyed",
            &RegionDraft {
                state: PeerState::Tombstone,
                destroyed_peer: Some(PeerId::new(94)),
                ..draft(9, b"k90", b"k95")
            },
        ),
        region(
            "region_merged",
            &RegionDraft { state: PeerState::Tombstone, merge_state: merged, ..draft(7, b"k40", b"k50") },
        ),
        region(
            "region_flashback",
            &RegionDraft { flashback_start_ts: Some(449), encryption_meta: b"opaque", ..draft(8, b"k80", b"") },
        ),
    ]
}

/// Every kind, and every shape that is stored in a way of its own. No two have the same key.
pub(crate) fn all() -> Vec<Stored> {
    let id = RegionId::new(2);
    let position = |index: u64, term: u64| LogPosition { index: index.into(), term: term.into() };
    let apply = ApplyState { applied_index: 77.into(), truncated: position(60, 6), commit: position(78, 7) };
    let hard_state = HardState { term: 7.into(), vote: 22.into(), commit: 78.into() };
    let raft = RaftState { hard_state, last_index: 80.into() };
    let ident = StoreIdent { cluster_id: 6_000.into(), store_id: 3.into(), api_version: 2 };
    let mut all = regions();
    all.extend([
        Stored { name: "apply_state", key: layout::apply_state_key(id).to_vec(), value: Value::ApplyState(apply) },
        Stored { name: "raft_state", key: layout::raft_state_key(id).to_vec(), value: Value::RaftState(raft) },
        Stored { name: "store_ident", key: layout::STORE_IDENT_KEY.to_vec(), value: Value::StoreIdent(ident) },
    ]);
    all
}
