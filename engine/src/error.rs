//! The one table of etcd's error codes and exact texts.
//!
//! Clients compare the text: Go's clientv3 rebuilds its typed errors from it, so one wrong letter breaks
//! `errors.Is`. The differential tests compare every row with a running etcd.

/// gRPC status codes, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // The names are the documentation: google.golang.org/grpc/codes.
pub enum Code {
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

macro_rules! api_errors {
    ($($(#[$doc:meta])* $name:ident, $code:ident, $text:literal;)*) => {
        /// An error a client sees: one variant a row of etcd's table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ApiError {
            $($(#[$doc])* $name,)*
        }

        impl ApiError {
            /// Every row, for tests and for parsing a text back.
            pub const ALL: &'static [ApiError] = &[$(ApiError::$name,)*];

            /// The code etcd's server really sends, which is not always the one in its table.
            pub fn code(self) -> Code {
                match self { $(ApiError::$name => Code::$code,)* }
            }

            /// The exact text.
            pub fn text(self) -> &'static str {
                match self { $(ApiError::$name => $text,)* }
            }
        }
    };
}

api_errors! {
    /// Empty key in a range, put, delete, compare or any operation of a transaction.
    EmptyKey, InvalidArgument, "etcdserver: key is not provided";
    /// `ignore_value` or `ignore_lease` on a missing key; also an operation left unset.
    KeyNotFound, InvalidArgument, "etcdserver: key not found";
    /// `ignore_value` with a value.
    ValueProvided, InvalidArgument, "etcdserver: value is provided";
    /// `ignore_lease` with a lease.
    LeaseProvided, InvalidArgument, "etcdserver: lease is provided";
    /// A level of a transaction has more compares or operations than `--max-txn-ops` leaves it.
    TooManyOps, InvalidArgument, "etcdserver: too many operations in txn request";
    /// A transaction would write one key twice.
    DuplicateKey, InvalidArgument, "etcdserver: duplicate key given in txn request";
    /// Sort order or target outside the enum.
    InvalidSortOption, InvalidArgument, "etcdserver: invalid sort option";
    /// The revision was compacted.
    Compacted, OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    /// The revision does not exist yet.
    FutureRevision, OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    /// The quota is used up, or a NOSPACE alarm is active.
    NoSpace, ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    /// The proposal is larger than `--max-request-bytes`.
    RequestTooLarge, InvalidArgument, "etcdserver: request is too large";
    /// Apply is too far behind commit. etcd loses the code on the way, so clients see Unknown.
    TooManyRequests, Unknown, "etcdserver: too many requests";
    /// A CORRUPT alarm is active.
    Corrupt, DataLoss, "etcdserver: corrupt cluster";
    /// Unknown lease in a put or revoke.
    LeaseNotFound, NotFound, "etcdserver: requested lease not found";
    /// Lease id in use.
    LeaseExists, FailedPrecondition, "etcdserver: lease already exists";
    /// TTL above 9,000,000,000 s.
    LeaseTtlTooLarge, OutOfRange, "etcdserver: too large lease TTL";
    /// The caller asked for a leader and there is none.
    NoLeader, Unavailable, "etcdserver: no leader";
    /// The leader changed while a linearizable read waited.
    LeaderChanged, Unavailable, "etcdserver: leader changed";
    /// A proposal or read index took longer than the server's own limit: the outcome is unknown.
    Timeout, Unavailable, "etcdserver: request timed out";
    /// The same, and the request was begun when the leader before this one was failing.
    TimeoutLeaderFailed, Unavailable,
        "etcdserver: request timed out, possibly due to previous leader failure";
    /// A lease call waited too long for the member to have applied what was committed before it led.
    TimeoutWaitingForApplied, Unavailable,
        "etcdserver: request timed out, waiting for the applied index took too long";
    /// The server is going down.
    Stopped, Unavailable, "etcdserver: server stopped";
    /// The member serves reads only.
    NotSupportedForLearner, FailedPrecondition, "etcdserver: rpc not supported for learner";
    /// The client named an API version that is not UTF-8.
    InvalidClientApiVersion, InvalidArgument, "etcdserver: invalid client api version";
    /// Number outside an enum where etcd 3.6 would die (alarm actions).
    UnknownMethod, InvalidArgument, "etcdserver: unknown method";
    /// The wait was cut by the client's own deadline.
    DeadlineExceeded, DeadlineExceeded, "context deadline exceeded";
    /// Revoking, keeping alive, or moving leadership on a member that does not lead.
    NotLeader, FailedPrecondition, "etcdserver: not leader";
    /// `MoveLeader` to a member that cannot lead.
    BadLeaderTransferee, FailedPrecondition, "etcdserver: bad leader transferee";
    /// `MemberAdd` of an id that is there.
    MemberExists, FailedPrecondition, "etcdserver: member ID already exist";
    /// `MemberAdd` or `MemberUpdate` with a peer URL of another member.
    PeerUrlExists, FailedPrecondition, "etcdserver: Peer URLs already exists";
    /// A change of a member that is not there, or was removed.
    MemberNotFound, NotFound, "etcdserver: member not found";
    /// The change would leave too few members that have ever started. Not the code of etcd's table.
    NotEnoughStartedMembers, Unknown,
        "etcdserver: re-configuration failed due to not enough started members";
    /// The change comes while too few members are connected.
    UnhealthyCluster, Unavailable, "etcdserver: unhealthy cluster";
    /// `MemberPromote` of a voter.
    MemberNotLearner, FailedPrecondition, "etcdserver: can only promote a learner member";
    /// `MemberPromote` of a learner that lacks more than a tenth of the log.
    LearnerNotReady, FailedPrecondition,
        "etcdserver: can only promote a learner member which is in sync with leader";
    /// `MemberAdd` of a learner beyond `--max-learners`.
    TooManyLearners, FailedPrecondition, "etcdserver: too many learner members in cluster";
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_unique() {
        for (i, a) in ApiError::ALL.iter().enumerate() {
            for b in &ApiError::ALL[i + 1..] {
                assert_ne!(a.text(), b.text(), "{a:?} and {b:?}");
            }
        }
    }
}
