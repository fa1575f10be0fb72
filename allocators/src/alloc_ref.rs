use allocator_api2::alloc::Allocator;

/// A handle to an allocator: what every part of fibra that needs memory accepts.
///
/// It is [`Allocator`] plus a cheap [`Clone`], and every type with both is an `AllocRef` already; there is nothing to
/// implement. All clones of a handle are the same allocator: a block from one may be released through another.
///
/// A handle is never the arena by value, because moving that would move the blocks. The handles of this crate's own
/// allocators are shared references to them: `&Bump<_>`, `&FixedBlock<_>`, `&SizeClasses<_, _>`.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{AllocError, AllocRef, Bump, Layout};
///
/// fn two_words(allocator: impl AllocRef) -> Result<(), AllocError> {
///     let twin = allocator.clone();
///     let word = Layout::new::<usize>();
///     let a = allocator.allocate(word)?.cast::<u8>();
///     let b = twin.allocate(word)?.cast::<u8>();
///     assert_ne!(a, b);
///     // SAFETY: both blocks came from this allocator, with this layout, and are not used again.
///     unsafe {
///         allocator.deallocate(b, word);
///         twin.deallocate(a, word);
///     }
///     Ok(())
/// }
///
/// let mut memory = [MaybeUninit::uninit(); 64];
/// let bump = Bump::new(&mut memory);
/// two_words(&bump)?;
/// # Ok::<(), AllocError>(())
/// ```
pub trait AllocRef: Allocator + Clone {}

impl<A: Allocator + Clone> AllocRef for A {}
