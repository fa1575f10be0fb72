//! What the tests share: an allocator that checks its callers, a pool, values and futures that watch what happens to
//! them, a hub, the platform's way of catching panics.

#![allow(dead_code, unused_macros, unused_imports, reason = "each test file uses a part of this")]

pub mod routines;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Poll, Wake};

use fibra_core::{
    AllocError, AllocRef, Allocator, Failure, Idle, Layout, MemReq, Outcome, Process, Reader, SizeClasses, table,
};

const POISON: u8 = 0xDB;

/// An allocator that checks its callers. The handle is the reference.
///
/// Each release must name a live block with the layout it was allocated with. Released blocks are poisoned and kept for a
/// while, so that a use after release meets poison, a write after release is seen, and a double release is no corruption.
/// Violations are collected and fail the test when the allocator is dropped.
pub struct Checking {
    live: RefCell<HashMap<NonNull<u8>, Layout>>,
    released: RefCell<VecDeque<(NonNull<u8>, Layout)>>,
    kept: usize,
    faults: RefCell<Vec<String>>,
    calls: Cell<usize>,
    live_bytes: Cell<usize>,
    peak_bytes: Cell<usize>,
    /// The requests, counted from 0, that fail: from this one on, that many.
    fail: Cell<Option<(usize, usize)>>,
}

impl Checking {
    pub fn new() -> Self {
        // With an address sanitizer, nothing is kept: it does that itself, and better.
        let kept = std::env::var("FIBRA_TEST_KEEP").ok().and_then(|n| n.parse().ok());
        Checking {
            live: RefCell::default(),
            released: RefCell::default(),
            kept: kept.unwrap_or(1000),
            faults: RefCell::default(),
            calls: Cell::new(0),
            live_bytes: Cell::new(0),
            peak_bytes: Cell::new(0),
            fail: Cell::new(None),
        }
    }

    /// How many blocks are allocated now.
    pub fn live(&self) -> usize {
        self.live.borrow().len()
    }

    pub fn live_bytes(&self) -> usize {
        self.live_bytes.get()
    }

    pub fn peak_bytes(&self) -> usize {
        self.peak_bytes.get()
    }

    /// How many requests there have been, successful or not.
    pub fn calls(&self) -> usize {
        self.calls.get()
    }

    /// Makes request `nth` (counted from 0, over the allocator's life) fail.
    pub fn fail_nth(&self, nth: usize) {
        self.fail.set(Some((nth, 1)));
    }

    /// Makes all requests from now on fail.
    pub fn fail_all(&self) {
        self.fail.set(Some((self.calls.get(), usize::MAX)));
    }

    /// Makes all requests from `nth` on (counted from 0, over the allocator's life) fail.
    pub fn fail_from(&self, nth: usize) {
        self.fail.set(Some((nth, usize::MAX)));
    }

    pub fn fail_none(&self) {
        self.fail.set(None);
    }

    #[track_caller]
    pub fn assert_empty(&self) {
        self.assert_no_faults();
        assert_eq!(self.live(), 0, "blocks that nobody released: {:?}", self.live.borrow());
        assert_eq!(self.live_bytes(), 0);
    }

    #[track_caller]
    pub fn assert_no_faults(&self) {
        assert!(self.faults.borrow().is_empty(), "{:?}", self.faults.borrow());
    }

    /// Takes back what a test leaked on purpose. Nothing uses it: its process is over.
    pub fn leak(&self) {
        for (block, layout) in self.live.take() {
            // SAFETY: the block is live, and was allocated with this layout.
            unsafe { std::alloc::dealloc(block.as_ptr(), layout) };
        }
        self.live_bytes.set(0);
    }

    fn fault(&self, what: String) {
        self.faults.borrow_mut().push(what);
    }

    fn let_go(&self, (block, layout): (NonNull<u8>, Layout)) {
        // SAFETY: a block is here only after it was allocated below with this layout, and was taken from `live` once.
        unsafe {
            let bytes = std::slice::from_raw_parts(block.as_ptr(), layout.size());
            if bytes.iter().any(|byte| *byte != POISON) {
                self.fault(format!("a block of {layout:?} was written to after its release"));
            }
            std::alloc::dealloc(block.as_ptr(), layout);
        }
    }
}

impl Drop for Checking {
    fn drop(&mut self) {
        for released in std::mem::take(&mut *self.released.borrow_mut()) {
            self.let_go(released);
        }
        if !std::thread::panicking() {
            self.assert_no_faults();
        }
    }
}

