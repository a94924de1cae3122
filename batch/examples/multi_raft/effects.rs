//! The pool's answers, and what follows from them: the library knows what a change means, the host does it.

use regionmeta::{Peer, Region, RegionId};
use regionmeta_batch::apply::{Answer, AnswerError};
use regionmeta_batch::peers::Effect;

use super::command::Tag;
use super::errand::Errand;
use super::host::Host;
use super::wire::{Body, Letter};
use super::{Done, data};

impl Host {
    pub(super) fn answered(&mut self, answer: Answer<Tag>) -> Done {
        let Answer { region, position, tag, result } = answer;
        match result {
            Ok(result) => {
                let effects = self.peers.on_ready_result(region, position, &result)?;
                self.follow(effects, tag.as_ref())?;
            }
            // Raft is not told of a conf change that was refused.
            Err(AnswerError::EpochNotMatch { .. } | AnswerError::Refused(_)) => self.seen.refused += 1,
            Err(AnswerError::Closed { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let router = self.pool.router().clone();
        match self.nodes.get_mut(&region) {
            Some(node) => {
                node.applied(position.index.get());
                node.apply(&router, region, &[]) // there is room again
            }
            None => Ok(()),
        }
    }

    /// In order: a leader that was demoted, for example, first counts the peers anew and then steps down.
    pub(super) fn follow(&mut self, effects: Vec<Effect>, change: Option<&raft::eraftpb::ConfChangeV2>) -> Done {
        self.heartbeats.on_effects(&effects);
        self.note_split(&effects);
        for effect in effects {
            match effect {
                Effect::ChangeMembers { region, .. } => {
                    let change = change.ok_or("members changed, and Raft has no such entry")?;
                    self.node(region.id())?.change_members(&region, change)?;
                }
                Effect::StepDown { region } => {
                    let raft = &mut self.node(region)?.raft.raft;
                    raft.become_follower(raft.term, 0);
                }
                Effect::TransferLeader { region, transferees } => self.hand_over(region, &transferees)?,
                Effect::Create { region, campaign, first_message, .. } => {
                    self.create(&region, campaign)?;
                    first_message.iter().try_for_each(|letter| self.receive(letter))?;
                }
                Effect::Campaign { region } if self.lacks_leader(region) => self.campaign(region)?,
                Effect::Campaign { .. } => {}
                Effect::Destroy { region, merged_into, .. } => self.forget(region, merged_into),
                Effect::DeleteData { range } => {
                    data::delete(self.store.storage(), range.as_range())?;
                    self.peers.data_deleted(&range);
                }
                Effect::DestroyStale { region, peer } => {
                    self.destroy(region, peer)?;
                }
                Effect::StopSource { region } => self.stop(region)?,
                Effect::CheckStale { region } => self.ask_whether_wanted(&region)?,
                Effect::AskPd { region, peer } => {
                    self.errands.push(Errand::LookUp { region, peer });
                }
                Effect::CheckMerge { region } => {
                    self.merging.insert(region);
                    self.check_merge(region)?;
                }
                Effect::ForgetMerge { region } => {
                    self.merging.remove(&region);
                }
                Effect::CompactLog { region, truncated } => self.node(region)?.raft.mut_store().compact(truncated)?,
                Effect::Heartbeat { .. } => {} // noted above
                other => return Err(format!("this host does not know what to do: {other:?}").into()),
            }
        }
        Ok(())
    }

    /// Every replica applies the command. It is the leader that Raft lets hand over, to the first that was named.
    fn hand_over(&mut self, region: RegionId, transferees: &[Peer]) -> Done {
        if let Some(heir) = transferees.first().filter(|_| self.leads(region)) {
            self.node(region)?.raft.transfer_leader(heir.id.get());
        }
        Ok(())
    }

    fn create(&mut self, region: &Region, campaign: bool) -> Done {
        let peer = region.peer_on(self.id()).ok_or("the region has no peer here")?;
        self.add(region.id(), peer)?;
        if campaign { self.campaign(region.id()) } else { Ok(()) }
    }

    /// The parent of a child may have changed its leader long after the split, when the child has one, or was merged.
    fn lacks_leader(&self, region: RegionId) -> bool {
        self.nodes.get(&region).is_some_and(|node| node.raft.raft.leader_id == 0)
    }

    /// A peer is gone, its records too.
    pub(super) fn forget(&mut self, region: RegionId, merged_into: Option<RegionId>) {
        self.nodes.remove(&region);
        self.merging.remove(&region);
        self.applying.remove(&region);
        self.seen.destroyed.push((region, merged_into));
    }

    /// The others of a peer's group know whether it is still one of them.
    fn ask_whether_wanted(&self, region: &Region) -> Done {
        let from = region.peer_on(self.id()).ok_or("the region has no peer here")?;
        for to in region.peers().filter(|to| *to != from) {
            let (known, body) = (Some(region.clone()), Body::AmIWanted);
            self.send(&Letter { region: region.id(), from, to, known, body })?;
        }
        Ok(())
    }
}
