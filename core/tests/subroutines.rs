//! Subroutines: calls, what they return, frames that are kept, and when their blocks go back where they came from.

mod common;

use std::cell::Cell;
use std::fmt::Debug;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use common::routines::{InMemory, InProcess, Routine, assert_waits, poll, routine};
use common::{Checking, OnDrop, P, Tally, Token, Trace, assert_outcome, panic_of, rounds, run, with_pool};
use fibra_core::{AllocError, AllocRef, Continuation, Frame, Next, Reader, coroutine, frame_layout};

/// Has a routine return a value, three times from the same frame, waiting the second time.
fn returns<T: PartialEq + Debug>(make: fn(u64) -> T) {
    let checking = Checking::new();
    let callee: Routine<_, T> = routine((0, make), |(n, make), step, _| {
        if step == 0 {
            *n += 1;
            if *n == 2 {
                return Next::give_way(1);
            }
        }
        Next::finish(make(*n))
    });
    let frame = Frame::new_in(callee, &checking).unwrap().curried();
    assert_eq!(checking.live(), 1);
    let got = Trace::new();
    let mut caller = Box::pin(coroutine(routine((frame, &got), |(frame, got), step, _| {
        if step > 0 {
            got.push(frame.result().unwrap());
            assert!(frame.result().is_none(), "it was taken");
        }
        if step == 3 { Next::finish(()) } else { Next::call(frame, step + 1) }
    })));
    assert_waits(caller.as_mut());
    assert_eq!(poll(caller.as_mut()), Poll::Ready(()));
    assert_eq!(got.take(), [make(1), make(2), make(3)]);
    drop(caller);
    checking.assert_empty();
}

#[test]
fn values_of_all_kinds_come_back() {
    #[derive(Debug, PartialEq)]
    struct Nothing;
    #[derive(Debug, PartialEq)]
    #[repr(align(256))]
    struct OverAligned(u64);
    #[derive(Debug, PartialEq)]
    #[repr(align(128))]
    struct AlignedNothing;

    returns(|n| n);
    returns(|_| ());
    returns(|_| Nothing);
    returns(|_| AlignedNothing);
    returns(OverAligned);
    returns(|n| [n; 2000]);
    returns(|n| n.to_string());
    returns(|n| (n > 1).then(|| vec![n; 7]));
    returns(|n| n as u8);
}

/// Routines of all kinds: what they have is where they left it.
#[test]
fn routines_of_all_kinds_are_kept() {
    #[repr(align(512))]
    struct OverAligned([u8; 700]);
    struct Nothing;
    impl Continuation for Nothing {
        type Step = ();
        type Return = ();
        const START: () = ();
        fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
            Next::finish(())
        }
    }
    let checking = Checking::new();
    let callee = routine(OverAligned([1; 700]), |state, step, _| {
        assert_eq!(std::ptr::from_ref(state).addr() % 512, 0);
        state.0.iter_mut().for_each(|byte| *byte += 1);
        if step == 0 { Next::give_way(1) } else { Next::finish(state.0.iter().map(|byte| u32::from(*byte)).sum()) }
    });
    let frame: InMemory<'_, _, u32> = Frame::new_in(callee, &checking).unwrap();
    let nothing = Frame::new_in(Nothing, &checking).unwrap();
    let layout = frame_layout::<Nothing, &Checking>();
    assert!(layout.size() <= 6 * size_of::<usize>(), "{layout:?}");
    let sum = Cell::new(0);
    let mut caller =
        Box::pin(coroutine(routine((frame, nothing, &sum), |(frame, nothing, sum), step, _| match step {
            0 => Next::call(nothing, 1),
            1 => {
                assert_eq!(nothing.result(), Some(()));
                Next::call(frame, 2)
            }
            _ => {
                sum.set(frame.result().unwrap());
                Next::finish(())
            }
        })));
    assert_waits(caller.as_mut());
    assert!(poll(caller.as_mut()).is_ready());
    assert_eq!(sum.get(), 3 * 700);
}

