//! Measures the clock of `fibra-std`: how late its sleepers wake, what it does while nobody is due, and what a sleep costs.
//!
//! ```text
//! cargo run --release -p fibra-benches --bin clock             # a quarter of a minute
//! cargo run --release -p fibra-benches --bin clock -- --quick  # to see that it runs
//! ```
//!
//! Lateness is the time between a deadline and the first thing that the sleeper does. In each row all sleep at once, and the
//! deadlines are evenly spaced; in the last, they are all the same. Beside the fibres stands a thread that waits on a condition
//! variable for each of the same deadlines, one after the other, in the same run: the least that the host can do. What is unfair
//! about it: for fibres two threads have to wake, the clock's and the process's, and the other thread only itself.

use std::cell::RefCell;
use std::hint::black_box;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use fibra_benches::measure::median;
use fibra_std::{Clock, run};

const USAGE: &str = "usage: clock [--help | --quick]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let share = match arguments[..] {
        [] => 1,
        ["--quick"] => 20,
        ["--help" | "-h"] => {
            println!(
                "{USAGE}\n\nMeasures how late sleepers wake, what a clock does while idle, and what a sleep costs."
            );
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match report(share) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("clock: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Takes a `share`-th of the time that figures need.
fn report(share: u32) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let clock = Clock::new().map_err(io::Error::other)?;
    writeln!(out, "{:44} {:>10} {:>10} {:>10}", "lateness, µs", "median", "99 %", "worst")?;
    let rows = [
        Row { sleepers: 1, rounds: 400, spacing: Duration::from_micros(2500) },
        Row { sleepers: 100, rounds: 10, spacing: Duration::from_micros(1000) },
        Row { sleepers: 10_000, rounds: 1, spacing: Duration::from_micros(100) },
        Row { sleepers: 10_000, rounds: 1, spacing: Duration::ZERO },
    ];
    for row in rows {
        let row = row.less(share);
        let who: [(&str, fn(&Clock, Row) -> Vec<Duration>); 3] =
            [("fibres", fibres), ("wakers", wakers), ("condition variable", condition_variable)];
        for (name, lateness) in who {
            let mut late = lateness(&clock, row);
            late.sort_unstable();
            let at = |share: usize| late[(late.len() - 1) * share / 100].as_secs_f64() * 1e6;
            let spacing = row.spacing.as_micros();
            let what = format!("{} asleep, {spacing} µs apart: {name}", row.sleepers);
            writeln!(out, "{what:44} {:>10.1} {:>10.1} {:>10.1}", at(50), at(99), at(100))?;
        }
    }

    let idle = Duration::from_secs(10) / share;
    let (used, waits) = idle_use(&clock, idle);
    writeln!(out, "\nidle for {idle:?}, 10000 asleep: {used:?} of processor time, {waits} context switches")?;

    writeln!(out, "\n{:44} {:>10} {:>10}", "a sleep, ns", "begin", "cancel")?;
    for others in [0, 100, 10_000] {
        let (begin, cancel) = cost(&clock, others, 2000 / share as usize);
        writeln!(out, "{:44} {begin:>10.1} {cancel:>10.1}", format!("beside {others} others"))?;
    }
    out.flush()
}

#[derive(Clone, Copy)]
struct Row {
    sleepers: u32,
    /// How often each of them sleeps.
    rounds: u32,
    /// Between one deadline and the next.
    spacing: Duration,
}

impl Row {
    fn less(self, share: u32) -> Self {
        match self.rounds {
            1 => Row { sleepers: self.sleepers.div_ceil(share), ..self },
            _ => Row { rounds: self.rounds.div_ceil(share), ..self },
        }
    }

    /// The first deadline: when all of them will surely sleep.
    fn start() -> Instant {
        Instant::now() + Duration::from_millis(100)
    }

    fn deadline(self, start: Instant, round: u32, sleeper: u32) -> Instant {
        start + self.spacing * (round * self.sleepers + sleeper)
    }

    fn samples(self) -> usize {
        (self.sleepers * self.rounds) as usize
    }
}

/// Fibres of one process.
fn fibres(clock: &Clock, row: Row) -> Vec<Duration> {
    let late = RefCell::new(Vec::with_capacity(row.samples()));
    let start = Row::start();
    run(|p| {
        for sleeper in 0..row.sleepers {
            let late = &late;
            let sleeping = async move {
                for round in 0..row.rounds {
                    let deadline = row.deadline(start, round, sleeper);
                    clock.sleep_until(deadline).await;
                    late.borrow_mut().push(deadline.elapsed());
                }
            };
            p.fibre().waker().spawn(sleeping).expect("room for a fibre");
        }
    })
    .expect("a pool");
    late.into_inner()
}

/// The clock alone: its thread notes when it calls a waker.
fn wakers(clock: &Clock, row: Row) -> Vec<Duration> {
    struct Notes(Instant, Arc<Mutex<Vec<Duration>>>);
    impl Wake for Notes {
        fn wake(self: Arc<Self>) {
            let late = self.0.elapsed();
            self.1.lock().expect("nobody panics").push(late);
        }
    }
    let late = Arc::new(Mutex::new(Vec::with_capacity(row.samples())));
    let mut start = Row::start();
    for _ in 0..row.rounds {
        let mut sleeps: Vec<_> = (0..row.sleepers)
            .map(|sleeper| {
                let deadline = row.deadline(start, 0, sleeper);
                let waker = Waker::from(Arc::new(Notes(deadline, Arc::clone(&late))));
                (Box::pin(clock.sleep_until(deadline)), waker)
            })
            .collect();
        for (sleep, waker) in &mut sleeps {
            assert!(sleep.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        }
        start += row.spacing * row.sleepers;
        thread::sleep((start + Duration::from_millis(2)).saturating_duration_since(Instant::now()));
        // The next round begins when this one is surely over, so with one sleeper it is spaced more widely.
        start = start.max(Instant::now() + row.spacing);
    }
    late.lock().expect("nobody panics").clone()
}

/// A thread of its own, which waits for nothing but the time.
fn condition_variable(_: &Clock, row: Row) -> Vec<Duration> {
    let (mutex, condition) = (Mutex::new(()), Condvar::new());
    let start = Row::start();
    let mut late = Vec::with_capacity(row.samples());
    let mut guard = mutex.lock().expect("nobody panics");
    for n in 0..row.samples() as u32 {
        let deadline = start + row.spacing * n;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            guard = condition.wait_timeout(guard, left).expect("nobody panics").0;
        }
        late.push(deadline.elapsed());
    }
    late
}

/// Processor time and context switches of the whole program while many sleep and nobody is due.
fn idle_use(clock: &Clock, time: Duration) -> (Duration, i64) {
    let later = Instant::now() + Duration::from_secs(3600);
    let mut sleeps: Vec<_> =
        (0..10_000).map(|n| Box::pin(clock.sleep_until(later + Duration::from_micros(n)))).collect();
    for sleep in &mut sleeps {
        assert!(sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    thread::sleep(Duration::from_millis(100));
    let before = usage();
    thread::sleep(time);
    let after = usage();
    (after.0 - before.0, after.1 - before.1)
}

fn usage() -> (Duration, i64) {
    // SAFETY: a record of plain numbers, for which zero is a value; the call is told where to write.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage), 0, "the system counts processor time");
        usage
    };
    let time =
        |time: libc::timeval| Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64);
    (time(usage.ru_utime) + time(usage.ru_stime), usage.ru_nvcsw + usage.ru_nivcsw)
}

/// Medians of what it takes to begin a sleep and to drop it again, in nanoseconds.
fn cost(clock: &Clock, others: u32, rounds: usize) -> (f64, f64) {
    const BATCH: usize = 100;
    let mut cx = Context::from_waker(Waker::noop());
    let hour = Instant::now() + Duration::from_secs(3600);
    let place = |n: u32| hour + Duration::from_nanos(u64::from(n.wrapping_mul(2_654_435_761)));
    let mut asleep: Vec<_> = (0..others).map(|n| Box::pin(clock.sleep_until(place(n)))).collect();
    for sleep in &mut asleep {
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
    }
    let (mut begin, mut cancel) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    let mut some: [_; BATCH] = std::array::from_fn(|_| Box::pin(clock.sleep_until(hour)));
    for round in 0..rounds {
        let first = others + (round * BATCH) as u32;
        let start = Instant::now();
        for (n, sleep) in (first..).zip(&mut some) {
            sleep.set(clock.sleep_until(place(n)));
            let _ = black_box(sleep.as_mut().poll(&mut cx));
        }
        let middle = Instant::now();
        for sleep in &mut some {
            sleep.set(clock.sleep_until(hour));
        }
        begin.push((middle - start).as_nanos() as f64 / BATCH as f64);
        cancel.push(middle.elapsed().as_nanos() as f64 / BATCH as f64);
    }
    drop(asleep);
    (median(begin), median(cancel))
}
