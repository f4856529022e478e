//! What all connections of a core hold together: partial messages, queued answers, output nobody takes.
//!
//! Each connection has a ledger of its own ([`abuse::MEMORY_BYTES_MAX`]); this one is for many connections that each
//! stay within theirs. When the sum is too large the connection that holds the most is ended. An honest client reads
//! its answers, so it holds next to nothing, and is never the one.

use std::collections::VecDeque;

use super::{ConnId, Connection, Front};
use crate::h2::{Reason, abuse};

/// Bytes of all connections together. A hundred clients that upload the largest message at once need two thirds of it.
pub const WAITING_BYTES_MAX: usize = 256 << 20;

/// The sum, and who was ended for it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    bytes: usize,
    ended: VecDeque<ConnId>,
}

impl Ledger {
    /// Takes note of what a connection holds now. True if the sum is too large.
    pub(super) fn settle(&mut self, connection: &mut Connection) -> bool {
        let bytes = connection.server.waiting_bytes();
        self.note(std::mem::replace(&mut connection.noted_bytes, bytes), bytes)
    }

    /// A connection holds `new` bytes instead of `old`. True if the sum is too large now.
    pub(super) fn note(&mut self, old: usize, new: usize) -> bool {
        debug_assert!(self.bytes >= old, "{old} of {} bytes given back", self.bytes);
        self.bytes = self.bytes - old + new;
        self.bytes > WAITING_BYTES_MAX
    }

    pub(super) fn poll_ended(&mut self) -> Option<ConnId> {
        self.ended.pop_front()
    }
}

impl Front {
    /// Ends the connection that holds the most. It counts for nothing until the driver has closed it, so that nobody
    /// else is ended for the same bytes.
    pub(super) fn end_largest(&mut self) {
        let conns = self.conns.keys().collect::<Vec<_>>();
        let noted = |front: &mut Front, key| front.conns.entry(key).map_or(0, |conn| conn.noted_bytes);
        let Some(key) = conns.into_iter().max_by_key(|key| noted(self, *key)) else { return };
        let Some(connection) = self.conns.entry(key) else { return };
        self.ledger.note(std::mem::take(&mut connection.noted_bytes), 0);
        connection.server.close(Reason::EnhanceYourCalm, abuse::MEMORY_FULL_ALL.as_bytes());
        self.ledger.ended.push_back(ConnId(key));
        self.touch(ConnId(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_decides() {
        let mut ledger = Ledger::default();
        assert!(!ledger.note(0, WAITING_BYTES_MAX));
        assert!(ledger.note(0, 1));
        assert!(!ledger.note(2, 1));
        ledger.note(WAITING_BYTES_MAX, 0);
        assert_eq!(ledger.bytes, 0);
    }
}
