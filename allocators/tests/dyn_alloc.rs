//! The handle to an allocator that is chosen at run time.

mod support;

use std::cell::{Cell, RefCell};
use std::mem::{self, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use allocator_api2::alloc::Global;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec as InVec;
use fibra_allocators::{
    AllocError, AllocRef, Allocator, Arena, Borrowed, Bump, Concurrent, DynAlloc, Extent, FixedBlock, FromGlobal,
    Layout, MemReq, ParentFull, Sequential, SizeClasses, table,
};
use proptest::prelude::*;
use proptest::sample::Index;
use static_assertions::{assert_eq_size, assert_impl_all, assert_not_impl_any, assert_type_eq_all};
use support::locked::Locked;
use support::recorder::{Log, Recorder};
use support::{Guarded, Parent, bytes, drain, fill, layout, release};

assert_impl_all!(DynAlloc<'static>: AllocRef);
assert_impl_all!(DynAlloc<'static, Concurrent>: AllocRef, Send, Sync);
assert_not_impl_any!(DynAlloc<'static, Sequential>: Send, Sync);
assert_not_impl_any!(Box<u8, DynAlloc<'static>>: Send, Sync);
assert_impl_all!(Box<u8, DynAlloc<'static, Concurrent>>: Send, Sync);
assert_type_eq_all!(DynAlloc<'static>, DynAlloc<'static, Sequential>);
assert_eq_size!(DynAlloc<'static>, DynAlloc<'static, Concurrent>, Option<DynAlloc<'static>>, [usize; 2]);

/// Every method of the trait, through a handle, and what it is to its allocator.
fn exercise(handle: &DynAlloc<'_>) {
    let block = handle.allocate(layout(10, 1)).expect("the host has memory");
    fill(block, 7);
    // SAFETY: each block is this allocator's, with this layout, and the next one takes its place.
    unsafe {
        let block = handle.grow(block.cast(), layout(10, 1), layout(20, 1)).expect("memory");
        assert_eq!(bytes(block)[..10], [7; 10]);
        fill(block, 7);
        let block = handle.grow_zeroed(block.cast(), layout(20, 1), layout(30, 1)).expect("memory");
        assert_eq!((&bytes(block)[..20], &bytes(block)[20..30]), (&[7; 20][..], &[0; 10][..]));
        let block = handle.shrink(block.cast(), layout(30, 1), layout(5, 1)).expect("memory");
        assert_eq!(bytes(block)[..5], [7; 5]);
        handle.deallocate(block.cast(), layout(5, 1));
    }
    let zeroed = handle.allocate_zeroed(layout(40, 1)).expect("memory");
    assert_eq!(bytes(zeroed)[..40], [0; 40]);
    release(handle, zeroed, layout(40, 1));
}

const EXERCISE: [&str; 7] =
    ["allocate 10", "grow 20", "grow_zeroed 30", "shrink 5", "deallocate 5", "allocate_zeroed 40", "deallocate 40"];

#[test]
fn every_operation_reaches_the_allocator_as_itself() {
    let log = Log::default();
    let expected = |name: &str| EXERCISE.map(|event| format!("{name} {event}"));
    let root = Recorder::new("root", &log);
    exercise(&DynAlloc::root(&root));
    assert_eq!(log.take(), expected("root"));

    let child = DynAlloc::new_in(Recorder::new("child", &log), DynAlloc::root(&root)).expect("memory");
    log.take();
    exercise(&child);
    exercise(&child.clone());
    assert_eq!(log.take(), [expected("child"), expected("child")].concat());
}

#[test]
fn the_last_clone_drops_the_allocator_then_its_block_then_the_parent() {
    let log = Log::default();
    let root = Recorder::new("root", &log);
    let parent = DynAlloc::new_in(Recorder::new("parent", &log), DynAlloc::root(&root)).expect("memory");
    let size = log.take()[0].replace("root allocate ", "");
    let child = DynAlloc::new_in(Recorder::new("child", &log), parent).expect("memory");
    assert_eq!(log.take(), [format!("parent allocate {size}")], "a node of the same size, in the parent");

    let clones = [child.clone(), child.clone()];
    drop(child);
    let [one, other] = clones;
    drop(one);
    assert_eq!(log.take(), [""; 0], "one is left");
    drop(other);
    let expected =
        ["child dropped", &format!("parent deallocate {size}"), "parent dropped", &format!("root deallocate {size}")];
    assert_eq!(log.take(), expected);
}

#[test]
fn what_the_allocator_holds_of_others_returns_to_them() {
    let root = Parent::default();
    let classes = table([MemReq::new(64, 10), MemReq::new(1024, 2)]);
    {
        let handle = DynAlloc::root(&root);
        let outer =
            DynAlloc::new_in(SizeClasses::in_parent(&classes, handle.clone()).unwrap(), handle.clone()).unwrap();
        let inner = DynAlloc::new_in(Bump::in_parent(outer.clone(), 1000).unwrap(), outer).unwrap();
        assert_eq!(root.live().len(), 2, "an extent and a node; the inner ones are in the extent");
        let boxed = Box::new_in([1_u8; 100], inner);
        drop(handle);
        assert_eq!(boxed[99], 1);
        assert_eq!(root.live().len(), 2);
    }
    assert_eq!(root.live(), []);
}

#[test]
fn parents_outlive_children() {
    let log = Log::default();
    let root = Recorder::new("root", &log);
    let mut handles = vec![DynAlloc::root(&root)];
    for i in 0..10 {
        let parent = handles[i].clone();
        handles.push(DynAlloc::new_in(Recorder::new(i, &log), parent).expect("memory"));
    }
    let youngest = handles.pop().expect("there are eleven");
    drop(handles);
    assert!(log.take().iter().all(|event| event.contains("allocate")), "nobody dropped");
    drop(Box::new_in(7, youngest));
    let drops: Vec<_> = log.take().into_iter().filter(|event| event.ends_with("dropped")).collect();
    assert_eq!(drops, (0..10).rev().map(|i| format!("{i} dropped")).collect::<Vec<_>>());
}

/// Refuses everything.
struct Full {
    _writes_when_dropped: Recorder,
}

// SAFETY: it never allocates.
unsafe impl Allocator for &Full {
    fn allocate(&self, _: Layout) -> Result<NonNull<[u8]>, AllocError> {
        Err(AllocError)
    }
    unsafe fn deallocate(&self, _: NonNull<u8>, _: Layout) {}
}

#[test]
fn a_parent_without_room_gives_both_back() {
    let log = Log::default();
    let root = Parent::default();
    let full = DynAlloc::new_in(Full { _writes_when_dropped: Recorder::new("full", &log) }, DynAlloc::root(&root))
        .expect("memory");
    let value = DynAlloc::new_in(Recorder::new("value", &log), DynAlloc::root(&root)).expect("memory");

    let error = DynAlloc::new_in(value, full).unwrap_err();
    assert_eq!(error.to_string(), "the parent has no room for the allocator");
    assert_eq!(format!("{error:?}"), "ParentFull { .. }");
    let ParentFull { value, parent: full } = error;
    assert_eq!(log.take(), [""; 0], "nothing was asked of the value, and nothing dropped");
    exercise(&value);
    log.take();
    drop(value);
    assert_eq!(log.take(), ["value dropped"]);

    let lost: Result<DynAlloc<'_>, AllocError> =
        DynAlloc::new_in(Recorder::new("lost", &log), full).map_err(AllocError::from);
    assert!(lost.is_err());
    assert_eq!(log.take(), ["lost dropped", "full dropped"], "the error held the last handle");
    assert_eq!(root.live(), []);
}

#[test]
fn a_clone_of_a_root_is_not_counted_and_outlives_nothing() {
    let log = Log::default();
    let root = Recorder::new("root", &log);
    let handle = DynAlloc::root(&root);
    let clones: Vec<_> = (0..100).map(|_| handle.clone()).collect();
    drop((handle, clones));
    assert_eq!(log.take(), [""; 0]);
    drop(root);
    assert_eq!(log.take(), ["root dropped"]);
}

#[test]
fn a_forgotten_handle_leaks_its_allocator_and_nothing_else() {
    let parent = Parent::default();
    let dropped = Cell::new(false);
    struct Flag<'a>(&'a Cell<bool>);
    impl Drop for Flag<'_> {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    // SAFETY: it is `Global`.
    unsafe impl Allocator for &Flag<'_> {
        fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
            Global.allocate(layout)
        }
        unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
            // SAFETY: passed on to the caller.
            unsafe { Global.deallocate(block, layout) }
        }
    }
    let handle = DynAlloc::new_in(Flag(&dropped), DynAlloc::root(&parent)).expect("memory");
    mem::forget(handle.clone());
    drop(handle);
    assert!(!dropped.get());
    let [leaked] = parent.live()[..] else { panic!("the node") };
    let start = parent.range().start;
    // SAFETY: the node, which nobody has a handle to any more; it was leaked, and the test cleans up.
    unsafe { (&parent).deallocate(NonNull::new(std::ptr::with_exposed_provenance_mut(start)).unwrap(), leaked) };
}

#[test]
fn a_million_generations_end_on_a_small_stack() {
    const GENERATIONS: usize = 1_000_000;
    let ended = thread::Builder::new().stack_size(256 << 10).spawn(|| {
        let ends = Cell::new(0);
        struct Generation<'a>(&'a Cell<usize>);
        impl Drop for Generation<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
            }
        }
        // SAFETY: it is `Global`.
        unsafe impl Allocator for &Generation<'_> {
            fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
                Global.allocate(layout)
            }
            unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
                // SAFETY: passed on to the caller.
                unsafe { Global.deallocate(block, layout) }
            }
        }
        let youngest = (0..GENERATIONS)
            .fold(DynAlloc::root(Global), |parent, _| DynAlloc::new_in(Generation(&ends), parent).expect("memory"));
        drop(youngest);
        ends.get()
    });
    assert_eq!(ended.expect("a thread").join().expect("no overflow"), GENERATIONS);
}

