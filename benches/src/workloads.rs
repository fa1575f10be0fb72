//! The bodies of the workloads, as macros: each contender expands them against its own types.
//!
//! A contender's module has in scope:
//!
//! * `Process`, a `Copy` handle; `Writer` and `Reader` of `u64`;
//! * `run(|process, answer| ...) -> u64`: lets the closure set the network up, runs it, returns what was given to
//!   `answer.send`;
//! * `spawn(process, future)`, `channel(process) -> (Writer, Reader)`, and `duplicate(&Writer) -> Writer` for
//!   [`skynet_one_channel`];
//! * two macros, passed in by name: `$write!(writer, value)` and `$read!(reader)`, each with its `await` inside. They are
//!   macros and not functions so that no future is wrapped in another.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::workload::BATCH;

/// Where a network leaves its answer. Of the contenders' crates this is the one-shot that works with any executor; it
/// is used once a run.
pub(crate) type Answer = tokio::sync::oneshot::Sender<u64>;

thread_local! {
    /// Children that have run in the present batch.
    static RAN: Cell<u64> = const { Cell::new(0) };
}

/// What an empty fibre does.
#[inline]
pub(crate) fn child_ran() {
    RAN.set(RAN.get() + 1);
}

/// Children that have run since [`forget_children`].
#[inline]
pub(crate) fn children_ran() -> u64 {
    RAN.get()
}

/// Starts the count of children again.
#[inline]
pub(crate) fn forget_children() {
    RAN.set(0);
}

/// The spawning fibre of the workload `spawn`: `n` times, has [`BATCH`] children made and lets them all run.
pub(crate) async fn batches(n: u64, mut spawn_child: impl FnMut()) -> u64 {
    let mut total = 0;
    for _ in 0..n {
        forget_children();
        for _ in 0..BATCH {
            spawn_child();
        }
        while children_ran() < BATCH {
            yield_now().await;
        }
        total += children_ran();
    }
    total
}

/// Lets the other ready fibres run first; it needs nothing but a waker.
#[inline]
pub(crate) fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// See [`yield_now`].
pub(crate) struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// One-to-one, pipeline, commstime, ring and bytes.
macro_rules! communications {
    ($write:ident, $read:ident) => {
        pub(super) fn one_to_one(n: u64) -> u64 {
            run(move |p, answer| {
                let (mut w, mut r) = channel(p);
                spawn(p, async move {
                    for i in 0..n {
                        $write!(w, i);
                    }
                });
                spawn(p, async move {
                    let mut sum = 0;
                    for _ in 0..n {
                        sum += $read!(r);
                    }
                    let _ = answer.send(sum);
                });
            })
        }

        pub(super) fn pipeline(n: u64) -> u64 {
            run(move |p, answer| {
                let (mut w, mut last) = channel(p);
                spawn(p, async move {
                    for i in 0..n {
                        $write!(w, i);
                    }
                });
                for _ in 0..$crate::workload::STAGES {
                    let (mut w, next) = channel(p);
                    let mut r = last;
                    spawn(p, async move {
                        for _ in 0..n {
                            let value = $read!(r);
                            $write!(w, value);
                        }
                    });
                    last = next;
                }
                spawn(p, async move {
                    let mut sum = 0;
                    for _ in 0..n {
                        sum += $read!(last);
                    }
                    let _ = answer.send(sum);
                });
            })
        }

        /// Prefix sends 0, then copies; delta sends to the successor, then to the consumer.
        pub(super) fn commstime(n: u64) -> u64 {
            run(move |p, answer| {
                let (mut to_delta, mut from_prefix) = channel(p);
                let (mut to_successor, mut successor_in) = channel(p);
                let (mut to_prefix, mut prefix_in) = channel(p);
                let (mut to_consumer, mut consumer_in) = channel(p);
                spawn(p, async move {
                    $write!(to_delta, 0);
                    for _ in 1..n {
                        let value = $read!(prefix_in);
                        $write!(to_delta, value);
                    }
                    let _ = $read!(prefix_in);
                });
                spawn(p, async move {
                    for _ in 0..n {
                        let value = $read!(from_prefix);
                        $write!(to_successor, value);
                        $write!(to_consumer, value);
                    }
                });
                spawn(p, async move {
                    for _ in 0..n {
                        let value = $read!(successor_in);
                        $write!(to_prefix, value + 1);
                    }
                });
                spawn(p, async move {
                    let mut sum = 0;
                    for _ in 0..n {
                        sum += $read!(consumer_in);
                    }
                    let _ = answer.send(sum);
                });
            })
        }

        /// The token counts its hops; the fibre that made it counts the laps.
        pub(super) fn ring(laps: u64) -> u64 {
            run(move |p, answer| {
                let (mut first, mut last) = channel(p);
                for _ in 1..$crate::workload::RING {
                    let (mut w, next) = channel(p);
                    let mut r = last;
                    spawn(p, async move {
                        for _ in 0..laps {
                            let hops = $read!(r);
                            $write!(w, hops + 1);
                        }
                    });
                    last = next;
                }
                spawn(p, async move {
                    let mut hops = 0;
                    for _ in 0..laps {
                        $write!(first, hops);
                        hops = $read!(last) + 1;
                    }
                    let _ = answer.send(hops);
                });
            })
        }

        /// Answers with the bytes that became resident while `n` fibres were spawned and parked.
        pub(super) fn bytes(n: u64) -> u64 {
            use $crate::measure::resident_bytes;
            use $crate::workloads::{child_ran, children_ran, forget_children, yield_now};
            run(move |p, answer| {
                spawn(p, async move {
                    // Filled, so that its pages are resident before the count begins.
                    let mut writers: Vec<Option<Writer>> = (0..n).map(|_| None).collect();
                    forget_children();
                    let before = resident_bytes();
                    for (i, place) in (1..).zip(writers.iter_mut()) {
                        let (w, mut r) = channel(p);
                        spawn(p, async move {
                            child_ran();
                            std::hint::black_box($read!(r));
                        });
                        *place = Some(w);
                        // Now and then, so that the ready queue stays short.
                        if i % 128 == 0 || i == n {
                            while children_ran() < i {
                                yield_now().await;
                            }
                        }
                    }
                    let _ = answer.send(resident_bytes().saturating_sub(before));
                    // Keeps the writers until the run is over.
                    std::future::pending::<()>().await;
                    drop(writers);
                });
            })
        }
    };
}

