//! When writes passed the log: kept for a batch, not for a request, and only until its answers left.
//!
//! For lines about slow requests. Times are those of the turns that noticed, so nothing here reads a clock.

use std::collections::VecDeque;
use std::time::Instant;

use crate::command::RequestId;

/// When a write passed the log, as far as it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// Its batch was handed to the log.
    pub logged: Option<Instant>,
    /// Its batch was seen to be durable.
    pub durable: Option<Instant>,
}

/// A batch under way.
#[derive(Debug)]
struct Batch {
    first: RequestId,
    last: RequestId,
    /// Where it ends in the log.
    position: u64,
    passage: Passage,
}

/// Batches whose answers may still leave, oldest first. Raft bounds what is not committed, and with it these.
#[derive(Debug, Default)]
pub struct Passages {
    batches: VecDeque<Batch>,
    /// How many of them are known to be durable.
    durable: usize,
}

impl Passages {
    /// A batch was handed to the log, up to `position`.
    pub fn push(&mut self, now: Instant, first: RequestId, last: RequestId, position: u64) {
        let passage = Passage { logged: Some(now), durable: None };
        self.batches.push_back(Batch { first, last, position, passage });
    }

    /// The log is durable up to `position`.
    pub fn settle(&mut self, now: Instant, position: u64) {
        while let Some(batch) = self.batches.get_mut(self.durable).filter(|batch| batch.position <= position)
        {
            batch.passage.durable = Some(now);
            self.durable += 1;
        }
    }

    /// When a request passed; nothing is known of one whose batch never reached this member's log.
    pub fn of(&self, id: RequestId) -> Passage {
        let at = self.batches.partition_point(|batch| batch.last < id);
        let batch = self.batches.get(at).filter(|batch| batch.first <= id);
        batch.map_or(Passage::default(), |batch| batch.passage)
    }

    /// All requests before this one have their answers.
    pub fn forget_before(&mut self, id: RequestId) {
        while self.batches.front().is_some_and(|batch| batch.last < id) {
            self.batches.pop_front();
            self.durable = self.durable.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn requests_share_the_times_of_their_batch() {
        #[allow(clippy::disallowed_methods, reason = "an origin; only differences count")]
        let start = Instant::now();
        let after = |seconds| Some(start + Duration::from_secs(seconds));
        let mut passages = Passages::default();
        passages.push(start, RequestId(1), RequestId(4), 10);
        passages.push(start + Duration::from_secs(1), RequestId(7), RequestId(7), 11);
        passages.settle(start + Duration::from_secs(2), 10);
        let check = |passages: &Passages, id, logged, durable| {
            assert_eq!(passages.of(RequestId(id)), Passage { logged, durable }, "request {id}");
        };
        check(&passages, 1, after(0), after(2));
        check(&passages, 4, after(0), after(2));
        check(&passages, 5, None, None);
        check(&passages, 7, after(1), None);
        check(&passages, 8, None, None);
        passages.forget_before(RequestId(5));
        check(&passages, 4, None, None);
        passages.settle(start + Duration::from_secs(3), 11);
        check(&passages, 7, after(1), after(3));
        assert_eq!((passages.batches.len(), passages.durable), (1, 1));
    }
}
