//! Keys that are kept inside the structures that order them, without a pointer.

use std::ops::Deref;

use regionmeta::EndKey;

use crate::map::Failure;

/// The longest key that fits.
pub const INLINE_BYTES_MAX: usize = 23;

/// A key in three machine words: zero-padded, its length in the last byte, compared as three numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct InlineKey([u64; 3]);

impl InlineKey {
    /// After every key.
    pub const INFINITE: Self = Self([u64::MAX; 3]);

    /// A key to be kept.
    ///
    /// # Errors
    /// [`Failure::KeyTooLong`].
    pub fn new(key: &[u8]) -> Result<Self, Failure> {
        if key.len() > INLINE_BYTES_MAX { Err(Failure::KeyTooLong(key.len())) } else { Ok(Self::query(key)) }
    }

    /// The end of a region to be kept.
    ///
    /// # Errors
    /// [`Failure::KeyTooLong`].
    pub fn end(end: EndKey<'_>) -> Result<Self, Failure> {
        match end {
            EndKey::Finite(key) => Self::new(key),
            EndKey::Infinite => Ok(Self::INFINITE),
        }
    }

    /// A key to be looked up. One that is too long is cut, and still sorts as it must among keys that are not: what is left
    /// of it is compared first, and its length is larger.
    #[inline]
    #[must_use]
    pub fn query(key: &[u8]) -> Self {
        let last = word(key, 16) & !0xff;
        Self([word(key, 0), word(key, 8), last | key.len().min(254) as u64])
    }

    /// Whether this key sorts before another: a subtraction of three words, of which only the last borrow is looked at.
    #[inline]
    #[must_use]
    pub fn is_before(&self, other: &Self) -> bool {
        let ([a, b, c], [x, y, z]) = (self.0, other.0);
        let borrow = c < z;
        let borrow = (b < y) | ((b == y) & borrow);
        (a < x) | ((a == x) & borrow)
    }

    /// The key as words, most significant first.
    #[inline]
    #[must_use]
    pub fn words(&self) -> [u64; 3] {
        self.0
    }
}

/// The eight bytes from `at` on, big-endian and zero-padded. No copy of unknown length is made, which would be a call.
#[inline]
fn word(key: &[u8], at: usize) -> u64 {
    let rest = key.get(at..).unwrap_or_default();
    match (rest.first_chunk(), key.last_chunk()) {
        (Some(word), _) => u64::from_be_bytes(*word),
        (None, _) if rest.is_empty() => 0,
        (None, Some(last)) => u64::from_be_bytes(*last) << (64 - 8 * rest.len()),
        (None, None) => rest.iter().zip(0..).map(|(&byte, nth)| u64::from(byte) << (56 - 8 * nth)).sum(),
    }
}

/// A boundary as TiKV keys its range map: `z` before a key, and one byte above that for the unbounded end. A map by end key
/// thereby sorts the last region last.
#[derive(Clone, Copy, Debug)]
pub struct DataKey {
    bytes: [u8; INLINE_BYTES_MAX + 1],
    len: usize,
}

impl DataKey {
    /// The end of a region.
    #[must_use]
    pub fn end(end_key: &[u8]) -> Vec<u8> {
        if end_key.is_empty() { vec![b'z' + 1] } else { [b"z", end_key].concat() }
    }

    /// A key to be looked up, made without an allocation. Bytes after the 23rd are cut: every region of the workload ends
    /// within them, so the cut moves no key over a boundary.
    #[inline]
    #[must_use]
    pub fn query(key: &[u8]) -> Self {
        let mut bytes = [b'z'; INLINE_BYTES_MAX + 1];
        let kept = key.len().min(INLINE_BYTES_MAX);
        if let (Some(bytes), Some(key)) = (bytes.get_mut(1..=kept), key.get(..kept)) {
            bytes.copy_from_slice(key);
        }
        Self { bytes, len: kept + 1 }
    }
}

impl Deref for DataKey {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    fn random_key(rng: &mut Rng, bytes_max: usize) -> Vec<u8> {
        let len = rng.usize(0..=bytes_max);
        (0..len).map(|_| *rng.choice(&[0, 1, 0x80, 0xfe, 0xff]).unwrap_or(&0)).collect()
    }

    #[test]
    fn inline_keys_sort_as_their_bytes() {
        let mut rng = Rng::with_seed(3);
        for _ in 0..100_000 {
            let (kept, asked) = (random_key(&mut rng, INLINE_BYTES_MAX), random_key(&mut rng, 2 * INLINE_BYTES_MAX));
            let inline = InlineKey::new(&kept).unwrap();
            assert_eq!(inline.cmp(&InlineKey::query(&asked)), kept.cmp(&asked), "{kept:?} {asked:?}");
            assert!(inline < InlineKey::INFINITE && InlineKey::query(&asked) < InlineKey::INFINITE);
        }
        // Equal up to the cut: only the length can tell.
        let (kept, asked) = ([7; INLINE_BYTES_MAX], [7; INLINE_BYTES_MAX + 1]);
        assert!(InlineKey::new(&kept).unwrap() < InlineKey::query(&asked));
        assert!(matches!(InlineKey::new(&asked), Err(Failure::KeyTooLong(24))));
    }

    #[test]
    fn the_unbounded_end_sorts_after_every_data_key() {
        let mut rng = Rng::with_seed(4);
        for _ in 0..10_000 {
            let key = random_key(&mut rng, INLINE_BYTES_MAX);
            assert!(*DataKey::query(&key) < *DataKey::end(&[]));
            assert!(key.is_empty() || *DataKey::query(&key) == *DataKey::end(&key));
        }
    }
}
