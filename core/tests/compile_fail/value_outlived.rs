//! A value that is borrowed must live as long as the channel is used.

use core::mem::MaybeUninit;
use fibra_core::{MemReq, SizeClasses, table};

fn main() {
    let mut memory = [MaybeUninit::uninit(); 16 * 1024];
    let sizes = table([MemReq { block_size: 256, n_blocks: 16 }]);
    let pool = SizeClasses::new(&sizes, &mut memory).unwrap();
    let _ = fibra_core::run(&pool, |p| {
        let (mut w, mut r) = p.channel::<&str>().unwrap();
        {
            let text = String::from("short");
            core::mem::forget(w.write(&text));
        }
        println!("{:?}", r.try_read());
    });
}
