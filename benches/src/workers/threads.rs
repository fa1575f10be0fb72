//! Round trips between two plain threads: what any runtime's round trip is made of.

use std::sync::mpsc::sync_channel;
use std::sync::{Condvar, Mutex};
use std::thread;

/// A place for one value, with a mutex and a condition variable.
#[derive(Default)]
struct Slot {
    value: Mutex<Option<u64>>,
    changed: Condvar,
}

impl Slot {
    fn put(&self, value: u64) {
        *self.value.lock().expect("nobody panics with it") = Some(value);
        self.changed.notify_one();
    }

    fn take(&self) -> u64 {
        let mut value = self.value.lock().expect("nobody panics with it");
        loop {
            match value.take() {
                Some(value) => return value,
                None => value = self.changed.wait(value).expect("nobody panics with it"),
            }
        }
    }
}

/// As bare as it gets without spinning: nobody waits for the other to have taken a value.
pub(super) fn condvar(n: u64) -> u64 {
    let (there, back) = (Slot::default(), Slot::default());
    round_trip(n, |value| there.put(value), || there.take(), |value| back.put(value), || back.take())
}

/// std's rendezvous.
pub(super) fn sync_channels(n: u64) -> u64 {
    let ((to_thread, from_here), (to_here, from_thread)) = (sync_channel(0), sync_channel(0));
    round_trip(
        n,
        |value| to_thread.send(value).expect("the thread is there"),
        move || from_here.recv().expect("a value for each turn"),
        move |value| to_here.send(value).expect("a reader for each turn"),
        || from_thread.recv().expect("the thread is there"),
    )
}

/// crossbeam's rendezvous.
pub(super) fn crossbeam(n: u64) -> u64 {
    let ((to_thread, from_here), (to_here, from_thread)) =
        (crossbeam_channel::bounded(0), crossbeam_channel::bounded(0));
    round_trip(
        n,
        |value| to_thread.send(value).expect("the thread is there"),
        || from_here.recv().expect("a value for each turn"),
        |value| to_here.send(value).expect("a reader for each turn"),
        || from_thread.recv().expect("the thread is there"),
    )
}

fn round_trip(
    n: u64,
    to_thread: impl Fn(u64),
    from_here: impl Fn() -> u64 + Send,
    to_here: impl Fn(u64) + Send,
    from_thread: impl Fn() -> u64,
) -> u64 {
    thread::scope(|s| {
        s.spawn(move || (0..n).for_each(|_| to_here(from_here() + 1)));
        (0..n).fold(0, |value, _| {
            to_thread(value);
            from_thread()
        })
    })
}
