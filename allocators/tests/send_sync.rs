//! Who may go to another thread, and who may be shared with one, when what it is made of may not.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use allocator_api2::alloc::Global;
use fibra_allocators::{
    AsGlobal, Borrowed, Bump, ByRef, Cache, Cached, Checking, Concurrent, Counting, Debugging, DynAlloc, Elastic,
    Exhausted, Extent, Fallback, Fifo, FixedBlock, FromGlobal, Lazy, LockFree, Locked, Mistake, NoFallback, NoLock,
    Ordered, Policy, Pool, PoolArc, PoolBox, PoolRc, Relief, Reserve, SizeClasses, SpinLock, Statistics, Worker,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};

type Lent = Borrowed<'static>;
/// May move to another thread, but not be shared.
type OfOne = Bump<Lent>;
/// May not even move.
type Handle = &'static OfOne;
/// Memory of which only one thread may give back the extent.
type Leased = Extent<Handle>;
/// May be shared.
type OfAll = Locked<OfOne, SpinLock>;

assert_impl_all!(OfOne: Send);
assert_not_impl_any!(OfOne: Sync);
assert_not_impl_any!(Handle: Send, Sync);
assert_not_impl_any!(Leased: Send, Sync);
assert_impl_all!(OfAll: Send, Sync);

struct Nobody;
// SAFETY: there is no number that two could have.
unsafe impl Worker for Nobody {
    fn index() -> Option<usize> {
        None
    }
}

