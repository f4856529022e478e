//! Text in double quotes as Go's `%q` prints it; some of etcd's answers repeat input that way.

/// Quotes bytes a client sent. Bytes that are not UTF-8 appear as `\xff`.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut quoted = String::with_capacity(bytes.len() + 2);
    quoted.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push(&mut quoted, c);
        }
        for byte in chunk.invalid() {
            quoted.push_str(&format!("\\x{byte:02x}"));
        }
    }
    quoted.push('"');
    quoted
}

fn push(quoted: &mut String, c: char) {
    let short = match c {
        '"' => '"',
        '\\' => '\\',
        '\x07' => 'a',
        '\x08' => 'b',
        '\x0c' => 'f',
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        '\x0b' => 'v',
        c if c.is_ascii_control() => return quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
        c => return quoted.push(c),
    };
    quoted.push('\\');
    quoted.push(short);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        let check = |bytes: &[u8], expected: &str| assert_eq!(quote(bytes), expected);
        check(b"", r#""""#);
        check(b"a b", r#""a b""#);
        check(b"a\"\\\n\x01\x7f", r#""a\"\\\n\x01\x7f""#);
        check("\u{fc}\u{20ac}".as_bytes(), "\"\u{fc}\u{20ac}\"");
        check(b"\xff\xfea", r#""\xff\xfea""#);
    }
}