#[test]
fn generations_that_live_in_one_another_end_on_a_small_stack() {
    /// Each holds its parent twice: for its node and for its extent.
    struct InParent<'a>(Bump<Extent<DynAlloc<'a>>>);
    // SAFETY: it is `Global`.
    unsafe impl Allocator for &InParent<'_> {
        fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
            assert_eq!(self.0.capacity(), 16);
            Global.allocate(layout)
        }
        unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
            // SAFETY: passed on to the caller.
            unsafe { Global.deallocate(block, layout) }
        }
    }
    let ended = thread::Builder::new().stack_size(256 << 10).spawn(|| {
        let root = Parent::default();
        let youngest = (0..100_000).fold(DynAlloc::root(&root), |parent, _| {
            let bump = Bump::in_parent(parent.clone(), 16).expect("memory");
            DynAlloc::new_in(InParent(bump), parent).expect("memory")
        });
        assert_eq!(root.live().len(), 2, "the first extent and the first node");
        drop(youngest);
        root.live().len()
    });
    assert_eq!(ended.expect("a thread").join().expect("no overflow"), 0);
}

#[test]
fn a_destructor_that_panics_costs_nobody_anything() {
    struct Panics<'a>(DynAlloc<'a>);
    impl Drop for Panics<'_> {
        fn drop(&mut self) {
            exercise(&self.0);
            panic!("in the destructor");
        }
    }
    // SAFETY: it never allocates.
    unsafe impl Allocator for &Panics<'_> {
        fn allocate(&self, _: Layout) -> Result<NonNull<[u8]>, AllocError> {
            Err(AllocError)
        }
        unsafe fn deallocate(&self, _: NonNull<u8>, _: Layout) {}
    }
    let log = Log::default();
    let root = Parent::default();
    {
        let parent = DynAlloc::new_in(Recorder::new("parent", &log), DynAlloc::root(&root)).expect("memory");
        let field = DynAlloc::new_in(Recorder::new("field", &log), parent.clone()).expect("memory");
        let child = DynAlloc::new_in(Panics(field), parent).expect("memory");
        log.take();
        assert!(catch_unwind(AssertUnwindSafe(|| drop(child))).is_err());
    }
    let drops: Vec<_> = log.take()[EXERCISE.len()..].iter().map(|event| event.replace(char::is_numeric, "")).collect();
    let expected = ["field dropped", "parent deallocate ", "parent deallocate ", "parent dropped"];
    assert_eq!(drops, expected);
    assert_eq!(root.live(), []);
}

