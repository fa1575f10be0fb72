//! Futures of the ecosystem that put a new waker in the place of the one that they kept, as most do at each poll.

use std::cell::Cell;
use std::future::poll_fn;
use std::sync::Mutex;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use fibra_std::run;

/// Polls until the third wake-up from outside; each poll is given the waker that the one before kept, to be replaced. Gives
/// how often it was polled.
fn polls_for_three_wake_ups(replace: impl Fn(&mut Option<Waker>, &Waker)) -> u32 {
    let (kept, polls) = (Mutex::new(None), Cell::new(0));
    let woken = Mutex::new(0);
    thread::scope(|s| {
        s.spawn(|| {
            for n in 1..=3 {
                thread::sleep(Duration::from_millis(50));
                let kept = kept.lock().unwrap();
                *woken.lock().unwrap() = n;
                Option::<Waker>::as_ref(&kept).expect("it waits").wake_by_ref();
            }
        });
        let (_, outcome) = run(|p| {
            let waiting = poll_fn(|cx| {
                polls.set(polls.get() + 1);
                // So that a fibre that wakes itself for ever fails the test instead of hanging.
                if *woken.lock().unwrap() == 3 && polls.get() != 1 || polls.get() > 10_000 {
                    return Poll::Ready(());
                }
                replace(&mut kept.lock().unwrap(), cx.waker());
                Poll::Pending
            });
            p.fibre().waker().spawn(waiting).map_err(|error| error.kind).unwrap();
        })
        .unwrap();
        assert_eq!(outcome.finished, 1);
    });
    polls.get()
}

#[test]
fn to_drop_the_last_waker_and_keep_another_is_no_wake_up() {
    let polls = polls_for_three_wake_ups(|kept, waker| {
        *kept = None;
        *kept = Some(waker.clone());
    });
    assert!(polls <= 4, "{polls} polls for three wake-ups");
}

#[test]
fn a_fibres_waker_would_wake_whom_its_clone_wakes() {
    // What a future does that must not leave a waker behind unheard: it wakes the old one, unless that is the same.
    let polls = polls_for_three_wake_ups(|kept, waker| {
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker))
            && let Some(old) = kept.replace(waker.clone())
        {
            old.wake();
        }
    });
    assert!(polls <= 4, "{polls} polls for three wake-ups");
}
