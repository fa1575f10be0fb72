//! # Invariants
//!
//! 1. The records are touched inside the lock only, by sections that call nothing of anybody else's.
//! 2. A block that the inner allocator gave and has not got back belongs to the user while its record is `Live`, except for
//!    its red zone, which is ours; in the states `Claimed`, `Quarantined` and `Withheld` all of it is ours. What is `Claimed`
//!    or `Resizing` is in one caller's hands.
//! 3. No handler runs, and no inner allocator is called, where a panic would leave a record in a state that is not true.

use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::{self, ManuallyDrop, MaybeUninit};
use core::ptr::{self, NonNull};
use core::slice;

use allocator_api2::alloc::{AllocError, Allocator};

use crate::extent::{Backing, Borrowed, Extent};
use crate::finally::Finally;
use crate::mistake::{Mistake, Poison, panic_on_mistake};
use crate::records::{Body, Held, Records, Refusal, State, bytes_for};
use crate::request::dangling;
use crate::{AllocRef, Lock, NoLock};

/// The largest red zone, in bytes.
const MAX_RED_ZONE: u8 = 64;

/// How many bytes of memory [`Checking::new`] needs for the records of so many blocks, wherever the memory begins.
///
/// 68 to 72 bytes a block on a 64-bit machine.
///
/// # Panics
///
/// If there cannot be so much memory. (In `const`, that is a compile error.)
///
/// # Examples
///
/// ```
/// use fibra_allocators::{Arena, Bump, Checking, checking_arena_size};
///
/// static MEMORY: Arena<4096> = Arena::new();
/// static RECORDS: Arena<{ checking_arena_size(100) }> = Arena::new();
///
/// let bump = Bump::new(MEMORY.take().expect("taken only here"));
/// let checking = Checking::new(&bump, RECORDS.take().expect("taken only here"));
/// assert_eq!(checking.capacity(), 100);
/// ```
#[must_use]
pub const fn checking_arena_size(blocks: usize) -> usize {
    match bytes_for(blocks) {
        Some(bytes) => bytes,
        None => panic!("more records than there can be memory for"),
    }
}

/// Watches how the memory of another allocator is used, and names each mistake: double free, foreign pointer, wrong layout,
/// write after free, overrun, leak. See [`Mistake`].
///
/// It stands in front of any allocator, and is used like any: the allocator that things are allocated with is the reference,
/// `&Checking<..>`. What the inner allocator `A` is (a handle, by value: `&SizeClasses<..>`, or `&Debugging<..>`, or another
/// wrapper) it does not need to know.
///
/// It is a handle, because blocks wait in quarantine also while nobody has a reference to the `Checking`, which may be moved
/// then. Those of an allocator by value might lie in the allocator, and move along:
///
/// ```compile_fail,E0277
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{Bump, Checking};
///
/// let (mut memory, mut records) = ([MaybeUninit::uninit(); 4096], [MaybeUninit::uninit(); 4096]);
/// let checking = Checking::new(Bump::new(&mut memory), &mut records);
/// ```
///
/// | mistake | how it is found, and when |
/// | --- | --- |
/// | double free, foreign pointer, wrong layout | by the record of blocks, at each release, growth and shrinking |
/// | write after free | released blocks are filled with [`Poison::Freed`] and wait in a [quarantine](Checking::quarantine); the filling is looked at when they leave it, in [`verify`](Checking::verify), and at drop |
/// | overrun | behind each block lies a [red zone](Checking::red_zone), looked at when the block is released, grown or shrunk, in `verify`, and at drop |
/// | leak | what is live when the `Checking` is dropped |
///
/// What happens then is up to a handler, by default [`panic_on_mistake`]. When the handler returns, the release is not done
/// (or the growth refused), so nothing is ever corrupted by it. The handler runs outside of every lock and may allocate from
/// and release to the same `Checking`.
///
/// # What it costs
///
/// The record is kept outside the blocks, in memory of its own, so nothing in it is overwritten by an overrun, and no pointer
/// is followed that was not given out. Looking an address up takes one or two steps on average, however many blocks there
/// are, and `usize::BITS` at the very most; so what more blocks cost is cache misses. Filling memory, and looking at it, takes time in proportion to its size. A release
/// may be the one that lets many small blocks leave the quarantine for one large one, at most as many as that holds.
///
/// A record is needed for each block that is live or in quarantine; records of blocks that have gone back to the inner
/// allocator are kept as long as there is room, and until their address is given out again, so that a double free long after
/// is named as one.
///
/// Each block takes the bytes of its red zone more from the inner allocator, if that has them: a request that is refused with
/// the red zone is made again without. So a `FixedBlock` serves what just fits its blocks, but an overrun is only found where
/// the inner block is longer than the request.
///
/// Fresh memory is filled with [`Poison::Fresh`], unless it was asked to be zeroed. The length of a block is exactly what was
/// asked for, so the layout at its release must be the same.
///
/// Growing and shrinking is left to the inner allocator, in place where it can; a block that it moves does not go through the
/// quarantine, since it is that allocator which frees it.
///
/// # Errors
///
/// [`AllocError`] where the inner allocator has no memory, or all records are taken. Before that, blocks leave the quarantine
/// early, one after the other, as long as it takes: a request that cannot be served empties it.
///
/// # Examples
///
/// ```
/// use core::cell::RefCell;
/// use core::mem::MaybeUninit;
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::{Bump, Checking, Mistake};
///
/// let (mut memory, mut records) = ([MaybeUninit::uninit(); 4096], [MaybeUninit::uninit(); 4096]);
/// let bump = Bump::new(&mut memory);
/// let mistakes = RefCell::new(Vec::new());
/// let checking = Checking::new(&bump, &mut records).on_mistake(|mistake| mistakes.borrow_mut().push(*mistake));
///
/// let seven = Box::new_in(7_u64, &checking);
/// let (seven, handle) = Box::into_raw_with_allocator(seven);
/// unsafe {
///     drop(Box::from_raw_in(seven, handle));
///     drop(Box::from_raw_in(seven, handle)); // once too often, and harmless here
/// }
/// assert!(matches!(mistakes.borrow()[..], [Mistake::DoubleFree { block }] if block.sequence == 1));
/// ```
pub struct Checking<A: Allocator, B: Backing, L: Lock = NoLock, H: Fn(&Mistake) = fn(&Mistake)> {
    inner: A,
    handler: H,
    lock: L,
    records: UnsafeCell<Records<B>>,
    red_zone: u8,
    quarantine_blocks: usize,
    quarantine_bytes: usize,
}

