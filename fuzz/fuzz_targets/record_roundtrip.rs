//! Any draft: it is refused, or it comes back from its stored form as it went in, field by field.

#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use regionmeta::{
    EndKey, KeyRange, MergeState, Peer, PeerId, PeerRole, PeerState, Region, RegionDraft, RegionEpoch, layout,
};
use regionmeta_fuzz::{decode, exercise, seal};

fuzz_target!(|input: &[u8]| {
    let _ = round_trip(&mut Unstructured::new(input));
});

fn round_trip(input: &mut Unstructured<'_>) -> Result<()> {
    let target = draft(input)?.build();
    let mut draft = draft(input)?;
    if let (Ok(target), true) = (&target, input.arbitrary()?) {
        let (min_index, commit) = (input.arbitrary::<u64>()?.into(), input.arbitrary::<u64>()?.into());
        draft.merge_state = Some(MergeState { min_index, commit, target: target.as_ref() });
    }
    if let Ok(region) = draft.build() {
        check(&region, &draft);
    }
    Ok(())
}

fn check(region: &Region, draft: &RegionDraft<'_>) {
    exercise(region);
    assert_eq!((region.id(), region.epoch(), region.state()), (draft.id, draft.epoch, draft.state));
    assert_eq!(region.range(), draft.range);
    assert!(region.peers().eq(draft.peers.iter().copied()), "{region} from {draft:?}");
    assert_eq!((region.merge_state(), region.flashback_start_ts()), (draft.merge_state, draft.flashback_start_ts));
    assert_eq!(region.as_ref().encryption_meta(), draft.encryption_meta);
    assert_eq!(region.destroyed_peer(), draft.destroyed_peer);
    assert_eq!(region.to_draft().build().as_ref().map(Region::as_bytes), Ok(region.as_bytes()));
    let key = layout::region_state_key(region.id());
    let sealed = seal(<Region as regionmeta::Record>::KIND, &key, region.as_bytes());
    assert_eq!(decode::<Region>(&key, &sealed).as_ref(), Some(region));
}

/// Small numbers most of the time, so that ids collide and limits are met.
fn number(input: &mut Unstructured<'_>) -> Result<u64> {
    if input.ratio(7, 8)? { input.int_in_range(0..=9) } else { input.arbitrary() }
}

fn bytes<'a>(input: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    let length = input.int_in_range(0..=12)?;
    input.bytes(length)
}

fn draft<'a>(input: &mut Unstructured<'a>) -> Result<RegionDraft<'a>> {
    let (start, end) = (bytes(input)?, bytes(input)?);
    // The end as an embedder may make it by hand, an empty one included.
    let end = if input.ratio(1, 8)? { EndKey::Finite(end) } else { EndKey::from_wire(end) };
    let epoch = RegionEpoch::new(number(input)?, number(input)?);
    let count = input.int_in_range(0..=9)?;
    let peers = (0..count).map(|_| peer(input)).collect::<Result<_>>()?;
    let mut draft = RegionDraft::new(number(input)?.into(), KeyRange::new(start, end), epoch, peers);
    draft.state = *input.choose(&PeerState::ALL)?;
    draft.flashback_start_ts = input.arbitrary()?;
    draft.encryption_meta = bytes(input)?;
    draft.destroyed_peer = input.arbitrary::<Option<u64>>()?.map(PeerId::new);
    Ok(draft)
}

fn peer(input: &mut Unstructured<'_>) -> Result<Peer> {
    let roles = [PeerRole::Voter, PeerRole::Learner, PeerRole::IncomingVoter, PeerRole::DemotingVoter];
    let (id, store_id) = (number(input)?.into(), number(input)?.into());
    Ok(Peer { id, store_id, role: *input.choose(&roles)?, is_witness: input.arbitrary()? })
}
