//! C5 and C7: each fibre's block goes back once, when nothing names the fibre any more: whatever it still waits for, and
//! whoever has its pending operations by then.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use common::{Caught, Checking, OnDrop, assert_outcome, panic_of, poll_and_forget, poll_once, rounds, run};
use fibra_core::{Setup, yield_now};

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A future that owns a pending read when it completes: the read is dropped with the fibre, not in its poll.
#[test]
fn a_fibre_finishes_with_a_pending_read() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (w, mut r) = p.channel::<u8>().unwrap();
        let mut read = Box::pin(async move { r.read().await });
        p.spawn(poll_fn(move |cx| {
            assert!(read.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        }))
        .unwrap();
        p.spawn(async move {
            rounds(3).await;
            drop(w);
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

#[test]
fn a_fibre_finishes_with_a_pending_write() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut w, r) = p.channel::<String>().unwrap();
        let mut write = Box::pin(async move { w.write("never read".to_owned()).await });
        p.spawn(poll_fn(move |cx| {
            assert!(write.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        }))
        .unwrap();
        p.spawn(async move {
            rounds(3).await;
            drop(r);
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// The same with several waits, which go one after the other while the future is being dropped.
#[test]
fn a_fibre_finishes_with_several_pending_operations() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let mut others = Vec::new();
        let mut waits: Vec<Boxed<'_, ()>> = Vec::new();
        for _ in 0..3 {
            let (w, mut r) = p.channel::<u8>().unwrap();
            let (mut w2, r2) = p.channel::<u8>().unwrap();
            waits.push(Box::pin(async move { while r.read().await > 0 {} }));
            waits.push(Box::pin(async move { w2.write(1).await }));
            others.push((w, r2));
        }
        p.spawn(poll_fn(move |cx| {
            for wait in &mut waits {
                assert!(wait.as_mut().poll(cx).is_pending());
            }
            Poll::Ready(())
        }))
        .unwrap();
        p.spawn(async move {
            rounds(3).await;
            drop(others);
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// While its future is being dropped, its own pending read is served.
#[test]
fn a_pending_read_is_served_while_its_fibre_is_dropped() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel::<u8>().unwrap();
        let mut read = Box::pin(async move { r.read().await });
        let guard = OnDrop(move || w.try_write(1).unwrap());
        let mut parts = Some((guard, ()));
        let fibre = poll_fn(move |cx| {
            // Dropped in this order: the guard writes, and only then the read goes.
            let (_guard, read) = (&mut parts, &mut read);
            assert!(read.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        });
        p.spawn(fibre).unwrap();
        p.spawn(rounds(3)).unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

#[test]
fn a_fibre_panics_with_a_pending_read() {
    let checking = Checking::new();
    let text = panic_of(|| {
        fibra_core::run(&checking, |p| {
            let (w, mut r) = p.channel::<u8>().unwrap();
            let mut read = Box::pin(async move { r.read().await });
            p.spawn(poll_fn(move |cx| {
                let _ = &w;
                assert!(read.as_mut().poll(cx).is_pending());
                panic!("with a read pending")
            }))
            .unwrap();
        })
    });
    assert_eq!(text, "with a read pending");
    checking.assert_empty();
}

#[test]
fn an_isolated_fibre_panics_with_pending_operations() {
    let checking = Checking::new();
    let mut caught = Caught::default();
    let mut catch = |f: &mut dyn FnMut()| caught.catch(f);
    let (_, outcome) = Setup::new(&checking)
        .catch(&mut catch)
        .isolate_panics()
        .run(|p| {
            let (mut w, mut r) = p.channel::<u8>().unwrap();
            let (mut w2, mut r2) = p.channel::<u8>().unwrap();
            let mut read = Box::pin(async move { r.read().await });
            let mut write = Box::pin(async move { w2.write(1).await });
            p.spawn(poll_fn(move |cx| {
                assert!(read.as_mut().poll(cx).is_pending());
                assert!(write.as_mut().poll(cx).is_pending());
                panic!("with both pending")
            }))
            .unwrap();
            p.spawn(async move {
                yield_now().await;
                assert_eq!(w.try_write(1), Err(1), "the reader is gone");
                assert_eq!(r2.try_read(), None, "the writer is gone");
            })
            .unwrap();
        })
        .unwrap();
    assert_eq!(caught.0, ["with both pending"]);
    checking.assert_empty();
    assert_outcome(outcome, [1, 0, 0, 0, 1]);
}

/// The first fibre leaves its pending read to a second one and waits for nothing else. When the second takes the read over,
/// nothing can wake the first any more.
#[test]
fn a_fibre_whose_wait_was_taken_over_collapses() {
    let checking = Checking::new();
    let (dropped, got) = (Cell::new(false), Cell::new(0));
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel::<u8>().unwrap();
        let shared: Rc<Cell<Option<Boxed<'_, u8>>>> = Rc::default();
        let (dropped, got) = (&dropped, &got);
        let for_other = shared.clone();
        p.spawn(async move {
            let _guard = OnDrop(|| dropped.set(true));
            let mut read: Boxed<'_, u8> = Box::pin(async move { r.read().await });
            assert!(poll_once(&mut read).await.is_pending());
            for_other.set(Some(read));
            pending::<()>().await;
        })
        .unwrap();
        p.spawn(async move {
            let read = shared.take().unwrap();
            got.set(read.await);
        })
        .unwrap();
        p.spawn(async move {
            rounds(3).await;
            assert!(dropped.get(), "it is reclaimed as soon as nothing can wake it");
            w.write(7).await;
        })
        .unwrap();
    });
    assert_eq!(got.get(), 7);
    assert_outcome(outcome, [2, 1, 0, 0, 0]);
}

/// The same, but the second fibre only drops it.
#[test]
fn a_fibre_whose_wait_was_dropped_by_another_collapses() {
    let checking = Checking::new();
    let dropped = Cell::new(false);
    let outcome = run(&checking, |p| {
        let (mut w, r) = p.channel::<u8>().unwrap();
        let shared: Rc<Cell<Option<Boxed<'_, ()>>>> = Rc::default();
        let dropped = &dropped;
        let for_other = shared.clone();
        p.spawn(async move {
            let _guard = OnDrop(|| dropped.set(true));
            let mut write: Boxed<'_, ()> = Box::pin(async move { w.write(1).await });
            assert!(poll_once(&mut write).await.is_pending());
            for_other.set(Some(write));
            pending::<()>().await;
        })
        .unwrap();
        p.spawn(async move {
            drop(shared.take().unwrap());
            rounds(2).await;
            drop(r);
        })
        .unwrap();
    });
    assert!(dropped.get());
    assert_outcome(outcome, [1, 1, 0, 0, 0]);
}

/// The same, and it is the destructor of a fibre that collapses which drops it.
#[test]
fn a_fibre_whose_wait_went_with_another_fibre_collapses() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (w, mut r) = p.channel::<u8>().unwrap();
        let shared: Rc<Cell<Option<Boxed<'_, u8>>>> = Rc::default();
        let for_other = shared.clone();
        p.spawn(async move {
            let mut read: Boxed<'_, u8> = Box::pin(async move { r.read().await });
            assert!(poll_once(&mut read).await.is_pending());
            for_other.set(Some(read));
            drop(for_other);
            pending::<()>().await;
        })
        .unwrap();
        p.spawn(async move {
            let _read = shared.take();
            pending::<()>().await;
        })
        .unwrap();
        p.spawn(async move {
            rounds(3).await;
            drop(w);
        })
        .unwrap();
    });
    assert_outcome(outcome, [1, 2, 0, 0, 0]);
}

/// A finished fibre is still named by its pending read, which another fibre has; then it is served.
#[test]
fn a_finished_fibre_named_by_a_read_that_is_served() {
    let checking = Checking::new();
    let got = Cell::new(0);
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel::<u8>().unwrap();
        let shared: Rc<Cell<Option<Boxed<'_, u8>>>> = Rc::default();
        let for_other = shared.clone();
        let got = &got;
        p.spawn(async move {
            let mut read: Boxed<'_, u8> = Box::pin(async move { r.read().await });
            assert!(poll_once(&mut read).await.is_pending());
            for_other.set(Some(read));
        })
        .unwrap();
        p.spawn(async move {
            rounds(2).await;
            w.write(7).await;
            got.set(shared.take().unwrap().await);
        })
        .unwrap();
    });
    assert_eq!(got.get(), 7);
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// A finished fibre is still named by its pending wait for the end, which another fibre has; then the end comes.
#[test]
fn a_finished_fibre_named_by_a_wait_for_the_end() {
    for poll_after in [false, true] {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let (w, mut r) = p.channel::<u8>().unwrap();
            let shared: Rc<Cell<Option<Boxed<'_, Option<u8>>>>> = Rc::default();
            let for_other = shared.clone();
            p.spawn(async move {
                let mut read: Boxed<'_, _> = Box::pin(async move { r.read_or_end().await });
                assert!(poll_once(&mut read).await.is_pending());
                for_other.set(Some(read));
            })
            .unwrap();
            p.spawn(async move {
                rounds(2).await;
                drop(w);
                rounds(2).await;
                let read = shared.take().unwrap();
                if poll_after {
                    assert_eq!(read.await, None);
                }
            })
            .unwrap();
        });
        assert_outcome(outcome, [2, 0, 0, 0, 0]);
    }
}

