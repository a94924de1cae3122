//! Random histories of all commands through the pool, 30 % of them stale and many otherwise bad, against the naive oracle of
//! the transitions (T1). Up to 64 entries of all regions are in flight at once, in batches of random size; every answer and
//! every record that an answer carries is the oracle's, and so is what the store shows and keeps in the end.

use std::collections::BTreeMap;

use regionmeta::layout::region_state_key;
use regionmeta::{
    AdminCommand, AdminKind, AdminRequest, HardState, Outcome, PeerState, PrepareMerge, RaftState, Region, RegionEpoch,
    RegionId, SplitRequest, Verdict,
};
use regionmeta_batch::apply::{AnswerError, ApplySettings, Data, Entry, ExecResult, Mutation};
use regionmeta_batch::storage::{Family, Storage};
use regionmeta_batch::{Store, records};

use crate::admin_oracle::{self, Plain};
use crate::admin_world::World;
use crate::common::{Disk, HERE, Mem, Rocks, at, seeded, setting};
use crate::model::History;
use crate::pool::Running;

const IN_FLIGHT_MAX: usize = 64;

/// What an entry must be answered: the records that it leaves, or that it is refused.
type Expected = Option<Vec<Plain>>;

struct Commands<S: Storage> {
    running: Running<S>,
    /// The regions as this store has them when everything that was sent is applied.
    world: World,
    /// The log of each region: its last entry.
    last: BTreeMap<u64, u64>,
    expected: BTreeMap<u64, Expected>,
    history: History,
    seen: BTreeMap<String, usize>,
    sent: u64,
}

impl<S: Storage> Commands<S> {
    fn new(running: Running<S>, seed: u64) -> Self {
        let first = running.store.meta().snapshot().locate(b"").unwrap().region().clone();
        let last = BTreeMap::from([(first.id().get(), 5)]);
        let world = World::over(first, seed);
        let (expected, seen) = (BTreeMap::new(), BTreeMap::new());
        Self { running, world, last, expected, history: History::default(), seen, sent: 0 }
    }

    fn step(&mut self) {
        if self.world.rng.u8(0..12) == 0 {
            return self.write();
        }
        let (region, mut request) = self.world.next();
        if !takes_entries(&region) {
            return;
        }
        let index = self.last[&region.id().get()] + 1;
        self.world.entry = index;
        if let AdminCommand::PrepareMerge(PrepareMerge { min_index, .. }) = &mut request.command {
            // What was truncated of the log would stop the region for good: the host's mistake, and not the command's.
            *min_index = (index + u64::from(self.world.rng.u8(0..8) == 0)).into();
        }
        let planned = self.world.plan(HERE.get(), &request, &region);
        if self.is_left_out(&request, &planned) {
            return;
        }
        let plain = Plain::of(region.as_ref());
        let expected = admin_oracle::expect(&request.command, &request.header, &plain, HERE.get(), index);
        let name = if expected.is_some() { "done" } else { "refused" };
        *self.seen.entry(format!("{:?} {name}", request.command.kind())).or_default() += 1;
        match planned {
            Ok(outcome) => {
                self.world.take(&outcome);
                for record in outcome.records() {
                    self.last.entry(record.id().get()).or_insert(5);
                }
            }
            Err(error) => assert_eq!(error.verdict(), Verdict::Refused, "{error}"),
        }
        self.history.0.push(format!("{region} entry {index}: {request:?}"));
        let put = Mutation::Put { key: data_key(region.id().get()), value: index.to_string().into_bytes() };
        let entry = Entry::admin(at(index), request, self.sent).with_data(Data::List(vec![put]));
        self.send(&region, entry, expected);
    }

    /// What other tests are for, and what would soon leave this store without regions.
    fn is_left_out(&mut self, request: &AdminRequest, planned: &Result<Outcome, regionmeta::AdminError>) -> bool {
        let is_known = |split: &SplitRequest| self.world.regions.contains_key(&split.new_region_id.get());
        let names_a_known_child = match &request.command {
            AdminCommand::Split(split) => is_known(&split.request),
            AdminCommand::BatchSplit(split) => split.requests.iter().any(is_known),
            _ => false,
        };
        let leaves = match planned {
            Ok(Outcome::Destroyed { .. }) => true,
            Ok(Outcome::Changed { region, .. }) => region.state() == PeerState::Unavailable,
            _ => false,
        };
        names_a_known_child || (leaves && self.world.rng.u8(0..8) > 0)
    }

    /// An ordinary write, a third of them at another version, some as part of a flashback or not.
    fn write(&mut self) {
        let regions: Vec<_> = self.world.live().into_iter().filter(takes_entries).collect();
        let Some(region) = self.world.rng.choice(regions) else { return };
        let index = self.last[&region.id().get()] + 1;
        let is_flashback = region.flashback_start_ts().is_some();
        let (stale, wrong) = (self.world.rng.u8(0..3) == 0, self.world.rng.u8(0..8) == 0);
        let epoch = RegionEpoch::new(0, region.epoch().version + u64::from(stale));
        let put = Mutation::Put { key: data_key(region.id().get()), value: index.to_string().into_bytes() };
        let write = if is_flashback != wrong { Entry::write_in_flashback } else { Entry::write };
        let entry = write(at(index), epoch, Data::List(vec![put]), self.sent);
        self.history.0.push(format!("{region} entry {index}: write, stale {stale}, wrong {wrong}"));
        self.send(&region, entry, (!stale && !wrong).then(Vec::new));
    }

