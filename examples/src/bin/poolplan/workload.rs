//! Programs to plan for when there is no trace at hand. Each does the same on every machine and in every run, but for the
//! sizes of pointers.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::ptr::NonNull;

use fibra_examples::sieve;
use fibra_std::{AllocError, Allocator, Layout, Malloc, run_in};

use crate::trace::Trace;

pub const NAMES: [&str; 3] = ["fibres", "json", "log-uniform"];

/// `None` if there is no workload of this name.
pub fn named(name: &str) -> Option<Result<Trace, AllocError>> {
    match name {
        "fibres" => Some(fibres()),
        "json" => Some(Ok(json())),
        "log-uniform" => Some(Ok(log_uniform())),
        _ => None,
    }
}

/// The prime sieve: a network that grows by a fibre and a channel for each prime up to 2000.
fn fibres() -> Result<Trace, AllocError> {
    let recorder = Recorder::default();
    let exhausted = Cell::new(false);
    let run = run_in(&recorder, |p| sieve::spawn(p, 2000, |_| ControlFlow::Continue(()), &exhausted));
    match run {
        Ok((Ok(()), _)) if !exhausted.get() => Ok(recorder.trace.into_inner()),
        _ => Err(AllocError),
    }
}

/// Documents of objects, arrays, strings and numbers, of which at most 100 are kept.
fn json() -> Trace {
    let mut trace = Trace::default();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut documents: Vec<Vec<usize>> = Vec::new();
    for _ in 0..1000 {
        if documents.len() == 100 {
            let oldest = random.below(documents.len());
            documents.swap_remove(oldest).into_iter().for_each(|block| trace.release(block));
        }
        let mut blocks = Vec::new();
        for _ in 0..1 + random.below(12) {
            let members = 1 + random.below(20);
            blocks.push(grown(&mut trace, members, 48));
            for _ in 0..members {
                blocks.push(trace.allocate(bytes(3 + random.below(18))));
                match random.below(6) {
                    0 | 1 => {}
                    2 => {
                        let elements = 1 + random.below(64);
                        blocks.push(grown(&mut trace, elements, 24));
                    }
                    // Most strings are short.
                    _ => blocks.push(trace.allocate(bytes(1 + random.log_below(400)))),
                }
            }
        }
        documents.push(blocks);
    }
    trace
}

/// A vector that was filled one by one.
fn grown(trace: &mut Trace, elements: usize, size: usize) -> usize {
    let mut capacity = 4;
    let mut block = trace.allocate(words(capacity * size));
    while capacity < elements {
        capacity *= 2;
        let larger = trace.allocate(words(capacity * size));
        trace.release(block);
        block = larger;
    }
    block
}

/// Sizes from 1 byte to 64 KiB, each order of magnitude as often as any other; 500 blocks live.
fn log_uniform() -> Trace {
    let mut trace = Trace::default();
    let mut random = Random(0xD1B5_4A32_D192_ED03);
    let mut live = Vec::new();
    for _ in 0..10_000 {
        if live.len() == 500 {
            let which = random.below(live.len());
            trace.release(live.swap_remove(which));
        }
        live.push(trace.allocate(bytes(1 + random.log_below(1 << 16))));
    }
    trace
}

fn bytes(size: usize) -> Layout {
    Layout::from_size_align(size, 1).expect("a small size")
}

fn words(size: usize) -> Layout {
    Layout::from_size_align(size, align_of::<usize>()).expect("a small size")
}

/// xorshift64*, by Marsaglia and Vigna.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 32) as usize % end
    }

    /// Each order of magnitude as often as any other.
    fn log_below(&mut self, end: usize) -> usize {
        let part = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        ((end as f64).powf(part) - 1.0) as usize
    }
}

/// The host's memory, which writes a trace.
#[derive(Default)]
struct Recorder {
    trace: RefCell<Trace>,
    live: RefCell<HashMap<usize, usize>>,
}

// SAFETY: it is `Malloc`, with notes. A block that grows or shrinks is, by the trait's own way, another one.
unsafe impl Allocator for &Recorder {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let block = Malloc.allocate(layout)?;
        if layout.size() > 0 {
            let number = self.trace.borrow_mut().allocate(layout);
            self.live.borrow_mut().insert(block.addr().get(), number);
        }
        Ok(block)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() > 0
            && let Some(number) = self.live.borrow_mut().remove(&block.addr().get())
        {
            self.trace.borrow_mut().release(number);
        }
        // SAFETY: passed on to our caller.
        unsafe { Malloc.deallocate(block, layout) }
    }
}
