//! C9 for frames: running out of memory is an error that gives the routine back, at every single place, and what was called
//! before is intact and goes on.

mod common;

use std::cell::Cell;
use std::error::Error;
use std::task::{Context, Poll};

use common::routines::{InProcess, Routine, routine};
use common::{Checking, P, Tally, Token, assert_outcome, counts, run};
use fibra_core::{AllocError, Continuation, Curried, Frame, MemReq, Next, NoFrame, SizeClasses, coroutine, table};

/// Goes down as far as it is told, and then, on the way back, says how deep it came. If there is no frame for the next one,
/// it tries once more, with the routine that came back; and then makes do without.
struct Down<'p, 'env, 'a> {
    process: &'p P<'p, 'env, 'a>,
    failed: &'p Cell<usize>,
    /// Lost if the routine is.
    token: Token<'p>,
    tally: &'p Tally,
    left: usize,
    callee: Option<Frame<Self, &'p &'a Checking>>,
}

impl Continuation for Down<'_, '_, '_> {
    type Step = bool;
    type Return = usize;
    const START: bool = false;

    fn resume(&mut self, has_returned: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        if has_returned {
            let below = self.callee.take().and_then(Frame::into_result).unwrap();
            return Next::finish(below + 1);
        }
        if self.left == 0 {
            return Next::finish(0);
        }
        let token = self.tally.token();
        let id = token.id;
        let callee = Down { token, left: self.left - 1, callee: None, ..*self };
        let frame = self.process.frame(callee).or_else(|error| {
            assert_eq!(error.routine.token.id, id);
            self.failed.set(self.failed.get() + 1);
            self.process.frame(error.routine)
        });
        match frame {
            Ok(frame) => Next::call(self.callee.insert(frame), true),
            Err(NoFrame { routine }) => {
                assert_eq!(routine.token.id, id);
                Next::finish(0)
            }
        }
    }
}

const DEPTH: usize = 12;

/// How often there was no frame, how deep it came, and what became of the fibres.
fn go_down(checking: &Checking) -> (usize, Option<usize>, [usize; 5]) {
    let (failed, deep) = (Cell::new(0), Cell::new(None));
    let tally = Tally::default();
    let outcome = run(checking, |p| {
        let first =
            Down { process: p, failed: &failed, token: tally.token(), tally: &tally, left: DEPTH, callee: None };
        let frame = p.frame(first).or_else(|error| {
            failed.set(failed.get() + 1);
            p.frame(error.routine)
        });
        let Ok(frame) = frame else { return };
        let caller = coroutine(routine((frame, &deep), |(frame, deep), step, _| match step {
            0 => Next::call(frame, 1),
            _ => {
                deep.set(frame.result());
                Next::finish(())
            }
        }));
        if let Err(error) = p.spawn(caller) {
            failed.set(failed.get() + 1);
            // Unspawned, and unharmed.
            let _ = p.spawn(error.future);
        }
    });
    assert_eq!(tally.alive(), 0, "a routine was lost");
    (failed.get(), deep.get(), counts(outcome))
}

/// Each allocation fails, one after the other, and is asked for again.
#[test]
fn each_frame_fails_in_turn() {
    let checking = Checking::new();
    assert_eq!(go_down(&checking), (0, Some(DEPTH), [1, 0, 0, 0, 0]));
    let allocations = checking.calls();
    assert_eq!(allocations, 1 + 1 + DEPTH, "a frame each, and the fibre");
    for nth in 0..allocations {
        let checking = Checking::new();
        checking.fail_nth(nth);
        assert_eq!(go_down(&checking), (1, Some(DEPTH), [1, 0, 0, 0, 0]), "at {nth}");
        assert_eq!(checking.calls(), allocations + 1);
    }
}

/// From each point on there is no memory at all: what was called before returns.
#[test]
fn memory_runs_out_for_good_at_each_point() {
    // The first frame, and the fibre.
    const FIRST: usize = 2;
    for room in 0..FIRST + DEPTH {
        let checking = Checking::new();
        checking.fail_from(room);
        let deep = room.checked_sub(FIRST);
        let outcome = [deep.iter().len(), 0, 0, 0, 0];
        assert_eq!(go_down(&checking), (1, deep, outcome), "with room for {room}");
    }
}

