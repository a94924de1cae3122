//! T1: `StoreMeta` against the naive model, through random histories in which three changesets of ten are wrong on purpose.

use std::collections::BTreeMap;

use regionmeta::testkit::{Fault, History, Model, Objection};
use regionmeta::{Change, Changeset, Permit, Reason, Removal, Snapshot, StoreId, StoreMeta};

use crate::seed::rng;

const RUNS: u64 = 256;
const STEPS: usize = 200;
/// The reads by range cost the model more than all others together.
const READS_EVERY: u64 = 16;
const STORE: StoreId = StoreId::new(1);
/// How many changesets are under way at once.
const PERMITS_MAX: usize = 3;

/// One map, its model, and what the histories so far have met.
struct Run<'a> {
    meta: &'a StoreMeta,
    model: Model,
    history: History,
    rng: fastrand::Rng,
    /// The permits of `model.reserved()`, in the same order.
    permits: Vec<Permit<'a>>,
    /// States that somebody still holds, and what they were.
    held: Vec<(Snapshot, Model)>,
    tally: &'a mut Tally,
}

#[derive(Debug, Default)]
struct Tally {
    published: u64,
    /// Holes that a destroy or a Raft snapshot left, and might leave.
    excused: u64,
    /// Reports that said something new.
    reports: u64,
    refused: BTreeMap<Objection, u64>,
    planted: BTreeMap<Fault, u64>,
}

impl<'a> Run<'a> {
    fn new(meta: &'a StoreMeta, seed: u64, tally: &'a mut Tally) -> Self {
        Self {
            meta,
            model: Model::new(meta.store_id()),
            history: History::new(seed, STORE),
            rng: fastrand::Rng::with_seed(seed),
            permits: Vec::new(),
            held: Vec::new(),
            tally,
        }
    }

    fn step(&mut self) {
        if !self.permits.is_empty() && self.rng.u8(0..4) == 0 {
            self.settle_permit();
        }
        let right = self.history.right(&self.model);
        if self.rng.u8(0..10) < 3 {
            self.refuse_wrong(&right);
        }
        let permit = self.meta.prepare(right.clone()).expect("the model has no objection");
        self.check_unchanged("prepared");
        if self.permits.len() < PERMITS_MAX && self.rng.u8(0..8) == 0 {
            self.model.reserve(right);
            self.permits.push(permit);
        } else {
            self.publish(permit, &right);
        }
        if self.rng.u8(0..8) == 0 {
            self.report();
        }
        if self.rng.u8(0..32) == 0 {
            self.held.push((self.meta.snapshot(), self.model.clone()));
        }
    }

    /// Refused with one of the model's objections, and nothing has happened: `right` must pass afterwards.
    fn refuse_wrong(&mut self, right: &Changeset) {
        let Some((fault, wrong)) = self.history.wrong(&self.model, right) else { return };
        let objections = self.model.objections(&wrong);
        assert!(objections.contains(&fault.objection()), "{fault:?} met {objections:?}");
        let refusal = self.meta.prepare(wrong).map(drop).expect_err("the model objects");
        let objection = Objection::of(&refusal);
        assert!(objections.contains(&objection), "{fault:?}: {refusal}, where the model says {objections:?}");
        self.check_unchanged(&refusal.to_string());
        *self.tally.planted.entry(fault).or_default() += 1;
        *self.tally.refused.entry(objection).or_default() += 1;
    }

    fn check_unchanged(&self, event: &str) {
        self.model.check(&self.meta.snapshot()).unwrap_or_else(|difference| panic!("after {event}: {difference}"));
    }

    /// Publishes the oldest, the newest or another permit, or gives it up.
    fn settle_permit(&mut self) {
        let at = self.rng.usize(0..self.permits.len());
        let (permit, changeset) = (self.permits.remove(at), self.model.release(at));
        if self.rng.u8(0..3) == 0 {
            drop(permit);
            self.check_unchanged("a permit was dropped");
        } else {
            self.publish(permit, &changeset);
        }
    }

    /// Sizes come in while permits are under way; no region changes by it.
    fn report(&mut self) {
        let stats = self.history.stats(&self.model);
        let before = self.meta.snapshot();
        assert_eq!(self.meta.report(stats.iter().copied()), self.model.report(&stats));
        let after = self.meta.snapshot();
        self.model.check(&after).unwrap_or_else(|difference| panic!("reported {stats:?}: {difference}"));
        before.diff(&after, |before, after| panic!("reported, and {before:?} became {after:?}"));
        assert_eq!(after.validate(), []);
        self.tally.reports += u64::from(before.sequence() != after.sequence());
    }

    fn publish(&mut self, permit: Permit<'_>, changeset: &Changeset) {
        let before = self.meta.snapshot();
        let after = permit.publish();
        self.model.publish(changeset);
        self.tally.published += 1;
        self.model.check(&after).unwrap_or_else(|difference| panic!("published {changeset:?}: {difference}"));
        if self.tally.published.is_multiple_of(READS_EVERY) {
            self.model
                .check_reads(&after)
                .unwrap_or_else(|difference| panic!("{difference}\nof {:?}", self.model.regions()));
        }
        assert_eq!((self.meta.sequence(), self.meta.snapshot().sequence()), (after.sequence(), after.sequence()));
        assert_eq!(after.validate(), []);
        let may = |id| changeset.changes().iter().any(|change| change.id() == id && may_leave_hole(change));
        assert_eq!(before.validate_change_to(&after, may), [], "after {changeset:?}");
        let unexcused = before.validate_change_to(&after, |_| false);
        self.tally.excused += u64::try_from(unexcused.len()).unwrap();
    }
}

fn may_leave_hole(change: &Change) -> bool {
    match change {
        Change::Create { .. } => false,
        Change::Update { reason, .. } => *reason == Reason::Snapshot,
        Change::Remove { removal, .. } => *removal == Removal::Destroyed,
    }
}

#[test]
fn random_histories_follow_the_model() {
    let mut rng = rng("random_histories_follow_the_model");
    let mut tally = Tally::default();
    for _ in 0..RUNS {
        let meta = StoreMeta::new(Some(STORE));
        let mut run = Run::new(&meta, rng.u64(..), &mut tally);
        (0..STEPS).for_each(|_| run.step());
        for (snapshot, model) in &run.held {
            model.check(snapshot).unwrap_or_else(|difference| panic!("a held snapshot changed: {difference}"));
        }
    }
    println!("{tally:?}");
    // The histories are worth something only if they come everywhere.
    assert!(tally.published > RUNS * STEPS as u64 / 2 && tally.excused > RUNS && tally.reports > RUNS, "{tally:?}");
    for fault in Fault::ALL {
        let planted = tally.planted.get(&fault).copied().unwrap_or(0);
        let refused = tally.refused.get(&fault.objection()).copied().unwrap_or(0);
        assert!(planted > 50 && refused > 50, "{fault:?}: {tally:?}");
    }
}
