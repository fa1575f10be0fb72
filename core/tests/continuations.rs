//! Explicit continuations as fibres: what each kind of next step does, in order with other fibres, to the end and after it.

mod common;

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use common::routines::{InMemory, assert_waits, poll, routine};
use common::{Checking, OnDrop, Tally, Trace, assert_outcome, panic_of, rounds, run};
use fibra_core::{
    AllocRef, Continuation, Coroutine, Direction, Fate, Frame, Next, Process, Reader, Setup, SpawnErrorKind, Writer,
    coroutine, yield_now,
};

/// Reads a number, and writes its square.
struct Square<'p> {
    from: Reader<'p, u32>,
    to: Writer<'p, u64>,
}

#[derive(Clone, Copy)]
enum Step {
    Read,
    Write,
}

impl Continuation for Square<'_> {
    type Step = Step;
    type Return = ();
    const START: Step = Step::Read;

    fn resume(&mut self, step: Step, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        match step {
            Step::Read => {
                let n = u64::from(ready!(self.from.poll_read(cx)));
                self.to.begin_write(n * n);
                Next::go(Step::Write)
            }
            Step::Write => {
                ready!(self.to.poll_write(cx));
                Next::go(Step::Read)
            }
        }
    }
}

/// Writes the numbers below `n`.
struct Count<'p> {
    to: Writer<'p, u32>,
    n: std::ops::Range<u32>,
}

impl Continuation for Count<'_> {
    type Step = Step;
    type Return = ();
    const START: Step = Step::Read;

    fn resume(&mut self, step: Step, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        match step {
            Step::Read => match self.n.next() {
                Some(n) => {
                    self.to.begin_write(n);
                    Next::go(Step::Write)
                }
                None => Next::finish(()),
            },
            Step::Write => {
                ready!(self.to.poll_write(cx));
                Next::go(Step::Read)
            }
        }
    }
}

/// Reads for ever.
struct Collect<'p, 'a> {
    from: Reader<'p, u64>,
    into: &'a RefCell<Vec<u64>>,
}

impl Continuation for Collect<'_, '_> {
    type Step = ();
    type Return = ();
    const START: () = ();

    fn resume(&mut self, (): (), cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        self.into.borrow_mut().push(ready!(self.from.poll_read(cx)));
        Next::go(())
    }
}

/// Whoever runs first, each stage reads its first datum: 20 of 20.
#[test]
fn a_stage_loses_no_datum() {
    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in ORDERS {
        let checking = Checking::new();
        let squares = RefCell::default();
        let outcome = run(&checking, |p| {
            let (to, from) = p.channel().unwrap();
            let (to_end, at_end) = p.channel().unwrap();
            let mut count = Some(Count { to, n: 0..20 });
            let mut square = Some(Square { from, to: to_end });
            let mut collect = Some(Collect { from: at_end, into: &squares });
            for which in order {
                match which {
                    0 => p.spawn(coroutine(count.take().unwrap())).unwrap(),
                    1 => p.spawn(coroutine(square.take().unwrap())).unwrap(),
                    _ => p.spawn(coroutine(collect.take().unwrap())).unwrap(),
                }
            }
        });
        assert_eq!(squares.into_inner(), (0..20).map(|n| n * n).collect::<Vec<u64>>());
        assert_outcome(outcome, [1, 2, 0, 0, 0]);
    }
}

