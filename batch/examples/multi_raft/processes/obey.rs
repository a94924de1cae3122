//! A host does what it is ordered to, or what PD wants.

use regionmeta::layout::origin_key;
use regionmeta::{AdminKind, KeyRange, RegionId};
use regionmeta_batch::pd::Proposal;

use super::super::errand::Errand;
use super::super::host::Host;
use super::super::{Done, data};
use super::order::{Held, Order, Shown};

impl Host {
    pub(super) fn obey(&mut self, order: Order) -> Done<Vec<u8>> {
        match order {
            Order::Admin(request) => self.carry_out(Proposal::Admin(request))?,
            Order::Split { region, keys } => self.split(region, keys)?,
            Order::Merge { source, target } => self.prepare_merge(source, target)?,
            Order::Write { key, value } => self.write(&key, Some(&value))?,
            Order::Show => return Ok(self.show()?.encode()),
        }
        Ok(Vec::new())
    }

    /// An operator of PD's was held against the region already; what is left is what this host cannot do.
    pub(super) fn carry_out(&mut self, proposal: Proposal) -> Done {
        match proposal {
            Proposal::Admin(request) if request.command.kind() == AdminKind::BatchSwitchWitness => {
                Err("this host has no witnesses".into())
            }
            Proposal::Admin(request) => self.propose(&request),
            Proposal::Merge { header, target } => self.prepare_merge(header.region_id, target.id()),
            Proposal::Split { header, keys, .. } => self.split(header.region_id, keys),
            other => Err(format!("this host does not know what to do: {other:?}").into()),
        }
    }

    /// Without keys the region is split in half. The ids come from PD, and then the split is proposed.
    fn split(&mut self, region: RegionId, mut keys: Vec<Vec<u8>>) -> Done {
        let known = self.region(region).filter(|_| self.leads(region)).ok_or("the region is not led here")?;
        if keys.is_empty() {
            let pairs = data::pairs(self.store.storage(), known.range())?;
            let (middle, _) = pairs.get(pairs.len() / 2).ok_or("there is nothing to split")?;
            keys.push(origin_key(middle)?.to_vec());
        }
        match keys.iter().all(|key| known.range().contains_inside(key)) {
            true => self.errands.push(Errand::Split { region: known, keys }),
            false => return Err("a key to split at is not inside of the region".into()),
        }
        Ok(())
    }

    fn show(&self) -> Done<Shown> {
        let held =
            |(region, applied): (regionmeta::Region, _)| Held { leads: self.leads(region.id()), region, applied };
        let mut data = data::Pairs::new();
        for (key, value) in data::pairs(self.store.storage(), KeyRange::ALL)? {
            data.push((origin_key(&key)?.to_vec(), value));
        }
        let regions = self.regions().into_iter().map(held).collect();
        Ok(Shown { store: self.id(), process: std::process::id(), regions, data })
    }
}
