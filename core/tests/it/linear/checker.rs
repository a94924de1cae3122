//! Is a history linearizable? The search of Wing and Gong: pick, again and again, a call that may come next, and see whether
//! the naive map would have answered as it was answered; if no pick leads on, take the last one back. A call may come next
//! if no call that is still to come was answered before it was made. Dead ends are remembered.

use std::collections::{BTreeMap, HashSet};

/// Which version of a region: its address. Every version of a history is kept alive, so no two have the same.
pub(super) type Version = usize;
pub(super) type Map = BTreeMap<u64, Held>;

/// What the naive map holds of one region.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Held {
    pub(super) version: Version,
    pub(super) start: Vec<u8>,
    /// Empty: no end.
    pub(super) end: Vec<u8>,
    /// The store's own peer: the incarnation that views follow.
    pub(super) peer: u64,
    pub(super) epoch: (u64, u64),
}

impl Held {
    fn owns(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && (self.end.is_empty() || key < self.end.as_slice())
    }
}

/// What was asked, and what was answered.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// The regions after a changeset, by id; `None` for one that leaves.
    Publish(Vec<(u64, Option<Held>)>),
    /// The feed takes in what the publish with this place in the history has published. It is a call of its own, since a
    /// subscriber may hear later than a reader sees, and never earlier.
    Announce(usize),
    Locate(Vec<u8>, Option<Version>),
    Get(u64, Option<Version>),
    /// All versions in key order: one state as a whole.
    Scan(Vec<Version>),
    /// Was a request of this epoch let through?
    CheckEpoch(u64, (u64, u64), Result<Version, Option<Version>>),
    /// A view of that region and peer; `None` if it is gone.
    View(u64, u64, Option<Version>),
    /// The places of the publishes that a subscriber had heard of before, and those that it now heard of; none: no news.
    Hear(Vec<usize>, Vec<usize>),
}

/// One call: it took effect, if it did, at one moment between its two stamps.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) asked: u64,
    pub(super) answered: u64,
    /// A call of the same history that must have taken effect before.
    pub(super) after: Option<usize>,
    pub(super) question: Question,
}

/// The naive map after some of the calls.
#[derive(Clone)]
struct State {
    regions: Map,
    /// The publishes so far, in the order in which they took effect, and how many of them the feed has announced.
    published: Vec<usize>,
    announced: usize,
}

impl State {
    /// The state after a call, if the map would have answered so.
    fn after(&self, at: usize, question: &Question) -> Option<Self> {
        match question {
            Question::Publish(changes) => Some(self.publish(at, changes)),
            Question::Announce(publish) => (self.published.get(self.announced) == Some(publish))
                .then(|| Self { announced: self.announced + 1, ..self.clone() }),
            question => self.answers(question).then(|| self.clone()),
        }
    }

    fn publish(&self, at: usize, changes: &[(u64, Option<Held>)]) -> Self {
        let mut next = self.clone();
        for (id, after) in changes {
            match after {
                Some(held) => drop(next.regions.insert(*id, held.clone())),
                None => drop(next.regions.remove(id)),
            }
        }
        next.published.push(at);
        next
    }

    fn answers(&self, question: &Question) -> bool {
        let get = |id: &u64| self.regions.get(id);
        match question {
            Question::Publish(_) | Question::Announce(_) => false,
            Question::Locate(key, found) => {
                self.regions.values().find(|held| held.owns(key)).map(|held| held.version) == *found
            }
            Question::Get(id, found) => get(id).map(|held| held.version) == *found,
            Question::Scan(found) => {
                let mut all: Vec<_> = self.regions.values().collect();
                all.sort_by(|a, b| a.start.cmp(&b.start));
                all.into_iter().map(|held| held.version).eq(found.iter().copied())
            }
            Question::CheckEpoch(id, epoch, found) => match get(id) {
                Some(held) if held.epoch == *epoch => *found == Ok(held.version),
                other => *found == Err(other.map(|held| held.version)),
            },
            Question::View(id, peer, found) => {
                get(id).filter(|held| held.peer == *peer).map(|held| held.version) == *found
            }
            Question::Hear(before, news) => self.is_the_next_news(before, news),
        }
    }

    /// Without news the subscriber had heard of everything that was announced; otherwise they are what came next.
    fn is_the_next_news(&self, before: &[usize], news: &[usize]) -> bool {
        let announced = self.published.iter().take(self.announced);
        let unheard: Vec<_> = announced.filter(|publish| !before.contains(publish)).collect();
        if news.is_empty() { unheard.is_empty() } else { unheard.into_iter().take(news.len()).eq(news) }
    }
}

struct Search<'a> {
    calls: &'a [Call],
    dead_ends: HashSet<(u64, Vec<usize>, usize)>,
}

impl Search<'_> {
    fn leads_to_the_end(&mut self, done: u64, state: &State) -> bool {
        let open = |at: &usize| done & (1 << at) == 0;
        let all = 0..self.calls.len();
        let Some(first_answer) = all.clone().filter(open).map(|at| self.calls[at].answered).min() else { return true };
        if !self.dead_ends.insert((done, state.published.clone(), state.announced)) {
            return false;
        }
        all.filter(open).any(|at| {
            let call = &self.calls[at];
            let may_be_next = call.asked <= first_answer && call.after.is_none_or(|before| !open(&before));
            may_be_next
                && state.after(at, &call.question).is_some_and(|next| self.leads_to_the_end(done | 1 << at, &next))
        })
    }
}

/// Whether some order of the calls explains every answer. At most 64 calls.
pub(super) fn is_linearizable(initial: Map, calls: &[Call]) -> bool {
    assert!(calls.len() <= 64, "{} calls do not fit into the set of those that are done", calls.len());
    let state = State { regions: initial, published: Vec::new(), announced: 0 };
    Search { calls, dead_ends: HashSet::new() }.leads_to_the_end(0, &state)
}
