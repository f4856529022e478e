//! The hand-written cases. A case names its rows, uses keys of its own, and may rely on nothing but the store
//! being otherwise shared; the groups that need flags or a fresh store get servers of their own.

mod alarm;
mod compact;
mod hash;
mod header;
mod http;
mod lease;
mod put;
mod range;
mod shape;
mod txn;
mod watch;
mod wire;

use std::time::Instant;

use crate::server::{Binary, StartError};

use super::pair::Pair;
use super::report::CaseReport;

/// One case.
struct Case {
    /// Ids from `rows.toml`.
    rows: &'static [&'static str],
    run: fn(&mut Pair),
}

/// Cases that share two servers.
struct Group {
    name: &'static str,
    flags: &'static [&'static str],
    cases: &'static [Case],
}

const GROUPS: &[Group] = &[
    Group { name: "range", flags: &[], cases: range::CASES },
    Group { name: "put and delete", flags: &[], cases: put::CASES },
    Group { name: "txn", flags: &[], cases: txn::CASES },
    Group { name: "compact", flags: &[], cases: compact::CASES },
    Group { name: "compact, fresh store", flags: &[], cases: compact::FRESH },
    Group { name: "hash, fresh store", flags: &[], cases: hash::CASES },
    Group { name: "request shape", flags: &[], cases: shape::CASES },
    Group { name: "headers", flags: &[], cases: header::CASES },
    Group { name: "alarms", flags: &[], cases: alarm::CASES },
    Group { name: "quota", flags: &["--quota-backend-bytes=1000000"], cases: alarm::QUOTA },
    Group { name: "leases", flags: &[], cases: lease::CASES },
    Group { name: "leases, quota", flags: &["--quota-backend-bytes=1000000"], cases: lease::QUOTA },
    Group {
        name: "leases, slow elections",
        flags: &["--heartbeat-interval=500", "--election-timeout=5000"],
        cases: lease::SLOW,
    },
    Group { name: "wire", flags: &[], cases: wire::CASES },
    Group { name: "wire, stream cap", flags: &["--max-concurrent-streams=100"], cases: wire::STREAM_CAP },
    Group { name: "watch", flags: &[], cases: watch::CASES },
    Group {
        name: "watch, progress",
        flags: &["--watch-progress-notify-interval=1s"],
        cases: watch::NOTIFIED,
    },
    Group { name: "http", flags: &[], cases: http::CASES },
];

const INVALID: i32 = 3;
const NOT_FOUND: i32 = 5;
const EXHAUSTED: i32 = 8;
const PRECONDITION: i32 = 9;
const OUT_OF_RANGE: i32 = 11;
const DATA_LOSS: i32 = 15;
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";

/// Runs the cases, only those with a row that starts with `only` if that is given.
pub fn run_cases(reference: &Binary, subject: &Binary, only: Option<&str>) -> Result<CaseReport, StartError> {
    let mut report = CaseReport::default();
    for group in GROUPS {
        let wanted = |case: &&Case| case.rows.iter().any(|row| only.is_none_or(|only| row.starts_with(only)));
        let mut cases = group.cases.iter().filter(wanted).peekable();
        if cases.peek().is_none() {
            continue;
        }
        let start = Instant::now();
        let mut pair = Pair::start(reference, subject, group.flags)?;
        // A server without HTTP has other things to answer for first.
        let _ = pair.settle();
        for case in cases {
            pair.begin(case.rows);
            (case.run)(&mut pair);
            pair.revive();
            report.add(case.rows, pair.take_findings());
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("group {:22} {seconds:5.1} s, {} findings so far", group.name, report.findings().len());
    }
    Ok(report)
}

/// Every row that a case names.
#[cfg(test)]
pub fn covered_rows() -> std::collections::BTreeSet<&'static str> {
    GROUPS.iter().flat_map(|group| group.cases).flat_map(|case| case.rows).copied().collect()
}
