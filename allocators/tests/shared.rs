//! Handles that share a value: who drops it, when, and what becomes of the block.

mod support;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::mem;
use std::ptr::NonNull;

use allocator_api2::alloc::Global;
use fibra_allocators::{
    AllocError, AllocRef, Allocator, AnyThread, Borrowed, Counted, FixedBlock, Layout, NoRoom, OneThread, Pool,
    PoolArc, PoolBox, PoolRc, Shared, Sharing,
};
use proptest::prelude::*;
use static_assertions::{assert_eq_size, assert_impl_all, assert_not_impl_any};
use support::values::{Census, One, SyncParent, panics};
use support::{Guarded, Parent};

type Local = &'static FixedBlock<Borrowed<'static>>;
type Guard = std::sync::MutexGuard<'static, u32>; // `Sync`, not `Send`

// As `Rc` and `Arc`.
assert_not_impl_any!(PoolRc<u32, Global>: Send, Sync);
assert_not_impl_any!(PoolRc<u32, Local>: Send, Sync);
assert_impl_all!(PoolArc<u32, Global>: Send, Sync);
assert_impl_all!(PoolArc<dyn Send + Sync, Global>: Send, Sync);
assert_not_impl_any!(PoolArc<Cell<u32>, Global>: Send, Sync);
assert_not_impl_any!(PoolArc<Guard, Global>: Send, Sync);
assert_not_impl_any!(PoolArc<u32, Local>: Send, Sync);
assert_impl_all!(PoolArc<u32, &'static SyncParent>: Send, Sync);
assert_impl_all!(PoolRc<std::marker::PhantomPinned, Global>: Unpin);

// What is not shared yet is its owner's.
assert_impl_all!(PoolBox<Counted<Cell<u32>>, Global>: Send);
assert_not_impl_any!(PoolBox<Counted<Cell<u32>>, Global>: Sync);

assert_eq_size!(PoolRc<u64, Global>, Option<PoolArc<u64, Global>>, usize);
assert_eq_size!(Counted<usize>, [usize; 2]);

fn both(test: [fn(); 2]) {
    test.into_iter().for_each(|test| test());
}

#[test]
fn the_last_handle_drops_the_value_and_releases_the_block() {
    fn check<S: Sharing>() {
        let (parent, census) = (Parent::default(), Census::default());
        let first = Shared::<_, _, S>::new_in(census.one(7), &parent).expect("room");
        assert_eq!(parent.live(), [Layout::new::<Counted<One<'_>>>()]);
        let mut others: Vec<_> = (0..10).map(|_| first.clone()).collect();
        assert_eq!((Shared::strong_count(&first), parent.given()), (11, 1));
        drop(first);
        while let Some(other) = others.pop() {
            assert_eq!((other.number, Shared::strong_count(&other)), (7, others.len() + 1));
            assert_eq!((census.alive(), parent.live().len()), (1, 1));
        }
        assert_eq!((census.alive(), census.dropped(), parent.live()), (0, 1, vec![]));
    }
    both([check::<OneThread>, check::<AnyThread>]);
}

#[test]
fn a_value_that_finds_no_room_comes_back() {
    fn check<S: Sharing>() {
        let census = Census::default();
        let NoRoom { value } =
            Shared::<_, _, S>::new_in(census.one(7), &Parent::granting(0)).expect_err("nothing is granted");
        assert_eq!((value.number, census.alive()), (7, 1));
    }
    both([check::<OneThread>, check::<AnyThread>]);
}

#[test]
fn only_the_only_handle_changes_the_value_or_takes_it_out() {
    fn check<S: Sharing>() {
        let (parent, census) = (Parent::default(), Census::default());
        let mut one = Shared::<_, _, S>::new_in(census.one(7), &parent).expect("room");
        Shared::get_mut(&mut one).expect("the only one").number = 8;
        let mut two = one.clone();
        assert!(Shared::get_mut(&mut one).is_none() && Shared::get_mut(&mut two).is_none());
        let one = Shared::try_unwrap(one).expect_err("not the only one");
        assert_eq!((Shared::strong_count(&one), Shared::ptr_eq(&one, &two)), (2, true));
        assert!(Shared::into_inner(one).is_none());
        assert_eq!((Shared::strong_count(&two), census.alive(), parent.live().len()), (1, 1, 1));
        let value = Shared::try_unwrap(two).expect("the only one");
        assert_eq!((value.number, census.alive(), parent.live()), (8, 1, vec![]));

        let last = Shared::<_, _, S>::new_in(value, &parent).expect("room");
        let value = Shared::into_inner(last).expect("the last");
        assert_eq!((value.number, census.dropped(), parent.live()), (8, 0, vec![]));
    }
    both([check::<OneThread>, check::<AnyThread>]);
}

#[test]
fn a_destructor_that_panics_leaves_no_block_behind() {
    fn check<S: Sharing>() {
        let (parent, census) = (Parent::default(), Census::default());
        let one = Shared::<_, _, S>::new_in(census.bomb(), &parent).expect("room");
        let two = one.clone();
        assert!(!panics(|| drop(one)));
        assert!(panics(|| drop(two)));
        assert_eq!((census.alive(), parent.live()), (0, vec![]));
    }
    both([check::<OneThread>, check::<AnyThread>]);
}

#[test]
fn a_forgotten_handle_keeps_the_value() {
    fn check<S: Sharing>() {
        let (parent, census) = (Parent::default(), Census::default());
        let one = Shared::<_, _, S>::new_in(census.one(7), &parent).expect("room");
        for _ in 0..1000 {
            mem::forget(one.clone());
        }
        assert_eq!(Shared::strong_count(&one), 1001);
        drop(one);
        assert_eq!((census.alive(), parent.live().len()), (1, 1));
    }
    both([check::<OneThread>, check::<AnyThread>]);
}

#[test]
fn a_value_is_built_in_its_box_and_then_shared_where_it_is() {
    fn check<S: Sharing>() {
        let (parent, census) = (Parent::default(), Census::default());
        let mut boxed = PoolBox::new_in(Counted::new(census.one(7)), &parent).expect("room");
        boxed.number = 8;
        let address = (&raw const **boxed).addr();
        let shared: Shared<_, _, S> = boxed.into();
        assert_eq!(((&raw const *shared).addr(), shared.number, parent.given()), (address, 8, 1));
        drop(shared.clone());
        assert_eq!((Shared::strong_count(&shared), census.alive()), (1, 1));
        drop(shared);
        assert_eq!((census.alive(), parent.live()), (0, vec![]));
    }
    both([check::<OneThread>, check::<AnyThread>]);
    // Not shared at all.
    let (parent, census) = (Parent::default(), Census::default());
    drop(PoolBox::new_in(Counted::new(census.one(1)), &parent));
    assert_eq!((census.alive(), parent.live()), (0, vec![]));
}

#[test]
fn values_of_no_bytes_and_over_aligned_ones() {
    #[repr(align(256))]
    struct Aligned(u8);
    fn check<S: Sharing>() {
        let parent = Parent::default();
        let unit = Shared::<_, _, S>::new_in((), &parent).expect("room");
        let aligned = Shared::<_, _, S>::new_in(Aligned(7), &parent).expect("room");
        assert!((&raw const *aligned).addr().is_multiple_of(256));
        let (unit_too, aligned_too) = (unit.clone(), aligned.clone());
        assert!(Shared::ptr_eq(&unit, &unit_too) && aligned_too.0 == 7);
        assert_eq!(parent.live(), [Layout::new::<Counted<()>>(), Layout::new::<Counted<Aligned>>()]);
        drop((unit, aligned, unit_too, aligned_too));
        assert_eq!(parent.live(), []);
    }
    both([check::<OneThread>, check::<AnyThread>]);
}

#[test]
fn a_pool_of_counted_values() {
    let census = Census::default();
    let mut guarded = Guarded::new(0, 2 * size_of::<Counted<One<'_>>>());
    let pool = Pool::<Counted<One<'_>>, _>::new(guarded.memory());
    let one = pool.rc(census.one(1)).expect("room");
    let two = pool.arc(census.one(2)).expect("room");
    assert_eq!((pool.rc(census.one(3)).expect_err("full").value.number, pool.live()), (3, 2));
    assert_eq!(pool.arc(census.one(4)).expect_err("full").value.number, 4);
    let copies = (one.clone(), two.clone());
    drop((one, two));
    assert_eq!((copies.0.number, copies.1.number, census.alive(), pool.live()), (1, 2, 2, 2));
    drop(copies);
    assert_eq!((census.alive(), pool.live()), (0, 0));
}

#[test]
fn a_destructor_that_drops_and_makes_other_handles() {
    struct Node<'p> {
        pool: &'p Parent,
        next: RefCell<Option<PoolRc<Node<'p>, &'p Parent>>>,
        drops: &'p Cell<usize>,
    }
    impl Drop for Node<'_> {
        fn drop(&mut self) {
            self.drops.set(self.drops.get() + 1);
            if self.drops.get() < 5 {
                // Takes a block while its own is on its way back.
                let next = RefCell::new(self.next.take());
                drop(PoolRc::new_in(Node { pool: self.pool, next, drops: self.drops }, self.pool));
            }
        }
    }
    let (parent, drops) = (Parent::default(), Cell::new(0));
    let node = |next| {
        let next = RefCell::new(next);
        PoolRc::new_in(Node { pool: &parent, next, drops: &drops }, &parent).expect("room")
    };
    let tail = node(None);
    let head = node(Some(node(Some(tail.clone()))));
    drop(head);
    assert_eq!((drops.get(), parent.live().len()), (6, 1), "two nodes, and four made while dropping");
    drop(tail);
    assert_eq!((drops.get(), parent.live()), (7, vec![]));
}

#[test]
fn a_cycle_is_never_dropped_until_it_is_broken() {
    struct Knot<'p>(RefCell<Option<PoolRc<Knot<'p>, &'p Parent>>>);
    let parent = Parent::default();
    let knot = PoolRc::new_in(Knot(RefCell::new(None)), &parent).expect("room");
    knot.0.replace(Some(knot.clone()));
    let inside = knot.clone();
    drop(knot);
    assert_eq!((PoolRc::strong_count(&inside), parent.live().len()), (2, 1));
    drop(inside.0.take());
    drop(inside);
    assert_eq!(parent.live(), []);
}

#[test]
fn a_long_list_is_taken_apart_without_recursion() {
    struct Cons<A: AllocRef>(u32, Option<PoolRc<Cons<A>, A>>);
    let parent = SyncParent::default();
    let list = (0..2000).fold(None, |rest, n| PoolRc::new_in(Cons(n, rest), &parent).ok());
    let mut sum = 0;
    let mut at = list;
    while let Some(Cons(n, rest)) = at.and_then(PoolRc::into_inner) {
        (sum, at) = (sum + n, rest);
    }
    assert_eq!((sum, parent.live()), (1999 * 1000, 0));
}

#[test]
fn it_does_what_its_value_does() {
    fn check<S: Sharing>() {
        let shared = |value: &'static str| Shared::<_, _, S>::new_in(value, Global).expect("room");
        let (a, b) = (shared("a"), shared("b"));
        assert!(a < b && a == shared("a") && a != b && !Shared::ptr_eq(&a, &shared("a")));
        assert_eq!(
            (format!("{a}"), format!("{a:?}"), a.cmp(&b)),
            ("a".into(), "\"a\"".into(), std::cmp::Ordering::Less)
        );
        assert_eq!(format!("{a:p}"), format!("{:p}", &raw const *a));
        let set: HashSet<_> = [a.clone(), a, b].into_iter().collect();
        assert!(set.len() == 2 && set.contains(&"b"));
    }
    both([check::<OneThread>, check::<AnyThread>]);
}

/// A counted handle, as a type-erased allocator's is; it may panic when it is cloned.
struct CountedHandle<'c>(&'c Cell<usize>, &'c Cell<bool>);

impl Clone for CountedHandle<'_> {
    fn clone(&self) -> Self {
        assert!(!self.1.get(), "as it was told");
        self.0.set(self.0.get() + 1);
        CountedHandle(self.0, self.1)
    }
}

impl Drop for CountedHandle<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

// SAFETY: it is `Global`.
unsafe impl Allocator for CountedHandle<'_> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        Global.allocate(layout)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        assert!(self.0.get() > 0, "the handle is alive");
        // SAFETY: passed on.
        unsafe { Global.deallocate(block, layout) }
    }
}