/// A frame takes the block that it says, from the allocator it was given.
#[test]
fn a_frame_takes_the_memory_it_says() {
    fn layout_of<C: Continuation, A: AllocRef>(_: &Frame<C, A>) -> usize {
        frame_layout::<C, A>().size()
    }
    let checking = Checking::new();
    run(&checking, |p| {
        let before = (checking.live(), checking.live_bytes());
        let frame: InProcess<'_, '_, _, u8> = p.frame(routine([0_u64; 10], |_, _, _| Next::finish(1))).unwrap();
        assert_eq!((checking.live(), checking.live_bytes()), (before.0 + 1, before.1 + layout_of(&frame)));
        assert!(layout_of(&frame) >= 80);
        let other = p.frame_async(async {}).unwrap();
        assert_eq!(checking.live_bytes(), before.1 + layout_of(&frame) + layout_of(&other));
        drop((frame, other));
        assert_eq!((checking.live(), checking.live_bytes()), before);
    });
}

/// The original's curried subroutine: kept by its caller, called again and again, its state its own; arguments are given by
/// changing it between the calls.
#[test]
fn a_kept_subroutine_keeps_its_state() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        // Adds up its arguments.
        let sum: InProcess<'_, '_, _, u32> = p
            .frame(routine((0, 0), |(argument, sum), _, _| {
                *sum += *argument;
                Next::finish(*sum)
            }))
            .unwrap();
        let sum = sum.curried();
        let live = checking.live();
        p.spawn(coroutine(routine((sum, 0), |(sum, n), step, _| {
            let expected = *n * (*n + 1) / 2;
            if step == 1 {
                assert_eq!(sum.result(), Some(expected));
                assert_eq!(sum.state, (*n, expected), "it can be looked at");
            }
            if *n == 1000 {
                return Next::finish(());
            }
            *n += 1;
            sum.state.0 = *n;
            Next::call(sum, 1)
        })))
        .unwrap();
        assert_eq!(checking.live(), live + 1);
        let calls = checking.calls();
        p.spawn(async move {
            assert_eq!(p.allocator().calls(), calls + 1, "a call allocates nothing");
            rounds(1).await;
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// Each result is there once: not before the call, not twice; one that nobody takes is dropped by the next call, or with
/// the frame.
#[test]
fn a_result_is_taken_once() {
    let checking = Checking::new();
    let tally = Tally::default();
    let callee: Routine<_, Token<'_>> = routine(&tally, |tally, _, _| Next::finish(tally.token()));
    let mut frame = Frame::new_in(callee, &checking).unwrap().curried();
    assert!(frame.result().is_none(), "it was not called");
    let mut caller = Box::pin(coroutine(routine((frame, &tally), |(frame, tally), step, _| match step {
        0..3 => {
            assert_eq!(tally.made(), usize::from(step));
            assert_eq!(tally.alive(), usize::from(step > 0), "each call drops what the last one returned");
            Next::call(frame, step + 1)
        }
        3 => {
            let token = frame.result().unwrap();
            assert_eq!(token.id, 2);
            assert!(frame.result().is_none());
            Next::call(frame, 4)
        }
        _ => Next::finish(()),
    })));
    assert!(poll(caller.as_mut()).is_ready());
    assert_eq!((tally.made(), tally.alive()), (4, 1), "the last one is in the frame");
    drop(caller);
    assert_eq!(tally.alive(), 0);
    checking.assert_empty();
}

#[test]
fn a_frame_that_was_never_called_has_no_result() {
    let checking = Checking::new();
    let tally = Tally::default();
    let make = || {
        let callee = routine(tally.token(), |_, _, _| Next::finish(7));
        let frame: InMemory<'_, _, u8> = Frame::new_in(callee, &checking).unwrap();
        frame
    };
    assert_eq!(make().into_result(), None);
    assert_eq!(make().result(), None);
    assert_eq!((tally.made(), tally.alive()), (2, 0));
    checking.assert_empty();
}

/// Counts its depth down in frames of its own, and gives how deep it came.
struct Recursive<'p, 'env, 'a> {
    process: &'p P<'p, 'env, 'a>,
    depth: u64,
    callee: Option<Frame<Self, &'p &'a Checking>>,
}

impl Continuation for Recursive<'_, '_, '_> {
    type Step = bool;
    type Return = u64;
    const START: bool = false;

    fn resume(&mut self, has_returned: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        if has_returned {
            let below = self.callee.take().and_then(Frame::into_result).unwrap();
            return Next::finish(below + self.depth);
        }
        if self.depth == 0 {
            return Next::finish(0);
        }
        let callee = Recursive { process: self.process, depth: self.depth - 1, callee: None };
        let frame = self.process.frame(callee).unwrap();
        Next::call(self.callee.insert(frame), true)
    }
}

