//! What a peer sees of the connection itself: handshake, limits, timeouts, shutdown; and that no bytes whatever, cut
//! anywhere, make it panic, hang or grow.

mod support;

use net::grpc::{Code, Status};
use net::h2::abuse;
use net::h2::frame::{flag, kind};
use proptest::prelude::*;
use std::time::{Duration, Instant};
use support::*;

const SECOND: Duration = Duration::from_secs(1);

/// Feeds `bytes` after the handshake; the connection must end with this GOAWAY.
#[track_caller]
fn dies(bytes: &[u8], code: u32, text: &str) {
    let mut client = Client::new();
    client.feed(bytes);
    assert!(client.error.is_some(), "still alive: {:?}", client.lines);
    let last = client.lines.last().unwrap();
    assert!(last.ends_with(&format!("code {code} {text}")), "{last}");
    client.lines.clear();
    client.feed(&ping());
    client.expect(&[]);
}

#[test]
fn handshake_is_etcds() {
    let mut client = Client::with(config());
    client.feed(&hello());
    client.expect(&["< settings [0, 5, 0, 0, 64, 0]", "< settings ack"]);
    let mut limited = config();
    limited.http.max_concurrent_streams = Some(2);
    let mut client = Client::with(limited);
    client.feed(&hello());
    client.expect(&["< settings [0, 5, 0, 0, 64, 0, 0, 3, 0, 0, 0, 2]", "< settings ack"]);
    for stream in [1, 3, 5] {
        let bytes = client.call(stream, "/t.T/Hold", &[], b"");
        client.feed(&bytes);
    }
    client.expect(&["! request 1 \"\"", "! request 3 \"\"", "< reset 5 code 7"]);
}

#[test]
fn bad_beginnings() {
    let check = |bytes: &[u8], code: u32| {
        let mut client = Client::with(config());
        client.feed(bytes);
        let last = client.lines.last().unwrap().clone();
        assert!(last.starts_with(&format!("< goaway last 0 code {code} ")), "{last}");
    };
    check(b"GET / HTTP/1.1\r\n", 1);
    check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", 1);
    check(&[&hello()[..24], &ping()].concat(), 1);
    check(&[&hello()[..24], &raw(kind::SETTINGS, flag::ACK, 0, &[])[..]].concat(), 1);
}

#[test]
fn ping_is_answered() {
    let mut client = Client::new();
    client.feed(&ping());
    client.expect(&["< ping ack [112, 105, 110, 103, 112, 105, 110, 103]"]);
}

#[test]
fn too_many_pings() {
    let pings = |count: usize| ping().repeat(count);
    let mut client = Client::new();
    client.feed(&pings(3));
    assert!(client.error.is_none());
    client.feed(&pings(1));
    assert_eq!(client.lines.last().unwrap(), "< goaway last 0 code 11 too_many_pings");

    // With a call waiting in silence, five seconds are enough ...
    let mut client = Client::new();
    let call = client.call(1, "/t.T/Hold", &[], b"");
    client.feed(&call);
    for _ in 0..10 {
        client.feed(&ping());
        client.wait(5 * SECOND);
    }
    assert!(client.error.is_none());
    client.feed(&pings(4));
    assert!(client.error.is_some(), "and less is not");

    // A Go client sends one per call; each is forgiven by the answer before it.
    let mut client = Client::new();
    for stream in (1..2000).step_by(2) {
        let bytes = [client.call(stream, "/t.T/Echo", &[], b""), ping(), window(0, 5)].concat();
        client.feed(&bytes);
    }
    assert!(client.error.is_none());
}

