//! The host that the demo plays: keys, commands, and data of its own in the same batches.
//!
//! Keys are eight bytes, big-endian. Each writer owns an interval of them and changes only regions inside it, as a region
//! is owned by one apply worker.

use regionmeta::layout::data_key;
use regionmeta::{
    AdminCommand, BatchSplit, ChangeKind, LogIndex, LogPosition, Outcome, Peer, PeerChange, Region, RegionId,
    SplitRequest, Term,
};
use regionmeta_batch::Store;
use regionmeta_batch::apply::ApplyBatch;
use regionmeta_batch::pd::{EmbeddedPd, PdClient};
use regionmeta_batch::storage::{Family, RocksStorage, Storage};

use super::Error;
use super::messages::{Commit, RegionMark};

/// The term of every entry: the demo has no elections.
const TERM: Term = Term::new(6);
/// The store that conf changes add a learner on and remove it from.
const SPARE_STORE: u64 = 4;
/// Prefix of the host's record of each region, after the data prefix.
const REGION_DATA: &[u8] = b"demo/region/";
/// Prefix of the host's record of each writer's last commit.
const COMMIT_DATA: &[u8] = b"demo/commit/";

/// The key of the host's record of a region.
pub(super) fn region_data_key(region: RegionId) -> Vec<u8> {
    data_key(&[REGION_DATA, &region.get().to_be_bytes()].concat())
}

/// The key of the host's record of a writer's last commit.
pub(super) fn commit_data_key(writer: u64) -> Vec<u8> {
    data_key(&[COMMIT_DATA, &writer.to_be_bytes()].concat())
}

/// The host's record of a region: written in the batch that changed it, so it must always say the same as the descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RegionData {
    pub(super) writer: u64,
    pub(super) commit: u64,
    pub(super) conf_ver: u64,
    pub(super) version: u64,
    pub(super) applied: u64,
}

impl RegionData {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let Self { writer, commit, conf_ver, version, applied } = self;
        [writer, commit, conf_ver, version, applied].map(u64::to_be_bytes).concat()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [writer, commit, conf_ver, version, applied] = numbers(bytes)?;
        Some(Self { writer, commit, conf_ver, version, applied })
    }
}

/// The host's record of a writer's last commit: its number, and how many regions it changed.
pub(super) fn commit_from_bytes(bytes: &[u8]) -> Option<(u64, u64)> {
    let [number, regions] = numbers(bytes)?;
    Some((number, regions))
}

fn numbers<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let numbers: Vec<u64> = chunks.iter().map(|chunk| u64::from_be_bytes(*chunk)).collect();
    if rest.is_empty() { numbers.try_into().ok() } else { None }
}

/// One writer: a host's apply worker.
pub(super) struct Writer<'a> {
    store: &'a Store<RocksStorage>,
    pd: &'a EmbeddedPd,
    number: u64,
    commits: u64,
}

/// A commit that returned, and how many commands it held.
pub(super) struct Done {
    pub(super) commit: Commit,
    pub(super) commands: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(store: &'a Store<RocksStorage>, pd: &'a EmbeddedPd, number: u64) -> Self {
        Self { store, pd, number, commits: 0 }
    }

    /// Adds voters on stores 2 and 3 to the region of `key`, so that every region has three peers from the start.
    pub(super) fn add_replicas(&mut self, key: u64) -> Result<Done, Error> {
        let mut entries = Entries::new(self.store.begin());
        let id = entries.locate(self.store, key)?.id();
        for store in [2, 3] {
            let peer = Peer::voter(self.pd.alloc_id()?.into(), store.into());
            entries.apply(id, &AdminCommand::ChangePeer(PeerChange { kind: ChangeKind::AddNode, peer }))?;
        }
        self.commit(entries)
    }

    /// Splits the region that owns the last of these ascending keys at all of them, `per_command` keys a command. All the
    /// commands are in one batch: each but the first is checked against a region that no reader has seen yet.
    pub(super) fn split_at(&mut self, keys: &[u64], per_command: usize) -> Result<Done, Error> {
        let mut entries = Entries::new(self.store.begin());
        let last = *keys.last().ok_or("no keys to split at")?;
        let id = entries.locate(self.store, last)?.id();
        for keys in keys.chunks(per_command) {
            let current = entries.region(id)?;
            let requests = keys.iter().map(|&key| self.split_request(&current, key)).collect::<Result<_, _>>()?;
            entries.apply(
                id,
                &AdminCommand::BatchSplit(BatchSplit { requests, right_derive: true, shares_size: false }),
            )?;
        }
        self.commit(entries)
    }

