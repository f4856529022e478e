//! The scenarios, and how one round of them is run on one server.

use std::fs;
use std::io;
use std::process::Command;
use std::time::Duration;

use kontiki_tests::scratch::Scratch;
use kontiki_tests::server::{Binary, Server};
use kontiki_tests::wire::{Conn, Request, frame_message};

use crate::load::{
    Audience, Method, Pace, Plan, ReadPlan, Reads, RenewalPlan, Renewals, Summary, WatchPlan, Watchers,
    Workload, key_bytes, read, run,
};

use super::clientv3;
use super::counters::{Counters, Spent};
use super::report::{Results, Sample};

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What reports call it.
    pub name: &'static str,
    connections: usize,
    driver: Driver,
}

/// Who asks what.
#[derive(Clone, Copy, Debug)]
enum Driver {
    /// Our generator, random keys, so many streams a connection.
    Closed(Method, usize),
    /// Our generator, random keys, so many requests a second.
    Open(Method, f64),
    /// h2load, one key, so many streams a connection.
    H2load(Method, usize),
    /// Our generator: so many watchers, so many puts under way until they are told.
    Watch(usize, Audience, usize),
    /// Our generator: so many leases renewed over so many streams a connection.
    Renew(usize, usize),
    /// Our generator: reads of many keys by so many readers a connection.
    Read(Reads, usize),
    /// etcd's Go client, random keys, so many callers a connection.
    Go(Method, usize),
}

const fn scenario(name: &'static str, connections: usize, driver: Driver) -> Scenario {
    Scenario { name, connections, driver }
}

/// All of them; connections x streams, readers or callers. An operation is a call, or what stands before the comma.
pub const SCENARIOS: &[Scenario] = &[
    scenario("put 10x100", 10, Driver::Closed(Method::Put, 100)),
    scenario("put 10x10", 10, Driver::Closed(Method::Put, 10)),
    scenario("put 1x1", 1, Driver::Closed(Method::Put, 1)),
    scenario("put at 1000/s", 10, Driver::Open(Method::Put, 1_000.0)),
    scenario("put 10x100 h2load, one key", 10, Driver::H2load(Method::Put, 100)),
    scenario("get 10x100", 10, Driver::Closed(Method::Get, 100)),
    scenario("get 10x10", 10, Driver::Closed(Method::Get, 10)),
    scenario("get 1x1", 1, Driver::Closed(Method::Get, 1)),
    scenario("serializable get 10x100", 10, Driver::Closed(Method::SerializableGet, 100)),
    scenario("get 10x100 h2load, one key", 10, Driver::H2load(Method::Get, 100)),
    scenario("count of all keys 1x1", 1, Driver::Read(Reads::Count, 1)),
    scenario("count of all keys 10x1", 10, Driver::Read(Reads::Count, 1)),
    scenario("page of 500 keys, 1x1", 1, Driver::Read(Reads::Pages(500), 1)),
    scenario("page of 500 keys, 10x1", 10, Driver::Read(Reads::Pages(500), 1)),
    scenario("watch event, 1000 of a prefix", 10, Driver::Watch(1_000, Audience::All, 100)),
    scenario("watch event, 10000 of a key", 10, Driver::Watch(10_000, Audience::One, 1_000)),
    scenario("lease renewal, 1000 leases", 10, Driver::Renew(1_000, 10)),
    scenario("lease renewal, 10000 leases", 10, Driver::Renew(10_000, 10)),
    scenario("clientv3 put 1x10", 1, Driver::Go(Method::Put, 10)),
    scenario("clientv3 put 10x10", 10, Driver::Go(Method::Put, 10)),
    scenario("clientv3 put 70x10", 70, Driver::Go(Method::Put, 10)),
    scenario("clientv3 get 1x10", 1, Driver::Go(Method::Get, 10)),
    scenario("clientv3 get 10x10", 10, Driver::Go(Method::Get, 10)),
    scenario("clientv3 get 70x10", 70, Driver::Go(Method::Get, 10)),
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
                    Ok(sample) => {
                        println!("round {} {:10} {:28} {sample}", round + 1, binary.name, scenario.name);
                        results.add(scenario.name, &binary.name, sample);
                    }
                    Err(missing) => println!("{}: left out, {missing}", scenario.name),
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
    let mut answered = 0;
    let sample = counted(server, "puts", || {
        run(server.client(), &plan).inspect(|summary| answered = summary.answered)
    })?;
    if answered != requests {
        return Err(io::Error::other(format!("puts: {answered} of {requests} answered")));
    }
    Ok(sample)
}

