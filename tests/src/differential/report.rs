//! What a run found, and whether that is good enough.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::pair::Finding;
use super::rows::Rows;

/// The hand-written cases' outcome.
#[derive(Debug, Default)]
pub struct CaseReport {
    cases: usize,
    covered: BTreeSet<&'static str>,
    findings: Vec<Finding>,
}

impl CaseReport {
    /// Adds one case.
    pub(super) fn add(&mut self, rows: &'static [&'static str], findings: Vec<Finding>) {
        self.cases += 1;
        self.covered.extend(rows);
        self.findings.extend(findings);
    }

    /// Everything found.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Prints the outcome; true if nothing but known differences was found. With `complete`, every row in scope
    /// must have had its case as well.
    pub fn print(&self, rows: &Rows, complete: bool) -> bool {
        let (known, new): (Vec<_>, Vec<_>) =
            self.findings.iter().partition(|finding| rows.reason(&finding.rows).is_some());
        for finding in &new {
            println!("{finding}\n");
        }
        for finding in &known {
            let reason = rows.reason(&finding.rows).expect("partitioned above");
            println!("known: {} ({reason})", finding.rows.join(" "));
        }
        let missing = if complete { rows.without_case(&self.covered) } else { Vec::new() };
        for row in &missing {
            println!("no case: {} ({})", row.id, row.text);
        }
        let unknown = rows.unknown(&self.covered);
        for id in &unknown {
            println!("no such row: {id}");
        }
        println!(
            "cases: {} run, {} of {} rows in scope covered, {} new and {} known differences; rows for later: {:?}",
            self.cases,
            self.covered.len() - unknown.len(),
            rows.in_scope(),
            new.len(),
            known.len(),
            rows.waiting(),
        );
        new.is_empty() && missing.is_empty() && unknown.is_empty()
    }
}

/// The generated calls' outcome.
#[derive(Debug)]
pub struct GeneratedReport {
    /// The seed that gives the same calls again.
    pub seed: u64,
    /// Calls made of each kind.
    pub kinds: BTreeMap<&'static str, usize>,
    /// How many were answered with an error by the reference, by text.
    pub errors: BTreeMap<String, usize>,
    /// The first difference with the fewest calls that were found to lead to it.
    pub difference: Option<(Finding, Vec<String>)>,
}

impl GeneratedReport {
    /// Prints the outcome; true if there was no difference.
    pub fn print(&self) -> bool {
        if let Some((finding, calls)) = &self.difference {
            println!("{finding}\nCalls that lead to it on a new store:");
            for call in calls {
                println!("  {call}");
            }
        }
        let total = self.kinds.values().sum::<usize>();
        println!("kinds of calls:");
        for (kind, count) in &self.kinds {
            println!("  {kind:20} {count:6}  {:5.1} %", *count as f64 * 100.0 / total as f64);
        }
        println!("errors of the reference:");
        for (text, count) in &self.errors {
            println!("  {count:6}  {text}");
        }
        let differences = usize::from(self.difference.is_some());
        println!(
            "generated: {total} calls on both sides with --seed {}, {differences} differences",
            self.seed
        );
        self.difference.is_none()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "DIFFERENCE {} call {}", self.rows.join(" "), self.step)?;
        writeln!(f, "  {}", self.call)?;
        for line in self.difference.lines() {
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }
}
