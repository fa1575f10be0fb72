//! A two-way endpoint has one operation at a time.

use core::mem::MaybeUninit;
use fibra_core::{MemReq, SizeClasses, table};

fn main() {
    let mut memory = [MaybeUninit::uninit(); 16 * 1024];
    let sizes = table([MemReq { block_size: 256, n_blocks: 16 }]);
    let pool = SizeClasses::new(&sizes, &mut memory).unwrap();
    let _ = fibra_core::run(&pool, |p| {
        let (mut a, _b) = p.two_way::<u8>().unwrap();
        let read = a.read();
        let write = a.write(1);
        drop((read, write));
    });
}
