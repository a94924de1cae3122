//! [`Infos`]: what leaders say of their regions beside the descriptor, and the short way of a heartbeat that says nothing new.
//!
//! A descriptor in here is the very allocation that the map holds. An entry is written after the map and removed after it, so
//! for a moment it may belong to a descriptor that is no longer there; a heartbeat that meets it then came before the change.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam::utils::CachePadded;
use regionmeta::{KeyRange, Peer, Region, RegionEpoch, RegionId, Term};

use super::super::heartbeat::{DownPeer, Flow, Interval, RegionHeartbeat, ReplicationStatus, mix};
use super::super::info::RegionInfo;
use super::{Accepted, HeartbeatError};
use crate::region_map::RegionMap;

/// Locks, so that few heartbeats meet at one.
const SHARDS: u64 = 256;
const MIB: u64 = 1 << 20;
/// More cannot have been read or written in a minute (spec section 14.3).
const FLOW_MAX: u64 = 1 << 50;

/// What the leader of a region has said of it.
#[derive(Debug)]
pub(super) struct Info {
    pub(super) region: Region,
    pub(super) leader: Peer,
    pub(super) term: Term,
    /// Seldom there.
    lag: Option<Box<Lag>>,
    pub(super) size_mib: u64,
    keys: u64,
    flow: Flow,
    interval: Interval,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Lag {
    down_peers: Vec<DownPeer>,
    pending_peers: Vec<Peer>,
    replication: Option<ReplicationStatus>,
}

/// What PD knows of a region's size and traffic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RegionLoad {
    /// Approximate size in MiB; 1 if it is smaller, or was never measured.
    pub size_mib: u64,
    /// Approximate number of keys.
    pub keys: u64,
    /// What was read and written in the interval.
    pub flow: Flow,
    /// The interval of the last heartbeat.
    pub interval: Interval,
}

type Shard = RegionMap<Info>;

#[derive(Debug)]
pub(super) struct Infos {
    shards: Vec<CachePadded<Mutex<Shard>>>,
}

impl Infos {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| CachePadded::default()).collect() }
    }

    fn shard(&self, id: RegionId) -> Option<MutexGuard<'_, Shard>> {
        let at = (mix(id.get()) >> 32) % SHARDS;
        let shard = self.shards.get(at as usize)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in a heartbeat whose descriptor and leader are the known ones; `None` for any other. One lock, which it shares
    /// with one region in 256, and no allocation.
    pub(super) fn refresh(&self, heartbeat: &RegionHeartbeat) -> Option<Result<Accepted, HeartbeatError>> {
        let mut shard = self.shard(heartbeat.region.id())?;
        let info = shard.get_mut(&heartbeat.region.id())?;
        if info.leader != heartbeat.leader || !is_same(&info.region, &heartbeat.region) {
            return None;
        }
        match check_term(heartbeat, info.term) {
            Err(_) if is_recreated(&heartbeat.region) => None,
            checked => Some(checked.map(|()| info.take_in(heartbeat))),
        }
    }

    /// Notes what was said of a region that is in the map as `region`.
    pub(super) fn put(&self, region: Region, heartbeat: &RegionHeartbeat) {
        let Some(mut shard) = self.shard(region.id()) else { return };
        // Since it was judged, a heartbeat of the known descriptor may have brought a later term, and another leader.
        let known = shard.get_mut(&region.id()).filter(|_| !is_recreated(&region));
        if let Some(later) = known.filter(|known| check_term(heartbeat, known.term).is_err()) {
            later.region = region;
            return;
        }
        let before = shard.remove(&region.id());
        let inherited = before.as_ref().map_or(1, |info| info.size_mib);
        let forget_term = is_recreated(&region) && heartbeat.term.get() != 0;
        let term = before.filter(|_| !forget_term).map_or(Term::default(), |info| info.term);
        let mut info = Info {
            region,
            leader: heartbeat.leader,
            term,
            lag: None,
            size_mib: inherited,
            keys: 0,
            flow: Flow::default(),
            interval: Interval::default(),
        };
        info.take_in(heartbeat);
        shard.insert(info.region.id(), info);
    }

    pub(super) fn remove(&self, id: RegionId) {
        if let Some(mut shard) = self.shard(id) {
            shard.remove(&id);
        }
    }

    pub(super) fn get<T>(&self, id: RegionId, read: impl FnOnce(&Info) -> T) -> Option<T> {
        self.shard(id)?.get(&id).map(read)
    }
}

