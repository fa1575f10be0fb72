//! What the tests share: guarded memory, a parent that keeps accounts, and a model to hold an allocator against.

// Each test file is a program of its own and uses a part of this.
#![allow(dead_code, unused_imports)]

pub mod by_force;
pub mod locked;
pub mod model;
pub mod recorder;
pub mod specs;
pub mod values;

use std::sync::Mutex;

use fibra_allocators::Layout;
use proptest::prelude::*;

pub use model::{Expect, Guarded, Live, Parent, Pick, Spec, Step, bytes, drain, fill, layout, release, run};

/// Keeps a value until the program ends, where a leak checker sees it.
pub fn forever<T>(value: T) -> &'static mut T {
    static KEPT: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let kept = Box::leak(Box::new(value));
    KEPT.lock().expect("nobody panics with it").push((&raw mut *kept).expose_provenance());
    kept
}

/// Sizes up to `max`, the small ones more often, and alignments up to 8192.
pub fn layouts(max: usize) -> impl Strategy<Value = Layout> {
    let size = prop_oneof![4 => 0..=max.min(128), 2 => 0..=max, 1 => Just(0), 1 => Just(max)];
    let align = prop_oneof![6 => 0..=4_u32, 2 => 5..=8_u32, 1 => 9..=13_u32];
    (size, align).prop_map(|(size, log)| layout(size, 1 << log))
}

pub fn picks() -> impl Strategy<Value = Pick> {
    any::<u32>().prop_map(Pick)
}

pub fn steps(max: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (layouts(max), any::<bool>()).prop_map(|(layout, zeroed)| Step::Allocate { layout, zeroed }),
        3 => (picks(), picks()).prop_map(|(which, size)| Step::Release { which, size }),
        3 => (picks(), layouts(max), any::<bool>())
            .prop_map(|(which, layout, zeroed)| Step::Resize { which, layout, zeroed }),
    ];
    prop::collection::vec(step, 0..150)
}
