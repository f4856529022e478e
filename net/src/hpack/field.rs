//! Field names as small values, and the list a header block decodes into.
//!
//! A name is classified once, when its bytes first arrive; the dynamic table keeps the class, so a request whose
//! fields are all indexed is read without comparing a single string. The list keeps everything in one reused buffer.

/// A field name a gRPC server acts upon, or the class of one it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldName {
    /// `:method`
    Method,
    /// `:scheme`
    Scheme,
    /// `:path`
    Path,
    /// `:authority`
    Authority,
    /// `host`, which some clients send instead of `:authority`
    Host,
    /// `:status`, legal in responses only
    Status,
    /// `content-type`
    ContentType,
    /// `content-length`
    ContentLength,
    /// `te`
    Te,
    /// `user-agent`
    UserAgent,
    /// `grpc-timeout`
    GrpcTimeout,
    /// `grpc-encoding`
    GrpcEncoding,
    /// `grpc-accept-encoding`
    GrpcAcceptEncoding,
    /// `hasleader`
    HasLeader,
    /// `token`
    Token,
    /// `authorization`
    Authorization,
    /// `client-api-version`
    ClientApiVersion,
    /// `grpcgateway-accept`
    GatewayAccept,
    /// A well-formed name nobody here asks for.
    Other,
    /// `connection` and its kin, which HTTP/2 forbids (RFC 9113 §8.2.2).
    ConnectionSpecific,
    /// A name that starts with a colon and is not one of the five above.
    UnknownPseudo,
    /// Upper case, empty or otherwise illegal in name or value (RFC 9113 §8.2.1): poisons the whole request.
    Malformed,
}

impl FieldName {
    /// Classifies the bytes of a name.
    pub fn of(name: &[u8]) -> FieldName {
        match name {
            b":method" => FieldName::Method,
            b":scheme" => FieldName::Scheme,
            b":path" => FieldName::Path,
            b":authority" => FieldName::Authority,
            b"host" => FieldName::Host,
            b":status" => FieldName::Status,
            b"content-type" => FieldName::ContentType,
            b"content-length" => FieldName::ContentLength,
            b"te" => FieldName::Te,
            b"user-agent" => FieldName::UserAgent,
            b"grpc-timeout" => FieldName::GrpcTimeout,
            b"grpc-encoding" => FieldName::GrpcEncoding,
            b"grpc-accept-encoding" => FieldName::GrpcAcceptEncoding,
            b"hasleader" => FieldName::HasLeader,
            b"token" => FieldName::Token,
            b"authorization" => FieldName::Authorization,
            b"client-api-version" => FieldName::ClientApiVersion,
            b"grpcgateway-accept" => FieldName::GatewayAccept,
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
                FieldName::ConnectionSpecific
            }
            [b':', ..] => FieldName::UnknownPseudo,
            _ if is_token(name) => FieldName::Other,
            _ => FieldName::Malformed,
        }
    }

    /// The name itself when the class stands for exactly one; such names are not stored with their fields.
    pub fn text(self) -> Option<&'static str> {
        Some(match self {
            FieldName::Method => ":method",
            FieldName::Scheme => ":scheme",
            FieldName::Path => ":path",
            FieldName::Authority => ":authority",
            FieldName::Host => "host",
            FieldName::Status => ":status",
            FieldName::ContentType => "content-type",
            FieldName::ContentLength => "content-length",
            FieldName::Te => "te",
            FieldName::UserAgent => "user-agent",
            FieldName::GrpcTimeout => "grpc-timeout",
            FieldName::GrpcEncoding => "grpc-encoding",
            FieldName::GrpcAcceptEncoding => "grpc-accept-encoding",
            FieldName::HasLeader => "hasleader",
            FieldName::Token => "token",
            FieldName::Authorization => "authorization",
            FieldName::ClientApiVersion => "client-api-version",
            FieldName::GatewayAccept => "grpcgateway-accept",
            FieldName::Other
            | FieldName::ConnectionSpecific
            | FieldName::UnknownPseudo
            | FieldName::Malformed => {
                return None;
            }
        })
    }
}

/// Whether `name` consists of the token characters of RFC 9110 §5.6.2, without upper case.
fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| {
        matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-'
                | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
    })
}

