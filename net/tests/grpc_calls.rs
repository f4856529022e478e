//! What a client of etcd's plain port sees of single calls: each row of grpc-go's behaviour that we promise to keep.

mod support;

use net::grpc::{Code, Server, Status, Tally};
use net::h2::abuse;
use net::h2::frame::{flag, kind};
use std::rc::Rc;
use std::time::Duration;
use support::*;

const HEAD: &str = ":status=200, content-type=application/grpc";
const OK: &str = "grpc-status=0, grpc-message= end";

/// One call, alone on a connection; `expected` without the client's own lines.
#[track_caller]
fn check(bytes: impl FnOnce(&mut Client) -> Vec<u8>, expected: &[&str]) {
    let mut client = Client::new();
    let bytes = bytes(&mut client);
    client.feed(&bytes);
    client.expect(expected);
}

#[test]
fn a_unary_call() {
    check(
        |client| client.call(1, "/t.T/Echo", &[], b"hi"),
        &[
            "! request 1 \"hi\"",
            &format!("< headers 1 {HEAD}"),
            "< data 1 \"\\x00\\x00\\x00\\x00\\x02hi\"",
            &format!("< headers 1 {OK}"),
        ],
    );
}

#[test]
fn the_bytes_of_an_answer() {
    let mut client = Client::new();
    let first = client.call(1, "/t.T/Echo", &[], b"");
    client.feed(&first);
    let second = client.call(3, "/t.T/Echo", &[], b"");
    client.poll(&mut &second[..]);
    // Headers 88 c0, an empty message, trailers bf be: 37 bytes in all.
    let expected = [
        &[0, 0, 2, 1, 4, 0, 0, 0, 3, 0x88, 0xc0][..],
        &[0, 0, 5, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0],
        &[0, 0, 2, 1, 5, 0, 0, 0, 3, 0xbf, 0xbe],
    ];
    assert_eq!(client.server.output(), expected.concat());
}

#[test]
fn a_message_must_be_complete_in_time() {
    let mut client = Client::new();
    let message = grpc(b"slow");
    for (stream, sent) in [(1, &message[..]), (3, &message[..6]), (5, &message[..0])] {
        let head = client.headers(stream, "/t.T/Hold", &[], 0);
        client.feed(&[head, data(stream, sent, 0)].concat());
    }
    let chat = client.headers(7, "/t.T/Chat", &[], 0);
    client.feed(&chat);
    client.lines.clear();
    // A byte now and then is not enough; and a stream of messages may be silent for ever.
    client.wait(abuse::MESSAGE_TIME_MAX / 2);
    client.feed(&data(3, &message[6..7], 0));
    client.wait(abuse::MESSAGE_TIME_MAX / 2);
    let late = "200, content-type=application/grpc, grpc-status=4, grpc-message=message timeout end";
    client.expect(&[&format!("< headers 3 :status={late}"), &format!("< headers 5 :status={late}")]);
    assert_eq!(client.server.take_limit(), Some(abuse::MESSAGE_LATE));
}

/// Which is within the limit for each message of a stream, and between them there is none.
#[test]
fn a_message_of_a_stream_must_be_complete_in_time() {
    let mut client = Client::new();
    let message = grpc(b"slow");
    let (half, rest) = message.split_at(6);
    let [fields, other] = [1, 3].map(|stream| client.headers(stream, "/t.T/Chat", &[], 0));
    client.feed(&[fields, data(1, half, 0), other].concat());
    for _ in 0..4 {
        // The end of one message and half of the next.
        client.wait(abuse::MESSAGE_TIME_MAX - Duration::from_secs(1));
        client.feed(&data(1, &[rest, half].concat(), 0));
    }
    client.wait(abuse::MESSAGE_TIME_MAX - Duration::from_secs(1));
    client.feed(&data(1, rest, 0));
    client.wait(4 * abuse::MESSAGE_TIME_MAX);
    assert_eq!(client.server.take_limit(), None);
    client.lines.clear();
    // Not even its prefix is complete.
    client.feed(&data(3, &half[..2], 0));
    client.wait(abuse::MESSAGE_TIME_MAX);
    let late = "200, content-type=application/grpc, grpc-status=4, grpc-message=message timeout end";
    client.expect(&["! cancelled 3", &format!("< headers 3 :status={late}")]);
    assert_eq!(client.server.take_limit(), Some(abuse::MESSAGE_LATE));
    assert!(client.server.next_timeout().is_none_or(|due| due > client.now));
}

