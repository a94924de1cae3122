//! One store and the Raft peers on it, driven by one thread. Committed entries go to the apply pool; what comes back from there
//! says what Raft, the network and PD have to do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender};
use regionmeta::{LogIndex, Peer, Region, RegionId, StoreId};
use regionmeta_batch::Store;
use regionmeta_batch::pd::{HeartbeatSettings, Heartbeats, SystemClock};
use regionmeta_batch::peers::Peers;
use regionmeta_batch::storage::RocksStorage;

use super::Done;
use super::errand::Errand;
use super::node::Node;
use super::pool::{self, News, Pool};
use super::wire::{Letter, Mail};

/// Far more than the pool takes for anything: who waits for so long has found a bug.
const PATIENCE: Duration = Duration::from_secs(30);

/// A merge is looked after every so many ticks: the leader of its target may have changed, or not have heard.
const MERGE_CHECK_TICKS: u32 = 10;

/// Regions are measured every so many ticks.
const MEASURE_TICKS: u32 = 100;

/// PD hears of every region at least this often. A server's would be a minute.
pub(crate) fn heartbeat_settings() -> HeartbeatSettings {
    HeartbeatSettings { interval: Duration::from_secs(2), ..HeartbeatSettings::default() }
}

/// What the story asks about afterwards. It begins anew when the store does.
#[derive(Default)]
pub(crate) struct Seen {
    /// Commands that were refused by what this store knows of their region.
    pub(crate) refused: usize,
    /// Snapshots that were persisted.
    pub(crate) snapshots: usize,
    /// Entries that came to the source of a merge with its target's command, and not from its leader.
    pub(crate) caught_up: usize,
    /// Peers that ended, and whether their data went to a merge target.
    pub(crate) destroyed: Vec<(RegionId, Option<RegionId>)>,
}

/// Dropping it is what a crash is to the others: nothing is said any more, and nothing is closed or synced for that.
pub(crate) struct Host {
    pub(crate) store: Arc<Store<RocksStorage>>,
    pub(super) peers: Arc<Peers<RocksStorage>>,
    pub(super) pool: Pool,
    pub(super) news: Receiver<News>,
    /// News that came while something else was waited for.
    pub(super) later: VecDeque<News>,
    post: Sender<Mail>,
    pub(super) nodes: BTreeMap<RegionId, Node>,
    /// Regions whose snapshot is persisted and whose data is not in place.
    pub(super) applying: BTreeSet<RegionId>,
    /// Sources that wait for their targets.
    pub(super) merging: BTreeSet<RegionId>,
    /// What PD is owed of the regions here. Who drives the host sends it.
    pub(crate) heartbeats: Arc<Heartbeats<SystemClock>>,
    /// What is to be asked of PD.
    pub(crate) errands: Vec<Errand>,
    ticks: u32,
    tick: Duration,
    opened: Instant,
    pub(crate) seen: Seen,
}

impl Host {
    /// Starts the peers of a store that was opened. What a crash left half-done is finished before Raft hears of it. A tick is
    /// so much time to peers without a leader.
    pub(crate) fn open(store: Store<RocksStorage>, post: Sender<Mail>, tick: Duration) -> Done<Self> {
        let store = Arc::new(store);
        let (id, regions) = (store.ident().store_id, store.meta().clone());
        let heartbeats = Heartbeats::new(id, regions, &heartbeat_settings(), SystemClock::new());
        let peers = Arc::new(Peers::new(store.clone()));
        let (pool, news) = pool::start(store.clone())?;
        let mut host = Self {
            peers,
            pool,
            news,
            later: VecDeque::new(),
            post,
            nodes: BTreeMap::new(),
            applying: store.recovery().applying.iter().copied().collect(),
            merging: store.recovery().merging.iter().copied().collect(),
            heartbeats: Arc::new(heartbeats),
            errands: Vec::new(),
            ticks: 0,
            tick,
            opened: Instant::now(),
            seen: Seen::default(),
            store,
        };
        host.fill_in_snapshots()?;
        host.follow(host.peers.delete_unowned(), None)?;
        for (region, _) in host.regions() {
            let peer = region.peer_on(host.id()).ok_or("the region has no peer here")?;
            host.add(region.id(), peer)?;
        }
        Ok(host)
    }

    /// Starts a peer, in place of the one that may be there.
    pub(super) fn add(&mut self, region: RegionId, peer: Peer) -> Done {
        let node = Node::open(&self.store, region, peer)?;
        self.nodes.insert(region, node);
        Ok(())
    }

