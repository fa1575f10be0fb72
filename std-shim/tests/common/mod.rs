//! What the tests of shared processes have in common: an allocator that checks its callers, numbers of workers, random
//! numbers, counted values.

#![allow(dead_code, reason = "each test file uses a part of this")]

use std::collections::{HashMap, VecDeque};
use std::hint::spin_loop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use fibra_std::{AllocError, Allocator, Layout, Outcome};

/// Calls `test` with each number of workers, often.
pub fn on_workers(test: impl Fn(usize)) {
    on_workers_times(number("FIBRA_REPEAT", 20), test);
}

pub fn on_workers_times(times: usize, test: impl Fn(usize)) {
    for workers in [1, 2, 4] {
        for _ in 0..times {
            test(workers);
        }
    }
}

/// A number from the environment.
pub fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Finished, collapsed, deadlocked, stopped, panicked.
pub fn counts(outcome: Outcome) -> [usize; 5] {
    [outcome.finished, outcome.collapsed, outcome.deadlocked, outcome.stopped, outcome.panicked]
}

/// Random numbers that several threads may draw.
pub struct Random(AtomicU64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(AtomicU64::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1))
    }

    /// Below `n`.
    pub fn below(&self, n: usize) -> usize {
        // A draw that another thread's overlaps may come twice, which is random enough.
        let mut x = self.0.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.store(x, Ordering::Relaxed);
        ((x >> 11) % n as u64) as usize
    }

    /// Takes a little while, so that what runs at the same time meets in another order.
    pub fn spin(&self) {
        (0..self.below(200)).for_each(|_| spin_loop());
    }
}

/// Counts its values.
#[derive(Default)]
pub struct Tally {
    alive: AtomicUsize,
}

impl Tally {
    pub fn token(&self) -> Token<'_> {
        self.alive.fetch_add(1, Ordering::Relaxed);
        Token(self)
    }

    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }
}

pub struct Token<'t>(&'t Tally);

impl Drop for Token<'_> {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An allocator for several threads that checks its callers. The handle is the reference.
///
/// Each release must name a live block with the layout it was allocated with. Released blocks are poisoned and kept for a
/// while, so that a use after release meets poison, and a write after release is seen.
#[derive(Default)]
pub struct Checked {
    blocks: Mutex<Blocks>,
}

#[derive(Default)]
struct Blocks {
    live: HashMap<usize, Layout>,
    released: VecDeque<(usize, Layout)>,
    requests: usize,
    fails: Option<usize>,
    faults: Vec<String>,
}

/// As the kind of a node: one that is in a report, and whose endpoint has not gone. Whoever takes it for one writes to it.
const POISON: u8 = 0xCE;
const KEPT: usize = 200;

impl Checked {
    pub fn new() -> Self {
        Self::default()
    }

    fn with<R>(&self, f: impl FnOnce(&mut Blocks) -> R) -> R {
        f(&mut self.blocks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn live(&self) -> usize {
        self.with(|blocks| blocks.live.len())
    }

    /// How many requests there have been.
    pub fn requests(&self) -> usize {
        self.with(|blocks| blocks.requests)
    }

    /// Makes request `nth`, counted from 0, fail.
    pub fn fail_nth(&self, nth: usize) {
        self.with(|blocks| blocks.fails = Some(nth));
    }

    #[track_caller]
    pub fn assert_empty(&self) {
        self.with(|blocks| {
            while let Some(released) = blocks.released.pop_front() {
                blocks.let_go(released);
            }
            assert!(blocks.faults.is_empty(), "{:?}", blocks.faults);
            assert!(blocks.live.is_empty(), "blocks that nobody released: {:?}", blocks.live);
        });
    }
}

impl Blocks {
    fn let_go(&mut self, (block, layout): (usize, Layout)) {
        let block = std::ptr::with_exposed_provenance_mut::<u8>(block);
        // SAFETY: a block is in the list only after it was allocated with this layout, and is taken from it once.
        unsafe {
            let bytes = std::slice::from_raw_parts(block, layout.size());
            if let Some(at) = bytes.iter().position(|byte| *byte != POISON) {
                self.faults.push(format!("byte {at} of a block of {layout:?} was written to after its release"));
            }
            std::alloc::dealloc(block, layout);
        }
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Whatever was leaked then.
            return;
        }
        self.assert_empty();
    }
}

// SAFETY: blocks come from the host's allocator and stay valid until they are released; all handles are references to the same
// allocator, whose lists are behind a lock.
unsafe impl Allocator for &Checked {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.with(|blocks| {
            let nth = blocks.requests;
            blocks.requests += 1;
            if blocks.fails == Some(nth) {
                return Err(AllocError);
            }
            if layout.size() == 0 {
                return Err(AllocError);
            }
            // SAFETY: its size is not zero.
            let block = NonNull::new(unsafe { std::alloc::alloc(layout) }).ok_or(AllocError)?;
            blocks.live.insert(block.as_ptr().expose_provenance(), layout);
            Ok(NonNull::slice_from_raw_parts(block, layout.size()))
        })
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        self.with(|blocks| {
            let at = block.as_ptr().expose_provenance();
            match blocks.live.remove(&at) {
                Some(its) if its == layout => {
                    // SAFETY: the block is live, so it has that many bytes.
                    unsafe { block.as_ptr().write_bytes(POISON, layout.size()) };
                    blocks.released.push_back((at, layout));
                    // With an address sanitizer, nothing is kept: it does that itself, and better.
                    if blocks.released.len() > number("FIBRA_TEST_KEEP", KEPT)
                        && let Some(oldest) = blocks.released.pop_front()
                    {
                        blocks.let_go(oldest);
                    }
                }
                other => blocks.faults.push(format!("{layout:?} at {at:#x} was released, which is {other:?}")),
            }
        });
    }
}
