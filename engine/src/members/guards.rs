//! etcd's `--strict-reconfig-check`: changes that would cost a cluster its quorum, or that come while it is not well.
//!
//! The leader judges, because it alone hears of everybody (in etcd the member that was asked does, by its own
//! connections). Only voters count.

use super::{MemberChange, Roster};
use crate::error::ApiError;
use crate::types::Member;

/// What the leader hears of another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Nothing.
    Down,
    /// It answers, but not for long enough to rely on it.
    Young,
    /// It has answered for so long that it may be counted on.
    Steady,
}

/// Whether `change` may be proposed; `link` tells of each member but `own`, the leader.
///
/// Errors: what etcd's clients are told.
pub fn check(
    roster: &Roster,
    own: u64,
    change: &MemberChange,
    link: impl Fn(u64) -> Link,
) -> Result<(), ApiError> {
    let voters: Vec<&Member> = roster.voters().collect();
    let started = |member: &&&Member| !member.name.is_empty();
    let is_up = |member: &&&Member| member.id == own || link(member.id) == Link::Steady;
    let up = || voters.iter().filter(is_up).count();
    match change {
        MemberChange::Add(member) => {
            let (count, started) = (voters.len() + 1, voters.iter().filter(started).count());
            // One that was made a cluster of its own again gets its first companion.
            let is_first = started == 1 && count == 2;
            if !member.is_learner && started < quorum(count) && !is_first {
                return Err(ApiError::NotEnoughStartedMembers);
            }
            if voters.len() > 1 && up() < quorum(count) {
                return Err(ApiError::UnhealthyCluster);
            }
            Ok(())
        }
        MemberChange::Promote(_) => {
            // The learner counts as started.
            let (count, started) = (voters.len() + 1, voters.iter().filter(started).count() + 1);
            if started < quorum(count) { Err(ApiError::NotEnoughStartedMembers) } else { Ok(()) }
        }
        MemberChange::Remove(id) => {
            if roster.get(*id).is_some_and(|member| member.is_learner) {
                return Ok(());
            }
            let others = || voters.iter().filter(|member| member.id != *id);
            if others().filter(started).count() < quorum(others().count()) {
                return Err(ApiError::NotEnoughStartedMembers);
            }
            // Whoever is down is no part of the quorum that there is.
            if *id != own && link(*id) == Link::Down {
                return Ok(());
            }
            if up().saturating_sub(1) < 1 + (voters.len() - 1) / 2 {
                return Err(ApiError::UnhealthyCluster);
            }
            Ok(())
        }
        MemberChange::Update { .. } | MemberChange::Publish { .. } => Ok(()),
    }
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::Link::{Down, Steady, Young};
    use super::*;
    use crate::members::record::Row;

    /// Members 1.. of whom each is a name ("" for one that never started) and a link; learners end with `?`.
    fn judge(members: &[(&str, Link)], change: &MemberChange) -> Result<(), ApiError> {
        let row = |(nth, (name, _)): (usize, &(&str, Link))| {
            let is_learner = name.ends_with('?');
            let id = nth as u64 + 1;
            Row::Member(Member { id, name: (*name).into(), is_learner, ..Member::default() })
        };
        let roster = Roster::of_rows(members.iter().enumerate().map(row).collect());
        check(&roster, 1, change, |id| members.get(id as usize - 1).map_or(Down, |(_, link)| *link))
    }

    fn add(is_learner: bool) -> MemberChange {
        MemberChange::Add(Member { id: 99, is_learner, ..Member::default() })
    }

    const NOT_STARTED: Result<(), ApiError> = Err(ApiError::NotEnoughStartedMembers);
    const UNHEALTHY: Result<(), ApiError> = Err(ApiError::UnhealthyCluster);

    #[test]
    fn a_voter_is_added_to_a_started_and_healthy_cluster() {
        let check = |members: &[(&str, Link)], voter: Result<(), ApiError>, learner: Result<(), ApiError>| {
            assert_eq!(judge(members, &add(false)), voter, "a voter to {members:?}");
            assert_eq!(judge(members, &add(true)), learner, "a learner to {members:?}");
        };
        check(&[("a", Down)], Ok(()), Ok(()));
        check(&[("", Down)], NOT_STARTED, Ok(()));
        check(&[("a", Down), ("b", Steady)], Ok(()), Ok(()));
        check(&[("a", Down), ("b", Young)], UNHEALTHY, UNHEALTHY);
        check(&[("a", Down), ("", Steady)], NOT_STARTED, Ok(()));
        check(&[("a", Down), ("b", Steady), ("c", Steady)], Ok(()), Ok(()));
        // Of four it would need three.
        check(&[("a", Down), ("b", Steady), ("c", Young)], UNHEALTHY, UNHEALTHY);
        check(&[("a", Down), ("b", Steady), ("", Steady)], NOT_STARTED, Ok(()));
        check(&[("a", Down), ("b", Steady), ("c", Steady), ("d", Down)], Ok(()), Ok(()));
        // Learners count for nothing.
        check(&[("a", Down), ("b", Young), ("c?", Steady)], UNHEALTHY, UNHEALTHY);
    }

    #[test]
    fn a_voter_is_removed_if_the_others_can_do_without() {
        let check = |members: &[(&str, Link)], id: u64, expected: Result<(), ApiError>| {
            assert_eq!(judge(members, &MemberChange::Remove(id)), expected, "{id} of {members:?}");
        };
        check(&[("a", Down)], 1, NOT_STARTED);
        check(&[("a", Down), ("b", Steady)], 2, Ok(()));
        check(&[("a", Down), ("b", Steady)], 1, Ok(()));
        check(&[("a", Down), ("b", Down)], 2, Ok(()));
        check(&[("a", Down), ("b", Young)], 2, UNHEALTHY);
        check(&[("a", Down), ("", Down)], 1, NOT_STARTED);
        let one_down = [("a", Down), ("b", Steady), ("c", Down)];
        check(&one_down, 3, Ok(()));
        check(&one_down, 2, UNHEALTHY);
        check(&one_down, 1, UNHEALTHY);
        let all_up = [("a", Down), ("b", Steady), ("c", Steady)];
        (1..=3).for_each(|id| check(&all_up, id, Ok(())));
        // Nobody of that name: the entry is void, when it is applied.
        check(&all_up, 9, Ok(()));
        check(&[("a", Down), ("b?", Steady)], 2, Ok(()));
        check(&[("a", Down), ("b?", Steady)], 1, NOT_STARTED);
    }

    #[test]
    fn a_learner_is_promoted_where_enough_have_started() {
        let check = |members: &[(&str, Link)], expected: Result<(), ApiError>| {
            let id = members.len() as u64;
            assert_eq!(judge(members, &MemberChange::Promote(id)), expected, "{members:?}");
        };
        check(&[("a", Down), ("b?", Down)], Ok(()));
        check(&[("", Down), ("b?", Down)], NOT_STARTED);
        check(&[("a", Down), ("", Down), ("c?", Down)], Ok(()));
        check(&[("a", Down), ("", Down), ("", Down), ("d?", Down)], NOT_STARTED);
    }
}
