//! The peers of a store, and who is told of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use regionmeta::{AdminCommand, Reason, Region, RegionId};
use regionmeta_batch::Store;
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::peers::{Notifier, PeerEvent, Peers, Role};
use regionmeta_batch::storage::Storage;

use crate::common::{CLUSTER, Disk, Mem, add_learner, at, builder, learner, on_each_storage, remove, seeded, split};

on_each_storage!(observers_hear_each_change_in_order, a_role_belongs_to_its_peer);

const FIRST: RegionId = RegionId::new(2);
pub(crate) const LEADER: Role = Role::Leader { term: regionmeta::Term::new(6) };

pub(crate) fn started<D: Disk>(disk: &D) -> Arc<Store<D::Storage>> {
    Arc::new(builder().bootstrap_storage(disk.storage(), &EmbeddedPd::new(CLUSTER)).unwrap())
}

/// Applies the next entry of a region, proposed at its current epoch.
pub(crate) fn apply<S: Storage>(store: &Store<S>, region: RegionId, command: &AdminCommand) {
    let epoch = current(store, region).unwrap().epoch();
    let next = store.apply_state(region).applied_index.get() + 1;
    let mut batch = store.begin();
    batch.apply(region, at(next), epoch, command).unwrap();
    batch.commit().unwrap();
}

pub(crate) fn current<S: Storage>(store: &Store<S>, region: RegionId) -> Option<Region> {
    Some(store.meta().snapshot().get(region)?.region().clone())
}

pub(crate) type Heard = Arc<Mutex<Vec<PeerEvent>>>;

pub(crate) fn listen<S: Storage>(peers: &Arc<Peers<S>>) -> (Notifier<S>, Heard) {
    let heard = Heard::default();
    let ears = heard.clone();
    let notifier = peers.notifier(vec![Box::new(move |event: &PeerEvent| ears.lock().unwrap().push(event.clone()))]);
    (notifier, heard)
}

pub(crate) fn take(heard: &Heard) -> Vec<PeerEvent> {
    std::mem::take(&mut heard.lock().unwrap())
}

fn observers_hear_each_change_in_order(disk: &impl Disk) {
    let store = started(disk);
    let peers = Arc::new(Peers::new(store.clone()));
    let before = current(&store, FIRST).unwrap();
    let (mut notifier, heard) = listen(&peers);

    assert_eq!((notifier.deliver(), take(&heard)), (1, vec![PeerEvent::Created { region: before }]));
    assert_eq!(notifier.deliver(), 0);

    apply(&store, FIRST, &add_learner(learner(30, 3)));
    let learned = current(&store, FIRST).unwrap();
    apply(&store, FIRST, &split("m", 10, &[11, 12]));
    peers.set_role(FIRST, current(&store, FIRST).unwrap().peers().next().unwrap().id, LEADER);
    notifier.deliver();
    let (parent, child) = (current(&store, FIRST).unwrap(), current(&store, RegionId::new(10)).unwrap());
    let expected = [
        PeerEvent::Updated { region: learned, reason: Some(Reason::ChangePeer) },
        PeerEvent::Updated { region: parent.clone(), reason: Some(Reason::Split) },
        PeerEvent::Created { region: child },
        PeerEvent::RoleChanged { region: parent, role: LEADER },
    ];
    let heard = take(&heard);
    assert_eq!(heard.len(), expected.len());
    assert!(expected.iter().all(|event| heard.contains(event)), "{heard:?}");
    assert_eq!(heard.first(), expected.first());
    assert_eq!(heard.last(), expected.last());
}

/// tikv#17469: a peer acted on with what belonged to an earlier one of the same region.
fn a_role_belongs_to_its_peer(disk: &impl Disk) {
    let store = started(disk);
    let peers = Arc::new(Peers::new(store.clone()));
    let (mut notifier, heard) = listen(&peers);
    let own = peers.peer(FIRST).unwrap().peer_id;

    assert!(!peers.set_role(FIRST, (own.get() + 1).into(), LEADER), "the role of a peer that is not here");
    assert!(!peers.set_role(RegionId::new(99), own, LEADER));
    assert!(peers.set_role(FIRST, own, Role::Candidate) && !peers.set_role(FIRST, own, Role::Candidate));
    assert!(peers.set_role(FIRST, own, LEADER));
    assert_eq!(peers.peer(FIRST).unwrap().role, LEADER);
    assert_eq!(notifier.deliver(), 2, "created, and the last of two roles");

    // A role that came and went between two deliveries is no news.
    assert!(peers.set_role(FIRST, own, Role::Follower) && peers.set_role(FIRST, own, LEADER));
    take(&heard);
    assert_eq!(notifier.deliver(), 0, "{heard:?}");
}

/// What an index that is built on events knows: regions, their roles.
#[derive(Default)]
struct Picture {
    regions: HashMap<RegionId, Region>,
    roles: HashMap<RegionId, Role>,
}

