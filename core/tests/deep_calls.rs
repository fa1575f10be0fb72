//! Calls take no native stack: a hundred thousand of them, one in the other, run, return and are torn down on a stack of
//! 256 KiB; also when destructors panic on the way.

mod common;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, ready};

use common::routines::{InMemory, assert_waits, poll, routine};
use common::{Caught, Checking, Trace, assert_outcome, on_small_stack, panic_of, rounds, run};
use fibra_core::{Continuation, Frame, Next, Reader, Setup, coroutine};

const DEEP: u64 = 100_000;

/// What the deepest one does.
#[derive(Clone, Copy)]
enum Bottom<'a, 'p> {
    Returns,
    Reads(&'a RefCell<Option<Reader<'p, u64>>>),
    GivesWay,
    EndsFibre,
    Panics,
}

/// Calls itself, `n` deep, and counts how many of it there are, and how often one has returned.
struct Deep<'a, 'p> {
    n: u64,
    frames: &'a Checking,
    alive: &'a Cell<u64>,
    /// Whose destructor panics.
    bomb: Option<u64>,
    bottom: Bottom<'a, 'p>,
    reader: Option<Reader<'p, u64>>,
    callee: Option<Frame<Self, &'a Checking>>,
}

impl<'a, 'p> Deep<'a, 'p> {
    fn new(n: u64, frames: &'a Checking, alive: &'a Cell<u64>, bottom: Bottom<'a, 'p>) -> Self {
        alive.set(alive.get() + 1);
        Deep { n, frames, alive, bomb: None, bottom, reader: None, callee: None }
    }
}

impl Drop for Deep<'_, '_> {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
        assert!(self.bomb != Some(self.n), "destructor {}", self.n);
    }
}

impl Continuation for Deep<'_, '_> {
    type Step = u8;
    type Return = u64;
    const START: u8 = 0;

    fn resume(&mut self, step: u8, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        match step {
            0 if self.n > 0 => {
                let mut callee = Deep::new(self.n - 1, self.frames, self.alive, self.bottom);
                callee.bomb = self.bomb;
                let frame = Frame::new_in(callee, self.frames).unwrap();
                Next::call(self.callee.insert(frame), 1)
            }
            1 => Next::finish(1 + self.callee.take().and_then(Frame::into_result).unwrap()),
            _ => match self.bottom {
                Bottom::Returns => Next::finish(0),
                Bottom::GivesWay => Next::give_way(2),
                Bottom::EndsFibre => Next::end_fibre(),
                Bottom::Panics => panic!("at the bottom"),
                Bottom::Reads(reader) => {
                    let reader = self.reader.get_or_insert_with(|| reader.take().unwrap());
                    Next::finish(ready!(reader.poll_read(cx)))
                }
            },
        }
    }
}

/// A coroutine that calls it once, and notes what it returned.
fn caller<'a>(first: Deep<'a, 'a>, got: &'a Cell<u64>) -> impl Future<Output = ()> {
    let frames = first.frames;
    let frame: InMemory<'a, ()> = Frame::new_in(routine((), |(), _, _| Next::finish(())), frames).unwrap();
    let deep = Frame::new_in(first, frames).unwrap();
    coroutine(routine((deep, frame, got), |(deep, frame, got), step, _| match step {
        0 => Next::call(frame, 1),
        1 => Next::call(deep, 2),
        _ => {
            got.set(deep.result().unwrap());
            Next::finish(())
        }
    }))
}

#[test]
fn deep_calls_return() {
    on_small_stack(|| {
        let (checking, frames) = (Checking::new(), Checking::new());
        let (alive, got) = (Cell::new(0), Cell::new(0));
        let outcome = run(&checking, |p| {
            p.spawn(caller(Deep::new(DEEP, &frames, &alive, Bottom::Returns), &got)).unwrap();
        });
        assert_eq!((got.get(), alive.get()), (DEEP, 0));
        assert_outcome(outcome, [1, 0, 0, 0, 0]);
        frames.assert_empty();
    });
}

