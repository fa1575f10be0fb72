//! Rounds in which the contenders take turns, each in a process of its own, while nobody else uses the machine much.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::{Contender, Row, go};
use crate::child;
use crate::measure::{Effort, median, processor_time_of_all};

/// How long one sample takes, at least: long enough that making a runtime and its threads does not count.
const SAMPLE: Duration = Duration::from_millis(100);
/// How much of one processor others may use during a sample that is to count.
const CALM: f64 = 0.1;
/// How many times as many samples are taken where they use more.
const AGAIN: usize = 2;

/// A contender in a row, with so many workers.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The row.
    pub row: Row,
    /// How many workers.
    pub workers: usize,
    /// The contender's name.
    pub name: &'static str,
    go: Option<&'static Path>,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// The median of the calmest samples, in the row's unit.
    pub value: f64,
    /// Processor time of all threads, likewise; in the same unit where that is one of time.
    pub processor: f64,
    /// The largest share of one processor that others used during any of these; `None` where the system does not tell.
    pub others: Option<f64>,
}

/// Who is to be measured in a row, in the order in which it is printed.
///
/// ```
/// use fibra_benches::workers::{Row, subjects};
///
/// let subjects = subjects(Row::CacheLine);
/// assert!(subjects.iter().all(|subject| (subject.workers, subject.name) == (2, "threads")));
/// ```
pub fn subjects(row: Row) -> Vec<Subject> {
    let go = if row.is_machine() { None } else { go::program().ok() };
    let mut all = Vec::new();
    for &workers in row.workers() {
        let ours = row.contenders();
        all.extend(ours.iter().map(|contender| Subject { row, workers, name: contender.name, go: None }));
        all.extend(go.map(|_| Subject { row, workers, name: go::NAME, go }));
    }
    all
}

/// What a process measured, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Raw {
    n: u64,
    wall: f64,
    processor: f64,
    answer: u64,
}

impl Raw {
    fn parse(text: &str) -> io::Result<Self> {
        let numbers = text.split_whitespace().map(child::parse).collect::<io::Result<Vec<u64>>>()?;
        let [n, wall, processor, answer] = numbers[..] else {
            return Err(io::Error::other(format!("not four numbers: {}", text.trim())));
        };
        Ok(Raw { n, wall: wall as f64, processor: processor as f64, answer })
    }

    fn value(&self, row: Row) -> f64 {
        match row {
            Row::Bytes => self.answer as f64 / self.n as f64,
            Row::Hog => self.in_unit(row, self.answer as f64),
            Row::Idle => self.in_unit(row, self.processor),
            _ => self.in_unit(row, self.wall),
        }
    }

    fn in_unit(&self, row: Row, nanoseconds: f64) -> f64 {
        nanoseconds * row.per_nanosecond() / row.operations(self.n) as f64
    }
}

impl Subject {
    fn sample(&self, effort: Effort) -> io::Result<Figure> {
        let before = (Instant::now(), busy(), processor_time_of_children());
        let workers = self.workers.to_string();
        let output = match self.go {
            None => child::ask([child::WORKERS, self.row.name(), self.name, &workers, effort.name()])?,
            Some(program) => {
                // Zero: whatever fills a sample.
                let size = self.row.fixed_size(effort).unwrap_or(0).to_string();
                let sample = effort.of(SAMPLE.as_nanos() as u64).to_string();
                let warms_up = self.row.warms_up().to_string();
                child::output(Command::new(program).args([self.row.name(), &workers, &size, &sample, &warms_up]))?
            }
        };
        let others = busy().zip(before.1).map(|(now, then)| {
            let ours = processor_time_of_children() - before.2;
            ((now - then) - ours.as_secs_f64()).max(0.0) / before.0.elapsed().as_secs_f64()
        });
        let raw = Raw::parse(&String::from_utf8_lossy(&output))?;
        match self.row.answer(raw.n) {
            Some(right) if right != raw.answer => {
                Err(io::Error::other(format!("wrong answer: {}, {}: {}", self.row.name(), self.name, raw.answer)))
            }
            _ => Ok(Figure { value: raw.value(self.row), processor: raw.in_unit(self.row, raw.processor), others }),
        }
    }
}

/// Has all that take part in a row take turns, each round beginning with another one. Before its samples it waits for others
/// to be calm, for `patience` in all. `tick` is called before each sample that there surely is.
///
/// # Errors
///
/// What a process that was to take a sample complained about.
pub fn measure(
    row: Row,
    effort: Effort,
    mut patience: Duration,
    mut tick: impl FnMut(),
) -> io::Result<Vec<(Subject, Figure)>> {
    let subjects = subjects(row);
    let rounds = row.rounds(effort);
    // Where one sample is enough, others do not spoil it.
    let most = if rounds == 1 { rounds } else { rounds * AGAIN };
    let mut samples: Vec<Vec<Figure>> = vec![Vec::new(); subjects.len()];
    for round in 0..most {
        for turn in 0..subjects.len() {
            let i = (round + turn) % subjects.len();
            if round < rounds {
                tick();
            } else if samples[i].iter().filter(|sample| sample.is_calm()).count() >= rounds {
                continue;
            }
            if most > rounds {
                patience = patience.saturating_sub(wait_for_calm(patience));
            }
            samples[i].push(subjects[i].sample(effort)?);
        }
    }
    Ok(subjects.into_iter().zip(samples.into_iter().map(|samples| calmest(samples, rounds))).collect())
}

