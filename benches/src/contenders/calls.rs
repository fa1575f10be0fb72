//! Calls of subroutines whose memory comes from a pool, or from malloc: ours, and what an `async fn` that calls itself does.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::task::{Context, Poll};

use fibra_allocators::{AllocRef, Borrowed, MemReq, PoolBox, SizeClasses, Table, table};
use fibra_core::{Continuation, Frame, Next, coroutine};

use super::fibra::{run, spawn};
use crate::workload::DEPTH;
use crate::workloads::Answer;

const NO_BLOCK: &str = "the pool has a block for each call in progress";

/// Adds one to its argument.
struct Increment(u64);

impl Continuation for Increment {
    type Step = ();
    type Return = u64;
    const START: () = ();

    fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        Next::finish(self.0 + 1)
    }
}

/// The steps of a routine that calls another.
#[derive(Clone, Copy)]
enum Step {
    Call,
    Return,
}

/// Adds one for itself, and has itself called for the others.
struct Descend<A: AllocRef> {
    value: u64,
    depth: u64,
    pool: A,
    callee: Option<Frame<Self, A>>,
}

impl<A: AllocRef> Descend<A> {
    fn frame(value: u64, depth: u64, pool: A) -> Frame<Self, A> {
        Frame::new_in(Descend { value, depth, pool: pool.clone(), callee: None }, pool).expect(NO_BLOCK)
    }
}

impl<A: AllocRef> Continuation for Descend<A> {
    type Step = Step;
    type Return = u64;
    const START: Step = Step::Call;

    fn resume(&mut self, step: Step, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        match step {
            Step::Call if self.depth == 1 => Next::finish(self.value + 1),
            Step::Call => {
                let frame = Self::frame(self.value + 1, self.depth - 1, self.pool.clone());
                Next::call(self.callee.insert(frame), Step::Return)
            }
            Step::Return => Next::finish(self.callee.take().and_then(Frame::into_result).expect("it has returned")),
        }
    }
}

/// Calls, each time in a new frame, until it has been told n.
struct Caller<C: Continuation<Return = u64>, A: AllocRef, M: Fn(u64) -> Frame<C, A>> {
    value: u64,
    n: u64,
    make: M,
    callee: Option<Frame<C, A>>,
    answer: Option<Answer>,
}

impl<C: Continuation<Return = u64>, A: AllocRef, M: Fn(u64) -> Frame<C, A>> Continuation for Caller<C, A, M> {
    type Step = Step;
    type Return = ();
    const START: Step = Step::Call;

    #[inline(always)]
    fn resume(&mut self, step: Step, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        match step {
            Step::Call if self.value == self.n => {
                let _ = self.answer.take().map(|answer| answer.send(self.value));
                Next::finish(())
            }
            Step::Call => Next::call(self.callee.insert((self.make)(self.value)), Step::Return),
            Step::Return => {
                self.value = self.callee.take().and_then(Frame::into_result).expect("it has returned");
                Next::go(Step::Call)
            }
        }
    }
}

/// A coroutine that calls.
pub(crate) fn from_coroutine(n: u64) -> u64 {
    run(move |p, answer| {
        let pool = *p.allocator();
        let make = move |value| Frame::new_in(Increment(value), pool).expect(NO_BLOCK);
        spawn(p, coroutine(Caller { value: 0, n, make, callee: None, answer: Some(answer) }));
    })
}

/// Routines in frames that call.
pub(crate) fn nested(n: u64) -> u64 {
    run(move |p, answer| {
        let pool = *p.allocator();
        let make = move |value| Descend::frame(value, DEPTH.min(n - value), pool);
        spawn(p, coroutine(Caller { value: 0, n, make, callee: None, answer: Some(answer) }));
    })
}

/// A coroutine that calls an `async` routine.
pub(crate) fn of_async(n: u64) -> u64 {
    run(move |p, answer| {
        let make = move |value| p.frame_async(async move { value + 1 }).expect(NO_BLOCK);
        spawn(p, coroutine(Caller { value: 0, n, make, callee: None, answer: Some(answer) }));
    })
}

/// An `async` routine that calls.
pub(crate) fn from_async(n: u64) -> u64 {
    run(move |p, answer| {
        let pool = *p.allocator();
        spawn(p, async move {
            let mut value = 0;
            while value < n {
                value = Frame::new_in(Increment(value), pool).expect(NO_BLOCK).call().await;
            }
            let _ = answer.send(value);
        });
    })
}

/// An `async fn` that calls itself, in boxes from malloc.
pub(crate) fn boxed(n: u64) -> u64 {
    async fn descend(value: u64, depth: u64) -> u64 {
        if depth == 1 {
            return value + 1;
        }
        Box::pin(descend(value + 1, depth - 1)).await
    }

    run(move |p, answer| {
        spawn(p, async move {
            let mut value = 0;
            while value < n {
                value = Box::pin(descend(value, DEPTH.min(n - value))).await;
            }
            let _ = answer.send(value);
        });
    })
}

const SIZES: Table<3> = table([MemReq::new(64, 200), MemReq::new(96, 200), MemReq::new(128, 200)]);

type Pool = &'static SizeClasses<3, Borrowed<'static>>;

thread_local! {
    /// What is pinned to a block from here may be forgotten, so the pool stays for ever.
    static POOL: RefCell<Pool> = {
        let memory: &'static mut [MaybeUninit<u8>] = Box::leak(Box::new_uninit_slice(SIZES.arena_size()));
        RefCell::new(Box::leak(Box::new(SizeClasses::new(&SIZES, memory).expect("an arena's size always does"))))
    };
}

/// An `async fn` that calls itself, in boxes from a pool.
pub(crate) fn pool_boxed(n: u64) -> u64 {
    async fn descend(value: u64, depth: u64, pool: Pool) -> u64 {
        if depth == 1 {
            return value + 1;
        }
        PoolBox::into_pin(PoolBox::new_in(descend(value + 1, depth - 1, pool), pool).expect(NO_BLOCK)).await
    }

    let pool = POOL.with(|pool| *pool.borrow());
    run(move |p, answer| {
        spawn(p, async move {
            let mut value = 0;
            while value < n {
                let callee = descend(value, DEPTH.min(n - value), pool);
                value = PoolBox::into_pin(PoolBox::new_in(callee, pool).expect(NO_BLOCK)).await;
            }
            let _ = answer.send(value);
        });
    })
}
