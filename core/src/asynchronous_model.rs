//! Models of asynchronous channels: ends that are used and dropped at once, by threads and by fibres.

use std::sync::Arc;

use core::cell::Cell;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use loom::thread;

use crate::asynchronous::asynchronous;
use crate::modelled::{Memory, Sleeper, Threads, Value, block_on, hub, model};
use crate::outcome::Outcome;
use crate::outside::{Ended, OutsideReader, OutsideWriter, Unsent};
use crate::run::Setup;

type To = OutsideWriter<Value, Threads>;
type From = OutsideReader<Value, Threads>;

fn channel(memory: &'static Memory) -> (To, From) {
    let (to, from) = asynchronous(memory).unwrap();
    (to, from)
}

/// Checks that the channel is given back, once, when all its ends are gone.
fn with_channel(interruptions: usize, f: impl Fn(To, From) + Send + Sync + 'static) {
    model(interruptions, move || {
        let memory = Memory::new();
        let (to, from) = channel(memory);
        f(to, from);
        memory.check();
    });
}

#[test]
fn all_ends_are_dropped_at_once() {
    with_channel(4, |to, from| {
        let twin = to.dup().unwrap();
        let threads = [thread::spawn(move || drop(to)), thread::spawn(move || drop(twin))];
        drop(from);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_value_arrives() {
    with_channel(4, |mut to, mut from| {
        let thread = thread::spawn(move || assert!(block_on(to.write(Value::new(7))).is_ok()));
        assert_eq!(block_on(from.read()).ok().unwrap().get(), 7);
        thread.join().unwrap();
    });
}

#[test]
fn two_writers_and_a_reader() {
    with_channel(2, |to, mut from| {
        let twin = to.dup().unwrap();
        let write = |mut to: To| thread::spawn(move || assert!(block_on(to.write(Value::new(7))).is_ok()));
        let threads = [write(to), write(twin)];
        for _ in 0..2 {
            assert_eq!(block_on(from.read()).ok().unwrap().get(), 7);
        }
        assert!(matches!(block_on(from.read()), Err(Ended)));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_reader_is_told_that_the_last_writer_has_gone() {
    with_channel(4, |to, mut from| {
        let thread = thread::spawn(move || drop(to));
        assert!(matches!(block_on(from.read()), Err(Ended)));
        thread.join().unwrap();
    });
}

#[test]
fn a_writer_is_told_that_the_last_reader_has_gone_and_gets_its_value_back() {
    with_channel(4, |mut to, from| {
        let thread = thread::spawn(move || drop(from));
        let Err(Unsent(value)) = block_on(to.write(Value::new(7))) else { panic!("nobody has read it") };
        assert_eq!(value.get(), 7);
        thread.join().unwrap();
    });
}

#[test]
fn two_who_wait_are_both_told() {
    with_channel(2, |to, mut from| {
        let mut twin = from.dup().unwrap();
        let threads = [
            thread::spawn(move || drop(to)),
            thread::spawn(move || assert!(matches!(block_on(twin.read()), Err(Ended)))),
        ];
        assert!(matches!(block_on(from.read()), Err(Ended)));
        drop(from);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn one_who_waits_leaves_while_the_others_are_told() {
    with_channel(2, |to, mut from| {
        let mut twin = from.dup().unwrap();
        // Both wait.
        let sleeper = Arc::new(Sleeper::new());
        let waker = sleeper.clone().into();
        let mut cx = Context::from_waker(&waker);
        assert!(twin.poll_read(&mut cx).is_pending());
        assert!(from.poll_read(&mut cx).is_pending());
        let threads = [thread::spawn(move || drop(to)), thread::spawn(move || drop(twin))];
        assert!(matches!(block_on(from.read()), Err(Ended)));
        drop(from);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_write_that_is_taken_back_was_delivered_or_not() {
    with_channel(4, |mut to, mut from| {
        let thread = thread::spawn(move || {
            let waker = Arc::new(Sleeper::new()).into();
            let mut write = to.write(Value::new(7));
            let is_written = Pin::new(&mut write).poll(&mut Context::from_waker(&waker)).is_ready();
            write.cancel().map_or(1, |value| {
                assert!(!is_written && value.get() == 7);
                0
            })
        });
        let read = from.try_read().map_or(0, |value| {
            assert_eq!(value.get(), 7);
            1
        });
        assert_eq!(thread.join().unwrap(), read);
    });
}

#[test]
fn a_read_that_is_taken_back_loses_nothing() {
    with_channel(4, |mut to, mut from| {
        let thread = thread::spawn(move || usize::from(to.try_write(Value::new(7)).is_ok()));
        let waker = Arc::new(Sleeper::new()).into();
        let poll = from.poll_read(&mut Context::from_waker(&waker));
        let is_read = matches!(poll, Poll::Ready(Ok(value)) if value.get() == 7);
        from.cancel_read();
        let read = usize::from(is_read) + from.try_read().map_or(0, |value| if value.get() == 7 { 1 } else { 9 });
        assert_eq!(thread.join().unwrap(), read);
    });
}

#[test]
fn a_wait_ends_while_it_is_polled_again() {
    with_channel(4, |mut to, mut from| {
        let waker = Arc::new(Sleeper::new()).into();
        let mut cx = Context::from_waker(&waker);
        assert!(from.poll_read(&mut cx).is_pending());
        let thread = thread::spawn(move || assert!(to.try_write(Value::new(7)).is_ok()));
        let early = matches!(from.poll_read(&mut cx), Poll::Ready(Ok(value)) if value.get() == 7);
        thread.join().unwrap();
        assert!(early || from.try_read().is_ok_and(|value| value.get() == 7), "the value was lost");
    });
}

#[test]
fn a_fibre_reads_from_a_thread_and_collapses() {
    model(2, || {
        let (memory, hub) = (Memory::new(), hub::<1>());
        let (mut to, from) = channel(memory);
        let sum = Cell::new(0);
        let thread = thread::spawn(move || assert!(block_on(to.write(Value::new(7))).is_ok()));
        let result = Setup::new(memory).hub(hub).run(|p| {
            let sum = &sum;
            let mut from = from.inside(p);
            let read = async move {
                loop {
                    sum.set(sum.get() + from.read().await.get());
                }
            };
            p.fibre().waker().spawn(read).unwrap();
        });
        thread.join().unwrap();
        assert_eq!((sum.get(), result.unwrap().1), (7, Outcome { collapsed: 1, ..Outcome::default() }));
        memory.check();
    });
}
