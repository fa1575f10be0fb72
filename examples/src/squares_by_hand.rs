//! The same list, squared by the same three fibres as in [`squares`](crate::squares), without `async`: each step is
//! there to be seen.
//!
//! A fibre is a struct, with what a function would keep in its local variables, and one function, `resume`, which is a
//! `match` over the places where it can be resumed. Each arm does a little, and says what comes next:
//!
//! ```text
//!   Produce              Transduce                        Consume
//!
//!   Load: next number    Read: wait for a number          Read: wait for a square
//!     |          ^         | call Square         ^          |          ^
//!     v          |         v                     |          |          |
//!   Write: wait -'       Squared: take the result|          '---show---'
//!                          |                     |
//!                          v                     |
//!                        Write: wait ------------'
//! ```
//!
//! `ready!` is where a fibre waits: it leaves `resume`, and the scheduler comes back to the same step as soon as there is
//! something to do. So such a step begins with its `ready!`, and does the rest once. There is no stack to switch, none to
//! measure, and none to overflow: what a fibre takes is the size of its struct, and what a call takes is a block of the
//! pool.

use core::ops::ControlFlow;
use core::task::{Context, Poll, ready};

use fibra_allocators::{AllocError, AllocRef};
use fibra_core::{Continuation, Curried, Next, Process, Reader, Writer, coroutine};

/// What the program needs, with some to spare: two channels, three fibres, and a frame.
pub use crate::squares::SIZES;

/// Writes the whole list, then ends.
struct Produce<'p, I: Iterator> {
    list: I,
    to: Writer<'p, I::Item>,
}

#[derive(Clone, Copy)]
enum Producing {
    Load,
    Write,
}

impl<I: Iterator> Continuation for Produce<'_, I> {
    type Step = Producing;
    type Return = ();
    const START: Producing = Producing::Load;

    fn resume(&mut self, step: Producing, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        match step {
            Producing::Load => match self.list.next() {
                Some(value) => {
                    self.to.begin_write(value);
                    Next::go(Producing::Write)
                }
                None => Next::finish(()),
            },
            Producing::Write => {
                ready!(self.to.poll_write(cx));
                Next::go(Producing::Load)
            }
        }
    }
}

/// A subroutine. It never waits, so it is a single step; its argument is a field, which the caller sets.
struct Square {
    n: u64,
}

impl Continuation for Square {
    type Step = ();
    type Return = u64;
    const START: () = ();

    fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        Next::finish(self.n * self.n)
    }
}

/// Squares what it reads. It has no end of its own: it goes when nobody writes or nobody reads any more.
struct Transduce<'p, A: AllocRef> {
    from: Reader<'p, u32>,
    to: Writer<'p, u64>,
    /// A curried subroutine: its frame is taken from the pool once, and called again and again. After the start nothing is
    /// allocated.
    square: Curried<Square, &'p A>,
}

#[derive(Clone, Copy)]
enum Transducing {
    Read,
    Squared,
    Write,
}

impl<A: AllocRef> Continuation for Transduce<'_, A> {
    type Step = Transducing;
    type Return = ();
    const START: Transducing = Transducing::Read;

    fn resume(&mut self, step: Transducing, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        match step {
            Transducing::Read => {
                self.square.n = ready!(self.from.poll_read(cx)).into();
                Next::call(&mut self.square, Transducing::Squared)
            }
            Transducing::Squared => {
                // There, because this step only comes after a call.
                let Some(squared) = self.square.result() else { return Next::end_fibre() };
                self.to.begin_write(squared);
                Next::go(Transducing::Write)
            }
            Transducing::Write => {
                ready!(self.to.poll_write(cx));
                Next::go(Transducing::Read)
            }
        }
    }
}

/// Shows each value, until it is told to stop.
struct Consume<'p, T, S> {
    from: Reader<'p, T>,
    show: S,
}

impl<T, S: FnMut(T) -> ControlFlow<()>> Continuation for Consume<'_, T, S> {
    type Step = (); // only one
    type Return = ();
    const START: () = ();

    fn resume(&mut self, (): (), cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        let value = ready!(self.from.poll_read(cx));
        match (self.show)(value) {
            ControlFlow::Continue(()) => Next::go(()),
            ControlFlow::Break(()) => Next::finish(()),
        }
    }
}

/// Spawns the three fibres.
///
/// # Errors
/// [`AllocError`] if the process's allocator has less than [`SIZES`].
pub fn spawn<'p, A: AllocRef>(
    p: &'p Process<'p, '_, A>,
    list: impl IntoIterator<Item = u32> + 'p,
    show: impl FnMut(u64) -> ControlFlow<()> + 'p,
) -> Result<(), AllocError> {
    let (numbers, to_square) = p.channel()?;
    let (squares, to_show) = p.channel()?;
    let square = p.frame(Square { n: 0 })?.curried();
    p.spawn(coroutine(Produce { list: list.into_iter(), to: numbers })).map_err(|_| AllocError)?;
    p.spawn(coroutine(Transduce { from: to_square, to: squares, square })).map_err(|_| AllocError)?;
    p.spawn(coroutine(Consume { from: to_show, show })).map_err(|_| AllocError)
}
