//! The gRPC message prefix: one flag byte and a big-endian length, independent of DATA frames.

use super::status::{Code, Status};

/// Bytes in front of every message.
pub const PREFIX_LEN: usize = 5;

/// What stands at the front of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A message and what follows it.
    Message {
        /// The sender compressed it.
        compressed: bool,
        /// The message, without prefix.
        message: &'a [u8],
        /// The rest of the body.
        rest: &'a [u8],
    },
    /// Not all there; `missing` more bytes are needed at least.
    Incomplete {
        /// Of the message if its length is known, else of the prefix.
        missing: usize,
    },
}

/// Parses the front of `body`. Errors, with grpc-go's texts, as soon as the prefix is bad.
pub fn parse(body: &[u8], message_len_max: usize) -> Result<Parsed<'_>, Status> {
    let Some((prefix, rest)) = body.split_first_chunk::<PREFIX_LEN>() else {
        return Ok(Parsed::Incomplete { missing: PREFIX_LEN - body.len() });
    };
    let flag = prefix[0];
    let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if len > message_len_max {
        let text = format!("grpc: received message larger than max ({len} vs. {message_len_max})");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    let Some((message, rest)) = rest.split_at_checked(len) else {
        return Ok(Parsed::Incomplete { missing: len - rest.len() });
    };
    if flag > 1 {
        return Err(Status::new(Code::Internal, format!("grpc: received unexpected payload format {flag}")));
    }
    Ok(Parsed::Message { compressed: flag == 1, message, rest })
}

/// The prefix of a message of `len` bytes.
///
/// Panics when `len` does not fit 32 bits: no answer may be that long.
pub fn prefix(compressed: bool, len: u64) -> [u8; PREFIX_LEN] {
    let len = u32::try_from(len).unwrap_or_else(|_| panic!("gRPC message of {len} bytes"));
    let [a, b, c, d] = len.to_be_bytes();
    [u8::from(compressed), a, b, c, d]
}

/// Appends what `fill` appends as one message.
pub fn put(out: &mut Vec<u8>, compressed: bool, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_LEN]);
    fill(out);
    let len = out.len() - start - PREFIX_LEN;
    out[start..start + PREFIX_LEN].copy_from_slice(&prefix(compressed, len as u64));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fronts_of_bodies() {
        let check = |body: &[u8], expected: Parsed<'_>| assert_eq!(parse(body, 10).unwrap(), expected);
        check(&[], Parsed::Incomplete { missing: 5 });
        check(&[0, 0, 0], Parsed::Incomplete { missing: 2 });
        check(&[0, 0, 0, 0, 9, 1], Parsed::Incomplete { missing: 8 });
        check(&[0, 0, 0, 0, 0], Parsed::Message { compressed: false, message: &[], rest: &[] });
        check(&[1, 0, 0, 0, 2, 7, 8, 9], Parsed::Message { compressed: true, message: &[7, 8], rest: &[9] });
    }

    #[test]
    fn bad_fronts() {
        let check = |body: &[u8], code: Code, text: &str| {
            let status = parse(body, 2_097_152).unwrap_err();
            assert_eq!((status.code, &*status.message), (code, text));
        };
        let large = "grpc: received message larger than max (2200010 vs. 2097152)";
        check(&[0, 0, 0x21, 0x91, 0xca], Code::ResourceExhausted, large);
        check(&[2, 0, 0, 0, 0], Code::Internal, "grpc: received unexpected payload format 2");
    }

    #[test]
    fn messages_round_trip() {
        let mut out = vec![9];
        put(&mut out, true, |buf| buf.extend_from_slice(b"abc"));
        assert_eq!(out, [9, 1, 0, 0, 0, 3, b'a', b'b', b'c']);
        assert_eq!(
            parse(&out[1..], 3).unwrap(),
            Parsed::Message { compressed: true, message: b"abc", rest: &[] }
        );
    }
}
