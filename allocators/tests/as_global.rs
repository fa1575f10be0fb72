//! A whole program (this one: its test harness, threads, maps and all) on an allocator of ours, with the host's as the
//! fallback.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hint::black_box;
use std::process::Command;
use std::ptr::NonNull;
use std::sync::{Arc, mpsc};
use std::thread;

use fibra_allocators::{
    AllocError, Allocator, Arena, AsGlobal, Borrowed, Bump, Fallback, FixedBlock, FromGlobal, Lazy, MemReq, Owns,
    SizeClasses, Table, table,
};
use proptest::prelude::*;
use static_assertions::{assert_impl_all, assert_not_impl_any};
use support::locked::Locked;
use support::recorder::{Log, Recorder};
use support::{Guarded, layout};

// Far more of each than these tests hold at once.
const SIZES: Table<8> = table([
    MemReq::new(16, 20_000),
    MemReq::new(64, 20_000),
    MemReq::new(256, 10_000),
    MemReq::new(1024, 5_000),
    MemReq::new(4096, 1_000),
    MemReq::new(SCARCE - 16, 20),
    MemReq::new(SCARCE, 3),
    MemReq::new(65536, 20),
]);
/// A size that one test alone asks for: nearly everything else falls into the class before or behind.
const SCARCE: usize = 49152;

type Pools = Locked<SizeClasses<8, Borrowed<'static>>>;

static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();

#[global_allocator]
static GLOBAL: AsGlobal<Fallback<Lazy<Pools>, FromGlobal<System>>> =
    AsGlobal::new(Fallback::new(Lazy::new(make), FromGlobal::new(System)));

/// Made on the first request, before `main`. Its own requests are the host's.
fn make() -> Option<Pools> {
    let draft = black_box(vec![1_u8; 100]);
    let pools = SizeClasses::new(&SIZES, MEMORY.take()?).ok()?;
    assert!(draft.iter().all(|byte| *byte == 1));
    Some(Locked::new(pools))
}

