//! Calls that pass the whole store: hashes and snapshots.

use prost::Message;

use super::node::{Node, Stream};
use super::{COMPACT, PUT, WINDOW, failure, put, revision};
use crate::pb::etcdserverpb as pb;

const HASH_KV: &str = "/etcdserverpb.Maintenance/HashKV";
const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";

fn filled(node: &mut Node, client: usize) {
    for n in 0..600 {
        let value = "v".repeat(1000);
        let _: pb::PutResponse = node.call(client, PUT, &put(&format!("key{}", n % 200), &value)).unwrap();
    }
}

/// Messages of a stream of them.
fn messages(stream: &Stream) -> Vec<pb::SnapshotResponse> {
    let (mut rest, mut messages) = (&stream.data[..], Vec::new());
    while let Some((prefix, behind)) = rest.split_at_checked(5) {
        let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        let (message, behind) = behind.split_at(len);
        messages.push(pb::SnapshotResponse::decode(message).unwrap());
        rest = behind;
    }
    messages
}

#[test]
fn hashes() {
    let mut node = Node::new();
    let client = node.connect(WINDOW);
    let hash = |node: &mut Node, revision| {
        node.call::<pb::HashKvResponse>(client, HASH_KV, &pb::HashKvRequest { revision })
    };
    let empty = hash(&mut node, 0).unwrap();
    assert_eq!(revision(&empty.header), 1);
    assert_eq!((empty.hash, empty.compact_revision, empty.hash_revision), (1_084_519_789, -1, 1));
    filled(&mut node, client);
    let then = hash(&mut node, 300).unwrap();
    assert_eq!((revision(&then.header), then.compact_revision, then.hash_revision), (601, -1, 300));
    assert_eq!(
        hash(&mut node, 602),
        Err(failure(11, "etcdserver: mvcc: required revision is a future revision"))
    );
    let compact = pb::CompactionRequest { revision: 300, physical: false };
    let _: pb::CompactionResponse = node.call(client, COMPACT, &compact).unwrap();
    // The compaction saw what there was.
    let kept = hash(&mut node, 300).unwrap();
    assert_eq!((kept.hash, kept.compact_revision, kept.hash_revision), (then.hash, -1, 300));
    assert_eq!(
        hash(&mut node, 299),
        Err(failure(11, "etcdserver: mvcc: required revision has been compacted"))
    );
    let now = hash(&mut node, 0).unwrap();
    assert_eq!((now.compact_revision, now.hash_revision), (300, 601));
}

#[test]
fn a_snapshot_is_a_stream_of_pieces_and_a_hash() {
    let mut node = Node::new();
    let client = node.connect(WINDOW);
    filled(&mut node, client);
    let stream = node.send(client, SNAPSHOT, &pb::SnapshotRequest {});
    // What is written meanwhile is not in it, and waits for nothing.
    let _: pb::PutResponse = node.call(client, PUT, &put("later", "")).unwrap();
    node.settle();
    let answer = node.stream(client, stream);
    assert_eq!(answer.status, Some(0), "{}", answer.message);
    let messages = messages(answer);
    let (last, pieces) = messages.split_last().unwrap();
    let image: Vec<u8> = pieces.iter().flat_map(|piece| piece.blob.to_vec()).collect();
    assert!(image.len() > 600_000 && image.len().is_multiple_of(4096));
    assert!(!image.windows(5).any(|bytes| bytes == b"later"));
    let mut left = image.len();
    for piece in pieces {
        left -= piece.blob.len();
        assert_eq!((piece.remaining_bytes, &piece.version[..], &piece.header), (left as u64, "3.6.0", &None));
        assert!(piece.blob.len() == 32 << 10 || left == 0);
    }
    assert_eq!((left, last.blob.len(), last.remaining_bytes), (0, 32, 0));
    assert!(node.output_len_max < 300_000, "{} bytes of output", node.output_len_max);
}

#[test]
fn a_snapshot_follows_its_client_and_may_be_given_up() {
    let mut node = Node::new();
    let client = node.connect(WINDOW);
    filled(&mut node, client);
    node.grant(client, false);
    let stream = node.send(client, SNAPSHOT, &pb::SnapshotRequest {});
    node.settle();
    let sent = node.stream(client, stream).data.len();
    assert!(sent <= WINDOW as usize, "{sent} bytes");
    node.cancel(client, stream);
    node.settle();
    let stream = node.send(client, SNAPSHOT, &pb::SnapshotRequest {});
    node.close(client);
    node.settle();
    assert!(stream > 0 && node.front.answers.is_empty() && node.front.tasks.is_empty());
}

/// A request of `HashKV` with a field that nobody knows.
#[derive(Clone, PartialEq, Message)]
struct Padded {
    #[prost(int64, tag = "1")]
    revision: i64,
    #[prost(bytes = "vec", tag = "15")]
    padding: Vec<u8>,
}

#[test]
fn the_message_of_a_request_that_waits_is_counted_and_goes_with_it() {
    const LEN: usize = 100_000;
    let mut node = Node::new();
    let client = node.connect(WINDOW);
    for n in 0..5000 {
        node.send(client, PUT, &put(&format!("key{n}"), "v"));
    }
    node.settle();
    let before = node.waiting_bytes(client);
    let begin = |node: &mut Node, revision: i64| {
        node.send(client, COMPACT, &pb::CompactionRequest { revision, physical: false });
        while node.replica.store().published().1.compacted.0 < revision {
            assert!(node.turn());
        }
        let stream = node.open_stream(client, HASH_KV, &[]);
        let mut message = Vec::new();
        let padded = Padded { revision, padding: vec![0; LEN] };
        crate::grpc::frame::put(&mut message, false, |out| padded.encode(out).expect("a vector grows"));
        node.push_parts(client, stream, &message);
        assert!(node.waiting_bytes(client) >= before + LEN, "{}", node.waiting_bytes(client));
        stream
    };
    let stream = begin(&mut node, 4000);
    node.settle();
    node.answer::<pb::HashKvResponse>(client, stream).unwrap();
    assert_eq!(node.waiting_bytes(client), before);
    let stream = begin(&mut node, 5000);
    node.cancel(client, stream);
    assert!(node.waiting_bytes(client) < before + LEN && node.front.held.is_empty());
    node.settle();
    assert_eq!(node.waiting_bytes(client), before);
    assert!(node.front.waiting.is_empty());
}