/// They wait at the bottom, and go on from there when a value comes.
#[test]
fn deep_calls_wait_and_return() {
    on_small_stack(|| {
        let (checking, frames) = (Checking::new(), Checking::new());
        let (alive, got) = (Cell::new(0), Cell::new(0));
        let outcome = fibra_core::run(&checking, |p| {
            let (mut w, r) = p.channel().unwrap();
            let (frames, alive) = (&frames, &alive);
            let got = &got;
            p.spawn(async move {
                let reader = RefCell::new(Some(r));
                let mut frame = Frame::new_in(Deep::new(DEEP, frames, alive, Bottom::Reads(&reader)), frames).unwrap();
                got.set(frame.call().await);
            })
            .unwrap();
            p.spawn(async move {
                rounds(2).await;
                assert_eq!(alive.get(), DEEP + 1);
                w.write(7).await;
            })
            .unwrap();
        });
        assert_outcome(outcome.unwrap().1, [2, 0, 0, 0, 0]);
        assert_eq!((got.get(), alive.get()), (DEEP + 7, 0));
        frames.assert_empty();
        checking.assert_empty();
    });
}

#[test]
fn deep_calls_collapse() {
    on_small_stack(|| {
        let frames = Checking::new();
        let alive = Cell::new(0);
        let checking = Checking::new();
        let (_, outcome) = fibra_core::run(&checking, |p| {
            let (w, r) = p.channel().unwrap();
            let (frames, alive) = (&frames, &alive);
            p.spawn(async move {
                let reader = RefCell::new(Some(r));
                let mut frame = Frame::new_in(Deep::new(DEEP, frames, alive, Bottom::Reads(&reader)), frames).unwrap();
                frame.call().await;
            })
            .unwrap();
            p.spawn(async move {
                rounds(2).await;
                assert_eq!(alive.get(), DEEP + 1);
                drop(w);
                rounds(2).await;
                assert_eq!(alive.get(), 0, "at once");
            })
            .unwrap();
        })
        .unwrap();
        assert_outcome(outcome, [1, 1, 0, 0, 0]);
        frames.assert_empty();
        checking.assert_empty();
    });
}

#[test]
fn deep_calls_are_stopped() {
    on_small_stack(|| {
        let (checking, frames) = (Checking::new(), Checking::new());
        let (alive, got) = (Cell::new(0), Cell::new(0));
        let outcome = run(&checking, |p| {
            p.spawn(caller(Deep::new(DEEP, &frames, &alive, Bottom::GivesWay), &got)).unwrap();
            let alive = &alive;
            p.spawn(async move {
                rounds(2).await;
                assert_eq!(alive.get(), DEEP + 1);
                p.stop();
            })
            .unwrap();
        });
        assert_eq!((got.get(), alive.get()), (0, 0));
        assert_outcome(outcome, [1, 0, 0, 1, 0]);
        frames.assert_empty();
    });
}

#[test]
fn deep_calls_end_their_fibre() {
    on_small_stack(|| {
        let (checking, frames) = (Checking::new(), Checking::new());
        let (alive, got) = (Cell::new(0), Cell::new(0));
        let outcome = run(&checking, |p| {
            p.spawn(caller(Deep::new(DEEP, &frames, &alive, Bottom::EndsFibre), &got)).unwrap();
        });
        assert_eq!((got.get(), alive.get()), (0, 0));
        assert_outcome(outcome, [1, 0, 0, 0, 0]);
        frames.assert_empty();
    });
}

