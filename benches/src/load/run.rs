//! One run of a plan: connections served in turn from one thread, until the time or the requests are used up.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kontiki_tests::random::Random;

use super::connection::Connection;
use super::latencies::Latencies;
use super::link::wait;
use super::workload::{Keys, Workload, key_bytes};

/// After the end of a run its last requests may take this long.
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(10);
/// An open loop that is this far behind is an overload, not a measurement.
const BACKLOG_MAX: u64 = 100_000;

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many streams of each connection are always under way.
    Closed {
        /// Streams a connection.
        streams: usize,
    },
    /// So many requests a second, whatever the server does.
    Open {
        /// Requests a second over all connections.
        rate: f64,
    },
}

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What is asked.
    pub workload: Workload,
    /// Over how many connections.
    pub connections: usize,
    /// When.
    pub pace: Pace,
    /// For how long.
    pub duration: Duration,
    /// At most so many requests; with that many keys or more, each key once in order.
    pub requests: Option<u64>,
    /// Chooses the keys.
    pub seed: u64,
}

/// What a run measured.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Requests answered.
    pub answered: u64,
    /// Of those, not with OK.
    pub failures: u64,
    /// The first failure.
    pub failure: Option<String>,
    /// From the first request to the end of the run.
    pub elapsed: Duration,
    /// All operations of the run, with those answered after its end: the server's CPU time is for these.
    pub operations: u64,
    /// Of all answers.
    pub latencies: Latencies,
}

impl Summary {
    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64()
    }
}

/// Carries out `plan` against the server at `address`.
pub fn run(address: SocketAddr, plan: &Plan) -> io::Result<Summary> {
    let connections = (0..plan.connections)
        .map(|_| Connection::open(address, &plan.workload))
        .collect::<io::Result<Vec<_>>>()?;
    let keys = match plan.requests {
        Some(requests) if requests >= plan.workload.keys => Keys::InOrder(0),
        _ => Keys::Uniform(Random::new(plan.seed), plan.workload.keys),
    };
    Run { plan, connections, keys, sent: 0, latencies: Latencies::default(), start: Instant::now() }.finish()
}

struct Run<'a> {
    plan: &'a Plan,
    connections: Vec<Connection>,
    keys: Keys,
    sent: u64,
    latencies: Latencies,
    start: Instant,
}

impl Run<'_> {
    fn finish(mut self) -> io::Result<Summary> {
        let end = self.start + self.plan.duration;
        while Instant::now() < end && !self.spent() {
            self.send_due();
            self.turn(end)?;
            self.check_backlog()?;
        }
        // What was answered until here counts; what is still under way only has to end.
        let mut elapsed = self.start.elapsed();
        let answered = self.latencies.len();
        let drained = Instant::now() + DRAIN_MAX;
        while self.under_way() > 0 && Instant::now() < drained {
            self.turn(drained)?;
        }
        let answered = if self.plan.requests.is_some() {
            elapsed = self.start.elapsed();
            self.latencies.len()
        } else {
            answered
        };
        Ok(Summary {
            answered: answered as u64,
            failures: self.connections.iter().map(|connection| connection.failures).sum::<u64>()
                + self.under_way() as u64,
            failure: self.connections.iter().find_map(|connection| connection.failure.clone()),
            elapsed,
            operations: self.latencies.len() as u64,
            latencies: self.latencies,
        })
    }

    fn spent(&self) -> bool {
        self.plan.requests.is_some_and(|requests| self.sent >= requests)
    }

    fn under_way(&self) -> usize {
        self.connections.iter().map(|connection| connection.under_way).sum()
    }

    fn send_due(&mut self) {
        let now = Instant::now();
        match self.plan.pace {
            Pace::Closed { streams } => {
                for index in 0..self.connections.len() {
                    while self.connections[index].under_way < streams
                        && self.connections[index].has_room()
                        && !self.spent()
                    {
                        self.send(index, now);
                    }
                }
            }
            Pace::Open { rate } => {
                let count = self.connections.len() as u64;
                while self.due_at(rate) <= now && !self.spent() {
                    let index = (self.sent % count) as usize;
                    if !self.connections[index].has_room() {
                        return;
                    }
                    self.send(index, self.due_at(rate));
                }
            }
        }
    }

    fn send(&mut self, index: usize, due: Instant) {
        let key = self.keys.next();
        self.connections[index].request(&key_bytes(key), due);
        self.sent += 1;
    }

    fn due_at(&self, rate: f64) -> Instant {
        self.start + Duration::from_secs_f64(self.sent as f64 / rate)
    }

    fn check_backlog(&self) -> io::Result<()> {
        if self.under_way() as u64 > BACKLOG_MAX {
            return Err(io::Error::other("the server cannot keep up with this rate"));
        }
        Ok(())
    }

    /// Sends, waits for answers or the next request, and takes what came.
    fn turn(&mut self, end: Instant) -> io::Result<()> {
        let limit = self.next_wait(end);
        let readable = wait(self.connections.iter_mut().map(|connection| &mut connection.link), limit)?;
        let latencies = &mut self.latencies;
        for (connection, _) in self.connections.iter_mut().zip(readable).filter(|(_, readable)| *readable) {
            let now = Instant::now();
            connection.receive(|due| latencies.add(now.saturating_duration_since(due)))?;
        }
        Ok(())
    }

    fn next_wait(&self, end: Instant) -> Duration {
        let next = match self.plan.pace {
            Pace::Open { rate } => self.due_at(rate).min(end),
            Pace::Closed { .. } => end,
        };
        next.saturating_duration_since(Instant::now()).min(Duration::from_millis(100))
    }
}
