//! Runs fibres that wait for each other in a circle, and prints the report that the end of the process gives.

use std::io::Write;
use std::process::ExitCode;

use fibra_examples::command_line::{Program, Trouble, counted};
use fibra_examples::ring;
use fibra_std::{Report, Setup};

const PROGRAM: Program = Program {
    name: "deadlock",
    argument: "COUNT",
    about: "Runs COUNT fibres that wait for each other in a circle, and prints what their process says about it.",
    default: 2,
    range: 1..=u32::MAX,
};

fn main() -> ExitCode {
    PROGRAM.run(|count, output| {
        let out_of_memory = || Trouble::Memory(counted(count, "fibre"));
        let fibre = |i: u32| leaked(format!("{}", i + 1));
        let channel = |i: u32| leaked(format!("{} to {}", if i == 0 { count } else { i }, i + 1));
        let out = &mut *output;
        let mut report = |report: &Report| {
            // All are destroyed anyway; an error shows when the output is flushed.
            let _ = out.line(report);
        };
        let run = Setup::new().report(&mut report).run(|p| {
            let spawned = ring::spawn(p, count, fibre, channel);
            if spawned.is_err() {
                // Not the circle that was asked for, so there is nothing to say about it.
                p.stop();
            }
            spawned
        });
        let (Ok(()), outcome) = run.map_err(|_| out_of_memory())? else {
            return Err(out_of_memory());
        };
        Ok(writeln!(output, "{outcome}")?)
    })
}

/// Names are `'static`, because reports may be kept. Most programs know theirs when they are compiled.
fn leaked(name: String) -> &'static str {
    name.leak()
}
