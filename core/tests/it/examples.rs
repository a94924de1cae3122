//! One example of each refusal and of each violation, with the words that an operator reads.

use regionmeta::{
    Changeset, EndKey, KeyRange, Peer, PeerId, PeerState, Reason, Refusal, Region, RegionDraft, RegionEpoch, RegionId,
    Removal, Sequence, StoreId, StoreMeta, Violation,
};

const STORE: StoreId = StoreId::new(1);
/// The counter of everything that `abc` holds.
const BASE: Sequence = Sequence::new(1);

/// A region of version 5 whose peer has ten times its id.
fn draft(id: u64, start: &'static str, end: &'static str) -> RegionDraft<'static> {
    let range = KeyRange::from_wire(start.as_bytes(), end.as_bytes());
    RegionDraft::new(RegionId::new(id), range, RegionEpoch::new(5, 5), vec![Peer::voter(PeerId::new(id * 10), STORE)])
}

fn region(id: u64, start: &'static str, end: &'static str) -> Region {
    draft(id, start, end).build().unwrap()
}

fn newer(id: u64, start: &'static str, end: &'static str) -> Region {
    RegionDraft { epoch: RegionEpoch::new(5, 6), ..draft(id, start, end) }.build().unwrap()
}

/// Regions 1 `[a, b)`, 2 `[b, c)`, 3 `[c, +inf)`; no region below "a".
fn abc() -> StoreMeta {
    let regions = [region(1, "a", "b"), region(2, "b", "c"), region(3, "c", "")];
    StoreMeta::recover(Some(STORE), regions, []).unwrap()
}

/// Refused with exactly this text, and readers see the very state of before.
#[track_caller]
fn assert_refused(meta: &StoreMeta, changeset: Changeset, text: &str) -> Refusal {
    let before = meta.snapshot();
    let refusal = meta.prepare(changeset).map(drop).unwrap_err();
    assert_eq!(refusal.to_string(), text);
    let after = meta.snapshot();
    assert_eq!((after.sequence(), meta.sequence()), (before.sequence(), before.sequence()));
    assert!(before.regions().zip(after.regions()).all(|(before, after)| before.same_buffer(after)));
    assert_eq!(before.len(), after.len());
    refusal
}

#[test]
fn changed_twice() {
    let twice = Changeset::new().update(BASE, newer(1, "a", "b"), Reason::ChangePeer);
    let twice = twice.remove(RegionId::new(1), BASE, Removal::Destroyed, None);
    let text = "the changeset changes region 1 twice: merge the two changes into one";
    assert!(matches!(assert_refused(&abc(), twice, text), Refusal::ChangedTwice { .. }));
}

#[test]
fn reserved_by_a_permit_until_it_is_dropped() {
    let meta = abc();
    let change = Changeset::new().update(BASE, newer(2, "b", "c"), Reason::ChangePeer);
    let permit = meta.prepare(change.clone()).unwrap();
    let text = "region 2 is being changed by a changeset that is not yet published: wait for it, then compute anew";
    assert!(matches!(assert_refused(&meta, change.clone(), text), Refusal::Reserved { .. }));
    drop(permit);
    assert_eq!(meta.prepare(change).unwrap().publish().sequence(), Sequence::new(2));
}

/// Two creates of different ids over the same free keys: tikv PR#8084, the race of a split with a create by message.
#[test]
fn reserved_keys_are_out_of_reach_for_another_region() {
    let meta = abc();
    let _permit = meta.prepare(Changeset::new().create(region(4, "", "a"))).unwrap();
    let text = "region 4 is being changed by a changeset that is not yet published: wait for it, then compute anew";
    assert_refused(&meta, Changeset::new().create(region(5, "", "Z")), text);
}

#[test]
fn not_found() {
    let change = Changeset::new().update(BASE, region(9, "", "a"), Reason::ChangePeer);
    let text = "region 9 is not in the map: it was merged, destroyed or never created";
    assert!(matches!(assert_refused(&abc(), change, text), Refusal::NotFound { .. }));
}

#[test]
fn exists() {
    let text = "region 2 [\"b\", \"c\") epoch 5/5 peers [(20, 1)] Normal exists already: \
                a create of epoch 5/6 came too late, or its id was used twice";
    let refusal = assert_refused(&abc(), Changeset::new().create(newer(2, "", "a")), text);
    assert!(matches!(refusal, Refusal::Exists { .. }));
}

