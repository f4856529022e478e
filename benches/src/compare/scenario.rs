//! The scenarios, and how one round of them is run on one server.

use std::fs;
use std::io;
use std::process::Command;
use std::time::Duration;

use kontiki_tests::scratch::Scratch;
use kontiki_tests::server::{Binary, Server};
use kontiki_tests::wire::{Conn, Request, frame_message};

use crate::load::{Method, Pace, Plan, Summary, Workload, key_bytes, run};

use super::counters::{Counters, Spent};
use super::report::{Results, Sample};

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What reports call it.
    pub name: &'static str,
    method: Method,
    connections: usize,
    driver: Driver,
}

/// Who makes the requests.
#[derive(Clone, Copy, Debug)]
enum Driver {
    /// Our generator, random keys, so many streams a connection.
    Closed(usize),
    /// Our generator, random keys, so many requests a second.
    Open(f64),
    /// h2load, one key, so many streams a connection.
    H2load(usize),
}

const fn scenario(name: &'static str, method: Method, connections: usize, driver: Driver) -> Scenario {
    Scenario { name, method, connections, driver }
}

/// All of them; connections x streams.
pub const SCENARIOS: &[Scenario] = &[
    scenario("put 10x100", Method::Put, 10, Driver::Closed(100)),
    scenario("put 10x10", Method::Put, 10, Driver::Closed(10)),
    scenario("put 1x1", Method::Put, 1, Driver::Closed(1)),
    scenario("put at 1000/s", Method::Put, 10, Driver::Open(1_000.0)),
    scenario("put 10x100 h2load, one key", Method::Put, 10, Driver::H2load(100)),
    scenario("get 10x100", Method::Get, 10, Driver::Closed(100)),
    scenario("get 10x10", Method::Get, 10, Driver::Closed(10)),
    scenario("get 1x1", Method::Get, 1, Driver::Closed(1)),
    scenario("serializable get 10x100", Method::SerializableGet, 10, Driver::Closed(100)),
    scenario("get 10x100 h2load, one key", Method::Get, 10, Driver::H2load(100)),
];

/// How much is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rounds; each server runs once in each.
    pub rounds: usize,
    /// Seconds a scenario.
    pub duration: Duration,
    /// Keys in the store.
    pub keys: u64,
    /// Bytes a value.
    pub value_len: usize,
    /// Only scenarios whose name contains one of these; all if there is none.
    pub only: Vec<String>,
    /// Ends the names of the report's files.
    pub label: Option<String>,
}

/// Runs everything; `servers` take turns.
pub fn run_all(servers: &[Binary], options: &Options) -> Result<Results, Box<dyn std::error::Error>> {
    let mut results = Results::default();
    for round in 0..options.rounds {
        for binary in servers {
            let server = Server::start(binary, &["--quota-backend-bytes=8589934592"])?;
            let sample = fill(&server, options.keys, options.value_len)?;
            println!("round {} {:10} {LOAD:28} {sample}", round + 1, binary.name);
            results.add(LOAD, &binary.name, sample);
            for scenario in SCENARIOS {
                let is_chosen = |only: &String| scenario.name.contains(only.as_str());
                if !options.only.is_empty() && !options.only.iter().any(is_chosen) {
                    continue;
                }
                match measure(&server, scenario, options, round as u64)? {
                    Some(sample) => {
                        println!("round {} {:10} {:28} {sample}", round + 1, binary.name, scenario.name);
                        results.add(scenario.name, &binary.name, sample);
                    }
                    None => println!(
                        "{}: h2load is missing (Debian: apt-get install nghttp2-client)",
                        scenario.name
                    ),
                }
            }
        }
    }
    Ok(results)
}

/// What reports call the filling of a store.
pub(super) const LOAD: &str = "load 10x100, each key once";

/// Puts every key once, in no order.
pub(super) fn fill(server: &Server, keys: u64, value_len: usize) -> io::Result<Sample> {
    put(server, Workload { method: Method::Put, keys, value_len }, keys)
}

/// So many puts, each key once if that is as many as there are keys.
pub(super) fn put(server: &Server, workload: Workload, requests: u64) -> io::Result<Sample> {
    let plan = Plan {
        workload,
        connections: 10,
        pace: Pace::Closed { streams: 100 },
        duration: Duration::from_secs(600),
        requests: Some(requests),
        seed: 0,
    };
    let before = Counters::read(server.id())?;
    let mut summary = run(server.client(), &plan)?;
    let spent = Counters::read(server.id())?.since(&before);
    if summary.answered != requests || summary.failures > 0 {
        let text = format!("puts: {} of {requests} answered, {:?}", summary.answered, summary.failure);
        return Err(io::Error::other(text));
    }
    Ok(sample_of(&mut summary, &spent))
}

