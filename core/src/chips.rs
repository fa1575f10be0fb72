//! Chips: ready-made bodies of fibres, with sockets for channels.
//!
//! A chip is a future that owns the ends of its channels. Whoever spawns it has wired it up; it knows nothing of its
//! neighbours. Together they make networks in which nothing needs to be told when to stop: a chip that leaves, or is
//! destroyed, drops its ends, and its neighbours follow.
//!
//! ```text
//!   .--------.     .------------.     .-------.
//!   | source |---->| transducer |---->| bound |----> ...     p.pipe(source)?.then(transducer)?.then(bound)? ...
//!   '--------'     '------------'     '-------'
//! ```
//!
//! | | chip | ends |
//! | --- | --- | --- |
//! | begin | [`source`] | with its items |
//! | end | [`sink`] | collapses |
//! | one in, one out | [`transducer`], [`filter`], [`prefix`] | collapse |
//! | | [`bound`] | after so many values |
//! | | [`buffer`] | with its input, when it has delivered what it holds |
//! | several | [`delta`], [`pace`] | collapse |
//! | | [`merge`] | when all inputs have ended |
//! | | [`zip`] | when an input has ended |
//!
//! Each collapses where it writes if its reader has gone, and allocates nothing: what it holds is in its own future. For
//! pipelines see [`Process::pipe`](crate::Process::pipe); other networks are wired by hand:
//!
//! ```
//! use fibra_core::chips::{bound, delta, prefix, sink, transducer};
//! # use fibra_core::{MemReq, SizeClasses, table};
//! # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
//! # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 32 }]), &mut memory)?;
//! //     .------> delta ------> bound ------> sink
//! //     |          |
//! //   prefix <-- double
//! let powers = std::cell::RefCell::new(Vec::new());
//! let (_, outcome) = fibra_core::run(&pool, |p| {
//!     let (to_delta, from_prefix) = p.channel().unwrap();
//!     let (to_double, from_delta) = p.channel().unwrap();
//!     let (to_prefix, from_double) = p.channel().unwrap();
//!     let (to_bound, out) = p.channel().unwrap();
//!     let (to_sink, from_bound) = p.channel().unwrap();
//!     p.spawn(prefix([1], from_double, to_delta)).unwrap();
//!     p.spawn(delta(from_prefix, [to_double, to_bound])).unwrap();
//!     p.spawn(transducer(|n| 2 * n, from_delta, to_prefix)).unwrap();
//!     p.spawn(bound(6, out, to_sink)).unwrap();
//!     p.spawn(sink(|n: u32| powers.borrow_mut().push(n), from_bound)).unwrap();
//! })?;
//! assert_eq!(powers.into_inner(), [1, 2, 4, 8, 16, 32]);
//! assert_eq!((outcome.finished, outcome.collapsed), (1, 4)); // `bound` left, and the others followed
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![allow(clippy::manual_async_fn, reason = "an `async fn` has room for its arguments twice")]

mod buffer;
mod delta;
mod merge;
mod zip;

pub use buffer::buffer;
pub use delta::delta;
pub use merge::merge;
pub use zip::zip;

use core::future::Future;

use crate::reach::Reach;

use crate::reader::Reader;
use crate::writer::Writer;

/// Writes items, and leaves after the last.
///
/// ```text
///   .--------.
///   | source |----> to
///   '--------'
/// ```
///
/// Holds the iterator, and the item that it offers.
///
/// # Collapse
/// While it writes, if the reader has gone.
///
/// ```
/// use fibra_core::chips::{sink, source};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let mut text = String::new();
/// fibra_core::run(&pool, |p| {
///     let (w, r) = p.channel().unwrap();
///     p.spawn(source("fibre".chars().rev(), w)).unwrap();
///     p.spawn(sink(|letter| text.push(letter), r)).unwrap();
/// })?;
/// assert_eq!(text, "erbif");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn source<T>(items: impl IntoIterator<Item = T>, mut to: Writer<'_, T, impl Reach>) -> impl Future<Output = ()> {
    async move {
        for item in items {
            to.write(item).await;
        }
    }
}

/// Gives each value to a function, for ever.
///
/// ```text
///            .------.
///   from --->| sink |
///            '------'
/// ```
///
/// # Collapse
/// While it reads, if the writers have gone. It never leaves by itself.
///
/// For an example see [`source`].
pub fn sink<T>(mut give: impl FnMut(T), mut from: Reader<'_, T, impl Reach>) -> impl Future<Output = ()> {
    async move {
        loop {
            give(from.read().await);
        }
    }
}

/// Applies a function to each value, for ever.
///
/// ```text
///            .------------.
///   from --->| transducer |---> to
///            '------------'
/// ```
///
/// Holds one result: the one that it offers.
///
/// # Collapse
/// While it reads, if the writers have gone; while it writes, if the readers have. It never leaves by itself.
///
/// ```
/// use fibra_core::chips::{sink, source, transducer};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let mut sum = 0;
/// let (_, outcome) = fibra_core::run(&pool, |p| {
///     let (w1, r1) = p.channel().unwrap();
///     let (w2, r2) = p.channel().unwrap();
///     p.spawn(source(1..=4, w1)).unwrap();
///     p.spawn(transducer(|n: u32| n * n, r1, w2)).unwrap();
///     p.spawn(sink(|n| sum += n, r2)).unwrap();
/// })?;
/// assert_eq!(sum, 1 + 4 + 9 + 16);
/// assert_eq!((outcome.finished, outcome.collapsed), (1, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn transducer<T, U>(
    mut apply: impl FnMut(T) -> U,
    mut from: Reader<'_, T, impl Reach>,
    mut to: Writer<'_, U, impl Reach>,
) -> impl Future<Output = ()> {
    async move {
        loop {
            to.write(apply(from.read().await)).await;
        }
    }
}

