//! One client connection: bytes from the socket into the front, answers out.
//!
//! Receives and sends go straight to the socket and wait only when it would block. All connections of an
//! executor share one read buffer, because what is received is handled before anything else runs; only the
//! beginning of an incomplete frame is kept per connection.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::replica::Fatal;
use futures_io::{AsyncRead, AsyncWrite};
use net::front::ConnId;
use net::http::endpoints::Port;
use net::http::pace::Pace;
use net::http::sniff::{LINE_LEN_MAX, Protocol, sniff};
use net::http::{io as transport, serve};

use crate::complaints::{TOO_MANY_CONNECTIONS, UNKNOWN_PROTOCOL};
use crate::guests::Paced;
use crate::http::Checks;
use crate::node::{Cores, Node};
use crate::runtime::{Listener, Runtime, Stream};
use crate::wake::{Wake, yield_once};

/// After a failed accept, which the system could repeat for ever.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection and how it is written.
pub struct Conn {
    id: ConnId,
    /// Who it is; none where the transport has no addresses.
    pub remote: Option<SocketAddr>,
    stream: RefCell<Stream>,
    /// A task waits for the socket to take more.
    blocked: Cell<bool>,
    /// What its long answers may still send in a turn, and which.
    room: Cell<(usize, u64)>,
    /// The connection ends once its output has gone.
    finished: Cell<bool>,
    /// Both directions are closed.
    shut: Cell<bool>,
    /// Output has gone: input that was refused may be taken now.
    resume: Wake,
    /// When it must hear of time, as listed by the node.
    pub timer: Cell<Option<(Instant, u64)>>,
}

