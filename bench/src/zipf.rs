//! Zipf-distributed ranks: few regions are hot, most are cold.

use fastrand::Rng;

/// How skewed: the exponent that YCSB made the usual one.
const EXPONENT: f64 = 0.99;

/// Draws ranks from `0..len`, rank 0 most often. Making it costs O(len); a draw costs a few floating-point operations.
///
/// The method is the one of Gray and others, "Quickly generating billion-record synthetic databases" (1994): exact for the
/// first two ranks, a continuous approximation beyond.
#[derive(Clone, Debug)]
pub struct Zipf {
    len: usize,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Zipf {
    /// A sampler of `len` ranks.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let zeta = zeta(len);
        let eta = (1.0 - (2.0 / len as f64).powf(1.0 - EXPONENT)) / (1.0 - zeta_of_two() / zeta);
        Self { len, zeta, alpha: 1.0 / (1.0 - EXPONENT), eta }
    }

    /// The next rank.
    pub fn rank(&self, rng: &mut Rng) -> usize {
        let uniform = rng.f64();
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < zeta_of_two() {
            return 1.min(self.len.saturating_sub(1));
        }
        let rank = self.len as f64 * (self.eta * uniform - self.eta + 1.0).powf(self.alpha);
        (rank as usize).min(self.len.saturating_sub(1))
    }
}

fn zeta(len: usize) -> f64 {
    (1..=len).map(|rank| (rank as f64).powf(-EXPONENT)).sum()
}

fn zeta_of_two() -> f64 {
    1.0 + 0.5_f64.powf(EXPONENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_come_as_often_as_the_law_says() {
        let (len, draws) = (1_000, 400_000);
        let zipf = Zipf::new(len);
        let mut rng = Rng::with_seed(7);
        let mut seen = vec![0_u32; len];
        for _ in 0..draws {
            seen[zipf.rank(&mut rng)] += 1;
        }
        // The approximation is known to be off by up to a fifth just after the two exact ranks.
        for rank in [0, 1, 9, 99, 499] {
            let span = rank..(rank + 1 + rank / 4).min(len);
            let expected: f64 = span.clone().map(|rank| ((rank + 1) as f64).powf(-EXPONENT)).sum::<f64>() / zeta(len);
            let found = f64::from(seen[span].iter().sum::<u32>()) / f64::from(draws);
            assert!((found / expected - 1.0).abs() < 0.2, "rank {rank}: {found} instead of {expected}");
        }
    }

    #[test]
    fn one_rank_is_drawn_always() {
        let zipf = Zipf::new(1);
        let mut rng = Rng::with_seed(7);
        assert!((0..1_000).all(|_| zipf.rank(&mut rng) == 0));
    }
}
