//! An end must not leave `run` through a fibre that stores it outside.

use core::mem::MaybeUninit;
use fibra_core::{MemReq, SizeClasses, table};

fn main() {
    let mut memory = [MaybeUninit::uninit(); 16 * 1024];
    let sizes = table([MemReq { block_size: 256, n_blocks: 16 }]);
    let pool = SizeClasses::new(&sizes, &mut memory).unwrap();
    let escaped = std::cell::RefCell::new(None);
    let _ = fibra_core::run(&pool, |p| {
        let (w, _r) = p.channel::<u8>().unwrap();
        let escaped = &escaped;
        p.spawn(async move { *escaped.borrow_mut() = Some(w) }).unwrap();
    });
}