#[test]
fn a_destructor_may_use_what_it_holds() {
    struct Busy<'a>(DynAlloc<'a>, Log);
    impl Drop for Busy<'_> {
        fn drop(&mut self) {
            let child = DynAlloc::new_in(Recorder::new("late", &self.1), self.0.clone()).expect("memory");
            drop(Box::new_in([0_u8; 64], child.clone()));
            assert_eq!(*Box::new_in(7, self.0.clone()), 7);
        }
    }
    // SAFETY: it is what it holds a handle to.
    unsafe impl Allocator for &Busy<'_> {
        fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
            self.0.allocate(layout)
        }
        unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
            // SAFETY: passed on to the caller.
            unsafe { self.0.deallocate(block, layout) }
        }
    }
    let log = Log::default();
    let root = Parent::default();
    {
        let parent = DynAlloc::new_in(Recorder::new("parent", &log), DynAlloc::root(&root)).expect("memory");
        let handle = DynAlloc::new_in(Busy(parent.clone(), log.clone()), parent).expect("memory");
        exercise(&handle);
    }
    let drops: Vec<_> = log.take().into_iter().filter(|event| event.ends_with("dropped")).collect();
    assert_eq!(drops, ["late dropped", "parent dropped"]);
    assert_eq!(root.live(), []);
}

