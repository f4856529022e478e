//! What the fields of a request say to a gRPC server, judged in grpc-go's order (`operateHeaders` of its
//! http2_server.go, then `handleStream` of its server.go) and with its texts.

use super::status::{Code, Status};
use crate::hpack::{FieldList, FieldName};
use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

/// A method as the caller's route table numbers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MethodId(pub u16);

/// How many messages a method takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodKind {
    /// Exactly one: unary and server-streaming methods.
    OneMessage,
    /// Any number: client-streaming and bidirectional methods.
    Streaming,
}

/// What the caller knows of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A method it serves.
    Method(MethodId, MethodKind),
    /// The service exists, the method does not.
    UnknownMethod,
    /// Not even the service exists.
    UnknownService,
}

/// The caller's route table: service and method, as in `etcdserverpb.KV` and `Put`.
pub type Route = fn(service: &str, method: &str) -> Lookup;

/// The fields of a request that outlive its header block.
#[derive(Debug, Default)]
pub struct Metadata {
    has_leader: bool,
    from_gateway: bool,
    /// Requests may be compressed with gzip and answers shall be.
    pub(super) gzip: bool,
    pub(super) timeout: Option<Duration>,
    /// Texts of the ranges below.
    pub(super) text: Vec<u8>,
    token: Option<Range<usize>>,
    authorization: Option<Range<usize>>,
    client_api_version: Option<Range<usize>>,
    /// The response's content type where it is not plain `application/grpc`.
    content_type: Option<Range<usize>>,
}

impl Metadata {
    /// The client wants an error rather than service by a member without leader (`hasleader: true`).
    pub fn has_leader(&self) -> bool {
        self.has_leader
    }

    /// The call came through the JSON gateway: a certificate's name says nothing about the user then.
    pub fn from_gateway(&self) -> bool {
        self.from_gateway
    }

    /// The auth token: `token`, else `authorization`, without a leading `Bearer `.
    pub fn auth_token(&self) -> Option<&[u8]> {
        let token = &self.text[self.token.clone().or(self.authorization.clone())?];
        Some(token.strip_prefix(b"Bearer ").unwrap_or(token))
    }

    /// `client-api-version` as sent; the caller refuses what is not UTF-8.
    pub fn client_api_version(&self) -> Option<&[u8]> {
        Some(&self.text[self.client_api_version.clone()?])
    }

    pub(super) fn content_type(&self) -> &[u8] {
        match &self.content_type {
            Some(range) => &self.text[range.clone()],
            None => CONTENT_TYPE,
        }
    }

    fn clear(&mut self) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        *self = Metadata { text, ..Metadata::default() };
    }

    fn keep(&mut self, value: &[u8]) -> Option<Range<usize>> {
        let start = self.text.len();
        self.text.extend_from_slice(value);
        Some(start..self.text.len())
    }

    /// Takes a content type over; false when it is not gRPC's.
    fn accept_content_type(&mut self, value: &[u8]) -> bool {
        if value == CONTENT_TYPE {
            return true;
        }
        let lower = value.to_ascii_lowercase();
        match lower.strip_prefix(CONTENT_TYPE) {
            Some([]) => true,
            // The subtype is echoed behind a plus, whichever separator it came with.
            Some([b'+' | b';', subtype @ ..]) => {
                if !subtype.is_empty() {
                    self.content_type = self.keep(&[CONTENT_TYPE, b"+", subtype].concat());
                }
                true
            }
            _ => false,
        }
    }
}

/// A request refused by its fields, with the HTTP status that goes with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) http_status: &'static [u8],
    pub(super) status: Status,
    /// Whoever asks is no gRPC client but, by all signs, a person with a browser or curl: the answer has a body.
    pub(super) explain: bool,
}

