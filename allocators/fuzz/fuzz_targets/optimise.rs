//! From a profile to a table: no list of rows makes `fixup` or `optimise` panic, what they give is what the plainest way
//! gives, and a table made from a run's statistics serves that run.

#![no_main]

#[path = "../../tests/support/by_force.rs"]
mod by_force;

use std::collections::BTreeMap;
use std::mem::MaybeUninit;

use allocator_api2::alloc::Global;
use fibra_allocators::{
    Allocator, Demand, Fifo, FixupError, Form, GRANULE, Layout, LockFree, MemReq, NoLock, Ordered, Plan, SizeClasses,
    Statistics, Table, fixup, optimise, optimise_by, optimise_scratch,
};
use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

use by_force::{by_force, merged};

fuzz_target!(|bytes: &[u8]| {
    let mut input = Unstructured::new(bytes);
    match byte(&mut input) % 5 {
        0 => fix_up::<1>(&mut input),
        1 => fix_up::<6>(&mut input),
        2 => fix_up::<300>(&mut input),
        3 => plans(&mut input),
        _ => profile(&mut input),
    }
});

fn byte(input: &mut Unstructured<'_>) -> u8 {
    input.arbitrary().unwrap_or(0)
}

/// Mostly small, now and then about a power of two, or anything.
fn number(input: &mut Unstructured<'_>) -> usize {
    match byte(input) {
        small @ 0..200 => small.into(),
        200..220 => input.arbitrary().unwrap_or(0),
        220..240 => usize::from(input.arbitrary::<u16>().unwrap_or(0)),
        _ => {
            let (log, off) = (u32::from(byte(input)) % usize::BITS, usize::from(byte(input) % 8));
            (1_usize << log).wrapping_add(off).wrapping_sub(4)
        }
    }
}

/// What the documentation of `fixup` says.
fn plainly(reqs: &[MemReq]) -> Result<BTreeMap<usize, usize>, FixupError> {
    let most = isize::MAX as u128 - 2 * 4096;
    let (mut rows, mut total) = (BTreeMap::new(), 0_u128);
    for (row, req) in reqs.iter().enumerate() {
        if req.block_size == 0 {
            return Err(FixupError::NoBytes { row });
        }
        if req.n_blocks == 0 {
            return Err(FixupError::NoBlocks { row });
        }
        let size = (req.block_size as u128).next_multiple_of(GRANULE as u128);
        total += size * req.n_blocks as u128;
        if total > most {
            return Err(FixupError::Overflow { row });
        }
        *rows.entry(size as usize).or_insert(0) += req.n_blocks;
    }
    if rows.len() > 255 { Err(FixupError::TooManyClasses) } else { Ok(rows) }
}

fn fix_up<const N: usize>(input: &mut Unstructured<'_>) {
    // In a long list one bad row ends it all, so most numbers of it are good.
    let good = N > 6 || byte(input) & 1 == 0;
    let reqs = [(); N].map(|()| match good && byte(input) < 250 {
        true => {
            MemReq::new(1 + usize::from(input.arbitrary::<u16>().unwrap_or(0)) % 5000, 1 + usize::from(byte(input) % 8))
        }
        false => MemReq::new(number(input), number(input)),
    });
    let fixed = fixup(reqs);
    match (&fixed, plainly(&reqs)) {
        (Ok(table), Ok(rows)) => {
            assert!(table.rows().iter().map(|row| (row.block_size, row.n_blocks)).eq(rows));
            assert_eq!(table.block_bytes(), table.rows().iter().map(|row| row.block_size * row.n_blocks).sum());
            assert!(table.arena_align().is_power_of_two() && table.arena_size() >= table.block_bytes());
            in_memory::<N, NoLock>(table, input);
            in_memory::<N, LockFree>(table, input);
            in_memory::<N, Ordered>(table, input);
            in_memory::<N, Fifo>(table, input);
        }
        (Err(error), Err(plainly)) => {
            assert_eq!(*error, plainly);
            assert!(!error.to_string().is_empty());
        }
        (_, plainly) => panic!("{fixed:?} is not {plainly:?}"),
    }
}

/// The size that the table asks for suffices, wherever it lies, and gives as many blocks as the rows say.
fn in_memory<const N: usize, F: Form>(table: &Table<N>, input: &mut Unstructured<'_>) {
    const MOST: usize = 1 << 16;
    let size = table.arena_size_for::<F>();
    let skew = usize::from(byte(input)) * 16;
    let mut memory = vec![MaybeUninit::uninit(); MOST.min(size) + 16 + skew];
    let skew = skew + (memory.as_ptr().addr().wrapping_neg() & 15);
    let memory = &mut memory[skew..];
    let given = memory.len().min(size);
    match SizeClasses::with_form::<F>(table, &mut memory[..given]) {
        Ok(system) => {
            let system = &system;
            for row in table.rows() {
                let layout = Layout::from_size_align(row.block_size, 1).expect("it fits into memory");
                let all = std::iter::from_fn(|| system.allocate(layout).ok()).count();
                assert_eq!(all, row.n_blocks);
            }
        }
        Err(error) => {
            assert!(size > given, "as much as it asked for");
            assert_eq!(error.got, given);
            assert!(error.needed > given);
        }
    }
}

