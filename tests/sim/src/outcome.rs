//! How single cases end, and their sums.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::trace::brief;
use crate::world::Stop;

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was right.
    Right,
    /// The process ended, or the data directory was refused, with a sentence that says why.
    Detected(String),
    /// Lost or wrong where nothing on the disk can tell: see "Blind spots" in `docs/testing.md`.
    Blind,
    /// What must never happen.
    Wrong(String),
}

impl Outcome {
    /// Runs a case. A panic is an assertion of the product's that failed, or of ours.
    pub fn of(case: impl FnOnce() -> Result<(), Stop>) -> Outcome {
        match catch_unwind(AssertUnwindSafe(case)) {
            Ok(Ok(())) => Outcome::Right,
            Ok(Err(Stop::Violation(what))) => Outcome::Wrong(brief(&what)),
            Ok(Err(detected)) => Outcome::Detected(brief(&detected.to_string())),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                Outcome::Wrong(brief(&format!("panicked: {text}")))
            }
        }
    }

    /// The same, where no fault was injected that would excuse giving up.
    pub fn of_sound(case: impl FnOnce() -> Result<(), Stop>) -> Outcome {
        match Outcome::of(case) {
            Outcome::Detected(what) => Outcome::Wrong(what),
            other => other,
        }
    }

    /// Whether a case where no fault was injected was right. Errors: what went wrong, in a sentence.
    pub fn into_result(self) -> Result<(), String> {
        match self {
            Outcome::Right => Ok(()),
            Outcome::Detected(what) | Outcome::Wrong(what) => Err(what),
            Outcome::Blind => unreachable!("no rot was injected"),
        }
    }
}

/// The sum of one kind of case.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// What was done.
    pub name: &'static str,
    /// Cases.
    pub cases: u64,
    /// Of them, how many ended with an error that says why.
    pub detected: u64,
    /// How many hit a blind spot.
    pub blind: u64,
    /// What went wrong, with what is needed to see it again.
    pub wrong: Vec<String>,
}

impl Row {
    /// No cases yet.
    pub fn new(name: &'static str) -> Row {
        Row { name, ..Row::default() }
    }

    /// Adds another sum of the same kind.
    pub fn merge(&mut self, other: Row) {
        self.cases += other.cases;
        self.detected += other.detected;
        self.blind += other.blind;
        self.wrong.extend(other.wrong);
    }

    /// Adds a case; `case` names it.
    pub fn add(&mut self, case: impl fmt::Display, outcome: Outcome) {
        self.cases += 1;
        match outcome {
            Outcome::Right => {}
            Outcome::Detected(_) => self.detected += 1,
            Outcome::Blind => self.blind += 1,
            Outcome::Wrong(what) => self.wrong.push(format!("{case}: {what}")),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { name, cases, detected, blind, wrong } = self;
        write!(f, "{name:44} {cases:6} cases, {detected:5} detected, {blind:3} blind, ")?;
        write!(f, "{} wrong", wrong.len())
    }
}
