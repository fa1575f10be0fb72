//! Models of the wake hub: every interleaving of wakers on other threads with the process's own steps.

use std::boxed::Box;
use std::vec::Vec;

use core::task::Waker;

use loom::cell::Cell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::hub::{HubCore, Idle, Outside, StopHandle, WakeCell, WakeHub};
use crate::modelled::{Memory, Sleeper, Threads, forever, hub as sleeping_hub, model};
use crate::process::Process;
use crate::reach::Concurrent;

struct NeverWaits;
impl Idle for NeverWaits {
    fn wait(&self) {}
    fn wake(&self) {}
}

fn hub() -> (&'static HubCore, &'static WakeCell) {
    let hub: &'static HubCore = Box::leak(Box::new(HubCore::new(&NeverWaits)));
    let cell: &'static WakeCell = Box::leak(Box::new(WakeCell::new()));
    assert!(cell.claim(hub));
    (hub, cell)
}

fn waker(cell: &'static WakeCell) -> Waker {
    // SAFETY: `clone_waker` pairs the cell with its own table.
    unsafe { Waker::from_raw(cell.clone_waker()) }
}

/// What the process hears when it looks outside.
fn heard(hub: &'static HubCore) -> usize {
    let mut cells = Vec::new();
    hub.drain(|cell| cells.push(cell as *const WakeCell), WakeCell::leave_inbox);
    cells.len()
}

#[test]
fn a_wake_up_is_heard_or_still_to_be_heard() {
    loom::model(|| {
        let (hub, cell) = hub();
        let outside = waker(cell);
        let thread = thread::spawn(move || outside.wake());
        // The process looks, and decides whether its fibre may still be woken.
        let early = heard(hub);
        let may_still_come = cell.is_live();
        thread.join().unwrap();
        let late = heard(hub);
        assert!(early + late >= 1, "a wake-up was lost");
        assert!(early + late == 1, "the waker that woke was heard again when it went");
        assert!(late == 0 || may_still_come, "the fibre would have collapsed before its wake-up came");
        assert!(!cell.is_live(), "all wakers are gone, and everything was heard");
    });
}

#[test]
fn the_loss_of_the_last_waker_is_heard() {
    loom::model(|| {
        let (hub, cell) = hub();
        let (one, two) = (waker(cell), waker(cell));
        let thread = thread::spawn(move || drop(one));
        drop(two);
        let early = heard(hub);
        let may_still_come = cell.is_live();
        thread.join().unwrap();
        // Whoever went last has told the process, unless it knows already.
        assert!(early + heard(hub) >= 1 || !may_still_come);
        assert!(!cell.is_live());
    });
}

#[test]
fn wakers_of_two_threads_post_a_cell_once() {
    loom::model(|| {
        let (hub, cell) = hub();
        let (one, two) = (waker(cell), waker(cell));
        let threads = [
            thread::spawn(move || one.wake_by_ref()),
            thread::spawn(move || {
                two.wake_by_ref();
                drop(two.clone());
            }),
        ];
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(heard(hub), 1);
        assert!(!cell.is_live());
    });
}

#[test]
fn a_cell_is_free_again_when_fibre_wakers_and_inbox_have_let_it_go() {
    loom::model(|| {
        let (hub, cell) = hub();
        let outside = waker(cell);
        let thread = thread::spawn(move || outside.wake());
        cell.let_go();
        let _ = heard(hub);
        thread.join().unwrap();
        let _ = heard(hub);
        assert!(cell.claim(hub), "the cell is lost");
        assert_eq!(heard(hub), 0, "a wake-up for the last owner reached the next one");
    });
}

#[test]
fn a_late_wake_up_does_not_reach_the_next_owner() {
    loom::model(|| {
        let (hub, cell) = hub();
        let outside = waker(cell);
        let thread = thread::spawn(move || outside.wake());
        cell.let_go();
        // The next process on this hub takes the cell as soon as it is free.
        let taken = heard(hub) == 0 && cell.claim(hub);
        thread.join().unwrap();
        if taken {
            assert_eq!(heard(hub), 0, "a wake-up for the last owner reached the next one");
        }
    });
}