#[test]
fn a_subroutine_calls_itself() {
    let checking = Checking::new();
    let sum = Cell::new(0);
    let outcome = run(&checking, |p| {
        let frame = p.frame(Recursive { process: p, depth: 100, callee: None }).unwrap();
        let live = checking.live();
        p.spawn(coroutine(routine((Some(frame), &sum, p, live), |(frame, sum, p, live), step, _| match step {
            0 => Next::call(frame.as_mut().unwrap(), 1),
            _ => {
                assert_eq!(p.allocator().live(), *live + 1, "the fibre, and the frame of the first call");
                sum.set(frame.take().and_then(Frame::into_result).unwrap());
                assert_eq!(p.allocator().live(), *live);
                Next::finish(())
            }
        })))
        .unwrap();
    });
    assert_eq!(sum.get(), 5050);
    assert_outcome(outcome, [1, 0, 0, 0, 0]);
}

/// Two kinds of routines that call each other: whether a number is even is whether the one before is odd.
mod mutual {
    use super::*;

    type Even<'a> = Frame<IsEven<'a>, &'a Checking>;
    type Odd<'a> = Frame<IsOdd<'a>, &'a Checking>;
    pub struct IsEven<'a>(pub u32, pub &'a Checking, pub Option<Odd<'a>>);
    pub struct IsOdd<'a>(pub u32, pub &'a Checking, pub Option<Even<'a>>);

    impl<'a> Continuation for IsEven<'a> {
        type Step = bool;
        type Return = bool;
        const START: bool = false;

        fn resume(&mut self, has_returned: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
            if has_returned {
                return Next::finish(self.2.take().and_then(Frame::into_result).unwrap());
            }
            match self.0 {
                0 => Next::finish(true),
                n => {
                    let frame = Frame::new_in(IsOdd(n - 1, self.1, None), self.1).unwrap();
                    Next::call(self.2.insert(frame), true)
                }
            }
        }
    }

    impl<'a> Continuation for IsOdd<'a> {
        type Step = u8;
        type Return = bool;
        const START: u8 = 0;

        fn resume(&mut self, step: u8, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
            match (step, self.0) {
                (0, 0) => Next::finish(false),
                (0, n) => {
                    self.2 = Some(Frame::new_in(IsEven(n - 1, self.1, None), self.1).unwrap());
                    Next::give_way(1)
                }
                (1, _) => Next::call(self.2.as_mut().unwrap(), 2),
                _ => Next::finish(self.2.take().and_then(Frame::into_result).unwrap()),
            }
        }
    }
}

#[test]
fn two_subroutines_call_each_other() {
    let checking = Checking::new();
    for n in [0, 1, 2, 7, 50] {
        let mut frame = Frame::new_in(mutual::IsEven(n, &checking, None), &checking).unwrap().curried();
        assert_eq!(futures::executor::block_on(frame.call()), n % 2 == 0);
        assert_eq!(checking.live(), 1);
        assert_eq!(futures::executor::block_on(frame.call()), n % 2 == 0, "again");
    }
    checking.assert_empty();
}

