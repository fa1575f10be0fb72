//! Who runs when, in a shared process with one worker: there the order is that of one queue.

use std::sync::atomic::{AtomicUsize, Ordering};

use fibra_std::Shared;

/// Readers that all wait already, more than a fibre may serve in one turn.
const READERS: usize = 2000;

#[test]
fn a_fibre_whose_counterparts_are_always_ready_gives_way_to_the_others() {
    let (written, seen) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let (_, outcome) = Shared::new()
        .workers(1)
        .run(|p| {
            let (mut to, from) = p.channel::<usize>().unwrap();
            for _ in 0..READERS {
                let mut from = from.dup().unwrap();
                p.spawn(async move { _ = from.read().await }).unwrap();
            }
            drop(from);
            let written = &written;
            p.spawn(async move {
                for n in 0..READERS {
                    to.write(n).await;
                    written.fetch_add(1, Ordering::Relaxed);
                }
            })
            .unwrap();
            p.spawn(async { seen.store(written.load(Ordering::Relaxed), Ordering::Relaxed) }).unwrap();
        })
        .unwrap();
    assert_eq!(outcome.finished, READERS + 2);
    // It has begun, and was not let go on to the end.
    let seen = seen.into_inner();
    assert!((1..READERS / 4).contains(&seen), "{seen} of {READERS} writes in one turn");
}
