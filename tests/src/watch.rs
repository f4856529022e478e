//! A Watch stream from the client's side.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use prost::Message;

use crate::proto::etcdserverpb as pb;
use crate::wire::{Answer, Conn, StreamId};
use pb::watch_request::RequestUnion;

/// One stream on a connection of its own.
#[derive(Debug)]
pub struct Watch {
    conn: Conn,
    stream: StreamId,
}

impl Watch {
    /// Connects and opens the stream.
    pub fn open(address: SocketAddr) -> io::Result<Watch> {
        let mut conn = Conn::open(address)?;
        let stream = conn.open_stream("/etcdserverpb.Watch/Watch")?;
        Ok(Watch { conn, stream })
    }

    /// Sends a request.
    pub fn say(&mut self, request: &pb::WatchRequest) -> io::Result<()> {
        self.conn.say(self.stream, &request.encode_to_vec())
    }

    /// Asks for a watcher.
    pub fn create(&mut self, create: pb::WatchCreateRequest) -> io::Result<()> {
        self.say(&pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })
    }

    /// Sends bytes that need not be a request.
    pub fn say_bytes(&mut self, message: &[u8]) -> io::Result<()> {
        self.conn.say(self.stream, message)
    }

    /// Says that no request follows.
    pub fn half_close(&mut self) -> io::Result<()> {
        self.conn.half_close(self.stream)
    }

    /// The next response as bytes, if one comes in time.
    pub fn hear_bytes(&mut self, limit: Duration) -> io::Result<Option<Vec<u8>>> {
        self.conn.hear(self.stream, limit)
    }

    /// The next response, if one comes in time.
    pub fn hear(&mut self, limit: Duration) -> io::Result<Option<pb::WatchResponse>> {
        let bytes = self.hear_bytes(limit)?;
        bytes.map(|bytes| pb::WatchResponse::decode(&bytes[..]).map_err(io::Error::other)).transpose()
    }

    /// Whether the server ended the stream; then nothing more is heard.
    pub fn has_ended(&self) -> bool {
        self.conn.has_ended(self.stream)
    }

    /// How the server ended the stream; waits for that.
    pub fn end(mut self) -> io::Result<Answer> {
        self.conn.finish(self.stream)
    }
}

/// A watcher of one key.
pub fn watch_key(key: impl Into<Vec<u8>>) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: key.into().into(), ..Default::default() }
}

/// A watcher of `[key, end)`.
pub fn watch_range(key: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { range_end: end.into().into(), ..watch_key(key) }
}