impl Picture {
    fn hear(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::Created { region } => {
                let id = region.id();
                assert!(self.regions.insert(id, region).is_none(), "region {id} was created twice");
            }
            PeerEvent::Updated { region, .. } => {
                let before = self.regions.insert(region.id(), region.clone()).expect("an update before its creation");
                assert!(!region.epoch().is_behind_any(before.epoch()), "{before} became {region}");
            }
            PeerEvent::Destroyed { region } => {
                assert!(self.regions.remove(&region).is_some(), "region {region} was destroyed before it was created");
                self.roles.remove(&region);
            }
            PeerEvent::RoleChanged { region, role } => {
                assert_ne!(self.roles.insert(region.id(), role).unwrap_or_default(), role, "no news");
            }
            event => panic!("{event:?}"),
        }
    }
}

/// Splits, membership changes, removals and roles, with deliveries now and then, some of them after the feed has lost what
/// happened: the observer's picture is the store's.
#[test]
fn an_observer_that_is_late_ends_with_the_same_picture() {
    let (_, mut random) = seeded("an_observer_that_is_late_ends_with_the_same_picture");
    let store = started(&Mem::empty());
    let peers = Arc::new(Peers::new(store.clone()));
    let (mut notifier, heard) = listen(&peers);
    let mut picture = Picture::default();
    let mut next_id = 100;
    for step in 1..=3_000_u64 {
        let ids: Vec<_> = store.meta().snapshot().regions().map(Region::id).collect();
        let id = ids[random.usize(..ids.len())];
        change_something(&peers, id, &mut next_id, ids.len() < 20, &mut random);
        // Often, then not for longer than the feed remembers.
        if (step < 1_000 && random.u32(..10) == 0) || step == 3_000 {
            notifier.deliver();
            take(&heard).into_iter().for_each(|event| picture.hear(event));
            let now = store.meta().snapshot();
            assert_eq!(picture.regions.len(), now.len());
            for region in now.regions() {
                assert!(picture.regions[&region.id()].same_buffer(region), "step {step}");
                let told = picture.roles.get(&region.id()).copied().unwrap_or_default();
                assert_eq!(told, peers.peer(region.id()).unwrap().role, "step {step}");
            }
        }
    }
}

/// Nobody waits for anybody: one thread changes regions while another delivers.
#[test]
fn an_observer_follows_a_writer() {
    let (_, mut random) = seeded("an_observer_follows_a_writer");
    let store = started(&Mem::empty());
    let peers = Arc::new(Peers::new(store.clone()));
    let (mut notifier, heard) = listen(&peers);
    let mut picture = Picture::default();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut next_id = 100;
            for _ in 0..1_000 {
                let ids: Vec<_> = store.meta().snapshot().regions().map(Region::id).collect();
                change_something(&peers, ids[random.usize(..ids.len())], &mut next_id, ids.len() < 20, &mut random);
            }
        });
        while !writer.is_finished() {
            notifier.deliver();
            take(&heard).into_iter().for_each(|event| picture.hear(event));
        }
    });
    notifier.deliver();
    take(&heard).into_iter().for_each(|event| picture.hear(event));
    let now = store.meta().snapshot();
    assert_eq!(picture.regions.len(), now.len());
    assert!(now.regions().all(|region| picture.regions[&region.id()].same_buffer(region)));
}

fn change_something<S: Storage>(
    peers: &Peers<S>,
    id: RegionId,
    next_id: &mut u64,
    may_split: bool,
    random: &mut fastrand::Rng,
) {
    let store = peers.store();
    let region = current(store, id).unwrap();
    let own = peers.peer(id).unwrap().peer_id;
    match random.u32(..10) {
        0 => {
            peers.set_role(id, own, [Role::Follower, Role::Candidate, LEADER][random.usize(..3)]);
        }
        1..=2 if may_split => {
            let key = [region.start_key(), &[random.u8(b'a'..=b'z')]].concat();
            if region.range().contains_inside(&key) {
                let ids: Vec<_> = region.peers().map(|_| fresh(next_id)).collect();
                apply(store, id, &split(std::str::from_utf8(&key).unwrap_or("~"), fresh(next_id), &ids));
            }
        }
        3 if region.peers().len() > 1 && store.meta().snapshot().len() > 5 => {
            // Another voter is there for a moment, so that this store's may go.
            apply(store, id, &crate::common::add(crate::common::voter(fresh(next_id), 4)));
            apply(store, id, &remove(crate::common::voter(own.get(), store.ident().store_id.get())));
        }
        _ => match region.peer_on(3.into()) {
            Some(peer) => apply(store, id, &remove(learner(peer.id.get(), 3))),
            None => apply(store, id, &add_learner(learner(fresh(next_id), 3))),
        },
    }
}

fn fresh(next_id: &mut u64) -> u64 {
    *next_id += 1;
    *next_id
}
