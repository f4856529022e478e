//! Frames on a byte stream (RFC 9113 §4, §6): the nine-byte header and an opaque payload.

use std::io::{self, Read, Write};

/// Frames larger than this are refused: we never raise SETTINGS_MAX_FRAME_SIZE, so nobody may send them.
pub const FRAME_SIZE_MAX: usize = 16_384;
const HEADER_LEN: usize = 9;

/// Frame types (RFC 9113 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum FrameKind {
    Data,
    Headers,
    Priority,
    RstStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    Unknown(u8),
}

/// Frame flags (RFC 9113 §6).
#[expect(missing_docs, reason = "the names are the RFC's")]
pub mod flag {
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: FrameKind,
    /// Its flags.
    pub flags: u8,
    /// Its stream, 0 for the connection.
    pub stream: u32,
    /// What follows the header.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame of these parts.
    pub fn new(kind: FrameKind, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Frame {
        Frame { kind, flags, stream, payload: payload.into() }
    }

    /// Whether `flag` is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Reads one frame. Errors: the reader's own, and `InvalidData` for a frame larger than allowed.
    pub fn read(from: &mut impl Read) -> io::Result<Frame> {
        let mut header = [0; HEADER_LEN];
        from.read_exact(&mut header)?;
        let len = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        if len > FRAME_SIZE_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {len} bytes")));
        }
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & 0x7fff_ffff;
        let mut payload = vec![0; len];
        from.read_exact(&mut payload)?;
        Ok(Frame { kind: kind_of(header[3]), flags: header[4], stream, payload })
    }

    /// Writes it as it is, whatever its length: a judge may want to break the rules.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let len = (self.payload.len() as u32).to_be_bytes();
        let stream = self.stream.to_be_bytes();
        let header = [
            len[1],
            len[2],
            len[3],
            number_of(self.kind),
            self.flags,
            stream[0],
            stream[1],
            stream[2],
            stream[3],
        ];
        to.write_all(&header)?;
        to.write_all(&self.payload)
    }

    /// The payload of a DATA or HEADERS frame without padding and priority.
    pub fn content(&self) -> io::Result<&[u8]> {
        let mut rest = self.payload.as_slice();
        let mut padding = 0;
        if self.has(flag::PADDED) {
            let (&length, after) = rest.split_first().ok_or_else(short)?;
            (padding, rest) = (length as usize, after);
        }
        if self.kind == FrameKind::Headers && self.has(flag::PRIORITY) {
            rest = rest.get(5..).ok_or_else(short)?;
        }
        let len = rest.len().checked_sub(padding).ok_or_else(short)?;
        Ok(&rest[..len])
    }

    /// The four bytes at `at`, as a number.
    pub fn word(&self, at: usize) -> io::Result<u32> {
        let bytes = self.payload.get(at..at + 4).ok_or_else(short)?;
        Ok(u32::from_be_bytes(bytes.try_into().expect("four bytes")))
    }
}

fn short() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a frame shorter than its fields")
}

const KINDS: [FrameKind; 10] = [
    FrameKind::Data,
    FrameKind::Headers,
    FrameKind::Priority,
    FrameKind::RstStream,
    FrameKind::Settings,
    FrameKind::PushPromise,
    FrameKind::Ping,
    FrameKind::GoAway,
    FrameKind::WindowUpdate,
    FrameKind::Continuation,
];

fn kind_of(number: u8) -> FrameKind {
    KINDS.get(number as usize).copied().unwrap_or(FrameKind::Unknown(number))
}

fn number_of(kind: FrameKind) -> u8 {
    match kind {
        FrameKind::Unknown(number) => number,
        known => KINDS.iter().position(|&kind| kind == known).expect("every known kind is listed") as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_trip() {
        for kind in KINDS.into_iter().chain([FrameKind::Unknown(77)]) {
            let frame = Frame::new(kind, flag::END_HEADERS, 7, *b"payload");
            let mut bytes = Vec::new();
            frame.write(&mut bytes).unwrap();
            assert_eq!(Frame::read(&mut bytes.as_slice()).unwrap(), frame);
        }
    }

    #[test]
    fn padding_and_priority_are_taken_off() {
        let check = |kind, flags, payload: &[u8], expected: Option<&[u8]>| {
            let frame = Frame::new(kind, flags, 1, payload);
            assert_eq!(frame.content().ok(), expected, "{frame:?}");
        };
        check(FrameKind::Data, 0, b"abc", Some(b"abc"));
        check(FrameKind::Data, flag::PADDED, b"\x01abc", Some(b"ab"));
        check(FrameKind::Data, flag::PADDED, b"\x04abc", None);
        check(FrameKind::Data, flag::PADDED, b"", None);
        check(FrameKind::Headers, flag::PRIORITY, b"12345abc", Some(b"abc"));
        check(FrameKind::Headers, flag::PRIORITY, b"1234", None);
    }
}
