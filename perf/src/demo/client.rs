//! The readers: each plays a client that sends requests with the epochs it remembers, and a server that checks them.
//!
//! A client learns a key's region and epoch from one lookup and uses them until a request is refused. What it remembers is
//! also a witness against the store: a region that is found in an older version than before breaks I2.

use std::time::Instant;

use hdrhistogram::Histogram;
use regionmeta::{EpochHalves, Key, Region, RegionEpoch, RegionId, Snapshot};
use regionmeta_batch::Store;
use regionmeta_batch::storage::RocksStorage;

use super::Error;
use super::violations::Violations;

/// Keys a client asks for: few enough to come back to each several times a second, enough to spread over many regions.
const KEYS: usize = 1 << 16;
/// One read in so many is timed: reading the clock costs as much as the read.
const READS_PER_SAMPLE: u64 = 64;

/// What a reader did and found.
pub(super) struct Reads {
    pub(super) count: u64,
    /// Requests whose epoch matched, and requests whose epoch was out of date.
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) latency: Histogram<u64>,
    pub(super) violations: Violations,
}

/// A request for a key, with what the client believes of its region.
#[derive(Clone, Copy, Debug)]
struct Request {
    key: [u8; 8],
    region: RegionId,
    epoch: RegionEpoch,
}

/// What a server says to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Accepted,
    /// The client's epoch is out of date.
    Refused,
    /// The client has seen a newer state than the server is in: time went backwards.
    Backwards,
}

/// The region that owns a key, and its verdict on the request.
#[derive(Clone, Copy, Debug)]
struct Answer {
    region: RegionId,
    epoch: RegionEpoch,
    verdict: Verdict,
}

/// Sends requests for random keys out of a pool, as long as it may. The loop allocates nothing.
pub(super) fn read(
    store: &Store<RocksStorage>,
    mut rng: fastrand::Rng,
    go_on: impl Fn() -> bool,
) -> Result<Reads, Error> {
    let mut reader = store.meta().reader();
    let mut requests = first_requests(&mut rng, reader.snapshot())?;
    let mut reads = Reads::new()?;
    while go_on() {
        for _ in 1..READS_PER_SAMPLE {
            let Some(request) = rng.choice(&mut requests) else { continue };
            let answer = lookup(reader.snapshot(), request);
            reads.take(request, answer);
        }
        let Some(request) = rng.choice(&mut requests) else { continue };
        // A server gets the request from outside: fetching it from the pool is not part of the time.
        let sent = std::hint::black_box(*request);
        let started = Instant::now();
        let answer = lookup(reader.snapshot(), &sent);
        let nanos = started.elapsed().as_nanos();
        reads.latency.saturating_record(u64::try_from(nanos)?);
        reads.take(request, answer);
    }
    Ok(reads)
}

/// Random keys, each with the region it has now.
fn first_requests(rng: &mut fastrand::Rng, snapshot: &Snapshot) -> Result<Vec<Request>, Error> {
    let request = |key: [u8; 8]| {
        let region = snapshot.locate(&key)?.region();
        Some(Request { key, region: region.id(), epoch: region.epoch() })
    };
    let requests: Option<_> = (0..KEYS).map(|_| request(rng.u64(..).to_be_bytes())).collect();
    requests.ok_or_else(|| "I1: a key has no region before serving begins".into())
}

/// Finds the region that owns the key and checks the request's epoch: what a server does first with every request.
#[inline]
fn lookup(snapshot: &Snapshot, request: &Request) -> Option<Answer> {
    let region = snapshot.locate(&request.key)?.region();
    region.range().contains(&request.key).then(|| answer(request, region))
}

#[inline]
fn answer(request: &Request, found: &Region) -> Answer {
    let (region, epoch) = (found.id(), found.epoch());
    let verdict = if region != request.region {
        // Keys go to another region by a split or a merge, and both leave it a larger version (I3).
        if epoch.version > request.epoch.version { Verdict::Refused } else { Verdict::Backwards }
    } else if epoch.is_behind_any(request.epoch) {
        Verdict::Backwards
    } else if epoch.matches(request.epoch, EpochHalves::VERSION) {
        Verdict::Accepted
    } else {
        Verdict::Refused
    };
    Answer { region, epoch, verdict }
}