#[test]
fn each_handle_has_an_allocator_handle_of_its_own_and_drops_it() {
    fn check<S: Sharing>() {
        let (handles, panic) = (Cell::new(1), Cell::new(false));
        let one = Shared::<_, _, S>::new_in(7, CountedHandle(&handles, &panic)).expect("room");
        let two = one.clone();
        assert_eq!((handles.get(), Shared::allocator(&two).0.get()), (2, 2));
        panic.set(true);
        assert!(panics(|| two.clone()));
        assert_eq!((handles.get(), Shared::strong_count(&one)), (2, 2), "nothing was counted");
        panic.set(false);
        let three = two.clone();
        let three = Shared::try_unwrap(three).expect_err("not the only one");
        drop(one);
        assert_eq!(handles.get(), 2);
        assert_eq!(Shared::into_inner(two), None);
        assert_eq!(handles.get(), 1);
        assert_eq!((Shared::try_unwrap(three).ok(), handles.get()), (Some(7), 0));
        drop(PoolBox::new_in(
            7,
            CountedHandle(
                {
                    handles.set(1);
                    &handles
                },
                &panic,
            ),
        ));
        assert_eq!(handles.get(), 0);
    }
    both([check::<OneThread>, check::<AnyThread>]);
}

#[derive(Debug, Clone)]
enum Step {
    Make,
    Clone(prop::sample::Index),
    Drop(prop::sample::Index),
    Forget(prop::sample::Index),
    TryUnwrap(prop::sample::Index),
    IntoInner(prop::sample::Index),
    Change(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = any::<prop::sample::Index>;
    let step = prop_oneof![
        2 => Just(Step::Make),
        4 => which().prop_map(Step::Clone),
        4 => which().prop_map(Step::Drop),
        1 => which().prop_map(Step::Forget),
        1 => which().prop_map(Step::TryUnwrap),
        1 => which().prop_map(Step::IntoInner),
        1 => which().prop_map(Step::Change),
    ];
    prop::collection::vec(step, 0..120)
}

/// Beside each handle, one of the standard library's, of which it is expected to do the same.
fn as_std_does_also_when_forgotten<S: Sharing>(steps: &[Step]) {
    use std::rc::Rc;

    let (parent, census, expected) = (Parent::default(), Census::default(), Census::default());
    let mut handles: Vec<(Shared<One<'_>, &Parent, S>, Rc<One<'_>>)> = Vec::new();
    for (step, number) in steps.iter().zip(0..) {
        let at = |which: &prop::sample::Index| which.index(handles.len());
        match step {
            Step::Make => {
                let made = Shared::new_in(census.one(number), &parent).expect("room");
                handles.push((made, Rc::new(expected.one(number))));
            }
            _ if handles.is_empty() => {}
            Step::Clone(which) => handles.push(handles[at(which)].clone()),
            Step::Drop(which) => drop(handles.swap_remove(at(which))),
            Step::Forget(which) => mem::forget(handles.swap_remove(at(which))),
            Step::TryUnwrap(which) => {
                let (ours, theirs) = handles.swap_remove(at(which));
                match (Shared::try_unwrap(ours), Rc::try_unwrap(theirs)) {
                    (Ok(ours), Ok(theirs)) => assert_eq!(ours.number, theirs.number),
                    (Err(ours), Err(theirs)) => handles.push((ours, theirs)),
                    _ => panic!("they do not agree"),
                }
            }
            Step::IntoInner(which) => {
                let (ours, theirs) = handles.swap_remove(at(which));
                let (ours, theirs) = (Shared::into_inner(ours), Rc::into_inner(theirs));
                assert_eq!(ours.map(|one| one.number), theirs.map(|one| one.number));
            }
            Step::Change(which) => {
                let at = at(which);
                let (ours, theirs) = &mut handles[at];
                let (ours, theirs) = (Shared::get_mut(ours), Rc::get_mut(theirs));
                assert_eq!(ours.is_some(), theirs.is_some());
                ours.into_iter().chain(theirs).for_each(|one| one.number = number);
            }
        }
        for (ours, theirs) in &handles {
            assert_eq!((ours.number, Shared::strong_count(ours)), (theirs.number, Rc::strong_count(theirs)));
        }
        assert_eq!((census.alive(), census.dropped()), (expected.alive(), expected.dropped()));
        assert_eq!(parent.live().len(), census.alive());
    }
}

proptest! {
    #[test]
    fn handles_do_as_those_of_the_standard_library(steps in steps()) {
        as_std_does_also_when_forgotten::<OneThread>(&steps);
        as_std_does_also_when_forgotten::<AnyThread>(&steps);
    }
}
