//! fibra: a single-threaded process over size classes, with sequential channels.

use std::cell::RefCell;
use std::future::Future;
use std::mem::MaybeUninit;

use fibra_allocators::{Borrowed, MemReq, SizeClasses, Table, table};
use fibra_core::Setup;
use tokio::sync::oneshot;

use crate::workloads::{Answer, batches, child_ran, communications, skynet_one_channel};

/// As many of each as there are fibres in the largest network, for all sizes that its fibres, channels and endpoints might
/// have: what is not needed costs address space only. Then a few for what is larger.
pub(super) const SIZES: Table<14> = {
    // Not a round number: then classes would begin at the same place of a page, and fibres and channels at addresses with
    // the same low 12 bits, which the processor takes for one another. That costs up to a fifth in commstime.
    const MANY: usize = 1_200_013;
    table([
        MemReq::new(48, MANY),
        MemReq::new(64, MANY),
        MemReq::new(80, MANY),
        MemReq::new(96, MANY),
        MemReq::new(112, MANY),
        MemReq::new(128, MANY),
        MemReq::new(144, MANY),
        MemReq::new(160, MANY),
        MemReq::new(176, MANY),
        MemReq::new(192, MANY),
        MemReq::new(224, MANY),
        MemReq::new(256, MANY),
        MemReq::new(512, 1000),
        MemReq::new(4096, 10),
    ])
};

thread_local! {
    /// The arena stays for the next run, as static memory would; its size classes are made anew for each.
    static ARENA: RefCell<Box<[MaybeUninit<u8>]>> = RefCell::new(Box::new_uninit_slice(SIZES.arena_size()));
}

pub(super) type Classes<'a> = SizeClasses<14, Borrowed<'a>>;
pub(super) type Process<'p, 'a> = &'p fibra_core::Process<'p, 'a, &'a Classes<'a>>;
pub(super) type Writer<'p> = fibra_core::Writer<'p, u64>;
pub(super) type Reader<'p> = fibra_core::Reader<'p, u64>;

pub(super) fn run(set_up: impl for<'p, 'a> FnOnce(Process<'p, 'a>, Answer)) -> u64 {
    ARENA.with_borrow_mut(|arena| {
        let classes = SizeClasses::new(&SIZES, arena).expect("an arena's size always does");
        let (answer, mut result) = oneshot::channel();
        let ended = Setup::new(&classes).run(|p| set_up(p, answer));
        assert!(ended.is_ok_and(|(_, outcome)| outcome.deadlocked == 0), "the network ended badly");
        result.try_recv().expect("the network ended without an answer")
    })
}

#[inline]
pub(super) fn spawn<'p>(p: Process<'p, '_>, future: impl Future<Output = ()> + 'p) {
    if p.spawn(future).is_err() {
        panic!("the arena has too few blocks");
    }
}

#[inline]
pub(super) fn channel<'p>(p: Process<'p, '_>) -> (Writer<'p>, Reader<'p>) {
    p.channel().expect("the arena has enough blocks")
}

#[inline]
pub(super) fn duplicate<'p>(writer: &Writer<'p>) -> Writer<'p> {
    writer.dup().expect("the arena has enough blocks")
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
skynet_one_channel!(write_to, read_from, ['p, 'a] Process<'p, 'a>, Writer<'p>);

pub(super) fn spawn_batches(n: u64) -> u64 {
    run(move |p, answer| {
        spawn(p, async move {
            let ran = batches(n, || spawn(p, async { child_ran() })).await;
            let _ = answer.send(ran);
        });
    })
}