/// Skynet where ten children share their parent's channel. `$life` are the lifetimes of `Process` and `Writer`, if they
/// have some, and `$process` and `$writer` their names with these; `$bound` is what `spawn` asks of a future besides.
macro_rules! skynet_one_channel {
    ($write:ident, $read:ident, [$($life:lifetime),*] $process:ty, $writer:ty $(, $bound:ident)?) => {
        fn skynet_node<$($life),*>(
            p: $process,
            mut parent: $writer,
            number: u64,
            leaves: u64,
        ) -> impl Future<Output = ()> $(+ $bound)? {
            async move {
                if leaves == 1 {
                    $write!(parent, number);
                    return;
                }
                let (w, mut r) = channel(p);
                let share = leaves / 10;
                for i in 0..10 {
                    spawn(p, skynet_node(p, duplicate(&w), number + i * share, share));
                }
                drop(w);
                let mut sum = 0;
                for _ in 0..10 {
                    sum += $read!(r);
                }
                $write!(parent, sum);
            }
        }

        $crate::workloads::skynet_root!($read);
    };
}

/// Skynet where each child has a channel of its own.
macro_rules! skynet_ten_channels {
    ($write:ident, $read:ident) => {
        fn skynet_node(p: Process, mut parent: Writer, number: u64, leaves: u64) -> impl Future<Output = ()> {
            async move {
                if leaves == 1 {
                    $write!(parent, number);
                    return;
                }
                let share = leaves / 10;
                let mut children: [Reader; 10] = std::array::from_fn(|i| {
                    let (w, r) = channel(p);
                    spawn(p, skynet_node(p, w, number + i as u64 * share, share));
                    r
                });
                let mut sum = 0;
                for r in &mut children {
                    sum += $read!(r);
                }
                $write!(parent, sum);
            }
        }

        $crate::workloads::skynet_root!($read);
    };
}

macro_rules! skynet_root {
    ($read:ident) => {
        /// `leaves` is a power of ten.
        pub(super) fn skynet(leaves: u64) -> u64 {
            run(move |p, answer| {
                let (w, mut r) = channel(p);
                spawn(p, skynet_node(p, w, 0, leaves));
                spawn(p, async move {
                    let _ = answer.send($read!(r));
                });
            })
        }
    };
}

pub(crate) use {communications, skynet_one_channel, skynet_root, skynet_ten_channels};
