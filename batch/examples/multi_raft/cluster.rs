//! Three hosts and the wires between them, in one thread: a round is a tick of every clock, then every message until there
//! is none.

use std::collections::BTreeMap;
use std::path::PathBuf;

use regionmeta::layout::raft_state_key;
use regionmeta::{
    AdminCommand, AdminHeader, AdminRequest, ApplyState, Peer, PeerState, RaftState, Region, RegionDraft, RegionEpoch,
    RegionId, StoreId,
};
use regionmeta_batch::pd::{EmbeddedPd, PdClient};
use regionmeta_batch::records;
use regionmeta_batch::storage::{Durability, Family, Storage};
use tempfile::TempDir;

use super::host::Host;
use super::{CLUSTER, Done, builder};

/// Far more than anything takes; who waits for so long waits for ever.
const ROUNDS_MAX: usize = 500;

pub(crate) struct Cluster {
    pub(crate) pd: EmbeddedPd,
    directory: TempDir,
    /// The stores that are up.
    pub(crate) hosts: BTreeMap<StoreId, Host>,
}

impl Cluster {
    /// Bootstraps the stores, and gives each a peer of the first region, which it returns.
    pub(crate) fn start(stores: usize) -> Done<(Self, Region)> {
        let (pd, directory) = (EmbeddedPd::new(CLUSTER), TempDir::new()?);
        let mut made = Vec::new();
        for number in 0..stores {
            made.push(builder().bootstrap(directory.path().join(number.to_string()), &pd)?);
        }
        let first = pd.get_region(b"")?.ok_or("PD knows no region")?.region;
        let mut peers = Vec::new();
        for store in &made {
            let id = store.ident().store_id;
            let here = first.peer_on(id);
            peers.push(match here {
                Some(peer) => peer,
                None => Peer::voter(pd.alloc_id()?.into(), id),
            });
        }
        let epoch = RegionEpoch::new(stores as u64, 1);
        let region = RegionDraft { peers, epoch, ..first.to_draft() }.build()?;
        let mut cluster = Self { pd, directory, hosts: BTreeMap::new() };
        for (number, store) in made.into_iter().enumerate() {
            let id = store.ident().store_id;
            write_first_region(store.storage(), &region)?;
            store.close()?;
            std::fs::rename(cluster.directory.path().join(number.to_string()), cluster.path(id))?;
            cluster.restart(id)?;
        }
        Ok((cluster, region))
    }

    fn path(&self, store: StoreId) -> PathBuf {
        self.directory.path().join(format!("store-{store}"))
    }

    /// The store is gone. Nothing in it was closed or synced for that.
    pub(crate) fn kill(&mut self, store: StoreId) -> Done {
        self.hosts.remove(&store).map(drop).ok_or_else(|| "the store was down".into())
    }

    /// The store recovers from what it had on disk, and its peers go on from there.
    pub(crate) fn restart(&mut self, store: StoreId) -> Done {
        let host = Host::open(&self.path(store))?;
        self.hosts.insert(store, host);
        Ok(())
    }

    pub(crate) fn host(&mut self, store: StoreId) -> Done<&mut Host> {
        self.hosts.get_mut(&store).ok_or_else(|| "the store is down".into())
    }

    pub(crate) fn leader(&self, region: RegionId) -> Option<StoreId> {
        self.hosts.iter().find(|(_, host)| host.leads(region)).map(|(store, _)| *store)
    }

    /// The region as its leader has it.
    pub(crate) fn region(&self, region: RegionId) -> Done<Region> {
        let leader = self.hosts.values().find(|host| host.leads(region));
        Ok(leader.and_then(|host| host.region(region)).ok_or_else(|| format!("nobody leads region {region}"))?)
    }

    /// Proposes a command at the region's leader, at an epoch.
    pub(crate) fn propose_at(&mut self, region: RegionId, epoch: RegionEpoch, command: AdminCommand) -> Done {
        let leader = self.leader(region).ok_or("nobody leads the region")?;
        self.host(leader)?.propose(&AdminRequest { header: AdminHeader::new(region, epoch), command })
    }

    /// Proposes a command, and waits until every store that is up has the same regions, with this one moved.
    pub(crate) fn change(&mut self, what: &str, region: RegionId, command: AdminCommand) -> Done {
        let before = self.region(region)?;
        self.propose_at(region, before.epoch(), command)?;
        self.wait(what, |cluster| {
            let moved = cluster.hosts.values().all(|host| host.region(region).is_some_and(|now| now != before));
            moved && cluster.agrees()
        })
    }

    /// Whether every store that is up has the same regions, has applied the same of each, and each of them is led.
    pub(crate) fn agrees(&self) -> bool {
        let mut maps = self.hosts.values().map(Host::regions);
        let first = maps.next().unwrap_or_default();
        maps.all(|map| map == first) && first.iter().all(|(region, _)| self.leader(region.id()).is_some())
    }

    /// Lets time pass until something holds.
    pub(crate) fn wait(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Done {
        for _ in 0..ROUNDS_MAX {
            if holds(self) {
                println!("{what}");
                return Ok(());
            }
            self.round()?;
        }
        Err(format!("it did not come to this: {what}").into())
    }

    fn round(&mut self) -> Done {
        self.hosts.values_mut().for_each(Host::tick);
        loop {
            let mut letters = Vec::new();
            for host in self.hosts.values_mut() {
                letters.extend(host.work()?);
            }
            if letters.is_empty() {
                return Ok(());
            }
            for letter in letters {
                if let Some(host) = self.hosts.get_mut(&letter.to) {
                    host.receive(letter)?;
                }
            }
        }
    }
}

/// What a Raft snapshot would bring to a new peer: the region's record, its apply state, the beginning of its log.
fn write_first_region(storage: &impl Storage, region: &Region) -> Done {
    let mut batch = storage.batch();
    records::write_peer_state(storage, &mut batch, region, PeerState::Normal, None)?;
    records::write_apply_state(storage, &mut batch, region.id(), &ApplyState::INITIAL)?;
    records::put(storage, &mut batch, Family::Raft, &raft_state_key(region.id()), &RaftState::INITIAL)?;
    Ok(storage.write(batch, Durability::Synced)?)
}
