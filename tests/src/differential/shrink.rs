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
        if !pair.is_clean() {
            pair.revive();
        }
        let findings = pair.take_findings();
        if let Some(finding) = findings.into_iter().reduce(Finding::and) {
            drop(pair);
            println!("at call {} of seed {seed}, now shrinking: {finding}", calls.len());
            let (finding, calls) = shrink(reference, subject, finding, calls)?;
            report.difference = Some((finding, calls.iter().map(terse).collect()));
            break;
        }
    }
    Ok(report)
}

fn shrink(
    reference: &Binary,
    subject: &Binary,
    finding: Finding,
    calls: Vec<Call>,
) -> Result<(Finding, Vec<Call>), StartError> {
    let deadline = Instant::now() + SHRINK_MAX;
    reduce(finding, calls, |fewer| {
        if Instant::now() > deadline { Ok(Tried::GiveUp) } else { replay(reference, subject, fewer) }
    })
}

/// What became of a try with fewer calls.
enum Tried<F> {
    /// It still fails, so, after this many of the calls.
    Fails(F, usize),
    Passes,
    GiveUp,
}

/// Takes out ever smaller runs of items as long as a failure stays (delta debugging, Zeller 1999).
fn reduce<F, T: Clone, E>(
    mut failure: F,
    mut items: Vec<T>,
    mut attempt: impl FnMut(&[T]) -> Result<Tried<F>, E>,
) -> Result<(F, Vec<T>), E> {
    // Mostly the last few are enough, and few are quickly tried.
    let mut tail = 1;
    while tail < items.len() {
        let few = &items[items.len() - tail..];
        match attempt(few)? {
            Tried::Fails(found, length) => {
                (failure, items) = (found, few[..length].to_vec());
                break;
            }
            Tried::Passes => tail *= 2,
            Tried::GiveUp => return Ok((failure, items)),
        }
    }
    let mut chunk = items.len() / 2;
    while chunk > 0 {
        let mut start = 0;
        while start < items.len() {
            let end = (start + chunk).min(items.len());
            let mut fewer = [&items[..start], &items[end..]].concat();
            match attempt(&fewer)? {
                Tried::Fails(found, length) => {
                    failure = found;
                    fewer.truncate(length);
                    items = fewer;
                }
                Tried::Passes => start += chunk,
                Tried::GiveUp => return Ok((failure, items)),
            }
        }
        chunk /= 2;
    }
    Ok((failure, items))
}

/// Makes `calls` on two new servers up to the first difference.
fn replay(reference: &Binary, subject: &Binary, calls: &[Call]) -> Result<Tried<Finding>, StartError> {
    let mut pair = Pair::start(reference, subject, &[])?;
    for (index, call) in calls.iter().enumerate() {
        pair.call(call.clone());
        if let Some(finding) = pair.take_findings().into_iter().next() {
            return Ok(Tried::Fails(finding, index + 1));
        }
    }
    Ok(Tried::Passes)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn what_is_needed_stays() {
        let check = |needed: &[u32]| {
            let result = reduce((), (0..100).collect(), |fewer| {
                let last = needed.last().expect("not empty");
                let fails = needed.iter().all(|item| fewer.contains(item));
                let length = fewer.iter().position(|item| item == last).map_or(0, |at| at + 1);
                Ok::<_, Infallible>(if fails { Tried::Fails((), length) } else { Tried::Passes })
            });
            assert_eq!(result, Ok(((), needed.to_vec())));
        };
        check(&[0]);
        check(&[99]);
        check(&[3, 50, 51, 98]);
    }
}
