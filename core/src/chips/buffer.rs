//! The chip that holds values on their way.

use core::future::poll_fn;
use core::task::Poll;

use crate::reach::Reach;

use crate::reader::Reader;
use crate::writer::Writer;

/// A ring of values.
struct Ring<T, const N: usize> {
    slots: [Option<T>; N],
    first: usize,
    len: usize,
}

impl<T, const N: usize> Ring<T, N> {
    /// Adds a value at the end. There must be room.
    fn push(&mut self, value: T) {
        self.slots[(self.first + self.len) % N] = Some(value);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<T> {
        let value = self.slots[self.first].take()?;
        self.first = (self.first + 1) % N;
        self.len -= 1;
        Some(value)
    }
}

/// Holds up to `N` values on their way: a channel with a buffer is two channels with this fibre between them.
///
/// ```text
///            .-------------.
///   from --->| buffer of N |---> to
///            '-------------'
/// ```
///
/// It accepts while it has room, and offers while it has something, both at once, and keeps the order. When the writers
/// have gone, it delivers what it holds, and leaves. `N` writes complete before anything is read, and not one more: the
/// value that it offers counts.
///
/// A buffer of none is what a channel is by itself, so an `N` of 0 does not compile:
/// ```compile_fail
/// # use fibra_core::{MemReq, SizeClasses, table, chips::buffer};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory).unwrap();
/// fibra_core::run(&pool, |p| {
///     let ((_, r), (w, _)) = (p.channel::<u8>().unwrap(), p.channel().unwrap());
///     p.spawn(buffer::<0, _>(r, w)).unwrap();
/// });
/// ```
///
/// # Collapse
/// If the readers have gone, it accepts until it is full, and is then destroyed with what it holds; at once, if the
/// writers have gone too.
///
/// ```
/// use fibra_core::chips::buffer;
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 512, n_blocks: 16 }]), &mut memory)?;
/// fibra_core::run(&pool, |p| {
///     let (mut w, from) = p.channel().unwrap();
///     let (to, mut r) = p.channel().unwrap();
///     let (mut done, mut all_written) = p.channel().unwrap();
///     p.spawn(buffer::<3, _>(from, to)).unwrap();
///     p.spawn(async move {
///         for n in 1..=3 {
///             w.write(n).await;
///         }
///         done.write(()).await;
///     })
///     .unwrap();
///     p.spawn(async move {
///         all_written.read().await; // and nothing has been read yet
///         assert_eq!([r.read().await, r.read().await, r.read().await], [1, 2, 3]);
///     })
///     .unwrap();
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn buffer<const N: usize, T>(
    mut from: Reader<'_, T, impl Reach>,
    mut to: Writer<'_, T, impl Reach>,
) -> impl Future<Output = ()> {
    async move {
        const { assert!(N > 0, "a buffer of none is a channel by itself: leave it out") };
        let mut ring = Ring { slots: [const { None }; N], first: 0, len: 0 };
        let mut has_ended = false;
        poll_fn(|cx| {
            loop {
                let is_offering = loop {
                    if to.poll_write(cx).is_pending() {
                        break true;
                    }
                    let Some(value) = ring.pop() else { break false };
                    to.begin_write(value);
                };
                while !has_ended && ring.len + usize::from(is_offering) < N {
                    match from.poll_read_or_end(cx) {
                        Poll::Ready(Some(value)) => ring.push(value),
                        Poll::Ready(None) => has_ended = true,
                        Poll::Pending => break,
                    }
                }
                if is_offering {
                    return Poll::Pending;
                }
                if ring.len == 0 {
                    return if has_ended { Poll::Ready(()) } else { Poll::Pending };
                }
            }
        })
        .await;
    }
}
