//! # Invariant
//!
//! The writer is touched inside the lock only, and there only by whoever set `writing`, which nobody does who finds it set.

use core::alloc::Layout;
use core::cell::{Cell, UnsafeCell};
use core::fmt::{self, Write};
use core::mem;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};

use crate::finally::Finally;
use crate::{Lock, NoLock, Source};

/// Writes down each operation of another allocator: one line each, to any writer.
///
/// It stands in front of any allocator, and is used like any: the allocator that things are allocated with is the reference,
/// `&Debugging<..>`. What the inner allocator `A` is (a handle, by value) it does not need to know.
///
/// [`new`](Debugging::new) writes for people:
///
/// ```text
/// pool: allocate 64 bytes aligned to 8 -> 0x7ffd5e0
/// pool: grow 0x7ffd5e0 from 64 to 128 bytes aligned to 8 -> 0x7ffd700
/// pool: allocate 9000 bytes aligned to 1 -> refused
/// pool: release 128 bytes aligned to 8 at 0x7ffd700
/// ```
///
/// and [`trace`](Debugging::trace) for programs.
///
/// A line that the writer does not take is counted in [`failures`](Debugging::failures), and disturbs nothing.
///
/// # Blocking
///
/// With a lock that can be shared, the writer runs inside it, so that the lines of several threads do not mix. The lock is
/// there for that alone: the inner allocator is called outside. A writer that itself allocates here finds the writer taken, and
/// its line is left out and counted; but if the lock is one that spins, it waits for itself for ever. So let such a writer
/// (a buffer that grows) allocate elsewhere, or take the lock of the std shim, which sleeps and knows its thread.
///
/// # Panics
///
/// Where the writer does; the operation is undone, and all stays in order. But a release cannot be refused, nor can a caller
/// be left with the block that it had when that was resized already: then the program is aborted.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::{Bump, Debugging};
///
/// let mut memory = [MaybeUninit::uninit(); 64];
/// let bump = Bump::new(&mut memory);
/// let debugging = Debugging::new(&bump, "pool", String::new());
/// drop(Box::new_in(7_u64, &debugging));
/// assert!(Box::try_new_in([0_u8; 100], &debugging).is_err());
/// let log = debugging.into_writer();
/// let lines: Vec<_> = log.lines().collect();
/// assert!(lines[0].starts_with("pool: allocate 8 bytes aligned to 8 -> 0x"));
/// assert!(lines[1].starts_with("pool: release 8 bytes aligned to 8 at 0x"));
/// assert_eq!(lines[2], "pool: allocate 100 bytes aligned to 1 -> refused");
/// ```
pub struct Debugging<A: Source, W: Write, L: Lock = NoLock> {
    inner: A,
    mode: Mode,
    lock: L,
    writing: Cell<bool>,
    failures: Cell<usize>,
    writer: UnsafeCell<W>,
}

#[derive(Clone, Copy)]
enum Mode {
    Tagged(&'static str),
    Trace,
}

impl<A: Source, W: Write> Debugging<A, W> {
    /// Writes a line to `writer` for each operation on `inner`, beginning with the tag.
    ///
    /// For an example see [`Debugging`].
    #[must_use]
    pub const fn new(inner: A, tag: &'static str, writer: W) -> Self {
        Self::in_mode(inner, Mode::Tagged(tag), writer)
    }

    /// Writes a trace: a line `a ID SIZE ALIGN` for each allocation, and `f ID` for each release. Sizes and alignments are in
    /// bytes; the ID is the address, in hexadecimal digits, so it may come again after its release.
    ///
    /// A growth or a shrinking is a release and an allocation, in this order, moved or not. (If it is refused, the allocation is
    /// that of the old block again.) Requests for no bytes take no memory and are left out. A refused request is a comment,
    /// `# refused SIZE ALIGN`. Of several threads that use one address after the other, each writes its `f` before the next
    /// one's `a`.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::vec::Vec;
    /// use fibra_allocators::{Bump, Debugging};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let bump = Bump::new(&mut memory);
    /// let debugging = Debugging::trace(&bump, String::new());
    /// let mut bytes = Vec::with_capacity_in(2, &debugging);
    /// bytes.extend_from_slice(b"12345");
    /// let id = format!("0x{:x}", bytes.as_ptr().addr());
    /// drop(bytes);
    /// assert_eq!(debugging.into_writer(), format!("a {id} 2 1\nf {id}\na {id} 8 1\nf {id}\n"));
    /// ```
    #[must_use]
    pub const fn trace(inner: A, writer: W) -> Self {
        Self::in_mode(inner, Mode::Trace, writer)
    }

