//! The bodies of the rows that `versus` does not have, as macros: each contender expands them against its own types.
//!
//! Besides what `workloads.rs` asks for, a contender's module has in scope:
//!
//! * `run`, which starts as many workers as [`super::number`] says; the closure is called on one of them, if it can be;
//! * `share(Reader) -> [SharedReader; CONSUMERS]`, as many readers of one channel; a third macro, passed in by name, reads
//!   from one.
//!
//! Whatever a fibre owns here is `Send`.

/// Pairs, spawning, and the rows about an uneven load.
macro_rules! worker_bodies {
    ($write:ident, $read:ident, $read_shared:ident) => {
        pub(super) fn pairs(n: u64) -> u64 {
            use $crate::workers::PAIRS;
            run(move |p, answer| {
                let (to_sum, mut sums) = channel(p);
                for _ in 0..PAIRS {
                    let (mut w, mut r) = channel(p);
                    let mut to_sum = duplicate(&to_sum);
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
                        $write!(to_sum, sum);
                    });
                }
                drop(to_sum);
                spawn(p, async move {
                    let mut sum = 0;
                    for _ in 0..PAIRS {
                        sum += $read!(sums);
                    }
                    let _ = answer.send(sum);
                });
            })
        }

        pub(super) fn spawn_batches(n: u64) -> u64 {
            use $crate::workers::Tally;
            use $crate::workload::BATCH;
            use $crate::workloads::yield_now;
            let _tally = Tally::take();
            run(move |p, answer| {
                spawn(p, async move {
                    let before = Tally::ran();
                    for batch in 1..=n {
                        for _ in 0..BATCH {
                            spawn(p, async { Tally::child_ran() });
                        }
                        while Tally::ran() - before < batch * BATCH {
                            yield_now().await;
                        }
                    }
                    let _ = answer.send(Tally::ran() - before);
                });
            })
        }

        pub(super) fn spawn_all(n: u64) -> u64 {
            use $crate::workers::{Countdown, Tally};
            let _tally = Tally::take();
            run(move |p, answer| {
                spawn(p, async move {
                    let countdown = Countdown::begin(n, answer);
                    for i in 0..n {
                        let group = countdown.group(i);
                        spawn(p, async move { Countdown::child_ran(group) });
                    }
                });
            })
        }

        pub(super) fn stages(n: u64) -> u64 {
            use $crate::workers::{STAGE, compute};
            run(move |p, answer| {
                let (mut w, mut r) = channel(p);
                spawn(p, async move {
                    for i in 0..n {
                        let value = compute(i, STAGE);
                        $write!(w, value);
                    }
                });
                spawn(p, async move {
                    let mut sum = 0;
                    for _ in 0..n {
                        sum += compute($read!(r), STAGE);
                    }
                    let _ = answer.send(sum);
                });
            })
        }

        /// Answers with nanoseconds from when the others are ready until the last of them has run, all `n` times together.
        pub(super) fn hog(n: u64) -> u64 {
            use $crate::workers::{Burst, HOG, OTHERS, Tally, compute};
            use $crate::workloads::yield_now;
            let _tally = Tally::take();
            run(move |p, answer| {
                spawn(p, async move {
                    let mut total = 0;
                    for i in 0..n {
                        let burst = Burst::begin();
                        let start = burst.start();
                        for _ in 0..OTHERS {
                            spawn(p, async move { Burst::child_ran(start) });
                        }
                        compute(i, HOG);
                        total += loop {
                            match burst.took(OTHERS) {
                                Some(took) => break took,
                                None => yield_now().await,
                            }
                        };
                    }
                    let _ = answer.send(total);
                });
            })
        }

        pub(super) fn fan_out(n: u64) -> u64 {
            use $crate::workers::{CONSUMER, CONSUMERS, compute};
            const NO_MORE: u64 = u64::MAX;
            run(move |p, answer| {
                let (mut w, r) = channel(p);
                let (to_sum, mut sums) = channel(p);
                spawn(p, async move {
                    for i in 0..n {
                        $write!(w, i);
                    }
                    for _ in 0..CONSUMERS {
                        $write!(w, NO_MORE);
                    }
                });
                for mut r in share(r) {
                    let mut to_sum = duplicate(&to_sum);
                    spawn(p, async move {
                        let mut sum = 0;
                        loop {
                            let value = $read_shared!(r);
                            if value == NO_MORE {
                                break;
                            }
                            sum += compute(value, CONSUMER);
                        }
                        $write!(to_sum, sum);
                    });
                }
                drop(to_sum);
                spawn(p, async move {
                    let mut sum = 0;
                    for _ in 0..CONSUMERS {
                        sum += $read!(sums);
                    }
                    let _ = answer.send(sum);
                });
            })
        }
    };
}

/// A value that goes from a fibre to a plain thread and back, one larger. `$write_blocking!` and `$read_blocking!` are what
/// the thread does with an end.
macro_rules! round_trip {
    ($write:ident, $read:ident, $write_blocking:ident, $read_blocking:ident) => {
        pub(super) fn round_trip(n: u64) -> u64 {
            run(move |p, answer| {
                let (mut to_thread, mut from_fibre) = channel(p);
                let (mut to_fibre, mut from_thread) = channel(p);
                std::thread::spawn(move || {
                    for _ in 0..n {
                        let value: u64 = $read_blocking!(from_fibre);
                        $write_blocking!(to_fibre, value + 1);
                    }
                });
                spawn(p, async move {
                    let mut value = 0;
                    for _ in 0..n {
                        $write!(to_thread, value);
                        value = $read!(from_thread);
                    }
                    let _ = answer.send(value);
                });
            })
        }
    };
}

/// Fibres that wait for somebody outside, who comes after a while. `$spawn` spawns a fibre that may be woken from outside by
/// its waker. Answers with how many were woken.
macro_rules! outside {
    ($write:ident, $read:ident, $spawn:ident) => {
        pub(super) fn outside(fibres: u64, wait: std::time::Duration) -> u64 {
            use tokio::sync::oneshot;
            run(move |p, answer| {
                let (to_sum, mut woken) = channel(p);
                let mut events = Vec::new();
                for _ in 0..fibres {
                    let (event, happened) = oneshot::channel::<u64>();
                    let mut to_sum = duplicate(&to_sum);
                    $spawn(p, async move {
                        let one = happened.await.expect("somebody comes");
                        $write!(to_sum, one);
                    });
                    events.push(event);
                }
                drop(to_sum);
                spawn(p, async move {
                    let mut sum = 0;
                    for _ in 0..fibres {
                        sum += $read!(woken);
                    }
                    let _ = answer.send(sum);
                });
                std::thread::spawn(move || {
                    std::thread::sleep(wait);
                    for event in events {
                        let _ = event.send(1);
                    }
                });
            })
        }
    };
}

pub(crate) use {outside, round_trip, worker_bodies};
