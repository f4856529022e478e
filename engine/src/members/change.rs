//! A change of one member, as clients ask for it and as the context of raft's own entry.
//!
//! ```text
//!  offset  size
//!       0     1  format, 1
//!       1     1  0 adds or removes, 1 promotes, 2 changes peer URLs, 3 publishes
//!       2     2  learners there may be
//!       4     8  request id: who waits for the answer
//!      12     -  name, peer URLs, client URLs, as in a row
//! ```
//! Little endian. A founder of whom nothing is known has an empty context, as all founders of the first versions had.

use bytes::{BufMut, Bytes};
use raft::{ConfChange, ConfChangeOp, MemberId};

use super::record;
use crate::command::RequestId;
use crate::types::Member;

/// What shall become of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A new member, as voter or learner; it has no name before it has started.
    Add(Member),
    /// It belongs to the cluster no more; its id never will again.
    Remove(u64),
    /// A learner votes from now on.
    Promote(u64),
    /// Other members reach it there.
    Update {
        /// Who.
        id: u64,
        /// Where.
        peer_urls: Vec<String>,
    },
    /// It has started, and tells its name and where clients reach it.
    Publish {
        /// Who.
        id: u64,
        /// Its name.
        name: String,
        /// Where.
        client_urls: Vec<String>,
    },
}

/// A change on its way through the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// What.
    pub change: MemberChange,
    /// Who waits for the answer; nobody for the founding entries.
    pub request: Option<RequestId>,
    /// Learners there may be. In the entry, because members' flags may differ and what they apply must not.
    pub learners_max: u16,
}

const FORMAT: u8 = 1;
const PLAIN: u8 = 0;
const PROMOTION: u8 = 1;
const UPDATE: u8 = 2;
const PUBLICATION: u8 = 3;

impl MemberChange {
    /// Whom it concerns.
    pub fn id(&self) -> u64 {
        match self {
            MemberChange::Add(member) => member.id,
            MemberChange::Remove(id) | MemberChange::Promote(id) => *id,
            MemberChange::Update { id, .. } | MemberChange::Publish { id, .. } => *id,
        }
    }
}

impl Proposed {
    /// As raft takes it.
    pub fn encode(&self) -> ConfChange {
        let mut attributes = Member::default();
        let (op, kind) = match &self.change {
            MemberChange::Add(member) => {
                attributes = member.clone();
                let op = if member.is_learner { ConfChangeOp::AddLearner } else { ConfChangeOp::AddVoter };
                (op, PLAIN)
            }
            MemberChange::Remove(_) => (ConfChangeOp::Remove, PLAIN),
            MemberChange::Promote(_) => (ConfChangeOp::AddVoter, PROMOTION),
            MemberChange::Update { peer_urls, .. } => {
                attributes.peer_urls.clone_from(peer_urls);
                (ConfChangeOp::Update, UPDATE)
            }
            MemberChange::Publish { name, client_urls, .. } => {
                attributes.name.clone_from(name);
                attributes.client_urls.clone_from(client_urls);
                (ConfChangeOp::Update, PUBLICATION)
            }
        };
        let mut context = vec![FORMAT, kind];
        context.put_u16_le(self.learners_max);
        context.put_u64_le(self.request.map_or(0, |request| request.0));
        record::put_attributes(&mut context, &attributes);
        ConfChange { op, member: MemberId(self.change.id()), context: context.into() }
    }

    /// Reads [`Proposed::encode`]'s change, which comes from the log or from a peer; `None` if it is none of this format.
    pub fn decode(change: &ConfChange) -> Option<Proposed> {
        let (id, op) = (change.member.0, change.op);
        let is_learner = op == ConfChangeOp::AddLearner;
        if change.context.is_empty() && op == ConfChangeOp::AddVoter {
            let change = MemberChange::Add(Member { id, ..Member::default() });
            return Some(Proposed { change, request: None, learners_max: 0 });
        }
        let (&[FORMAT, kind, low, high], rest) = change.context.split_first_chunk()? else { return None };
        let (request, rest) = rest.split_first_chunk()?;
        let request = Some(RequestId(u64::from_le_bytes(*request))).filter(|request| request.0 != 0);
        let attributes = record::parse_attributes(rest)?;
        let change = match (op, kind) {
            (ConfChangeOp::AddVoter | ConfChangeOp::AddLearner, PLAIN) => {
                MemberChange::Add(Member { id, is_learner, ..attributes })
            }
            (ConfChangeOp::Remove, PLAIN) => MemberChange::Remove(id),
            (ConfChangeOp::AddVoter, PROMOTION) => MemberChange::Promote(id),
            (ConfChangeOp::Update, UPDATE) => MemberChange::Update { id, peer_urls: attributes.peer_urls },
            (ConfChangeOp::Update, PUBLICATION) => {
                MemberChange::Publish { id, name: attributes.name, client_urls: attributes.client_urls }
            }
            _ => return None,
        };
        Some(Proposed { change, request, learners_max: u16::from_le_bytes([low, high]) })
    }
}

/// The context of a founding entry.
pub fn founding_context(founder: &Member) -> Bytes {
    if *founder == (Member { id: founder.id, ..Member::default() }) {
        return Bytes::new();
    }
    let change = MemberChange::Add(founder.clone());
    Proposed { change, request: None, learners_max: 0 }.encode().context
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_back_as_they_were_proposed_and_others_are_refused() {
        let urls = || vec![String::from("http://a:1")];
        let member = Member { id: 3, name: "a".into(), peer_urls: urls(), ..Member::default() };
        let changes = [
            MemberChange::Add(member.clone()),
            MemberChange::Add(Member { is_learner: true, ..member.clone() }),
            MemberChange::Remove(3),
            MemberChange::Promote(3),
            MemberChange::Update { id: 3, peer_urls: urls() },
            MemberChange::Publish { id: 3, name: "a".into(), client_urls: urls() },
        ];
        for change in changes {
            let proposed = Proposed { change, request: Some(RequestId(9)), learners_max: 300 };
            let encoded = proposed.encode();
            assert_eq!(Proposed::decode(&encoded), Some(proposed.clone()));
            for len in 1..encoded.context.len() {
                let cut = ConfChange { context: encoded.context.slice(..len), ..encoded.clone() };
                assert_eq!(Proposed::decode(&cut), None, "{proposed:?} up to {len}");
            }
            let other = ConfChange { context: Bytes::from_static(b"\x02"), ..encoded };
            assert_eq!(Proposed::decode(&other), None);
        }
        let founding = |founder: &Member| {
            let context = founding_context(founder);
            let change = ConfChange { op: ConfChangeOp::AddVoter, member: MemberId(founder.id), context };
            Proposed::decode(&change).unwrap().change
        };
        let blank = Member { id: 3, ..Member::default() };
        assert!(founding_context(&blank).is_empty());
        for founder in [blank, member] {
            assert_eq!(founding(&founder), MemberChange::Add(founder));
        }
        let nothing = ConfChange { op: ConfChangeOp::Update, member: MemberId(3), context: Bytes::new() };
        assert_eq!(Proposed::decode(&nothing), None);
    }
}
