//! Three hosts and the wires between them, in one thread: a round is a tick of every clock, then every letter until there is
//! none.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{self, Receiver, Sender};
use regionmeta::{AdminCommand, AdminHeader, AdminRequest, LogIndex, Region, RegionEpoch, RegionId, StoreId};
use regionmeta_batch::pd::{EmbeddedPd, HeartbeatDriver, OperatorHost, PdClient, Proposal, SystemClock};
use tempfile::TempDir;

use super::errand::Errand;
use super::host::{self, Host};
use super::wire::{Letter, Mail};
use super::{CLUSTER, Done, builder, data};

/// Far more than anything takes; who waits for so long waits for ever.
const ROUNDS_MAX: usize = 500;

/// How much time a tick is to peers without a leader. Servers have shorter ones, and longer stories.
const TICK: Duration = Duration::from_secs(10);

/// This PD wants nothing: all that happens is the story's doing.
struct NoOperators;

impl OperatorHost for NoOperators {
    fn propose(&self, _: Proposal) {}
}

type Driver = HeartbeatDriver<Arc<dyn PdClient>, NoOperators, SystemClock>;

pub(crate) struct Cluster {
    pub(crate) pd: Arc<dyn PdClient>,
    directory: TempDir,
    /// Of each store its number, which names its directory.
    numbers: BTreeMap<StoreId, usize>,
    /// The stores that are up.
    pub(crate) hosts: BTreeMap<StoreId, Host>,
    /// What takes their heartbeats to PD.
    drivers: BTreeMap<StoreId, Driver>,
    post: Sender<Mail>,
    letters: Receiver<Mail>,
    /// Letters about this region from and to this store are lost.
    pub(crate) cut: Option<(RegionId, StoreId)>,
    /// This store dies the next time that its apply pool has something to do.
    pub(crate) doomed: Option<StoreId>,
    /// What clients have written, for comparison.
    pub(crate) written: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Cluster {
    /// Starts the stores. The first one bootstraps the cluster and has all keys; the others have no region.
    pub(crate) fn start(stores: usize) -> Done<Self> {
        let (post, letters) = channel::unbounded();
        let mut cluster = Self {
            pd: Arc::new(EmbeddedPd::new(CLUSTER)),
            directory: TempDir::new()?,
            numbers: BTreeMap::new(),
            hosts: BTreeMap::new(),
            drivers: BTreeMap::new(),
            post,
            letters,
            cut: None,
            doomed: None,
            written: BTreeMap::new(),
        };
        (0..stores).try_for_each(|number| cluster.open(number))?;
        Ok(cluster)
    }

    fn open(&mut self, number: usize) -> Done {
        let store = builder().bootstrap(self.path(number), &*self.pd)?;
        let host = Host::open(store, self.post.clone(), TICK)?;
        let settings = host::heartbeat_settings();
        let driver = HeartbeatDriver::new(host.heartbeats.clone(), self.pd.clone(), NoOperators, &settings);
        self.drivers.insert(host.id(), driver);
        self.numbers.insert(host.id(), number);
        self.hosts.insert(host.id(), host);
        Ok(())
    }

    fn path(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("store-{number}"))
    }

    /// The store is gone. Nothing in it was closed or synced for that. The others elect leaders where it led.
    pub(crate) fn kill(&mut self, store: StoreId) -> Done {
        self.hosts.remove(&store).map(drop).ok_or("the store was down")?;
        self.settle()
    }

    /// The store recovers from what it had on disk, and its peers go on from there.
    pub(crate) fn restart(&mut self, store: StoreId) -> Done {
        let number = self.numbers.get(&store).copied().ok_or("there is no such store")?;
        self.open(number)
    }

    pub(crate) fn host(&mut self, store: StoreId) -> Done<&mut Host> {
        self.hosts.get_mut(&store).ok_or_else(|| "the store is down".into())
    }

    // --- regions -----------------------------------------------------------------------------------------------------

    pub(crate) fn leader(&self, region: RegionId) -> Option<StoreId> {
        self.hosts.iter().find(|(_, host)| host.leads(region)).map(|(store, _)| *store)
    }

    pub(crate) fn leading_host(&mut self, region: RegionId) -> Done<&mut Host> {
        let leader = self.leader(region).ok_or_else(|| format!("nobody leads region {region}"))?;
        self.host(leader)
    }

    /// The region as its leader has it.
    pub(crate) fn region(&self, region: RegionId) -> Done<Region> {
        let leader = self.hosts.values().find(|host| host.leads(region));
        Ok(leader.and_then(|host| host.region(region)).ok_or_else(|| format!("nobody leads region {region}"))?)
    }

    /// Every region that is led, as its leader has it and how far it is applied there, in key order.
    fn led(&self) -> Vec<(Region, LogIndex)> {
        let all = self.hosts.values().flat_map(|host| host.regions().into_iter().map(move |region| (host, region)));
        let led = all.filter(|(host, (region, _))| host.leads(region.id()));
        let mut led: Vec<_> = led.map(|(_, region)| region).collect();
        led.sort_by(|(a, _), (b, _)| a.start_key().cmp(b.start_key()));
        led
    }