fn demand(input: &mut Unstructured<'_>, good: bool) -> Demand {
    if good {
        let align = match byte(input) {
            few @ 240.. => 1 << (few % 13),
            few => 1 << (few % 5),
        };
        let size = 1 + usize::from(input.arbitrary::<u16>().unwrap_or(0)) % 3000;
        return Demand { size, align, peak: 1 + usize::from(byte(input) % 32) };
    }
    let align = match byte(input) {
        any @ 250.. => usize::from(any) << (any % 64),
        power => 1 << (power % 13),
    };
    Demand { size: number(input), align, peak: number(input) }
}

fn bytes_of(rows: impl Iterator<Item = MemReq>) -> usize {
    rows.map(|row| row.block_size * row.n_blocks).sum()
}

/// What is so of every plan.
fn assert_sound(plan: &Plan<'_>) {
    assert!((1..=plan.classes()).contains(&plan.knee()));
    let mut before = None;
    for n in 1..=plan.classes() {
        let rows: Vec<_> = plan.rows(n).collect();
        assert_eq!(plan.bytes(n).is_some(), !rows.is_empty());
        assert!(rows.len() <= n && rows.is_sorted_by(|a, b| a.block_size < b.block_size));
        if let Some(bytes) = plan.bytes(n) {
            assert_eq!(bytes, bytes_of(rows.iter().copied()));
            assert_eq!(plan.waste(n), Some(bytes.saturating_sub(plan.asked())));
            assert!(before.is_none_or(|before| bytes <= before));
            before = Some(bytes);
        }
    }
    assert_eq!((plan.bytes(0), plan.rows(0).count()), (None, 0));
    assert_eq!(plan.bytes(usize::MAX), plan.bytes(plan.classes()));
}

fn plans(input: &mut Unstructured<'_>) {
    let code = byte(input);
    let (good, by_count) = (code & 3 != 0, code & 4 != 0);
    let (n, classes) = (usize::from(byte(input)) % if good { 9 } else { 40 }, usize::from(byte(input)));
    let profile: Vec<Demand> = (0..n).map(|_| demand(input, good)).collect();
    let needed = optimise_scratch(n, classes);
    let scratch = if code & 8 != 0 && !good { usize::from(byte(input)) } else { needed };
    let mut scratch = vec![usize::MAX / 3; scratch];
    let salt = usize::from(byte(input));
    let count = |smallest: usize, largest: usize| 1 + (smallest / 16 * 31 + largest / 16 * 17 + salt) % 23;
    let plan = match by_count {
        true => optimise_by(profile.iter().copied(), classes, &mut scratch, count),
        false => optimise(profile.iter().copied(), classes, &mut scratch),
    };
    match plan {
        Ok(plan) => {
            assert_sound(&plan);
            let _ = (plan.table::<0>(1), plan.table::<4>(3), format!("{plan:?}"));
            if good {
                assert_eq!(plan.classes(), classes.min(merged(&profile).len()));
                for n in 1..=plan.classes() {
                    let least = by_force(&profile, n, |sizes, sum| match by_count {
                        true => count(*sizes.start(), *sizes.end()),
                        false => sum,
                    });
                    assert_eq!(plan.bytes(n), Some(least), "{n} classes");
                }
            }
        }
        Err(error) => {
            assert!(!good || n == 0 || classes == 0, "{error}");
            assert!(!error.to_string().is_empty());
        }
    }
}

/// A run of allocations and releases: its statistics make tables that serve it.
fn profile(input: &mut Unstructured<'_>) {
    let mut steps = Vec::new();
    while !input.is_empty() && steps.len() < 300 {
        steps.push(match byte(input) {
            code @ 0..100 => Err(usize::from(code)),
            code => {
                let log = if code < 240 { code % 5 } else { code % 13 };
                Ok(Layout::from_size_align(number(input) % 20_000, 1 << log).expect("small"))
            }
        });
    }
    let run = |allocator: &dyn Allocator| {
        let mut live = Vec::new();
        for step in &steps {
            match *step {
                Ok(layout) => live.push((allocator.allocate(layout).expect("it was reserved").cast::<u8>(), layout)),
                Err(which) if !live.is_empty() => {
                    let (block, layout) = live.swap_remove(which % live.len());
                    // SAFETY: allocated with this layout.
                    unsafe { allocator.deallocate(block, layout) }
                }
                Err(_) => {}
            }
        }
        for (block, layout) in live {
            // SAFETY: allocated with this layout.
            unsafe { allocator.deallocate(block, layout) }
        }
    };
    let stats = Statistics::new(Global);
    run(&&stats);
    assert_eq!(stats.counts().live, 0);
    const CLASSES: usize = 12;
    let rows = stats.profile().count();
    let mut scratch = vec![0; optimise_scratch(rows, CLASSES)];
    let Ok(plan) = optimise(stats.profile(), CLASSES, &mut scratch) else { return assert_eq!(rows, 0) };
    assert_sound(&plan);
    for n in 1..=plan.classes() {
        let table: Table<CLASSES> = plan.table(n).expect("it has no more rows, and is small");
        let mut memory = vec![MaybeUninit::uninit(); table.arena_size() + 16];
        let system = SizeClasses::new(&table, &mut memory).expect("what the table asks for");
        run(&&system);
        for (class, row) in system.classes().zip(plan.rows(n)) {
            assert_eq!((class.block_size, class.reserved, class.live), (row.block_size, row.n_blocks, 0));
        }
    }
}