impl<'m, A: Allocator> Checking<A, Borrowed<'m>> {
    /// Checks what goes through it to `inner`, with as many records as fit into the caller's memory: see
    /// [`checking_arena_size`].
    ///
    /// O(records).
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{Bump, Checking, checking_arena_size};
    ///
    /// let (mut memory, mut records) =
    ///     ([MaybeUninit::uninit(); 4096], [MaybeUninit::uninit(); checking_arena_size(2)]);
    /// let bump = Bump::new(&mut memory);
    /// let checking = Checking::new(&bump, &mut records);
    /// let (_one, _two) = (Box::new_in(1, &checking), Box::new_in(2, &checking));
    /// assert!(Box::try_new_in(3, &checking).is_err(), "no more records");
    /// ```
    #[must_use]
    pub fn new(inner: A, records: &'m mut [MaybeUninit<u8>]) -> Self {
        Self::over(inner, Records::new(Borrowed::new(records), usize::MAX))
    }
}

impl<A: Allocator, P: AllocRef> Checking<A, Extent<P>> {
    /// Checks what goes through it to `inner`, with so many records, in one block from `parent` (which may be the same
    /// allocator), which gets it back when the `Checking` is dropped.
    ///
    /// O(records).
    ///
    /// # Errors
    ///
    /// [`AllocError`] if the parent has no such block.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, Checking};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 4096];
    /// let bump = Bump::new(&mut memory);
    /// let checking = Checking::in_parent(&bump, &bump, 20)?;
    /// assert_eq!(checking.capacity(), 20);
    /// # Ok::<(), AllocError>(())
    /// ```
    pub fn in_parent(inner: A, parent: P, records: usize) -> Result<Self, AllocError> {
        let layout = Records::<Extent<P>>::layout(records).ok_or(AllocError)?;
        Ok(Self::over(inner, Records::new(Extent::new(parent, layout)?, records)))
    }
}

impl<A: Allocator, B: Backing> Checking<A, B> {
    fn over(inner: A, records: Records<B>) -> Self {
        Checking {
            inner,
            handler: panic_on_mistake,
            lock: NoLock::NEW,
            records: UnsafeCell::new(records),
            red_zone: 16,
            quarantine_blocks: 256,
            quarantine_bytes: 64 * 1024,
        }
    }
}

