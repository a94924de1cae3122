//! Keys, the unbounded end, and half-open key ranges.
//!
//! On the wire and on disk an empty end key means "unbounded". In memory that is a variant of its own, [`EndKey::Infinite`],
//! because an empty slice sorts first where the unbounded end must sort last: the oldest mistake of this field.

use crate::mutant::{Mutant, planted};
use std::cmp::Ordering;
use std::fmt;

/// The longest key that a descriptor may hold, in bytes. Longer ones are refused, so that a record has a known bound.
pub const KEY_BYTES_MAX: usize = 64 * 1024;

/// A borrowed key. It exists for its [`Display`](fmt::Display) form: escaped, and shortened to a length that suits a log line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key<'a>(pub &'a [u8]);

/// Bytes of a key that a log line shows before it is cut.
const SHOWN_BYTES_MAX: usize = 48;

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.get(..SHOWN_BYTES_MAX).unwrap_or(self.0);
        write!(f, "\"{}\"", shown.escape_ascii())?;
        if shown.len() < self.0.len() {
            write!(f, "... ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An owned key, for errors that outlive the descriptor they speak of. Prints like [`Key`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KeyBuf(Box<[u8]>);

impl KeyBuf {
    /// The bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for KeyBuf {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Display for KeyBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Key(&self.0), f)
    }
}

impl fmt::Debug for KeyBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The exclusive upper bound of a range. `Infinite` sorts after every key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndKey<'a> {
    /// The range ends before this key, which is never empty.
    Finite(&'a [u8]),
    /// The range has no upper bound.
    Infinite,
}

impl<'a> EndKey<'a> {
    /// From the form on the wire and on disk, where an empty end means unbounded.
    #[must_use]
    pub const fn from_wire(bytes: &'a [u8]) -> Self {
        if bytes.is_empty() { Self::Infinite } else { Self::Finite(bytes) }
    }

    /// The form on the wire and on disk: empty for unbounded.
    #[must_use]
    pub const fn to_wire(self) -> &'a [u8] {
        match self {
            Self::Finite(key) => key,
            Self::Infinite => &[],
        }
    }

    /// Whether `key` lies before this end.
    #[must_use]
    pub fn is_after(self, key: &[u8]) -> bool {
        match self {
            Self::Finite(end) => key < end,
            Self::Infinite => !planted(Mutant::M7),
        }
    }

    /// How this end compares with a key.
    #[must_use]
    pub fn cmp_key(self, key: &[u8]) -> Ordering {
        match self {
            Self::Finite(end) => end.cmp(key),
            Self::Infinite => Ordering::Greater,
        }
    }
}

impl fmt::Display for EndKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finite(key) => fmt::Display::fmt(&Key(key), f),
            Self::Infinite => f.write_str("+inf"),
        }
    }
}

impl fmt::Debug for EndKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A half-open range of keys, `[start, end)`.
///
/// ```
/// use regionmeta::{EndKey, KeyRange};
///
/// let range = KeyRange::new(b"b", EndKey::Infinite);
/// assert!(range.contains(b"zebra") && !range.contains(b"a"));
/// assert!(range.overlaps(KeyRange::from_wire(b"a", b"c")));
/// assert_eq!(range.to_string(), "[\"b\", +inf)");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyRange<'a> {
    /// Inclusive lower bound; empty is the smallest key.
    pub start: &'a [u8],
    /// Exclusive upper bound.
    pub end: EndKey<'a>,
}

impl<'a> KeyRange<'a> {
    /// Every key.
    pub const ALL: KeyRange<'static> = KeyRange { start: &[], end: EndKey::Infinite };

    /// The range from `start` to `end`. It may be empty: [`is_empty`](Self::is_empty) tells.
    #[must_use]
    pub const fn new(start: &'a [u8], end: EndKey<'a>) -> Self {
        Self { start, end }
    }

    /// From two byte strings as on the wire and on disk, where an empty end means unbounded.
    #[must_use]
    pub const fn from_wire(start: &'a [u8], end: &'a [u8]) -> Self {
        Self { start, end: EndKey::from_wire(end) }
    }

