//! Recorded HPACK stories of other encoders (see `fixtures/hpack/README.md`) decode to the fields they were made of,
//! and our encoder's form of those fields decodes back.

use net::hpack::encode::Field;
use net::hpack::{Decoder, Encoder, FieldList};
use std::path::Path;

#[test]
fn recorded_stories_decode() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hpack");
    let mut stories = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            check(&path.display().to_string(), &std::fs::read_to_string(&path).unwrap());
            stories += 1;
        }
    }
    assert!(stories >= 5, "{stories} stories found");
}

fn check(name: &str, story: &str) {
    let (mut decoder, mut encoder, mut mirror) = (Decoder::new(), Encoder::new(), Decoder::new());
    let mut fields = FieldList::new(1 << 20);
    for case in story.split("> ").skip(1) {
        let (wire, expected) = case.split_once('\n').unwrap();
        decoder.decode(&hex(wire), &mut fields).unwrap();
        assert_eq!(lines(&fields), expected, "{name}: {wire}");
        let again: Vec<(String, Vec<u8>)> = fields
            .iter_text()
            .map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec()))
            .collect();
        let mut block = Vec::new();
        let as_fields: Vec<Field<'_>> =
            again.iter().map(|(name, value)| (&*name.clone().leak(), &value[..])).collect();
        encoder.encode(&as_fields, &mut block);
        mirror.decode(&block, &mut fields).unwrap();
        assert_eq!(lines(&fields), expected, "{name}: encoded again");
    }
}

fn lines(fields: &FieldList) -> String {
    fields
        .iter_text()
        .map(|(name, value)| {
            format!("{}: {}\n", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        })
        .collect()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}