impl Reads {
    fn new() -> Result<Self, Error> {
        let latency = new_histogram()?;
        Ok(Self { count: 0, accepted: 0, refused: 0, latency, violations: Violations::default() })
    }

    /// Counts an answer, and has the client remember what it learned from it.
    #[inline]
    fn take(&mut self, request: &mut Request, answer: Option<Answer>) {
        self.count += 1;
        let Some(Answer { region, epoch, verdict }) = answer else {
            self.violations.add(|| format!("I1: no region owned {} at some moment", Key(&request.key)));
            return;
        };
        match verdict {
            Verdict::Accepted => self.accepted += 1,
            Verdict::Refused => self.refused += 1,
            Verdict::Backwards => self.violations.add(|| {
                format!(
                    "I2: {} belonged to region {} at epoch {}, later to region {region} at epoch {epoch}",
                    Key(&request.key),
                    request.region,
                    request.epoch
                )
            }),
        }
        (request.region, request.epoch) = (region, epoch);
    }
}

/// A histogram of nanoseconds, up to ten seconds.
pub(super) fn new_histogram() -> Result<Histogram<u64>, Error> {
    Ok(Histogram::new_with_bounds(1, 10_000_000_000, 3)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use regionmeta::{KeyRange, Peer, RegionDraft, StoreMeta};

    fn region(id: u64, epoch: RegionEpoch) -> Region {
        let peers = vec![Peer::voter((id + 100).into(), 1.into())];
        RegionDraft::new(id.into(), KeyRange::ALL, epoch, peers).build().unwrap()
    }

    fn request(region: u64, epoch: RegionEpoch) -> Request {
        Request { key: [7; 8], region: region.into(), epoch }
    }

    #[test]
    fn a_request_is_accepted_refused_or_a_witness_against_the_store() {
        use Verdict::{Accepted, Backwards, Refused};
        let epoch = RegionEpoch::new;
        for (region_of_request, sent, verdict) in [
            (1, epoch(5, 5), Accepted),
            (1, epoch(4, 5), Accepted), // commands on data do not check membership
            (1, epoch(5, 4), Refused),
            (1, epoch(4, 4), Refused),
            (1, epoch(5, 6), Backwards),
            (1, epoch(6, 5), Backwards),
            (1, epoch(6, 4), Backwards),
            (2, epoch(9, 4), Refused),
            (2, epoch(5, 5), Backwards),
            (2, epoch(1, 6), Backwards),
        ] {
            let answer = answer(&request(region_of_request, sent), &region(1, epoch(5, 5)));
            assert_eq!(answer.verdict, verdict, "{region_of_request} {sent}");
        }
    }

    #[test]
    fn every_answer_is_counted_and_remembered() {
        let (old, new) = (RegionEpoch::new(1, 1), RegionEpoch::new(1, 2));
        let at = |epoch| StoreMeta::recover(None, [region(1, epoch)], []).unwrap().snapshot();
        let mut reads = Reads::new().unwrap();
        let mut request = request(1, old);
        for snapshot in [at(old), at(new), at(new), at(old), StoreMeta::new(None).snapshot()] {
            let answer = lookup(&snapshot, &request);
            reads.take(&mut request, answer);
        }
        assert_eq!((reads.count, reads.accepted, reads.refused, reads.violations.count), (5, 2, 1, 2));
        assert_eq!(
            request.epoch, old,
            "the client follows the store even backwards, so that each step back counts once"
        );
        let [backwards, nobody] = &reads.violations.first[..] else { panic!("{:?}", reads.violations) };
        assert!(backwards.starts_with("I2") && nobody.starts_with("I1"), "{:?}", reads.violations);
    }
}