#[test]
fn calls_are_counted_however_they_end() {
    let mut client = Client::new();
    let tally = Rc::new(Tally::default());
    client.server = Server::counting(config(), client.now, Rc::clone(&tally));
    client.feed(&hello());
    let mut bytes = client.call(1, "/t.T/Echo", &[], b"four");
    bytes.extend(client.call(3, "/t.T/Hold", &[], b""));
    bytes.extend(reset(3));
    bytes.extend(client.headers(5, "/t.T/Chat", &[], 0));
    bytes.extend(data(5, &[grpc(b"ab"), grpc(b"c")].concat(), 0));
    // Neither is known to the layer above: no message, no such method.
    bytes.extend(client.call(7, "/t.T/Nope", &[], b""));
    bytes.extend([client.headers(9, "/t.T/Echo", &[], 0), data(9, &[], flag::END_STREAM)].concat());
    client.feed(&bytes);
    client.server.on_closed();
    let (ok, cancelled) = (Code::Ok as usize, Code::Canceled as usize);
    let counts = tally.counts();
    let row = |method: usize| {
        let counts = &counts[method];
        let handled: u64 = counts.handled.iter().sum();
        assert_eq!(handled, counts.started, "{counts:?}");
        (counts.started, counts.received, counts.sent, counts.handled[ok], counts.handled[cancelled])
    };
    assert_eq!((row(0), row(1), row(3)), ((1, 1, 1, 1, 0), (1, 1, 0, 0, 1), (1, 2, 2, 0, 1)));
    assert_eq!(tally.bytes(), (7, 7));
}

#[test]
fn a_person_gets_a_text() {
    let mut client = Client::new();
    let head = client.headers(1, "/health", &[(":method", "GET"), ("content-type", "")], flag::END_STREAM);
    client.feed(&head);
    let lines = client.transcript();
    assert!(
        lines.starts_with("< headers 1 :status=415, content-type=text/plain; charset=utf-8\n< data 1 "),
        "{lines}"
    );
    assert!(
        lines
            .contains("\n< headers 1 grpc-status=3, grpc-message=invalid gRPC request content-type \"\" end"),
        "{lines}"
    );
    assert!(client.body.ends_with(b"\n") && client.body.is_ascii());
}

#[test]
fn refused_by_fields() {
    let check = |path: &'static str, more: &[(&'static str, &str)], expected: &str| {
        let early = !expected.starts_with("200");
        let line = format!("< headers 1 :status={expected} end");
        let lines = [&line, "< reset 1 code 0"];
        check(|client| client.call(1, path, more, b"x"), &lines[..if early { 2 } else { 1 }]);
    };
    check(
        "/t.T/Echo",
        &[("content-type", "application/json")],
        "415, content-type=application/grpc, grpc-status=3, grpc-message=invalid gRPC request content-type \
         \"application/json\"",
    );
    check(
        "/t.T/Echo",
        &[(":method", "GET")],
        "405, content-type=application/grpc, grpc-status=13, grpc-message=Received a HEADERS frame with :method \
         \"GET\" which should be POST",
    );
    check(
        "/t.T/Echo",
        &[("grpc-timeout", "xx")],
        "400, content-type=application/grpc, grpc-status=13, grpc-message=malformed grpc-timeout: transport: timeout \
         unit is not recognized: \"xx\"",
    );
    let twelve =
        |text: &str| format!("200, content-type=application/grpc, grpc-status=12, grpc-message={text}");
    check("/nopath", &[], &twelve("malformed method name: \"/nopath\""));
    check("/t.T/Nope", &[], &twelve("unknown method Nope for service t.T"));
    check("/foo.Bar/Echo", &[], &twelve("unknown service foo.Bar"));
    check(
        "/t.T/Echo",
        &[("grpc-encoding", "snappy")],
        &twelve("grpc: Decompressor is not installed for grpc-encoding \"snappy\""),
    );
    check(
        "/t.T/Echo",
        &[("grpc-timeout", "1n")],
        "200, content-type=application/grpc, grpc-status=4, grpc-message=context deadline exceeded",
    );
    check(
        "/t.T/Nope",
        &[("content-type", "application/grpc+proto")],
        "200, content-type=application/grpc+proto, grpc-status=12, grpc-message=unknown method Nope for service t.T",
    );
}

#[test]
fn connection_field_is_a_protocol_error() {
    check(|client| client.call(1, "/t.T/Echo", &[("connection", "close")], b""), &["< reset 1 code 1"]);
}

