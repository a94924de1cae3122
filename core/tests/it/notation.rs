//! The notation of the text scenarios: regions, peers and admin commands in one line each. `testdata/admin/README.md` is
//! its description; keep the two in step.

use std::fmt::Write as _;

use regionmeta::{
    AdminCommand, AdminError, AdminHeader, AdminRequest, BatchSplit, BatchSwitchWitness, ChangeKind, ChangePeerV2,
    CommitMerge, CompactLog, ComputeHash, EndKey, FinishFlashback, KeyRange, LogEntry, LogPosition, Outcome, Peer,
    PeerChange, PeerRole, PeerState, PrepareFlashback, PrepareMerge, Region, RegionDraft, RegionEpoch, RegionRef,
    RollbackMerge, Split, SplitRequest, TransferLeader, Verdict, VerifyHash, WitnessSwitch,
};

/// The words of one line, taken one by one.
pub(crate) struct Words<'a> {
    line: &'a str,
    rest: Vec<&'a str>,
}

impl<'a> Words<'a> {
    pub(crate) fn of(line: &'a str) -> Self {
        let mut rest: Vec<_> = line.split_whitespace().collect();
        rest.reverse();
        Self { line, rest }
    }

    pub(crate) fn word(&mut self) -> &'a str {
        self.rest.pop().unwrap_or_else(|| panic!("a word is missing at the end of: {}", self.line))
    }

    pub(crate) fn number(&mut self) -> u64 {
        number(self.word())
    }

    pub(crate) fn more(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Takes the word if it comes next.
    pub(crate) fn has(&mut self, word: &str) -> bool {
        let comes = self.rest.last() == Some(&word);
        if comes {
            self.rest.pop();
        }
        comes
    }

    pub(crate) fn expect(&mut self, word: &str) {
        assert!(self.has(word), "\"{word}\" is missing in: {}", self.line);
    }

    pub(crate) fn end(&self) {
        assert!(!self.more(), "what is \"{}\" in: {}", self.rest.last().unwrap_or(&""), self.line);
    }
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("\"{word}\" is not a number"))
}

// --- regions ---------------------------------------------------------------------------------------------------------

/// `2@3`, then `:learner`, `:incoming`, `:demoting`, `:witness` as it applies.
fn peer(word: &str) -> Peer {
    let mut parts = word.split(':');
    let (id, store) = parts.next().and_then(|ids| ids.split_once('@')).unwrap_or_else(|| panic!("{word} is no peer"));
    let mut peer = Peer::voter(number(id).into(), number(store).into());
    for part in parts {
        match part {
            "learner" => peer.role = PeerRole::Learner,
            "incoming" => peer.role = PeerRole::IncomingVoter,
            "demoting" => peer.role = PeerRole::DemotingVoter,
            "witness" => peer.is_witness = true,
            other => panic!("{other} in {word} is no role"),
        }
    }
    peer
}

fn peer_text(peer: Peer) -> String {
    let role = match peer.role {
        PeerRole::Voter => "",
        PeerRole::Learner => ":learner",
        PeerRole::IncomingVoter => ":incoming",
        PeerRole::DemotingVoter => ":demoting",
    };
    format!("{}@{}{role}{}", peer.id, peer.store_id, if peer.is_witness { ":witness" } else { "" })
}

/// `3/7`: `conf_ver` and `version`.
fn epoch(word: &str) -> RegionEpoch {
    let (conf_ver, version) = word.split_once('/').unwrap_or_else(|| panic!("{word} is no epoch"));
    RegionEpoch::new(number(conf_ver), number(version))
}

/// `1 a..m 3/7 11@1 12@2`, then `state S` and `flashback T` as they apply.
pub(crate) fn region(words: &mut Words<'_>) -> Region {
    let (id, range) = (words.number(), words.word());
    let (start, end) = range.split_once("..").unwrap_or_else(|| panic!("{range} is no range"));
    let epoch = epoch(words.word());
    let mut peers = vec![];
    while words.rest.last().is_some_and(|word| word.contains('@')) {
        peers.push(peer(words.word()));
    }
    let mut draft = RegionDraft::new(id.into(), KeyRange::from_wire(start.as_bytes(), end.as_bytes()), epoch, peers);
    if words.has("state") {
        let state = words.word();
        let known = PeerState::ALL.into_iter().find(|known| format!("{known:?}") == state);
        draft.state = known.unwrap_or_else(|| panic!("{state} is no state"));
    }
    if words.has("flashback") {
        draft.flashback_start_ts = Some(words.number());
    }
    draft.build().unwrap_or_else(|error| panic!("{}: {error}", words.line))
}

