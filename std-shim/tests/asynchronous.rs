//! Asynchronous channels between processes, threads, and tasks of other executors.

use std::cell::Cell;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;

use fibra_std::{
    Asynchronous, Ended, Outcome, OutsideReader, OutsideWriter, ReadBlocking, Reader, Shared, SharedMemory, StopHandle,
    TryReadError, TryWriteError, Unsent, WriteBlocking, Writer, asynchronous, asynchronous_in, run, yield_now,
};
use futures::executor::{LocalPool, block_on};
use futures::task::LocalSpawnExt;
use futures::{FutureExt, SinkExt, StreamExt, join, select_biased};

type From<'p, T> = Reader<'p, T, Asynchronous>;
type To<'p, T> = Writer<'p, T, Asynchronous>;

async fn count(mut to: To<'_, u64>, n: u64) {
    for n in 1..=n {
        to.write(n).await;
    }
}

async fn add(mut from: From<'_, u64>, sum: &AtomicUsize) {
    loop {
        sum.fetch_add(from.read().await as usize, Ordering::Relaxed);
    }
}

#[track_caller]
fn assert_counts(outcome: Outcome, finished: usize, collapsed: usize) {
    assert_eq!((outcome.finished, outcome.collapsed, outcome.deadlocked), (finished, collapsed, 0));
}

/// One writes, the other one reads, each in a process of its own, run by these.
fn between(
    writer: impl FnOnce(OutsideWriter<u64>) -> Outcome + Send,
    reader: impl FnOnce(OutsideReader<u64>, &AtomicUsize) -> Outcome,
) {
    let memory = SharedMemory::new().unwrap();
    let (to, from) = asynchronous_in(memory.clone()).unwrap();
    let sum = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(move || assert_counts(writer(to), 1, 0));
        assert_counts(reader(from, &sum), 0, 1);
    });
    assert_eq!(sum.into_inner(), 1000 * 1001 / 2);
    assert_eq!(memory.classes().map(|class| class.live).sum::<usize>(), 0);
}

fn sequential_writer(to: OutsideWriter<u64>) -> Outcome {
    run(|p| p.fibre().waker().spawn(count(to.inside(p), 1000)).unwrap()).unwrap().1
}
fn shared_writer(to: OutsideWriter<u64>) -> Outcome {
    Shared::new().workers(2).run(|p| p.fibre().waker().spawn(count(to.inside(p), 1000)).unwrap()).unwrap().1
}
fn sequential_reader(from: OutsideReader<u64>, sum: &AtomicUsize) -> Outcome {
    run(|p| p.fibre().waker().spawn(add(from.inside(p), sum)).unwrap()).unwrap().1
}
fn shared_reader(from: OutsideReader<u64>, sum: &AtomicUsize) -> Outcome {
    Shared::new().workers(2).run(|p| p.fibre().waker().spawn(add(from.inside(p), sum)).unwrap()).unwrap().1
}

#[test]
fn two_sequential_processes() {
    between(sequential_writer, sequential_reader);
}

#[test]
fn two_shared_processes() {
    between(shared_writer, shared_reader);
}

#[test]
fn a_shared_and_a_sequential_process() {
    between(shared_writer, sequential_reader);
    between(sequential_writer, shared_reader);
}

#[test]
fn a_process_within_a_fibre_of_another_one() {
    let (to, from) = asynchronous::<u8>().unwrap();
    let (_, outcome) = run(|p| {
        p.spawn(async move {
            let (_, inner) = run(|inner| {
                let (mut to, mut from) = (to.inside(inner), from.inside(inner));
                inner.fibre().waker().spawn(async move { assert_eq!(from.read().await, 1) }).unwrap();
                inner.fibre().waker().spawn(async move { to.write(1).await }).unwrap();
            })
            .unwrap();
            assert_counts(inner, 2, 0);
        })
        .unwrap();
    })
    .unwrap();
    assert_counts(outcome, 1, 0);
}

/// What the original system got wrong: the process hung after the transfer.
#[test]
fn a_process_waits_exactly_as_long_as_a_counterpart_can_come() {
    let (mut to, from) = asynchronous::<u8>().unwrap();
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            to.write_blocking(1).unwrap();
            told.recv().unwrap(); // the fibre has it, and reads again
            thread::sleep(std::time::Duration::from_millis(2));
            to.write_blocking(2).unwrap();
        });
        let (_, outcome) = run(|p| {
            let mut from = from.inside(p);
            let fibre = async move {
                assert_eq!(from.read().await, 1);
                tell.send(()).unwrap();
                assert_eq!(from.read().await, 2);
                from.read().await;
                unreachable!("the writer has gone");
            };
            p.fibre().waker().spawn(fibre).unwrap();
        })
        .unwrap();
        assert_counts(outcome, 0, 1);
    });
}

