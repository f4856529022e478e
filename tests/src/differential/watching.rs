//! Watch streams to both servers: what is said goes to both, what is heard is compared message by message.

use std::io;
use std::time::Duration;

use crate::proto::etcdserverpb as pb;
use crate::watch::Watch;
use crate::wire::End;
use pb::watch_request::RequestUnion;

use super::call::{Call, Outcome, Reply};
use super::pair::Pair;
use super::terse::terse;

/// etcd looks after watchers that are behind ten times a second.
const HEAR_MAX: Duration = Duration::from_secs(3);
/// Silence is believed after this.
const SILENCE: Duration = Duration::from_millis(400);

/// The two streams.
pub struct Watching<'a> {
    pair: &'a mut Pair,
    streams: Vec<Watch>,
}

impl<'a> Watching<'a> {
    /// Opens them.
    pub fn open(pair: &'a mut Pair) -> Watching<'a> {
        let opened: io::Result<Vec<Watch>> = pair.addresses().into_iter().map(Watch::open).collect();
        let streams = opened.unwrap_or_else(|error| {
            pair.expect(false, &format!("no stream: {error}"));
            Vec::new()
        });
        Watching { pair, streams }
    }

    /// The servers, for calls of other kinds.
    pub fn pair(&mut self) -> &mut Pair {
        self.pair
    }

    /// Sends a request to both.
    pub fn say(&mut self, request: RequestUnion) {
        let request = pb::WatchRequest { request_union: Some(request) };
        self.each(|stream| stream.say(&request));
    }

    /// Sends any bytes as a message to both.
    pub fn say_bytes(&mut self, bytes: &[u8]) {
        self.each(|stream| stream.say_bytes(bytes));
    }

    /// Says to both that no request follows.
    pub fn half_close(&mut self) {
        self.each(Watch::half_close);
    }

    fn each(&mut self, work: impl Fn(&mut Watch) -> io::Result<()>) {
        for stream in &mut self.streams {
            if let Err(error) = work(stream) {
                self.pair.expect(false, &format!("the stream broke: {error}"));
            }
        }
    }

    /// Asks for a watcher, and hears one response.
    pub fn create(&mut self, create: pb::WatchCreateRequest) -> pb::WatchResponse {
        self.say(RequestUnion::CreateRequest(create));
        self.hear(1).pop().unwrap_or_default()
    }

    /// Cancels a watcher.
    pub fn cancel(&mut self, watch_id: i64) {
        self.say(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }));
    }

    /// Asks for progress.
    pub fn progress(&mut self) {
        self.say(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    }

    /// Hears `count` responses of both, and compares them by watcher: between watchers there is no order. Gives the
    /// reference's.
    pub fn hear(&mut self, count: usize) -> Vec<pb::WatchResponse> {
        let call = Call::Watch(pb::WatchRequest::default());
        let mut heard = Vec::new();
        for (side, stream) in self.streams.iter_mut().enumerate() {
            let mut outcomes = Vec::new();
            while outcomes.len() < count {
                let outcome = match stream.hear_bytes(HEAR_MAX) {
                    Ok(Some(bytes)) => self.pair.outcome(side, &call, &bytes),
                    Ok(None) => Outcome::Broken("nothing is heard".into()),
                    Err(error) => Outcome::Broken(error.to_string()),
                };
                let broken = matches!(outcome, Outcome::Broken(_));
                outcomes.push(outcome);
                if broken {
                    break;
                }
            }
            outcomes.sort_by_key(|outcome| response(outcome).map(|response| response.watch_id));
            heard.push(outcomes);
        }
        if let [expected, found] = &heard[..] {
            self.pair.compare_stream(&format!("{count} responses"), expected, found);
            self.pair.expect(
                expected.len() == count && response(&expected[count - 1]).is_some(),
                "responses are missing",
            );
        }
        heard.first().into_iter().flatten().filter_map(|outcome| response(outcome).cloned()).collect()
    }

    /// Nothing is heard of either.
    pub fn silence(&mut self) {
        for (side, stream) in self.streams.iter_mut().enumerate() {
            if let Ok(Some(bytes)) = stream.hear_bytes(SILENCE) {
                let outcome = self.pair.outcome(side, &Call::Watch(pb::WatchRequest::default()), &bytes);
                self.pair.compare_stream(
                    "silence",
                    &"nothing".to_owned(),
                    &format!("side {side}: {}", terse(&outcome)),
                );
            }
        }
    }

    /// Both streams end, and alike.
    pub fn ends(self) {
        let ends = self.streams.into_iter().map(|stream| match stream.end() {
            Ok(answer) if answer.end == End::Stream => {
                format!("{:?} after {}", answer.status(), answer.shape)
            }
            Ok(answer) => format!("{:?}", answer.end),
            Err(error) => error.to_string(),
        });
        if let [expected, found] = &ends.collect::<Vec<_>>()[..] {
            self.pair.compare_stream("the end", expected, found);
        }
    }
}

fn response(outcome: &Outcome) -> Option<&pb::WatchResponse> {
    match outcome {
        Outcome::Reply { reply, .. } => match &**reply {
            Reply::Watch(response) => Some(response),
            _ => None,
        },
        _ => None,
    }
}
