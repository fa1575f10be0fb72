//! The atomics of the wake hub: the real ones, or those of the model checker.

#[cfg(fibra_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
#[cfg(not(fibra_loom))]
pub(crate) use portable_atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// A constructor that is `const`, except under the model checker, whose atomics cannot be made at compile time.
#[cfg(not(fibra_loom))]
macro_rules! const_unless_modelled {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),*) -> $out:ty $body:block) => {
        $(#[$meta])* $vis const fn $name($($arg: $type),*) -> $out $body
    };
}
#[cfg(fibra_loom)]
macro_rules! const_unless_modelled {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),*) -> $out:ty $body:block) => {
        $(#[$meta])* $vis fn $name($($arg: $type),*) -> $out $body
    };
}
pub(crate) use const_unless_modelled;
