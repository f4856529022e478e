//! HTTP/2 for one server connection (RFC 9113), sans-IO.
//!
//! [`Connection`] takes the bytes the driver read and hands back events that borrow from them; what it has to say
//! gathers in one output buffer. It knows frames, streams, windows and limits, and nothing of gRPC: that is
//! [`crate::grpc`], its only user.
//!
//! In scope: everything a server must do with requests of a gRPC client, graceful and immediate shutdown, keep-alive,
//! and a bound on every resource a peer can claim ([`abuse`]). Out of scope: push, priorities (read and ignored), and
//! upgrade from HTTP/1.1.
//!
//! Order of calls, for each turn of the driver:
//! 1. [`Connection::poll_event`] until it returns `None`; it takes whole frames off the front of the input and leaves
//!    a last incomplete one where it is, so the read buffer needs room for [`INPUT_LEN_MIN`] bytes.
//! 2. answers, at any time;
//! 3. [`Connection::output`] to the socket, and [`Connection::consume_output`] for what the socket took;
//! 4. [`Connection::handle_timeout`] when [`Connection::next_timeout`] has come.

// Whole connection or one stream, and the reason codes.
pub mod error;

// Every limit on what a peer may do, and the meters behind them.
pub mod abuse;

// Nine-byte heads and payloads: cut from the input, laid out in the output.
pub mod frame;

// The values both sides announce.
pub mod settings;

// Windows in both directions.
pub mod flow;

// Which fields a request may have, before gRPC looks at them.
mod request;

// Stream states and the slab they live in.
pub mod stream;

// Output buffer, queues and fairness.
mod send;

// All of the above as one state machine; `connection/receive.rs` holds what each frame does.
pub mod connection;

pub use connection::{Config, Connection, Event};
pub use error::{ConnectionError, Reason};
pub use stream::StreamKey;

/// Length of the largest frame we accept, hence the least a read buffer must hold.
pub const INPUT_LEN_MIN: usize = frame::HEAD_LEN + frame::PAYLOAD_LEN_MAX;