impl<A: Allocator, B: Backing, L: Lock, H: Fn(&Mistake)> Checking<A, B, L, H> {
    /// The same with another handler, which is told of each [`Mistake`].
    ///
    /// It is called outside of every lock and may use the `Checking`; a mistake that it makes is reported to it as any other.
    /// When it returns, the program goes on as if the mistaken operation had not been asked for. It may panic, in a release,
    /// a growth, an allocation, a `verify`, and at drop. Once it has done so, what is found at drop is not reported any more,
    /// because that may be part of the unwinding. (Under a global allocator nothing may unwind: let the handler abort there, or
    /// write and return.)
    ///
    /// # Examples
    ///
    /// ```
    /// use core::cell::Cell;
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{Bump, Checking, Mistake};
    ///
    /// let (mut memory, mut records) = ([MaybeUninit::uninit(); 4096], [MaybeUninit::uninit(); 4096]);
    /// let bump = Bump::new(&mut memory);
    /// let leaks = Cell::new(0);
    /// let checking = Checking::new(&bump, &mut records).on_mistake(|mistake| {
    ///     assert!(matches!(mistake, Mistake::Leak { .. }));
    ///     leaks.set(leaks.get() + 1);
    /// });
    /// core::mem::forget(Box::new_in(7, &checking));
    /// drop(checking);
    /// assert_eq!(leaks.get(), 1);
    /// ```
    #[must_use]
    pub fn on_mistake<G: Fn(&Mistake)>(self, handler: G) -> Checking<A, B, L, G> {
        self.rebuilt(|_, lock| (handler, lock))
    }

