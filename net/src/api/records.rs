//! Stored records as answers see them: the wire bytes of a `KeyValue`, or word that the disk has to be asked first.

use engine::types::Seq;

use crate::pb::wire::Fields;

/// Field of `mvccpb.KeyValue` that holds the value.
const VALUE_FIELD: i32 = 5;

/// Where answers get their records from; the history implements it.
pub trait Records {
    /// The record, if it is in memory. Never blocks.
    ///
    /// A record an answer names is pinned: it may be cold, but it exists until the answer is sent or given up.
    fn record(&self, seq: Seq) -> Result<RecordRef<'_>, Cold>;
}

/// A record that is not in memory. The caller has it brought in and tries again; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cold(pub Seq);

/// A record in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// The whole `KeyValue` message, in its canonical form.
    pub wire: &'a [u8],
}

impl<'a> RecordRef<'a> {
    /// The message in two parts that follow each other, without the value if `keys_only`.
    pub(super) fn parts(self, keys_only: bool) -> (&'a [u8], &'a [u8]) {
        if keys_only { without_value(self.wire) } else { (self.wire, &[]) }
    }
}

/// The bytes before and after field 5 of a stored `KeyValue`. Stored bytes were checked when they came into memory.
fn without_value(wire: &[u8]) -> (&[u8], &[u8]) {
    const CHECKED: &str = "a stored record is a well-formed KeyValue";
    let mut fields = Fields::new(wire, "KeyValue");
    let mut before = 0;
    while let Some(tag) = fields.next_tag().expect(CHECKED) {
        fields.skip(tag).expect(CHECKED);
        let behind = wire.len() - fields.rest_len();
        if tag.number == VALUE_FIELD {
            return (&wire[..before], &wire[behind..]);
        }
        before = behind;
    }
    (wire, &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::mvccpb::KeyValue;
    use prost::Message;

    #[test]
    fn keys_only_drops_the_value_and_nothing_else() {
        let check = |kv: KeyValue| {
            let wire = kv.encode_to_vec();
            let (before, after) = RecordRef { wire: &wire }.parts(true);
            let expected = KeyValue { value: Default::default(), ..kv.clone() }.encode_to_vec();
            assert_eq!([before, after].concat(), expected, "{kv:?}");
            assert_eq!(RecordRef { wire: &wire }.parts(false), (&wire[..], &[][..]));
        };
        let full = KeyValue {
            key: "key".into(),
            create_revision: 1 << 40,
            mod_revision: 1 << 41,
            version: 300,
            value: vec![b'v'; 1000].into(),
            lease: -1,
        };
        check(full.clone());
        check(KeyValue { lease: 0, ..full.clone() });
        check(KeyValue { value: Default::default(), ..full.clone() });
        check(KeyValue { value: Default::default(), lease: 0, ..full });
        check(KeyValue::default());
    }
}