/// A finished fibre is still named by its pending read; its counterpart goes without a word.
#[test]
fn a_finished_fibre_named_by_a_wait_that_dies() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (w, mut r) = p.channel::<u8>().unwrap();
        let shared = Rc::new(RefCell::new(None));
        let keep = shared.clone();
        p.spawn(async move {
            poll_and_forget(r.read()).await;
            *shared.borrow_mut() = Some(r);
        })
        .unwrap();
        p.spawn(async move {
            rounds(2).await;
            drop(w);
            rounds(2).await;
            assert_eq!(keep.borrow_mut().as_mut().unwrap().try_read(), None);
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// A finished fibre is still named by its pending read when the process ends, by itself or stopped.
#[test]
fn a_finished_fibre_is_still_named_at_the_end() {
    for stop in [false, true] {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let (w, mut r) = p.channel::<u8>().unwrap();
            let (mut w2, mut r2) = p.channel::<u8>().unwrap();
            let shared = Rc::new(RefCell::new(None));
            let keep = shared.clone();
            p.spawn(async move {
                poll_and_forget(r.read()).await;
                *shared.borrow_mut() = Some(r);
            })
            .unwrap();
            p.spawn(async move {
                let _keep = keep;
                let _ends = (w, &mut w2);
                if stop {
                    p.stop();
                }
                r2.read().await;
            })
            .unwrap();
        });
        assert_outcome(outcome, if stop { [1, 0, 0, 1, 0] } else { [1, 0, 1, 0, 0] });
    }
}

