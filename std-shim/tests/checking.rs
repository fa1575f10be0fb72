//! A whole program on checked memory: threads, strings, maps, and the runtime itself, through the global allocator.

use std::alloc::{GlobalAlloc, Layout};
use std::collections::{BTreeMap, HashMap};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{LazyLock, mpsc};
use std::thread;

use fibra_std::allocators::{Bump, Checking, Extent, Mistake};
use fibra_std::{Allocator, Malloc, SleepLock, report_mistake};

type Heap = Checking<Malloc, Extent<Malloc>, SleepLock>;

static HEAP: LazyLock<Heap> = LazyLock::new(|| {
    Checking::in_parent(Malloc, Malloc, 1_000_000)
        .expect("memory for the records")
        .on_mistake(remember as fn(&Mistake))
        .with_lock::<SleepLock>()
});

static MISTAKES: AtomicUsize = AtomicUsize::new(0);

fn remember(mistake: &Mistake) {
    MISTAKES.fetch_add(1, Relaxed);
    eprintln!("{mistake}"); // which allocates, now and then
}

struct OnHeap;

// SAFETY: every operation is that of `Checking`, which keeps the contract and does not unwind with that handler.
unsafe impl GlobalAlloc for OnHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        (&*HEAP).allocate(layout).map_or(ptr::null_mut(), |block| block.cast().as_ptr())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        (&*HEAP).allocate_zeroed(layout).map_or(ptr::null_mut(), |block| block.cast().as_ptr())
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: passed on to the caller, who gives back what is not null.
        unsafe { (&*HEAP).deallocate(NonNull::new_unchecked(block), layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: passed on to the caller, who gives a size that a layout can have.
        let resized = unsafe {
            let (block, new) = (NonNull::new_unchecked(block), Layout::from_size_align_unchecked(size, layout.align()));
            if size < layout.size() { (&*HEAP).shrink(block, layout, new) } else { (&*HEAP).grow(block, layout, new) }
        };
        resized.map_or(ptr::null_mut(), |block| block.cast().as_ptr())
    }
}

#[global_allocator]
static GLOBAL: OnHeap = OnHeap;

#[test]
fn a_program_without_mistakes() {
    let words: Vec<String> = (0..200_000).map(|n| format!("word {n}")).collect();
    let lengths: HashMap<&str, usize> = words.iter().map(|word| (word.as_str(), word.len())).collect();
    assert_eq!(lengths["word 77777"], 10);
    assert!(HEAP.live() > 200_000);
    let (send, receive) = mpsc::channel();
    thread::scope(|scope| {
        for chunk in words.chunks(50_000) {
            let send = send.clone();
            scope.spawn(move || {
                for word in chunk.iter().step_by(10) {
                    send.send(word.repeat(3)).expect("somebody listens");
                }
            });
        }
        drop(send);
        let sorted: BTreeMap<String, usize> = receive.into_iter().enumerate().map(|(n, word)| (word, n)).collect();
        assert_eq!(sorted.len(), 20_000);
    });
    let (total, outcome) = fibra_std::run(|p| {
        let (mut w, mut r) = p.channel::<String>().expect("room");
        let spawned = p.spawn(async move {
            for n in 0..1000 {
                w.write(n.to_string()).await;
            }
        });
        assert!(spawned.is_ok());
        p.spawn(async move {
            loop {
                assert!(!r.read().await.is_empty());
            }
        })
        .is_ok()
    })
    .expect("memory");
    assert!(total && outcome.finished == 1);
    assert_eq!(HEAP.verify(), 0);
    assert_eq!((HEAP.mistakes(), MISTAKES.load(Relaxed)), (0, 0));
}

/// A block that stays.
fn forgotten(allocator: impl Allocator, layout: Layout) -> NonNull<u8> {
    allocator.allocate(layout).expect("memory").cast()
}

#[test]
fn one_panic_is_enough() {
    // Both blocks are still live when their allocators are dropped, while unwinding.
    let panic = thread::spawn(|| {
        let memory = Bump::in_parent(Malloc, 1000).expect("memory");
        let checking = Checking::in_parent(&memory, Malloc, 10).expect("memory").on_mistake(report_mistake);
        let other = Checking::in_parent(&memory, Malloc, 10).expect("memory").on_mistake(report_mistake);
        let layout = Layout::new::<u64>();
        let block = forgotten(&checking, layout);
        forgotten(&other, layout);
        // SAFETY: nothing is done with it; that is what is tested.
        unsafe { (&checking).deallocate(block, Layout::new::<u32>()) };
    })
    .join()
    .expect_err("it is reported");
    let text = panic.downcast_ref::<String>().expect("with words");
    assert!(text.starts_with("wrong layout: the block at 0x"), "{text}");
}
