//! Gzip of single messages. Clients rarely ask for it, so nothing here is kept between messages.

use super::status::{Code, Status};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use std::io::{ErrorKind, Read, Write};

/// Replaces `out` by the inflated `message`, at most `len_max` bytes of it; errors carry grpc-go's texts.
pub(super) fn inflate(message: &[u8], len_max: usize, out: &mut Vec<u8>) -> Result<(), Status> {
    out.clear();
    let mut bounded = GzDecoder::new(message).take(len_max as u64 + 1);
    if let Err(error) = bounded.read_to_end(out) {
        let what = if message.len() < HEAD_LEN || error.kind() == ErrorKind::InvalidInput {
            "decompress the message"
        } else {
            "read decompressed data"
        };
        let text = format!("grpc: failed to {what}: {}", go_text(&error));
        return Err(Status::new(Code::Internal, text));
    }
    if out.len() > len_max {
        let text = format!("grpc: received message after decompression larger than max {len_max}");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    Ok(())
}

/// What Go's gzip reader says of the same bytes.
fn go_text(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::UnexpectedEof => "unexpected EOF",
        ErrorKind::InvalidInput if error.to_string().contains("header") => "gzip: invalid header",
        _ => "gzip: invalid checksum",
    }
}

/// Appends the gzip form of `message` to `out`.
pub(super) fn deflate(message: &[u8], out: &mut Vec<u8>) {
    let mut encoder = GzEncoder::new(out, Compression::default());
    encoder.write_all(message).and_then(|()| encoder.try_finish()).expect("writing to a Vec cannot fail");
}

/// Bytes of a gzip header without optional parts.
const HEAD_LEN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_bound() {
        let plain = b"wine dark sea ".repeat(1000);
        let (mut packed, mut out) = (Vec::new(), Vec::new());
        deflate(&plain, &mut packed);
        assert!(packed.len() < plain.len() / 10);
        inflate(&packed, plain.len(), &mut out).unwrap();
        assert!(out == plain);
        let status = inflate(&packed, plain.len() - 1, &mut out).unwrap_err();
        assert_eq!(status.message, "grpc: received message after decompression larger than max 13999");
        assert!(out.len() <= plain.len());
        let check = |bytes: &[u8], expected: &str| {
            let status = inflate(bytes, 100_000, &mut Vec::new()).unwrap_err();
            assert_eq!((status.code, &*status.message), (Code::Internal, expected));
        };
        check(&[1, 2, 3], "grpc: failed to decompress the message: unexpected EOF");
        check(b"certainly not gzip", "grpc: failed to decompress the message: gzip: invalid header");
        check(&packed[..packed.len() - 9], "grpc: failed to read decompressed data: unexpected EOF");
    }
}
