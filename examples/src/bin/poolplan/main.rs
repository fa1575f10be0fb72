//! Finds the size classes that serve a program with the least waste, and prints the table to paste.

mod arguments;
mod chart;
mod table_file;
mod together;
mod trace;
mod workload;

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::Path;
use std::process::ExitCode;

use fibra_allocators::{
    Demand, Plan, Statistics, Table, optimise, optimise_by, optimise_scratch, write_rust, write_toml,
};
use fibra_examples::command_line::{Output, Trouble};
use fibra_std::{Malloc, SizeClasses};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use arguments::{Arguments, Print, Request, Source};
use chart::{Bar, Chart, classes};
use together::Together;
use trace::Trace;

/// The plans that are shown, unless more are asked for.
const SHOWN: usize = 16;

fn main() -> ExitCode {
    let request = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(request) => request,
        Err(what) => {
            // If not even that can be written, the exit code has to do.
            let _ = writeln!(io::stderr(), "poolplan: {what}\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    let mut output = Output::new();
    let done = match request {
        Request::Help => writeln!(output, "{}\n{}", arguments::USAGE, arguments::HELP).map_err(Trouble::from),
        Request::Plan(arguments) => run(&arguments, &mut output),
    };
    output.end("poolplan", done)
}

fn run(arguments: &Arguments, output: &mut Output) -> Result<(), Trouble> {
    // Before anything that takes long.
    let other = arguments.tried.as_deref().map(read_table).transpose()?;
    let (name, trace) = read(&arguments.source)?;
    let stats = Statistics::new(Malloc);
    if replay(&trace, &stats, "asking for memory") > 0 {
        return Err(Trouble::Memory(format!("{name}, which the host cannot serve, either; take a smaller run")));
    }

    let profile: Vec<Demand> = stats.profile().collect();
    let most = arguments.classes.unwrap_or(SHOWN).max(SHOWN);
    let mut scratch = vec![0; optimise_scratch(profile.len(), most)];
    let too_large =
        |error| Trouble::Input(format!("{name}: {error}; plan more classes with --classes, or a smaller run"));
    let (plan, needed) = if arguments.together {
        let bar = progress(profile.len(), "comparing sizes");
        let together = Together::new(&profile, &trace, |row| bar.set_position(row as u64));
        bar.finish_and_clear();
        let n_blocks = |smallest, largest| together.n_blocks(smallest, largest);
        let plan = optimise_by(profile.iter().copied(), most, &mut scratch, n_blocks).map_err(too_large)?;
        (plan, stats.counts().peak_bytes)
    } else {
        let plan = optimise(profile.iter().copied(), most, &mut scratch).map_err(too_large)?;
        let needed = plan.asked();
        (plan, needed)
    };

    let knee = plan.knee();
    let chosen = arguments.classes.unwrap_or(knee).min(plan.classes());
    let bars: Vec<Bar> = (1..=plan.classes()).map(|classes| Bar { classes, bytes: plan.bytes(classes) }).collect();
    let chart = Chart { title: &name, bars: &bars, needed, chosen };
    if plan.bytes(chosen).is_none() {
        let least = bars.iter().find(|bar| bar.bytes.is_some()).map_or(0, |bar| bar.classes);
        let what = format!("{name}: {} would take more than can be addressed; {least} would do", classes(chosen));
        return Err(Trouble::Input(what));
    }
    if let Some(file) = &arguments.svg {
        let svg = chart.svg().map_err(|_| Trouble::Memory("the chart".to_owned()))?;
        fs::write(file, svg).map_err(|error| {
            Trouble::Input(format!(
                "cannot write the chart to {}: {error}; choose another FILE for --svg",
                file.display()
            ))
        })?;
    }

    let table = |write: fn(&mut String, &Plan<'_>, usize) -> std::fmt::Result| {
        let mut text = String::new();
        write(&mut text, &plan, chosen).map(|()| text).map_err(|_| Trouble::Memory("the table".to_owned()))
    };
    let rust = || table(|to, plan, n| write_rust(plan.rows(n), to));
    let toml = || table(|to, plan, n| write_toml(plan.rows(n), to));
    match arguments.print {
        Print::Rust => return Ok(write!(output, "{}", rust()?)?),
        Print::Toml => return Ok(write!(output, "{}", toml()?)?),
        Print::All => {}
    }
    writeln!(output, "{name}: {} operations\n\n{}\n{chart}", trace.operations.len(), stats.report())?;
    match arguments.classes {
        Some(_) => writeln!(output, "As asked: {}.", classes(chosen))?,
        None => writeln!(output, "Recommended: {}; more would save less than a tenth.", classes(chosen))?,
    }
    let table = plan.table::<{ table_file::MOST }>(chosen);
    writeln!(output, "{}\n", table.map_or_else(String::new, |table| run_on(&table, &trace).0))?;
    writeln!(output, "{}\n{}", rust()?, toml()?)?;
    if let (Some(table), Some(file)) = (other, &arguments.tried) {
        let (outcome, report) = run_on(&table, &trace);
        let bytes = table.block_bytes();
        writeln!(output, "{}: {}, {bytes} bytes. {outcome}", file.display(), classes(table.rows().len()))?;
        write!(output, "{report}")?;
    }
    Ok(())
}

/// How the table does for this trace: a sentence, and the counts of its classes.
fn run_on(table: &Table<{ table_file::MOST }>, trace: &Trace) -> (String, String) {
    let Ok(system) = SizeClasses::in_parent(table, Malloc) else {
        return ("It is too large to be tried on this machine.".to_owned(), String::new());
    };
    let outcome = match replay(trace, &system, "trying the table") {
        0 => "The same run on it: nothing was refused.".to_owned(),
        1 => "The same run on it: 1 request was refused.".to_owned(),
        refused => format!("The same run on it: {refused} requests were refused."),
    };
    (outcome, system.report().to_string())
}

fn read_table(file: &Path) -> Result<Table<{ table_file::MOST }>, Trouble> {
    let trouble = |what: String| Trouble::Input(format!("{}: {what}", file.display()));
    let text = fs::read_to_string(file).map_err(|error| trouble(format!("cannot be read: {error}")))?;
    table_file::parse(&text).map_err(trouble)
}

/// The name of what is planned for, and what it does.
fn read(source: &Source) -> Result<(String, Trace), Trouble> {
    match source {
        Source::Workload(name) => {
            let trace = workload::named(name).and_then(Result::ok).ok_or_else(|| Trouble::Memory(name.clone()))?;
            Ok((format!("workload {name}"), trace))
        }
        Source::Trace(file) if file == Path::new("-") => {
            let trace = Trace::read(io::stdin().lock(), |_| {});
            let trace = trace.map_err(|error| Trouble::Input(format!("the standard input: {error}")))?;
            Ok(("standard input".to_owned(), trace))
        }
        Source::Trace(file) => {
            let trouble = |what: &dyn std::fmt::Display| Trouble::Input(format!("{}: {what}", file.display()));
            let open = File::open(file).map_err(|error| trouble(&format_args!("cannot be opened: {error}")))?;
            let length = open.metadata().map_or(0, |metadata| metadata.len());
            let bar = progress(length as usize, "reading");
            let trace = Trace::read(BufReader::new(open), |bytes| bar.inc(bytes as u64));
            bar.finish_and_clear();
            Ok((file.display().to_string(), trace.map_err(|error| trouble(&error))?))
        }
    }
}

/// Gives the number of requests that were refused.
fn replay(trace: &Trace, allocator: impl fibra_std::AllocRef, what: &'static str) -> usize {
    let bar = progress(trace.operations.len(), what);
    // Telling the bar of each operation would take longer than the operation.
    let refused = trace.replay(allocator, |done| {
        if done % 4096 == 0 {
            bar.set_position(done as u64);
        }
    });
    bar.finish_and_clear();
    refused
}

/// How far it has come, for somebody who watches: on a terminal, and not in a continuous integration's log.
fn progress(length: usize, what: &'static str) -> ProgressBar {
    let target = match std::env::var_os("CI") {
        Some(_) => ProgressDrawTarget::hidden(),
        None => ProgressDrawTarget::stderr(), // hidden where it is no terminal
    };
    let style = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {eta}").expect("a valid template");
    ProgressBar::with_draw_target(Some(length as u64), target).with_style(style).with_message(what)
}
