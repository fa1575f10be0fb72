//! Asynchronous channels: between processes, and between a process and whatever is outside of any.

mod common;

use std::alloc::System;
use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use common::{Checking, CountWakes, assert_outcome, hub, panic_of, poll_and_forget, rounds};
use fibra_allocators::{AllocError, Allocator, Layout, SpinLock};
use fibra_core::{
    Ended, Here, Outcome, OutsideReader, OutsideWriter, Platform, Process, Reader, Setup, TryReadError, TryWriteError,
    Unsent, WakeHub, Writer, asynchronous_layout, asynchronous_named, dup_layout, yield_now,
};
use futures::executor::block_on;
use futures::{FutureExt, join, select_biased};

struct Threads;

// SAFETY: a thread's local variable is its own.
unsafe impl Platform for Threads {
    type Lock = SpinLock;

    fn here<R>(f: impl FnOnce(&Here) -> R) -> R {
        thread_local!(static HERE: Here = const { Here::new() });
        HERE.with(f)
    }
}

type Asynchronous = fibra_core::Asynchronous<Threads>;
type OutsideEnds<T> = (OutsideWriter<T, Threads>, OutsideReader<T, Threads>);

/// The host's memory, of which one knows how much is out, and which can be refused. Each channel keeps a handle.
#[derive(Clone, Default)]
struct Heap(Arc<Counts>);

#[derive(Default)]
struct Counts {
    live: AtomicIsize,
    is_refusing: AtomicUsize,
}

impl Heap {
    fn live(&self) -> isize {
        self.0.live.load(Ordering::Relaxed)
    }

    /// Nothing is out, and nobody keeps a handle.
    #[track_caller]
    fn assert_empty(self) {
        assert_eq!(self.live(), 0, "blocks that were not given back");
        assert_eq!(Arc::strong_count(&self.0), 1, "a channel's handle to its allocator was not dropped");
    }

    fn refuse(&self, is_refusing: bool) {
        self.0.is_refusing.store(usize::from(is_refusing), Ordering::Relaxed);
    }

    fn outside<T: Send>(&self) -> OutsideEnds<T> {
        fibra_core::asynchronous::<T, Threads, _>(self.clone()).unwrap()
    }

    /// Both ends, inside of a process.
    fn inside<'p, T: Send>(&self, p: &'p P<'p, '_>) -> (Writer<'p, T, Asynchronous>, Reader<'p, T, Asynchronous>) {
        let (to, from) = self.outside();
        (to.inside(p), from.inside(p))
    }
}

type P<'p, 'env> = Process<'p, 'env, &'env Checking>;

// SAFETY: the host's allocator; clones are the same.
unsafe impl Allocator for Heap {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if self.0.is_refusing.load(Ordering::Relaxed) != 0 {
            return Err(AllocError);
        }
        let block = allocator_api2_system(layout)?;
        self.0.live.fetch_add(1, Ordering::Relaxed);
        Ok(block)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { std::alloc::GlobalAlloc::dealloc(&System, block.as_ptr(), layout) }
    }
}

fn allocator_api2_system(layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
    assert_ne!(layout.size(), 0);
    // SAFETY: the size is not 0.
    let block = NonNull::new(unsafe { std::alloc::GlobalAlloc::alloc(&System, layout) }).ok_or(AllocError)?;
    Ok(NonNull::slice_from_raw_parts(block, layout.size()))
}

/// Runs an open process.
#[track_caller]
fn run<'env, R>(
    hub: &'static dyn WakeHub,
    checking: &'env Checking,
    setup: impl for<'p> FnOnce(&'p Process<'p, 'env, &'env Checking>) -> R,
) -> (R, Outcome) {
    let result = Setup::new(checking).hub(hub).run(setup);
    checking.assert_empty();
    result.unwrap_or_else(|failure| panic!("the run failed: {:?}", failure.cause))
}

