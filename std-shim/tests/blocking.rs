//! Blocking reads and writes of threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use fibra_std::{
    Ended, OutsideReader, OutsideWriter, ReadBlocking, ReadError, Shared, SharedProcess, Unsent, WriteBlocking,
    WriteError, asynchronous,
};

fn outside<T: Send>() -> (OutsideWriter<T>, OutsideReader<T>) {
    asynchronous().unwrap()
}

/// Counts what this thread takes from the global allocator.
struct Counting;

thread_local!(static TAKEN: Cell<usize> = const { Cell::new(0) });

// SAFETY: the host's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = TAKEN.try_with(|taken| taken.set(taken.get() + 1));
        // SAFETY: passed on to the caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

/// Counts how often it is dropped.
struct Token(Arc<AtomicUsize>);

impl Drop for Token {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn two_threads_talk() {
    let (mut to, mut from) = outside();
    thread::scope(|scope| {
        scope.spawn(move || (0..10_000).for_each(|n| to.write_blocking(n).unwrap()));
        (0..10_000).for_each(|n| assert_eq!(from.read_blocking(), Ok(n)));
        assert_eq!(from.read_blocking(), Err(Ended));
        assert_eq!(from.read_timeout(Duration::ZERO), Err(ReadError::Ended));
        assert_eq!(from.read_timeout(Duration::MAX), Err(ReadError::Ended));
    });
}

#[test]
fn only_the_first_operation_of_a_thread_allocates() {
    let (mut to, mut from) = outside();
    thread::scope(|scope| {
        scope.spawn(move || (0..100).try_for_each(|n| to.write_blocking(n)));
        from.read_blocking().unwrap();
        let before = TAKEN.get();
        (1..100).for_each(|n| assert_eq!(from.read_timeout(Duration::from_secs(3600)), Ok(n)));
        assert_eq!(TAKEN.get(), before);
    });
}

#[test]
fn a_thread_that_waits_is_told_of_the_end() {
    let (to, mut from) = outside::<u8>();
    let (mut late_to, late_from) = outside::<Box<u8>>();
    thread::scope(|scope| {
        let reader = scope.spawn(move || (from.read_blocking(), from.read_blocking()));
        let writer = scope.spawn(move || late_to.write_blocking(Box::new(7)));
        // So that they wait; if they do not yet, they are told all the same.
        thread::sleep(Duration::from_millis(5));
        drop((to, late_from));
        assert_eq!(reader.join().unwrap(), (Err(Ended), Err(Ended)));
        assert_eq!(writer.join().unwrap(), Err(Unsent(Box::new(7))));
    });
}

#[test]
fn when_the_time_is_over_the_value_comes_back() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let (mut to, mut from) = outside();
    let Err(WriteError::TimedOut(token)) = to.write_timeout(Token(dropped.clone()), Duration::from_millis(1)) else {
        panic!("nobody reads");
    };
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
    assert!(matches!(from.read_timeout(Duration::from_millis(1)), Err(ReadError::TimedOut)));
    assert!(matches!(from.read_until(Instant::now()), Err(ReadError::TimedOut)), "the write was taken back");
    drop(from);
    let Err(error @ WriteError::Ended(_)) = to.write_until(token, Instant::now()) else { panic!("nobody can read") };
    drop(error.into_inner());
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}

#[test]
fn a_deadline_that_is_over_takes_what_is_there() {
    let over = Instant::now();
    let (mut to, mut from) = outside();
    thread::scope(|scope| {
        scope.spawn(move || to.write_blocking(7).unwrap());
        let read = loop {
            match from.read_until(over) {
                Err(ReadError::TimedOut) => thread::yield_now(),
                read => break read,
            }
        };
        assert_eq!(read, Ok(7));
    });
    let (mut to, mut from) = outside();
    thread::scope(|scope| {
        scope.spawn(move || assert_eq!(from.read_blocking(), Ok(8)));
        while let Err(WriteError::TimedOut(_)) = to.write_until(8, over) {
            thread::yield_now();
        }
    });
}

/// Both sides give up all the time, at nearly the same moment as the other one comes.
#[test]
fn a_value_is_delivered_or_returned_but_never_both_nor_neither() {
    const N: usize = 2_000;
    let dropped = Arc::new(AtomicUsize::new(0));
    let (mut to, mut from) = outside::<(usize, Token)>();
    thread::scope(|scope| {
        let dropped = dropped.clone();
        scope.spawn(move || {
            let mut time = 0;
            for n in 0..N {
                let mut value = (n, Token(dropped.clone()));
                while let Err(error) = to.write_timeout(value, Duration::from_nanos(time % 60_000)) {
                    time += 7_001;
                    let WriteError::TimedOut(back) = error else { panic!("the reader is there") };
                    assert_eq!(back.0, n);
                    value = back;
                }
            }
        });
        let (mut time, mut next) = (0, 0);
        loop {
            time += 11_003;
            match from.read_timeout(Duration::from_nanos(time % 60_000)) {
                Ok((n, _token)) => {
                    assert_eq!(n, next);
                    next += 1;
                }
                Err(ReadError::TimedOut) => {}
                Err(ReadError::Ended) => break,
            }
        }
        assert_eq!(next, N);
    });
    assert_eq!(dropped.load(Ordering::Relaxed), N);
}

