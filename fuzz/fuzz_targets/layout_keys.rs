//! Any bytes as a key: every decoder is total, and what it accepts is what the encoder makes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use regionmeta::layout;

fuzz_target!(|key: &[u8]| {
    region_keys(key);
    data_keys(key);
    let _ = layout::decode_raft_log_index(key);
    if let Some(next) = layout::next_key(key) {
        assert!(next.as_slice() > key && !next.starts_with(key));
    }
});

fn region_keys(key: &[u8]) {
    if let Ok((id, suffix)) = layout::decode_region_meta_key(key) {
        assert!(layout::REGION_META_RANGE.contains(key));
        assert_eq!(suffix == layout::REGION_STATE_SUFFIX, layout::region_state_key(id) == key);
    }
    if let Ok((id, suffix)) = layout::decode_region_raft_key(key) {
        assert!(layout::REGION_RAFT_RANGE.contains(key));
        assert_eq!(suffix == layout::APPLY_STATE_SUFFIX, layout::apply_state_key(id) == key);
        assert_eq!(suffix == layout::RAFT_STATE_SUFFIX, layout::raft_state_key(id) == key);
        assert_eq!(suffix == layout::SNAPSHOT_RAFT_STATE_SUFFIX, layout::snapshot_raft_state_key(id) == key);
    }
    if let Ok((id, index)) = layout::decode_raft_log_key(key) {
        assert_eq!(layout::raft_log_key(id, index), key);
        assert_eq!(layout::decode_raft_key(key), Ok((id, layout::RAFT_LOG_SUFFIX)));
    }
}

fn data_keys(key: &[u8]) {
    assert_eq!(layout::origin_key(&layout::data_key(key)), Ok(key));
    if let Ok(origin) = layout::origin_key(key) {
        assert_eq!(layout::data_key(origin), key);
    }
    if let Ok(end) = layout::origin_end_key(key) {
        assert_eq!(layout::data_end_key(end), key);
    }
}
