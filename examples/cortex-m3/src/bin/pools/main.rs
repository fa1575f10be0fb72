//! Every form of the allocators on the chip: random requests against a model, an interrupt handler that takes and gives
//! blocks in the middle of the main program's doing so, and mistakes that are caught.
//!
//! What it prints is the same in each run, and depends neither on the compiler nor on when interrupts come.
#![no_std]
#![no_main]
#![allow(unsafe_code)] // `Allocator` itself is what is exercised

mod exercise;
mod interrupts;
mod mistakes;
mod random;

use core::fmt::Write;
use core::mem::MaybeUninit;

use cortex_m::Peripherals;
use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hio};
use exercise::{Classes, Tally, exercise};
use fibra_allocators::{
    Arena, ClassStats, CriticalSection, Fifo, FixedBlock, Form, Layout, LockFree, MemReq, NoLock, Ordered, Pool,
    SizeClasses, Table, table,
};
#[cfg(target_has_atomic = "8")]
use fibra_allocators::{Cache, SpinLock};
use panic_semihosting as _;

/// Few of each, so that classes run out now and then; the largest is beyond the look-up.
const SIZES: Table<5> =
    table([MemReq::new(8, 5), MemReq::new(24, 6), MemReq::new(32, 5), MemReq::new(96, 4), MemReq::new(2560, 1)]);

#[repr(align(16))]
struct Block {
    _bytes: [u8; 48],
}
const N_BLOCKS: usize = 9;

const STEPS: usize = 2000;

#[entry]
fn main() -> ! {
    let mut output = hio::hstdout().expect("a debugger takes the output");
    writeln!(output, "{:24} {:12} {:>9} {:>9} {:>9}", "form", "allocator", "allocated", "refused", "resized").unwrap();

    macro_rules! exercise {
        ($($form:ty),*) => {$({
            static CLASSES: Arena<{ SIZES.arena_size_for::<$form>() }> = Arena::new();
            static BLOCKS: Arena<{ Pool::<Block, _>::arena_size_for::<$form>(N_BLOCKS) }> = Arena::new();
            let name = stringify!($form);
            row(&mut output, name, "SizeClasses", size_classes::<$form>(name, CLASSES.take().expect("taken only here")));
            row(&mut output, name, "FixedBlock", fixed_block::<$form>(name, BLOCKS.take().expect("taken only here")));
        })*};
    }
    exercise!(NoLock, CriticalSection, LockFree, Fifo, Ordered, Ordered<CriticalSection>);
    #[cfg(target_has_atomic = "8")]
    {
        exercise!(SpinLock);
        row(&mut output, "SpinLock", "Cache", cache());
    }

    for form in interrupts::share(Peripherals::take().expect("taken only here").SYST) {
        writeln!(output, "{form}, shared with an interrupt: no block was given out twice, none was lost").unwrap();
    }
    for (mistake, allocation) in mistakes::make() {
        writeln!(output, "caught at allocation {allocation}: {mistake}").unwrap();
    }
    debug::exit(debug::EXIT_SUCCESS);
    loop {}
}

fn row(output: &mut impl Write, form: &str, allocator: &str, tally: Tally) {
    let Tally { allocated, refused, resized } = tally;
    writeln!(output, "{form:24} {allocator:12} {allocated:9} {refused:9} {resized:9}").unwrap();
}

fn size_classes<F: Form>(form: &str, memory: &mut [MaybeUninit<u8>]) -> Tally {
    let system = SizeClasses::with_form::<F>(&SIZES, memory).expect("the arena has the size for this form");
    let (verify, counts) = (|| system.verify(), || system.classes());
    exercise(&system, Classes { rows: SIZES.rows(), fresh_first: form == "Fifo", verify, counts }, STEPS)
}

fn fixed_block<F: Form>(form: &str, memory: &mut [MaybeUninit<u8>]) -> Tally {
    let blocks = FixedBlock::with_form::<F>(Layout::new::<Block>(), memory);
    assert_eq!(blocks.capacity(), N_BLOCKS, "the arena has the size for this form");
    let rows = [MemReq::new(blocks.block().size(), N_BLOCKS)];
    let counts = || {
        let MemReq { block_size, n_blocks: reserved } = rows[0];
        [ClassStats { block_size, reserved, peak: blocks.peak(), live: blocks.live() }]
    };
    exercise(&blocks, Classes { rows: &rows, fresh_first: form == "Fifo", verify: || blocks.verify(), counts }, STEPS)
}

#[cfg(target_has_atomic = "8")]
fn cache() -> Tally {
    static MEMORY: Arena<{ SIZES.arena_size_for::<SpinLock>() }> = Arena::new();
    let memory = MEMORY.take().expect("taken only here");
    let system = SizeClasses::with_form::<SpinLock>(&SIZES, memory).expect("the arena has the size for this form");
    let cache = Cache::new(&system, 2);
    // Flushed now and then, which makes no difference to what is asked of it.
    let counts = || {
        cache.flush();
        system.classes()
    };
    exercise(&cache, Classes { rows: SIZES.rows(), fresh_first: false, verify: || system.verify(), counts }, STEPS)
}
