//! The contenders, one file each.
//!
//! Not among them is the `masstree` crate (0.8.0, 0.9.0, 0.9.4, 0.9.5). Which region owns a key is a question for the next or the
//! previous entry, and its scans answer that wrongly: with 16 tables of two rows each, a scan from between the two rows of
//! the last table finds nothing, and of a thousand regions in 50 tables more than half of such scans go wrong; scans backwards
//! go wrong with three regions. Single-threaded, and every time.
//!
//! Each keeps regions in the form that is natural to it, hands out of a lock what can leave a lock, and is given every kindness
//! that its design allows: fast hashing, no allocation for a key to look up, descriptors that were made before the clock starts.

pub mod arc_swap_cell;
pub mod dashmap_ids;
pub mod dense_ids;
pub mod imbl_swap;
pub mod mutex_clone;
pub mod ours;
pub mod papaya_ids;
pub mod rwlock_arc;
pub mod skip_map;
pub mod sorted_array;
pub mod static_tree;
pub mod tokio_cache;
pub mod tree_index;

#[cfg(test)]
mod tests;
