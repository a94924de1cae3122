//! The text scenarios of `testdata/admin`: regions, commands, and what becomes of them. One file a command; how to write one
//! is in the README beside them.
//!
//! Each command goes through its bytes first, and is then planned on every store, so each scenario also shows that the wire
//! form loses nothing and that all replicas agree. `REGIONMETA_BLESS=1` rewrites the answers instead of comparing them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regionmeta::{
    AdminCommand, AdminError, AdminKind, AdminRequest, ApplyContext, ApplyState, LogPosition, Outcome, PeerState,
    Region, StoreId, Verdict,
};

use crate::notation::{self, Words};

const ANSWER: &str = "  -> ";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/testdata/admin")
}

/// Every kind has a file, and every file says what happens.
#[test]
fn every_command_does_what_its_scenarios_say() {
    let bless = std::env::var_os("REGIONMETA_BLESS").is_some();
    let mut wrong = Vec::new();
    for kind in AdminKind::ALL {
        let path = folder().join(format!("{}.txt", file_name(kind)));
        let written = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let found = play(&written, &format!("{kind:?}"));
        if bless && found != written {
            std::fs::write(&path, &found).unwrap();
        }
        wrong.extend(differences(&path, &written, &found));
    }
    assert!(bless || wrong.is_empty(), "{}\nREGIONMETA_BLESS=1 accepts what was found.", wrong.join("\n"));
}

/// `ChangePeerV2` is `change_peer_v2`.
fn file_name(kind: AdminKind) -> String {
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// Each step whose answer is not the one that is written, with its scenario and line.
fn differences(path: &Path, written: &str, found: &str) -> Vec<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (written, found) = (steps(written), steps(found));
    assert_eq!(written.len(), found.len(), "{name}: the runner lost a step");
    let differing = written.iter().zip(&found).filter(|(written, found)| written.answers != found.answers);
    let report = |(written, found): (&Step<'_>, &Step<'_>)| {
        let Step { scenario, command, line, .. } = written;
        let (expected, found) = (written.answers.join("\n    "), found.answers.join("\n    "));
        format!("\n{name}:{line}: {scenario}\n  {command}\n  expected\n    {expected}\n  found\n    {found}")
    };
    differing.map(report).collect()
}

struct Step<'a> {
    scenario: &'a str,
    command: &'a str,
    line: usize,
    answers: Vec<&'a str>,
}

fn steps(text: &str) -> Vec<Step<'_>> {
    let (mut scenario, mut steps) = ("", Vec::<Step<'_>>::new());
    for (line, text) in (1..).zip(text.lines()) {
        if let Some(answer) = text.strip_prefix(ANSWER) {
            steps.last_mut().unwrap_or_else(|| panic!("line {line}: an answer to nothing")).answers.push(answer);
        } else if text.starts_with("scenario") {
            scenario = text;
        } else if is_command(text) {
            steps.push(Step { scenario, command: text, line, answers: vec![] });
        }
    }
    steps
}

fn is_command(line: &str) -> bool {
    line.starts_with(|letter: char| letter.is_ascii_uppercase())
}

/// The text again, with the answers that the library gives. Every other line stays as it is.
fn play(text: &str, kind: &str) -> String {
    let (mut found, mut stage, mut commands) = (String::new(), Stage::default(), 0);
    for line in text.lines().filter(|line| !line.starts_with(ANSWER)) {
        found.push_str(line);
        found.push('\n');
        if is_command(line) {
            commands += usize::from(line.starts_with(&format!("{kind} ")));
            for answer in stage.command(line) {
                found.push_str(&format!("{ANSWER}{answer}\n"));
            }
        } else {
            stage.prepare(line);
        }
    }
    assert!(commands > 0, "no {kind} in its own file");
    found
}

/// One store, as a scenario has set it up and its commands have left it.
struct Stage {
    store: StoreId,
    apply_state: ApplyState,
    regions: BTreeMap<u64, Region>,
    /// What this store has of a merge's source, if it is not what the commands have made of it.
    source_here: Option<Option<Region>>,
}

impl Default for Stage {
    fn default() -> Self {
        let apply_state = ApplyState { applied_index: 9.into(), ..ApplyState::INITIAL };
        Self { store: StoreId::new(1), apply_state, regions: BTreeMap::new(), source_here: None }
    }
}

