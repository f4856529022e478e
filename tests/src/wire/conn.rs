//! One connection: it opens streams, keeps its side of flow control, answers SETTINGS and PINGs, and gathers
//! what comes back for each stream. Blocking, one thread; many streams may be open at once.

/// Calls of many messages.
mod streaming;

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use fluke_hpack::Decoder;

use super::frame::{FRAME_SIZE_MAX, Frame, FrameKind, flag};
use super::grpc::{Message, Request, Status, messages};

/// What a client says first (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// No answer for this long is an answer: the server hangs. Longer than etcd's own request timeout of 7 s.
pub const ANSWER_MAX: Duration = Duration::from_secs(10);
const SETTING_INITIAL_WINDOW_SIZE: u16 = 0x4;
const WINDOW_DEFAULT: i64 = 65_535;
const WINDOW_MAX: u32 = 0x7fff_ffff;

/// A stream of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(u32);

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// END_STREAM.
    Stream,
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code and debug data, which did not promise to finish the stream.
    GoAway(u32, String),
    /// The connection was closed.
    Closed,
}

/// All that came back on one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The header blocks in order; the last one holds the trailers.
    pub blocks: Vec<Vec<(String, String)>>,
    /// All DATA bytes.
    pub body: Vec<u8>,
    /// Frames in order, DATA frames in a row written once: `HEADERS DATA HEADERS+END`.
    pub shape: String,
    /// How it ended.
    pub end: End,
}

impl Answer {
    /// The gRPC status, from the last header block.
    pub fn status(&self) -> Option<Status> {
        Status::from_headers(self.blocks.last()?)
    }

    /// The messages of the body.
    pub fn messages(&self) -> io::Result<Vec<Message>> {
        messages(&self.body)
    }
}

/// What is known of a stream so far.
#[derive(Debug, Default)]
struct Stream {
    blocks: Vec<Vec<(String, String)>>,
    body: Vec<u8>,
    /// Bytes of the body that were taken as messages.
    read: usize,
    shape: Vec<&'static str>,
    end: Option<End>,
    /// What the server lets us send; may be negative (RFC 9113 §6.9.2).
    window: i64,
}

impl Stream {
    fn note(&mut self, part: &'static str) {
        if part != "DATA" || self.shape.last() != Some(&"DATA") {
            self.shape.push(part);
        }
    }

    fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
    }
}

/// A connection to a server.
pub struct Conn {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
    decoder: Decoder<'static>,
    streams: BTreeMap<u32, Stream>,
    next_stream: u32,
    window: i64,
    window_initial: i64,
    /// A header block still waiting for CONTINUATION frames.
    partial: Option<Frame>,
    server_settings: Vec<(u16, u32)>,
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conn")
            .field("streams", &self.streams)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl Conn {
    /// Waits so long for an answer, where one may take longer than [`ANSWER_MAX`].
    pub fn set_patience(&mut self, patience: Duration) -> io::Result<()> {
        self.writer.set_read_timeout(Some(patience))
    }

    /// Connects and sends the preface; the server may send as much as it likes.
    pub fn open(address: SocketAddr) -> io::Result<Conn> {
        let mut writer = TcpStream::connect(address)?;
        writer.set_nodelay(true)?;
        writer.set_read_timeout(Some(ANSWER_MAX))?;
        writer.set_write_timeout(Some(ANSWER_MAX))?;
        let mut hello = PREFACE.to_vec();
        let mut settings = SETTING_INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        settings.extend(WINDOW_MAX.to_be_bytes());
        Frame::new(FrameKind::Settings, 0, 0, settings).write(&mut hello)?;
        window_update(0, WINDOW_MAX - WINDOW_DEFAULT as u32).write(&mut hello)?;
        writer.write_all(&hello)?;
        let reader = BufReader::with_capacity(64 << 10, writer.try_clone()?);
        Ok(Conn {
            writer,
            reader,
            decoder: Decoder::new(),
            streams: BTreeMap::new(),
            next_stream: 1,
            window: WINDOW_DEFAULT,
            window_initial: WINDOW_DEFAULT,
            partial: None,
            server_settings: Vec::new(),
        })
    }

    /// Sends `request` and waits for its whole answer.
    pub fn exchange(&mut self, request: &Request) -> io::Result<Answer> {
        let stream = self.start(request)?;
        self.finish(stream)
    }

    /// Sends `request` as far as flow control lets it without an answer on this stream.
    pub fn start(&mut self, request: &Request) -> io::Result<StreamId> {
        let id = self.next_stream;
        self.next_stream += 2;
        self.streams.insert(id, Stream { window: self.window_initial, ..Stream::default() });
        let mut bytes = Vec::new();
        write_headers(&mut bytes, id, &encode(&request.headers), 0)?;
        if request.end && request.body.is_empty() {
            Frame::new(FrameKind::Data, flag::END_STREAM, id, []).write(&mut bytes)?;
        }
        let mut rest = request.body.as_slice();
        while !rest.is_empty() && self.streams[&id].end.is_none() {
            let allowed = self.window.min(self.streams[&id].window);
            if allowed <= 0 {
                self.writer.write_all(&std::mem::take(&mut bytes))?;
                self.pump()?;
                continue;
            }
            let len = rest.len().min(FRAME_SIZE_MAX).min(allowed as usize);
            let end = request.end && len == rest.len();
            let flags = if end { flag::END_STREAM } else { 0 };
            Frame::new(FrameKind::Data, flags, id, &rest[..len]).write(&mut bytes)?;
            rest = &rest[len..];
            self.window -= len as i64;
            self.streams.get_mut(&id).expect("just inserted").window -= len as i64;
        }
        self.writer.write_all(&bytes)?;
        Ok(StreamId(id))
    }

    /// Sends headers that end the stream at once, whatever the body of `request`.
    pub fn start_bare(&mut self, request: &Request) -> io::Result<StreamId> {
        let id = self.next_stream;
        self.next_stream += 2;
        self.streams.insert(id, Stream { window: self.window_initial, ..Stream::default() });
        let mut bytes = Vec::new();
        write_headers(&mut bytes, id, &encode(&request.headers), flag::END_STREAM)?;
        self.writer.write_all(&bytes)?;
        Ok(StreamId(id))
    }

    /// Waits until `stream` has ended. Errors: `TimedOut` (or `WouldBlock`) when nothing came for [`ANSWER_MAX`].
    pub fn finish(&mut self, stream: StreamId) -> io::Result<Answer> {
        while self.streams[&stream.0].end.is_none() {
            self.pump()?;
        }
        let stream = self.streams.remove(&stream.0).expect("indexed above");
        let end = stream.end.expect("checked above");
        Ok(Answer { blocks: stream.blocks, body: stream.body, shape: stream.shape.join(" "), end })
    }

    /// The settings that the server has announced so far.
    pub fn server_settings(&self) -> &[(u16, u32)] {
        &self.server_settings
    }

    /// Sends one frame as it is.
    pub fn send(&mut self, frame: &Frame) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame.write(&mut bytes)?;
        self.writer.write_all(&bytes)
    }

