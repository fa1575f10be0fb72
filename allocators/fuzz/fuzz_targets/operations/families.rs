//! Allocators chosen at run time: each in a block of another, with its memory from that, as long as anybody needs it.

use allocator_api2::vec::Vec as InVec;
use fibra_allocators::{
    AllocError, Bump, Checking, Counting, Debugging, DynAlloc, Elastic, Fallback, Fifo, FixedBlock, Ordered,
    ParentFull, PoolBox, Relief, SizeClasses, Source, Statistics,
};

use crate::input::Input;
use crate::model::Parent;

type Handle<'a> = DynAlloc<'a>;

/// A child of `of`, if that has room for it.
fn child<'a>(input: &mut Input<'_>, of: Handle<'a>) -> Result<Handle<'a>, AllocError> {
    fn owned<'a>(value: impl Source + 'a, of: Handle<'a>) -> Result<Handle<'a>, AllocError> {
        DynAlloc::new_in(value, of).map_err(|ParentFull { value, parent }| {
            drop(parent);
            drop(value);
            AllocError
        })
    }
    let parent = of.clone();
    Ok(match input.byte() % 10 {
        0 => owned(Bump::in_parent(of, usize::from(input.word()) % 3000)?, parent)?,
        1 => owned(SizeClasses::in_parent(&input.table(), of)?, parent)?,
        2 => owned(SizeClasses::in_parent_with_form::<Ordered>(&input.table(), of)?, parent)?,
        3 => owned(FixedBlock::in_parent_with_form::<Fifo>(input.layout(&[]), input.below(9), of)?, parent)?,
        4 => owned(Statistics::<_, fibra_allocators::NoLock, 4>::over(of), parent)?,
        5 => owned(Counting::new(of), parent)?,
        6 => owned(Debugging::new(of, "child", String::new()), parent)?,
        7 => owned(Checking::in_parent(of.clone(), of, 1 + input.below(30))?.quarantine(3, 500), parent)?,
        8 => owned(Fallback::new(Bump::in_parent(of.clone(), 200)?, of), parent)?,
        _ => {
            let system = SizeClasses::in_parent(&input.table(), of.clone())?;
            owned(Elastic::new(system, Relief::NextClassOrFallback, of), parent)?
        }
    })
}

/// Something in an allocator, which it keeps alive.
enum Thing<'a> {
    Bytes(PoolBox<[u8], Handle<'a>>, u8),
    Words(InVec<u32, Handle<'a>>),
}

impl Thing<'_> {
    fn assert_intact(&self) {
        match self {
            Thing::Bytes(bytes, first) => assert!((0..bytes.len()).all(|at| bytes[at] == first.wrapping_add(at as u8))),
            Thing::Words(words) => assert!((0..).zip(words).all(|(at, word)| at * 7 == *word)),
        }
    }
}

pub fn family(input: &mut Input<'_>) {
    let root = Parent::default();
    {
        let mut handles: Vec<Handle<'_>> = vec![DynAlloc::root(&root)];
        let mut things: Vec<Thing<'_>> = Vec::new();
        for _ in 0..200 {
            if input.is_empty() {
                break;
            }
            let code = input.byte();
            let which = input.below(handles.len() + 1);
            let handle = handles.get(which).cloned().unwrap_or_else(|| DynAlloc::root(&root));
            match code % 8 {
                0 | 1 => handles.extend(child(input, handle)),
                2 if handles.len() < 30 => handles.push(handle),
                3 if which < handles.len() => drop(handles.swap_remove(which)),
                4 => {
                    let (len, first) = (usize::from(input.word()) % 600, input.byte());
                    let bytes = PoolBox::from_fn_in(len, |at| first.wrapping_add(at as u8), handle);
                    things.extend(bytes.map(|bytes| Thing::Bytes(bytes, first)));
                }
                5 => things.push(Thing::Words(InVec::new_in(handle))),
                6 => {
                    let (at, more) = (input.below(things.len()), usize::from(input.byte()));
                    match things.get_mut(at) {
                        Some(Thing::Words(words)) if more % 3 == 0 => {
                            words.truncate(more);
                            words.shrink_to_fit();
                        }
                        Some(Thing::Words(words)) => {
                            let (room, len) = (words.try_reserve(more).is_ok(), words.len() as u32);
                            words.extend((len..len + more as u32).filter(|_| room).map(|at| at * 7));
                        }
                        _ => {}
                    }
                }
                _ if !things.is_empty() => {
                    let at = input.below(things.len());
                    things.swap_remove(at).assert_intact();
                }
                _ => {}
            }
            things.iter().for_each(Thing::assert_intact);
        }
        // The handles first, or the things; each in the order that the input says.
        if input.byte() & 1 == 0 {
            while !handles.is_empty() {
                drop(handles.swap_remove(input.below(handles.len())));
            }
        }
        while !things.is_empty() {
            things.swap_remove(input.below(things.len())).assert_intact();
        }
    }
    // A vector that shrinks to nothing keeps a block of no bytes, and does not give it back.
    assert!(root.live().iter().all(|layout| layout.size() == 0), "all went home");
}