/// One run's numbers, or what is missing on this host.
pub(super) type Measured = Result<Sample, &'static str>;

/// One run.
fn measure(server: &Server, scenario: &Scenario, options: &Options, round: u64) -> io::Result<Measured> {
    let Options { keys, value_len, duration, .. } = *options;
    let Scenario { connections, driver, .. } = *scenario;
    let address = server.client();
    let closed = |method, pace| {
        let workload = Workload { method, keys, value_len };
        let plan = Plan { workload, connections, pace, duration, requests: None, seed: round };
        counted(server, scenario.name, || run(address, &plan))
    };
    match driver {
        Driver::Closed(method, streams) => closed(method, Pace::Closed { streams }),
        Driver::Open(method, rate) => closed(method, Pace::Open { rate }),
        Driver::H2load(method, streams) => {
            return h2load(server, scenario, &Workload { method, keys, value_len }, streams, options);
        }
        Driver::Go(method, callers) => {
            return clientv3::measure(server, method, connections, callers, options, round);
        }
        Driver::Read(reads, readers) => {
            let plan = ReadPlan { reads, keys, connections, readers, duration, seed: round };
            counted(server, scenario.name, || read(address, &plan))
        }
        Driver::Watch(watchers, audience, puts) => {
            let plan = WatchPlan { watchers, connections, audience, puts, value_len, duration };
            let watchers = Watchers::open(address, &plan)?;
            counted(server, scenario.name, || watchers.run())
        }
        Driver::Renew(leases, streams) => {
            let plan = RenewalPlan { leases, connections, streams, duration };
            let renewals = Renewals::open(address, &plan)?;
            counted(server, scenario.name, || renewals.run())
        }
    }
    .map(Ok)
}

/// What `run` gives, with what the server spent meanwhile. Errors: a failed operation.
fn counted(server: &Server, name: &str, run: impl FnOnce() -> io::Result<Summary>) -> io::Result<Sample> {
    let before = Counters::read(server.id())?;
    let mut summary = run().map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
    let spent = Counters::read(server.id())?.since(&before);
    if summary.failures > 0 {
        return Err(io::Error::other(format!("{name}: {} failed: {:?}", summary.failures, summary.failure)));
    }
    Ok(sample_of(&mut summary, &spent))
}

fn sample_of(summary: &mut Summary, spent: &Spent) -> Sample {
    let [p50, p99] = [0.5, 0.99].map(|quantile| Some(summary.latencies.quantile(quantile)));
    Sample { rate: summary.rate(), p50, p99, ..per_operation(spent, summary.operations) }
}

/// What one of so many operations cost the server.
pub(super) fn per_operation(spent: &Spent, operations: u64) -> Sample {
    let operations = operations.max(1) as f64;
    Sample {
        cpu_us: spent.cpu_us / operations,
        flushes: spent.flushes as f64 / operations,
        steal: spent.steal,
        ..Sample::default()
    }
}

/// What is said where it is not installed.
const NO_H2LOAD: &str = "needs h2load (Debian: apt-get install nghttp2-client), which is not installed";

fn h2load(
    server: &Server,
    scenario: &Scenario,
    workload: &Workload,
    streams: usize,
    options: &Options,
) -> io::Result<Measured> {
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
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(NO_H2LOAD)),
        Err(error) => return Err(error),
    };
    let spent = Counters::read(server.id())?.since(&before);
    let (rate, count) = read_h2load(&output).ok_or_else(|| io::Error::other(format!("h2load: {output}")))?;
    Ok(Ok(Sample { rate, ..per_operation(&spent, count) }))
}

/// Requests a second and their number, if all were answered with a 2xx.
fn read_h2load(output: &str) -> Option<(f64, u64)> {
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
