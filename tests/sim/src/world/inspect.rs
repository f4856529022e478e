//! A look at everything that is stored, by way of the running replica: what the judge settles by.

use std::time::Duration;

use engine::map;
use engine::mvcc::Cold;
use engine::mvcc::hash::{HashTask, KvHash};
use engine::mvcc::index::{self, IndexView, Root};
use engine::mvcc::range::{Progress, RangeTask};
use engine::mvcc::walk::Budget;
use engine::replica::ReadStart;
use engine::request::KeyRange;
use engine::response::Response;

use super::{Member, Node, Stop, World};
use crate::call::{Keys, Range, Reply};
use crate::dump::{Dump, Pause, Reader};
use crate::hash;
use crate::serve::{self, PROBE};

/// Reclaim of all there is in a run takes no longer, in simulated time.
const RECLAIM_TIME_MAX: Duration = Duration::from_secs(30);

impl World {
    /// Waits for what was found cold.
    fn fetch(&mut self, cold: &Cold) -> Result<(), Stop> {
        let Member { replica, serving, .. } = self.member();
        serving.probe_may_go = false;
        replica.fetch(cold, PROBE)?;
        self.wait_for_probe()
    }

    fn wait_for_probe(&mut self) -> Result<(), Stop> {
        self.pump()?;
        while !self.member().serving.probe_may_go && !self.member().serving.probe_refused {
            if !self.step_aside()? {
                return Err(Stop::Violation("what was cold never came".into()));
            }
        }
        Ok(())
    }

    /// Waits until the node may read what is current; false if it must ask again.
    fn confirm(&mut self) -> Result<bool, Stop> {
        // Until there is a leader, who waits for a read hears of the new one and no more.
        while self.replica().raft().leader().is_none() {
            self.step_aside()?;
        }
        let now = self.now();
        let Member { replica, serving, .. } = self.member();
        (serving.probe_may_go, serving.probe_refused) = (false, false);
        if replica.read_index(now, PROBE) == ReadStart::Waiting {
            self.wait_for_probe()?;
        }
        Ok(!self.member().serving.probe_refused)
    }

    /// The next event, wherever it is; then back to this node.
    fn step_aside(&mut self) -> Result<bool, Stop> {
        let at = self.at;
        let stepped = self.step();
        self.stand_at(at);
        stepped
    }

    /// Once all calls are ended: reads everything that is stored, has it judged, and compares what ranges say of it.
    pub fn inspect(&mut self) -> Result<(), Stop> {
        self.run_until_quiet()?;
        self.inspect_node()
    }

    /// The same for one member of several. What the first has shown the others must show too, and what happened since.
    pub(super) fn inspect_node(&mut self) -> Result<(), Stop> {
        while !self.confirm()? {}
        let model = self.judge.model().clone();
        let mut reader = Reader::new(&model);
        loop {
            match reader.advance(self.replica()) {
                Ok(()) => break,
                Err(Pause::Cold(cold)) => self.fetch(&cold)?,
                Err(Pause::Wrong(what)) => return Err(Stop::Violation(what)),
            }
        }
        self.drain_watchers()?;
        self.judge.tally.reclaimed += reader.missing();
        let dump = reader.into_dump();
        self.judge.settle(&dump).map_err(Stop::Violation)?;
        let watching = &mut self.nodes[self.at].watching;
        watching.settle(self.judge.model(), dump.compacted, true).map_err(Stop::Violation)?;
        self.trace.note(format_args!("revision {} compacted {}\n", dump.revision, dump.compacted));
        let oldest = dump.compacted.max(1);
        let mut revisions = vec![0, oldest, dump.revision];
        revisions.extend((0..2).map(|_| oldest + self.pcg.below((dump.revision - oldest + 1) as u64) as i64));
        for revision in revisions {
            let range = Range::of(Keys::all(), revision);
            let reply = self.read(&range)?;
            self.judge.check_range(&range, &reply).map_err(Stop::Violation)?;
        }
        self.check_hashes(&dump)
    }

    /// Compares hashes with what the model makes of them.
    fn check_hashes(&mut self, dump: &Dump) -> Result<(), Stop> {
        let oldest = dump.compacted.max(1);
        let between = oldest + self.pcg.below((dump.revision - oldest + 1) as u64) as i64;
        let left = self.replica().compaction_hash(dump.compacted);
        let mut found: Vec<_> = left.into_iter().map(|hash| (hash, true)).collect();
        for revision in [oldest, between, dump.revision] {
            found.push((self.hash(revision)?, false));
        }
        for (told, of_compaction) in found {
            let KvHash { hash, compacted, revision } = told;
            let right = hash::hash(self.judge.model(), compacted.0, revision.0, of_compaction);
            if hash != right {
                return Err(Stop::Violation(format!(
                    "{told:?}, of a compaction: {of_compaction}; right is {right}"
                )));
            }
        }
        Ok(())
    }

