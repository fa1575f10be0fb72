//! What belongs to an inner process must not be kept in the outer one.

use core::mem::MaybeUninit;
use fibra_core::{MemReq, SizeClasses, table};

fn main() {
    let mut memory = [MaybeUninit::uninit(); 16 * 1024];
    let sizes = table([MemReq { block_size: 256, n_blocks: 16 }]);
    let pool = SizeClasses::new(&sizes, &mut memory).unwrap();
    let _ = fibra_core::run(&pool, |p| {
        p.spawn(async {
            let kept = std::cell::RefCell::new(None);
            let _ = fibra_core::run(&pool, |q| {
                let kept = &kept;
                let (w, _r) = q.channel::<u8>().unwrap();
                q.spawn(async move { *kept.borrow_mut() = Some(w) }).unwrap();
            });
            drop(kept);
        })
        .unwrap();
    });
}
