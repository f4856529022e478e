//! A watch that goes on where it was when its stream breaks, as every client of etcd must.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::CALL_MAX;
use crate::pb::etcdserverpb::watch_client::WatchClient;
use crate::pb::etcdserverpb::watch_request::RequestUnion;
use crate::pb::etcdserverpb::{WatchCreateRequest, WatchRequest};
use crate::pb::mvccpb::KeyValue;

/// The reading end; a task follows the stream.
pub struct Watcher {
    events: mpsc::UnboundedReceiver<String>,
    breaks: Arc<AtomicUsize>,
}

impl Watcher {
    /// Watches what begins with `prefix`, from `revision` on. Returns when the watch is there.
    pub async fn open(client: WatchClient<Channel>, prefix: &'static str, revision: i64) -> Watcher {
        let (sender, events) = mpsc::unbounded_channel();
        let (created, is_created) = oneshot::channel();
        let breaks = Arc::new(AtomicUsize::new(0));
        let follower =
            Follower { client, prefix, next_revision: revision, created: Some(created), events: sender };
        tokio::spawn(follower.run(breaks.clone()));
        let created = time::timeout(CALL_MAX, is_created).await;
        assert!(matches!(created, Ok(Ok(()))), "no watch: {created:?}");
        Watcher { events, breaks }
    }

    /// The next `count` events, each as text.
    pub async fn take(&mut self, count: usize) -> Vec<String> {
        let mut taken = Vec::new();
        while taken.len() < count {
            match time::timeout(2 * CALL_MAX, self.events.recv()).await {
                Ok(Some(event)) => taken.push(event),
                _ => panic!("{count} events wanted, there are {taken:?}"),
            }
        }
        taken
    }

    /// Whether all events have been taken.
    pub fn is_drained(&self) -> bool {
        self.events.is_empty()
    }

    /// How often the stream broke.
    pub fn breaks(&self) -> usize {
        self.breaks.load(Ordering::Relaxed)
    }
}

struct Follower {
    client: WatchClient<Channel>,
    prefix: &'static str,
    next_revision: i64,
    created: Option<oneshot::Sender<()>>,
    events: mpsc::UnboundedSender<String>,
}

impl Follower {
    /// Goes on until nobody reads, or the stream ends in another way than with its connection.
    async fn run(mut self, breaks: Arc<AtomicUsize>) {
        while !self.events.is_closed() {
            let Err(status) = self.follow().await else { continue };
            // tonic has no code of its own for a connection that breaks under a stream.
            let broken = matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal);
            assert!(broken, "the watch ended: {status}");
            breaks.fetch_add(1, Ordering::Relaxed);
            time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn follow(&mut self) -> Result<(), Status> {
        let (requests, stream) = mpsc::unbounded_channel();
        let create = WatchCreateRequest {
            key: self.prefix.into(),
            range_end: end_of(self.prefix),
            start_revision: self.next_revision,
            ..Default::default()
        };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        requests.send(request).expect("the receiver is here");
        let mut responses = self.client.watch(UnboundedReceiverStream::new(stream)).await?.into_inner();
        while let Some(response) = responses.message().await? {
            if let Some(created) = self.created.take_if(|_| response.created) {
                let _ = created.send(());
            }
            for event in response.events {
                let pair = event.kv.as_ref().expect("an event has a key");
                self.next_revision = pair.mod_revision + 1;
                if self.events.send(format!("{:?} {}", event.r#type(), text(pair))).is_err() {
                    return Ok(());
                }
            }
        }
        Err(Status::unavailable("the server ended the stream"))
    }
}

/// The end of the range of what begins with `prefix`, which does not end with 0xff.
pub fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix") += 1;
    end
}

/// A pair in words.
pub fn text(pair: &KeyValue) -> String {
    let part = String::from_utf8_lossy;
    format!("{}={} at {}", part(&pair.key), part(&pair.value), pair.mod_revision)
}
