//! I13 and the two ways in: each error by the smallest input that causes it, and round trips of any valid draft.

use flatbuffers::FlatBufferBuilder;
use proptest::prelude::*;

use super::*;
use crate::keys::KEY_BYTES_MAX;
use crate::peer::PeerRole;

const ID: RegionId = RegionId::new(7);

fn peer(id: u64, store: u64) -> Peer {
    Peer::voter(PeerId::new(id), StoreId::new(store))
}

/// Region 7, `[b, d)`, epoch 1/1, one voter.
fn plain() -> RegionDraft<'static> {
    RegionDraft::new(ID, KeyRange::from_wire(b"b", b"d"), RegionEpoch::INITIAL, vec![peer(1, 1)])
}

/// A neighbour to merge into.
fn neighbour() -> RegionDraft<'static> {
    RegionDraft { id: RegionId::new(8), range: KeyRange::from_wire(b"d", b""), ..plain() }
}

fn merging(target: RegionRef<'_>) -> RegionDraft<'_> {
    let merge_state = Some(MergeState { min_index: LogIndex::new(3), commit: LogIndex::new(4), target });
    RegionDraft { state: PeerState::Merging, merge_state, ..plain() }
}

// --- every error, by a draft -----------------------------------------------------------------------------------------

#[test]
fn a_draft_that_breaks_i13_is_refused_with_the_error_of_its_own() {
    let long = vec![b'c'; KEY_BYTES_MAX + 1];
    let long_meta = vec![0; REGION_BYTES_MAX + 1];
    let many = (1..=129).map(|n| peer(n, n)).collect();
    let epoch = RegionEpoch::new;
    let range =
        |start: &'static [u8], end: &'static [u8]| RegionDraft { range: KeyRange::from_wire(start, end), ..plain() };
    let too_long = |which| RegionError::KeyTooLong { region: ID, which, bytes: KEY_BYTES_MAX + 1, max: KEY_BYTES_MAX };
    let empty = |start: &[u8], end: &[u8]| RegionError::EmptyRange { region: ID, start: start.into(), end: end.into() };
    let cases = [
        (RegionDraft { id: RegionId::new(0), ..plain() }, RegionError::ZeroId),
        (RegionDraft { range: KeyRange::from_wire(&long, b""), ..plain() }, too_long("start")),
        (RegionDraft { range: KeyRange::from_wire(b"b", &long), ..plain() }, too_long("end")),
        (range(b"b", b"b"), empty(b"b", b"b")),
        (range(b"d", b"b"), empty(b"d", b"b")),
        (RegionDraft { epoch: epoch(0, 1), ..plain() }, RegionError::ZeroEpoch { region: ID, epoch: epoch(0, 1) }),
        (RegionDraft { epoch: epoch(1, 0), ..plain() }, RegionError::ZeroEpoch { region: ID, epoch: epoch(1, 0) }),
        (RegionDraft { peers: vec![], ..plain() }, RegionError::NoPeers { region: ID }),
        // tikv#10533: a tombstone without its peer lets the old peer come back.
        (RegionDraft { peers: vec![], state: PeerState::Tombstone, ..plain() }, RegionError::NoPeers { region: ID }),
        (RegionDraft { peers: many, ..plain() }, RegionError::TooManyPeers { region: ID, peers: 129, max: PEERS_MAX }),
        (
            RegionDraft { peers: vec![peer(0, 4)], ..plain() },
            RegionError::ZeroPeerId { region: ID, store: StoreId::new(4) },
        ),
        (
            RegionDraft { peers: vec![peer(3, 0)], ..plain() },
            RegionError::ZeroStoreId { region: ID, peer: PeerId::new(3) },
        ),
        (
            RegionDraft { peers: vec![peer(3, 1), peer(4, 2), peer(3, 3)], ..plain() },
            RegionError::DuplicatePeer { region: ID, peer: PeerId::new(3) },
        ),
        (
            RegionDraft { peers: vec![peer(3, 1), peer(4, 2), peer(5, 1)], ..plain() },
            RegionError::TwoPeersOnStore {
                region: ID,
                store: StoreId::new(1),
                first: PeerId::new(3),
                second: PeerId::new(5),
            },
        ),
        (
            RegionDraft { state: PeerState::Merging, ..plain() },
            RegionError::MergeStateMissing { region: ID, state: PeerState::Merging },
        ),
        (
            RegionDraft { encryption_meta: &long_meta, ..plain() },
            RegionError::TooLong { bytes: REGION_BYTES_MAX + 1, max: REGION_BYTES_MAX },
        ),
    ];
    for (draft, error) in cases {
        assert_eq!(draft.build(), Err(error));
    }
}

/// The empty key sorts first, and on the wire it means unbounded. A draft that ended there, which no key can be before, was
/// once built into a region that owned every key from its start on.
#[test]
fn an_empty_end_key_made_by_hand_does_not_become_the_unbounded_end() {
    for start in [&b""[..], b"b"] {
        let range = KeyRange::new(start, EndKey::Finite(b""));
        let error = RegionError::EmptyRange { region: ID, start: start.into(), end: b"".as_slice().into() };
        assert_eq!(RegionDraft { range, ..plain() }.build(), Err(error));
    }
}

#[test]
fn a_merge_state_is_refused_where_it_does_not_belong() {
    let target = neighbour().build().unwrap();
    for state in PeerState::ALL {
        let found = RegionDraft { state, ..merging(target.as_ref()) }.build();
        match state {
            PeerState::Merging | PeerState::Tombstone => assert!(found.is_ok(), "{found:?}"),
            _ => assert_eq!(found, Err(RegionError::MergeStateUnexpected { region: ID, state })),
        }
    }
}

#[test]
fn only_a_tombstone_names_a_destroyed_peer() {
    for state in PeerState::ALL.into_iter().filter(|&state| state != PeerState::Merging) {
        let found = RegionDraft { state, destroyed_peer: Some(PeerId::new(7)), ..plain() }.build();
        match state {
            PeerState::Tombstone => {
                let text = "region 7 [\"b\", \"d\") epoch 1/1 peers [(1, 1)] Tombstone of peer 7";
                assert_eq!(found.unwrap().to_string(), text);
            }
            _ => {
                let peer = PeerId::new(7);
                assert_eq!(found, Err(RegionError::DestroyedPeerUnexpected { region: ID, state, peer }));
            }
        }
    }
    let nobody = RegionDraft { state: PeerState::Tombstone, destroyed_peer: Some(PeerId::new(0)), ..plain() };
    assert_eq!(nobody.build(), Err(RegionError::ZeroDestroyedPeer { region: ID }));
    let forged = Region::from_bytes(&by_hand(|_, args| args.destroyed_peer = 7));
    assert!(matches!(forged, Err(RegionError::DestroyedPeerUnexpected { .. })), "{forged:?}");
}

#[test]
fn a_merge_target_is_another_region_that_serves() {
    let itself = RegionDraft { id: ID, ..neighbour() }.build().unwrap();
    assert_eq!(merging(itself.as_ref()).build(), Err(RegionError::MergeIntoItself { region: ID }));

    let third = RegionDraft { id: RegionId::new(9), ..neighbour() }.build().unwrap();
    let chained = RegionDraft { id: RegionId::new(8), ..merging(third.as_ref()) }.build().unwrap();
    for state in [PeerState::Merging, PeerState::Tombstone, PeerState::Applying, PeerState::Unavailable] {
        let target = match state {
            PeerState::Merging => chained.clone(),
            _ => RegionDraft { state, ..neighbour() }.build().unwrap(),
        };
        let cause = Box::new(RegionError::MergeStateUnexpected { region: target.id(), state });
        assert_eq!(merging(target.as_ref()).build(), Err(RegionError::MergeTarget { region: ID, cause }));
    }
}

#[test]
fn two_parts_that_fit_can_still_be_too_long_together() {
    let meta = vec![0; REGION_BYTES_MAX];
    let found = RegionDraft { encryption_meta: &meta, ..plain() }.build().unwrap_err();
    assert!(
        matches!(found, RegionError::TooLong { bytes, max: REGION_BYTES_MAX } if bytes > REGION_BYTES_MAX),
        "{found}"
    );
}

// --- every other error, by bytes that no draft gives -------------------------------------------------------------------

/// A finished buffer with what `plain` has, changed by `edit`.
fn by_hand(edit: impl for<'b> FnOnce(&mut FlatBufferBuilder<'b>, &mut wire::RegionArgs<'b>)) -> Vec<u8> {
    let epoch = wire::Epoch::new(1, 1);
    let mut builder = FlatBufferBuilder::new();
    let mut args = wire::RegionArgs {
        id: ID.get(),
        epoch: Some(&epoch),
        start_key: Some(builder.create_vector(b"b")),
        end_key: Some(builder.create_vector(b"d")),
        peers: Some(builder.create_vector(&[wire::PeerIds::new(1, 1)])),
        ..wire::RegionArgs::default()
    };
    edit(&mut builder, &mut args);
    let root = wire::Region::create(&mut builder, &args);
    builder.finish_minimal(root);
    builder.finished_data().to_vec()
}

#[test]
fn a_buffer_by_hand_with_what_a_draft_has_is_the_same_region() {
    let region = Region::from_bytes(&by_hand(|_, _| ())).unwrap();
    assert_eq!(region, plain().build().unwrap());
}

#[test]
fn absent_fields_are_refused_and_do_not_stand_for_something() {
    assert_eq!(Region::from_bytes(&by_hand(|_, args| args.id = 0)), Err(RegionError::ZeroId));
    assert_eq!(Region::from_bytes(&by_hand(|_, args| args.peers = None)), Err(RegionError::NoPeers { region: ID }));
    let epoch = RegionEpoch::default();
    assert_eq!(
        Region::from_bytes(&by_hand(|_, args| args.epoch = None)),
        Err(RegionError::ZeroEpoch { region: ID, epoch })
    );
}

#[test]
fn peer_flags_are_one_known_byte_a_peer() {
    for count in [0, 2] {
        let bytes = by_hand(|builder, args| args.peer_flags = Some(builder.create_vector(&vec![0u8; count])));
        let error = RegionError::PeerFlagsLength { region: ID, peers: 1, flags: count };
        assert_eq!(Region::from_bytes(&bytes), Err(error));
    }
    for flags in 0..=u8::MAX {
        let bytes = by_hand(|builder, args| args.peer_flags = Some(builder.create_vector(&[flags])));
        match Region::from_bytes(&bytes) {
            Ok(region) => assert_eq!(region.peers().next().unwrap().flags(), flags),
            Err(error) => {
                assert!(flags > 7);
                assert_eq!(error, RegionError::UnknownPeerFlags { region: ID, peer: PeerId::new(1), flags });
            }
        }
    }
}

#[test]
fn an_unknown_state_is_refused() {
    for number in 0..=u8::MAX {
        let found = Region::from_bytes(&by_hand(|_, args| args.state = wire::PeerState(number)));
        match number {
            0 | 1 | 2 | 4 => assert_eq!(found.unwrap().state() as u8, number),
            3 => assert_eq!(found, Err(RegionError::MergeStateMissing { region: ID, state: PeerState::Merging })),
            _ => assert_eq!(found, Err(RegionError::UnknownState { region: ID, number })),
        }
    }
}

#[test]
fn a_merge_state_without_a_target_is_refused() {
    let bytes = by_hand(|builder, args| {
        args.state = wire::PeerState::Merging;
        args.merge = Some(wire::MergeState::create(builder, &wire::MergeStateArgs::default()));
    });
    let error = RegionError::MergeStateMissing { region: ID, state: PeerState::Merging };
    assert_eq!(Region::from_bytes(&bytes), Err(error));
}

#[test]
fn a_malformed_merge_target_is_named_as_such() {
    let bytes = by_hand(|builder, args| {
        let target = wire::Region::create(builder, &wire::RegionArgs { id: 8, ..wire::RegionArgs::default() });
        let merge = wire::MergeStateArgs { target: Some(target), ..wire::MergeStateArgs::default() };
        args.state = wire::PeerState::Merging;
        args.merge = Some(wire::MergeState::create(builder, &merge));
    });
    let region = RegionId::new(8);
    let cause = Box::new(RegionError::ZeroEpoch { region, epoch: RegionEpoch::default() });
    assert_eq!(Region::from_bytes(&bytes), Err(RegionError::MergeTarget { region: ID, cause }));
}

#[test]
fn a_chain_of_merges_deeper_than_the_limit_is_refused() {
    let bytes = by_hand(|builder, args| {
        for _ in 0..8 {
            let target = wire::Region::create(builder, args);
            let merge = wire::MergeStateArgs { target: Some(target), ..wire::MergeStateArgs::default() };
            args.merge = Some(wire::MergeState::create(builder, &merge));
        }
    });
    assert!(matches!(Region::from_bytes(&bytes), Err(RegionError::Malformed(_))));
}

#[test]
fn parts_that_share_bytes_are_counted_each_time() {
    // A few hundred bytes that claim to be many megabytes: every table of a chain is honest, and they all share one key.
    let key = vec![b'a'; 4096];
    let bytes = by_hand(|builder, args| {
        let shared = Some(builder.create_vector(&key));
        args.start_key = shared;
        args.end_key = shared;
        args.encryption_meta = shared;
        let target = wire::Region::create(builder, args);
        let merge = wire::MergeStateArgs { target: Some(target), ..wire::MergeStateArgs::default() };
        args.merge = Some(wire::MergeState::create(builder, &merge));
    });
    assert!(matches!(Region::from_bytes(&bytes), Err(RegionError::Malformed(_))));
}

#[test]
fn what_is_no_flatbuffer_is_malformed() {
    let whole = plain().build().unwrap();
    for length in 0..16 {
        let found = Region::from_bytes(&whole.as_bytes()[..length]);
        assert!(matches!(found, Err(RegionError::Malformed(_))), "{length}: {found:?}");
    }
    assert!(matches!(Region::from_bytes(&[0xff; 64]), Err(RegionError::Malformed(_))));
}

// --- limits ----------------------------------------------------------------------------------------------------------

#[test]
fn the_limits_themselves_are_allowed() {
    let (start, end) = (vec![b'a'; KEY_BYTES_MAX], vec![b'b'; KEY_BYTES_MAX]);
    let peers: Vec<_> = (1..=PEERS_MAX as u64).map(|n| peer(n, n)).collect();
    let draft = RegionDraft { range: KeyRange::from_wire(&start, &end), peers, ..plain() };
    let region = draft.build().unwrap();
    assert_eq!(region.peers().len(), PEERS_MAX);
    assert_eq!(Region::from_bytes(region.as_bytes()).unwrap(), region);

    // As much encryption metadata as a record of exactly 1 MiB has room for.
    let overhead =
        RegionDraft { encryption_meta: &[0; 1024], ..draft.clone() }.build().unwrap().as_bytes().len() - 1024;
    let meta = vec![0; REGION_BYTES_MAX - overhead];
    let largest = RegionDraft { encryption_meta: &meta, ..draft }.build().unwrap();
    assert_eq!(largest.as_bytes().len(), REGION_BYTES_MAX);
    assert_eq!(Region::from_bytes(largest.as_bytes()).unwrap(), largest);
    let longer = [largest.as_bytes(), &[0]].concat();
    let error = RegionError::TooLong { bytes: REGION_BYTES_MAX + 1, max: REGION_BYTES_MAX };
    assert_eq!(Region::from_bytes(&longer), Err(error));
}

#[test]
fn a_key_beyond_the_limit_is_refused_in_bytes_too() {
    let long = vec![b'c'; KEY_BYTES_MAX + 1];
    let bytes = by_hand(|builder, args| args.end_key = Some(builder.create_vector(&long)));
    let error = RegionError::KeyTooLong { region: ID, which: "end", bytes: KEY_BYTES_MAX + 1, max: KEY_BYTES_MAX };
    assert_eq!(Region::from_bytes(&bytes), Err(error));

    let many: Vec<_> = (1..=129).map(|n| wire::PeerIds::new(n, n)).collect();
    let bytes = by_hand(|builder, args| args.peers = Some(builder.create_vector(&many)));
    let error = RegionError::TooManyPeers { region: ID, peers: 129, max: PEERS_MAX };
    assert_eq!(Region::from_bytes(&bytes), Err(error));
}

// --- size and sharing --------------------------------------------------------------------------------------------------

/// Pins the figures in the doc of [`Region`].
#[test]
fn a_region_takes_what_its_doc_says() {
    let draft = RegionDraft {
        range: KeyRange::from_wire(b"t_0000000000000042_r", b"t_0000000000000043_r"),
        peers: vec![peer(11, 1), peer(12, 2), peer(13, 3)],
        ..plain()
    };
    let region = draft.build().unwrap();
    assert_eq!((draft.range.start.len(), region.as_bytes().len()), (20, 168));
    assert_eq!(size_of::<Region>(), size_of::<usize>());
    // The reference count and the length, in front of the bytes.
    assert_eq!(region.as_bytes().as_ptr() as usize - region.buffer.ptr() as usize, 16);
}

#[test]
fn a_clone_shares_the_buffer_and_an_equal_region_need_not() {
    let region = plain().build().unwrap();
    let (clone, twin) = (region.clone(), plain().build().unwrap());
    assert!(region.same_buffer(&clone) && std::ptr::eq(region.as_bytes(), clone.as_bytes()));
    assert!(!region.same_buffer(&twin));
    assert_eq!(region, twin);
}

#[test]
fn merge_state_and_flashback_are_read_back() {
    let target = neighbour().build().unwrap();
    let region = RegionDraft { flashback_start_ts: Some(0), ..merging(target.as_ref()) }.build().unwrap();
    let merge = region.merge_state().unwrap();
    assert_eq!((merge.min_index, merge.commit, merge.target), (LogIndex::new(3), LogIndex::new(4), target.as_ref()));
    // A timestamp of 0 is still a timestamp.
    assert_eq!(region.flashback_start_ts(), Some(0));
    assert_eq!(plain().build().unwrap().flashback_start_ts(), None);
    assert_eq!(
        region.to_string(),
        "region 7 [\"b\", \"d\") epoch 1/1 peers [(1, 1)] Merging merge into 8 at 1/1 (min 3, commit 4) flashback 0"
    );
}

#[test]
fn a_tombstone_may_have_no_epoch() {
    // tikv#12048: a peer that dies before it was initialized leaves one.
    let draft = RegionDraft { state: PeerState::Tombstone, epoch: RegionEpoch::new(0, 0), ..plain() };
    let region = draft.build().unwrap();
    assert_eq!(Region::from_bytes(region.as_bytes()).unwrap().epoch(), RegionEpoch::new(0, 0));
}

#[test]
fn regions_differ_when_one_field_does() {
    let (target, other) = (neighbour().build().unwrap(), RegionDraft { epoch: RegionEpoch::new(1, 2), ..neighbour() });
    let other = other.build().unwrap();
    let base = merging(target.as_ref());
    let learner = Peer::learner(PeerId::new(1), StoreId::new(1));
    let witness = Peer { is_witness: true, ..peer(1, 1) };
    let variants = [
        RegionDraft { id: RegionId::new(6), ..base.clone() },
        RegionDraft { range: KeyRange::from_wire(b"a", b"d"), ..base.clone() },
        RegionDraft { range: KeyRange::from_wire(b"b", b""), ..base.clone() },
        RegionDraft { epoch: RegionEpoch::new(2, 1), ..base.clone() },
        RegionDraft { epoch: RegionEpoch::new(1, 2), ..base.clone() },
        RegionDraft { peers: vec![peer(2, 1)], ..base.clone() },
        RegionDraft { peers: vec![peer(1, 2)], ..base.clone() },
        RegionDraft { peers: vec![learner], ..base.clone() },
        RegionDraft { peers: vec![witness], ..base.clone() },
        RegionDraft { state: PeerState::Tombstone, ..base.clone() },
        RegionDraft { state: PeerState::Tombstone, destroyed_peer: Some(PeerId::new(1)), ..base.clone() },
        RegionDraft { state: PeerState::Tombstone, destroyed_peer: Some(PeerId::new(2)), ..base.clone() },
        RegionDraft {
            merge_state: base.merge_state.map(|m| MergeState { min_index: LogIndex::new(9), ..m }),
            ..base.clone()
        },
        RegionDraft {
            merge_state: base.merge_state.map(|m| MergeState { commit: LogIndex::new(9), ..m }),
            ..base.clone()
        },
        merging(other.as_ref()),
        RegionDraft { flashback_start_ts: Some(0), ..base.clone() },
        RegionDraft { flashback_start_ts: Some(1), ..base.clone() },
        RegionDraft { encryption_meta: b"e", ..base.clone() },
        base,
    ];
    let regions: Vec<_> = variants.iter().map(|draft| draft.build().unwrap()).collect();
    for (at, left) in regions.iter().enumerate() {
        for (other, right) in regions.iter().enumerate() {
            assert_eq!(left == right, at == other, "{left} and {right}");
        }
    }
}

// --- round trips -----------------------------------------------------------------------------------------------------

/// Owns what a draft borrows.
#[derive(Clone, Debug)]
struct Content {
    id: u64,
    keys: (Vec<u8>, Vec<u8>),
    epoch: (u64, u64),
    peers: Vec<Peer>,
    state: PeerState,
    merge: (u64, u64),
    flashback_start_ts: Option<u64>,
    encryption_meta: Vec<u8>,
    /// For the tombstones that are made of it.
    destroyed_peer: u64,
}

impl Content {
    fn draft<'a>(&'a self, target: Option<&'a Region>) -> RegionDraft<'a> {
        let (min_index, commit) = (LogIndex::new(self.merge.0), LogIndex::new(self.merge.1));
        RegionDraft {
            id: RegionId::new(self.id),
            range: KeyRange::from_wire(&self.keys.0, &self.keys.1),
            epoch: RegionEpoch::new(self.epoch.0, self.epoch.1),
            peers: self.peers.clone(),
            state: self.state,
            merge_state: target.map(|target| MergeState { min_index, commit, target: target.as_ref() }),
            flashback_start_ts: self.flashback_start_ts,
            encryption_meta: &self.encryption_meta,
            destroyed_peer: None,
        }
        .with_state(self.state, self.destroyed_peer)
    }
}

impl RegionDraft<'_> {
    fn with_state(self, state: PeerState, destroyed_peer: u64) -> Self {
        let destroyed_peer = Some(PeerId::new(destroyed_peer)).filter(|_| state == PeerState::Tombstone);
        Self { state, destroyed_peer: destroyed_peer.filter(|peer| peer.get() != 0), ..self }
    }
}

