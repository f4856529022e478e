//! The file `identity`: whose data this is.
//!
//! ```text
//!  0        8        12       16               24               32       36
//!  ├────────┼────────┼────────┼────────────────┼────────────────┼────────┤
//!  │ magic  │ format │ zero   │ cluster id     │ member id      │ CRC    │
//!  └────────┴────────┴────────┴────────────────┴────────────────┴────────┘
//! ```
//!
//! Little-endian; the CRC-32 covers every byte before it. Written once, before the member serves for the
//! first time.
//!
//! | format | since | change |
//! |---|---|---|
//! | 1 | 0.1 | first |

use std::fmt;

const MAGIC: [u8; 8] = *b"KONTIKI\0";
const FORMAT: u32 = 1;

const MAGIC_AT: usize = 0;
const FORMAT_AT: usize = MAGIC_AT + size_of_val(&MAGIC);
const ZERO_AT: usize = FORMAT_AT + size_of::<u32>();
const CLUSTER_AT: usize = ZERO_AT + size_of::<u32>();
const MEMBER_AT: usize = CLUSTER_AT + size_of::<u64>();
const CRC_AT: usize = MEMBER_AT + size_of::<u64>();
const LEN: usize = CRC_AT + size_of::<u32>();

const _: () = assert!(LEN == 36, "a change of the size is a new format");

/// Which member of which cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Id of the cluster.
    pub cluster_id: u64,
    /// Id of the member.
    pub member_id: u64,
}

/// Why bytes are no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// Not as long as one.
    Length(usize),
    /// Does not begin like one.
    Magic,
    /// Written by a newer release.
    Format(u32),
    /// Damaged.
    Checksum,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::Length(len) => write!(f, "{len} bytes instead of {LEN}"),
            IdentityError::Magic => f.write_str("not an identity file"),
            IdentityError::Format(format) => {
                write!(f, "format {format}, of a newer release; this one reads up to {FORMAT}")
            }
            IdentityError::Checksum => f.write_str("damaged: its checksum does not match"),
        }
    }
}

impl Identity {
    /// The file's bytes.
    pub fn encode(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[MAGIC_AT..FORMAT_AT].copy_from_slice(&MAGIC);
        bytes[FORMAT_AT..ZERO_AT].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[CLUSTER_AT..MEMBER_AT].copy_from_slice(&self.cluster_id.to_le_bytes());
        bytes[MEMBER_AT..CRC_AT].copy_from_slice(&self.member_id.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the file's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Identity, IdentityError> {
        // Format before length: a newer one may be longer, and its reader should hear of the release.
        if !bytes.starts_with(&MAGIC) {
            return Err(IdentityError::Magic);
        }
        match le_u32(bytes, FORMAT_AT) {
            Some(FORMAT) => {}
            Some(format) if format > FORMAT => return Err(IdentityError::Format(format)),
            _ => return Err(IdentityError::Checksum),
        }
        if bytes.len() != LEN {
            return Err(IdentityError::Length(bytes.len()));
        }
        if le_u32(bytes, CRC_AT) != Some(crc32fast::hash(&bytes[..CRC_AT])) {
            return Err(IdentityError::Checksum);
        }
        let le_u64 =
            |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("the length was checked"));
        Ok(Identity { cluster_id: le_u64(CLUSTER_AT), member_id: le_u64(MEMBER_AT) })
    }
}

fn le_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity { cluster_id: 0xbe8a890b9c0f3327, member_id: 0xbe2d219f31d83897 };

    #[test]
    fn round_trip() {
        assert_eq!(Identity::decode(&IDENTITY.encode()), Ok(IDENTITY));
    }

    /// The bytes of format 1 never change.
    #[test]
    fn format_1_is_fixed() {
        let hex: String = IDENTITY.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let (head, crc) = hex.split_at(64);
        assert_eq!(
            head,
            "4b4f4e54494b49000100000000000000\
                          27330f9c0b898abe9738d8319f212dbe"
        );
        assert_eq!(crc.len(), 8);
    }

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let good = IDENTITY.encode();
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good;
                bad[at] ^= 1 << bit;
                assert!(Identity::decode(&bad).is_err(), "byte {at} bit {bit}");
            }
            assert!(Identity::decode(&good[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(Identity::decode(&[good.as_slice(), &[0]].concat()), Err(IdentityError::Length(LEN + 1)));
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut newer = IDENTITY.encode().to_vec();
        newer[FORMAT_AT] = 2;
        newer.extend([0; 100]);
        assert_eq!(Identity::decode(&newer), Err(IdentityError::Format(2)));
    }
}
