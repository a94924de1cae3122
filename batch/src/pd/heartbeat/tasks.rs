//! [`Heartbeats`]: which regions of a store are to be reported, and when.
//!
//! What waits is a region's number, never a heartbeat: the content is read from the published map, and from what the host
//! reported, when it is sent. So the newest is sent, however long PD was away, and a region waits at most once (I16).

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use regionmeta::mutant::{Mutant, planted};
use regionmeta::{PeerId, ReadHandle, RegionId, Stats, StoreId, Term};

use super::clock::{Clock, Now};
use super::lines::Lines;
use super::pace::mix;
use super::slot::{Common, Slot, Standing};
use super::{HeartbeatSettings, PeerReport, RegionHeartbeat};
use crate::peers::Effect;
use crate::region_map::RegionMap;

/// Parts of the interval: a region is due in the same part of each.
const PARTS: u64 = 64;
/// What happened just now goes first.
const URGENT: usize = 0;
/// What is due by the clock.
const PERIODIC: usize = 1;

/// The heartbeats that a store owes PD. A host tells it who leads and how the peers are doing; a
/// [`HeartbeatDriver`](super::HeartbeatDriver) sends.
///
/// Every call takes a short lock, at worst for a 64th of the regions, and never waits for PD. What is urgent
/// wakes the driver, and goes at once unless the rate is used up. Memory is O(regions that this store has led); nothing grows with
/// time, with the number of changes, or with how long PD is away.
pub struct Heartbeats<K> {
    regions: ReadHandle,
    clock: K,
    common: Common,
    part: Duration,
    state: Mutex<State>,
    /// Ends the sleep of who sends. With `state`, which says whether anybody sleeps.
    urgent: Condvar,
}

struct State {
    by_id: RegionMap<u32>,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    waiting: Lines,
    queued: usize,
    /// The regions that this store leads, by the part of the interval in which they are due.
    wheel: Lines,
    /// The parts that have passed since the clock began.
    passed: u64,
    /// Whether somebody waits for something urgent.
    sleeps: bool,
}

impl<K: Clock> Heartbeats<K> {
    /// For the store whose map `regions` is; nothing is led at first.
    #[must_use]
    pub fn new(store: StoreId, regions: ReadHandle, settings: &HeartbeatSettings, clock: K) -> Self {
        let part = (settings.interval / PARTS as u32).max(Duration::from_nanos(1));
        let now = clock.now();
        let common = Common { store, down_after: settings.down_after, started_unix_s: now.unix_s };
        let state = State {
            by_id: RegionMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            waiting: Lines::new(2),
            queued: 0,
            wheel: Lines::new(PARTS as usize),
            passed: parts(now, part),
            sleeps: false,
        };
        Self { regions, clock, common, part, state: Mutex::new(state), urgent: Condvar::new() }
    }

    /// This store's peer leads its region from `term` on: reported at once. `false` if that is behind a term in which it led
    /// before, or behind a later peer.
    pub fn lead(&self, region: RegionId, peer: PeerId, term: Term) -> bool {
        let mut state = self.lock();
        let Some(at) = state.slot_of(region, peer, self.common) else { return false };
        let led = state.slot(at).is_some_and(|slot| slot.lead(term));
        if led {
            state.wheel.push(part_of(region), at);
            self.hurry(&mut state, at);
        }
        led
    }

    /// This store's peer leads no longer: what waits to be reported of it is forgotten. That is also the one report of a split's
    /// child, so a peer that has not led yet and asks for votes is no case for this.
    pub fn follow(&self, region: RegionId) {
        let mut state = self.lock();
        if let Some(at) = state.by_id.get(&region).copied() {
            state.rest(at);
        }
    }

    /// The peer is gone, and with it everything that was kept of its region.
    pub fn forget(&self, region: RegionId, peer: PeerId) {
        let mut state = self.lock();
        let known = state.by_id.get(&region).copied();
        if let Some(at) = known.filter(|&at| state.slot(at).is_some_and(|slot| slot.own == peer)) {
            state.remove(at);
        }
    }

    /// How the peers of a region are doing, as its leader sees it. Flows add up until the next heartbeat; a peer that PD was
    /// told is down or pending, and is not any more, makes it an urgent one. Passed over if this store does not lead.
    pub fn report(&self, region: RegionId, report: &PeerReport<'_>) {
        let now = self.clock.now();
        let mut state = self.lock();
        let Some(at) = state.by_id.get(&region).copied() else { return };
        let leading = state.slot(at).filter(|slot| slot.leads());
        if leading.is_some_and(|slot| slot.report(report, now, self.common)) {
            self.hurry(&mut state, at);
        }
    }