/// The same with one explicit stage among `async` ones, of each kind in turn.
#[test]
fn explicit_and_async_stages_make_one_line() {
    for explicit in 0..8 {
        let is_explicit = |nth| explicit >> nth & 1 == 1;
        let checking = Checking::new();
        let squares = RefCell::default();
        let outcome = run(&checking, |p| {
            let (mut to, from) = p.channel().unwrap();
            let (to_end, mut at_end) = p.channel().unwrap();
            if is_explicit(0) {
                p.spawn(coroutine(Count { to, n: 0..20 })).unwrap();
            } else {
                p.spawn(async move {
                    for n in 0..20 {
                        to.write(n).await;
                    }
                })
                .unwrap();
            }
            let mut stage = Square { from, to: to_end };
            if is_explicit(1) {
                p.spawn(coroutine(stage)).unwrap();
            } else {
                p.spawn(async move {
                    loop {
                        let n = u64::from(stage.from.read().await);
                        stage.to.write(n * n).await;
                    }
                })
                .unwrap();
            }
            let into = &squares;
            if is_explicit(2) {
                p.spawn(coroutine(Collect { from: at_end, into })).unwrap();
            } else {
                p.spawn(async move {
                    loop {
                        let n = at_end.read().await;
                        into.borrow_mut().push(n);
                    }
                })
                .unwrap();
            }
        });
        assert_eq!(squares.into_inner(), (0..20).map(|n| n * n).collect::<Vec<u64>>());
        assert_outcome(outcome, [1, 2, 0, 0, 0]);
    }
}

/// A wait resumes at the same step; each other step runs once.
#[test]
fn a_wait_comes_back_to_the_same_step() {
    let checking = Checking::new();
    let trace = Trace::new();
    let outcome = run(&checking, |p| {
        let (mut w, r) = p.channel::<char>().unwrap();
        p.spawn(coroutine(routine((r, &trace), |(r, trace), step, cx| {
            trace.push((step, ' '));
            match step {
                0 => Next::go(1),
                5 => Next::finish(()),
                _ => {
                    let read = ready!(r.poll_read(cx));
                    trace.push((step, read));
                    Next::go(step + 4)
                }
            }
        })))
        .unwrap();
        p.spawn(async move {
            rounds(3).await;
            w.write('a').await;
        })
        .unwrap();
    });
    assert_eq!(trace.take(), [(0, ' '), (1, ' '), (1, ' '), (1, 'a'), (5, ' ')]);
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// `go` runs on, however often; `give_way` lets each other ready fibre run once, explicit or not.
#[test]
fn going_on_keeps_the_turn_and_giving_way_passes_it() {
    let checking = Checking::new();
    let trace = Trace::new();
    let outcome = run(&checking, |p| {
        let trace = &trace;
        for name in ["a", "b"] {
            p.spawn(coroutine(routine((name, trace), |(name, trace), step, _| {
                trace.push((*name, step));
                match step {
                    0 | 1 | 3 => Next::go(step + 1),
                    5 => Next::finish(()),
                    _ => Next::give_way(step + 1),
                }
            })))
            .unwrap();
        }
        p.spawn(async move {
            for step in 0..3 {
                trace.push(("async", step));
                yield_now().await;
            }
        })
        .unwrap();
    });
    let [a, b] = ["a", "b"].map(|name| move |step| (name, step));
    let expected = [
        vec![a(0), a(1), a(2), b(0), b(1), b(2), ("async", 0)],
        vec![a(3), a(4), b(3), b(4), ("async", 1)],
        vec![a(5), b(5), ("async", 2)],
    ];
    assert_eq!(trace.take(), expected.concat());
    assert_outcome(outcome, [3, 0, 0, 0, 0]);
}

/// Spawns children from its steps, in both ways.
struct Parent<'p, 'env, A: AllocRef> {
    process: &'p Process<'p, 'env, A>,
    trace: &'p Trace<&'static str>,
}

async fn say(trace: &Trace<&'static str>, what: &'static str) {
    trace.push(what);
}

impl<A: AllocRef> Continuation for Parent<'_, '_, A> {
    type Step = u8;
    type Return = ();
    const START: u8 = 0;

    fn resume(&mut self, step: u8, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        let (p, trace) = (self.process, self.trace);
        match step {
            0 => {
                p.spawn(say(trace, "queued")).unwrap();
                trace.push("parent");
                Next::go(1)
            }
            1 => Next::spawn_next(p.spawn_next(say(trace, "next")), 2).unwrap(),
            2 => {
                trace.push("parent again");
                // With options too.
                Next::spawn_next(p.fibre().name("named").spawn_next(say(trace, "next again")), 3).unwrap()
            }
            _ => {
                trace.push("parent at last");
                Next::finish(())
            }
        }
    }
}

#[test]
fn a_child_is_queued_or_runs_next() {
    let checking = Checking::new();
    let trace = Trace::new();
    let outcome = run(&checking, |p| {
        p.spawn(coroutine(Parent { process: p, trace: &trace })).unwrap();
        p.spawn(say(&trace, "bystander")).unwrap();
    });
    let expected = ["parent", "next", "bystander", "queued", "parent again", "next again", "parent at last"];
    assert_eq!(trace.take(), expected);
    assert_outcome(outcome, [5, 0, 0, 0, 0]);
}

/// A child that cannot be spawned comes back, at once, in the same step.
#[test]
fn a_failed_spawn_is_the_steps_to_deal_with() {
    struct Tries<'p, 'env, 'a> {
        process: &'p common::P<'p, 'env, 'a>,
        tally: &'p Tally,
        failed: &'p Cell<bool>,
    }
    impl Continuation for Tries<'_, '_, '_> {
        type Step = bool;
        type Return = ();
        const START: bool = false;

        fn resume(&mut self, is_over: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
            if is_over {
                return Next::finish(());
            }
            let token = self.tally.token();
            let child = async move { drop(token) };
            self.process.allocator().fail_all();
            let result = Next::spawn_next(self.process.spawn_next(child), true);
            self.process.allocator().fail_none();
            match result {
                Ok(next) => next,
                Err(error) => {
                    assert_eq!((error.kind, self.tally.alive()), (SpawnErrorKind::OutOfMemory, 1));
                    self.failed.set(true);
                    Next::spawn_next(self.process.spawn_next(error.future), true).unwrap()
                }
            }
        }
    }
    let checking = Checking::new();
    let (tally, failed) = (Tally::default(), Cell::new(false));
    let outcome = run(&checking, |p| {
        p.spawn(coroutine(Tries { process: p, tally: &tally, failed: &failed })).unwrap();
    });
    assert!(failed.get());
    assert_eq!((tally.made(), tally.alive()), (1, 0));
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// With nobody to return to, both end the fibre, and the routine is dropped at once.
#[test]
fn finishing_and_ending_the_fibre_are_the_same_without_calls() {
    for ends in [false, true] {
        let checking = Checking::new();
        let dropped = Cell::new(false);
        let outcome = run(&checking, |p| {
            let dropped = &dropped;
            let guard = OnDrop(move || dropped.set(true));
            p.spawn(coroutine(routine((ends, guard), |(ends, _), step, _| match step {
                0 => Next::give_way(1),
                1 if *ends => Next::end_fibre(),
                1 => Next::finish(()),
                _ => unreachable!("it has ended"),
            })))
            .unwrap();
            p.spawn(async move {
                assert!(!dropped.get());
                rounds(1).await;
                assert!(dropped.get());
            })
            .unwrap();
        });
        assert_outcome(outcome, [2, 0, 0, 0, 0]);
    }
}

