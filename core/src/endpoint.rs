//! How channels are made, and the end of one that is both read from and written to.

use core::fmt;
use core::task::{Context, Poll};

use fibra_allocators::{AllocError, Layout};

use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::channel::{ChannelRef, Info};
use crate::end::{Blocks, End, Pair, Remove, Slot, Slots, TwoWay};
use crate::node::{DIRECT, Direction, NodeRef, OWN_BLOCK, State, WRITER};
use crate::operation::{Read, ReadOrEnd, Write};
use crate::process::ProcessRef;
use crate::reach::{Guts, Reach, Sequential};
use crate::reader::Reader;
use crate::writer::Writer;

/// Takes the block of a channel, and counts its first two endpoints.
fn block_for_channel<R: Reach>(process: ProcessRef, info: &Info) -> Result<NonNull<u8>, AllocError> {
    let block = process.allocate(info.layout).ok_or(AllocError)?;
    if process.channels.add_endpoints::<R>(2).is_none() {
        // SAFETY: taken from this process just now; nothing else knows it.
        unsafe { process.deallocate(block, info.layout) };
        return Err(AllocError);
    }
    Ok(block)
}

pub(crate) fn channel<'p, T, R: Reach, N>(
    process: ProcessRef,
    name: N,
) -> Result<(Writer<'p, T, R>, Reader<'p, T, R>), AllocError> {
    let info = Blocks::<T, R, N>::PAIR;
    let block = block_for_channel::<R>(process, info)?;
    // SAFETY: the block is new, and has that layout.
    Ok(unsafe { pair(block, name, Some(process), info) })
}

/// Makes a channel in its block.
///
/// # Safety
/// The block is new, has the layout of `info`, which begins with a `Pair` for these types, and came from this process: only of
/// an open channel from none.
pub(crate) unsafe fn pair<'p, T, R: Reach, N>(
    block: NonNull<u8>,
    name: N,
    process: Option<ProcessRef>,
    info: &'static Info,
) -> (Writer<'p, T, R>, Reader<'p, T, R>) {
    let pair = block.cast::<Pair<T, <R as Guts>::Turns, N>>().as_ptr();
    // SAFETY: the caller's promise. The two ends are the only ones of their slots.
    unsafe {
        (&raw mut (*pair).name).write(name);
        let (writer, reader) = (&raw mut (*pair).writer, &raw mut (*pair).reader);
        NodeRef::init(writer.cast(), DIRECT | WRITER);
        NodeRef::init(reader.cast(), DIRECT);
        let channel = ChannelRef::init::<R>(block, process, info);
        (Writer { end: End::new(writer, channel) }, Reader { end: End::new(reader, channel) })
    }
}

pub(crate) fn two_way<'p, T, R: Reach, N>(
    process: ProcessRef,
    name: N,
) -> Result<(Endpoint<'p, T, R>, Endpoint<'p, T, R>), AllocError> {
    process.channels.sweep_from_now_on::<R>();
    let info = Blocks::<T, R, N>::TWO_WAY;
    let block = block_for_channel::<R>(process, info)?;
    let two_way = block.cast::<TwoWay<T, <R as Guts>::Turns, N>>().as_ptr();
    // SAFETY: the block is new, and has the layout of a `TwoWay`. The two ends are the only ones of their slots.
    unsafe {
        (&raw mut (*two_way).name).write(name);
        let first = (&raw mut (*two_way).ends).cast::<Slots<T>>();
        let channel = ChannelRef::init::<R>(block, Some(process), info);
        Ok((Endpoint::init(first, channel, 0), Endpoint::init(first.add(1), channel, 0)))
    }
}

/// An end of a channel that is both read from and written to, though not at the same time.
///
/// Any number of fibres may hold endpoints of one channel. A wait can end as long as another endpoint exists whose fibre
/// is not itself parked on that channel, in the same direction, and on nothing else: if all wait to read, they collapse.
/// (Endpoints whose fibres wait for something else as well are looked at when no fibre is ready.)
///
/// ```
/// use fibra_core::Endpoint;
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 512, n_blocks: 16 }]), &mut memory)?;
/// async fn double(mut line: Endpoint<'_, u32>) {
///     loop {
///         let n = line.read().await;
///         line.write(2 * n).await;
///     }
/// }
/// let (_, outcome) = fibra_core::run(&pool, |p| {
///     let (mut near, far) = p.two_way().unwrap();
///     p.spawn(double(far)).unwrap();
///     p.spawn(async move {
///         near.write(21).await;
///         assert_eq!(near.read().await, 42);
///     })
///     .unwrap();
/// })?;
/// assert_eq!((outcome.finished, outcome.collapsed), (1, 1)); // nobody asks any more
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Endpoint<'p, T, R: Reach = Sequential> {
    reader: End<'p, T, R>,
    writer: End<'p, T, R>,
}

