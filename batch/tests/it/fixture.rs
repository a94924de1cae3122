//! T26: a whole store of each format version that was ever released opens for ever, and a newer one is refused.
//!
//! `testdata/v1/store.hex` has a record a line: family, key and value, the latter two in hexadecimal. `testdata/v1/opened.txt` is
//! what opening it gives, in the words of today. The records are never changed: a new format version gets a folder of its own, which
//! `REGIONMETA_WRITE_FIXTURE=1 cargo test -p regionmeta-batch --test it fixture` writes if it is not there.

use std::fs;
use std::path::PathBuf;

use regionmeta::layout::{
    APPLY_STATE_SUFFIX, RAFT_STATE_SUFFIX, SNAPSHOT_RAFT_STATE_SUFFIX, STORE_IDENT_KEY, apply_state_key, data_key,
    decode_region_meta_key, decode_region_raft_key, raft_state_key, snapshot_raft_state_key,
};
use regionmeta::{
    ApplyState, DecodeError, FORMAT_VERSION, HardState, MergeState, Peer, PeerRole, PeerState, RaftState, Record,
    Region, RegionDraft, RegionEpoch, StoreIdent,
};
use regionmeta_batch::bootstrap::BootstrapError;
use regionmeta_batch::records::ReadError;
use regionmeta_batch::recovery::RecoveryError;
use regionmeta_batch::storage::{Family, MemStorage, Storage};
use regionmeta_batch::{OpenError, Store};

use crate::common::{
    Disk, Dump, HERE, Mem, at, draft, dump, learner, on_each_storage, put, put_ident, put_raw, put_region, restore,
};

on_each_storage!(version_1_opens_for_ever, what_version_1_holds_is_written_today);

fn folder(version: u16) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/testdata/v{version}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn fixture(version: u16) -> (Dump, String) {
    let store = fs::read_to_string(folder(version).join("store.hex")).unwrap();
    let record = |line: &str| {
        let [family, key, value] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let family = Family::ALL.into_iter().find(|known| known.name() == family).unwrap();
        (family, unhex(key), unhex(value))
    };
    (store.lines().map(record).collect(), fs::read_to_string(folder(version).join("opened.txt")).unwrap())
}

/// What a person, and the test, wants to know of an opened store.
fn described<S: Storage>(store: &Store<S>) -> String {
    let snapshot = store.meta().snapshot();
    assert_eq!(snapshot.validate(), []);
    let report = store.recovery();
    let regions = snapshot.regions().map(|region| {
        let applied = store.apply_state(region.id());
        format!(
            "{region} merge {:?} applied {applied:?} raft {:?}\n",
            region.merge_state().map(|merge| merge.target.id()),
            { store.raft().raft_state(region.id()).unwrap() }
        )
    });
    let head = format!(
        "{:?}\n{} regions, {} tombstones, applying {:?}, merging {:?}, unavailable {:?}, {} orphans\n",
        store.ident(),
        report.regions,
        report.tombstones,
        report.applying,
        report.merging,
        report.unavailable,
        report.orphan_apply_states
    );
    [head].into_iter().chain(regions).collect()
}

fn version_1_opens_for_ever(disk: &impl Disk) {
    let (records, opened) = fixture(1);
    assert!(records.iter().filter(|(family, ..)| *family == Family::Raft).all(|(_, _, value)| value[4..6] == [1, 0]));
    restore(&disk.storage(), &records);
    let store = disk.open().unwrap();
    assert_eq!(described(&store), opened);
    drop(store);
    assert_eq!(dump(&disk.storage()), records, "opening a store of an older format changes nothing that need not be");
}

/// The format does not drift without a new version number: what these records say is written as these bytes.
fn what_version_1_holds_is_written_today(disk: &impl Disk) {
    let (records, _) = fixture(FORMAT_VERSION);
    let again = disk.storage();
    for (family, key, value) in &records {
        match kind_of(*family, key) {
            Some(write) => write(&again, *family, key, value),
            None => put_raw(&again, *family, key, value),
        }
    }
    assert_eq!(dump(&again), records);
}

type Rewrite<S> = fn(&S, Family, &[u8], &[u8]);

/// Decodes a record, and writes what was decoded.
fn rewrite<S: Storage, R: Record>(storage: &S, family: Family, key: &[u8], value: &[u8]) {
    put(storage, family, key, &R::decode(key, value).unwrap());
}

/// How a record of ours is read and written; `None` for host data.
fn kind_of<S: Storage>(family: Family, key: &[u8]) -> Option<Rewrite<S>> {
    if family == Family::Default {
        return (key == STORE_IDENT_KEY).then_some(rewrite::<S, StoreIdent>);
    }
    if decode_region_meta_key(key).is_ok() {
        return Some(rewrite::<S, Region>);
    }
    match decode_region_raft_key(key).unwrap().1 {
        APPLY_STATE_SUFFIX => Some(rewrite::<S, ApplyState>),
        RAFT_STATE_SUFFIX | SNAPSHOT_RAFT_STATE_SUFFIX => Some(rewrite::<S, RaftState>),
        suffix => panic!("suffix {suffix}"),
    }
}