    /// Closes the connection for both directions.
    pub fn close(&mut self) -> io::Result<()> {
        self.writer.shutdown(Shutdown::Both)
    }

    /// Reads frames until the server closes the connection, and ends all streams with that.
    pub fn drain(&mut self) -> io::Result<()> {
        loop {
            match self.pump() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Handles one frame; the end of the connection ends every open stream.
    fn pump(&mut self) -> io::Result<()> {
        let frame = match Frame::read(&mut self.reader) {
            Ok(frame) => frame,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) =>
            {
                if self.streams.values().all(|stream| stream.end.is_some()) {
                    return Err(error);
                }
                self.streams.values_mut().for_each(|stream| stream.finish(End::Closed));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        match frame.kind {
            FrameKind::Data => self.on_data(&frame),
            FrameKind::Headers | FrameKind::Continuation => self.on_headers(frame),
            FrameKind::RstStream => self.on_reset(&frame),
            FrameKind::Settings => self.on_settings(&frame),
            FrameKind::Ping => self.on_ping(&frame),
            FrameKind::GoAway => self.on_goaway(&frame),
            FrameKind::WindowUpdate => self.on_window_update(&frame),
            FrameKind::Priority | FrameKind::PushPromise | FrameKind::Unknown(_) => Ok(()),
        }
    }

    fn on_data(&mut self, frame: &Frame) -> io::Result<()> {
        if !frame.payload.is_empty() {
            self.send(&window_update(0, frame.payload.len() as u32))?;
        }
        if let Some(stream) = self.streams.get_mut(&frame.stream) {
            stream.body.extend_from_slice(frame.content()?);
            stream.note("DATA");
            if frame.has(flag::END_STREAM) {
                stream.note("END");
                stream.finish(End::Stream);
            }
        }
        Ok(())
    }

    fn on_headers(&mut self, frame: Frame) -> io::Result<()> {
        let whole = match self.partial.take() {
            None => Frame { payload: frame.content()?.to_vec(), ..frame.clone() },
            Some(mut first) => {
                first.payload.extend_from_slice(&frame.payload);
                first
            }
        };
        if !frame.has(flag::END_HEADERS) {
            self.partial = Some(whole);
            return Ok(());
        }
        let block = decode(&mut self.decoder, &whole.payload)?;
        if let Some(stream) = self.streams.get_mut(&whole.stream) {
            stream.blocks.push(block);
            stream.note(if whole.has(flag::END_STREAM) { "HEADERS+END" } else { "HEADERS" });
            if whole.has(flag::END_STREAM) {
                stream.finish(End::Stream);
            }
        }
        Ok(())
    }

    fn on_reset(&mut self, frame: &Frame) -> io::Result<()> {
        let code = frame.word(0)?;
        if let Some(stream) = self.streams.get_mut(&frame.stream) {
            stream.finish(End::Reset(code));
        }
        Ok(())
    }

    fn on_settings(&mut self, frame: &Frame) -> io::Result<()> {
        if frame.has(flag::ACK) {
            return Ok(());
        }
        for entry in frame.payload.chunks_exact(6) {
            let id = u16::from_be_bytes([entry[0], entry[1]]);
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            self.server_settings.push((id, value));
            if id == SETTING_INITIAL_WINDOW_SIZE {
                let change = i64::from(value) - self.window_initial;
                self.window_initial += change;
                self.streams.values_mut().for_each(|stream| stream.window += change);
            }
        }
        self.send(&Frame::new(FrameKind::Settings, flag::ACK, 0, []))
    }

    fn on_ping(&mut self, frame: &Frame) -> io::Result<()> {
        if frame.has(flag::ACK) {
            return Ok(());
        }
        self.send(&Frame::new(FrameKind::Ping, flag::ACK, 0, frame.payload.clone()))
    }

    fn on_goaway(&mut self, frame: &Frame) -> io::Result<()> {
        let (last, code) = (frame.word(0)? & WINDOW_MAX, frame.word(4)?);
        let debug = String::from_utf8_lossy(&frame.payload[8..]).into_owned();
        for (_, stream) in self.streams.range_mut(last.saturating_add(1)..) {
            stream.finish(End::GoAway(code, debug.clone()));
        }
        Ok(())
    }

    fn on_window_update(&mut self, frame: &Frame) -> io::Result<()> {
        let credit = i64::from(frame.word(0)? & WINDOW_MAX);
        match self.streams.get_mut(&frame.stream) {
            Some(stream) => stream.window += credit,
            None if frame.stream == 0 => self.window += credit,
            None => {}
        }
        Ok(())
    }
}

fn window_update(stream: u32, credit: u32) -> Frame {
    Frame::new(FrameKind::WindowUpdate, 0, stream, credit.to_be_bytes())
}

/// The headers of `request` as frames, the first of them with these flags beside END_HEADERS.
pub fn header_frames(stream: u32, request: &Request, flags: u8) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_headers(&mut bytes, stream, &encode(&request.headers), flags)?;
    Ok(bytes)
}

/// Writes a header block as HEADERS and as many CONTINUATION frames as it needs.
fn write_headers(to: &mut Vec<u8>, stream: u32, block: &[u8], first_flags: u8) -> io::Result<()> {
    let mut kind = FrameKind::Headers;
    let mut chunks = block.chunks(FRAME_SIZE_MAX).peekable();
    while let Some(chunk) = chunks.next() {
        let mut flags = if chunks.peek().is_none() { flag::END_HEADERS } else { 0 };
        if kind == FrameKind::Headers {
            flags |= first_flags;
        }
        Frame::new(kind, flags, stream, chunk).write(to)?;
        kind = FrameKind::Continuation;
    }
    Ok(())
}

/// Literal fields without indexing and without Huffman coding (RFC 7541 §6.2.2): what is sent is what is read.
fn encode(headers: &[(String, String)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            encode_length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// An integer with a seven-bit prefix (RFC 7541 §5.1).
fn encode_length(block: &mut Vec<u8>, len: usize) {
    const PREFIX_MAX: usize = 127;
    if len < PREFIX_MAX {
        block.push(len as u8);
        return;
    }
    block.push(PREFIX_MAX as u8);
    let mut rest = len - PREFIX_MAX;
    while rest >= 128 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

fn decode(decoder: &mut Decoder<'_>, block: &[u8]) -> io::Result<Vec<(String, String)>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields = decoder
        .decode(block)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("HPACK: {error:?}")))?;
    Ok(fields.into_iter().map(|(name, value)| (text(&name), text(&value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_trip() {
        for len in [0, 1, 126, 127, 128, 254, 255, 300, 20_000] {
            let headers = vec![("x-long".to_owned(), "v".repeat(len)), (":path".to_owned(), "/".to_owned())];
            assert_eq!(decode(&mut Decoder::new(), &encode(&headers)).unwrap(), headers);
        }
    }

    #[test]
    fn long_blocks_continue() {
        let mut bytes = Vec::new();
        write_headers(&mut bytes, 3, &vec![0; FRAME_SIZE_MAX + 1], flag::END_STREAM).unwrap();
        let mut rest = bytes.as_slice();
        let first = Frame::read(&mut rest).unwrap();
        let second = Frame::read(&mut rest).unwrap();
        assert_eq!((first.kind, first.flags), (FrameKind::Headers, flag::END_STREAM));
        assert_eq!((second.kind, second.flags), (FrameKind::Continuation, flag::END_HEADERS));
    }
}
