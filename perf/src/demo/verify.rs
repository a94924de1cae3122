//! The proof after the kill: everything that was acknowledged is there, and nothing is half there.

use std::collections::HashMap;
use std::ops::ControlFlow;

use regionmeta::{EndKey, KeyRange, Record, Region, RegionId, layout};
use regionmeta_batch::Store;
use regionmeta_batch::storage::{Family, RocksStorage, Storage};

use super::Error;
use super::acks::Acknowledged;
use super::messages::RegionMark;
use super::violations::Violations;
use super::workload::{RegionData, commit_data_key, commit_from_bytes, region_data_key};

#[cfg(test)]
mod tests;

/// What the proof found.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// Region versions that were acknowledged.
    pub(super) acknowledged: u64,
    /// Regions of which a version was acknowledged: those recovered and those lost.
    pub(super) acknowledged_regions: u64,
    /// Acknowledged regions that are there, as acknowledged or one commit newer.
    pub(super) recovered: u64,
    /// Acknowledged regions that are not.
    pub(super) lost: u64,
    /// Regions of commits that were on their way when the kill came, and made it.
    pub(super) in_flight: u64,
    pub(super) violations: Violations,
}

/// Compares the recovered store with what was acknowledged, and with itself.
pub(super) fn prove(store: &Store<RocksStorage>, acknowledged: &Acknowledged) -> Result<Proof, Error> {
    let acknowledged_regions = acknowledged.regions.len() as u64;
    let mut proof = Proof { acknowledged: acknowledged.versions, acknowledged_regions, ..Proof::default() };
    let snapshot = store.meta().snapshot();
    for violation in snapshot.validate() {
        proof.violation(violation.to_string());
    }
    proof.check_tiling(&mut snapshot.regions());
    for mark in acknowledged.regions.values() {
        proof.check_acknowledged(store, mark);
    }
    let commits = proof.check_commits(store, acknowledged)?;
    proof.check_regions(store, acknowledged, &commits)?;
    Ok(proof)
}

impl Proof {
    fn violation(&mut self, what: String) {
        self.violations.add(|| what);
    }

    /// The first region owned every key, and only splits followed: every key still has an owner (I1).
    fn check_tiling(&mut self, regions: &mut dyn Iterator<Item = &Region>) {
        let mut reached = EndKey::Finite(&[]);
        for region in regions {
            if reached.to_wire() != region.start_key() || reached == EndKey::Infinite {
                self.violation(format!("I1: there is a hole before {region}"));
            }
            reached = region.end_key();
        }
        if reached != EndKey::Infinite {
            self.violation(format!("I1: no region owns the keys from {reached} on"));
        }
    }

    /// A region is as it was acknowledged, byte for byte, or newer.
    fn check_acknowledged(&mut self, store: &Store<RocksStorage>, mark: &RegionMark) {
        let snapshot = store.meta().snapshot();
        let Some(region) = snapshot.get(mark.id).map(|entry| entry.region()) else {
            self.lost += 1;
            return;
        };
        let applied = store.apply_state(mark.id).applied_index;
        if applied < mark.applied || region.epoch().is_behind_any(mark.epoch) {
            self.lost += 1;
            return;
        }
        self.recovered += 1;
        if applied == mark.applied && RegionMark::of(region, applied) != *mark {
            self.violation(format!("I8: {region} is not what was acknowledged at index {applied}"));
        }
    }

    /// The last commit of each writer: the one that was acknowledged, or the one after it (I5, I8).
    fn check_commits(
        &mut self,
        store: &Store<RocksStorage>,
        acknowledged: &Acknowledged,
    ) -> Result<HashMap<u64, (u64, u64)>, Error> {
        let mut commits = HashMap::new();
        for (&writer, &last) in &acknowledged.commits {
            let value = store.storage().get(Family::Default, &commit_data_key(writer))?;
            match value.as_deref().and_then(commit_from_bytes) {
                Some(found) if found.0 == last || found.0 == last + 1 => {
                    commits.insert(writer, found);
                }
                found => self.violation(format!(
                    "I8: writer {writer} acknowledged commit {last}, the store has (commit, regions) {found:?}"
                )),
            }
        }
        Ok(commits)
    }

    /// Host data, descriptor, apply state and stored bytes of each region agree; a commit is there whole or not (I5, I6).
    fn check_regions(
        &mut self,
        store: &Store<RocksStorage>,
        acknowledged: &Acknowledged,
        commits: &HashMap<u64, (u64, u64)>,
    ) -> Result<(), Error> {
        let data = host_data(store)?;
        let mut of_last_commit: HashMap<u64, u64> = HashMap::new();
        for region in store.meta().snapshot().regions() {
            let applied = store.apply_state(region.id()).applied_index.get();
            let Some(data) = data.get(&region.id()) else {
                // Only the bootstrapped region was ever written without host data, and only before the first commit.
                self.violation(format!("I5: {region} has no host data"));
                continue;
            };
            let expected = (region.epoch().conf_ver, region.epoch().version, applied);
            if (data.conf_ver, data.version, data.applied) != expected {
                self.violation(format!("I5: {region} applied {applied} stands beside host data {data:?}"));
            }
            if commits.get(&data.writer).is_some_and(|&(last, _)| last == data.commit) {
                *of_last_commit.entry(data.writer).or_default() += 1;
            }
            self.in_flight += u64::from(acknowledged.commits.get(&data.writer).is_some_and(|&last| data.commit > last));
            self.check_bytes(store, region)?;
        }
        for (writer, &(number, regions)) in commits {
            let found = of_last_commit.get(writer).copied().unwrap_or(0);
            // Writer 0 grew the store; the others have changed its regions since.
            if *writer != 0 && found != regions {
                self.violation(format!(
                    "I5: of commit {number} of writer {writer} {found} of {regions} regions are there"
                ));
            }
        }
        Ok(())
    }

    fn check_bytes(&mut self, store: &Store<RocksStorage>, region: &Region) -> Result<(), Error> {
        let key = layout::region_state_key(region.id());
        let mut expected = Vec::new();
        region.encode(&key, &mut expected);
        if store.storage().get(Family::Raft, &key)?.as_ref() != Some(&expected) {
            self.violation(format!("I6: the stored bytes of {region} are not the ones that readers see"));
        }
        Ok(())
    }
}

fn host_data(store: &Store<RocksStorage>) -> Result<HashMap<RegionId, RegionData>, Error> {
    let (first, last) = (region_data_key(RegionId::new(0)), region_data_key(RegionId::new(u64::MAX)));
    let mut found = HashMap::new();
    let mut malformed = 0;
    store.storage().scan(Family::Default, KeyRange::new(&first, EndKey::Finite(&last)), &mut |key, value| {
        match (key.last_chunk::<8>(), RegionData::from_bytes(value)) {
            (Some(id), Some(data)) => {
                found.insert(RegionId::new(u64::from_be_bytes(*id)), data);
            }
            _ => malformed += 1,
        }
        ControlFlow::Continue(())
    })?;
    if malformed == 0 { Ok(found) } else { Err(format!("{malformed} of the host's records are malformed").into()) }
}
