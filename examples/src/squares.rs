//! A list, squared: a producer, a squaring stage and a consumer. The runtime that fibra re-creates came with this
//! program.

use core::ops::ControlFlow;

use fibra_allocators::{AllocError, AllocRef, MemReq, Table, table};
use fibra_core::{Process, Reader, Writer};

/// What the program needs, with some to spare: two channels and three fibres.
pub const SIZES: Table<3> = table([MemReq::new(64, 4), MemReq::new(128, 4), MemReq::new(256, 4)]);

/// Writes the whole list, then ends.
async fn produce<T>(list: impl IntoIterator<Item = T>, mut to: Writer<'_, T>) {
    for value in list {
        to.write(value).await;
    }
}

/// Squares what it reads. It has no end of its own: it goes when nobody writes or nobody reads any more.
async fn square(mut from: Reader<'_, u32>, mut to: Writer<'_, u64>) {
    loop {
        let n = u64::from(from.read().await);
        to.write(n * n).await;
    }
}

/// Shows each value, until it is told to stop.
async fn consume<T>(mut from: Reader<'_, T>, mut show: impl FnMut(T) -> ControlFlow<()>) {
    while show(from.read().await).is_continue() {}
}

/// Spawns the three fibres.
///
/// # Errors
/// [`AllocError`] if the process's allocator has less than [`SIZES`].
pub fn spawn<'p, A: AllocRef>(
    p: &'p Process<'p, '_, A>,
    list: impl IntoIterator<Item = u32> + 'p,
    show: impl FnMut(u64) -> ControlFlow<()> + 'p,
) -> Result<(), AllocError> {
    let (numbers, to_square) = p.channel()?;
    let (squares, to_show) = p.channel()?;
    p.spawn(produce(list, numbers)).map_err(|_| AllocError)?;
    p.spawn(square(to_square, squares)).map_err(|_| AllocError)?;
    p.spawn(consume(to_show, show)).map_err(|_| AllocError)
}
