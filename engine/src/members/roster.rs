//! Who belongs to the cluster as of an applied entry, and which changes of that are void (etcd's
//! `membership/cluster.go`, `ValidateConfigurationChange`).

use std::collections::{BTreeMap, BTreeSet};

use raft::ConfState;

use super::MemberChange;
use super::record::Row;
use crate::error::ApiError;
use crate::types::Member;

/// The members, and the ids that were removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    members: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
    /// No row is in the index yet: the first versions kept ids alone.
    unstored: bool,
}

impl Roster {
    /// What the rows of the index say.
    pub fn of_rows(rows: Vec<Row>) -> Roster {
        let mut roster = Roster::default();
        for row in rows {
            match row {
                Row::Member(member) => drop(roster.members.insert(member.id, member)),
                Row::Removed(id) => drop(roster.removed.insert(id)),
            }
        }
        roster
    }

    /// Members of whom only the ids are known, from a directory of the first versions.
    pub fn of_ids(conf_state: &ConfState) -> Roster {
        let member = |id: raft::MemberId| {
            let is_learner = conf_state.is_learner(id);
            (id.0, Member { id: id.0, is_learner, ..Member::default() })
        };
        let members = conf_state.members().map(member).collect();
        Roster { members, removed: BTreeSet::new(), unstored: true }
    }

    /// The members, ascending by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Those with a vote.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members().filter(|member| !member.is_learner)
    }

    /// The member with this id.
    pub fn get(&self, id: u64) -> Option<&Member> {
        self.members.get(&id)
    }

    /// Whether the id was a member's and never will be again.
    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    /// Whether nothing is known of anybody.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.removed.is_empty()
    }

    /// Whether `change` means something to these members; the same on all of them. `learners_max` is the entry's.
    pub fn check(&self, change: &MemberChange, learners_max: u16) -> Result<(), ApiError> {
        let id = change.id();
        let Some(known) = self.get(id) else {
            return match change {
                MemberChange::Add(member) if !self.is_removed(id) => self.check_new(member, learners_max),
                _ => Err(ApiError::MemberNotFound),
            };
        };
        match change {
            MemberChange::Add(_) => Err(ApiError::MemberExists),
            MemberChange::Promote(_) if !known.is_learner => Err(ApiError::MemberNotLearner),
            // etcd leaves this to the check of its `--strict-reconfig-check`, and without it dies.
            MemberChange::Remove(_) if self.voters().all(|voter| voter.id == id) => {
                Err(ApiError::NotEnoughStartedMembers)
            }
            MemberChange::Update { peer_urls, .. } => self.check_urls(id, peer_urls),
            MemberChange::Promote(_) | MemberChange::Remove(_) | MemberChange::Publish { .. } => Ok(()),
        }
    }

    fn check_new(&self, member: &Member, learners_max: u16) -> Result<(), ApiError> {
        self.check_urls(member.id, &member.peer_urls)?;
        let learners = self.members().filter(|member| member.is_learner).count();
        if member.is_learner && learners >= usize::from(learners_max) {
            return Err(ApiError::TooManyLearners);
        }
        Ok(())
    }

    /// Two members cannot be reached at one address.
    fn check_urls(&self, id: u64, urls: &[String]) -> Result<(), ApiError> {
        let mut others = self.members().filter(|member| member.id != id);
        if others.any(|other| other.peer_urls.iter().any(|url| urls.contains(url))) {
            return Err(ApiError::PeerUrlExists);
        }
        Ok(())
    }

    /// The members after a change that [`Roster::check`] let pass.
    pub fn after(&self, change: &MemberChange) -> Roster {
        let mut after = self.clone();
        after.unstored = false;
        let id = change.id();
        match change {
            MemberChange::Add(member) => drop(after.members.insert(id, member.clone())),
            MemberChange::Remove(_) => {
                after.members.remove(&id);
                after.removed.insert(id);
            }
            MemberChange::Promote(_) => after.entry(id).is_learner = false,
            MemberChange::Update { peer_urls, .. } => after.entry(id).peer_urls.clone_from(peer_urls),
            MemberChange::Publish { name, client_urls, .. } => {
                after.entry(id).name.clone_from(name);
                after.entry(id).client_urls.clone_from(client_urls);
            }
        }
        after
    }

    fn entry(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).expect("the change was checked")
    }

    /// The rows to be written when `change` has led from `before` to these members.
    pub fn rows(&self, before: &Roster, change: &MemberChange) -> impl Iterator<Item = Row> {
        let members = self.members().cloned().map(Row::Member);
        let rows = members.chain(self.removed.iter().copied().map(Row::Removed));
        let (all, key) = (before.unstored, change.id().to_be_bytes());
        rows.filter(move |row| all || row.key() == key)
    }
}