/// Accepts connections until the process ends.
pub async fn accept(node: Rc<Node>, listener: Listener, port: Rc<Port>) {
    loop {
        match listener.accept().await {
            Ok(stream) if node.draining.get() => drop(stream),
            Ok(stream) => {
                let remote = stream.peer_addr();
                let Some(place) = node.guests.place() else {
                    node.complain(TOO_MANY_CONNECTIONS, remote);
                    continue;
                };
                let (runtime, node, port) = (node.runtime, Rc::clone(&node), Rc::clone(&port));
                runtime.spawn_local(async move {
                    // Errors are the client's: it vanished or spoke nonsense, and it was told so.
                    let _ = serve_stream(node, stream, remote, port).await;
                    drop(place);
                });
            }
            Err(error) => {
                node.log.warn("failed to accept a client connection", &[("error", &error.to_string())]);
                node.runtime.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Takes connections of would-be peers and closes them: a single member has none.
pub async fn turn_away(runtime: Runtime, listener: Listener) {
    loop {
        if listener.accept().await.is_err() {
            runtime.sleep(ACCEPT_PAUSE).await;
        }
    }
}

async fn serve_stream(
    node: Rc<Node>,
    mut stream: Stream,
    remote: Option<SocketAddr>,
    port: Rc<Port>,
) -> io::Result<()> {
    stream.set_nodelay();
    let guest = node.guests.welcome(Instant::now(), remote);
    let mut head = Vec::new();
    // Without an outcome, the guest was overdue.
    match guest.in_time(read_head(&mut stream, &mut head)).await.transpose()? {
        None | Some(Protocol::Open) => Ok(()),
        // Nobody speaks gRPC to a port of metrics.
        Some(Protocol::Http2) if matches!(*port, Port::Client(_)) => {
            drop(guest);
            serve_http2(node, stream, remote, head).await
        }
        Some(Protocol::Unknown | Protocol::Http2) => {
            node.complain(UNKNOWN_PROTOCOL, remote);
            Ok(())
        }
        Some(Protocol::Http1) => {
            guest.pace(Pace::on_recognised);
            let stream = Paced { stream, guest: Rc::clone(&guest) };
            let io = transport::Rewind::new(Bytes::from(head), transport::Stream(stream));
            let on_request = || guest.pace(|pace| pace.on_request(Instant::now()));
            let checks = Checks { node };
            let served = serve::serve(io, &port, &checks, on_request);
            guest.in_time(served).await.transpose().map_err(io::Error::other)?;
            Ok(())
        }
    }
}

/// Reads into `head` until it says what the connection speaks; `Open` if it closes before.
async fn read_head(stream: &mut Stream, head: &mut Vec<u8>) -> io::Result<Protocol> {
    loop {
        let mut chunk = [0; LINE_LEN_MAX];
        let len = poll_fn(|context| Pin::new(&mut *stream).poll_read(context, &mut chunk)).await?;
        head.extend_from_slice(&chunk[..len]);
        let protocol = sniff(head);
        if protocol != Protocol::Open || len == 0 {
            return Ok(protocol);
        }
    }
}

async fn serve_http2(
    node: Rc<Node>,
    stream: Stream,
    remote: Option<SocketAddr>,
    head: Vec<u8>,
) -> io::Result<()> {
    let conn = {
        let mut cores = node.cores.borrow_mut();
        let id = cores.front.accept(Instant::now());
        let conn = Rc::new(Conn {
            id,
            remote,
            stream: RefCell::new(stream),
            blocked: Cell::new(false),
            room: Cell::default(),
            finished: Cell::new(false),
            shut: Cell::new(false),
            resume: Wake::default(),
            timer: Cell::new(None),
        });
        cores.conns.insert(id, Rc::clone(&conn));
        conn
    };
    let outcome = conn.run(&node, head).await;
    let mut cores = node.cores.borrow_mut();
    cores.front.close(conn.id);
    cores.conns.remove(&conn.id);
    outcome
}

impl Conn {
    /// Reads and handles until the connection ends. `rest` is what was read and not handled.
    async fn run(&self, node: &Rc<Node>, mut rest: Vec<u8>) -> io::Result<()> {
        let mut taken = self.handle(node, &mut rest, 0)?;
        loop {
            if !taken {
                // Too much output waits; what was read stays until some of it has gone.
                self.resume.wait().await;
                if self.shut.get() {
                    return Ok(());
                }
                taken = self.handle(node, &mut rest, 0)?;
                continue;
            }
            let len = self.receive(node, &rest).await?;
            if len == 0 {
                return Ok(());
            }
            taken = self.handle(node, &mut rest, len)?;
        }
    }

    /// Receives behind a copy of `rest` in the shared buffer. No other task runs between its end and the handling.
    async fn receive(&self, node: &Node, rest: &[u8]) -> io::Result<usize> {
        poll_fn(|context| {
            let mut buffer = node.read_buffer.borrow_mut();
            buffer[..rest.len()].copy_from_slice(rest);
            Pin::new(&mut *self.stream.borrow_mut()).poll_read(context, &mut buffer[rest.len()..])
        })
        .await
    }

    /// Handles `rest` and the `received` bytes behind it; what is incomplete is `rest` afterwards. False if the front
    /// takes no more for now.
    fn handle(&self, node: &Rc<Node>, rest: &mut Vec<u8>, received: usize) -> io::Result<bool> {
        let now = Instant::now();
        let mut cores = node.cores.borrow_mut();
        let Cores { replica, front, .. } = &mut *cores;
        let buffer = node.read_buffer.borrow();
        let all = if received > 0 { &buffer[..rest.len() + received] } else { &rest[..] };
        let mut input = all;
        let handled = front.handle_input(now, self.id, &mut input, replica);
        // Usually nothing is left, and this allocates nothing.
        *rest = input.to_vec();
        let wants_input = front.wants_input(self.id);
        if let Some(limit) = front.take_limit(self.id) {
            node.complain(limit, self.remote);
        }
        node.ring();
        match handled {
            Err(fatal) => node.end_with(&fatal),
            Ok(Err(error)) => {
                node.complain(error.text, self.remote);
                // The client is told why, if its socket takes it now.
                let _ = self.send(node, &mut Context::from_waker(Waker::noop()), &mut cores);
                Err(io::Error::other(error.to_string()))
            }
            Ok(Ok(())) => Ok(wants_input || rest.is_empty()),
        }
    }

    /// Sends what there is; what the socket does not take now is sent by a task of its own.
    pub(crate) fn flush(self: &Rc<Conn>, node: &Rc<Node>, cores: &mut Cores) -> Result<(), Fatal> {
        if self.blocked.get() {
            return Ok(());
        }
        let mut context = Context::from_waker(Waker::noop());
        if self.send(node, &mut context, cores)? {
            self.blocked.set(true);
            let (conn, node) = (Rc::clone(self), Rc::clone(node));
            let runtime = node.runtime;
            runtime.spawn_local(async move { conn.send_blocked(&node).await });
        } else if self.finished.get() || node.draining.get() && cores.front.is_drained(self.id) {
            self.shut();
        }
        Ok(())
    }

    /// Sends until nothing is left for this turn (false) or the socket is full (true).
    fn send(&self, node: &Node, context: &mut Context<'_>, cores: &mut Cores) -> Result<bool, Fatal> {
        let Cores { replica, front, .. } = cores;
        let share = node.share.get();
        let mut room = match self.room.get() {
            (left, turn) if turn == share.turn => left,
            _ => share.bytes,
        };
        loop {
            let output = front.output(self.id, replica, &mut room)?;
            self.room.set((room, share.turn));
            if output.is_empty() {
                self.resume.ring();
                return Ok(false);
            }
            // In the head of the match the stream would stay borrowed, and an end of it here would borrow it again.
            let written = Pin::new(&mut *self.stream.borrow_mut()).poll_write(context, output);
            match written {
                Poll::Ready(Ok(sent)) => front.consume_output(Instant::now(), self.id, sent),
                Poll::Ready(Err(_)) => {
                    self.shut();
                    return Ok(false);
                }
                Poll::Pending => return Ok(true),
            }
        }
    }

    async fn send_blocked(&self, node: &Rc<Node>) {
        // A task's first poll runs inside its spawning, where the cores are borrowed.
        yield_once().await;
        let sent = poll_fn(|context| {
            let mut cores = node.cores.borrow_mut();
            match self.send(node, context, &mut cores) {
                Ok(true) => Poll::Pending,
                Ok(false) => Poll::Ready(Ok(())),
                Err(fatal) => Poll::Ready(Err(fatal)),
            }
        });
        if let Err(fatal) = sent.await {
            node.end_with(&fatal);
        }
        self.blocked.set(false);
        if self.finished.get() {
            self.shut();
        }
        node.ring();
    }

    /// Ends the connection as soon as its output has gone, or at once if the peer does not take it.
    pub fn finish(&self) {
        self.finished.set(true);
        if self.blocked.get() {
            self.shut();
        }
    }

    /// Closes both directions: the reader wakes up to the end of its stream.
    fn shut(&self) {
        self.finished.set(true);
        self.shut.set(true);
        self.resume.ring();
        self.stream.borrow().shut();
    }
}