/// Waits until nobody uses more of the processors than may be, but no longer than `most`. Returns how long it waited in
/// vain.
fn wait_for_calm(most: Duration) -> Duration {
    // Long enough for the system's account, which is in hundredths of a second.
    const LOOK: Duration = Duration::from_millis(100);
    const MOST: f64 = 2.1 * CALM * LOOK.as_millis() as f64 / 1e3; // by two processors; and sums are not exact
    let start = Instant::now();
    while start.elapsed() < most {
        let before = busy();
        thread::sleep(LOOK);
        if busy().zip(before).is_none_or(|(now, then)| now - then <= MOST) {
            return start.elapsed().saturating_sub(LOOK);
        }
    }
    start.elapsed()
}

impl Figure {
    fn is_calm(&self) -> bool {
        self.others.is_none_or(|others| others <= CALM)
    }
}

/// What `rounds` samples say, those during which others used the least.
fn calmest(mut samples: Vec<Figure>, rounds: usize) -> Figure {
    let others = |sample: &Figure| sample.others.unwrap_or(0.0);
    samples.sort_by(|a, b| others(a).total_cmp(&others(b)));
    samples.truncate(rounds);
    Figure {
        value: median(samples.iter().map(|sample| sample.value).collect()),
        processor: median(samples.iter().map(|sample| sample.processor).collect()),
        others: samples.last().and_then(|sample| sample.others),
    }
}

/// What the process of a sample does: prints size, nanoseconds, those of the processor, and the answer.
///
/// # Errors
///
/// Wrong arguments, or nobody to read the result.
pub fn serve(row: &str, contender: &str, workers: &str, effort: &str) -> io::Result<()> {
    let row = Row::named(row).ok_or_else(|| io::Error::other("no such row"))?;
    let mut contenders = row.contenders().into_iter();
    let contender = contenders.find(|c| c.name == contender).ok_or_else(|| io::Error::other("no such contender"))?;
    let workers = child::parse(workers)?;
    let raw = take(row, Effort::named(effort), |n| once(contender, n, workers));
    writeln!(io::stdout(), "{} {} {} {}", raw.n, raw.wall, raw.processor, raw.answer)
}

fn take(row: Row, effort: Effort, once: impl Fn(u64) -> Raw) -> Raw {
    if let Some(n) = row.fixed_size(effort) {
        if row.warms_up() {
            once(n);
        }
        return once(n);
    }
    let long = effort.of(SAMPLE.as_nanos() as u64) as f64;
    let mut n = 1;
    loop {
        // Others may hold it up on the wall; that it has two processors must not count for less.
        let Raw { wall, processor, .. } = once(n);
        let time = wall.min(processor);
        if time > long / 8.0 {
            return once(((n as f64 * long / time) as u64).max(1));
        }
        n *= 4;
    }
}

fn once(contender: Contender, n: u64, workers: usize) -> Raw {
    let (start, processor) = (Instant::now(), processor_time_of_all());
    let answer = contender.run(n, workers);
    let (wall, processor) = (start.elapsed(), processor_time_of_all() - processor);
    Raw { n, wall: wall.as_nanos() as f64, processor: processor.as_nanos() as f64, answer }
}

/// Seconds that all processors together were busy since the system began, or were withheld from it.
fn busy() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    let [user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen, ..] = ticks[..] else { return None };
    // SAFETY: it only tells a number.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let busy = user + nice + system + interrupts + soft_interrupts + stolen;
    (per_second > 0).then(|| busy as f64 / per_second as f64)
}

/// Of those that have ended.
fn processor_time_of_children() -> Duration {
    // SAFETY: numbers, for which zero is a value; the call is told where to write them.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage), 0, "no account of children");
        usage
    };
    let time = |t: libc::timeval| Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64);
    time(usage.ru_utime) + time(usage.ru_stime)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64, others: f64) -> Figure {
        Figure { value, processor: 2.0 * value, others: Some(others) }
    }

    #[test]
    fn the_calmest_samples_count() {
        let samples = vec![figure(9.0, 0.9), figure(1.0, 0.0), figure(3.0, 0.2), figure(2.0, 0.1)];
        let Figure { value, processor, others } = calmest(samples, 3);
        assert_eq!((value, processor, others), (2.0, 4.0, Some(0.2)));
    }

    #[test]
    fn values_are_in_the_unit_of_their_row() {
        let raw = Raw { n: 10, wall: 8e6, processor: 9e6, answer: 50_000 };
        assert_eq!(Raw::parse("10 8000000 9000000 50000\n").unwrap(), raw);
        assert_eq!(raw.value(Row::Pairs), 1e5);
        assert_eq!(raw.value(Row::Stages), 800.0);
        assert_eq!(raw.value(Row::Hog), 5.0);
        assert_eq!(raw.value(Row::Job), 8.0);
        assert_eq!(raw.value(Row::Idle), 9.0);
        assert_eq!(raw.value(Row::Bytes), 5000.0);
        assert!(Raw::parse("1 2 3").is_err() && Raw::parse("1 2 3 x").is_err());
    }
}
