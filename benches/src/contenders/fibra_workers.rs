//! fibra: a shared process over size classes with a cache for each worker, with concurrent channels.

use std::cell::RefCell;
use std::future::Future;
use std::mem::MaybeUninit;

use fibra_allocators::{Borrowed, Cached, MemReq, SizeClasses, SpinLock, Table, table};
use fibra_std::{Concurrent, PerThread, ReadBlocking, Shared, WriteBlocking, asynchronous};
use tokio::sync::oneshot;

use crate::workers::{self, CONSUMERS, outside, worker_bodies};
use crate::workloads::{Answer, communications, skynet_one_channel};

/// In whole cache lines: what two workers use at the same time should not be in the same one.
const SIZES: Table<6> = {
    // Not a round number, as with one thread.
    const MANY: usize = 1_200_013;
    table([
        MemReq::new(64, MANY),
        MemReq::new(128, MANY),
        MemReq::new(192, MANY),
        MemReq::new(256, MANY),
        MemReq::new(512, 1000),
        MemReq::new(4096, 10),
    ])
};

thread_local! {
    /// The arena stays for the next run, as static memory would; its size classes are made anew for each.
    static ARENA: RefCell<Box<[MaybeUninit<u8>]>> = RefCell::new(Box::new_uninit_slice(SIZES.arena_size()));
}

type Classes<'a> = Cached<6, 8, Borrowed<'a>, PerThread>;
type Process<'p, 'a> = &'p fibra_core::Process<'p, 'a, &'a Classes<'a>, Concurrent>;
type Writer<'p> = fibra_core::Writer<'p, u64, Concurrent>;
type Reader<'p> = fibra_core::Reader<'p, u64, Concurrent>;

fn run(set_up: impl for<'p, 'a> FnOnce(Process<'p, 'a>, Answer)) -> u64 {
    ARENA.with_borrow_mut(|arena| {
        let classes = SizeClasses::with_form::<SpinLock>(&SIZES, arena).expect("an arena's size always does");
        let classes = Classes::new(classes, 256);
        let (answer, mut result) = oneshot::channel();
        let ended = Shared::with_allocator(&classes).workers(workers::number()).run(|p| set_up(p, answer));
        assert!(ended.is_ok_and(|(_, outcome)| outcome.deadlocked == 0), "the network ended badly");
        result.try_recv().expect("the network ended without an answer")
    })
}

#[inline]
fn spawn<'p>(p: Process<'p, '_>, future: impl Future<Output = ()> + Send + 'p) {
    if p.spawn(future).is_err() {
        panic!("the arena has too few blocks");
    }
}

/// Spawns a fibre that is woken from outside.
fn spawn_with_waker<'p>(p: Process<'p, '_>, future: impl Future<Output = ()> + Send + 'p) {
    if p.fibre().waker().spawn(future).is_err() {
        panic!("the arena has too few blocks, or the host no memory for a wake cell");
    }
}

#[inline]
fn channel<'p>(p: Process<'p, '_>) -> (Writer<'p>, Reader<'p>) {
    p.channel().expect("the arena has enough blocks")
}

#[inline]
fn duplicate<'p>(writer: &Writer<'p>) -> Writer<'p> {
    writer.dup().expect("the arena has enough blocks")
}

fn share(reader: Reader<'_>) -> [Reader<'_>; CONSUMERS] {
    std::array::from_fn(|_| reader.dup().expect("the arena has enough blocks"))
}

macro_rules! write_to {
    ($writer:ident, $value:expr) => {
        $writer.write($value).await
    };
}
macro_rules! read_from {
    ($reader:ident) => {
        $reader.read().await
    };
}

communications!(write_to, read_from);
skynet_one_channel!(write_to, read_from, ['p, 'a] Process<'p, 'a>, Writer<'p>, Send);
worker_bodies!(write_to, read_from, read_from);
outside!(write_to, read_from, spawn_with_waker);

pub(super) fn round_trip(n: u64) -> u64 {
    run(move |p, answer| {
        let (to_thread, mut from_fibre) = asynchronous::<u64>().expect("memory for a channel");
        let (mut to_fibre, from_thread) = asynchronous::<u64>().expect("memory for a channel");
        std::thread::spawn(move || {
            for _ in 0..n {
                let value = from_fibre.read_blocking().expect("the fibre is there");
                to_fibre.write_blocking(value + 1).expect("the fibre is there");
            }
        });
        let (mut to_thread, mut from_thread) = (to_thread.inside(p), from_thread.inside(p));
        spawn_with_waker(p, async move {
            let mut value = 0;
            for _ in 0..n {
                to_thread.write(value).await;
                value = from_thread.read().await;
            }
            let _ = answer.send(value);
        });
    })
}
