//! Processes within fibres of other processes, on the same thread.

mod common;

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use common::{Checking, OnDrop, Trace, assert_outcome, panic_of, rounds, run};
use fibra_core::yield_now;

#[test]
fn a_process_runs_inside_a_fibre() {
    let checking = Checking::new();
    let inner = Checking::new();
    let trace = Trace::new();
    let outcome = run(&checking, |p| {
        let (trace, inner) = (&trace, &inner);
        p.spawn(async move {
            trace.push("before");
            let outcome = run(inner, |q| {
                let (mut w, mut r) = q.channel::<u8>().unwrap();
                q.spawn(async move { w.write(1).await }).unwrap();
                q.spawn(async move {
                    assert_eq!(r.read().await, 1);
                    trace.push("inside");
                })
                .unwrap();
            });
            assert_outcome(outcome, [2, 0, 0, 0, 0]);
            yield_now().await;
            trace.push("after");
        })
        .unwrap();
        p.spawn(async move { trace.push("bystander") }).unwrap();
    });
    assert_eq!(trace.take(), ["before", "inside", "bystander", "after"]);
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

#[test]
fn processes_nest_deeply() {
    fn nest(depth: usize) -> usize {
        let checking = Checking::new();
        let sum = Cell::new(0);
        run(&checking, |p| {
            let sum = &sum;
            p.spawn(async move {
                yield_now().await;
                sum.set(if depth == 0 { 1 } else { 1 + nest(depth - 1) });
                yield_now().await;
            })
            .unwrap();
        });
        sum.get()
    }
    assert_eq!(nest(20), 21);
}

/// Fibres of the inner process use ends of the outer one: what is ready completes, what waits collapses.
#[test]
fn inner_fibres_use_the_outer_processs_ends() {
    let checking = Checking::new();
    let inner = Checking::new();
    let seen = Trace::new();
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel::<u8>().unwrap();
        let (mut w2, mut r2) = p.channel::<u8>().unwrap();
        let (seen, inner) = (&seen, &inner);
        p.spawn(async move {
            for n in 0..3 {
                w.write(n).await;
            }
        })
        .unwrap();
        p.spawn(async move {
            while let Some(n) = r2.read_or_end().await {
                seen.push(n + 100)
            }
        })
        .unwrap();
        p.spawn(async move {
            let outcome = run(inner, |q| {
                let r = &mut r;
                q.spawn(async move {
                    seen.push(r.read().await);
                    r.read().await;
                    unreachable!("the outer writer cannot run meanwhile");
                })
                .unwrap();
                let w2 = &mut w2;
                q.spawn(async move { w2.write(7).await }).unwrap();
            });
            assert_outcome(outcome, [1, 1, 0, 0, 0]);
            // What the inner fibre had begun is taken back.
            seen.push(r.read().await);
            seen.push(r.read().await);
        })
        .unwrap();
    });
    let mut seen = seen.take();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 107]);
    assert_outcome(outcome, [3, 0, 0, 0, 0]);
}

/// Ends of the outer process that are owned by inner fibres go with them.
#[test]
fn inner_fibres_own_the_outer_processs_ends() {
    let checking = Checking::new();
    let inner = Checking::new();
    let outcome = run(&checking, |p| {
        let (w, mut r) = p.channel::<u8>().unwrap();
        let (mut w2, r2) = p.channel::<u8>().unwrap();
        p.spawn(async move { while r.read().await < 9 {} }).unwrap();
        p.spawn(async move {
            loop {
                w2.write(1).await
            }
        })
        .unwrap();
        let inner = &inner;
        p.spawn(async move {
            let outcome = run(inner, |q| {
                q.spawn(async move {
                    let _mine = (w, r2);
                    pending::<()>().await;
                })
                .unwrap();
            });
            assert_outcome(outcome, [0, 1, 0, 0, 0]);
        })
        .unwrap();
    });
    assert_outcome(outcome, [1, 2, 0, 0, 0]);
}

