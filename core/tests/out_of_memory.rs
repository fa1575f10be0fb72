//! C9: running out of memory is an error that is returned, at the places that allocate, and nothing is lost.

mod common;

use std::cell::Cell;
use std::future::Future;

use common::{Checking, OnDrop, P, Tally, assert_outcome, counts, hub, rounds, run};
use fibra_core::{
    Setup, SpawnErrorKind, channel_layout, dup_layout, fibre_layout, fibre_layout_of, fibre_layout_with_options,
    two_way_layout, yield_now,
};

/// Tries each operation that allocates, in a setup closure or in a fibre, and says how many of them failed. What could not
/// be had is done without.
fn use_everything<'p>(p: &'p P<'p, '_, '_>, tally: &'p Tally) -> usize {
    let failed = Cell::new(0);
    let fail = || failed.set(failed.get() + 1);
    let token = || tally.token();

    match p.channel() {
        Err(_) => fail(),
        Ok((mut w, mut r)) => {
            let mut more = Vec::new();
            (0..2).for_each(|_| match w.dup() {
                Ok(w) => more.push(w),
                Err(_) => fail(),
            });
            let other = r.dup().map_err(|_| fail()).ok();
            let write = async move {
                w.write(token()).await;
                for mut w in more {
                    w.write(token()).await;
                }
            };
            if let Err(error) = p.spawn(write) {
                assert_eq!(error.kind, SpawnErrorKind::OutOfMemory);
                fail();
                drop(error.future);
            }
            let read = async move {
                let _other = other;
                while r.read_or_end().await.is_some() {}
            };
            if let Err(error) = p.spawn_with(move || read) {
                assert_eq!(error.kind, SpawnErrorKind::OutOfMemory);
                fail();
                drop((error.future)());
            }
        }
    }
    match p.channel_named("named") {
        Err(_) => fail(),
        Ok((mut w, mut r)) => {
            assert!(w.try_write(token()).is_err());
            let parent = async move {
                let child = async move { w.write(token()).await };
                if let Err(error) = p.spawn_next(child).await {
                    assert_eq!(error.kind, SpawnErrorKind::OutOfMemory);
                    drop(error.future);
                } else {
                    drop(r.read().await);
                }
            };
            if let Err(error) = p.fibre().name("parent").spawn(parent) {
                assert_eq!(error.kind, SpawnErrorKind::OutOfMemory);
                fail();
            }
        }
    }
    match p.two_way() {
        Err(_) => fail(),
        Ok((mut a, mut b)) => {
            let c = a.dup().map_err(|_| fail()).ok();
            let one = async move {
                let _c = c;
                a.write(token()).await;
                drop(a.read().await);
            };
            let two = async move {
                drop(b.read().await);
                b.write(token()).await;
            };
            if p.spawn(one).is_err() {
                fail();
            }
            if p.fibre().essential().name("two").spawn_with(move || two).is_err() {
                fail();
            }
        }
    }
    match p.two_way_named::<u64>("two-way") {
        Err(_) => fail(),
        Ok((a, b)) => drop((b, a)),
    }
    let worker = move |n: usize| async move {
        let _token = token();
        rounds(n).await;
    };
    match p.reserve(3) {
        Err(_) => fail(),
        Ok(mut workers) => {
            for n in 0..2 {
                workers.spawn(worker(n)).unwrap();
            }
        }
    }
    failed.get()
}

fn run_everything(checking: &Checking, in_fibre: bool) -> (usize, [usize; 5]) {
    let tally = Tally::default();
    let failed = Cell::new(usize::MAX);
    let result = Setup::new(checking).run(|p| {
        let (failed, tally) = (&failed, &tally);
        if in_fibre {
            let fibre = async move { failed.set(use_everything(p, tally)) };
            if p.spawn(fibre).is_err() {
                failed.set(1);
            }
        } else {
            failed.set(use_everything(p, tally));
        }
    });
    let outcome = match result {
        Ok((_, outcome)) => outcome,
        // The essential fibre was left alone.
        Err(failure) => failure.outcome,
    };
    assert_eq!(tally.alive(), 0, "a value was lost");
    checking.assert_empty();
    (failed.get(), counts(outcome))
}

/// Every single allocation fails, one after another.
#[test]
fn each_allocation_fails_in_turn() {
    for in_fibre in [false, true] {
        let checking = Checking::new();
        let (failed, all_well) = run_everything(&checking, in_fibre);
        assert_eq!(failed, 0);
        assert_eq!(all_well[1..], [0, 0, 0, 0], "with enough memory, all fibres finish");
        let allocations = checking.calls();
        assert!(allocations >= 17, "{allocations}");

        let mut errors = 0;
        for nth in 0..allocations {
            let checking = Checking::new();
            checking.fail_nth(nth);
            let (failed, _) = run_everything(&checking, in_fibre);
            errors += failed;
            assert!(failed <= 1, "one failure is one error: {failed} at {nth}");
        }
        // The child that is spawned next fails in its parent, which sees to it.
        assert_eq!(errors, allocations - 1);
    }
}