    const fn in_mode(inner: A, mode: Mode, writer: W) -> Self {
        let writer = UnsafeCell::new(writer);
        Debugging { inner, mode, lock: NoLock::NEW, writing: Cell::new(false), failures: Cell::new(0), writer }
    }
}

impl<A: Source, W: Write, L: Lock> Debugging<A, W, L> {
    /// The same behind another lock, to be used by several threads. The inner allocator has to be one that may be.
    ///
    /// # Examples
    ///
    /// ```
    /// use allocator_api2::{alloc::Global, boxed::Box};
    /// use fibra_allocators::{Debugging, SpinLock};
    ///
    /// let debugging = Debugging::new(Global, "heap", String::new()).with_lock::<SpinLock>();
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| Box::new_in(1, &debugging));
    ///     scope.spawn(|| Box::new_in(2, &debugging));
    /// });
    /// assert_eq!(debugging.into_writer().lines().count(), 4);
    /// ```
    #[must_use]
    pub fn with_lock<M: Lock>(self) -> Debugging<A, W, M> {
        let Debugging { inner, mode, lock: _, writing, failures, writer } = self;
        Debugging { inner, mode, lock: M::NEW, writing, failures, writer }
    }

    /// How many lines the writer did not take, or not whole.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::fmt;
    /// use allocator_api2::{alloc::Global, boxed::Box};
    /// use fibra_allocators::Debugging;
    ///
    /// struct Broken;
    /// impl fmt::Write for Broken {
    ///     fn write_str(&mut self, _: &str) -> fmt::Result {
    ///         Err(fmt::Error)
    ///     }
    /// }
    ///
    /// let debugging = Debugging::new(Global, "heap", Broken);
    /// assert_eq!(*Box::new_in(7, &debugging), 7);
    /// assert_eq!(debugging.failures(), 2);
    /// ```
    #[must_use]
    pub fn failures(&self) -> usize {
        self.lock.with(|| self.failures.get())
    }

    /// The writer, for instance to empty it.
    ///
    /// # Examples
    ///
    /// ```
    /// use allocator_api2::{alloc::Global, boxed::Box};
    /// use fibra_allocators::Debugging;
    ///
    /// let mut debugging = Debugging::new(Global, "heap", String::new());
    /// drop(Box::new_in(7, &debugging));
    /// debugging.writer_mut().clear();
    /// assert_eq!(debugging.into_writer(), "");
    /// ```
    pub const fn writer_mut(&mut self) -> &mut W {
        self.writer.get_mut()
    }

    /// Gives the writer back, and drops the handle to the inner allocator.
    ///
    /// For an example see [`Debugging`].
    #[must_use]
    pub fn into_writer(self) -> W {
        self.writer.into_inner()
    }

    fn line(&self, line: fmt::Arguments<'_>) {
        self.lock.with(|| {
            let failed = || self.failures.set(self.failures.get().saturating_add(1));
            // Set already if the writer itself came here.
            if self.writing.replace(true) {
                return failed();
            }
            let _written = Finally::new(|| self.writing.set(false));
            // SAFETY: we are inside the lock, and have just set the flag (the invariant).
            let writer = unsafe { &mut *self.writer.get() };
            let result = match self.mode {
                Mode::Tagged(tag) => writeln!(writer, "{tag}: {line}"),
                Mode::Trace => writeln!(writer, "{line}"),
            };
            if result.is_err() {
                failed();
            }
        });
    }

    fn allocated(&self, how: &str, layout: Layout, given: &Result<NonNull<[u8]>, AllocError>) {
        let (size, align) = (layout.size(), layout.align());
        match (self.mode, given) {
            (Mode::Tagged(_), Ok(block)) => {
                let at = block.cast::<u8>().addr();
                self.line(format_args!("{how} {size} bytes aligned to {align} -> {at:#x}"));
            }
            (Mode::Tagged(_), Err(_)) => self.line(format_args!("{how} {size} bytes aligned to {align} -> refused")),
            (Mode::Trace, Ok(block)) => self.trace_block(block.cast(), layout),
            (Mode::Trace, Err(_)) => self.line(format_args!("# refused {size} {align}")),
        }
    }

