//! A bell between tasks of one executor: rings are not counted, and none is lost.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// The bell. One task waits at a time.
#[derive(Debug, Default)]
pub struct Wake {
    rung: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Wake {
    /// Wakes whoever waits, or lets the next wait through.
    pub fn ring(&self) {
        if !self.rung.replace(true)
            && let Some(waiter) = self.waiter.borrow_mut().take()
        {
            waiter.wake();
        }
    }

    /// Waits for a ring since the last wait.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.rung.take() {
                return Poll::Ready(());
            }
            *self.waiter.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// Lets every other ready task run first.
pub async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}
