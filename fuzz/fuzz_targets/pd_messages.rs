//! Any bytes as a message of PD's protocol: decoded, and made a value of this library, or a typed error; never a panic (I10). What is
//! accepted goes out again as a message that says the same.

#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use prost::Message;
use regionmeta::{KeyRange, Region};
use regionmeta_batch::pd::wire::{metapb, pdpb};
use regionmeta_batch::pd::{
    AnswerError, HeartbeatResponse, RegionHeartbeat, RegionInfo, SplitIds, StoreAdvice, StoreInfo, StoreStats, check,
};
use regionmeta_fuzz::exercise;

fuzz_target!(|bytes: &[u8]| {
    if let Some(region) = converts::<metapb::Region, Region>(bytes) {
        exercise(&region);
        again(&region, &metapb::Region::from(&region));
    }
    if let Some(heartbeat) = converts::<pdpb::RegionHeartbeatRequest, RegionHeartbeat>(bytes) {
        exercise(&heartbeat.region);
        assert_eq!(check::heartbeat(&heartbeat), Ok(()));
        again(&heartbeat, &pdpb::RegionHeartbeatRequest::from(&heartbeat));
    }
    if let Some(response) = converts::<pdpb::RegionHeartbeatResponse, HeartbeatResponse>(bytes) {
        assert_eq!(check::response(&response), Ok(()));
        again(&response, &pdpb::RegionHeartbeatResponse::from(&response));
    }
    if let Some(stats) = converts::<pdpb::StoreStats, StoreStats>(bytes) {
        again(&stats, &pdpb::StoreStats::from(&stats));
    }
    if let Some(store) = converts::<metapb::Store, StoreInfo>(bytes) {
        again(&store, &metapb::Store::from(&store));
    }
    converts::<pdpb::StoreHeartbeatResponse, StoreAdvice>(bytes);
    regions(bytes);
    splits(bytes);
});

fn converts<W, T>(bytes: &[u8]) -> Option<T>
where
    W: Message + Default,
    T: TryFrom<W, Error = AnswerError>,
{
    T::try_from(W::decode(bytes).ok()?).ok()
}

/// The bytes of the message are the value again.
fn again<W, T>(value: &T, message: &W)
where
    W: Message + Default,
    T: TryFrom<W, Error = AnswerError> + PartialEq + Debug,
{
    assert_eq!(converts::<W, T>(&message.encode_to_vec()).as_ref(), Some(value));
}

fn regions(bytes: &[u8]) {
    let found = pdpb::GetRegionResponse::decode(bytes).map(|message| message.into_info());
    if let Ok(Ok(Some(info))) = found {
        let _ = check::owner(b"key", &info);
        let _ = check::before_owner(b"key", &info);
        again(&info, &pdpb::Region::from(&info));
    }
    let found = pdpb::ScanRegionsResponse::decode(bytes).map(|message| message.into_infos());
    if let Ok(Ok(infos)) = found {
        let sorted = check::scan(KeyRange::ALL, 0, &infos).is_ok();
        let mut pairs = infos.iter().zip(infos.iter().skip(1));
        let tiles = pairs.all(|(left, right)| !left.region.range().overlaps(right.region.range()));
        assert!(tiles || !sorted, "{infos:?}");
        let _: Vec<Result<RegionInfo, _>> = infos.iter().map(|info| pdpb::Region::from(info).try_into()).collect();
    }
}

fn splits(bytes: &[u8]) {
    let Ok(message) = pdpb::AskBatchSplitResponse::decode(bytes) else { return };
    let Ok(request) = pdpb::AskBatchSplitRequest::decode(bytes) else { return };
    let Some(Ok(parent)) = request.region.map(Region::try_from) else { return };
    let ids: Vec<SplitIds> = message.ids.into_iter().map(Into::into).collect();
    if check::split_ids(&parent, ids.len(), &ids).is_ok() {
        assert!(ids.iter().all(|ids| ids.peer_ids.len() == parent.peers().len()));
    }
}