/// Each record alone, as a newer version would write it, with a checksum that holds.
#[test]
fn a_newer_format_is_refused_whichever_record_has_it() {
    let (records, _) = fixture(1);
    let newer = FORMAT_VERSION + 1;
    let ours = |(family, key, _): &&(Family, Vec<u8>, Vec<u8>)| kind_of::<MemStorage>(*family, key).is_some();
    for (family, key, value) in records.iter().filter(ours) {
        let disk = Mem::empty();
        restore(&disk.0, &records);
        put_raw(&disk.0, *family, key, &resealed(key, value, newer));
        let before = dump(&disk.0);
        let error = disk.open().unwrap_err();
        let (OpenError::Recovery(RecoveryError::Damaged { error: cause, .. })
        | OpenError::Bootstrap(BootstrapError::Read(cause))) = &error
        else {
            panic!("{error}")
        };
        let ReadError::Damaged { at, cause } = cause else { panic!("{cause}") };
        assert_eq!((at.key.as_bytes(), cause), (&key[..], &DecodeError::UnknownVersion { found: newer }));
        assert_eq!(dump(&disk.0), before, "a refusal changes nothing");
    }
}

fn resealed(key: &[u8], value: &[u8], version: u16) -> Vec<u8> {
    let mut value = value.to_vec();
    value[4..6].copy_from_slice(&version.to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(key), &value[..12]), &value[16..]);
    value[12..16].copy_from_slice(&sum.to_le_bytes());
    value
}

// --- how the fixture was made ---------------------------------------------------------------------------------------------

#[test]
fn a_fixture_that_is_missing_is_written_on_demand() {
    let folder = folder(FORMAT_VERSION);
    if std::env::var_os("REGIONMETA_WRITE_FIXTURE").is_some() && !folder.exists() {
        let disk = Mem::empty();
        fill(&disk.0);
        let records = dump(&disk.0);
        let line =
            |(family, key, value): &(Family, Vec<u8>, Vec<u8>)| format!("{family} {} {}\n", hex(key), hex(value));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("store.hex"), records.iter().map(line).collect::<String>()).unwrap();
        fs::write(folder.join("opened.txt"), described(&disk.open().unwrap())).unwrap();
    }
    let again = MemStorage::new();
    fill(&again);
    assert_eq!(dump(&again), fixture(FORMAT_VERSION).0, "the fixture is not what is made here");
}

/// A store with every kind of record, in every state that a store keeps.
fn fill(storage: &impl Storage) {
    put_ident(storage);
    let epoch = RegionEpoch::new(3, 7);
    let state = |state, draft: RegionDraft<'_>| RegionDraft { state, ..draft }.build().unwrap();
    let peers = vec![
        Peer::voter(20.into(), HERE),
        learner(21, 2),
        Peer { role: PeerRole::IncomingVoter, ..Peer::voter(22.into(), 3.into()) },
        Peer { role: PeerRole::DemotingVoter, ..Peer::voter(23.into(), 4.into()) },
        Peer { is_witness: true, ..Peer::voter(24.into(), 5.into()) },
    ];
    put_region(storage, &RegionDraft { peers, ..draft(2, "", "b", epoch) }.build().unwrap());
    let target = draft(4, "c", "d", epoch).build().unwrap();
    let merge_state = Some(MergeState { min_index: 6.into(), commit: 9.into(), target: target.as_ref() });
    put_region(
        storage,
        &RegionDraft { state: PeerState::Merging, merge_state, ..draft(3, "b", "c", epoch) }.build().unwrap(),
    );
    put_region(storage, &target);
    put_region(storage, &state(PeerState::Applying, draft(5, "d", "e", epoch)));
    put_region(storage, &state(PeerState::Unavailable, draft(6, "e", "f", epoch)));
    let flashback =
        RegionDraft { flashback_start_ts: Some(449), encryption_meta: b"opaque", ..draft(7, "f", "", epoch) };
    put_region(storage, &flashback.build().unwrap());
    let lost =
        RegionDraft { destroyed_peer: Some(80.into()), peers: vec![learner(81, 2)], ..draft(8, "x", "y", epoch) };
    put_region(storage, &state(PeerState::Tombstone, lost));
    let merged = MergeState { min_index: 0.into(), commit: 0.into(), target: target.as_ref() };
    put_region(
        storage,
        &state(PeerState::Tombstone, RegionDraft { merge_state: Some(merged), ..draft(9, "c1", "c2", epoch) }),
    );
    for id in [2, 3, 4, 5, 7] {
        let applied = ApplyState { applied_index: (20 + id).into(), truncated: at(10 + id), commit: at(21 + id) };
        put(storage, Family::Raft, &apply_state_key(id.into()), &applied);
        let hard_state = HardState { term: 6.into(), vote: (10 * id).into(), commit: (21 + id).into() };
        let logged = RaftState { hard_state, last_index: (30 + id).into() };
        put(storage, Family::Raft, &raft_state_key(id.into()), &logged);
        if id == 5 {
            put(storage, Family::Raft, &snapshot_raft_state_key(id.into()), &logged);
        }
    }
    put_raw(storage, Family::Default, &data_key(b"host"), b"data");
}
