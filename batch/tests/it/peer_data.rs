//! Whose data is deleted: never a key that a region owns, and in the end every key that none does.

use std::collections::BTreeSet;

use regionmeta::{KeyRange, Peer, PeerId, RegionDraft, RegionEpoch, RegionId};
use regionmeta_batch::peers::{DataRange, Destroyed, Effect, Finished, Peers, SnapshotError};
use regionmeta_batch::storage::{MemStorage, Storage};

use crate::common::{Disk, Mem, add, at, on_each_storage, remove, seeded, split, voter};
use crate::peer_life::{CREATED, bury, confirm, delete, own, ready, vote};
use crate::peers::{apply, current, started};

on_each_storage!(a_deletion_keeps_its_range_from_snapshots, what_a_crash_has_left_is_deleted_after_the_start);

const FIRST: RegionId = RegionId::new(2);
const CHILD: RegionId = RegionId::new(10);
const OTHER: RegionId = RegionId::new(50);

fn range(start: &str, end: &str) -> DataRange {
    KeyRange::from_wire(start.as_bytes(), end.as_bytes()).into()
}

fn a_deletion_keeps_its_range_from_snapshots(disk: &impl Disk) {
    let store = started(disk);
    let peers = Peers::new(store.clone());
    apply(&store, FIRST, &split("m", 10, &[11]));
    let Destroyed::Buried { effects, .. } = peers.destroy(CHILD, 11.into()).unwrap() else { panic!() };
    assert_eq!(effects, [delete("m", "")]);
    assert_eq!(peers.on_message(&vote(&store, OTHER, 51, RegionEpoch::new(3, 3))).unwrap(), CREATED);
    let take = |from: &str| {
        let draft = RegionDraft::new(
            OTHER,
            KeyRange::from_wire(from.as_bytes(), b""),
            RegionEpoch::new(3, 3),
            vec![Peer::voter(51.into(), store.ident().store_id)],
        );
        peers.accept_snapshot(&draft.build().unwrap(), at(20), 0.into())
    };
    assert!(matches!(take("x"), Err(SnapshotError::DataRemains { range: r, .. }) if r == range("m", "")));
    peers.data_deleted(&range("m", "n"));
    assert!(matches!(take("x"), Err(SnapshotError::DataRemains { .. })), "another range was deleted");
    peers.data_deleted(&range("m", ""));
    take("x").unwrap();

    // What the snapshot will replace is not to be deleted, nor what waits already.
    let Destroyed::Buried { effects, .. } = peers.destroy(FIRST, own(&peers, FIRST)).unwrap() else { panic!() };
    assert_eq!(effects, [delete("", "m")]);
    assert_eq!(peers.delete_unowned(), [delete("m", "x")]);
    assert_eq!(peers.delete_unowned(), []);
}

fn what_a_crash_has_left_is_deleted_after_the_start(disk: &impl Disk) {
    let store = started(disk);
    let peers = Peers::new(store.clone());
    assert_eq!(peers.delete_unowned(), []);
    apply(&store, FIRST, &split("m", 10, &[11]));
    let _ = peers.destroy(FIRST, own(&peers, FIRST)).unwrap();
    drop((peers, store));
    let store = std::sync::Arc::new(disk.open().unwrap());
    let peers = Peers::new(store);
    assert_eq!(peers.delete_unowned(), [delete("", "m")]);
}

/// A store whose keys are letters, and a host that deletes late and in any order.
struct Host {
    peers: Peers<MemStorage>,
    random: fastrand::Rng,
    next_id: u64,
    /// The letters that the host has data of.
    data: BTreeSet<u8>,
    to_delete: Vec<DataRange>,
}

const LETTERS: std::ops::RangeInclusive<u8> = b'a'..=b'p';

impl Host {
    fn letters(range: KeyRange<'_>) -> impl Iterator<Item = u8> {
        LETTERS.filter(move |letter| range.contains(&[*letter]))
    }

    fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn some_region(&mut self) -> Option<RegionId> {
        let ids: Vec<_> = self.peers.store().meta().snapshot().regions().map(regionmeta::Region::id).collect();
        (!ids.is_empty()).then(|| ids[self.random.usize(..ids.len())])
    }

    fn take(&mut self, effects: Vec<Effect>) {
        self.to_delete.extend(effects.into_iter().filter_map(|effect| match effect {
            Effect::DeleteData { range } => Some(range),
            _ => None,
        }));
    }

