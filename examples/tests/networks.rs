//! The networks themselves, in memory that is counted out.

use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::ops::ControlFlow;

use fibra_core::{Setup, SizeClasses, run};
use fibra_examples::{ring, sieve};
use fibra_std::{Malloc, MemReq, table};

/// The same tests of the same network, written in two ways, which need so many blocks.
macro_rules! squares {
    ($($squares:ident: $blocks:literal),*) => {$(
        mod $squares {
            use super::*;
            use fibra_examples::$squares;

            #[test]
            fn need_no_more_than_their_table() {
                let mut memory = [MaybeUninit::uninit(); $squares::SIZES.arena_size() + 16];
                let pool = SizeClasses::new(&$squares::SIZES, &mut memory).unwrap();
                for _ in 0..3 {
                    let shown = RefCell::new(Vec::new());
                    let (spawned, outcome) = run(&pool, |p| {
                        $squares::spawn(p, [3, 1, u32::MAX], |square| {
                            shown.borrow_mut().push(square);
                            ControlFlow::Continue(())
                        })
                    })
                    .unwrap();
                    assert_eq!(spawned, Ok(()));
                    assert_eq!(shown.into_inner(), [9, 1, 18_446_744_065_119_617_025]);
                    assert_eq!((outcome.finished, outcome.collapsed), (1, 2));
                    assert!(pool.classes().all(|class| class.live == 0));
                }
            }

            #[test]
            fn are_dissolved_by_a_consumer_that_stops() {
                let pool = SizeClasses::in_parent(&$squares::SIZES, Malloc).unwrap();
                let mut shown = 0;
                let seen = &mut shown;
                let (_, outcome) = run(&pool, |p| {
                    $squares::spawn(p, 0.., |_| {
                        *seen += 1;
                        if *seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                    })
                })
                .unwrap();
                assert_eq!(shown, 3);
                assert_eq!((outcome.finished, outcome.collapsed), (1, 2));
            }

            #[test]
            fn every_shortage_of_memory_is_an_error_and_leaves_nothing() {
                for n_blocks in 1..$blocks {
                    let pool = SizeClasses::in_parent(&table([MemReq::new(512, n_blocks)]), Malloc).unwrap();
                    let (spawned, outcome) = run(&pool, |p| $squares::spawn(p, 0..3, |_| ControlFlow::Continue(()))).unwrap();
                    assert!(spawned.is_err(), "{n_blocks} blocks do for everything");
                    assert_eq!(outcome.deadlocked, 0);
                    assert!(pool.classes().all(|class| class.live == 0));
                }
            }
        }
    )*};
}

squares!(squares: 5, squares_by_hand: 6);

#[test]
fn the_sieve_fits_in_its_table_to_the_last_prime() {
    for limit in [0, 1, 2, 3, 10, 100, 1000, 5000] {
        let sizes = sieve::sizes(limit).unwrap();
        let pool = SizeClasses::in_parent(&sizes, Malloc).unwrap();
        let exhausted = Cell::new(false);
        let count = Cell::new(0);
        let show = |_| {
            count.set(count.get() + 1);
            ControlFlow::Continue(())
        };
        let (spawned, outcome) = run(&pool, |p| sieve::spawn(p, limit, show, &exhausted)).unwrap();
        assert_eq!((spawned, exhausted.get()), (Ok(()), false), "{limit}");
        let primes = (2..=limit).filter(|n| (2..*n).all(|d| n % d != 0)).count();
        assert_eq!((count.get(), outcome.collapsed), (primes, primes + 1));
        assert!(pool.classes().all(|class| class.live == 0));
    }
}

#[test]
fn a_sieve_without_room_to_grow_says_so_and_ends() {
    let pool = SizeClasses::in_parent(&table([MemReq::new(512, 8)]), Malloc).unwrap();
    let exhausted = Cell::new(false);
    let count = Cell::new(0);
    let show = |_| {
        count.set(count.get() + 1);
        ControlFlow::Continue(())
    };
    let (_, outcome) = run(&pool, |p| sieve::spawn(p, 1000, show, &exhausted)).unwrap();
    assert!(exhausted.get());
    // Three blocks to begin with, two more for each prime.
    assert_eq!(count.get(), 3);
    assert_eq!((outcome.finished, outcome.collapsed), (1, 3));
}

#[test]
fn a_ring_deadlocks_as_a_whole() {
    for count in [1, 2, 50] {
        let pool = SizeClasses::in_parent(&table([MemReq::new(256, 100)]), Malloc).unwrap();
        let mut lost = 0;
        let (_, outcome) = Setup::new(&pool)
            .report(&mut |_| lost += 1)
            .run(|p| ring::spawn(p, count, |_| "fibre", |_| "channel"))
            .unwrap();
        assert_eq!((outcome.deadlocked, lost), (count as usize, count));
        assert!(pool.classes().all(|class| class.live == 0));
    }
}
