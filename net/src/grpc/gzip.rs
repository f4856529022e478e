//! Gzip of single messages. Clients rarely ask for it, so nothing here is kept between messages.

use super::status::{Code, Status};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use std::io::{Read, Write};

/// Replaces `out` by the inflated `message`, at most `len_max` bytes of it; errors carry grpc-go's texts.
pub(super) fn inflate(message: &[u8], len_max: usize, out: &mut Vec<u8>) -> Result<(), Status> {
    out.clear();
    let mut bounded = GzDecoder::new(message).take(len_max as u64 + 1);
    if let Err(error) = bounded.read_to_end(out) {
        let text = format!("grpc: failed to decompress the received message: {error}");
        return Err(Status::new(Code::Internal, text));
    }
    if out.len() > len_max {
        let text = format!("grpc: received message after decompression larger than max {len_max}");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    Ok(())
}

/// Appends the gzip form of `message` to `out`.
pub(super) fn deflate(message: &[u8], out: &mut Vec<u8>) {
    let mut encoder = GzEncoder::new(out, Compression::default());
    encoder.write_all(message).and_then(|()| encoder.try_finish()).expect("writing to a Vec cannot fail");
}

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
        assert_eq!(inflate(b"not gzip", 100, &mut out).unwrap_err().code, Code::Internal);
    }
}
