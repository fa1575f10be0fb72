//! Routines for the tests of explicit continuations: a state, and a function that runs a step of it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use fibra_core::{Continuation, Frame, Next};

use super::Checking;

/// A step's function: what comes after step `n` of a routine with that state.
pub type Step<S, V> = for<'a> fn(&'a mut S, u8, &mut Context<'_>) -> Then<'a, S, V>;
pub type Then<'a, S, V> = Poll<Next<'a, Routine<S, V>>>;

/// A routine that begins with step 0.
pub struct Routine<S, V = ()> {
    pub state: S,
    step: Step<S, V>,
}

pub fn routine<S, V>(state: S, step: Step<S, V>) -> Routine<S, V> {
    Routine { state, step }
}

impl<S, V> Continuation for Routine<S, V> {
    type Step = u8;
    type Return = V;
    const START: u8 = 0;

    fn resume(&mut self, step: u8, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        (self.step)(&mut self.state, step, cx)
    }
}

/// A frame of a routine in the memory of a process that the tests run.
pub type InProcess<'p, 'a, S, V = ()> = Frame<Routine<S, V>, &'p &'a Checking>;
/// A frame of a routine in memory without a process.
pub type InMemory<'a, S, V = ()> = Frame<Routine<S, V>, &'a Checking>;

/// Polls once, outside all processes.
pub fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls once, outside all processes: it must wait.
#[track_caller]
pub fn assert_waits<F: Future + ?Sized>(future: Pin<&mut F>) {
    assert!(poll(future).is_pending(), "this was to wait");
}
