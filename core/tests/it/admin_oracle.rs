//! The slow, obvious twin of the transitions: regions of plain fields, changed by the tables of the specification as they
//! stand there. It shares no code with the library but the types of the commands.

use regionmeta::{
    AdminCommand, AdminHeader, ChangeKind, EndKey, Peer, PeerChange, PeerRole, PeerState, RegionRef, SplitRequest,
    WitnessSwitch,
};

/// Role letters: Voter, Learner, Incoming, Demoting.
pub(crate) type PlainPeer = (u64, u64, char, bool);

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Plain {
    pub(crate) id: u64,
    pub(crate) start: Vec<u8>,
    /// Empty: unbounded.
    pub(crate) end: Vec<u8>,
    /// `conf_ver`, `version`.
    pub(crate) epoch: (u64, u64),
    pub(crate) peers: Vec<PlainPeer>,
    pub(crate) state: PeerState,
    pub(crate) flashback: Option<u64>,
    /// min index, commit, target.
    pub(crate) merge: Option<(u64, u64, Box<Plain>)>,
    /// This store's peer that the command removed.
    pub(crate) gone: Option<u64>,
}

pub(crate) fn plain_peer(peer: Peer) -> PlainPeer {
    let role = match peer.role {
        PeerRole::Voter => 'V',
        PeerRole::Learner => 'L',
        PeerRole::IncomingVoter => 'I',
        PeerRole::DemotingVoter => 'D',
    };
    (peer.id.get(), peer.store_id.get(), role, peer.is_witness)
}

impl Plain {
    pub(crate) fn of(region: RegionRef<'_>) -> Self {
        let merge = region.merge_state();
        Self {
            id: region.id().get(),
            start: region.start_key().to_vec(),
            end: match region.end_key() {
                EndKey::Finite(end) => end.to_vec(),
                EndKey::Infinite => vec![],
            },
            epoch: (region.epoch().conf_ver, region.epoch().version),
            peers: region.peers().map(plain_peer).collect(),
            state: region.state(),
            flashback: region.flashback_start_ts(),
            merge: merge.map(|m| (m.min_index.get(), m.commit.get(), Box::new(Self::of(m.target)))),
            gone: region.destroyed_peer().map(|peer| peer.get()),
        }
    }

    pub(crate) fn is_joint(&self) -> bool {
        self.peers.iter().any(|peer| "ID".contains(peer.2))
    }

    fn beside(&self, other: &Self) -> bool {
        let left = !self.end.is_empty() && self.end == other.start;
        let right = !other.end.is_empty() && other.end == self.start;
        self.id != other.id && (left || right)
    }

    fn places(&self) -> Vec<(u64, char, bool)> {
        let mut places: Vec<_> = self.peers.iter().map(|&(_, store, role, witness)| (store, role, witness)).collect();
        places.sort_unstable();
        places
    }

    fn well_formed(&self) -> bool {
        let distinct = |mut numbers: Vec<u64>| {
            let all = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            numbers.len() == all && !numbers.contains(&0)
        };
        distinct(self.peers.iter().map(|peer| peer.0).collect())
            && distinct(self.peers.iter().map(|peer| peer.1).collect())
            && self.id != 0
            && self.peers.iter().any(|peer| "VI".contains(peer.2))
    }
}

/// What the command leaves behind on `store`, in the order of the outcome's records; `None` if it is refused.
pub(crate) fn expect(
    command: &AdminCommand,
    header: &AdminHeader,
    region: &Plain,
    store: u64,
    entry: u64,
) -> Option<Vec<Plain>> {
    use AdminCommand as C;
    if !is_for(command, header, region) {
        return None;
    }
    let new = match command {
        C::Split(split) => return split_up(region, std::slice::from_ref(&split.request), split.right_derive),
        C::BatchSplit(split) => return split_up(region, &split.requests, split.right_derive),
        C::CommitMerge(merge) => return absorb(region, &Plain::of(merge.source.as_ref()), merge.commit.get()),
        C::CompactLog(command) if command.compact.index.get() >= entry => return None,
        C::CompactLog(_) | C::TransferLeader(_) | C::ComputeHash(_) | C::VerifyHash(_) => return Some(vec![]),
        C::PrepareMerge(merge) => prepare(region, &Plain::of(merge.target.as_ref()), merge.min_index.get(), entry)?,
        C::BatchSwitchWitness(command) => switch(region, &command.switches, store)?,
        other => simple_effect(other, region, store)?,
    };
    new.well_formed().then(|| vec![new])
}

