//! Allocators of any type behind one word and a table of functions: the mechanism under [`DynAlloc`](crate::DynAlloc).
//!
//! ```text
//!   handle: word | vtable          handle: word | vtable (a root's)
//!             |                              |
//!             v                              v
//!   node: value | count | parent -----> its word and vtable -----> ...
//! ```
//!
//! # Invariants
//!
//! 1. The word of a handle is what its vtable was made for: a root's own handle, or a pointer to a [`Node`] with the
//!    provenance of the whole block.
//! 2. A node's count is not less than the number of handles to it, of which a child's parent is one. Whoever takes it from
//!    one to zero ends the node, and nobody else can reach that any more.
//! 3. A node lies in a block of its parent, which it holds a handle to. So a parent outlives its children.
//! 4. Everything in a handle, or behind it, lives as long as the lifetime of `DynAlloc` says. A handle for all threads has
//!    only what may be used from all threads behind it, and an atomic count, all the way up to the root.

use core::cell::Cell;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ptr::{self, NonNull};

use allocator_api2::alloc::{AllocError, Allocator, Layout};
#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
use portable_atomic::{AtomicUsize, Ordering};

use crate::Source;

/// What a handle keeps in one word. Uninitialised behind the end of a handle that is smaller.
type Word = MaybeUninit<*const ()>;

/// How many handles a node has.
pub(crate) trait Count {
    const ONE: Self;
    fn up(&self);
    /// Whether that was the last. If so, all that was done with the others has happened before.
    fn down(&self) -> bool;
}

/// More handles than memory can hold. A count that gets there counts forgotten ones, so it never falls to zero again, and
/// need not be exact: it is kept there, for it must not wrap round.
const MANY: usize = usize::MAX / 2;

impl Count for Cell<usize> {
    const ONE: Self = Cell::new(1);

    fn up(&self) {
        self.set((self.get() + 1).min(MANY));
    }

    fn down(&self) -> bool {
        self.set(self.get() - 1);
        self.get() == 0
    }
}

#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
impl Count for AtomicUsize {
    const ONE: Self = AtomicUsize::new(1);

    fn up(&self) {
        // Relaxed: whoever clones has a handle already.
        if self.fetch_add(1, Ordering::Relaxed) >= MANY {
            self.store(MANY, Ordering::Relaxed);
        }
    }

