//! Views: the map's own allocation (I6), always the newest (M22), no memory but the region's (M26), and an end that is
//! final (I12, M28).

use regionmeta::testkit::{History, Model};
use regionmeta::{
    Changeset, Gone, KeyRange, Peer, PeerId, Reason, Region, RegionDraft, RegionEpoch, Removal, StoreId, StoreMeta,
    View,
};

use crate::alloc;
use crate::seed::rng;

const STORE: StoreId = StoreId::new(1);

fn region(id: u64, peer: u64, epoch: RegionEpoch) -> Region {
    let (start, end) = (id.to_be_bytes(), (id + 1).to_be_bytes());
    let peers = vec![Peer::voter(peer.into(), STORE)];
    RegionDraft::new(id.into(), KeyRange::from_wire(&start, &end), epoch, peers).build().unwrap()
}

fn publish(meta: &StoreMeta, changeset: Changeset) {
    drop(meta.prepare(changeset).unwrap().publish());
}

fn destroy(meta: &StoreMeta, id: u64, peer: Option<PeerId>) {
    let base = meta.snapshot().get(id.into()).unwrap().changed_at();
    publish(meta, Changeset::new().remove(id.into(), base, Removal::Destroyed, peer));
}

/// Every view of a random history, asked now and then: it has the map's region while this store's peer is the one that it
/// began with, and is gone for ever from the first moment in which that is not so.
#[test]
fn views_follow_the_model() {
    let mut rng = rng("views_follow_the_model");
    let (mut asked, mut gone) = (0, 0);
    for _ in 0..32 {
        let meta = StoreMeta::new(Some(STORE));
        let (mut model, mut history) = (Model::new(Some(STORE)), History::new(rng.u64(..), STORE));
        let mut views: Vec<View> = Vec::new();
        for _ in 0..200 {
            let changeset = history.right(&model);
            publish(&meta, changeset.clone());
            model.publish(&changeset);
            views.extend(rng.choice(model.regions()).and_then(|(region, _)| meta.read_handle().view(region.id())));
            for view in &mut views {
                let peer = view.peer();
                let live = model.regions().into_iter().find(|(region, _)| region.id() == view.id());
                let live = live.filter(|(region, _)| region.peer_on(STORE).map(|peer| peer.id) == peer);
                if rng.u8(0..4) == 0 {
                    let found = view.current().cloned();
                    let same = match (&found, &live) {
                        (Ok(found), Some((expected, _))) => found.same_buffer(expected),
                        (Err(Gone { region, peer: named }), None) => (*region, *named) == (view.id(), peer),
                        _ => false,
                    };
                    assert!(same, "{found:?}, where {live:?} is expected");
                    assert_eq!(view.changed_at(), live.map(|(_, changed_at)| changed_at));
                    assert_eq!(view.is_current(), found.is_ok());
                    (asked, gone) = (asked + 1, gone + u32::from(found.is_err()));
                }
            }
        }
    }
    println!("{asked} times asked, {gone} times gone");
    assert!(gone > 1_000 && asked - gone > 1_000, "{gone} of {asked} gone");
}

/// M28: the id lives on with a later peer. A view that slept through it all is as gone as one that saw the gap.
#[test]
fn a_view_of_a_destroyed_peer_does_not_take_the_next_one_for_it() {
    let meta = StoreMeta::new(Some(STORE));
    publish(&meta, Changeset::new().create(region(2, 3, RegionEpoch::INITIAL)));
    let mut asleep = meta.read_handle().view(2.into()).unwrap();
    let mut awake = meta.read_handle().view(2.into()).unwrap();
    destroy(&meta, 2, Some(3.into()));
    let gone = Gone { region: 2.into(), peer: Some(3.into()) };
    assert_eq!(awake.current(), Err(gone));
    publish(&meta, Changeset::new().create(region(2, 4, RegionEpoch::new(9, 9))));
    for view in [&mut asleep, &mut awake] {
        assert_eq!((view.is_current(), view.current()), (false, Err(gone)));
    }
    assert!(meta.read_handle().view(2.into()).unwrap().current().is_ok());
}

/// Without a store the epoch is what tells, and a gap that was seen.
#[test]
fn a_view_in_a_map_of_many_stores_ends_when_the_epoch_goes_back_or_a_gap_was_seen() {
    let meta = StoreMeta::new(None);
    publish(&meta, Changeset::new().create(region(2, 3, RegionEpoch::new(5, 5))));
    let mut asleep = meta.read_handle().view(2.into()).unwrap();
    destroy(&meta, 2, None);
    publish(&meta, Changeset::new().create(region(2, 3, RegionEpoch::INITIAL)));
    let mut awake = meta.read_handle().view(2.into()).unwrap();
    assert_eq!(asleep.current(), Err(Gone { region: 2.into(), peer: None }));
    destroy(&meta, 2, None);
    assert!(awake.current().is_err());
    publish(&meta, Changeset::new().create(region(2, 3, RegionEpoch::new(9, 9))));
    assert!(awake.current().is_err() && asleep.current().is_err());
}

/// M22: what was valid before a publish is not valid after it, also when it was asked just before.
#[test]
fn a_view_is_renewed_after_every_publish() {
    let meta = StoreMeta::new(Some(STORE));
    publish(&meta, Changeset::new().create(region(2, 3, RegionEpoch::INITIAL)));
    let mut view = meta.read_handle().view(2.into()).unwrap();
    for version in 2..100 {
        let base = view.changed_at().unwrap();
        let next = region(2, 3, RegionEpoch::new(1, version));
        publish(&meta, Changeset::new().update(base, next.clone(), Reason::PrepareMerge));
        assert!(!view.is_current());
        assert!(view.current().unwrap().same_buffer(&next) && view.is_current());
    }
}

/// M26: the version that an idle view was made from, or last asked, is freed by the publish that replaces it.
#[test]
fn an_idle_view_keeps_no_version_of_the_map_alive() {
    const REGIONS: u64 = 2_000;
    let meta = StoreMeta::new(None);
    publish(&meta, (1..=REGIONS).fold(Changeset::new(), |all, id| all.create(region(id, id, RegionEpoch::INITIAL))));
    let mut view = meta.read_handle().view(1.into()).unwrap();
    publish(&meta, Changeset::new().remove(2.into(), meta.sequence(), Removal::Destroyed, None));
    assert!(!view.is_current());
    view.current().unwrap(); // looks into the state that is replaced next
    let base = meta.snapshot().get(3.into()).unwrap().changed_at();
    let all = (3..=REGIONS).fold(Changeset::new(), |all, id| all.remove(id.into(), base, Removal::Destroyed, None));
    let before = alloc::freed_here();
    publish(&meta, all);
    let freed = alloc::freed_here() - before;
    assert!(freed >= REGIONS - 2, "{freed} pieces of memory were freed beside an idle view");
    assert!(!view.is_current() && view.current().is_ok());
}
