//! Does what `squares-bare` does, with fibres that are explicit state machines: without any output, its size is what the
//! runtime takes of a chip's flash where no `async` is used.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::ops::ControlFlow;
use core::panic::PanicInfo;

use cortex_m as _; // for its critical section
use cortex_m_rt::entry;
use cortex_m_semihosting::debug;
use fibra_allocators::{Arena, SizeClasses};
use fibra_examples::squares_by_hand::{self, SIZES};

static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();

#[entry]
fn main() -> ! {
    debug::exit(sum_squares().filter(|sum| *sum == 2470).map(drop).ok_or(()));
    loop {}
}

fn sum_squares() -> Option<u64> {
    let pool = SizeClasses::new(&SIZES, MEMORY.take()?).ok()?;
    let mut sum = 0;
    let total = &mut sum;
    let (spawned, outcome) = fibra_core::run(&pool, |p| {
        squares_by_hand::spawn(p, 0..20, |square| {
            *total += square;
            ControlFlow::Continue(())
        })
    })
    .ok()?;
    spawned.ok()?;
    (outcome.finished == 1 && outcome.collapsed == 2).then_some(sum)
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    debug::exit(debug::EXIT_FAILURE);
    loop {}
}
