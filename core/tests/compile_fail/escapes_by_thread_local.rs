//! An end must not leave `run` through a thread-local.

use core::mem::MaybeUninit;
use fibra_core::{MemReq, SizeClasses, table};

fn main() {
    let memory = Box::leak(Box::new([MaybeUninit::uninit(); 16 * 1024]));
    let sizes = table([MemReq { block_size: 256, n_blocks: 16 }]);
    let pool: &'static _ = Box::leak(Box::new(SizeClasses::new(&sizes, memory).unwrap()));
    thread_local! {
        static ESCAPED: std::cell::RefCell<Option<fibra_core::Reader<'static, u8>>> =
            const { std::cell::RefCell::new(None) };
    }
    let _ = fibra_core::run(pool, |p| {
        let (_w, r) = p.channel::<u8>().unwrap();
        ESCAPED.with(|escaped| *escaped.borrow_mut() = Some(r));
    });
}
