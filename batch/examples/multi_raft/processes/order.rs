//! What a store may be asked for beside letters and PD's operators. An administrator of a real cluster would talk to PD
//! instead, and a client to the host's own service.

use std::io::BufReader;
use std::time::Duration;

use regionmeta::{AdminRequest, ClusterId, LogIndex, Region, RegionId, StoreId};

use super::super::data::Pairs;
use super::super::{Done, blobs};
use super::{frame, post};

/// How long a store may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of an order, or why nothing did.
pub(crate) type Answer = Result<Vec<u8>, String>;

#[derive(Debug)]
pub(crate) enum Order {
    /// Propose this command. Whether it is applied is seen later.
    Admin(AdminRequest),
    /// Split a region at these keys, with ids from PD.
    Split { region: RegionId, keys: Vec<Vec<u8>> },
    /// Merge a region into another one, which has a peer on the same store.
    Merge { source: RegionId, target: RegionId },
    /// Propose to write a key.
    Write { key: Vec<u8>, value: Vec<u8> },
    /// Say what is here: [`Shown`].
    Show,
}

const ADMIN: u8 = 0;
const SPLIT: u8 = 1;
const MERGE: u8 = 2;
const WRITE: u8 = 3;
const SHOW: u8 = 4;

impl Order {
    fn encode(&self) -> Done<Vec<u8>> {
        let id = |region: &RegionId| region.get().to_be_bytes().to_vec();
        let (kind, blobs) = match self {
            Self::Admin(request) => (ADMIN, vec![request.encode()?]),
            Self::Split { region, keys } => (SPLIT, [vec![id(region)], keys.clone()].concat()),
            Self::Merge { source, target } => (MERGE, vec![id(source), id(target)]),
            Self::Write { key, value } => (WRITE, vec![key.clone(), value.clone()]),
            Self::Show => (SHOW, Vec::new()),
        };
        let mut bytes = vec![kind];
        blobs.iter().for_each(|blob| blobs::push(&mut bytes, blob));
        Ok(bytes)
    }

    /// # Errors
    /// If these are not an order's bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Done<Self> {
        let (kind, mut rest) = bytes.split_first().ok_or("an empty order")?;
        let mut parts = Vec::new();
        while !rest.is_empty() {
            parts.push(blobs::pop(&mut rest)?.to_vec());
        }
        let id = |part: &[u8]| -> Done<RegionId> { Ok(u64::from_be_bytes(part.try_into()?).into()) };
        match (*kind, parts.as_slice()) {
            (ADMIN, [request]) => Ok(Self::Admin(AdminRequest::decode(request)?)),
            (SPLIT, [region, keys @ ..]) => Ok(Self::Split { region: id(region)?, keys: keys.to_vec() }),
            (MERGE, [source, target]) => Ok(Self::Merge { source: id(source)?, target: id(target)? }),
            (WRITE, [key, value]) => Ok(Self::Write { key: key.clone(), value: value.clone() }),
            (SHOW, []) => Ok(Self::Show),
            _ => Err("an order of an unknown kind".into()),
        }
    }

    /// Sends the order to a store, and waits for its answer.
    pub(crate) fn send(&self, cluster: ClusterId, address: &str) -> Done<Vec<u8>> {
        let mut stream = post::dial(cluster, address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        frame::write(&mut stream, frame::ORDER, &self.encode()?)?;
        match frame::read(&mut BufReader::new(&stream))? {
            Some((frame::DONE, answer)) => Ok(answer),
            Some((frame::NOT_DONE, why)) => Err(String::from_utf8_lossy(&why).into_owned().into()),
            _ => Err("the store has ended".into()),
        }
    }
}

/// A region as a store has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    pub(crate) region: Region,
    pub(crate) applied: LogIndex,
    pub(crate) leads: bool,
}

/// What a store has.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) store: StoreId,
    /// The process that runs it.
    pub(crate) process: u32,
    /// In key order.
    pub(crate) regions: Vec<Held>,
    /// Keys and values, without the prefix that they have on disk.
    pub(crate) data: Pairs,
}

impl Shown {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        blobs::push(&mut bytes, &self.store.get().to_be_bytes());
        blobs::push(&mut bytes, &self.process.to_be_bytes());
        blobs::push(&mut bytes, &(self.regions.len() as u64).to_be_bytes());
        for Held { region, applied, leads } in &self.regions {
            blobs::push(&mut bytes, region.as_bytes());
            blobs::push(&mut bytes, &applied.get().to_be_bytes());
            blobs::push(&mut bytes, &[u8::from(*leads)]);
        }
        for blob in self.data.iter().flat_map(|(key, value)| [key, value]) {
            blobs::push(&mut bytes, blob);
        }
        bytes
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Done<Self> {
        let store = number(&mut bytes)?.into();
        let process = u32::from_be_bytes(blobs::pop(&mut bytes)?.try_into()?);
        let mut regions = Vec::new();
        for _ in 0..number(&mut bytes)? {
            let region = Region::from_bytes(blobs::pop(&mut bytes)?)?;
            let applied = number(&mut bytes)?.into();
            regions.push(Held { region, applied, leads: blobs::pop(&mut bytes)? == [1] });
        }
        let mut data = Pairs::new();
        while !bytes.is_empty() {
            data.push((blobs::pop(&mut bytes)?.to_vec(), blobs::pop(&mut bytes)?.to_vec()));
        }
        Ok(Self { store, process, regions, data })
    }
}

fn number(bytes: &mut &[u8]) -> Done<u64> {
    Ok(u64::from_be_bytes(blobs::pop(bytes)?.try_into()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kind has its number of parts; what is an order is encoded as it came.
    #[test]
    fn orders_of_every_kind_and_number_of_parts() {
        for (kind, parts) in (0..=u8::MAX).flat_map(|kind| (0..4).map(move |parts| (kind, parts))) {
            let mut bytes = vec![kind];
            (0..parts).for_each(|_| blobs::push(&mut bytes, &7_u64.to_be_bytes()));
            let expected = matches!((kind, parts), (SPLIT, 1..) | (MERGE | WRITE, 2) | (SHOW, 0));
            let again = Order::decode(&bytes).map(|order| order.encode().unwrap());
            assert_eq!(again.ok(), expected.then_some(bytes), "kind {kind}, {parts} parts");
        }
    }

    /// Other bytes are other orders, or none; a process that sends them does not end the store.
    #[test]
    fn damaged_orders_and_answers_are_values_or_errors() {
        let split = Order::Split { region: 7.into(), keys: vec![b"a".to_vec(), b"b".to_vec()] };
        let shown = Shown { store: 1.into(), process: 2, regions: Vec::new(), data: vec![(vec![1], vec![2])] };
        assert_eq!(Order::decode(&split.encode().unwrap()).unwrap().encode().unwrap(), split.encode().unwrap());
        assert_eq!(Shown::decode(&shown.encode()).unwrap().encode(), shown.encode());
        for bytes in [split.encode().unwrap(), shown.encode()] {
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 0x81;
                for bytes in [&bytes[..at], &damaged] {
                    let order = Order::decode(bytes).ok().map(|order| order.encode().unwrap());
                    assert!(order.is_none_or(|again| again == bytes));
                    let _ = Shown::decode(bytes);
                }
            }
        }
    }
}
