//! The chip that joins values.

use core::future::poll_fn;
use core::task::Poll;

use crate::reach::Reach;

use crate::reader::Reader;
use crate::writer::Writer;

/// Reads a value of each input, and writes what a function makes of the two.
///
/// ```text
///   left ----. .-----.
///            +>| zip |---> to
///   right ---' '-----'
/// ```
///
/// It waits for both at once, so they may come in either order. It leaves as soon as one input has ended; a value of the
/// other that has no partner is dropped. For pairs, the function is `|a, b| (a, b)`.
///
/// Holds one value of each input, or the one that it offers.
///
/// # Collapse
/// While it writes, if the readers have gone.
///
/// ```
/// use fibra_core::chips::{sink, source, zip};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let mut pairs = Vec::new();
/// let (_, outcome) = fibra_core::run(&pool, |p| {
///     let (w1, numbers) = p.channel().unwrap();
///     let (w2, names) = p.channel().unwrap();
///     let (to, zipped) = p.channel().unwrap();
///     p.spawn(source(1.., w1)).unwrap();
///     p.spawn(source(["one", "two"], w2)).unwrap();
///     p.spawn(zip(|n: u8, name| (n, name), numbers, names, to)).unwrap();
///     p.spawn(sink(|pair| pairs.push(pair), zipped)).unwrap();
/// })?;
/// assert_eq!(pairs, [(1, "one"), (2, "two")]);
/// assert_eq!((outcome.finished, outcome.collapsed), (2, 2)); // the names and `zip` left
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn zip<T, U, V>(
    mut join: impl FnMut(T, U) -> V,
    mut left: Reader<'_, T, impl Reach>,
    mut right: Reader<'_, U, impl Reach>,
    mut to: Writer<'_, V, impl Reach>,
) -> impl Future<Output = ()> {
    async move {
        loop {
            let (mut one, mut other) = (None, None);
            let both = poll_fn(|cx| {
                if has_ended(&mut one, || left.poll_read_or_end(cx))
                    || has_ended(&mut other, || right.poll_read_or_end(cx))
                {
                    return Poll::Ready(None);
                }
                if one.is_none() || other.is_none() {
                    return Poll::Pending;
                }
                Poll::Ready(one.take().zip(other.take()))
            })
            .await;
            let Some((one, other)) = both else { return };
            to.write(join(one, other)).await;
        }
    }
}

/// Reads a value, unless it is there already. Says whether none can come any more.
fn has_ended<T>(value: &mut Option<T>, poll: impl FnOnce() -> Poll<Option<T>>) -> bool {
    if value.is_none() {
        match poll() {
            Poll::Ready(None) => return true,
            Poll::Ready(read) => *value = read,
            Poll::Pending => {}
        }
    }
    false
}