/// Counts the polls of a future.
async fn counted<F: Future>(polls: &Cell<usize>, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| {
        polls.set(polls.get() + 1);
        future.as_mut().poll(cx)
    })
    .await
}

/// Polls a future once with this waker.
fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Panics when it is woken; and says whether it was dropped.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics");
    }
}

mod wake_ups {
    use super::*;

    /// Polls until that is ready, without waiting to be woken: so now and then just while the counterpart comes.
    fn poll_all_the_time<F: Future + Unpin>(mut future: F) -> F::Output {
        loop {
            if let Poll::Ready(output) = poll_with(&mut future, Waker::noop()) {
                return output;
            }
            thread::yield_now();
        }
    }

    #[test]
    fn a_poll_while_the_counterpart_comes_loses_and_doubles_nothing() {
        const N: u32 = 20_000;
        let heap = Heap::default();
        let (mut to, mut from) = heap.outside::<Box<u32>>();
        thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..N {
                    poll_all_the_time(to.write(Box::new(n))).unwrap();
                }
            });
            for n in 0..N {
                assert_eq!(poll_all_the_time(from.read()).as_deref(), Ok(&n));
            }
            assert_eq!(poll_all_the_time(from.read()), Err(Ended));
        });
        drop(from);
        heap.assert_empty();
    }

    #[test]
    fn a_fibre_that_waits_for_two_is_polled_once_for_each() {
        let (checking, heap) = (Checking::new(), Heap::default());
        let polls = Cell::new(0);
        let ((), outcome) = run(hub!(1), &checking, |p| {
            let ((to1, mut from1), (to2, mut from2)) = (heap.inside::<u8>(p), heap.inside::<u8>(p));
            let polls = &polls;
            let both = async move { assert_eq!(join!(from1.read(), from2.read()), (1, 2)) };
            p.fibre().waker().spawn(counted(polls, both)).unwrap();
            p.spawn(async move {
                to1.outside().try_write(1).unwrap();
                rounds(100).await;
                assert_eq!(polls.get(), 2, "nothing has happened since");
                to2.outside().try_write(2).unwrap();
            })
            .unwrap();
        });
        assert_outcome(outcome, [2, 0, 0, 0, 0]);
        assert_eq!(polls.get(), 3);
        heap.assert_empty();
    }

    #[test]
    fn who_is_polled_again_with_another_waker_keeps_the_place_in_the_queue() {
        let heap = Heap::default();
        let (mut to, mut first) = heap.outside::<u8>();
        let mut second = first.dup().unwrap();
        let wakers: [_; 3] = std::array::from_fn(|_| CountWakes::new());
        let waker = |n: usize| Waker::from(wakers[n].clone());
        let (mut read1, mut read2) = (first.read(), second.read());
        assert!(poll_with(&mut read1, &waker(0)).is_pending());
        assert!(poll_with(&mut read2, &waker(1)).is_pending());
        assert!(poll_with(&mut read1, &waker(2)).is_pending());
        to.try_write(7).unwrap();
        assert_eq!(wakers.each_ref().map(|waker| waker.wakes()), [0, 0, 1]);
        assert_eq!(poll_with(&mut read1, &waker(0)), Poll::Ready(Ok(7)));
        drop((read1, read2));
        drop((to, first, second));
        // Nobody keeps a waker.
        assert!(wakers.iter().all(|waker| Arc::strong_count(waker) == 1));
        heap.assert_empty();
    }

    #[test]
    fn the_last_counterpart_tells_everybody_even_if_a_waker_panics() {
        let heap = Heap::default();
        let (to, mut first) = heap.outside::<u8>();
        let (mut second, mut third) = (first.dup().unwrap(), first.dup().unwrap());
        let count = CountWakes::new();
        let (mut read1, mut read2, mut read3) = (first.read(), second.read(), third.read());
        assert!(poll_with(&mut read1, &Arc::new(Panics).into()).is_pending());
        assert!(poll_with(&mut read2, &count.clone().into()).is_pending());
        assert!(poll_with(&mut read3, &count.clone().into()).is_pending());
        assert_eq!(panic_of(|| drop(to)), "a waker that panics");
        assert_eq!(count.wakes(), 2);
        for read in [&mut read1, &mut read2, &mut read3] {
            assert_eq!(poll_with(read, Waker::noop()), Poll::Ready(Err(Ended)));
        }
        drop((read1, read2, read3));
        drop((first, second, third));
        heap.assert_empty();
    }
}

