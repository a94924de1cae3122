//! Maps by region id for the way of a change, where each entry is looked up several times.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use regionmeta::RegionId;

/// A map by region id. Its hash is a fraction of the standard one's; it has a seed of its own, since ids come from outside.
pub(crate) type RegionMap<V> = HashMap<RegionId, V, RandomState>;

/// A set of region ids, likewise.
pub(crate) type RegionSet = HashSet<RegionId, RandomState>;
