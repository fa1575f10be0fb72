//! A list, squared: a producer, a squaring stage and a consumer. The runtime that fibra re-creates came with this
//! program.

use core::future::Future;
use core::ops::ControlFlow;

use fibra_allocators::{AllocError, AllocRef, MemReq, Table, table};
use fibra_core::{Process, Reach, Reader, Runs, Writer};

/// What the program needs, with some to spare: two channels and three fibres.
pub const SIZES: Table<3> = table([MemReq::new(64, 4), MemReq::new(128, 4), MemReq::new(256, 4)]);

/// Writes the whole list, then ends.
pub async fn produce<T, R: Reach>(list: impl IntoIterator<Item = T>, mut to: Writer<'_, T, R>) {
    for value in list {
        to.write(value).await;
    }
}

/// Squares what it reads. It has no end of its own: it goes when nobody writes or nobody reads any more.
pub async fn square<R: Reach>(mut from: Reader<'_, u32, R>, mut to: Writer<'_, u64, R>) {
    loop {
        let n = u64::from(from.read().await);
        to.write(n * n).await;
    }
}

/// Shows each value, until it is told to stop.
pub async fn consume<T, R: Reach>(mut from: Reader<'_, T, R>, mut show: impl FnMut(T) -> ControlFlow<()>) {
    while show(from.read().await).is_continue() {}
}

/// Spawns the three fibres in a process of one thread.
///
/// # Errors
/// [`AllocError`] if the process's allocator has less than [`SIZES`].
pub fn spawn<'p, A: AllocRef>(
    p: &'p Process<'p, '_, A>,
    list: impl IntoIterator<Item = u32> + 'p,
    show: impl FnMut(u64) -> ControlFlow<()> + 'p,
) -> Result<(), AllocError> {
    wire(p, |to| produce(list, to), square, |from| consume(from, show))
}

/// Spawns the three fibres in a process with any number of threads. Its caller, who knows how many, makes them of
/// [`produce`], [`square`] and [`consume`]: with several, the compiler checks there that they are [`Send`].
///
/// # Errors
/// As [`spawn`].
pub fn wire<'p, A: AllocRef, R, P, S, C>(
    p: &'p Process<'p, '_, A, R>,
    produce: impl FnOnce(Writer<'p, u32, R>) -> P,
    square: impl FnOnce(Reader<'p, u32, R>, Writer<'p, u64, R>) -> S,
    consume: impl FnOnce(Reader<'p, u64, R>) -> C,
) -> Result<(), AllocError>
where
    P: Future<Output = ()> + 'p,
    S: Future<Output = ()> + 'p,
    C: Future<Output = ()> + 'p,
    R: Reach + Runs<P> + Runs<S> + Runs<C>,
{
    let (numbers, to_square) = p.channel()?;
    let (squares, to_show) = p.channel()?;
    p.spawn(produce(numbers)).map_err(|_| AllocError)?;
    p.spawn(square(to_square, squares)).map_err(|_| AllocError)?;
    p.spawn(consume(to_show)).map_err(|_| AllocError)
}
