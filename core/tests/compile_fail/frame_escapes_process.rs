//! A frame's block is the process's: it must not outlive it.

use core::mem::MaybeUninit;
use core::task::{Context, Poll};
use fibra_core::{Continuation, MemReq, Next, SizeClasses, table};

struct Callee;
impl Continuation for Callee {
    type Step = ();
    type Return = ();
    const START: () = ();
    fn resume(&mut self, _: (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        Next::finish(())
    }
}

fn main() {
    let mut memory = [MaybeUninit::uninit(); 16 * 1024];
    let sizes = table([MemReq { block_size: 256, n_blocks: 16 }]);
    let pool = SizeClasses::new(&sizes, &mut memory).unwrap();
    let _frame = fibra_core::run(&pool, |p| p.frame(Callee).unwrap());
}