#[test]
fn floods_end_the_connection() {
    let calm = 11;
    dies(&settings(&[]).repeat(abuse::SETTINGS_COUNT_MAX as usize), calm, "too_many_settings");
    let mut client = Client::new();
    let mut resets = Vec::new();
    for n in 0..=abuse::RESET_COUNT_FREE + abuse::RESET_COUNT_MAX {
        resets.extend(client.headers(2 * n + 1, "/t.T/Hold", &[], 0));
        resets.extend(reset(2 * n + 1));
    }
    dies(&resets, calm, "too_many_resets");
    // The same through errors we must answer with a reset ("made you reset").
    let mut bad_updates = Vec::new();
    let mut client = Client::new();
    for n in 0..=abuse::RESET_COUNT_FREE + abuse::RESET_COUNT_MAX {
        bad_updates.extend(client.headers(2 * n + 1, "/t.T/Hold", &[], 0));
        bad_updates.extend(window(2 * n + 1, 0));
    }
    dies(&bad_updates, calm, "too_many_resets");
    let head = Client::new().headers(1, "/t.T/Hold", &[], 0);
    let empty = [head.clone(), data(1, &[], 0).repeat(1100)].concat();
    dies(&empty, calm, "too_many_idle_frames");
    let priority = raw(kind::PRIORITY, 0, 1, &[0, 0, 0, 3, 1]);
    dies(&[head.clone(), priority.repeat(1100)].concat(), calm, "too_many_idle_frames");
    dies(&window(0, 1).repeat(10_100), calm, "too_many_window_updates");
    let start = raw(kind::HEADERS, 0, 1, &[]);
    let more = raw(kind::CONTINUATION, 0, 1, &[]);
    dies(&[start.clone(), more.repeat(17)].concat(), calm, "too_many_continuations");
    let large = raw(kind::CONTINUATION, 0, 1, &[0; 16_384]);
    dies(&[start, large.repeat(5)].concat(), calm, "header block too large");
}

#[test]
fn frames_for_streams_that_are_gone_are_no_work() {
    let mut client = Client::new();
    let mut bytes = client.call(1, "/t.T/Echo", &[], b"");
    for _ in 0..1100 {
        bytes.extend(data(1, b"x", 0));
    }
    client.feed(&bytes);
    // The first one is a stream error, for the stream was closed in good order; that resets it.
    assert_eq!(client.error.unwrap().text, "too_many_idle_frames");
    let mut client = Client::new();
    let head = client.headers(1, "/t.T/Hold", &[], 0);
    client.feed(&[head, window(1, 0)].concat());
    assert!(client.error.is_none());
    client.feed(&data(1, b"x", 0).repeat(1100));
    assert_eq!(client.error.unwrap().text, "too_many_idle_frames");
}

#[test]
fn a_client_that_ignores_the_stream_limit_is_ended() {
    let mut limited = config();
    limited.http.max_concurrent_streams = Some(1);
    let mut client = Client::with(limited);
    client.feed(&hello());
    let mut at_limit = 0;
    for n in 0..=abuse::REFUSED_COUNT_MAX {
        let head = client.headers(2 * n + 1, "/t.T/Hold", &[], 0);
        client.feed(&head);
        at_limit += u32::from(client.server.take_limit() == Some(abuse::TOO_MANY_STREAMS));
        assert!(client.error.is_none());
    }
    assert_eq!(at_limit, abuse::REFUSED_COUNT_MAX);
    let head = client.headers(2 * abuse::REFUSED_COUNT_MAX + 3, "/t.T/Hold", &[], 0);
    client.feed(&head);
    assert_eq!(client.error.unwrap().text, "too_many_refused_streams");
}

#[test]
fn every_limit_has_a_cure() {
    let unknown = abuse::cure("some protocol error");
    for limit in [
        "too_many_resets",
        "too_many_pings",
        "too_many_settings",
        "too_many_idle_frames",
        "too_many_window_updates",
        "too_many_continuations",
        "too_many_refused_streams",
        "header block too large",
        "handshake timeout",
        "header timeout",
        "write stalled",
        "keepalive timeout",
        abuse::HEADERS_TOO_LARGE,
        abuse::TOO_MANY_STREAMS,
        abuse::MEMORY_FULL,
        abuse::MEMORY_FULL_ALL,
        abuse::MESSAGE_LATE,
    ] {
        assert_ne!(abuse::cure(limit), unknown, "{limit}");
    }
}

