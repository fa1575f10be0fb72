//! Compares the leaves of small trees of different shapes, which stand in static memory like everything else: what was found,
//! what became of the three fibres, and how many frames the walks took.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::fmt::Write;

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hio};
use fibra_allocators::{Arena, Bump, SizeClasses, Table};
use fibra_examples::same_fringe;
use fibra_examples::tree::Tree;
use panic_semihosting as _;

const LEAVES: u32 = 20;
/// A balanced tree that a list is compared with takes five at the most, and the list one less than it has leaves.
const SIZES: Table<2> = match same_fringe::sizes(24) {
    Ok(sizes) => sizes,
    Err(_) => panic!("so many frames fit in memory"),
};
static POOL: Arena<{ SIZES.arena_size() }> = Arena::new();
static TREES: Arena<{ 4 * Tree::bytes(LEAVES as usize) }> = Arena::new();

#[entry]
fn main() -> ! {
    debug::exit(compare_trees().ok_or(()));
    loop {}
}

fn compare_trees() -> Option<()> {
    let mut output = hio::hstdout().ok()?;
    let memory = Bump::new(TREES.take()?);
    let all = || 0..LEAVES;
    let but_one = || all().map(|leaf| if leaf == LEAVES / 2 { LEAVES } else { leaf });
    let balanced = Tree::balanced(all(), &memory).ok()?;
    let left = Tree::leaning_left(all(), &memory).ok()?;
    let right = Tree::leaning_right(all(), &memory).ok()?;
    let changed = Tree::ragged(but_one(), &memory).ok()?;

    let pool = SizeClasses::new(&SIZES, POOL.take()?).ok()?;
    // Two lists that lean to the left are both at their deepest at the first leaf.
    for (one, other) in [(balanced, left), (right, balanced), (balanced, changed), (left, left)] {
        let mut found = None;
        let run = fibra_core::run(&pool, |p| same_fringe::spawn(p, one, other, &mut found));
        let (Ok(()), outcome) = run.ok()? else { return None };
        match found? {
            Ok(verdict) => writeln!(output, "{verdict}: {outcome}").ok()?,
            Err(error) => writeln!(output, "{error}: {outcome}").ok()?,
        }
    }
    write!(output, "{}", pool.report()).ok()
}
