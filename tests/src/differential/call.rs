//! A call as data: what is sent, what came back, and both in a form that two servers can be compared in.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use prost::Message;

use crate::proto::etcdserverpb as pb;
use crate::proto::grpc::health::v1 as health;
use crate::wire::{Answer, End, Request, Status, messages};

use super::ties::settle_ties;

/// In a request, stands for the id of the member that gets it.
pub const OWN_ID: u64 = u64::MAX;

macro_rules! calls {
    ($($name:ident: $request:ty => $response:ty = $path:literal,)*) => {
        /// A unary call with its request.
        #[derive(Clone, Debug, PartialEq)]
        #[expect(missing_docs, reason = "the names are the protocol's")]
        pub enum Call {
            $($name($request),)*
        }

        /// The response to a call of the same name.
        #[derive(Clone, Debug, PartialEq)]
        #[expect(missing_docs, reason = "the names are the protocol's")]
        pub enum Reply {
            $($name($response),)*
        }

        impl Call {
            /// Its method path.
            pub fn path(&self) -> &'static str {
                match self { $(Call::$name(_) => $path,)* }
            }

            /// Its name.
            pub fn name(&self) -> &'static str {
                match self { $(Call::$name(_) => stringify!($name),)* }
            }

            /// The encoded request.
            pub fn encode(&self) -> Vec<u8> {
                match self { $(Call::$name(request) => request.encode_to_vec(),)* }
            }

            fn decode(&self, bytes: &[u8]) -> Result<Reply, prost::DecodeError> {
                match self { $(Call::$name(_) => <$response>::decode(bytes).map(Reply::$name),)* }
            }
        }

        impl Reply {
            /// The response of the method at `path`, if that is one of these.
            fn of_path(path: &str, bytes: &[u8]) -> Option<Reply> {
                match path {
                    $($path => <$response>::decode(bytes).ok().map(Reply::$name),)*
                    _ => None,
                }
            }

            fn encode(&self) -> Vec<u8> {
                match self { $(Reply::$name(response) => response.encode_to_vec(),)* }
            }
        }

        $(impl From<$request> for Call {
            fn from(request: $request) -> Call {
                Call::$name(request)
            }
        })*
    };
}

calls! {
    Range: pb::RangeRequest => pb::RangeResponse = "/etcdserverpb.KV/Range",
    Put: pb::PutRequest => pb::PutResponse = "/etcdserverpb.KV/Put",
    Delete: pb::DeleteRangeRequest => pb::DeleteRangeResponse = "/etcdserverpb.KV/DeleteRange",
    Txn: pb::TxnRequest => pb::TxnResponse = "/etcdserverpb.KV/Txn",
    Compact: pb::CompactionRequest => pb::CompactionResponse = "/etcdserverpb.KV/Compact",
    Watch: pb::WatchRequest => pb::WatchResponse = "/etcdserverpb.Watch/Watch",
    LeaseGrant: pb::LeaseGrantRequest => pb::LeaseGrantResponse = "/etcdserverpb.Lease/LeaseGrant",
    LeaseRevoke: pb::LeaseRevokeRequest => pb::LeaseRevokeResponse = "/etcdserverpb.Lease/LeaseRevoke",
    LeaseKeepAlive: pb::LeaseKeepAliveRequest => pb::LeaseKeepAliveResponse = "/etcdserverpb.Lease/LeaseKeepAlive",
    LeaseTimeToLive: pb::LeaseTimeToLiveRequest => pb::LeaseTimeToLiveResponse = "/etcdserverpb.Lease/LeaseTimeToLive",
    LeaseLeases: pb::LeaseLeasesRequest => pb::LeaseLeasesResponse = "/etcdserverpb.Lease/LeaseLeases",
    Alarm: pb::AlarmRequest => pb::AlarmResponse = "/etcdserverpb.Maintenance/Alarm",
    Status: pb::StatusRequest => pb::StatusResponse = "/etcdserverpb.Maintenance/Status",
    HashKv: pb::HashKvRequest => pb::HashKvResponse = "/etcdserverpb.Maintenance/HashKV",
    Defragment: pb::DefragmentRequest => pb::DefragmentResponse = "/etcdserverpb.Maintenance/Defragment",
    MemberList: pb::MemberListRequest => pb::MemberListResponse = "/etcdserverpb.Cluster/MemberList",
    Health: health::HealthCheckRequest => health::HealthCheckResponse = "/grpc.health.v1.Health/Check",
}

impl Call {
    /// The request as it goes to the member `own`.
    pub fn request(&self, own: u64) -> Request {
        let body = match self {
            Call::Alarm(request) if request.member_id == OWN_ID => {
                pb::AlarmRequest { member_id: own, ..*request }.encode_to_vec()
            }
            call => call.encode(),
        };
        Request::grpc(self.path(), &body)
    }
}

/// What a call gave, comparable between servers.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A response. `canonical` is false when its bytes hold unknown fields or an unusual order.
    Reply {
        /// The message, with what may differ between servers made equal.
        reply: Box<Reply>,
        /// Whether encoding it again gives the bytes that came.
        canonical: bool,
    },
    /// A gRPC error.
    Error(Status),
    /// Anything else: no status, unusual frames, a reset stream, a response that does not decode, a lost
    /// connection.
    Broken(String),
}