    /// The same behind another lock, for instance [`SpinLock`](crate::SpinLock), to be used by several threads. The inner
    /// allocator has to be one that may be.
    ///
    /// Only the record is used inside the lock, for a few look-ups at a time, and by [`verify`](Checking::verify) the red zone
    /// of one block at a time. Memory is filled, and the inner allocator called, outside.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::{alloc::Global, boxed::Box};
    /// use fibra_allocators::{Checking, SpinLock};
    ///
    /// let mut records = [MaybeUninit::uninit(); 4096];
    /// let checking = Checking::new(Global, &mut records).with_lock::<SpinLock>();
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| Box::new_in(1, &checking));
    ///     scope.spawn(|| Box::new_in(2, &checking));
    /// });
    /// ```
    #[must_use]
    pub fn with_lock<M: Lock>(self) -> Checking<A, B, M, H> {
        self.rebuilt(|handler, _| (handler, M::NEW))
    }

    /// The same with red zones of so many bytes, at most 64, behind the blocks that are allocated from now on; 16 unless this
    /// is called.
    ///
    /// With 0, the inner allocator is asked for exactly what the program asks for, and overruns are found only where its
    /// block is longer than the request. In any case, what the block has more is red zone too, up to 64 bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{Bump, Checking};
    ///
    /// let (mut memory, mut records) = ([MaybeUninit::uninit(); 4096], [MaybeUninit::uninit(); 4096]);
    /// let bump = Bump::new(&mut memory);
    /// let checking = Checking::new(&bump, &mut records).red_zone(8);
    /// drop(Box::new_in([0_u8; 100], &checking));
    /// assert_eq!(bump.used(), 108);
    /// ```
    #[must_use]
    pub fn red_zone(mut self, bytes: usize) -> Self {
        self.red_zone = bytes.min(usize::from(MAX_RED_ZONE)) as u8;
        self
    }

    /// The same with a quarantine of at most so many released blocks and so many bytes; 256 and 64 KiB unless this is called.
    ///
    /// The longer blocks wait, the later a write is still found; the inner allocator needs as much memory more. What is larger
    /// than the whole quarantine goes back at once. With 0 blocks, or 0 bytes, all do.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{Bump, Checking};
    ///
    /// let (mut memory, mut records) = ([MaybeUninit::uninit(); 4096], [MaybeUninit::uninit(); 4096]);
    /// let bump = Bump::new(&mut memory);
    /// let checking = Checking::new(&bump, &mut records).quarantine(10, 1000);
    /// for _ in 0..20 {
    ///     drop(Box::new_in(7, &checking));
    /// }
    /// assert_eq!(checking.quarantined(), 10);
    /// ```
    #[must_use]
    pub fn quarantine(mut self, blocks: usize, bytes: usize) -> Self {
        self.quarantine_blocks = blocks;
        self.quarantine_bytes = bytes;
        self
    }

    /// How many blocks there can be records of.
    ///
    /// For an example see [`Checking::in_parent`].
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.books(|records| records.capacity())
    }

    /// How many blocks are live. O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{Bump, Checking};
    ///
    /// let (mut memory, mut records) = ([MaybeUninit::uninit(); 4096], [MaybeUninit::uninit(); 4096]);
    /// let bump = Bump::new(&mut memory);
    /// let checking = Checking::new(&bump, &mut records);
    /// let seven = Box::new_in(7, &checking);
    /// drop(Box::new_in(8, &checking));
    /// assert_eq!((checking.live(), checking.quarantined()), (1, 1));
    /// # drop(seven);
    /// ```
    #[must_use]
    pub fn live(&self) -> usize {
        self.books(|records| records.live())
    }

    /// How many released blocks wait in quarantine. O(1).
    ///
    /// For an example see [`Checking::live`].
    #[must_use]
    pub fn quarantined(&self) -> usize {
        self.books(|records| records.quarantined())
    }

    /// How many mistakes were reported until now.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{Bump, Checking};
    ///
    /// let (mut memory, mut records) = ([MaybeUninit::uninit(); 4096], [MaybeUninit::uninit(); 4096]);
    /// let bump = Bump::new(&mut memory);
    /// let checking = Checking::new(&bump, &mut records);
    /// drop(Box::new_in(7, &checking));
    /// assert_eq!(checking.mistakes(), 0);
    /// ```
    #[must_use]
    pub fn mistakes(&self) -> usize {
        self.books(|records| records.mistakes)
    }

    /// Looks at every block in quarantine and at the red zone of every live block now. Returns how many mistakes were found,
    /// and reported; each is reported once.
    ///
    /// O(all blocks that there were at once, and the bytes in quarantine).
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Allocator, Bump, Checking, Layout, Mistake};
    ///
    /// let (mut memory, mut records) = ([MaybeUninit::uninit(); 4096], [MaybeUninit::uninit(); 4096]);
    /// let bump = Bump::new(&mut memory);
    /// let checking = Checking::new(&bump, &mut records).on_mistake(|mistake| {
    ///     assert!(matches!(mistake, Mistake::Overrun { offset: 4, .. }));
    /// });
    /// let block = (&checking).allocate(Layout::new::<[u8; 4]>())?.cast::<u8>();
    /// unsafe { block.add(4).write(0) }; // one too far, into the red zone
    /// assert_eq!((checking.verify(), checking.verify()), (1, 0));
    /// # unsafe { (&checking).deallocate(block, Layout::new::<[u8; 4]>()) };
    /// # Ok::<(), AllocError>(())
    /// ```
    pub fn verify(&self) -> usize {
        let mut found = 0;
        // Each block goes from the front of the quarantine to its end, so it is all in order again after the last.
        for _ in 0..self.quarantined() {
            let Some(held) = self.books(|records| records.oldest(0, 0)) else { break };
            match self.written(&held) {
                None => self.books(|records| records.retire(&held)),
                Some(mistake) => {
                    self.books(|records| records.withhold(&held));
                    found += 1;
                    self.report(&mistake);
                }
            }
        }
        for slot in 0..self.books(|records| records.carved()) {
            // Inside the lock nobody releases the block.
            let mistake = self.books(|records| self.overrun(&records.held_in(slot, State::Live)?));
            if let Some(mistake) = mistake {
                found += 1;
                self.report(&mistake);
            }
        }
        found
    }

    /// Runs `section` on the records while nobody else does.
    fn books<R>(&self, section: impl FnOnce(&mut Records<B>) -> R) -> R {
        // SAFETY: inside the lock nobody else is here, and no section enters another (invariant 1).
        self.lock.with(|| section(unsafe { &mut *self.records.get() }))
    }

    fn rebuilt<G: Fn(&Mistake), M: Lock>(self, change: impl FnOnce(H, L) -> (G, M)) -> Checking<A, B, M, G> {
        let this = ManuallyDrop::new(self);
        let Checking { red_zone, quarantine_blocks, quarantine_bytes, .. } = *this;
        // SAFETY: each field is read once, and the value that they are read from is never dropped.
        let (inner, handler, lock, records) = unsafe {
            (ptr::read(&this.inner), ptr::read(&this.handler), ptr::read(&this.lock), ptr::read(&this.records))
        };
        let (handler, lock) = change(handler, lock);
        Checking { inner, handler, lock, records, red_zone, quarantine_blocks, quarantine_bytes }
    }

    /// Tells the handler, outside the lock, with all records true: it may do anything.
    #[cold]
    fn report(&self, mistake: &Mistake) {
        self.books(|records| records.mistakes = records.mistakes.saturating_add(1));
        let unwinding = Finally::new(|| self.books(|records| records.unwound = true));
        (self.handler)(mistake);
        mem::forget(unwinding);
    }

    /// What was written behind a block that is not about to change hands. The red zone is restored, so that it is found once.
    fn overrun(&self, held: &Held) -> Option<Mistake> {
        let Body { block, layout, zone, .. } = held.body;
        // SAFETY: the red zone belongs to the block and is ours (invariant 2); it was filled when the block was given out.
        let offset = unsafe { first_change(block.add(layout.size()), zone.into(), Poison::RedZone) }?;
        // SAFETY: as above.
        unsafe { paint(block.add(layout.size()), zone.into(), Poison::RedZone) };
        Some(Mistake::Overrun { block: held.named(), offset: layout.size() + offset })
    }

    /// What was written into a block in hand after its release.
    fn written(&self, held: &Held) -> Option<Mistake> {
        // SAFETY: the block is ours, all of it (invariant 2), and was filled at its release.
        let offset = unsafe { first_change(held.body.block, held.body.extent(), Poison::Freed) }?;
        Some(Mistake::WriteAfterFree { block: held.named(), offset })
    }

    fn give_back(&self, held: &Held) {
        // First, since afterwards it may already be somebody else's.
        self.books(|records| records.leave(held));
        // SAFETY: the block came from there with this layout, is ours, and is forgotten now.
        unsafe { self.inner.deallocate(held.body.block, held.body.inner_layout()) }
    }

    /// Lets the oldest block leave the quarantine, if that has more than so many blocks or bytes.
    fn shed(&self, blocks: usize, bytes: usize) -> bool {
        let Some(held) = self.books(|records| records.oldest(blocks, bytes)) else { return false };
        match self.written(&held) {
            None => self.give_back(&held),
            Some(mistake) => {
                self.books(|records| records.withhold(&held));
                self.report(&mistake);
            }
        }
        true
    }

    fn thin_out(&self) {
        while self.shed(self.quarantine_blocks, self.quarantine_bytes) {}
    }

    /// A claimed block becomes a released one, without anything being reported.
    fn put_away(&self, held: &Held) {
        let extent = held.body.extent();
        // SAFETY: the block is claimed, hence ours (invariant 2).
        unsafe { paint(held.body.block, extent, Poison::Freed) };
        if self.quarantine_blocks == 0 || extent > self.quarantine_bytes {
            self.give_back(held);
        } else {
            self.books(|records| records.retire(held));
        }
    }

    /// # Safety
    ///
    /// Who gives us a live block has finished with it. Whether it is one need not be known.
    unsafe fn release(&self, block: NonNull<u8>, layout: Layout) -> Result<(), Mistake> {
        let address = block.addr().get();
        if layout.size() == 0 {
            return self.books(|records| records.check_nothing(address, layout));
        }
        let held = self.books(|records| records.claim(address, layout, State::Claimed))?;
        let overrun = self.overrun(&held);
        self.put_away(&held);
        // The release is done; a handler that panics from here on stops nothing but the thinning of the quarantine, which the
        // next release makes up for.
        if let Some(mistake) = overrun {
            self.report(&mistake);
        }
        self.thin_out();
        Ok(())
    }

    /// Asks `inner` for a block with a red zone, then for one without, then again and again while blocks leave the quarantine.
    /// Says how many bytes more than `layout` it was.
    fn insist(
        &self,
        layout: Layout,
        ask: impl Fn(Layout) -> Result<NonNull<[u8]>, AllocError>,
    ) -> Result<(NonNull<[u8]>, u8), AllocError> {
        if self.red_zone != 0
            && let Some(size) = layout.size().checked_add(self.red_zone.into())
            && let Ok(ample) = Layout::from_size_align(size, layout.align())
            && let Ok(block) = ask(ample)
        {
            return Ok((block, self.red_zone));
        }
        loop {
            if let Ok(block) = ask(layout) {
                return Ok((block, 0));
            }
            if !self.shed(0, 0) {
                return Err(AllocError);
            }
        }
    }

    /// A block that was just given, with its red zone, which is painted.
    fn body(&self, block: NonNull<[u8]>, layout: Layout, slack: u8) -> Body {
        let zone = block.len().saturating_sub(layout.size()).min(MAX_RED_ZONE.into()) as u8;
        let block = block.cast::<u8>();
        // SAFETY: the inner allocator gave us a block of this length.
        unsafe { paint(block.add(layout.size()), zone.into(), Poison::RedZone) };
        Body { block, layout, slack, zone }
    }

    fn obtain(&self, layout: Layout, zeroed: bool) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        loop {
            let (given, slack) = self.insist(layout, |layout| {
                if zeroed { self.inner.allocate_zeroed(layout) } else { self.inner.allocate(layout) }
            })?;
            let body = self.body(given, layout, slack);
            if !zeroed {
                // SAFETY: it is at least that long.
                unsafe { paint(body.block, layout.size(), Poison::Fresh) };
            }
            match self.books(|records| records.admit(body)) {
                Ok(()) => return Ok(NonNull::slice_from_raw_parts(body.block, layout.size())),
                Err(Refusal::Full) => {
                    // SAFETY: just given, with this layout.
                    unsafe { self.inner.deallocate(body.block, body.inner_layout()) };
                    if !self.shed(0, 0) {
                        return Err(AllocError);
                    }
                }
                Err(Refusal::Twice(block)) => {
                    self.report(&Mistake::HandedOutTwice { block });
                    return Err(AllocError);
                }
            }
        }
    }

    /// Takes a block in hand to resize it, after everything that might be wrong was reported.
    fn claim_sound(&self, block: NonNull<u8>, old: Layout, new: Layout, grows: bool) -> Result<Held, Mistake> {
        let claim = || self.books(|records| records.claim(block.addr().get(), old, State::Resizing));
        let held = claim()?;
        let wrong = (new.size() < old.size()) == grows && new.size() != old.size();
        let overrun = self.overrun(&held);
        if !wrong && overrun.is_none() {
            return Ok(held);
        }
        self.books(|records| records.abandon(&held));
        if wrong {
            return Err(Mistake::WrongResize { block: held.named(), wanted: new });
        }
        // A handler that panics leaves the block as it was; one that returns may have released it.
        if let Some(mistake) = overrun {
            self.report(&mistake);
        }
        claim()
    }

    /// [`Allocator::grow`] if it `grows`, otherwise [`Allocator::shrink`].
    ///
    /// Once the inner allocator has moved the block, nothing is reported any more: a handler that panics would leave our caller
    /// with a pointer to the old one.
    ///
    /// # Safety
    ///
    /// Who gives us a live block uses only the result from now on, if there is one. Whether it is one need not be known.
    unsafe fn resize(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
        grows: bool,
        zeroed: bool,
    ) -> Result<NonNull<[u8]>, AllocError> {
        let refused = |mistake| {
            self.report(&mistake);
            AllocError
        };
        if old.size() == 0 {
            self.books(|records| records.check_nothing(block.addr().get(), old)).map_err(refused)?;
            return self.obtain(new, zeroed);
        }
        if new.size() == 0 {
            // Makes room for this one, which for a while may be one too many.
            self.thin_out();
        }
        let held = self.claim_sound(block, old, new, grows).map_err(refused)?;
        let abandoned = Finally::new(|| self.books(|records| records.abandon(&held)));
        if new.size() == 0 {
            mem::forget(abandoned);
            self.books(|records| records.release_instead(&held));
            self.put_away(&held);
            return Ok(dangling(new));
        }
        let (block, from) = (held.body.block, held.body.inner_layout());
        let (given, slack) = self.insist(new, |to| {
            // SAFETY: the block came from there with the layout `from` and is in our hands (invariant 2).
            unsafe {
                if to.size() < from.size() {
                    self.inner.shrink(block, from, to)
                } else {
                    self.inner.grow(block, from, to)
                }
            }
        })?;
        mem::forget(abandoned);
        let body = self.body(given, new, slack);
        if new.size() > old.size() {
            // SAFETY: the block is at least `new.size()` bytes, and the rest is what was in it.
            unsafe {
                let fresh = body.block.add(old.size());
                let len = new.size() - old.size();
                if zeroed { fresh.write_bytes(0, len) } else { paint(fresh, len, Poison::Fresh) }
            }
        }
        if let Some(block) = self.books(|records| records.settle(&held, body)) {
            // The worst is done already, and not by us.
            self.report(&Mistake::HandedOutTwice { block });
        }
        Ok(NonNull::slice_from_raw_parts(body.block, new.size()))
    }
}

