//! A call must not outlive the frame: dropping it destroys the routine.

use core::mem::MaybeUninit;
use core::task::{Context, Poll};
use fibra_core::{Continuation, Frame, MemReq, Next, SizeClasses, table};

struct Waits;
impl Continuation for Waits {
    type Step = ();
    type Return = ();
    const START: () = ();
    fn resume(&mut self, _: (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        Poll::Pending
    }
}

fn main() {
    let mut memory = [MaybeUninit::uninit(); 1024];
    let sizes = table([MemReq { block_size: 256, n_blocks: 2 }]);
    let pool = SizeClasses::new(&sizes, &mut memory).unwrap();
    let _call;
    let mut frame = Frame::new_in(Waits, &pool).unwrap();
    _call = frame.call();
}