#[test]
fn stale() {
    let meta = abc();
    let change = || Changeset::new().update(BASE, newer(2, "b", "c"), Reason::ChangePeer);
    meta.prepare(change()).unwrap().publish();
    let text = "the change of region 2 was computed at #1, but \
                region 2 [\"b\", \"c\") epoch 5/6 peers [(20, 1)] Normal changed at #2: compute anew";
    assert!(matches!(assert_refused(&meta, change(), text), Refusal::Stale { .. }));
}

#[test]
fn epoch_back_in_either_half() {
    for (conf_ver, version) in [(4, 6), (6, 4)] {
        let back = RegionDraft { epoch: RegionEpoch::new(conf_ver, version), ..draft(1, "a", "b") }.build().unwrap();
        let text = format!(
            "region 1 [\"a\", \"b\") epoch {conf_ver}/{version} peers [(10, 1)] Normal would go back behind \
             region 1 [\"a\", \"b\") epoch 5/5 peers [(10, 1)] Normal"
        );
        let refusal = assert_refused(&abc(), Changeset::new().update(BASE, back, Reason::ChangePeer), &text);
        assert!(matches!(refusal, Refusal::EpochBack { .. }));
    }
}

/// Growing into a hole takes a version, too: nobody could otherwise tell the two ranges apart by their epochs.
#[test]
fn range_moved_at_the_same_version() {
    let grown = |version| RegionDraft { epoch: RegionEpoch::new(6, version), ..draft(1, "", "b") }.build().unwrap();
    let text = "region 1 [\"\", \"b\") epoch 6/5 peers [(10, 1)] Normal owns other keys than \
                region 1 [\"a\", \"b\") epoch 5/5 peers [(10, 1)] Normal at the same version: \
                only a split, a merge or a snapshot moves a range";
    let refusal = assert_refused(&abc(), Changeset::new().update(BASE, grown(5), Reason::Snapshot), text);
    assert!(matches!(refusal, Refusal::RangeMoved { .. }));
    assert!(abc().prepare(Changeset::new().update(BASE, grown(6), Reason::Snapshot)).is_ok());
}

/// A split whose child this store has in another way already: the derived region gives the keys up, and only those.
#[test]
fn keys_that_are_left_to_another_peer_are_no_hole() {
    let shrunk = newer(1, "a", "aa");
    let split = || Changeset::new().update(BASE, shrunk.clone(), Reason::Split);
    let text = "no region of the changeset takes over all of region 1 [\"a\", \"b\") epoch 5/5 peers [(10, 1)] Normal: \
                keys would be lost";
    assert!(matches!(assert_refused(&abc(), split(), text), Refusal::Hole { .. }));
    assert_refused(&abc(), split().leave(newer(9, "ab", "b")), text);
    let meta = abc();
    let after = meta.prepare(split().leave(newer(9, "aa", "b"))).unwrap().publish();
    assert!(after.locate(b"aa").is_none() && after.get(RegionId::new(9)).is_none());
    assert_eq!(after.validate(), []);
}

/// Overlap of two ids: the larger version wins, equal versions are corruption, and `conf_ver` does not count (tikv PR#4082).
#[test]
fn not_newer() {
    let meta = || {
        let taken = RegionDraft { epoch: RegionEpoch::new(5, 8), ..draft(2, "b", "c") }.build().unwrap();
        StoreMeta::recover(Some(STORE), [region(1, "a", "b"), taken], []).unwrap()
    };
    let merge = |epoch| {
        let merged = RegionDraft { epoch, ..draft(1, "a", "c") }.build().unwrap();
        let changeset = Changeset::new().update(BASE, merged, Reason::CommitMerge);
        changeset.remove(RegionId::new(2), BASE, Removal::Merged, Some(PeerId::new(20)))
    };
    let text = "region 1 [\"a\", \"c\") epoch 9/8 peers [(10, 1)] Normal takes over keys of \
                region 2 [\"b\", \"c\") epoch 5/8 peers [(20, 1)] Normal and must have a larger version";
    let refusal = assert_refused(&meta(), merge(RegionEpoch::new(9, 8)), text);
    assert!(matches!(refusal, Refusal::NotNewer { .. }));
    assert!(meta().prepare(merge(RegionEpoch::new(5, 9))).is_ok());
}

