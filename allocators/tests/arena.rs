//! Static memory is taken once, by one.

use std::mem::MaybeUninit;
use std::sync::Barrier;
use std::thread;

use fibra_allocators::{Arena, Bump};

#[test]
fn taken_once() {
    static MEMORY: Arena<100> = Arena::new();
    let memory = MEMORY.take().expect("the first time");
    assert_eq!(memory.len(), 100);
    assert!(MEMORY.take().is_none());
    memory.fill(MaybeUninit::new(1));
    assert!(MEMORY.take().is_none(), "not even when the memory is out of use");
}

#[test]
fn one_of_many_threads_gets_it() {
    static MEMORY: [Arena<64>; 100] = [const { Arena::new() }; 100];
    const THREADS: usize = 4;
    let start = Barrier::new(THREADS);
    let takes: usize = thread::scope(|scope| {
        let race = || {
            start.wait();
            MEMORY.iter().filter(|arena| arena.take().is_some()).count()
        };
        let racers: Vec<_> = (0..THREADS).map(|_| scope.spawn(race)).collect();
        racers.into_iter().map(|racer| racer.join().expect("no panic")).sum()
    });
    assert_eq!(takes, MEMORY.len());
}

#[test]
fn aligned_and_no_larger_than_it_must_be() {
    static ODD: Arena<17> = Arena::new();
    static MEMORY: Arena<4000> = Arena::new();
    const { assert!(Arena::<1>::ALIGN >= 16) };
    for memory in [ODD.take(), MEMORY.take()] {
        let memory = memory.expect("the first time");
        assert!(memory.as_ptr().addr().is_multiple_of(Arena::<1>::ALIGN));
    }
    assert!(size_of::<Arena<4000>>() <= 4000 + 16);
}

#[test]
fn of_no_bytes() {
    static NOTHING: Arena<0> = Arena::new();
    assert_eq!(NOTHING.size(), 0);
    assert!(NOTHING.take().expect("the first time").is_empty());
    assert!(NOTHING.take().is_none());
}

#[test]
fn an_allocator_over_it_borrows_nothing_shorter_lived() {
    static MEMORY: Arena<256> = Arena::new();
    let bump: Bump<fibra_allocators::Borrowed<'static>> = Bump::new(MEMORY.take().expect("the first time"));
    assert_eq!(bump.capacity(), 256);
}

#[test]
fn debug_says_whether_it_is_taken() {
    static MEMORY: Arena<8> = Arena::new();
    assert_eq!(format!("{MEMORY:?}"), "Arena { bytes: 8, taken: false }");
    _ = MEMORY.take();
    assert_eq!(format!("{MEMORY:?}"), "Arena { bytes: 8, taken: true }");
}
