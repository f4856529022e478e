//! Runs generated calls and, when the servers differ, looks for the fewest calls that still show it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::server::{Binary, StartError};

use super::call::{Call, Outcome};
use super::generate::Generator;
use super::pair::{Finding, Pair};
use super::report::GeneratedReport;
use super::terse::terse;

/// Shrinking starts two servers for each try; after this long the best so far is good enough.
const SHRINK_MAX: Duration = Duration::from_secs(90);

/// Makes `cases` calls from `seed` on both, or fewer if they differ.
pub fn run_generated(
    reference: &Binary,
    subject: &Binary,
    seed: u64,
    cases: usize,
) -> Result<GeneratedReport, StartError> {
    let mut pair = Pair::start(reference, subject, &[])?;
    let mut generator = Generator::new(seed);
    let mut report =
        GeneratedReport { seed, kinds: BTreeMap::new(), errors: BTreeMap::new(), difference: None };
    let mut calls = Vec::new();
    for _ in 0..cases {
        let (kind, call) = generator.call();
        *report.kinds.entry(kind.name()).or_default() += 1;
        let outcome = pair.call(call.clone());
        generator.observe(&call, &outcome);
        if let Outcome::Error(status) = &outcome {
            *report.errors.entry(format!("{} {}", status.code, status.message)).or_default() += 1;
        }
        calls.push(call);
        if let Some(finding) = pair.take_findings().into_iter().next() {
            drop(pair);
            println!("a difference at call {}; shrinking", calls.len());
            let (finding, calls) = shrink(reference, subject, finding, calls)?;
            report.difference = Some((finding, calls.iter().map(terse).collect()));
            break;
        }
    }
    Ok(report)
}

/// Takes out ever smaller runs of calls as long as a difference stays (delta debugging, Zeller 1999).
fn shrink(
    reference: &Binary,
    subject: &Binary,
    finding: Finding,
    calls: Vec<Call>,
) -> Result<(Finding, Vec<Call>), StartError> {
    let deadline = Instant::now() + SHRINK_MAX;
    let (mut finding, mut calls) = (finding, calls);
    let mut chunk = calls.len() / 2;
    while chunk > 0 {
        let mut start = 0;
        while start < calls.len() {
            if Instant::now() > deadline {
                return Ok((finding, calls));
            }
            let fewer = without(&calls, start, chunk);
            match replay(reference, subject, &fewer)? {
                Some((found, length)) => {
                    finding = found;
                    calls = fewer;
                    calls.truncate(length);
                }
                None => start += chunk,
            }
        }
        chunk /= 2;
    }
    Ok((finding, calls))
}

fn without(calls: &[Call], start: usize, len: usize) -> Vec<Call> {
    let end = (start + len).min(calls.len());
    [&calls[..start], &calls[end..]].concat()
}

/// The first difference and how many calls it took.
fn replay(
    reference: &Binary,
    subject: &Binary,
    calls: &[Call],
) -> Result<Option<(Finding, usize)>, StartError> {
    let mut pair = Pair::start(reference, subject, &[])?;
    for (index, call) in calls.iter().enumerate() {
        pair.call(call.clone());
        if let Some(finding) = pair.take_findings().into_iter().next() {
            return Ok(Some((finding, index + 1)));
        }
    }
    Ok(None)
}
