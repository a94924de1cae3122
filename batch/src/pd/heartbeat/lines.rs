//! [`Lines`]: some lists of small numbers, each number in at most one of them.
//!
//! Links lie beside one another in one vector, so that putting a number into a list, and taking it out of the middle, is O(1)
//! and allocates nothing once the largest number is known.

/// In no list, or at the end of one.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    line: u32,
    before: u32,
    after: u32,
}

const LOOSE: Link = Link { line: NONE, before: NONE, after: NONE };

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u32,
    last: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lines {
    ends: Vec<Ends>,
    links: Vec<Link>,
}

impl Lines {
    /// That many empty lists.
    pub(super) fn new(lines: usize) -> Self {
        Self { ends: vec![Ends { first: NONE, last: NONE }; lines], links: Vec::new() }
    }

    /// The list that a number is in.
    pub(super) fn line_of(&self, at: u32) -> Option<usize> {
        let line = self.links.get(at as usize)?.line;
        (line != NONE).then_some(line as usize)
    }

    /// Puts a number at the end of a list, out of whichever it is in.
    pub(super) fn push(&mut self, line: usize, at: u32) {
        self.take(at);
        if self.links.len() <= at as usize {
            self.links.resize(at as usize + 1, LOOSE);
        }
        let Some(ends) = self.ends.get_mut(line) else { return };
        let before = std::mem::replace(&mut ends.last, at);
        if before == NONE {
            ends.first = at;
        }
        self.link(before, |link| link.after = at);
        self.link(at, |link| *link = Link { line: line as u32, before, after: NONE });
    }

    /// Takes a number out of its list.
    pub(super) fn take(&mut self, at: u32) {
        let Some(Link { line, before, after }) = self.links.get(at as usize).copied() else { return };
        let Some(ends) = self.ends.get_mut(line as usize) else { return };
        if before == NONE {
            ends.first = after;
        }
        if after == NONE {
            ends.last = before;
        }
        self.link(before, |link| link.after = after);
        self.link(after, |link| link.before = before);
        self.link(at, |link| *link = LOOSE);
    }

    /// The first number of a list.
    pub(super) fn first(&self, line: usize) -> Option<u32> {
        self.ends.get(line).map(|ends| ends.first).filter(|&at| at != NONE)
    }

    /// The number after this one in its list.
    pub(super) fn after(&self, at: u32) -> Option<u32> {
        self.links.get(at as usize).map(|link| link.after).filter(|&at| at != NONE)
    }

    fn link(&mut self, at: u32, change: impl FnOnce(&mut Link)) {
        if let Some(link) = self.links.get_mut(at as usize) {
            change(link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    fn content(lines: &Lines, line: usize) -> Vec<u32> {
        std::iter::successors(lines.first(line), |&at| lines.after(at)).collect()
    }

    #[test]
    fn lists_are_what_queues_would_be() {
        let given = std::env::var("REGIONMETA_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| fastrand::u64(..));
        println!("REGIONMETA_SEED={seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut lines, mut model) = (Lines::new(3), vec![VecDeque::new(); 3]);
        for _ in 0..20_000 {
            let (line, at) = (rng.usize(0..3), rng.u32(0..20));
            model.iter_mut().for_each(|queue| queue.retain(|&other| other != at));
            match rng.bool() {
                true => {
                    lines.push(line, at);
                    model[line].push_back(at);
                }
                false => lines.take(at),
            }
            for (line, queue) in model.iter().enumerate() {
                assert_eq!(content(&lines, line), queue.iter().copied().collect::<Vec<_>>());
            }
            assert_eq!(lines.line_of(at), model.iter().position(|queue| queue.contains(&at)));
        }
    }
}
