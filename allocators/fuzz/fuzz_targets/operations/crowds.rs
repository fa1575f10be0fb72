//! Many blocks of one size, in any form or behind caches, taken and given back by the hundred: which one is next, and that
//! none is lost on the way.

use std::collections::{BTreeSet, VecDeque};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use fibra_allocators::{
    Allocator, Cache, Fifo, FixedBlock, Form, Layout, LockFree, MemReq, NoLock, Ordered, SizeClasses, SpinLock, fixup,
};

use crate::input::Input;
use crate::model::{layout, release};

const BITS: usize = usize::BITS as usize;

/// Free blocks by number, in the order in which a form gives them out again.
enum Free {
    Last(Vec<usize>),
    First(VecDeque<usize>),
    Near { free: BTreeSet<usize>, group: usize },
}

impl Free {
    fn push(&mut self, number: usize) {
        match self {
            Free::Last(free) => free.push(number),
            Free::First(free) => free.push_back(number),
            Free::Near { free, .. } => assert!(free.insert(number)),
        }
    }

    /// The next block; `fresh` is one that was never used, if there is one left.
    fn next(&mut self, fresh: Option<usize>) -> Option<usize> {
        match self {
            Free::Last(free) => free.pop().or(fresh),
            Free::First(free) => fresh.or_else(|| free.pop_front()),
            Free::Near { free, group } => {
                let near = free.range(*group * BITS..(*group + 1) * BITS).next().or(free.first()).copied();
                let Some(number) = near else { return fresh };
                free.remove(&number);
                *group = number / BITS;
                Some(number)
            }
        }
    }
}

pub fn crowd(input: &mut Input<'_>) {
    match input.byte() % 6 {
        0 => in_form::<NoLock>(input, Free::Last(Vec::new())),
        1 => in_form::<LockFree>(input, Free::Last(Vec::new())),
        2 => in_form::<Fifo>(input, Free::First(VecDeque::new())),
        3 => in_form::<Ordered>(input, Free::Near { free: BTreeSet::new(), group: 0 }),
        4 => in_form::<SpinLock>(input, Free::Last(Vec::new())),
        _ => in_caches(input),
    }
}

/// About a power of two.
fn about(input: &mut Input<'_>, most: u32) -> usize {
    let (log, off) = (u32::from(input.byte()) % (most + 1), usize::from(input.byte() % 8));
    ((1 << log) + off).saturating_sub(4)
}

/// Takes so many of a list, beginning somewhere, in steps of so many.
fn some<T>(list: &mut Vec<T>, input: &mut Input<'_>) -> Vec<T> {
    let (n, start, step) = (about(input, 13), input.pick(), about(input, 8));
    let mut at = start.index(list.len().max(1));
    let mut taken = Vec::new();
    while taken.len() < n && !list.is_empty() {
        at = (at + step) % list.len();
        taken.push(list.swap_remove(at));
    }
    taken
}

fn in_form<F: Form>(input: &mut Input<'_>, mut free: Free) {
    let size = [8, 16, 24, 40, 56][input.below(5)];
    let (block, capacity) = (layout(size, 8), about(input, 14));
    let parent = crate::model::Parent::default();
    let blocks = &FixedBlock::in_parent_with_form::<F>(block, capacity, &parent).expect("the host has memory");
    assert_eq!((blocks.capacity(), blocks.live(), blocks.peak()), (capacity, 0, 0));
    let start = if capacity == 0 { 0 } else { parent.range().start };
    let (mut live, mut carved) = (Vec::new(), 0);
    for _ in 0..64 {
        if input.is_empty() {
            break;
        }
        if input.byte() & 1 == 0 {
            for _ in 0..about(input, 14) {
                let expected = free.next((carved < capacity).then_some(carved));
                let Some(number) = expected else {
                    assert!(blocks.allocate(block).is_err());
                    break;
                };
                carved += usize::from(number == carved);
                let given = blocks.allocate(block).expect("there is one left").cast::<usize>();
                assert_eq!((given.addr().get() - start) / size, number, "the next one");
                // SAFETY: allocated with this layout.
                unsafe { given.write(number) };
                live.push(given);
            }
        } else {
            for block_of_ours in some(&mut live, input) {
                let number = (block_of_ours.addr().get() - start) / size;
                // SAFETY: written when it was allocated.
                assert_eq!(unsafe { block_of_ours.read() }, number, "contents lost");
                free.push(number);
                release(blocks, NonNull::slice_from_raw_parts(block_of_ours.cast(), size), block);
            }
        }
        assert_eq!((blocks.live(), blocks.peak(), blocks.verify()), (live.len(), carved, Ok(())));
    }
}

fn in_caches(input: &mut Input<'_>) {
    const BLOCK: Layout = Layout::new::<u64>();
    let (size, n) = (1 << (4 + input.below(6)), about(input, 11));
    let Ok(table) = fixup([MemReq::new(size, n)]) else { return assert_eq!(n, 0) };
    let mut memory = vec![MaybeUninit::uninit(); table.block_bytes() + size];
    let start = memory.as_ptr().addr().next_multiple_of(size);
    let system = &SizeClasses::with_form::<SpinLock>(&table, &mut memory).expect("what the table asks for");
    let counted = || {
        assert_eq!(system.verify(), Ok(()));
        system.classes().map(|class| class.live).sum::<usize>()
    };
    let depths = [(); 3].map(|()| usize::from(input.byte()));
    let bound = depths.iter().map(|depth| 32 + 2 * depth.max(&15)).sum::<usize>();
    let mut caches = depths.map(|depth| Cache::new(system, depth));
    let (mut live, mut given) = (Vec::new(), vec![false; n]);
    for _ in 0..64 {
        if input.is_empty() {
            break;
        }
        let code = input.byte();
        let which = usize::from(code >> 4) % 4;
        let cache;
        let handle: &dyn Allocator = match caches.get(which) {
            Some(one) => {
                cache = one;
                &cache
            }
            None => &system,
        };
        match code & 7 {
            0..3 => {
                for _ in 0..about(input, 11) {
                    let Ok(block) = handle.allocate(BLOCK) else {
                        assert_eq!(counted(), n, "refused, although the shared class has a block");
                        break;
                    };
                    let block = block.cast::<usize>();
                    let number = (block.addr().get() - start) / size;
                    assert!(!std::mem::replace(&mut given[number], true), "given twice");
                    // SAFETY: allocated with this layout.
                    unsafe { block.write(number) };
                    live.push(block);
                }
            }
            3..6 => {
                for block in some(&mut live, input) {
                    let number = (block.addr().get() - start) / size;
                    // SAFETY: written when it was allocated.
                    assert_eq!(unsafe { block.read() }, number, "contents lost");
                    given[number] = false;
                    release(handle, NonNull::slice_from_raw_parts(block.cast(), size), BLOCK);
                }
            }
            6 => {
                caches.iter().for_each(Cache::flush);
                assert_eq!(counted(), live.len(), "all went home");
            }
            _ if which < 3 => caches[which] = Cache::new(system, depths[which]),
            _ => {}
        }
        assert!((live.len()..=live.len() + bound).contains(&counted()));
    }
    drop(caches);
    assert_eq!(counted(), live.len(), "all went home");
}