/// # Safety
///
/// `len` bytes from `start` are the caller's to write.
unsafe fn paint(start: NonNull<u8>, len: usize, poison: Poison) {
    // SAFETY: passed on to our caller.
    unsafe { start.write_bytes(poison as u8, len) }
}

/// The first of `len` bytes that is not what was painted there.
///
/// # Safety
///
/// The bytes were painted, and nobody is allowed to write them meanwhile.
unsafe fn first_change(start: NonNull<u8>, len: usize, poison: Poison) -> Option<usize> {
    // SAFETY: passed on to our caller.
    let bytes = unsafe { slice::from_raw_parts(start.as_ptr(), len) };
    let changed = |byte: &u8| *byte != poison as u8;
    // Without an early end within a chunk, which the compiler turns into a few wide comparisons.
    let chunk = bytes.chunks(64).position(|chunk| chunk.iter().fold(false, |any, byte| any | changed(byte)))? * 64;
    Some(chunk + bytes[chunk..].iter().position(changed)?)
}

// SAFETY: a block is one of the inner allocator's, of at least the size and alignment asked for, from when it is admitted as
// live until it is claimed by a release or a resize, and only then goes back there, once, with the layout that it was asked
// for with. Clones of the handle are the same reference, and a `Checking` that moves takes nothing along that blocks lie in,
// but the inner allocator's handle, which may be moved.
unsafe impl<A: Allocator, B: Backing, L: Lock, H: Fn(&Mistake)> Allocator for &Checking<A, B, L, H> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.obtain(layout, false)
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.obtain(layout, true)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on to our caller.
        if let Err(mistake) = unsafe { self.release(block, layout) } {
            self.report(&mistake);
        }
    }

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { self.resize(block, old, new, true, false) }
    }

    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { self.resize(block, old, new, true, true) }
    }

    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { self.resize(block, old, new, false, false) }
    }
}

