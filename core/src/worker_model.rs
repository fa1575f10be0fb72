//! Models of a worker's queue: its owner, and others who help themselves.

use std::vec::Vec;

use core::ptr::NonNull;

use fibra_allocators::SpinLock;
use loom::thread;

use crate::fibre::{Fibre, FibreRef, marker};
use crate::modelled::{Threads, forever, model};
use crate::reach::{Concurrent, Guts, Here, Platform};
use crate::scheduler::Stopper;
use crate::worker::{Batch, Worker};

/// A worker, and the fibres that are queued there.
struct Queue {
    worker: Worker,
    fibres: [Fibre; 4],
}

// SAFETY: the model checker watches the cells.
unsafe impl Sync for Queue {}

impl Queue {
    fn new() -> &'static Self {
        forever(Queue { worker: Worker::new(), fibres: core::array::from_fn(|_| marker::<Stopper>()) })
    }

    fn fibre(&self, nth: usize) -> FibreRef {
        // SAFETY: it stays where it is, and is only queued.
        unsafe { FibreRef::new(NonNull::from(&self.fibres[nth])) }
    }

    fn number(&self, fibre: FibreRef) -> usize {
        self.fibres.iter().position(|it| core::ptr::eq(it, fibre.as_ptr())).unwrap()
    }

    fn enqueue<K: Guts>(&self, nth: usize) {
        let _ = self.worker.enqueue::<K>(self.fibre(nth));
    }

    fn pop<K: Guts>(&self) -> Option<usize> {
        self.worker.pop_queued::<K>().map(|fibre| self.number(fibre))
    }

    fn pop_all<K: Guts>(&self) -> Vec<usize> {
        core::iter::from_fn(|| self.pop::<K>()).collect()
    }

    /// The fibres of a list.
    fn numbers(&self, first: FibreRef) -> Vec<usize> {
        core::iter::successors(Some(first), |fibre| fibre.next.get()).map(|fibre| self.number(fibre)).collect()
    }

    /// What another worker takes, if nobody else is there.
    fn steal<K: Guts>(&self) -> Vec<usize> {
        let Some(batch) = self.worker.visit::<K, _>(|| self.worker.take_queue()).flatten() else { return Vec::new() };
        let stolen = self.numbers(batch.first);
        assert_eq!(self.number(batch.last), *stolen.last().unwrap());
        stolen
    }
}

/// Each list is in order, and each fibre in one of them.
fn check(lists: &[Vec<usize>], n: usize) {
    assert!(lists.iter().all(|list| list.is_sorted()), "{lists:?}");
    let mut all: Vec<_> = lists.concat();
    all.sort_unstable();
    assert_eq!(all, (0..n).collect::<Vec<_>>());
}

fn one_visitor<K: Guts>() {
    let queue = Queue::new();
    queue.enqueue::<K>(0);
    let thief = thread::spawn(move || queue.steal::<K>());
    queue.enqueue::<K>(1);
    let mut mine: Vec<_> = queue.pop::<K>().into_iter().collect();
    queue.enqueue::<K>(2);
    mine.extend(queue.pop_all::<K>());
    let stolen = thief.join().unwrap();
    mine.extend(queue.pop_all::<K>());
    check(&[mine, stolen], 3);
}

#[test]
fn the_owner_and_one_visitor() {
    model(4, one_visitor::<Concurrent<Threads>>);
}

#[test]
fn the_owner_and_two_visitors() {
    type K = Concurrent<Threads>;
    model(2, || {
        let queue = Queue::new();
        (0..3).for_each(|nth| queue.enqueue::<K>(nth));
        let thieves = [(); 2].map(|()| thread::spawn(move || queue.steal::<K>()));
        let mut mine: Vec<_> = queue.pop::<K>().into_iter().collect();
        queue.enqueue::<K>(3);
        mine.extend(queue.pop::<K>());
        let [one, two] = thieves.map(|thief| thief.join().unwrap());
        mine.extend(queue.pop_all::<K>());
        check(&[mine, one, two], 4);
    });
}

#[test]
fn a_visitor_comes_twice() {
    type K = Concurrent<Threads>;
    model(3, || {
        let queue = Queue::new();
        (0..2).for_each(|nth| queue.enqueue::<K>(nth));
        let thief = thread::spawn(move || [queue.steal::<K>(), queue.steal::<K>()].concat());
        let mut mine: Vec<_> = queue.pop::<K>().into_iter().collect();
        queue.enqueue::<K>(2);
        mine.extend(queue.pop::<K>());
        let stolen = thief.join().unwrap();
        mine.extend(queue.pop_all::<K>());
        check(&[mine, stolen], 3);
    });
}

#[test]
fn batches_are_put_behind() {
    type K = Concurrent<Threads>;
    model(3, || {
        let queue = Queue::new();
        let (first, last) = (queue.fibre(1), queue.fibre(2));
        first.next.set(Some(last));
        queue.enqueue::<K>(0);
        let thief = thread::spawn(move || queue.steal::<K>());
        queue.worker.enqueue_all::<K>(Batch { first, last });
        let mine = queue.pop_all::<K>();
        let stolen = thief.join().unwrap();
        check(&[mine, stolen], 3);
    });
}

#[test]
fn the_owner_gives_half_of_it_away() {
    type K = Concurrent<Threads>;
    model(3, || {
        let queue = Queue::new();
        (0..4).for_each(|nth| queue.enqueue::<K>(nth));
        let thief = thread::spawn(move || queue.steal::<K>());
        let (given, n) = queue.worker.split::<K>().map_or((Vec::new(), 0), |(half, n)| (queue.numbers(half.first), n));
        assert_eq!(given.len(), n);
        let mine = queue.pop_all::<K>();
        let stolen = thief.join().unwrap();
        check(&[mine, given, stolen], 4);
    });
}

/// A platform that has forgotten one of its barriers.
struct Forgetful<const LIGHT: bool>;

// SAFETY: none; the model is to find that out.
unsafe impl<const LIGHT: bool> Platform for Forgetful<LIGHT> {
    type Lock = SpinLock;

    fn here<R>(f: impl FnOnce(&Here) -> R) -> R {
        Threads::here(f)
    }

    fn light_barrier() {
        if !LIGHT {
            Threads::light_barrier();
        }
    }

    fn heavy_barrier() {
        if LIGHT {
            Threads::heavy_barrier();
        }
    }
}

#[test]
#[should_panic]
fn without_the_owners_barrier_both_are_inside() {
    model(4, one_visitor::<Concurrent<Forgetful<true>>>);
}

#[test]
#[should_panic]
fn without_the_visitors_barrier_both_are_inside() {
    model(4, one_visitor::<Concurrent<Forgetful<false>>>);
}
