//! Explicit continuations: routines that do what the bytes say, against a model; see the machine.

#![no_main]

#[path = "../../../core/tests/common/mod.rs"]
mod common;
#[allow(dead_code)]
#[path = "../../../core/tests/common/scripts.rs"]
mod scripts;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The engine's hook, which aborts at once, is for the panics that are not the script's.
    scripts::be_quiet();
    scripts::follow_script(bytes);
});
