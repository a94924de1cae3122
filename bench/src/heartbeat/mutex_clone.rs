//! The placement driver that one writes first: one lock, and a copy of everything that a heartbeat says.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use regionmeta::{Peer, RegionEpoch, RegionId, Term};
use regionmeta_batch::pd::{DownPeer, Flow, RegionHeartbeat};

/// A region as a plain structure.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "what is not asked for here is copied all the same")]
struct Plain {
    id: RegionId,
    start: Vec<u8>,
    /// Empty: unbounded.
    end: Vec<u8>,
    epoch: RegionEpoch,
    peers: Vec<Peer>,
    leader: Peer,
    term: Term,
    down_peers: Vec<DownPeer>,
    pending_peers: Vec<Peer>,
    flow: Flow,
    size_bytes: u64,
    keys: u64,
}

#[derive(Debug, Default)]
struct Maps {
    by_id: HashMap<RegionId, Plain>,
    by_start: BTreeMap<Vec<u8>, RegionId>,
}

/// Takes heartbeats in by the same rules as the embedded driver (spec section 14.3).
#[derive(Debug, Default)]
pub struct MutexClone {
    maps: Mutex<Maps>,
}

impl MutexClone {
    /// Whether the heartbeat was accepted.
    pub fn take_in(&self, heartbeat: &RegionHeartbeat) -> bool {
        let plain = Plain::of(heartbeat);
        self.maps.lock().unwrap_or_else(PoisonError::into_inner).put(plain)
    }

    /// How many regions there are, and the sum of their `conf_ver`s: to compare with what they should be.
    #[must_use]
    pub fn summary(&self) -> (usize, u64) {
        let maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        (maps.by_start.len(), maps.by_id.values().map(|plain| plain.epoch.conf_ver).sum())
    }
}

impl Plain {
    fn of(heartbeat: &RegionHeartbeat) -> Self {
        let region = &heartbeat.region;
        Self {
            id: region.id(),
            start: region.start_key().to_vec(),
            end: region.end_key().to_wire().to_vec(),
            epoch: region.epoch(),
            peers: region.peers().collect(),
            leader: heartbeat.leader,
            term: heartbeat.term,
            down_peers: heartbeat.down_peers.clone(),
            pending_peers: heartbeat.pending_peers.clone(),
            flow: heartbeat.flow,
            size_bytes: heartbeat.size_bytes,
            keys: heartbeat.keys,
        }
    }

    fn ends_after(&self, key: &[u8]) -> bool {
        self.end.is_empty() || self.end.as_slice() > key
    }
}

impl Maps {
    fn put(&mut self, new: Plain) -> bool {
        let overlapped = self.overlapped(&new);
        let newer = |id: &RegionId| self.by_id.get(id).is_some_and(|old| old.epoch.version > new.epoch.version);
        let stale = self.by_id.get(&new.id).is_some_and(|origin| {
            new.epoch.is_behind_any(origin.epoch) || (new.term.get() > 0 && new.term < origin.term)
        });
        if stale || overlapped.iter().any(newer) {
            return false;
        }
        for id in overlapped {
            if let Some(old) = self.by_id.remove(&id) {
                self.by_start.remove(&old.start);
            }
        }
        let (id, start) = (new.id, new.start.clone());
        if let Some(origin) = self.by_id.insert(id, new).filter(|origin| origin.start != start) {
            self.by_start.remove(&origin.start);
        }
        self.by_start.insert(start, id);
        true
    }

    /// Other regions that own keys of this one.
    fn overlapped(&self, new: &Plain) -> Vec<RegionId> {
        let mut before = self.by_start.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(new.start.as_slice())));
        let before =
            before.next_back().filter(|(_, id)| self.by_id.get(*id).is_some_and(|left| left.ends_after(&new.start)));
        let from = self.by_start.range::<[u8], _>((Bound::Included(new.start.as_slice()), Bound::Unbounded));
        let inside = from.take_while(|(start, _)| new.ends_after(start));
        before.into_iter().chain(inside).map(|(_, id)| *id).filter(|id| *id != new.id).collect()
    }
}
