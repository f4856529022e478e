//! Leases that are kept alive as fast as the server takes it: each has one renewal under way at any time.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kontiki_tests::client::Client;
use kontiki_tests::proto::etcdserverpb as pb;
use prost::Message;

use super::calls::{Calls, turn};
use super::fields::number;
use super::latencies::Latencies;
use super::run::{DRAIN_MAX, Summary};

const PATH: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
/// Longer than any run.
const TTL: i64 = 3600;
/// Grants under way at once.
const GRANTS: usize = 100;

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct RenewalPlan {
    /// How many leases: a multiple of all streams, which share them equally.
    pub leases: usize,
    /// Over how many connections.
    pub connections: usize,
    /// Streams of each connection.
    pub streams: usize,
    /// For how long.
    pub duration: Duration,
}

/// Leases that are granted, and streams that are open.
pub struct Renewals {
    plan: RenewalPlan,
    connections: Vec<Calls>,
    /// By connection, then by stream.
    streams: Vec<Vec<Stream>>,
}

impl std::fmt::Debug for Renewals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewals").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// Leases that one stream renews in turn.
struct Stream {
    id: u32,
    leases: Vec<i64>,
    /// Renewals under way, oldest first: their leases' places and when they were sent. Answers come in order.
    under_way: VecDeque<(usize, Instant)>,
}

impl Renewals {
    /// Grants the leases and opens the streams.
    pub fn open(address: SocketAddr, plan: &RenewalPlan) -> io::Result<Renewals> {
        // First: a server does not wait long for a connection that says nothing.
        let granted = grant(address, plan.leases)?;
        let mut leases = granted.chunks_exact(plan.leases / (plan.connections * plan.streams));
        let mut connections =
            (0..plan.connections).map(|_| Calls::open(address, PATH)).collect::<io::Result<Vec<_>>>()?;
        let mut open = |calls: &mut Calls| {
            let leases = leases.next().expect("as many chunks as streams").to_vec();
            Stream { id: calls.begin(), leases, under_way: VecDeque::new() }
        };
        let streams =
            connections.iter_mut().map(|calls| (0..plan.streams).map(|_| open(calls)).collect()).collect();
        Ok(Renewals { plan: *plan, connections, streams })
    }

    /// Renews until the time is over; the leases stay. Errors: a lease that is gone too.
    pub fn run(mut self) -> io::Result<Summary> {
        let start = Instant::now();
        for (calls, streams) in self.connections.iter_mut().zip(&mut self.streams) {
            for stream in streams {
                (0..stream.leases.len()).try_for_each(|lease| stream.renew(calls, lease))?;
            }
        }
        let end = start + self.plan.duration;
        let mut latencies = Latencies::default();
        while Instant::now() < end {
            self.turn(end, true, &mut latencies)?;
        }
        let (elapsed, answered) = (start.elapsed(), latencies.len() as u64);
        let drained = Instant::now() + DRAIN_MAX;
        while self.under_way() > 0 && Instant::now() < drained {
            self.turn(drained, false, &mut latencies)?;
        }
        let (failures, operations) = (self.under_way() as u64, latencies.len() as u64);
        Ok(Summary { answered, failures, failure: None, elapsed, operations, latencies })
    }

    fn under_way(&self) -> usize {
        self.streams.iter().flatten().map(|stream| stream.under_way.len()).sum()
    }

    /// Takes answers, and renews those leases `again` if so.
    fn turn(&mut self, end: Instant, again: bool, latencies: &mut Latencies) -> io::Result<()> {
        let left = end.saturating_duration_since(Instant::now()).min(Duration::from_millis(100));
        let all = &mut self.streams;
        turn(&mut self.connections, left, |connection, calls, id, message| {
            // A client's streams have odd numbers, and only these were opened.
            let stream = &mut all[connection][(id / 2) as usize];
            let (lease, sent) = stream.on_answer(message)?;
            latencies.add(sent.elapsed());
            if again { stream.renew(calls, lease) } else { Ok(()) }
        })
    }
}

impl Stream {
    fn renew(&mut self, calls: &mut Calls, lease: usize) -> io::Result<()> {
        let request = pb::LeaseKeepAliveRequest { id: self.leases[lease] };
        self.under_way.push_back((lease, Instant::now()));
        calls.say(self.id, &request.encode_to_vec())
    }

    /// The renewal that was answered. Errors: an answer of another lease, or that the lease is gone.
    fn on_answer(&mut self, message: &[u8]) -> io::Result<(usize, Instant)> {
        let renewed = number(message, 3).is_some_and(|ttl| ttl > 0);
        let oldest = self.under_way.pop_front().filter(|(lease, _)| {
            renewed && number(message, 2).is_some_and(|id| id == self.leases[*lease] as u64)
        });
        oldest.ok_or_else(|| {
            io::Error::other(format!("a renewal: {:?}", pb::LeaseKeepAliveResponse::decode(message)))
        })
    }
}

fn grant(address: SocketAddr, count: usize) -> io::Result<Vec<i64>> {
    let mut client = Client::open(address)?;
    let request = pb::LeaseGrantRequest { ttl: TTL, id: 0 };
    let mut leases = Vec::new();
    while leases.len() < count {
        let window = GRANTS.min(count - leases.len());
        let grant = |_| client.start("/etcdserverpb.Lease/LeaseGrant", &request);
        let sent = (0..window).map(grant).collect::<io::Result<Vec<_>>>()?;
        for stream in sent {
            let answer = client.finish::<pb::LeaseGrantResponse>(stream)?;
            leases.push(answer.map_err(|status| io::Error::other(format!("{status:?}")))?.id);
        }
    }
    Ok(leases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_belong_to_the_oldest_renewal() {
        let mut stream = Stream { id: 1, leases: vec![7, -8], under_way: VecDeque::new() };
        let answer = |id, ttl| pb::LeaseKeepAliveResponse { header: None, id, ttl }.encode_to_vec();
        let now = Instant::now();
        stream.under_way.extend([(1, now), (0, now), (1, now)]);
        assert_eq!(stream.on_answer(&answer(-8, 5)).unwrap().0, 1);
        assert!(stream.on_answer(&answer(-8, 5)).is_err(), "of another lease");
        assert!(stream.on_answer(&answer(-8, 0)).is_err(), "gone");
        assert!(stream.on_answer(&answer(7, 5)).is_err(), "not asked");
    }
}
