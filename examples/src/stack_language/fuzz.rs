//! Whatever bytes come: no panic, no endless loop, and nothing left in the pool.

extern crate std;

use std::io;
use std::string::String;
use std::vec::Vec;

use super::words::built_in;
use super::{Room, compile, run};

/// Compiles and runs a program in a small pool, with a limit of steps; what it prints is discarded. For fuzzing.
///
/// # Panics
/// If something of the program is left in the pool.
///
/// ```
/// fibra_examples::stack_language::exercise(b": f f ; f"); // an error of the program, and nothing more
/// ```
pub fn exercise(source: &[u8]) {
    let Ok(program) = compile(source) else { return };
    let pool = Room { frames: 50, fibres: 10, channels: 10 }.pool().expect("a few kilobytes");
    let _ = run(&program, &pool, Some(20_000), &mut io::sink());
    assert_eq!(pool.classes().map(|class| class.live).sum::<usize>(), 0, "blocks are left, of {} bytes", source.len());
}

/// Makes a program that can be compiled, of the language's own words, chosen by the bytes: it gets further than what a
/// fuzzer thinks of. Words that do not fit where they are chosen are left out, and at the end what is open is closed.
///
/// ```
/// use fibra_examples::stack_language::{assembled, compile};
///
/// let any: Vec<u8> = (0..=255).collect();
/// assert!(compile(assembled(&any).as_bytes()).is_ok());
/// ```
pub fn assembled(bytes: &[u8]) -> String {
    /// Those that take something, and some that often go together.
    const OTHERS: &str = "0, 1, 2, 3, -1, 9223372036854775807, 1 2 3, dup dup, f, g, h, spawn f, spawn g, spawn h, \
        channel dup 1 spawn f, channel dup 1 spawn g, channel dup dup 2 spawn h, 2 spawn f, 1 over send, dup receive, \
        dup dup send, 0 until, 0 while, .\" text\"";
    const NAMES: [&str; 3] = ["f", "g", "h"];
    let words = built_in().filter(|word| !["spawn", ".\"", "(", ")", "\\"].contains(word));
    let words: Vec<&str> = words.chain(OTHERS.split(", ")).collect();
    let mut names = NAMES.iter();
    // With something on the stack, so that the first words have something to take.
    let (mut program, mut open, mut defining) = (String::from("channel 1 channel 2 3 4 "), Vec::new(), false);
    for byte in bytes {
        let word = words[usize::from(*byte) % words.len()];
        match (word.rsplit(' ').next().unwrap_or(word), open.last()) {
            ("if" | "begin", _) => open.push(word),
            ("else", Some(&"if")) | ("while", Some(&"begin")) => {
                open.pop();
                open.push(if word == "else" { "else" } else { "while" });
            }
            ("then", Some(&("if" | "else"))) | ("until" | "again", Some(&"begin")) | ("repeat", Some(&"while")) => {
                open.pop();
            }
            (":", None) if !defining => match names.next() {
                Some(name) => {
                    defining = true;
                    program.extend([": ", name, " 1 2 "]);
                    continue;
                }
                None => continue,
            },
            (";", None) if defining => defining = false,
            ("else" | "while" | "then" | "until" | "again" | "repeat" | ":" | ";", _) => continue,
            _ => {}
        }
        program.extend([word, " "]);
    }
    while let Some(word) = open.pop() {
        program += match word {
            "begin" => "again ",
            "while" => "repeat ",
            _ => "then ",
        };
    }
    if defining {
        program += "; ";
    }
    for name in names {
        program.extend([": ", name, " receive drop ; "]);
    }
    program
}
