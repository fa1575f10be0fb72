//! The chip whose inputs take turns.

use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::Poll;

use crate::reach::Reach;

use crate::reader::Reader;
use crate::writer::Writer;

/// Passes on the values of all inputs, which take turns: nobody comes twice while another one waits.
///
/// ```text
///   from[0] ---.
///              | .-------.
///   from[1] ---+>| merge |---> to
///              | '-------'
///   ...     ---'
/// ```
///
/// Leaves when all inputs have ended and their values have gone; without inputs, at once.
///
/// Holds one value: the one that it offers. Besides, while it waits for all inputs, one write of each may complete before
/// it runs: those values stay with its readers until it is their turn. While it offers, it accepts nothing.
///
/// # Collapse
/// While it writes, if the readers have gone. The values that were still with its readers are dropped.
///
/// ```
/// use fibra_core::chips::{merge, sink, source};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 512, n_blocks: 16 }]), &mut memory)?;
/// let mut text = String::new();
/// let (_, outcome) = fibra_core::run(&pool, |p| {
///     let (w1, small) = p.channel().unwrap();
///     let (w2, large) = p.channel().unwrap();
///     let (to, merged) = p.channel().unwrap();
///     p.spawn(source('a'..='c', w1)).unwrap();
///     p.spawn(source('A'..='F', w2)).unwrap();
///     p.spawn(merge([small, large], to)).unwrap();
///     p.spawn(sink(|letter| text.push(letter), merged)).unwrap();
/// })?;
/// assert_eq!(text, "aAbBcCDEF");
/// assert_eq!((outcome.finished, outcome.collapsed), (3, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn merge<const N: usize, T>(
    mut from: [Reader<'_, T, impl Reach>; N],
    mut to: Writer<'_, T, impl Reach>,
) -> impl Future<Output = ()> {
    async move {
        let mut turn = 0;
        loop {
            let next = {
                // Dropped before the write, so that no wait for an input keeps the fibre when its reader has gone.
                let mut reads = from.each_mut().map(Reader::read_or_end);
                poll_fn(|cx| {
                    let mut ended = 0;
                    for nth in (turn..N).chain(0..turn) {
                        match Pin::new(&mut reads[nth]).poll(cx) {
                            Poll::Ready(Some(value)) => {
                                turn = (nth + 1) % N;
                                return Poll::Ready(Some(value));
                            }
                            Poll::Ready(None) => ended += 1,
                            Poll::Pending => {}
                        }
                    }
                    if ended == N { Poll::Ready(None) } else { Poll::Pending }
                })
                .await
            };
            let Some(value) = next else { return };
            to.write(value).await;
        }
    }
}
