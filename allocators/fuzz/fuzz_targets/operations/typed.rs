//! Values in pools: owned, shared, taken out, forgotten; made, dropped and counted as if there were no pool.

use std::mem;

use fibra_allocators::{Borrowed, Counted, FixedBlock, Form, NoRoom, Pool, PoolBox, PoolRc};

use crate::input::Input;
use crate::lone::in_some_form;
use crate::model::Guarded;
use crate::values::{Census, One};

pub fn typed(input: &mut Input<'_>) {
    in_some_form!(input, typed_in(input));
}

fn typed_in<F: Form>(input: &mut Input<'_>, _: bool) {
    let len = usize::from(input.byte()) * 4;
    let mut guarded = Guarded::new(3, len);
    let census = Census::default();
    if input.byte() & 1 == 0 {
        owned::<F>(input, &census, &Pool::with_form(guarded.memory()));
    } else {
        shared::<F>(input, &census, &Pool::with_form(guarded.memory()));
    }
    guarded.assert_guards();
}

fn owned<'m, F: Form>(input: &mut Input<'_>, census: &'m Census, pool: &Pool<One<'m>, Borrowed<'m>, F>) {
    let mut boxes: Vec<(PoolBox<One<'_>, &FixedBlock<Borrowed<'_>, F>>, u32)> = Vec::new();
    let mut forgotten = 0;
    for number in 0..300 {
        if input.is_empty() {
            break;
        }
        let full = boxes.len() + forgotten == pool.capacity();
        let (code, which) = (input.byte(), input.below(boxes.len()));
        match code % 8 {
            0..3 => match pool.put(census.one(number)) {
                Ok(boxed) => boxes.push((boxed, number)),
                Err(NoRoom { value }) => assert!(full && value.number == number),
            },
            3 => match pool.put_with(|| census.one(number)) {
                Ok(boxed) => boxes.push((boxed, number)),
                Err(_) => assert!(full),
            },
            _ if boxes.is_empty() => {}
            4 => drop(boxes.swap_remove(which)),
            5 => {
                let (boxed, number) = boxes.swap_remove(which);
                assert_eq!(PoolBox::into_inner(boxed).number, number);
            }
            6 => {
                mem::forget(boxes.swap_remove(which));
                forgotten += 1;
            }
            _ => {
                let (boxed, old) = &mut boxes[which];
                assert_eq!(mem::replace(&mut **boxed, census.one(number)).number, *old);
                *old = number;
            }
        }
        assert!(boxes.iter().all(|(boxed, number)| boxed.number == *number));
        assert_eq!((pool.live(), census.alive()), (boxes.len() + forgotten, boxes.len() + forgotten));
        assert_eq!(pool.blocks().verify(), Ok(()));
    }
    drop(boxes);
    assert_eq!((pool.live(), census.alive()), (forgotten, forgotten));
}

fn shared<'m, F: Form>(input: &mut Input<'_>, census: &'m Census, pool: &Pool<Counted<One<'m>>, Borrowed<'m>, F>) {
    let mut handles: Vec<(PoolRc<One<'_>, &FixedBlock<Borrowed<'_>, F>>, u32)> = Vec::new();
    let mut forgotten: Vec<u32> = Vec::new();
    for number in 0..300 {
        if input.is_empty() {
            break;
        }
        let (code, which) = (input.byte(), input.below(handles.len()));
        let of = |number: u32, handles: &[(_, u32)], forgotten: &[u32]| {
            handles.iter().filter(|(_, other)| *other == number).count()
                + forgotten.iter().filter(|other| **other == number).count()
        };
        match code % 8 {
            0..2 => match pool.rc(census.one(number)) {
                Ok(handle) => handles.push((handle, number)),
                Err(NoRoom { value }) => assert!(pool.live() == pool.capacity() && value.number == number),
            },
            _ if handles.is_empty() => {}
            2 | 3 => {
                let (handle, number) = &handles[which];
                let twin = (handle.clone(), *number);
                assert!(PoolRc::ptr_eq(handle, &twin.0));
                handles.push(twin);
            }
            4 => drop(handles.swap_remove(which)),
            5 => {
                let (handle, number) = handles.swap_remove(which);
                let others = of(number, &handles, &forgotten);
                match PoolRc::try_unwrap(handle) {
                    Ok(value) => assert_eq!((value.number, others), (number, 0)),
                    Err(handle) => {
                        assert_ne!(others, 0);
                        handles.push((handle, number));
                    }
                }
            }
            6 => {
                let (handle, number) = handles.swap_remove(which);
                let alone = of(number, &handles, &forgotten) == 0;
                assert_eq!(PoolRc::into_inner(handle).map(|value| value.number), alone.then_some(number));
            }
            _ => {
                let (mut handle, number) = handles.swap_remove(which);
                let alone = of(number, &handles, &forgotten) == 0;
                assert_eq!(PoolRc::get_mut(&mut handle).is_some(), alone);
                mem::forget(handle);
                forgotten.push(number);
            }
        }
        let mut numbers: Vec<u32> =
            handles.iter().map(|(_, number)| *number).chain(forgotten.iter().copied()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!((pool.live(), census.alive()), (numbers.len(), numbers.len()));
        for (handle, number) in &handles {
            assert_eq!(handle.number, *number);
            assert_eq!(PoolRc::strong_count(handle), of(*number, &handles, &forgotten));
        }
    }
    drop(handles);
    forgotten.sort_unstable();
    forgotten.dedup();
    assert_eq!((pool.live(), census.alive()), (forgotten.len(), forgotten.len()));
}