    /// Sometimes somebody else's peer waits under the child's id, and the split leaves the child alone.
    fn split(&mut self) {
        let Some(id) = self.some_region() else { return };
        let letter = [self.random.u8(LETTERS)];
        let region = current(self.peers.store(), id).unwrap();
        if !region.range().contains_inside(&letter) {
            return;
        }
        let child = self.fresh();
        if self.random.u32(..4) == 0 {
            let stranger = self.fresh();
            let other = vote(self.peers.store(), child.into(), stranger, region.epoch());
            assert_eq!(self.peers.on_message(&other).unwrap(), CREATED);
        }
        let ids: Vec<_> = region.peers().map(|_| self.fresh()).collect();
        let effects = ready(&self.peers, id, &split(std::str::from_utf8(&letter).unwrap(), child, &ids));
        self.take(effects);
    }

    /// By its log, or in another way.
    fn destroy(&mut self) {
        let Some(id) = self.some_region() else { return };
        if self.random.bool() {
            let (me, store) = (own(&self.peers, id), self.peers.store());
            if current(store, id).unwrap().peer_on(7.into()).is_none() {
                apply(store, id, &add(voter(self.next_id + 1, 7)));
                self.next_id += 1;
            }
            let effects = ready(&self.peers, id, &remove(voter(me.get(), self.peers.store().ident().store_id.get())));
            return self.take(effects);
        }
        match self.peers.destroy(id, own(&self.peers, id)).unwrap() {
            Destroyed::Buried { effects, .. } => self.take(effects),
            other => panic!("{other:?}"),
        }
    }

    /// A new region, or one that is here, gets another range.
    fn snapshot(&mut self) {
        let store = self.peers.store().ident().store_id;
        let (start, end) = (self.random.u8(LETTERS), self.random.u8(LETTERS));
        let (start, end) = ([start.min(end)], [start.max(end) + 1]);
        let known = self.some_region().filter(|_| self.random.bool());
        let (id, peer, version) = match known {
            Some(id) => (id, own(&self.peers, id), current(self.peers.store(), id).unwrap().epoch().version),
            None => (self.fresh().into(), self.fresh().into(), 1),
        };
        if known.is_none() {
            let message = vote(self.peers.store(), id, peer.get(), RegionEpoch::new(9, version));
            assert_eq!(self.peers.on_message(&message).unwrap(), CREATED);
        }
        let members = vec![Peer::voter(peer, store), voter(7, 7)];
        let range = KeyRange::from_wire(&start, &end);
        let epoch = RegionEpoch::new(9, version + 1);
        let region = RegionDraft::new(id, range, epoch, members).build().unwrap();
        let index = self.peers.store().apply_state(id).applied_index.get() + 10;
        match self.peers.accept_snapshot(&region, at(index), 0.into()) {
            Err(SnapshotError::Overlaps { .. } | SnapshotError::DataRemains { .. }) => return,
            accepted => assert_eq!(accepted.unwrap(), []),
        }
        if self.random.u32(..4) == 0 {
            // What is destroyed meanwhile keeps its data in that range.
            self.destroy();
            return self.end_snapshot(id, peer, known.is_none());
        }
        let effects = self.peers.persist_snapshot(id, 8.into(), 0.into()).unwrap();
        self.take(effects);
        assert!(self.peers.start_ingestion(id));
        self.data.extend(Self::letters(range));
        assert!(matches!(self.peers.finish_snapshot(id).unwrap(), Finished::Normal(_)));
    }

    /// It does not come: its peer is destroyed, or it is given up.
    fn end_snapshot(&mut self, id: RegionId, peer: PeerId, waits: bool) {
        let effects = match waits && self.random.bool() {
            true => match self.peers.destroy(id, peer).unwrap() {
                Destroyed::Buried { effects, .. } => effects,
                other => panic!("{other:?}"),
            },
            false => self.peers.give_up_snapshot(id),
        };
        self.take(effects);
    }

    fn delete(&mut self) {
        if self.to_delete.is_empty() {
            return;
        }
        let range = self.to_delete.swap_remove(self.random.usize(..self.to_delete.len()));
        for letter in Self::letters(range.as_range()) {
            assert!(self.peers.store().meta().snapshot().locate(&[letter]).is_none(), "{range:?} is owned again");
            self.data.remove(&letter);
        }
        self.peers.data_deleted(&range);
    }

