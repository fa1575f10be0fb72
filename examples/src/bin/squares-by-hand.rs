//! Prints the squares of 0, 1, 2, ... as `squares` does, with fibres that are written as explicit state machines.

use std::io::Write;
use std::process::ExitCode;

use fibra_examples::command_line::{Program, Trouble};
use fibra_examples::squares_by_hand::{self, SIZES};
use fibra_std::{Arena, SizeClasses, run_in};

const PROGRAM: Program = Program {
    name: "squares-by-hand",
    argument: "COUNT",
    about: "Prints the squares of the first COUNT numbers, as `squares` does: the fibres are explicit state machines.",
    default: 20,
    range: 0..=u32::MAX,
};

static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();

fn main() -> ExitCode {
    PROGRAM.run(|count, output| {
        let out_of_memory = || Trouble::Memory("three fibres and a frame".into());
        let memory = MEMORY.take().ok_or_else(out_of_memory)?;
        let pool = SizeClasses::new(&SIZES, memory).map_err(|_| out_of_memory())?;
        let out = &mut *output;
        let run = run_in(&pool, |p| squares_by_hand::spawn(p, 0..count, |square| out.line(square)));
        let (Ok(()), outcome) = run.map_err(|_| out_of_memory())? else {
            return Err(out_of_memory());
        };
        writeln!(output, "{outcome}")?;
        Ok(write!(output, "{}", pool.report())?)
    })
}