/// The callee waits for a channel; the whole fibre waits with it, and no other.
#[test]
fn a_callee_waits_for_a_channel() {
    let checking = Checking::new();
    let trace = Trace::new();
    let outcome = run(&checking, |p| {
        let trace = &trace;
        let (mut w, r) = p.channel::<u8>().unwrap();
        let callee: Routine<_, u8> = routine(r, |r: &mut Reader<'_, u8>, _, cx| Next::finish(ready!(r.poll_read(cx))));
        let frame = p.frame(callee).unwrap().curried();
        p.spawn(coroutine(routine((frame, trace), |(frame, trace), step, _| {
            if step > 0 {
                trace.push(frame.result().unwrap());
            }
            if step == 3 { Next::finish(()) } else { Next::call(frame, step + 1) }
        })))
        .unwrap();
        p.spawn(async move {
            for n in 1..=3 {
                rounds(2).await;
                trace.push(10 * n);
                w.write(n).await;
            }
        })
        .unwrap();
    });
    assert_eq!(trace.take(), [10, 1, 20, 2, 30, 3]);
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// What became of its fibre is what its deepest callee waits for.
#[test]
fn a_fibre_collapses_of_its_callees_wait() {
    let checking = Checking::new();
    let trace = Trace::new();
    let outcome = run(&checking, |p| {
        let (w, r) = p.channel::<u8>().unwrap();
        drop(w);
        let trace = &trace;
        let guard = |name| OnDrop(move || trace.push(name));
        let callee = routine((r, guard("callee")), |(r, _), _, cx| {
            ready!(r.poll_read(cx));
            Next::finish(())
        });
        let frame: InProcess<'_, '_, _> = p.frame(callee).unwrap();
        // The frame is dropped after the guard, if it is up to the caller.
        p.spawn(coroutine(routine((guard("caller"), frame), |(_, frame), _, _| Next::call(frame, 1)))).unwrap();
    });
    assert_eq!(trace.take(), ["callee", "caller"]);
    assert_outcome(outcome, [0, 1, 0, 0, 0]);
}

/// Calls itself until it is deep enough, and does there what it was told.
struct Chain<'a> {
    level: u32,
    depth: u32,
    checking: &'a Checking,
    trace: &'a Trace<(&'static str, u32)>,
    at_the_bottom: AtTheBottom,
    callee: Option<Frame<Self, &'a Checking>>,
}

#[derive(Clone, Copy, PartialEq)]
enum AtTheBottom {
    Ends,
    Waits,
    Returns,
}

impl Drop for Chain<'_> {
    fn drop(&mut self) {
        self.trace.push(("dropped", self.level));
    }
}

impl Continuation for Chain<'_> {
    type Step = bool;
    type Return = ();
    const START: bool = false;

    fn resume(&mut self, has_returned: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        if has_returned {
            self.trace.push(("back", self.level));
            // Here the callee's frame goes.
            self.callee = None;
            return Next::finish(());
        }
        self.trace.push(("called", self.level));
        if self.level < self.depth {
            let callee = Chain { level: self.level + 1, callee: None, ..*self };
            let frame = Frame::new_in(callee, self.checking).unwrap();
            return Next::call(self.callee.insert(frame), true);
        }
        match self.at_the_bottom {
            AtTheBottom::Ends => Next::end_fibre(),
            AtTheBottom::Waits => Poll::Pending,
            AtTheBottom::Returns => Next::finish(()),
        }
    }
}

