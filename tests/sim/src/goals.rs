//! What a run of many seeds must have come across: a simulator that never elects a second leader proves nothing about
//! elections. The idea and the name of [`sometimes!`](crate::sometimes) are Antithesis's.

use std::fmt;

macro_rules! goals {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Something that sometimes happens.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Goal {
            $($(#[$doc])* $name,)*
        }

        impl Goal {
            /// All of them.
            pub const ALL: [Goal; [$(Goal::$name),*].len()] = [$(Goal::$name),*];
        }
    };
}

goals! {
    /// A member is elected while another one takes itself for the leader.
    LeaderBesideLeader,
    /// Two members stand for election in one term.
    SplitVote,
    /// A leader that hears no majority steps down in its own term.
    SteppedDown,
    /// A leader commits what its own disk does not have yet.
    CommitBeforeOwnDisk,
    /// A member drops entries that contradict its leader's.
    TailReplaced,
    /// A member comes back with fewer entries than it had.
    TailLost,
    /// A member comes back in an earlier term.
    TermLost,
    /// The power fails at a leader, and it comes back.
    LeaderLostPower,
    /// A member takes the state of a leader for its own.
    TransferInstalled,
    /// A part of such a state is sent again.
    TransferResumed,
    /// A read that got no answer asks for another round.
    ReadAskedAgain,
    /// A write that was passed on is lost on the way.
    ForwardLost,
    /// A write that was passed on reaches a leader twice.
    ForwardRepeated,
    /// A client hears that the leader changed.
    LeaderChanged,
    /// A client hears that time is up, and perhaps because a leader failed.
    TimeoutLeaderFailed,
    /// A call took effect that its client never heard of.
    UnknownTookEffect,
    /// A lease runs out under another leader than the one that gave it its time.
    ExpiredUnderNewLeader,
}

/// How often each happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Goals([u64; Goal::ALL.len()]);

impl Goals {
    /// It happened if `holds`.
    pub fn note(&mut self, goal: Goal, holds: bool) {
        self.0[goal as usize] += u64::from(holds);
    }

    /// What happened in another run happened as well.
    pub fn add(&mut self, other: Goals) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }

    /// How often it happened.
    pub fn count(&self, goal: Goal) -> u64 {
        self.0[goal as usize]
    }

    /// What never happened.
    pub fn missed(&self) -> Vec<Goal> {
        Goal::ALL.into_iter().filter(|goal| self.count(*goal) == 0).collect()
    }
}

impl fmt::Display for Goals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = Goal::ALL.map(|goal| format!("{goal:?} {}", self.count(goal)));
        f.write_str(&each.join(", "))
    }
}

/// `sometimes!(goals, Goal, condition)`: the goal is reached once more if the condition holds.
#[macro_export]
macro_rules! sometimes {
    ($goals:expr, $goal:ident, $holds:expr) => {
        $goals.note($crate::goals::Goal::$goal, $holds)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_counted_and_those_missed_are_told() {
        let mut goals = Goals::default();
        assert_eq!(goals.missed(), Goal::ALL);
        sometimes!(goals, TailLost, true);
        sometimes!(goals, TermLost, false);
        goals.add(goals);
        assert_eq!((goals.count(Goal::TailLost), goals.count(Goal::TermLost)), (2, 0));
        assert_eq!(goals.missed().len(), Goal::ALL.len() - 1);
        assert!(goals.to_string().contains("TailLost 2, TermLost 0"));
    }
}