/// Reads the fields of a request into `metadata`, replacing what it held, and finds its method.
pub(super) fn read(
    fields: &FieldList,
    route: Route,
    metadata: &mut Metadata,
) -> Result<(MethodId, MethodKind), Refusal> {
    metadata.clear();
    let (mut method, mut path, mut encoding): (&[u8], &[u8], &[u8]) = (b"", b"", b"");
    let (mut is_grpc, mut other_content_type): (bool, &[u8]) = (false, b"");
    let mut bad_timeout = None;
    let (mut authority_count, mut host_count) = (0, 0);
    for (name, value) in fields.iter() {
        match name {
            FieldName::Method => method = value,
            FieldName::Path => path = value,
            FieldName::Authority => authority_count += 1,
            FieldName::Host => host_count += 1,
            FieldName::ContentType if metadata.accept_content_type(value) => is_grpc = true,
            FieldName::ContentType => other_content_type = value,
            FieldName::GrpcEncoding => encoding = value,
            FieldName::GrpcTimeout => match parse_timeout(value) {
                Ok(timeout) => metadata.timeout = Some(timeout),
                Err(text) => bad_timeout = Some(text),
            },
            FieldName::HasLeader => metadata.has_leader |= value == b"true",
            FieldName::GatewayAccept => metadata.from_gateway = true,
            FieldName::Token if metadata.token.is_none() => metadata.token = metadata.keep(value),
            FieldName::Authorization if metadata.authorization.is_none() => {
                metadata.authorization = metadata.keep(value);
            }
            FieldName::ClientApiVersion if metadata.client_api_version.is_none() => {
                metadata.client_api_version = metadata.keep(value);
            }
            _ => {}
        }
    }
    if authority_count > 1 || host_count > 1 {
        let text = format!(
            "num values of :authority: {authority_count}, num values of host: {host_count}, both must only have 1 value \
             as per HTTP/2 spec"
        );
        return Err(refusal(b"400", Code::Internal, text));
    }
    if !is_grpc {
        let text = format!("invalid gRPC request content-type {}", quoted(other_content_type));
        let explain = method == b"GET" && other_content_type.is_empty();
        return Err(Refusal { explain, ..refusal(b"415", Code::InvalidArgument, text) });
    }
    if let Some(text) = bad_timeout {
        return Err(refusal(b"400", Code::Internal, format!("malformed grpc-timeout: {text}")));
    }
    if method != b"POST" {
        let method = quoted(method);
        let text = format!("Received a HEADERS frame with :method {method} which should be POST");
        return Err(refusal(b"405", Code::Internal, text));
    }
    let found = find_method(path, route)?;
    metadata.gzip = match encoding {
        b"" | b"identity" => false,
        b"gzip" => true,
        other => {
            let text = format!("grpc: Decompressor is not installed for grpc-encoding {}", quoted(other));
            return Err(refusal(b"200", Code::Unimplemented, text));
        }
    };
    Ok(found)
}

fn find_method(path: &[u8], route: Route) -> Result<(MethodId, MethodKind), Refusal> {
    let unimplemented = |text| refusal(b"200", Code::Unimplemented, text);
    let name = path.strip_prefix(b"/").unwrap_or(path);
    let Some(slash) = name.iter().rposition(|&byte| byte == b'/') else {
        return Err(unimplemented(format!("malformed method name: {}", quoted(path))));
    };
    let (service, method) = (&name[..slash], &name[slash + 1..]);
    let lookup = match (std::str::from_utf8(service), std::str::from_utf8(method)) {
        (Ok(service), Ok(method)) => route(service, method),
        _ => Lookup::UnknownService,
    };
    if let Lookup::Method(id, kind) = lookup {
        return Ok((id, kind));
    }
    let (service, method) = (String::from_utf8_lossy(service), String::from_utf8_lossy(method));
    Err(unimplemented(match lookup {
        Lookup::UnknownMethod => format!("unknown method {method} for service {service}"),
        _ => format!("unknown service {service}"),
    }))
}

