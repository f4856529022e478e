//! What a connection speaks, from its first bytes: the client port serves HTTP/2 and HTTP/1 side by side.
//!
//! The rule is that of etcd's multiplexer (`soheilhy/cmux`, `HTTP1` and `HTTP2`): the HTTP/2 preface, or a request
//! line of HTTP/1 within [`LINE_LEN_MAX`] bytes; whoever says anything else is not answered. Unlike there, a byte that
//! no request line has (a TLS greeting on a plain port) decides at once, so that its sender need not wait.

use crate::h2::frame::PREFACE;

/// Longest request line by which HTTP/1 is recognised.
pub const LINE_LEN_MAX: usize = 4096;

/// What the bytes so far say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Too little yet.
    Open,
    /// HTTP/2, by its preface.
    Http2,
    /// HTTP/1, by its request line.
    Http1,
    /// Neither; the connection is closed.
    Unknown,
}

/// Judges the first bytes of a connection.
pub fn sniff(head: &[u8]) -> Protocol {
    let common = head.len().min(PREFACE.len());
    if head[..common] == PREFACE[..common] {
        return if common == PREFACE.len() { Protocol::Http2 } else { Protocol::Open };
    }
    let head = &head[..head.len().min(LINE_LEN_MAX)];
    match head.iter().position(|byte| *byte == b'\n') {
        Some(end) if is_request_line(head[..end].strip_suffix(b"\r").unwrap_or(&head[..end])) => {
            Protocol::Http1
        }
        None if head.len() < LINE_LEN_MAX && !head.iter().any(is_foreign) => Protocol::Open,
        _ => Protocol::Unknown,
    }
}

/// Whether a line reads `METHOD TARGET HTTP/1.x`.
fn is_request_line(line: &[u8]) -> bool {
    let version = line.splitn(3, |byte| *byte == b' ').nth(2);
    version
        .and_then(|version| version.strip_prefix(b"HTTP/1."))
        .is_some_and(|minor| matches!(minor, [digit] if digit.is_ascii_digit()))
}

/// Bytes that no request line has.
fn is_foreign(byte: &u8) -> bool {
    *byte < b' ' && *byte != b'\r'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_decide() {
        let check =
            |head: &[u8], expected: Protocol| assert_eq!(sniff(head), expected, "{}", head.escape_ascii());
        for len in 0..PREFACE.len() {
            check(&PREFACE[..len], Protocol::Open);
        }
        check(&PREFACE[..], Protocol::Http2);
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04", Protocol::Http2);
        check(b"PRI * HTTP/2.0\r\n\r\nGET", Protocol::Unknown);
        for open in [&b"G"[..], b"GET / HTTP/1.1", b"GET / HTTP/1.1\r", b"POST /a b c"] {
            check(open, Protocol::Open);
        }
        for line in
            [&b"GET / HTTP/1.1\r\n"[..], b"GET / HTTP/1.0\nHost: x", b"P / HTTP/1.1\r\n\r\n", b"  HTTP/1.1\n"]
        {
            check(line, Protocol::Http1);
        }
        for other in [
            &b"INVALID CONNECTION PREFACE\r\n\r\n"[..],
            b"GET / HTTP/2.0\r\n",
            b"GET / HTTP/1.10\r\n",
            b"GET /\r\n",
            b"\r\nGET / HTTP/1.1\r\n",
            // A TLS client greets a plain port.
            b"\x16\x03\x01\x02\x00\x01",
        ] {
            check(other, Protocol::Unknown);
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let line = [b'a'; LINE_LEN_MAX + 1];
        assert_eq!(sniff(&line[..LINE_LEN_MAX - 1]), Protocol::Open);
        assert_eq!(sniff(&line[..LINE_LEN_MAX]), Protocol::Unknown);
        let late = [&line[..], b" / HTTP/1.1\r\n"].concat();
        assert_eq!(sniff(&late), Protocol::Unknown);
    }

    proptest::proptest! {
        #[test]
        fn more_bytes_change_no_verdict(
            head in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
            line in "(GET|PRI)? ?[*/a]{0,3} ?(HTTP/[12].[01])?\r?\n?",
        ) {
            let head = [line.as_bytes(), &head].concat();
            let verdicts: Vec<Protocol> = (0..=head.len()).map(|len| sniff(&head[..len])).collect();
            let decided = verdicts.iter().skip_while(|verdict| **verdict == Protocol::Open);
            let first = decided.clone().next();
            assert!(decided.clone().all(|verdict| Some(verdict) == first), "{verdicts:?}");
        }
    }
}
