//! Prints the squares of 0, 1, 2, ..., what became of the three fibres, and what their memory was used for.
//!
//! The same fibres run on one thread or on several: `squares 1000` and `squares --workers 2 1000` print the same squares.

use std::io::Write;
use std::process::ExitCode;

use fibra_examples::command_line::{Program, Trouble};
use fibra_examples::squares::{self, SIZES, consume, produce, square};
use fibra_std::allocators::SpinLock;
use fibra_std::{Arena, Shared, SizeClasses, run_in};

const PROGRAM: Program = Program {
    name: "squares",
    argument: "COUNT",
    about: "Prints the squares of the first COUNT numbers: a producer, a squaring stage and a consumer, on N threads.",
    default: 20,
    range: 0..=u32::MAX,
};

static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();

fn main() -> ExitCode {
    PROGRAM.run_on_workers(|count, workers, output| {
        let out_of_memory = || Trouble::Memory("three fibres".into());
        let memory = MEMORY.take().ok_or_else(out_of_memory)?;
        let out = &mut *output;
        let show = |square| out.line(square);
        let (run, report) = if workers == 1 {
            let pool = SizeClasses::new(&SIZES, memory).map_err(|_| out_of_memory())?;
            let run = run_in(&pool, |p| squares::spawn(p, 0..count, show));
            (run, pool.report().to_string())
        } else {
            let pool = SizeClasses::with_form::<SpinLock>(&SIZES, memory).map_err(|_| out_of_memory())?;
            let run = Shared::with_allocator(&pool)
                .workers(workers)
                .run(|p| squares::wire(p, |to| produce(0..count, to), square, |from| consume(from, show)));
            (run, pool.report().to_string())
        };
        let (Ok(()), outcome) = run.map_err(|_| out_of_memory())? else {
            return Err(out_of_memory());
        };
        writeln!(output, "{outcome}")?;
        Ok(write!(output, "{report}")?)
    })
}