// SAFETY: the records are used inside the lock only (invariant 1) and may change threads; the handle and the handler are
// themselves `Sync`.
unsafe impl<A, B, L, H> Sync for Checking<A, B, L, H>
where
    A: Allocator + Sync,
    B: Backing + Send,
    L: Lock + Sync,
    H: Fn(&Mistake) + Sync,
{
}

impl<A: Allocator, B: Backing, L: Lock, H: Fn(&Mistake)> Drop for Checking<A, B, L, H> {
    /// Gives back what is in quarantine, then reports what was found wrong there, then the overruns of live blocks, then the
    /// leaks. Leaked blocks are not given back.
    fn drop(&mut self) {
        // A handler may panic: first the work, then the words. What was written to stays claimed for now.
        while let Some(held) = self.books(|records| records.oldest(0, 0)) {
            if self.written(&held).is_none() {
                self.give_back(&held);
            }
        }
        if self.books(|records| records.unwound) {
            return;
        }
        let carved = self.books(|records| records.carved());
        for slot in 0..carved {
            let Some(held) = self.books(|records| records.held_in(slot, State::Claimed)) else { continue };
            if let Some(mistake) = self.written(&held) {
                self.report(&mistake);
            }
        }
        let mut of = 0;
        for slot in 0..carved {
            let Some(held) = self.books(|records| records.held_in(slot, State::Live)) else { continue };
            of += 1;
            if let Some(mistake) = self.overrun(&held) {
                self.report(&mistake);
            }
        }
        let mut nth = 0;
        for slot in 0..carved {
            let Some(held) = self.books(|records| records.held_in(slot, State::Live)) else { continue };
            nth += 1;
            self.report(&Mistake::Leak { block: held.named(), nth, of });
        }
    }
}

impl<A: Allocator, B: Backing, L: Lock, H: Fn(&Mistake)> fmt::Debug for Checking<A, B, L, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checking")
            .field("capacity", &self.capacity())
            .field("live", &self.live())
            .field("quarantined", &self.quarantined())
            .field("mistakes", &self.mistakes())
            .finish()
    }
}