    fn down(&self) -> bool {
        self.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// A handle without its lifetime and reach. Copying it counts nothing.
#[derive(Clone, Copy)]
pub(crate) struct Raw {
    pub(crate) word: Word,
    pub(crate) vtable: &'static VTable,
}

/// What can be done with a word, which is one that the table was made for (invariant 1). So much is the safety contract of
/// every function in it, besides that of the method of [`Allocator`] that it is called for.
pub(crate) struct VTable {
    pub(crate) allocate: unsafe fn(Word, Layout) -> Result<NonNull<[u8]>, AllocError>,
    pub(crate) deallocate: unsafe fn(Word, NonNull<u8>, Layout),
    pub(crate) grow: unsafe fn(Word, NonNull<u8>, Layout, Layout) -> Result<NonNull<[u8]>, AllocError>,
    pub(crate) shrink: unsafe fn(Word, NonNull<u8>, Layout, Layout) -> Result<NonNull<[u8]>, AllocError>,
    pub(crate) allocate_zeroed: unsafe fn(Word, Layout) -> Result<NonNull<[u8]>, AllocError>,
    pub(crate) grow_zeroed: unsafe fn(Word, NonNull<u8>, Layout, Layout) -> Result<NonNull<[u8]>, AllocError>,
    /// None for a root.
    counting: Option<Counting>,
}

struct Counting {
    /// Counts one more handle.
    up: unsafe fn(Word),
    /// Counts one handle less. If that was the last, ends the node; its handle on its parent is the caller's to release.
    down: unsafe fn(Word) -> Option<Raw>,
}

impl Raw {
    pub(crate) const fn root<H: Allocator + Copy>(handle: H) -> Self {
        const { assert!(size_of::<H>() <= size_of::<Word>(), "a root is a handle of one word at most") };
        const { assert!(align_of::<H>() <= align_of::<Word>(), "a root is aligned like a word at most") };
        let mut word = Word::uninit();
        // SAFETY: a word has room for it, as was just found.
        unsafe { ptr::write((&raw mut word).cast(), handle) };
        Raw { word, vtable: &Root::<H>::VTABLE }
    }

    pub(crate) const fn is_root(&self) -> bool {
        self.vtable.counting.is_none()
    }

    /// Counts one more handle.
    ///
    /// # Safety
    ///
    /// The caller has a handle, and makes one of what this returns.
    #[inline]
    pub(crate) unsafe fn retain(self) -> Self {
        if let Some(counting) = &self.vtable.counting {
            // SAFETY: invariant 1; the caller's handle keeps the node.
            unsafe { (counting.up)(self.word) };
        }
        self
    }

    /// Counts one handle less, and ends what nobody has a handle to any more.
    ///
    /// # Safety
    ///
    /// A handle ends with this.
    #[inline]
    pub(crate) unsafe fn release(self) {
        let mut ending = self;
        while let Some(counting) = &ending.vtable.counting {
            // SAFETY: invariant 1; and the count includes the handle that ends: our caller's, or that of a child that ended.
            let Some(parent) = (unsafe { (counting.down)(ending.word) }) else { return };
            ending = parent;
        }
    }
}

/// The end of a handle to a parent, where a panic cuts the loop of [`Raw::release`] short.
struct Ending(Raw);

impl Drop for Ending {
    fn drop(&mut self) {
        // SAFETY: it stands for a handle.
        unsafe { self.0.release() }
    }
}

/// Where a word leads. The functions of a vtable are those of the allocator there.
trait Place {
    type Target: Source;

    /// # Safety
    ///
    /// The word is one for this place, and what it leads to lives as long as the reference.
    unsafe fn find(word: &Word) -> &Self::Target;
}

/// A root's handle is in the word itself. As it can be copied, nothing in it can change.
struct Root<H>(PhantomData<H>);

impl<H: Allocator + Copy> Root<H> {
    const VTABLE: VTable = vtable::<Self>(None);
}

impl<H: Allocator> Place for Root<H> {
    type Target = H;

    #[inline(always)]
    unsafe fn find(word: &Word) -> &H {
        // SAFETY: invariant 1; and `Raw::root` checked that it fits.
        unsafe { &*(&raw const *word).cast() }
    }
}

/// An allocator in a block of its parent. `repr(C)`, so that it comes first, and the word leads to it.
#[repr(C)]
pub(crate) struct Node<S, C> {
    value: S,
    count: C,
    parent: Raw,
}

impl<S, C: Count> Node<S, C> {
    pub(crate) const LAYOUT: Layout = Layout::new::<Self>();

    /// # Safety
    ///
    /// See [`Counting::up`].
    unsafe fn up(word: Word) {
        // SAFETY: invariant 1, and the caller has a handle, so the node lives.
        unsafe { &(*word.assume_init().cast::<Self>()).count }.up();
    }

    /// # Safety
    ///
    /// See [`Counting::down`].
    unsafe fn down(word: Word) -> Option<Raw> {
        // SAFETY: invariant 1.
        let node = unsafe { NonNull::new_unchecked(word.assume_init().cast::<Self>().cast_mut()) };
        // SAFETY: the caller's handle keeps the node until this.
        let was_last = unsafe { &(*node.as_ptr()).count }.down();
        // SAFETY: invariant 2: it is ours alone.
        was_last.then(|| unsafe { Self::end(node) })
    }

    /// Drops the allocator and gives its block back to the parent, also if the former panics. Then the handle on the parent
    /// is released, here if there is a panic and by the caller if there is none.
    ///
    /// # Safety
    ///
    /// Nobody else uses the node any more.
    #[cold]
    unsafe fn end(node: NonNull<Self>) -> Raw {
        struct Block(NonNull<u8>, Layout, Raw);
        impl Drop for Block {
            fn drop(&mut self) {
                let Block(block, layout, parent) = *self;
                // SAFETY: invariants 1 and 3: it came from there with this layout. What was in it is gone.
                unsafe { (parent.vtable.deallocate)(parent.word, block, layout) }
            }
        }
        // SAFETY: the node is ours. Its handle on the parent is not used from there again.
        let parent = Ending(unsafe { (*node.as_ptr()).parent });
        let block = Block(node.cast(), Self::LAYOUT, parent.0);
        // SAFETY: it was moved in when the node was made, and leaves once, here.
        unsafe { ptr::drop_in_place(&raw mut (*node.as_ptr()).value) };
        drop(block);
        ManuallyDrop::new(parent).0
    }
}

impl<S: Source, C: Count> Node<S, C> {
    /// Makes a node, and its first handle.
    ///
    /// # Safety
    ///
    /// `block` is a block of `parent`, allocated with [`LAYOUT`](Node::LAYOUT), the caller's alone, who leaves it to the node
    /// together with a handle on the parent.
    pub(crate) unsafe fn write(block: NonNull<Self>, value: S, parent: Raw) -> Raw {
        // SAFETY: the block is ours.
        unsafe { block.write(Node { value, count: C::ONE, parent }) };
        Raw { word: Word::new(block.as_ptr().cast_const().cast()), vtable: &Self::VTABLE }
    }

    const VTABLE: VTable = vtable::<Self>(Some(Counting { up: Self::up, down: Self::down }));
}

impl<S: Source, C> Place for Node<S, C> {
    type Target = S;

    #[inline(always)]
    unsafe fn find(word: &Word) -> &S {
        // SAFETY: invariant 1, and the allocator comes first in the node.
        unsafe { &*word.assume_init().cast() }
    }
}

const fn vtable<P: Place>(counting: Option<Counting>) -> VTable {
    // One call each, with the allocator inlined. Each relies on what `VTable` says; and as somebody has a handle, the
    // allocator lives.
    VTable {
        // SAFETY: see above.
        allocate: |word, layout| unsafe { P::find(&word) }.handle().allocate(layout),
        // SAFETY: see above.
        deallocate: |word, block, layout| unsafe { P::find(&word).handle().deallocate(block, layout) },
        // SAFETY: see above.
        grow: |word, block, old, new| unsafe { P::find(&word).handle().grow(block, old, new) },
        // SAFETY: see above.
        shrink: |word, block, old, new| unsafe { P::find(&word).handle().shrink(block, old, new) },
        // SAFETY: see above.
        allocate_zeroed: |word, layout| unsafe { P::find(&word) }.handle().allocate_zeroed(layout),
        // SAFETY: see above.
        grow_zeroed: |word, block, old, new| unsafe { P::find(&word).handle().grow_zeroed(block, old, new) },
        counting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More clones than anybody can make, one of them on its way while the other is kept back.
    fn assert_never_ends<C: Count>(count: C, value: impl Fn(&C) -> usize) {
        for _ in 0..10 {
            count.up();
            assert!(value(&count) <= MANY + 1);
        }
        for _ in 0..10 {
            assert!(!count.down());
        }
        for _ in 0..10 {
            count.up();
            count.up();
            assert!(!count.down());
        }
        assert!(value(&count) > MANY / 2, "as many handles as fit into memory can go");
    }

    #[test]
    fn a_count_of_forgotten_handles_does_not_wrap_round() {
        assert_never_ends(Cell::new(MANY - 3), Cell::get);
        assert_never_ends(AtomicUsize::new(MANY - 3), |count| count.load(Ordering::Relaxed));
    }

    #[test]
    fn a_count_ends_with_the_last() {
        fn assert_ends<C: Count>() {
            let count = C::ONE;
            count.up();
            assert!(!count.down());
            assert!(count.down());
        }
        assert_ends::<Cell<usize>>();
        assert_ends::<AtomicUsize>();
    }
}