    /// Lets every watcher read what there is.
    fn drain_watchers(&mut self) -> Result<(), Stop> {
        loop {
            let now = self.now();
            let Node { watching, member, .. } = &mut self.nodes[self.at];
            let Member { watches, replica, .. } = member.as_mut().expect("the process runs");
            if watching.drain(now, watches, replica)?.map_err(Stop::Violation)? {
                return Ok(());
            }
            self.pump()?;
            if !self.step_aside()? {
                return Err(Stop::Violation("watchers wait and nothing is under way".into()));
            }
        }
    }

    /// One hash, to its end, with nothing else going on.
    fn hash(&mut self, revision: i64) -> Result<KvHash, Stop> {
        let task = HashTask::new(&self.replica().view(), revision);
        let mut task = task.map_err(|error| Stop::Violation(format!("no hash at {revision}: {error:?}")))?;
        loop {
            match task.advance(&self.replica().view(), &mut Budget(u32::MAX)) {
                Ok(Progress::Done(hash)) => return Ok(hash),
                Ok(Progress::More) => {}
                Err(cold) => self.fetch(&cold)?,
            }
        }
    }

    /// Waits until all that compaction made dead is given back, down to the files. Meanwhile every client of a watch
    /// reads: what one that stands still has yet to be told is kept for it.
    pub fn wait_for_reclaim(&mut self) -> Result<(), Stop> {
        self.run_until_quiet()?;
        let until = self.now + RECLAIM_TIME_MAX;
        loop {
            let compacted = self.replica().store().published().1.compacted;
            if compacted.0 <= self.judge.model().revision() && self.replica().is_reclaimed(compacted) {
                return Ok(());
            }
            self.drain_watchers()?;
            if self.now > until || !self.step_aside()? {
                let reclaimed = self.replica().store().reclaimed();
                return Err(Stop::Violation(format!("reclaim to {compacted} has no end: {reclaimed:?}")));
            }
        }
    }

    /// One range, to its end, with nothing else going on.
    fn read(&mut self, range: &Range) -> Result<Reply, Stop> {
        let mut task: Option<RangeTask> = None;
        let mut answer = None;
        loop {
            let replica = self.replica();
            let mut step = || -> Result<Option<Reply>, Cold> {
                if task.is_none() {
                    match RangeTask::new(&replica.view(), &range.as_engine())? {
                        Ok(begun) => task = Some(begun),
                        Err(error) => return Ok(Some(Reply::Refused(error))),
                    }
                }
                let task = task.as_mut().expect("just begun");
                if answer.is_none() {
                    match task.advance(&replica.view(), &mut Budget(u32::MAX))? {
                        Progress::Done(done) => answer = Some(Response::Range(done)),
                        Progress::More => return Ok(None),
                    }
                }
                serve::copy(answer.as_ref().expect("just read"), replica).map(Some)
            };
            match step() {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(cold) => self.fetch(&cold)?,
            }
        }
    }

    /// Whether a version that a reader holds on to stays as it is while the member goes on for a while.
    pub fn hold_version(&mut self, events: u64) -> Result<(), Stop> {
        let reader = self.replica().store().pages().reader();
        let guard = reader.pin();
        let before = pinned_keys(&guard);
        for _ in 0..events {
            self.step_aside()?;
        }
        let after = pinned_keys(&guard);
        if let (Ok(before), Ok(after)) = (&before, &after)
            && before == after
        {
            return Ok(());
        }
        match before {
            // Something is not in memory: this version cannot be looked at.
            Err(index::Error::Miss(_)) => Ok(()),
            _ => Err(Stop::Violation(format!("a pinned version changed from {before:?} to {after:?}"))),
        }
    }
}

/// All keys of a pinned version, with the records that the index names.
fn pinned_keys(guard: &map::Guard<'_>) -> Result<Vec<(Vec<u8>, u64)>, index::Error> {
    let version = guard.version();
    let Some(page) = version.root.filter(|_| version.tag[0] > 0) else { return Ok(Vec::new()) };
    let [height, live, entries, ..] = version.tag;
    let view = IndexView::new(guard, Root { page, height: height as u32, live, entries });
    let mut scan = view.scan(KeyRange::new(b"\0", b"\0"));
    let mut keys = Vec::new();
    while let Some((key, entry)) = scan.next()? {
        keys.push((key.to_vec(), entry.seq.0));
    }
    Ok(keys)
}
