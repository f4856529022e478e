//! Deadlines of calls: a heap that tolerates calls which ended long before.
//!
//! Nearly every call with a deadline ends in time, so an entry is not removed with its call but found stale later:
//! when its time comes, or when stale entries outnumber live calls and the heap is swept. Adding is O(1) in practice,
//! since later calls mostly have later deadlines.

use super::call::CallId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
}

impl Deadlines {
    /// Adds the deadline of a call. `live` tells whether a call is still in flight and `live_count` how many are.
    pub(super) fn add(
        &mut self,
        at: Instant,
        call: CallId,
        live_count: usize,
        live: impl Fn(CallId) -> bool,
    ) {
        if self.heap.len() > 2 * live_count + SWEEP_COUNT_MIN {
            self.heap.retain(|Reverse((_, id))| live(CallId::from_u64(*id)));
        }
        self.heap.push(Reverse((at, call.to_u64())));
    }

    /// The next call whose deadline has passed; it may have ended before.
    pub(super) fn poll_due(&mut self, now: Instant) -> Option<CallId> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, id))| CallId::from_u64(id))
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}

/// Stale entries that are never worth a sweep.
const SWEEP_COUNT_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn due_calls_come_in_order_and_the_heap_stays_small() {
        let start = Instant::now();
        let mut deadlines = Deadlines::default();
        for n in 0..10_000u64 {
            deadlines.add(start + Duration::from_millis(n), CallId::from_u64(n), 10, |call| {
                call.to_u64() % 1000 == 0
            });
            assert!(deadlines.heap.len() <= 2 * 10 + SWEEP_COUNT_MIN + 1);
        }
        let due = |deadlines: &mut Deadlines, ms| deadlines.poll_due(start + Duration::from_millis(ms));
        assert_eq!(due(&mut deadlines, 1000), Some(CallId::from_u64(0)));
        assert_eq!(due(&mut deadlines, 1000), Some(CallId::from_u64(1000)));
        assert_eq!(due(&mut deadlines, 1000), None);
        assert_eq!(deadlines.next(), Some(start + Duration::from_millis(2000)));
    }
}