impl Outcome {
    /// Reads the answer to `call`.
    pub fn read(call: &Call, answer: &Answer, names: &mut Names) -> Outcome {
        match Outcome::parse(call, answer) {
            Ok((mut reply, canonical)) => {
                names.apply(&mut reply);
                settle_ties(call, &mut reply);
                Outcome::Reply { reply: Box::new(reply), canonical }
            }
            Err(outcome) => outcome,
        }
    }

    fn parse(call: &Call, answer: &Answer) -> Result<(Reply, bool), Outcome> {
        let broken = |text: String| Outcome::Broken(text);
        if answer.end != End::Stream {
            return Err(broken(format!("{:?} after {}", answer.end, answer.shape)));
        }
        let status = answer.status().ok_or_else(|| broken(format!("no grpc-status: {:?}", answer.blocks)))?;
        let shape = if status.code == 0 { "HEADERS DATA HEADERS+END" } else { "HEADERS+END" };
        if answer.shape != shape {
            return Err(broken(format!("frames are {}, not {shape}, for {status:?}", answer.shape)));
        }
        if status.code != 0 {
            return Err(Outcome::Error(status));
        }
        let messages = answer.messages().map_err(|error| broken(error.to_string()))?;
        let [message] = messages.as_slice() else {
            return Err(broken(format!("{} messages", messages.len())));
        };
        let reply = call.decode(&message.bytes).map_err(|error| broken(error.to_string()))?;
        let canonical = reply.encode() == message.bytes;
        Ok((reply, canonical))
    }

    /// Reads one message of an answer to `call` that has many.
    pub fn of_message(call: &Call, bytes: &[u8], names: &mut Names) -> Outcome {
        match call.decode(bytes) {
            Ok(mut reply) => {
                let canonical = reply.encode() == bytes;
                names.apply(&mut reply);
                Outcome::Reply { reply: Box::new(reply), canonical }
            }
            Err(error) => Outcome::Broken(error.to_string()),
        }
    }

    /// The revision in the header, if there is one.
    pub fn revision(&self) -> Option<i64> {
        let Outcome::Reply { reply, .. } = self else { return None };
        let header = match &**reply {
            Reply::Range(r) => &r.header,
            Reply::Put(r) => &r.header,
            Reply::Delete(r) => &r.header,
            Reply::Txn(r) => &r.header,
            Reply::Compact(r) => &r.header,
            Reply::Watch(r) => &r.header,
            Reply::LeaseGrant(r) => &r.header,
            Reply::LeaseRevoke(r) => &r.header,
            Reply::LeaseKeepAlive(r) => &r.header,
            Reply::LeaseTimeToLive(r) => &r.header,
            Reply::LeaseLeases(r) => &r.header,
            Reply::Alarm(r) => &r.header,
            Reply::Status(r) => &r.header,
            Reply::HashKv(r) => &r.header,
            Reply::Defragment(r) => &r.header,
            Reply::MemberList(r) => &r.header,
            Reply::Health(_) => &None,
        };
        header.as_ref().map(|header| header.revision)
    }
}

/// What came back for a request that need not be a well-formed call: frame shape, header blocks, messages.
#[derive(Clone, Debug, PartialEq)]
pub struct RawOutcome {
    /// The frames in order.
    pub shape: String,
    /// How the stream ended.
    pub end: End,
    /// The header blocks; fields sorted, for their order is free (RFC 9110 §5.3) and pseudo-fields stay in front.
    pub blocks: Vec<Vec<(String, String)>>,
    /// The body.
    pub body: RawBody,
}

/// The body of a [`RawOutcome`].
#[derive(Clone, Debug, PartialEq)]
pub enum RawBody {
    /// gRPC messages: compressed flag and response.
    Replies(Vec<(bool, Reply)>),
    /// Anything else.
    Bytes(Bytes),
}

impl RawOutcome {
    /// Reads the answer to a request for `path`.
    pub fn read(path: &str, answer: Answer, names: &mut Names) -> RawOutcome {
        let Answer { mut blocks, shape, end, .. } = answer;
        let replies = messages(&answer.body).ok().and_then(|messages| {
            let reply = |message: crate::wire::Message| {
                let mut reply = Reply::of_path(path, &message.bytes)?;
                names.apply(&mut reply);
                Some((message.compressed, reply))
            };
            messages.into_iter().map(reply).collect()
        });
        blocks.iter_mut().for_each(|block| block.sort());
        let body = replies.map_or_else(|| RawBody::Bytes(answer.body.into()), RawBody::Replies);
        RawOutcome { shape, end, blocks, body }
    }
}

/// Gives the values that each server chooses for itself (ids, terms, addresses) names by order of appearance, so
/// that two servers are alike if they use their own values alike.
#[derive(Clone, Debug, Default)]
pub struct Names {
    ids: BTreeMap<u64, u64>,
    terms: BTreeMap<u64, u64>,
    addresses: Vec<(String, &'static str)>,
    own: u64,
}

impl Names {
    /// For a server at these addresses.
    pub fn new(client: SocketAddr, peer: SocketAddr) -> Names {
        let addresses = vec![(client.to_string(), "CLIENT"), (peer.to_string(), "PEER")];
        Names { addresses, ..Names::default() }
    }

