//! Mistakes that can be compiled into the engine, for the simulator to find; see `raft::seeded`.

raft::seeded_bugs! {
    /// Raft hears that an append is durable when it was handed to the log.
    AckBeforeDurable,
    /// A block counts as durable although one before it is not.
    AckOutOfOrder,
    /// In fdatasync mode the write's completion counts.
    AckBeforeSync,
    /// A block is written over the one before it.
    RewriteTailBlock,
    /// Damaged acknowledged blocks are cut off like torn ones.
    TruncateAtFirstBadBlock,
    /// Recovery serves what it read without syncing it.
    KeptIsNotDurable,
    /// Log segments go one checkpoint too early.
    ReleaseLogEarly,
    /// Creating, renaming and removing files does not sync the directory. (A driver's mistake: the simulated disk
    /// makes it.)
    SkipDirectorySync,
    /// The meta page is written before the pages it names are synced.
    MetaBeforeData,
    /// A checkpoint claims the entry after the last one it holds.
    CheckpointClaimsMore,
    /// A checkpoint does not wait for the history it names.
    CheckpointBeforeHistory,
    /// A checkpoint forgets the compaction revision.
    ForgetCompaction,
    /// An alarm is not written to the index.
    ForgetAlarm,
    /// Slots that only the older checkpoint reaches are used again.
    ReuseSlotEarly,
    /// Pages that a pinned reader reaches are used again.
    ReusePinnedPage,
    /// Tombstones count as live.
    CountTombstones,
    /// A key that is created again goes on counting versions.
    KeepGeneration,
    /// Jump pointers are followed beyond the version that is looked for.
    JumpOvershoots,
    /// A read does not wait until its index is applied.
    ReadBeforeApply,
    /// Answers leave before what they tell of is published.
    AnswerBeforePublish,
    /// Request ids begin anew with every start.
    ReuseRequestIds,
    /// A key that is written again with another lease is not attached to it.
    ForgetAttachment,
    /// A key that leaves its lease stays in the lease's list.
    KeepAttachment,
    /// Revoking a lease makes a revision for its first key and another for the rest.
    SplitRevoke,
    /// A lease is not written to the index.
    ForgetLease,
    /// Leases run out after half their time.
    ExpireEarly,
    /// Renewing a lease does not give it more time.
    ForgetRenewal,
    /// A watcher that falls behind misses the event at which it did.
    SkipAtBoundary,
    /// A request for progress is answered although watchers are behind.
    ProgressBeforeEvents,
    /// The changes of one revision are told in a response each.
    SplitRevision,
    /// A watcher whose revisions are compacted goes on with what is left.
    IgnoreWatchCompaction,
    /// A creation is told with the deletion before it as the value before.
    PrevOfCreation,
    /// Reclaim frees what a pinned reader needs.
    IgnorePins,
    /// Files go although the older durable checkpoint has chunks in them.
    RemoveFileEarly,
    /// A tombstone exactly at the compaction revision is freed with it.
    FreeTombstoneAtFloor,
    /// A version that a newer one replaced only after the compaction is freed.
    FreeVisibleVersion,
    /// A record that reclaim keeps is left behind when its chunk is moved.
    LoseMovedRecord,
    /// Entries that a leader replaced are not said to be void.
    ForgetTruncation,
    /// A follower serves reads without asking the leader.
    ReadAtFollower,
    /// A member that leads no more goes on deciding when leases run out.
    ExpireUnled,
    /// A piece of a transfer that comes again is taken again.
    TakePieceTwice,
    /// A transfer claims the entry after the last one it holds.
    TransferClaimsMore,
    /// A transfer leaves the leases out.
    TransferWithoutLeases,
}