    fn trace_block(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            self.line(format_args!("a {:#x} {} {}", block.addr(), layout.size(), layout.align()));
        }
    }

    fn trace_release(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            self.line(format_args!("f {:#x}", block.addr()));
        }
    }

    fn obtain(
        &self,
        how: &str,
        layout: Layout,
        allocate: impl FnOnce(Layout) -> Result<NonNull<[u8]>, AllocError>,
    ) -> Result<NonNull<[u8]>, AllocError> {
        let given = allocate(layout);
        let undone = Finally::new(|| {
            if let Ok(block) = given {
                // SAFETY: just given, with this layout, and nobody will hear of it, because the writer panicked.
                unsafe { self.inner.handle().deallocate(block.cast(), layout) }
            }
        });
        self.allocated(how, layout, &given);
        mem::forget(undone);
        given
    }

    fn resize(
        &self,
        how: &str,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
        resize: impl FnOnce() -> Result<NonNull<[u8]>, AllocError>,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if let Mode::Trace = self.mode {
            self.trace_release(block, old);
        }
        let given = resize();
        let done = Finally::new(|| {
            if given.is_ok() {
                // While unwinding, this aborts.
                panic!("the writer of a Debugging panicked when a block had been resized");
            }
        });
        if let Mode::Tagged(_) = self.mode {
            let (at, from, to, align) = (block.addr(), old.size(), new.size(), new.align());
            let line = format_args!("{how} {at:#x} from {from} to {to} bytes aligned to {align} -> ");
            match &given {
                Ok(block) => self.line(format_args!("{line}{:#x}", block.cast::<u8>().addr())),
                Err(_) => self.line(format_args!("{line}refused")),
            }
        } else {
            self.allocated(how, new, &given);
            if given.is_err() {
                self.trace_block(block, old);
            }
        }
        mem::forget(done);
        given
    }
}

// SAFETY: every operation is that of the inner allocator, which keeps the contract; a block of which the caller does not hear
// is given back. Clones of the handle are the same reference.
unsafe impl<A: Source, W: Write, L: Lock> Allocator for &Debugging<A, W, L> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.obtain("allocate", layout, |layout| self.inner.handle().allocate(layout))
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.obtain("allocate zeroed", layout, |layout| self.inner.handle().allocate_zeroed(layout))
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // Who releases a block in the middle of something, such as growing, does not count on a panic: whether the block was
        // gone then or not, it would be used once more, or never again.
        let done = Finally::new(|| {
            // While unwinding, this aborts.
            panic!("the writer of a Debugging panicked when a block was to be released");
        });
        // Before the release, since then the address may be somebody else's, who writes it down.
        match self.mode {
            Mode::Tagged(_) => {
                let (size, align, at) = (layout.size(), layout.align(), block.addr());
                self.line(format_args!("release {size} bytes aligned to {align} at {at:#x}"));
            }
            Mode::Trace => self.trace_release(block, layout),
        }
        mem::forget(done);
        // SAFETY: passed on to our caller.
        unsafe { self.inner.handle().deallocate(block, layout) }
    }

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        self.resize("grow", block, old, new, || unsafe { self.inner.handle().grow(block, old, new) })
    }

    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        self.resize("grow zeroed", block, old, new, || unsafe { self.inner.handle().grow_zeroed(block, old, new) })
    }

    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        self.resize("shrink", block, old, new, || unsafe { self.inner.handle().shrink(block, old, new) })
    }
}

// SAFETY: the writer and the counts are used inside the lock only; the writer may change threads, and the handle to the inner
// allocator is itself `Sync`.
unsafe impl<A: Source + Sync, W: Write + Send, L: Lock + Sync> Sync for Debugging<A, W, L> {}

impl<A: Source, W: Write, L: Lock> fmt::Debug for Debugging<A, W, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Debugging").field("failures", &self.failures()).finish_non_exhaustive()
    }
}
