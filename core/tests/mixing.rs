//! Explicit and `async` routines call each other, in all orders and on all executors; values pass, panics pass, and whatever
//! is dropped half-way leaves nothing behind.

mod common;

use std::cell::Cell;
use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use common::routines::{InMemory, InProcess, Routine, assert_waits, poll, routine};
use common::{Caught, Checking, OnDrop, P, Tally, Trace, assert_outcome, hub, panic_of, poll_once, rounds, run};
use fibra_core::{AllocRef, Async, Continuation, Frame, Next, Reader, Setup, Writer, coroutine, yield_now};
use futures::StreamExt;
use futures::executor::block_on;
use futures::future::{Either, join, join3, select};
use futures::stream::FuturesUnordered;

/// A subroutine that gives way that often, and then returns twice its argument.
fn double(n: u32, times: u8) -> Routine<(u32, u8), u32> {
    routine(
        (n, times),
        |(n, times), step, _| {
            if step < *times { Next::give_way(step + 1) } else { Next::finish(*n * 2) }
        },
    )
}

/// A subroutine that reads a number.
fn read(from: Reader<'_, u32>) -> Routine<Reader<'_, u32>, u32> {
    routine(from, |from, _, cx| Next::finish(ready!(from.poll_read(cx))))
}

#[test]
fn async_calls_explicit() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut w, r) = p.channel().unwrap();
        p.spawn(async move {
            let mut frame = p.frame(double(21, 3)).unwrap().curried();
            assert_eq!(frame.call().await, 42);
            frame.state.0 = 4;
            assert_eq!(frame.call().await, 8);
            let mut reads = p.frame(read(r)).unwrap().curried();
            assert_eq!(reads.call().await, 1);
            assert_eq!(reads.call().await, 2);
        })
        .unwrap();
        p.spawn(async move {
            w.write(1).await;
            rounds(2).await;
            w.write(2).await;
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

#[test]
fn calls_are_joined() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut w1, r1) = p.channel().unwrap();
        let (mut w2, r2) = p.channel().unwrap();
        p.spawn(async move {
            let (mut a, mut b) = (p.frame(read(r1)).unwrap(), p.frame(read(r2)).unwrap());
            let mut c = p.frame(double(5, 2)).unwrap();
            assert_eq!(join3(a.call(), b.call(), c.call()).await, (1, 2, 10));
        })
        .unwrap();
        p.spawn(async move {
            w2.write(2).await;
            rounds(5).await;
            w1.write(1).await;
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// What `select` drops half-way is destroyed at once, but a value that it was handed is not lost: it is the reader's.
#[test]
fn a_call_is_dropped_half_way() {
    let checking = Checking::new();
    let tally = Tally::default();
    let outcome = run(&checking, |p| {
        let (mut w1, mut r1) = p.channel::<u32>().unwrap();
        let (mut w2, r2) = p.channel::<u32>().unwrap();
        let tally = &tally;
        p.spawn(async move {
            let token = tally.token();
            let reads = routine((&mut r1, token), |(r, _), _, cx| Next::finish(ready!(r.poll_read(cx))));
            let (mut a, mut b) = (p.frame(reads).unwrap(), p.frame(read(r2)).unwrap());
            // Both are woken before the fibre is polled again.
            let Either::Left((2, call)) = select(b.call(), a.call()).await else { panic!("the first comes first") };
            let live = p.allocator().live();
            drop(call);
            assert_eq!(
                (tally.alive(), p.allocator().live()),
                (0, live),
                "the routine is gone, its block is the frame's"
            );
            assert_eq!(a.result(), None);
            drop((a, b));
            assert_eq!(p.allocator().live(), live - 2);
            assert_eq!(r1.read().await, 1);
        })
        .unwrap();
        p.spawn(async move {
            w2.write(2).await;
            w1.write(1).await;
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// The frame was in the middle of a call: it begins anew, and the routine has what it had.
#[test]
fn a_forgotten_call_is_made_again() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut w, r) = p.channel().unwrap();
        p.spawn(async move {
            let calls = routine((0, r), |(calls, r): &mut (u32, Reader<'_, u32>), step, cx| {
                if step == 0 {
                    *calls += 1;
                    return Next::go(1);
                }
                let read = ready!(r.poll_read(cx));
                Next::finish(100 * *calls + read)
            });
            let mut frame = p.frame(calls).unwrap().curried();
            for _ in 0..3 {
                common::poll_and_forget(frame.call()).await;
            }
            assert_eq!(frame.state.0, 3);
            assert_eq!(frame.result(), None);
            yield_now().await;
            assert_eq!(frame.call().await, 407);
        })
        .unwrap();
        p.spawn(async move {
            w.write(7).await;
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// Calls a future, and gives what it returns and one more.
struct Calls<F: Future<Output = u32>, A: AllocRef>(Frame<Async<F>, A>);

impl<F: Future<Output = u32>, A: AllocRef> Continuation for Calls<F, A> {
    type Step = bool;
    type Return = u32;
    const START: bool = false;

    fn resume(&mut self, has_returned: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        match has_returned {
            false => Next::call(&mut self.0, true),
            true => Next::finish(self.0.result().unwrap() + 1),
        }
    }
}

#[test]
fn explicit_calls_async() {
    let checking = Checking::new();
    let got = Cell::new(0);
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel().unwrap();
        let future = p.frame_async(async move {
            yield_now().await;
            r.read().await
        });
        let calls = p.frame(Calls(future.unwrap())).unwrap();
        p.spawn(coroutine(routine((calls, &got), |(calls, got), step, _| match step {
            0 => Next::call(calls, 1),
            _ => {
                got.set(calls.result().unwrap());
                Next::finish(())
            }
        })))
        .unwrap();
        p.spawn(async move { w.write(6).await }).unwrap();
    });
    assert_eq!(got.get(), 7);
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// `async` over explicit over `async` over explicit, as deep as that.
fn tower<'p>(floors: u32, p: &'p P<'p, '_, '_>, alive: &'p Tally) -> Pin<Box<dyn Future<Output = u32> + 'p>> {
    Box::pin(async move {
        let _token = alive.token();
        if floors == 0 {
            yield_now().await;
            return p.frame(double(1, 2)).unwrap().call().await;
        }
        let above = p.frame_async(tower(floors - 1, p, alive)).unwrap();
        let mut frame = p.frame(Calls(above)).unwrap();
        10 * frame.call().await
    })
}

#[test]
fn levels_alternate() {
    let (checking, alive) = (Checking::new(), Tally::default());
    let got = Cell::new(0);
    let outcome = run(&checking, |p| {
        let empty = checking.live();
        assert_eq!(block_on(tower(0, p, &alive)), 2);
        assert_eq!(block_on(tower(1, p, &alive)), 30);
        assert_eq!(block_on(tower(3, p, &alive)), 3110);
        assert_eq!(checking.live(), empty);
        // Torn down half-way, at each of its waits.
        for polls in 0..4 {
            let mut half_way = tower(5, p, &alive);
            for _ in 0..polls {
                assert_waits(half_way.as_mut());
            }
            assert_eq!(alive.alive(), if polls == 0 { 0 } else { 6 });
            drop(half_way);
            assert_eq!((alive.alive(), checking.live()), (0, empty));
        }
        let (got, alive) = (&got, &alive);
        p.spawn(async move { got.set(tower(4, p, alive).await) }).unwrap();
    });
    assert_eq!(got.get(), 31_110);
    assert_outcome(outcome, [1, 0, 0, 0, 0]);
}

/// Outside of processes nothing but the executor's own waker is needed.
#[test]
fn calls_run_on_foreign_executors() {
    let checking = Checking::new();
    let mut frame = Frame::new_in(double(4, 10), &checking).unwrap().curried();
    assert_eq!(block_on(frame.call()), 8);
    assert_eq!(block_on(async { frame.call().await + frame.call().await }), 16);
    drop(frame);
    checking.assert_empty();
    // An `async` routine's frame is a process's, but a foreign executor can call it.
    run(&checking, |p| {
        let (tell, told) = futures::channel::oneshot::channel::<u32>();
        let told = p.frame_async(async { told.await.unwrap() }).unwrap();
        let mut calls = p.frame(Calls(told)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || tell.send(1));
            assert_eq!(block_on(calls.call()), 2);
        });
    });
}

/// Within a fibre, a foreign executor that blocks, as one might in a destructor: a process in it runs all the same.
#[test]
fn a_process_runs_within_a_call() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        p.spawn(coroutine(routine(p, |p: &mut &P<'_, '_, '_>, _, _| {
            let (n, outcome) = fibra_core::run(*p.allocator(), |inner| {
                let mut frame = inner.frame(double(3, 1)).unwrap().curried();
                let n = block_on(frame.call());
                inner.spawn(async move { assert_eq!(frame.call().await, 6) }).unwrap();
                n
            })
            .unwrap();
            assert_eq!(n, 6);
            assert_outcome(outcome, [1, 0, 0, 0, 0]);
            Next::finish(())
        })))
        .unwrap();
    });
    assert_outcome(outcome, [1, 0, 0, 0, 0]);
}

