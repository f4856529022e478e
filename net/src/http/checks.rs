//! The checks behind `/livez` and `/readyz`, which run all, and report each.

use engine::error::ApiError;
use engine::request::AlarmKind;

use super::endpoints::{Probe, Response};
use super::query;

/// A check of `/livez` or `/readyz`, in the order they run here; etcd's order is random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] =
    &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    /// Runs a check that needs no waiting.
    fn run(self, probe: &impl Probe) -> Result<(), String> {
        match self {
            Check::DataCorruption if probe.alarms().contains(&AlarmKind::Corrupt) => {
                Err("alarm activated: CORRUPT".into())
            }
            Check::NonLearner if probe.is_learner() => Err("not supported for learner".into()),
            Check::DataCorruption | Check::NonLearner => Ok(()),
            Check::SerializableRead => probe.serializable_read().map_err(|error| error.to_string()),
            Check::LinearizableRead => unreachable!("a linearizable read is waited for"),
        }
    }
}

/// The checks a path names, whose first part is `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checks {
    kind: &'static str,
    which: Which,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// All of a list, but for excluded ones.
    All(&'static [Check]),
    /// One.
    One(Check),
}

impl Checks {
    /// The checks of a path, if it names any.
    pub(super) fn find(path: &str) -> Option<Checks> {
        let (kind, name) = match path.strip_prefix('/')?.split_once('/') {
            Some((kind, name)) => (kind, Some(name)),
            None => (&path[1..], None),
        };
        let (kind, list) = match kind {
            "livez" => ("livez", LIVEZ),
            "readyz" => ("readyz", READYZ),
            _ => return None,
        };
        let which = match name {
            None => Which::All(list),
            Some(name) => Which::One(list.iter().copied().find(|check| check.name() == name)?),
        };
        Some(Checks { kind, which })
    }

    /// Runs the checks that need no waiting.
    pub(super) fn run(self, query: &str, probe: &impl Probe) -> Outcome {
        let checks: Vec<Check> = match self.which {
            Which::All(list) => list.iter().copied().filter(|check| !is_excluded(*check, query)).collect(),
            Which::One(check) => vec![check],
        };
        let verbose = query::values(query, "verbose").next().is_some();
        match checks.iter().position(|check| *check == Check::LinearizableRead) {
            None => Outcome::Done(Report::run(self.kind, &checks, probe).response(verbose)),
            Some(at) => {
                let before = Report::run(self.kind, &checks[..at], probe);
                let after = Report::run(self.kind, &checks[at + 1..], probe);
                Outcome::NeedsRead(Rest { before, after, verbose })
            }
        }
    }
}

fn is_excluded(check: Check, query: &str) -> bool {
    query::values(query, "exclude").any(|excluded| excluded == check.name())
}

/// What the checks say.
pub(super) enum Outcome {
    /// All ran.
    Done(Response),
    /// A linearizable read is left.
    NeedsRead(Rest),
}

/// An answer that lacks the outcome of a linearizable read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    before: Report,
    after: Report,
    verbose: bool,
}

impl Rest {
    /// Finishes the answer, now that the read succeeded or failed.
    pub(super) fn resume(self, read: Result<(), ApiError>, probe: &impl Probe) -> Response {
        let Rest { before: mut report, after, verbose } = self;
        report.add(Check::LinearizableRead, read.map_err(|error| error.to_string()), probe);
        report.lines.push_str(&after.lines);
        report.failed |= after.failed;
        report.response(verbose)
    }
}

/// Outcome of some checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Report {
    kind: &'static str,
    lines: String,
    failed: bool,
}

impl Report {
    fn run(kind: &'static str, checks: &[Check], probe: &impl Probe) -> Report {
        let mut report = Report { kind, ..Report::default() };
        for check in checks {
            report.add(*check, check.run(probe), probe);
        }
        report
    }

    fn add(&mut self, check: Check, outcome: Result<(), String>, probe: &impl Probe) {
        let name = check.name();
        probe.on_checked(self.kind, name, outcome.is_ok());
        match outcome {
            Ok(()) => self.lines.push_str(&format!("[+]{name} ok\n")),
            Err(error) => {
                self.failed = true;
                self.lines.push_str(&format!("[-]{name} failed: {error}\n"));
            }
        }
    }

    fn response(self, verbose: bool) -> Response {
        if self.failed {
            return Response::text(503, &self.lines);
        }
        let lines = if verbose { self.lines } else { String::new() };
        Response::text(200, &format!("{lines}ok"))
    }
}