fn any_peers() -> impl Strategy<Value = Vec<Peer>> {
    let role = prop::sample::select(vec![
        PeerRole::Voter,
        PeerRole::Learner,
        PeerRole::IncomingVoter,
        PeerRole::DemotingVoter,
    ]);
    // Plain voters alone are stored in another way than mixed roles.
    let flags = prop_oneof![Just((PeerRole::Voter, false)), (role, any::<bool>())];
    prop::collection::btree_map(1..=u64::MAX, flags, 1..8).prop_map(|peers| {
        let peer =
            |(at, (id, (role, is_witness)))| Peer { id: PeerId::new(id), store_id: StoreId::new(at), role, is_witness };
        (1..).zip(peers).map(peer).collect()
    })
}

fn any_keys() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let key = || prop::collection::vec(any::<u8>(), 0..40);
    (key(), key()).prop_map(|(a, b)| match a.cmp(&b) {
        std::cmp::Ordering::Less => (a, b),
        std::cmp::Ordering::Equal => (a, vec![]),
        std::cmp::Ordering::Greater => (b, a),
    })
}

fn any_content() -> impl Strategy<Value = Content> {
    let state = prop::sample::select(vec![
        PeerState::Normal,
        PeerState::Applying,
        PeerState::Tombstone,
        PeerState::Unavailable,
    ]);
    let meta = prop::collection::vec(any::<u8>(), 0..20);
    let half = || prop_oneof![1u64..9, 1..=u64::MAX];
    let destroyed = prop_oneof![Just(0), half()];
    let numbers = (any::<(u64, u64)>(), any::<Option<u64>>(), destroyed);
    let fields = (half(), any_keys(), (half(), half()), any_peers(), state, numbers, meta);
    fields.prop_map(|(id, keys, epoch, peers, state, numbers, encryption_meta)| Content {
        id,
        keys,
        epoch,
        peers,
        state,
        merge: numbers.0,
        flashback_start_ts: numbers.1,
        encryption_meta,
        destroyed_peer: numbers.2,
    })
}

