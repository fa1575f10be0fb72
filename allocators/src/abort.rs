//! The end of the program, without an operating system to ask for it.

/// Ends the program if it is dropped while unwinding: where a panic must not go any further.
pub(crate) struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        // A second panic, which ends the program by definition.
        panic!("an allocator must not unwind here");
    }
}

impl AbortOnUnwind {
    /// Runs what must not unwind.
    #[inline(always)]
    pub(crate) fn around<T>(work: impl FnOnce() -> T) -> T {
        let guard = AbortOnUnwind;
        let done = work();
        core::mem::forget(guard);
        done
    }
}

/// Ends the program: where nothing that could be returned would be true.
#[cold]
pub(crate) fn abort(why: &'static str) -> ! {
    AbortOnUnwind::around(|| panic!("{why}"))
}
