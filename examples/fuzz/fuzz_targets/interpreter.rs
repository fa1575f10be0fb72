//! The stack language: no bytes make its compiler panic, and no program its machine; each ends within its steps, and leaves
//! nothing in its pool.

#![no_main]

use fibra_examples::stack_language::{assembled, exercise};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    exercise(bytes);
    exercise(assembled(bytes).as_bytes());
});