#[test]
fn waiting_fibres_collapse_with_the_last_outside_end() {
    for is_shared in [false, true] {
        let ((to, from), (back, answers)) = (asynchronous::<u8>().unwrap(), asynchronous::<u8>().unwrap());
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(std::time::Duration::from_millis(2));
                drop((to.dup().unwrap(), to, answers));
            });
            async fn read(mut from: From<'_, u8>) {
                from.read().await;
            }
            async fn write(mut back: To<'_, u8>) {
                back.write(1).await;
            }
            async fn be_told(mut from: From<'_, u8>) {
                assert_eq!(from.read_or_end().await, None);
            }
            macro_rules! spawn_all {
                () => {
                    |p| {
                        p.fibre().waker().spawn(read(from.dup().unwrap().inside(p))).unwrap();
                        p.fibre().waker().spawn(write(back.dup().unwrap().inside(p))).unwrap();
                        p.fibre().waker().spawn(write(back.inside(p))).unwrap();
                        p.fibre().waker().spawn(be_told(from.inside(p))).unwrap();
                    }
                };
            }
            let (_, outcome) = if is_shared {
                Shared::new().workers(2).run(spawn_all!()).unwrap()
            } else {
                run(spawn_all!()).unwrap()
            };
            assert_counts(outcome, 1, 3);
        });
    }
}

#[test]
fn the_outside_is_told_when_the_fibre_drops_its_end() {
    let ((mut to, from), (back, mut answers)) = (asynchronous::<Box<u8>>().unwrap(), asynchronous::<u8>().unwrap());
    thread::scope(|scope| {
        scope.spawn(move || {
            run(|p| {
                let (mut from, mut back) = (from.inside(p), back.inside(p));
                let fibre = async move {
                    assert_eq!(*from.read().await, 1);
                    back.write(1).await;
                };
                p.fibre().waker().spawn(fibre).unwrap();
            })
            .unwrap();
        });
        to.write_blocking(Box::new(1)).unwrap();
        assert_eq!(answers.read_blocking(), Ok(1));
        assert_eq!(answers.read_blocking(), Err(Ended));
        assert_eq!(to.write_blocking(Box::new(2)), Err(Unsent(Box::new(2))));
        assert_eq!(to.try_write(Box::new(2)), Err(TryWriteError::Ended(Box::new(2))));
        assert_eq!(answers.try_read(), Err(TryReadError::Ended));
    });
}

/// A fibre that holds the only counterpart of what it waits for waits in vain, and nobody can tell: an end does not say whose it
/// is. So the process waits, too, until it is stopped.
#[test]
fn a_fibre_that_waits_for_itself_can_be_stopped() {
    let (tell, told) = mpsc::channel::<StopHandle>();
    thread::scope(|scope| {
        scope.spawn(move || told.recv().unwrap().stop());
        let (_, outcome) = run(|p| {
            let handle = p.stop_handle().unwrap();
            let (to, from) = asynchronous::<u8>().unwrap();
            let (to, mut from) = (to.inside(p), from.inside(p));
            let fibre = async move {
                let _own = to;
                tell.send(handle).unwrap();
                from.read().await;
            };
            p.fibre().waker().spawn(fibre).unwrap();
        })
        .unwrap();
        assert_eq!((outcome.stopped, outcome.collapsed, outcome.deadlocked), (1, 0, 0));
    });
}

/// But one that waits for something else as well, and leaves, takes both ends along.
#[test]
fn both_ends_in_one_fibre_meet_in_a_join() {
    let (to, from) = asynchronous::<u8>().unwrap();
    let (_, outcome) = run(|p| {
        let (mut to, mut from) = (to.inside(p), from.inside(p));
        p.fibre().waker().spawn(async move { assert_eq!(join!(from.read(), to.write(7)).0, 7) }).unwrap();
    })
    .unwrap();
    assert_counts(outcome, 1, 0);
}