fn refusal(http_status: &'static [u8], code: Code, text: String) -> Refusal {
    Refusal { http_status, status: Status::new(code, text), explain: false }
}

/// Parses `grpc-timeout`: up to eight digits and a unit. Errors are grpc-go's texts.
fn parse_timeout(value: &[u8]) -> Result<Duration, String> {
    let fail = |what: &str| Err(format!("transport: timeout {what}: {}", quoted(value)));
    let Some((unit, digits)) = value.split_last().filter(|(_, digits)| !digits.is_empty()) else {
        return fail("string is too short");
    };
    if value.len() > TIMEOUT_LEN_MAX {
        return fail("string is too long");
    }
    let nanos = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1u64,
        _ => return fail("unit is not recognized"),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(format!("strconv.ParseUint: parsing {}: invalid syntax", quoted(digits)));
    }
    let count = digits.iter().fold(0u64, |count, digit| count * 10 + u64::from(digit - b'0'));
    Ok(Duration::from_nanos(count.saturating_mul(nanos).min(i64::MAX as u64)))
}

/// Go's `%q`: quoted, with backslash escapes for what is not printable.
fn quoted(bytes: &[u8]) -> Cow<'static, str> {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\t' => out.push_str("\\t"),
                c if (c as u32) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", c as u32)),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    Cow::Owned(out)
}