/// The blocks there are at each point; callees go before their callers.
#[test]
fn routines_go_from_the_top_down() {
    use AtTheBottom::*;
    for (at_the_bottom, by_frame) in [(Ends, false), (Waits, false), (Returns, false), (Waits, true)] {
        let checking = Checking::new();
        let trace = Trace::new();
        let first = Chain { level: 0, depth: 3, checking: &checking, trace: &trace, at_the_bottom, callee: None };
        let called: Vec<_> = (0..=3).map(|level| ("called", level)).collect();
        let dropped =
            |levels: &mut dyn Iterator<Item = u32>| -> Vec<_> { levels.map(|level| ("dropped", level)).collect() };
        if by_frame {
            // Called by an `async` routine: the frame outlives the call.
            let mut frame = Frame::new_in(first, &checking).unwrap();
            assert_eq!(checking.live(), 1);
            let mut call = Box::pin(frame.call());
            assert_waits(call.as_mut());
            assert_eq!(checking.live(), 4);
            assert_eq!(trace.take(), called);
            drop(call);
            assert_eq!(trace.take(), dropped(&mut (0..=3).rev()));
            assert_eq!(checking.live(), 1, "the frame's block, without a routine");
            let text = panic_of(|| futures::executor::block_on(frame.call()));
            assert!(text.contains("destroyed in the middle of a call"), "{text}");
            assert!(frame.result().is_none());
            drop(frame);
            assert_eq!(trace.take(), []);
            checking.assert_empty();
            continue;
        }
        let mut all = Box::pin(coroutine(first));
        let poll = poll(all.as_mut());
        assert_eq!(poll.is_pending(), at_the_bottom == Waits);
        match at_the_bottom {
            Ends => {
                let mut expected = called;
                expected.extend(dropped(&mut (1..=3).rev()));
                assert_eq!(trace.take(), expected, "the coroutine's own routine is its owner's");
                assert_eq!(checking.live(), 1, "its callee's block, without a routine");
                drop(all);
                assert_eq!(trace.take(), dropped(&mut std::iter::once(0)));
            }
            Waits => {
                assert_eq!((trace.take(), checking.live()), (called, 3));
                drop(all);
                assert_eq!(trace.take(), dropped(&mut (0..=3).rev()));
            }
            Returns => {
                let mut expected = called;
                for level in (0..3).rev() {
                    expected.extend([("dropped", level + 1), ("back", level)]);
                }
                assert_eq!((trace.take(), checking.live()), (expected, 0));
                drop(all);
                assert_eq!(trace.take(), dropped(&mut std::iter::once(0)));
            }
        }
        checking.assert_empty();
    }
}

