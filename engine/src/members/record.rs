//! A member as a row of the index.
//!
//! ```text
//! table Member   id, big endian, 8  ->  format 1, state 1, reserved 2, name, peer URLs, client URLs
//! ```
//! A text is its length, 4, and its bytes; a list is a count, 4, and the texts; little endian. Removed members keep a
//! row without texts for ever: an id does not come back.

use bytes::BufMut;

use crate::types::Member;

const FORMAT: u8 = 1;
const VOTER: u8 = 0;
const LEARNER: u8 = 1;
const REMOVED: u8 = 2;

/// What a row says of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// It is a member.
    Member(Member),
    /// It was one.
    Removed(u64),
}

impl Row {
    /// The row's key.
    pub fn key(&self) -> [u8; 8] {
        match self {
            Row::Member(member) => member.id.to_be_bytes(),
            Row::Removed(id) => id.to_be_bytes(),
        }
    }

    /// The row's value.
    pub fn encode(&self) -> Vec<u8> {
        let (state, member) = match self {
            Row::Member(member) => (if member.is_learner { LEARNER } else { VOTER }, member),
            Row::Removed(_) => (REMOVED, &Member::default()),
        };
        let mut out = vec![FORMAT, state, 0, 0];
        put_attributes(&mut out, member);
        out
    }

    /// Reads a row of the table; `None` if it is none of this format.
    pub fn parse(key: &[u8], value: &[u8]) -> Option<Row> {
        let id = u64::from_be_bytes(key.try_into().ok()?);
        let (&[FORMAT, state, 0, 0], rest) = value.split_first_chunk()? else { return None };
        let member = parse_attributes(rest)?;
        match state {
            VOTER | LEARNER => Some(Row::Member(Member { id, is_learner: state == LEARNER, ..member })),
            REMOVED => (member == Member::default()).then_some(Row::Removed(id)),
            _ => None,
        }
    }
}

/// Name and URLs.
pub(super) fn put_attributes(out: &mut Vec<u8>, member: &Member) {
    put_text(out, &member.name);
    put_texts(out, &member.peer_urls);
    put_texts(out, &member.client_urls);
}

/// Reads [`put_attributes`]' bytes, all of them.
pub(super) fn parse_attributes(mut rest: &[u8]) -> Option<Member> {
    let name = text(&mut rest)?;
    let peer_urls = texts(&mut rest)?;
    let client_urls = texts(&mut rest)?;
    rest.is_empty().then(|| Member { name, peer_urls, client_urls, ..Member::default() })
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_u32_le(text.len() as u32);
    out.put_slice(text.as_bytes());
}

fn put_texts(out: &mut Vec<u8>, texts: &[String]) {
    out.put_u32_le(texts.len() as u32);
    texts.iter().for_each(|text| put_text(out, text));
}

fn number(rest: &mut &[u8]) -> Option<usize> {
    let (number, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u32::from_le_bytes(*number) as usize)
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let len = number(rest)?;
    let (bytes, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    String::from_utf8(bytes.to_vec()).ok()
}

fn texts(rest: &mut &[u8]) -> Option<Vec<String>> {
    // Each takes four bytes at least, so that a hostile count reserves nothing.
    let count = number(rest)?;
    if count > rest.len() / 4 {
        return None;
    }
    (0..count).map(|_| text(rest)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_written_and_others_are_refused() {
        let urls = |text: &str| text.split_whitespace().map(String::from).collect();
        let member = Member {
            id: 0x0102,
            name: "é".into(),
            peer_urls: urls("http://a:1 http://b:2"),
            client_urls: urls("http://c:3"),
            is_learner: true,
        };
        let blank = Member { id: u64::MAX, ..Member::default() };
        for row in [Row::Member(member), Row::Member(blank), Row::Removed(7)] {
            let (key, value) = (row.key(), row.encode());
            assert_eq!(Row::parse(&key, &value), Some(row.clone()));
            for len in 0..value.len() {
                assert_eq!(Row::parse(&key, &value[..len]), None, "{row:?} up to {len}");
            }
            assert_eq!(Row::parse(&key[1..], &value), None);
            assert_eq!(Row::parse(&key, &[&value[..], b"x"].concat()), None);
            for at in 0..4 {
                let mut other = value.clone();
                other[at] = 9;
                assert_eq!(Row::parse(&key, &other), None, "{row:?} with byte {at} changed");
            }
        }
        assert_eq!(Row::parse(&[0; 8], &[1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]), None);
    }
}