#[test]
fn values_of_any_size_and_alignment() {
    #[repr(align(512))]
    struct Aligned(u8);
    // SAFETY: it is `Global`.
    unsafe impl Allocator for &Aligned {
        fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
            assert!((&raw const **self).addr().is_multiple_of(512), "moved there whole");
            assert_eq!(self.0, 42);
            Global.allocate(layout)
        }
        unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
            // SAFETY: passed on to the caller.
            unsafe { Global.deallocate(block, layout) }
        }
    }
    let root = Parent::default();
    {
        let root = DynAlloc::root(&root);
        exercise(&DynAlloc::new_in(Aligned(42), root.clone()).expect("memory"));
        exercise(&DynAlloc::new_in(Global, root.clone()).expect("memory"));
        let mut memory = [MaybeUninit::uninit(); 256];
        exercise(&DynAlloc::new_in(Bump::new(&mut memory), root).expect("memory"));
    }
    assert_eq!(root.live(), []);
}

#[test]
fn roots_are_words_or_nothing() {
    let log = Log::default();
    let recorder = Recorder::new("r", &log);
    exercise(&DynAlloc::root(&recorder));
    exercise(&DynAlloc::root(FromGlobal::new(std::alloc::System)));
    static ROOT: DynAlloc<'static, Concurrent> = DynAlloc::shared_root(FromGlobal::new(std::alloc::System));
    exercise(&ROOT.clone().into());
    const SEQUENTIAL: DynAlloc<'static> = DynAlloc::root(Global);
    exercise(&SEQUENTIAL);
    assert_eq!(format!("{SEQUENTIAL:?}"), "DynAlloc { is_root: true, .. }");
}