/// The inner fibre polls an outer read with the outer process's own waker, which it borrowed.
#[test]
fn an_inner_fibre_polls_with_the_outer_waker() {
    let checking = Checking::new();
    let inner = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel::<u8>().unwrap();
        let inner = &inner;
        p.spawn(async move {
            let mut read = r.read();
            let value = poll_fn(|cx| {
                let waker = cx.waker();
                let polled = Cell::new(Poll::Pending);
                let outcome = run(inner, |q| {
                    let (read, polled) = (&mut read, &polled);
                    q.spawn(async move {
                        yield_now().await;
                        let cx = &mut Context::from_waker(waker);
                        polled.set(Pin::new(&mut *read).poll(cx));
                        yield_now().await;
                    })
                    .unwrap();
                });
                assert_outcome(outcome, [1, 0, 0, 0, 0]);
                polled.get()
            });
            assert_eq!(value.await, 5);
        })
        .unwrap();
        p.spawn(async move { w.write(5).await }).unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// An inner fibre spawns into the outer process and stops it.
#[test]
fn an_inner_fibre_uses_the_outer_process() {
    let checking = Checking::new();
    let inner = Checking::new();
    let trace = Trace::new();
    let outcome = run(&checking, |p| {
        let (inner, trace) = (&inner, &trace);
        p.spawn(async move {
            run(inner, |q| {
                q.spawn(async move {
                    p.spawn(async move { trace.push("outer child") }).unwrap();
                    q.spawn(async move { trace.push("inner child") }).unwrap();
                    p.dump(|_| unreachable!("nobody is parked"));
                })
                .unwrap();
            });
            rounds(2).await;
            run(inner, |q| q.spawn(async move { p.stop() }).unwrap());
            yield_now().await;
            unreachable!("it was stopped");
        })
        .unwrap();
    });
    assert_eq!(trace.take(), ["inner child", "outer child"]);
    assert_outcome(outcome, [1, 0, 0, 1, 0]);
}

#[test]
fn an_inner_panic_goes_through_the_outer_process() {
    let checking = Checking::new();
    let inner = Checking::new();
    let dropped = Cell::new(0);
    let text = panic_of(|| {
        fibra_core::run(&checking, |p| {
            let (w, mut r) = p.channel::<u8>().unwrap();
            let (inner, dropped) = (&inner, &dropped);
            let count = move || OnDrop(move || dropped.set(dropped.get() + 1));
            p.spawn(async move {
                let _guard = count();
                r.read().await;
            })
            .unwrap();
            p.spawn(async move {
                let _guard = (count(), w);
                run(inner, |q| {
                    q.spawn(async move {
                        let _guard = count();
                        panic!("innermost");
                    })
                    .unwrap();
                });
            })
            .unwrap();
        })
    });
    assert_eq!(text, "innermost");
    assert_eq!(dropped.get(), 3);
    checking.assert_empty();
    inner.assert_empty();
}

/// A process in a destructor: while a fibre collapses, and while its process closes.
#[test]
fn a_process_runs_inside_a_destructor() {
    let checking = Checking::new();
    let inner = Checking::new();
    let runs = Cell::new(0);
    run(&checking, |p| {
        let (inner, runs) = (&inner, &runs);
        let guard = move || {
            OnDrop(move || {
                let outcome = run(inner, |q| {
                    q.spawn(rounds(2)).unwrap();
                    q.spawn(pending()).unwrap();
                });
                assert_outcome(outcome, [1, 1, 0, 0, 0]);
                runs.set(runs.get() + 1);
            })
        };
        p.spawn(async move {
            let _guard = guard();
            pending::<()>().await;
        })
        .unwrap();
        p.spawn(async move {
            let _guard = guard();
            let (_w, mut r) = p.channel::<u8>().unwrap();
            r.read().await;
        })
        .unwrap();
    });
    assert_eq!(runs.get(), 2);
}

/// The inner process has its memory from the same pool as the outer one.
#[test]
fn an_inner_process_shares_the_pool() {
    common::with_pool(|pool| {
        let (_, outcome) = fibra_core::run(pool, |p| {
            let (mut w, mut r) = p.channel::<u32>().unwrap();
            p.spawn(async move {
                for n in 0..10 {
                    let (sum, _) = fibra_core::run(p.allocator(), |q| {
                        q.spawn(rounds(n)).unwrap();
                        n as u32
                    })
                    .unwrap();
                    w.write(sum).await;
                }
            })
            .unwrap();
            p.spawn(async move {
                let mut sum = 0;
                while let Some(n) = r.read_or_end().await {
                    sum += n;
                }
                assert_eq!(sum, 45);
            })
            .unwrap();
        })
        .unwrap();
        assert_outcome(outcome, [2, 0, 0, 0, 0]);
    });
}