/// Whether `value` is free of control characters other than tab (RFC 9110 §5.5); Go's framer asks for the same.
pub fn is_value(value: &[u8]) -> bool {
    value.iter().all(|&b| (b >= 0x20 && b != 0x7f) || b == b'\t')
}

/// The fields of one header block, in order, in one buffer that is reused from block to block.
///
/// Once the decoded size (RFC 7541 §4.1 accounting) passes the limit nothing more is kept and [`Self::overflowed`]
/// turns true; the decoder goes on, because its table must stay in step with the peer's.
#[derive(Debug)]
pub struct FieldList {
    /// Names (of fields whose class has no text) and values, back to back.
    bytes: Vec<u8>,
    fields: Vec<FieldAt>,
    size_bytes: usize,
    size_bytes_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct FieldAt {
    name: FieldName,
    start: u32,
    value_start: u32,
    end: u32,
}

impl FieldList {
    /// An empty list that keeps at most `size_bytes_max` bytes of fields.
    pub fn new(size_bytes_max: usize) -> FieldList {
        FieldList { bytes: Vec::new(), fields: Vec::new(), size_bytes: 0, size_bytes_max }
    }

    /// Forgets the fields, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.size_bytes = 0;
    }

    /// Whether the block was larger than the list may hold; the fields are then incomplete.
    pub fn overflowed(&self) -> bool {
        self.size_bytes > self.size_bytes_max
    }

    /// Class and value of each field, in the order of the block.
    pub fn iter(&self) -> impl Iterator<Item = (FieldName, &[u8])> {
        self.fields.iter().map(|at| (at.name, &self.bytes[at.value_start as usize..at.end as usize]))
    }

    /// Name and value of each field as bytes; slower than [`Self::iter`], for tests and tools.
    pub fn iter_text(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|at| {
            let stored = &self.bytes[at.start as usize..at.value_start as usize];
            let name = at.name.text().map_or(stored, str::as_bytes);
            (name, &self.bytes[at.value_start as usize..at.end as usize])
        })
    }

    /// Adds a field; `text` is its name as bytes.
    pub(super) fn push(&mut self, name: FieldName, text: &[u8], value: &[u8]) {
        self.size_bytes += text.len() + value.len() + super::ENTRY_OVERHEAD_BYTES;
        if self.overflowed() {
            return;
        }
        let start = self.bytes.len() as u32;
        if name.text().is_none() {
            self.bytes.extend_from_slice(text);
        }
        let value_start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.fields.push(FieldAt { name, start, value_start, end: self.bytes.len() as u32 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_classified() {
        let check =
            |name: &str, expected: FieldName| assert_eq!(FieldName::of(name.as_bytes()), expected, "{name}");
        check(":method", FieldName::Method);
        check("grpc-timeout", FieldName::GrpcTimeout);
        check("x-custom-1", FieldName::Other);
        check("trace-bin", FieldName::Other);
        check("transfer-encoding", FieldName::ConnectionSpecific);
        check(":protocol", FieldName::UnknownPseudo);
        check("Token", FieldName::Malformed);
        check("a b", FieldName::Malformed);
        check("", FieldName::Malformed);
    }

    #[test]
    fn known_names_survive_the_round_trip() {
        for name in
            ["te", "token", "authorization", "hasleader", "client-api-version", "grpcgateway-accept", ":path"]
        {
            assert_eq!(FieldName::of(name.as_bytes()).text(), Some(name));
        }
    }

    #[test]
    fn an_overflowing_list_stays_small() {
        let mut list = FieldList::new(100);
        for _ in 0..1000 {
            list.push(FieldName::Other, b"name", b"0123456789");
        }
        assert!(list.overflowed());
        assert_eq!(list.iter().count(), 2);
        assert!(list.bytes.len() <= 100);
        list.clear();
        assert!(!list.overflowed());
    }

    #[test]
    fn values_without_controls_pass() {
        assert!(is_value(b"plain \t text \xff"));
        for bad in [&b"a\0"[..], b"a\r\nb", b"\x7f"] {
            assert!(!is_value(bad));
        }
    }
}
