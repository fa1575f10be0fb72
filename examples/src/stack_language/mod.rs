//! A small stack language with fibres and channels, and the machine that runs it: how a language is put on explicit
//! continuations.
//!
//! | in the language | here |
//! | --- | --- |
//! | a word that is called | a subroutine, in a [`Frame`](fibra_core::Frame) from the process's pool: recursion goes as deep as the pool allows |
//! | a word that is spawned | a [coroutine](fibra_core::coroutine), which is a fibre |
//! | a channel | a two-way channel: each fibre that holds it has an [`Endpoint`](fibra_core::Endpoint) of its own |
//! | a fibre that can never run again | collapses |
//!
//! ```
//! use fibra_examples::stack_language::{Room, compile, run};
//!
//! let program = compile(
//!     b": squares ( from to -- )
//!         begin  over receive  dup *  over send  again ;
//!       : count ( to -- )
//!         1  begin  over over swap send  1 +  dup 4 > until ;
//!       channel dup 1 spawn count
//!       channel swap over 2 spawn squares
//!       begin  dup receive print  again",
//! )?;
//! let pool = Room::default().pool().expect("memory");
//! let mut printed = Vec::new();
//! let end = run(&program, &pool, None, &mut printed)?;
//!
//! assert_eq!(printed, b"1\n4\n9\n16\n");
//! // Nobody counts any more, so nobody can square or print.
//! assert_eq!((end.outcome.finished, end.outcome.collapsed), (1, 2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The language
//!
//! A program is a row of words with white space between them, done one after the other. A number puts itself on the
//! fibre's stack; a word takes its values from the stack and leaves its results there. In `( before -- after )` the top
//! is on the right.
//!
//! | | |
//! | --- | --- |
//! | `: name ... ;` | defines a word; it may call itself and words that are defined further down |
//! | `if ... else ... then` | `( n -- )` does the first part if n is not 0, otherwise the second, if there is one |
//! | `begin ... until` | `( n -- )` again and again, until n is not 0 |
//! | `begin ... while ... repeat` | `( n -- )` again and again, as long as n is not 0 |
//! | `begin ... again` | for ever: until the fibre collapses, or leaves with `exit` or `halt` |
//! | `exit` | returns from the word |
//! | `halt` | ends the fibre, however deep in calls |
//! | `+ - * / mod min max` | `( a b -- c )`; `/` rounds towards zero; what does not fit into 64 bits is an error |
//! | `negate abs not` | `( a -- b )`; `not` gives 1 for 0, and 0 for anything else |
//! | `= <> < > <= >=` | `( a b -- c )` with c 1 if it is so, otherwise 0 |
//! | `and or xor` | `( a b -- c )`, bit by bit |
//! | `dup drop swap over rot` | `( a -- a a )` `( a -- )` `( a b -- b a )` `( a b -- a b a )` `( a b c -- b c a )` |
//! | `pick` `depth` | `( n -- a )` copies the value that n others are above; `( -- n )` how many values there were |
//! | `print` `.` | `( n -- )` prints a number and a new line, or a number and a space |
//! | `emit` `cr` `." text"` | `( c -- )` prints the character with this code; a new line; the text |
//! | `channel` | `( -- channel )` makes a channel |
//! | `spawn name` | `( ... n -- )` moves n values to the stack of a new fibre, which does `name` |
//! | `send` | `( value channel -- )` waits until another fibre receives the value |
//! | `receive` | `( channel -- value )` waits until another fibre sends one |
//! | `receive-or-end` | `( channel -- value 1 )`, or `( channel -- 0 )` where `receive` would collapse |
//! | `pause` | lets the other fibres run |
//! | `( ... )` `\ ...` | comments: up to `)`, and up to the end of the line |
//!
//! # Who holds a channel
//!
//! A value that names a channel can be copied, moved to a new fibre and sent through a channel, like any other. A fibre
//! holds one endpoint of each channel that its stack names, however often, and drops it when the last such value has left
//! the stack, or when the fibre ends; sending or spawning moves the endpoint if no value is left behind, and makes another
//! otherwise. So an endpoint is used by one fibre, and a channel's waits die exactly when nobody else is left who could
//! answer: a fibre that keeps its copy of a channel to receive from is no hope to others who receive.
//!
//! The endpoints are two-way, so that one value names a channel, a fibre that asks can be answered on the same channel,
//! and a fibre cannot be handed the wrong end. What it costs: a fibre that holds a channel and does not use it counts as
//! one that may yet do so. Drop what is not needed.

extern crate std;

mod compiler;
mod fuzz;
mod lexer;
mod machine;
mod room;
mod routine;
mod source;
mod stack;
mod words;

pub use compiler::{Program, compile};
pub use fuzz::{assembled, exercise};
pub use machine::{End, RunError, run};
pub use room::{Pool, Room};
pub use source::{Error, MOST_BYTES};
