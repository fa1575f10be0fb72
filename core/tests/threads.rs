//! What stays on its thread, and what may cross: decided by the compiler. (What is not `Send` cannot be moved into a thread,
//! scoped or not, nor be kept in a static.)

use std::future::Ready;

use fibra_core::{
    Endpoint, Failure, FibreOptions, Hub, Outcome, Process, Read, ReadOrEnd, Reader, Report, Reservation, Sequential,
    Setup, SizeClasses, SpawnNext, StopHandle, Wait, WakeCell, Write, Writer,
};

type Pool = &'static SizeClasses<1, fibra_allocators::Borrowed<'static>>;

/// Does not compile if the type has the trait, because then two implementations fit.
macro_rules! lacks {
    ($($type:ty: $trait:ident),* $(,)?) => {$(
        const _: fn() = || {
            trait Ambiguous<A> {
                fn item() {}
            }
            impl<T: ?Sized> Ambiguous<()> for T {}
            struct Has;
            impl<T: ?Sized + $trait> Ambiguous<Has> for T {}
            let _ = <$type as Ambiguous<_>>::item;
        };
    )*};
}

macro_rules! has {
    ($($type:ty: $trait:path),* $(,)?) => {$(
        const _: fn() = || {
            fn has<T: ?Sized + $trait>() {}
            has::<$type>();
        };
    )*};
}

lacks! {
    Writer<'static, u8>: Send,
    Writer<'static, u8>: Sync,
    Reader<'static, u8>: Send,
    Reader<'static, u8>: Sync,
    Endpoint<'static, u8>: Send,
    Endpoint<'static, u8>: Sync,
    Read<'static, 'static, u8>: Send,
    ReadOrEnd<'static, 'static, u8>: Send,
    Write<'static, 'static, u8>: Send,
    Write<'static, 'static, u8, Sequential>: Sync,
    Process<'static, 'static, Pool>: Send,
    Process<'static, 'static, Pool>: Sync,
    &'static Process<'static, 'static, Pool>: Send,
    FibreOptions<'static, 'static, Pool>: Send,
    SpawnNext<'static, 'static, Ready<()>, Pool>: Send,
    Reservation<'static, 'static, Ready<()>, Pool>: Send,
    Reservation<'static, 'static, Ready<()>, Pool>: Sync,
    Setup<'static, Pool>: Send,
    Writer<'static, u8>: Clone,
    Reader<'static, u8>: Clone,
    Endpoint<'static, u8>: Clone,
}

has! {
    StopHandle: Send,
    StopHandle: Sync,
    Hub<4>: Sync,
    WakeCell: Sync,
    Outcome: Send,
    Report: Send,
    Wait: Send,
    Failure<u8>: Send,
    Failure<u8>: std::error::Error,
    // Operations are moved about while they are pending, by combinators that want it.
    Read<'static, 'static, std::marker::PhantomPinned>: Unpin,
    Write<'static, 'static, std::marker::PhantomPinned>: Unpin,
    SpawnNext<'static, 'static, std::marker::PhantomPinned, Pool>: Unpin,
}

/// The rest was decided when this was compiled.
#[test]
fn a_stop_handle_crosses_threads() {
    static IDLE: Parked = Parked;
    static HUB: Hub<1> = Hub::new(&IDLE);
    struct Parked;
    impl fibra_core::Idle for Parked {
        fn wait(&self) {
            std::thread::yield_now();
        }
        fn wake(&self) {}
    }
    let mut memory = [std::mem::MaybeUninit::uninit(); 4096];
    let rows = [fibra_core::MemReq { block_size: 128, n_blocks: 8 }];
    let pool = SizeClasses::new(&fibra_core::table(rows), &mut memory).unwrap();
    let (_, outcome) = Setup::new(&pool)
        .hub(&HUB)
        .run(|p| {
            let handle = p.stop_handle().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(move || handle.stop());
            });
            p.spawn(async {
                loop {
                    fibra_core::yield_now().await;
                }
            })
            .unwrap();
        })
        .unwrap();
    assert_eq!(outcome.stopped, 1);
}