/// The same notation, with what only a command can make: a merge, a destroyed peer.
pub(crate) fn region_text(region: RegionRef<'_>) -> String {
    let key = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let end = match region.end_key() {
        EndKey::Finite(end) => key(end),
        EndKey::Infinite => String::new(),
    };
    let mut text = format!("{} {}..{end} {}", region.id(), key(region.start_key()), region.epoch());
    for peer in region.peers() {
        write!(text, " {}", peer_text(peer)).unwrap();
    }
    if region.state() != PeerState::Normal {
        write!(text, " state {:?}", region.state()).unwrap();
    }
    if let Some(ts) = region.flashback_start_ts() {
        write!(text, " flashback {ts}").unwrap();
    }
    if let Some(peer) = region.destroyed_peer() {
        write!(text, " without {peer}").unwrap();
    }
    if let Some(merge) = region.merge_state() {
        let (min, commit) = (merge.min_index, merge.commit);
        write!(text, " into ({}) min {min} commit {commit}", region_text(merge.target)).unwrap();
    }
    text
}

// --- commands --------------------------------------------------------------------------------------------------------

/// Where a scenario finds the regions that a merge names.
pub(crate) type Find<'a> = &'a dyn Fn(u64) -> Region;

/// `KIND REGION EPOCH` and what the kind needs; then `in-flashback` if it is part of one.
pub(crate) fn request(words: &mut Words<'_>, find: Find<'_>) -> AdminRequest {
    let kind = words.word();
    let region_id = words.number().into();
    let epoch = Some(words.word()).filter(|word| *word != "-").map(epoch);
    let command = command(kind, words, find);
    let flashback = words.has("in-flashback");
    words.end();
    AdminRequest { header: AdminHeader { region_id, epoch, term: 0.into(), flashback }, command }
}

fn command(kind: &str, words: &mut Words<'_>, find: Find<'_>) -> AdminCommand {
    match kind {
        "ChangePeer" => AdminCommand::ChangePeer(change(words).unwrap_or_else(|| panic!("no change: {}", words.line))),
        "ChangePeerV2" => {
            AdminCommand::ChangePeerV2(ChangePeerV2 { changes: std::iter::from_fn(|| change(words)).collect() })
        }
        "Split" => {
            let right_derive = derives_right(words);
            AdminCommand::Split(Split { request: split_request(words.word()), right_derive, shares_size: false })
        }
        "BatchSplit" => {
            let right_derive = derives_right(words);
            let mut requests = vec![];
            while words.rest.last().is_some_and(|word| word.contains('=')) {
                requests.push(split_request(words.word()));
            }
            AdminCommand::BatchSplit(BatchSplit { requests, right_derive, shares_size: false })
        }
        "PrepareMerge" => {
            words.expect("into");
            let target = partner(words, find);
            words.expect("min");
            AdminCommand::PrepareMerge(PrepareMerge { target, min_index: words.number().into() })
        }
        "CommitMerge" => commit_merge(words, find),
        "RollbackMerge" => {
            words.expect("commit");
            AdminCommand::RollbackMerge(RollbackMerge { commit: words.number().into() })
        }
        "CompactLog" => {
            words.expect("to");
            let index = words.number().into();
            words.expect("term");
            let compact = LogPosition { index, term: words.number().into() };
            let voter_replicated_index = if words.has("voters") { words.number() } else { 0 }.into();
            AdminCommand::CompactLog(CompactLog { compact, voter_replicated_index })
        }
        "BatchSwitchWitness" => {
            let switches = std::iter::from_fn(|| switch(words)).collect();
            AdminCommand::BatchSwitchWitness(BatchSwitchWitness { switches })
        }
        "PrepareFlashback" => {
            words.expect("ts");
            AdminCommand::PrepareFlashback(PrepareFlashback { start_ts: words.number() })
        }
        "FinishFlashback" => AdminCommand::FinishFlashback(FinishFlashback),
        "TransferLeader" => AdminCommand::TransferLeader(TransferLeader { transferees: vec![peer(words.word())] }),
        "ComputeHash" => AdminCommand::ComputeHash(ComputeHash { context: vec![] }),
        "VerifyHash" => {
            words.expect("index");
            let index = words.number().into();
            AdminCommand::VerifyHash(VerifyHash { index, hash: b"hash".to_vec(), context: vec![] })
        }
        other => panic!("{other} is no command"),
    }
}

