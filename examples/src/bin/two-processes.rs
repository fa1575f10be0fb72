//! Runs two processes at once, each in memory of its own, which talk to each other: one asks how many steps each number
//! takes to come down to 1 (halved if it is even, otherwise tripled and one more), the other one answers.
//!
//! ```text
//!   asking: 1 thread, size classes               answering: 2 workers, blocks of one size, without locks
//!   .--------.           questions               .--------.
//!   | source |---------------------------------->| answer |-.
//!   '--------'                                   '--------' |-.
//!   .------.             answers                   '--------' |
//!   | sink |<----------------------------------------'--------'
//!   '------'
//! ```
//!
//! When the last question is asked, the source leaves. So the answering fibres, which wait for another one, collapse, and
//! so does the sink, which waits for another answer: nobody tells a process to end. Prints the number that takes the most
//! steps, and for each process what became of its fibres, and what its memory was used for.
//!
//! Run it with `cargo run --release --bin two-processes 1000000`.

use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;

use fibra_examples::command_line::{Program, Trouble, counted};
use fibra_std::allocators::{FixedBlock, LockFree};
use fibra_std::chips::{sink, source, transducer};
use fibra_std::{
    AllocError, Arena, Error, Layout, Malloc, MemReq, Outcome, OutsideReader, OutsideWriter, Shared, SizeClasses,
    System, Table, run_in, table,
};

const PROGRAM: Program = Program {
    name: "two-processes",
    argument: "LIMIT",
    about: "Finds the number up to LIMIT that takes the most steps: one process asks, another one answers.",
    default: 10_000,
    range: 1..=u32::MAX,
};

const WORKERS: usize = 2;
const ANSWERING: usize = 4;

/// The asking process has two fibres of about the same size. The channels are not in its memory, but in the system's.
const SIZES: Table<3> = table([MemReq::new(96, 2), MemReq::new(128, 2), MemReq::new(192, 2)]);
static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();

/// The answering process has fibres of one kind.
const BLOCK: Layout = Layout::new::<[u64; 32]>();

/// A number, and the steps that it takes.
type Answer = (u32, u32);

/// What a process has to say at its end.
type Account = String;

fn main() -> ExitCode {
    PROGRAM.run(|limit, output| {
        let (mut most, mut asking, mut answering) = ((1, 0), Account::new(), Account::new());
        let (memory, outcome) = System::run(|system| {
            let (ask, questions) = system.asynchronous().map_err(no_memory)?;
            let (answer, answers) = system.asynchronous().map_err(no_memory)?;
            let (most, asking, answering) = (&mut most, &mut asking, &mut answering);
            let asks = move || run_asking(limit, ask, answers, most, asking);
            system.spawn_process_with("asking", asks).map_err(no_thread)?;
            let answers = move || run_answering(questions, answer, answering);
            system.spawn_process_with("answering", answers).map_err(no_thread)?;
            Ok::<_, Trouble>(system.memory().map_err(no_memory)?.clone())
        });
        let memory = memory?;
        if let Some((process, error)) = outcome.failures.first() {
            return Err(Trouble::Memory(format!("the {process} process: {error}")));
        }
        let (number, steps) = most;
        writeln!(output, "{number} takes {}, the most of all numbers up to {limit}", counted(steps, "step"))?;
        write!(output, "\nasking: {asking}\nanswering: {answering}\n")?;
        let live: usize = memory.classes().map(|class| class.live).sum();
        writeln!(
            output,
            "{} processes: {}; blocks of channels that are live: {live}",
            outcome.processes, outcome.fibres
        )?;
        Ok(())
    })
}

fn run_asking(
    limit: u32,
    ask: OutsideWriter<u32>,
    answers: OutsideReader<Answer>,
    most: &mut Answer,
    account: &mut Account,
) -> Result<((), Outcome), Error<()>> {
    let memory = MEMORY.take().ok_or(AllocError)?;
    let pool = SizeClasses::new(&SIZES, memory).map_err(|_| AllocError)?;
    let mut spawned = Ok(());
    let run = run_in(&pool, |p| {
        // Of equals the smallest, whatever the order in which the answers come.
        let note = |(number, steps)| {
            if steps > most.1 || (steps == most.1 && number < most.0) {
                *most = (number, steps);
            }
        };
        let fibre = p.fibre().waker();
        spawned = fibre
            .name("source")
            .spawn(source(1..=limit, ask.inside(p)))
            .map_err(|_| AllocError)
            .and_then(|()| fibre.name("sink").spawn(sink(note, answers.inside(p))).map_err(|_| AllocError));
    })?;
    spawned?;
    let _ = write!(account, "{}\n{}", run.1, pool.report()); // to a string, which takes everything
    Ok(run)
}

fn run_answering(
    questions: OutsideReader<u32>,
    answer: OutsideWriter<Answer>,
    account: &mut Account,
) -> Result<((), Outcome), Error<()>> {
    let pool = FixedBlock::in_parent_with_form::<LockFree>(BLOCK, ANSWERING, Malloc)?;
    let mut spawned = Ok(());
    let run = Shared::with_allocator(&pool).workers(WORKERS).run(|p| {
        spawned = (0..ANSWERING).try_for_each(|_| {
            let (from, to) = (questions.dup()?.inside(p), answer.dup()?.inside(p));
            let answering = transducer(|number| (number, steps(number)), from, to);
            p.fibre().name("answer").waker().spawn(answering).map_err(|_| AllocError)
        });
        // Nobody may wait for an answer from those that answer nothing.
        drop((questions, answer));
    })?;
    spawned?;
    let (size, n_blocks, peak, live) = (pool.block().size(), pool.capacity(), pool.peak(), pool.live());
    let _ = write!(account, "{}\n{n_blocks} blocks of {size} bytes, {peak} at the peak, {live} live", run.1);
    Ok(run)
}

fn steps(number: u32) -> u32 {
    let mut n = u64::from(number);
    let mut steps = 0;
    while n != 1 {
        n = if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 };
        steps += 1;
    }
    steps
}

fn no_memory(_: AllocError) -> Trouble {
    Trouble::Memory("the channels".to_owned())
}

fn no_thread(error: std::io::Error) -> Trouble {
    Trouble::Memory(format!("a thread: {error}"))
}
