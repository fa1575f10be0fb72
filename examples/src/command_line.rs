//! What the programs do alike: their one argument, their output, their exit code.

extern crate std;

use core::fmt;
use core::ops::{ControlFlow, RangeInclusive};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::process::ExitCode;
use std::string::{String, ToString};

/// A program with one optional number as its argument, and perhaps a number of workers.
pub struct Program {
    /// What the user calls it.
    pub name: &'static str,
    /// What the number is.
    pub argument: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// The number, if the user gives none.
    pub default: u32,
    /// The numbers that mean something.
    pub range: RangeInclusive<u32>,
}

/// Why a program ends with a message.
pub enum Trouble {
    /// The output cannot be written.
    Output(io::Error),
    /// There is not enough memory; what for.
    Memory(String),
    /// What the user gave cannot be used; what, why, and what would do.
    Input(String),
    /// It ran, and what it found is not as it should be.
    Found(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Output(error)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Output(error) => write!(f, "cannot write the output: {error}"),
            Trouble::Memory(what) => write!(f, "out of memory for {what}"),
            Trouble::Input(what) | Trouble::Found(what) => f.write_str(what),
        }
    }
}

impl Program {
    /// Runs the program with the number that the user gave.
    ///
    /// The exit code is 0, also when the reader of the output has seen enough and closed it; 1 if something went wrong,
    /// with a message; 2 if the arguments mean nothing, with the usage.
    pub fn run(&self, main: impl FnOnce(u32, &mut Output) -> Result<(), Trouble>) -> ExitCode {
        self.run_request(false, |number, _, output| main(number, output))
    }

    /// Runs a program that takes `--workers N`, too: with the number that the user gave, and the number of workers, which is 1
    /// if the user gave none.
    ///
    /// The exit code is that of [`run`](Self::run).
    pub fn run_on_workers(&self, main: impl FnOnce(u32, usize, &mut Output) -> Result<(), Trouble>) -> ExitCode {
        self.run_request(true, main)
    }

    fn run_request(
        &self,
        on_workers: bool,
        main: impl FnOnce(u32, usize, &mut Output) -> Result<(), Trouble>,
    ) -> ExitCode {
        let mut output = Output::new();
        let usage = self.usage(on_workers);
        let done = match self.parse(on_workers) {
            Some(Request::Run { number, workers }) => main(number, workers, &mut output),
            Some(Request::Help) => writeln!(output, "{usage}\n\n{}", self.about).map_err(Trouble::from),
            None => {
                // If not even that can be written, the exit code has to do.
                let _ = writeln!(io::stderr(), "{usage}");
                return ExitCode::from(2);
            }
        };
        output.end(self.name, done)
    }

    fn parse(&self, on_workers: bool) -> Option<Request> {
        let mut arguments = std::env::args_os().skip(1);
        let (mut given, mut workers) = (None, None);
        while let Some(argument) = arguments.next() {
            match argument.to_str()? {
                "--help" | "-h" => return (given.is_none() && arguments.next().is_none()).then_some(Request::Help),
                "--workers" if on_workers && workers.is_none() => workers = Some(self::workers(&arguments.next()?)?),
                number if given.is_none() => given = Some(number.parse().ok()?),
                _ => return None,
            }
        }
        let number = given.unwrap_or(self.default);
        self.range.contains(&number).then_some(Request::Run { number, workers: workers.unwrap_or(1) })
    }

    fn usage(&self, on_workers: bool) -> String {
        let Program { name, argument, default, range, .. } = self;
        let (least, most) = (range.start(), range.end());
        let (option, workers) = match on_workers {
            true => ("[--workers N] ", std::format!("; N from 1 to {MOST_WORKERS} (default 1)")),
            false => ("", String::new()),
        };
        std::format!(
            "usage: {name} {option}[--help | {argument}], with {argument} from {least} to {most} (default {default}){workers}"
        )
    }
}

enum Request {
    Run { number: u32, workers: usize },
    Help,
}

/// More threads than this can only be a mistake.
pub const MOST_WORKERS: usize = 256;

/// How many workers the user wants, if it is a number that means something.
pub fn workers(argument: &OsStr) -> Option<usize> {
    argument.to_str()?.parse().ok().filter(|workers| (1..=MOST_WORKERS).contains(workers))
}

/// The standard output, buffered, which remembers its first error: fibres write to it where no error can be returned.
///
/// It is not locked, because a lock could not go from one worker to another.
pub struct Output {
    to: io::BufWriter<io::Stdout>,
    error: Option<io::Error>,
}

impl Output {
    #[allow(clippy::new_without_default)] // it takes the one standard output
    /// The standard output, which nobody else should write to meanwhile.
    pub fn new() -> Self {
        Output { to: io::BufWriter::new(io::stdout()), error: None }
    }

    /// Writes what is left, and a message if there was trouble. Gives the exit code: see [`Program::run`].
    pub fn end(mut self, program: &str, done: Result<(), Trouble>) -> ExitCode {
        match done.and_then(|()| Ok(self.flush()?)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(Trouble::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(trouble) => {
                // What was written before the trouble is worth having.
                let _ = self.flush();
                let _ = writeln!(io::stderr(), "{program}: {trouble}");
                ExitCode::FAILURE
            }
        }
    }

    /// Writes a line. Tells whether to go on; if not, [`flush`](Write::flush) says why.
    pub fn line(&mut self, line: impl fmt::Display) -> ControlFlow<()> {
        if self.error.is_none() {
            self.error = writeln!(self.to, "{line}").err();
        }
        if self.error.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.error.take().map_or_else(|| self.to.flush(), Err)
    }
}

/// Number and noun: "1 fibre", "2 fibres".
pub fn counted(count: u32, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    std::format!("{count} {}", noun.to_string() + s)
}
