//! The apply pool's side of this host: whatever it has to say goes through a channel to the thread that owns the Raft groups.

use std::sync::Arc;

use crossbeam::channel::{self, Receiver, Sender};
use regionmeta::{CommitMerge, RegionId};
use regionmeta_batch::Store;
use regionmeta_batch::apply::{Answer, ApplyHost, ApplyPool, ApplySettings};
use regionmeta_batch::storage::RocksStorage;

use super::Done;
use super::command::Tag;

pub(crate) type Pool = ApplyPool<RocksStorage, Reporter>;

pub(crate) enum News {
    /// An entry is written and published, or refused.
    Answer(Answer<Tag>),
    /// The target of this merge waits for entries that its source lacks here.
    CatchUp(Box<CommitMerge>),
    /// The region has left the pool.
    Stopped(RegionId),
}

pub(crate) struct Reporter {
    news: Sender<News>,
}

/// One worker: if the target of a merge held it while it waits, its source could never catch up.
pub(crate) fn start(store: Arc<Store<RocksStorage>>) -> Done<(Pool, Receiver<News>)> {
    let (news, heard) = channel::unbounded();
    let settings = ApplySettings { workers: 1, ..ApplySettings::default() };
    Ok((ApplyPool::start(store, Reporter { news }, settings)?, heard))
}

impl Reporter {
    /// Nobody hears it if the host is about to end.
    fn say(&self, news: News) {
        let _ = self.news.send(news);
    }
}

impl ApplyHost<RocksStorage> for Reporter {
    type Tag = Tag;

    fn answer(&self, answer: Answer<Tag>) {
        self.say(News::Answer(answer));
    }

    fn catch_up(&self, _: RegionId, merge: &CommitMerge) {
        self.say(News::CatchUp(Box::new(merge.clone())));
    }

    fn stopped(&self, region: RegionId) {
        self.say(News::Stopped(region));
    }
}
