//! Prints the squares of 0, 1, 2, ..., what became of the three fibres, and what their memory was used for.

use std::io::Write;
use std::process::ExitCode;

use fibra_examples::command_line::{Program, Trouble};
use fibra_examples::squares::{self, SIZES};
use fibra_std::{Arena, SizeClasses, run_in};

const PROGRAM: Program = Program {
    name: "squares",
    argument: "COUNT",
    about: "Prints the squares of the first COUNT numbers: a producer, a squaring stage and a consumer.",
    default: 20,
    range: 0..=u32::MAX,
};

static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();

fn main() -> ExitCode {
    PROGRAM.run(|count, output| {
        let out_of_memory = || Trouble::Memory("three fibres".into());
        let memory = MEMORY.take().ok_or_else(out_of_memory)?;
        let pool = SizeClasses::new(&SIZES, memory).map_err(|_| out_of_memory())?;
        let out = &mut *output;
        let run = run_in(&pool, |p| squares::spawn(p, 0..count, |square| out.line(square)));
        let (Ok(()), outcome) = run.map_err(|_| out_of_memory())? else {
            return Err(out_of_memory());
        };
        writeln!(output, "{outcome}")?;
        Ok(write!(output, "{}", pool.report())?)
    })
}
