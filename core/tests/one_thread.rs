//! What belongs to a process of one thread stays on it, even where all that it is made of could go to another.

use std::task::{Context, Poll};

use fibra_allocators::{Borrowed, SpinLock};
use fibra_core::{Call, Continuation, Coroutine, Curried, Frame, Next, Pipe, Reader, SizeClasses, Writer};
use static_assertions::{assert_impl_all, assert_not_impl_any};

struct Nothing;

impl Continuation for Nothing {
    type Step = ();
    type Return = ();
    const START: () = ();

    fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        Next::finish(())
    }
}

type Pool = &'static SizeClasses<1, Borrowed<'static>, SpinLock>;

assert_impl_all!(Nothing: Send, Sync);
assert_impl_all!(Pool: Send, Sync);
assert_not_impl_any!(Frame<Nothing, Pool>: Send, Sync);
assert_not_impl_any!(Curried<Nothing, Pool>: Send, Sync);
assert_not_impl_any!(Call<'static, Nothing, Pool, false>: Send, Sync);
assert_not_impl_any!(Coroutine<Nothing>: Send, Sync);
assert_not_impl_any!(Next<'static, Nothing>: Send, Sync);
assert_not_impl_any!(Pipe<'static, 'static, Pool, u8>: Send, Sync);
assert_not_impl_any!(Reader<'static, u8>: Send, Sync);
assert_not_impl_any!(Writer<'static, u8>: Send, Sync);

/// A pinned callee may borrow from its caller, so a coroutine stays where it is; a frame's handle may move.
#[test]
fn only_coroutines_are_pinned() {
    assert_not_impl_any!(Coroutine<Nothing>: Unpin);
    assert_impl_all!(Frame<Nothing, Pool>: Unpin);
    let routine = fibra_core::coroutine(Nothing);
    futures::executor::block_on(routine);
}
