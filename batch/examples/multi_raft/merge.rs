//! Merges: the source's entry stops it, and each store looks after the target; the target's entry takes over its keys.
//!
//! Left out: the rollback of a merge whose target has changed meanwhile.

use protobuf::Message as _;
use raft::eraftpb::Entry;
use regionmeta::{AdminCommand, AdminHeader, AdminRequest, CommitMerge, PeerState, PrepareMerge, RegionId};

use super::Done;
use super::host::Host;

impl Host {
    /// Stops a region that this store leads, to be merged into another. The log from `min_index` on may be missing on some
    /// replica, and has to be there when the target needs it.
    pub(crate) fn prepare_merge(&mut self, source: RegionId, target: RegionId) -> Done {
        let region = self.region(source).ok_or("the source is not here")?;
        let target = self.region(target).ok_or("the target is not here")?;
        let raft = &self.node(source)?.raft.raft;
        let matched = raft.prs().iter().map(|(_, peer)| peer.matched).min().unwrap_or_default();
        if matched + 1 < raft.raft_log.first_index() {
            return Err("a replica is too far behind for a merge".into());
        }
        let prepare = PrepareMerge { target, min_index: (matched + 1).into() };
        let header = AdminHeader::new(source, region.epoch());
        self.propose(&AdminRequest { header, command: AdminCommand::PrepareMerge(prepare) })
    }

    pub(super) fn check_merges(&mut self) -> Done {
        self.merging.clone().into_iter().try_for_each(|source| self.check_merge(source))
    }

    /// If this store leads the target, it proposes that the source goes. A proposal that comes twice is refused the second
    /// time: the first has moved the epoch.
    pub(super) fn check_merge(&mut self, source: RegionId) -> Done {
        let Some(stopped) = self.region(source).filter(|region| region.state() == PeerState::Merging) else {
            return Ok(());
        };
        let Some(merge) = stopped.merge_state() else { return Ok(()) };
        let (target, epoch) = (merge.target.id(), merge.target.epoch());
        if !self.leads(target) || self.region(target).is_none_or(|now| now.epoch() != epoch) {
            return Ok(());
        }
        let entries = self.node(source)?.raft.store().for_merge(merge.min_index, merge.commit)?;
        let commit = merge.commit;
        let command = AdminCommand::CommitMerge(CommitMerge { source: stopped, commit, entries });
        self.propose(&AdminRequest { header: AdminHeader::new(target, epoch), command })
    }

    /// The target waits, and the source here lacks entries that its leader will not send any more. They came with the
    /// command, and are committed since its proposer has applied them: they go into the log beside Raft's messages, and then
    /// the way of all entries.
    pub(super) fn catch_up(&mut self, merge: &CommitMerge) -> Done {
        let mut entries = Vec::new();
        for entry in &merge.entries {
            entries.push(Entry::parse_from_bytes(&entry.data)?);
        }
        let raft = &mut self.node(merge.source.id())?.raft.raft;
        entries.retain(|entry| entry.index > raft.raft_log.committed);
        let Some((first, last)) = entries.first().zip(entries.last()) else { return Ok(()) };
        if raft.term < last.term {
            raft.become_follower(last.term, 0);
        }
        let before = first.index - 1;
        let term = raft.raft_log.term(before)?;
        let appended = raft.raft_log.maybe_append(before, term, merge.commit.get(), &entries);
        appended.ok_or("the entries of a merge do not fit behind the source's log")?;
        self.seen.caught_up += entries.len();
        Ok(())
    }
}
