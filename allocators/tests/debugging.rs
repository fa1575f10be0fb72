//! What is written down, and what becomes of a line that cannot be.

mod support;

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::rc::Rc;
use std::thread;

use allocator_api2::alloc::Global;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec as VecIn;
use fibra_allocators::{AllocError, Allocator, Debugging, FixedBlock, Locked, Reserve, SpinLock};
use proptest::prelude::*;
use support::{Guarded, Parent, Step, bytes, fill, forever, layout, release, steps};

#[test]
fn each_operation_is_a_line() {
    let mut memory = Guarded::new(0, 640);
    let blocks = FixedBlock::new(layout(64, 16), memory.memory());
    let log = Debugging::new(&blocks, "pool", String::new());
    let nothing = (&log).allocate(layout(0, 8)).expect("no bytes");
    let one = (&log).allocate(layout(24, 8)).expect("room");
    let two = (&log).allocate_zeroed(layout(64, 16)).expect("room");
    assert_eq!(bytes(two), [0; 64]);
    assert_eq!((&log).allocate(layout(65, 1)), Err(AllocError));
    assert_eq!((&log).allocate_zeroed(layout(1, 32)), Err(AllocError));
    // SAFETY: live blocks with the layouts that they have.
    let (grown, shrunk) = unsafe {
        let grown = (&log).grow(one.cast(), layout(24, 8), layout(32, 8)).expect("room");
        assert_eq!((&log).grow(one.cast(), layout(32, 8), layout(100, 8)), Err(AllocError));
        let zeroed = (&log).grow_zeroed(one.cast(), layout(32, 8), layout(40, 8)).expect("room");
        assert_eq!(bytes(zeroed)[32..], [0; 32]);
        (grown, (&log).shrink(two.cast(), layout(64, 16), layout(8, 8)).expect("room"))
    };
    assert_eq!((grown.len(), shrunk.len()), (64, 64), "as long as the inner allocator said");
    release(&log, one, layout(40, 8));
    release(&log, two, layout(8, 8));
    release(&log, nothing, layout(0, 8));
    let (one, two) = (one.cast::<u8>().addr(), two.cast::<u8>().addr());
    assert_eq!(
        log.into_writer(),
        format!(
            "pool: allocate 0 bytes aligned to 8 -> 0x8\n\
             pool: allocate 24 bytes aligned to 8 -> {one:#x}\n\
             pool: allocate zeroed 64 bytes aligned to 16 -> {two:#x}\n\
             pool: allocate 65 bytes aligned to 1 -> refused\n\
             pool: allocate zeroed 1 bytes aligned to 32 -> refused\n\
             pool: grow {one:#x} from 24 to 32 bytes aligned to 8 -> {one:#x}\n\
             pool: grow {one:#x} from 32 to 100 bytes aligned to 8 -> refused\n\
             pool: grow zeroed {one:#x} from 32 to 40 bytes aligned to 8 -> {one:#x}\n\
             pool: shrink {two:#x} from 64 to 8 bytes aligned to 8 -> {two:#x}\n\
             pool: release 40 bytes aligned to 8 at {one:#x}\n\
             pool: release 8 bytes aligned to 8 at {two:#x}\n\
             pool: release 0 bytes aligned to 8 at 0x8\n"
        )
    );
}

/// Reads a trace as a planner does: each `f` must end an `a` that is open. Returns the most bytes that were live at once, and
/// what is open at the end.
fn replay(trace: &str) -> (usize, HashMap<String, (usize, usize)>) {
    let (mut open, mut live, mut most) = (HashMap::new(), 0, 0);
    for line in trace.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<usize>().expect("a number");
        match words[..] {
            ["a", id, _, _] => {
                live += number(2);
                most = most.max(live);
                assert_eq!(open.insert(id.to_owned(), (number(2), number(3))), None, "{line}: there is one");
            }
            ["f", id] => live -= open.remove(id).unwrap_or_else(|| panic!("{line}: there is none")).0,
            ["#", ..] => {}
            _ => panic!("{line}"),
        }
    }
    (most, open)
}

#[test]
fn a_trace_has_what_is_needed_and_nothing_else() {
    let mut memory = Guarded::new(0, 640);
    let blocks = FixedBlock::new(layout(64, 16), memory.memory());
    let log = Debugging::trace(&blocks, String::new());
    let nothing = (&log).allocate(layout(0, 8)).expect("no bytes");
    let one = (&log).allocate(layout(24, 8)).expect("room");
    assert!((&log).allocate(layout(65, 1)).is_err());
    // SAFETY: live blocks with the layouts that they have.
    unsafe {
        assert!((&log).grow(one.cast(), layout(24, 8), layout(100, 4)).is_err());
        (&log).grow(one.cast(), layout(24, 8), layout(32, 8)).expect("room");
        let two = (&log).grow(nothing.cast(), layout(0, 8), layout(8, 4)).expect("room");
        (&log).shrink(one.cast(), layout(32, 8), layout(0, 1)).expect("no bytes");
        let (one, two_at) = (one.cast::<u8>().addr(), two.cast::<u8>().addr());
        release(&log, two, layout(8, 4));
        assert_eq!(
            log.into_writer(),
            format!(
                "a {one:#x} 24 8\n\
                 # refused 65 1\n\
                 f {one:#x}\n# refused 100 4\na {one:#x} 24 8\n\
                 f {one:#x}\na {one:#x} 32 8\n\
                 a {two_at:#x} 8 4\n\
                 f {one:#x}\n\
                 f {two_at:#x}\n"
            )
        );
    }
}

