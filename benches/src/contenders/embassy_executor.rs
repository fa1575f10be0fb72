//! embassy's raw executor, as on a chip: the pender sets a flag, the loop polls while it is set.
//!
//! embassy means its executor and its tasks to be statics. Here they live in a [`Region`] of the thread, which starts
//! again with each run.

use std::cell::Cell;
use std::future::Future;
use std::ptr;

use embassy_executor::Spawner;
use embassy_executor::raw::{Executor, TaskStorage};
use tokio::sync::oneshot;

use super::region::Region;
use crate::workload::BATCH;
use crate::workloads::{Answer, batches, child_ran};

thread_local! {
    static REGION: &'static Region = Box::leak(Box::default());

    /// Set when the ready queue was empty and is so no longer.
    static PENDING: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: the name and the signature that embassy-executor asks for; nothing else has that name.
#[unsafe(export_name = "__pender")]
fn pender(_: *mut ()) {
    PENDING.set(true);
}

/// Spawns, and has memory for what is spawned.
#[derive(Clone, Copy)]
pub(super) struct Process {
    spawner: Spawner,
    region: &'static Region,
}

pub(super) fn run(set_up: impl FnOnce(Process, Answer)) -> u64 {
    let region = REGION.with(|region| *region);
    let executor = place(region, Executor::new(ptr::null_mut()));
    let (answer, mut result) = oneshot::channel();
    set_up(Process { spawner: executor.spawner(), region }, answer);
    loop {
        PENDING.set(false);
        // SAFETY: this thread alone polls this executor, and not from inside a task.
        unsafe { executor.poll() };
        if !PENDING.get() {
            break;
        }
    }
    // The queue is empty, so no task runs again and no executor looks at one. Parked tasks are never dropped: what they own,
    // the wakers in their channels among it, is leaked, and nobody can reach it. So all references into the region have
    // seen their last use.
    region.clear();
    result.try_recv().expect("the network ended without an answer")
}

#[inline]
pub(super) fn spawn<F: Future<Output = ()> + 'static>(p: Process, future: F) {
    let task: &'static TaskStorage<F> = place(p.region, TaskStorage::new());
    p.spawner.spawn(task.spawn(|| future).expect("a new task is free"));
}

/// As a user of embassy would have it: the tasks of a batch are there from the start and used again for the next one.
pub(super) fn spawn_batches(n: u64) -> u64 {
    const TASKS: usize = BATCH as usize;
    fn tasks_for<F: Future<Output = ()>>(p: Process, _: &impl Fn() -> F) -> &'static [TaskStorage<F>; TASKS] {
        place(p.region, [const { TaskStorage::new() }; TASKS])
    }
    run(move |p, answer| {
        let child = || async { child_ran() };
        let tasks = tasks_for(p, &child);
        spawn(p, async move {
            let mut turn = (0..TASKS).cycle();
            let spawn_child = || {
                let task = &tasks[turn.next().expect("a cycle has no end")];
                p.spawner.spawn(task.spawn(child).expect("the last batch is over"));
            };
            let _ = answer.send(batches(n, spawn_child).await);
        });
    })
}

/// Moves `value` into the region. It is not dropped there.
#[inline]
fn place<T>(region: &'static Region, value: T) -> &'static T {
    let place = region.carve::<T>();
    // SAFETY: the place is a `T`'s and nobody else's until the region is cleared, and `run` vouches for the end of all
    // references by then.
    unsafe {
        place.write(value);
        place.as_ref()
    }
}
