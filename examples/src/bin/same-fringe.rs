//! Compares the leaves of large trees of different shapes, each walked by a fibre that calls itself for each level, and
//! prints how many were compared, what was found, what became of the three fibres, and how many frames it took.

use std::io::Write;
use std::process::ExitCode;
use std::thread;

use fibra_examples::command_line::{Program, Trouble, counted};
use fibra_examples::same_fringe;
use fibra_examples::tree::{Built, Tree};
use fibra_std::allocators::Bump;
use fibra_std::{Malloc, SizeClasses, run_in};

const PROGRAM: Program = Program {
    name: "same-fringe",
    argument: "FRAMES",
    about: "Compares the leaves of large trees of different shapes. FRAMES are for two walks, one for each level.",
    default: DEEP + 100,
    range: 1..=u32::MAX,
};

const MANY: u32 = 1_000_000;
/// Of a tree that is a list.
const DEEP: u32 = 100_000;
/// Calls nest a hundred thousand deep on it.
const STACK_SIZE: usize = 256 * 1024;

type Nodes<'m> = &'m Bump<fibra_std::allocators::Extent<Malloc>>;

fn main() -> ExitCode {
    PROGRAM.run(|frames, output| {
        let all = || 0..MANY;
        let but_one = || all().map(|leaf| if leaf == MANY / 2 { MANY } else { leaf });
        let mut show = |what: &str, leaves, left: Shape, right: Shape| {
            writeln!(output, "{what}")?;
            // What the fibres need of a thread's stack does not depend on the trees.
            let comparing = || compare(frames, leaves, left, right);
            let thread = thread::Builder::new().stack_size(STACK_SIZE);
            let found = thread::scope(|scope| Ok(thread.spawn_scoped(scope, comparing)?.join()))
                .map_err(|_: std::io::Error| Trouble::Memory("a thread".into()))?;
            write!(output, "{}", found.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?).map_err(Trouble::from)
        };
        show("balanced and ragged:", MANY, &|m| Tree::balanced(all(), m), &|m| Tree::ragged(all(), m))?;
        show("balanced and ragged, one leaf changed:", MANY, &|m| Tree::balanced(all(), m), &|m| {
            Tree::ragged(but_one(), m)
        })?;
        show("leaning left and leaning right:", DEEP, &|m| Tree::leaning_left(0..DEEP, m), &|m| {
            Tree::leaning_right(0..DEEP, m)
        })
    })
}

type Shape<'a> = &'a (dyn for<'m> Fn(Nodes<'m>) -> Built<'m> + Sync);

fn compare(frames: u32, leaves: u32, left: Shape, right: Shape) -> Result<String, Trouble> {
    let no_trees = || Trouble::Memory(format!("two trees with {leaves} leaves each"));
    let nodes = Bump::in_parent(Malloc, 2 * Tree::bytes(leaves as usize)).map_err(|_| no_trees())?;
    let left = left(&nodes).map_err(|_| no_trees())?;
    let right = right(&nodes).map_err(|_| no_trees())?;

    let no_pool = || Trouble::Memory(format!("three fibres and {}", counted(frames, "frame")));
    let sizes = same_fringe::sizes(frames as usize).map_err(|_| no_pool())?;
    let pool = SizeClasses::in_parent(&sizes, Malloc).map_err(|_| no_pool())?;
    let mut found = None;
    let run = run_in(&pool, |p| same_fringe::spawn(p, left, right, &mut found));
    let (Ok(()), outcome) = run.map_err(|_| no_pool())? else { return Err(no_pool()) };
    match found {
        Some(Ok(verdict)) => Ok(format!("{verdict}\n{outcome}\n{}", pool.report())),
        Some(Err(error)) => Err(Trouble::Input(format!("{error}: try more than {}", counted(frames, "frame")))),
        None => Err(no_pool()),
    }
}
