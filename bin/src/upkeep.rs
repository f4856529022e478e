//! What the member does unasked: automatic compaction, and telling of compactions that are through.

use std::rc::Rc;
use std::time::{Duration, Instant};

use engine::types::Revision;

use crate::compactor::{Compactor, Facts};
use crate::config::AutoCompaction;
use crate::node::Node;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);

/// Compactions whose reclaim is under way.
#[derive(Debug)]
struct Through {
    told: Revision,
    /// The newest compaction and when it was seen first.
    begun: Option<(Revision, Instant)>,
}

impl Node {
    /// Goes on for as long as the process lives.
    pub async fn run_upkeep(self: Rc<Node>, config: AutoCompaction) {
        let facts = self.facts();
        let mut compactor = Compactor::new(config, Instant::now(), facts.revision);
        let told = self.cores.borrow().replica.store().published().1.compacted;
        let mut through = Through { told, begun: None };
        loop {
            self.runtime.sleep(LOOK).await;
            let facts = self.facts();
            if let Some(revision) = compactor.poll(Instant::now(), facts, &self.log) {
                let outcome = self.compact_outside(revision).await;
                compactor.on_done(Instant::now(), outcome, &self.log);
            }
            self.tell_of_compactions(&mut through);
        }
    }

    fn facts(&self) -> Facts {
        let cores = self.cores.borrow();
        let revision = cores.replica.store().published().1.revision;
        Facts { revision, leads: cores.replica.raft().is_leader() }
    }

    /// Logs and counts a compaction when its space is given back.
    fn tell_of_compactions(&self, through: &mut Through) {
        let cores = self.cores.borrow();
        let replica = &cores.replica;
        let compacted = replica.store().published().1.compacted;
        let begun = match through.begun {
            Some(begun) => begun,
            None if compacted > through.told => *through.begun.insert((compacted, Instant::now())),
            None => return,
        };
        if !replica.is_reclaimed(begun.0) {
            return;
        }
        (through.told, through.begun) = (begun.0, None);
        let took = begun.1.elapsed();
        self.metrics.compaction_duration.observe(took.as_secs_f64() * 1000.0);
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        self.metrics.compaction_last.set(since_epoch.map_or(0.0, |since| since.as_secs() as f64));
        self.log.info(
            "finished scheduled compaction",
            &[
                ("compact-revision", &begun.0.0),
                ("took", &took),
                ("current-db-size-bytes", &replica.db_size()),
                ("current-db-size-in-use-bytes", &replica.db_size_in_use()),
            ],
        );
    }
}
