//! Prints how fibra compares: one tab-separated line per workload and contender. The library's documentation says how it
//! is measured, and what is unfair about it.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use fibra_benches::measure::{self, Effort};
use fibra_benches::{Contender, Workload, child};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const USAGE: &str = "usage: versus [--help | --list] [WORKLOAD...]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some(done) = child::serve(&arguments) {
        return code(done);
    }
    let done = match arguments[..] {
        ["--help" | "-h"] => help(),
        ["--list"] => list(),
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
    code(done)
}

fn code(done: io::Result<()>) -> ExitCode {
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
        let medians = measure::medians(workload, Effort::Full, || bar.inc(1))?;
        let contenders = workload.contenders();
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
    let fibra = values[0]; // the first of the contenders is the one of ours to compare with
    for (contender, value) in contenders.iter().zip(values) {
        writeln!(out, "{}\t{}\t{value:.2}\t{:.2}", workload.name(), contender.name, value / fibra)?;
    }
    out.flush()
}
