//! C9: a reservation makes later spawns infallible, and gives back what is left.

mod common;

use std::cell::Cell;
use std::future::Future;

use common::{Checking, assert_outcome, panic_of, rounds, run};
use fibra_core::SpawnErrorKind;

#[test]
fn spawns_succeed_after_the_pool_is_exhausted() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let mut reservation = p.reserve(5).unwrap();
        checking.fail_all();
        assert!(p.spawn(rounds(1)).is_err());
        for left in (0..5).rev() {
            reservation.spawn(rounds(left)).unwrap();
            assert_eq!(reservation.left(), left);
        }
        let error = reservation.spawn(rounds(9)).unwrap_err();
        assert_eq!(error.kind, SpawnErrorKind::ReservationUsedUp);
        assert_eq!(error.to_string(), "the fibre was not spawned: the reservation is used up");
    });
    assert_outcome(outcome, [5, 0, 0, 0, 0]);
}

#[test]
fn what_is_left_goes_back() {
    let checking = Checking::new();
    run(&checking, |p| {
        let mut reservation = p.reserve(5).unwrap();
        assert_eq!(checking.live(), 5);
        reservation.spawn(rounds(1)).unwrap();
        drop(reservation);
        assert_eq!(checking.live(), 1);
    });
}

#[test]
fn a_reservation_that_fails_takes_nothing() {
    for nth in 0..4 {
        let checking = Checking::new();
        run(&checking, |p| {
            checking.fail_nth(nth);
            fn reserve<'p, F: Future<Output = ()> + 'p>(p: &'p common::P<'p, '_, '_>, _like: impl Fn() -> F) -> bool {
                p.reserve::<F>(4).is_ok()
            }
            assert!(!reserve(p, || rounds(1)));
            assert_eq!(checking.live(), 0);
        });
    }
}

#[test]
fn a_reservation_of_none_is_used_up() {
    let checking = Checking::new();
    run(&checking, |p| {
        let mut none = p.reserve(0).unwrap();
        assert_eq!(none.left(), 0);
        assert!(none.spawn(rounds(1)).is_err());
        assert_eq!(checking.calls(), 0);
    });
}

#[test]
fn a_reservation_is_kept_by_a_fibre() {
    let checking = Checking::new();
    let count = Cell::new(0);
    let outcome = run(&checking, |p| {
        let count = &count;
        let worker = move || async move { count.set(count.get() + 1) };
        let mut reservation = p.reserve(10).unwrap();
        p.spawn(async move {
            p.allocator().fail_all();
            for _ in 0..7 {
                reservation.spawn(worker()).unwrap();
                rounds(1).await;
            }
            // It collapses with three blocks left.
            std::future::pending::<()>().await;
        })
        .unwrap();
    });
    assert_eq!(count.get(), 7);
    assert_outcome(outcome, [7, 1, 0, 0, 0]);
}

#[test]
fn a_reservation_goes_when_its_closure_panics() {
    let checking = Checking::new();
    let text = panic_of(|| {
        fibra_core::run(&checking, |p| {
            let mut reservation = p.reserve(3).unwrap();
            reservation.spawn(rounds(1)).unwrap();
            panic!("with two left");
        })
    });
    assert_eq!(text, "with two left");
    checking.assert_empty();
}

#[test]
fn reserved_blocks_of_an_over_aligned_fibre() {
    #[repr(align(256))]
    struct Aligned(u8);
    async fn aligned(n: u8) {
        let value = Aligned(n);
        rounds(1).await;
        assert_eq!(std::ptr::from_ref(&value).addr() % 256, 0);
        assert_eq!(value.0, n);
    }
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let mut reservation = p.reserve(3).unwrap();
        for n in 0..3 {
            reservation.spawn(aligned(n)).unwrap();
        }
    });
    assert_outcome(outcome, [3, 0, 0, 0, 0]);
}