/// Many calls at once, each woken by itself.
#[test]
fn calls_run_in_an_unordered_set() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let mut writers = Vec::new();
        let mut frames = Vec::new();
        for _ in 0..20 {
            let (w, r) = p.channel().unwrap();
            writers.push(w);
            frames.push(p.frame(read(r)).unwrap());
        }
        p.spawn(async move {
            let mut calls: FuturesUnordered<_> = frames.iter_mut().map(Frame::call).collect();
            let mut sum = 0;
            while let Some(n) = calls.next().await {
                sum += n;
            }
            assert_eq!(sum, 190);
            drop(calls);
            assert!(frames.iter_mut().all(|frame| frame.result().is_none()));
        })
        .unwrap();
        p.spawn(async move {
            for (n, w) in writers.iter_mut().enumerate().rev() {
                w.write(n as u32).await;
            }
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// Coroutines in a set, a thing that only wants futures; some end, and the others are dropped with the set.
#[test]
fn coroutines_run_in_an_unordered_set() {
    let checking = Checking::new();
    let tally = Tally::default();
    let outcome = run(&checking, |p| {
        let tally = &tally;
        p.spawn(async move {
            let frame = |n: u8| -> InProcess<'_, '_, _> {
                p.frame(routine((n, tally.token()), |(n, _), step, _| match step {
                    _ if *n > 5 => Poll::Pending,
                    0..5 => Next::give_way(step + 1),
                    _ => Next::finish(()),
                }))
                .unwrap()
            };
            let make = |n| {
                coroutine(routine(frame(n), |frame, step, _| match step {
                    0 => Next::call(frame, 1),
                    _ => Next::finish(()),
                }))
            };
            let mut set: FuturesUnordered<_> = (0..10).map(make).collect();
            for _ in 0..6 {
                assert!(set.next().await.is_some());
            }
            assert_eq!((set.len(), tally.alive()), (4, 4), "what ended is released at once");
        })
        .unwrap();
    });
    assert_eq!((tally.made(), tally.alive()), (10, 0));
    assert_outcome(outcome, [1, 0, 0, 0, 0]);
}

/// A callee that waits for something outside of the process, by means of its fibre's wake cell.
#[test]
fn a_callee_waits_for_a_thread() {
    let checking = Checking::new();
    let got = Cell::new(0);
    let (_, outcome) = Setup::new(&checking)
        .hub(hub!(2))
        .run(|p| {
            let (tell, told) = futures::channel::oneshot::channel::<u32>();
            let told = p.frame_async(async move { told.await.unwrap() }).unwrap();
            let calls = p.frame(Calls(told)).unwrap();
            let fibre = coroutine(routine((calls, &got), |(calls, got), step, _| match step {
                0 => Next::call(calls, 1),
                _ => {
                    got.set(calls.result().unwrap());
                    Next::finish(())
                }
            }));
            p.fibre().waker().spawn(fibre).unwrap();
            std::thread::spawn(move || tell.send(8));
        })
        .unwrap();
    assert_eq!(got.get(), 9);
    assert_outcome(outcome, [1, 0, 0, 0, 0]);
    checking.assert_empty();
}

/// A callee ends the fibre of an `async` caller: the call never returns, and the fibre is reclaimed, unless it waits for
/// other things too.
#[test]
fn an_async_callers_fibre_is_ended() {
    let checking = Checking::new();
    let tally = Tally::default();
    let trace = Trace::new();
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel::<u8>().unwrap();
        let (tally, trace) = (&tally, &trace);
        let ends = move || -> InProcess<'_, '_, _> {
            let inner: InProcess<'_, '_, _> = p.frame(routine(tally.token(), |_, _, _| Next::end_fibre())).unwrap();
            p.frame(routine((tally.token(), inner), |(_, inner), _, _| Next::call(inner, 1))).unwrap()
        };
        p.spawn(async move {
            let _token = tally.token();
            ends().call().await;
            unreachable!("there is nothing to return to");
        })
        .unwrap();
        p.spawn(async move {
            let mut frame = ends();
            let Either::Right((5, call)) = select(frame.call(), r.read()).await else { panic!("the call has ended") };
            assert_eq!(tally.alive(), 0);
            // It stays so.
            let mut call = call;
            assert!(poll_once(&mut call).await.is_pending());
            drop(call);
            trace.push(panic_of(|| poll(pin!(frame.call()))));
        })
        .unwrap();
        p.spawn(async move {
            rounds(3).await;
            w.write(5).await;
        })
        .unwrap();
    });
    assert_eq!((tally.made(), tally.alive()), (5, 0));
    let text = trace.take().concat();
    assert!(text.contains("destroyed in the middle of a call"), "{text}");
    assert_outcome(outcome, [2, 1, 0, 0, 0]);
}