#[test]
fn an_end_that_is_kept_somewhere_counts_as_one_that_can_come() {
    let (to, from) = asynchronous::<u8>().unwrap();
    static KEPT: std::sync::Mutex<Option<OutsideWriter<u8>>> = std::sync::Mutex::new(None);
    *KEPT.lock().unwrap() = Some(to);
    let (_, outcome) = run(|p| {
        let (handle, mut from) = (p.stop_handle().unwrap(), from.inside(p));
        p.fibre().waker().spawn(async move { _ = from.read().await }).unwrap();
        p.spawn(async move {
            yield_now().await;
            handle.stop();
        })
        .unwrap();
    })
    .unwrap();
    assert_eq!((outcome.finished, outcome.stopped), (1, 1));
    // It outlives all processes, and is told.
    let mut to = KEPT.lock().unwrap().take().unwrap();
    assert_eq!(to.write_blocking(1), Err(Unsent(1)));
}

#[test]
fn tasks_of_other_executors() {
    let (mut questions, asked) = asynchronous::<u64>().unwrap();
    let (back, mut answers) = asynchronous::<u64>().unwrap();
    let asks = async move {
        for n in 0..500 {
            questions.write(n).await.unwrap();
        }
    };
    let task = thread::spawn(|| block_on(asks));
    let process = thread::spawn(move || {
        let (_, outcome) = run(|p| {
            let (mut asked, mut back) = (asked.inside(p), back.inside(p));
            let square = async move {
                loop {
                    let n = asked.read().await;
                    back.write(n * n).await;
                }
            };
            p.fibre().waker().spawn(square).unwrap();
        })
        .unwrap();
        outcome
    });
    let mut local = LocalPool::new();
    let sum = local.spawner().spawn_local_with_handle(async move {
        let mut sum = 0;
        while let Ok(n) = answers.read().await {
            sum += n;
        }
        sum
    });
    assert_eq!(local.run_until(sum.unwrap()), (0..500).map(|n| n * n).sum());
    assert_counts(process.join().unwrap(), 0, 1);
    task.join().unwrap();
}

#[test]
fn a_stream_and_a_sink() {
    let (mut to, from) = asynchronous::<u64>().unwrap();
    let writes = async move {
        to.send_all(&mut futures::stream::iter((0..100).map(Ok))).await.unwrap();
        to.feed(100).await.unwrap();
        to.close().await.unwrap();
    };
    let (_, all) = block_on(async { join!(writes, from.map(|n| n + 1).collect::<Vec<_>>()) });
    assert!(all.into_iter().eq(1..=101));

    let (mut to, from) = asynchronous::<u64>().unwrap();
    drop(from);
    assert_eq!(block_on(to.send(7)), Err(Unsent(7)));
}

#[test]
fn a_read_that_lost_a_race_loses_nothing() {
    let ((to1, from1), (to2, from2)) = (asynchronous::<u64>().unwrap(), asynchronous::<u64>().unwrap());
    let sum = AtomicUsize::new(0);
    thread::scope(|scope| {
        for to in [to1, to2] {
            scope.spawn(move || {
                let mut to = to;
                (1..=2000).for_each(|n| to.write_blocking(n).unwrap());
            });
        }
        let (_, outcome) = run(|p| {
            let (sum, mut from1, mut from2) = (&sum, from1.inside(p), from2.inside(p));
            let both = async move {
                for _ in 0..4000 {
                    let n = select_biased! { n = from1.read().fuse() => n, n = from2.read().fuse() => n };
                    sum.fetch_add(n as usize, Ordering::Relaxed);
                }
            };
            p.fibre().waker().spawn(both).unwrap();
        })
        .unwrap();
        assert_counts(outcome, 1, 0);
    });
    assert_eq!(sum.into_inner(), 2000 * 2001);
}

/// A partner that is always ready does not keep the others of its process from their turns.
#[test]
fn a_fibre_with_a_ready_partner_gives_way() {
    for is_shared in [false, true] {
        let (to, mut from) = asynchronous::<u8>().unwrap();
        // Enough writers that wait: the fibre could read for long without waiting.
        let mut writers: Vec<_> = (0..1000).map(|_| to.dup().unwrap()).collect();
        for writer in &mut writers {
            writer.begin_write(1);
            assert!(writer.poll_write(&mut std::task::Context::from_waker(Waker::noop())).is_pending());
        }
        drop(to);
        let (turns, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let bystander = async {
            for _ in 0..100 {
                turns.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        };
        let reader = async {
            let (mut last, mut streak) = (turns.load(Ordering::Relaxed), 0);
            for _ in 0..1000 {
                assert_eq!(from.read().await, Ok(1));
                let now = turns.load(Ordering::Relaxed);
                streak = if now == last { streak + 1 } else { 0 };
                last = now;
                if now < 5 {
                    most.fetch_max(streak, Ordering::Relaxed);
                }
            }
        };
        if is_shared {
            Shared::new()
                .workers(1)
                .run(|p| {
                    p.fibre().waker().spawn(reader).unwrap();
                    p.spawn(bystander).unwrap();
                })
                .unwrap();
        } else {
            run(|p| {
                p.fibre().waker().spawn(reader).unwrap();
                p.spawn(bystander).unwrap();
            })
            .unwrap();
        }
        let most = most.into_inner();
        assert!((1..=200).contains(&most), "{most} reads in one turn");
        drop(writers);
    }
}

#[test]
fn a_fibre_without_a_wake_cell_is_told_what_it_needs() {
    for is_shared in [false, true] {
        let (mut to, mut from) = asynchronous::<u8>().unwrap();
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let fibre = async move { _ = from.read().await };
            if is_shared {
                Shared::new().workers(1).run(|p| p.spawn(fibre).unwrap()).map(|_| ()).unwrap();
            } else {
                run(|p| p.spawn(fibre).unwrap()).map(|_| ()).unwrap();
            }
        }));
        let text = *panic.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains("it has no wake cell; spawn it with `p.fibre().waker().spawn(..)`"), "{text}");
        assert_eq!(to.write_blocking(1), Err(Unsent(1)));
    }
}

