//! A read or write that has begun, and whose endpoint then goes elsewhere within the same poll: to another thread, to another
//! fibre on another worker, and perhaps back.

mod common;

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;

use common::{Checked, Tally, counts, on_workers};
use fibra_std::{Concurrent, Reader, Shared, yield_now};

/// Lets others run until somebody says so.
async fn until(said: &AtomicBool) {
    while !said.load(Ordering::Acquire) {
        yield_now().await;
    }
}

#[test]
fn a_read_that_another_thread_took_back_begins_anew_and_its_end_goes() {
    on_workers(|workers| {
        let (checked, tally, gone) = (Checked::new(), Tally::default(), AtomicBool::new(false));
        let (_, outcome) = Shared::with_allocator(&checked)
            .workers(workers)
            .run(|p| {
                let (mut w, mut r) = p.channel().unwrap();
                let mut other = r.dup().unwrap();
                let (tally, gone) = (&tally, &gone);
                p.spawn(async move {
                    poll_fn(|cx| {
                        assert!(r.poll_read(cx).is_pending());
                        thread::scope(|s| s.spawn(|| assert!(r.try_read().is_none())).join().unwrap());
                        assert!(r.poll_read(cx).is_pending());
                        Poll::Ready(())
                    })
                    .await;
                    drop(r);
                    gone.store(true, Ordering::Release);
                })
                .unwrap();
                p.spawn(async move {
                    until(gone).await;
                    w.write(tally.token()).await;
                })
                .unwrap();
                p.spawn(async move {
                    until(gone).await;
                    drop(other.read().await);
                })
                .unwrap();
            })
            .unwrap();
        assert_eq!(counts(outcome), [3, 0, 0, 0, 0], "{workers} workers");
        assert_eq!(tally.alive(), 0);
        checked.assert_empty();
    });
}

#[test]
fn a_write_that_another_thread_took_back_begins_anew_and_its_end_goes() {
    on_workers(|workers| {
        let (checked, tally, gone) = (Checked::new(), Tally::default(), AtomicBool::new(false));
        let (_, outcome) = Shared::with_allocator(&checked)
            .workers(workers)
            .run(|p| {
                let (mut w, mut r) = p.channel().unwrap();
                let mut other = w.dup().unwrap();
                let (tally, gone) = (&tally, &gone);
                p.spawn(async move {
                    poll_fn(|cx| {
                        w.begin_write(tally.token());
                        assert!(w.poll_write(cx).is_pending());
                        let back = thread::scope(|s| s.spawn(|| w.cancel_write()).join().unwrap());
                        w.begin_write(back.unwrap());
                        assert!(w.poll_write(cx).is_pending());
                        Poll::Ready(())
                    })
                    .await;
                    drop(w);
                    assert_eq!(tally.alive(), 0);
                    gone.store(true, Ordering::Release);
                })
                .unwrap();
                p.spawn(async move {
                    until(gone).await;
                    drop(r.read().await);
                })
                .unwrap();
                p.spawn(async move {
                    until(gone).await;
                    other.write(tally.token()).await;
                })
                .unwrap();
            })
            .unwrap();
        assert_eq!(counts(outcome), [3, 0, 0, 0, 0], "{workers} workers");
        assert_eq!(tally.alive(), 0);
        checked.assert_empty();
    });
}

/// A reader goes from the fibre that began to read to another, on another worker, within the same poll; that one reads, and
/// gives it back while it waits; and there it is dropped.
#[test]
fn a_read_goes_to_another_worker_and_comes_back() {
    on_workers(|_| {
        let (checked, tally, gone) = (Checked::new(), Tally::default(), AtomicBool::new(false));
        let (_, outcome) = Shared::with_allocator(&checked)
            .workers(2)
            .run(|p| {
                let (mut w, mut r) = p.channel().unwrap();
                let mut other = r.dup().unwrap();
                let (tally, gone) = (&tally, &gone);
                let (there, back) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
                let (to, from) = (there.clone(), back.clone());
                p.spawn(async move {
                    poll_fn(|cx| {
                        assert!(r.poll_read(cx).is_pending());
                        Poll::Ready(())
                    })
                    .await;
                    *to.lock().unwrap() = Some(r);
                    // Another worker runs the other fibre meanwhile: this one is in a long turn.
                    let r: Reader<'_, _, Concurrent> = loop {
                        if let Some(r) = from.lock().unwrap().take() {
                            break r;
                        }
                        thread::yield_now();
                    };
                    drop(r);
                    gone.store(true, Ordering::Release);
                    drop(other.read().await);
                })
                .unwrap();
                p.spawn(async move {
                    let mut r: Reader<'_, _, Concurrent> = loop {
                        if let Some(r) = there.lock().unwrap().take() {
                            break r;
                        }
                        yield_now().await;
                    };
                    poll_fn(|cx| {
                        assert!(r.poll_read(cx).is_pending());
                        Poll::Ready(())
                    })
                    .await;
                    *back.lock().unwrap() = Some(r);
                    until(gone).await;
                    w.write(tally.token()).await;
                })
                .unwrap();
            })
            .unwrap();
        assert_eq!(counts(outcome), [2, 0, 0, 0, 0]);
        assert_eq!(tally.alive(), 0);
        checked.assert_empty();
    });
}
