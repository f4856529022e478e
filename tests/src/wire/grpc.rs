//! gRPC over HTTP/2, from the client's side: request headers, five-byte message prefixes, statuses.

use std::io::{self, Read, Write};
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// Bound on a gunzipped message: a judge should not be the one that a bomb hits.
const MESSAGE_SIZE_MAX: u64 = 256 << 20;

/// What a client sends on one stream: any headers, any bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Header fields in order, pseudo-headers first.
    pub headers: Vec<(String, String)>,
    /// DATA bytes. END_STREAM is on the last DATA frame, an empty one if there are no bytes: on a HEADERS frame
    /// grpc-go does not notice it and waits for a message until the deadline.
    pub body: Vec<u8>,
    /// Whether the client says that it is done.
    pub end: bool,
}

impl Request {
    /// A well-formed unary call.
    pub fn grpc(path: &str, message: &[u8]) -> Request {
        let headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Request { headers: headers.into(), body: frame_message(message, false), end: true }
    }

    /// The same with header `name` replaced, or added if it is new.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Request {
        match self.headers.iter_mut().find(|(known, _)| known == name) {
            Some(field) => value.clone_into(&mut field.1),
            None => self.headers.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// The same without header `name`.
    #[must_use]
    pub fn without(mut self, name: &str) -> Request {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// The same with these DATA bytes instead.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self
    }

    /// The same with a deadline that the server sees.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Request {
        self.with("grpc-timeout", &format!("{}m", timeout.as_millis()))
    }
}

/// `message` behind its prefix (flag, big-endian length).
pub fn frame_message(message: &[u8], compressed: bool) -> Vec<u8> {
    let mut framed = Vec::with_capacity(message.len() + 5);
    framed.push(u8::from(compressed));
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    framed
}

/// `message` as gzip.
pub fn compress(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message).and_then(|()| encoder.finish()).expect("a Vec takes every byte")
}

/// One message of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Whether its compressed flag was set.
    pub compressed: bool,
    /// Its bytes, decompressed.
    pub bytes: Vec<u8>,
}

/// Splits DATA bytes into messages. Errors: bytes that end within one, an unknown flag, broken gzip.
pub fn messages(mut body: &[u8]) -> io::Result<Vec<Message>> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let mut messages = Vec::new();
    while let Some((&[flag, a, b, c, d], rest)) = body.split_first_chunk() {
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        let bytes =
            rest.get(..len).ok_or_else(|| invalid(format!("{len} announced, {} there", rest.len())))?;
        let bytes = match flag {
            0 => bytes.to_vec(),
            1 => decompress(bytes)?,
            other => return Err(invalid(format!("message flag {other}"))),
        };
        messages.push(Message { compressed: flag == 1, bytes });
        body = &rest[len..];
    }
    if !body.is_empty() {
        return Err(invalid(format!("{} bytes after the last message", body.len())));
    }
    Ok(messages)
}

fn decompress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    GzDecoder::new(bytes).take(MESSAGE_SIZE_MAX).read_to_end(&mut out)?;
    Ok(out)
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The gRPC code number.
    pub code: i32,
    /// The text, percent-decoded.
    pub message: String,
}

impl Status {
    /// Reads `grpc-status` and `grpc-message` from a header block that has them.
    pub fn from_headers(headers: &[(String, String)]) -> Option<Status> {
        let field =
            |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let code = field("grpc-status")?.parse().ok()?;
        Some(Status { code, message: percent_decode(field("grpc-message").unwrap_or_default()) })
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%').then(|| text_byte(after)).flatten();
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn text_byte(hex: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(hex.get(..2)?).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_split_and_decompressed() {
        let mut body = frame_message(b"one", false);
        body.extend(frame_message(&compress(b"two"), true));
        let found = messages(&body).unwrap();
        assert_eq!(found[0], Message { compressed: false, bytes: b"one".to_vec() });
        assert_eq!(found[1], Message { compressed: true, bytes: b"two".to_vec() });
        assert!(messages(&body[..body.len() - 1]).is_err());
        assert!(messages(b"\0\0").is_err());
        assert!(messages(&[9, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn statuses_are_percent_decoded() {
        let check = |message: &str, expected: &str| {
            let headers = [("grpc-status", "3"), ("grpc-message", message)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
            let status = Status::from_headers(&headers).unwrap();
            assert_eq!(status, Status { code: 3, message: expected.to_owned() });
        };
        check("", "");
        check("plain text", "plain text");
        check("100%25", "100%");
        check("%C3%A9", "é");
        check("50%", "50%");
        check("%zz", "%zz");
    }
}