impl Stage {
    /// Every line that is not a command.
    fn prepare(&mut self, line: &str) {
        let mut words = Words::of(line);
        if !words.more() || line.starts_with('#') {
            return;
        }
        match words.word() {
            "scenario" => return *self = Self::default(),
            "store" => self.store = words.number().into(),
            "region" => {
                let region = notation::region(&mut words);
                self.regions.insert(region.id().get(), region);
            }
            "here" if words.has("as") => {
                words.expect("planned");
                self.source_here = None;
            }
            "here" if words.has("nothing") => self.source_here = Some(None),
            "here" => self.source_here = Some(Some(notation::region(&mut words))),
            "log" => {
                words.expect("from");
                let first = words.number();
                self.apply_state.truncated = LogPosition { index: (first - 1).into(), term: 5.into() };
                words.expect("applied");
                self.apply_state.applied_index = words.number().into();
            }
            other => panic!("what is \"{other}\" in: {line}"),
        }
        words.end();
    }

    /// Plans a command, and on success makes it so.
    fn command(&mut self, line: &str) -> Vec<String> {
        if let Some(number) = line.strip_prefix("Type") {
            return vec![format!("refused: {}", unknown_type(number))];
        }
        let (line, at) = line.split_once(" at ").map_or((line, None), |(line, at)| (line, Some(at)));
        let find = |id| self.regions.get(&id).unwrap_or_else(|| panic!("no region {id} for: {line}")).clone();
        let request = notation::request(&mut Words::of(line), &find);
        let bytes = request.encode().unwrap();
        assert_eq!(AdminRequest::decode(&bytes).as_ref(), Ok(&request), "{line}");
        let current = find(at.map_or(request.header.region_id.get(), |at| at.parse().unwrap()));
        let answer = self.plan(self.store, &request, &current);
        self.assert_all_stores_agree(&request, &current, &answer);
        for record in answer.iter().flat_map(Outcome::records) {
            self.regions.insert(record.id().get(), record.clone());
        }
        let index = self.apply_state.applied_index.next().unwrap();
        let counts = answer.as_ref().err().is_none_or(|error| error.verdict() == Verdict::Refused);
        self.apply_state.applied_index = if counts { index } else { self.apply_state.applied_index };
        notation::answer(&answer)
    }

    fn plan(&self, store: StoreId, request: &AdminRequest, current: &Region) -> Result<Outcome, AdminError> {
        let index = self.apply_state.applied_index.next().unwrap();
        let context = ApplyContext::new(store, LogPosition { index, term: 6.into() }, self.apply_state);
        match &request.command {
            AdminCommand::CommitMerge(merge) => {
                let planned = self.regions.get(&merge.source.id().get());
                match self.source_here.as_ref().map_or(planned, Option::as_ref) {
                    Some(source) => request.plan(current, &context.with_merge_source(source)),
                    None => request.plan(current, &context),
                }
            }
            _ => request.plan(current, &context),
        }
    }

    /// Who refuses, refuses alike; who does not, comes to the same region, but for what only its own store knows.
    fn assert_all_stores_agree(&self, request: &AdminRequest, current: &Region, here: &Result<Outcome, AdminError>) {
        for store in (1..=6).map(StoreId::new) {
            match (here, &self.plan(store, request, current)) {
                (Err(here), Err(there)) => assert_eq!(here, there, "{request:?} on store {store}"),
                (Ok(here), Ok(there)) => assert_eq!(common(here), common(there), "{request:?} on store {store}"),
                (here, there) => panic!("{request:?}: {here:?} here, {there:?} on store {store}"),
            }
        }
    }
}

/// The records without what differs from store to store: whether the own peer is gone, or waits for data.
fn common(outcome: &Outcome) -> Vec<Region> {
    let strip = |region: &Region| {
        let (mut draft, merges) = (region.to_draft(), region.merge_state().is_some());
        if !merges {
            draft.state = PeerState::Normal;
            draft.destroyed_peer = None;
        }
        draft.build().unwrap()
    };
    outcome.records().map(strip).collect()
}

/// The answer to a request of a type that this version does not know: two types whose bytes differ in nothing else show
/// where the type is.
fn unknown_type(number: &str) -> String {
    let encode = |line: &str| notation::request(&mut Words::of(line), &|id| panic!("{id}")).encode().unwrap();
    let (mut bytes, other) = (encode("FinishFlashback 1 1/1"), encode("ComputeHash 1 1/1"));
    let differing: Vec<_> = (0..bytes.len()).filter(|&at| bytes[at] != other[at]).collect();
    assert_eq!((bytes.len(), differing.len()), (other.len(), 1));
    bytes[differing[0]] = number.trim().parse().unwrap();
    AdminRequest::decode(&bytes).unwrap_err().to_string()
}