/// A panic on each of the levels; the fibre goes alone, everything of it is dropped, and the others go on.
#[test]
fn panics_pass_through_all_levels() {
    for level in 0..6 {
        let (checking, frames) = (Checking::new(), Checking::new());
        let tally = Tally::default();
        let mut caught = Caught::default();
        let mut catch = |f: &mut dyn FnMut()| caught.catch(f);
        let (_, outcome) = Setup::new(&checking)
            .catch(&mut catch)
            .isolate_panics()
            .run(|p| {
                let (frames, tally) = (&frames, &tally);
                let explode = move |at: u32| assert!(at != level, "on level {at}");
                type Explode<'a> = Rc<dyn Fn(u32) + 'a>;
                let explode: Explode<'_> = Rc::new(explode);
                let (e1, e2, e3) = (explode.clone(), explode.clone(), explode.clone());
                // Explicit, called by `async`, called by explicit.
                let inner: InMemory<'_, _, u32> = Frame::new_in(
                    routine((tally.token(), e1), |(_, explode), step, _| match step {
                        0 => {
                            explode(0);
                            Next::give_way(1)
                        }
                        _ => {
                            explode(1);
                            Next::finish(1)
                        }
                    }),
                    frames,
                )
                .unwrap();
                let token = tally.token();
                let middle = p.frame_async(async move {
                    let _token = token;
                    let mut inner = inner;
                    e2(2);
                    let n = inner.call().await;
                    e2(3);
                    n
                });
                let middle = middle.unwrap();
                let state = (tally.token(), e3, Frame::new_in(Calls(middle), frames).unwrap());
                p.spawn(coroutine(routine(state, |(_, explode, calls), step, _| match step {
                    0 => {
                        explode(4);
                        Next::call(calls, 1)
                    }
                    _ => {
                        explode(5);
                        Next::finish(())
                    }
                })))
                .unwrap();
                p.spawn(rounds(4)).unwrap();
            })
            .unwrap();
        assert_eq!(caught.0, [format!("on level {level}")]);
        assert_eq!((tally.made(), tally.alive()), (3, 0));
        assert_outcome(outcome, [1, 0, 0, 0, 1]);
        checking.assert_empty();
        frames.assert_empty();
    }
}

