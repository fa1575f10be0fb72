//! What a process promises, on one, two and four workers: the order of values, collapse, the end, reports, panics, memory.

mod common;

use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;

use common::{Checked, Random, Tally, counts, number, on_workers, on_workers_times};
use fibra_std::{
    AllocError, Cause, Concurrent, Direction, Error, Fate, Reader, Shared, SharedMemory, SharedProcess, SpawnErrorKind,
    Writer, run, yield_now,
};

type To<'p, T> = Writer<'p, T, Concurrent>;
type From<'p, T> = Reader<'p, T, Concurrent>;

async fn pass_on<T: Send>(mut from: From<'_, T>, mut to: To<'_, T>) {
    loop {
        to.write(from.read().await).await;
    }
}

/// Each pair's values come in order, and each value once.
#[test]
fn values_come_in_order() {
    const VALUES: usize = 300;
    on_workers(|workers| {
        let (checked, tally, random) = (Checked::new(), Tally::default(), Random::new(1));
        let (_, outcome) = Shared::with_allocator(&checked)
            .workers(workers)
            .run(|p| {
                let (tally, random) = (&tally, &random);
                for _ in 0..6 {
                    let (mut w, middle) = p.channel().unwrap();
                    let (to, mut r) = p.channel().unwrap();
                    p.spawn(async move {
                        for nth in 0..VALUES {
                            w.write((nth, tally.token())).await;
                            random.spin();
                        }
                    })
                    .unwrap();
                    p.spawn(pass_on(middle, to)).unwrap();
                    p.spawn(async move {
                        for nth in 0..VALUES {
                            assert_eq!(r.read().await.0, nth);
                        }
                    })
                    .unwrap();
                }
            })
            .unwrap();
        assert_eq!(counts(outcome), [12, 6, 0, 0, 0]);
        assert_eq!(tally.alive(), 0);
        checked.assert_empty();
    });
}

/// Several writers, several readers, one channel: each value comes once, and those of one writer in order to each reader.
#[test]
fn several_ends_share_a_channel() {
    const VALUES: usize = 200;
    on_workers(|workers| {
        let checked = Checked::new();
        let got = Mutex::new(Vec::new());
        let (_, outcome) = Shared::with_allocator(&checked)
            .workers(workers)
            .run(|p| {
                let got = &got;
                let (w, r) = p.channel().unwrap();
                for writer in 0..3 {
                    let mut w = w.dup().unwrap();
                    p.spawn(async move {
                        for nth in 0..VALUES {
                            w.write((writer, nth)).await;
                        }
                    })
                    .unwrap();
                    let mut r = r.dup().unwrap();
                    p.spawn(async move {
                        let mut mine = Vec::new();
                        while let Some(value) = r.read_or_end().await {
                            mine.push(value);
                        }
                        for writer in 0..3 {
                            let its: Vec<_> =
                                mine.iter().filter(|(who, _)| *who == writer).map(|(_, nth)| *nth).collect();
                            assert!(its.is_sorted());
                        }
                        got.lock().unwrap().extend(mine);
                    })
                    .unwrap();
                }
            })
            .unwrap();
        assert_eq!(counts(outcome), [6, 0, 0, 0, 0]);
        let mut got = got.into_inner().unwrap();
        got.sort_unstable();
        assert!(got.into_iter().eq((0..3).flat_map(|writer| (0..VALUES).map(move |nth| (writer, nth)))));
        checked.assert_empty();
    });
}

/// Runs `test` on a small stack.
fn on_a_small_stack(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, test).unwrap().join().unwrap();
    });
}

#[test]
fn a_long_chain_collapses_from_either_side() {
    let stages = number("FIBRA_STAGES", 100_000);
    for workers in [1, 2, 4] {
        for from_the_end in [false, true] {
            on_a_small_stack(|| {
                let memory = SharedMemory::new().unwrap();
                let (_, outcome) = Shared::with_allocator(memory.clone())
                    .workers(workers)
                    .run(|p| {
                        let (first, mut last) = p.channel::<usize>().unwrap();
                        for _ in 0..stages {
                            let (mut to, from) = p.channel().unwrap();
                            let before = std::mem::replace(&mut last, from);
                            p.spawn(async move {
                                if from_the_end {
                                    // The next one does the same, and does not read.
                                    to.write(1).await;
                                }
                                pass_on(before, to).await;
                            })
                            .unwrap();
                        }
                        // Either holds all of them, until it goes.
                        let (first, last) = if from_the_end { (None, Some(last)) } else { (Some(first), None) };
                        p.spawn(async move {
                            yield_now().await;
                            drop((first, last));
                        })
                        .unwrap();
                    })
                    .unwrap();
                assert_eq!(counts(outcome), [1, stages, 0, 0, 0]);
                assert_eq!(memory.classes().map(|class| class.live).sum::<usize>(), 0);
            });
        }
    }
}

