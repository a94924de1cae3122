//! Any bytes as an admin request: a request that encodes and decodes again, or a typed error; and what is accepted is
//! planned without a panic, alike on every store (I10).

#![no_main]

use libfuzzer_sys::fuzz_target;
use regionmeta::{
    AdminCommand, AdminError, AdminRequest, ApplyContext, ApplyState, KeyRange, LogPosition, Outcome, Peer, Region,
    RegionDraft, RegionEpoch, StoreId,
};
use regionmeta_fuzz::exercise;

fuzz_target!(|input: &[u8]| {
    let Ok(request) = AdminRequest::decode(input) else { return };
    let again = request.encode().and_then(|bytes| AdminRequest::decode(&bytes));
    assert_eq!(again.as_ref(), Ok(&request));
    for region in regions(&request) {
        plan(&request, &region);
    }
});

/// A region that the request may be about, and those that it brings itself.
fn regions(request: &AdminRequest) -> Vec<Region> {
    let epoch = request.header.epoch.unwrap_or(RegionEpoch::INITIAL);
    let peers = (1..=3).map(|n| Peer::voter((10 + n).into(), n.into())).collect();
    let plain = RegionDraft::new(request.header.region_id, KeyRange::from_wire(b"", b"m"), epoch, peers).build();
    let carried = match &request.command {
        AdminCommand::PrepareMerge(command) => Some(&command.target),
        AdminCommand::CommitMerge(command) => Some(&command.source),
        _ => None,
    };
    let target = carried.and_then(|region| region.merge_state()?.target.to_draft().build().ok());
    plain.into_iter().chain(carried.cloned()).chain(target).collect()
}

fn plan(request: &AdminRequest, region: &Region) {
    let entry = LogPosition { index: 100.into(), term: 6.into() };
    let apply_state = ApplyState { applied_index: 99.into(), ..ApplyState::INITIAL };
    let answers = (1..=4).map(|store| {
        let context = ApplyContext::new(StoreId::new(store), entry, apply_state);
        match &request.command {
            AdminCommand::CommitMerge(merge) => request.plan(region, &context.with_merge_source(&merge.source)),
            _ => request.plan(region, &context),
        }
    });
    let answers: Vec<_> = answers.collect();
    let alike = |pair: &[Result<Outcome, AdminError>]| matches!(pair, [a, b] if a.as_ref().err() == b.as_ref().err());
    assert!(answers.windows(2).all(alike), "{answers:?}");
    for record in answers.iter().flatten().flat_map(Outcome::records) {
        exercise(record);
        assert!(!record.epoch().is_behind_any(region.epoch()) || record.id() != region.id(), "{region} to {record}");
    }
}