#[test]
fn missing_te_is_accepted_and_subtypes_are_echoed() {
    let mut client = Client::new();
    let bytes =
        client.call(1, "/t.T/Echo", &[("content-type", "application/grpc+json"), ("te", "trailers")], b"");
    client.feed(&bytes);
    assert!(client.transcript().contains("< headers 1 :status=200, content-type=application/grpc+json\n"));
}

#[test]
fn bodies_that_are_no_message() {
    let check = |body: &[u8], code: u8, text: &str| {
        let line = format!("< headers 1 {HEAD}, grpc-status={code}, grpc-message={text} end");
        check(|c| [c.headers(1, "/t.T/Echo", &[], 0), data(1, body, flag::END_STREAM)].concat(), &[&line]);
    };
    check(&[], 2, "EOF");
    check(&[0, 0, 0], 2, "EOF");
    check(&[0, 0, 0, 0, 5, 1, 2], 2, "unexpected EOF");
    check(&[1, 0, 0, 0, 1, 9], 13, "grpc: compressed flag set with identity or empty encoding");
    check(&[3, 0, 0, 0, 1, 9], 13, "grpc: received unexpected payload format 3");
    check(&[0, 0, 0x21, 0x91, 0xca, 0], 8, "grpc: received message larger than max (2200010 vs. 2097152)");
}

#[test]
fn a_request_that_ends_with_its_headers() {
    let line = format!("< headers 1 {HEAD}, grpc-status=2, grpc-message=EOF end");
    check(|client| client.headers(1, "/t.T/Echo", &[], flag::END_STREAM), &[&line]);
}

#[test]
fn the_first_of_two_messages_counts() {
    let answer = [
        "! request 1 \"one\"",
        &format!("< headers 1 {HEAD}"),
        "< data 1 \"\\x00\\x00\\x00\\x00\\x03one\"",
        &format!("< headers 1 {OK}"),
    ];
    let one_frame = [grpc(b"one"), grpc(b"two")].concat();
    check(|c| [c.headers(1, "/t.T/Echo", &[], 0), data(1, &one_frame, flag::END_STREAM)].concat(), &answer);
    let head = |c: &mut Client| c.headers(1, "/t.T/Echo", &[], 0);
    check(
        |c| [head(c), data(1, &grpc(b"one"), 0), data(1, &grpc(b"two"), flag::END_STREAM)].concat(),
        &answer,
    );
}

#[test]
fn a_message_over_many_frames() {
    let body = grpc(&[b'm'; 100]);
    for size in [1, 3, 5, 7, 50, 104] {
        let mut client = Client::new();
        let mut bytes = client.headers(1, "/t.T/Echo", &[], 0);
        for part in body.chunks(size) {
            bytes.extend(data(1, part, 0));
        }
        bytes.extend(data(1, &[], flag::END_STREAM));
        client.feed(&bytes);
        assert_eq!(client.body, body, "{size}");
        assert_eq!(client.server.stream_count(), 0);
    }
}

#[test]
fn an_answer_before_the_end_of_the_request_is_followed_by_a_reset_unless_the_end_comes() {
    let mut client = Client::new();
    let bytes = [client.headers(1, "/t.T/Echo", &[], 0), data(1, &grpc(b""), 0)].concat();
    client.feed(&bytes);
    assert!(client.transcript().ends_with(OK));
    client.wait(Duration::from_millis(49));
    client.expect(&[]);
    client.wait(Duration::from_millis(1));
    client.expect(&["< reset 1 code 0"]);
    client.feed(&data(1, &[], flag::END_STREAM));
    client.expect(&[]);
    let bytes = [client.headers(3, "/t.T/Echo", &[], 0), data(3, &grpc(b""), 0)].concat();
    client.feed(&bytes);
    client.transcript();
    client.feed(&data(3, &[], flag::END_STREAM));
    client.wait(Duration::from_secs(1));
    client.expect(&[]);
}

#[test]
fn gzip_both_ways() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &[b'z'; 1000]).unwrap();
    let mut body = grpc(&packed.finish().unwrap());
    body[0] = 1;
    let mut client = Client::new();
    let head = client.headers(1, "/t.T/Echo", &[("grpc-encoding", "gzip")], 0);
    client.feed(&[head, data(1, &body, flag::END_STREAM)].concat());
    let lines = client.transcript();
    assert!(
        lines.starts_with(&format!("! request 1 1000 bytes\n< headers 1 {HEAD}, grpc-encoding=gzip\n")),
        "{lines}"
    );
    assert_eq!(client.body[0], 1);
    let mut inflated = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(&client.body[5..]);
    std::io::Read::read_to_end(&mut decoder, &mut inflated).unwrap();
    assert_eq!(inflated, [b'z'; 1000]);
}

