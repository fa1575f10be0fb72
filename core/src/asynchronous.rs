//! Asynchronous channels: between a process and anything else.

use core::ptr::{self, NonNull};

use fibra_allocators::{AllocError, AllocRef, Layout};

use crate::channel::{ChannelRef, Info, Memory, Outsiders};
use crate::end::{Blocks, Pair};
use crate::endpoint;
use crate::outside::{OutsideReader, OutsideWriter};
use crate::reach::{Asynchronous, Guts, Platform};

/// The block of an asynchronous channel.
#[repr(C)]
struct Open<T, P: Platform, N, A> {
    pair: Pair<T, <Asynchronous<P> as Guts>::Turns, N>,
    outsiders: Outsiders,
    allocator: A,
}

impl<T, P: Platform, N, A: AllocRef> Open<T, P, N, A> {
    const MEMORY: &'static Memory = &Memory {
        allocate: |channel, layout| {
            // SAFETY: these functions are only reached through the `Info` below, which such a block was made with.
            let allocator = unsafe { &*Self::allocator(channel) };
            allocator.allocate(layout).ok().map(NonNull::cast)
        },
        deallocate: Self::deallocate,
        count_inside: |node, is_inside, looks_again| {
            node.cell().inspect(|cell| cell.count_inside(is_inside, looks_again)).is_some()
        },
        free: Self::free,
        // SAFETY: as above; the place is in the channel's block, which is there as long as the channel.
        outsiders: |channel| unsafe { &(*channel.as_ptr().cast::<Self>()).outsiders },
    };
    const INFO: &'static Info =
        &Info { layout: Layout::new::<Self>(), memory: Some(Self::MEMORY), ..*Blocks::<T, Asynchronous<P>, N>::PAIR };

    fn allocator(channel: ChannelRef) -> *const A {
        let block = channel.as_ptr().cast::<Self>();
        // SAFETY: a `ChannelRef` may reach its whole block, which is one of these; no reference is made.
        unsafe { &raw const (*block).allocator }
    }

    unsafe fn deallocate(channel: ChannelRef, block: NonNull<u8>, layout: Layout) {
        // SAFETY: as above; and the caller's promise.
        unsafe { (*Self::allocator(channel)).deallocate(block, layout) }
    }

    unsafe fn free(channel: ChannelRef) {
        // SAFETY: nobody refers to the channel any more, and its block came from the allocator in it, which is taken out first.
        unsafe {
            let allocator = ptr::read(Self::allocator(channel));
            let block = NonNull::new_unchecked(channel.as_ptr().cast_mut().cast());
            allocator.deallocate(block, Layout::new::<Self>());
        }
    }
}

/// Makes an asynchronous channel, and gives its two ends: for threads, interrupt handlers, tasks of any executor, and, taken
/// [inside](OutsideReader::inside), for the fibres of any processes.
///
/// It belongs to no process. It takes one block from `allocator`, which it keeps a handle to, and gives it back when the last
/// end is gone. A fibre that uses one must have a wake cell ([`FibreOptions::waker`](crate::FibreOptions::waker)): its process
/// then waits for it as long as a counterpart can still come.
///
/// # Errors
/// [`AllocError`] if the allocator has no block of [`asynchronous_layout`].
///
/// ```
/// use fibra_core::{Here, Hub, Idle, Platform, Setup, asynchronous};
/// use fibra_allocators::{Arena, MemReq, SizeClasses, SpinLock, table};
/// # use core::mem::MaybeUninit;
/// # struct Busy;
/// # impl Idle for Busy {
/// #     fn wait(&self) {
/// #         std::thread::yield_now()
/// #     }
/// #     fn wake(&self) {}
/// # }
/// # struct Threads;
/// # unsafe impl Platform for Threads {
/// #     type Lock = SpinLock;
/// #     fn here<R>(f: impl FnOnce(&Here) -> R) -> R {
/// #         std::thread_local!(static HERE: Here = const { Here::new() });
/// #         HERE.with(f)
/// #     }
/// # }
/// static HUB: Hub<1> = Hub::new(&Busy);
/// static MEMORY: Arena<1024> = Arena::new();
///
/// let pool = SizeClasses::with_form::<SpinLock>(&table([MemReq::new(256, 2)]), MEMORY.take().unwrap())?;
/// let pool: &'static _ = Box::leak(Box::new(pool)); // on a chip: in a `static`
/// let (mut to, from) = asynchronous::<u32, Threads, _>(pool).unwrap();
///
/// let thread = std::thread::spawn(move || {
///     for n in 0..3 {
///         while to.try_write(n).is_err() { // or wait: `fibra-std` has ways to
///             std::thread::yield_now();
///         }
///     }
/// });
/// # let mut memory = [MaybeUninit::uninit(); 1024];
/// # let own = SizeClasses::new(&table([MemReq::new(256, 2)]), &mut memory)?;
/// let mut sum = 0;
/// let (_, outcome) = Setup::new(&own).hub(&HUB).run(|p| {
///     let sum = &mut sum;
///     let mut from = from.inside(p);
///     let reads = async move {
///         loop {
///             *sum += from.read().await; // collapses when the thread has dropped its end
///         }
///     };
///     p.fibre().waker().spawn(reads).unwrap();
/// })?;
/// assert_eq!((sum, outcome.collapsed), (3, 1));
/// # thread.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn asynchronous<T: Send, P: Platform, A: AllocRef + Send + Sync + 'static>(
    allocator: A,
) -> Result<(OutsideWriter<T, P>, OutsideReader<T, P>), AllocError> {
    make(allocator, ())
}

/// Makes an asynchronous channel with a name. The name takes two words more.
///
/// # Errors
/// As [`asynchronous`].
///
/// For an example see [`asynchronous`].
pub fn asynchronous_named<T: Send, P: Platform, A: AllocRef + Send + Sync + 'static>(
    allocator: A,
    name: &'static str,
) -> Result<(OutsideWriter<T, P>, OutsideReader<T, P>), AllocError> {
    make(allocator, name)
}

fn make<T, P: Platform, N, A: AllocRef>(
    allocator: A,
    name: N,
) -> Result<(OutsideWriter<T, P>, OutsideReader<T, P>), AllocError> {
    let block = allocator.allocate(Layout::new::<Open<T, P, N, A>>())?.cast::<u8>();
    // SAFETY: the block is new, and has the layout of an `Open`, which begins with the pair; the allocator is in its place before
    // anybody can reach it.
    unsafe {
        let open = block.cast::<Open<T, P, N, A>>().as_ptr();
        (&raw mut (*open).outsiders).write(Outsiders::new());
        (&raw mut (*open).allocator).write(allocator);
        let (writer, reader) = endpoint::pair(block, name, None, Open::<T, P, N, A>::INFO);
        Ok((OutsideWriter::first(writer), OutsideReader::first(reader)))
    }
}

/// What an asynchronous channel takes from its allocator, of type `A`: one block.
///
/// ```
/// # use fibra_core::{Here, Platform};
/// # struct Threads;
/// # unsafe impl Platform for Threads {
/// #     type Lock = fibra_allocators::SpinLock;
/// #     fn here<R>(f: impl FnOnce(&Here) -> R) -> R {
/// #         std::thread_local!(static HERE: Here = const { Here::new() });
/// #         HERE.with(f)
/// #     }
/// # }
/// assert!(fibra_core::asynchronous_layout::<u64, Threads, &u8>().size() <= 192);
/// ```
pub const fn asynchronous_layout<T, P: Platform, A>() -> Layout {
    Layout::new::<Open<T, P, (), A>>()
}