    /// The id of the member that answers, 0 while none has.
    pub fn own(&self) -> u64 {
        self.own
    }

    /// `text` with the server's addresses and ids named.
    pub fn text(&self, text: &str) -> String {
        let named =
            self.addresses.iter().fold(text.to_owned(), |text, (address, name)| text.replace(address, name));
        self.ids.iter().fold(named, |text, (id, name)| text.replace(&id.to_string(), &format!("ID{name}")))
    }

    fn apply(&mut self, reply: &mut Reply) {
        match reply {
            Reply::Range(r) => self.header(&mut r.header),
            Reply::Put(r) => self.header(&mut r.header),
            Reply::Delete(r) => self.header(&mut r.header),
            Reply::Txn(r) => self.txn(r),
            Reply::Compact(r) => self.header(&mut r.header),
            Reply::Watch(r) => self.header(&mut r.header),
            Reply::LeaseGrant(r) => {
                self.header(&mut r.header);
                // One that the server chose; those of the cases are smaller.
                if r.id > 1 << 40 {
                    r.id = 1 << 40;
                }
            }
            Reply::LeaseRevoke(r) => self.header(&mut r.header),
            Reply::LeaseKeepAlive(r) => self.header(&mut r.header),
            Reply::LeaseTimeToLive(r) => {
                self.header(&mut r.header);
                // etcd keeps them in a map.
                r.keys.sort();
            }
            Reply::LeaseLeases(r) => self.header(&mut r.header),
            Reply::Alarm(r) => {
                self.header(&mut r.header);
                r.alarms.iter_mut().for_each(|alarm| self.id(&mut alarm.member_id));
                // etcd keeps them in a map.
                r.alarms.sort_by_key(|alarm| (alarm.member_id, alarm.alarm));
            }
            Reply::Status(r) => self.status(r),
            Reply::HashKv(r) => self.header(&mut r.header),
            Reply::Defragment(r) => self.header(&mut r.header),
            Reply::MemberList(r) => self.members(r),
            Reply::Health(_) => {}
        }
    }

    fn header(&mut self, header: &mut Option<pb::ResponseHeader>) {
        let Some(header) = header else { return };
        if header.member_id != 0 {
            self.own = header.member_id;
        }
        self.id(&mut header.cluster_id);
        self.id(&mut header.member_id);
        name(&mut self.terms, &mut header.raft_term);
    }

    fn id(&mut self, id: &mut u64) {
        name(&mut self.ids, id);
    }

    fn txn(&mut self, response: &mut pb::TxnResponse) {
        use pb::response_op::Response;
        self.header(&mut response.header);
        for op in &mut response.responses {
            match &mut op.response {
                Some(Response::ResponseRange(r)) => self.header(&mut r.header),
                Some(Response::ResponsePut(r)) => self.header(&mut r.header),
                Some(Response::ResponseDeleteRange(r)) => self.header(&mut r.header),
                Some(Response::ResponseTxn(r)) => self.txn(r),
                None => {}
            }
        }
    }

    /// Sizes and log positions are each server's own; only whether they are there is compared.
    fn status(&mut self, response: &mut pb::StatusResponse) {
        self.header(&mut response.header);
        self.id(&mut response.leader);
        name(&mut self.terms, &mut response.raft_term);
        for size in [&mut response.db_size, &mut response.db_size_in_use] {
            *size = (*size).min(1);
        }
        for index in [&mut response.raft_index, &mut response.raft_applied_index] {
            *index = (*index).min(1);
        }
        response.errors = response.errors.iter().map(|text| self.text(text)).collect();
        response.errors.sort();
    }

    fn members(&mut self, response: &mut pb::MemberListResponse) {
        self.header(&mut response.header);
        for member in &mut response.members {
            self.id(&mut member.id);
            for url in member.peer_ur_ls.iter_mut().chain(&mut member.client_ur_ls) {
                *url = self.text(url);
            }
        }
    }
}

/// 0 stays 0: whether a value is there is compared.
fn name(names: &mut BTreeMap<u64, u64>, value: &mut u64) {
    if *value != 0 {
        let next = names.len() as u64 + 1;
        *value = *names.entry(*value).or_insert(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_use_their_own_ids_alike_are_alike() {
        let replies = |ids: [u64; 3]| {
            let mut names = Names::default();
            ids.map(|member_id| {
                let header = pb::ResponseHeader { member_id, cluster_id: 99, revision: 5, raft_term: 2 };
                let mut reply = Reply::Put(pb::PutResponse { header: Some(header), prev_kv: None });
                names.apply(&mut reply);
                reply
            })
        };
        assert_eq!(replies([7, 7, 8]), replies([1, 1, 2]));
        assert_ne!(replies([7, 7, 8]), replies([1, 2, 2]));
        assert_ne!(replies([7, 7, 8]), replies([1, 0, 2]));
    }
}
