//! Runs somebody else's crate (`serde_json`) on pools, as the global allocator of the whole program with the host's behind
//! it, and prints which blocks that took.
//!
//! Printing allocates, too: the counts are those of the moment when the table is begun. What is live then is the runtime's
//! (arguments, the main thread, the output's buffer), for the documents are gone.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use fibra_allocators::{AsGlobal, ByRef, Fallback, FromGlobal, Lazy};
use fibra_examples::command_line::{Program, Trouble, counted};
use fibra_examples::json;
use fibra_examples::pools::{self, Pools};

const PROGRAM: Program = Program {
    name: "json-pools",
    argument: "COUNT",
    about: "Reads, changes and writes COUNT documents on pools of blocks, and prints which blocks that took.",
    default: 200,
    range: 0..=1_000_000,
};

#[global_allocator]
static GLOBAL: AsGlobal<Fallback<Lazy<Pools>, FromGlobal<ByRef<'static, Host>>>> =
    AsGlobal::new(Fallback::new(Lazy::new(pools::make), FromGlobal::by_ref(&HOST)));

static HOST: Host = Host { requests: AtomicUsize::new(0) };

/// The host's allocator, which counts what is asked of it.
struct Host {
    requests: AtomicUsize,
}

// SAFETY: it is `System`.
unsafe impl GlobalAlloc for Host {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.requests.fetch_add(1, Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.requests.fetch_add(1, Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        self.requests.fetch_add(1, Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.realloc(block, layout, new_size) }
    }
}

fn main() -> ExitCode {
    PROGRAM.run(|count, output| {
        let summary = json::run(count).map_err(|_| Trouble::Memory(counted(count, "document")))?;
        let requests = HOST.requests.load(Ordering::Relaxed);
        let pools = GLOBAL.get().first().get().ok_or_else(|| Trouble::Memory("the pools".into()))?;
        let classes = pools.classes();
        writeln!(output, "{summary}")?;
        writeln!(output, "{:>10} {:>10} {:>10} {:>10}", "block size", "reserved", "peak", "live")?;
        for class in classes {
            writeln!(output, "{class}")?;
        }
        Ok(writeln!(output, "requests that went to the host: {requests}")?)
    })
}
