//! Time, memory, and rounds in which the contenders take turns.

use std::io;
use std::time::Duration;

use crate::{Contender, Workload, child};

/// How much time to spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// What figures need.
    Full,
    /// Enough to see that everything runs.
    Quick,
}

impl Effort {
    /// Its name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Quick => "quick",
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        if name == Self::Quick.name() { Self::Quick } else { Self::Full }
    }

    /// How often each contender has its turn.
    pub const fn rounds(self, workload: Workload) -> usize {
        match self {
            Self::Full => workload.rounds(),
            Self::Quick => 1,
        }
    }

    /// What takes as long, or is as large, as a number says; less of it when quick.
    pub(crate) const fn of(self, much: u64) -> u64 {
        match self {
            Self::Full => much,
            Self::Quick => much.div_ceil(50),
        }
    }
}

/// Processor time of this thread.
///
/// # Panics
///
/// On a system without such a clock.
pub fn processor_time() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Processor time of all threads of this process, those that have ended included.
///
/// # Panics
///
/// On a system without such a clock.
pub fn processor_time_of_all() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock is told where to write.
    let failed = unsafe { libc::clock_gettime(id, &raw mut time) };
    assert_eq!(failed, 0, "no clock of processor time");
    let seconds = u64::try_from(time.tv_sec).expect("processor time is positive");
    let nanoseconds = u64::try_from(time.tv_nsec).expect("a part of a second is positive");
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

/// How much a clock advances while `section` runs.
pub fn elapsed(clock: impl Fn() -> Duration, section: impl FnOnce()) -> Duration {
    let start = clock();
    section();
    clock() - start
}

/// Keeps this thread on one of the processors that it may use: the `i`-th of them, counted round. Does nothing where the
/// system has no such call.
pub fn pin(i: usize) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: a set of processors is plain numbers, for which zero is a value; the calls are told its size. What they
        // return is not looked at: a thread that is not pinned is measured all the same.
        unsafe {
            let mut allowed: libc::cpu_set_t = std::mem::zeroed();
            libc::sched_getaffinity(0, size_of_val(&allowed), &raw mut allowed);
            let processors: Vec<usize> =
                (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &allowed)).collect();
            if processors.is_empty() {
                return;
            }
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(processors[i % processors.len()], &mut one);
            libc::sched_setaffinity(0, size_of_val(&one), &raw const one);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = i;
}

/// Memory of this process that is backed by pages; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    const PAGE: u64 = 4096;
    std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or(0, |pages| pages * PAGE)
}

/// What a run of a workload took, and what came of it.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Processor time, or time on the wall where the workload has several threads.
    pub time: Duration,
    /// See [`Workload::answer`].
    pub answer: u64,
}

/// Runs a contender once.
///
/// # Panics
///
/// When the answer is wrong.
pub fn run(workload: Workload, contender: Contender, n: u64) -> Outcome {
    let outcome = contender.run(n);
    if let Some(right) = workload.answer(n) {
        assert_eq!(outcome.answer, right, "wrong answer: {}, {}", workload.name(), contender.name);
    }
    outcome
}

/// The size at which the contender takes about as long as a [sample](Workload::sample) should; also warms it up.
pub fn calibrate(workload: Workload, contender: Contender, effort: Effort) -> u64 {
    if let Some(n) = workload.fixed_size() {
        let n = effort.of(n);
        if workload.warms_up() {
            run(workload, contender, n);
        }
        return n;
    }
    let long = Duration::from_nanos(effort.of(workload.sample().as_nanos() as u64));
    let mut n = 1;
    loop {
        let Outcome { time, .. } = run(workload, contender, n);
        if time > long / 4 {
            let scaled = n as f64 * long.as_secs_f64() / time.as_secs_f64();
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
    let Outcome { time, answer } = run(workload, contender, n);
    match workload {
        Workload::Bytes => answer as f64 / workload.operations(n) as f64,
        Workload::Skynet => time.as_secs_f64() * 1e3,
        _ => time.as_secs_f64() * 1e9 / workload.operations(n) as f64,
    }
}

/// Runs `section` so many steps further down the stack; nine steps are about a page.
///
/// What lies on the stack and what lies in an arena meet in the low 12 bits of their addresses, if chance will have it, and
/// the processor takes them for one another. That costs up to a fifth, as long as the program runs. So each sample has its
/// stack elsewhere: then chance spoils some of them, and not the median.
fn further_down<R>(steps: usize, section: impl FnOnce() -> R) -> R {
    #[inline(never)]
    fn step(steps: usize, section: &mut dyn FnMut()) {
        let room = std::hint::black_box([0_u8; 400]);
        match steps {
            0 => section(),
            _ => step(steps - 1, section),
        }
        std::hint::black_box(&room);
    }
    let (mut section, mut result) = (Some(section), None);
    step(steps, &mut || result = section.take().map(|section| section()));
    result.expect("the section was run")
}

/// Has the contenders of a workload take turns, each round beginning with another one and elsewhere on the stack, and
/// returns their medians, in the order of [`Workload::contenders`]. `tick` is called before each sample.
///
/// # Errors
///
/// What a process that was to take a sample complained about.
pub fn medians(workload: Workload, effort: Effort, mut tick: impl FnMut()) -> io::Result<Vec<f64>> {
    let contenders = workload.contenders();
    let sizes: Vec<u64> = match workload.isolated() {
        true => Vec::new(),
        false => contenders.iter().map(|&c| calibrate(workload, c, effort)).collect(),
    };
    let rounds = effort.rounds(workload);
    let mut samples = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let i = (round + turn) % contenders.len();
            tick();
            samples[i].push(match workload.isolated() {
                true => child::sample(workload, contenders[i], effort)?,
                false => further_down(round, || sample(workload, contenders[i], sizes[i])),
            });
        }
    }
    Ok(samples.into_iter().map(median).collect())
}

/// The middle one of some values.
///
/// # Panics
///
/// If there are none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