// SAFETY: blocks come from the host's allocator and stay valid until they are released; all handles are references to
// the same allocator.
unsafe impl Allocator for &Checking {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let nth = self.calls.replace(self.calls.get() + 1);
        if self.fail.get().is_some_and(|(from, n)| nth >= from && nth - from < n) {
            return Err(AllocError);
        }
        if layout.size() == 0 {
            let dangling = NonNull::new(std::ptr::without_provenance_mut(layout.align()));
            return Ok(NonNull::slice_from_raw_parts(dangling.ok_or(AllocError)?, 0));
        }
        // SAFETY: the size is not zero.
        let block = NonNull::new(unsafe { std::alloc::alloc(layout) }).ok_or(AllocError)?;
        // SAFETY: the block is that long. What is in it must not matter.
        unsafe { block.write_bytes(0xA5, layout.size()) };
        self.live.borrow_mut().insert(block, layout);
        self.live_bytes.set(self.live_bytes.get() + layout.size());
        self.peak_bytes.set(self.peak_bytes.get().max(self.live_bytes.get()));
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() == 0 {
            return;
        }
        let known = self.live.borrow_mut().remove(&block);
        match known {
            None => self.fault(format!("a block of {layout:?} was released that is not live")),
            Some(right) if right != layout => {
                self.fault(format!("a block of {right:?} was released as one of {layout:?}"));
            }
            Some(_) => {
                self.live_bytes.set(self.live_bytes.get() - layout.size());
                // SAFETY: it was live, so it is as long as that, and its user has finished with it.
                unsafe { block.write_bytes(POISON, layout.size()) };
                self.released.borrow_mut().push_back((block, layout));
                if self.released.borrow().len() > self.kept {
                    let oldest = self.released.borrow_mut().pop_front();
                    oldest.into_iter().for_each(|oldest| self.let_go(oldest));
                }
            }
        }
    }
}

/// The process that the tests' closures get.
pub type P<'p, 'env, 'a> = Process<'p, 'env, &'a Checking>;

/// Runs a closed process in a checking allocator that must be empty afterwards.
#[track_caller]
pub fn run<'env, R>(checking: &'env Checking, setup: impl for<'p> FnOnce(&'p P<'p, 'env, 'env>) -> R) -> Outcome {
    let result = fibra_core::run(checking, setup);
    checking.assert_empty();
    match result {
        Ok((_, outcome)) => outcome,
        Err(failure) => panic!("the run failed: {:?}", failure.cause),
    }
}

/// Runs something with a pool of size classes, which must be as empty afterwards as before. The pool's blocks are reused
/// last in, first out, so that a stale address is an address of something else.
#[track_caller]
pub fn with_pool<R>(f: impl FnOnce(&SizeClasses<5, fibra_core_backing::Borrowed<'_>>) -> R) -> R {
    let mut memory = vec![MaybeUninit::uninit(); 512 * 1024];
    let rows = [(64, 400), (128, 400), (256, 400), (512, 200), (1024, 100)];
    let rows = rows.map(|(block_size, n_blocks)| MemReq { block_size, n_blocks });
    let pool = SizeClasses::new(&table(rows), &mut memory).unwrap();
    let result = f(&pool);
    for class in pool.classes() {
        assert_eq!(class.live, 0, "blocks of {} bytes are left", class.block_size);
    }
    result
}

pub mod fibra_core_backing {
    pub use fibra_allocators::Borrowed;
}

/// The counts of an outcome, in the order of its fields.
pub fn counts(outcome: Outcome) -> [usize; 5] {
    let Outcome { finished, collapsed, deadlocked, stopped, panicked, .. } = outcome;
    [finished, collapsed, deadlocked, stopped, panicked]
}

/// Compares the counts of an outcome: finished, collapsed, deadlocked, stopped, panicked.
#[track_caller]
pub fn assert_outcome(outcome: Outcome, expected: [usize; 5]) {
    assert_eq!(counts(outcome), expected, "finished, collapsed, deadlocked, stopped, panicked");
}

/// Keeps account of the [`Token`]s that it made.
#[derive(Default)]
pub struct Tally {
    dropped: RefCell<Vec<bool>>,
}

impl Tally {
    pub fn token(&self) -> Token<'_> {
        self.dropped.borrow_mut().push(false);
        Token { tally: self, id: self.dropped.borrow().len() - 1 }
    }

    pub fn made(&self) -> usize {
        self.dropped.borrow().len()
    }

    pub fn dropped(&self) -> usize {
        self.dropped.borrow().iter().filter(|dropped| **dropped).count()
    }

    pub fn alive(&self) -> usize {
        self.made() - self.dropped()
    }
}

