//! What is measured: a contender and a question, as something that runs for a number of operations and says how long that
//! took. Preparing, checking and tidying up happen outside the clock.

mod beside_writer;
mod reading;
mod writers;
mod writing;

pub use self::writers::Writers;
pub use self::writing::Kind;

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::map::{Failure, RegionMap, TakeSnapshot};
use crate::model::Model;

/// Which part a contender has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// This project.
    Ours,
    /// This project, used in another way.
    Variant,
    /// Another design.
    Peer,
    /// What cannot be beaten: it does not have to change, or does less.
    Limit,
}

/// What came out of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Operations done.
    pub ops: u64,
    /// The time of the operations, and of nothing else.
    pub elapsed: Duration,
    /// Answers that were not the oracle's. Beside a writer: regions that never owned the key.
    pub wrong: u64,
    /// Beside a writer: keys that seemed to have no region, though at every moment each has one.
    pub misses: u64,
    /// Beside a writer: changes that it published.
    pub published: u64,
    /// Beside a writer: times of single look-ups in nanoseconds, unsorted, with the cost of reading the clock in each.
    pub samples_ns: Vec<u64>,
}

impl Outcome {
    fn of(ops: u64, elapsed: Duration, right: bool) -> Self {
        Self { ops, elapsed, wrong: u64::from(!right), ..Self::default() }
    }

    /// The mean time of an operation.
    #[must_use]
    pub fn ns_per_op(&self) -> f64 {
        self.elapsed.as_nanos() as f64 / self.ops.max(1) as f64
    }
}

type Run<'r> = Box<dyn FnMut(u64) -> Result<Outcome, Failure> + 'r>;

/// A contender in a question.
#[allow(missing_debug_implementations, reason = "a closure has nothing to show")]
pub struct Entrant<'r> {
    /// Its name, the same in all questions.
    pub name: &'static str,
    /// Its part.
    pub role: Role,
    run: Run<'r>,
}

impl<'r> Entrant<'r> {
    fn new(name: &'static str, role: Role, run: impl FnMut(u64) -> Result<Outcome, Failure> + 'r) -> Self {
        Self { name, role, run: Box::new(run) }
    }

    /// Runs for `ops` operations, or for a few more where its unit of work is larger.
    ///
    /// # Errors
    /// [`Failure`] if the contender could not do its work.
    pub fn run(&mut self, ops: u64) -> Result<Outcome, Failure> {
        (self.run)(ops)
    }
}

/// A contender's map with its own oracle, which follows its changes.
#[derive(Debug)]
pub struct Stage<'w, M> {
    /// Its name.
    pub name: &'static str,
    /// Its part.
    pub role: Role,
    /// The map.
    pub map: M,
    /// The oracle.
    pub model: RefCell<Model<'w>>,
}

impl<'w, M: RegionMap> Stage<'w, M> {
    /// A map that was built of a model's regions.
    pub fn new(name: &'static str, role: Role, map: M, model: Model<'w>) -> Self {
        Self { name, role, map, model: RefCell::new(model) }
    }

    /// Builds the map of a model's regions.
    ///
    /// # Errors
    /// [`Failure`] if the contender cannot be built.
    pub fn map_of(model: &Model<'_>) -> Result<M, Failure> {
        M::build(records::<M>(model, usize::MAX)?)
    }

    /// Builds of the whole map; one is an operation.
    pub fn bulk_build(&self) -> Entrant<'_> {
        self.build_with(usize::MAX, M::build)
    }

    /// The same by another way of building, which is tried with the first `regions_max` regions; the time is scaled to all.
    pub fn build_with<'r>(
        &'r self,
        regions_max: usize,
        build: impl Fn(Vec<M::Record>) -> Result<M, Failure> + 'r,
    ) -> Entrant<'r> {
        Entrant::new(self.name, self.role, move |ops| {
            let mut elapsed = Duration::ZERO;
            let mut scale = 1.0;
            for _ in 0..ops {
                let model = self.model.borrow();
                let records = records::<M>(&model, regions_max)?;
                scale = model.slots() as f64 / records.len().max(1) as f64;
                let started = Instant::now();
                let map = build(records)?;
                elapsed += started.elapsed();
                drop(black_box(map));
            }
            Ok(Outcome::of(ops, elapsed.mul_f64(scale), true))
        })
    }
}

/// The same entrant under another name: a map used in another way.
#[must_use]
pub fn variant<'r>(name: &'static str, entrant: Entrant<'r>) -> Entrant<'r> {
    Entrant { name, role: Role::Variant, ..entrant }
}

/// The descriptors of the first `regions_max` regions, in key order.
pub(crate) fn records<M: RegionMap>(model: &Model<'_>, regions_max: usize) -> Result<Vec<M::Record>, Failure> {
    let mut records = Vec::with_capacity(model.slots().min(regions_max));
    model.try_for_each(|spec| {
        if records.len() < regions_max {
            records.push(M::record(&spec)?);
        }
        Ok::<_, Failure>(())
    })?;
    Ok(records)
}

impl<M: TakeSnapshot> Stage<'_, M> {
    /// Taking a snapshot and letting go of it.
    pub fn take_snapshot<'r>(&'r self) -> Entrant<'r> {
        snapshots(self.name, self.role, &self.map)
    }
}

/// See [`Stage::take_snapshot`].
pub fn snapshots<'r, M: TakeSnapshot>(name: &'static str, role: Role, map: &'r M) -> Entrant<'r> {
    Entrant::new(name, role, move |ops| {
        let started = Instant::now();
        for _ in 0..ops {
            drop(black_box(map.take_snapshot()));
        }
        Ok(Outcome::of(ops, started.elapsed(), true))
    })
}
