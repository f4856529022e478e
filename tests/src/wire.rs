//! A small HTTP/2 client that can also misbehave: it sends exactly the headers and bytes it is told to, and
//! reports exactly what comes back. It is written for clarity of evidence, not for speed, and shares nothing with
//! the server's own HTTP/2 (RFC 9113, RFC 7541).

mod conn;
mod frame;
mod grpc;

pub use conn::{ANSWER_MAX, Answer, Conn, End, PREFACE, StreamId, header_frames};
pub use frame::{Frame, FrameKind, flag};
pub use grpc::{Message, Request, Status, compress, frame_message, messages};
