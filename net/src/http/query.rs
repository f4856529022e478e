//! Parameters of a URL, read as Go's `net/url` does: a pair that cannot be decoded is left out.

use std::borrow::Cow;

/// The values of `name`, in order. A name without `=` has an empty value.
pub fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
    query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')).filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key)? == name).then(|| decode(value)).flatten()
    })
}

/// `+` is a space, `%41` an `A`; `None` if an escape is broken or the result is not UTF-8.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['+', '%']) {
        return Some(text.into());
    }
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::from)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_found_and_decoded() {
        let check = |query: &str, expected: &[&str]| {
            assert_eq!(values(query, "exclude").collect::<Vec<_>>(), expected, "{query}");
        };
        check("", &[]);
        check("exclude=a", &["a"]);
        check("exclude=a&x=y&exclude=b", &["a", "b"]);
        check("exclude", &[""]);
        check("exclude=", &[""]);
        check("Exclude=a&excluded=b", &[]);
        check("%65xclude=a%20b+c", &["a b c"]);
        check("exclude=a=b", &["a=b"]);
        check("exclude=%4&exclude=%zz&exclude=%ff&exclude=c", &["c"]);
        check("exclude=a;b&&exclude=c", &["c"]);
    }
}