assert_impl_all!(AsGlobal<Pools>: GlobalAlloc, Send, Sync);
assert_impl_all!(AsGlobal<FromGlobal<System>>: GlobalAlloc, Send, Sync);
assert_not_impl_any!(AsGlobal<Bump<Borrowed<'static>>>: Sync);

fn is_ours<T: ?Sized>(pointer: *const T) -> bool {
    GLOBAL.get().first().owns(NonNull::new(pointer.cast_mut()).expect("not null").cast())
}

fn live_of(block_size: usize) -> usize {
    let of_size = |pools: &SizeClasses<_, _>| {
        pools.classes().find(|class| class.block_size == block_size).map(|class| class.live)
    };
    GLOBAL.get().first().get().expect("made long ago").with(of_size).expect("there is such a class")
}

#[test]
fn what_everybody_makes_is_in_the_arena() {
    assert!(is_ours(&raw const *Box::new([7_u8; 50])));
    assert!(is_ours("text".repeat(10).as_ptr()));
    assert!(is_ours(&raw const *Arc::new(7)));
    let map = HashMap::from([(1, "one".to_string()), (2, "two".to_string())]);
    assert!(is_ours(map[&1].as_ptr()) && is_ours(map[&2].as_ptr()));
    assert!(is_ours(&raw const *thread::spawn(|| Box::new([1_u64; 100])).join().expect("no panic")));
}

#[test]
fn what_does_not_fit_is_the_hosts() {
    let large = vec![7_u8; 100_000];
    assert!(!is_ours(large.as_ptr()));
    let fits = large[..1000].to_vec();
    assert!(is_ours(fits.as_ptr()));
}

#[test]
fn exhaustion_goes_to_the_fallback_and_each_block_home() {
    let scarce = || vec![5_u8; SCARCE].into_boxed_slice();
    let blocks: Vec<_> = (0..8).map(|_| scarce()).collect();
    assert_eq!(live_of(SCARCE), 3);
    let ours: Vec<_> = blocks.iter().map(|block| is_ours(block.as_ptr())).collect();
    assert_eq!(ours, [true, true, true, false, false, false, false, false]);
    assert!(blocks.iter().all(|block| block.iter().all(|byte| *byte == 5)));
    // The host's first: had they gone to the arena, it would have more than three.
    for block in blocks.into_iter().rev() {
        drop(block);
    }
    assert_eq!(live_of(SCARCE), 0);
    let again: Vec<_> = (0..4).map(|_| scarce()).collect();
    assert_eq!(again.iter().filter(|block| is_ours(block.as_ptr())).count(), 3);
}

#[test]
fn vectors_grow_out_of_the_arena_and_shrink_back_into_it() {
    let mut bytes = Vec::new();
    for i in 0..300_000_u32 {
        bytes.push(i as u8);
    }
    assert!(!is_ours(bytes.as_ptr()));
    assert!(bytes.iter().copied().eq((0..300_000_u32).map(|i| i as u8)));
    bytes.truncate(100);
    bytes.shrink_to_fit();
    assert!(bytes.iter().copied().eq(0..100));
    let copy = bytes.clone();
    assert!(is_ours(copy.as_ptr()));
}

#[test]
fn a_block_grows_and_shrinks_in_place_within_its_class() {
    let layout = layout(300, 8);
    // SAFETY: each block is the global allocator's, with this layout, and the next one takes its place.
    unsafe {
        let block = std::alloc::alloc(layout);
        assert!(is_ours(block));
        block.write_bytes(3, 300);
        let grown = std::alloc::realloc(block, layout, 1024);
        assert_eq!(grown, block);
        let shrunk = std::alloc::realloc(grown, Layout::from_size_align(1024, 8).unwrap(), 257);
        assert_eq!(shrunk, block);
        let moved = std::alloc::realloc(shrunk, Layout::from_size_align(257, 8).unwrap(), 256);
        assert_ne!(moved, block);
        assert_eq!(std::slice::from_raw_parts(moved, 256), [3; 256]);
        std::alloc::dealloc(moved, Layout::from_size_align(256, 8).unwrap());
    }
}

#[test]
fn alignment_is_honoured() {
    for log in 0..=16 {
        for size in [1, 10, 500, 5000, 100_000] {
            let layout = layout(size, 1 << log);
            // SAFETY: the layout has bytes, and each block is released, once.
            unsafe {
                let (one, zeroed) = (std::alloc::alloc(layout), std::alloc::alloc_zeroed(layout));
                assert!(!one.is_null() && one.addr().is_multiple_of(layout.align()), "{layout:?}");
                assert!(zeroed.addr().is_multiple_of(layout.align()), "{layout:?}");
                one.write_bytes(0xFF, size);
                assert!(std::slice::from_raw_parts(zeroed, size).iter().all(|byte| *byte == 0));
                std::alloc::dealloc(one, layout);
                std::alloc::dealloc(zeroed, layout);
            }
        }
    }
}

#[test]
fn blocks_that_were_used_are_zeroed_when_asked() {
    for _ in 0..100 {
        drop(black_box(vec![0xFF_u8; 900]));
        assert!(black_box(vec![0_u8; 900]).iter().all(|byte| *byte == 0));
    }
}

#[test]
fn threads_send_each_other_what_they_made() {
    let (to_sum, numbers) = mpsc::channel::<Vec<Box<u64>>>();
    let senders: Vec<_> = (0..4)
        .map(|n| {
            let to_sum = to_sum.clone();
            thread::spawn(move || {
                for i in 0..50 {
                    to_sum.send((0..i).map(|j| Box::new(n * j)).collect()).expect("somebody listens");
                }
            })
        })
        .collect();
    drop(to_sum);
    let sum: u64 = numbers.iter().flatten().map(|n| *n).sum();
    senders.into_iter().for_each(|sender| sender.join().expect("no panic"));
    let once: u64 = (0..50).map(|i: u64| (0..i).sum::<u64>()).sum();
    assert_eq!(sum, once * (1 + 2 + 3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn collections_hold_what_they_are_given(
        edits in prop::collection::vec((0..30_u16, ".{0,80}", any::<bool>()), 0..200),
    ) {
        let (mut map, mut tree, mut queue) = (HashMap::new(), BTreeMap::new(), VecDeque::new());
        for (key, text, remove) in edits {
            if remove {
                prop_assert_eq!(map.remove(&key), tree.remove(&key));
                queue.pop_front();
            } else {
                map.insert(key, text.clone());
                tree.insert(key, text.clone());
                queue.push_back(text.repeat(3));
            }
        }
        prop_assert_eq!(map.len(), tree.len());
        prop_assert!(tree.iter().all(|(key, text)| map[key] == *text));
        prop_assert!(queue.iter().all(|text| text.len() % 3 == 0));
    }
}

// The adaptor alone.

#[test]
fn every_operation_is_the_allocators_own() {
    let log = Log::default();
    let global = AsGlobal::new(Recorder::new("it", &log));
    // SAFETY: the layouts have bytes, and each block is replaced by the next.
    unsafe {
        let block = global.alloc(layout(10, 8));
        let block = global.realloc(block, layout(10, 8), 20);
        let block = global.realloc(block, layout(20, 8), 20);
        let block = global.realloc(block, layout(20, 8), 5);
        global.dealloc(block, layout(5, 8));
        global.dealloc(global.alloc_zeroed(layout(30, 8)), layout(30, 8));
    }
    let expected =
        ["allocate 10", "grow 20", "grow 20", "shrink 5", "deallocate 5", "allocate_zeroed 30", "deallocate 30"];
    assert_eq!(log.take(), expected.map(|event| format!("it {event}")));
}

#[test]
fn refusal_is_null_and_the_block_stays() {
    let mut guarded = Guarded::new(0, 128);
    let global = AsGlobal::new(FixedBlock::new(layout(64, 8), guarded.memory()));
    // SAFETY: the layouts have bytes, and a block that could not change stays ours.
    unsafe {
        let block = global.alloc(layout(64, 8));
        block.write_bytes(4, 64);
        let other = global.alloc_zeroed(layout(10, 1));
        assert_eq!(std::slice::from_raw_parts(other, 10), [0; 10]);
        assert!(global.alloc(layout(1, 1)).is_null());
        assert!(global.alloc_zeroed(layout(1, 1)).is_null());
        assert!(global.realloc(block, layout(64, 8), 65).is_null());
        assert_eq!(std::slice::from_raw_parts(block, 64), [4; 64]);
        assert_eq!(global.realloc(block, layout(64, 8), 1), block);
        global.dealloc(block, layout(1, 8));
        assert_eq!(global.get().live(), 1);
        global.dealloc(other, layout(10, 1));
    }
    assert_eq!(global.get().live(), 0);
}

/// Unwinding out of a global allocator would be undefined.
#[test]
fn an_allocator_that_panics_ends_the_program() {
    const ALONE: &str = "an_allocator_that_panics_ends_the_program";
    struct Panics;
    // SAFETY: it never allocates.
    unsafe impl Allocator for &Panics {
        fn allocate(&self, _: Layout) -> Result<NonNull<[u8]>, AllocError> {
            panic!("in the allocator")
        }
        unsafe fn deallocate(&self, _: NonNull<u8>, _: Layout) {}
    }
    if std::env::var_os("FIBRA_ALONE").is_some() {
        // SAFETY: the layout has bytes.
        let _ = std::panic::catch_unwind(|| unsafe { AsGlobal::new(Panics).alloc(layout(8, 8)) });
        return;
    }
    let alone = Command::new(std::env::current_exe().expect("a path"))
        .args([ALONE, "--exact", "--nocapture"])
        .env("FIBRA_ALONE", "")
        .output()
        .expect("it starts");
    let complaint = String::from_utf8_lossy(&alone.stderr);
    assert!(complaint.contains("in the allocator"), "{complaint}");
    assert!(complaint.contains("an allocator must not unwind here"), "{complaint}");
    assert!(![Some(0), Some(101)].contains(&alone.status.code()), "{complaint}");
}
