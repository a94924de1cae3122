//! What a driver wants done: operators that somebody asked for, and a simple policy by size.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use regionmeta::{Region, RegionEpoch, RegionId, Snapshot};

use super::super::heartbeat::RegionHeartbeat;
use super::super::operator::{HeartbeatResponse, Operator, SplitPolicy};
use super::Core;

/// Heartbeats to which one operator is the response, before it is given up.
const ATTEMPTS: u32 = 8;

/// When regions are split and merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SizePolicy {
    /// A region of this size or more is to be split in half; 0: none.
    pub split_mib: u64,
    /// A region below this size is merged into a neighbour on the same stores, if both together stay below half of
    /// `split_mib`; 0: none.
    pub merge_mib: u64,
}

/// Operators that wait for their regions' heartbeats.
#[derive(Debug, Default)]
pub(super) struct Operators {
    /// The length of `queues`. Relaxed: a heartbeat that comes at the same time as an operator may miss it.
    regions: AtomicUsize,
    queues: Mutex<HashMap<RegionId, VecDeque<Queued>>>,
}

#[derive(Debug)]
struct Queued {
    /// `None` keeps others away from a region that is the target of a merge.
    operator: Option<Operator>,
    /// The region's epoch when it was first sent.
    begun_at: Option<RegionEpoch>,
    attempts: u32,
}

impl Operators {
    pub(super) fn push(&self, region: RegionId, operator: Option<Operator>) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.entry(region).or_default().push_back(Queued { operator, begun_at: None, attempts: 0 });
        self.regions.store(queues.len(), Ordering::Relaxed);
    }

    /// The region is gone, and may never report again.
    pub(super) fn forget(&self, region: RegionId) {
        if self.regions.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.remove(&region);
        self.regions.store(queues.len(), Ordering::Relaxed);
    }

    fn has(&self, region: RegionId) -> bool {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&region)
    }

    /// The operator that is the turn of this region. One is done when the epoch has moved on, or the leader is where it should
    /// be; and given up when it was sent often enough.
    fn next(&self, heartbeat: &RegionHeartbeat) -> Option<Operator> {
        if self.regions.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.get_mut(&heartbeat.region.id())?;
        while queue.front().is_some_and(|queued| queued.is_over(heartbeat)) {
            queue.pop_front();
        }
        let Some(queued) = queue.front_mut() else {
            queues.remove(&heartbeat.region.id());
            self.regions.store(queues.len(), Ordering::Relaxed);
            return None;
        };
        queued.begun_at = Some(heartbeat.region.epoch());
        queued.attempts += 1;
        queued.operator.clone()
    }
}

impl Queued {
    fn is_over(&self, heartbeat: &RegionHeartbeat) -> bool {
        let moved = self.begun_at.is_some_and(|epoch| epoch != heartbeat.region.epoch());
        let led = match &self.operator {
            Some(Operator::TransferLeader { peers }) => peers.contains(&heartbeat.leader),
            _ => false,
        };
        moved || led || self.attempts >= ATTEMPTS
    }
}

impl Core {
    /// What the leader that has just reported is to do.
    #[inline]
    pub(super) fn advise(&self, heartbeat: &RegionHeartbeat) -> Option<HeartbeatResponse> {
        let operator = match self.operators.next(heartbeat) {
            Some(operator) => operator,
            None => self.by_size(heartbeat)?,
        };
        Some(HeartbeatResponse {
            region_id: heartbeat.region.id(),
            epoch: heartbeat.region.epoch(),
            target_peer: heartbeat.leader,
            operator: Some(operator),
        })
    }

    #[inline]
    fn by_size(&self, heartbeat: &RegionHeartbeat) -> Option<Operator> {
        let (policy, bytes) = (self.policy, heartbeat.size_bytes);
        let mib = bytes >> 20;
        if policy.split_mib > 0 && mib >= policy.split_mib {
            return (!self.operators.has(heartbeat.region.id()))
                .then_some(Operator::Split { policy: SplitPolicy::Approximate, keys: Vec::new() });
        }
        if policy.merge_mib > 0 && bytes > 0 && mib < policy.merge_mib { self.merge(heartbeat, mib) } else { None }
    }

    /// Into the smaller neighbour. While it lasts nothing else is wanted of either.
    fn merge(&self, heartbeat: &RegionHeartbeat, mib: u64) -> Option<Operator> {
        let (region, snapshot) = (&heartbeat.region, self.regions.snapshot());
        if self.operators.has(region.id()) {
            return None;
        }
        let size_of = |target: &Region| self.infos.get(target.id(), |info| info.size_mib).unwrap_or(u64::MAX);
        let fits = |target: &Region| size_of(target).saturating_add(mib) < self.policy.split_mib / 2;
        let free =
            |target: &&Region| have_same_stores(region, target) && fits(target) && !self.operators.has(target.id());
        let target =
            neighbours(&snapshot, region).into_iter().flatten().filter(free).min_by_key(|&one| size_of(one))?;
        self.operators.push(region.id(), Some(Operator::Merge { target: target.clone() }));
        self.operators.push(target.id(), None);
        self.operators.next(heartbeat)
    }
}

fn neighbours<'a>(snapshot: &'a Snapshot, region: &Region) -> [Option<&'a Region>; 2] {
    let before = snapshot.region_before(region.start_key()).map(|entry| entry.region());
    let after = snapshot.region_after(region.start_key()).map(|entry| entry.region());
    [
        before.filter(|before| before.range().touches(region.range())),
        after.filter(|after| region.range().touches(after.range())),
    ]
}

/// Replicas on the same stores in the same roles, and no membership change under way.
fn have_same_stores(one: &Region, other: &Region) -> bool {
    let is_twin = |peer: regionmeta::Peer| {
        let twin = other.peer_on(peer.store_id);
        !peer.role.is_joint() && twin.is_some_and(|twin| (twin.role, twin.is_witness) == (peer.role, peer.is_witness))
    };
    one.peers().len() == other.peers().len() && one.peers().all(is_twin)
}
