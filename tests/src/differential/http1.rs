//! One HTTP/1.1 request on a connection of its own, and the answer with everything in it that a client can see.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::wire::ANSWER_MAX;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// `HTTP/1.1 200 OK`.
    pub status: String,
    /// Header fields, names in lower case, sorted, without `date` and `content-length`.
    pub headers: Vec<(String, String)>,
    /// The body, chunks put together.
    pub body: String,
}

/// Sends `method path` with `headers` and an empty body.
pub fn http1(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> io::Result<HttpAnswer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text += &format!("Host: {address}\r\n");
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if method != "GET" && method != "HEAD" {
        text += "Content-Length: 0\r\n";
    }
    stream.write_all((text + "\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| {
        let text = String::from_utf8_lossy(&bytes);
        io::Error::new(io::ErrorKind::InvalidData, format!("not an HTTP/1.1 answer: {text:?}"))
    })
}

fn parse(bytes: &[u8]) -> Option<HttpAnswer> {
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..split]).ok()?;
    let body = &bytes[split + 4..];
    let (status, fields) = head.split_once("\r\n").unwrap_or((head, ""));
    let mut headers = Vec::new();
    for line in fields.lines() {
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked { dechunk(body)? } else { body.to_vec() };
    let body = String::from_utf8_lossy(&body).into_owned();
    headers.retain(|(name, _)| !["date", "content-length", "transfer-encoding"].contains(&name.as_str()));
    headers.sort();
    Some(HttpAnswer { status: status.to_owned(), headers, body })
}

fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.trim(), 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_parsed() {
        let answer = parse(b"HTTP/1.1 200 OK\r\nB: 2\r\nDate: now\r\nA: 1\r\n\r\nbody").unwrap();
        assert_eq!(answer.status, "HTTP/1.1 200 OK");
        assert_eq!(answer.headers, [("a".into(), "1".into()), ("b".into(), "2".into())]);
        assert_eq!(answer.body, "body");
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap().body, "abcde");
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n"), None);
    }
}