/// The fibre ends from the depth of calls: at once, counted as finished, and nothing is left of it.
#[test]
fn a_fibre_is_ended_from_the_depth() {
    let (checking, frames) = (Checking::new(), Checking::new());
    let trace = Trace::new();
    let outcome = run(&checking, |p| {
        let (frames, trace) = (&frames, &trace);
        let at_the_bottom = AtTheBottom::Ends;
        let first = Chain { level: 0, depth: 5, checking: frames, trace, at_the_bottom, callee: None };
        p.spawn(coroutine(first)).unwrap();
        p.spawn(async move {
            assert_eq!(trace.len(), 12, "six were called, and six were dropped");
            frames.assert_empty();
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// Frames from two pools in one chain of calls: each block returns where it came from.
#[test]
fn blocks_return_where_they_came_from() {
    struct Alternates<'a> {
        level: usize,
        pools: [&'a Checking; 2],
        waits: bool,
        callee: Option<Frame<Self, &'a Checking>>,
    }
    impl Continuation for Alternates<'_> {
        type Step = bool;
        type Return = usize;
        const START: bool = false;

        fn resume(&mut self, has_returned: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
            if has_returned {
                return Next::finish(1 + self.callee.take().and_then(Frame::into_result).unwrap());
            }
            if self.level == 10 {
                return if self.waits { Poll::Pending } else { Next::finish(0) };
            }
            let callee = Alternates { level: self.level + 1, callee: None, ..*self };
            let frame = Frame::new_in(callee, self.pools[self.level % 2]).unwrap();
            Next::call(self.callee.insert(frame), true)
        }
    }
    for waits in [false, true] {
        let pools = [Checking::new(), Checking::new()];
        let first = Alternates { level: 0, pools: pools.each_ref(), waits, callee: None };
        let mut frame = Frame::new_in(first, &pools[0]).unwrap();
        let mut call = Box::pin(frame.call());
        if waits {
            assert_waits(call.as_mut());
            assert_eq!(pools.each_ref().map(Checking::live), [6, 5]);
        } else {
            assert_eq!(poll(call.as_mut()), Poll::Ready(10));
            assert_eq!(pools.each_ref().map(Checking::live), [1, 0]);
        }
        drop(call);
        assert_eq!(pools.each_ref().map(Checking::live), [1, 0]);
        drop(frame);
        pools.iter().for_each(Checking::assert_empty);
    }
}

/// The same in pools whose blocks are used again at once, and by two fibres in turns, one of which is destroyed half-way.
#[test]
fn blocks_are_used_again_at_once() {
    struct Down<A: AllocRef> {
        depth: u8,
        allocator: A,
        callee: Option<Frame<Self, A>>,
    }
    impl<A: AllocRef> Continuation for Down<A> {
        type Step = u8;
        type Return = u64;
        const START: u8 = 0;

        fn resume(&mut self, step: u8, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
            match (step, self.depth) {
                (0, 0) => Next::finish(0),
                (0, depth) => {
                    let callee = Down { depth: depth - 1, allocator: self.allocator.clone(), callee: None };
                    self.callee = Some(Frame::new_in(callee, self.allocator.clone()).unwrap());
                    Next::give_way(1)
                }
                (1, _) => Next::call(self.callee.as_mut().unwrap(), 2),
                (_, depth) => {
                    let below = self.callee.take().and_then(Frame::into_result).unwrap();
                    Next::finish(below + u64::from(depth))
                }
            }
        }
    }
    with_pool(|one| {
        with_pool(|other| {
            let sums = Trace::new();
            let (_, outcome) = fibra_core::run(one, |p| {
                for depth in [10, 20, 30, 200] {
                    let frame = Frame::new_in(Down { depth, allocator: other, callee: None }, one).unwrap();
                    let pair = (frame, &sums);
                    p.spawn(coroutine(routine(pair, |(frame, sums), step, _| {
                        if step == 0 {
                            return Next::call(frame, 1);
                        }
                        sums.push(frame.result().unwrap());
                        Next::finish(())
                    })))
                    .unwrap();
                }
                p.spawn(async move {
                    rounds(100).await;
                    p.stop();
                })
                .unwrap();
            })
            .unwrap();
            assert_eq!(sums.take(), [55, 210, 465]);
            assert_outcome(outcome, [4, 0, 0, 1, 0]);
        });
    });
}

/// A frame keeps a handle to its allocator, and lets it go after its block.
#[test]
fn a_frame_lets_its_allocator_go_last() {
    use fibra_core::{Allocator, Layout};
    use std::ptr::NonNull;

    #[derive(Clone)]
    struct Counted(Rc<Checking>);
    // SAFETY: it passes everything on, and all clones to the same allocator.
    unsafe impl Allocator for Counted {
        fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
            (&*self.0).allocate(layout)
        }
        unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
            // SAFETY: passed on to the caller.
            unsafe { (&*self.0).deallocate(block, layout) }
        }
    }

    struct Holds(Counted);
    impl Continuation for Holds {
        type Step = ();
        type Return = Counted;
        const START: () = ();
        fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
            Next::finish(self.0.clone())
        }
    }
    let checking = Rc::new(Checking::new());
    let allocator = Counted(checking.clone());
    let mut frame = Frame::new_in(Holds(allocator.clone()), allocator).unwrap().curried();
    assert_eq!(Rc::strong_count(&checking), 3);
    drop(futures::executor::block_on(frame.call()));
    assert_eq!(Rc::strong_count(&checking), 3);
    let mut caller = Box::pin(coroutine(routine(frame, |frame, step, _| match step {
        0 => Next::call(frame, 1),
        _ => Next::finish(()),
    })));
    assert!(poll(caller.as_mut()).is_ready());
    assert_eq!(Rc::strong_count(&checking), 4, "the result too has one");
    drop(caller);
    assert_eq!(Rc::strong_count(&checking), 1);
    checking.assert_empty();
}

/// An `async` routine returns a value too, and is called once.
#[test]
fn an_async_routine_is_called_once() {
    let checking = Checking::new();
    let tally = Tally::default();
    run(&checking, |p| {
        let frame = p.frame_async(async {
            fibra_core::yield_now().await;
            tally.token()
        });
        let mut frame = Some(frame.unwrap());
        let mut call = Box::pin(frame.as_mut().unwrap().call());
        assert_waits(call.as_mut());
        let Poll::Ready(token) = poll(call.as_mut()) else { panic!("it was to return") };
        assert_eq!((token.id, tally.alive()), (0, 1));
        drop((token, call));
        let text = panic_of(|| futures::executor::block_on(frame.as_mut().unwrap().call()).id);
        assert!(text.contains("it has returned and is not curried"), "{text}");
    });
    assert_eq!((tally.made(), tally.alive()), (1, 0));
    checking.assert_empty();
}