/// With and without the platform's way of catching panics.
#[test]
fn the_deepest_call_panics() {
    for isolate in [false, true] {
        on_small_stack(|| {
            let (checking, frames) = (Checking::new(), Checking::new());
            let (alive, got) = (Cell::new(0), Cell::new(0));
            let mut caught = Caught::default();
            let mut catch = |f: &mut dyn FnMut()| caught.catch(f);
            let mut setup = Setup::new(&checking);
            if isolate {
                setup = setup.catch(&mut catch).isolate_panics();
            }
            let result = catch_unwind(AssertUnwindSafe(|| {
                setup.run(|p| {
                    p.spawn(caller(Deep::new(DEEP, &frames, &alive, Bottom::Panics), &got)).unwrap();
                    p.spawn(rounds(3)).unwrap();
                })
            }));
            assert_eq!(result.is_ok(), isolate);
            if let Ok(result) = result {
                assert_outcome(result.unwrap().1, [1, 0, 0, 0, 1]);
                assert_eq!(caught.0, ["at the bottom"]);
            }
            assert_eq!((got.get(), alive.get()), (0, 0));
            frames.assert_empty();
            checking.assert_empty();
        });
    }
}

#[test]
fn deep_calls_are_dropped_by_hand() {
    on_small_stack(|| {
        let frames = Checking::new();
        let (alive, got) = (Cell::new(0), Cell::new(0));
        let mut deep = Box::pin(caller(Deep::new(DEEP, &frames, &alive, Bottom::GivesWay), &got));
        assert_waits(deep.as_mut());
        assert_eq!(alive.get(), DEEP + 1);
        assert_waits(deep.as_mut());
        drop(deep);
        assert_eq!(alive.get(), 0);
        frames.assert_empty();
    });
}

/// A destructor panics in the middle of a tear-down: the others run all the same, above it and below, and all blocks come
/// back.
#[test]
fn one_destructor_panics_on_the_way() {
    on_small_stack(|| {
        for ends in [false, true] {
            let frames = Checking::new();
            let (alive, got) = (Cell::new(0), Cell::new(0));
            let bottom = if ends { Bottom::EndsFibre } else { Bottom::GivesWay };
            let mut first = Deep::new(DEEP, &frames, &alive, bottom);
            first.bomb = Some(DEEP / 2);
            let mut deep = Box::pin(caller(first, &got));
            if !ends {
                assert_waits(deep.as_mut());
                assert_eq!(alive.get(), DEEP + 1);
            }
            let text = panic_of(move || {
                if ends {
                    let _ = poll(deep.as_mut());
                }
                drop(deep);
            });
            assert_eq!(text, format!("destructor {}", DEEP / 2));
            assert_eq!(alive.get(), 0);
            frames.assert_empty();
        }
    });
}

/// In a process, that is the fibre's panic; and the rest of it goes on when panics are isolated.
#[test]
fn a_destructor_panics_while_its_fibre_is_destroyed() {
    let (checking, frames) = (Checking::new(), Checking::new());
    let alive = Cell::new(0);
    let trace = Trace::new();
    let mut caught = Caught::default();
    let mut catch = |f: &mut dyn FnMut()| caught.catch(f);
    let (_, outcome) = Setup::new(&checking)
        .catch(&mut catch)
        .isolate_panics()
        .run(|p| {
            let (w, r) = p.channel().unwrap();
            let (frames, alive, trace) = (&frames, &alive, &trace);
            p.spawn(async move {
                let reader = RefCell::new(Some(r));
                let mut first = Deep::new(9, frames, alive, Bottom::Reads(&reader));
                first.bomb = Some(5);
                let mut frame = Frame::new_in(first, frames).unwrap();
                frame.call().await;
            })
            .unwrap();
            p.spawn(async move {
                rounds(2).await;
                assert_eq!(alive.get(), 10);
                drop(w);
                rounds(2).await;
                trace.push((alive.get(), frames.live()));
            })
            .unwrap();
        })
        .unwrap();
    assert_eq!(caught.0, ["destructor 5"]);
    assert_eq!(trace.take(), [(0, 0)]);
    assert_outcome(outcome, [1, 0, 0, 0, 1]);
    checking.assert_empty();
    frames.assert_empty();
}
