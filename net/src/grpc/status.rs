//! The outcome of a call: a code and a text (gRPC's `status.proto`, and "PROTOCOL-HTTP2.md" for its wire form).

use std::borrow::Cow;

/// The codes are the engine's: its table of errors names them.
pub use engine::error::Code;

/// The value of `grpc-status`.
pub fn digits(code: Code) -> &'static [u8] {
    const DIGITS: [&str; 17] =
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];
    DIGITS[code as usize].as_bytes()
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// For retry logic.
    pub code: Code,
    /// For people, and for etcd's clients, which recognise errors by it.
    pub message: Cow<'static, str>,
}

impl Status {
    /// Success.
    pub const OK: Status = Status { code: Code::Ok, message: Cow::Borrowed("") };

    /// A status with a text.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Status {
        Status { code, message: message.into() }
    }
}

/// The value of `grpc-message`: everything but printable ASCII, and `%`, becomes `%XX`.
pub fn percent_encoded(message: &str) -> Cow<'_, [u8]> {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'%';
    let bytes = message.as_bytes();
    if bytes.iter().all(plain) {
        return Cow::Borrowed(bytes);
    }
    let mut encoded = Vec::with_capacity(bytes.len() + 16);
    for byte in bytes {
        if plain(byte) {
            encoded.push(*byte);
        } else {
            encoded.extend_from_slice(&[b'%', hex(byte >> 4), hex(byte & 0xf)]);
        }
    }
    Cow::Owned(encoded)
}

fn hex(nibble: u8) -> u8 {
    b"0123456789ABCDEF"[nibble as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        let check = |text: &str, expected: &str| assert_eq!(percent_encoded(text), expected.as_bytes());
        check("", "");
        check("etcdserver: key not found", "etcdserver: key not found");
        check("50% \"off\"", "50%25 \"off\"");
        check("a\nb\u{7f}", "a%0Ab%7F");
        check("é", "%C3%A9");
    }

    #[test]
    fn digits() {
        assert_eq!((super::digits(Code::Ok), super::digits(Code::Unauthenticated)), (&b"0"[..], &b"16"[..]));
    }
}
