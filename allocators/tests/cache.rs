//! Caches: what they hold, give back, and pass on.

mod support;

use std::cell::Cell;
use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use allocator_api2::alloc::Global;
use allocator_api2::boxed::Box as PoolBox;
use fibra_allocators::{
    AllocError, Allocator, Borrowed, Cache, Cached, Extent, Layout, MemReq, NoLock, SizeClasses, SpinLock, Table,
    Worker, table,
};
use proptest::prelude::*;
use static_assertions::{assert_impl_all, assert_not_impl_any};
use support::{Guarded, bytes, drain, fill, layout, release};

thread_local! {
    static INDEX: Cell<Option<usize>> = const { Cell::new(None) };
}

/// A worker whose number the test sets.
struct Numbered;

// SAFETY: no test gives two threads of one `Cached` the same number at once.
unsafe impl Worker for Numbered {
    fn index() -> Option<usize> {
        INDEX.get()
    }
}

type Shared = SizeClasses<2, Borrowed<'static>, SpinLock>;
type Pools = Cached<2, 3, Extent<Global>, Numbered>;
assert_impl_all!(Cache<'static, 2, Borrowed<'static>, SpinLock>: Send);
assert_not_impl_any!(Cache<'static, 2, Borrowed<'static>, SpinLock>: Sync);
assert_not_impl_any!(Cache<'static, 2, Borrowed<'static>, NoLock>: Send, Sync);
assert_impl_all!(Cached<2, 4, Borrowed<'static>, Numbered, SpinLock>: Send, Sync);
assert_not_impl_any!(Cached<2, 4, Borrowed<'static>, Numbered, NoLock>: Sync);

const SIZES: Table<2> = table([MemReq::new(16, 3000), MemReq::new(64, 3000)]);
const SMALL: Layout = Layout::new::<u64>();

fn with_system(test: impl FnOnce(&'static Shared)) {
    let memory = Box::leak(vec![MaybeUninit::uninit(); SIZES.arena_size() + 16].into_boxed_slice());
    let base: *mut [MaybeUninit<u8>] = memory;
    let system: *mut Shared = Box::into_raw(Box::new(SizeClasses::with_form::<SpinLock>(&SIZES, memory).unwrap()));
    // SAFETY: both stay until the test has returned, and a panicking one leaves them behind.
    unsafe {
        test(&*system);
        assert_eq!((*system).verify(), Ok(()));
        drop(Box::from_raw(system));
        drop(Box::from_raw(base));
    }
}

fn live(system: &Shared, class: usize) -> usize {
    system.classes().nth(class).unwrap().live
}

/// What a cache with chains of `n` blocks may hold of a class, as documented.
fn bound(n: usize) -> usize {
    32 + 2 * n.max(15)
}

#[test]
fn what_is_released_to_a_cache_comes_from_it_again() {
    with_system(|system| {
        let cache = Cache::new(system, 64);
        let block = (&cache).allocate(SMALL).unwrap();
        release(&cache, block, SMALL);
        assert_eq!(live(system, 0), 1, "in the cache, which is live to the classes");
        assert_eq!((&cache).allocate(SMALL).unwrap(), block);
        release(&cache, block, SMALL);
    });
}

#[test]
fn a_cache_holds_no_more_than_it_may() {
    for class in [SMALL, layout(64, 8)] {
        for n in [0, 1, 8, 32, 100, 512] {
            with_system(|system| {
                let cache = Cache::new(system, n);
                let all = drain(&cache, class);
                assert_eq!(all.len(), 3000);
                for (i, block) in all.into_iter().enumerate() {
                    release(&cache, block, class);
                    let index = usize::from(class.size() > 16);
                    let held = live(system, index) - (3000 - i - 1);
                    assert!(held <= bound(n), "{held} of class {index} with chains of {n}");
                    assert!(format!("{cache:?}").contains(&format!(": {held}")));
                }
            });
        }
    }
}

#[test]
fn dropping_a_cache_gives_everything_back() {
    for n in [1, 32, 500] {
        for taken in [1, 14, 33, 100, 3000] {
            with_system(|system| {
                let cache = Cache::new(system, n);
                let blocks: Vec<_> = (0..taken).map(|_| (&cache).allocate(layout(50, 8)).unwrap()).collect();
                blocks.into_iter().for_each(|block| release(&cache, block, layout(50, 8)));
                drop(cache);
                assert_eq!(live(system, 1), 0);
                let all: HashSet<_> = drain(system, layout(64, 8)).into_iter().collect();
                assert_eq!(all.len(), 3000, "each block once");
            });
        }
    }
}

#[test]
fn what_a_cache_passed_on_others_get() {
    with_system(|system| {
        let (a, b) = (Cache::new(system, 32), Cache::new(system, 100));
        let blocks = drain(&a, SMALL);
        assert!((&b).allocate(SMALL).is_err());
        blocks.into_iter().for_each(|block| release(&a, block, SMALL));
        let left = bound(32);
        let by_b = drain(&b, SMALL);
        assert!(by_b.len() >= 3000 - left);
        by_b.into_iter().for_each(|block| release(&b, block, SMALL));
        drop(b);
        let by_system = drain(system, SMALL);
        assert!(by_system.len() >= 3000 - left, "chains are broken up for those without a cache");
        a.flush();
        assert_eq!(drain(system, SMALL).len() + by_system.len(), 3000);
    });
}

#[test]
fn blocks_come_home_through_another_cache_or_none() {
    with_system(|system| {
        let (a, b) = (Cache::new(system, 8), Cache::new(system, 8));
        for round in 0..1000 {
            let block = (&a).allocate(SMALL).unwrap();
            match round % 3 {
                0 => release(&b, block, SMALL),
                1 => release(system, block, SMALL),
                _ => release(&a, block, SMALL),
            }
        }
        drop((a, b));
        assert_eq!(live(system, 0), 0);
        assert!(system.classes().next().unwrap().peak < 2 * bound(8), "what one releases the other does not need anew");
    });
}

#[test]
fn containers_grow_in_place_in_a_cache() {
    with_system(|system| {
        let cache = Cache::new(system, 8);
        let mut bytes = allocator_api2::vec::Vec::with_capacity_in(20, &cache);
        bytes.extend_from_slice(&[7_u8; 20]);
        let address = bytes.as_ptr();
        bytes.extend_from_slice(&[8; 40]);
        assert_eq!(bytes.as_ptr(), address, "64 bytes hold it");
        bytes.truncate(10);
        bytes.shrink_to_fit();
        assert_eq!(*bytes, [7; 10]);
        assert!(bytes.try_reserve(1000).is_err());
    });
}

#[test]
fn requests_of_no_bytes_and_too_many() {
    with_system(|system| {
        let cache = Cache::new(system, 8);
        let nothing = (&cache).allocate(layout(0, 64)).unwrap();
        assert_eq!((nothing.len(), nothing.cast::<u8>().addr().get()), (0, 64));
        release(&cache, nothing, layout(0, 64));
        assert_eq!((&cache).allocate(layout(65, 1)), Err(AllocError));
        assert_eq!((&cache).allocate(layout(8, 8192)), Err(AllocError));
        let aligned = (&cache).allocate(layout(8, 64)).unwrap();
        assert!(aligned.cast::<u8>().addr().get().is_multiple_of(64));
        release(&cache, aligned, layout(8, 64));
    });
}

#[test]
fn the_depth_may_differ_by_class() {
    with_system(|system| {
        let cache = Cache::sized(system, |row| if row.block_size == 16 { 500 } else { 1 });
        for (class, size) in [(0, 16), (1, 64)] {
            let all = drain(&cache, layout(size, 8));
            all.into_iter().for_each(|block| release(&cache, block, layout(size, 8)));
            let most = if class == 0 { bound(500) } else { bound(1) };
            assert!(live(system, class) <= most && live(system, class) + 32 >= most / 2);
        }
    });
}

#[test]
fn a_forgotten_cache_keeps_what_it_has() {
    with_system(|system| {
        let cache = Cache::new(system, 8);
        drop(PoolBox::new_in(7_u64, &cache));
        std::mem::forget(cache);
        assert_eq!(live(system, 0), 1);
        assert_eq!(drain(system, SMALL).len(), 2999);
    });
}

#[test]
fn producers_and_consumers_exchange_blocks() {
    with_system(|system| {
        let (to, from) = std::sync::mpsc::sync_channel::<usize>(100);
        std::thread::scope(|s| {
            s.spawn(move || {
                let cache = Cache::new(system, 32);
                for n in 0..50_000_u64 {
                    // Fewer are on their way than there are, but some are in the caches.
                    let block = (&cache).allocate(SMALL).expect("enough for all").cast::<u64>();
                    // SAFETY: allocated with its layout.
                    unsafe { block.write(n) };
                    to.send(block.as_ptr().expose_provenance()).unwrap();
                }
            });
            s.spawn(move || {
                let cache = Cache::new(system, 64);
                for (n, address) in (0..).zip(from) {
                    let block = NonNull::new(std::ptr::with_exposed_provenance_mut::<u64>(address)).unwrap();
                    // SAFETY: the other thread sent it, and has finished with it.
                    unsafe {
                        assert_eq!(block.read(), n);
                        (&cache).deallocate(block.cast(), SMALL);
                    }
                }
            });
        });
        assert_eq!(live(system, 0), 0);
        assert!(system.classes().next().unwrap().peak <= 101 + bound(32) + bound(64));
    });
}

fn cached(blocks: usize) -> Pools {
    Cached::new(SizeClasses::in_parent_with_form(&SIZES, Global).unwrap(), blocks)
}

#[test]
fn workers_have_caches_of_their_own() {
    let pools = cached(16);
    let start = Barrier::new(5);
    let wrong = AtomicUsize::new(0);
    std::thread::scope(|s| {
        for worker in 0..5_u64 {
            let (pool, start, wrong) = (&pools, &start, &wrong);
            s.spawn(move || {
                // Two of them are one too many, and one has no number.
                INDEX.set((worker != 4).then_some(worker as usize));
                start.wait();
                let mut mine = Vec::new();
                for n in 0..20_000_u64 {
                    mine.push(PoolBox::new_in(worker << 32 | n, pool));
                    if n % 3 != 0 {
                        let boxed = mine.swap_remove((n % 7) as usize % mine.len());
                        wrong.fetch_add(usize::from(*boxed >> 32 != worker), Ordering::Relaxed);
                    }
                    mine.truncate(300);
                }
                drop(mine);
                pool.flush();
            });
        }
    });
    assert_eq!(wrong.into_inner(), 0);
    assert_eq!(pools.system().verify(), Ok(()));
    assert!(pools.system().classes().all(|class| class.live == 0));
}

#[test]
fn a_box_is_dropped_on_another_worker() {
    let pools = cached(16);
    INDEX.set(Some(0));
    let boxes: Vec<_> = (0..100).map(|n| PoolBox::new_in(n, &pools)).collect();
    std::thread::scope(|s| {
        let pool = &pools;
        s.spawn(move || {
            INDEX.set(Some(1));
            drop(boxes);
            pool.flush();
        });
    });
    assert_eq!(pools.system().classes().next().unwrap().live, 0);
    INDEX.set(None);
}

#[test]
fn the_next_worker_with_a_number_has_what_the_last_one_left() {
    let pools = cached(16);
    let address = |pool: &Pools| {
        INDEX.set(Some(2));
        std::ptr::from_ref(&*PoolBox::new_in(7_u64, pool)).addr()
    };
    let first = std::thread::scope(|s| s.spawn(|| address(&pools)).join().unwrap());
    let second = std::thread::scope(|s| s.spawn(|| address(&pools)).join().unwrap());
    assert_eq!(first, second);
}

#[test]
fn without_a_number_one_goes_to_the_shared_classes() {
    let pools = cached(16);
    for index in [None, Some(3), Some(usize::MAX)] {
        INDEX.set(index);
        drop(PoolBox::new_in(7, &pools));
        assert_eq!(pools.system().classes().next().unwrap().live, 0);
        pools.flush();
    }
    INDEX.set(None);
}

/// Any of two caches, whose chains are of different lengths, or the classes themselves.
#[derive(Debug, Clone)]
enum Step {
    Take { through: usize, class: usize, how_many: usize },
    Give { through: usize, which: prop::sample::Index, how_many: usize },
    Flush { cache: usize },
}

/// With no slot in a page, with few, and with as many as there can be.
const RANDOM: Table<4> =
    table([MemReq::new(16, 200), MemReq::new(32, 150), MemReq::new(48, 100), MemReq::new(256, 130)]);

fn random_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_usize, 0..4_usize, 1..60_usize)
            .prop_map(|(through, class, how_many)| Step::Take { through, class, how_many }),
        4 => (0..3_usize, any::<prop::sample::Index>(), 1..60_usize)
            .prop_map(|(through, which, how_many)| Step::Give { through, which, how_many }),
        1 => (0..2_usize).prop_map(|cache| Step::Flush { cache }),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    /// Each block is one user's, keeps what is written to it, and is there at the end.
    #[test]
    fn blocks_wander_between_caches(depths in (0..80_usize, 0..80_usize), steps in random_steps()) {
        let mut guarded = Guarded::new(0, RANDOM.arena_size());
        let system = SizeClasses::with_form::<SpinLock>(&RANDOM, guarded.memory()).unwrap();
        let caches = [Cache::new(&system, depths.0), Cache::new(&system, depths.1)];
        let mut live: Vec<(NonNull<[u8]>, Layout, u8)> = Vec::new();
        for (step, seed) in steps.into_iter().zip(0..) {
            match step {
                Step::Take { through, class, how_many } => {
                    let class = layout(RANDOM.rows()[class].block_size, 8);
                    for _ in 0..how_many {
                        let taken = caches.get(through).map_or_else(|| (&system).allocate(class), |c| c.allocate(class));
                        let Ok(block) = taken else { break };
                        prop_assert!(live.iter().all(|(other, ..)| other.cast::<u8>() != block.cast()));
                        fill(block, seed);
                        live.push((block, class, seed));
                    }
                }
                Step::Give { through, which, how_many } => {
                    for _ in 0..how_many.min(live.len()) {
                        let (block, class, seed) = live.swap_remove(which.index(live.len()));
                        prop_assert!(bytes(block).iter().all(|byte| *byte == seed));
                        match caches.get(through) {
                            Some(cache) => release(cache, block, class),
                            None => release(&system, block, class),
                        }
                    }
                }
                Step::Flush { cache } => caches[cache].flush(),
            }
            prop_assert_eq!(system.verify(), Ok(()));
        }
        drop(caches);
        let held: Vec<_> = system.classes().map(|class| class.live).collect();
        for (class, held) in RANDOM.rows().iter().zip(held) {
            let mine = live.iter().filter(|(_, layout, _)| layout.size() == class.block_size).count();
            prop_assert_eq!(held, mine);
            let rest: HashSet<_> = drain(&system, layout(class.block_size, 8)).into_iter().collect();
            prop_assert_eq!(rest.len() + mine, class.n_blocks);
            prop_assert!(live.iter().all(|(block, ..)| !rest.contains(block)));
        }
        guarded.assert_guards();
    }
}
