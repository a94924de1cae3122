//! The wire form of the admin commands: what goes in comes out, and hostile bytes are a typed error or a request that this
//! library could have written (I10).

use regionmeta::{
    ADMIN_BYTES_MAX, AdminCodecError, AdminCommand, AdminHeader, AdminKind, AdminRequest, BatchSplit, ComputeHash,
    KeyRange, Peer, PrepareMerge, RegionDraft, RegionEpoch, RegionError, SplitRequest,
};

use crate::admin_world::World;
use crate::{alloc, seed};

/// What an error may allocate for its text, whatever the input.
const ERROR_TEXT_BYTES: u64 = 4096;

/// At least one request of every kind, as random histories make them.
fn requests() -> Vec<AdminRequest> {
    let seed = seed::seed();
    println!("admin_bytes: REGIONMETA_SEED={seed}");
    let mut world = World::new(seed);
    let requests: Vec<_> = (0..1500).map(|_| world.request_and_go_on()).collect();
    for kind in AdminKind::ALL {
        assert!(requests.iter().any(|request| request.command.kind() == kind), "no {kind:?}");
    }
    requests
}

/// One of each kind: the longest, so that most fields are there.
fn longest() -> Vec<AdminRequest> {
    let all = requests();
    let bytes = |request: &&AdminRequest| request.encode().unwrap().len();
    let longest = |kind| all.iter().filter(|request| request.command.kind() == kind).max_by_key(bytes).unwrap().clone();
    AdminKind::ALL.into_iter().map(longest).collect()
}

/// Decodes hostile bytes; what is accepted must survive being encoded and decoded again.
fn assert_harmless(bytes: &[u8], damage: &str) {
    let (allocated, found) = alloc::count(|| AdminRequest::decode(bytes));
    let allowed = 16 * bytes.len() as u64 + ERROR_TEXT_BYTES;
    assert!(allocated.bytes <= allowed, "{damage} of {} bytes: {allocated:?}", bytes.len());
    if let Ok(request) = found {
        assert_eq!(AdminRequest::decode(&request.encode().unwrap()), Ok(request), "{damage}");
    }
}

#[test]
fn every_request_survives_the_way_to_bytes_and_back() {
    for request in requests() {
        let bytes = request.encode().unwrap();
        assert_eq!(AdminRequest::decode(&bytes).as_ref(), Ok(&request));
        assert_eq!(request.encode().unwrap(), bytes, "equal requests, equal bytes");
    }
}