impl<'p, T, R: Reach> Endpoint<'p, T, R> {
    /// # Safety
    /// `slots` is a new place for an endpoint that is counted in `channel`, which was made for `T` and `L`.
    unsafe fn init(slots: *mut Slots<T>, channel: ChannelRef, kind: u8) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let (reader, writer) = (&raw mut (*slots).reader, &raw mut (*slots).writer);
            NodeRef::init(reader.cast(), kind);
            NodeRef::init(writer.cast(), kind | WRITER);
            Endpoint { reader: End::new(reader, channel), writer: End::new(writer, channel) }
        }
    }

    /// Writes a value, as [`Writer::write`] does.
    ///
    /// # Blocking
    /// Suspends the fibre until another endpoint reads.
    ///
    /// # Collapse
    /// May never return: if no other endpoint can come to read, the fibre is destroyed.
    ///
    /// ```
    /// # use fibra_core::{SizeClasses, table, MemReq};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 512, n_blocks: 16 }]), &mut memory)?;
    /// let (_, outcome) = fibra_core::run(&pool, |p| {
    ///     let (mut client, mut server) = p.two_way::<u32>().unwrap();
    ///     p.spawn(async move {
    ///         loop {
    ///             let n = server.read().await;
    ///             server.write(n * n).await;
    ///         }
    ///     })
    ///     .unwrap();
    ///     p.spawn(async move {
    ///         client.write(12).await;
    ///         assert_eq!(client.read().await, 144);
    ///     })
    ///     .unwrap();
    /// })?;
    /// assert_eq!((outcome.finished, outcome.collapsed), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn write(&mut self, value: T) -> Write<'_, 'p, T, R> {
        if self.reader.node().state.observe::<R>() > State::Done {
            self.reader.clear_read();
        }
        self.writer.load(value);
        Write { end: Some(&mut self.writer) }
    }

    /// Writes a value if another endpoint waits for one; otherwise gives it back. Never waits.
    ///
    /// # Errors
    /// The value, if no endpoint waits to read.
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 512, n_blocks: 16 }]), &mut memory)?;
    /// fibra_core::run(&pool, |p| {
    ///     let (mut one, mut other) = p.two_way::<u8>().unwrap();
    ///     assert_eq!(one.try_write(1), Err(1)); // nobody waits yet
    ///     p.spawn(async move { assert_eq!(other.read().await, 2) }).unwrap();
    ///     p.spawn(async move { assert_eq!(one.try_write(2), Ok(())) }).unwrap();
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_write(&mut self, value: T) -> Result<(), T> {
        self.reader.clear_read();
        self.writer.try_write(value)
    }

    /// Reads a value, as [`Reader::read`] does.
    ///
    /// # Blocking
    /// Suspends the fibre until another endpoint writes.
    ///
    /// # Collapse
    /// May never return: if no other endpoint can come to write, the fibre is destroyed.
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 512, n_blocks: 16 }]), &mut memory)?;
    /// let (_, outcome) = fibra_core::run(&pool, |p| {
    ///     let (mut one, mut other) = p.two_way::<u8>().unwrap();
    ///     p.spawn(async move { drop(one.read().await) }).unwrap();
    ///     p.spawn(async move { drop(other.read().await) }).unwrap();
    /// })?;
    /// assert_eq!(outcome.collapsed, 2); // both wait to read, and nobody is left to write
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn read(&mut self) -> Read<'_, 'p, T, R> {
        self.clear_write();
        Read { end: Some(&mut self.reader) }
    }

    /// Reads a value, or `None` if none can come any more, as [`Reader::read_or_end`] does.
    ///
    /// # Blocking
    /// Suspends the fibre until another endpoint writes, or until that cannot happen any more.
    ///
    /// # Collapse
    /// Returns where [`read`](Self::read) would collapse.
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 512, n_blocks: 16 }]), &mut memory)?;
    /// let (_, outcome) = fibra_core::run(&pool, |p| {
    ///     let (mut one, mut other) = p.two_way::<u8>().unwrap();
    ///     p.spawn(async move { one.write(1).await }).unwrap();
    ///     p.spawn(async move {
    ///         assert_eq!(other.read_or_end().await, Some(1));
    ///         assert_eq!(other.read_or_end().await, None);
    ///     })
    ///     .unwrap();
    /// })?;
    /// assert_eq!(outcome.finished, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn read_or_end(&mut self) -> ReadOrEnd<'_, 'p, T, R> {
        self.clear_write();
        if self.reader.node().state.get() == State::Dead {
            self.reader.clear_read();
        }
        ReadOrEnd { end: Some(&mut self.reader) }
    }

    /// Reads a value if there is one, as [`Reader::try_read`] does. Never waits.
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 512, n_blocks: 16 }]), &mut memory)?;
    /// fibra_core::run(&pool, |p| {
    ///     let (mut one, mut other) = p.two_way::<u8>().unwrap();
    ///     assert_eq!(one.try_read(), None); // nobody waits yet
    ///     p.spawn(async move { other.write(1).await }).unwrap();
    ///     p.spawn(async move { assert_eq!(one.try_read(), Some(1)) }).unwrap();
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_read(&mut self) -> Option<T> {
        self.clear_write();
        self.reader.try_read()
    }

    /// Begins a write, for [`poll_write`](Self::poll_write) to complete, as [`Writer::begin_write`] does. A read that was
    /// polled before no longer waits.
    ///
    /// ```
    /// use core::future::poll_fn;
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 512, n_blocks: 16 }]), &mut memory)?;
    /// let (_, outcome) = fibra_core::run(&pool, |p| {
    ///     let (mut one, mut other) = p.two_way::<u8>().unwrap();
    ///     p.spawn(async move {
    ///         one.begin_write(1);
    ///         poll_fn(|cx| one.poll_write(cx)).await;
    ///         assert_eq!(poll_fn(|cx| one.poll_read(cx)).await, 2);
    ///         assert_eq!(poll_fn(|cx| one.poll_read_or_end(cx)).await, None);
    ///     })
    ///     .unwrap();
    ///     p.spawn(async move {
    ///         assert_eq!(other.read().await, 1);
    ///         other.write(2).await;
    ///     })
    ///     .unwrap();
    /// })?;
    /// assert_eq!(outcome.finished, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn begin_write(&mut self, value: T) {
        if self.reader.node().state.observe::<R>() > State::Done {
            self.reader.clear_read();
        }
        self.writer.load(value);
    }

    /// Completes the write that was begun last, as [`Writer::poll_write`] does; see [`begin_write`](Self::begin_write) for
    /// an example.
    ///
    /// # Blocking
    /// Once it has given `Pending`, the fibre is woken when another endpoint has come to read.
    ///
    /// # Collapse
    /// May never be ready, as [`write`](Self::write).
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.writer.poll_begun_write(cx)
    }

    /// Takes back the write that was begun last, as [`Writer::cancel_write`] does.
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 512, n_blocks: 16 }]), &mut memory)?;
    /// fibra_core::run(&pool, |p| {
    ///     let (mut one, _other) = p.two_way::<u8>().unwrap();
    ///     one.begin_write(1);
    ///     assert_eq!(one.cancel_write(), Some(1));
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel_write(&mut self) -> Option<T> {
        self.writer.take_undelivered()
    }

    /// Reads a value, as [`Reader::poll_read`] does; see [`begin_write`](Self::begin_write) for an example. A write that
    /// was begun before is taken back, and its value dropped, unless it was delivered.
    ///
    /// # Blocking
    /// Once it has given `Pending`, the fibre is woken when a value has come.
    ///
    /// # Collapse
    /// May never be ready, as [`read`](Self::read).
    #[inline]
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        self.clear_write();
        self.reader.poll_read(cx, State::Waiting)
    }

    /// Reads a value, or `None` if none can come any more, as [`Reader::poll_read_or_end`] does; see
    /// [`begin_write`](Self::begin_write) for an example.
    #[inline]
    pub fn poll_read_or_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.clear_write();
        self.reader.poll_read_or_end(cx)
    }

    /// Makes another endpoint of the same channel. Takes one block, and constant time.
    ///
    /// # Errors
    /// [`AllocError`] if the process's allocator has no block of twice [`dup_layout::<T>()`](crate::dup_layout).
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 512, n_blocks: 16 }]), &mut memory)?;
    /// let (_, outcome) = fibra_core::run(&pool, |p| {
    ///     let (mut server, mut one) = p.two_way::<u32>().unwrap();
    ///     let mut two = one.dup().unwrap();
    ///     p.spawn(async move { assert_eq!(one.read().await, 1) }).unwrap();
    ///     p.spawn(async move { assert_eq!(two.read().await, 2) }).unwrap();
    ///     p.spawn(async move {
    ///         server.write(1).await;
    ///         server.write(2).await;
    ///     })
    ///     .unwrap();
    /// })?;
    /// assert_eq!(outcome.finished, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn dup(&self) -> Result<Self, AllocError> {
        let channel = self.reader.channel;
        let layout = Layout::new::<Slots<T>>();
        let block = channel.allocate::<R>(layout).ok_or(AllocError)?;
        if channel.add_endpoint::<R>(&[Direction::Read, Direction::Write]).is_none() {
            // SAFETY: taken for this channel above; nothing else knows it.
            unsafe { channel.deallocate::<R>(block, layout) };
            return Err(AllocError);
        }
        // SAFETY: the block is new, and has the layout of two slots; the endpoint was counted.
        Ok(unsafe { Self::init(block.as_ptr().cast(), self.reader.channel, OWN_BLOCK) })
    }

    /// An operation that was forgotten must not meet the next one of the same endpoint.
    fn clear_write(&mut self) {
        if self.writer.node().state.observe::<R>() != State::Idle {
            self.writer.clear_write();
        }
    }
}

