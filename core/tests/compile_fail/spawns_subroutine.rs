//! What returns a value has to have a caller.

use core::task::{Context, Poll};
use fibra_core::{Continuation, Next, coroutine};

struct Answer;
impl Continuation for Answer {
    type Step = ();
    type Return = u8;
    const START: () = ();
    fn resume(&mut self, _: (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        Next::finish(42)
    }
}

fn main() {
    let _ = coroutine(Answer);
}
