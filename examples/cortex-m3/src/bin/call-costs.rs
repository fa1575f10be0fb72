//! What a call of a subroutine costs, with its argument, its result and its return: instructions, not cycles, and only in an
//! emulator whose clock counts them (`-icount shift=0`).
//!
//! What a step takes that goes on with the next one without a call is subtracted, except from a call by an `async` block,
//! which has no steps.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::fmt::Write;
use core::hint::black_box;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use cortex_m::Peripherals;
use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hio};
use fibra_allocators::{AllocRef, Arena, MemReq, SizeClasses, Table, table};
use fibra_core::{Continuation, Curried, Frame, Next, coroutine};
use fibra_cortex_m3::clock::Clock;
use panic_semihosting as _;

const CALLS: usize = 4096;
const SIZES: Table<4> = table([MemReq::new(16, 1), MemReq::new(32, 1), MemReq::new(64, 1), MemReq::new(128, 1)]);
static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();

/// A subroutine with an argument and a result.
struct Successor {
    n: usize,
}

impl Continuation for Successor {
    type Step = ();
    type Return = usize;
    const START: () = ();

    fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        Next::finish(self.n + 1)
    }
}

/// Counts to [`CALLS`]: by itself, or by calls in a frame that it keeps, or takes for each.
struct Count<A: AllocRef> {
    n: usize,
    how: How,
    successor: Option<Curried<Successor, A>>,
    memory: A,
}

#[derive(Clone, Copy)]
enum How {
    Alone,
    Kept,
    Taken,
}

#[derive(Clone, Copy)]
enum Counting {
    Next,
    Returned,
}

impl<A: AllocRef + Unpin> Continuation for Count<A> {
    type Step = Counting;
    type Return = ();
    const START: Counting = Counting::Next;

    fn resume(&mut self, step: Counting, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        match step {
            Counting::Next if self.n == CALLS => Next::finish(()),
            Counting::Next => {
                if let How::Alone = self.how {
                    self.n = black_box(self.n + 1);
                    return Next::go(Counting::Returned);
                }
                let n = self.n;
                let successor = match &mut self.successor {
                    Some(successor) => {
                        successor.n = n;
                        successor
                    }
                    none => none.insert(
                        Frame::new_in(Successor { n }, self.memory.clone()).expect("there is a block").curried(),
                    ),
                };
                Next::call(successor, Counting::Returned)
            }
            Counting::Returned => {
                if let Some(successor) = &mut self.successor {
                    self.n = black_box(successor.result().expect("it has returned"));
                }
                if let How::Taken = self.how {
                    self.successor = None;
                }
                Next::go(Counting::Next)
            }
        }
    }
}

/// Ticks that [`CALLS`] calls take in a frame that is kept, in frames that are taken for each, and by an `async` block.
fn measure_calls<A: AllocRef + Unpin>(memory: A) -> [u64; 3] {
    let count =
        |how: How| ticks_of(coroutine(Count { n: 0, how: black_box(how), successor: None, memory: memory.clone() }));
    let alone = count(How::Alone);
    let by_async = ticks_of(async {
        let mut successor = Frame::new_in(Successor { n: 0 }, memory.clone()).expect("there is a block").curried();
        while successor.n < CALLS {
            successor.n = black_box(successor.call().await);
        }
    });
    [count(How::Kept).saturating_sub(alone), count(How::Taken).saturating_sub(alone), by_async]
}

/// Ticks that a future takes which never waits.
fn ticks_of(future: impl Future<Output = ()>) -> u64 {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    Clock::ticks(|| assert!(future.as_mut().poll(&mut cx).is_ready()))
}

#[entry]
fn main() -> ! {
    let mut output = hio::hstdout().expect("a debugger takes the output");
    let clock = Clock::new(&mut Peripherals::take().expect("taken only here").SYST);
    let pool = SizeClasses::new(&SIZES, MEMORY.take().expect("taken only here")).expect("as large as it says");
    let [kept, taken, by_async] = measure_calls(&pool).map(|ticks| clock.instructions(ticks, CALLS));
    writeln!(output, "{:16} {:12}{:>6}{:>6}{:>8}", "call of a", "from", "kept", "taken", "async").unwrap();
    writeln!(output, "{:16} {:12}{kept:6}{taken:6}{by_async:8}", "Frame", "SizeClasses").unwrap();
    debug::exit(debug::EXIT_SUCCESS);
    loop {}
}