impl<T, R: Reach> Drop for Endpoint<'_, T, R> {
    fn drop(&mut self) {
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        let nodes = [reader.node(), writer.node()];
        let _last = Remove::<R, 2> { channel: reader.channel, nodes, reach: PhantomData };
        /// Drops what the other slot holds, even if the first drop panics.
        struct Read<'a, 'p, T, R: Reach>(&'a mut End<'p, T, R>);
        impl<T, R: Reach> Drop for Read<'_, '_, T, R> {
            fn drop(&mut self) {
                self.0.drop_delivered();
            }
        }
        let _then = Read(reader);
        if writer.node().state.observe::<R>() != State::Idle {
            writer.clear_write();
        }
    }
}

macro_rules! debug {
    ($($type:ident, $end:ident, $what:literal;)*) => {$(
        impl<T, R: Reach> fmt::Debug for $type<'_, T, R> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}(`{}`)", $what, self.$end.channel.name())
            }
        }
    )*};
}
debug! {
    Writer, end, "Writer";
    Reader, end, "Reader";
    Endpoint, reader, "Endpoint";
}

/// What a sequential channel for values of type `T` takes from the process's allocator: one block, with the slots of its
/// two ends. A name takes two words more.
///
/// ```
/// assert!(fibra_core::channel_layout::<u64>().size() <= 160);
/// ```
pub const fn channel_layout<T>() -> Layout {
    Layout::new::<Pair<T, <Sequential as Guts>::Turns, ()>>()
}

/// The same as [`channel_layout`] for a two-way channel.
///
/// ```
/// use fibra_core::{channel_layout, two_way_layout};
/// assert!(two_way_layout::<u64>().size() > channel_layout::<u64>().size());
/// ```
pub const fn two_way_layout<T>() -> Layout {
    Layout::new::<TwoWay<T, <Sequential as Guts>::Turns, ()>>()
}

/// What [`Writer::dup`] and [`Reader::dup`] take from the process's allocator for values of type `T`; [`Endpoint::dup`]
/// takes twice as much.
///
/// ```
/// assert_eq!(fibra_core::dup_layout::<u64>().size(), 7 * size_of::<usize>());
/// ```
pub const fn dup_layout<T>() -> Layout {
    Layout::new::<Slot<T>>()
}
