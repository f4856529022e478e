//! The static table (RFC 7541 appendix A), with the class of each name worked out beforehand.

use super::field::FieldName;

/// One predefined field.
#[derive(Clone, Copy, Debug)]
pub struct StaticField {
    /// Class of `text`.
    pub name: FieldName,
    /// The name.
    pub text: &'static str,
    /// The value, empty where the table gives only a name.
    pub value: &'static str,
}

/// Number of entries; dynamic indexes begin one above.
pub const STATIC_COUNT: usize = 61;

/// Entry of a 1-based HPACK index.
pub fn entry(index: usize) -> Option<&'static StaticField> {
    STATIC.get(index.checked_sub(1)?)
}

/// Lowest index whose name is `text`, and whether its value equals `value`.
pub fn find(text: &str, value: &[u8]) -> Option<(usize, bool)> {
    let mut by_name = None;
    for (at, field) in STATIC.iter().enumerate().filter(|(_, field)| field.text == text) {
        if field.value.as_bytes() == value {
            return Some((at + 1, true));
        }
        by_name.get_or_insert((at + 1, false));
    }
    by_name
}

const fn row(name: FieldName, text: &'static str, value: &'static str) -> StaticField {
    StaticField { name, text, value }
}

#[rustfmt::skip]
static STATIC: [StaticField; STATIC_COUNT] = [
    row(FieldName::Authority, ":authority", ""),
    row(FieldName::Method, ":method", "GET"),
    row(FieldName::Method, ":method", "POST"),
    row(FieldName::Path, ":path", "/"),
    row(FieldName::Path, ":path", "/index.html"),
    row(FieldName::Scheme, ":scheme", "http"),
    row(FieldName::Scheme, ":scheme", "https"),
    row(FieldName::Status, ":status", "200"),
    row(FieldName::Status, ":status", "204"),
    row(FieldName::Status, ":status", "206"),
    row(FieldName::Status, ":status", "304"),
    row(FieldName::Status, ":status", "400"),
    row(FieldName::Status, ":status", "404"),
    row(FieldName::Status, ":status", "500"),
    row(FieldName::Other, "accept-charset", ""),
    row(FieldName::Other, "accept-encoding", "gzip, deflate"),
    row(FieldName::Other, "accept-language", ""),
    row(FieldName::Other, "accept-ranges", ""),
    row(FieldName::Other, "accept", ""),
    row(FieldName::Other, "access-control-allow-origin", ""),
    row(FieldName::Other, "age", ""),
    row(FieldName::Other, "allow", ""),
    row(FieldName::Authorization, "authorization", ""),
    row(FieldName::Other, "cache-control", ""),
    row(FieldName::Other, "content-disposition", ""),
    row(FieldName::Other, "content-encoding", ""),
    row(FieldName::Other, "content-language", ""),
    row(FieldName::ContentLength, "content-length", ""),
    row(FieldName::Other, "content-location", ""),
    row(FieldName::Other, "content-range", ""),
    row(FieldName::ContentType, "content-type", ""),
    row(FieldName::Other, "cookie", ""),
    row(FieldName::Other, "date", ""),
    row(FieldName::Other, "etag", ""),
    row(FieldName::Other, "expect", ""),
    row(FieldName::Other, "expires", ""),
    row(FieldName::Other, "from", ""),
    row(FieldName::Host, "host", ""),
    row(FieldName::Other, "if-match", ""),
    row(FieldName::Other, "if-modified-since", ""),
    row(FieldName::Other, "if-none-match", ""),
    row(FieldName::Other, "if-range", ""),
    row(FieldName::Other, "if-unmodified-since", ""),
    row(FieldName::Other, "last-modified", ""),
    row(FieldName::Other, "link", ""),
    row(FieldName::Other, "location", ""),
    row(FieldName::Other, "max-forwards", ""),
    row(FieldName::Other, "proxy-authenticate", ""),
    row(FieldName::Other, "proxy-authorization", ""),
    row(FieldName::Other, "range", ""),
    row(FieldName::Other, "referer", ""),
    row(FieldName::Other, "refresh", ""),
    row(FieldName::Other, "retry-after", ""),
    row(FieldName::Other, "server", ""),
    row(FieldName::Other, "set-cookie", ""),
    row(FieldName::Other, "strict-transport-security", ""),
    row(FieldName::ConnectionSpecific, "transfer-encoding", ""),
    row(FieldName::UserAgent, "user-agent", ""),
    row(FieldName::Other, "vary", ""),
    row(FieldName::Other, "via", ""),
    row(FieldName::Other, "www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_agree_with_names() {
        for field in &STATIC {
            assert_eq!(field.name, FieldName::of(field.text.as_bytes()), "{}", field.text);
        }
    }

    #[test]
    fn lookup_by_index_and_by_text() {
        assert_eq!(entry(2).unwrap().value, "GET");
        assert_eq!(entry(61).unwrap().text, "www-authenticate");
        assert!(entry(0).is_none() && entry(62).is_none());
        assert_eq!(find(":status", b"200"), Some((8, true)));
        assert_eq!(find(":status", b"415"), Some((8, false)));
        assert_eq!(find("grpc-status", b"0"), None);
    }
}