#[test]
fn ending_a_thousand_old_calls_at_once_is_no_flood() {
    let mut client = Client::new();
    for n in 0..1000 {
        let head = client.headers(2 * n + 1, "/t.T/Chat", &[], 0);
        client.feed(&head);
    }
    client.wait(abuse::RESET_AGE_MAX);
    for n in 0..1000 {
        client.feed(&reset(2 * n + 1));
    }
    assert!(client.error.is_none());
    assert_eq!(client.server.memory_bytes(), 0);
}

#[test]
fn a_header_list_too_large_resets_and_nine_kilobytes_do_not() {
    let mut client = Client::new();
    let nine = "v".repeat(9 << 10);
    let bytes = client.call(1, "/t.T/Hold", &[("x-long", &nine)], b"");
    client.feed(&bytes);
    client.expect(&["! request 1 \"\""]);
    // An entry of 4000 bytes in the table, then a hundred references to it.
    let mut block = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1e];
    block.resize(block.len() + 4000, b'x');
    block.extend([0xbe; 100]);
    client.feed(&raw(kind::HEADERS, flag::END_HEADERS, 3, &block));
    client.expect(&["< reset 3 code 6"]);
    assert_eq!(client.server.take_limit(), Some(abuse::HEADERS_TOO_LARGE));
}

#[test]
fn protocol_errors() {
    let head = Client::new().headers(1, "/t.T/Hold", &[], 0);
    let body = Client::new().call(1, "/t.T/Echo", &[], b"");
    let after = |bytes: Vec<u8>| [head.clone(), bytes].concat();
    dies(&data(1, b"x", 0), 1, "DATA on an idle stream");
    dies(&data(0, b"x", 0), 1, "DATA on an idle stream");
    dies(&reset(3), 1, "RST_STREAM on an idle stream");
    dies(&window(1, 1), 1, "WINDOW_UPDATE on an idle stream");
    dies(&window(0, 0), 1, "WINDOW_UPDATE of nothing");
    dies(&window(0, 0x7fff_ffff), 3, "connection window overflow");
    dies(&after([window(1, 1000), settings(&[(4, 0x7fff_ffff)])].concat()), 3, "stream window overflow");
    dies(&raw(kind::PUSH_PROMISE, 0, 1, &[0; 4]), 1, "push from a client");
    dies(&raw(kind::HEADERS, 4, 2, &[]), 1, "HEADERS on an even stream");
    dies(&raw(kind::HEADERS, 4, 1, &[0x80]), 9, "broken header block");
    dies(&[raw(kind::HEADERS, 0, 1, &[]), ping()].concat(), 1, "header block interrupted");
    dies(&after(raw(kind::DATA, flag::PADDED, 1, &[9])), 1, "DATA padding");
    dies(&[body.clone(), head.clone()].concat(), 5, "HEADERS on a closed stream");
    dies(&raw(kind::PING, 0, 0, &[0; 7]), 6, "PING payload");
    dies(&[0, 0x40, 1, 0, 0, 0, 0, 0, 1], 6, "frame too large");
}

#[test]
fn stream_errors_leave_the_connection_alone() {
    let check = |bytes: &[u8], expected: &[&str]| {
        let mut client = Client::new();
        let head = client.headers(1, "/t.T/Chat", &[("content-length", "3")], 0);
        client.feed(&[&head, bytes].concat());
        client.expect(&[&["! call 1"], expected].concat());
        client.feed(&ping());
        assert!(client.error.is_none());
    };
    let cancelled = |code: u32| ["! cancelled 1".to_owned(), format!("< reset 1 code {code}")];
    let with = |bytes: &[u8], code: u32| {
        let expected = cancelled(code);
        check(bytes, &[&expected[0], &expected[1]]);
    };
    with(&data(1, b"four", 0), 1);
    with(&data(1, b"tw", flag::END_STREAM), 1);
    with(&window(1, 0), 1);
    with(&window(1, 0x7fff_ffff), 3);
    with(&raw(kind::PRIORITY, 0, 1, &[0; 4]), 6);
    with(&raw(kind::HEADERS, flag::END_HEADERS, 1, &[]), 1);
}