/// From one point on, no allocation succeeds any more.
#[test]
fn memory_runs_out_for_good_at_each_point() {
    let checking = Checking::new();
    run_everything(&checking, true);
    let allocations = checking.calls();
    for from in 0..allocations {
        let checking = Checking::new();
        let tally = Tally::default();
        let countdown = Cell::new(from);
        let _ = fibra_core::run(&checking, |p| {
            // Takes what it can until the allocator is told to fail.
            let (tally, countdown) = (&tally, &countdown);
            let _ = p.spawn(async move {
                loop {
                    if countdown.get() == 0 {
                        p.allocator().fail_all();
                    }
                    countdown.set(countdown.get().wrapping_sub(1));
                    if use_everything(p, tally) > 0 {
                        break;
                    }
                    yield_now().await;
                }
            });
        });
        assert_eq!(tally.alive(), 0);
        checking.assert_empty();
    }
}

/// Reading, writing, waking, collapsing, choosing, dumping and ending allocate nothing.
#[test]
fn only_the_operations_that_say_so_allocate() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel::<String>().unwrap();
        let (mut a, mut b) = p.two_way::<u8>().unwrap();
        let (end, mut stream) = p.channel::<u8>().unwrap();
        p.spawn(async move {
            for n in 0..50 {
                w.write(n.to_string()).await;
                yield_now().await;
            }
            a.write(1).await;
            assert_eq!(a.read().await, 2);
            drop(end);
        })
        .unwrap();
        p.spawn(async move {
            for n in 0..50 {
                assert_eq!(r.read().await, n.to_string());
            }
            assert_eq!(b.read().await, 1);
            b.write(2).await;
            assert_eq!(r.read_or_end().await, None);
            assert_eq!(r.try_read(), None);
        })
        .unwrap();
        p.spawn(async move {
            assert_eq!(stream.read_or_end().await, None);
            p.dump(|_| {});
            std::future::pending::<()>().await;
        })
        .unwrap();
        let before = checking.calls();
        let guard = OnDrop(move || assert_eq!(p.allocator().calls(), before + 1));
        p.spawn(async move {
            let _guard = guard;
            let (_w, mut r) = (p, std::future::pending::<()>());
            (&mut r).await;
        })
        .unwrap();
        checking.fail_all();
    });
    assert_outcome(outcome, [2, 2, 0, 0, 0]);
}

/// The layouts that the crate promises are those that it asks for.
#[test]
fn each_operation_takes_the_memory_it_says() {
    let checking = Checking::new();
    run(&checking, |p| {
        let live = Cell::new(checking.live_bytes());
        let took = || checking.live_bytes() - live.replace(checking.live_bytes());
        let (w, r) = p.channel::<[u64; 3]>().unwrap();
        assert_eq!(took(), channel_layout::<[u64; 3]>().size());
        let w2 = w.dup().unwrap();
        assert_eq!(took(), dup_layout::<[u64; 3]>().size());
        let r2 = r.dup().unwrap();
        assert_eq!(took(), dup_layout::<[u64; 3]>().size());
        let named = p.channel_named::<u8>("name").unwrap();
        assert_eq!(took(), channel_layout::<u8>().size().next_multiple_of(8) + 16);
        let (a, b) = p.two_way::<u16>().unwrap();
        assert_eq!(took(), two_way_layout::<u16>().size());
        let c = a.dup().unwrap();
        assert_eq!(took(), 2 * dup_layout::<u16>().size());

        fn sized<F: Future<Output = ()>>(_: &F) -> (usize, usize) {
            (fibre_layout::<F>().size(), fibre_layout_with_options::<F>().size())
        }
        let future = rounds(3);
        let (plain, with_options) = sized(&future);
        assert_eq!(plain, fibre_layout_of(&|n| rounds(n)).size());
        p.spawn(future).unwrap();
        assert_eq!(took(), plain);
        p.fibre().spawn(rounds(1)).unwrap();
        assert_eq!(took(), with_options);
        let reservation = p.reserve(4).unwrap();
        let mut reservation = reservation;
        assert_eq!(took(), 4 * plain);
        reservation.spawn(rounds(2)).unwrap();
        assert_eq!(took(), 0);
        drop((w, r, w2, r2, named, a, b, c));
    });
}

/// A fibre that cannot have a wake cell gives its block and its future back.
#[test]
fn a_failed_spawn_leaves_nothing_behind() {
    let checking = Checking::new();
    let dropped = Cell::new(0);
    let (_, outcome) = Setup::new(&checking)
        .hub(hub!(1))
        .run(|p| {
            let dropped = &dropped;
            let fibre = move || {
                let guard = OnDrop(move || dropped.set(dropped.get() + 1));
                async move {
                    let _guard = guard;
                    rounds(1).await;
                }
            };
            p.fibre().waker().spawn(fibre()).unwrap();
            let live = checking.live();
            let error = p.fibre().waker().spawn(fibre()).unwrap_err();
            assert_eq!((error.kind, dropped.get()), (SpawnErrorKind::NoWakeCell, 0));
            assert_eq!(checking.live(), live);
            drop(error.future);
            assert_eq!(dropped.get(), 1);

            checking.fail_all();
            let error = p.fibre().spawn_with(fibre).unwrap_err();
            assert_eq!((error.kind, dropped.get()), (SpawnErrorKind::OutOfMemory, 1));
            checking.fail_none();
            p.fibre().spawn_with(error.future).unwrap();
        })
        .unwrap();
    assert_eq!(dropped.get(), 3);
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
    checking.assert_empty();
}
