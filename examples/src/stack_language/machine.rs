//! Running a program: what its fibres share, and what becomes of them.

extern crate std;

use core::cell::{Cell, RefCell};
use core::fmt;
use std::borrow::ToOwned;
use std::format;
use std::io;
use std::string::String;
use std::vec::Vec;

use fibra_core::{AllocRef, Fate, Outcome, Report, Setup};

use super::compiler::Program;
use super::routine::Fibre;
use super::source::{Error, quoted};
use super::stack::Checked;

/// What the fibres of a program share.
pub struct Machine<'env> {
    pub program: &'env Program,
    output: RefCell<&'env mut dyn io::Write>,
    /// Words that may yet be done; `None`: as many as it takes.
    steps: Cell<Option<u64>>,
    /// Channels that were made.
    channels: Cell<u64>,
    /// Fibres that were destroyed while they waited.
    lost: RefCell<Vec<Lost>>,
    failed: RefCell<Option<RunError>>,
}

impl Machine<'_> {
    /// Grants up to so many steps, at least one.
    pub fn grant(&self, most: u32) -> Checked<u32> {
        let Some(steps) = self.steps.get() else { return Ok(most) };
        if steps == 0 {
            return Err("the limit of steps is used up; allow more with --steps".to_owned());
        }
        let granted = most.min(u32::try_from(steps).unwrap_or(most));
        self.steps.set(Some(steps - u64::from(granted)));
        Ok(granted)
    }

    /// Takes back what was not used.
    pub fn give_back(&self, left: u32) {
        self.steps.set(self.steps.get().map(|steps| steps + u64::from(left)));
    }

    /// A number for a new channel.
    pub fn number(&self) -> u64 {
        self.channels.replace(self.channels.get() + 1)
    }

    pub fn print(&self, text: fmt::Arguments<'_>) -> Checked<()> {
        self.output.borrow_mut().write_fmt(text).map_err(|error| {
            let what = format!("cannot write the output: {error}");
            *self.failed.borrow_mut() = Some(RunError::Output(error));
            what
        })
    }

    /// Notes the first error.
    pub fn fail(&self, at: usize, what: String) {
        self.failed.borrow_mut().get_or_insert_with(|| RunError::Program(self.program.error(at, what)));
    }

    pub fn lost(&self, lost: Lost) {
        self.lost.borrow_mut().push(lost);
    }
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// What became of its fibres.
    pub outcome: Outcome,
    /// Where the deadlocked ones waited, which are those that waited for each other when nothing went on any more.
    pub deadlocked: Vec<Error>,
}

/// A fibre that was destroyed while it waited.
pub struct Lost {
    /// The word that was spawned; the first fibre has none.
    pub spawned: Option<u32>,
    /// Where in the code it waited.
    pub at: usize,
    /// Whether to send, rather than to receive.
    pub sends: bool,
}

impl Lost {
    fn deadlock(&self, program: &Program) -> Error {
        let who = match self.spawned {
            Some(word) => "fibre ".to_owned() + &quoted(&program.words[word as usize].name),
            None => "the first fibre".to_owned(),
        };
        let (does, other) = if self.sends { ("send", "receive") } else { ("receive", "send") };
        let what =
            format!("deadlock: {who} waits to {does}, and all who could {other} wait for others; have one go first");
        program.error(self.at, what)
    }
}

/// Why a program did not run to its end.
#[derive(Debug)]
pub enum RunError {
    /// It did something that cannot be done, or ran out of memory or of steps.
    Program(Error),
    /// Its output cannot be written.
    Output(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Program(error) => error.fmt(f),
            RunError::Output(error) => write!(f, "cannot write the output: {error}"),
        }
    }
}

impl std::error::Error for RunError {}

/// Runs a program in the memory of `allocator`, for instance a [`Pool`](super::Pool), with at most so many `steps`, each
/// of which does one word. Everything is back in the pool when this returns.
///
/// # Errors
/// [`RunError`], with the place in the program. What it printed before that was written.
///
/// # Blocking
/// As long as the program runs.
///
/// ```
/// use fibra_examples::stack_language::{Room, compile, run};
///
/// let program = compile(b": endless  begin 1 drop again ;  endless")?;
/// let pool = Room::default().pool().expect("memory");
/// let error = run(&program, &pool, Some(1_000_000), &mut std::io::sink()).unwrap_err();
/// assert!(error.to_string().contains(": the limit of steps is used up;"), "{error}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn run<A: AllocRef>(
    program: &Program,
    allocator: A,
    steps: Option<u64>,
    output: &mut dyn io::Write,
) -> Result<End, RunError> {
    let machine = Machine {
        program,
        output: RefCell::new(output),
        steps: Cell::new(steps),
        channels: Cell::new(0),
        lost: RefCell::default(),
        failed: RefCell::default(),
    };
    // What a collapsed fibre waited for is of no interest: this is how a fibre ends here.
    let mut report = |report: &Report| {
        if report.fate() == Fate::Collapsed {
            machine.lost.borrow_mut().pop();
        }
    };
    let ran = Setup::new(allocator).report(&mut report).run(|process| {
        if let Err(what) = Fibre::spawn(process, &machine, None, |_| Ok(())) {
            machine.fail(0, what);
        }
    });
    let outcome = match ran {
        Ok(((), outcome)) => outcome,
        Err(failure) => failure.outcome,
    };
    let deadlocked = machine.lost.take().iter().map(|lost| lost.deadlock(program)).collect();
    match machine.failed.take() {
        Some(error) => Err(error),
        None => Ok(End { outcome, deadlocked }),
    }
}
