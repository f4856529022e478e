//! h2spec, the conformance tests for HTTP/2 servers, against the client port: its groups generic, http2 and hpack.
//!
//! Each of its tests must pass and none may be left out. Two needs of theirs are met here: a stream limit, without
//! which the test of one has nothing to exceed, and a `GET` that is answered with a body.

use std::path::PathBuf;
use std::process::Command;

use crate::scratch::workspace;
use crate::server::{Binary, Server};

use super::{Failure, Verdict, ensure};

/// Seconds h2spec waits for a frame; a busy machine needs more than its default of 2.
const TIMEOUT_S: &str = "5";

/// Runs all.
pub fn run(binary: &Binary) -> Verdict {
    let tool = tool()?;
    let mut server = Server::start(binary, &["--max-concurrent-streams=100"])?;
    let port = server.client().port().to_string();
    let output = Command::new(tool)
        .args(["-h", "127.0.0.1", "-p", &port, "-o", TIMEOUT_S, "generic", "http2", "hpack"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let sum = text.lines().rev().find_map(Sum::parse);
    let Some(sum) = sum else { return Err(Failure::Wrong(format!("h2spec gave no sum:\n{text}"))) };
    let failures = || text.split_once("Failures:").map_or("", |(_, failures)| failures).to_owned();
    ensure(sum.failed == 0, failures)?;
    ensure(sum.skipped == 0, || format!("{} tests were left out:\n{text}", sum.skipped))?;
    ensure(server.is_running(), || "the server died of it".to_owned())?;
    Ok(format!("{} tests", sum.passed))
}

/// h2spec: `H2SPEC`, or what `get-h2spec.sh` has built.
fn tool() -> Result<PathBuf, Failure> {
    let built = || workspace().join("tests/borrowed/bin/h2spec");
    let path = std::env::var_os("H2SPEC").map_or_else(built, PathBuf::from);
    ensure(path.is_file(), || format!("{} is not there: run tests/borrowed/get-h2spec.sh", path.display()))?;
    Ok(path)
}

/// The last line of h2spec's report.
#[derive(Debug, PartialEq, Eq)]
struct Sum {
    passed: u32,
    skipped: u32,
    failed: u32,
}

impl Sum {
    fn parse(line: &str) -> Option<Sum> {
        let mut counts = line.split(", ").map(|part| part.split_once(' '));
        let (_, "tests") = counts.next()?? else { return None };
        let mut next = |what: &str| {
            let (count, kind) = counts.next()??;
            if kind == what { count.parse().ok() } else { None }
        };
        Some(Sum { passed: next("passed")?, skipped: next("skipped")?, failed: next("failed")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_read() {
        let line = "145 tests, 137 passed, 5 skipped, 3 failed";
        assert_eq!(Sum::parse(line), Some(Sum { passed: 137, skipped: 5, failed: 3 }));
        assert_eq!(Sum::parse("Finished in 2.0634 seconds"), None);
    }
}