proptest! {
    #[test]
    fn a_trace_tells_what_is_live(steps in steps(2000)) {
        let parent = Parent::default();
        let log = Debugging::trace(&parent, String::new());
        let mut live = Vec::new();
        for step in &steps {
            match *step {
                Step::Allocate { layout, zeroed } => {
                    let given = if zeroed { (&log).allocate_zeroed(layout) } else { (&log).allocate(layout) };
                    live.push((given.expect("memory"), layout));
                }
                Step::Release { which, .. } if !live.is_empty() => {
                    let (block, layout) = live.swap_remove(which.index(live.len()));
                    release(&log, block, layout);
                }
                Step::Resize { which, layout, .. } if !live.is_empty() => {
                    let which = which.index(live.len());
                    let (block, old) = live[which];
                    // SAFETY: a live block with its layout, and sizes as each wants them.
                    let given = unsafe {
                        if layout.size() < old.size() {
                            (&log).shrink(block.cast(), old, layout)
                        } else {
                            (&log).grow(block.cast(), old, layout)
                        }
                    };
                    live[which] = (given.expect("memory"), layout);
                }
                _ => {}
            }
        }
        live.retain(|(block, layout)| {
            let none = layout.size() == 0;
            if none {
                release(&log, *block, *layout);
            }
            !none
        });
        assert_eq!(log.failures(), 0);
        let (_, open) = replay(&log.into_writer());
        let expected = live.iter().map(|(block, layout)| {
            (format!("{:#x}", block.cast::<u8>().addr()), (layout.size(), layout.align()))
        });
        assert_eq!(open, expected.collect::<HashMap<_, _>>());
        live.into_iter().for_each(|(block, layout)| release(&parent, block, layout));
        assert_eq!(parent.live(), []);
    }
}

#[test]
fn a_trace_of_several_threads_fits_together() {
    let mut memory = Guarded::new(0, 64 * 100);
    let blocks = Locked::<_, SpinLock>::new(FixedBlock::new(layout(64, 8), memory.memory()));
    let log = Debugging::trace(&blocks, String::new()).with_lock::<SpinLock>();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    // The same few addresses go from thread to thread.
                    let mut bytes = VecIn::with_capacity_in(10, &log);
                    bytes.extend_from_slice(&[1_u8; 20]);
                    drop(bytes);
                }
            });
        }
    });
    let (most, open) = replay(&log.into_writer());
    assert!(open.is_empty());
    assert!((20..=80).contains(&most), "{most}");
}

/// Takes so many pieces of text, then none.
struct Tired(usize, String);

impl Write for Tired {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.0 = self.0.checked_sub(1).ok_or(fmt::Error)?;
        self.1.push_str(s);
        Ok(())
    }
}

#[test]
fn what_the_writer_does_not_take_is_counted_and_harms_nothing() {
    let parent = Parent::default();
    for pieces in 0..60 {
        let log = Debugging::new(&parent, "pool", Tired(pieces, String::new()));
        let one = (&log).allocate(layout(24, 8)).expect("memory");
        fill(one, 7);
        // SAFETY: a live block with its layout.
        let two = unsafe { (&log).grow(one.cast(), layout(24, 8), layout(48, 8)) }.expect("memory");
        assert_eq!(bytes(two)[..24], [7; 24]);
        release(&log, two, layout(48, 8));
        assert_eq!(parent.live(), []);
        let failures = log.failures();
        let written = log.into_writer().1;
        assert_eq!(
            written.lines().count() + failures,
            if written.ends_with('\n') || written.is_empty() { 3 } else { 4 }
        );
    }
}

/// Panics at the end of the n-th line from now; 0 is never.
struct Panicking(Rc<Cell<usize>>);

impl Write for Panicking {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if s.ends_with('\n') {
            let left = self.0.get();
            self.0.set(left.saturating_sub(1));
            assert_ne!(left, 1, "a writer that panics");
        }
        Ok(())
    }
}