#[cfg(test)]
mod tests {
    use raft::MemberId;

    use super::*;

    fn member(id: u64, is_learner: bool) -> Member {
        let peer_urls = vec![format!("http://peer:{id}")];
        Member { id, name: format!("m{id}"), peer_urls, client_urls: Vec::new(), is_learner }
    }

    fn roster() -> Roster {
        let mut rows: Vec<Row> = [1, 2, 3].map(|id| Row::Member(member(id, id == 3))).to_vec();
        rows.push(Row::Removed(9));
        Roster::of_rows(rows)
    }

    #[test]
    fn what_is_void_is_void_with_etcds_words() {
        let check = |change: MemberChange, learners_max: u16, expected: Result<(), ApiError>| {
            assert_eq!(roster().check(&change, learners_max), expected, "{change:?}");
        };
        use MemberChange::*;
        check(Add(member(4, false)), 1, Ok(()));
        check(Add(member(4, true)), 2, Ok(()));
        check(Add(member(4, true)), 1, Err(ApiError::TooManyLearners));
        check(Add(member(2, false)), 1, Err(ApiError::MemberExists));
        check(Add(member(9, false)), 1, Err(ApiError::MemberNotFound));
        check(Add(Member { id: 4, ..member(2, false) }), 1, Err(ApiError::PeerUrlExists));
        for id in [4, 9] {
            check(Remove(id), 1, Err(ApiError::MemberNotFound));
            check(Promote(id), 1, Err(ApiError::MemberNotFound));
            check(Update { id, peer_urls: vec![] }, 1, Err(ApiError::MemberNotFound));
            check(Publish { id, name: "x".into(), client_urls: vec![] }, 1, Err(ApiError::MemberNotFound));
        }
        check(Promote(3), 1, Ok(()));
        check(Promote(2), 1, Err(ApiError::MemberNotLearner));
        check(Update { id: 2, peer_urls: vec!["http://peer:2".into(), "http://new:1".into()] }, 1, Ok(()));
        check(Update { id: 2, peer_urls: vec!["http://peer:1".into()] }, 1, Err(ApiError::PeerUrlExists));
        check(Remove(1), 1, Ok(()));
        check(Remove(3), 1, Ok(()));
        let alone = roster().after(&Remove(1));
        assert_eq!(alone.check(&Remove(2), 1), Err(ApiError::NotEnoughStartedMembers));
        assert_eq!(alone.check(&Remove(3), 1), Ok(()));
        assert_eq!(alone.check(&Remove(1), 1), Err(ApiError::MemberNotFound));
    }

    #[test]
    fn a_change_concerns_one_row_unless_there_was_none() {
        let rows = |before: &Roster, change: MemberChange| {
            let after = before.after(&change);
            after.rows(before, &change).collect::<Vec<_>>()
        };
        let promoted = Row::Member(Member { is_learner: false, ..member(3, true) });
        assert_eq!(rows(&roster(), MemberChange::Promote(3)), [promoted]);
        assert_eq!(rows(&roster(), MemberChange::Remove(1)), [Row::Removed(1)]);
        let old = Roster::of_ids(&ConfState::new([MemberId(1), MemberId(2)], [MemberId(3)]));
        let all = rows(&old, MemberChange::Remove(1));
        let blank = |id, is_learner| Row::Member(Member { id, is_learner, ..Member::default() });
        assert_eq!(all, [blank(2, false), blank(3, true), Row::Removed(1)]);
        let stored = old.after(&MemberChange::Remove(1));
        assert_eq!(rows(&stored, MemberChange::Remove(3)), [Row::Removed(3)]);
        assert_eq!(Roster::of_rows(all), stored);
    }
}