#[test]
fn frames_for_a_closed_stream() {
    let mut client = Client::new();
    let bytes = client.call(1, "/t.T/Echo", &[], b"");
    client.feed(&bytes);
    client.transcript();
    client.feed(&[window(1, 5), reset(1)].concat());
    client.expect(&[]);
    client.feed(&data(1, b"late", 0));
    client.expect(&["< reset 1 code 5"]);
    client.feed(&data(1, b"later", 0));
    client.expect(&[]);
}

#[test]
fn timeouts() {
    let mut client = Client::with(config());
    client.feed(&hello()[..10]);
    client.wait(10 * SECOND - Duration::from_nanos(1));
    assert!(client.error.is_none());
    client.wait(Duration::from_nanos(1));
    assert_eq!(client.error.unwrap().text, "handshake timeout");

    let mut client = Client::new();
    client.feed(&raw(kind::HEADERS, 0, 1, &[]));
    client.wait(10 * SECOND);
    assert_eq!(client.error.unwrap().text, "header timeout");

    let mut client = Client::new();
    client.poll(&mut &ping()[..]);
    client.now += 60 * SECOND;
    assert_eq!(client.server.handle_timeout(client.now).unwrap_err().text, "write stalled");
}

#[test]
fn keepalive() {
    let mut client = Client::new();
    let start = client.now;
    assert_eq!(client.server.next_timeout(), Some(start + 7200 * SECOND));
    client.wait(7200 * SECOND);
    client.expect(&["< ping [0, 0, 0, 0, 0, 0, 0, 0]"]);
    client.wait(19 * SECOND);
    client.feed(&raw(kind::PING, flag::ACK, 0, &[0; 8]));
    client.wait(7199 * SECOND);
    client.expect(&[]);
    client.wait(SECOND);
    client.expect(&["< ping [0, 0, 0, 0, 0, 0, 0, 0]"]);
    client.wait(20 * SECOND);
    assert_eq!(client.error.unwrap().text, "keepalive timeout");
}

#[test]
fn graceful_shutdown_takes_two_steps() {
    let mut client = Client::new();
    let bytes = client.call(1, "/t.T/Hold", &[], b"");
    client.feed(&bytes);
    client.transcript();
    client.server.shutdown(client.now);
    client.flush();
    client.expect(&[
        "< goaway last 2147483647 code 0 graceful_stop",
        "< ping [107, 111, 110, 116, 105, 107, 105, 0]",
    ]);
    // A call that crossed the announcement is still served.
    let crossed = client.call(3, "/t.T/Echo", &[], b"");
    client.feed(&crossed);
    client.transcript();
    client.feed(&raw(kind::PING, flag::ACK, 0, b"kontiki\0"));
    client.expect(&["< goaway last 3 code 0 "]);
    let late = client.call(5, "/t.T/Echo", &[], b"");
    client.feed(&late);
    client.expect(&[]);
    assert!(!client.server.is_drained());
    client.server.reply_unary(client.calls[0], |_| {});
    client.flush();
    assert!(client.server.is_drained());
}

#[test]
fn shutdown_does_not_wait_forever() {
    let mut client = Client::new();
    client.server.shutdown(client.now);
    client.wait(5 * SECOND);
    assert!(client.lines.last().unwrap().starts_with("< goaway last 0 code 0"));
    assert!(client.server.is_drained());
}

#[test]
fn unread_output_stops_the_input() {
    let mut client = Client::new();
    // Acks nobody reads: after a hundred of them the rest stays where it is.
    let acks = settings(&[]).repeat(60);
    let mut input = &acks[..];
    client.poll(&mut input);
    assert!(input.is_empty());
    let mut made = Client::new();
    let mut flood = Vec::new();
    for stream in (1..400).step_by(2) {
        flood.extend(made.headers(stream, "/t.T/Hold", &[(":scheme", "http"), ("connection", "x")], 0));
    }
    let mut input = &flood[..];
    client.poll(&mut input);
    assert!(!input.is_empty() && !client.server.wants_input());
    let left = input.len();
    client.flush();
    assert!(client.server.wants_input());
    client.poll(&mut input);
    assert!(input.len() < left);
}