/// Runs `check` on the region alone, merging into a target, and as a tombstone that was merged into it.
fn with_every_draft(content: &Content, target: &Content, check: impl Fn(&RegionDraft<'_>)) {
    let id = if target.id == content.id { content.id % u64::MAX + 1 } else { target.id };
    let target = Content { id, state: PeerState::Normal, ..target.clone() }.draft(None).build().unwrap();
    check(&content.draft(None));
    for state in [PeerState::Merging, PeerState::Tombstone] {
        check(&content.draft(Some(&target)).with_state(state, content.destroyed_peer));
    }
}

proptest! {
    #[test]
    fn any_draft_survives_the_way_to_bytes_and_back(content in any_content(), target in any_content()) {
        with_every_draft(&content, &target, |draft| {
            let region = draft.build().unwrap();
            let again = Region::from_bytes(region.as_bytes()).unwrap();
            assert_eq!(&again, &region);
            assert_eq!(again.to_draft().build().unwrap().as_bytes(), region.as_bytes());
            assert_reads_back(&again, draft);
        });
    }

    #[test]
    fn equal_drafts_give_equal_bytes(content in any_content(), target in any_content()) {
        with_every_draft(&content, &target, |draft| {
            assert_eq!(draft.build().unwrap().as_bytes(), draft.clone().build().unwrap().as_bytes());
        });
    }
}

/// Each accessor against the field that it reads, so that no two of them can be swapped unnoticed.
fn assert_reads_back(region: &Region, draft: &RegionDraft<'_>) {
    assert_eq!((region.id(), region.epoch(), region.state()), (draft.id, draft.epoch, draft.state));
    assert_eq!(
        (region.range(), region.start_key(), region.end_key()),
        (draft.range, draft.range.start, draft.range.end)
    );
    assert!(region.peers().eq(draft.peers.iter().copied()));
    assert_eq!(region.merge_state(), draft.merge_state);
    assert_eq!(region.flashback_start_ts(), draft.flashback_start_ts);
    assert_eq!(region.as_ref().encryption_meta(), draft.encryption_meta);
    assert_eq!(region.destroyed_peer(), draft.destroyed_peer);
    for peer in &draft.peers {
        assert_eq!(region.peer_on(peer.store_id), Some(*peer));
    }
    assert_eq!(region.peer_on(StoreId::new(0)), None);
}
