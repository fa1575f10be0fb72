//! Numbers of threads, and caches found by them, also under a whole program.

use std::collections::{BTreeSet, HashMap};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use fibra_std::PerThread;
use fibra_std::allocators::{
    Arena, AsGlobal, Borrowed, Cached, Fallback, FromGlobal, Lazy, MemReq, SizeClasses, SpinLock, Table, Worker, table,
};

const SIZES: Table<5> = table([
    MemReq::new(32, 20_000),
    MemReq::new(64, 20_000),
    MemReq::new(128, 10_000),
    MemReq::new(1024, 2_000),
    MemReq::new(16384, 40),
]);
static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();

type Pools = Cached<5, 8, Borrowed<'static>, PerThread, SpinLock>;

fn make() -> Option<Pools> {
    Some(Cached::new(SizeClasses::with_form(&SIZES, MEMORY.take()?).ok()?, 64))
}

#[global_allocator]
static GLOBAL: AsGlobal<Fallback<Lazy<Pools>, FromGlobal<std::alloc::System>>> =
    AsGlobal::new(Fallback::new(Lazy::new(make), FromGlobal::new(std::alloc::System)));

fn pools() -> &'static Pools {
    GLOBAL.get().first().get().expect("made by now")
}

#[test]
fn a_thread_keeps_its_number() {
    let first = PerThread::index().expect("there are enough");
    drop(vec![1, 2, 3]);
    assert_eq!(PerThread::index(), Some(first));
}

#[test]
fn threads_that_live_at_once_have_different_numbers() {
    const THREADS: usize = 20;
    let all_here = Barrier::new(THREADS);
    let numbers: BTreeSet<usize> = thread::scope(|s| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                s.spawn(|| {
                    let number = PerThread::index().expect("there are enough");
                    all_here.wait();
                    assert_eq!(PerThread::index(), Some(number));
                    number
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(numbers.len(), THREADS);
    // Besides those of this test: the threads of the other tests of this file.
    assert!(numbers.iter().all(|&number| number < THREADS + 64));
}

#[test]
fn a_thread_that_ends_gives_its_number_back() {
    let most = (0..3000).map(|_| thread::spawn(|| PerThread::index().expect("given back")).join().unwrap()).max();
    assert!(most.unwrap() < 64 + 20, "the lowest free one is given, and others run beside");
}

#[test]
fn destructors_of_thread_local_values_allocate() {
    struct Allocates(AtomicUsize);
    impl Drop for Allocates {
        fn drop(&mut self) {
            let n = self.0.load(Ordering::Relaxed);
            assert_eq!((0..n).map(|n| n.to_string()).collect::<Vec<_>>().len(), n);
        }
    }
    thread_local!(static LATE: Allocates = const { Allocates(AtomicUsize::new(0)) });
    thread::spawn(|| {
        // Registered before the number is, or after: one of them is dropped last.
        LATE.with(|late| late.0.store(100, Ordering::Relaxed));
        assert!(PerThread::index().is_some());
    })
    .join()
    .unwrap();
}

#[test]
fn a_program_runs_on_caches() {
    let totals: Vec<usize> = thread::scope(|s| {
        let workers: Vec<_> = (0..4_usize)
            .map(|worker| {
                s.spawn(move || {
                    let mut words: HashMap<String, Vec<usize>> = HashMap::new();
                    for n in 0..20_000 {
                        words.entry((n % 997).to_string()).or_default().push(n * worker);
                        if n % 5000 == 0 {
                            words.clear();
                        }
                    }
                    words.values().map(Vec::len).sum()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(totals, [4999; 4]);
    assert_eq!(pools().system().verify(), Ok(()));
    assert!(pools().system().classes().map(|class| class.peak).sum::<usize>() > 1000, "it ran on them");
}

#[test]
fn what_one_thread_makes_another_drops() {
    let (to, from) = std::sync::mpsc::channel::<Box<[u64; 8]>>();
    thread::scope(|s| {
        s.spawn(move || (0..50_000).for_each(|n| to.send(Box::new([n; 8])).unwrap()));
        s.spawn(move || (0..).zip(from).for_each(|(n, boxed)| assert_eq!(*boxed, [n; 8])));
    });
    assert_eq!(pools().system().verify(), Ok(()));
}
