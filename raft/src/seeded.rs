//! Mistakes that can be compiled in, to see that the simulator finds them: a harness that finds none of them would find
//! none of ours.
//!
//! Without the feature `seeded-bugs` [`is`] is false at compile time and nothing of this remains in the program. With
//! it a thread chooses one mistake at a time with `choose`.

/// A list of mistakes and the switch for them, for a crate with a feature `seeded-bugs`.
#[doc(hidden)]
#[macro_export]
macro_rules! seeded_bugs {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[$doc])* $name,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Bug] = &[$(Bug::$name,)*];
        }

        #[cfg(feature = "seeded-bugs")]
        thread_local! {
            static CHOSEN: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
        }

        /// From now on this thread makes the mistake, or none.
        #[cfg(feature = "seeded-bugs")]
        pub fn choose(bug: Option<Bug>) {
            CHOSEN.set(bug);
        }

        /// Whether the mistake is to be made.
        #[cfg(feature = "seeded-bugs")]
        pub fn is(bug: Bug) -> bool {
            CHOSEN.get() == Some(bug)
        }

        /// Never.
        #[cfg(not(feature = "seeded-bugs"))]
        pub const fn is(_: Bug) -> bool {
            false
        }
    };
}

seeded_bugs! {
    /// A vote leaves before it is durable.
    VoteBeforeDurable,
    /// Votes are asked for before the own one is durable.
    AskBeforeDurable,
    /// A follower acknowledges entries that are not durable.
    AckUnwritten,
    /// A start forgets for whom the last one voted.
    ForgetVote,
    /// A candidate gets the vote of a member that has more than it.
    IgnoreCompleteness,
    /// Being asked whether an election could succeed moves a member to its term.
    PreVoteRaisesTerm,
    /// A member that hears its leader helps to replace it.
    IgnoreLoyalty,
    /// A leader that hears no majority goes on leading.
    LeadWithoutQuorum,
    /// The leader counts what its own disk does not have yet.
    CountUnwritten,
    /// One member too few is a majority.
    CountMinority,
    /// Entries of earlier terms are committed by counting.
    CommitOlderTerm,
    /// A follower commits what the leader has committed, whatever stands there in its own log.
    HeartbeatCommitsAll,
    /// Entries are taken on without looking at the term of the one before.
    SkipConsistencyCheck,
    /// What contradicts the leader's log stays.
    KeepConflict,
    /// An append that comes late or twice drops what followed it.
    TruncateRepeated,
    /// What is not committed is applied once it is durable here.
    ApplyUncommitted,
    /// A read joins a round that is under way.
    JoinAskedRound,
    /// The leader confirms reads without asking anybody.
    ReadWithoutRound,
    /// Writes passed on are taken as often as their message comes.
    TakeForwardsAgain,
}
