//! Prints how fibra compares: one tab-separated line per workload and contender. The library's documentation says how it
//! is measured, and what is unfair about it.

use std::io::{self, IsTerminal, Write};
use std::process::{Command, ExitCode};

use fibra_benches::{Contender, Workload, measure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const USAGE: &str = "usage: versus [--help | --list] [WORKLOAD...]";

/// What a child process is started with: `--sample WORKLOAD CONTENDER`.
const SAMPLE: &str = "--sample";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["--help" | "-h"] => help(),
        ["--list"] => list(),
        [SAMPLE, workload, contender] => sample_here(workload, contender),
        [] => compare(&Workload::ALL),
        _ => {
            let workloads: Vec<Vec<Workload>> = arguments.iter().map(|name| Workload::matching(name)).collect();
            if workloads.iter().any(Vec::is_empty) {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
            compare(&workloads.concat())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our lines has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("versus: {error}");
            ExitCode::FAILURE
        }
    }
}

fn help() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{USAGE}\n")?;
    writeln!(out, "Without arguments, all workloads; a name's beginning stands for all that begin with it.")?;
    writeln!(out, "One line each for workload and contender:")?;
    writeln!(out, "workload, contender, value, value / fibra's value; separated by tabs.\n")?;
    for workload in Workload::ALL {
        writeln!(out, "  {:16} {}", workload.name(), workload.unit())?;
    }
    Ok(())
}

fn list() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for workload in Workload::ALL {
        writeln!(out, "{}", workload.name())?;
    }
    Ok(())
}

fn compare(workloads: &[Workload]) -> io::Result<()> {
    let samples = workloads.iter().map(|w| w.contenders().len() * w.rounds());
    let bar = ProgressBar::with_draw_target(Some(samples.sum::<usize>() as u64), target());
    let style = ProgressStyle::with_template("{msg:16} {wide_bar} {elapsed} of {duration}");
    bar.set_style(style.expect("a valid template"));
    for &workload in workloads {
        bar.set_message(workload.name());
        let contenders = workload.contenders();
        let sizes: Vec<u64> = match workload.isolated() {
            true => Vec::new(),
            false => contenders.iter().map(|&c| measure::calibrate(workload, c)).collect(),
        };
        let medians = measure::medians(workload, contenders.len(), |i| {
            bar.inc(1);
            match workload.isolated() {
                true => sample_in_child(workload, contenders[i]),
                false => Ok(measure::sample(workload, contenders[i], sizes[i])),
            }
        })?;
        bar.suspend(|| print(workload, &contenders, &medians))?;
    }
    bar.finish_and_clear();
    Ok(())
}

fn target() -> ProgressDrawTarget {
    if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

fn print(workload: Workload, contenders: &[Contender], values: &[f64]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let fibra = values[0]; // it is the first of the contenders
    for (contender, value) in contenders.iter().zip(values) {
        writeln!(out, "{}\t{}\t{value:.2}\t{:.2}", workload.name(), contender.name, value / fibra)?;
    }
    out.flush()
}

/// A sample taken in a process of its own.
fn sample_in_child(workload: Workload, contender: Contender) -> io::Result<f64> {
    let output = Command::new(std::env::current_exe()?).args([SAMPLE, workload.name(), contender.name]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        io::Error::other(format!("{} of {}: {}", workload.name(), contender.name, complaint.trim()))
    })
}

/// The child's part of [`sample_in_child`].
fn sample_here(workload: &str, contender: &str) -> io::Result<()> {
    let workload = Workload::named(workload).ok_or_else(|| io::Error::other("no such workload"))?;
    let contender = workload
        .contenders()
        .into_iter()
        .find(|c| c.name == contender)
        .ok_or_else(|| io::Error::other("no such contender"))?;
    if workload == Workload::Bytes && measure::resident_bytes() == 0 {
        return Err(io::Error::other("this system does not tell the resident memory"));
    }
    let n = measure::calibrate(workload, contender);
    writeln!(io::stdout(), "{}", measure::sample(workload, contender, n))
}
