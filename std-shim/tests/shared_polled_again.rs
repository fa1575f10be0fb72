//! Reads and writes that are polled again, for whatever reason, while their counterparts come on other workers.

mod common;

use std::future::{Future, poll_fn};
use std::sync::Mutex;

use common::{Checked, Random, Tally, counts, number, on_workers_times};
use fibra_std::Shared;
use futures::future::{join, select};
use futures::pin_mut;

/// The same, but polled again and again: it wakes its fibre whenever it is not ready.
async fn restless<F: Future>(future: F, random: &Random) -> F::Output {
    pin_mut!(future);
    poll_fn(|cx| {
        let poll = future.as_mut().poll(cx);
        if poll.is_pending() && random.below(4) != 0 {
            random.spin();
            cx.waker().wake_by_ref();
        }
        poll
    })
    .await
}

/// Values cross once each, in order, whoever is polled again meanwhile.
#[test]
fn a_read_and_a_write_that_are_polled_again_and_again() {
    let values = number("FIBRA_VALUES", 2_000);
    on_workers_times(3, |workers| {
        let (checked, tally, random) = (Checked::new(), Tally::default(), Random::new(3));
        let (_, outcome) = Shared::with_allocator(&checked)
            .workers(workers)
            .run(|p| {
                let (tally, random) = (&tally, &random);
                for _ in 0..2 {
                    let (mut w, mut r) = p.channel().unwrap();
                    p.spawn(async move {
                        for nth in 0..values {
                            restless(w.write((nth, tally.token())), random).await;
                        }
                    })
                    .unwrap();
                    p.spawn(async move {
                        for nth in 0.. {
                            assert_eq!(restless(r.read(), random).await.0, nth);
                        }
                    })
                    .unwrap();
                }
            })
            .unwrap();
        assert_eq!(counts(outcome), [2, 2, 0, 0, 0]);
        assert_eq!(tally.alive(), 0);
        checked.assert_empty();
    });
}

/// Each fibre waits in several places at once, so that it is woken, and polls all of them, when one is done.
#[test]
fn several_waits_of_one_fibre_end_at_the_same_time() {
    let values = number("FIBRA_VALUES", 2_000);
    on_workers_times(3, |workers| {
        let (checked, tally, random) = (Checked::new(), Tally::default(), Random::new(4));
        let got = Mutex::new([Vec::new(), Vec::new()]);
        let (_, outcome) = Shared::with_allocator(&checked)
            .workers(workers)
            .run(|p| {
                let (tally, random, got) = (&tally, &random, &got);
                let (mut w1, mut r1) = p.channel().unwrap();
                let (mut w2, mut r2) = p.channel().unwrap();
                p.spawn(async move {
                    for nth in 0..values {
                        join(w1.write((nth, tally.token())), w2.write((nth, tally.token()))).await;
                    }
                })
                .unwrap();
                p.spawn(async move {
                    loop {
                        // What is dropped half-way loses nothing.
                        match select(r1.read(), r2.read()).await {
                            futures::future::Either::Left(((nth, _), _)) => got.lock().unwrap()[0].push(nth),
                            futures::future::Either::Right(((nth, _), _)) => got.lock().unwrap()[1].push(nth),
                        }
                        random.spin();
                    }
                })
                .unwrap();
            })
            .unwrap();
        assert_eq!(counts(outcome), [1, 1, 0, 0, 0]);
        let [one, two] = got.into_inner().unwrap();
        assert!(one.iter().copied().eq(0..values), "{workers} workers: {} values", one.len());
        assert!(two.iter().copied().eq(0..values), "{workers} workers: {} values", two.len());
        assert_eq!(tally.alive(), 0);
        checked.assert_empty();
    });
}