#[test]
fn overlap_with_a_neighbour() {
    let text = "region 4 [\"\", \"aa\") epoch 5/6 peers [(40, 1)] Normal overlaps \
                region 1 [\"a\", \"b\") epoch 5/5 peers [(10, 1)] Normal, which the changeset leaves as it is";
    let refusal = assert_refused(&abc(), Changeset::new().create(newer(4, "", "aa")), text);
    assert!(matches!(refusal, Refusal::Overlap { .. }));
}

/// M6 of known-bugs: the direct neighbour is taken over properly, the one behind it is not looked at.
#[test]
fn overlap_further_than_the_neighbour() {
    let change = Changeset::new().update(BASE, newer(1, "a", "cc"), Reason::CommitMerge);
    let change = change.remove(RegionId::new(2), BASE, Removal::Merged, None);
    let text = "region 1 [\"a\", \"cc\") epoch 5/6 peers [(10, 1)] Normal overlaps \
                region 3 [\"c\", +inf) epoch 5/5 peers [(30, 1)] Normal, which the changeset leaves as it is";
    assert!(matches!(assert_refused(&abc(), change, text), Refusal::Overlap { .. }));
}

#[test]
fn overlap_within_the_changeset() {
    for (start, end) in [("", "Z"), ("A", "B")] {
        let both = Changeset::new().create(region(4, "", "a")).create(region(5, start, end));
        let refusal = abc().prepare(both).map(drop).unwrap_err();
        assert!(matches!(refusal, Refusal::Overlap { .. }), "{refusal}");
    }
}

#[test]
fn hole_at_either_end_or_between() {
    let text = "no region of the changeset takes over all of region 2 [\"b\", \"c\") epoch 5/5 peers [(20, 1)] Normal: \
                keys would be lost";
    for (start, end) in [("b", "bb"), ("bb", "c")] {
        let change = Changeset::new().update(BASE, newer(2, start, end), Reason::Split);
        assert!(matches!(assert_refused(&abc(), change, text), Refusal::Hole { .. }));
    }
    let between = Changeset::new().update(BASE, newer(2, "b", "b1"), Reason::Split).create(newer(4, "b2", "c"));
    assert_refused(&abc(), between, text);
    let merged_away = Changeset::new().remove(RegionId::new(2), BASE, Removal::Merged, None);
    assert_refused(&abc(), merged_away, text);
    let last = Changeset::new().update(BASE, newer(3, "c", "d"), Reason::Split);
    assert!(matches!(abc().prepare(last).map(drop), Err(Refusal::Hole { .. })));
}

#[test]
fn not_live() {
    let tombstone = RegionDraft { state: PeerState::Tombstone, ..draft(2, "b", "c") }.build().unwrap();
    let text = "region 2 [\"b\", \"c\") epoch 5/5 peers [(20, 1)] Tombstone is a tombstone: remove the region instead";
    let refusal = assert_refused(&abc(), Changeset::new().update(BASE, tombstone, Reason::ChangePeer), text);
    assert!(matches!(refusal, Refusal::NotLive { .. }));
}

/// Recovery would refuse such a region as another store's.
#[test]
fn not_ours() {
    let elsewhere = RegionDraft { peers: vec![Peer::voter(PeerId::new(20), StoreId::new(9))], ..draft(2, "b", "c") };
    let moved = RegionDraft { epoch: RegionEpoch::new(6, 5), ..elsewhere.clone() }.build().unwrap();
    let text = "region 2 [\"b\", \"c\") epoch 6/5 peers [(20, 9)] Normal has no peer on store 1, whose map this is: \
                remove the region instead";
    let refusal = assert_refused(&abc(), Changeset::new().update(BASE, moved, Reason::ChangePeer), text);
    assert!(matches!(refusal, Refusal::NotOurs { store: STORE, .. }));
    let found = StoreMeta::recover(Some(STORE), [elsewhere.build().unwrap()], []);
    assert!(matches!(found.map(drop), Err(Refusal::NotOurs { .. })));
    assert!(StoreMeta::recover(None, [elsewhere.build().unwrap()], []).is_ok());
}