/// It need not wait, so it needs no wake cell.
#[test]
fn without_a_wake_cell_a_fibre_may_try() {
    let (to, from) = asynchronous::<u8>().unwrap();
    let (_, outcome) = run(|p| {
        let (mut to, mut from) = (to.inside(p), from.inside(p));
        p.fibre().waker().spawn(async move { assert_eq!(from.read().await, 7) }).unwrap();
        p.spawn(async move {
            assert_eq!(to.try_write(7), Ok(()));
            assert_eq!(to.try_write(8), Err(8));
        })
        .unwrap();
    })
    .unwrap();
    assert_counts(outcome, 2, 0);
}

/// Ends and pending operations are dropped on several threads at once, while fibres and threads use the others.
#[test]
fn ends_are_dropped_while_others_are_used() {
    for round in 0..20_u64 {
        let memory = SharedMemory::new().unwrap();
        let (to, from) = asynchronous_in::<u64, _>(memory.clone()).unwrap();
        let given = AtomicUsize::new(0);
        let taken = AtomicUsize::new(0);
        thread::scope(|scope| {
            for nth in 0..2 {
                let (mut to, given) = (to.dup().unwrap(), &given);
                scope.spawn(move || {
                    for n in 0..round % 17 * 3 + nth {
                        if n % 5 == 4 {
                            let other = to.dup().unwrap();
                            drop(std::mem::replace(&mut to, other));
                        }
                        if to.write_timeout(n, std::time::Duration::from_micros(50)).is_ok() {
                            given.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            drop(to);
            let taken = &taken;
            async fn take(mut from: From<'_, u64>, taken: &AtomicUsize) {
                for n in 0.. {
                    if n % 7 == 6 {
                        let other = from.dup().unwrap();
                        drop(std::mem::replace(&mut from, other));
                    }
                    from.read().await;
                    taken.fetch_add(1, Ordering::Relaxed);
                }
            }
            Shared::new()
                .workers(2)
                .run(|p| {
                    p.fibre().waker().spawn(take(from.dup().unwrap().inside(p), taken)).unwrap();
                    p.fibre().waker().spawn(take(from.inside(p), taken)).unwrap();
                })
                .unwrap();
        });
        assert_eq!(given.into_inner(), taken.into_inner());
        assert_eq!(memory.classes().map(|class| class.live).sum::<usize>(), 0);
    }
}

/// Wakers of fibres that were kept after all else had gone do nothing.
#[test]
fn a_process_that_is_stopped_leaves_its_channels_usable() {
    let (mut to, from) = asynchronous::<u8>().unwrap();
    let kept = Cell::new(Some(from));
    let (_, outcome) = run(|p| {
        let (kept, handle) = (&kept, p.stop_handle().unwrap());
        let fibre = async move {
            let mut from = kept.take().unwrap();
            {
                let mut read = std::pin::pin!(from.read());
                poll_fn(|cx| {
                    assert!(read.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
            }
            kept.set(Some(from));
            handle.stop();
            std::future::pending::<()>().await;
        };
        p.fibre().waker().spawn(fibre).unwrap();
    })
    .unwrap();
    assert_eq!(outcome.finished + outcome.collapsed + outcome.stopped, 1);
    assert_eq!(to.try_write(1), Err(TryWriteError::NobodyWaits(1)));
    let mut from = kept.take().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| to.write_blocking(2).unwrap());
        assert_eq!(from.read_blocking(), Ok(2));
    });
}
