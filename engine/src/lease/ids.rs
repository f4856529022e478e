//! Ids for clients that leave the choice to the server: positive, and never the same twice.
//!
//! As etcd's `pkg/idutil` makes them: 16 bits of the member, 40 bits that differ from start to start (there the time
//! of the start, here a random number), 8 bits of a counter that runs over into them; without the sign.

use crate::types::LeaseId;

/// Makes ids.
#[derive(Clone, Debug)]
pub struct LeaseIds {
    next: u64,
}

impl LeaseIds {
    /// Ids of this start of `member`.
    pub fn new(member: u64, nonce: u64) -> LeaseIds {
        let start = nonce & ((1 << 40) - 1);
        LeaseIds { next: (member & 0xffff) << 48 | start << 8 }
    }

    /// The next one. Another member's, or an earlier start's, may be the same by chance: ask before it is used.
    pub fn next_id(&mut self) -> LeaseId {
        loop {
            self.next = self.next.wrapping_add(1);
            let id = LeaseId((self.next & i64::MAX as u64) as i64);
            if id != LeaseId::NONE {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_positive_and_count_up() {
        let mut ids = LeaseIds::new(0xffff_1234_8765, 0xab_cdef_0123_4567);
        assert_eq!(ids.next_id(), LeaseId(0x0765_ef01_2345_6701));
        let mut last = ids.next_id();
        for _ in 0..600 {
            let next = ids.next_id();
            assert!(next.0 > 0 && next != last, "{next:?} after {last:?}");
            last = next;
        }
        let mut wrapping = LeaseIds { next: i64::MAX as u64 };
        assert_eq!((wrapping.next_id(), wrapping.next_id()), (LeaseId(1), LeaseId(2)));
    }
}