/// The content type of gRPC, with or without a subtype behind it.
const CONTENT_TYPE: &[u8] = b"application/grpc";
/// Eight digits and a unit.
const TIMEOUT_LEN_MAX: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::{Decoder, Encoder};

    fn route(service: &str, method: &str) -> Lookup {
        match (service, method) {
            ("a.KV", "Put") => Lookup::Method(MethodId(7), MethodKind::OneMessage),
            ("a.KV", _) => Lookup::UnknownMethod,
            _ => Lookup::UnknownService,
        }
    }

    fn read_lines(lines: &[(&'static str, &str)]) -> (Result<(MethodId, MethodKind), Refusal>, Metadata) {
        let fields: Vec<(&str, &[u8])> =
            lines.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let (mut block, mut list) = (Vec::new(), FieldList::new(1 << 16));
        Encoder::new().encode(&fields, &mut block);
        Decoder::new().decode(&block, &mut list).unwrap();
        let mut metadata = Metadata::default();
        (read(&list, route, &mut metadata), metadata)
    }

    const GOOD: [(&str, &str); 3] =
        [(":method", "POST"), (":path", "/a.KV/Put"), ("content-type", "application/grpc")];

    #[test]
    fn a_full_request() {
        let more = [
            ("grpc-timeout", "250m"),
            ("grpc-encoding", "gzip"),
            ("hasleader", "true"),
            ("authorization", "Bearer second"),
            ("token", "first"),
            ("client-api-version", "3.6"),
        ];
        let (found, metadata) = read_lines(&[&GOOD[..], &more[..]].concat());
        assert_eq!(found.unwrap(), (MethodId(7), MethodKind::OneMessage));
        assert_eq!(metadata.timeout, Some(Duration::from_millis(250)));
        assert!(metadata.gzip && metadata.has_leader() && !metadata.from_gateway());
        assert_eq!(metadata.auth_token(), Some(&b"first"[..]));
        assert_eq!(metadata.client_api_version(), Some(&b"3.6"[..]));
        let (_, metadata) =
            read_lines(&[&GOOD[..], &[("authorization", "Bearer x"), ("grpcgateway-accept", "")]].concat());
        assert_eq!((metadata.auth_token(), metadata.from_gateway()), (Some(&b"x"[..]), true));
    }

    #[test]
    fn refusals() {
        let check = |at: usize, line: (&'static str, &'static str), http: &str, code: Code, text: &str| {
            let mut lines = GOOD.to_vec();
            if at < 3 {
                lines[at] = line
            } else {
                lines.push(line)
            }
            let expected = refusal(http.to_owned().leak().as_bytes(), code, text.to_owned());
            assert_eq!(read_lines(&lines).0, Err(expected));
        };
        let unimplemented = Code::Unimplemented;
        check(
            2,
            ("content-type", "application/json"),
            "415",
            Code::InvalidArgument,
            "invalid gRPC request content-type \"application/json\"",
        );
        check(
            2,
            ("content-type", "application/grpcx"),
            "415",
            Code::InvalidArgument,
            "invalid gRPC request content-type \"application/grpcx\"",
        );
        check(2, ("x", ""), "415", Code::InvalidArgument, "invalid gRPC request content-type \"\"");
        let explained = |lines: &[(&'static str, &str)]| read_lines(lines).0.unwrap_err().explain;
        assert!(explained(&[(":method", "GET"), (":path", "/health")]));
        assert!(!explained(&[(":method", "GET"), (":path", "/health"), ("content-type", "text/html")]));
        assert!(!explained(&[(":method", "HEAD"), (":path", "/health")]));
        check(
            0,
            (":method", "GET"),
            "405",
            Code::Internal,
            "Received a HEADERS frame with :method \"GET\" which should be POST",
        );
        check(1, (":path", "/nopath"), "200", unimplemented, "malformed method name: \"/nopath\"");
        check(1, (":path", "/a.KV/Nope"), "200", unimplemented, "unknown method Nope for service a.KV");
        check(1, (":path", "/foo.Bar/X"), "200", unimplemented, "unknown service foo.Bar");
        check(
            3,
            ("grpc-encoding", "snappy"),
            "200",
            unimplemented,
            "grpc: Decompressor is not installed for grpc-encoding \"snappy\"",
        );
        check(
            3,
            ("grpc-timeout", "xx"),
            "400",
            Code::Internal,
            "malformed grpc-timeout: transport: timeout unit is not recognized: \"xx\"",
        );
        check(
            3,
            ("grpc-timeout", "S"),
            "400",
            Code::Internal,
            "malformed grpc-timeout: transport: timeout string is too short: \"S\"",
        );
        check(
            3,
            ("grpc-timeout", "123456789S"),
            "400",
            Code::Internal,
            "malformed grpc-timeout: transport: timeout string is too long: \"123456789S\"",
        );
        check(
            3,
            ("grpc-timeout", "-xS"),
            "400",
            Code::Internal,
            "malformed grpc-timeout: strconv.ParseUint: parsing \"-x\": invalid syntax",
        );
    }

    #[test]
    fn content_types_are_echoed() {
        let check = |sent: &str, expected: &str| {
            let mut metadata = Metadata::default();
            assert!(metadata.accept_content_type(sent.as_bytes()), "{sent}");
            assert_eq!(metadata.content_type(), expected.as_bytes());
        };
        check("application/grpc", "application/grpc");
        check("Application/gRPC", "application/grpc");
        check("application/grpc+proto", "application/grpc+proto");
        check("application/grpc+json", "application/grpc+json");
        check("application/grpc; charset=x", "application/grpc+ charset=x");
    }

    #[test]
    fn timeouts() {
        let check = |text: &str, expected: Duration| assert_eq!(parse_timeout(text.as_bytes()), Ok(expected));
        check("1n", Duration::from_nanos(1));
        check("5u", Duration::from_micros(5));
        check("99999999m", Duration::from_millis(99_999_999));
        check("10S", Duration::from_secs(10));
        check("2M", Duration::from_secs(120));
        check("99999999H", Duration::from_nanos(i64::MAX as u64));
    }

    #[test]
    fn go_quoting() {
        let check = |bytes: &[u8], expected: &str| assert_eq!(quoted(bytes), expected);
        check(b"a\"b\\", r#""a\"b\\""#);
        check(b"\t\x01\xff", r#""\t\x01\xff""#);
    }
}