/// A value that must be dropped exactly once. It is not `Clone`.
pub struct Token<'a> {
    tally: &'a Tally,
    pub id: usize,
}

impl Drop for Token<'_> {
    fn drop(&mut self) {
        let was_dropped = std::mem::replace(&mut self.tally.dropped.borrow_mut()[self.id], true);
        assert!(!was_dropped, "token {} was dropped twice", self.id);
    }
}

/// A number that must be dropped exactly once, and so must each of its copies.
pub struct Value<'a> {
    _token: Token<'a>,
    pub n: u64,
    copies: &'a Copies,
}

/// Makes values, and counts their copies.
#[derive(Default)]
pub struct Copies {
    pub tally: Tally,
    pub made: Cell<usize>,
}

impl Copies {
    pub fn value(&self, n: u64) -> Value<'_> {
        Value { _token: self.tally.token(), n, copies: self }
    }
}

impl Clone for Value<'_> {
    fn clone(&self) -> Self {
        self.copies.made.set(self.copies.made.get() + 1);
        self.copies.value(self.n)
    }
}

/// Calls a function when it is dropped.
pub struct OnDrop<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A list of what happened.
#[derive(Default)]
pub struct Trace<E>(RefCell<Vec<E>>);

impl<E> Trace<E> {
    pub fn new() -> Self {
        Trace(RefCell::new(Vec::new()))
    }

    pub fn push(&self, event: E) {
        self.0.borrow_mut().push(event);
    }

    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    pub fn take(&self) -> Vec<E> {
        self.0.take()
    }
}

/// Polls a future once, with the context of whoever awaits this.
pub async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

/// Polls a future once and forgets it while it is pending.
pub async fn poll_and_forget<F: Future + Unpin>(mut future: F) {
    assert!(poll_once(&mut future).await.is_pending(), "nothing was to be ready here");
    std::mem::forget(future);
}

/// Lets `n` rounds of the ready fibres pass.
pub async fn rounds(n: usize) {
    for _ in 0..n {
        fibra_core::yield_now().await;
    }
}

/// Reads up to `n` values, and leaves.
pub async fn take<'a>(n: usize, mut from: Reader<'_, Value<'a>>, seen: &Trace<u64>) {
    for _ in 0..n {
        match from.read_or_end().await {
            Some(value) => seen.push(value.n),
            None => break,
        }
    }
}

/// Runs something on a thread with a stack of 256 KiB.
pub fn on_small_stack<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(256 * 1024);
        match builder.spawn_scoped(scope, f).unwrap().join() {
            Ok(result) => result,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    })
}

/// The host's way of catching panics, for `Setup::catch`. Keeps the text of each.
#[derive(Default)]
pub struct Caught(pub Vec<String>);

impl Caught {
    pub fn catch(&mut self, f: &mut dyn FnMut()) -> bool {
        match catch_unwind(AssertUnwindSafe(f)) {
            Ok(()) => false,
            Err(payload) => {
                self.0.push(text_of(&*payload));
                true
            }
        }
    }
}

fn text_of(payload: &(dyn std::any::Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "no text".to_owned(),
    }
}

/// The text of the panic that `f` ends with.
#[track_caller]
pub fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("this was to panic"),
        Err(payload) => text_of(&*payload),
    }
}

/// Waits on a condition variable, as a host with threads does.
pub struct Parker {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Parker {
    pub const fn new() -> Self {
        Parker { woken: Mutex::new(false), changed: Condvar::new() }
    }
}

impl Idle for Parker {
    fn wait(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.changed.wait(woken).unwrap();
        }
        *woken = false;
    }

    fn wake(&self) {
        *self.woken.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

/// A wake hub of its own for each place where this is written.
macro_rules! hub {
    ($n:expr) => {{
        static IDLE: $crate::common::Parker = $crate::common::Parker::new();
        static HUB: fibra_core::Hub<$n> = fibra_core::Hub::new(&IDLE);
        &HUB
    }};
}
pub(crate) use hub;

/// Counts how often it is woken.
#[derive(Default)]
pub struct CountWakes(pub AtomicUsize);

impl CountWakes {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn wakes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a run that must fail failed with.
#[track_caller]
pub fn failure<R>(result: Result<(R, Outcome), Failure<R>>) -> Failure<R> {
    match result {
        Ok((_, outcome)) => panic!("the run was to fail: {outcome}"),
        Err(failure) => failure,
    }
}
