//! Frames as bytes (RFC 9113 §4 and §6): cutting them out of the input and laying them out in the output.
//!
//! Payloads are borrowed; what they mean is decided in [`super::connection`].

use super::error::{ConnectionError, Reason};

/// Bytes of a frame head.
pub const HEAD_LEN: usize = 9;
/// Largest payload we accept, the value of our SETTINGS_MAX_FRAME_SIZE.
pub const PAYLOAD_LEN_MAX: usize = 16_384;
/// What a client sends before its first frame (§3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (§6).
pub mod kind {
    #![expect(missing_docs, reason = "named as in RFC 9113 §6")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Frame flags (§6).
pub mod flag {
    #![expect(missing_docs, reason = "named as in RFC 9113 §6")]
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// One frame of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Type, one of [`kind`] or unknown.
    pub kind: u8,
    /// Flags, of [`flag`].
    pub flags: u8,
    /// Stream identifier, 31 bits.
    pub stream: u32,
    /// Payload, at most [`PAYLOAD_LEN_MAX`] bytes.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes one frame off the front of `input`; `None`, and `input` untouched, while it is incomplete.
    ///
    /// Errors when the head announces more than [`PAYLOAD_LEN_MAX`] bytes, without waiting for them.
    pub fn take(input: &mut &'a [u8]) -> Result<Option<Frame<'a>>, ConnectionError> {
        let Some((head, rest)) = input.split_first_chunk::<HEAD_LEN>() else { return Ok(None) };
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if len > PAYLOAD_LEN_MAX {
            return Err(ConnectionError { reason: Reason::FrameSizeError, text: "frame too large" });
        }
        let Some((payload, rest)) = rest.split_at_checked(len) else { return Ok(None) };
        *input = rest;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Ok(Some(Frame { kind: head[3], flags: head[4], stream, payload }))
    }

    /// Whether all bits of `flag` are set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag == flag
    }

    /// The payload without its padding (§6.1); `None` when the padding is longer than the frame.
    pub fn unpadded(&self) -> Option<&'a [u8]> {
        if !self.has(flag::PADDED) {
            return Some(self.payload);
        }
        let (&pad_len, rest) = self.payload.split_first()?;
        let len = rest.len().checked_sub(pad_len as usize)?;
        Some(&rest[..len])
    }
}

/// Reads a 31-bit number off the first four bytes of `payload`, ignoring the reserved bit.
pub fn number(payload: &[u8]) -> Option<u32> {
    payload.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes) & 0x7fff_ffff)
}

/// The head of a frame.
pub fn head(len: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEAD_LEN] {
    debug_assert!(len < 1 << 24, "payload of {len} bytes");
    let [_, l0, l1, l2] = (len as u32).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    [l0, l1, l2, kind, flags, s0, s1, s2, s3]
}

/// Appends a frame with a short payload.
pub fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&head(payload.len(), kind, flags, stream));
    out.extend_from_slice(payload);
}

/// Appends RST_STREAM.
pub fn put_reset(out: &mut Vec<u8>, stream: u32, reason: Reason) {
    put(out, kind::RST_STREAM, 0, stream, &(reason as u32).to_be_bytes());
}

/// Appends WINDOW_UPDATE; stream 0 is the connection.
pub fn put_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    put(out, kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
}

/// Appends GOAWAY.
pub fn put_goaway(out: &mut Vec<u8>, last_stream: u32, reason: Reason, debug_data: &[u8]) {
    out.extend_from_slice(&head(8 + debug_data.len(), kind::GOAWAY, 0, 0));
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&(reason as u32).to_be_bytes());
    out.extend_from_slice(debug_data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_only_when_complete() {
        let mut bytes = Vec::new();
        put(&mut bytes, kind::PING, flag::ACK, 0, b"12345678");
        for len in 0..bytes.len() {
            let mut input = &bytes[..len];
            assert_eq!(Frame::take(&mut input).unwrap(), None);
            assert_eq!(input.len(), len);
        }
        let mut input = &bytes[..];
        let frame = Frame::take(&mut input).unwrap().unwrap();
        assert_eq!(frame, Frame { kind: kind::PING, flags: flag::ACK, stream: 0, payload: b"12345678" });
        assert!(input.is_empty());
    }

    #[test]
    fn the_reserved_bit_is_ignored_and_length_is_bounded() {
        let frame = Frame::take(&mut &[0, 0, 0, 4, 0, 0xff, 0xff, 0xff, 0xff][..]).unwrap().unwrap();
        assert_eq!(frame.stream, 0x7fff_ffff);
        let error = Frame::take(&mut &[0, 0x40, 1, 0, 0, 0, 0, 0, 1][..]).unwrap_err();
        assert_eq!(error.reason, Reason::FrameSizeError);
    }

    #[test]
    fn padding() {
        let check = |payload: &[u8], expected: Option<&[u8]>| {
            let frame = Frame { kind: kind::DATA, flags: flag::PADDED, stream: 1, payload };
            assert_eq!(frame.unpadded(), expected);
        };
        check(&[0, 7, 8], Some(&[7, 8]));
        check(&[2, 7, 0, 0], Some(&[7]));
        check(&[3, 0, 0, 0], Some(&[]));
        check(&[4, 0, 0, 0], None);
        check(&[], None);
    }
}
