//! One client connection: bytes from the socket into the front, answers out.
//!
//! Receives and sends go straight to the socket and wait only when it would block. All connections of an
//! executor share one read buffer, because what is received is handled before anything else runs; only the
//! beginning of an incomplete frame is kept per connection.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::replica::Fatal;
use futures_io::{AsyncRead, AsyncWrite};
use net::front::ConnId;
use net::http::endpoints::Port;
use net::http::{io as transport, serve};

use crate::http::Checks;
use crate::node::{Cores, Node};
use crate::runtime::{Listener, Runtime, Stream};
use crate::wake::{Wake, yield_once};

/// What an HTTP/2 client says first; anything else is HTTP/1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// After a failed accept, which the system could repeat for ever.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection and how it is written.
pub struct Conn {
    id: ConnId,
    stream: RefCell<Stream>,
    /// A task waits for the socket to take more.
    blocked: Cell<bool>,
    /// The connection ends once its output has gone.
    finished: Cell<bool>,
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
                let (runtime, node, port) = (node.runtime, Rc::clone(&node), Rc::clone(&port));
                runtime.spawn_local(async move {
                    // Errors are the client's: it vanished or spoke nonsense, and it was told so.
                    let _ = serve_stream(node, stream, port).await;
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

async fn serve_stream(node: Rc<Node>, mut stream: Stream, port: Rc<Port>) -> io::Result<()> {
    stream.set_nodelay();
    let mut head = Vec::new();
    // Nobody speaks gRPC to a port of metrics.
    let may_be_grpc = matches!(*port, Port::Client(_));
    while may_be_grpc && head.len() < PREFACE.len() && PREFACE.starts_with(&head) {
        let mut chunk = [0; 4096];
        match poll_fn(|context| Pin::new(&mut stream).poll_read(context, &mut chunk)).await? {
            0 => return Ok(()),
            len => head.extend_from_slice(&chunk[..len]),
        }
    }
    if head.starts_with(PREFACE) {
        return serve_http2(node, stream, head).await;
    }
    let io = transport::Rewind::new(Bytes::from(head), transport::Stream(stream));
    serve::serve(io, &port, &Checks { node }).await.map_err(io::Error::other)
}

async fn serve_http2(node: Rc<Node>, stream: Stream, head: Vec<u8>) -> io::Result<()> {
    let conn = {
        let mut cores = node.cores.borrow_mut();
        let id = cores.front.accept(Instant::now());
        let conn = Rc::new(Conn {
            id,
            stream: RefCell::new(stream),
            blocked: Cell::new(false),
            finished: Cell::new(false),
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
        node.ring();
        match handled {
            Err(fatal) => node.end_with(&fatal),
            Ok(Err(error)) => {
                // The client is told why, if its socket takes it now.
                let _ = self.send(&mut Context::from_waker(Waker::noop()), &mut cores);
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
        if self.send(&mut context, cores)? {
            self.blocked.set(true);
            let (conn, node) = (Rc::clone(self), Rc::clone(node));
            let runtime = node.runtime;
            runtime.spawn_local(async move { conn.send_blocked(&node).await });
        } else if self.finished.get() || node.draining.get() && cores.front.is_drained(self.id) {
            self.shut();
        }
        Ok(())
    }

    /// Sends until nothing is left (false) or the socket is full (true).
    fn send(&self, context: &mut Context<'_>, cores: &mut Cores) -> Result<bool, Fatal> {
        let Cores { replica, front, .. } = cores;
        loop {
            let output = front.output(self.id, replica)?;
            if output.is_empty() {
                self.resume.ring();
                return Ok(false);
            }
            match Pin::new(&mut *self.stream.borrow_mut()).poll_write(context, output) {
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
            match self.send(context, &mut cores) {
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

    /// Ends the connection as soon as its output has gone.
    pub fn finish(&self) {
        self.finished.set(true);
    }

    /// Closes both directions: the reader wakes up to the end of its stream.
    fn shut(&self) {
        self.finished.set(true);
        self.stream.borrow().shut();
    }
}
