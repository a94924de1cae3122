//! [`Slot`]: what is kept of a region between two heartbeats, and how the next one follows from it (spec section 14.2).

use std::time::Duration;

use regionmeta::{
    INIT_LOG_INDEX, INIT_LOG_TERM, LogIndex, Peer, PeerId, Region, RegionEpoch, RegionId, Stats, StoreId, Term,
};

use super::clock::Now;
use super::{DownPeer, Flow, Interval, PeerReport, RegionHeartbeat, ReplicationStatus};

/// What this store's peer is to its region, as far as PD is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Nothing is reported.
    Follows,
    /// A split of a region that this store leads has made it: reported once, before it has a leader.
    Child,
    /// It leads.
    Leads(Term),
}

/// Another peer of the region.
#[derive(Clone, Copy, Debug)]
struct Other {
    id: PeerId,
    matched: LogIndex,
    heard_at: Duration,
    waits_for_data: bool,
    /// Down or pending when it was last looked at.
    lags: bool,
}

/// What PD has been told last. No later heartbeat has less of any of them (I16).
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    term: Term,
    epoch: RegionEpoch,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: RegionId,
    pub(super) own: PeerId,
    pub(super) standing: Standing,
    told: Told,
    /// The last term in which the peer led.
    term: Term,
    truncated: LogIndex,
    others: Vec<Other>,
    flow: Flow,
    interval_start_unix_s: u64,
    pub(super) sizes: Option<Stats>,
    replication: Option<ReplicationStatus>,
}

/// What is the same for all slots of a store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    pub(super) store: StoreId,
    pub(super) down_after: Duration,
    pub(super) started_unix_s: u64,
}

impl Slot {
    pub(super) fn new(id: RegionId, own: PeerId, started_unix_s: u64) -> Self {
        Self {
            id,
            own,
            standing: Standing::Follows,
            told: Told::default(),
            term: Term::default(),
            truncated: INIT_LOG_INDEX,
            others: Vec::new(),
            flow: Flow::default(),
            interval_start_unix_s: started_unix_s,
            sizes: None,
            replication: None,
        }
    }

    pub(super) fn leads(&self) -> bool {
        matches!(self.standing, Standing::Leads(_))
    }

    /// The peer leads from now on. What the leader before it knew of the others, and what was measured, is of no use. `false`
    /// if the term is behind one in which it led already.
    pub(super) fn lead(&mut self, term: Term) -> bool {
        if term < self.term {
            return false;
        }
        if self.standing != Standing::Leads(term) {
            (self.standing, self.term) = (Standing::Leads(term), term);
            self.others.clear();
            self.sizes = None;
        }
        true
    }

    /// Takes in what the host has seen. Whether a peer has caught up that PD was told is behind.
    pub(super) fn report(&mut self, report: &PeerReport<'_>, now: Now, common: Common) -> bool {
        self.flow = self.flow.plus(report.flow);
        self.sizes = report.sizes.or(self.sizes);
        self.replication = report.replication.or(self.replication);
        self.truncated = self.truncated.max(report.truncated);
        let mut caught_up = false;
        for progress in report.progress {
            let truncated = self.truncated;
            let Some(other) = self.other(progress.peer, now) else { continue };
            other.matched = progress.matched;
            other.waits_for_data = progress.waits_for_data;
            if progress.heard {
                other.heard_at = now.elapsed;
            }
            caught_up |= other.lags && !other.lags_at(truncated, now, common);
        }
        caught_up
    }

    /// Whether what PD was told last is not ahead of this.
    pub(super) fn may_tell(&self, region: &Region) -> bool {
        !region.epoch().is_behind_any(self.told.epoch) && self.term_now() >= self.told.term
    }

    fn term_now(&self) -> Term {
        match self.standing {
            Standing::Leads(term) => term,
            Standing::Child | Standing::Follows => self.term.max(INIT_LOG_TERM),
        }
    }

    /// Writes the heartbeat of this moment over an earlier one, whose buffers are used again, and begins a new interval.
    pub(super) fn compose(
        &mut self,
        region: Region,
        leader: Peer,
        now: Now,
        common: Common,
        scratch: &mut Option<RegionHeartbeat>,
    ) {
        let (mut down_peers, mut pending_peers) = match scratch.take() {
            Some(used) => (used.down_peers, used.pending_peers),
            None => (Vec::new(), Vec::new()),
        };
        self.lagging(&region, now, common, &mut down_peers, &mut pending_peers);
        self.told = Told { term: self.term_now(), epoch: region.epoch() };
        let end_unix_s = now.unix_s.max(self.interval_start_unix_s); // the machine's clock may have been set back
        let interval = Interval { start_unix_s: self.interval_start_unix_s, end_unix_s };
        self.interval_start_unix_s = end_unix_s;
        let flow = std::mem::take(&mut self.flow);
        *scratch = Some(RegionHeartbeat {
            region,
            leader,
            term: self.told.term,
            down_peers,
            pending_peers,
            flow,
            interval,
            size_bytes: self.sizes.map_or(0, |sizes| sizes.size_bytes.max(1)),
            keys: self.sizes.map_or(0, |sizes| sizes.keys),
            replication: self.replication,
        });
    }

    /// It did not get through: what it carried counts for the next one.
    pub(super) fn take_back(&mut self, heartbeat: &RegionHeartbeat) {
        self.flow = self.flow.plus(heartbeat.flow);
        self.interval_start_unix_s = self.interval_start_unix_s.min(heartbeat.interval.start_unix_s);
    }

    fn lagging(
        &mut self,
        region: &Region,
        now: Now,
        common: Common,
        down_peers: &mut Vec<DownPeer>,
        pending_peers: &mut Vec<Peer>,
    ) {
        down_peers.clear();
        pending_peers.clear();
        self.others.retain(|other| region.peers().any(|peer| peer.id == other.id)); // who left is forgotten
        let (truncated, leads) = (self.truncated, self.leads());
        for peer in region.peers().filter(|peer| peer.store_id != common.store) {
            let Some(other) = self.other(peer.id, now) else { continue };
            let silent = now.elapsed.saturating_sub(other.heard_at);
            other.lags = other.lags_at(truncated, now, common);
            if leads && silent >= common.down_after {
                down_peers.push(DownPeer { peer, down_s: silent.as_secs() });
            }
            if !leads || other.is_pending(truncated) {
                // Those that wait for data come first.
                let at = if other.waits_for_data { 0 } else { pending_peers.len() };
                pending_peers.insert(at, peer);
            }
        }
    }

    /// A peer that nobody has spoken of yet has nothing, and its silence begins now.
    fn other(&mut self, id: PeerId, now: Now) -> Option<&mut Other> {
        if !self.others.iter().any(|other| other.id == id) {
            let matched = LogIndex::default();
            self.others.push(Other { id, matched, heard_at: now.elapsed, waits_for_data: false, lags: false });
        }
        self.others.iter_mut().find(|other| other.id == id)
    }
}

impl Other {
    fn is_pending(&self, truncated: LogIndex) -> bool {
        self.waits_for_data || self.matched < truncated
    }

    fn lags_at(&self, truncated: LogIndex, now: Now, common: Common) -> bool {
        self.is_pending(truncated) || now.elapsed.saturating_sub(self.heard_at) >= common.down_after
    }
}