    /// A region changed: report it at once, if this store leads it.
    pub fn announce(&self, region: RegionId) {
        let mut state = self.lock();
        if let Some(at) = state.by_id.get(&region).copied().filter(|&at| state.is_reported(at)) {
            self.hurry(&mut state, at);
        }
    }

    /// Does what the effects of an applied entry ask of PD; other effects are passed over. After a split of a region that this
    /// store leads, its children are reported once, and the parent's size is shared as the published map has it.
    pub fn on_effects<'a>(&self, effects: impl IntoIterator<Item = &'a Effect>) {
        let mut has_split = false;
        for effect in effects {
            match effect {
                Effect::Create { region, peer, campaign: true, .. } => {
                    has_split = true;
                    self.child(region.id(), *peer);
                }
                Effect::Heartbeat { region } => {
                    if has_split {
                        self.share(*region);
                    }
                    self.announce(*region);
                }
                Effect::StepDown { region } => self.follow(*region),
                Effect::Destroy { region, peer, .. } => self.forget(*region, *peer),
                _ => {}
            }
        }
    }

    /// How many regions wait to be reported; never more than there are.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.lock().queued
    }

    pub(super) fn clock(&self) -> &K {
        &self.clock
    }

    pub(super) fn regions(&self) -> &ReadHandle {
        &self.regions
    }

    pub(super) fn store(&self) -> StoreId {
        self.common.store
    }

    /// Whether this store reports a region as its leader.
    pub(super) fn leads(&self, region: RegionId) -> bool {
        let mut state = self.lock();
        let at = state.by_id.get(&region).copied();
        at.and_then(|at| state.slot(at)).is_some_and(|slot| slot.leads())
    }

    /// Queues what has become due, and says how long it is until more will.
    pub(super) fn tick(&self, now: Now) -> Duration {
        let passed = parts(now, self.part);
        let before = {
            let mut state = self.lock();
            let before = state.passed;
            state.passed = before.max(passed);
            before
        };
        self.queue_parts((before..passed).take(PARTS as usize));
        let into_part = now.elapsed.as_nanos() % self.part.as_nanos().max(1);
        self.part.saturating_sub(Duration::from_nanos(u64::try_from(into_part).unwrap_or(u64::MAX)))
    }

    /// PD may know nothing of what it was told before: everything that is led is due.
    pub(super) fn queue_all(&self) {
        self.queue_parts(0..PARTS);
    }

    /// One lock for each, so that a million regions do not hold a Raft thread up.
    fn queue_parts(&self, parts: impl Iterator<Item = u64>) {
        parts.for_each(|part| self.lock().queue_part((part % PARTS) as usize));
    }

    /// The next heartbeat, written over the one before it; whether there is one.
    pub(super) fn compose(&self, now: Now, scratch: &mut Option<RegionHeartbeat>) -> bool {
        let mut state = self.lock();
        while let Some(at) = state.next() {
            if self.compose_one(&mut state, at, now, scratch) {
                return true;
            }
        }
        false
    }

    /// Region, leader and term are read in one go: the role under the lock, the rest from one snapshot.
    fn compose_one(&self, state: &mut State, at: u32, now: Now, scratch: &mut Option<RegionHeartbeat>) -> bool {
        let Some(slot) = state.slot(at) else { return false };
        let snapshot = self.regions.snapshot();
        let Some(entry) = snapshot.get(slot.id) else {
            state.remove(at); // nobody said that the peer is gone
            return false;
        };
        let region = entry.region();
        let own = region.peer_on(self.common.store).filter(|own| own.id == slot.own);
        let Some(leader) = own.filter(|_| slot.standing != Standing::Follows && slot.may_tell(region)) else {
            return false;
        };
        let is_there = scratch.as_ref().is_some_and(|sent| sent.region.id() == slot.id);
        if !(planted(Mutant::M21) && is_there) {
            slot.compose(region.clone(), leader, now, self.common, scratch);
        }
        if slot.standing == Standing::Child {
            slot.standing = Standing::Follows;
        }
        true
    }

    /// A heartbeat may not have arrived: what it carried is put back, and its region waits again.
    pub(super) fn take_back(&self, heartbeat: &RegionHeartbeat) {
        let mut state = self.lock();
        let Some(at) = state.by_id.get(&heartbeat.region.id()).copied() else { return };
        let Some(slot) = state.slot(at).filter(|slot| slot.own == heartbeat.leader.id) else { return };
        slot.take_back(heartbeat);
        if slot.standing == Standing::Follows && heartbeat.term == regionmeta::INIT_LOG_TERM {
            slot.standing = Standing::Child; // it was one, and was not reported
        }
        if state.is_reported(at) {
            self.hurry(&mut state, at);
        }
    }

    fn hurry(&self, state: &mut State, at: u32) {
        state.queue(URGENT, at);
        if std::mem::take(&mut state.sleeps) {
            self.urgent.notify_all();
        }
    }

    /// Sleeps until something urgent waits, and for no longer than `longest`.
    pub(super) fn sleep(&self, longest: Duration) {
        let nothing = |state: &mut State| {
            state.sleeps = state.waiting.first(URGENT).is_none();
            state.sleeps
        };
        drop(self.urgent.wait_timeout_while(self.lock(), longest, nothing));
    }

    fn child(&self, region: RegionId, peer: PeerId) {
        let mut state = self.lock();
        let Some(at) = state.slot_of(region, peer, self.common) else { return };
        if let Some(slot) = state.slot(at).filter(|slot| !slot.leads()) {
            slot.standing = Standing::Child;
        }
    }

    fn share(&self, region: RegionId) {
        let share: Option<Stats> = self.regions.snapshot().stats(region);
        let mut state = self.lock();
        let at = state.by_id.get(&region).copied();
        if let Some(slot) = at.and_then(|at| state.slot(at)) {
            slot.sizes = share;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn slot(&mut self, at: u32) -> Option<&mut Slot> {
        self.slots.get_mut(at as usize)?.as_mut()
    }

    /// The slot of a region's peer, a new one if there is none, or an earlier peer's. `None` for an earlier peer.
    fn slot_of(&mut self, region: RegionId, peer: PeerId, common: Common) -> Option<u32> {
        if let Some(at) = self.by_id.get(&region).copied() {
            match self.slot(at).map(|slot| slot.own.cmp(&peer)) {
                Some(std::cmp::Ordering::Equal) => return Some(at),
                Some(std::cmp::Ordering::Greater) => return None,
                _ => self.remove(at),
            }
        }
        let at = self.free.pop().or_else(|| u32::try_from(self.slots.len()).ok())?;
        let slot = Slot::new(region, peer, common.started_unix_s);
        match self.slots.get_mut(at as usize) {
            Some(free) => *free = Some(slot),
            None => self.slots.push(Some(slot)),
        }
        self.by_id.insert(region, at);
        Some(at)
    }

    fn is_reported(&mut self, at: u32) -> bool {
        self.slot(at).is_some_and(|slot| slot.standing != Standing::Follows)
    }

    /// An urgent one is not made periodic again.
    fn queue(&mut self, line: usize, at: u32) {
        match self.waiting.line_of(at) {
            None => self.queued += 1,
            Some(before) if before <= line => return,
            Some(_) => {}
        }
        self.waiting.push(line, at);
    }

    fn unqueue(&mut self, at: u32) {
        if self.waiting.line_of(at).is_some() {
            self.waiting.take(at);
            self.queued -= 1;
        }
    }

    fn next(&mut self) -> Option<u32> {
        let at = self.waiting.first(URGENT).or_else(|| self.waiting.first(PERIODIC))?;
        self.unqueue(at);
        Some(at)
    }

    fn queue_part(&mut self, part: usize) {
        let mut next = self.wheel.first(part);
        while let Some(at) = next {
            self.queue(PERIODIC, at);
            next = self.wheel.after(at);
        }
    }

    fn rest(&mut self, at: u32) {
        self.unqueue(at);
        self.wheel.take(at);
        if let Some(slot) = self.slot(at) {
            slot.standing = Standing::Follows;
        }
    }

    fn remove(&mut self, at: u32) {
        self.rest(at);
        if let Some(slot) = self.slots.get_mut(at as usize).and_then(Option::take) {
            self.by_id.remove(&slot.id);
            self.free.push(at);
        }
    }
}

/// In which part of the interval a region is due: regions that were made together are not reported together.
fn part_of(region: RegionId) -> usize {
    (mix(region.get()) % PARTS) as usize
}

fn parts(now: Now, part: Duration) -> u64 {
    u64::try_from(now.elapsed.as_nanos() / part.as_nanos().max(1)).unwrap_or(u64::MAX)
}

impl<K> std::fmt::Debug for Heartbeats<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heartbeats").field("store", &self.common.store).finish_non_exhaustive()
    }
}
