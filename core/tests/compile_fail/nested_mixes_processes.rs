//! An inner end must not be moved into a fibre of the outer process.

use core::mem::MaybeUninit;
use fibra_core::{MemReq, SizeClasses, table};

fn main() {
    let mut memory = [MaybeUninit::uninit(); 16 * 1024];
    let sizes = table([MemReq { block_size: 256, n_blocks: 16 }]);
    let pool = SizeClasses::new(&sizes, &mut memory).unwrap();
    let _ = fibra_core::run(&pool, |p| {
        let _ = fibra_core::run(&pool, |q| {
            let (mut w, _r) = q.channel::<u8>().unwrap();
            p.spawn(async move { w.write(1).await }).unwrap();
        });
    });
}
