//! Prints how runtimes with several workers compare. The module `workers` of the library says what is measured, how, and
//! what is unfair about it.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use fibra_benches::child;
use fibra_benches::measure::Effort;
use fibra_benches::workers::{self, Figure, Row, Subject};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const USAGE: &str = "usage: workers [--help | --list] [--quick | --patient] [ROW...]";

/// How long a row waits for others to be calm, and how long if told to be patient.
const PATIENCE: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(24 * 60 * 60)];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some(done) = child::serve(&arguments) {
        return code(done);
    }
    let (effort, patience, names) = match arguments.split_first() {
        Some((&"--quick", names)) => (Effort::Quick, PATIENCE[0], names),
        Some((&"--patient", names)) => (Effort::Full, PATIENCE[1], names),
        _ => (Effort::Full, PATIENCE[0], &arguments[..]),
    };
    let done = match names {
        ["--help" | "-h"] => help(),
        ["--list"] => list(),
        [] => compare(&Row::ALL, effort, patience),
        _ => {
            let rows: Vec<Vec<Row>> = names.iter().map(|name| Row::matching(name)).collect();
            if rows.iter().any(Vec::is_empty) {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
            compare(&rows.concat(), effort, patience)
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
            eprintln!("workers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn help() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{USAGE}\n")?;
    writeln!(out, "Without arguments, all rows; a name's beginning stands for all that begin with it.")?;
    writeln!(out, "One line each for row, number of workers and contender, separated by tabs:")?;
    writeln!(out, "row, workers, contender, value, value / first contender's value, value with one worker / value,")?;
    writeln!(out, "processor time in the value's unit, share of a processor that others used meanwhile.\n")?;
    writeln!(out, "  --quick    some seconds for all: to see that it runs; the figures mean little")?;
    writeln!(out, "  --patient  take samples only when others leave the machine alone, however long that takes\n")?;
    for row in Row::ALL {
        writeln!(out, "  {:16} {}", row.name(), row.unit())?;
    }
    Ok(())
}

fn list() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for row in Row::ALL {
        writeln!(out, "{}", row.name())?;
    }
    Ok(())
}

fn compare(rows: &[Row], effort: Effort, patience: Duration) -> io::Result<()> {
    if let Err(reason) = workers::go() {
        eprintln!("workers: without Go: {reason}");
    }
    let samples = rows.iter().map(|&row| workers::subjects(row).len() * row.rounds(effort));
    let bar = ProgressBar::with_draw_target(Some(samples.sum::<usize>() as u64), target());
    let style = ProgressStyle::with_template("{msg:16} {wide_bar} {elapsed} of {duration}");
    bar.set_style(style.expect("a valid template"));
    for &row in rows {
        bar.set_message(row.name());
        let figures = workers::measure(row, effort, patience, || bar.inc(1))?;
        bar.suspend(|| print(&figures))?;
    }
    bar.finish_and_clear();
    Ok(())
}

fn target() -> ProgressDrawTarget {
    if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

fn print(figures: &[(Subject, Figure)]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (subject, figure) in figures {
        let value = |wanted: &dyn Fn(&Subject) -> bool| Some(figures.iter().find(|(s, _)| wanted(s))?.1.value);
        // The first of the contenders is the one of ours to compare with.
        let first = value(&|s| s.workers == subject.workers).unwrap_or(f64::NAN);
        let alone = value(&|s| s.workers == 1 && subject.workers > 1 && s.name == subject.name);
        let (row, workers, name) = (subject.row.name(), subject.workers, subject.name);
        let ratio = figure.value / first;
        let gain = alone.map_or("-".to_owned(), |alone| format!("{:.2}", alone / figure.value));
        let others = figure.others.map_or("-".to_owned(), |others| format!("{:.0}%", others * 100.0));
        let (value, processor) = (figure.value, figure.processor);
        writeln!(out, "{row}\t{workers}\t{name}\t{value:.2}\t{ratio:.2}\t{gain}\t{processor:.2}\t{others}")?;
    }
    out.flush()
}