mod semantics {
    use super::*;

    #[test]
    fn a_write_completes_with_exactly_one_read() {
        let heap = Heap::default();
        let (mut to, mut from) = heap.outside::<u8>();
        let mut other = from.dup().unwrap();
        let (mut write, mut read, mut late) = (to.write(7), from.read(), other.read());
        let waker = Waker::noop();
        assert!(poll_with(&mut write, waker).is_pending());
        assert_eq!(poll_with(&mut read, waker), Poll::Ready(Ok(7)));
        assert!(poll_with(&mut late, waker).is_pending());
        assert_eq!(poll_with(&mut write, waker), Poll::Ready(Ok(())));
        assert_eq!(poll_with(&mut write, waker), Poll::Ready(Ok(())), "it stays complete");
        drop((write, read, late));
        drop((to, from, other));
        heap.assert_empty();
    }

    #[test]
    fn who_comes_first_is_served_first() {
        let heap = Heap::default();
        let (mut to, first) = heap.outside::<usize>();
        let mut readers = vec![first];
        (1..5).for_each(|_| readers.push(readers[0].dup().unwrap()));
        let counts: Vec<_> = readers.iter().map(|_| CountWakes::new()).collect();
        for nth in [3, 0, 4, 1, 2] {
            assert!(readers[nth].poll_read(&mut Context::from_waker(&counts[nth].clone().into())).is_pending());
        }
        for n in 0..5 {
            to.try_write(n).unwrap();
        }
        let got: Vec<_> = readers.iter_mut().map(|reader| reader.try_read().unwrap()).collect();
        assert_eq!(got, [1, 3, 4, 0, 2]);
        assert!(counts.iter().all(|count| count.wakes() == 1 && Arc::strong_count(count) == 1));
        assert_eq!(to.try_write(5), Err(TryWriteError::NobodyWaits(5)));
        drop((to, readers));
        heap.assert_empty();
    }