/// One run; `None` if h2load is missing.
fn measure(
    server: &Server,
    scenario: &Scenario,
    options: &Options,
    round: u64,
) -> io::Result<Option<Sample>> {
    let workload = Workload { method: scenario.method, keys: options.keys, value_len: options.value_len };
    let pace = match scenario.driver {
        Driver::Closed(streams) => Pace::Closed { streams },
        Driver::Open(rate) => Pace::Open { rate },
        Driver::H2load(streams) => return h2load(server, scenario, &workload, streams, options),
    };
    let plan = Plan {
        workload,
        connections: scenario.connections,
        pace,
        duration: options.duration,
        requests: None,
        seed: round,
    };
    let before = Counters::read(server.id())?;
    let mut summary = run(server.client(), &plan)?;
    let spent = Counters::read(server.id())?.since(&before);
    if summary.failures > 0 {
        return Err(io::Error::other(format!("{}: {:?}", scenario.name, summary.failure)));
    }
    Ok(Some(sample_of(&mut summary, &spent)))
}

fn sample_of(summary: &mut Summary, spent: &Spent) -> Sample {
    let [p50, p99] = [0.5, 0.99].map(|quantile| Some(summary.latencies.quantile(quantile)));
    Sample { rate: summary.rate(), p50, p99, ..per_operation(spent, summary.latencies.len()) }
}

fn per_operation(spent: &Spent, operations: usize) -> Sample {
    let operations = operations.max(1) as f64;
    Sample {
        cpu_us: spent.cpu_us / operations,
        flushes: spent.flushes as f64 / operations,
        steal: spent.steal,
        ..Sample::default()
    }
}

fn h2load(
    server: &Server,
    scenario: &Scenario,
    workload: &Workload,
    streams: usize,
    options: &Options,
) -> io::Result<Option<Sample>> {
    let scratch = Scratch::new("h2load")?;
    let body = scratch.path().join("body");
    let message = workload.message(&key_bytes(0));
    fs::write(&body, frame_message(&message, false))?;
    let mut command = Command::new("h2load");
    command.args(["-t", "1", "-c", &scenario.connections.to_string(), "-m", &streams.to_string()]);
    command.args(["-D", &options.duration.as_secs().max(1).to_string(), "-d", &body.display().to_string()]);
    command.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
    command.arg(format!("http://{}{}", server.client(), workload.path()));
    // h2load does not look at trailers.
    let sample = Conn::open(server.client())?.exchange(&Request::grpc(workload.path(), &message))?;
    if sample.status().is_none_or(|status| status.code != 0) {
        return Err(io::Error::other(format!("{}: {sample:?}", scenario.name)));
    }
    let before = Counters::read(server.id())?;
    let output = match command.output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let spent = Counters::read(server.id())?.since(&before);
    let (rate, count) = read_h2load(&output).ok_or_else(|| io::Error::other(format!("h2load: {output}")))?;
    Ok(Some(Sample { rate, ..per_operation(&spent, count) }))
}

/// Requests a second and their number, if all were answered with a 2xx.
fn read_h2load(output: &str) -> Option<(f64, usize)> {
    let line = |start: &str| output.lines().find(|line| line.starts_with(start));
    let rate = line("finished in")?.split(", ").find_map(|part| part.strip_suffix(" req/s"))?.parse().ok()?;
    let codes = line("status codes:")?;
    let count = codes.strip_prefix("status codes: ")?.split(' ').next()?.parse().ok()?;
    let clean = ["0 3xx", "0 4xx", "0 5xx"].iter().all(|part| codes.contains(part));
    (clean && count > 0).then_some((rate, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h2load_is_read() {
        let output = "finished in 2.00s, 53190.50 req/s, 3.41MB/s\nrequests: 106381 total\n\
                      status codes: 106381 2xx, 0 3xx, 0 4xx, 0 5xx\n";
        assert_eq!(read_h2load(output), Some((53_190.5, 106_381)));
        assert_eq!(read_h2load(&output.replace("0 4xx", "7 4xx")), None);
        assert_eq!(read_h2load("h2load: no such option"), None);
    }
}
