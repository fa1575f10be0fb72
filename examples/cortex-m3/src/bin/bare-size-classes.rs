//! Takes a few blocks of two sizes and gives them back: what `SizeClasses` itself takes of a chip's flash.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::hint::black_box;
use core::panic::PanicInfo;

use cortex_m as _; // for its critical section
use cortex_m_rt::entry;
use cortex_m_semihosting::debug;
use fibra_allocators::{Arena, MemReq, PoolBox, SizeClasses, Table, table};

const SIZES: Table<2> = table([MemReq::new(16, 4), MemReq::new(32, 6)]);
static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();

#[entry]
fn main() -> ! {
    debug::exit(use_pool().ok_or(()));
    loop {}
}

fn use_pool() -> Option<()> {
    let pool = SizeClasses::new(&SIZES, MEMORY.take()?).ok()?;
    let pool = black_box(&pool);
    let one = PoolBox::new_in([1_u32; 8], pool).ok()?;
    let two = PoolBox::new_in([2_u16; 8], pool).ok()?;
    drop(black_box(one));
    drop(black_box(two));
    Some(())
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    debug::exit(debug::EXIT_FAILURE);
    loop {}
}