    #[test]
    fn the_end_is_told_at_every_operation() {
        let heap = Heap::default();
        let (to, mut from) = heap.outside::<u8>();
        assert_eq!(from.try_read(), Err(TryReadError::NobodyWaits));
        drop(to);
        assert_eq!(from.try_read(), Err(TryReadError::Ended));
        assert_eq!(block_on(from.read()), Err(Ended));
        assert_eq!(block_on(from.read()), Err(Ended));
        drop(from);

        let (mut to, from) = heap.outside::<u8>();
        to.begin_write(1);
        assert!(to.poll_write(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(from);
        assert_eq!(to.poll_write(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(Unsent(1))));
        assert_eq!(to.poll_write(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())), "nothing has begun");
        assert_eq!(to.try_write(2).map_err(TryWriteError::into_inner), Err(2));
        assert_eq!(block_on(to.write(3)), Err(Unsent(3)));
        assert_eq!(to.cancel_write(), None);
        drop(to);
        heap.assert_empty();
    }

    #[test]
    fn a_write_that_is_cancelled_gives_its_value_back_or_was_read() {
        let heap = Heap::default();
        let (mut to, mut from) = heap.outside::<u8>();
        let mut write = to.write(1);
        assert!(poll_with(&mut write, Waker::noop()).is_pending());
        assert_eq!(write.cancel(), Some(1));
        assert_eq!(from.try_read(), Err(TryReadError::NobodyWaits));
        let mut write = to.write(2);
        assert!(poll_with(&mut write, Waker::noop()).is_pending());
        assert_eq!(from.try_read(), Ok(2));
        assert_eq!(write.cancel(), None);
        drop((to, from));
        heap.assert_empty();
    }

    #[test]
    fn what_was_forgotten_goes_on_until_the_end_is_used_again() {
        let heap = Heap::default();
        let (mut to, mut from) = heap.outside::<Box<u8>>();
        block_on(async {
            // A value that comes to a forgotten read stays with the reader.
            poll_and_forget(from.read()).await;
            to.try_write(Box::new(1)).unwrap();
            assert_eq!(from.try_read(), Ok(Box::new(1)));
            // A forgotten write can still be read, until the next one takes it back.
            poll_and_forget(to.write(Box::new(2))).await;
            assert_eq!(from.try_read(), Ok(Box::new(2)));
            poll_and_forget(to.write(Box::new(3))).await;
            assert_eq!(to.try_write(Box::new(4)), Err(TryWriteError::NobodyWaits(Box::new(4))));
            assert_eq!(from.try_read(), Err(TryReadError::NobodyWaits));
            poll_and_forget(to.write(Box::new(5))).await;
            drop(to);
            assert_eq!(from.read().await, Err(Ended));
            drop(from);
        });
        heap.assert_empty();
    }

    #[test]
    fn values_are_dropped_exactly_once() {
        #[derive(Debug)]
        struct Token(Arc<AtomicUsize>);
        impl Drop for Token {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (heap, dropped) = (Heap::default(), Arc::new(AtomicUsize::new(0)));
        let token = || Token(dropped.clone());
        let seen = || dropped.swap(0, Ordering::Relaxed);
        let (mut to, mut from) = heap.outside::<Token>();
        drop(to.write(token()));
        assert_eq!(seen(), 1);
        to.begin_write(token());
        to.begin_write(token());
        assert_eq!(seen(), 1);
        drop(to.try_write(token()).unwrap_err());
        assert_eq!(seen(), 2, "the one that was begun before, too");
        assert!(from.poll_read(&mut Context::from_waker(Waker::noop())).is_pending());
        to.try_write(token()).unwrap();
        assert_eq!(seen(), 0);
        drop(from);
        assert_eq!(seen(), 1, "with the reader that had it");
        to.begin_write(token());
        drop(to);
        assert_eq!(seen(), 1);
        heap.assert_empty();
    }

    #[test]
    fn values_of_all_sorts() {
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[repr(align(128))]
        struct Wide(u8);
        #[track_caller]
        fn pass<T: Send + Clone + PartialEq + std::fmt::Debug>(value: &T) {
            let heap = Heap::default();
            let (mut to, mut from) = heap.outside::<T>();
            let mut other = to.dup().unwrap();
            for writer in [&mut to, &mut other] {
                let mut write = writer.write(value.clone());
                assert!(poll_with(&mut write, Waker::noop()).is_pending());
                assert_eq!(from.try_read().as_ref(), Ok(value));
            }
            drop((to, from, other));
            heap.assert_empty();
        }
        pass(&());
        pass(&Wide(7));
        pass(&[Wide(1); 3]);
        pass(&"text".to_owned());
        let text = String::from("lent"); // not `'static`: the ends are not, either
        pass(&text.as_str());
        assert!(asynchronous_layout::<Wide, Threads, Heap>().align() >= 128);
        assert!(dup_layout::<Wide>().align() >= 128);
    }

    #[test]
    fn out_of_memory_is_an_error_and_nothing_is_lost() {
        let heap = Heap::default();
        heap.refuse(true);
        assert!(fibra_core::asynchronous::<u8, Threads, _>(heap.clone()).is_err());
        assert!(asynchronous_named::<u8, Threads, _>(heap.clone(), "name").is_err());
        heap.refuse(false);
        let (mut to, mut from) = heap.outside::<u8>();
        heap.refuse(true);
        assert!(to.dup().is_err() && from.dup().is_err());
        // Nothing else allocates, and the count is right.
        assert!(from.poll_read(&mut Context::from_waker(Waker::noop())).is_pending());
        to.try_write(7).unwrap();
        drop(to);
        assert_eq!((from.try_read(), from.try_read()), (Ok(7), Err(TryReadError::Ended)));
        drop(from);
        heap.assert_empty();
    }

    #[test]
    fn a_name_is_shown() {
        let heap = Heap::default();
        let (to, from) = asynchronous_named::<u8, Threads, _>(heap.clone(), "orders").unwrap();
        assert_eq!(format!("{to:?} {from:?}"), "OutsideWriter(`orders`) OutsideReader(`orders`)");
        drop((to, from));
        heap.assert_empty();
    }

    #[test]
    fn errors_say_what_happened() {
        let texts = [
            Unsent(1).to_string(),
            Ended.to_string(),
            TryWriteError::NobodyWaits(1).to_string(),
            TryWriteError::Ended(1).to_string(),
            TryReadError::NobodyWaits.to_string(),
            TryReadError::Ended.to_string(),
        ];
        assert_eq!(texts[0], texts[3]);
        assert_eq!(texts[1], texts[5]);
        assert!(texts.iter().all(|text| text.contains("reader") || text.contains("writer")));
        assert_eq!(format!("{:?} {:?}", Unsent(1), TryWriteError::Ended(1)), "Unsent(..) Ended(..)");
    }
}

mod hostile {
    use super::*;

    /// Does something when it is woken or dropped, as code of others may.
    struct Does<F: Fn() + Send + Sync>(F);

    impl<F: Fn() + Send + Sync> Wake for Does<F> {
        fn wake(self: Arc<Self>) {
            drop(self);
        }
        fn wake_by_ref(self: &Arc<Self>) {
            (self.0)();
        }
    }
    impl<F: Fn() + Send + Sync> Drop for Does<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }

    fn does(f: impl Fn() + Send + Sync + 'static) -> Waker {
        Arc::new(Does(f)).into()
    }

    #[test]
    fn a_waker_that_panics_takes_no_value_along() {
        let heap = Heap::default();
        let (mut to, mut from) = heap.outside::<u8>();
        assert!(poll_with(&mut from.read(), &Arc::new(Panics).into()).is_pending());
        let mut read = Box::new(from.read());
        assert!(poll_with(&mut read, &Arc::new(Panics).into()).is_pending());
        assert_eq!(panic_of(|| to.try_write(1)), "a waker that panics");
        assert_eq!(poll_with(&mut read, Waker::noop()), Poll::Ready(Ok(1)), "it was delivered before");
        drop(read);
        let mut write = to.write(2);
        assert!(poll_with(&mut write, &Arc::new(Panics).into()).is_pending());
        assert_eq!(panic_of(|| from.try_read()), "a waker that panics");
        assert_eq!(poll_with(&mut write, Waker::noop()), Poll::Ready(Ok(())));
        assert_eq!(from.try_read(), Ok(2), "it stays with the reader");
        drop(write);
        drop((to, from));
        heap.assert_empty();
    }

    #[test]
    fn a_waker_uses_the_very_channel_that_it_waits_on() {
        let heap = Heap::default();
        let (mut to, mut from) = heap.outside::<u8>();
        let slot: Arc<Mutex<Option<OutsideWriter<u8, Threads>>>> = Arc::new(Mutex::new(to.dup().ok()));
        let mut second = from.dup().unwrap();
        assert!(second.poll_read(&mut Context::from_waker(Waker::noop())).is_pending());
        let its = slot.clone();
        let waker = does(move || {
            if let Some(mut to) = its.lock().unwrap().take() {
                assert_eq!(to.try_write(9), Err(TryWriteError::NobodyWaits(9)));
                drop(to.dup());
            }
        });
        assert!(from.poll_read(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        to.try_write(1).unwrap();
        to.try_write(2).unwrap();
        assert!(slot.lock().unwrap().is_none());
        assert_eq!((second.try_read(), from.try_read()), (Ok(1), Ok(2)));
        drop((to, from, second));
        heap.assert_empty();
    }

    /// The last writer goes; telling the first reader drops the second one, which waits, too, and then the rest.
    #[test]
    fn ends_are_dropped_by_a_waker_while_the_end_is_told() {
        let heap = Heap::default();
        let (to, mut first) = heap.outside::<u8>();
        let mut second = first.dup().unwrap();
        assert!(second.poll_read(&mut Context::from_waker(Waker::noop())).is_pending());
        let slot = Arc::new(Mutex::new(Some(second)));
        let its = slot.clone();
        let waker = does(move || drop(its.lock().unwrap().take()));
        let mut third = first.dup().unwrap();
        assert!(first.poll_read(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        assert!(third.poll_read(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(to);
        assert!(slot.lock().unwrap().is_none());
        drop((first, third));
        heap.assert_empty();
    }

    #[test]
    fn the_last_waker_to_be_told_drops_the_last_end() {
        let heap = Heap::default();
        let (to, mut from) = heap.outside::<u8>();
        let slot = Arc::new(Mutex::new(None));
        let its = slot.clone();
        let waker = does(move || drop(its.lock().unwrap().take()));
        assert!(from.poll_read(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        *slot.lock().unwrap() = Some(from);
        drop(to);
        assert!(slot.lock().unwrap().is_none());
        heap.assert_empty();
    }

    #[test]
    fn the_last_ends_go_at_the_same_time() {
        for _ in 0..100 {
            let heap = Heap::default();
            let (mut to, mut from) = heap.outside::<Box<u8>>();
            let mut other = from.dup().unwrap();
            let begin = Barrier::new(3);
            thread::scope(|scope| {
                scope.spawn(|| {
                    to.begin_write(Box::new(1));
                    let _ = to.poll_write(&mut Context::from_waker(Waker::noop()));
                    begin.wait();
                    drop(to);
                });
                for reader in [&mut from, &mut other] {
                    let begin = &begin;
                    let mut reader = reader.dup().unwrap();
                    scope.spawn(move || {
                        let _ = reader.poll_read(&mut Context::from_waker(Waker::noop()));
                        begin.wait();
                        let _ = reader.poll_read(&mut Context::from_waker(Waker::noop()));
                    });
                }
                drop((from.dup(), other.dup()));
            });
            drop((from, other));
            heap.assert_empty();
        }
    }

    /// A fibre waits, its reader goes to another fibre in between, and the first one ends.
    #[test]
    fn an_end_moves_to_another_fibre_while_it_waits() {
        let (checking, heap) = (Checking::new(), Heap::default());
        let ((), outcome) = run(hub!(2), &checking, |p| {
            let (to, mut from) = heap.inside::<u8>(p);
            let place = Rc::new(Cell::new(None));
            let its = place.clone();
            p.fibre()
                .waker()
                .spawn(async move {
                    poll_and_forget(from.read()).await;
                    its.set(Some(from));
                })
                .unwrap();
            p.fibre()
                .waker()
                .spawn(async move {
                    rounds(1).await;
                    let mut from = place.take().unwrap();
                    assert_eq!(from.read().await, 1);
                    from.read().await;
                })
                .unwrap();
            p.spawn(async move {
                rounds(5).await;
                to.outside().try_write(1).unwrap();
            })
            .unwrap();
        });
        assert_outcome(outcome, [2, 1, 0, 0, 0]);
        heap.assert_empty();
    }

    #[test]
    fn ends_outlive_the_process_and_its_memory() {
        let heap = Heap::default();
        let kept = Cell::new(None);
        let ((mut to, mut from), moved) = (heap.outside::<Box<u8>>(), &kept);
        {
            let checking = Checking::new();
            let ((), outcome) = run(hub!(1), &checking, |p| {
                let handle = p.stop_handle().unwrap();
                p.fibre()
                    .waker()
                    .spawn(async move {
                        // An outside end in a fibre: nothing keeps anybody from that.
                        poll_and_forget(from.read()).await;
                        moved.set(Some(from));
                        handle.stop();
                        pending::<()>().await;
                    })
                    .unwrap();
            });
            assert_eq!(outcome.stopped, 1);
        }
        // The forgotten read of a fibre that is no more takes a value, and its waker wakes nobody.
        to.try_write(Box::new(7)).unwrap();
        drop(to);
        assert_eq!(kept.take().unwrap().try_read(), Ok(Box::new(7)));
        heap.assert_empty();
    }
}

mod fibres {
    use super::*;

    #[test]
    fn an_interrupt_tries_and_never_waits() {
        let (checking, heap) = (Checking::new(), Heap::default());
        let (mut to, from) = heap.outside::<u32>();
        let sum = Cell::new(0);
        thread::scope(|scope| {
            scope.spawn(move || {
                for n in 1..=1000 {
                    let mut value = n;
                    while let Err(TryWriteError::NobodyWaits(back)) = to.try_write(value) {
                        value = back;
                        thread::yield_now();
                    }
                }
            });
            let ((), outcome) = run(hub!(1), &checking, |p| {
                let (sum, mut from) = (&sum, from.inside(p));
                let fibre = async move {
                    loop {
                        sum.set(sum.get() + from.read().await);
                    }
                };
                p.fibre().waker().spawn(fibre).unwrap();
            });
            assert_outcome(outcome, [0, 1, 0, 0, 0]);
        });
        assert_eq!(sum.get(), 500_500);
        heap.assert_empty();
    }

    #[test]
    fn a_fibre_collapses_only_when_all_that_it_waits_for_has_gone() {
        let (checking, heap) = (Checking::new(), Heap::default());
        let ((), outcome) = run(hub!(1), &checking, |p| {
            let ((to1, mut from1), (to2, mut from2)) = (heap.inside::<u8>(p), heap.inside::<u8>(p));
            let (mut own, mut own_from) = p.channel::<u8>().unwrap();
            p.fibre()
                .waker()
                .spawn(async move {
                    let first = select_biased! {
                        n = from1.read().fuse() => n,
                        n = from2.read().fuse() => n,
                        n = own_from.read().fuse() => n,
                    };
                    assert_eq!(first, 3);
                    join!(from1.read(), from2.read());
                })
                .unwrap();
            p.spawn(async move {
                yield_now().await;
                drop(to1);
                rounds(3).await;
                own.write(3).await;
                rounds(3).await;
                drop(to2);
            })
            .unwrap();
        });
        assert_outcome(outcome, [1, 1, 0, 0, 0]);
        heap.assert_empty();
    }

    #[test]
    fn many_to_many() {
        const EACH: usize = 300;
        let (checking, heap) = (Checking::new(), Heap::default());
        let (sum, count) = (Cell::new(0), Cell::new(0));
        let (tell, told) = mpsc::channel();
        let ((), outcome) = run(hub!(8), &checking, |p| {
            let (to, from) = heap.inside::<usize>(p);
            for nth in 0..4 {
                let (mut to, mut from) = (to.dup().unwrap(), from.dup().unwrap());
                let (sum, count, tell) = (&sum, &count, tell.clone());
                let writes = async move {
                    for n in 0..EACH {
                        to.write(nth * EACH + n).await;
                    }
                    tell.send(nth).unwrap();
                };
                let reads = async move {
                    loop {
                        let n = from.read().await;
                        sum.set(sum.get() + n);
                        count.set(count.get() + 1);
                    }
                };
                p.fibre().waker().spawn(writes).unwrap();
                p.fibre().waker().spawn(reads).unwrap();
            }
        });
        assert_outcome(outcome, [4, 4, 0, 0, 0]);
        assert_eq!((sum.get(), count.get()), ((0..4 * EACH).sum(), 4 * EACH));
        assert_eq!(told.try_iter().count(), 4);
        heap.assert_empty();
    }

    #[test]
    fn without_a_wake_cell_a_fibre_panics_and_takes_nothing_along() {
        let (checking, heap) = (Checking::new(), Heap::default());
        let (mut to, from) = heap.outside::<u8>();
        let panic = panic_of(|| {
            fibra_core::run(&checking, |p| {
                let mut from = from.inside(p);
                p.spawn(async move { _ = from.read().await }).is_ok()
            })
        });
        assert!(panic.contains("it has no wake cell"), "{panic}");
        checking.assert_empty();
        assert_eq!(to.try_write(1), Err(TryWriteError::Ended(1)));
        drop(to);
        heap.assert_empty();
    }

    /// What can be done at once needs no wake cell, and the next turn is asked for without one.
    #[test]
    fn without_a_wake_cell_a_fibre_may_meet_who_waits() {
        const N: u16 = 300;
        let (checking, heap) = (Checking::new(), Heap::default());
        let (to, from) = heap.outside::<u16>();
        let mut writers: Vec<_> = (0..N).map(|_| to.dup().unwrap()).collect();
        for (n, writer) in (0..).zip(&mut writers) {
            writer.begin_write(n);
            assert!(writer.poll_write(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        let turns = Cell::new(0);
        let result = fibra_core::run(&checking, |p| {
            let (turns, mut from) = (&turns, from.inside(p));
            let reads = async move {
                for n in 0..N {
                    assert_eq!(from.read().await, n);
                }
            };
            let mut reads = Box::pin(reads);
            p.spawn(poll_fn(move |cx| {
                turns.set(turns.get() + 1);
                reads.as_mut().poll(cx)
            }))
            .unwrap();
        });
        assert_outcome(result.unwrap().1, [1, 0, 0, 0, 0]);
        assert_eq!(turns.get(), 3, "at most 128 at once");
        drop((to, writers));
        heap.assert_empty();
    }
}

/// What may cross threads: decided by the compiler.
mod bounds {
    use super::*;

    fn crosses<T: Send + Sync>() {}

    #[test]
    fn ends_cross_if_their_values_do() {
        crosses::<OutsideWriter<Cell<u8>, Threads>>(); // `Send` is enough: a shared end gives no value away
        crosses::<OutsideReader<Cell<u8>, Threads>>();
        crosses::<Writer<'static, Box<u8>, Asynchronous>>();
        crosses::<Reader<'static, Box<u8>, Asynchronous>>();
        crosses::<fibra_core::OutsideRead<'static, Cell<u8>, Threads>>();
        crosses::<fibra_core::OutsideWrite<'static, Cell<u8>, Threads>>();
    }

    macro_rules! lacks {
        ($($type:ty: $trait:ident),* $(,)?) => {$(
            const _: fn() = || {
                trait Ambiguous<A> {
                    fn item() {}
                }
                impl<T: ?Sized> Ambiguous<()> for T {}
                struct Has;
                impl<T: ?Sized + $trait> Ambiguous<Has> for T {}
                let _ = <$type as Ambiguous<_>>::item;
            };
        )*};
    }

    lacks! {
        OutsideWriter<Rc<u8>, Threads>: Send,
        OutsideWriter<Rc<u8>, Threads>: Sync,
        OutsideReader<Rc<u8>, Threads>: Send,
        OutsideReader<Rc<u8>, Threads>: Sync,
        Writer<'static, Rc<u8>, Asynchronous>: Send,
        Reader<'static, Rc<u8>, Asynchronous>: Send,
        OutsideWriter<u8, Threads>: Clone,
        OutsideReader<u8, Threads>: Clone,
    }
}
