//! A connection to the endpoints, by `hyper`.
//!
//! Runs on any transport that implements `hyper`'s IO traits and on one thread: nothing needs to be `Send`. Timeouts
//! are the caller's, who owns the clock.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use engine::error::ApiError;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{HOST, HeaderName, ORIGIN};
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;

use super::endpoints::{Port, Probe, Reply, Request, Response};

/// A head of a request that is not complete after so many bytes is answered 431.
pub const HEAD_LEN_MAX: usize = 64 << 10;

/// A [`Probe`] that can also wait for a read.
pub trait Node: Probe {
    /// Does a linearizable read, within the server's own time limit.
    fn linearizable_read(&self) -> impl Future<Output = Result<(), ApiError>>;

    /// Hears of every answer, for the numbers of health checks.
    fn on_answered(&self, _path: &str, _status: u16) {}
}

/// Serves one connection until it closes. `on_request` hears of each complete head. Errors are the peer's or the
/// transport's.
pub async fn serve<I, N>(io: I, port: &Port, node: &N, on_request: impl Fn()) -> Result<(), hyper::Error>
where
    I: Read + Write + Unpin,
    N: Node,
{
    let service = service_fn(async |request| {
        on_request();
        Ok::<_, Infallible>(respond(&request, port, node).await)
    });
    http1::Builder::new()
        .half_close(true) // A peer that has said all it wants to say still wants the answer.
        .header_read_timeout(None)
        .max_buf_size(HEAD_LEN_MAX)
        .title_case_headers(true)
        .serve_connection(io, service)
        .await
}

async fn respond(
    request: &hyper::Request<Incoming>,
    port: &Port,
    node: &impl Node,
) -> hyper::Response<WholeBody> {
    let header = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let request = Request {
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        // An absolute URI in the request line counts more than the header.
        host: request
            .uri()
            .authority()
            .map(|host| host.as_str())
            .or_else(|| header(HOST))
            .unwrap_or_default(),
        origin: header(ORIGIN).unwrap_or_default(),
    };
    let response = match port.respond(&request, node) {
        Reply::Done(response) => response,
        Reply::NeedsRead(pending) => pending.resume(node.linearizable_read().await, node),
    };
    node.on_answered(request.path, response.status);
    message(response)
}

fn message(response: Response) -> hyper::Response<WholeBody> {
    let mut builder = hyper::Response::builder().status(response.status);
    for (name, value) in response.headers {
        builder = builder.header(name, &*value);
    }
    // The one value from outside is the origin, which equals an entry of `--cors` or is `*`.
    builder.body(WholeBody(Bytes::from(response.body))).expect("header lines are our own")
}

/// A body that is there as a whole.
struct WholeBody(Bytes);

impl Body for WholeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = std::mem::take(&mut self.0);
        Poll::Ready((!data.is_empty()).then(|| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::access::Access;
    use crate::http::endpoints::tests::Fixed;
    use crate::http::io::{Rewind, Stream};
    use futures_io::{AsyncRead, AsyncWrite};
    use std::io;
    use std::pin::pin;
    use std::task::Waker;

    /// A peer that sends all it has to say and then hangs up.
    struct Peer<'a> {
        sends: &'a [u8],
        received: Vec<u8>,
    }

    impl AsyncRead for Peer<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.sends).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Peer<'_> {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.received).poll_write(context, bytes)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Reads wait once and then fail, as one does that a new leader interrupts.
    impl Node for Fixed {
        async fn linearizable_read(&self) -> Result<(), ApiError> {
            let mut asked = false;
            std::future::poll_fn(|context| {
                context.waker().wake_by_ref();
                if std::mem::replace(&mut asked, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            Err(ApiError::LeaderChanged)
        }
    }

    /// What the server says to `head` and then `rest`, without the `Date` lines.
    fn exchange(head: &str, rest: &str) -> String {
        let mut peer = Peer { sends: rest.as_bytes(), received: Vec::new() };
        let port = Port::Client(Access::default());
        let node = Fixed::default();
        {
            let io = Rewind::new(Bytes::copy_from_slice(head.as_bytes()), Stream(&mut peer));
            let mut connection = pin!(serve(io, &port, &node, || ()));
            let mut context = Context::from_waker(Waker::noop());
            let done = (0..100).any(|_| connection.as_mut().poll(&mut context).is_ready());
            assert!(done, "the connection did not end");
        }
        let text = String::from_utf8(peer.received).unwrap();
        text.split_inclusive("\r\n").filter(|line| !line.starts_with("Date:")).collect()
    }

    #[test]
    fn requests_split_between_head_and_rest_are_answered() {
        let get = "GET /livez?verbose HTTP/1.1\r\nHost: a\r\n\r\n";
        for at in 1..get.len() {
            let answer = exchange(&get[..at], &get[at..]);
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.ends_with("\r\n\r\n[+]serializable_read ok\nok\n"), "{answer}");
            assert!(answer.contains("Access-Control-Allow-Origin: *\r\n"), "{answer}");
        }
    }

    #[test]
    fn one_connection_takes_many_requests_and_waits_for_reads() {
        let many = [
            "GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
            "HEAD /version HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /nope HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            "GET /version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        ];
        let answer = exchange("", &many.concat());
        let lines: Vec<&str> = answer.lines().filter(|line| line.starts_with("HTTP/")).collect();
        let expected = ["503 Service Unavailable", "405 Method Not Allowed", "404 Not Found", "200 OK"];
        assert_eq!(lines, expected.map(|status| format!("HTTP/1.1 {status}")));
        assert!(answer.contains("RANGE ERROR:etcdserver: leader changed"), "{answer}");
        assert_eq!(
            answer.matches("Method Not Allowed\n").count(),
            0,
            "an answer to HEAD has no body: {answer}"
        );
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(exchange("nonsense\r\n\r\n", "").starts_with("HTTP/1.1 400 Bad Request"));
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(2 * HEAD_LEN_MAX));
        let answer = exchange(&long, "");
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}