/// Region, epoch, flashback, state.
fn is_for(command: &AdminCommand, header: &AdminHeader, region: &Plain) -> bool {
    use AdminCommand as C;
    let is_flashback = matches!(command, C::PrepareFlashback(_) | C::FinishFlashback(_));
    let harmless = matches!(command, C::CompactLog(_) | C::TransferLeader(_) | C::ComputeHash(_) | C::VerifyHash(_));
    let in_state = match region.state {
        PeerState::Normal => !matches!(command, C::RollbackMerge(_)),
        PeerState::Merging => harmless || matches!(command, C::RollbackMerge(_)),
        _ => false,
    };
    header.region_id.get() == region.id
        && epoch_fits(command, header, region)
        && (is_flashback || header.flashback == region.flashback.is_some())
        && in_state
}

/// The commands that change a field or two.
fn simple_effect(command: &AdminCommand, region: &Plain, store: u64) -> Option<Plain> {
    use AdminCommand as C;
    let mut new = region.clone();
    match command {
        C::ChangePeer(change) => {
            if new.is_joint() || !one_change(&mut new.peers, change) {
                return None;
            }
            new.epoch.0 += 1;
            remove_own(region, &mut new, store);
        }
        C::ChangePeerV2(command) => {
            new.epoch.0 += several_changes(&mut new.peers, &command.changes)?;
            remove_own(region, &mut new, store);
        }
        C::RollbackMerge(rollback) => {
            if region.merge.as_ref()?.1 != rollback.commit.get() {
                return None;
            }
            new.epoch.1 += 1;
            new.state = PeerState::Normal;
            new.merge = None;
        }
        C::PrepareFlashback(flashback) => new.flashback = Some(flashback.start_ts),
        C::FinishFlashback(_) => new.flashback = None,
        other => panic!("no table for {other:?}"),
    }
    Some(new)
}

/// Spec section 5.6.
fn prepare(region: &Plain, target: &Plain, min_index: u64, entry: u64) -> Option<Plain> {
    let fits = region.beside(target) && region.places() == target.places() && !region.is_joint();
    if !fits || target.state != PeerState::Normal || min_index > entry {
        return None;
    }
    let epoch = (region.epoch.0 + 1, region.epoch.1 + 1);
    let merge = Some((min_index, entry, Box::new(target.clone())));
    Some(Plain { epoch, state: PeerState::Merging, merge, ..region.clone() })
}

/// Spec section 5.7.
fn absorb(region: &Plain, source: &Plain, commit: u64) -> Option<Vec<Plain>> {
    let (_, prepared, target) = source.merge.clone().filter(|_| source.state == PeerState::Merging)?;
    let fits = region.beside(source) && region.places() == source.places();
    if !fits || prepared != commit || target.id != region.id {
        return None;
    }
    let mut new = region.clone();
    new.epoch.1 = 1 + if source.epoch.1 > new.epoch.1 { source.epoch.1 } else { new.epoch.1 };
    if !new.end.is_empty() && new.end == source.start {
        new.end = source.end.clone();
    } else {
        new.start = source.start.clone();
    }
    let merge = Some((0, 0, Box::new(region.clone())));
    Some(vec![new, Plain { state: PeerState::Tombstone, merge, ..source.clone() }])
}

/// Spec section 5.9.
fn switch(region: &Plain, switches: &[WitnessSwitch], store: u64) -> Option<Plain> {
    let mut new = region.clone();
    for (at, switch) in switches.iter().enumerate() {
        let again = switches[..at].iter().any(|before| before.peer_id == switch.peer_id);
        let peer = new.peers.iter_mut().find(|peer| peer.0 == switch.peer_id.get())?;
        if again || peer.3 == switch.is_witness {
            return None;
        }
        peer.3 = switch.is_witness;
        if peer.1 == store && !peer.3 {
            new.state = PeerState::Unavailable;
        }
    }
    new.epoch.0 += switches.len() as u64;
    (!switches.is_empty()).then_some(new)
}

/// Spec section 6.1, the two middle columns.
fn epoch_fits(command: &AdminCommand, header: &AdminHeader, region: &Plain) -> bool {
    let (conf_ver, version) = match format!("{:?}", command.kind()).as_str() {
        "ChangePeer" | "ChangePeerV2" | "BatchSwitchWitness" => (true, false),
        "CompactLog" | "TransferLeader" | "ComputeHash" | "VerifyHash" => return true,
        _ => (true, true),
    };
    let Some(epoch) = header.epoch else { return false };
    !(conf_ver && epoch.conf_ver != region.epoch.0 || version && epoch.version != region.epoch.1)
}

