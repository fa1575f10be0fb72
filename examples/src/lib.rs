//! The fibres of the example programs. They need no operating system: the same code runs on a desktop (`src/bin`) and on
//! a chip (`cortex-m3`).
#![no_std]

pub mod ring;
pub mod same_fringe;
pub mod sieve;
pub mod squares;
pub mod squares_by_hand;
pub mod tree;

#[cfg(feature = "std")]
pub mod command_line;
#[cfg(feature = "std")]
pub mod echo;
#[cfg(feature = "std")]
pub mod json;
#[cfg(feature = "std")]
pub mod metronome;
#[cfg(feature = "std")]
pub mod options;
#[cfg(feature = "std")]
pub mod pattern;
#[cfg(feature = "std")]
pub mod pools;
#[cfg(feature = "std")]
pub mod stack_language;
#[cfg(feature = "std")]
pub mod word_count;