/// `Send`, but not `Sync`.
struct Moody(#[allow(dead_code)] Cell<u8>);
impl Policy for Moody {
    fn relief(&self, _: &Exhausted) -> Relief {
        Relief::Fail
    }
}

/// Neither `Send` nor `Sync`.
struct Local(#[allow(dead_code)] Rc<()>);
impl fmt::Write for Local {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        Ok(())
    }
}

// Shared by a lock, in memory of one thread.
assert_not_impl_any!(SizeClasses<1, Leased, SpinLock>: Send, Sync);
assert_not_impl_any!(SizeClasses<1, Leased, LockFree>: Send, Sync);
assert_not_impl_any!(SizeClasses<1, Leased, Fifo>: Send, Sync);
assert_not_impl_any!(SizeClasses<1, Leased, Ordered<SpinLock>>: Send, Sync);
assert_not_impl_any!(FixedBlock<Leased, SpinLock>: Send, Sync);
assert_not_impl_any!(FixedBlock<Leased, LockFree>: Send, Sync);
assert_not_impl_any!(FixedBlock<Leased, Fifo>: Send, Sync);
assert_not_impl_any!(Pool<u8, Leased, SpinLock>: Send, Sync);
assert_not_impl_any!(Cached<1, 2, Leased, Nobody, SpinLock>: Send, Sync);
assert_not_impl_any!(Cache<'static, 1, Leased, SpinLock>: Send, Sync);

// Of one thread, in memory that is anybody's.
assert_impl_all!(SizeClasses<1, Lent, Ordered<NoLock>>: Send);
assert_not_impl_any!(SizeClasses<1, Lent, Ordered<NoLock>>: Sync);
assert_not_impl_any!(Pool<u8, Lent>: Sync);
assert_not_impl_any!(Cached<1, 2, Lent, Nobody, NoLock>: Sync);
assert_not_impl_any!(Cache<'static, 1, Lent, NoLock>: Send, Sync);
assert_impl_all!(Cached<1, 2, Lent, Nobody, SpinLock>: Send, Sync);
assert_impl_all!(Cache<'static, 1, Lent, SpinLock>: Send);
assert_not_impl_any!(Cache<'static, 1, Lent, SpinLock>: Sync);

// A lock protects what is behind it, if that may change threads at all.
assert_not_impl_any!(Locked<OfOne, NoLock>: Sync);
assert_not_impl_any!(Locked<Handle, SpinLock>: Send, Sync);
assert_not_impl_any!(Locked<DynAlloc<'static>, SpinLock>: Send, Sync);
assert_impl_all!(Locked<Cache<'static, 1, Lent, SpinLock>, SpinLock>: Send, Sync);
assert_not_impl_any!(Locked<Cache<'static, 1, Leased, SpinLock>, SpinLock>: Send, Sync);

// The lock of a wrapper protects its own state, and nothing that is behind it.
assert_impl_all!(Statistics<Global, SpinLock>: Send, Sync);
assert_impl_all!(Statistics<OfAll, SpinLock>: Send, Sync);
assert_impl_all!(Statistics<OfOne, SpinLock>: Send);
assert_not_impl_any!(Statistics<OfOne, SpinLock>: Sync);
assert_not_impl_any!(Statistics<Handle, SpinLock>: Send, Sync);
assert_not_impl_any!(Statistics<Global, NoLock>: Sync);
assert_not_impl_any!(Counting<OfOne, SpinLock>: Sync);
assert_not_impl_any!(Counting<Handle, SpinLock>: Send, Sync);
assert_not_impl_any!(Debugging<OfOne, String, SpinLock>: Sync);
assert_not_impl_any!(Debugging<Handle, String, SpinLock>: Send, Sync);
assert_not_impl_any!(Debugging<Global, Local, SpinLock>: Send, Sync);
assert_not_impl_any!(Debugging<Global, String, NoLock>: Sync);
assert_impl_all!(Debugging<Global, String, SpinLock>: Send, Sync);
assert_not_impl_any!(Checking<Handle, Lent, SpinLock>: Send, Sync);
assert_not_impl_any!(Checking<Global, Leased, SpinLock>: Send, Sync);
assert_not_impl_any!(Checking<Global, Lent, NoLock>: Sync);
assert_not_impl_any!(Checking<Global, Lent, SpinLock, &'static dyn Fn(&Mistake)>: Send, Sync);
assert_impl_all!(Checking<Global, Lent, SpinLock, Box<dyn Fn(&Mistake) + Send>>: Send);
assert_not_impl_any!(Checking<Global, Lent, SpinLock, Box<dyn Fn(&Mistake) + Send>>: Sync);

// What has no lock of its own is what its parts are.
assert_impl_all!(Elastic<1, Lent, Relief, NoFallback, SpinLock>: Send, Sync);
assert_impl_all!(Elastic<1, Lent, Moody, NoFallback, SpinLock>: Send);
assert_not_impl_any!(Elastic<1, Lent, Moody, NoFallback, SpinLock>: Sync);
assert_not_impl_any!(Elastic<1, Lent, Relief, OfOne, SpinLock>: Sync);
assert_not_impl_any!(Elastic<1, Lent, Relief, Handle, SpinLock>: Send, Sync);
assert_not_impl_any!(Elastic<1, Leased, Relief, NoFallback, SpinLock>: Send, Sync);
assert_not_impl_any!(Fallback<OfOne, Global>: Sync);
assert_not_impl_any!(Fallback<OfAll, OfOne>: Sync);
assert_not_impl_any!(Fallback<OfAll, Handle>: Send, Sync);
assert_not_impl_any!(AsGlobal<OfOne>: Sync);
assert_not_impl_any!(FromGlobal<ByRef<'static, AsGlobal<OfOne>>>: Send, Sync);
assert_impl_all!(FromGlobal<ByRef<'static, AsGlobal<OfAll>>>: Send, Sync);

// Whoever comes first makes it, and whoever comes last drops it.
assert_impl_all!(Lazy<OfAll>: Send, Sync);
assert_impl_all!(Lazy<OfOne>: Send);
assert_not_impl_any!(Lazy<OfOne>: Sync);
assert_not_impl_any!(Lazy<Handle>: Send, Sync);
assert_not_impl_any!(Lazy<std::sync::MutexGuard<'static, ()>>: Send, Sync); // `Sync`, but not `Send`

// Values and handles.
assert_not_impl_any!(Reserve<Handle>: Send, Sync);
assert_impl_all!(Reserve<Global>: Send);
assert_not_impl_any!(Reserve<Global>: Sync);
assert_not_impl_any!(PoolBox<u8, Handle>: Send, Sync);
assert_not_impl_any!(PoolBox<Rc<u8>, Global>: Send, Sync);
assert_not_impl_any!(PoolBox<Cell<u8>, Global>: Sync);
assert_not_impl_any!(PoolRc<u8, Global>: Send, Sync);
assert_impl_all!(PoolArc<u8, Global>: Send, Sync);
assert_not_impl_any!(PoolArc<Cell<u8>, Global>: Send, Sync);
assert_not_impl_any!(PoolArc<std::sync::MutexGuard<'static, ()>, Global>: Send, Sync);
assert_not_impl_any!(PoolArc<u8, Handle>: Send, Sync);
assert_not_impl_any!(DynAlloc<'static>: Send, Sync);
assert_impl_all!(DynAlloc<'static, Concurrent>: Send, Sync);
