//! What a store is asked to do with the regions that it leads.

use regionmeta::{AdminCommand, AdminRequest, ChangePeerV2, RegionId};

use super::host::Host;
use super::node::Node;
use super::{Done, command};

impl Host {
    pub(crate) fn campaign(&mut self, region: RegionId) -> Done {
        Ok(self.node(region)?.raft.campaign()?)
    }

    /// An admin command goes through the log as it is; Raft itself has to understand one that changes its configuration. What
    /// can be applied may still be unwise to propose: of a conf change the library knows.
    pub(crate) fn propose(&mut self, request: &AdminRequest) -> Done {
        let bytes = command::admin(request)?;
        let region = self.region(request.header.region_id).ok_or("the region is not here")?;
        let node = self.leading(region.id())?;
        let change = match &request.command {
            AdminCommand::ChangePeer(change) => Some(&ChangePeerV2 { changes: vec![*change] }),
            AdminCommand::ChangePeerV2(change) => Some(change),
            _ => None,
        };
        match change {
            Some(change) => {
                change.check_proposal(&region, node.peer.id, false)?;
                node.raft.propose_conf_change(bytes, command::conf_change(change))?;
            }
            None => node.raft.propose(Vec::new(), bytes)?,
        }
        Ok(())
    }

    /// A follower would send a proposal on to the leader, which may refuse it without a word.
    fn leading(&mut self, region: RegionId) -> Done<&mut Node> {
        let node = self.node(region)?;
        if node.leads() { Ok(node) } else { Err(format!("region {region} is not led here").into()) }
    }

    /// Proposes to write or delete a key, at the epoch that its region has now.
    pub(crate) fn write(&mut self, key: &[u8], value: Option<&[u8]>) -> Done {
        let region = self.store.meta().snapshot().locate(key).ok_or("nobody owns the key")?.region().clone();
        let bytes = command::write(region.epoch(), key, value);
        Ok(self.leading(region.id())?.raft.propose(Vec::new(), bytes)?)
    }
}