#[test]
fn containers_work_with_it() {
    let mut guarded = Guarded::new(0, 1 << 16);
    let bump = Bump::new(guarded.memory());
    let root = DynAlloc::root(&bump);
    let classes = table([MemReq::new(64, 20), MemReq::new(512, 10), MemReq::new(4096, 4)]);
    let system = DynAlloc::new_in(SizeClasses::in_parent(&classes, root.clone()).expect("room"), root).expect("room");
    let mut squares = InVec::new_in(system.clone());
    squares.extend((0..500_u64).map(|n| n * n));
    let mut map = hashbrown::HashMap::with_hasher_in(hashbrown::DefaultHashBuilder::default(), system.clone());
    map.extend(squares.iter().map(|n| (*n, Box::new_in([*n; 4], system.clone()))).take(20));
    assert!(map.iter().all(|(n, boxed)| **boxed == [*n; 4]));
    assert!(drain(&system, layout(4096, 8)).len() < 4);
}

#[test]
fn the_allocator_is_chosen_at_run_time() {
    let mut guarded = Guarded::new(0, 4096);
    let bump = Bump::new(guarded.memory());
    let choose = |n: usize| -> DynAlloc<'_> {
        let root = DynAlloc::root(&bump);
        match n {
            0 => DynAlloc::new_in(Bump::in_parent(root.clone(), 256).unwrap(), root).unwrap(),
            1 => DynAlloc::new_in(FixedBlock::in_parent(layout(16, 16), 10, root.clone()).unwrap(), root).unwrap(),
            _ => root,
        }
    };
    let most: Vec<_> = (0..2).map(|n| drain(choose(n), layout(16, 16)).len()).collect();
    assert_eq!(most, [16, 10]);
}

// The shared handle.

struct Counted {
    drops: Arc<AtomicUsize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: it is `Global`.
unsafe impl Allocator for &Counted {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        assert_eq!(self.drops.load(Ordering::Relaxed), 0, "used after it was dropped");
        Global.allocate(layout)
    }
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { Global.deallocate(block, layout) }
    }
}

#[test]
fn threads_clone_use_and_drop_a_shared_handle() {
    for _ in 0..50 {
        let (parents, children) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let root = DynAlloc::shared_root(FromGlobal::new(std::alloc::System));
        let parent = DynAlloc::shared_in(Counted { drops: parents.clone() }, root).expect("memory");
        let child = DynAlloc::shared_in(Counted { drops: children.clone() }, parent).expect("memory");
        let start = Barrier::new(4);
        thread::scope(|scope| {
            for n in 0..4_usize {
                let (handle, start) = (child.clone(), &start);
                scope.spawn(move || {
                    start.wait();
                    for i in 0..100 {
                        let boxed = Box::new_in([n; 5], handle.clone());
                        assert_eq!(*boxed, [n; 5], "{i}");
                    }
                });
            }
            drop(child);
        });
        assert_eq!((children.load(Ordering::Relaxed), parents.load(Ordering::Relaxed)), (1, 1));
    }
}

#[test]
fn a_shared_handle_serves_one_thread_too() {
    let drops = Arc::<AtomicUsize>::default();
    let root = DynAlloc::shared_root(FromGlobal::new(std::alloc::System));
    let shared = DynAlloc::shared_in(Counted { drops: drops.clone() }, root).expect("memory");
    let here: DynAlloc<'_> = shared.clone().into();
    let there = thread::spawn(move || drop(Box::new_in(1, shared)));
    exercise(&here);
    let child = DynAlloc::new_in(Global, here).expect("memory");
    there.join().expect("no panic");
    exercise(&child);
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    drop(child);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

#[test]
fn a_shared_allocator_in_a_static_arena() {
    const SIZES: fibra_allocators::Table<2> = table([MemReq::new(64, 40), MemReq::new(1024, 4)]);
    static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();
    type Shared = Locked<SizeClasses<2, Borrowed<'static>>>;
    let system: Shared = Locked::new(SizeClasses::new(&SIZES, MEMORY.take().expect("taken here only")).expect("room"));
    let root = DynAlloc::shared_root(FromGlobal::new(std::alloc::System));
    let handle = DynAlloc::shared_in(system, root).expect("memory");
    let kept: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4_u8)
            .map(|n| {
                let handle = handle.clone();
                scope.spawn(move || (0..10).map(|_| Box::new_in([n; 60], handle.clone())).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("40 blocks")).collect()
    });
    assert!(Box::try_new_in([0_u8; 60], handle).is_err(), "all are live");
    assert!(kept.iter().enumerate().all(|(i, boxed)| **boxed == [(i / 10) as u8; 60]));
}