/// A conversation that touches most of the code.
fn conversation() -> Vec<u8> {
    let mut client = Client::with(config());
    let mut bytes = hello();
    bytes.extend(settings(&[(4, 100), (1, 0)]));
    bytes.extend(client.call(1, "/t.T/Echo", &[("token", "abc"), ("grpc-timeout", "10S")], b"hello"));
    bytes.extend(ping());
    bytes.extend(client.headers(3, "/t.T/Chat", &[], 0));
    bytes.extend(data(3, &[grpc(b"a"), grpc(b"bb"), grpc(b"ccc")[..4].to_vec()].concat(), 0));
    bytes.extend(client.call(5, "/t.T/Big", &[], &3000u32.to_be_bytes()));
    bytes.extend(data(3, &grpc(b"ccc")[4..], flag::END_STREAM));
    bytes.extend(settings(&[(4, 200), (1, 4096)]));
    bytes.extend(window(5, 1000));
    bytes.extend(client.call(7, "/t.T/Nope", &[], b"hello"));
    bytes.extend(client.call(9, "/t.T/Hold", &[("authorization", "Bearer x")], &[b'h'; 300]));
    bytes.extend(raw(kind::PRIORITY, 0, 11, &[0, 0, 0, 3, 1]));
    bytes.extend(raw(0x42, 0, 0, b"unknown"));
    bytes.extend(reset(9));
    bytes.extend(window(5, 10_000));
    bytes.extend(client.call(11, "/t.T/Echo", &[("content-type", "text/plain")], b"bye"));
    bytes
}

/// The events in order, and the field blocks sent, by stream: how frames interleave and where windows cut a body
/// depends on when the bytes come.
fn heard(client: &mut Client) -> (Vec<String>, Vec<String>) {
    let (events, frames): (Vec<String>, Vec<String>) =
        std::mem::take(&mut client.lines).into_iter().partition(|line| line.starts_with('!'));
    let mut blocks: Vec<String> = frames.into_iter().filter(|line| line.starts_with("< headers")).collect();
    blocks.sort();
    (events, blocks)
}

#[test]
fn a_conversation_cut_at_every_byte_is_the_same() {
    let bytes = conversation();
    let mut whole = Client::with(config());
    whole.feed(&bytes);
    assert!(whole.error.is_none());
    let expected = heard(&mut whole);
    assert_eq!((expected.0.len(), expected.1.len()), (9, 8), "{expected:?}");
    for cut in 1..bytes.len() {
        let mut client = Client::with(config());
        client.feed(&bytes[..cut]);
        client.feed(&bytes[cut..]);
        assert_eq!(heard(&mut client), expected, "cut at {cut}");
        assert_eq!(client.body.len(), whole.body.len(), "cut at {cut}");
    }
    let mut client = Client::with(config());
    for byte in &bytes {
        client.feed(&[*byte]);
    }
    assert_eq!(heard(&mut client), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn damaged_conversations_never_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut bytes = conversation();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut client = Client::with(config());
        for pair in cuts.windows(2) {
            client.feed(&bytes[pair[0]..pair[1]]);
            client.wait(Duration::from_millis(20));
            prop_assert!(client.server.memory_bytes() < 4 << 20);
        }
    }

    #[test]
    fn random_frames_never_panic(
        frames in proptest::collection::vec(
            (0u8..11, any::<u8>(), 0u32..8, proptest::collection::vec(any::<u8>(), 0..40)), 0..60),
    ) {
        let mut client = Client::new();
        for (kind, flags, stream, payload) in frames {
            client.feed(&raw(kind, flags, stream, &payload));
            prop_assert!(client.server.memory_bytes() < 4 << 20);
        }
        client.wait(Duration::from_secs(30));
    }

    #[test]
    fn any_order_of_sane_steps_leaves_nothing_behind(
        steps in proptest::collection::vec((0u8..14, 0u32..40, any::<u16>()), 0..150),
    ) {
        let mut client = Client::new();
        let mut opened = 0;
        for (step, stream, number) in steps {
            // Streams never opened would end the connection at once.
            let stream = (2 * stream + 1).min(opened.max(1));
            let step = if opened == 0 { step % 5 } else { step };
            take_step(&mut client, step, stream, number, &mut opened);
            prop_assert!(client.server.memory_bytes() < 4 << 20);
            prop_assert!(client.error.is_none(), "{:?}", client.lines);
        }
        for stream in (1..=opened).step_by(2) {
            client.feed(&reset(stream));
        }
        client.wait(SECOND);
        prop_assert_eq!((client.server.stream_count(), client.server.memory_bytes()), (0, 0));
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut client = Client::new();
        client.feed(&bytes);
    }
}

