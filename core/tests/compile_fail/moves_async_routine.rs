//! An `async` routine is pinned in its frame: nobody gets a mutable reference to it.

use core::mem::MaybeUninit;
use fibra_core::{MemReq, SizeClasses, table};

fn main() {
    let mut memory = [MaybeUninit::uninit(); 16 * 1024];
    let sizes = table([MemReq { block_size: 256, n_blocks: 16 }]);
    let pool = SizeClasses::new(&sizes, &mut memory).unwrap();
    let _ = fibra_core::run(&pool, |p| {
        let mut one = p.frame_async(core::future::pending::<()>()).unwrap().curried();
        let mut other = p.frame_async(core::future::pending::<()>()).unwrap().curried();
        core::mem::swap(&mut *one, &mut *other);
    });
}
