//! Reported sizes: no change of a region, an event without changes, gone with the region.

use regionmeta::{
    Changeset, KeyRange, Peer, Reason, RegionDraft, RegionEpoch, RegionId, Removal, Reported, Stats, StoreMeta, Sums,
};

fn region(id: u64, start: &[u8], end: &[u8], version: u64) -> regionmeta::Region {
    let peers = vec![Peer::voter((id + 1).into(), 1.into())];
    let range = KeyRange::from_wire(start, end);
    RegionDraft::new(id.into(), range, RegionEpoch::new(1, version), peers).build().unwrap()
}

fn stats(size_bytes: u64, keys: u64) -> Stats {
    Stats { size_bytes, keys }
}

fn map() -> StoreMeta {
    let meta = StoreMeta::new(None);
    let regions = Changeset::new().create(region(10, b"", b"m", 1)).create(region(20, b"m", b"", 1));
    meta.prepare(regions).unwrap().publish();
    meta
}

#[test]
fn a_report_is_seen_by_readers_and_is_no_change_of_a_region() {
    let meta = map();
    let (mut reader, mut feed) = (meta.reader(), meta.read_handle().subscribe_from(meta.sequence()));
    let mut view = meta.read_handle().view(10.into()).unwrap();
    let before = reader.snapshot().clone();
    let permit = meta.prepare(Changeset::new().update(before.sequence(), region(10, b"", b"m", 2), Reason::ChangePeer));

    let reported = meta.report([(10.into(), stats(5, 1)), (30.into(), stats(9, 9)), (10.into(), stats(7, 2))]);
    assert_eq!(reported, Reported { known: 2, unknown: 1 });
    assert_eq!(reader.snapshot().stats(10.into()), Some(stats(7, 2)), "a cached snapshot is found outdated");
    assert_eq!((before.stats(10.into()), reader.snapshot().stats(30.into())), (None, None));
    assert!(view.current().is_ok_and(|now| now.same_buffer(before.get(10.into()).unwrap().region())));
    assert_eq!(view.changed_at(), Some(before.sequence()), "no version counter of a region moves");
    let event = feed.next().unwrap().unwrap();
    assert_eq!((event.sequence(), event.changes().len()), (meta.sequence(), 0));

    // What was prepared before the report is published after it, and keeps what was reported.
    let after = permit.unwrap().publish();
    assert_eq!(after.stats(10.into()), Some(stats(7, 2)));
    assert_eq!(feed.next().unwrap().unwrap().sequence(), after.sequence());
}

#[test]
fn what_is_known_already_is_not_published_again() {
    let meta = map();
    meta.report([(10.into(), stats(7, 2))]);
    let sequence = meta.sequence();
    assert_eq!(meta.report([(10.into(), stats(7, 2)), (30.into(), stats(1, 1))]), Reported { known: 1, unknown: 1 });
    assert_eq!(meta.report::<Stats>([]), Reported::default());
    assert_eq!(meta.sequence(), sequence);
}

#[test]
fn stats_go_with_their_region_and_children_begin_without() {
    let meta = map();
    let ids: [RegionId; 3] = [10.into(), 15.into(), 20.into()];
    meta.report([(ids[0], stats(10, 1)), (ids[2], stats(20, 2))]);
    let base = meta.snapshot().get(ids[0]).unwrap().changed_at();
    let split =
        Changeset::new().update(base, region(10, b"", b"g", 2), Reason::Split).create(region(15, b"g", b"m", 2));
    let split = meta.prepare(split).unwrap().publish();
    assert_eq!(ids.map(|id| split.stats(id)), [Some(stats(10, 1)), None, Some(stats(20, 2))]);
    assert_eq!(split.sums(KeyRange::ALL), Sums { regions: 3, size_bytes: 30, keys: 3 });
    assert_eq!(split.sums(KeyRange::from_wire(b"g", b"n")), Sums { regions: 2, size_bytes: 20, keys: 2 });

    let base = split.get(ids[2]).unwrap().changed_at();
    let gone = Changeset::new().remove(ids[2], base, Removal::Destroyed, None);
    meta.prepare(gone).unwrap().publish();
    let back = meta.prepare(Changeset::new().create(region(20, b"m", b"", 5))).unwrap().publish();
    assert_eq!(back.stats(ids[2]), None, "another incarnation");
    assert_eq!(back.validate(), []);
}

/// A split whose parts do not share the parent's size leaves all of them unknown, the parent among them.
#[test]
fn what_nobody_knows_any_more_counts_for_nothing() {
    let meta = StoreMeta::new(Some(1.into()));
    meta.prepare(Changeset::new().create(region(10, b"", b"m", 1)).create(region(20, b"m", b"", 1))).unwrap().publish();
    meta.report([(10.into(), stats(5, 1)), (20.into(), stats(7, 2))]);
    let sequence = meta.sequence();
    assert_eq!(meta.report([(10.into(), None), (99.into(), None)]), Reported { known: 1, unknown: 1 });
    assert_ne!(meta.sequence(), sequence, "a cached snapshot does not hear of it");
    let now = meta.snapshot();
    assert_eq!((now.stats(10.into()), now.stats(20.into())), (None, Some(stats(7, 2))));
    assert_eq!(now.sums(KeyRange::ALL), Sums { regions: 2, size_bytes: 7, keys: 2 });
    let sequence = meta.sequence();
    meta.report([(10.into(), None)]);
    assert_eq!(meta.sequence(), sequence, "nothing differs, and nothing was published");
}