    /// Whether no key lies in the range.
    #[must_use]
    pub fn is_empty(self) -> bool {
        !self.end.is_after(self.start)
    }

    /// Whether `key` is in the range: `start <= key < end`. The test for requests (spec section 7.1, "in").
    #[must_use]
    pub fn contains(self, key: &[u8]) -> bool {
        self.start <= key && self.end.is_after(key)
    }

    /// Whether `key` may end a range request in here: `start <= key <= end` (spec section 7.1, "inclusive").
    #[must_use]
    pub fn contains_as_end(self, key: &[u8]) -> bool {
        self.start <= key && self.end.cmp_key(key) != Ordering::Less
    }

    /// Whether `key` may split the range: `start < key < end` (spec section 7.1, "exclusive").
    #[must_use]
    pub fn contains_inside(self, key: &[u8]) -> bool {
        self.start < key && self.end.is_after(key)
    }

    /// Whether some key lies in both ranges.
    #[must_use]
    pub fn overlaps(self, other: KeyRange<'_>) -> bool {
        let start = if self.start > other.start { self.start } else { other.start };
        self.end.is_after(start) && other.end.is_after(start)
    }

    /// Whether the other range begins exactly where this one ends.
    #[must_use]
    pub fn touches(self, right: KeyRange<'_>) -> bool {
        self.end.cmp_key(right.start) == Ordering::Equal
    }
}

impl fmt::Display for KeyRange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", Key(self.start), self.end)
    }
}

impl fmt::Debug for KeyRange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The table of spec section 7.1: key, start, end, then in, inclusive, exclusive.
    const KEY_IN_REGION: [(&str, &str, &str, bool, bool, bool); 8] = [
        ("", "", "", true, true, false),
        ("", "", "6", true, true, false),
        ("4", "3", "6", true, true, true),
        ("4", "3", "", true, true, true),
        ("3", "3", "", true, true, false),
        ("2", "3", "6", false, false, false),
        ("6", "3", "6", false, true, false),
        ("", "3", "", false, false, false),
    ];

    #[test]
    fn key_in_region_follows_the_table() {
        for (key, start, end, inside, inclusive, exclusive) in KEY_IN_REGION {
            let range = KeyRange::from_wire(start.as_bytes(), end.as_bytes());
            let key = key.as_bytes();
            let found = (range.contains(key), range.contains_as_end(key), range.contains_inside(key));
            assert_eq!(found, (inside, inclusive, exclusive), "{} in {range}", Key(key));
        }
    }

    #[test]
    fn the_unbounded_end_sorts_last() {
        // M7 of known-bugs: an empty end that sorts first.
        assert!(EndKey::Infinite > EndKey::Finite(&[0xff; 32]));
        assert!(EndKey::from_wire(b"") == EndKey::Infinite);
    }

    #[test]
    fn a_long_key_is_cut_in_logs() {
        let text = Key(&[0u8; 100]).to_string();
        assert!(text.ends_with("... (100 bytes)"), "{text}");
        assert_eq!(Key(b"a\xff").to_string(), "\"a\\xff\"");
    }

    fn any_range() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let key = || proptest::collection::vec(0u8..3, 0..3);
        (key(), key())
    }

    proptest! {
        /// Two ranges overlap exactly if one of a set of keys, dense enough to meet every pair, lies in both.
        #[test]
        fn overlap_means_a_common_key(a in any_range(), b in any_range()) {
            let (a, b) = (KeyRange::from_wire(&a.0, &a.1), KeyRange::from_wire(&b.0, &b.1));
            let common = every_key(4).iter().any(|key| a.contains(key) && b.contains(key));
            prop_assert_eq!(a.overlaps(b), common);
            prop_assert_eq!(b.overlaps(a), common);
        }
    }

    /// Every key of at most `len` bytes out of 0..3.
    fn every_key(len: usize) -> Vec<Vec<u8>> {
        let mut keys = vec![vec![]];
        let mut last = keys.clone();
        for _ in 0..len {
            last = last.iter().flat_map(|key| (0..3).map(move |b| [key.as_slice(), &[b]].concat())).collect();
            keys.extend(last.iter().cloned());
        }
        keys
    }
}