/// While a chain of calls is torn down, a destructor uses the runtime: writes, spawns, lets others collapse, calls.
#[test]
fn destructors_use_the_runtime() {
    for stops in [false, true] {
        let checking = Checking::new();
        let trace = Trace::new();
        let outcome = run(&checking, |p| {
            let trace = &trace;
            let (w, r) = p.channel::<u8>().unwrap();
            let (mut to, mut from) = p.channel::<u8>().unwrap();
            let (held, mut never) = p.channel::<u8>().unwrap();
            let mut held = Some(held);
            let guard = OnDrop(move || {
                trace.push(if to.try_write(9).is_ok() { "written" } else { "nobody reads" });
                drop(held.take());
                let spawned = p.spawn(async move { trace.push("spawned") });
                trace.push(if spawned.is_ok() { "spawns" } else { "is closing" });
                let n = block_on(p.frame(double(8, 2)).unwrap().call());
                assert_eq!(n, 16);
            });
            let waits: InProcess<'_, '_, _> = p
                .frame(routine((guard, r), |(_, r): &mut (_, Reader<'_, u8>), _, cx| {
                    ready!(r.poll_read(cx));
                    Next::finish(())
                }))
                .unwrap();
            let below = OnDrop(move || trace.push("below"));
            p.spawn(coroutine(routine((below, waits), |(_, waits), _, _| Next::call(waits, 1)))).unwrap();
            p.spawn(async move {
                assert_eq!(from.read().await, 9);
                trace.push("read");
            })
            .unwrap();
            p.spawn(async move {
                let _guard = OnDrop(|| trace.push("collapsed"));
                never.read().await;
            })
            .unwrap();
            p.spawn(async move {
                rounds(2).await;
                if stops {
                    p.stop();
                }
                drop(w);
            })
            .unwrap();
        });
        let trace = trace.take();
        if stops {
            assert!(trace.contains(&"is closing") && trace.contains(&"below"), "{trace:?}");
            assert_eq!(common::counts(outcome).iter().sum::<usize>(), 4);
        } else {
            assert_eq!(trace[..3], ["written", "spawns", "below"]);
            assert!(["read", "spawned", "collapsed"].iter().all(|event| trace.contains(event)), "{trace:?}");
            assert_outcome(outcome, [3, 2, 0, 0, 0]);
        }
    }
}

