//! The server's recording of its disk operations, read back. Its layout stands in `engine/src/disk/record.rs`.

use std::io;

/// Something that was asked of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Bytes of a file.
    Write {
        /// Path below the data directory.
        path: String,
        /// First byte.
        offset: u64,
        /// What.
        data: Vec<u8>,
        /// Stable by its own end, not by a later sync.
        durable: bool,
    },
    /// Completed writes become stable.
    Sync {
        /// Path below the data directory.
        path: String,
    },
    /// A new file of zeroes.
    Create {
        /// Path below the data directory.
        path: String,
        /// Its length.
        len: u64,
    },
    /// Another name.
    Rename {
        /// The old one.
        from: String,
        /// The new one.
        to: String,
    },
    /// A file goes.
    Remove {
        /// Path below the data directory.
        path: String,
    },
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub at: u64,
    /// Pairs begin and end.
    pub id: u64,
    /// Which of both.
    pub what: What,
}

/// Begin or end of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It was handed to the system.
    Begin(Op),
    /// The system was done with it; whether it went well.
    End(bool),
}

/// All whole records; the last one may have been cut by a kill.
pub fn parse(mut bytes: &[u8]) -> io::Result<Vec<Event>> {
    let mut events = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk() {
        let Some((record, rest)) = rest.split_at_checked(u32::from_le_bytes(*len) as usize) else { break };
        let number = events.len();
        let event = event(&mut Cursor(record)).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("record {number} is not one"))
        })?;
        events.push(event);
        bytes = rest;
    }
    Ok(events)
}

fn event(record: &mut Cursor<'_>) -> Option<Event> {
    let kind = record.byte()?;
    let (at, id) = (record.number()?, record.number()?);
    let what = match kind {
        1 => What::Begin(op(record)?),
        2 => What::End(record.byte()? == 1),
        _ => return None,
    };
    Some(Event { at, id, what })
}

fn op(record: &mut Cursor<'_>) -> Option<Op> {
    let what = record.byte()?;
    let path = record.path()?;
    Some(match what {
        1 => {
            let durable = record.byte()? == 1;
            Op::Write {
                path,
                durable,
                offset: record.number()?,
                data: std::mem::take(&mut record.0).to_vec(),
            }
        }
        2 => Op::Sync { path },
        3 => Op::Create { path, len: record.number()? },
        4 => Op::Rename { from: path, to: record.path()? },
        5 => Op::Remove { path },
        _ => return None,
    })
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn path(&mut self) -> Option<String> {
        let len = self.take().map(u16::from_le_bytes)?;
        let (path, rest) = self.0.split_at_checked(usize::from(len))?;
        self.0 = rest;
        String::from_utf8(path.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, id: u64, body: &[u8]) -> Vec<u8> {
        let record = [&[kind], &7_u64.to_le_bytes()[..], &id.to_le_bytes(), body].concat();
        [&(record.len() as u32).to_le_bytes()[..], &record].concat()
    }

    #[test]
    fn records_are_read_up_to_the_one_a_kill_cut() {
        let written = b"\x01\x05\0a/b.c\x01\x03\0\0\0\0\0\0\0xyz";
        let whole = [
            record(1, 1, written),
            record(1, 2, b"\x04\x01\0a\x01\0b"),
            record(2, 1, &[1]),
            record(1, 3, b"\x03\x01\0a\x02\0\0\0\0\0\0\0"),
        ];
        let event = |id, what| Event { at: 7, id, what };
        let write = Op::Write { path: "a/b.c".into(), offset: 3, data: b"xyz".into(), durable: true };
        let expected = [
            event(1, What::Begin(write)),
            event(2, What::Begin(Op::Rename { from: "a".into(), to: "b".into() })),
            event(1, What::End(true)),
            event(3, What::Begin(Op::Create { path: "a".into(), len: 2 })),
        ];
        let bytes = whole.concat();
        assert_eq!(parse(&bytes).unwrap(), expected);
        assert_eq!(parse(&bytes[..bytes.len() - 1]).unwrap(), expected[..3]);
        assert!(parse(&record(3, 1, &[])).is_err());
        assert!(parse(&record(1, 1, b"\x01\x09\0a")).is_err());
    }
}
