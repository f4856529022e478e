//! Connections that are not, or not yet, HTTP/2, and how many of all kinds there may be.
//!
//! HTTP/2 connections have deadlines of their own in the front. What comes before its preface, and HTTP/1, has none
//! there: here each is listed with its [`Pace`], the node's clock looks through the list, and one that is overdue is
//! told so and dropped by its own task.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};
use net::http::pace::Pace;
use tuning::probe::limits::FDS_RESERVED;

use crate::wake::Wake;

/// The list is looked through this often.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// All connections of an executor.
#[derive(Debug)]
pub struct Guests {
    all: RefCell<Vec<Weak<Guest>>>,
    connection_count: Cell<u64>,
    connection_count_max: u64,
    look_due: Cell<Option<Instant>>,
}

/// One connection without HTTP/2.
#[derive(Debug)]
pub struct Guest {
    remote: Option<SocketAddr>,
    pace: Cell<Pace>,
    overdue: Wake,
}

impl Guests {
    /// None yet. `descriptors` is how many files the process may have open; clients leave some of them to the server,
    /// or a crowd would keep the log from its next segment.
    pub fn new(descriptors: u64) -> Guests {
        Guests {
            all: RefCell::default(),
            connection_count: Cell::new(0),
            connection_count_max: descriptors.saturating_sub(FDS_RESERVED).max(1),
            look_due: Cell::new(None),
        }
    }

    /// A place for one more connection of any kind, or none if all are taken.
    pub fn place(self: &Rc<Guests>) -> Option<Place> {
        let count = self.connection_count.get();
        (count < self.connection_count_max).then(|| {
            self.connection_count.set(count + 1);
            Place(Rc::clone(self))
        })
    }

    /// Lists a connection just accepted.
    pub fn welcome(&self, now: Instant, remote: Option<SocketAddr>) -> Rc<Guest> {
        let guest = Rc::new(Guest { remote, pace: Cell::new(Pace::new(now)), overdue: Wake::default() });
        self.all.borrow_mut().push(Rc::downgrade(&guest));
        guest
    }

    /// Ends those that are overdue, and says why; called at every tick of the clock.
    pub fn look(&self, now: Instant, mut complain: impl FnMut(&'static str, Option<SocketAddr>)) {
        if self.look_due.get().is_some_and(|due| now < due) {
            return;
        }
        self.look_due.set(Some(now + LOOK_INTERVAL));
        self.all.borrow_mut().retain(|guest| {
            let Some(guest) = guest.upgrade() else { return false };
            let Some(reason) = guest.pace.get().overdue(now) else { return true };
            complain(reason, guest.remote);
            guest.overdue.ring();
            false
        });
    }
}

/// Keeps a connection counted.
#[derive(Debug)]
pub struct Place(Rc<Guests>);

impl Drop for Place {
    fn drop(&mut self) {
        let count = &self.0.connection_count;
        count.set(count.get() - 1);
    }
}

impl Guest {
    /// Changes its pace.
    pub fn pace(&self, change: impl FnOnce(&mut Pace)) {
        let mut pace = self.pace.get();
        change(&mut pace);
        self.pace.set(pace);
    }

    /// Runs `work` to its end, or until the guest is overdue: then there is no outcome.
    pub async fn in_time<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut overdue = pin!(self.overdue.wait());
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => overdue.as_mut().poll(context).map(|()| None),
        })
        .await
    }
}

/// A stream whose reads and writes are told to a guest's pace.
#[derive(Debug)]
pub struct Paced<S> {
    /// The stream.
    pub stream: S,
    /// Whose it is.
    pub guest: Rc<Guest>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        self.guest.pace(|pace| pace.on_reading(Instant::now()));
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.guest.pace(|pace| pace.on_received(Instant::now()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.guest.pace(|pace| pace.on_sent(Instant::now(), sent.is_pending()));
        sent
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use net::http::pace::SNIFF_TIME_MAX;
    use std::task::Waker;

    #[test]
    fn places_are_given_back() {
        let guests = Rc::new(Guests::new(FDS_RESERVED + 2));
        let first = guests.place().unwrap();
        let _second = guests.place().unwrap();
        assert!(guests.place().is_none());
        drop(first);
        assert!(guests.place().is_some());
        assert!(Rc::new(Guests::new(10)).place().is_some(), "one client can always look");
    }

    #[test]
    fn a_guest_is_ended_when_overdue_and_not_before() {
        let start = Instant::now();
        let guests = Guests::new(1024);
        let guest = guests.welcome(start, None);
        let mut reasons = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        let mut work = pin!(guest.in_time(std::future::pending::<()>()));
        for (after, expected) in [(Duration::ZERO, 0), (SNIFF_TIME_MAX, 1), (SNIFF_TIME_MAX * 2, 1)] {
            guests.look(start + after, |reason, _| reasons.push(reason));
            assert_eq!(reasons.len(), expected, "{after:?}: {reasons:?}");
            if after != SNIFF_TIME_MAX * 2 {
                assert_eq!(work.as_mut().poll(&mut context).is_ready(), expected == 1);
            }
        }
        assert_eq!(reasons, ["handshake timeout"]);
    }
}
