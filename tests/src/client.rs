//! Typed unary calls over HTTP/2: one prost message in, one out, or the gRPC status.

use std::io;
use std::net::SocketAddr;

use prost::Message;

use crate::proto::etcdserverpb as pb;
use crate::wire::{Answer, Conn, End, Request, Status, StreamId};

/// What a call gives: the outer error is the connection's, the inner one the server's answer.
pub type Reply<R> = io::Result<Result<R, Status>>;

/// A client of one server, with one connection.
#[derive(Debug)]
pub struct Client {
    conn: Conn,
}

impl Client {
    /// Connects to a client port.
    pub fn open(address: SocketAddr) -> io::Result<Client> {
        Ok(Client { conn: Conn::open(address)? })
    }

    /// The connection, for requests that are not well-formed calls.
    pub fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    /// Calls `path` and waits.
    pub fn call<Q: Message, R: Message + Default>(&mut self, path: &str, request: &Q) -> Reply<R> {
        let answer = self.conn.exchange(&Request::grpc(path, &request.encode_to_vec()))?;
        parse(&answer)
    }

    /// Calls `path` without waiting; [`Client::finish`] takes the answer.
    pub fn start<Q: Message>(&mut self, path: &str, request: &Q) -> io::Result<StreamId> {
        self.conn.start(&Request::grpc(path, &request.encode_to_vec()))
    }

    /// Waits for the answer to a started call.
    pub fn finish<R: Message + Default>(&mut self, stream: StreamId) -> Reply<R> {
        parse(&self.conn.finish(stream)?)
    }

    /// KV.Range.
    pub fn range(&mut self, request: &pb::RangeRequest) -> Reply<pb::RangeResponse> {
        self.call("/etcdserverpb.KV/Range", request)
    }

    /// KV.Put of one pair.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Reply<pb::PutResponse> {
        let request =
            pb::PutRequest { key: key.to_vec().into(), value: value.to_vec().into(), ..Default::default() };
        self.call("/etcdserverpb.KV/Put", &request)
    }

    /// KV.DeleteRange.
    pub fn delete(&mut self, request: &pb::DeleteRangeRequest) -> Reply<pb::DeleteRangeResponse> {
        self.call("/etcdserverpb.KV/DeleteRange", request)
    }

    /// KV.Txn.
    pub fn txn(&mut self, request: &pb::TxnRequest) -> Reply<pb::TxnResponse> {
        self.call("/etcdserverpb.KV/Txn", request)
    }

    /// KV.Compact.
    pub fn compact(&mut self, revision: i64, physical: bool) -> Reply<pb::CompactionResponse> {
        self.call("/etcdserverpb.KV/Compact", &pb::CompactionRequest { revision, physical })
    }

    /// Maintenance.Alarm.
    pub fn alarm(&mut self, request: &pb::AlarmRequest) -> Reply<pb::AlarmResponse> {
        self.call("/etcdserverpb.Maintenance/Alarm", request)
    }

    /// Maintenance.HashKV, 0 for the newest revision.
    pub fn hash_kv(&mut self, revision: i64) -> Reply<pb::HashKvResponse> {
        self.call("/etcdserverpb.Maintenance/HashKV", &pb::HashKvRequest { revision })
    }

    /// Maintenance.Status.
    pub fn status(&mut self) -> Reply<pb::StatusResponse> {
        self.call("/etcdserverpb.Maintenance/Status", &pb::StatusRequest {})
    }
}

/// Reads a unary answer. Errors: a stream that ended without a status, or a message that is not `R`.
pub fn parse<R: Message + Default>(answer: &Answer) -> Reply<R> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    if answer.end != End::Stream {
        return Err(io::Error::new(io::ErrorKind::ConnectionAborted, format!("{:?}", answer.end)));
    }
    let status = answer.status().ok_or_else(|| invalid(format!("no grpc-status in {:?}", answer.blocks)))?;
    if status.code != 0 {
        return Ok(Err(status));
    }
    let messages = answer.messages()?;
    let [message] = messages.as_slice() else {
        return Err(invalid(format!("{} messages in a unary answer", messages.len())));
    };
    let response = R::decode(message.bytes.as_slice()).map_err(|error| invalid(error.to_string()))?;
    Ok(Ok(response))
}
