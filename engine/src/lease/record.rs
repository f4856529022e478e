//! Leases and attachments as rows of the index.
//!
//! ```text
//! table Lease      id, big endian, 8         ->  seconds to live 8 │ seconds left 8      little endian
//! table LeaseKeys  id, big endian, 8 │ key   ->  nothing
//! ```
//! Seconds left are 0 unless a checkpoint told them.

use crate::types::LeaseId;

/// Longest time to live, in seconds, as in etcd.
pub const TTL_MAX: i64 = 9_000_000_000;

/// What is stored of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Seconds it was granted.
    pub ttl: i64,
    /// Seconds it had left at its last checkpoint; 0 if it was renewed since, or there was none.
    pub remaining: i64,
}

impl Lease {
    /// The row's value.
    pub fn encode(&self) -> [u8; 16] {
        let mut row = [0; 16];
        row[..8].copy_from_slice(&self.ttl.to_le_bytes());
        row[8..].copy_from_slice(&self.remaining.to_le_bytes());
        row
    }
}

/// The row key of a lease.
pub fn row(id: LeaseId) -> [u8; 8] {
    id.0.to_be_bytes()
}

/// Reads a row of the lease table; `None` if it is none.
pub fn parse_row(key: &[u8], value: &[u8]) -> Option<(LeaseId, Lease)> {
    let id = LeaseId(i64::from_be_bytes(key.try_into().ok()?));
    let (ttl, remaining) = value.split_first_chunk::<8>()?;
    let ttl = i64::from_le_bytes(*ttl);
    let remaining = i64::from_le_bytes(remaining.try_into().ok()?);
    Some((id, Lease { ttl, remaining })).filter(|_| id != LeaseId::NONE)
}

/// The row key of an attachment.
pub fn attachment_row(id: LeaseId, key: &[u8]) -> Vec<u8> {
    [&row(id)[..], key].concat()
}

/// The key of an attachment, from its row key.
pub fn attached_key(row: &[u8]) -> &[u8] {
    &row[8..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_written() {
        for (id, ttl, remaining) in [(1, 2, 0), (-1, TTL_MAX, 300), (i64::MIN, -5, 1)] {
            let lease = Lease { ttl, remaining };
            assert_eq!(parse_row(&row(LeaseId(id)), &lease.encode()), Some((LeaseId(id), lease)));
        }
        let row = attachment_row(LeaseId(0x0102), b"key");
        assert_eq!((&row[..], attached_key(&row)), (&b"\0\0\0\0\0\0\x01\x02key"[..], &b"key"[..]));
    }

    #[test]
    fn other_bytes_are_refused() {
        let check = |key: &[u8], value: &[u8]| assert_eq!(parse_row(key, value), None, "{key:?} {value:?}");
        check(b"1234567", &[0; 16]);
        check(b"123456789", &[0; 16]);
        check(b"12345678", &[0; 15]);
        check(b"12345678", &[0; 17]);
        check(b"12345678", &[]);
        check(&[0; 8], &[0; 16]);
    }
}
