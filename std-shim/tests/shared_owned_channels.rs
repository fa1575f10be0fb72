//! A worker that alone has used a channel for long does so without a lock. Then another one comes.

use std::hint;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fibra_std::Shared;

#[test]
fn another_worker_comes_to_a_channel_while_its_owner_uses_it() {
    let (read, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (_, outcome) = Shared::new()
        .workers(2)
        .run(|p| {
            let (mut to, mut from) = p.channel().unwrap();
            let other = to.dup().unwrap();
            let (read, is_over) = (&read, &is_over);
            p.spawn(async move {
                let mut n = 0;
                while !is_over.load(Ordering::Relaxed) {
                    to.write(n).await;
                    n += 1;
                }
            })
            .unwrap();
            p.spawn(async move {
                for n in 0.. {
                    assert_eq!(from.read().await, n);
                    read.store(n, Ordering::Relaxed);
                }
            })
            .unwrap();
            // This is the first worker. So it is the second that runs them both.
            for _ in 0..50 {
                drop(other.dup().unwrap());
                // Long enough for it to own the channel again.
                let before = read.load(Ordering::Relaxed);
                while read.load(Ordering::Relaxed) < before + 2000 {
                    hint::spin_loop();
                }
            }
            is_over.store(true, Ordering::Relaxed);
        })
        .unwrap();
    assert_eq!((outcome.finished, outcome.collapsed), (1, 1));
}

#[test]
fn a_channel_moves_with_its_fibres() {
    let (_, outcome) = Shared::new()
        .workers(2)
        .run(|p| {
            // More than enough to keep both workers busy: so they are shared, and shared again as some of them end.
            for nth in 1..=16 {
                let (mut to, mut from) = p.channel().unwrap();
                p.spawn(async move {
                    for n in 0..nth * 4000 {
                        to.write(n).await;
                    }
                })
                .unwrap();
                p.spawn(async move {
                    for n in 0..nth * 4000 {
                        assert_eq!(from.read().await, n);
                    }
                })
                .unwrap();
            }
        })
        .unwrap();
    assert_eq!((outcome.finished, outcome.collapsed), (32, 0));
}
