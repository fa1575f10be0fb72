//! Prints primes, found by a pipeline that has a fibre for each of them.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use fibra_examples::command_line::{Program, Trouble};
use fibra_examples::sieve;
use fibra_std::{Malloc, SizeClasses, run_in};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const PROGRAM: Program = Program {
    name: "sieve",
    argument: "LIMIT",
    about: "Prints the primes up to LIMIT, found by a pipeline that has a fibre for each of them.",
    default: 100,
    range: 0..=u32::MAX,
};

fn main() -> ExitCode {
    PROGRAM.run(|limit, output| {
        let out_of_memory = || Trouble::Memory(format!("a fibre for each prime up to {limit}"));
        let sizes = sieve::sizes(limit).map_err(|_| out_of_memory())?;
        let pool = SizeClasses::in_parent(&sizes, Malloc).map_err(|_| out_of_memory())?;
        let bar = progress(limit);
        let exhausted = Cell::new(false);
        let out = &mut *output;
        let show = |prime: u32| {
            bar.set_position(prime.into());
            out.line(prime)
        };
        let run = run_in(&pool, |p| sieve::spawn(p, limit, show, &exhausted));
        bar.finish_and_clear();
        match run {
            Ok((Ok(()), outcome)) if !exhausted.get() => Ok(writeln!(output, "{outcome}")?),
            _ => Err(out_of_memory()),
        }
    })
}

/// How far the sieve has come, for somebody who watches and does not see the primes themselves: on a terminal, and not in
/// a continuous integration's log.
fn progress(limit: u32) -> ProgressBar {
    let target = match std::env::var_os("CI").is_some() || io::stdout().is_terminal() {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(), // hidden where it is no terminal
    };
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {elapsed}").expect("a valid template");
    ProgressBar::with_draw_target(Some(limit.into()), target).with_style(style)
}
