//! Time, memory, and rounds in which the contenders take turns.

use std::time::Duration;

use crate::{Contender, Workload};

/// How long one sample takes: far above the clock's resolution, and short enough that a burst of other work on the
/// machine spoils few of them. Workloads of a fixed size take what they take.
pub const SAMPLE: Duration = Duration::from_millis(35);

/// Processor time of this thread.
///
/// # Panics
///
/// On a system without such a clock.
pub fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock is told where to write.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(failed, 0, "no clock of a thread's processor time");
    let seconds = u64::try_from(time.tv_sec).expect("processor time is positive");
    let nanoseconds = u64::try_from(time.tv_nsec).expect("a part of a second is positive");
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

/// Memory of this process that is backed by pages; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    const PAGE: u64 = 4096;
    std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or(0, |pages| pages * PAGE)
}

/// Runs a contender once and returns the processor time it took, and its answer.
///
/// # Panics
///
/// When the answer is wrong.
fn run(workload: Workload, contender: Contender, n: u64) -> (Duration, u64) {
    let start = processor_time();
    let answer = (contender.run)(n);
    let time = processor_time() - start;
    if let Some(right) = workload.answer(n) {
        assert_eq!(answer, right, "wrong answer: {}, {}", workload.name(), contender.name);
    }
    (time, answer)
}

/// The size at which the contender takes about [`SAMPLE`]; also warms it up.
pub fn calibrate(workload: Workload, contender: Contender) -> u64 {
    if let Some(n) = workload.fixed_size() {
        if workload != Workload::Bytes {
            run(workload, contender, n);
        }
        return n;
    }
    let mut n = 1;
    loop {
        let (time, _) = run(workload, contender, n);
        if time > SAMPLE / 4 {
            let scaled = n as f64 * SAMPLE.as_secs_f64() / time.as_secs_f64();
            return (scaled as u64).max(1);
        }
        n *= 4;
    }
}

/// One sample of a contender at a size that [`calibrate`] gave, in the workload's unit.
///
/// # Panics
///
/// When the answer is wrong.
pub fn sample(workload: Workload, contender: Contender, n: u64) -> f64 {
    let (time, answer) = run(workload, contender, n);
    match workload {
        Workload::Bytes => answer as f64 / workload.operations(n) as f64,
        Workload::Skynet => time.as_secs_f64() * 1e3,
        _ => time.as_secs_f64() * 1e9 / workload.operations(n) as f64,
    }
}

/// Has the contenders take turns for as many rounds as the workload asks for, each round beginning with another one, and
/// returns their medians. `sample` is given a contender's index.
///
/// # Errors
///
/// The first that `sample` returns.
pub fn medians<E>(
    workload: Workload,
    contenders: usize,
    mut sample: impl FnMut(usize) -> Result<f64, E>,
) -> Result<Vec<f64>, E> {
    let mut samples = vec![Vec::with_capacity(workload.rounds()); contenders];
    for round in 0..workload.rounds() {
        for turn in 0..contenders {
            let i = (round + turn) % contenders;
            samples[i].push(sample(i)?);
        }
    }
    Ok(samples.into_iter().map(median).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
