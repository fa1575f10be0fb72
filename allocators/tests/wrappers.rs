//! Wrappers around allocators and around each other: containers on top, in either order, and which of them may be shared.

mod support;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use allocator_api2::alloc::Global;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec as VecIn;
use fibra_allocators::{
    AllocRef, Allocator, Borrowed, Bump, Checking, Debugging, Extent, FixedBlock, Locked, MemReq, Mistake, SizeClasses,
    SpinLock, Table, checking_arena_size, table,
};
use hashbrown::{DefaultHashBuilder, HashMap};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use support::{Guarded, layout, release};

type Lent = Borrowed<'static>;
type OneThread = Checking<&'static Bump<Lent>, Lent>;
type Spinning = Checking<Global, Lent, SpinLock>;

// The handle is a reference; what serves one thread may change it as a whole if its inner allocator may.
assert_impl_all!(&'static OneThread: AllocRef, Copy);
assert_not_impl_any!(OneThread: Allocator, Sync, Send);
assert_impl_all!(Checking<Global, Lent>: Send);
assert_not_impl_any!(Checking<Global, Lent>: Sync);
// With a lock it may be shared, unless the inner allocator, or the handler, may not.
assert_impl_all!(Spinning: Send, Sync);
assert_not_impl_any!(Checking<&'static Bump<Lent>, Lent, SpinLock>: Send, Sync);
assert_not_impl_any!(Checking<Global, Lent, SpinLock, &'static dyn Fn(&Mistake)>: Send, Sync);
assert_not_impl_any!(Checking<Global, Extent<&'static Bump<Lent>>, SpinLock>: Send, Sync);

assert_impl_all!(&'static Debugging<Global, String>: AllocRef, Copy);
assert_impl_all!(Debugging<Global, String>: Send);
assert_not_impl_any!(Debugging<Global, String>: Allocator, Sync);
assert_impl_all!(Debugging<Global, String, SpinLock>: Send, Sync);
assert_not_impl_any!(Debugging<&'static Bump<Lent>, String, SpinLock>: Send, Sync);
struct SameThread(Rc<RefCell<String>>);
assert_not_impl_any!(Debugging<Global, SameThread, SpinLock>: Send, Sync);

// An allocator for one thread is for all behind a lock, if it is owned.
assert_impl_all!(Locked<Bump<Lent>, SpinLock>: Send, Sync);
assert_impl_all!(&'static Locked<Bump<Lent>, SpinLock>: AllocRef, Copy, Send);
assert_not_impl_any!(Locked<Bump<Lent>, SpinLock>: Allocator);
assert_not_impl_any!(Locked<&'static Bump<Lent>, SpinLock>: Send, Sync);
assert_not_impl_any!(Locked<Bump<Lent>, fibra_allocators::NoLock>: Sync);

impl fmt::Write for SameThread {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.0.borrow_mut().push_str(s);
        Ok(())
    }
}

const SIZES: Table<6> = table([
    MemReq::new(32, 200),
    MemReq::new(128, 400),
    MemReq::new(512, 20),
    MemReq::new(2048, 10),
    MemReq::new(8192, 4),
    MemReq::new(32768, 4),
]);

/// Boxes, vectors that grow and shrink, a map, things with no size: nothing of it is wrong.
fn use_containers(allocator: impl AllocRef) {
    let boxes: Vec<_> = (0..20_u64).map(|n| Box::new_in([n; 4], allocator.clone())).collect();
    let mut numbers = VecIn::new_in(allocator.clone());
    numbers.extend(0..1000_u32);
    numbers.truncate(10);
    numbers.shrink_to_fit();
    let trait_object: Box<dyn Fn() -> u64, _> = allocator_api2::unsize_box!(Box::new_in(|| 7_u64, allocator.clone()));
    let mut map = HashMap::with_hasher_in(DefaultHashBuilder::default(), allocator.clone());
    for n in 0..300_u64 {
        map.insert(n, VecIn::<u8, _>::new_in(allocator.clone()));
        map.remove(&(n / 2));
    }
    map.shrink_to_fit();
    for (n, bytes) in &mut map {
        bytes.extend_from_slice(&[*n as u8; 5]);
    }
    assert!(map.iter().all(|(n, bytes)| bytes.as_slice() == [*n as u8; 5]));
    let mut units = VecIn::new_in(allocator.clone());
    units.extend([(); 10]);
    drop(Box::new_in((), allocator.clone()));
    let empty = VecIn::<u64, _>::with_capacity_in(8, allocator).into_boxed_slice();
    assert!(empty.is_empty() && units.len() == 10 && trait_object() == 7);
    assert!((0..).zip(&boxes).all(|(n, boxed)| **boxed == [n; 4]));
    assert_eq!(numbers.as_slice(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

fn checked(inner: impl AllocRef) {
    let mut records = Guarded::new(0, checking_arena_size(2000));
    for (red_zone, blocks) in [(16, 100), (0, 100), (64, 0)] {
        let checking = Checking::new(inner.clone(), records.memory()).red_zone(red_zone).quarantine(blocks, 10_000);
        use_containers(&checking);
        assert_eq!((checking.live(), checking.verify(), checking.mistakes()), (0, 0, 0));
    }
    records.assert_guards();
}

#[test]
fn containers_in_checked_memory() {
    let mut memory = Guarded::new(0, 2048 * 1024);
    checked(&Bump::new(memory.memory()));
    checked(&SizeClasses::new(&SIZES, memory.memory()).expect("room"));
    checked(&FixedBlock::new(layout(16 * 1024, 64), Guarded::new(0, 8 * 1024 * 1024).memory()));
    checked(Global);
    memory.assert_guards();
}

#[test]
fn checking_what_is_written_down() {
    let mut memory = Guarded::new(0, SIZES.arena_size());
    let mut records = Guarded::new(0, checking_arena_size(2000));
    let system = SizeClasses::new(&SIZES, memory.memory()).expect("room");
    let log = Debugging::new(&system, "system", String::new());
    let checking = Checking::new(&log, records.memory()).quarantine(4, 100_000);
    use_containers(&checking);
    assert_eq!(checking.mistakes(), 0);
    drop(checking);
    let text = log.into_writer();
    // The red zones are asked for below, and all that was asked for goes back.
    assert!(text.contains("system: allocate 48 bytes aligned to 8 -> 0x"), "{text}");
    let count = |what: &str| text.lines().filter(|line| line.contains(what) && !line.ends_with("refused")).count();
    assert_eq!(count(": allocate"), count(": release"));
    assert!(system.classes().all(|class| class.live == 0), "{}", system.report());
}

#[test]
fn writing_down_what_is_checked() {
    let mut memory = Guarded::new(0, SIZES.arena_size());
    let mut records = Guarded::new(0, checking_arena_size(2000));
    let mistakes = RefCell::new(Vec::new());
    let system = SizeClasses::new(&SIZES, memory.memory()).expect("room");
    let checking = Checking::new(&system, records.memory()).on_mistake(|m| mistakes.borrow_mut().push(*m));
    let log = Debugging::new(&checking, "checked", String::new());
    use_containers(&log);
    assert_eq!(mistakes.take(), []);
    let block = (&log).allocate(layout(24, 8)).expect("room");
    release(&log, block, layout(24, 8));
    release(&log, block, layout(24, 8));
    let told = mistakes.take();
    assert!(matches!(told[..], [Mistake::DoubleFree { .. }]), "{told:?}");
    let text = log.into_writer();
    let last: Vec<_> = text.lines().rev().take(3).collect();
    let at = block.cast::<u8>().addr();
    assert_eq!(last[0], format!("checked: release 24 bytes aligned to 8 at {at:#x}"));
    assert_eq!(last[1], last[0]);
    assert_eq!(last[2], format!("checked: allocate 24 bytes aligned to 8 -> {at:#x}"));
}

#[test]
fn a_checking_over_a_checking() {
    let mut memory = Guarded::new(0, 512 * 1024);
    let mut records = [Guarded::new(0, checking_arena_size(1000)), Guarded::new(0, checking_arena_size(1000))];
    let [below, above] = &mut records;
    let bump = Bump::new(memory.memory());
    let below = Checking::new(&bump, below.memory()).quarantine(0, 0);
    let above = Checking::new(&below, above.memory());
    use_containers(&above);
    assert_eq!((above.mistakes(), above.live()), (0, 0));
    assert!(below.live() > 0, "in the quarantine of the other");
    drop(above);
    assert_eq!((below.mistakes(), below.live()), (0, 0));
}

#[test]
fn a_handler_that_writes_down_through_the_same_log() {
    let log = Debugging::new(Global, "heap", String::new());
    let mut records = Guarded::new(0, checking_arena_size(100));
    let checking = Checking::new(&log, records.memory()).on_mistake(|mistake| {
        let mut text = VecIn::new_in(&log);
        text.extend_from_slice(mistake.to_string().as_bytes());
    });
    let block = (&checking).allocate(layout(24, 8)).expect("room");
    release(&checking, block, layout(25, 8));
    release(&checking, block, layout(24, 8));
    drop(checking);
    assert_eq!(log.failures(), 0);
    assert!(log.into_writer().lines().count() >= 4);
}
