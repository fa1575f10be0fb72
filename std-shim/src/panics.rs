//! Catching panics for a process, and going on with the first one.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

type Payload = Box<dyn Any + Send>;

/// The first panic that was caught.
#[derive(Default)]
pub struct FirstPanic(Option<Payload>);

impl FirstPanic {
    /// Calls `f`, and says whether it panicked.
    pub fn catch(&mut self, f: &mut dyn FnMut()) -> bool {
        // What a panic leaves half done is the process's own state, which is made for it, or the user's, who hears of the
        // panic: it goes on, or was to be isolated.
        let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else {
            return false;
        };
        if self.0.is_none() {
            self.0 = Some(payload);
        } else {
            discard(payload);
        }
        true
    }

    /// Takes over another's panic, unless it has one already: then the other keeps it.
    pub fn take_over(&mut self, other: &mut Self) {
        if self.0.is_none() {
            self.0 = other.0.take();
        }
    }

    /// Goes on with the panic, if there was one.
    pub fn resume(mut self) {
        if let Some(payload) = self.0.take() {
            resume_unwind(payload);
        }
    }
}

impl Drop for FirstPanic {
    fn drop(&mut self) {
        if let Some(payload) = self.0.take() {
            discard(payload);
        }
    }
}

/// Drops a payload whose own destructor may panic.
fn discard(payload: Payload) {
    if let Err(next) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // It could go on like that for ever.
        mem::forget(next);
    }
}
