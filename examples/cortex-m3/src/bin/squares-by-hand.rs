//! Prints what `squares` prints, with fibres that are explicit state machines, and that call a subroutine in a frame from
//! the pool.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::fmt::Write;
use core::ops::ControlFlow;

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hio};
use fibra_allocators::{Arena, SizeClasses};
use fibra_examples::squares_by_hand::{self, SIZES};
use panic_semihosting as _;

static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();

#[entry]
fn main() -> ! {
    debug::exit(show_squares().ok_or(()));
    loop {}
}

fn show_squares() -> Option<()> {
    let mut output = hio::hstdout().ok()?;
    let pool = SizeClasses::new(&SIZES, MEMORY.take()?).ok()?;
    let out = &mut output;
    let (spawned, outcome) = fibra_core::run(&pool, |p| {
        squares_by_hand::spawn(p, 0..20, |square| match writeln!(out, "{square}") {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        })
    })
    .ok()?;
    spawned.ok()?;
    write!(output, "{outcome}\n{}", pool.report()).ok()
}