/// Passes on the values that a function picks, and drops the others, for ever.
///
/// ```text
///            .--------.
///   from --->| filter |---> to
///            '--------'
/// ```
///
/// Holds one value: the one that it offers.
///
/// # Collapse
/// As [`transducer`]. If its reader has gone, it drops values until there is one to pass on.
///
/// ```
/// use fibra_core::chips::{filter, sink, source};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let mut even = Vec::new();
/// fibra_core::run(&pool, |p| {
///     p.pipe(|to| source(1..=6, to)).unwrap()
///         .then(|from, to| filter(|n| n % 2 == 0, from, to)).unwrap()
///         .end(|from| sink(|n| even.push(n), from)).unwrap();
/// })?;
/// assert_eq!(even, [2, 4, 6]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn filter<T>(
    mut pick: impl FnMut(&T) -> bool,
    mut from: Reader<'_, T, impl Reach>,
    mut to: Writer<'_, T, impl Reach>,
) -> impl Future<Output = ()> {
    async move {
        loop {
            let value = from.read().await;
            if pick(&value) {
                to.write(value).await;
            }
        }
    }
}

/// Writes items of its own first, and then passes on what it reads, for ever: so a loop of chips starts.
///
/// ```text
///            .--------.
///   from --->| prefix |---> to
///            '--------'
/// ```
///
/// Holds the iterator, until it is through, and one value: the one that it offers.
///
/// # Collapse
/// As [`transducer`].
///
/// For an example see [the module](self).
pub fn prefix<T>(
    first: impl IntoIterator<Item = T>,
    mut from: Reader<'_, T, impl Reach>,
    mut to: Writer<'_, T, impl Reach>,
) -> impl Future<Output = ()> {
    async move {
        for item in first {
            to.write(item).await;
        }
        loop {
            to.write(from.read().await).await;
        }
    }
}

/// Passes on `n` values and leaves: so the network around it dissolves.
///
/// ```text
///            .-------.
///   from --->| bound |---> to
///            '-------'
/// ```
///
/// Holds one value: the one that it offers. It never reads a value that it will not pass on; with an `n` of 0 it leaves at
/// once.
///
/// # Collapse
/// As [`transducer`], before the last value has gone.
///
/// ```
/// use fibra_core::chips::{bound, sink, source};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let mut sum = 0;
/// let (_, outcome) = fibra_core::run(&pool, |p| {
///     p.pipe(|to| source(1.., to)).unwrap()
///         .then(|from, to| bound(4, from, to)).unwrap()
///         .end(|from| sink(|n: u32| sum += n, from)).unwrap();
/// })?;
/// assert_eq!(sum, 1 + 2 + 3 + 4);
/// assert_eq!((outcome.finished, outcome.collapsed), (1, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn bound<T>(
    n: usize,
    mut from: Reader<'_, T, impl Reach>,
    mut to: Writer<'_, T, impl Reach>,
) -> impl Future<Output = ()> {
    async move {
        for _ in 0..n {
            to.write(from.read().await).await;
        }
    }
}

/// Passes on one value for each tick, for ever. A tick is a value of any type.
///
/// ```text
///            .------.
///   from --->| pace |---> to
///            '------'
///                ^
///                |
///              ticks
/// ```
///
/// Takes the tick first: it holds no value while it waits for one. A tick that comes before its value is not lost, but
/// counts for the next value, whenever that comes.
///
/// Holds one value: the one that it offers.
///
/// # Collapse
/// While it reads, if the writers have gone, of ticks or of values; while it writes, if the readers have gone. It never
/// leaves by itself.
///
/// ```
/// use fibra_core::chips::{pace, sink, source};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let mut paced = Vec::new();
/// fibra_core::run(&pool, |p| {
///     let (mut tick, ticks) = p.channel().unwrap();
///     p.pipe(|to| source(1.., to)).unwrap()
///         .then(|from, to| pace(ticks, from, to)).unwrap()
///         .end(|from| sink(|n: u8| paced.push(n), from)).unwrap();
///     p.spawn(async move {
///         for _ in 0..3 {
///             tick.write(()).await; // with a clock: after each second
///         }
///     })
///     .unwrap();
/// })?;
/// assert_eq!(paced, [1, 2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pace<T, U>(
    mut ticks: Reader<'_, U, impl Reach>,
    mut from: Reader<'_, T, impl Reach>,
    mut to: Writer<'_, T, impl Reach>,
) -> impl Future<Output = ()> {
    async move {
        loop {
            drop(ticks.read().await);
            to.write(from.read().await).await;
        }
    }
}