fn change(words: &mut Words<'_>) -> Option<PeerChange> {
    let kind = if words.has("add") {
        ChangeKind::AddNode
    } else if words.has("learner") {
        ChangeKind::AddLearner
    } else if words.has("remove") {
        ChangeKind::RemoveNode
    } else {
        return None;
    };
    Some(PeerChange { kind, peer: peer(words.word()) })
}

fn switch(words: &mut Words<'_>) -> Option<WitnessSwitch> {
    let is_witness = words.has("witness");
    let found = is_witness || words.has("data");
    found.then(|| WitnessSwitch { peer_id: words.number().into(), is_witness })
}

fn derives_right(words: &mut Words<'_>) -> bool {
    let right = words.has("right");
    if !right {
        words.expect("left");
    }
    right
}

/// `k=8(9,10)`: at key `k`, new region 8 with the peers 9 and 10.
fn split_request(word: &str) -> SplitRequest {
    let (key, rest) = word.split_once('=').unwrap_or_else(|| panic!("{word} is no split"));
    let (id, peers) = rest.trim_end_matches(')').split_once('(').unwrap_or_else(|| panic!("{word} has no peers"));
    let peers = peers.split(',').filter(|id| !id.is_empty());
    SplitRequest {
        split_key: key.into(),
        new_region_id: number(id).into(),
        new_peer_ids: peers.map(|id| number(id).into()).collect(),
    }
}

/// The other region of a merge: one of the scenario by its id, or one that is written out in parentheses.
fn partner(words: &mut Words<'_>, find: Find<'_>) -> Region {
    if words.has("(") {
        let region = region(words);
        words.expect(")");
        return region;
    }
    find(words.number())
}

fn commit_merge(words: &mut Words<'_>, find: Find<'_>) -> AdminCommand {
    words.expect("from");
    let source = partner(words, find);
    words.expect("commit");
    let commit = words.number().into();
    let mut entries = vec![];
    if words.has("entries") {
        let (first, last) = (words.number(), words.number());
        entries.extend((first..=last).map(|index| LogEntry { index: index.into(), term: 6.into(), data: vec![1] }));
    }
    AdminCommand::CommitMerge(CommitMerge { source, commit, entries })
}

// --- answers ---------------------------------------------------------------------------------------------------------

/// One line for each thing that the answer says.
pub(crate) fn answer(answer: &Result<Outcome, AdminError>) -> Vec<String> {
    let text = |region: &Region| region_text(region.as_ref());
    match answer {
        Err(error) => {
            let verdict = match error.verdict() {
                Verdict::Refused => "refused",
                Verdict::Wait => "wait",
                Verdict::Fatal => "fatal",
            };
            vec![format!("{verdict}: {error}")]
        }
        Ok(Outcome::Unchanged) => vec!["unchanged".into()],
        Ok(Outcome::Changed { region, reason }) => vec![format!("{reason:?}: {}", text(region))],
        Ok(Outcome::Destroyed { tombstone, peer }) => vec![format!("peer {peer} is gone: {}", text(tombstone))],
        Ok(Outcome::Split { regions, derived, .. }) => {
            let part = |region: &Region| if region.id() == *derived { "derived" } else { "new" };
            regions.iter().map(|region| format!("{}: {}", part(region), text(region))).collect()
        }
        Ok(Outcome::Merged { target, source, source_peer }) => {
            let peer = source_peer.map_or_else(|| "no peer".to_string(), |peer| format!("peer {peer}"));
            vec![format!("CommitMerge: {}", text(target)), format!("{peer} is gone: {}", text(source))]
        }
        Ok(Outcome::LogTruncated { truncated: LogPosition { index, term } }) => {
            vec![format!("truncated to {index} term {term}")]
        }
        Ok(Outcome::LogTruncationDelayed { truncated: LogPosition { index, term }, voter_replicated_index }) => {
            vec![format!("truncation to {index} term {term} waits: voters have {voter_replicated_index}")]
        }
        Ok(other) => panic!("no notation for {other:?}"),
    }
}