/// A fibre that waits for a channel whose other end is gone is reclaimed, in either direction, also when it dies later.
#[test]
fn a_coroutine_collapses() {
    for later in [false, true] {
        let checking = Checking::new();
        let tally = Tally::default();
        let mut reports = Vec::new();
        let (_, outcome) = Setup::new(&checking)
            .report(&mut |report| reports.push((report.fate(), report.wait().direction())))
            .run(|p| {
                let (w, r) = p.channel::<u8>().unwrap();
                let (w2, r2) = p.channel().unwrap();
                let mut ends = Some((w, r2));
                if !later {
                    ends = None;
                }
                p.spawn(coroutine(routine((r, tally.token()), |(r, _), _, cx| {
                    ready!(r.poll_read(cx));
                    Next::finish(())
                })))
                .unwrap();
                p.spawn(coroutine(routine((w2, &tally), |(w, tally), step, cx| {
                    if step == 0 {
                        w.begin_write(tally.token());
                        return Next::go(1);
                    }
                    ready!(w.poll_write(cx));
                    Next::finish(())
                })))
                .unwrap();
                let tally = &tally;
                p.spawn(async move {
                    rounds(2).await;
                    assert_eq!(tally.alive(), if later { 2 } else { 0 });
                    drop(ends);
                    rounds(2).await;
                    assert_eq!((tally.made(), tally.alive()), (2, 0));
                })
                .unwrap();
            })
            .unwrap();
        assert_outcome(outcome, [1, 2, 0, 0, 0]);
        let collapsed = |direction| (Fate::Collapsed, Some(direction));
        reports.sort_by_key(|(_, direction)| *direction == Some(Direction::Write));
        assert_eq!(reports, [collapsed(Direction::Read), collapsed(Direction::Write)]);
        checking.assert_empty();
    }
}