    /// One batch of random changes, half of them splits, to regions of `keys`.
    pub(super) fn change_randomly(
        &mut self,
        rng: &mut fastrand::Rng,
        keys: std::ops::Range<u64>,
        changes: usize,
    ) -> Result<Done, Error> {
        let mut entries = Entries::new(self.store.begin());
        for _ in 0..changes {
            let key = rng.u64(keys.clone());
            let region = entries.locate(self.store, key)?;
            // A region that this batch has changed already may meanwhile end before the key.
            let command = if rng.bool() && region.range().contains_inside(&key.to_be_bytes()) {
                let requests = vec![self.split_request(&region, key)?];
                AdminCommand::BatchSplit(BatchSplit { requests, right_derive: rng.bool(), shares_size: false })
            } else {
                self.toggle_spare(&region)?
            };
            entries.apply(region.id(), &command)?;
        }
        self.commit(entries)
    }

    /// Adds a learner on the spare store, or removes the one that is there.
    fn toggle_spare(&self, region: &Region) -> Result<AdminCommand, Error> {
        let change = match region.peer_on(SPARE_STORE.into()) {
            Some(peer) => PeerChange { kind: ChangeKind::RemoveNode, peer },
            None => {
                let peer = Peer::learner(self.pd.alloc_id()?.into(), SPARE_STORE.into());
                PeerChange { kind: ChangeKind::AddLearner, peer }
            }
        };
        Ok(AdminCommand::ChangePeer(change))
    }

    fn split_request(&self, region: &Region, key: u64) -> Result<SplitRequest, Error> {
        let new_peer_ids = region.peers().map(|_| Ok(self.pd.alloc_id()?.into())).collect::<Result<_, Error>>()?;
        let new_region_id = self.pd.alloc_id()?.into();
        Ok(SplitRequest { split_key: key.to_be_bytes().to_vec(), new_region_id, new_peer_ids })
    }

    /// Puts the host's own records into the batch and commits it.
    fn commit(&mut self, entries: Entries<'_>) -> Result<Done, Error> {
        let Entries { mut batch, touched, commands } = entries;
        self.commits += 1;
        let (writer, number) = (self.number, self.commits);
        let storage = self.store.storage();
        let mut regions = Vec::with_capacity(touched.len());
        for (region, applied) in touched.into_values() {
            let (conf_ver, version) = (region.epoch().conf_ver, region.epoch().version);
            let data = RegionData { writer, commit: number, conf_ver, version, applied: applied.get() };
            storage.put(batch.data(), Family::Default, &region_data_key(region.id()), &data.to_bytes())?;
            regions.push(RegionMark::of(&region, applied));
        }
        let commit = [number, regions.len() as u64].map(u64::to_be_bytes).concat();
        storage.put(batch.data(), Family::Default, &commit_data_key(writer), &commit)?;
        batch.commit()?;
        Ok(Done { commit: Commit { writer, number, regions }, commands })
    }
}

/// A batch that is being filled, and what it makes of each region.
struct Entries<'a> {
    batch: ApplyBatch<'a, RocksStorage>,
    touched: std::collections::BTreeMap<RegionId, (Region, LogIndex)>,
    commands: u64,
}

impl<'a> Entries<'a> {
    fn new(batch: ApplyBatch<'a, RocksStorage>) -> Self {
        Self { batch, touched: std::collections::BTreeMap::new(), commands: 0 }
    }

    /// The region that owned a key when the last commit was published, as this batch has left it.
    fn locate(&self, store: &Store<RocksStorage>, key: u64) -> Result<Region, Error> {
        let snapshot = store.meta().snapshot();
        let entry = snapshot.locate(&key.to_be_bytes()).ok_or("a key without a region")?;
        self.region(entry.region().id())
    }

    fn region(&self, id: RegionId) -> Result<Region, Error> {
        self.batch.region(id).ok_or_else(|| format!("region {id} is gone").into())
    }

    fn apply(&mut self, id: RegionId, command: &AdminCommand) -> Result<(), Error> {
        let current = self.region(id)?;
        let applied = self.batch.applied_index(id);
        let index = applied.next().ok_or("out of log indexes")?;
        let entry = LogPosition { index, term: TERM };
        let regions = match self.batch.apply(id, entry, current.epoch(), command)? {
            Outcome::Changed { region, .. } => vec![region],
            Outcome::Split { regions, .. } => regions,
            other => return Err(format!("unexpected outcome {other:?}").into()),
        };
        for region in regions {
            let applied = self.batch.applied_index(region.id());
            self.touched.insert(region.id(), (region, applied));
        }
        self.commands += 1;
        Ok(())
    }
}
