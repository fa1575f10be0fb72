//! Every allocator, in every form, used in every order. The first byte says which one.

#![no_main]

mod crowds;
mod families;
mod input;
mod lone;
#[allow(dead_code)]
#[path = "../../../tests/support/model.rs"]
mod model;
mod pairs;
mod shared;
#[allow(dead_code)]
#[path = "../../../tests/support/specs.rs"]
mod specs;
mod typed;
#[allow(dead_code)]
#[path = "../../../tests/support/values.rs"]
mod values;
mod watched;

use fibra_allocators::Allocator;
use libfuzzer_sys::fuzz_target;

use input::Input;
use model::{Spec, World};

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    const TARGETS: [fn(&mut Input<'_>); 12] = [
        lone::bump,
        lone::fixed_block,
        lone::size_classes,
        lone::reserve,
        shared::caches,
        shared::cached,
        pairs::elastic,
        pairs::fallback,
        watched::watched,
        crowds::crowd,
        families::family,
        typed::typed,
    ];
    TARGETS[input.below(TARGETS.len())](&mut input);
});

/// Takes steps as long as there is input; each by one of the handles, which are all of the same allocator. Now and then does
/// what there is to do `beside`.
fn drive<S: Spec + ?Sized>(
    input: &mut Input<'_>,
    mut world: World<'_, S>,
    handles: &[&dyn Allocator],
    matters: &[usize],
    mut beside: impl FnMut(&World<'_, S>, &mut Input<'_>),
) {
    const MOST: usize = 500;
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        let code = input.byte();
        if code < 0xF0 {
            world.step(handles[usize::from(code >> 4) % handles.len()], &input.step(code & 15, matters));
        } else {
            beside(&world, input);
        }
    }
    world.finish(handles[0]);
}