/// A fibre that runs a routine is called by the routine's type: nobody wrote `Coroutine` in his program.
#[test]
fn reports_and_dumps_name_the_routine() {
    let checking = Checking::new();
    let (mut reports, mut waits) = (Vec::new(), Vec::new());
    let (seen, into) = (&mut waits, RefCell::default());
    let (_, outcome) = Setup::new(&checking)
        .report(&mut |report| reports.push(report.to_string()))
        .run(|p| {
            let into = &into;
            let (own, from) = p.channel_named("own").unwrap();
            p.spawn(coroutine(Collect { from, into })).unwrap();
            let (lost, from) = p.channel_named("lost").unwrap();
            drop(lost);
            p.fibre().name("by its own name").spawn(coroutine(Collect { from, into })).unwrap();
            p.spawn(async move {
                yield_now().await;
                p.dump(|wait| seen.push(wait.to_string()));
                std::mem::forget(own);
            })
            .unwrap();
        })
        .unwrap();
    let name = std::any::type_name::<Collect<'_, '_>>();
    assert_eq!(waits, [format!("fibre `{name}` waits to read from channel `own`")]);
    assert_eq!(
        reports,
        [
            "fibre `by its own name` collapsed while reading from channel `lost`: no other end was left".to_owned(),
            format!("fibre `{name}` deadlocked while reading from channel `own`: the other end was held outside"),
        ]
    );
    assert_outcome(outcome, [1, 1, 1, 0, 0]);
    checking.leak();
}

/// Two coroutines that each wait for the other: the report says who holds what.
#[test]
fn a_deadlock_of_coroutines_is_reported() {
    struct Waits<'p>(Reader<'p, u8>, #[expect(dead_code)] Writer<'p, u8>);
    impl Continuation for Waits<'_> {
        type Step = ();
        type Return = ();
        const START: () = ();

        fn resume(&mut self, (): (), cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
            ready!(self.0.poll_read(cx));
            Next::finish(())
        }
    }
    let checking = Checking::new();
    let mut reports = Vec::new();
    let (_, outcome) = Setup::new(&checking)
        .report(&mut |report| reports.push(report.to_string()))
        .run(|p| {
            let (wa, ra) = p.channel_named("a").unwrap();
            let (wb, rb) = p.channel_named("b").unwrap();
            p.fibre().name("one").spawn(coroutine(Waits(ra, wb))).unwrap();
            p.spawn(coroutine(Waits(rb, wa))).unwrap();
        })
        .unwrap();
    let name = std::any::type_name::<Waits<'_>>();
    assert_eq!(
        reports,
        [
            format!("fibre `one` deadlocked while reading from channel `a`: the other end was held by fibre `{name}`"),
            format!("fibre `{name}` deadlocked while reading from channel `b`: the other end was held by fibre `one`"),
        ]
    );
    assert_outcome(outcome, [0, 0, 2, 0, 0]);
    checking.assert_empty();
}

/// What each test below does to a coroutine before it resumes it once more.
#[track_caller]
fn assert_has_ended<C: Continuation<Return = ()>>(coroutine: Pin<&mut Coroutine<C>>) {
    let text = panic_of(|| poll(coroutine));
    assert!(text.contains(std::any::type_name::<C>()), "{text}");
    assert!(text.contains("resumed after it had ended or panicked"), "{text}");
}