#[test]
fn a_writer_that_panics_leaves_allocation_in_order() {
    let parent = Parent::default();
    let fuse = Rc::new(Cell::new(0));
    let log = Debugging::new(&parent, "pool", Panicking(fuse.clone()));
    fuse.set(1);
    let shape = layout(24, 8);
    assert!(catch_unwind(AssertUnwindSafe(|| (&log).allocate(shape))).is_err());
    assert_eq!(parent.live(), [], "a block that nobody hears of went back");
    let block = (&log).allocate(shape).expect("memory");
    // A growth that was refused changed nothing, so the panic goes on.
    parent.grants.set(Some(0));
    fuse.set(1);
    // SAFETY: a live block with its layout.
    let grow = || unsafe { (&log).grow(block.cast(), shape, layout(48, 8)) };
    assert!(catch_unwind(AssertUnwindSafe(grow)).is_err());
    assert_eq!(parent.live(), [shape]);
    release(&log, block, shape);
    assert_eq!(log.failures(), 0);
}

/// Runs the test of this name once more, as a program of its own, in which `section` is to end by abortion.
fn assert_aborts(name: &str, section: impl FnOnce(), complaint: &str) {
    const ROLE: &str = "FIBRA_TEST_PANICKING_WRITER";
    if std::env::var_os(ROLE).is_some() {
        let _ = catch_unwind(AssertUnwindSafe(section));
        println!("went on");
        return;
    }
    let this = std::env::current_exe().expect("a test knows itself");
    let child = Command::new(this).args([name, "--exact", "--nocapture"]).env(ROLE, "1").output().expect("it runs");
    assert!(!child.status.success());
    assert!(!String::from_utf8_lossy(&child.stdout).contains("went on"));
    assert!(String::from_utf8_lossy(&child.stderr).contains(complaint));
}

/// Whoever asks for a block to grow, and does not hear that it moved, would go on with the old one.
#[test]
fn a_writer_that_panics_when_a_block_has_moved_ends_the_program() {
    let fuse = Rc::new(Cell::new(0));
    let log = Debugging::new(Global, "pool", Panicking(fuse.clone()));
    let mut bytes = VecIn::with_capacity_in(1, &log);
    bytes.push(1_u8);
    let grow = || {
        fuse.set(1);
        bytes.push(2);
    };
    let complaint = "the writer of a Debugging panicked when a block had been resized";
    assert_aborts("a_writer_that_panics_when_a_block_has_moved_ends_the_program", grow, complaint);
}

/// A reserve grows a block by taking another one and releasing the first. Whoever asked for that does not hear of the other
/// one when the release panics, and would go on with the first.
#[test]
fn a_writer_that_panics_when_a_block_is_released_ends_the_program() {
    let fuse = Rc::new(Cell::new(0));
    let log = Debugging::new(Global, "pool", Panicking(fuse.clone()));
    let reserve = Reserve::new(&log, layout(200, 8), 2).expect("memory");
    let mut words = VecIn::with_capacity_in(1, &reserve);
    words.push("long enough for a block of its own".to_owned());
    let grow = || {
        fuse.set(1);
        words.push(String::new());
    };
    let complaint = "the writer of a Debugging panicked when a block was to be released";
    assert_aborts("a_writer_that_panics_when_a_block_is_released_ends_the_program", grow, complaint);
}

/// Allocates through the very log it is the writer of.
struct Reentrant<'a>(Cell<Option<&'a Debugging<Global, Reentrant<'a>>>>, Rc<Cell<usize>>);

impl Write for Reentrant<'_> {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        if let Some(log) = self.0.get() {
            drop(Box::new_in(7, log));
            self.1.set(self.1.get() + 1);
        }
        Ok(())
    }
}

#[test]
fn a_writer_that_allocates_from_its_own_log_loses_only_its_own_lines() {
    let pieces = Rc::new(Cell::new(0));
    let log = forever(Debugging::new(Global, "pool", Reentrant(Cell::new(None), pieces.clone())));
    // Set before the log is shared: a writer that knows it.
    let shared: &'static Debugging<_, _> = {
        let at: *mut Debugging<Global, Reentrant<'static>> = log;
        // SAFETY: it is never dropped, and only shared from here on, but for the writer, which is the log's own.
        unsafe {
            (*at).writer_mut().0.set(Some(&*at));
            &*at
        }
    };
    assert_eq!(*Box::new_in(7, shared), 7);
    assert!(pieces.get() > 0);
    assert_eq!(shared.failures(), 2 * pieces.get(), "an allocation and a release for each piece of text");
}

#[test]
fn the_writer_can_be_emptied() {
    let mut log = Debugging::new(Global, "heap", String::new());
    drop(Box::new_in(1, &log));
    assert_eq!(log.writer_mut().lines().count(), 2);
    log.writer_mut().clear();
    writeln!(log.writer_mut(), "# the second part").expect("a string takes all");
    drop(Box::new_in(2, &log));
    assert_eq!(log.into_writer().lines().count(), 3);
}