    fn check(&self, step: u32) {
        let meta = self.peers.store().meta().snapshot();
        for letter in LETTERS {
            let is_owned = meta.locate(&[letter]).is_some();
            let waits = self.to_delete.iter().filter(|range| range.as_range().contains(&[letter])).count();
            assert!(waits <= 1 && (waits == 0 || !is_owned), "step {step}: {letter} is deleted {waits} times");
            let may_stay = is_owned || waits > 0;
            let has_data = self.data.contains(&letter);
            assert!(!is_owned || has_data, "step {step}: the data of {} is gone", char::from(letter));
            assert!(!has_data || may_stay, "step {step}: the data of {} stays for ever", char::from(letter));
        }
    }
}

#[test]
fn deletions_against_a_model() {
    let (_, random) = seeded("deletions_against_a_model");
    let peers = Peers::new(started(&Mem::empty()));
    let mut host = Host { peers, random, next_id: 100, data: LETTERS.collect(), to_delete: Vec::new() };
    for step in 0..3_000 {
        match host.random.u32(..10) {
            0..=2 => host.split(),
            3..=4 => host.destroy(),
            5..=7 => host.snapshot(),
            _ => host.delete(),
        }
        host.check(step);
    }
    while !host.to_delete.is_empty() {
        host.delete();
    }
    host.check(u32::MAX);
    assert!(host.peers.store().meta().snapshot().validate().is_empty());
}

/// What was left to a snapshot is deleted when that is replaced by a narrower one, and the rest when it does not come at all;
/// none of it twice, and nothing for one that comes.
#[test]
fn what_was_left_to_a_snapshot_that_does_not_come_is_deleted() {
    let store = started(&Mem::empty());
    let peers = Peers::new(store.clone());
    assert_eq!(peers.on_message(&vote(&store, OTHER, 51, RegionEpoch::new(3, 3))).unwrap(), CREATED);
    apply(&store, FIRST, &split("m", 10, &[11]));
    bury(&peers, CHILD);
    let accept = |start: &str, end: &str| {
        let own = vec![Peer::voter(51.into(), store.ident().store_id)];
        let range = KeyRange::from_wire(start.as_bytes(), end.as_bytes());
        let region = RegionDraft::new(OTHER, range, RegionEpoch::new(3, 3), own).build().unwrap();
        peers.accept_snapshot(&region, at(20), 0.into()).unwrap()
    };
    assert_eq!(accept("n", ""), []);
    assert_eq!(peers.delete_unowned(), [delete("m", "n")], "the data of who was buried before");
    confirm(&peers, &[delete("m", "n")]);
    assert_eq!((peers.delete_unowned(), accept("n", "")), (vec![delete("m", "n")], vec![]));
    assert_eq!(accept("p", "t"), [delete("n", "p"), delete("t", "")]);
    assert_eq!((peers.give_up_snapshot(OTHER), peers.delete_unowned()), (vec![delete("p", "t")], vec![]));

    let waiting = [delete("m", "n"), delete("n", "p"), delete("p", "t"), delete("t", "")];
    confirm(&peers, &waiting);
    assert_eq!((accept("p", "t"), peers.delete_unowned().len()), (vec![], 2));
    let Destroyed::Buried { effects, .. } = peers.destroy(OTHER, 51.into()).unwrap() else { panic!() };
    assert_eq!((effects, peers.delete_unowned()), (vec![delete("p", "t")], vec![]));
}

/// A snapshot that moves a region leaves what lies outside of the new range, but for what others own.
#[test]
fn a_snapshot_leaves_what_it_does_not_keep() {
    let store = started(&Mem::empty());
    let peers = Peers::new(store.clone());
    apply(&store, FIRST, &split("t", 10, &[11]));
    let me = own(&peers, FIRST);
    let members = vec![Peer::voter(me, store.ident().store_id)];
    let moved = RegionDraft::new(FIRST, KeyRange::from_wire(b"c", b"m"), RegionEpoch::new(3, 9), members).build();
    peers.accept_snapshot(&moved.unwrap(), at(20), 0.into()).unwrap();
    let effects = peers.persist_snapshot(FIRST, 8.into(), 0.into()).unwrap();
    assert_eq!(effects, [delete("", "c"), delete("m", "t")]);
    confirm(&peers, &effects);
    assert_eq!(peers.delete_unowned(), effects, "what was confirmed is forgotten");
    bury(&peers, CHILD);
    assert!(store.storage().sync().is_ok());
}