/// I12, through a destroy and through recovery.
#[test]
fn tombstoned() {
    let destroyed_here = abc();
    let destroy = Changeset::new().remove(RegionId::new(2), BASE, Removal::Destroyed, Some(PeerId::new(20)));
    destroyed_here.prepare(destroy).unwrap().publish();
    let others = [region(1, "a", "b"), region(3, "c", "")];
    let graves = [(RegionId::new(2), Some(PeerId::new(20)))];
    for meta in [destroyed_here, StoreMeta::recover(Some(STORE), others, graves).unwrap()] {
        let text = "region 2: peer p20 was destroyed here, and Some(p20) is not a later one";
        let refusal = assert_refused(&meta, Changeset::new().create(newer(2, "b", "c")), text);
        assert!(matches!(refusal, Refusal::Tombstoned { .. }));
        let later = RegionDraft { peers: vec![Peer::voter(PeerId::new(21), STORE)], ..draft(2, "b", "c") };
        assert!(meta.prepare(Changeset::new().create(later.build().unwrap())).is_ok());
    }
}

#[test]
fn recovery_refuses_what_overlaps() {
    let found = StoreMeta::recover(Some(STORE), [region(1, "a", "c"), region(2, "b", "d")], []);
    assert!(matches!(found.map(drop), Err(Refusal::Overlap { .. })));
    let found = StoreMeta::recover(Some(STORE), [region(1, "a", "b"), region(1, "c", "d")], []);
    assert!(matches!(found.map(drop), Err(Refusal::ChangedTwice { .. })));
}

// --- violations ------------------------------------------------------------------------------------------------------
// The public API lets nobody build a snapshot that breaks `validate()`; a step between two maps that have nothing to do with
// each other can break `validate_change_to()`.

#[test]
fn a_hole_between_two_states_is_found() {
    let later = StoreMeta::recover(None, [region(1, "a", "b"), newer(3, "bb", "")], []).unwrap();
    let hole = Violation::Hole { region: region(2, "b", "c") };
    assert_eq!(
        hole.to_string(),
        "I1: region 2 [\"b\", \"c\") epoch 5/5 peers [(20, 1)] Normal was covered, and part of it no longer is"
    );
    let found = |excused: u64| abc().snapshot().validate_change_to(&later.snapshot(), |id| id.get() == excused);
    assert_eq!((found(1), found(2)), (vec![hole], vec![]));
}

#[test]
fn a_region_that_went_back_is_found() {
    let back = RegionDraft { epoch: RegionEpoch::new(4, 9), ..draft(2, "b", "c") }.build().unwrap();
    let later = StoreMeta::recover(None, [region(1, "a", "b"), back.clone(), region(3, "c", "")], []).unwrap();
    let violation = Violation::Backwards { before: region(2, "b", "c"), after: back };
    assert_eq!(
        violation.to_string(),
        "I2, I3: region 2 [\"b\", \"c\") epoch 5/5 peers [(20, 1)] Normal went back to \
         region 2 [\"b\", \"c\") epoch 4/9 peers [(20, 1)] Normal"
    );
    assert_eq!(abc().snapshot().validate_change_to(&later.snapshot(), |_| true), [violation]);
    assert_eq!(abc().snapshot().validate_change_to(&abc().snapshot(), |_| false), []);
}

#[test]
fn an_end_that_is_the_empty_key_is_no_range() {
    let range = KeyRange::new(b"b", EndKey::Finite(b""));
    assert!(range.is_empty() && !range.contains(b"c"));
    assert!(RegionDraft { range, ..draft(1, "", "") }.build().is_err());
}

/// A peer that never had a region here is as dead as one that had (I12).
#[test]
fn a_peer_that_was_buried_by_name_cannot_be_created() {
    let meta = abc();
    let create = || meta.prepare(Changeset::new().create(region(9, "", "a"))).map(drop);
    assert!(create().is_ok());
    meta.bury(RegionId::new(9), PeerId::new(90));
    let refusal = create().unwrap_err();
    assert!(matches!(refusal, Refusal::Tombstoned { destroyed, .. } if destroyed == PeerId::new(90)), "{refusal}");
    let mut later = draft(9, "", "a");
    later.peers = vec![Peer::voter(PeerId::new(91), STORE)];
    assert!(meta.prepare(Changeset::new().create(later.build().unwrap())).is_ok());
}
