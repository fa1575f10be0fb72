//! What the tests of the clock share.

// Each test file is a program of its own and uses a part of this.
#![allow(dead_code)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use fibra_std::{Clock, Outcome, Process, Sleep};

pub const MS: Duration = Duration::from_millis(1);
pub const HOUR: Duration = Duration::from_secs(3600);

pub fn clock() -> Clock {
    Clock::new().expect("a thread")
}

/// How many are in the clock.
pub fn sleeping(clock: &Clock) -> usize {
    let text = format!("{clock:?}");
    let count = text.strip_prefix("Clock { sleeping: ").and_then(|rest| rest.strip_suffix(" }"));
    count.expect(&text).parse().unwrap()
}

/// Tries with more and more time until `attempt` is done in time.
pub fn in_time<R>(mut attempt: impl FnMut(Duration) -> Option<R>) -> R {
    let mut distance = 20 * MS;
    loop {
        match attempt(distance) {
            Some(result) => return result,
            None => distance *= 2,
        }
    }
}

/// A waker that calls a function.
struct Calls<F>(F);

impl<F: Fn() + Send + Sync> Wake for Calls<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

pub fn calls(f: impl Fn() + Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(Calls(f)))
}

pub fn poll_with(sleep: Pin<&mut Sleep<'_>>, waker: &Waker) -> Poll<()> {
    sleep.poll(&mut Context::from_waker(waker))
}

/// Spawns a fibre that can be woken from outside.
pub fn spawn<'p>(p: &'p Process<'p, '_>, future: impl Future<Output = ()> + 'p) {
    p.fibre().waker().spawn(future).expect("room for a fibre");
}

/// Finished, collapsed, deadlocked, stopped.
pub fn counts(outcome: Outcome) -> (usize, usize, usize, usize) {
    (outcome.finished, outcome.collapsed, outcome.deadlocked, outcome.stopped)
}
