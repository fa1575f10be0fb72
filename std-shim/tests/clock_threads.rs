//! The clock's thread: there is one, it sleeps while nobody is due, and it goes. A test alone in its program, so that all
//! threads called so are its own.
#![cfg(target_os = "linux")]

use std::fs;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use fibra_std::{Clock, Sleep, run};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// The folders of the threads that are clocks.
fn clocks() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("a list of threads");
    let folders = tasks.filter_map(|task| Some(task.ok()?.path().to_str()?.to_owned()));
    folders.filter(|folder| fs::read_to_string(format!("{folder}/comm")).is_ok_and(|s| s == "fibra-clock\n")).collect()
}

/// The system lists a thread a little later than it began, and a little longer than it ran.
fn wait_for_clocks(n: usize) -> Vec<String> {
    loop {
        let clocks = clocks();
        if clocks.len() == n {
            return clocks;
        }
        thread::sleep(MS);
    }
}

/// How often a thread has waited for something.
fn waits(thread: &str) -> u64 {
    let status = fs::read_to_string(format!("{thread}/status")).expect("a thread's status");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.expect("a count").trim().parse().expect("a number")
}

fn begun(clock: &Clock, duration: Duration) -> Pin<Box<Sleep<'_>>> {
    let mut sleep = Box::pin(clock.sleep_for(duration));
    assert!(sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    sleep
}

/// Holds the last handle of a clock, and drops it where it is woken, unless that is here.
struct Keeper {
    here: ThreadId,
    last: Mutex<Option<(Clock, mpsc::Receiver<()>)>>,
}

impl Wake for Keeper {
    fn wake(self: Arc<Self>) {
        if thread::current().id() != self.here
            && let Some((clock, others_are_gone)) = self.last.lock().unwrap().take()
        {
            others_are_gone.recv().unwrap();
            drop(clock);
        }
    }
}

#[test]
fn one_thread_that_sleeps_and_that_goes() {
    assert!(clocks().is_empty());

    // One for each clock, not for each handle; it goes with the last handle.
    let (one, other) = (Clock::new().unwrap(), Clock::new().unwrap());
    wait_for_clocks(2);
    let handles: Vec<Clock> = (0..10).map(|_| one.clone()).collect();
    drop(other);
    wait_for_clocks(1);
    drop(one);
    let sleep = begun(&handles[9], 20 * MS);
    let [thread] = &wait_for_clocks(1)[..] else { unreachable!() };

    // While nobody is due it does nothing, however many sleep. Looking every 10 ms would show here.
    let before = waits(thread);
    let mut sleeps: Vec<_> = (0..1000).map(|_| begun(&handles[0], HOUR)).collect();
    sleeps.drain(..500);
    thread::sleep(200 * MS);
    assert!(waits(thread) - before < 20, "{} waits while there was nothing to do", waits(thread) - before);
    drop(sleeps);
    // Nor does it look for what was cancelled.
    let before = waits(thread);
    (0..1000).for_each(|_| drop(begun(&handles[0], HOUR)));
    assert!(waits(thread) - before < 20, "{} waits while there was nothing to do", waits(thread) - before);
    drop(sleep);
    drop(handles);
    wait_for_clocks(0);

    // A sleep that is forgotten does not keep it.
    let clock = Clock::new().unwrap();
    forgotten(&clock);
    drop(clock);
    wait_for_clocks(0);

    // The last handle goes with a fibre.
    let clock = Clock::new().unwrap();
    run(|p| p.fibre().waker().spawn(async move { clock.sleep_for(MS).await }).unwrap()).unwrap();
    wait_for_clocks(0);

    // The last handle goes on the clock's own thread, which cannot wait for itself.
    let clock = Clock::new().unwrap();
    let (tell, told) = mpsc::channel();
    let last = Mutex::new(Some((clock.clone(), told)));
    let keeper = Waker::from(Arc::new(Keeper { here: thread::current().id(), last }));
    let mut sleep = Box::pin(clock.sleep_for(20 * MS));
    assert!(sleep.as_mut().poll(&mut Context::from_waker(&keeper)).is_pending());
    while format!("{clock:?}") != "Clock { sleeping: 0 }" {
        thread::sleep(MS);
    }
    drop((sleep, keeper));
    drop(clock);
    // There is nobody to hear it if that was so slow that it did not sleep at all.
    let _ = tell.send(());
    wait_for_clocks(0);
}

/// Its name tells a leak checker that this is on purpose.
fn forgotten(clock: &Clock) {
    std::mem::forget(begun(clock, HOUR));
}
