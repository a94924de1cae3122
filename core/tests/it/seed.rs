//! Where the random tests get their randomness from, so that a failure replays.

/// `REGIONMETA_SEED` if it is set, else a fresh one. The caller prints it.
pub(crate) fn seed() -> u64 {
    match std::env::var("REGIONMETA_SEED") {
        Ok(text) => text.parse().expect("REGIONMETA_SEED is a decimal number"),
        Err(_) => fastrand::u64(..),
    }
}

/// A generator from a seed that is printed; the runner shows it if the test fails.
pub(crate) fn rng(test: &str) -> fastrand::Rng {
    let seed = seed();
    println!("{test}: REGIONMETA_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
