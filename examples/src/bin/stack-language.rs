//! Runs a program in the stack language of `fibra_examples::stack_language`.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fibra_examples::command_line::{Output, Trouble};
use fibra_examples::stack_language::{MOST_BYTES, Room, RunError, compile, run};

const USAGE: &str =
    "usage: stack-language [--frames N] [--fibres N] [--channels N] [--steps N] [--report] [--help] FILE";

const HELP: &str = "
Runs a program in a small stack language with fibres and channels; `-` is the standard input. The documentation of
fibra_examples::stack_language describes the language, and examples/programs/primes.stack is written in it.

  --frames N    memory for N words that were called and have not returned (default 10000)
  --fibres N    memory for N fibres (default 1000)
  --channels N  memory for N channels, with three endpoints each (default 1000)
  --steps N     stop the program after N words (default: never)
  --report      print what became of the fibres, and what memory was used for, when the program has ended

The exit code is 0, or 1 if something went wrong, deadlocks too, or 2 if the arguments mean nothing.";

struct Arguments {
    file: PathBuf,
    room: Room,
    steps: Option<u64>,
    report: bool,
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
            let _ = writeln!(io::stderr(), "stack-language: {what}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut output = Output::new();
    let done = match request {
        Request::Help => writeln!(output, "{USAGE}\n{HELP}").map_err(Trouble::from),
        Request::Run(arguments) => run_file(&arguments, &mut output),
    };
    output.end("stack-language", done)
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    let mut arguments = arguments.into_iter();
    let (mut file, mut room, mut steps, mut report) = (None, Room::default(), None, false);
    while let Some(argument) = arguments.next() {
        let option = argument.to_string_lossy();
        let mut number = || {
            let number = arguments.next().and_then(|number| number.to_str()?.parse::<u64>().ok());
            number.ok_or_else(|| format!("{option} needs a number, for instance {option} 5000"))
        };
        let mut count = || number().map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        match &*option {
            "--help" | "-h" => return Ok(Request::Help),
            "--frames" => room.frames = count()?,
            "--fibres" => room.fibres = count()?,
            "--channels" => room.channels = count()?,
            "--steps" => steps = Some(number()?),
            "--report" => report = true,
            option if option.starts_with('-') && option != "-" => return Err(format!("there is no option {option}")),
            _ if file.is_some() => return Err("more than one FILE".to_owned()),
            _ => file = Some(PathBuf::from(&argument)),
        }
    }
    let file = file.ok_or("no FILE; write - for the standard input")?;
    Ok(Request::Run(Arguments { file, room, steps, report }))
}

fn run_file(arguments: &Arguments, output: &mut Output) -> Result<(), Trouble> {
    let Arguments { file, room, steps, report } = arguments;
    let (name, source) = read(file)?;
    let wrong = |what: &dyn Display| Trouble::Input(format!("{name}:{what}"));
    let program = compile(&source).map_err(|error| wrong(&error))?;
    let out_of_memory = |_| Trouble::Memory("so many frames, fibres and channels; ask for fewer".to_owned());
    let pool = room.pool().map_err(out_of_memory)?;
    let end = run(&program, &pool, *steps, output).map_err(|error| match error {
        RunError::Program(error) => wrong(&error),
        RunError::Output(error) => Trouble::Output(error),
    })?;
    if *report {
        write!(output, "{}\n{}", end.outcome, pool.report())?;
    }
    let deadlocks: Vec<String> = end.deadlocked.iter().map(|error| format!("{name}:{error}")).collect();
    if deadlocks.is_empty() { Ok(()) } else { Err(Trouble::Input(deadlocks.join("\n"))) }
}

/// The name of the program, and its text: no more than can be used, however much there is.
fn read(file: &Path) -> Result<(String, Vec<u8>), Trouble> {
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let mut source = Vec::new();
    let most = MOST_BYTES as u64 + 1;
    let done = match file == Path::new("-") {
        true => io::stdin().lock().take(most).read_to_end(&mut source),
        false => File::open(file).and_then(|file| file.take(most).read_to_end(&mut source)),
    };
    match done {
        Ok(_) => Ok((name, source)),
        Err(error) => Err(Trouble::Input(format!("{name} cannot be read: {error}"))),
    }
}
