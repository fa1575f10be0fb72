//! Measurements that need a process of their own: the program starts itself again, with arguments that [`serve`] knows.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::process::Command;
use std::time::Duration;

use crate::measure::{self, Effort};
use crate::pool::{self, Start};
use crate::{Contender, Workload, stamp, workers};

const SAMPLE: &str = "--child-sample";
const LATENCIES: &str = "--child-latencies";
const START: &str = "--child-start";
pub(crate) const WORKERS: &str = "--child-workers";

/// Does what a child was started for, if this is one: to be asked first by every program that uses this module.
///
/// # Errors
///
/// Wrong arguments, or nobody to read the result.
pub fn serve(arguments: &[&str]) -> Option<io::Result<()>> {
    match arguments {
        [SAMPLE, workload, contender, effort] => Some(serve_sample(workload, contender, Effort::named(effort))),
        [LATENCIES, pool, pairs] => Some(serve_latencies(pool, pairs)),
        [START, pool, blocks] => Some(serve_start(pool, blocks)),
        [WORKERS, row, contender, number, effort] => Some(workers::serve(row, contender, number, effort)),
        _ => None,
    }
}

/// One sample of a contender.
///
/// # Errors
///
/// What the child complained about.
pub fn sample(workload: Workload, contender: Contender, effort: Effort) -> io::Result<f64> {
    let output = ask([SAMPLE, workload.name(), contender.name, effort.name()])?;
    parse(String::from_utf8_lossy(&output).trim())
}

fn serve_sample(workload: &str, contender: &str, effort: Effort) -> io::Result<()> {
    let workload = Workload::named(workload).ok_or_else(|| io::Error::other("no such workload"))?;
    let contender = workload
        .contenders()
        .into_iter()
        .find(|c| c.name == contender)
        .ok_or_else(|| io::Error::other("no such contender"))?;
    if workload == Workload::Bytes && measure::resident_bytes() == 0 {
        return Err(io::Error::other("this system does not tell the resident memory"));
    }
    let n = measure::calibrate(workload, contender, effort);
    writeln!(io::stdout(), "{}", measure::sample(workload, contender, n))
}

/// What each operation of a pool's first so many pairs took, in nanoseconds: allocations, and releases.
///
/// # Errors
///
/// What the child complained about.
pub fn latencies(pool: &str, pairs: usize) -> io::Result<(Vec<f32>, Vec<f32>)> {
    let output = ask([LATENCIES, pool, &pairs.to_string()])?;
    let mut rest = &output[..];
    let mut number = || {
        let mut bytes = [0; 8];
        rest.read_exact(&mut bytes).map(|()| f64::from_le_bytes(bytes))
    };
    let (tick, overhead, taken) = (number()?, number()?, number()?);
    let nanoseconds = |ticks: &[u8; 4]| ((f64::from(u32::from_le_bytes(*ticks)) - overhead) * tick).max(0.0) as f32;
    let mut take: Vec<f32> = rest.as_chunks().0.iter().map(nanoseconds).collect();
    let give_back = take.split_off((taken as usize).min(take.len()));
    Ok((take, give_back))
}

fn serve_latencies(pool: &str, pairs: &str) -> io::Result<()> {
    let pool = pool::named(pool).ok_or_else(|| io::Error::other("no such pool"))?;
    measure::pin(1);
    let latencies = (pool.latencies)(parse(pairs)?);
    let mut out = io::BufWriter::new(io::stdout().lock());
    for number in [stamp::tick(), stamp::overhead(), latencies.take.len() as f64] {
        out.write_all(&number.to_le_bytes())?;
    }
    for ticks in latencies.take.iter().chain(&latencies.give_back) {
        out.write_all(&ticks.to_le_bytes())?;
    }
    out.flush()
}

/// What it takes to make a pool and to fill it.
///
/// # Errors
///
/// What the child complained about.
pub fn start(pool: &str, blocks: usize) -> io::Result<Start> {
    let output = ask([START, pool, &blocks.to_string()])?;
    let text = String::from_utf8_lossy(&output);
    let numbers = text.split_whitespace().map(parse).collect::<io::Result<Vec<u64>>>()?;
    let [make, made_bytes, fill, full_bytes] = numbers[..] else {
        return Err(io::Error::other("the child was cut short"));
    };
    let (make, fill) = (Duration::from_nanos(make), Duration::from_nanos(fill));
    Ok(Start { make, made_bytes, fill, full_bytes })
}

fn serve_start(pool: &str, blocks: &str) -> io::Result<()> {
    let pool = pool::named(pool).ok_or_else(|| io::Error::other("no such pool"))?;
    let Start { make, made_bytes, fill, full_bytes } = (pool.start)(parse(blocks)?);
    writeln!(io::stdout(), "{} {made_bytes} {} {full_bytes}", make.as_nanos(), fill.as_nanos())
}

pub(crate) fn ask<const N: usize>(arguments: [&str; N]) -> io::Result<Vec<u8>> {
    output(Command::new(std::env::current_exe()?).args(arguments.map(OsStr::new)))
}

/// What a program prints that is to succeed.
pub(crate) fn output(command: &mut Command) -> io::Result<Vec<u8>> {
    let output = command.output()?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{command:?}: {}", complaint.trim())));
    }
    Ok(output.stdout)
}

pub(crate) fn parse<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| io::Error::other(format!("not a number: {text}")))
}