/// One of the things a client, the caller or time may do next.
fn take_step(client: &mut Client, step: u8, stream: u32, number: u16, opened: &mut u32) {
    let body = grpc(&u32::from(number).to_be_bytes().repeat(1 + usize::from(number % 64)));
    let next = *opened + 2 - u32::from(*opened == 0);
    let bytes = match step {
        0..=3 => {
            let path = ["/t.T/Echo", "/t.T/Hold", "/t.T/Big", "/t.T/Chat"][step as usize];
            *opened = next;
            let timeout = format!("{}m", 1 + number % 500);
            let more: &[(&str, &str)] =
                if number.is_multiple_of(3) { &[("grpc-timeout", &timeout)] } else { &[] };
            client.headers(next, path, more, u8::from(number.is_multiple_of(7)))
        }
        4 => {
            *opened = next;
            client.call(next, "/t.T/Big", &[], &u32::from(number).to_be_bytes())
        }
        5 => data(stream, &body, 0),
        6 => data(stream, &body, flag::END_STREAM),
        7 => data(stream, &body[..body.len() / 2], u8::from(number.is_multiple_of(5))),
        8 => reset(stream),
        9 => window(stream, 1 + u32::from(number)),
        10 => window(0, 1 + u32::from(number)),
        11 => settings(&[(4, u32::from(number)), (1, u32::from(number % 300))]),
        12 => {
            if let Some(&call) = client.calls.get(number as usize % (client.calls.len() + 1)) {
                if client.big.iter().any(|(id, _)| *id == call) {
                    client.server.reply_error(call, &Status::new(Code::Unavailable, "gone"));
                } else {
                    client.server.reply_unary(call, |out| out.resize(out.len() + number as usize, 7));
                }
            }
            return client.flush();
        }
        _ => return client.wait(Duration::from_millis(u64::from(number % 200))),
    };
    client.feed(&bytes);
}

#[test]
fn next_timeout_is_never_in_the_past_after_handling() {
    let mut client = Client::new();
    let bytes = client.call(1, "/t.T/Hold", &[("grpc-timeout", "1S")], b"");
    client.feed(&bytes);
    let mut last: Option<Instant> = None;
    for _ in 0..10 {
        let Some(at) = client.server.next_timeout() else { break };
        assert!(last.is_none_or(|last| at > last), "stuck at {at:?}");
        last = Some(at);
        client.wait(at - client.now);
        if client.error.is_some() {
            break;
        }
    }
}

#[test]
fn a_new_initial_window_applies_to_open_streams() {
    let mut client = Client::new();
    client.feed(&settings(&[(4, 0)]));
    let call = client.call(1, "/t.T/Echo", &[], b"hi");
    client.feed(&call);
    client.transcript();
    client.feed(&settings(&[(4, 1)]));
    client.expect(&["< settings ack", "< data 1 \"\\x00\""]);
    client.feed(&settings(&[(4, 3)]));
    client.expect(&["< settings ack", "< data 1 \"\\x00\\x00\""]);
    client.feed(&settings(&[(4, 0)]));
    client.feed(&window(1, 3));
    client.expect(&["< settings ack"]);
    client.feed(&window(1, 5));
    client.expect(&["< data 1 \"\\x00\\x02hi\"", "< headers 1 grpc-status=0, grpc-message= end"]);
}