#[test]
fn a_gzip_bomb_is_refused() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &vec![0; 4 << 20]).unwrap();
    let mut body = grpc(&packed.finish().unwrap());
    body[0] = 1;
    let mut client = Client::new();
    let head = client.headers(1, "/t.T/Echo", &[("grpc-encoding", "gzip")], 0);
    client.feed(&head);
    for part in body.chunks(16_384) {
        client.feed(&data(1, part, 0));
    }
    let lines = client.transcript();
    assert!(lines.contains(
        "grpc-status=8, grpc-message=grpc: received message after decompression larger than max 2097152"
    ));
}

#[test]
fn errors_end_a_call_in_one_frame_and_are_percent_encoded() {
    let mut client = Client::new();
    let bytes = client.call(1, "/t.T/Hold", &[], b"");
    client.feed(&bytes);
    let call = client.calls[0];
    assert!(client.server.reply_error(call, &Status::new(Code::InvalidArgument, "100% ä")));
    assert!(!client.server.reply_error(call, &Status::OK), "answered twice");
    client.flush();
    let line = format!("< headers 1 {HEAD}, grpc-status=3, grpc-message=100%25 %C3%A4 end");
    client.expect(&["! request 1 \"\"", &line]);
}

#[test]
fn deadlines_are_kept() {
    let mut client = Client::new();
    let bytes = client.call(1, "/t.T/Hold", &[("grpc-timeout", "50m")], b"");
    client.feed(&bytes);
    assert_eq!(client.server.next_timeout(), Some(client.now + Duration::from_millis(50)));
    client.wait(Duration::from_millis(49));
    client.expect(&["! request 1 \"\""]);
    client.wait(Duration::from_millis(1));
    let line = format!("< headers 1 {HEAD}, grpc-status=4, grpc-message=context deadline exceeded end");
    client.expect(&["! cancelled 1", &line]);
    assert!(!client.server.reply_unary(client.calls[0], |_| {}), "too late");
    client.flush();
    client.expect(&[]);
}

#[test]
fn a_deadline_before_the_message_is_not_reported() {
    let mut client = Client::new();
    let head = client.headers(1, "/t.T/Hold", &[("grpc-timeout", "1S")], 0);
    client.feed(&head);
    client.wait(Duration::from_secs(1));
    let line = format!("< headers 1 {HEAD}, grpc-status=4, grpc-message=context deadline exceeded end");
    client.expect(&[&line]);
}

#[test]
fn a_reset_cancels() {
    let mut client = Client::new();
    let bytes = [client.call(1, "/t.T/Hold", &[], b""), reset(1)].concat();
    client.feed(&bytes);
    client.expect(&["! request 1 \"\"", "! cancelled 1"]);
    assert!(!client.server.reply_unary(client.calls[0], |_| {}));
    assert_eq!(client.server.memory_bytes(), 0);
}

#[test]
fn a_chat() {
    let mut client = Client::new();
    let head = client.headers(1, "/t.T/Chat", &[], 0);
    client.feed(&head);
    client.expect(&["! call 1"]);
    let three = [grpc(b"a"), grpc(b"bc"), grpc(b"def")[..6].to_vec()].concat();
    client.feed(&data(1, &three, 0));
    client.expect(&[
        "! message 1 \"a\"",
        "! message 1 \"bc\"",
        &format!("< headers 1 {HEAD}"),
        "< data 1 \"\\x00\\x00\\x00\\x00\\x01a\"",
        "< data 1 \"\\x00\\x00\\x00\\x00\\x02bc\"",
    ]);
    client.feed(&data(1, b"ef", flag::END_STREAM));
    client.expect(&[
        "! message 1 \"def\"",
        "! half-closed 1",
        "< data 1 \"\\x00\\x00\\x00\\x00\\x03def\"",
        &format!("< headers 1 {OK}"),
    ]);
}

#[test]
fn a_chat_that_always_leaves_a_rest_does_not_grow() {
    let mut client = Client::new();
    client.feed(&[settings(&[(4, 1 << 30)]), window(0, 1 << 30)].concat());
    let head = client.headers(1, "/t.T/Chat", &[], 0);
    client.feed(&head);
    let body = grpc(&[b'c'; 1000]).repeat(1000);
    // Frames of 1004 bytes never end where a message of 1005 does.
    for part in body.chunks(1004) {
        client.feed(&data(1, part, 0));
        assert!(client.server.memory_bytes() < 40_000);
    }
    assert_eq!(client.body.len(), body.len());
}

