//! The chip that copies.

use core::future::poll_fn;
use core::task::Poll;

use crate::reach::Reach;

use crate::reader::Reader;
use crate::writer::Writer;

/// Copies each value to all outputs, at once, and goes on when all have it. For ever.
///
/// ```text
///                      .---> to[0]
///            .-------. |
///   from --->| delta |-+---> to[1]
///            '-------' |
///                      '---> ...
/// ```
///
/// The outputs may be read in any order. The last one gets the value itself, the others get clones. Without outputs it
/// drops what it reads.
///
/// Holds one copy of one value for each output.
///
/// # Collapse
/// While it reads, if the writers have gone; while it writes, if the readers of an output have gone and all other outputs
/// have their copy: so one reader that leaves dissolves the whole, after one value more for the others.
///
/// ```
/// use fibra_core::chips::{delta, sink, source};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let (mut sum, mut product) = (0, 1);
/// fibra_core::run(&pool, |p| {
///     let (to, numbers) = p.channel().unwrap();
///     let (to_sum, one) = p.channel().unwrap();
///     let (to_product, other) = p.channel().unwrap();
///     p.spawn(source(1..=5, to)).unwrap();
///     p.spawn(delta(numbers, [to_sum, to_product])).unwrap();
///     p.spawn(sink(|n| sum += n, one)).unwrap();
///     p.spawn(sink(|n| product *= n, other)).unwrap();
/// })?;
/// assert_eq!((sum, product), (15, 120));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn delta<const N: usize, T: Clone>(
    mut from: Reader<'_, T, impl Reach>,
    mut to: [Writer<'_, T, impl Reach>; N],
) -> impl Future<Output = ()> {
    async move {
        loop {
            let value = from.read().await;
            let Some((last, others)) = to.split_last_mut() else { continue };
            for to in others {
                to.begin_write(value.clone());
            }
            last.begin_write(value);
            poll_fn(|cx| {
                let mut all = Poll::Ready(());
                for to in &mut to {
                    if to.poll_write(cx).is_pending() {
                        all = Poll::Pending;
                    }
                }
                all
            })
            .await;
        }
    }
}