/// Spec section 5.3.
fn one_change(peers: &mut Vec<PlainPeer>, change: &PeerChange) -> bool {
    let asked = plain_peer(change.peer);
    let there = peers.iter().position(|peer| peer.1 == asked.1);
    match (change.kind, there) {
        (ChangeKind::AddNode, None) => peers.push((asked.0, asked.1, 'V', asked.3)),
        (ChangeKind::AddLearner, None) => peers.push((asked.0, asked.1, 'L', asked.3)),
        (ChangeKind::AddNode, Some(at)) if peers[at].2 == 'L' && peers[at].0 == asked.0 => peers[at].2 = 'V',
        (ChangeKind::RemoveNode, Some(at)) if peers[at] == asked => drop(peers.remove(at)),
        _ => return false,
    }
    true
}

/// Spec section 5.4: by how much conf_ver moves.
fn several_changes(peers: &mut Vec<PlainPeer>, changes: &[PeerChange]) -> Option<u64> {
    let joint = |peers: &[PlainPeer]| peers.iter().filter(|peer| "ID".contains(peer.2)).count() as u64;
    let before = joint(peers);
    if changes.is_empty() {
        for peer in peers.iter_mut() {
            peer.2 = if "VI".contains(peer.2) { 'V' } else { 'L' };
        }
        return (before > 0).then_some(before);
    }
    let ids: std::collections::BTreeSet<_> = changes.iter().map(|change| change.peer.id).collect();
    if before > 0 || ids.len() < changes.len() {
        return None;
    }
    let simple = changes.len() == 1;
    for change in changes {
        let asked = plain_peer(change.peer);
        let there = peers.iter().position(|peer| peer.1 == asked.1);
        let row = (there.map(|at| peers[at].2), change.kind);
        let same = there.is_some_and(|at| peers[at].0 == asked.0 && peers[at].3 == asked.3);
        match row {
            (None, ChangeKind::AddNode) => peers.push((asked.0, asked.1, if simple { 'V' } else { 'I' }, asked.3)),
            (None, ChangeKind::AddLearner) => peers.push((asked.0, asked.1, 'L', asked.3)),
            (Some('L'), ChangeKind::AddNode) if same => peers[there?].2 = if simple { 'V' } else { 'I' },
            (Some('V'), ChangeKind::AddLearner) if same => peers[there?].2 = if simple { 'L' } else { 'D' },
            (Some('L'), ChangeKind::RemoveNode) if peers[there?] == asked => drop(peers.remove(there?)),
            (Some('V'), ChangeKind::RemoveNode) if simple && peers[there?] == asked => drop(peers.remove(there?)),
            _ => return None,
        }
    }
    (simple || joint(peers) > 0).then_some(changes.len() as u64)
}

fn remove_own(before: &Plain, after: &mut Plain, store: u64) {
    let own = before.peers.iter().find(|peer| peer.1 == store).map(|peer| peer.0);
    after.gone = own.filter(|own| after.peers.iter().all(|peer| peer.0 != *own));
    if after.gone.is_some() {
        after.state = PeerState::Tombstone;
    }
}

/// Spec section 5.5.
fn split_up(region: &Plain, requests: &[SplitRequest], right: bool) -> Option<Vec<Plain>> {
    let keys: Vec<_> = requests.iter().map(|request| request.split_key.clone()).collect();
    let mut bounds = vec![region.start.clone()];
    bounds.extend(keys);
    if requests.is_empty() || bounds.windows(2).any(|pair| pair[0] >= pair[1]) {
        return None;
    }
    if !region.end.is_empty() && bounds.last()? >= &region.end {
        return None;
    }
    bounds.push(region.end.clone());
    let mut ids = vec![region.id];
    let mut peer_ids: Vec<_> = region.peers.iter().map(|peer| peer.0).collect();
    let mut results = vec![];
    for request in requests {
        if request.new_peer_ids.len() != region.peers.len() || ids.contains(&request.new_region_id.get()) {
            return None;
        }
        ids.push(request.new_region_id.get());
        let mut child = Plain { id: request.new_region_id.get(), flashback: None, ..region.clone() };
        for (peer, id) in child.peers.iter_mut().zip(&request.new_peer_ids) {
            if peer_ids.contains(&id.get()) {
                return None;
            }
            peer_ids.push(id.get());
            peer.0 = id.get();
        }
        results.push(child);
    }
    results.insert(if right { results.len() } else { 0 }, region.clone());
    for (at, result) in results.iter_mut().enumerate() {
        (result.start, result.end) = (bounds[at].clone(), bounds[at + 1].clone());
        result.epoch.1 = region.epoch.1 + requests.len() as u64;
        if !result.well_formed() {
            return None;
        }
    }
    Some(results)
}
