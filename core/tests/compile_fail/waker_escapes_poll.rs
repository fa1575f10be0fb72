//! The reference to a process's waker is of one poll only.

use core::mem::MaybeUninit;
use fibra_core::{MemReq, SizeClasses, table};

fn main() {
    let mut memory = [MaybeUninit::uninit(); 16 * 1024];
    let sizes = table([MemReq { block_size: 256, n_blocks: 16 }]);
    let pool = SizeClasses::new(&sizes, &mut memory).unwrap();
    let mut kept: Option<&core::task::Waker> = None;
    let _ = fibra_core::run(&pool, |p| {
        let kept = &mut kept;
        p.spawn(core::future::poll_fn(move |cx| {
            *kept = Some(cx.waker());
            core::task::Poll::Ready(())
        }))
        .unwrap();
    });
    kept.unwrap().wake_by_ref();
}