/// The same with a pool of so many blocks, which is full again for the next fibre.
#[test]
fn a_pool_runs_out_of_frames() {
    struct Down<'a, A: Copy + fibra_core::AllocRef> {
        allocator: A,
        most: &'a Cell<usize>,
        depth: usize,
        callee: Option<Frame<Self, A>>,
    }
    impl<A: Copy + fibra_core::AllocRef> Continuation for Down<'_, A> {
        type Step = bool;
        type Return = ();
        const START: bool = false;

        fn resume(&mut self, has_returned: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
            if has_returned {
                self.callee = None;
                return Next::finish(());
            }
            self.most.set(self.most.get().max(self.depth));
            match Frame::new_in(Down { depth: self.depth + 1, callee: None, ..*self }, self.allocator) {
                Ok(frame) => Next::call(self.callee.insert(frame), true),
                Err(_) => Next::finish(()),
            }
        }
    }
    let mut memory = [std::mem::MaybeUninit::uninit(); 16 * 1024];
    let sizes = table([MemReq { block_size: 128, n_blocks: 50 }]);
    let pool = SizeClasses::new(&sizes, &mut memory).unwrap();
    for _ in 0..3 {
        let most = Cell::new(0);
        let first = Down { allocator: &pool, most: &most, depth: 0, callee: None };
        let mut frame = Frame::new_in(first, &pool).unwrap();
        futures::executor::block_on(frame.call());
        assert_eq!(most.get(), 49);
        drop(frame);
        assert_eq!(pool.classes().map(|class| class.live).sum::<usize>(), 0);
    }
}

/// There was no frame for an `async` routine: the future comes back.
#[test]
fn the_future_comes_back() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        checking.fail_all();
        let error = p.frame_async(async { 7 }).unwrap_err();
        checking.fail_none();
        let mut frame = p.frame_async(error.routine).unwrap();
        p.spawn(async move { assert_eq!(frame.call().await, 7) }).unwrap();
    });
    assert_outcome(outcome, [1, 0, 0, 0, 0]);
}

#[test]
fn the_error_says_what_it_is() {
    struct Wide;
    impl Continuation for Wide {
        type Step = ();
        type Return = ();
        const START: () = ();
        fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
            Next::finish(())
        }
    }
    let checking = Checking::new();
    checking.fail_all();
    let error = Frame::new_in(Wide, &checking).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("no block") && text.contains("Wide"), "{text}");
    assert_eq!(format!("{error:?}"), "NoFrame { .. }");
    let error: Box<dyn Error> = Box::new(error);
    assert!(error.downcast_ref::<NoFrame<Wide>>().is_some());
    let fails = || -> Result<(), AllocError> {
        Frame::new_in(Wide, &checking)?;
        Ok(())
    };
    assert_eq!(fails(), Err(AllocError));
}

/// Calling, waiting, returning and tearing down allocate nothing.
#[test]
fn only_making_frames_allocates() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let inner: Curried<Routine<u8, u8>, _> = p
            .frame(routine(0, |n, step, _| {
                *n += 1;
                if step == 0 { Next::give_way(1) } else { Next::finish(*n) }
            }))
            .unwrap()
            .curried();
        let outer: InProcess<'_, '_, _> = p
            .frame(routine(inner, |inner, step, _| match step {
                0..10 => Next::call(inner, step + 1),
                10 => {
                    assert_eq!(inner.result(), Some(20));
                    Next::finish(())
                }
                _ => unreachable!("there are ten calls"),
            }))
            .unwrap();
        p.spawn(coroutine(routine(outer, |outer, step, _| match step {
            0 => Next::call(outer, 1),
            1 => Next::give_way(2),
            _ => Next::end_fibre(),
        })))
        .unwrap();
        let calls = checking.calls();
        p.spawn(async move {
            common::rounds(20).await;
            assert_eq!(p.allocator().calls(), calls + 1, "but for this fibre");
        })
        .unwrap();
        checking.fail_all();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}
