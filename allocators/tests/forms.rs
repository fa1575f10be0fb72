//! What the forms promise beside what every allocator does: who may share, which block is next, and what it costs.

mod support;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Barrier;

use allocator_api2::alloc::Global;
use fibra_allocators::{
    AllocError, Allocator, Arena, Borrowed, Bump, Fifo, FixedBlock, Form, Layout, LockFree, MemReq, NoLock, Ordered,
    Pool, SizeClasses, SpinLock, Table, table,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use support::{Guarded, drain, forever, release};

type Classes<F> = SizeClasses<3, Borrowed<'static>, F>;
type Blocks<F> = FixedBlock<Borrowed<'static>, F>;

assert_impl_all!(Classes<SpinLock>: Send, Sync);
assert_impl_all!(Classes<LockFree>: Send, Sync);
assert_impl_all!(Classes<Fifo>: Send, Sync);
assert_impl_all!(Classes<Ordered<SpinLock>>: Send, Sync);
assert_impl_all!(Classes<Ordered>: Send);
assert_impl_all!(Classes<NoLock>: Send);
assert_not_impl_any!(Classes<Ordered>: Sync);
assert_not_impl_any!(Classes<NoLock>: Sync);
assert_impl_all!(Blocks<LockFree>: Send, Sync);
assert_not_impl_any!(Blocks<Ordered>: Sync);
// A parent that is one thread's is not brought to another one by its children.
assert_not_impl_any!(SizeClasses<3, fibra_allocators::Extent<&'static Bump<Borrowed<'static>>>, SpinLock>: Send, Sync);

const WORD: Layout = Layout::new::<u64>();

fn numbers(block: NonNull<[u8]>, base: usize) -> usize {
    (block.cast::<u8>().addr().get() - base) / 8
}

fn with_blocks<F: Form>(n: usize, test: impl FnOnce(&FixedBlock<Borrowed<'_>, F>, usize)) {
    let mut guarded = Guarded::new(0, n * 32 + 256);
    let base = guarded.range().start;
    let blocks = FixedBlock::with_form::<F>(WORD, guarded.memory());
    assert!(blocks.capacity() >= n);
    test(&blocks, base);
    assert_eq!(blocks.verify(), Ok(()));
    guarded.assert_guards();
}

/// Random allocations and releases; `next` says which block is to come, given those that were released, in that order.
fn drive<F: Form>(n: usize, next: impl Fn(&mut VecDeque<usize>, &mut usize) -> Option<usize>) {
    with_blocks::<F>(n, |blocks, base| {
        let (mut free, mut carved) = (VecDeque::new(), 0);
        let mut live: Vec<NonNull<[u8]>> = Vec::new();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for step in 0..6 * n {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Fills up, then empties, then both at random.
            let take = match step / n {
                0 => true,
                1 => false,
                _ => state & 1 == 0,
            };
            if take {
                let expected =
                    if carved < blocks.capacity() || !free.is_empty() { next(&mut free, &mut carved) } else { None };
                match blocks.allocate(WORD) {
                    Ok(block) => {
                        if let Some(expected) = expected {
                            assert_eq!(numbers(block, base), expected);
                        }
                        let number = numbers(block, base);
                        free.retain(|&other| other != number);
                        live.push(block);
                    }
                    Err(AllocError) => assert_eq!(live.len(), blocks.capacity()),
                }
            } else if !live.is_empty() {
                let block = live.swap_remove((state >> 8) as usize % live.len());
                free.push_back(numbers(block, base));
                release(blocks, block, WORD);
            }
        }
        assert_eq!(blocks.live(), live.len());
        live.into_iter().for_each(|block| release(blocks, block, WORD));
        assert_eq!(blocks.live(), 0);
    });
}

fn last_released(free: &mut VecDeque<usize>, carved: &mut usize) -> Option<usize> {
    free.pop_back().or_else(|| {
        *carved += 1;
        Some(*carved - 1)
    })
}

#[test]
fn lists_reuse_the_last_released_first() {
    drive::<NoLock>(300, last_released);
    drive::<SpinLock>(300, last_released);
    drive::<LockFree>(300, last_released);
}

#[test]
fn a_queue_reuses_the_first_released_first() {
    let capacity = std::cell::Cell::new(0);
    with_blocks::<Fifo>(300, |blocks, _| capacity.set(blocks.capacity()));
    let capacity = capacity.get();
    drive::<Fifo>(300, |free, carved| {
        if *carved < capacity {
            *carved += 1;
            return Some(*carved - 1);
        }
        free.pop_front()
    });
}

#[test]
fn blocks_in_order_are_untouched_last() {
    // Which of the released ones is next depends on the group; that one of them is, does not.
    drive::<Ordered>(5000, |free, carved| {
        if free.is_empty() {
            *carved += 1;
            return Some(*carved - 1);
        }
        None
    });
}

#[test]
fn blocks_in_order_come_group_by_group_and_lowest_first() {
    with_blocks::<Ordered<SpinLock>>(20_000, |blocks, base| {
        let n = blocks.capacity();
        let bits = usize::BITS as usize;
        let mut all = drain(blocks, WORD);
        // Blocks that were never used leave the first group the current one.
        for current in [0, (n - 1) / bits] {
            // Released at random: 7919 is prime to the number of blocks.
            for i in 0..n {
                release(blocks, all[i * 7919 % n], WORD);
            }
            all = drain(blocks, WORD);
            let order: Vec<usize> = all.iter().map(|&block| numbers(block, base)).collect();
            assert_eq!(order.len(), n);
            let of_current = order.iter().take_while(|&number| number / bits == current).count();
            assert_eq!(of_current, if current == 0 { bits } else { n - current * bits });
            assert!(order[..of_current].is_sorted() && order[of_current..].is_sorted());
        }
        all.into_iter().for_each(|block| release(blocks, block, WORD));
    });
}

#[test]
fn a_group_that_fills_again_is_found_again() {
    with_blocks::<Ordered>(5000, |blocks, base| {
        let all = drain(blocks, WORD);
        // One block free in each of many groups, then none, again and again.
        for round in 1..20 {
            let some: Vec<_> = all.iter().copied().step_by(round * 37).collect();
            some.iter().for_each(|&block| release(blocks, block, WORD));
            let again: BTreeSet<_> = drain(blocks, WORD).into_iter().map(|block| numbers(block, base)).collect();
            assert_eq!(again, some.iter().map(|&block| numbers(block, base)).collect());
        }
        all.into_iter().for_each(|block| release(blocks, block, WORD));
    });
}

/// Every thread takes and gives blocks at random, writes its number into each, and finds it there again.
fn stress<F: Form>(threads: u64, rounds: u64)
where
    for<'m> FixedBlock<Borrowed<'m>, F>: Sync,
{
    // Fewer blocks than the threads want, so that they run out now and then.
    with_blocks::<F>(64, |blocks, _| {
        let start = Barrier::new(threads as usize);
        std::thread::scope(|s| {
            for thread in 1..=threads {
                let start = &start;
                s.spawn(move || {
                    let mut state = thread * 0x9e37_79b9;
                    let mut mine: Vec<(NonNull<u64>, u64)> = Vec::new();
                    start.wait();
                    for round in 0..rounds {
                        state ^= state << 13;
                        state ^= state >> 7;
                        state ^= state << 17;
                        if state % 5 < 3 && mine.len() < 40 {
                            if let Ok(block) = blocks.allocate(WORD) {
                                let (block, mark) = (block.cast::<u64>(), thread << 32 | round);
                                // SAFETY: allocated with this layout.
                                unsafe { block.write(mark) };
                                mine.push((block, mark));
                            }
                        } else if !mine.is_empty() {
                            let (block, mark) = mine.swap_remove(state as usize % mine.len());
                            // SAFETY: written above, and released once.
                            unsafe {
                                assert_eq!(block.read(), mark, "the block of another");
                                blocks.deallocate(block.cast(), WORD);
                            }
                        }
                    }
                    for (block, mark) in mine {
                        // SAFETY: as above.
                        unsafe {
                            assert_eq!(block.read(), mark, "the block of another");
                            blocks.deallocate(block.cast(), WORD);
                        }
                    }
                });
            }
        });
        assert_eq!(blocks.live(), 0);
        let all: HashSet<_> = drain(blocks, WORD).into_iter().map(|block| block.cast::<u8>()).collect();
        assert_eq!(all.len(), blocks.capacity(), "a block was lost, or is there twice");
    });
}

#[test]
fn threads_share_blocks_behind_a_lock() {
    stress::<SpinLock>(4, 20_000);
    stress::<Ordered<SpinLock>>(4, 20_000);
}

#[test]
fn threads_share_blocks_without_a_lock() {
    stress::<LockFree>(4, 20_000);
}

#[test]
fn threads_share_a_queue_without_a_lock() {
    stress::<Fifo>(4, 20_000);
}

/// With one block for each thread nobody is ever refused, however the others come between.
fn never_refused<F: Form>()
where
    for<'m> SizeClasses<1, Borrowed<'m>, F>: Sync,
{
    const THREADS: usize = 4;
    let sizes = table([MemReq::new(64, THREADS)]);
    let mut memory = vec![MaybeUninit::uninit(); sizes.arena_size_for::<F>() + 16];
    let system = SizeClasses::with_form::<F>(&sizes, &mut memory).unwrap();
    std::thread::scope(|s| {
        for _ in 0..THREADS {
            s.spawn(|| {
                for _ in 0..20_000 {
                    let block = (&system).allocate(WORD).expect("there is one for each thread");
                    release(&system, block, WORD);
                }
            });
        }
    });
    assert_eq!(system.classes().map(|class| class.live).sum::<usize>(), 0);
}

#[test]
fn who_is_entitled_to_a_block_gets_it() {
    never_refused::<SpinLock>();
    never_refused::<LockFree>();
    never_refused::<Fifo>();
    never_refused::<Ordered<SpinLock>>();
}

#[test]
fn the_arena_has_the_exact_size_in_every_form() {
    fn check<F: Form>(beside: usize) {
        const SIZES: Table<2> = table([MemReq::new(32, 100), MemReq::new(64, 7)]);
        assert_eq!(SIZES.arena_size_for::<F>() - SIZES.arena_size(), beside);
        let mut guarded = Guarded::new(16, SIZES.arena_size_for::<F>());
        let system = SizeClasses::with_form::<F>(&SIZES, guarded.memory()).unwrap();
        let all = drain(&system, WORD).len();
        assert_eq!(all, 100);
        assert!(system.classes().all(|class| class.live == if class.block_size == 32 { 100 } else { 0 }));
        guarded.assert_guards();
        let mut small = Guarded::new(16, SIZES.arena_size_for::<F>() - 1);
        let error = SizeClasses::with_form::<F>(&SIZES, small.memory()).unwrap_err();
        assert_eq!(error.needed, error.got + 1);
    }
    check::<NoLock>(0);
    check::<SpinLock>(0);
    check::<LockFree>(4 * 107 + 4);
    check::<Fifo>((101 + 8) * 8 + (201 + 15) * 4 + 8);
    check::<Ordered>((2 + 1 + 1) * 8);
}

#[test]
fn nothing_is_touched_before_it_is_needed() {
    fn check<F: Form>() {
        let mut guarded = Guarded::new(0, 4096);
        let blocks = FixedBlock::with_form::<F>(WORD, guarded.memory());
        assert_eq!((blocks.live(), blocks.peak(), blocks.verify()), (0, 0, Ok(())));
        guarded.assert_untouched();
    }
    check::<SpinLock>();
    check::<LockFree>();
    check::<Ordered>();
}

#[test]
fn a_static_arena_serves_threads() {
    const SIZES: Table<1> = table([MemReq::new(64, 10)]);
    static MEMORY: Arena<{ SIZES.arena_size_for::<LockFree>() }> = Arena::new();
    let system = SizeClasses::with_form::<LockFree>(&SIZES, MEMORY.take().unwrap()).unwrap();
    let system: &'static Classes1 = forever(system);
    let block = std::thread::spawn(move || system.allocate(WORD).unwrap().cast::<u8>().addr()).join().unwrap();
    assert_ne!(system.allocate(WORD).unwrap().cast::<u8>().addr(), block);
}

type Classes1 = SizeClasses<1, Borrowed<'static>, LockFree>;

#[test]
fn counts_are_there_while_others_are_at_work() {
    let sizes = table([MemReq::new(64, 1000)]);
    let mut memory = vec![MaybeUninit::uninit(); sizes.arena_size() + 16];
    let system = SizeClasses::with_form::<SpinLock>(&sizes, &mut memory).unwrap();
    std::thread::scope(|s| {
        let worker = s.spawn(|| {
            for _ in 0..100 {
                let blocks: Vec<_> = (0..500).map(|_| (&system).allocate(WORD).unwrap()).collect();
                blocks.into_iter().for_each(|block| release(&system, block, WORD));
            }
        });
        while !worker.is_finished() {
            let class = system.classes().next().unwrap();
            assert!(class.live <= 500 && class.peak <= 500);
        }
    });
    assert_eq!(system.classes().next().unwrap().peak, 500);
}

#[test]
fn no_blocks_at_all_are_blocks_that_are_refused() {
    fn check<F: Form>() {
        let parent = support::Parent::default();
        let none = FixedBlock::in_parent_with_form::<F>(WORD, 0, &parent).unwrap();
        assert_eq!((none.capacity(), none.peak(), none.live(), none.verify()), (0, 0, 0, Ok(())));
        assert_eq!((&none).allocate(WORD), Err(AllocError));
        assert!(Pool::<u64, _>::arena_size_for::<F>(0) <= 16);
    }
    check::<NoLock>();
    check::<SpinLock>();
    check::<LockFree>();
    check::<Fifo>();
    check::<Ordered>();
}

#[test]
fn more_blocks_than_can_be_numbered_are_an_error() {
    let most = (usize::MAX >> (usize::BITS / 2)) - 1;
    let sizes = table([MemReq::new(16, most + 1)]);
    let mut memory = [MaybeUninit::uninit(); 64];
    assert_eq!(SizeClasses::with_form::<LockFree>(&sizes, &mut memory).unwrap_err().needed, usize::MAX);
    assert!(SizeClasses::in_parent_with_form::<Fifo>(&sizes, &support::Parent::default()).is_err());
}

#[test]
fn no_blocks_are_no_memory_and_no_time() {
    fn check<F: Form>() {
        assert!(Pool::<u64, Borrowed<'static>>::arena_size_for::<F>(0) <= 2 * size_of::<usize>());
        let none = FixedBlock::in_parent_with_form::<F>(WORD, 0, Global).expect("hardly any bytes");
        assert_eq!((none.capacity(), none.live(), none.verify()), (0, 0, Ok(())));
        assert_eq!((&none).allocate(WORD), Err(AllocError));
        let none = FixedBlock::with_form::<F>(WORD, &mut []);
        assert_eq!((&none).allocate(WORD), Err(AllocError));
    }
    check::<NoLock>();
    check::<SpinLock>();
    check::<LockFree>();
    check::<Fifo>();
    check::<Ordered>();
}

/// Exactly so many blocks, so that rows of bits, and those above them, end where they are full, one before, and one after.
fn each_once<F: Form>(n: usize, rounds: usize) {
    let blocks = FixedBlock::in_parent_with_form::<F>(WORD, n, Global).expect("memory");
    assert_eq!(blocks.capacity(), n);
    let mut all = drain(&blocks, WORD);
    let base = all.iter().map(|block| block.cast::<u8>().addr().get()).min().expect("one at least");
    let mut taken = vec![false; n];
    let take = |taken: &mut [bool]| {
        let block = (&blocks).allocate(WORD).ok()?;
        assert!(!std::mem::replace(&mut taken[numbers(block, base)], true), "a block of somebody else");
        Some(block)
    };
    for block in &all {
        assert!(!std::mem::replace(&mut taken[numbers(*block, base)], true), "the same block twice");
    }
    for round in 0..rounds {
        assert_eq!((all.len(), blocks.live(), blocks.peak()), (n, n, n));
        match round {
            0 => all.sort(),
            1 => all.sort_by_key(|block| std::cmp::Reverse(*block)),
            // 7919 is a prime that divides none of the numbers.
            _ => all = (0..n).map(|i| all[i * 7919 % n]).collect(),
        }
        // Three down, two up, so that the words empty and fill again on the way.
        let mut live = Vec::new();
        for three in all.chunks(3) {
            for block in three {
                taken[numbers(*block, base)] = false;
                release(&blocks, *block, WORD);
            }
            live.extend((1..three.len()).map(|_| take(&mut taken).expect("just released")));
        }
        assert_eq!((blocks.live(), blocks.verify()), (live.len(), Ok(())));
        all = live;
        all.extend(std::iter::from_fn(|| take(&mut taken)));
    }
    all.into_iter().for_each(|block| release(&blocks, block, WORD));
    assert_eq!((blocks.live(), blocks.verify()), (0, Ok(())));
}

#[test]
fn every_block_is_there_once_whatever_their_number() {
    for n in [1, 2, 31, 32, 33, 63, 64, 65, 128, 1024, 1025, 4095, 4096, 4097] {
        each_once::<Ordered>(n, 5);
        each_once::<Fifo>(n, 3);
        each_once::<LockFree>(n, 3);
        each_once::<SpinLock>(n, 3);
    }
    each_once::<Ordered>(64 * 64 * 64 + 1, 3);
}

/// Writes to a block after its release: the scanner has to see it.
fn scanner<F: Form>(seen: bool) {
    let mut memory = [const { MaybeUninit::uninit() }; 1024];
    let blocks = &FixedBlock::with_form::<F>(WORD, &mut memory);
    let a = blocks.allocate(WORD).unwrap();
    let b = blocks.allocate(WORD).unwrap();
    release(blocks, a, WORD);
    release(blocks, b, WORD);
    assert_eq!(blocks.verify(), Ok(()));
    // SAFETY: not ours any more; but the memory is the arena's, which is.
    unsafe { b.cast::<u64>().write(u64::MAX) };
    match blocks.verify() {
        Err(corruption) => {
            assert!(seen);
            assert_eq!((corruption.block_size, corruption.address), (8, usize::MAX));
            let text = corruption.to_string();
            assert!(text.contains("blocks of 8 bytes") && text.contains("written to after its release"), "{text}");
        }
        Ok(()) => assert!(!seen, "the links are not in the blocks"),
    }
}

#[test]
fn the_scanner_sees_a_write_after_the_release() {
    scanner::<NoLock>(true);
    scanner::<SpinLock>(true);
    scanner::<LockFree>(false);
    scanner::<Fifo>(false);
    scanner::<Ordered>(false);
}

#[test]
fn the_scanner_sees_a_double_release() {
    fn check<F: Form>() {
        let mut memory = [const { MaybeUninit::uninit() }; 1024];
        let blocks = &FixedBlock::with_form::<F>(WORD, &mut memory);
        let a = blocks.allocate(WORD).unwrap();
        release(blocks, a, WORD);
        release(blocks, a, WORD);
        let corruption = blocks.verify().unwrap_err();
        assert_eq!(corruption.address, 0);
        assert!(corruption.to_string().contains("more blocks than were released"));
    }
    check::<NoLock>();
    check::<SpinLock>();
    check::<LockFree>();
    check::<Ordered>();
}
