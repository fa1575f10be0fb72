//! A channel of short-lived values is no channel of long-lived ones.

use core::mem::MaybeUninit;
use fibra_core::{MemReq, SizeClasses, table};

fn main() {
    let mut memory = [MaybeUninit::uninit(); 16 * 1024];
    let sizes = table([MemReq { block_size: 256, n_blocks: 16 }]);
    let pool = SizeClasses::new(&sizes, &mut memory).unwrap();
    let _ = fibra_core::run(&pool, |p| {
        let (mut w, r) = p.channel().unwrap();
        let mut long: fibra_core::Reader<'_, &'static str> = r;
        let text = String::from("short");
        let _ = w.try_write(&text);
        drop(text);
        println!("{:?}", long.try_read());
    });
}
