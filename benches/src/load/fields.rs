//! Fields of a protobuf message, read where they are: a million events a second are not decoded into objects.

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of `message` in order, each with its number, up to the first that is neither a varint nor has a length.
pub(super) fn fields(message: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    let mut rest = message;
    std::iter::from_fn(move || {
        let key = varint(&mut rest)?;
        let value = varint(&mut rest)?;
        let value = match key & 7 {
            0 => Value::Number(value),
            2 => {
                let (bytes, after) = rest.split_at_checked(usize::try_from(value).ok()?)?;
                rest = after;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        Some((key >> 3, value))
    })
}

/// The last field of that number, if it holds a number.
pub(super) fn number(message: &[u8], field: u64) -> Option<u64> {
    let numbers = fields(message).filter_map(|(of, value)| match value {
        Value::Number(number) if of == field => Some(number),
        _ => None,
    });
    numbers.last()
}

/// The last field of that number, if it holds bytes.
pub(super) fn bytes(message: &[u8], field: u64) -> Option<&[u8]> {
    let all = fields(message).filter_map(|(of, value)| match value {
        Value::Bytes(bytes) if of == field => Some(bytes),
        _ => None,
    });
    all.last()
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use kontiki_tests::proto::etcdserverpb as pb;
    use prost::Message;

    use super::*;

    #[test]
    fn fields_are_those_that_prost_writes() {
        let header = pb::ResponseHeader { revision: 300, ..Default::default() };
        let response = pb::LeaseKeepAliveResponse { header: Some(header), id: -1, ttl: 7 };
        let message = response.encode_to_vec();
        assert_eq!(number(&message, 2), Some(u64::MAX));
        assert_eq!(number(&message, 3), Some(7));
        assert_eq!(number(bytes(&message, 1).unwrap(), 3), Some(300));
        assert_eq!((number(&message, 9), bytes(&message, 9)), (None, None));
    }

    #[test]
    fn what_is_cut_off_ends() {
        let message = pb::LeaseKeepAliveRequest { id: i64::MAX }.encode_to_vec();
        for len in 0..message.len() {
            assert_eq!(fields(&message[..len]).count(), 0, "{len}");
        }
    }
}
