//! Typed pools: how many values fit, and that each comes and goes as its box does.

mod support;

use fibra_allocators::{Arena, Borrowed, Counted, Extent, FixedBlock, Layout, NoRoom, Pool, PoolBox};
use proptest::prelude::*;
use static_assertions::{assert_impl_all, assert_not_impl_any};
use support::values::{Census, One, panics};
use support::{Guarded, Parent};

assert_impl_all!(Pool<std::rc::Rc<u32>, Borrowed<'static>>: Send);
assert_not_impl_any!(Pool<u32, Borrowed<'static>>: Sync);
assert_not_impl_any!(Pool<u32, Extent<&'static FixedBlock<Borrowed<'static>>>>: Send);
assert_not_impl_any!(&'static Pool<u32, Borrowed<'static>>: Send);

#[test]
fn it_holds_what_its_memory_holds_and_reuses_it() {
    let census = Census::default();
    let mut guarded = Guarded::new(0, 3 * size_of::<One<'_>>() + 1);
    {
        let pool = Pool::new(guarded.memory());
        assert_eq!((pool.capacity(), pool.peak(), pool.live()), (3, 0, 0));
        for round in 1..=5 {
            let boxes: Vec<_> = (0..3).map(|n| pool.put(census.one(n)).expect("room")).collect();
            let NoRoom { value } = pool.put(census.one(9)).expect_err("full");
            assert_eq!((value.number, pool.live(), pool.peak(), census.alive()), (9, 3, 3, 4));
            assert!(boxes.iter().map(|one| one.number).eq(0..3));
            drop((boxes, value));
            assert_eq!((pool.live(), census.alive(), census.dropped()), (0, 0, 4 * round));
        }
    }
    guarded.assert_guards();
}

#[test]
fn a_closure_is_not_called_if_it_is_full() {
    let parent = Parent::default();
    let pool = Pool::<u64, _>::in_parent(1, &parent).expect("the parent has memory");
    let one = pool.put_with(|| 1).expect("room");
    let NoRoom { value: make } = pool.put_with(|| 2).expect_err("full");
    drop(one);
    assert_eq!(*pool.put_with(make).expect("room again"), 2);
    assert!(panics(|| pool.put_with(|| panic!("no value"))));
    assert_eq!(pool.live(), 0);
}

#[test]
fn the_parent_gets_one_request_and_everything_back() {
    let parent = Parent::default();
    let pool = Pool::<[usize; 3], _>::in_parent(10, &parent).expect("the parent has memory");
    assert_eq!((pool.capacity(), parent.live()), (10, vec![Layout::new::<[[usize; 3]; 10]>()]));
    drop(pool);
    assert_eq!(parent.live(), []);
    assert!(Pool::<[u8; 20], _>::in_parent(10, &Parent::granting(0)).is_err());
    assert!(Pool::<[u8; 20], _>::in_parent(usize::MAX, &parent).is_err());
}

#[test]
fn values_of_no_bytes_need_no_room() {
    let pool = Pool::new(&mut []);
    let units: Vec<_> = (0..1000).map(|_| pool.put(()).expect("no bytes")).collect();
    assert_eq!((units.len(), pool.capacity(), pool.live()), (1000, 0, 0));
}

#[test]
fn an_arena_of_the_size_that_it_says_holds_the_values() {
    #[repr(align(128))]
    struct Aligned(#[allow(dead_code)] [u8; 200]);

    macro_rules! holds {
        ($type:ty, $n:literal, $bytes:literal) => {{
            static MEMORY: Arena<{ Pool::<$type, _>::arena_size($n) }> = Arena::new();
            assert_eq!(MEMORY.size(), $bytes);
            let pool = Pool::<$type, _>::new(MEMORY.take().expect("taken only here"));
            assert_eq!(pool.capacity(), $n);
        }};
    }
    holds!(u64, 10, 80);
    holds!(Aligned, 3, 880);
    holds!(u64, 0, 0);
    #[cfg(target_pointer_width = "64")]
    {
        holds!(u8, 3, 24);
        holds!([u32; 3], 10, 160);
        holds!(Counted<u8>, 3, 48);
        holds!(Counted<()>, 3, 24);
    }
}

#[test]
#[should_panic(expected = "the pool asks for more than can be addressed")]
fn an_arena_too_large_to_exist() {
    let _ = Pool::<u64, _>::arena_size(usize::MAX / 8);
}

#[test]
fn what_else_fits_a_block_may_have_one() {
    let mut guarded = Guarded::new(0, 64);
    let pool = Pool::<[u64; 4], _>::new(guarded.memory());
    let word = PoolBox::new_in(7_u64, pool.blocks()).expect("room");
    let words = pool.put([1; 4]).expect("room");
    assert_eq!((pool.live(), *word, words[3], pool.blocks().block()), (2, 7, 1, Layout::new::<[u64; 4]>()));
    assert_eq!(format!("{pool:?}"), "Pool { capacity: 2, peak: 2 }");
}

#[test]
fn a_pool_moves_to_another_thread_and_back() {
    let mut guarded = Guarded::new(0, 64);
    let pool = Pool::<std::rc::Rc<u32>, _>::new(guarded.memory());
    let pool = std::thread::scope(|scope| {
        let there = move || {
            assert_eq!(**pool.put(std::rc::Rc::new(7)).expect("room"), 7);
            pool
        };
        scope.spawn(there).join().expect("no panic")
    });
    assert_eq!((pool.live(), pool.peak()), (0, 1));
}

#[derive(Debug, Clone)]
enum Step {
    Put,
    Drop(prop::sample::Index),
    TakeOut(prop::sample::Index),
    Forget(prop::sample::Index),
}

proptest! {
    #[test]
    fn counts_are_those_of_a_model(
        capacity in 0..12_usize,
        steps in prop::collection::vec(
            prop_oneof![
                4 => Just(Step::Put),
                2 => any::<prop::sample::Index>().prop_map(Step::Drop),
                1 => any::<prop::sample::Index>().prop_map(Step::TakeOut),
                1 => any::<prop::sample::Index>().prop_map(Step::Forget),
            ],
            0..100,
        ),
    ) {
        let census = Census::default();
        let mut guarded = Guarded::new(0, capacity * size_of::<One<'_>>());
        let pool = Pool::new(guarded.memory());
        let (mut boxes, mut forgotten, mut peak) = (Vec::<(PoolBox<One<'_>, _>, u32)>::new(), 0, 0);
        for (step, number) in steps.into_iter().zip(0..) {
            match step {
                Step::Put => match pool.put(census.one(number)) {
                    Ok(boxed) => boxes.push((boxed, number)),
                    Err(NoRoom { value }) => {
                        assert_eq!((value.number, boxes.len() + forgotten), (number, capacity));
                    }
                },
                _ if boxes.is_empty() => {}
                Step::Drop(which) => drop(boxes.swap_remove(which.index(boxes.len()))),
                Step::TakeOut(which) => {
                    let (boxed, number) = boxes.swap_remove(which.index(boxes.len()));
                    assert_eq!(PoolBox::into_inner(boxed).number, number);
                }
                Step::Forget(which) => {
                    std::mem::forget(boxes.swap_remove(which.index(boxes.len())));
                    forgotten += 1;
                }
            }
            assert!(boxes.iter().all(|(boxed, number)| boxed.number == *number));
            let live = boxes.len() + forgotten;
            peak = peak.max(live);
            assert_eq!((pool.live(), pool.peak(), census.alive()), (live, peak, live));
        }
    }
}