#[test]
fn endpoints_that_all_wait_to_read_collapse() {
    on_workers(|workers| {
        let checked = Checked::new();
        let (_, outcome) = Shared::with_allocator(&checked)
            .workers(workers)
            .run(|p| {
                for _ in 0..5 {
                    let (mut a, mut b) = p.two_way::<u32>().unwrap();
                    let mut c = a.dup().unwrap();
                    p.spawn(async move {
                        a.write(1).await;
                        loop {
                            a.read().await;
                        }
                    })
                    .unwrap();
                    p.spawn(async move {
                        b.read().await;
                        loop {
                            b.read().await;
                        }
                    })
                    .unwrap();
                    // Is told, and goes; the others collapse.
                    p.spawn(async move { while c.read_or_end().await.is_some() {} }).unwrap();
                }
            })
            .unwrap();
        let [finished, collapsed, rest @ ..] = counts(outcome);
        assert_eq!((finished + collapsed, rest), (15, [0, 0, 0]), "{workers} workers: {outcome}");
        assert_eq!(finished, 5, "{workers} workers: {outcome}");
        checked.assert_empty();
    });
}

#[test]
fn deadlocks_are_reported() {
    on_workers(|workers| {
        let (checked, lost) = (Checked::new(), Mutex::new(Vec::new()));
        let visit = |report: &fibra_std::Report| lost.lock().unwrap().push(report.to_string());
        let (_, outcome) = Shared::with_allocator(&checked)
            .workers(workers)
            .report(&visit)
            .run(|p| {
                let (wa, mut ra) = p.channel_named::<u8>("a").unwrap();
                let (wb, mut rb) = p.channel_named::<u8>("b").unwrap();
                let (mut wc, rc) = p.channel_named::<u8>("c").unwrap();
                p.fibre().name("one").spawn(async move { _ = (ra.read().await, wb) }).unwrap();
                p.fibre().name("two").spawn(async move { _ = (rb.read().await, wa) }).unwrap();
                p.fibre().name("both").spawn(async move { _ = (wc.write(1).await, rc) }).unwrap();
                for _ in 0..20 {
                    p.spawn(async { yield_now().await }).unwrap();
                }
            })
            .unwrap();
        assert_eq!(counts(outcome), [20, 0, 3, 0, 0]);
        let mut lost = lost.into_inner().unwrap();
        lost.sort();
        assert_eq!(
            lost,
            [
                "fibre `both` deadlocked while writing to channel `c`: the other end was held by fibre `both`",
                "fibre `one` deadlocked while reading from channel `a`: the other end was held by fibre `two`",
                "fibre `two` deadlocked while reading from channel `b`: the other end was held by fibre `one`",
            ]
        );
        checked.assert_empty();
    });
}

#[test]
fn an_essential_fibre_that_is_lost_is_an_error() {
    on_workers(|workers| {
        let checked = Checked::new();
        let error = Shared::with_allocator(&checked)
            .workers(workers)
            .run(|p| {
                let (w, mut r) = p.channel_named::<u8>("orders").unwrap();
                p.fibre().name("pump").essential().spawn(async move { _ = r.read().await }).unwrap();
                p.spawn(async move {
                    yield_now().await;
                    drop(w);
                })
                .unwrap();
                7
            })
            .unwrap_err();
        let Error::Failed(failure) = error else { panic!("{error}") };
        assert_eq!(failure.value, Some(7));
        assert_eq!(counts(failure.outcome), [1, 1, 0, 0, 0]);
        let Cause::Lost(report) = failure.cause else { panic!("{failure}") };
        assert_eq!((report.fate(), report.wait().fibre()), (Fate::Collapsed, "pump"));
        assert_eq!((report.wait().channel(), report.wait().direction()), (Some("orders"), Some(Direction::Read)));
        checked.assert_empty();
    });
}

