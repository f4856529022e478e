//! The same calls in the same order to real etcd and to the server under test, comparing everything a client can
//! see: responses field by field, codes, texts, the shape of frames.
//!
//! Two kinds of calls: hand-written cases, each naming the rows of `tests/differential/rows.toml` that it stands
//! for, and generated ones from a seed. Run against etcd on both sides it must find nothing, which is its own test.

/// Requests in few words.
pub mod build;

/// A call and its outcome as comparable data.
pub mod call;

/// Forgiveness for what etcd itself leaves open.
mod ties;

/// Calls in few words.
mod terse;

/// HTTP/1.1 requests.
mod http1;

/// Two servers side by side.
mod pair;

/// Watch streams of both.
mod watching;

/// The hand-written cases.
mod cases;

/// The facts that cases stand for.
mod rows;

/// Calls from a seed.
mod generate;

/// The smallest calls that still show a difference.
mod shrink;

/// What a run found.
mod report;

pub use cases::run_cases;
pub use generate::{Generator, Kind};
pub use pair::{Finding, Pair};
pub use report::{CaseReport, GeneratedReport};
pub use rows::Rows;
pub use shrink::run_generated;
