//! Many threads, and many blocks.

mod support;

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::sync::{Barrier, Mutex};
use std::thread;

use allocator_api2::alloc::Global;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec as VecIn;
use fibra_allocators::{Allocator, Bump, Checking, Debugging, Extent, Locked, Mistake, SpinLock, checking_arena_size};
use support::{Guarded, layout, release};

type Shared<H> = Checking<Global, Extent<Global>, SpinLock, H>;

fn shared<H: Fn(&Mistake)>(records: usize, handler: H) -> Shared<H> {
    Checking::in_parent(Global, Global, records).expect("memory").on_mistake(handler).with_lock::<SpinLock>()
}

#[test]
fn blocks_that_move_between_threads_and_grow_on_the_way() {
    let checking = shared(20_000, |mistake| panic!("{mistake}")).quarantine(50, 5000);
    thread::scope(|scope| {
        for first in 0..4_usize {
            let (send, receive) = mpsc::channel::<VecIn<usize, &Shared<_>>>();
            let checking = &checking;
            scope.spawn(move || {
                for n in 0..2000 {
                    let mut numbers = VecIn::with_capacity_in(n % 7 + 1, checking);
                    numbers.extend(first..first + n % 20);
                    send.send(numbers).expect("the other one listens");
                }
            });
            scope.spawn(move || {
                let mut kept = Vec::new();
                for (n, mut numbers) in receive.into_iter().enumerate() {
                    assert!(numbers.iter().copied().eq(first..first + n % 20));
                    numbers.extend([7; 30]);
                    numbers.truncate(3);
                    numbers.shrink_to_fit();
                    kept.push(numbers);
                    if n % 100 == 99 {
                        assert_eq!(checking.verify(), 0);
                        kept.truncate(5);
                    }
                }
            });
        }
    });
    assert_eq!((checking.live(), checking.mistakes(), checking.verify()), (0, 0, 0));
}

#[test]
fn of_two_threads_that_release_one_block_one_is_told() {
    let told = AtomicUsize::new(0);
    let checking = shared(5000, |mistake| {
        assert!(matches!(mistake, Mistake::DoubleFree { .. }), "{mistake}");
        told.fetch_add(1, Relaxed);
    });
    let shape = layout(40, 8);
    for round in 1..=300 {
        let block = (&checking).allocate(shape).expect("memory");
        let address = block.cast::<u8>().as_ptr().expose_provenance();
        let start = Barrier::new(2);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let block = NonNull::new(ptr::with_exposed_provenance_mut(address)).expect("a block");
                    start.wait();
                    release(&checking, NonNull::slice_from_raw_parts(block, 40), shape);
                });
            }
        });
        assert_eq!((told.load(Relaxed), checking.live()), (round, 0));
    }
    assert_eq!(checking.mistakes(), 300);
}

#[test]
fn the_handler_may_use_it_while_others_do() {
    let records = Mutex::new(Vec::new());
    let checking = shared(5000, |mistake| records.lock().expect("no panics").push(mistake.to_string()));
    let shape = layout(24, 8);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let block = (&checking).allocate(shape).expect("memory");
                    release(&checking, block, layout(16, 8));
                    release(&checking, block, shape);
                }
            });
        }
    });
    let told = records.lock().expect("no panics");
    assert_eq!(told.len(), 400);
    assert!(told.iter().all(|text| text.starts_with("wrong layout")));
}

#[test]
fn hundreds_of_thousands_of_live_blocks() {
    const MANY: usize = 300_000;
    let checking = shared(MANY + 1000, |mistake| panic!("{mistake}"));
    let mut blocks: Vec<_> = (0..MANY).map(|n| Box::new_in(n, &checking)).collect();
    assert_eq!(checking.live(), MANY);
    for round in 0..MANY {
        let at = round * 7919 % MANY;
        blocks[at] = Box::new_in(at, &checking);
    }
    assert!(blocks.iter().enumerate().all(|(n, block)| **block == n));
    assert_eq!(checking.verify(), 0);
    drop(blocks);
    assert_eq!((checking.live(), checking.mistakes()), (0, 0));
}

#[test]
fn all_wrappers_at_once() {
    let mut memory = Guarded::new(0, 1024 * 1024);
    let mut records = Guarded::new(0, checking_arena_size(5000));
    let bump = Locked::<_, SpinLock>::new(Bump::new(memory.memory()));
    let log = Debugging::new(&bump, "bump", String::new()).with_lock::<SpinLock>();
    let checking = Checking::new(&log, records.memory()).with_lock::<SpinLock>();
    thread::scope(|scope| {
        for n in 0..4_u64 {
            let checking = &checking;
            scope.spawn(move || {
                for round in 0..200 {
                    let mut numbers = VecIn::new_in(checking);
                    numbers.extend([n; 3]);
                    numbers.extend([round; 10]);
                    assert_eq!(numbers.iter().sum::<u64>(), 3 * n + 10 * round);
                }
            });
        }
    });
    assert_eq!((checking.live(), checking.mistakes()), (0, 0));
    drop(checking);
    assert_eq!(log.failures(), 0);
    let text = log.into_writer();
    assert!(text.lines().all(|line| line.starts_with("bump: ")), "lines do not mix");
    assert_eq!(text.lines().filter(|line| line.contains("allocate")).count(), 800);
    assert_eq!(text.lines().filter(|line| line.contains("release")).count(), 800);
    assert!(bump.with(|bump| bump.used()) > 800 * 40);
}
