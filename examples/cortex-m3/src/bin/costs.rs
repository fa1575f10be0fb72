//! What an allocation and a release of 32 bytes cost in each form: instructions, not cycles, and only in an emulator whose
//! clock counts them (`-icount shift=0`).
//!
//! Each is called as a function; what calling a function that does nothing takes is subtracted.
#![no_std]
#![no_main]
#![allow(unsafe_code)] // `Allocator` itself is what is measured

use core::fmt::Write;
use core::hint::black_box;
use core::ptr::NonNull;

use cortex_m::Peripherals;
use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hio};
use fibra_allocators::{
    AllocError, AllocRef, Allocator, Arena, CriticalSection, Fifo, FixedBlock, Layout, LockFree, MemReq, NoLock,
    Ordered, SizeClasses, Table, table,
};
#[cfg(target_has_atomic = "8")]
use fibra_allocators::{Cache, SpinLock};
use fibra_cortex_m3::clock::Clock;
use panic_semihosting as _;

const LAYOUT: Layout = Layout::new::<[u64; 4]>();
const N_BLOCKS: usize = 512;
/// How often all blocks are taken and given back, besides the first time.
const ROUNDS: usize = 8;
const SIZES: Table<4> =
    table([MemReq::new(16, 1), MemReq::new(LAYOUT.size(), N_BLOCKS), MemReq::new(64, 1), MemReq::new(128, 1)]);
/// The form that takes the most.
static MEMORY: Arena<{ SIZES.arena_size_for::<Fifo>() }> = Arena::new();

type Blocks = [Option<NonNull<u8>>; N_BLOCKS];

/// Ticks that it takes to allocate all blocks for the first time, to allocate them again, and to release them.
#[derive(Clone, Copy)]
struct Cost([u64; 3]);

/// What is not measured.
#[derive(Clone, Copy)]
struct Nothing<'a>(&'a NonNull<u8>);

// SAFETY: nobody uses what it gives.
unsafe impl Allocator for Nothing<'_> {
    #[inline]
    fn allocate(&self, _: Layout) -> Result<NonNull<[u8]>, AllocError> {
        Ok(NonNull::slice_from_raw_parts(*self.0, LAYOUT.size()))
    }

    #[inline]
    unsafe fn deallocate(&self, _: NonNull<u8>, _: Layout) {}
}

#[inline(never)]
fn allocate<A: AllocRef>(from: A) -> Option<NonNull<u8>> {
    from.allocate(LAYOUT).ok().map(NonNull::cast)
}

/// # Safety
///
/// It came from there.
#[inline(never)]
unsafe fn release<A: AllocRef>(block: NonNull<u8>, to: A) {
    // SAFETY: our caller's word.
    unsafe { to.deallocate(block, LAYOUT) }
}

fn measure<A: AllocRef>(memory: A) -> Cost {
    let mut blocks: Blocks = [None; N_BLOCKS];
    let mut cost = [0; 3];
    let memory = black_box(memory);
    let take_all =
        |blocks: &mut Blocks| Clock::ticks(|| blocks.iter_mut().for_each(|block| *block = allocate(memory.clone())));
    cost[0] = ROUNDS as u64 * take_all(&mut blocks);
    for round in 0..=ROUNDS {
        let given = Clock::ticks(|| {
            for block in &mut blocks {
                // SAFETY: it came from there, and is used no more.
                unsafe { release(block.take().expect("there are so many"), memory.clone()) }
            }
        });
        if round < ROUNDS {
            cost[2] += given;
            cost[1] += take_all(&mut blocks);
        }
    }
    Cost(cost)
}

#[entry]
fn main() -> ! {
    let mut output = hio::hstdout().expect("a debugger takes the output");
    let clock = Clock::new(&mut Peripherals::take().expect("taken only here").SYST);
    let memory = MEMORY.take().expect("taken only here");
    let nothing = measure(Nothing(&NonNull::dangling()));
    writeln!(output, "{:16} {:12}{:>6}{:>6}{:>8}", "form", "allocator", "fresh", "again", "release").unwrap();
    let mut row = |form: &str, allocator: &str, Cost(cost): Cost| {
        write!(output, "{form:16} {allocator:12}").unwrap();
        let [fresh, again, release] = core::array::from_fn(|column| {
            clock.instructions(cost[column].saturating_sub(nothing.0[column]), ROUNDS * N_BLOCKS)
        });
        writeln!(output, "{fresh:6}{again:6}{release:8}").unwrap();
    };
    macro_rules! measure {
        ($($form:ty),*) => {$({
            let system = SizeClasses::with_form::<$form>(&SIZES, memory).expect("as large as it says");
            row(stringify!($form), "SizeClasses", measure(&system));
            let blocks = FixedBlock::with_form::<$form>(LAYOUT, memory);
            row(stringify!($form), "FixedBlock", measure(&blocks));
        })*};
    }
    measure!(NoLock, CriticalSection, LockFree, Fifo, Ordered);
    #[cfg(target_has_atomic = "8")]
    {
        measure!(SpinLock);
        let system = SizeClasses::with_form::<SpinLock>(&SIZES, memory).expect("as large as it says");
        row("SpinLock", "Cache", measure(&Cache::new(&system, 32)));
    }
    debug::exit(debug::EXIT_SUCCESS);
    loop {}
}
