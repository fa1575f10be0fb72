//! Models of a lock that is biased: its owner, and others who come.

use fibra_allocators::SpinLock;
use loom::thread;

use crate::bias::Biased;
use crate::modelled::{Memory, Threads, Value, forever, model};
use crate::process::Process;
use crate::reach::{Concurrent, Here, Platform};
use crate::worker::{Worker, WorkerRef};

/// What is counted under a lock, in a process.
struct Counted<P: Platform> {
    process: Process<'static, 'static, &'static Memory, Concurrent<P>>,
    lock: Biased<SpinLock>,
    count: Value,
}

// SAFETY: the model checker watches the cells.
unsafe impl<P: Platform> Sync for Counted<P> {}

impl<P: Platform<Lock = SpinLock>> Counted<P> {
    fn new() -> &'static Self {
        let process = Process::new(Memory::new(), None, 0);
        let counted = forever(Counted { process, lock: Biased::new(), count: Value::new(0) });
        counted.process.settle_down();
        counted
    }

    fn count(&self) {
        self.count.set(self.count.get() + 1);
    }

    fn visit(&self) {
        self.lock.with::<P, _>(self.process.core.this(), || self.count());
    }

    /// What a worker does.
    fn work(&self, times: usize) {
        let process = self.process.core.this();
        let worker: *const Worker = forever(Worker::new());
        // SAFETY: it is there for ever.
        let worker = unsafe {
            (*worker).settle_down(process.as_ptr());
            WorkerRef::at(worker.cast_mut()).unwrap()
        };
        P::here(|here| here.enter(worker.as_ptr()));
        process.join_crew::<Concurrent<P>>(worker);
        for _ in 0..times {
            self.lock.with_on::<P, _>(worker, || self.count());
        }
        // As somewhere else in a turn.
        self.visit();
        process.leave_crew::<Concurrent<P>>(worker);
        // It is not to be looked at any more.
        P::here(|here| here.enter(core::ptr::null_mut()));
    }
}

fn an_owner_and_another<P: Platform<Lock = SpinLock>>() {
    let counted = Counted::<P>::new();
    let other = thread::spawn(move || (0..2).for_each(|_| counted.visit()));
    counted.work(3);
    other.join().unwrap();
    assert_eq!(counted.count.get(), 6);
}

#[test]
fn an_owner_and_who_takes_the_channel_away() {
    model(4, an_owner_and_another::<Threads>);
}

#[test]
fn two_who_become_owners_in_turn() {
    model(3, || {
        let counted = Counted::<Threads>::new();
        let other = thread::spawn(move || counted.work(3));
        counted.work(3);
        other.join().unwrap();
        assert_eq!(counted.count.get(), 8);
    });
}

#[test]
fn an_owner_and_two_others() {
    model(2, || {
        let counted = Counted::<Threads>::new();
        let others = [(); 2].map(|()| thread::spawn(move || counted.visit()));
        counted.work(2);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(counted.count.get(), 5);
    });
}

/// A platform that has forgotten its heavy barrier.
struct Forgetful;

// SAFETY: none; the model is to find that out.
unsafe impl Platform for Forgetful {
    type Lock = SpinLock;

    fn here<R>(f: impl FnOnce(&Here) -> R) -> R {
        Threads::here(f)
    }

    fn heavy_barrier() {}
}

#[test]
#[should_panic]
fn without_the_heavy_barrier_both_are_inside() {
    model(4, an_owner_and_another::<Forgetful>);
}
