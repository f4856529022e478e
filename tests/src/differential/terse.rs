//! Requests as text for people: what `Debug` says, without the fields that hold their default.

use std::fmt::Debug;

const DEFAULTS: [&str; 6] = ["0", "false", "b\"\"", "[]", "None", "Key"];

/// Longer values are cut.
const FIELD_MAX: usize = 100;

/// `value` without default fields.
pub fn terse(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, field, after)) = next_field(rest) {
        out.push_str(before);
        if is_default(field) {
            rest = after.strip_prefix(", ").unwrap_or(after);
        } else {
            push_short(&mut out, field);
            rest = after;
        }
    }
    out.push_str(rest);
    out.replace(", }", " }").replace("{ }", "{}").replace("{  }", "{}").replace(",  }", " }")
}

/// The next `name: value` whose value is a plain word, what is before it, and what follows.
fn next_field(text: &str) -> Option<(&str, &str, &str)> {
    let colon = text.find(": ")?;
    let start = text[..colon].rfind([' ', '(', '{']).map_or(0, |at| at + 1);
    let value = &text[colon + 2..];
    let len = value.find([',', ' ', ')', '}']).unwrap_or(value.len());
    let end = colon + 2 + len;
    Some((&text[..start], &text[start..end], &text[end..]))
}

fn push_short(out: &mut String, field: &str) {
    match field.char_indices().nth(FIELD_MAX) {
        Some((end, _)) => out.push_str(&format!("{}...\" ({} long)", &field[..end], field.len())),
        None => out.push_str(field),
    }
}

fn is_default(field: &str) -> bool {
    field.split_once(": ").is_some_and(|(_, value)| DEFAULTS.contains(&value))
}

#[cfg(test)]
mod tests {
    use super::super::build::{get, op, put, txn};
    use super::super::call::Call;
    use super::*;

    #[test]
    fn defaults_are_left_out() {
        let check = |call: Call, expected: &str| assert_eq!(terse(&call), expected);
        check(get("a").into(), r#"Range(RangeRequest { key: b"a" })"#);
        check(put("a", "b").into(), r#"Put(PutRequest { key: b"a", value: b"b" })"#);
        check(txn([], [], []).into(), "Txn(TxnRequest {})");
        check(
            txn([], [op(put("k", "v"))], []).into(),
            r#"Txn(TxnRequest { success: [RequestOp { request: Some(RequestPut(PutRequest { key: b"k", value: b"v" })) }] })"#,
        );
    }
}