impl Info {
    /// A heartbeat of the same descriptor and leader.
    fn take_in(&mut self, heartbeat: &RegionHeartbeat) -> Accepted {
        let size_mib = match heartbeat.size_bytes {
            0 => self.size_mib,
            bytes => (bytes / MIB).max(1),
        };
        let same = (self.size_mib, self.keys) == (size_mib, heartbeat.keys)
            && (heartbeat.term == self.term || heartbeat.term.get() == 0)
            && Lag::is_as_in(self.lag.as_deref(), heartbeat);
        (self.flow, self.interval) = (plausible(heartbeat.flow), heartbeat.interval);
        if same {
            return Accepted::Unchanged;
        }
        self.term = self.term.max(heartbeat.term);
        (self.size_mib, self.keys) = (size_mib, heartbeat.keys);
        self.lag = Lag::of(heartbeat);
        Accepted::Refreshed
    }

    /// As it is told to those who ask.
    pub(super) fn describe(&self) -> RegionInfo {
        let (down_peers, pending_peers) = match self.lag.as_deref() {
            Some(lag) => (lag.down_peers.clone(), lag.pending_peers.clone()),
            None => (Vec::new(), Vec::new()),
        };
        RegionInfo { region: self.region.clone(), leader: Some(self.leader), down_peers, pending_peers }
    }

    pub(super) fn load(&self) -> RegionLoad {
        RegionLoad { size_mib: self.size_mib, keys: self.keys, flow: self.flow, interval: self.interval }
    }
}

impl Lag {
    fn of(heartbeat: &RegionHeartbeat) -> Option<Box<Self>> {
        let RegionHeartbeat { down_peers, pending_peers, replication, .. } = heartbeat;
        if down_peers.is_empty() && pending_peers.is_empty() && replication.is_none() {
            return None;
        }
        let (down_peers, pending_peers) = (down_peers.clone(), pending_peers.clone());
        Some(Box::new(Self { down_peers, pending_peers, replication: *replication }))
    }

    #[inline]
    fn is_as_in(lag: Option<&Self>, heartbeat: &RegionHeartbeat) -> bool {
        let RegionHeartbeat { down_peers, pending_peers, replication, .. } = heartbeat;
        match lag {
            None => down_peers.is_empty() && pending_peers.is_empty() && replication.is_none(),
            Some(lag) => {
                lag.down_peers == *down_peers && lag.pending_peers == *pending_peers && lag.replication == *replication
            }
        }
    }
}

/// The term that a leader names is not behind one that was heard already. 0: it does not say.
pub(super) fn check_term(heartbeat: &RegionHeartbeat, known: Term) -> Result<(), HeartbeatError> {
    let (region, term) = (heartbeat.region.id(), heartbeat.term);
    if term.get() != 0 && term < known { Err(HeartbeatError::StaleTerm { region, term, known }) } else { Ok(()) }
}

/// A disaster tool made it anew: no region of a cluster's own life is at 1/1 and owns a part of the keys. It may go back
/// behind everything.
pub(super) fn is_recreated(region: &Region) -> bool {
    region.epoch() == RegionEpoch::INITIAL && region.range() != KeyRange::ALL
}

/// The same allocation, or at least the same bytes.
fn is_same(known: &Region, region: &Region) -> bool {
    known.same_buffer(region) || known.as_bytes() == region.as_bytes()
}

fn plausible(flow: Flow) -> Flow {
    let plausible = |amount| if amount < FLOW_MAX { amount } else { 0 };
    Flow {
        written_bytes: plausible(flow.written_bytes),
        written_keys: plausible(flow.written_keys),
        read_bytes: plausible(flow.read_bytes),
        read_keys: plausible(flow.read_keys),
    }
}
