//! A ring of fibres, each of which waits for the one before it: nobody ever begins.

use fibra_allocators::{AllocError, AllocRef};
use fibra_core::{Process, Reader, Writer};

/// Waits for a turn, and only then gives one to the next.
async fn pass_on(mut from: Reader<'_, ()>, mut to: Writer<'_, ()>) {
    loop {
        from.read().await;
        to.write(()).await;
    }
}

/// Spawns `count` fibres in a ring. `fibre` and `channel` name them: fibre `i` reads from channel `i` and writes to
/// channel `i + 1`, the last one to channel 0.
///
/// # Errors
/// [`AllocError`] if the process's allocator has no room for so many.
pub fn spawn<'p, A: AllocRef>(
    p: &'p Process<'p, '_, A>,
    count: u32,
    fibre: impl Fn(u32) -> &'static str,
    channel: impl Fn(u32) -> &'static str,
) -> Result<(), AllocError> {
    let (to_first, mut from) = p.channel_named(channel(0))?;
    for i in 0..count - 1 {
        let (to, next) = p.channel_named(channel(i + 1))?;
        p.fibre().name(fibre(i)).spawn(pass_on(from, to)).map_err(|_| AllocError)?;
        from = next;
    }
    p.fibre().name(fibre(count - 1)).spawn(pass_on(from, to_first)).map_err(|_| AllocError)
}
