//! Measures memory pools and writes a page about them. The library's documentation says how it is measured, and what is
//! unfair about it; so does the page.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use fibra_benches::child;
use fibra_benches::measure::Effort;
use fibra_benches::report::Report;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const USAGE: &str = "usage: pool-report [--help] [--quick] [OUT.html]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some(done) = child::serve(&arguments) {
        return code(done);
    }
    let (effort, rest) = match arguments.split_first() {
        Some((&"--quick", rest)) => (Effort::Quick, rest),
        _ => (Effort::Full, &arguments[..]),
    };
    match rest {
        ["--help" | "-h"] => code(help()),
        [] => code(report(effort, Path::new("pools.html"))),
        [out] if !out.starts_with('-') => code(report(effort, Path::new(out))),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn code(done: io::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pool-report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn help() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{USAGE}\n")?;
    writeln!(out, "Measures every pool workload, which takes a few minutes, and writes a page that")?;
    writeln!(out, "needs nothing besides itself: OUT.html, or pools.html.\n")?;
    writeln!(out, "  --quick  a few seconds: to see that it runs; the figures mean little")
}

fn report(effort: Effort, out: &Path) -> io::Result<()> {
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(Report::steps(effort) as u64), target);
    let style = ProgressStyle::with_template("{msg:16} {wide_bar} {elapsed} of {duration}");
    bar.set_style(style.expect("a valid template"));
    let report = Report::measure(effort, |step| {
        if bar.message() != step {
            bar.set_message(step.to_owned());
        }
        bar.inc(1);
    })?;
    bar.finish_and_clear();
    std::fs::write(out, report.page())?;
    writeln!(io::stdout(), "{}", out.display())
}