#[test]
fn every_truncation_and_every_flipped_bit_decodes_or_errs() {
    for request in longest() {
        let mut bytes = request.encode().unwrap();
        for length in 0..bytes.len() {
            assert_harmless(&bytes[..length], "truncation");
            assert_harmless(&bytes[bytes.len() - length..], "beheading");
        }
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_harmless(&bytes, "bit flip");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn random_damage_decodes_or_errs() {
    let mut rng = seed::rng("random_damage_decodes_or_errs");
    for request in longest() {
        let bytes = request.encode().unwrap();
        for _ in 0..2_000 {
            let mut damaged = bytes.clone();
            for _ in 0..rng.usize(1..=6) {
                let at = rng.usize(0..damaged.len());
                damaged[at] = rng.choice([0, 1, 2, 4, 0x7f, 0x80, 0xff]).unwrap();
            }
            assert_harmless(&damaged, "random bytes");
        }
    }
}

/// A table of fields that claims to be shorter than its own header passes the verifier. Counting its fields, as the runtime
/// offers to, subtracted past zero: a panic in a debug build, a huge number in a release build.
#[test]
fn a_field_table_shorter_than_its_header_is_harmless() {
    let request = SplitRequest { split_key: b"m".into(), new_region_id: 2.into(), new_peer_ids: vec![3.into()] };
    let command =
        AdminCommand::BatchSplit(BatchSplit { requests: vec![request], right_derive: true, shares_size: false });
    let header = AdminHeader::new(1.into(), RegionEpoch::INITIAL);
    let bytes = AdminRequest { header, command }.encode().unwrap();
    for at in 0..bytes.len() - 1 {
        for length in 0..4 {
            let mut short = bytes.clone();
            short[at..at + 2].copy_from_slice(&[length, 0]);
            assert_harmless(&short, "short field table");
        }
    }
}

/// The accessors of a region stand in for what they do not know, so a region inside a command is checked before it is copied.
#[test]
fn unknown_peer_flags_inside_a_carried_region_are_refused() {
    let witness = |id: u64| Peer { is_witness: true, ..Peer::learner(id.into(), id.into()) };
    let peers = vec![witness(1), witness(2), witness(3)];
    let range = KeyRange::from_wire(b"m", b"");
    let target = RegionDraft::new(2.into(), range, RegionEpoch::INITIAL, peers).build().unwrap();
    let command = AdminCommand::PrepareMerge(PrepareMerge { target, min_index: 9.into() });
    let mut bytes =
        AdminRequest { header: AdminHeader::new(1.into(), RegionEpoch::INITIAL), command }.encode().unwrap();
    let flags = bytes.windows(7).position(|window| window == [3, 0, 0, 0, 5, 5, 5]).unwrap() + 4;
    bytes[flags] = 0x45;
    let found = AdminRequest::decode(&bytes);
    let cause = RegionError::UnknownPeerFlags { region: 2.into(), peer: 1.into(), flags: 0x45 };
    let (region, kind, field) = (1.into(), AdminKind::PrepareMerge, "merge_target");
    assert_eq!(found, Err(AdminCodecError::Region { region, kind, field, cause }));
}

/// A replica that ignored a field of a later version would come to another result than one that knows it.
#[test]
fn a_field_of_a_later_version_is_refused() {
    let command = AdminCommand::ComputeHash(ComputeHash { context: b"c".to_vec() });
    let header = AdminHeader { term: 6.into(), flashback: true, ..AdminHeader::new(1.into(), RegionEpoch::INITIAL) };
    let bytes = AdminRequest { header, command }.encode().unwrap();
    // The request's own table of fields lies where its root points back to; it lists five, and a sixth is claimed.
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let root = number(0) as usize;
    let table = root.wrapping_sub(number(root) as i32 as usize);
    assert_eq!(bytes[table], 4 + 2 * 5);
    let mut later = bytes.clone();
    later[table] += 2;
    let found = AdminRequest::decode(&later);
    assert!(matches!(found, Err(AdminCodecError::UnknownField { table: "request", .. })), "{found:?}");
}

/// Every type number: fourteen are known, and a known one does not take the fields of another.
#[test]
fn an_unknown_type_and_a_foreign_field_are_refused() {
    for request in longest() {
        let bytes = request.encode().unwrap();
        let kind = request.command.kind();
        for at in (0..bytes.len()).filter(|&at| bytes[at] == kind as u8) {
            let decode = |number| {
                let mut changed = bytes.clone();
                changed[at] = number;
                AdminRequest::decode(&changed)
            };
            // The byte is the type if a number that no type has is refused as one.
            if !matches!(decode(99), Err(AdminCodecError::UnknownKind { number: 99, .. })) {
                continue;
            }
            for number in 0..=u8::MAX {
                let is_known = AdminKind::ALL.iter().any(|kind| *kind as u8 == number);
                let is_unknown = matches!(decode(number), Err(AdminCodecError::UnknownKind { .. }));
                assert_eq!(is_unknown, !is_known, "{number}");
            }
            let foreign = decode(AdminKind::FinishFlashback as u8);
            match kind {
                AdminKind::FinishFlashback => assert!(foreign.is_ok()),
                _ => assert!(matches!(foreign, Err(AdminCodecError::UnexpectedField { .. })), "{kind:?}: {foreign:?}"),
            }
        }
    }
}

#[test]
fn a_request_has_a_longest_length() {
    let header = AdminHeader::new(1.into(), RegionEpoch::INITIAL);
    let request =
        |bytes| AdminRequest { header, command: AdminCommand::ComputeHash(ComputeHash { context: vec![1; bytes] }) };
    assert!(request(ADMIN_BYTES_MAX - 1024).encode().is_ok());
    assert!(matches!(request(ADMIN_BYTES_MAX).encode(), Err(AdminCodecError::TooLong { .. })));
    assert!(matches!(request(ADMIN_BYTES_MAX + 1).encode(), Err(AdminCodecError::TooLong { .. })));
    let (allocated, found) = {
        let bytes = vec![0; ADMIN_BYTES_MAX + 1];
        alloc::count(|| AdminRequest::decode(&bytes))
    };
    assert!(matches!(found, Err(AdminCodecError::TooLong { .. })));
    assert_eq!(allocated.bytes, 0);
}
