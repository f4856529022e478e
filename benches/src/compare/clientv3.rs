//! etcd's own Go client as the one who asks: what most programs in front of a server are.

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kontiki_tests::scratch::workspace;
use kontiki_tests::server::Server;

use crate::load::Method;

use super::counters::Counters;
use super::report::Sample;
use super::scenario::{Measured, Options, per_operation};

/// What is said where there is no Go.
const MISSING: &str = "needs Go (https://go.dev/dl), which is not installed";

/// So many clients of one connection each, with so many callers each.
pub(super) fn measure(
    server: &Server,
    method: Method,
    connections: usize,
    callers: usize,
    options: &Options,
    seed: u64,
) -> io::Result<Measured> {
    let Some(program) = build()? else { return Ok(Err(MISSING)) };
    let method = match method {
        Method::Put => "put",
        Method::Get | Method::SerializableGet => "get",
    };
    let mut command = Command::new(program);
    command.args(["-endpoint", &server.client().to_string(), "-method", method]);
    command.args(["-connections", &connections.to_string(), "-callers", &callers.to_string()]);
    command.args(["-keys", &options.keys.to_string(), "-value", &options.value_len.to_string()]);
    command.args(["-duration", &format!("{}ms", options.duration.as_millis()), "-seed", &seed.to_string()]);
    let before = Counters::read(server.id())?;
    let output = command.output()?;
    let spent = Counters::read(server.id())?.since(&before);
    let text = String::from_utf8_lossy(&output.stdout);
    let failed = || io::Error::other(format!("the Go client: {}", String::from_utf8_lossy(&output.stderr)));
    let said = Said::read(&text).filter(|_| output.status.success()).ok_or_else(failed)?;
    let Said { answered, seconds, p50, p99 } = said;
    Ok(Ok(Sample {
        rate: answered as f64 / seconds,
        p50: Some(p50),
        p99: Some(p99),
        ..per_operation(&spent, answered)
    }))
}

/// Builds the program; `None` if there is no Go. What was built before is used again by Go itself.
fn build() -> io::Result<Option<PathBuf>> {
    let program = workspace().join("target/clients/load");
    let mut command = Command::new("go");
    command.current_dir(workspace().join("tests/clients/go")).arg("build").arg("-o").arg(&program);
    match command.arg("./load").output() {
        Ok(output) if output.status.success() => Ok(Some(program)),
        Ok(output) => Err(io::Error::other(format!("go build: {}", String::from_utf8_lossy(&output.stderr)))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the program says.
#[derive(Debug, PartialEq)]
struct Said {
    answered: u64,
    seconds: f64,
    p50: Duration,
    p99: Duration,
}

impl Said {
    fn read(text: &str) -> Option<Said> {
        let words = text.split_whitespace().collect::<Vec<_>>();
        let after = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1)?.parse::<f64>().ok()
        };
        let latency = |name| after(name).map(|us| Duration::from_secs_f64(us / 1e6));
        Some(Said {
            answered: after("answered")? as u64,
            seconds: after("seconds")?,
            p50: latency("p50_us")?,
            p99: latency("p99_us")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_says_is_read() {
        let said = Said::read("answered 1200 seconds 2.500000 p50_us 250.0 p99_us 1500.0\n").unwrap();
        let [p50, p99] = [250, 1500].map(Duration::from_micros);
        assert_eq!(said, Said { answered: 1200, seconds: 2.5, p50, p99 });
        assert_eq!(Said::read("answered 1200"), None);
    }
}