/// A fibre that was made ready in its own last poll is freed when it is popped; here the process stops before that.
#[test]
fn a_finished_fibre_is_in_the_queue_when_the_process_stops() {
    for stop in [false, true] {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            p.spawn(async move {
                let (mut w, mut r) = p.channel::<u8>().unwrap();
                // The write parks, and is met in the same poll.
                futures::future::join(w.write(1), r.read()).await;
                if stop {
                    p.stop();
                }
            })
            .unwrap();
            p.spawn(rounds(2)).unwrap();
        });
        assert_outcome(outcome, if stop { [1, 0, 0, 1, 0] } else { [2, 0, 0, 0, 0] });
    }
}

/// The same, and it is also still named by a node that somebody else has.
#[test]
fn a_finished_fibre_is_in_the_queue_and_named_by_a_node() {
    for stop in [false, true] {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let (mut w2, mut r2) = p.channel::<u8>().unwrap();
            let shared = Rc::new(RefCell::new(None));
            let keep = shared.clone();
            p.spawn(async move {
                poll_and_forget(r2.read()).await;
                *shared.borrow_mut() = Some(r2);
                let (mut w, mut r) = p.channel::<u8>().unwrap();
                futures::future::join(w.write(1), r.read()).await;
                if stop {
                    p.stop();
                }
            })
            .unwrap();
            p.spawn(async move {
                rounds(2).await;
                w2.write(5).await;
                let mut r = keep.take().unwrap();
                assert_eq!(r.read().await, 5);
            })
            .unwrap();
        });
        assert_outcome(outcome, if stop { [1, 0, 0, 1, 0] } else { [2, 0, 0, 0, 0] });
    }
}

/// Fibres that are ready and also still wait for something when the process stops.
#[test]
fn a_ready_fibre_that_still_waits_is_stopped() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut wa, mut ra) = p.channel::<u8>().unwrap();
        let (_wb, mut rb) = p.channel::<u8>().unwrap();
        p.spawn(async move {
            let _wb = _wb;
            futures::future::join(ra.read(), rb.read()).await;
        })
        .unwrap();
        p.spawn(async move {
            wa.write(1).await;
            p.stop();
        })
        .unwrap();
    });
    assert_outcome(outcome, [1, 0, 0, 1, 0]);
}

/// Blocks are reused at once by a pool: what is left of an old fibre must not be taken for the new one.
#[test]
fn a_new_fibre_in_the_block_of_an_old_one() {
    common::with_pool(|pool| {
        let (_, outcome) = fibra_core::run(pool, |p| {
            let (mut w, r) = p.channel::<u8>().unwrap();
            let shared = Rc::new(RefCell::new(Some(r)));
            for round in 0..50 {
                let (shared, keep) = (shared.clone(), shared.clone());
                p.spawn(async move {
                    let mut r = shared.borrow_mut().take().unwrap();
                    if round % 2 == 0 {
                        poll_and_forget(r.read()).await;
                    }
                    *shared.borrow_mut() = Some(r);
                })
                .unwrap();
                p.spawn(async move {
                    let mut r = keep.borrow_mut().take().unwrap();
                    assert!(poll_once(&mut r.read()).await.is_pending());
                    *keep.borrow_mut() = Some(r);
                    yield_now().await;
                })
                .unwrap();
            }
            p.spawn(async move {
                rounds(3).await;
                assert_eq!(w.try_write(1), Err(1), "nobody waits any more");
            })
            .unwrap();
        })
        .unwrap();
        assert_outcome(outcome, [101, 0, 0, 0, 0]);
    });
}
