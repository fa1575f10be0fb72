//! What the images share.
#![no_std]
#![forbid(unsafe_code)]

pub mod clock;
