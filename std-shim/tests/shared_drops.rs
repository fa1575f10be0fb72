//! Many fibres that come and go, and ends that go at the same time, on several workers: nothing stays behind.
//!
//! `FIBRA_SPAWNS` and `FIBRA_DROPS` say how many.

mod common;

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::{Checked, Random, counts, number};
use fibra_std::{Shared, SharedMemory, yield_now};

/// Where several fibres, each on a worker of its own, wait for one another within a turn.
#[derive(Default)]
struct Meeting(AtomicUsize);

impl Meeting {
    fn wait(&self, parties: usize) {
        let nth = self.0.fetch_add(1, Ordering::AcqRel);
        let all = (nth / parties + 1) * parties;
        for tries in 0_u32.. {
            if self.0.load(Ordering::Acquire) >= all {
                return;
            }
            if tries % 256 == 255 { thread::yield_now() } else { spin_loop() }
        }
    }
}

/// The ends of a channel go at the same time, on two workers.
#[test]
fn both_ends_go_at_once() {
    let times = number("FIBRA_DROPS", 5_000);
    let (checked, random, meeting) = (Checked::new(), Random::new(7), Meeting::default());
    let (_, outcome) = Shared::with_allocator(&checked)
        .workers(2)
        .run(|p| {
            let slot = Arc::new(Mutex::new(None));
            let (random, meeting) = (&random, &meeting);
            let to = slot.clone();
            p.spawn(async move {
                for nth in 0..times {
                    let (w, r) = p.channel::<u8>().unwrap();
                    let w = if nth % 2 == 0 { w.dup().unwrap() } else { w };
                    *to.lock().unwrap() = Some(r);
                    meeting.wait(2);
                    random.spin();
                    drop(w);
                    meeting.wait(2);
                }
            })
            .unwrap();
            p.spawn(async move {
                for _ in 0..times {
                    meeting.wait(2);
                    let r = slot.lock().unwrap().take();
                    random.spin();
                    drop(r);
                    meeting.wait(2);
                }
            })
            .unwrap();
        })
        .unwrap();
    assert_eq!(outcome.finished, 2);
    checked.assert_empty();
}

/// Fibres that spawn others, on all workers, until there were that many.
#[test]
fn fibres_come_and_go() {
    let spawns = number("FIBRA_SPAWNS", 50_000);
    for workers in [1, 2, 4] {
        let (memory, left, ran) = (SharedMemory::new().unwrap(), AtomicUsize::new(spawns), AtomicUsize::new(0));
        let (_, outcome) = Shared::with_allocator(memory.clone())
            .workers(workers)
            .run(|p| {
                let (left, ran) = (&left, &ran);
                for _ in 0..8 {
                    p.spawn(async move {
                        while left
                            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                            .is_ok()
                        {
                            let child = async move {
                                ran.fetch_add(1, Ordering::Relaxed);
                            };
                            p.spawn(child).unwrap();
                            yield_now().await;
                        }
                    })
                    .unwrap();
                }
            })
            .unwrap();
        assert_eq!(counts(outcome), [8 + spawns, 0, 0, 0, 0], "{workers} workers");
        assert_eq!(ran.into_inner(), spawns);
        assert_eq!(memory.classes().map(|class| class.live).sum::<usize>(), 0);
    }
}

/// Ends that are made here and dropped there, waited in or not: as many as were made.
#[test]
fn ends_come_and_go() {
    let ends = number("FIBRA_DROPS", 50_000);
    for workers in [1, 2, 4] {
        let (memory, random) = (SharedMemory::new().unwrap(), Random::new(9));
        let (_, outcome) = Shared::with_allocator(memory.clone())
            .workers(workers)
            .run(|p| {
                let random = &random;
                for _ in 0..4 {
                    let (mut to, mut from) = p.channel().unwrap();
                    p.spawn(async move {
                        for _ in 0..ends / 16 {
                            let (w, r) = p.channel::<u8>().unwrap();
                            let (w2, r2) = (w.dup().unwrap(), r.dup().unwrap());
                            if random.below(4) == 0 {
                                let mut r = r2;
                                p.spawn(async move { while r.read_or_end().await.is_some() {} }).unwrap();
                            }
                            to.write((w, r)).await;
                            drop(w2);
                        }
                    })
                    .unwrap();
                    p.spawn(async move {
                        while let Some((mut w, r)) = from.read_or_end().await {
                            match random.below(3) {
                                0 => drop((w, r)),
                                1 => drop((r, w)),
                                _ => _ = w.try_write(1),
                            }
                        }
                    })
                    .unwrap();
                }
            })
            .unwrap();
        let [_, collapsed, rest @ ..] = counts(outcome);
        assert_eq!((collapsed, rest), (0, [0, 0, 0]), "{workers} workers: {outcome}");
        assert_eq!(memory.classes().map(|class| class.live).sum::<usize>(), 0);
    }
}