// Random families.

#[derive(Debug, Clone)]
enum Step {
    Child(Index),
    Clone(Index),
    Drop(Index),
    Use(Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => any::<Index>().prop_map(Step::Child),
        2 => any::<Index>().prop_map(Step::Clone),
        3 => any::<Index>().prop_map(Step::Drop),
        1 => any::<Index>().prop_map(Step::Use),
    ];
    prop::collection::vec(step, 0..80)
}

/// Each allocator, by its number: its parent, and whether it is alive by the model's account.
#[derive(Default)]
struct Family(Vec<(Option<usize>, bool)>);

impl Family {
    /// Marks those that nobody needs any more, youngest first, and says which they are.
    fn bury(&mut self, held: &[usize]) -> Vec<usize> {
        let mut dead = Vec::new();
        for i in (0..self.0.len()).rev() {
            let needed = held.contains(&i) || self.0.iter().any(|(parent, alive)| *alive && *parent == Some(i));
            if self.0[i].1 && !needed {
                self.0[i].1 = false;
                dead.push(i);
            }
        }
        dead
    }
}

struct Relative<'a> {
    number: usize,
    dead: &'a RefCell<Vec<usize>>,
}

impl Drop for Relative<'_> {
    fn drop(&mut self) {
        self.dead.borrow_mut().push(self.number);
    }
}

// SAFETY: it is `Global`.
unsafe impl Allocator for &Relative<'_> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        assert!(!self.dead.borrow().contains(&self.number));
        Global.allocate(layout)
    }
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        assert!(!self.dead.borrow().contains(&self.number), "released into an allocator that is gone");
        // SAFETY: passed on to the caller.
        unsafe { Global.deallocate(block, layout) }
    }
}

proptest! {
    #[test]
    fn families_live_as_long_as_anybody_needs_them(steps in steps()) {
        let dead = RefCell::new(Vec::new());
        let root = Parent::default();
        let mut family = Family::default();
        let mut handles: Vec<(DynAlloc<'_>, usize)> = Vec::new();
        let mut buried = Vec::new();
        for step in steps {
            match step {
                Step::Child(of) => {
                    let (parent, number) = match of.index(handles.len() + 1) {
                        0 => (DynAlloc::root(&root), None),
                        i => (handles[i - 1].0.clone(), Some(handles[i - 1].1)),
                    };
                    let relative = Relative { number: family.0.len(), dead: &dead };
                    handles.push((DynAlloc::new_in(relative, parent).expect("memory"), family.0.len()));
                    family.0.push((number, true));
                }
                Step::Clone(which) if !handles.is_empty() => {
                    let (handle, number) = &handles[which.index(handles.len())];
                    let twin = (handle.clone(), *number);
                    handles.push(twin);
                }
                Step::Drop(which) if !handles.is_empty() => {
                    handles.swap_remove(which.index(handles.len()));
                }
                Step::Use(which) if !handles.is_empty() => {
                    exercise(&handles[which.index(handles.len())].0);
                }
                _ => {}
            }
            let held: Vec<_> = handles.iter().map(|(_, number)| *number).collect();
            buried.extend(family.bury(&held));
            prop_assert_eq!(&*dead.borrow(), &buried);
        }
        drop(handles);
        buried.extend(family.bury(&[]));
        let (mut dead, mut everybody) = (dead.into_inner(), buried);
        dead.sort_unstable();
        everybody.sort_unstable();
        prop_assert_eq!(dead, everybody);
        prop_assert_eq!(root.live(), []);
    }
}