    // --- what is known here ------------------------------------------------------------------------------------------

    pub(crate) fn id(&self) -> StoreId {
        self.store.ident().store_id
    }

    pub(crate) fn region(&self, id: RegionId) -> Option<Region> {
        self.store.meta().snapshot().get(id).map(|entry| entry.region().clone())
    }

    /// Every region of the store, in key order, and how far it is applied.
    pub(crate) fn regions(&self) -> Vec<(Region, LogIndex)> {
        let applied = |region: &Region| self.store.apply_state(region.id()).applied_index;
        self.store.meta().snapshot().regions().map(|region| (region.clone(), applied(region))).collect()
    }

    pub(crate) fn leads(&self, region: RegionId) -> bool {
        self.nodes.get(&region).is_some_and(Node::leads)
    }

    pub(crate) fn node(&mut self, region: RegionId) -> Done<&mut Node> {
        Ok(self.nodes.get_mut(&region).ok_or_else(|| format!("region {region} has no peer here"))?)
    }

    // --- its loop ----------------------------------------------------------------------------------------------------

    /// Time passes.
    pub(crate) fn tick(&mut self) -> Done {
        self.ticks += 1;
        self.fill_in_snapshots()?;
        for node in self.nodes.values_mut() {
            node.raft.tick();
        }
        self.check_leaders()?;
        self.report_progress();
        if self.ticks.is_multiple_of(MERGE_CHECK_TICKS) {
            self.check_merges()?;
        }
        if self.ticks.is_multiple_of(MEASURE_TICKS) {
            self.measure_sizes()?;
        }
        Ok(())
    }

    /// A peer that has no leader for long may be gone in its group.
    fn check_leaders(&mut self) -> Done {
        let now = self.opened + self.tick * self.ticks;
        let checks =
            self.nodes.iter().filter_map(|(region, node)| self.peers.check_leader(*region, node.leader(), now));
        self.follow(checks.collect(), None)
    }

    /// Does what there is to do, until Raft has nothing ready and the pool owes no answer.
    pub(crate) fn work(&mut self) -> Done {
        loop {
            self.hand_to_pool()?;
            match self.next_news()? {
                Some(news) => self.hear(news)?,
                None => return Ok(()),
            }
        }
    }

    /// The same without waiting for the pool: whoever drives the host hears what it has to say, and comes again.
    #[cfg(feature = "pd-grpc")]
    pub(crate) fn work_on(&mut self) -> Done {
        self.hand_to_pool()?;
        while let Some(news) = self.later.pop_front() {
            self.hear(news)?;
            self.hand_to_pool()?;
        }
        Ok(())
    }

    /// Takes in what the pool has to say.
    pub(crate) fn hear(&mut self, news: News) -> Done {
        match news {
            News::Answer(answer) => self.answered(answer),
            News::CatchUp(merge) => self.catch_up(&merge),
            News::Stopped(_) => Ok(()),
        }
    }

    /// The half of the work that comes before the pool's. Whether the pool owes answers now.
    pub(crate) fn hand_to_pool(&mut self) -> Done<bool> {
        while let Some(region) = self.next_ready() {
            self.ready(region)?;
        }
        Ok(!self.nodes.values().all(Node::is_idle))
    }

    /// A peer whose data is not in place can be given nothing to apply.
    fn next_ready(&self) -> Option<RegionId> {
        let mut ready = self.nodes.iter().filter(|(_, node)| node.raft.has_ready()).map(|(region, _)| *region);
        ready.find(|region| !self.applying.contains(region))
    }

    fn next_news(&mut self) -> Done<Option<News>> {
        if let Some(news) = self.later.pop_front() {
            return Ok(Some(news));
        }
        if self.nodes.values().all(Node::is_idle) {
            return Ok(self.news.try_recv().ok());
        }
        Ok(Some(self.news.recv_timeout(PATIENCE)?))
    }

    /// Takes a region out of the pool. What the pool says meanwhile about other regions is heard afterwards.
    pub(super) fn stop(&mut self, region: RegionId) -> Done {
        let mut stopped = !self.pool.router().stop(region);
        while !stopped {
            match self.news.recv_timeout(PATIENCE)? {
                News::Stopped(other) if other == region => stopped = true,
                other => self.later.push_back(other),
            }
        }
        Ok(())
    }

    pub(super) fn send(&self, letter: &Letter) -> Done {
        self.post.send(letter.encode()?).map_err(|_| "nobody carries letters any more".into())
    }
}
