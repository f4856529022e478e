//! What HTTP/2 itself asks of a request's fields (RFC 9113 §8.1 to §8.3); gRPC's rules come on top elsewhere.

use crate::hpack::{FieldList, FieldName};

/// Checks the fields that open a stream; the promised body length if there is one.
///
/// `None` means malformed: the stream is reset with PROTOCOL_ERROR, without an answer.
pub(super) fn check_head(fields: &FieldList) -> Option<Option<u64>> {
    let mut seen = 0u8;
    let mut regular_seen = false;
    let mut content_length = None;
    for (name, value) in fields.iter() {
        let pseudo = match name {
            FieldName::Method => METHOD,
            FieldName::Scheme => SCHEME,
            FieldName::Path if value.is_empty() => return None,
            FieldName::Path => PATH,
            FieldName::Authority => AUTHORITY,
            _ => {
                check_regular(name, value)?;
                if name == FieldName::ContentLength {
                    let length = parse_length(value)?;
                    if content_length.is_some_and(|earlier| earlier != length) {
                        return None;
                    }
                    content_length = Some(length);
                }
                regular_seen = true;
                continue;
            }
        };
        if regular_seen || seen & pseudo != 0 {
            return None;
        }
        seen |= pseudo;
    }
    (seen & REQUIRED == REQUIRED).then_some(content_length)
}

/// Checks the fields that end a stream: no pseudo fields (§8.1). `None` means malformed.
pub(super) fn check_trailers(fields: &FieldList) -> Option<()> {
    fields.iter().try_for_each(|(name, value)| match name {
        FieldName::Method | FieldName::Scheme | FieldName::Path | FieldName::Authority => None,
        _ => check_regular(name, value),
    })
}

fn check_regular(name: FieldName, value: &[u8]) -> Option<()> {
    match name {
        FieldName::Malformed
        | FieldName::UnknownPseudo
        | FieldName::ConnectionSpecific
        | FieldName::Status => None,
        FieldName::Te if value != b"trailers" => None,
        _ => Some(()),
    }
}

fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

const METHOD: u8 = 1;
const SCHEME: u8 = 2;
const PATH: u8 = 4;
const AUTHORITY: u8 = 8;
const REQUIRED: u8 = METHOD | SCHEME | PATH;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::Decoder;

    fn fields(lines: &[(&str, &str)]) -> FieldList {
        let mut block = Vec::new();
        for (name, value) in lines {
            block.extend_from_slice(&[0, name.len() as u8]);
            block.extend_from_slice(name.as_bytes());
            block.push(value.len() as u8);
            block.extend_from_slice(value.as_bytes());
        }
        let mut list = FieldList::new(1 << 16);
        Decoder::new().decode(&block, &mut list).unwrap();
        list
    }

    #[test]
    fn heads() {
        let good = [(":method", "POST"), (":scheme", "http"), (":path", "/a/b")];
        let check = |more: &[(&str, &str)], expected: Option<Option<u64>>| {
            let lines: Vec<(&str, &str)> = good.iter().chain(more).copied().collect();
            assert_eq!(check_head(&fields(&lines)), expected, "{more:?}");
        };
        check(&[], Some(None));
        check(&[(":authority", "x"), ("te", "trailers"), ("content-length", "12")], Some(Some(12)));
        check(&[("content-length", "12"), ("content-length", "13")], None);
        check(&[("content-length", "+1")], None);
        check(&[("te", "gzip")], None);
        check(&[("connection", "close")], None);
        check(&[("x", "y"), (":authority", "x")], None);
        check(&[(":path", "/twice")], None);
        check(&[(":status", "200")], None);
        check(&[(":protocol", "x")], None);
        check(&[("Upper", "x")], None);
        assert_eq!(check_head(&fields(&good[..2])), None);
        assert_eq!(check_head(&fields(&[good[0], good[1], (":path", "")])), None);
    }

    #[test]
    fn trailers() {
        assert_eq!(check_trailers(&fields(&[("x", "y")])), Some(()));
        assert_eq!(check_trailers(&fields(&[(":method", "POST")])), None);
        assert_eq!(check_trailers(&fields(&[("connection", "close")])), None);
    }
}
