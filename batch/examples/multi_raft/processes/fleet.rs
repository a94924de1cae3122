//! The three processes, as whoever started them sees them: their orders go to the address that PD knows.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use regionmeta::{AdminCommand, AdminHeader, AdminRequest, KeyRange, Peer, Region, RegionId, StoreId};
use regionmeta_batch::pd::{PdClient, RegionInfo};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use super::super::Done;
use super::super::arguments::Arguments;
use super::Again;
use super::order::{Order, Shown};

/// How often it is looked whether something has come about.
const PAUSE: Duration = Duration::from_millis(50);
/// Without `--seconds`.
const TIME: Duration = Duration::from_secs(60);

pub(crate) struct Fleet {
    pub(crate) pd: Arc<dyn PdClient>,
    arguments: Arguments,
    again: Again,
    directory: TempDir,
    /// The processes that run, by the number of their directory.
    children: RefCell<BTreeMap<usize, Child>>,
    end: Instant,
    /// What was written, for comparison.
    pub(crate) written: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Fleet {
    /// Starts all stores at once: they race for the bootstrap.
    pub(crate) fn start(arguments: &Arguments, again: Again, stores: usize) -> Done<Self> {
        let fleet = Self {
            pd: Arc::new(super::connect(arguments)?),
            arguments: arguments.clone(),
            again,
            directory: TempDir::new()?,
            children: RefCell::default(),
            end: Instant::now() + arguments.time.unwrap_or(TIME),
            written: BTreeMap::new(),
        };
        if fleet.get("PD answers", |fleet| Ok(fleet.pd.is_bootstrapped()?))? {
            return Err("this PD has a cluster already, and the story begins with an empty one".into());
        }
        (0..stores).try_for_each(|number| fleet.launch(number))?;
        Ok(fleet)
    }

    pub(crate) fn launch(&self, number: usize) -> Done {
        let directory = self.directory.path().join(format!("store-{number}"));
        let directory = directory.to_str().ok_or("a directory with a strange name")?.to_owned();
        let left = self.end.saturating_duration_since(Instant::now()).as_secs() + 5;
        let options = [
            ("--pd", self.arguments.pd.join(",")),
            ("--store", directory),
            ("--cluster-id", self.arguments.cluster.to_string()),
            ("--seconds", left.to_string()), // nobody stays behind if this process is killed
        ];
        let options: Vec<_> = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
        let child = (self.again)(&options)?.spawn()?;
        self.children.borrow_mut().insert(number, child);
        Ok(())
    }

    /// Kills the process of a store as nothing else does: it can neither say nor write anything more. Returns its number.
    pub(crate) fn kill(&self, store: StoreId) -> Done<usize> {
        let process = self.get(&format!("which process store {store} is"), |fleet| Ok(fleet.ask(store)?.process))?;
        let mut children = self.children.borrow_mut();
        let number = children.iter().find(|(_, child)| child.id() == process).map(|(number, _)| *number);
        let number = number.ok_or("the store is not one of ours")?;
        let mut child = children.remove(&number).ok_or("the store does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(number)
    }

    /// Tells every store to end, and waits until it has.
    pub(crate) fn stop(self) -> Done {
        for child in self.children.borrow().values() {
            rustix::process::kill_process(Pid::from_child(child), Signal::TERM)?;
        }
        self.until("every store has ended when it was told to", |fleet| {
            let mut all_ended = true;
            for child in fleet.children.borrow_mut().values_mut() {
                match child.try_wait()? {
                    Some(status) if !status.success() => return Err(format!("a store ended with {status}").into()),
                    ended => all_ended &= ended.is_some(),
                }
            }
            Ok(all_ended)
        })
    }

    // --- what is known -----------------------------------------------------------------------------------------------

    /// PD's map, in key order.
    pub(crate) fn map(&self) -> Done<Vec<RegionInfo>> {
        Ok(self.pd.scan_regions(KeyRange::ALL, 0)?)
    }

    pub(crate) fn region(&self, id: RegionId) -> Done<RegionInfo> {
        Ok(self.pd.get_region_by_id(id)?.ok_or("PD does not know the region")?)
    }

    /// What a store has.
    pub(crate) fn ask(&self, store: StoreId) -> Done<Shown> {
        let shown = Shown::decode(&self.order(store, &Order::Show)?)?;
        if shown.store == store { Ok(shown) } else { Err("another store answers".into()) }
    }

    /// What every store has that PD knows.
    pub(crate) fn ask_all(&self) -> Done<Vec<Shown>> {
        self.pd.get_all_stores()?.into_iter().map(|store| self.ask(store.id)).collect()
    }

    // --- orders ------------------------------------------------------------------------------------------------------

    fn order(&self, store: StoreId, order: &Order) -> Done<Vec<u8>> {
        let address = self.pd.get_store(store)?.ok_or("PD does not know the store")?.address;
        order.send(self.arguments.cluster, &address)
    }

    /// To the store that leads a region, as far as PD knows.
    pub(crate) fn order_leader(&self, of: &RegionInfo, order: &Order) -> Done {
        let leader = of.leader.ok_or("PD knows no leader")?;
        self.order(leader.store_id, order).map(drop)
    }

    pub(crate) fn propose(&self, to: &RegionInfo, command: AdminCommand) -> Done {
        let header = AdminHeader::new(to.region.id(), to.region.epoch());
        self.order_leader(to, &Order::Admin(AdminRequest { header, command }))
    }

    /// Writes keys, each until its leader has it.
    pub(crate) fn write(&mut self, what: &str, keys: impl Iterator<Item = String>) -> Done {
        let value = what.as_bytes();
        let pairs: BTreeMap<_, _> = keys.map(|key| (key.into_bytes(), value.to_vec())).collect();
        let mut missing: Vec<_> = pairs.keys().cloned().collect();
        self.until(what, |fleet| {
            let there = fleet.led_data()?;
            missing.retain(|key| there.get(key).is_none_or(|found| found != value));
            for key in &missing {
                let order = Order::Write { key: key.clone(), value: value.to_vec() };
                fleet.order_leader(&fleet.owner(key)?, &order)?;
            }
            Ok(missing.is_empty())
        })?;
        self.written.extend(pairs);
        Ok(())
    }

    pub(crate) fn owner(&self, key: &[u8]) -> Done<RegionInfo> {
        Ok(self.pd.get_region(key)?.ok_or("PD knows no owner of the key")?)
    }

    /// What the leaders have, as far as PD knows them.
    fn led_data(&self) -> Done<BTreeMap<Vec<u8>, Vec<u8>>> {
        let leaders: BTreeSet<_> = self.map()?.iter().filter_map(|known| Some(known.leader?.store_id)).collect();
        let mut there = BTreeMap::new();
        for leader in leaders {
            let Shown { regions, data, .. } = self.ask(leader)?;
            let led = |key: &[u8]| regions.iter().any(|held| held.leads && held.region.range().contains(key));
            there.extend(data.into_iter().filter(|(key, _)| led(key)));
        }
        Ok(there)
    }

    // --- time --------------------------------------------------------------------------------------------------------

    /// Tries until something holds, and says so. What fails meanwhile is tried again: processes die here, and PD may be away.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> Done<bool>) -> Done {
        self.get(what, |fleet| if holds(fleet)? { Ok(()) } else { Err("it is not so".into()) })?;
        println!("yes: {what}");
        Ok(())
    }

    /// Tries until it succeeds.
    pub(crate) fn get<T>(&self, what: &str, mut attempt: impl FnMut(&Self) -> Done<T>) -> Done<T> {
        loop {
            match attempt(self) {
                Err(error) if Instant::now() >= self.end => {
                    return Err(format!("it did not come to this in time: {what}; last: {error}").into());
                }
                Err(_) => thread::sleep(PAUSE),
                got => return got,
            }
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.children.borrow_mut().values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn peer_on(region: &Region, store: StoreId) -> Done<Peer> {
    Ok(region.peer_on(store).ok_or("there is no such peer")?)
}
