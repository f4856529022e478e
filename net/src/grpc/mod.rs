//! gRPC over HTTP/2 for one server connection, sans-IO, answering as grpc-go does inside etcd's plain client port.
//!
//! [`Server`] is all a driver needs: bytes in, calls out, answers in, bytes out. Errors that need no knowledge of the
//! methods (wrong content type, unknown method, truncated or oversized messages, deadlines ...) are answered here and
//! never reach the caller. It reads no clock and touches no socket; it is single-threaded and need not be `Send`.
//!
//! # The driver's contract
//!
//! Per connection the driver owns a read buffer of at least [`crate::h2::INPUT_LEN_MIN`] bytes (256 KiB is good) and
//! a [`Server`]; the server owns its output buffer. One turn:
//!
//! 1. Read into the free part of the buffer. Let `input` be all unread bytes.
//! 2. `while let Some(event) = server.poll_event(now, &mut input)?`: hand the event on. An event borrows from `input`
//!    and from the server, so what must outlive the handling is copied (or encoded into a proposal) there and then;
//!    the answer is given after the event is dropped, at once or in a later turn, by its [`CallId`].
//! 3. Give answers, also those that completed meanwhile elsewhere; then `while let Some((call, budget)) =
//!    server.poll_writable()` for long answers and streams that asked ([`Server::begin_message`],
//!    [`Server::want_writable`]).
//! 4. Send [`Server::output`] in one call and report what the socket took with [`Server::consume_output`], which may
//!    free room: go back to 3 until the output stays empty or the socket is full.
//! 5. If `input` is not empty and [`Server::wants_input`] was false in step 2, go back to 2 once output has gone.
//!    Otherwise what is left is an incomplete frame: move it to the front of the buffer and read more.
//! 6. When [`Server::next_timeout`] has come, call [`Server::handle_timeout`], then go on with 2 (it may have queued
//!    events) and 4. Ask for the next timeout again after every turn.
//!
//! On any `Err` the connection is over: send what is in the output (it holds the GOAWAY, if one is due), close, and
//! treat all calls of the connection as cancelled. The same holds when the socket closes. After
//! [`Server::shutdown`] go on as usual until [`Server::is_drained`], then close.
//!
//! # The caller's side of a call
//!
//! - A call with one request message (unary or server-streaming) is a single [`Event::Request`].
//! - A call with a stream of messages is [`Event::Call`], then [`Event::Message`]s, then [`Event::HalfClosed`].
//! - [`Event::Cancelled`] ends a call from outside: reset by the client, past its deadline, or broken input. The
//!   client has been told already; later answers to that call are ignored.
//!
//! Every call that was announced and not cancelled is answered exactly once, by [`Server::reply_unary`],
//! [`Server::reply_error`] or [`Server::finish`]. Answers to a call that is gone are dropped silently and return
//! `false`: a client may vanish at any time, so this is no error.
//!
//! # Answers of any size
//!
//! gRPC puts the length first. [`Server::begin_message`] takes it; from then on [`Server::poll_writable`] names the
//! call whenever its windows and the output have room, and the caller adds about `budget` bytes with
//! [`Server::push_chunk`] until the announced length is reached, then finishes. A caller that must wait for its data
//! simply pushes later: it is asked again only after a push, or after [`Server::want_writable`].
//!
//! # Differences from grpc-go
//!
//! Compared frame by frame with grpc-go 1.71; what is left is deliberate. Credit is returned in larger steps, and no
//! PINGs measure the bandwidth. HTTP/2's own rules are kept where grpc-go is lenient: `te` other than `trailers`, a
//! missing `:path` or `:scheme`, a wrong `content-length` and frames for idle or closed streams are errors. `-bin`
//! fields, which etcd does not use, are not decoded. The reset behind an answer given before the end of its request
//! comes a little later, so that it is mostly not needed. A call that ends with its HEADERS gets its `EOF` at once.

// Codes, and messages as header values.
pub mod status;

// What the request's fields say: method, deadline, encoding, tokens.
pub mod metadata;

// The five bytes in front of a message.
pub mod frame;

// Gzip in both directions, bounded.
mod gzip;

// Deadlines of the calls in flight.
mod deadline;

// What calls add up to, and which took long.
pub mod tally;

// What a call in flight remembers.
pub mod call;

// All of the above over an HTTP/2 connection: the driver's side.
pub mod server;

pub use call::CallId;
pub use metadata::{Lookup, Metadata, MethodId, MethodKind, Route};
pub use server::{Config, Event, Server};
pub use status::{Code, Status};
pub use tally::Tally;