#[test]
fn a_stop_ends_all_whatever_they_do() {
    on_workers(|workers| {
        let (checked, tally) = (Checked::new(), Tally::default());
        let (_, outcome) = Shared::with_allocator(&checked)
            .workers(workers)
            .run(|p| {
                let tally = &tally;
                for _ in 0..10 {
                    let (w, r) = p.channel().unwrap();
                    let (to, mut from) = p.channel().unwrap();
                    p.spawn(pass_on(r, to)).unwrap();
                    p.spawn(async move {
                        let mut w = w;
                        loop {
                            w.write(tally.token()).await;
                        }
                    })
                    .unwrap();
                    p.spawn(async move {
                        loop {
                            drop(from.read().await);
                        }
                    })
                    .unwrap();
                }
                p.spawn(async move {
                    for _ in 0..50 {
                        yield_now().await;
                    }
                    p.stop();
                })
                .unwrap();
            })
            .unwrap();
        assert_eq!(counts(outcome), [1, 0, 0, 30, 0]);
        assert_eq!(tally.alive(), 0);
        checked.assert_empty();
    });
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic_any("in a destructor")
        }
    }
}

#[test]
fn isolated_panics_cost_one_fibre_each() {
    std::panic::set_hook(Box::new(|info| {
        if !info.payload().downcast_ref::<&str>().is_some_and(|text| text.starts_with("in a")) {
            eprintln!("{info}");
        }
    }));
    on_workers(|workers| {
        let (checked, random) = (Checked::new(), Random::new(6));
        let (_, outcome) = Shared::with_allocator(&checked)
            .workers(workers)
            .isolate_panics()
            .run(|p| {
                let random = &random;
                for nth in 0..60 {
                    let (mut w, mut r) = p.channel::<usize>().unwrap();
                    p.spawn(async move {
                        random.spin();
                        if nth % 3 == 1 {
                            yield_now().await;
                        }
                        match nth % 3 {
                            0 => w.write(nth).await,
                            1 => panic_any("in a poll"),
                            _ => {
                                let _bomb = Bomb;
                                // Collapses when it has read one.
                                loop {
                                    w.write(nth).await;
                                }
                            }
                        }
                    })
                    .unwrap();
                    p.spawn(async move { _ = r.read().await }).unwrap();
                }
            })
            .unwrap();
        // A third each: both finish; the writer panics, and the reader collapses; the reader finishes, and the writer panics as
        // it collapses.
        assert_eq!(counts(outcome), [60, 20, 0, 0, 40], "{workers} workers");
        checked.assert_empty();
    });
}

#[test]
fn a_panic_ends_the_process_and_goes_on() {
    on_workers(|workers| {
        for in_destructor in [false, true] {
            let (checked, tally) = (Checked::new(), Tally::default());
            let result = catch_unwind(AssertUnwindSafe(|| {
                Shared::with_allocator(&checked).workers(workers).run(|p| {
                    let tally = &tally;
                    for _ in 0..10 {
                        let (mut w, mut r) = p.channel().unwrap();
                        p.spawn(async move {
                            loop {
                                w.write(tally.token()).await;
                            }
                        })
                        .unwrap();
                        p.spawn(async move {
                            loop {
                                drop(r.read().await);
                            }
                        })
                        .unwrap();
                    }
                    p.spawn(async move {
                        for _ in 0..20 {
                            yield_now().await;
                        }
                        let _bomb = in_destructor.then(|| Bomb);
                        if !in_destructor {
                            panic_any("in a poll")
                        }
                    })
                    .unwrap();
                })
            }));
            let payload = result.expect_err("it panicked");
            let text = if in_destructor { "in a destructor" } else { "in a poll" };
            assert_eq!(payload.downcast_ref::<&str>(), Some(&text));
            assert_eq!(tally.alive(), 0);
            checked.assert_empty();
        }
    });
}

/// A dump shows what is parked, and nothing else, while everything else goes on.
#[test]
fn a_dump_while_others_run() {
    on_workers(|workers| {
        let checked = Checked::new();
        let seen = Mutex::new(Vec::new());
        let (_, outcome) = Shared::with_allocator(&checked)
            .workers(workers)
            .run(|p| {
                let seen = &seen;
                let (keep, mut r) = p.channel_named::<u8>("quiet").unwrap();
                p.fibre().name("quiet").spawn(async move { _ = r.read().await }).unwrap();
                for _ in 0..4 {
                    let (mut w, r) = p.channel::<u32>().unwrap();
                    let (to, mut from) = p.channel().unwrap();
                    p.spawn(pass_on(r, to)).unwrap();
                    p.spawn(async move {
                        for nth in 0..100 {
                            w.write(nth).await;
                        }
                    })
                    .unwrap();
                    p.spawn(async move {
                        loop {
                            from.read().await;
                        }
                    })
                    .unwrap();
                }
                p.spawn(async move {
                    // By then it is parked: it was before this one in the queue, or is run elsewhere meanwhile.
                    let mut times = 0;
                    while times < 30 {
                        let mut is_seen = false;
                        p.dump(|wait| is_seen |= wait.fibre() == "quiet");
                        times += usize::from(is_seen);
                        yield_now().await;
                    }
                    seen.lock().unwrap().push(times);
                    drop(keep);
                })
                .unwrap();
            })
            .unwrap();
        assert_eq!(counts(outcome), [5, 9, 0, 0, 0]);
        assert_eq!(seen.into_inner().unwrap(), [30]);
        checked.assert_empty();
    });
}