#[test]
fn a_value_that_came_to_a_read_that_was_forgotten_is_read_next() {
    let (mut to, mut from) = outside();
    let mut read = from.read();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut read).poll(&mut cx).is_pending());
    std::mem::forget(read);
    to.write_blocking(7).unwrap();
    drop(to);
    assert_eq!((from.read_blocking(), from.read_blocking()), (Ok(7), Err(Ended)));
}

/// A foreign waker's destructor that blocks, on a thread that has just begun to wait itself, takes no wake-up of that wait.
#[test]
fn a_blocking_operation_within_another_one() {
    struct Waits(mpsc::Sender<()>, Mutex<OutsideReader<u8>>);
    impl Wake for Waits {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Waits {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
            assert_eq!(self.1.get_mut().unwrap().read_blocking(), Ok(1));
        }
    }
    let ((mut inner_to, inner_from), (mut to, mut from)) = (outside(), outside());
    let (tell, told) = mpsc::channel();
    let waker = Arc::new(Waits(tell, inner_from.into())).into();
    let mut read = from.read();
    assert!(Pin::new(&mut read).poll(&mut Context::from_waker(&waker)).is_pending());
    std::mem::forget(read);
    drop(waker);
    thread::scope(|scope| {
        scope.spawn(move || {
            told.recv().unwrap();
            to.write_blocking(2).unwrap(); // the outer one waits already
            inner_to.write_blocking(1).unwrap();
        });
        assert_eq!(from.read_blocking(), Ok(2));
    });
}

#[test]
fn in_the_destructor_of_a_thread_local_value() {
    struct Last(Cell<Option<OutsideWriter<u8>>>);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.take().unwrap().write_blocking(7).unwrap();
        }
    }
    thread_local!(static LAST: Last = const { Last(Cell::new(None)) });
    let (to, mut from) = outside();
    let (mut first_to, mut first_from) = outside();
    let thread = thread::spawn(move || {
        LAST.with(|last| last.0.set(Some(to)));
        first_to.write_blocking(()).unwrap();
    });
    assert_eq!(first_from.read_blocking(), Ok(()));
    assert_eq!(from.read_blocking(), Ok(7));
    thread.join().unwrap();
}

#[test]
fn four_threads_and_four_fibres() {
    const EACH: u64 = 25_000;
    let dropped = Arc::new(AtomicUsize::new(0));
    let ((to, from), (back, mut sums)) = (outside::<(u64, Token)>(), outside::<u64>());
    let begin = Barrier::new(4);
    let mut sum = 0;
    thread::scope(|scope| {
        for nth in 0..4 {
            let (mut to, dropped, begin) = (to.dup().unwrap(), dropped.clone(), &begin);
            scope.spawn(move || {
                begin.wait();
                for n in 0..EACH {
                    assert!(to.write_blocking((nth * EACH + n, Token(dropped.clone()))).is_ok());
                }
            });
        }
        drop(to);
        scope.spawn(move || {
            /// With outside ends, which a fibre may use, too.
            fn add<'p>(
                mut from: OutsideReader<(u64, Token)>,
                mut back: OutsideWriter<u64>,
                p: &'p SharedProcess<'p, '_>,
            ) {
                let fibre = async move {
                    let mut sum = 0;
                    while let Ok((n, _token)) = from.read().await {
                        sum += n;
                    }
                    back.write(sum).await.unwrap();
                };
                p.fibre().waker().spawn(fibre).unwrap();
            }
            Shared::new()
                .workers(2)
                .run(|p| {
                    for _ in 0..2 {
                        add(from.dup().unwrap(), back.dup().unwrap(), p);
                    }
                    for _ in 0..2 {
                        let (mut from, mut back) = (from.dup().unwrap().inside(p), back.dup().unwrap().inside(p));
                        let fibre = async move {
                            let mut sum = 0;
                            while let Some((n, _token)) = from.read_or_end().await {
                                sum += n;
                            }
                            back.write(sum).await;
                        };
                        p.fibre().waker().spawn(fibre).unwrap();
                    }
                    drop((from, back));
                })
                .unwrap();
        });
        while let Ok(part) = sums.read_blocking() {
            sum += part;
        }
    });
    assert_eq!(sum, (0..4 * EACH).sum());
    assert_eq!(dropped.load(Ordering::Relaxed) as u64, 4 * EACH);
}

#[test]
fn errors_say_what_happened() {
    assert_eq!(ReadError::from(Ended), ReadError::Ended);
    assert_eq!(ReadError::Ended.to_string(), Ended.to_string());
    assert_eq!(WriteError::from(Unsent(7)), WriteError::Ended(7));
    assert_eq!(WriteError::Ended(7).to_string(), Unsent(7).to_string());
    assert!(WriteError::TimedOut(7).to_string().contains("in time"));
    assert!(ReadError::TimedOut.to_string().contains("in time"));
    assert_eq!(format!("{:?} {:?}", WriteError::TimedOut(7), WriteError::Ended(7)), "TimedOut(..) Ended(..)");
}
