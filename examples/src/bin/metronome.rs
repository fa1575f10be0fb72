//! Beats in time, and shows how late the beats came.

use std::ffi::OsString;
use std::io::{self, Write};
use std::ops::{ControlFlow, RangeInclusive};
use std::process::ExitCode;
use std::time::Duration;

use fibra_examples::command_line::{Output, Trouble, counted};
use fibra_examples::metronome::{self, Beat, Jitter};
use fibra_std::{Clock, run};

const USAGE: &str = "usage: metronome [--bpm N] [--beats N] [--measure N] [--help]";

const HELP: &str = "
Beats in time. One fibre waits for the ticks of a clock and writes the beats to another, which shows them; when the
beats are over the first one ends, and the other collapses. Then it prints how late the beats came.

  --bpm N      beats in a minute, from 1 to 60000 (default 120)
  --beats N    how many beats, up to 1000000 (default 16)
  --measure N  beats in a measure, from 1 to 1000 (default 4); the first of them is a TICK, the others are tocks

The exit code is 0, or 1 if something went wrong, or 2 if the arguments mean nothing.";

#[derive(Clone, Copy)]
struct Arguments {
    bpm: u32,
    beats: u32,
    measure: u32,
}

enum Request {
    Help,
    Run(Arguments),
}

fn main() -> ExitCode {
    let request = match parse(std::env::args_os().skip(1)) {
        Ok(request) => request,
        Err(what) => {
            // If not even that can be written, the exit code has to do.
            let _ = writeln!(io::stderr(), "metronome: {what}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut output = Output::new();
    let done = match request {
        Request::Help => writeln!(output, "{USAGE}\n{HELP}").map_err(Trouble::from),
        Request::Run(arguments) => beat(arguments, &mut output),
    };
    output.end("metronome", done)
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    let mut arguments = arguments.into_iter();
    let mut wanted = Arguments { bpm: 120, beats: 16, measure: 4 };
    while let Some(argument) = arguments.next() {
        let option = argument.to_string_lossy();
        let mut number = |range: RangeInclusive<u32>| {
            let number = arguments.next().and_then(|number| number.to_str()?.parse().ok());
            number.filter(|number| range.contains(number)).ok_or_else(|| {
                format!("{option} needs a number from {} to {}, for instance {option} 8", range.start(), range.end())
            })
        };
        match &*option {
            "--help" | "-h" => return Ok(Request::Help),
            "--bpm" => wanted.bpm = number(1..=60_000)?,
            "--beats" => wanted.beats = number(0..=1_000_000)?,
            "--measure" => wanted.measure = number(1..=1000)?,
            option => return Err(format!("there is no option {option}")),
        }
    }
    Ok(Request::Run(wanted))
}

fn beat(arguments: Arguments, output: &mut Output) -> Result<(), Trouble> {
    let Arguments { bpm, beats, measure } = arguments;
    let out_of_memory = || Trouble::Memory(counted(beats, "beat"));
    let mut jitter = Jitter::of(beats).map_err(|_| out_of_memory())?;
    let clock = Clock::new().map_err(|error| Trouble::Input(error.to_string()))?;
    let ticks = clock.tick(Duration::from_secs(60) / bpm);
    let mut failed = None;
    let show = |Beat { number, late }| {
        jitter.note(late);
        let sound = if (number - 1) % measure == 0 { "TICK" } else { "tock" };
        output.line(format_args!("{number:>7} {sound}"))?;
        // A beat is heard when it is due, not when there is enough to write.
        failed = output.flush().err();
        if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let (spawned, outcome) = run(|p| metronome::spawn(p, ticks, beats, show)).map_err(|_| out_of_memory())?;
    spawned.map_err(|_| out_of_memory())?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let missed = beats as usize - jitter.beats();
    writeln!(output, "\n{}, {missed} missed\n{jitter}{outcome}", counted(beats, "beat"))?;
    Ok(())
}
