//! The sliding window of `Append` messages a follower has not answered yet.
//!
//! Bounded in messages and in bytes; acknowledgements are cumulative, so answering one frees all before it.
//! Counterpart of etcd raft's `tracker/inflights.go`.

use std::collections::VecDeque;

use crate::types::LogIndex;

/// Unanswered messages, oldest first, each by its last index and size.
#[derive(Clone, Debug)]
pub(crate) struct Inflights {
    sent: VecDeque<(LogIndex, u64)>,
    bytes: u64,
    count_max: usize,
    bytes_max: u64,
}

impl Inflights {
    pub(crate) fn new(count_max: usize, bytes_max: u64) -> Self {
        Self { sent: VecDeque::new(), bytes: 0, count_max, bytes_max }
    }

    /// Whether nothing more may be sent before an answer. The byte bound may be passed by one message.
    pub(crate) fn is_full(&self) -> bool {
        self.sent.len() >= self.count_max || self.bytes >= self.bytes_max
    }

    pub(crate) fn len(&self) -> usize {
        self.sent.len()
    }

    /// Notes a message that ends at `last`.
    pub(crate) fn add(&mut self, last: LogIndex, bytes: u64) {
        assert!(!self.is_full(), "window of {} messages, {} bytes is full", self.sent.len(), self.bytes);
        if let Some(&(newest, _)) = self.sent.back() {
            assert!(newest < last, "message ending at {last} after one ending at {newest}");
        }
        self.sent.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// Everything up to `index` is answered.
    pub(crate) fn free_to(&mut self, index: LogIndex) {
        while let Some(&(last, bytes)) = self.sent.front() {
            if last > index {
                break;
            }
            self.bytes -= bytes;
            self.sent.pop_front();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.sent.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(ends: &[u64]) -> Inflights {
        let mut window = Inflights::new(4, 100);
        for &end in ends {
            window.add(LogIndex(end), 30);
        }
        window
    }

    #[test]
    fn fills_by_count_or_by_bytes() {
        assert!(!filled(&[1, 2, 3]).is_full());
        assert!(filled(&[1, 2, 3, 4]).is_full());
        let mut one_large = Inflights::new(4, 100);
        one_large.add(LogIndex(1), 1_000);
        assert!(one_large.is_full());
    }

    #[test]
    fn an_answer_frees_everything_before_it() {
        let check = |answered: u64, left: usize, bytes: u64| {
            let mut window = filled(&[3, 5, 9]);
            window.free_to(LogIndex(answered));
            assert_eq!((window.len(), window.bytes), (left, bytes), "answered {answered}");
        };
        check(2, 3, 90);
        check(3, 2, 60);
        check(8, 1, 30);
        check(100, 0, 0);
    }

    #[test]
    #[should_panic(expected = "is full")]
    fn never_grows_beyond_its_bound() {
        filled(&[1, 2, 3, 4, 5]);
    }
}