    fn send(&mut self, region: &Region, entry: Entry<S, u64>, expected: Expected) {
        if self.expected.len() >= IN_FLIGHT_MAX || self.running.pool.router().region(region.id()).is_none() {
            self.hear_all(); // a child has no mailbox before its split is applied
        }
        *self.last.get_mut(&region.id().get()).unwrap() += 1;
        self.expected.insert(self.sent, expected);
        self.sent += 1;
        self.running.send(region.id(), entry);
    }

    fn hear_all(&mut self) {
        while !self.expected.is_empty() {
            let answer = self.running.answer_or(&self.expected);
            if matches!(answer.result, Err(AnswerError::Closed { region }) if self.is_merged_away(region)) {
                self.expected.remove(&answer.tag); // its target came before what was behind its PrepareMerge
                continue;
            }
            let found = match &answer.result {
                Ok(ExecResult::Admin { outcome, .. }) => {
                    Some(outcome.records().map(|record| Plain::of(record.as_ref())).collect())
                }
                Ok(_) => Some(Vec::new()),
                Err(AnswerError::Refused(_) | AnswerError::EpochNotMatch { .. }) => None,
                Err(error) => panic!("{error}"),
            };
            assert_eq!(Some(found), self.expected.remove(&answer.tag), "{answer:?}");
        }
    }

    fn is_merged_away(&self, region: RegionId) -> bool {
        let record = self.world.regions.get(&region.get());
        record.is_some_and(|record| record.state() == PeerState::Tombstone && record.merge_state().is_some())
    }

    /// Everything is heard of, and the store is as the world says.
    fn settle(&mut self) {
        self.hear_all();
        self.assert_same(&self.running.store);
        self.history.0.push("-- settled".to_owned());
    }

    fn assert_same(&self, store: &Store<S>) {
        let snapshot = store.meta().snapshot();
        assert_eq!(snapshot.validate(), []);
        let plain = |region: &Region| (Plain::of(region.as_ref()), store.apply_state(region.id()).applied_index.get());
        let found: Vec<_> = snapshot.regions().map(plain).collect();
        let live = self.world.live();
        let last = |region: &Region| (Plain::of(region.as_ref()), self.last[&region.id().get()]);
        assert_eq!(found, live.iter().map(last).collect::<Vec<_>>());
        for region in self.world.regions.values() {
            let stored: Region =
                records::read(store.storage(), Family::Raft, &region_state_key(region.id())).unwrap().unwrap();
            assert_eq!(Plain::of(stored.as_ref()), Plain::of(region.as_ref()));
        }
    }
}

/// One that waits for its data applies nothing, and one that is gone hears of nothing.
fn takes_entries(region: &Region) -> bool {
    matches!(region.state(), PeerState::Normal | PeerState::Merging)
}

fn data_key(id: u64) -> Vec<u8> {
    format!("z{id}").into_bytes()
}

/// The host's logs reach beyond what was truncated of them.
fn put_logs<S: Storage>(store: &Store<S>, last: &BTreeMap<u64, u64>) {
    for region in store.meta().snapshot().regions() {
        let last_index = last[&region.id().get()].into();
        let hard_state = HardState { term: 6.into(), vote: 0.into(), commit: last_index };
        store.raft().put_raft_state(region.id(), &RaftState { hard_state, last_index }).unwrap();
    }
}

fn run<D: Disk>(disk: &D, seed: u64, workers: usize, steps: usize, seen: &mut BTreeMap<String, usize>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let settings = ApplySettings {
        workers,
        turn_entries_max: rng.usize(1..20),
        batch_entries_max: rng.usize(1..50),
        round_regions_max: rng.usize(1..8),
        ..ApplySettings::default()
    };
    let mut commands = Commands::new(Running::bootstrapped(disk.storage(), settings), seed);
    for step in 0..steps {
        if commands.world.live().is_empty() {
            break;
        }
        commands.step();
        if step % 64 == 0 {
            commands.settle();
        }
    }
    commands.settle();
    commands.seen.iter().for_each(|(name, count)| *seen.entry(name.clone()).or_default() += count);
    put_logs(&commands.running.store, &commands.last);
    let Commands { running, world, last, expected, history, seen, sent } = commands;
    running.shut_down();
    // The same checks, on what a reopening finds.
    let running = Running::over(disk.open().unwrap(), ApplySettings::default());
    Commands { running, world, last, expected, history, seen, sent }.settle();
}

#[test]
fn random_commands_through_the_pool_do_what_the_tables_of_the_spec_say() {
    let (seed, _) = seeded("random_commands_through_the_pool_do_what_the_tables_of_the_spec_say");
    let mut seen = BTreeMap::new();
    for history in 0..setting("REGIONMETA_RUNS", 100) {
        run(&Mem::empty(), seed.wrapping_add(history), [1, 2, 4][history as usize % 3], 200, &mut seen);
    }
    println!("{seen:#?}");
    for kind in AdminKind::ALL {
        for answer in ["done", "refused"] {
            let count = seen.get(&format!("{kind:?} {answer}")).copied().unwrap_or(0);
            assert!(count > 10, "{kind:?} was {answer} only {count} times: the histories show nothing");
        }
    }
}

#[test]
fn random_commands_through_the_pool_do_what_the_tables_of_the_spec_say_on_rocksdb() {
    let (seed, _) = seeded("random_commands_through_the_pool_do_what_the_tables_of_the_spec_say_on_rocksdb");
    for (history, workers) in (0..).zip([1, 2, 4]) {
        run(&Rocks::empty(), seed.wrapping_add(history), workers, 200, &mut BTreeMap::new());
    }
}