    /// Whether every store that is up has what the leaders have, as far as it has peers: the same regions, applied as far.
    pub(crate) fn agrees(&self) -> bool {
        let led = self.led();
        self.hosts.iter().all(|(store, host)| {
            let here = led.iter().filter(|(region, _)| region.peer_on(*store).is_some());
            host.regions().iter().eq(here)
        })
    }

    // --- changes -----------------------------------------------------------------------------------------------------

    /// Proposes a command at the region's leader, at an epoch.
    pub(crate) fn propose_at(&mut self, region: RegionId, epoch: RegionEpoch, command: AdminCommand) -> Done {
        self.leading_host(region)?.propose(&AdminRequest { header: AdminHeader::new(region, epoch), command })
    }

    /// Proposes a command, and waits until the leader has applied it.
    pub(crate) fn begin(&mut self, what: &str, region: RegionId, command: AdminCommand) -> Done {
        let before = self.region(region)?;
        self.propose_at(region, before.epoch(), command)?;
        self.wait(what, |cluster| cluster.region(region).is_ok_and(|now| now != before))
    }

    /// Proposes a command, and waits until every store that is up has applied it.
    pub(crate) fn change(&mut self, what: &str, region: RegionId, command: AdminCommand) -> Done {
        self.begin(what, region, command)?;
        self.settle()
    }

    /// Writes keys at their leaders, and waits until it is applied there.
    pub(crate) fn write(&mut self, what: &str, keys: &[&str]) -> Done {
        let value = what.as_bytes();
        for key in keys {
            self.leading_host(self.owner(key)?)?.write(key.as_bytes(), Some(value))?;
            self.written.insert(key.as_bytes().to_vec(), value.to_vec());
        }
        self.wait(what, |cluster| {
            keys.iter().all(|key| cluster.read(key).is_ok_and(|found| found.as_deref() == Some(value)))
        })
    }

    pub(crate) fn delete(&mut self, key: &str) -> Done {
        self.leading_host(self.owner(key)?)?.write(key.as_bytes(), None)?;
        self.written.remove(key.as_bytes());
        self.wait(&format!("{key} is deleted"), |cluster| cluster.read(key).is_ok_and(|found| found.is_none()))
    }

    /// The region of a key.
    fn owner(&self, key: &str) -> Done<RegionId> {
        let owner = self.led().into_iter().find(|(region, _)| region.range().contains(key.as_bytes()));
        owner.map(|(region, _)| region.id()).ok_or_else(|| format!("nobody leads the region of {key}").into())
    }

    /// The value that the leader of a key's region has for it.
    fn read(&self, key: &str) -> Done<Option<Vec<u8>>> {
        let owner = self.owner(key)?;
        let host = self.hosts.values().find(|host| host.leads(owner)).ok_or("nobody leads it any more")?;
        data::read(host.store.storage(), key.as_bytes())
    }

    // --- time --------------------------------------------------------------------------------------------------------

    /// Lets time pass until all stores agree.
    pub(crate) fn settle(&mut self) -> Done {
        self.pass_time_until("all stores have the same", Self::agrees)
    }

    /// Lets time pass until something holds, and says so.
    pub(crate) fn wait(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Done {
        self.pass_time_until(what, holds)?;
        println!("{what}");
        Ok(())
    }

    fn pass_time_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Done {
        for _ in 0..ROUNDS_MAX {
            if holds(self) {
                return Ok(());
            }
            self.round()?;
        }
        Err(format!("it did not come to this: {what}").into())
    }

    fn round(&mut self) -> Done {
        self.hosts.values_mut().try_for_each(Host::tick)?;
        loop {
            self.kill_at_work()?;
            self.hosts.values_mut().try_for_each(Host::work)?;
            let letters: Vec<_> = self.letters.try_iter().collect();
            if letters.is_empty() {
                return self.tell_pd();
            }
            for (to, letter) in letters {
                self.carry(to, &letter)?;
            }
        }
    }

    /// Heartbeats and errands go out, and PD's answers come in.
    fn tell_pd(&mut self) -> Done {
        for (store, host) in &mut self.hosts {
            if let Some(driver) = self.drivers.get_mut(store) {
                driver.turn();
            }
            for errand in std::mem::take(&mut host.errands) {
                host.take_in(Errand::run(errand, &*self.pd)?)?;
            }
        }
        Ok(())
    }

    /// Entries are in the log and in the pool, and maybe applied and published; Raft's thread will not hear of it.
    fn kill_at_work(&mut self) -> Done {
        let Some(host) = self.doomed.and_then(|store| self.hosts.get_mut(&store)) else { return Ok(()) };
        if host.hand_to_pool()? {
            self.doomed.take().map(|store| self.hosts.remove(&store));
        }
        Ok(())
    }

    fn carry(&mut self, to: StoreId, bytes: &[u8]) -> Done {
        let letter = Letter::decode(bytes)?;
        let is_lost = |(region, store)| letter.region == region && [letter.from.store_id, to].contains(&store);
        if self.cut.is_some_and(is_lost) {
            return Ok(());
        }
        match self.hosts.get_mut(&to) {
            Some(host) => host.receive(bytes),
            None => Ok(()),
        }
    }
}
