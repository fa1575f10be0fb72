//! Boxes: what becomes of the value and of the block, whatever happens to the box.

mod support;

use std::cell::Cell;
use std::collections::HashSet;
use std::mem::{self, MaybeUninit};

use allocator_api2::alloc::Global;
use fibra_allocators::{
    AllocError, AllocRef, Allocator, Borrowed, Bump, FixedBlock, Layout, MemReq, NoRoom, PoolBox, SizeClasses, table,
};
use static_assertions::{assert_eq_size, assert_impl_all, assert_not_impl_any};
use support::values::{Census, One, panics};
use support::{Guarded, Parent, layout};

type Local = &'static FixedBlock<Borrowed<'static>>;

// As `Box`.
assert_impl_all!(PoolBox<u32, Global>: Send, Sync, Unpin);
assert_impl_all!(PoolBox<Cell<u32>, Global>: Send);
assert_not_impl_any!(PoolBox<Cell<u32>, Global>: Sync);
assert_not_impl_any!(PoolBox<std::rc::Rc<u32>, Global>: Send, Sync);
assert_impl_all!(PoolBox<std::sync::MutexGuard<'static, u32>, Global>: Sync);
assert_not_impl_any!(PoolBox<std::sync::MutexGuard<'static, u32>, Global>: Send);
assert_not_impl_any!(PoolBox<u32, Local>: Send, Sync);
assert_impl_all!(PoolBox<std::marker::PhantomPinned, Global>: Unpin);
assert_not_impl_any!(PoolBox<u32, Global>: Clone, Copy);

assert_eq_size!(PoolBox<u32, Local>, Option<PoolBox<u32, Local>>, [usize; 2]);
assert_eq_size!(PoolBox<u32, Global>, Option<PoolBox<u32, Global>>, usize);

#[test]
fn the_value_is_dropped_once_and_the_block_released_with_its_own_layout() {
    let (parent, census) = (Parent::default(), Census::default());
    let boxed = PoolBox::new_in(census.one(7), &parent).expect("room");
    assert_eq!((boxed.number, census.alive(), parent.live()), (7, 1, vec![Layout::new::<One<'_>>()]));
    drop(boxed);
    assert_eq!((census.alive(), census.dropped(), parent.live()), (0, 1, vec![]));
}

#[test]
fn a_value_that_finds_no_room_comes_back() {
    let (parent, census) = (Parent::granting(0), Census::default());
    let NoRoom { value } = PoolBox::new_in(census.one(7), &parent).expect_err("nothing is granted");
    assert_eq!((value.number, census.alive(), parent.given()), (7, 1, 0));
}

#[test]
fn a_constructor_is_called_only_with_a_block_at_hand() {
    let parent = Parent::granting(1);
    let calls = Cell::new(0);
    let make = || {
        calls.set(calls.get() + 1);
        assert_eq!(parent.given(), 1);
        calls.get()
    };
    let first = PoolBox::new_with_in(make, &parent).expect("one is granted");
    let NoRoom { value: make } = PoolBox::new_with_in(make, &parent).expect_err("but not two");
    assert_eq!((*first, calls.get()), (1, 1));
    assert_eq!((make(), *first), (2, 1), "the closure came back as it was");
}

#[test]
fn a_constructor_that_panics_leaves_no_block_behind() {
    let parent = Parent::default();
    assert!(panics(|| PoolBox::<u64, _>::new_with_in(|| panic!("no value"), &parent)));
    assert_eq!((parent.given(), parent.live()), (1, vec![]));
}

#[test]
fn a_destructor_that_panics_leaves_no_block_behind() {
    let (parent, census) = (Parent::default(), Census::default());
    let bomb = PoolBox::new_in(census.bomb(), &parent).expect("room");
    assert!(panics(|| drop(bomb)));
    assert_eq!((census.alive(), parent.live()), (0, vec![]));

    // The others of its owner go too.
    let both = [
        PoolBox::new_in(census.bomb(), &parent).expect("room"),
        PoolBox::new_in(census.one(1), &parent).expect("room"),
    ];
    assert!(panics(|| drop(both)));
    assert_eq!((census.alive(), parent.live()), (0, vec![]));
}

#[test]
fn into_inner_releases_the_block_and_drops_nothing() {
    let (parent, census) = (Parent::default(), Census::default());
    let boxed = PoolBox::new_in(census.one(7), &parent).expect("room");
    let value = PoolBox::into_inner(boxed);
    assert_eq!((value.number, census.alive(), parent.live()), (7, 1, vec![]));
}

#[test]
fn parts_make_a_box_again() {
    let (parent, census) = (Parent::default(), Census::default());
    let (raw, handle) = PoolBox::into_raw_with_allocator(PoolBox::new_in(census.one(7), &parent).expect("room"));
    assert_eq!((census.alive(), parent.live().len()), (1, 1));
    // SAFETY: just taken out of a box with that handle.
    let boxed = unsafe { PoolBox::from_raw_in(raw, handle) };
    assert_eq!(boxed.number, 7);
    assert!(std::ptr::eq(*PoolBox::allocator(&boxed), &parent));
    drop(boxed);
    assert_eq!((census.alive(), parent.live()), (0, vec![]));
}

#[test]
fn what_is_forgotten_or_leaked_stays() {
    let census = Census::default();
    let mut guarded = Guarded::new(0, 3 * size_of::<One<'_>>());
    let blocks = FixedBlock::new(Layout::new::<One<'_>>(), guarded.memory());
    mem::forget(PoolBox::new_in(census.one(1), &blocks).expect("room"));
    let leaked = PoolBox::leak(PoolBox::new_in(census.one(2), &blocks).expect("room"));
    leaked.number = 3;
    let last = PoolBox::new_in(census.one(4), &blocks).expect("room");
    assert!(PoolBox::new_in(census.one(5), &blocks).is_err());
    assert_eq!((leaked.number, last.number, blocks.live(), census.dropped()), (3, 4, 3, 1));
}

#[test]
fn values_of_no_bytes_take_no_block() {
    #[repr(align(64))]
    struct Nothing<'c>(&'c Cell<u32>);
    impl Drop for Nothing<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let mut guarded = Guarded::new(0, 64);
    let blocks = FixedBlock::new(layout(8, 8), guarded.memory());
    let units: Vec<_> = (0..100).map(|_| PoolBox::new_in((), &blocks).expect("no bytes")).collect();
    assert_eq!(units.iter().map(|unit| **unit).count(), 100);
    assert_eq!(blocks.peak(), 0);

    thread_local!(static DROPS: Cell<u32> = const { Cell::new(0) });
    #[repr(align(64))]
    struct Silent;
    impl Drop for Silent {
        fn drop(&mut self) {
            DROPS.set(DROPS.get() + 1);
        }
    }
    let silent = PoolBox::new_in(Silent, &blocks).expect("no bytes");
    assert!((&raw const *silent).addr().is_multiple_of(64));
    drop(silent);
    drop(PoolBox::into_inner(PoolBox::new_in(Silent, &blocks).expect("no bytes")));
    assert_eq!((DROPS.get(), blocks.peak()), (2, 0));

    let count = Cell::new(0);
    assert!(PoolBox::new_in(Nothing(&count), &blocks).is_err(), "aligned more than the blocks");
    assert_eq!(count.get(), 1);
}

#[test]
fn over_aligned_values_are_aligned() {
    #[repr(align(1024))]
    struct Aligned(u8);
    let parent = Parent::default();
    let boxes: Vec<_> = (0..9).map(|n| PoolBox::new_in(Aligned(n), &parent).expect("room")).collect();
    for (boxed, n) in boxes.iter().zip(0..) {
        assert!((&raw const **boxed).addr().is_multiple_of(1024));
        assert_eq!(boxed.0, n);
    }
    drop(boxes);
    assert_eq!(parent.live(), []);
}

#[test]
fn a_block_may_be_larger_than_its_value_and_is_used_whole_by_the_next() {
    let mut guarded = Guarded::new(0, 256);
    let system = SizeClasses::new(&table([MemReq::new(256, 1)]), guarded.memory()).expect("room");
    let small = PoolBox::new_in(1_u8, &system).expect("room");
    drop(small);
    let mut large = PoolBox::new_in([0_u8; 256], &system).expect("the same block");
    large.fill(7);
    assert!(large.iter().all(|byte| *byte == 7));
}

#[test]
fn room_taken_first_and_filled_later() {
    let (parent, census) = (Parent::granting(2), Census::default());
    let unused = PoolBox::<One<'_>, _>::new_uninit_in(&parent).expect("granted");
    let room = PoolBox::<One<'_>, _>::new_uninit_in(&parent).expect("granted");
    assert!(PoolBox::<One<'_>, _>::new_uninit_in(&parent).is_err());
    let boxed = PoolBox::write(room, census.one(7));
    drop(unused);
    assert_eq!((boxed.number, census.alive(), parent.live().len()), (7, 1, 1));
    drop(boxed);
    assert_eq!((census.alive(), parent.live()), (0, vec![]));
}

#[test]
fn a_list_of_boxes_in_boxes() {
    struct Node<A: AllocRef>(u32, Option<PoolBox<Node<A>, A>>);
    fn list<A: AllocRef>(n: u32, allocator: &A) -> Option<PoolBox<Node<A>, A>> {
        (0..n).fold(None, |next, number| PoolBox::new_in(Node(number, next), allocator.clone()).ok())
    }
    let parent = Parent::default();
    let head = list(50, &&parent);
    let numbers: Vec<u32> =
        std::iter::successors(head.as_deref(), |node| node.1.as_deref()).map(|node| node.0).collect();
    assert!(numbers.into_iter().eq((0..50).rev()));
    drop(head);
    assert_eq!(parent.live(), []);
}

#[test]
fn a_box_shrinks_to_a_shorter_lifetime_and_holds_borrows() {
    fn longest<'a, A: Allocator>(a: PoolBox<&'a str, A>, b: PoolBox<&'a str, A>) -> PoolBox<&'a str, A> {
        if a.len() < b.len() { b } else { a }
    }
    let local = String::from("a local");
    let forever: PoolBox<&'static str, _> = PoolBox::new_in("for ever", Global).expect("room");
    let while_here = PoolBox::new_in(local.as_str(), Global).expect("room");
    assert_eq!(*longest(forever, while_here), "for ever");
}

#[test]
fn a_pinned_future_refers_to_itself() {
    let boxed = PoolBox::new_in(
        async {
            let numbers = [1, 2, 3];
            let last = &numbers[2];
            std::future::ready(()).await;
            *last
        },
        Global,
    )
    .expect("room");
    let mut pinned = PoolBox::into_pin(boxed);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert_eq!(pinned.as_mut().poll(&mut context), std::task::Poll::Ready(3));
}

#[test]
fn it_does_what_its_value_does() {
    let boxed = |value: &'static str| PoolBox::new_in(value, Global).expect("room");
    let (a, b) = (boxed("a"), boxed("b"));
    assert!(a < b && a <= boxed("a") && a == boxed("a") && a != b);
    assert_eq!(a.cmp(&b), std::cmp::Ordering::Less);
    assert_eq!((format!("{a}"), format!("{a:?}"), format!("{a:>3}")), ("a".into(), "\"a\"".into(), "  a".into()));
    assert_eq!(format!("{a:p}"), format!("{:p}", &raw const *a));
    assert!(PoolBox::new_in(f32::NAN, Global).expect("room") != PoolBox::new_in(f32::NAN, Global).expect("room"));

    let set: HashSet<_> = [boxed("x"), boxed("y"), boxed("x")].into_iter().collect();
    assert!(set.len() == 2 && set.contains(&"y") && !set.contains(&"z"));

    let mut counter = PoolBox::new_in(0..5, Global).expect("room");
    assert_eq!((counter.len(), counter.next(), counter.nth(1), counter.next_back()), (5, Some(0), Some(2), Some(4)));
    assert_eq!((counter.size_hint(), counter.nth_back(0), counter.next()), ((1, Some(1)), Some(3), None));

    let mut ready = PoolBox::new_in(std::future::ready(7), Global).expect("room");
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert_eq!(std::pin::Pin::new(&mut ready).poll(&mut context), std::task::Poll::Ready(7));

    #[derive(Debug)]
    struct Outer(std::fmt::Error);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("outer")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let error: Box<dyn std::error::Error> = PoolBox::new_in(Outer(std::fmt::Error), Global).expect("room").into();
    assert!(error.source().is_some_and(|source| source.is::<std::fmt::Error>()));

    let mut text = PoolBox::new_in(String::from("as"), Global).expect("room");
    AsMut::<String>::as_mut(&mut text).push('k');
    std::borrow::BorrowMut::<String>::borrow_mut(&mut text).push('s');
    assert_eq!((AsRef::<String>::as_ref(&text).as_str(), text.len()), ("asks", 4));
}

#[test]
fn the_error_says_what_to_do_and_becomes_an_alloc_error() {
    struct NotDebug(#[allow(dead_code)] [u8; 32]);
    let error = PoolBox::new_in(NotDebug([0; 32]), &Parent::granting(0)).err().expect("nothing is granted");
    assert_eq!(error.to_string(), "no free block for 32 bytes aligned to 1: release one, or reserve more");
    assert_eq!(format!("{error:?}"), "NoRoom { .. }");
    assert_eq!(AllocError::from(error), AllocError);
}

#[test]
fn a_bump_holds_boxes_side_by_side() {
    let mut memory = [MaybeUninit::uninit(); 64];
    let mut bump = Bump::new(&mut memory);
    for _ in 0..3 {
        let boxes: Vec<_> = (0..64_u8).map(|n| PoolBox::new_in(n, &bump).expect("room")).collect();
        assert!(PoolBox::new_in(64_u8, &bump).is_err());
        assert!(boxes.iter().map(|boxed| **boxed).eq(0..64));
        drop(boxes);
        bump.reset();
    }
}
