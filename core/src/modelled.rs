//! What the models have in common: a platform made of the model checker's threads, a way of waiting, memory that notices what
//! is used or given back twice, and how far the checker goes.
//!
//! What the checker cannot see: barriers that the operating system makes others' processors pass (the models use fences on
//! both sides), the wakers in nodes and the bytes of values on their way (both lie beside cells that it does see; values have
//! a cell in them), and orders that only sequentially consistent loads and stores rule out (there are none: only fences).

use std::alloc;
use std::boxed::Box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::vec::Vec;

use core::future::Future;
use core::pin::pin;
use core::ptr::{self, NonNull};
use core::task::{Context, Poll};

use fibra_allocators::{AllocError, Allocator, Layout, SpinLock};
use loom::cell::Cell;
use loom::sync::{Condvar, Mutex};

use crate::hub::{Hub, Idle};
use crate::reach::{Here, Platform};

/// The model checker's threads as workers.
pub(crate) struct Threads;

// SAFETY: a thread's local variable is no other's.
unsafe impl Platform for Threads {
    type Lock = SpinLock;

    fn here<R>(f: impl FnOnce(&Here) -> R) -> R {
        loom::thread_local! {
            static HERE: Here = Here::new();
        }
        HERE.with(f)
    }
}

/// Tries all interleavings in which threads are interrupted at most so often, but for where they wait.
pub(crate) fn model(interruptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(interruptions));
    builder.max_branches = 50_000;
    let runs = Arc::new(AtomicUsize::new(0));
    let count = runs.clone();
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        f();
    });
    // Shown with `--nocapture`.
    std::println!("{} interleavings", runs.load(Ordering::Relaxed));
}

/// Kept until the end of the program, as a `static` would be.
pub(crate) fn forever<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// A value which notices when who reads it has not seen it written.
pub(crate) struct Value(Cell<u32>);

impl Value {
    pub fn new(n: u32) -> Self {
        Value(Cell::new(n))
    }

    pub fn get(&self) -> u32 {
        self.0.get()
    }

    pub fn set(&self, n: u32) {
        self.0.set(n);
    }
}

/// Waits until it is woken. The flag remembers a wake-up that comes before the wait.
pub(crate) struct Sleeper {
    is_woken: Mutex<bool>,
    changed: Condvar,
}

impl Sleeper {
    pub fn new() -> Self {
        Sleeper { is_woken: Mutex::new(false), changed: Condvar::new() }
    }
}

impl Idle for Sleeper {
    fn wait(&self) {
        let mut is_woken = self.is_woken.lock().unwrap();
        while !*is_woken {
            is_woken = self.changed.wait(is_woken).unwrap();
        }
        *is_woken = false;
    }

    fn wake(&self) {
        *self.is_woken.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        Idle::wake(&*self);
    }
}

/// Runs a future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let sleeper = Arc::new(Sleeper::new());
    let waker = sleeper.clone().into();
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        sleeper.wait();
    }
}

pub(crate) fn hub<const N: usize>() -> &'static Hub<N> {
    forever(Hub::new(forever(Sleeper::new())))
}

/// Memory whose blocks are not used again: what is written in one that was given back is not a cell or an atomic that the model
/// checker knows, so it fails when one is used.
pub(crate) struct Memory {
    blocks: std::sync::Mutex<Vec<Block>>,
}

struct Block {
    address: usize,
    layout: Layout,
    is_free: bool,
}

impl Memory {
    pub fn new() -> &'static Self {
        forever(Memory { blocks: std::sync::Mutex::new(Vec::new()) })
    }

    /// At the end of a model: everything was given back.
    pub fn check(&'static self) {
        for Block { address, layout, is_free } in self.blocks.lock().unwrap().drain(..) {
            assert!(is_free, "a block of {layout:?} was lost");
            // SAFETY: allocated below, with this layout.
            unsafe { alloc::dealloc(address as *mut u8, layout) }
        }
    }
}

// SAFETY: blocks come from the host, and go back to it when the model is done with all of them.
unsafe impl Allocator for Memory {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        assert!(layout.size() != 0);
        // SAFETY: of some size.
        let block = NonNull::new(unsafe { alloc::alloc(layout) }).ok_or(AllocError)?;
        self.blocks.lock().unwrap().push(Block { address: block.as_ptr() as usize, layout, is_free: false });
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        let mut blocks = self.blocks.lock().unwrap();
        let block = blocks.iter_mut().find(|it| it.address == block.as_ptr() as usize).expect("a block of this memory");
        assert!(block.layout == layout && !core::mem::replace(&mut block.is_free, true), "given back twice");
        // SAFETY: ours, and nobody's now.
        unsafe { ptr::write_bytes(block.address as *mut u8, 0xA5, layout.size()) }
    }
}
