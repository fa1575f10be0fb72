//! The floor's executor: a first-in-first-out queue of raw pointers; memory for fibres from free lists by size.
//!
//! A waker *is* the pointer to its fibre, uncounted. Three promises of the floor's workloads replace what a runtime would
//! check, and every `unsafe` here relies on them:
//!
//! 1. A fibre is woken only while it waits in a leaf future, so never after its end, and never from another thread.
//! 2. A fibre that ends is not in the queue.
//! 3. Blocks of a size go only to fibres of that size class, and no fibre is touched after the run that spawned it.

use std::cell::Cell;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, RawWaker, RawWakerVTable, Waker};

use tokio::sync::oneshot;

use super::region::Region;
use crate::workloads::{Answer, batches, child_ran};

/// The executor is the thread's.
#[derive(Clone, Copy)]
pub(super) struct Process;

/// A fibre, as the queue and the channels know it.
#[derive(Clone, Copy)]
pub(super) struct Task(NonNull<Header>);

struct Header {
    /// The next in the queue, or in the free list.
    next: Cell<Option<Task>>,
    queued: Cell<bool>,
    poll: unsafe fn(Task, &mut Context<'_>),
}

#[repr(C)]
struct Fibre<F> {
    header: Header,
    future: ManuallyDrop<F>,
}

/// Size classes go up in steps of this, which also is their alignment.
const STEP: usize = 32;
const CLASSES: usize = 64;
/// Blocks that are carved at a time.
const CHUNK: usize = 64;

struct Executor {
    head: Cell<Option<Task>>,
    tail: Cell<Option<Task>>,
    free: [Cell<Option<Task>>; CLASSES],
}

thread_local! {
    static REGION: Region = Region::default();

    static EXECUTOR: Executor = const {
        Executor {
            head: Cell::new(None),
            tail: Cell::new(None),
            free: [const { Cell::new(None) }; CLASSES],
        }
    };
}

static WAKER: RawWakerVTable = RawWakerVTable::new(
    |data| RawWaker::new(data, &WAKER),
    |data| wake(Task::from_waker_data(data)),
    |data| wake(Task::from_waker_data(data)),
    |_| {},
);

impl Task {
    /// The fibre whose poll this is.
    #[inline]
    pub(super) fn running(context: &Context<'_>) -> Self {
        Self::from_waker_data(context.waker().data())
    }

    #[inline]
    fn from_waker_data(data: *const ()) -> Self {
        // SAFETY: all wakers here are made by `run`, from a fibre's address.
        Self(unsafe { NonNull::new_unchecked(data.cast_mut().cast()) })
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: blocks last as long as their run (promise 3) and begin with a header, also in a free list.
        unsafe { self.0.as_ref() }
    }
}

impl Executor {
    #[inline]
    fn push(&self, task: Task) {
        task.header().next.set(None);
        match self.tail.replace(Some(task)) {
            None => self.head.set(Some(task)),
            Some(last) => last.header().next.set(Some(task)),
        }
    }

    #[inline]
    fn pop(&self) -> Option<Task> {
        let task = self.head.get()?;
        let next = task.header().next.get();
        self.head.set(next);
        if next.is_none() {
            self.tail.set(None);
        }
        Some(task)
    }

    /// A block with the stale header of a free one.
    #[inline]
    fn allocate(&self, class: usize) -> Task {
        let task = match self.free[class].get() {
            Some(task) => task,
            None => carve(class),
        };
        self.free[class].set(task.header().next.get());
        task
    }

    #[inline]
    fn release(&self, task: Task, class: usize) {
        task.header().next.set(self.free[class].replace(Some(task)));
    }
}

/// Carves a chunk of blocks and links them.
#[cold]
fn carve(class: usize) -> Task {
    let size = class * STEP;
    let chunk = REGION.with(|region| region.carve_bytes(size * CHUNK, STEP)).cast::<Header>();
    let mut first = None;
    for i in (0..CHUNK).rev() {
        // SAFETY: block `i` lies in the chunk, is aligned for a header and has room for one.
        let task = unsafe {
            let block = chunk.byte_add(i * size);
            block.write(Header {
                next: Cell::new(first),
                queued: Cell::new(false),
                poll: |_, _| unreachable!("a free block is polled"),
            });
            Task(block)
        };
        first = Some(task);
    }
    first.expect("a chunk has blocks")
}

/// Puts a fibre at the tail of the queue, unless it is in it.
#[inline]
pub(super) fn wake(task: Task) {
    if !task.header().queued.replace(true) {
        EXECUTOR.with(|executor| executor.push(task));
    }
}

const fn class_of<F>() -> usize {
    const {
        assert!(align_of::<Fibre<F>>() <= STEP);
        let class = size_of::<Fibre<F>>().div_ceil(STEP);
        assert!(class < CLASSES);
        class
    }
}

#[inline]
pub(super) fn spawn<F: Future<Output = ()> + 'static>(_: Process, future: F) {
    EXECUTOR.with(|executor| {
        let task = executor.allocate(class_of::<F>());
        // SAFETY: the block is ours and its class has room for this fibre and its alignment.
        unsafe {
            task.0.cast::<Fibre<F>>().write(Fibre {
                header: Header { next: Cell::new(None), queued: Cell::new(true), poll: poll::<F> },
                future: ManuallyDrop::new(future),
            });
        }
        executor.push(task);
    });
}

/// Polls a fibre and frees it when it has ended.
///
/// # Safety
///
/// `task` is a live `Fibre<F>` that is not being polled.
unsafe fn poll<F: Future<Output = ()>>(task: Task, context: &mut Context<'_>) {
    // Only the future is borrowed: the header is shared with the channels meanwhile.
    // SAFETY: by our caller's word this is such a fibre, and nobody else has a reference to its future.
    let future: &mut ManuallyDrop<F> = unsafe { &mut (*task.0.cast::<Fibre<F>>().as_ptr()).future };
    // SAFETY: it stays in its block until it is dropped below.
    if unsafe { Pin::new_unchecked(&mut **future) }.poll(context).is_ready() {
        // SAFETY: the fibre has ended, so this is not polled, dropped or read again.
        unsafe { ManuallyDrop::drop(future) };
        debug_assert!(!task.header().queued.get(), "promise 2");
        EXECUTOR.with(|executor| executor.release(task, class_of::<F>()));
    }
}

pub(super) fn run(set_up: impl FnOnce(Process, Answer)) -> u64 {
    let (answer, mut result) = oneshot::channel();
    set_up(Process, answer);
    while let Some(task) = EXECUTOR.with(Executor::pop) {
        task.header().queued.set(false);
        // SAFETY: the table's functions take a fibre's address and nothing that needs counting. Not dropped, to spare the
        // call.
        let waker = ManuallyDrop::new(unsafe { Waker::new(task.0.as_ptr().cast(), &WAKER) });
        let poll = task.header().poll;
        // SAFETY: a queued fibre is live (promises 1 and 2), `poll` is of its type, and nobody polls but we.
        unsafe { poll(task, &mut Context::from_waker(&waker)) };
    }
    // Nothing is in the queue, so no fibre is touched again (promise 3).
    EXECUTOR.with(|executor| executor.free.iter().for_each(|list| list.set(None)));
    REGION.with(Region::clear);
    result.try_recv().expect("the network ended without an answer")
}

/// A channel of another crate on this executor has this figure too.
pub(super) fn spawn_batches(n: u64) -> u64 {
    run(move |p, answer| {
        spawn(p, async move {
            let ran = batches(n, || spawn(p, async { child_ran() })).await;
            let _ = answer.send(ran);
        });
    })
}