/// Spawns when it is dropped.
struct Heir<'p, 'e>(&'p SharedProcess<'p, 'e, &'e Checked>, &'p AtomicUsize);

impl Drop for Heir<'_, '_> {
    fn drop(&mut self) {
        let ran = self.1;
        let heir = async move {
            ran.fetch_add(1, Ordering::Relaxed);
        };
        match self.0.spawn(heir) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind, SpawnErrorKind::Closing),
        }
    }
}

#[test]
fn fibres_spawn_from_anywhere() {
    on_workers(|workers| {
        let (checked, ran) = (Checked::new(), AtomicUsize::new(0));
        let (_, outcome) = Shared::with_allocator(&checked)
            .workers(workers)
            .run(|p| {
                let ran = &ran;
                let add = move || async move {
                    ran.fetch_add(1, Ordering::Relaxed);
                };
                for _ in 0..10 {
                    p.spawn(async move {
                        let heir = Heir(p, ran);
                        p.spawn(add()).unwrap();
                        p.spawn_with(add).unwrap();
                        p.spawn_next(add()).await.unwrap();
                        p.fibre().name("named").essential().spawn(add()).unwrap();
                        p.fibre().waker().spawn_next(add()).await.unwrap();
                        let mut reserved = p.reserve(2).unwrap();
                        reserved.spawn(add()).unwrap();
                        reserved.spawn(add()).unwrap();
                        assert_eq!(reserved.spawn(add()).unwrap_err().kind, SpawnErrorKind::ReservationUsedUp);
                        // From a thread that is no worker.
                        thread::scope(|scope| scope.spawn(|| p.spawn(add()).unwrap()).join().unwrap());
                        drop(reserved);
                        if ran.load(Ordering::Relaxed) % 2 == 0 {
                            // As it collapses.
                            pending::<()>().await;
                        }
                        drop(heir);
                    })
                    .unwrap();
                }
            })
            .unwrap();
        let [finished, collapsed, rest @ ..] = counts(outcome);
        assert_eq!((finished + collapsed, rest), (10 * 10, [0, 0, 0]), "{workers} workers");
        assert_eq!(ran.into_inner(), 10 * 9);
        checked.assert_empty();
    });
}

/// Every allocation in turn fails: that is an error for who asked, and nothing else is lost.
#[test]
fn out_of_memory_at_each_request() {
    fn network<'p>(p: &'p SharedProcess<'p, '_, &Checked>, tally: &'p Tally) -> Result<(), AllocError> {
        let refused = |_| AllocError;
        let (mut w, r) = p.channel()?;
        let w2 = w.dup()?;
        let (to, mut from) = p.channel_named("out")?;
        let (mut a, mut b) = p.two_way::<u8>()?;
        let c = a.dup()?;
        p.spawn(pass_on(r, to)).map_err(|_| AllocError)?;
        p.fibre().name("first").spawn(async move { w.write(tally.token()).await }).map_err(|_| AllocError)?;
        p.spawn(async move {
            drop(from.read().await);
            // On any worker.
            if let Ok(r) = from.dup() {
                _ = p.spawn(async move {
                    let mut r = r;
                    loop {
                        drop(r.read().await);
                    }
                });
            }
        })
        .map_err(|_| AllocError)?;
        let mut reserved = p.reserve(1).map_err(refused)?;
        reserved.spawn(async move { a.write(b.read().await).await }).map_err(|_| AllocError)?;
        p.fibre().waker().spawn(async move { drop((w2, c)) }).map_err(|_| AllocError)?;
        Ok(())
    }
    for workers in [1, 2, 4] {
        let mut nth = 0;
        loop {
            let (checked, tally) = (Checked::new(), Tally::default());
            checked.fail_nth(nth);
            let (made, _) = Shared::with_allocator(&checked).workers(workers).run(|p| network(p, &tally)).unwrap();
            assert_eq!(tally.alive(), 0);
            checked.assert_empty();
            if checked.requests() <= nth {
                made.unwrap();
                break;
            }
            nth += 1;
        }
        assert!(nth > 10, "{nth} requests");
    }
}

