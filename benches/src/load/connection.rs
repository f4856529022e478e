//! One connection of unary calls from a template: requests out as flow control allows, answers in.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use super::link::{Frame, Link, Trailers, kind};
use super::workload::{KEY_LEN, Template, Workload};

/// A connection with requests under way.
pub(super) struct Connection {
    pub link: Link,
    first: Template,
    later: Template,
    next_stream: u32,
    /// When each stream under way was due, by stream number: streams end nearly in order.
    due: VecDeque<Option<Instant>>,
    /// The stream of `due[0]`.
    oldest: u32,
    pub under_way: usize,
    trailers: Trailers,
    pub failures: u64,
    /// The first failure.
    pub failure: Option<String>,
}

impl Connection {
    pub fn open(address: SocketAddr, workload: &Workload) -> io::Result<Connection> {
        Ok(Connection {
            link: Link::open(address)?,
            first: Template::new(workload, true),
            later: Template::new(workload, false),
            next_stream: 1,
            due: VecDeque::new(),
            oldest: 1,
            under_way: 0,
            trailers: Trailers::default(),
            failures: 0,
            failure: None,
        })
    }

    /// Whether one more request fits into the server's window.
    pub fn has_room(&self) -> bool {
        self.link.window >= self.first.data_len() as i64
    }

    /// Puts a request for `key` into the output.
    pub fn request(&mut self, key: &[u8; KEY_LEN], due: Instant) {
        let template = if self.next_stream == 1 { &self.first } else { &self.later };
        template.write(&mut self.link.output, self.next_stream, key);
        self.link.window -= template.data_len() as i64;
        self.next_stream += 2;
        self.under_way += 1;
        self.due.push_back(Some(due));
    }

    /// Reads what is there and tells `done` when each finished request was due.
    pub fn receive(&mut self, mut done: impl FnMut(Instant)) -> io::Result<()> {
        let Some(mut input) = self.link.read()? else { return Ok(()) };
        while let Some(frame) = input.next() {
            self.link.on_frame(&frame)?;
            self.on_frame(&frame, &mut done);
        }
        self.link.keep(input);
        Ok(())
    }

    fn on_frame(&mut self, frame: &Frame<'_>, done: &mut impl FnMut(Instant)) {
        match frame.kind {
            kind::HEADERS if frame.flags & kind::END_STREAM != 0 => {
                if let Err(failure) = self.trailers.check(frame.payload) {
                    self.fail(failure);
                }
                self.finish(frame.stream, done);
            }
            kind::RST_STREAM => {
                self.fail(format!("RST_STREAM {:?}", frame.payload));
                self.finish(frame.stream, done);
            }
            _ => {}
        }
    }

    fn finish(&mut self, stream: u32, done: &mut impl FnMut(Instant)) {
        let slot = (stream.wrapping_sub(self.oldest) / 2) as usize;
        if let Some(due) = self.due.get_mut(slot).and_then(Option::take) {
            self.under_way -= 1;
            done(due);
        }
        while let Some(None) = self.due.front() {
            self.due.pop_front();
            self.oldest += 2;
        }
    }

    fn fail(&mut self, failure: String) {
        self.failures += 1;
        self.failure.get_or_insert(failure);
    }
}