#[test]
fn resuming_after_the_end_panics() {
    for ends in [false, true] {
        let mut ended = Box::pin(coroutine(routine(ends, |ends, step, _| match step {
            0 => Next::give_way(1),
            _ if *ends => Next::end_fibre(),
            _ => Next::finish(()),
        })));
        assert_waits(ended.as_mut());
        assert_eq!(poll(ended.as_mut()), Poll::Ready(()));
        assert_has_ended(ended.as_mut());
        assert_has_ended(ended.as_mut());
    }
}

#[test]
fn resuming_after_a_panic_panics() {
    let mut panics = Box::pin(coroutine(routine(0, |n, step, _| {
        *n += 1;
        assert!(*n < 2, "in a step");
        Next::give_way(step)
    })));
    assert_waits(panics.as_mut());
    assert_eq!(panic_of(|| poll(panics.as_mut())), "in a step");
    assert_has_ended(panics.as_mut());
}

/// A panic in a callee is one of the whole coroutine; the message names the callee, which stands on top.
#[test]
fn resuming_after_a_panic_in_a_callee_panics() {
    let checking = Checking::new();
    let callee = routine((), |(), _, _| panic!("in a callee"));
    let frame: InMemory<'_, (), u8> = Frame::new_in(callee, &checking).unwrap();
    let mut caller = Box::pin(coroutine(routine(frame, |frame, step, _| match step {
        0 => Next::call(frame, 1),
        _ => unreachable!("the callee did not return"),
    })));
    assert_eq!(panic_of(|| poll(caller.as_mut())), "in a callee");
    let text = panic_of(|| poll(caller.as_mut()));
    assert!(text.contains("resumed after it had ended or panicked"), "{text}");
    drop(caller);
    checking.assert_empty();
}

/// The destructor of a routine on the way panics: the fibre has ended all the same.
#[test]
fn resuming_after_a_panic_in_the_end_of_a_fibre_panics() {
    let checking = Checking::new();
    let guard = OnDrop(|| panic!("in a destructor"));
    let callee = routine(guard, |_, _, _| Next::end_fibre());
    let frame: InMemory<'_, _> = Frame::new_in(callee, &checking).unwrap();
    let mut caller = Box::pin(coroutine(routine(frame, |frame, step, _| match step {
        0 => Next::call(frame, 1),
        _ => unreachable!("the callee did not return"),
    })));
    assert_eq!(panic_of(|| poll(caller.as_mut())), "in a destructor");
    assert_has_ended(caller.as_mut());
    drop(caller);
    checking.assert_empty();
}

/// On any executor; there, giving way wakes.
#[test]
fn a_coroutine_runs_on_a_foreign_executor() {
    let steps = Cell::new(0);
    futures::executor::block_on(coroutine(routine(&steps, |steps, step, _| {
        steps.set(steps.get() + 1);
        match step {
            0..=4 => Next::give_way(step + 1),
            5..=9 => Next::go(step + 1),
            _ => Next::finish(()),
        }
    })));
    assert_eq!(steps.get(), 11);
}

/// Stopping the process destroys coroutines that wait and those that are ready.
#[test]
fn coroutines_are_stopped() {
    let checking = Checking::new();
    let tally = Tally::default();
    let outcome = run(&checking, |p| {
        let (w, r) = p.channel::<u8>().unwrap();
        p.spawn(coroutine(routine((r, w, tally.token()), |(r, _, _), _, cx| {
            ready!(r.poll_read(cx));
            Next::finish(())
        })))
        .unwrap();
        p.spawn(coroutine(routine(tally.token(), |_, _, _| Next::give_way(0)))).unwrap();
        p.spawn(coroutine(routine(tally.token(), |_, _, _| Next::finish(())))).unwrap();
        p.spawn(async move {
            rounds(3).await;
            p.stop();
        })
        .unwrap();
    });
    assert_eq!((tally.made(), tally.alive()), (3, 0));
    assert_outcome(outcome, [2, 0, 0, 2, 0]);
}
