//! What to do with a mistake that a checking allocator found, where there is an operating system.

use std::io::{self, Write};
use std::process;
use std::thread;

use fibra_allocators::{Mistake, panic_on_mistake};

/// A handler for [`Checking`](fibra_allocators::Checking): writes the mistake to standard error and panics; if the thread is
/// panicking already, it only writes. Of several leaks all are written before it panics.
///
/// # Panics
///
/// Unless the thread is panicking, or the mistake is a leak that is not the last one.
///
/// # Examples
///
/// ```should_panic
/// use allocator_api2::boxed::Box;
/// use fibra_std::allocators::Checking;
/// use fibra_std::{Malloc, report_mistake};
///
/// let checking = Checking::in_parent(Malloc, Malloc, 1000)?.on_mistake(report_mistake);
/// std::mem::forget(Box::new_in(7, &checking));
/// drop(checking); // leak 1 of 1: the block at ...
/// # Ok::<(), fibra_std::AllocError>(())
/// ```
#[track_caller]
pub fn report_mistake(mistake: &Mistake) {
    if thread::panicking() || matches!(mistake, Mistake::Leak { nth, of, .. } if nth < of) {
        write(mistake);
    } else {
        panic_on_mistake(mistake);
    }
}

/// A handler for [`Checking`](fibra_allocators::Checking): writes the mistake to standard error and aborts the program. The one
/// for a global allocator, out of which nothing may unwind. Of several leaks all are written before it aborts.
///
/// # Examples
///
/// ```no_run
/// use fibra_std::allocators::Checking;
/// use fibra_std::{Malloc, abort_on_mistake};
///
/// let checking = Checking::in_parent(Malloc, Malloc, 1_000_000)?.on_mistake(abort_on_mistake);
/// # Ok::<(), fibra_std::AllocError>(())
/// ```
pub fn abort_on_mistake(mistake: &Mistake) {
    write(mistake);
    if !matches!(mistake, Mistake::Leak { nth, of, .. } if nth < of) {
        process::abort();
    }
}

/// If even that fails, there is nobody left to tell.
fn write(mistake: &Mistake) {
    let _ = writeln!(io::stderr(), "{mistake}");
}
