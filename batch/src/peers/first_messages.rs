//! First messages of peers that a split is about to make (spec sections 8 and 9.1): a sibling on another store was faster, and
//! without them the new group waits for another election.

use std::collections::VecDeque;

use regionmeta::{PeerId, RegionId};

/// So many are kept; then the oldest goes.
const KEPT_MAX: usize = 100;

/// A first message is a vote, or an append that begins a log: what is longer than this is neither.
const PAYLOAD_BYTES_MAX: usize = 64 << 10;

/// At most one for each peer.
#[derive(Debug, Default)]
pub(super) struct FirstMessages {
    kept: VecDeque<FirstMessage>,
}

#[derive(Debug)]
struct FirstMessage {
    region: RegionId,
    to: PeerId,
    payload: Box<[u8]>,
}

impl FirstMessages {
    /// Whether the message is kept; it takes the place of an earlier one for the same peer.
    pub(super) fn keep(&mut self, region: RegionId, to: PeerId, payload: &[u8]) -> bool {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return false;
        }
        self.take(region, to);
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(FirstMessage { region, to, payload: payload.into() });
        true
    }

    /// The message for exactly this peer.
    pub(super) fn take(&mut self, region: RegionId, to: PeerId) -> Option<Box<[u8]>> {
        let at = self.kept.iter().position(|kept| (kept.region, kept.to) == (region, to))?;
        self.kept.remove(at).map(|kept| kept.payload)
    }

    /// A peer is gone: neither it nor an earlier one comes any more.
    pub(super) fn forget(&mut self, region: RegionId, gone: PeerId) {
        self.kept.retain(|kept| kept.region != region || kept.to > gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a list: the newest of each peer, and of those the hundred that came last.
    #[test]
    fn the_newest_of_each_peer_is_kept() {
        let seed = std::env::var("REGIONMETA_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        println!("REGIONMETA_SEED={seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut messages = FirstMessages::default();
        let mut model: Vec<(u64, u64, Vec<u8>)> = Vec::new();
        for step in 0..20_000_u32 {
            let (region, to) = (rng.u64(0..60), rng.u64(1..5));
            match rng.u32(0..10) {
                0 => {
                    let at = model.iter().position(|kept| (kept.0, kept.1) == (region, to));
                    let expected = at.map(|at| model.remove(at).2.into_boxed_slice());
                    assert_eq!(messages.take(region.into(), to.into()), expected, "step {step}");
                }
                1 => {
                    messages.forget(region.into(), to.into());
                    model.retain(|kept| kept.0 != region || kept.1 > to);
                }
                _ => {
                    let payload = step.to_le_bytes().to_vec();
                    assert!(messages.keep(region.into(), to.into(), &payload));
                    model.retain(|kept| (kept.0, kept.1) != (region, to));
                    model.push((region, to, payload));
                    model.drain(..model.len().saturating_sub(100));
                }
            }
            assert_eq!(messages.kept.len(), model.len(), "step {step}");
        }
    }

    #[test]
    fn a_long_message_is_not_kept() {
        let mut messages = FirstMessages::default();
        assert!(messages.keep(1.into(), 2.into(), &[0; PAYLOAD_BYTES_MAX]));
        assert!(!messages.keep(1.into(), 3.into(), &[0; PAYLOAD_BYTES_MAX + 1]));
        assert!(messages.take(1.into(), 3.into()).is_none());
    }
}