/// A process in a fibre of another, of either kind, with ends of the outer one in use inside.
#[test]
fn processes_inside_fibres() {
    on_workers_times(5, |workers| {
        let checked = Checked::new();
        let (_, outcome) = Shared::with_allocator(&checked)
            .workers(workers)
            .run(|p| {
                let (w, mut r) = p.channel::<usize>().unwrap();
                for nth in 0..6 {
                    let mut w = w.dup().unwrap();
                    p.spawn(async move {
                        yield_now().await;
                        let sum = checked_sum(nth, workers);
                        if nth == 0 && workers > 1 {
                            // The outer end inside: this worker waits until another has run the reader.
                            let w = &mut w;
                            run(|q| q.fibre().waker().spawn(async move { w.write(sum).await }).unwrap()).unwrap();
                        } else {
                            w.write(sum).await;
                        }
                    })
                    .unwrap();
                }
                drop(w);
                p.spawn(async move {
                    yield_now().await;
                    run(|q| {
                        // A shared process in a sequential one in a shared one.
                        q.spawn(async { assert_eq!(checked_sum(2, 2), checked_sum(2, 1)) }).unwrap();
                    })
                    .unwrap();
                    let mut all = Vec::new();
                    while let Some(sum) = r.read_or_end().await {
                        all.push(sum);
                    }
                    all.sort_unstable();
                    assert!(all.into_iter().eq((0..6).map(|nth| checked_sum(nth, 1))));
                })
                .unwrap();
            })
            .unwrap();
        assert_eq!(counts(outcome), [7, 0, 0, 0, 0]);
        checked.assert_empty();
    });
}

/// The sum of a few numbers, by a process of its own.
fn checked_sum(nth: usize, workers: usize) -> usize {
    let (checked, sum) = (Checked::new(), AtomicUsize::new(0));
    let (_, outcome) = Shared::with_allocator(&checked)
        .workers(workers)
        .run(|p| {
            let (mut w, mut r) = p.channel().unwrap();
            let sum = &sum;
            p.spawn(async move {
                for n in 0..=nth {
                    w.write(n).await;
                }
            })
            .unwrap();
            p.spawn(async move {
                loop {
                    sum.fetch_add(r.read().await, Ordering::Relaxed);
                }
            })
            .unwrap();
        })
        .unwrap();
    assert_eq!(counts(outcome), [1, 1, 0, 0, 0]);
    sum.into_inner()
}

/// A read is begun and forgotten, its end goes to another fibre, the first one ends; then somebody writes.
#[test]
fn a_forgotten_read_whose_end_moved_on() {
    on_workers(|workers| {
        let (checked, tally) = (Checked::new(), Tally::default());
        let (_, outcome) = Shared::with_allocator(&checked)
            .workers(workers)
            .run(|p| {
                let tally = &tally;
                let ends: Arc<Mutex<VecDeque<From<'_, _>>>> = Arc::default();
                for parks in [false, true] {
                    let (mut w, mut r) = p.channel().unwrap();
                    let has_moved = Arc::new(AtomicBool::new(false));
                    let (to, moved) = (ends.clone(), has_moved.clone());
                    p.spawn(async move {
                        poll_fn(|cx| {
                            let mut read = r.read();
                            assert!(Pin::new(&mut read).poll(cx).is_pending());
                            std::mem::forget(read);
                            Poll::Ready(())
                        })
                        .await;
                        if parks {
                            yield_now().await;
                        }
                        to.lock().unwrap().push_back(r);
                        moved.store(true, Ordering::Release);
                    })
                    .unwrap();
                    let ends = ends.clone();
                    p.spawn(async move {
                        let mut r = loop {
                            let next = ends.lock().unwrap().pop_front();
                            match next {
                                Some(r) => break r,
                                None => yield_now().await,
                            }
                        };
                        drop(r.read().await);
                    })
                    .unwrap();
                    p.spawn(async move {
                        while !has_moved.load(Ordering::Acquire) {
                            yield_now().await;
                        }
                        w.write(tally.token()).await;
                    })
                    .unwrap();
                }
            })
            .unwrap();
        assert_eq!(counts(outcome), [6, 0, 0, 0, 0], "{workers} workers");
        assert_eq!(tally.alive(), 0);
    });
}