/// A frame is made by one fibre, called half-way, and handed to another in the middle of its wait.
#[test]
fn a_frame_is_handed_to_another_fibre() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut w, r) = p.channel().unwrap();
        let (mut give, mut take): (Writer<'_, InProcess<'_, '_, _, u32>>, _) = p.channel().unwrap();
        p.spawn(async move {
            let mut frame = p.frame(read(r)).unwrap();
            common::poll_and_forget(frame.call()).await;
            give.write(frame).await;
            // Its read would now be another's wait.
            pending::<()>().await;
        })
        .unwrap();
        p.spawn(async move {
            let mut frame = take.read().await;
            let mut call = pin!(frame.call());
            assert!(poll_once(&mut call).await.is_pending());
            assert_eq!(call.await, 3);
        })
        .unwrap();
        p.spawn(async move {
            rounds(4).await;
            w.write(3).await;
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 1, 0, 0, 0]);
}

/// Waits in two explicit callees of one fibre at once, of which one is dead: the fibre goes on with the other.
#[test]
fn collapse_sees_through_calls() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (dead, r1) = p.channel().unwrap();
        let (mut w, r2) = p.channel().unwrap();
        p.spawn(async move {
            let (mut a, mut b) = (p.frame(read(r1)).unwrap(), p.frame(read(r2)).unwrap());
            let Either::Right((4, _)) = select(a.call(), b.call()).await else { panic!("the first is dead") };
            // Both dead: this is the end.
            join(a_dead(p), a_dead(p)).await;
        })
        .unwrap();
        p.spawn(async move {
            yield_now().await;
            drop(dead);
            rounds(3).await;
            w.write(4).await;
        })
        .unwrap();
    });
    assert_outcome(outcome, [1, 1, 0, 0, 0]);
}

async fn a_dead<'p>(p: &'p P<'p, '_, '_>) -> u32 {
    let (_, r) = p.channel().unwrap();
    p.frame(read(r)).unwrap().call().await
}

/// Polled in the same process, but under a waker of somebody else.
#[test]
fn calls_under_foreign_wakers_wait_too() {
    let checking = Checking::new();
    let wakes = common::CountWakes::new();
    let outcome = run(&checking, |p| {
        let (mut w, r) = p.channel().unwrap();
        let mut frame = p.frame(read(r)).unwrap();
        let waker = wakes.clone().into();
        let wakes = &wakes;
        p.spawn(async move {
            let mut call = pin!(frame.call());
            let cx = &mut Context::from_waker(&waker);
            assert!(call.as_mut().poll(cx).is_pending());
            rounds(3).await;
            assert_eq!(wakes.wakes(), 1);
            assert_eq!(call.as_mut().poll(cx), Poll::Ready(6));
        })
        .unwrap();
        p.spawn(async move { w.write(6).await }).unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// By hand, with nothing but a waker that does nothing.
#[test]
fn calls_are_polled_by_hand() {
    let checking = Checking::new();
    let mut frame = Frame::new_in(double(2, 2), &checking).unwrap();
    let mut call = Box::pin(frame.call());
    assert!(format!("{call:?}").starts_with("Call(`"));
    assert_waits(call.as_mut());
    assert_waits(call.as_mut());
    assert_eq!(poll(call.as_mut()), Poll::Ready(4));
    assert_waits(call.as_mut());
    drop(call);
    assert!(format!("{frame:?}").starts_with("Frame(`"));
    drop(frame);
    checking.assert_empty();
}
