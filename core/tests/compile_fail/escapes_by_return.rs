//! An end must not leave `run` as the value of its closure.

use core::mem::MaybeUninit;
use fibra_core::{MemReq, SizeClasses, table};

fn main() {
    let mut memory = [MaybeUninit::uninit(); 16 * 1024];
    let sizes = table([MemReq { block_size: 256, n_blocks: 16 }]);
    let pool = SizeClasses::new(&sizes, &mut memory).unwrap();
    let escaped = fibra_core::run(&pool, |p| p.channel::<u8>().unwrap());
    drop(escaped);
}