#[test]
fn a_chat_that_breaks_off() {
    let mut client = Client::new();
    let head = client.headers(1, "/t.T/Chat", &[], 0);
    client.feed(&[head, data(1, &[0, 0, 0, 0, 1], flag::END_STREAM)].concat());
    let line = format!("< headers 1 {HEAD}, grpc-status=13, grpc-message=unexpected EOF end");
    client.expect(&["! call 1", "! cancelled 1", &line]);
}

#[test]
fn an_answer_larger_than_the_windows_is_never_assembled() {
    let mut client = Client::new();
    client.feed(&settings(&[(4, 1 << 20)]));
    const LEN: u32 = 5 << 20;
    let bytes = client.call(1, "/t.T/Big", &[], &LEN.to_be_bytes());
    client.feed(&bytes);
    let mut updates = 0;
    while client.body.len() < LEN as usize + 5 {
        assert!(client.server.memory_bytes() < 600 << 10, "{} bytes held", client.server.memory_bytes());
        client.feed(&[window(0, 300_000), window(1, 300_000)].concat());
        updates += 1;
    }
    assert!(updates > 10, "the windows were ignored");
    assert_eq!(client.body[..5], [0, 0, 0x50, 0, 0]);
    assert!(client.transcript().ends_with(OK));
}

#[test]
fn long_answers_share_the_connection() {
    let mut client = Client::new();
    client.feed(&settings(&[(4, 1 << 30)]));
    let len = (1u32 << 20).to_be_bytes();
    let bytes = [client.call(1, "/t.T/Big", &[], &len), client.call(3, "/t.T/Big", &[], &len)].concat();
    client.feed(&bytes);
    client.transcript();
    for _ in 0..4 {
        client.feed(&window(0, 65_536));
        client.feed(&window(0, 65_536));
        let lines = client.transcript();
        assert!(lines.contains("data 1 ") && lines.contains("data 3 "), "{lines}");
    }
}

#[test]
fn an_error_inside_a_message_resets() {
    let mut client = Client::new();
    let bytes = client.call(1, "/t.T/Big", &[], &(1u32 << 20).to_be_bytes());
    client.feed(&bytes);
    client.transcript();
    assert!(client.server.reply_error(client.calls[0], &Status::new(Code::Unavailable, "gone")));
    client.flush();
    client.expect(&["< reset 1 code 2"]);
    assert_eq!(client.server.memory_bytes(), 0);
}

#[test]
fn big_uploads_find_their_windows_open() {
    let mut client = Client::new();
    let message = vec![b'u'; 2_000_000];
    let body = grpc(&message);
    let head = client.headers(1, "/t.T/Hold", &[], 0);
    client.feed(&head);
    let (mut connection, mut stream) = (65_535i64, 65_535i64);
    for part in body.chunks(16_384) {
        assert!(connection >= part.len() as i64 && stream >= part.len() as i64, "no window left");
        (connection, stream) = (connection - part.len() as i64, stream - part.len() as i64);
        client.feed(&data(1, part, 0));
        for line in std::mem::take(&mut client.lines) {
            match line.strip_prefix("< window ").and_then(|line| line.split_once(" +")) {
                Some(("0", bytes)) => connection += bytes.parse::<i64>().unwrap(),
                Some(("1", bytes)) => stream += bytes.parse::<i64>().unwrap(),
                _ => assert_eq!(line, "! request 1 2000000 bytes"),
            }
        }
    }
    assert_eq!(client.calls.len(), 1);
}

#[test]
fn partial_requests_are_bounded_by_the_ledger() {
    let mut client = Client::new();
    let mut part = vec![0, 0, 0x1f, 0, 0];
    part.resize(16_384, 0);
    for stream in (1..2001).step_by(2) {
        let head = client.headers(stream, "/t.T/Hold", &[], 0);
        client.feed(&head);
        for _ in 0..5 {
            client.feed(&data(stream, &part, 0));
        }
        assert!(client.server.memory_bytes() <= 65 << 20);
        if client.error.is_some() {
            break;
        }
    }
    let lines = client.transcript();
    assert!(lines.contains("grpc-status=8") || lines.contains("code 7"), "nothing was refused");
}

#[test]
fn trailers_end_a_request() {
    let mut client = Client::new();
    let head = client.headers(1, "/t.T/Echo", &[], 0);
    let trailers = raw(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &[0, 1, b'x', 1, b'y']);
    client.feed(&[head, data(1, &grpc(b"")[..3], 0), data(1, &grpc(b"")[3..], 0), trailers].concat());
    assert!(client.transcript().ends_with(OK));
    assert_eq!(client.server.stream_count(), 0);
}