#[test]
fn two_cells_posted_at_once_are_both_heard() {
    loom::model(|| {
        let hub: &'static HubCore = Box::leak(Box::new(HubCore::new(&NeverWaits)));
        let cells: [&'static WakeCell; 2] = [(); 2].map(|()| &*Box::leak(Box::new(WakeCell::new())));
        let threads = cells.map(|cell| {
            assert!(cell.claim(hub));
            let outside = waker(cell);
            thread::spawn(move || outside.wake())
        });
        let early = heard(hub);
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(early + heard(hub) >= 2);
    });
}

#[test]
fn what_was_done_before_a_wake_up_is_seen_after_it_was_heard() {
    loom::model(|| {
        let (hub, cell) = hub();
        let data: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
        let (early, outside) = (waker(cell), waker(cell));
        // A wake-up that was not heard yet: the next one finds the cell in the inbox.
        early.wake_by_ref();
        let thread = thread::spawn(move || {
            data.store(1, Ordering::Relaxed);
            outside.wake_by_ref();
            outside
        });
        let seen = if heard(hub) > 0 { data.load(Ordering::Relaxed) } else { 0 };
        let outside = thread.join().unwrap();
        assert!(seen == 1 || heard(hub) > 0, "the fibre parks, and will not look again");
        drop((early, outside));
    });
}

#[test]
fn a_stop_is_not_undone_by_an_earlier_one() {
    loom::model(|| {
        let (hub, _) = hub();
        let first = hub.take().unwrap();
        let slow = StopHandle::new(hub, first);
        let thread = thread::spawn(move || slow.stop());
        hub.give_back();
        let second = hub.take().unwrap();
        StopHandle::new(hub, second).stop();
        thread.join().unwrap();
        assert!(hub.is_stopped(second));
    });
}

#[test]
fn a_cell_is_not_dead_while_another_worker_tells_its_fibre() {
    model(4, || {
        let (hub, cell) = hub();
        let told: &AtomicUsize = forever(AtomicUsize::new(0));
        let tell = || hub.drain(|_| told.store(1, Ordering::Relaxed), WakeCell::leave_inbox);
        let outside = waker(cell);
        let threads = [thread::spawn(move || outside.wake()), thread::spawn(tell)];
        tell();
        if !cell.is_live() {
            assert_eq!(told.load(Ordering::Relaxed), 1, "the fibre would have collapsed before its wake-up came");
        }
        for thread in threads {
            thread.join().unwrap();
        }
        tell();
        assert_eq!(told.load(Ordering::Relaxed), 1, "a wake-up was lost");
        assert!(!cell.is_live());
    });
}

#[test]
fn two_workers_hear_of_every_cell() {
    model(3, || {
        let hub: &'static HubCore = Box::leak(Box::new(HubCore::new(&NeverWaits)));
        let cells: [&'static WakeCell; 2] = [(); 2].map(|()| &*Box::leak(Box::new(WakeCell::new())));
        let [one, two] = cells.map(|cell| {
            assert!(cell.claim(hub));
            waker(cell)
        });
        one.wake();
        let outside = thread::spawn(move || two.wake());
        let other = thread::spawn(move || heard(hub));
        let mine = heard(hub);
        outside.join().unwrap();
        let all = mine + other.join().unwrap() + heard(hub);
        assert!(all >= 2, "a wake-up was lost");
        for cell in cells {
            assert!(!cell.is_live());
            cell.let_go();
            assert!(cell.claim(hub), "the cell is lost");
        }
    });
}

#[test]
fn a_waker_is_used_while_two_workers_look() {
    model(3, || {
        let (hub, cell) = hub();
        let data: &AtomicUsize = forever(AtomicUsize::new(0));
        let seen: &AtomicUsize = forever(AtomicUsize::new(0));
        // What the fibre sees that is woken.
        let look = || {
            hub.drain(|_| _ = seen.fetch_max(data.load(Ordering::Relaxed), Ordering::Relaxed), WakeCell::leave_inbox)
        };
        let outside = waker(cell);
        let wakes = move || {
            for n in 1..=2 {
                data.store(n, Ordering::Relaxed);
                outside.wake_by_ref();
            }
        };
        let threads = [thread::spawn(wakes), thread::spawn(look)];
        look();
        for thread in threads {
            thread.join().unwrap();
        }
        look();
        assert_eq!(seen.load(Ordering::Relaxed), 2, "the fibre parks, and will not look again");
        assert!(!cell.is_live());
    });
}

/// Who owns a cell. The model checker complains if a new owner comes while somebody is told who it is.
struct Owner(Cell<u32>);

// SAFETY: the model checker watches the cell.
unsafe impl Sync for Owner {}

#[test]
fn a_cell_has_one_owner_at_a_time() {
    model(4, || {
        let (hub, cell) = hub();
        let owner: &Owner = forever(Owner(Cell::new(1)));
        let outside = waker(cell);
        let worker = || hub.drain(|_| assert_eq!(owner.0.get(), 1), WakeCell::leave_inbox);
        let threads = [thread::spawn(move || outside.wake()), thread::spawn(worker)];
        cell.let_go();
        let is_mine = cell.claim(hub);
        if is_mine {
            owner.0.set(2);
        }
        for thread in threads {
            thread.join().unwrap();
        }
        let _ = heard(hub);
        assert!(is_mine || cell.claim(hub), "the cell is lost");
    });
}

#[test]
fn a_free_cell_is_claimed_once() {
    model(4, || {
        let (hub, cell) = hub();
        let outside = waker(cell);
        let wakes = thread::spawn(move || outside.wake());
        cell.let_go();
        let other = thread::spawn(move || cell.claim(hub));
        let mine = cell.claim(hub);
        wakes.join().unwrap();
        assert!(!(other.join().unwrap() && mine));
    });
}

#[test]
fn workers_join_while_the_process_is_there() {
    type K = Concurrent<Threads>;
    type Shop = Process<'static, 'static, &'static Memory, K>;
    fn process(hub: &'static dyn WakeHub, generation: usize) -> &'static Shop {
        let process = forever(Shop::new(Memory::new(), Some(Outside::new(hub)), generation));
        let core = process.settle_down();
        core.crew.set_another(|process, _, _| {
            process.exclusive::<K, _>(|| process.deadlocked.set(process.deadlocked.get() + 1));
        });
        process
    }
    model(2, || {
        let hub: &'static dyn WakeHub = sleeping_hub::<1>();
        let join = move || usize::from(hub.core().join(forever(Sleeper::new()), None));
        let threads = [thread::spawn(join), thread::spawn(join)];
        let mut joined = 0;
        for generation in 1..=2 {
            let process = process(hub, generation);
            hub.core().open(process.core.this());
            hub.core().shut(|| hub.core().wait());
            // Nobody uses it any more, or the model checker complains.
            joined += process.core.deadlocked.replace(100);
        }
        assert_eq!(threads.map(|thread| thread.join().unwrap()).iter().sum::<usize>(), joined);
    });
}
