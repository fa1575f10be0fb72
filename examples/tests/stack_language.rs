//! The stack language: what programs print, what is wrong with the others, and that nothing is left behind.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::ptr::NonNull;

use fibra_examples::stack_language::{End, Error, Pool, Room, RunError, assembled, compile, exercise, run};
use fibra_std::{AllocError, Allocator, Layout};
use proptest::prelude::*;

const SMALL: Room = Room { frames: 100, fibres: 20, channels: 20 };

fn live(pool: &Pool) -> usize {
    pool.classes().map(|class| class.live).sum()
}

/// What a program prints, and how it ends, in a pool where it must leave nothing.
fn outcome_in(room: Room, source: &str, steps: Option<u64>) -> (String, Result<End, RunError>) {
    let program = compile(source.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let pool = room.pool().expect("memory");
    let mut printed = Vec::new();
    let end = run(&program, &pool, steps, &mut printed);
    assert_eq!(live(&pool), 0, "{source}");
    (String::from_utf8(printed).expect("text"), end)
}

/// What a program prints that ends as it should.
fn prints(source: &str) -> String {
    let (printed, end) = outcome_in(SMALL, source, Some(10_000_000));
    let end = end.unwrap_or_else(|error| panic!("{source}: {error}"));
    assert_eq!(end.deadlocked, [], "{source}");
    printed
}

/// How many fibres of a program finish, collapse and deadlock.
fn counts(source: &str) -> (usize, usize, usize) {
    let outcome = outcome_in(SMALL, source, Some(10_000_000)).1.expect("a program without errors").outcome;
    assert_eq!((outcome.stopped, outcome.panicked), (0, 0));
    (outcome.finished, outcome.collapsed, outcome.deadlocked)
}

/// Place and text of an error, in a line.
fn brief(error: &Error) -> String {
    format!("{}:{}: {}", error.line, error.column, error.what)
}

/// What goes wrong in a program.
fn fails_in(room: Room, source: &str) -> String {
    match outcome_in(room, source, Some(10_000_000)).1 {
        Err(RunError::Program(error)) => brief(&error),
        other => panic!("{source}: {other:?}"),
    }
}

#[test]
fn words_do_what_they_say() {
    let table = [
        ("6 7 * print", "42\n"),
        ("7 2 - print 7 2 / print 7 2 mod print", "5\n3\n1\n"),
        ("-7 2 / print -7 2 mod print +5 print", "-3\n-1\n5\n"),
        ("3 4 min . 3 4 max . 3 negate . -3 abs .", "3 4 -3 3 "),
        ("0 not . 1 not . -5 not .", "1 0 0 "),
        ("1 2 = . 2 2 = . 1 2 <> . 2 2 <> .", "0 1 1 0 "),
        ("1 2 < . 2 2 < . 3 2 < . 1 2 > . 2 2 > . 3 2 > .", "1 0 0 0 0 1 "),
        ("1 2 <= . 2 2 <= . 3 2 <= . 1 2 >= . 2 2 >= . 3 2 >= .", "1 1 0 0 1 1 "),
        ("6 3 and . 6 3 or . 6 3 xor .", "2 7 5 "),
        ("1 dup . .", "1 1 "),
        ("1 2 drop .", "1 "),
        ("1 2 swap . .", "1 2 "),
        ("1 2 over . . .", "1 2 1 "),
        ("1 2 3 rot . . .", "1 3 2 "),
        ("7 8 9 0 pick . 1 pick . 2 pick .", "9 8 7 "),
        ("depth . 5 5 depth .", "0 2 "),
        ("72 emit 105 emit 233 emit 128279 emit cr", "Hi\u{e9}\u{1F517}\n"),
        (".\" one two\" .\"  three \" .\" \" cr", "one two three \n"),
        ("1 if 2 . then 0 if 3 . then -1 if 4 . else 5 . then 0 if 6 . else 7 . then", "2 4 7 "),
        ("0 begin dup . 1 + dup 3 = until", "0 1 2 "),
        ("3 begin dup while dup . 1 - repeat .", "3 2 1 0 "),
        (": f begin dup . 1 - dup 0 = if exit then again ; 3 f .", "3 2 1 0 "),
        (": f 1 . halt 2 . ; : g f 3 . ; g 4 .", "1 "),
        ("1 . exit 2 .", "1 "),
        ("1 \\ 2 . 3 .\n . ( . . ) 5 .", "1 5 "),
        ("( of two\nlines ) 1 . \\ the last line has no end", "1 "),
        ("\u{FEFF}1 .\r\n2 .", "1 2 "),
        ("", ""),
        (": f g ; : g 5 . ; f", "5 "),
        (
            ": even ( n -- ) dup if 1 - odd else drop 1 then ; : odd dup if 1 - even else drop 0 then ; 9 even . 8 even .",
            "0 1 ",
        ),
        (": fib dup 2 < if else dup 1 - fib swap 2 - fib + then ; 15 fib .", "610 "),
        (": 2dup over over ; : a; 7 ; 1 2 2dup a; . . . . .", "7 2 1 2 1 "),
        ("-9223372036854775808 . 9223372036854775807 .", "-9223372036854775808 9223372036854775807 "),
    ];
    for (source, printed) in table {
        assert_eq!(prints(source), printed, "{source}");
    }
}

#[test]
fn malformed_programs_are_refused_with_a_place_and_a_remedy() {
    let table = [
        ("foo", "1:1: unknown word `foo`; define it with `: foo ... ;`"),
        ("1 2 + pritn", "1:7: unknown word `pritn`; did you mean `print`?"),
        ("dpu", "1:1: unknown word `dpu`; did you mean `dup`?"),
        ("receve", "1:1: unknown word `receve`; did you mean `receive`?"),
        ("Print", "1:1: unknown word `Print`; did you mean `print`?"),
        (": square dup * ; 3 sqare print", "1:20: unknown word `sqare`; did you mean `square`?"),
        ("1 2\n\tbad", "2:2: unknown word `bad`; define it with `: bad ... ;`"),
        ("\u{e9} \u{fc}", "1:1: unknown word `\u{e9}`; define it with `: \u{e9} ... ;`"),
        ("\u{2003}\u{e9}\u{e9}\u{3000}", "1:2: unknown word `\u{e9}\u{e9}`; define it with `: \u{e9}\u{e9} ... ;`"),
        ("12abc", "1:1: unknown word `12abc`; define it with `: 12abc ... ;`"),
        ("1 \u{1} 2", "1:3: unknown word `\\u{1}`; define it with `: \\u{1} ... ;`"),
        ("a\0b", "1:1: unknown word `a\\0b`; define it with `: a\\0b ... ;`"),
        ("(comment )", "1:1: unknown word `(comment`; put a space after `(`"),
        ("\\comment", "1:1: unknown word `\\comment`; put a space after `\\`"),
        (".\"text\"", "1:1: unknown word `.\"text\"`; put a space after `.\"`"),
        (
            "99999999999999999999",
            "1:1: the number `99999999999999999999` does not fit; take one from -9223372036854775808 to 9223372036854775807",
        ),
        (
            "1 -9223372036854775809",
            "1:3: the number `-9223372036854775809` does not fit; take one from -9223372036854775808 to 9223372036854775807",
        ),
        (":", "1:1: `:` without a name; write `: name ... ;`"),
        (": ;", "1:1: `:` without a name; write `: name ... ;`"),
        (": f dup *", "1:3: the definition of `f` is never closed; end it with `;`"),
        (";", "1:1: `;` without a definition to end; begin one with `: name`"),
        (": f ; ;", "1:7: `;` without a definition to end; begin one with `: name`"),
        ("\n: f\n  : g ;\n;", "3:3: a definition within that of `f`, which begins in line 2; end that with `;` first"),
        (": f ;\n: f ;", "2:3: `f` is defined in line 1 already; choose another name"),
        (": dup drop drop ;", "1:3: `dup` is a word of the language; choose another name"),
        (": if ;", "1:3: `if` is a word of the language; choose another name"),
        (": : ;", "1:3: `:` is a word of the language; choose another name"),
        (": .\" text\" ;", "1:3: `.\"` is a word of the language; choose another name"),
        ("5 : 5 6 ;", "1:5: `5` is a number, and cannot be a name"),
        ("1 if : f ; then", "1:6: a definition within `if`; close that with `else` or `then` first"),
        ("if", "1:1: `if` is never closed; close it with `else` or `then`"),
        (": f 1\nif ;", "2:1: `if` is never closed; close it with `else` or `then`"),
        (": f begin ;", "1:5: `begin` is never closed; close it with `until`, `again`, or `while` and `repeat`"),
        ("1 if 2 else 3", "1:8: `else` is never closed; close it with `then`"),
        ("begin 1 while", "1:9: `while` is never closed; close it with `repeat`"),
        ("begin 1 if", "1:9: `if` is never closed; close it with `else` or `then`"),
        ("else", "1:1: `else` belongs to nothing; put `if` before it"),
        ("then", "1:1: `then` belongs to nothing; put `if` before it"),
        ("until", "1:1: `until` belongs to nothing; put `begin` before it"),
        ("again", "1:1: `again` belongs to nothing; put `begin` before it"),
        ("while", "1:1: `while` belongs to nothing; put `begin` before it"),
        ("repeat", "1:1: `repeat` belongs to nothing; put `begin ... while` before it"),
        ("1 if 2 else 3 else 4 then", "1:15: `else` within `else`; close that with `then` first"),
        ("begin 1 while 2 until", "1:17: `until` within `while`; close that with `repeat` first"),
        ("1 if until then", "1:6: `until` within `if`; close that with `else` or `then` first"),
        ("begin then", "1:7: `then` within `begin`; close that with `until`, `again`, or `while` and `repeat` first"),
        ("begin 1 while 2 while", "1:17: `while` within `while`; close that with `repeat` first"),
        ("0 spawn", "1:3: `spawn` without a name; write `spawn name`"),
        ("0 spawn dup", "1:9: `dup` cannot be spawned; define a word that does it, and spawn that"),
        ("0 spawn 7", "1:9: `7` cannot be spawned; define a word that does it, and spawn that"),
        ("0 spawn .\" text\"", "1:9: `.\"` cannot be spawned; define a word that does it, and spawn that"),
        (": worker ; 0 spawn wroker", "1:20: unknown word `wroker`; did you mean `worker`?"),
        ("1 ( a comment", "1:3: the comment that begins here is never closed; end it with `)`"),
        ("1 ) 2", "1:3: `)` without a comment to end; begin one with `(`"),
        (".\" text", "1:1: the text that begins here is not closed on its line; end it with `\"`"),
        (".\" text\n\"", "1:1: the text that begins here is not closed on its line; end it with `\"`"),
        (".\"\n\"", "1:1: the text that begins here is not closed on its line; end it with `\"`"),
        (".\"", "1:1: the text that begins here is not closed on its line; end it with `\"`"),
    ];
    for (source, message) in table {
        let error = compile(source.as_bytes()).map(|_| ()).expect_err(source);
        assert_eq!(brief(&error), message, "{source:?}");
    }
}

#[test]
fn what_is_no_text_is_refused() {
    let table: [(&[u8], &str); 4] = [
        (b"a\xFF", "1:2: the byte 0xFF is not UTF-8; save the program as UTF-8 text"),
        (b"1 .\n2 \xC3\xA9 \xC3", "2:5: the byte 0xC3 is not UTF-8; save the program as UTF-8 text"),
        (b"\xED\xA0\x80", "1:1: the byte 0xED is not UTF-8; save the program as UTF-8 text"),
        (b"( \xF8 )", "1:3: the byte 0xF8 is not UTF-8; save the program as UTF-8 text"),
    ];
    for (source, message) in table {
        assert_eq!(brief(&compile(source).unwrap_err()), message);
    }
    let long = vec![b' '; fibra_examples::stack_language::MOST_BYTES + 1];
    assert!(compile(&long[1..]).is_ok());
    assert_eq!(brief(&compile(&long).unwrap_err()), "1:1: the program is longer than 16 MiB; take a shorter one");
}

#[test]
fn the_line_is_shown_with_a_caret() {
    let shown = |source: &str| compile(source.as_bytes()).unwrap_err().to_string();
    assert_eq!(
        shown("1\n\t2 foo 3\r\n4"),
        "2:4: unknown word `foo`; define it with `: foo ... ;`\n     2 foo 3\n       ^"
    );
    let (before, after) = ("1 ".repeat(1000), " 2".repeat(1000));
    let long = shown(&format!("{before}foo{after}"));
    let [message, line, caret] = long.lines().collect::<Vec<_>>()[..] else { panic!("{long}") };
    assert_eq!(message, "1:2001: unknown word `foo`; define it with `: foo ... ;`");
    assert!(line.starts_with("    ...1 ") && line.ends_with("2 ...") && line.len() < 140, "{line}");
    assert_eq!(line.find("foo"), caret.find('^'));
    let name = shown(&"x".repeat(100_000));
    assert!(name.len() < 400, "{name}");
}

#[test]
fn errors_at_run_time_have_a_place() {
    let table = [
        ("1 +", "1:3: stack underflow: 2 values are needed, and there is only 1"),
        ("drop", "1:1: stack underflow: 1 value is needed, and there is none"),
        ("1 2\nrot", "2:1: stack underflow: 3 values are needed, and there is only 2"),
        ("1 over", "1:3: stack underflow: 2 values are needed, and there is only 1"),
        ("dup", "1:1: stack underflow: 1 value is needed, and there is none"),
        ("if then", "1:1: stack underflow: 1 value is needed, and there is none"),
        ("1 send", "1:3: stack underflow: 2 values are needed, and there is only 1"),
        (": w 1 + ;\nw", "1:7: stack underflow: 2 values are needed, and there is only 1"),
        (
            "9223372036854775807 1 +",
            "1:23: overflow: the result for 9223372036854775807 and 1 does not fit into 64 bits",
        ),
        (
            "-2 9223372036854775807 -",
            "1:24: overflow: the result for -2 and 9223372036854775807 does not fit into 64 bits",
        ),
        (
            "4611686018427387904 dup *",
            "1:25: overflow: the result for 4611686018427387904 and 4611686018427387904 does not fit into 64 bits",
        ),
        (
            "-9223372036854775808 -1 /",
            "1:25: overflow: the result for -9223372036854775808 and -1 does not fit into 64 bits",
        ),
        (
            "-9223372036854775808 -1 mod",
            "1:25: overflow: the result for -9223372036854775808 and -1 does not fit into 64 bits",
        ),
        (
            "-9223372036854775808 negate",
            "1:22: overflow: the result for -9223372036854775808 does not fit into 64 bits",
        ),
        ("-9223372036854775808 abs", "1:22: overflow: the result for -9223372036854775808 does not fit into 64 bits"),
        ("7 0 /", "1:5: division of 7 by zero; test for 0 before"),
        ("7 0 mod", "1:5: division of 7 by zero; test for 0 before"),
        ("channel 1 +", "1:11: a number is needed, and there is a channel"),
        ("channel print", "1:9: a number is needed, and there is a channel"),
        ("channel if then", "1:9: a number is needed, and there is a channel"),
        ("5 receive", "1:3: a channel is needed on the top of the stack, and there is the number 5"),
        ("1 2 send", "1:5: a channel is needed on the top of the stack, and there is the number 2"),
        ("-1 emit", "1:4: -1 is the code of no character"),
        ("55296 emit", "1:7: 55296 is the code of no character"),
        ("1 2 9 pick", "1:7: there is no value number 9: below are 2, counted from 0"),
        ("1 -1 pick", "1:6: there is no value number -1: below are 1, counted from 0"),
        (": w ; 2 spawn w", "1:9: 2 values cannot be moved to the new fibre: there are 0"),
        (": w ; -1 spawn w", "1:10: -1 values cannot be moved to the new fibre: there are 0"),
        (": w ; spawn w", "1:7: stack underflow: 1 value is needed, and there is none"),
        (
            "begin 1 again",
            "1:7: stack overflow: a fibre has room for 64 values; keep fewer, or let other fibres keep them",
        ),
        (
            "channel begin dup again",
            "1:15: stack overflow: a fibre has room for 64 values; keep fewer, or let other fibres keep them",
        ),
        ("begin channel again", "1:7: a fibre can hold 16 channels; drop one, or let another fibre hold it"),
        (
            ": w dup receive ; channel begin dup 1 spawn w pause again",
            "1:39: out of memory for a fibre; give the machine more with --fibres",
        ),
    ];
    for (source, message) in table {
        assert_eq!(fails_in(SMALL, source), message, "{source}");
    }
}

#[test]
fn memory_that_runs_out_is_an_error_in_the_program() {
    let room = |frames, fibres, channels| Room { frames, fibres, channels };
    let table = [
        (
            room(1, 1, 3),
            "begin channel again",
            "1:7: out of memory for a channel; give the machine more with --channels",
        ),
        (
            room(1, 9, 1),
            ": w receive ; channel begin dup 1 spawn w again",
            "1:35: out of memory for another endpoint of the channel; give the machine more with --channels",
        ),
        (room(1, 1, 1), ": w ; 0 spawn w", "1:9: out of memory for a fibre; give the machine more with --fibres"),
        (
            room(2, 1, 1),
            ": a b ; : b\n c ; : c ; a",
            "2:2: out of memory for a frame, after 2 calls in this fibre; give the machine more with --frames",
        ),
    ];
    for (room, source, message) in table {
        assert_eq!(fails_in(room, source), message, "{source}");
    }
}

#[test]
fn recursion_goes_as_deep_as_the_pool_allows() {
    let source = ": down ( n -- ) 1 + dup print down ; 0 down";
    for frames in [1, 2, 10, 1000] {
        let (printed, end) = outcome_in(Room { frames, ..SMALL }, source, None);
        assert_eq!(printed.lines().count(), frames);
        let message = format!(
            "1:31: out of memory for a frame, after {frames} calls in this fibre; give the machine more with --frames"
        );
        assert!(matches!(end, Err(RunError::Program(error)) if brief(&error) == message));
    }
    // What returns in time has its frames back.
    let source = ": down ( n -- ) dup if 1 - down else drop then ; 1000 begin dup while 999 down 1 - repeat";
    let (_, end) = outcome_in(Room { frames: 1000, ..SMALL }, source, None);
    assert_eq!(end.unwrap().outcome.finished, 1);
}

#[test]
fn one_fibre_out_of_frames_ends_all_in_order_and_the_pool_serves_the_next_program() {
    let pool = SMALL.pool().unwrap();
    let mut printed = Vec::new();
    let greedy =
        compile(b": f f ; : waits receive print ; channel dup 1 spawn waits 1 . 0 spawn f pause 2 . 3 over send")
            .unwrap();
    let modest = compile(b": down dup if 1 - down else drop then ; 100 down 5 .").unwrap();
    for _ in 0..3 {
        let error = run(&greedy, &pool, None, &mut printed).unwrap_err();
        assert!(error.to_string().starts_with("1:5: out of memory for a frame, after 100 calls"), "{error}");
        assert_eq!(live(&pool), 0);
        assert!(run(&modest, &pool, None, &mut printed).is_err(), "101 calls in 100 frames");
        let room = Room { frames: 101, ..SMALL }.pool().unwrap();
        assert_eq!(run(&modest, &room, None, &mut printed).unwrap().outcome.finished, 1);
    }
    assert_eq!(printed, b"1 5 ".repeat(3));
}

/// A minute each, if the compiler looked at the rest of the line for each of its words.
#[test]
fn a_long_line_is_no_harder_than_many_short_ones() {
    for word in [".\" \" ", "( ) ", "1 drop ", "9223372036854775807 drop ", "begin 1 until "] {
        let source = word.repeat(200_000);
        assert!(compile(source.as_bytes()).is_ok(), "{word}");
        assert!(compile(format!("{source} if").as_bytes()).is_err(), "{word}");
    }
}

#[test]
fn neither_nesting_nor_calls_take_the_hosts_stack() {
    let small = std::thread::Builder::new().stack_size(256 * 1024);
    let deep = || {
        let n = 100_000;
        let source = format!("0 {} .\" deep\" {}", "not dup if ".repeat(n), "then ".repeat(n));
        assert_eq!(outcome_in(SMALL, &source, None).0, "");
        let source = format!("{} 1 . {}", "1 if begin ".repeat(n), "1 until then ".repeat(n));
        assert_eq!(prints(&source), "1 ");
        let unclosed = compile("begin ".repeat(n).as_bytes()).unwrap_err();
        assert_eq!(unclosed.column, 6 * n - 5);

        let frames = 200_000;
        let source = ": f dup if 1 - f else drop then ; 199999 f 1 .";
        assert_eq!(outcome_in(Room { frames, ..SMALL }, source, None).0, "1 ");
        for end in ["f", "halt", "channel receive"] {
            // Ended at the greatest depth: by an error, by itself, by collapse.
            let source = format!(": f dup if 1 - f else {end} then ; 199999 f");
            let _ = outcome_in(Room { frames, ..SMALL }, &source, None);
        }
    };
    small.spawn(deep).unwrap().join().unwrap();
}

const PIPELINE: &str = "
    : numbers ( n to -- ) begin over while over over send swap 1 - swap repeat ;
    : squares ( from to -- ) begin over receive dup * over send again ;
    : sum ( from n -- ) 0 begin 2 pick receive + swap 1 - swap over not until print ;
";

#[test]
fn a_pipeline_dissolves_when_a_stage_leaves() {
    // The source leaves, and the others wait for more.
    let run = |main: &str| format!("{PIPELINE} {main}");
    let first = run("channel 5 over 2 spawn numbers channel swap over 2 spawn squares begin dup receive . again");
    assert_eq!(prints(&first), "25 16 9 4 1 ");
    assert_eq!(counts(&first), (1, 2, 0));
    // The last stage leaves.
    let last = run("channel 1000000000 over 2 spawn numbers channel swap over 2 spawn squares 3 2 spawn sum");
    assert_eq!(prints(&last), "2999999994000000005\n");
    assert_eq!(counts(&last), (2, 2, 0));
    // The middle one was never there.
    let none = run("channel 5 over 2 spawn numbers channel 3 2 spawn sum");
    assert_eq!(counts(&none), (1, 2, 0));
    // In the midst of calls.
    let deep = ": f dup if 1 - f else drop receive then ; : w 20 f ; channel 1 spawn w";
    assert_eq!(counts(deep), (1, 1, 0));
}

#[test]
fn a_fibre_holds_a_channel_as_long_as_its_stack_names_it() {
    let table = [
        // Alone with a channel, however many values name it.
        ("channel receive", (0, 1, 0)),
        ("channel dup dup receive", (0, 1, 0)),
        ("channel 5 over send", (0, 1, 0)),
        // The other holder ends, drops its value, or overwrites nothing and waits itself.
        (": w drop ; channel dup 1 spawn w receive", (1, 1, 0)),
        (": w drop channel receive ; channel dup 1 spawn w receive", (0, 2, 0)),
        (": w receive ; channel dup 1 spawn w receive", (0, 2, 0)),
        (": w dup drop swap drop ; channel 7 over 2 spawn w receive", (1, 1, 0)),
        // Holding it without using it is no end.
        (": w channel swap over receive ; channel dup 1 spawn w receive", (0, 2, 0)),
        // What was dropped, sent away or used up is not held any more; what was not, is.
        (": w ( a b -- ) drop receive ; channel channel over over 2 spawn w receive", (0, 2, 0)),
        (": w ( a b -- ) swap receive ; channel channel over over 2 spawn w receive", (0, 0, 2)),
        (": w ( a b -- ) 1 over send receive ; channel channel over over 2 spawn w receive drop receive", (0, 2, 0)),
        (
            ": w ( a b -- ) 1 over send receive ; channel channel over over 2 spawn w dup receive drop over receive",
            (0, 0, 2),
        ),
        // Two values of one channel are one endpoint, in the new fibre, too.
        (": w receive ; channel dup 2 spawn w", (1, 1, 0)),
        (": w receive ; channel dup dup 2 spawn w receive", (0, 2, 0)),
    ];
    for (source, expected) in table {
        assert_eq!(counts(source), expected, "{source}");
    }
}

#[test]
fn channels_go_through_channels() {
    let client = "
        : server ( requests -- ) begin dup receive dup receive dup * swap send again ;
        channel dup 1 spawn server
        : ask ( requests n -- answer ) channel dup 3 pick send swap over send receive swap drop ;
        dup 6 ask . dup 7 ask .";
    assert_eq!(prints(client), "36 49 ");
    assert_eq!(counts(client), (1, 1, 0));
    // The last value of it is sent away: the endpoint goes along.
    let moved = ": w receive 5 swap send ; channel dup 1 spawn w channel dup rot send receive .";
    assert_eq!(prints(moved), "5 ");
    let gone = ": w dup receive drop receive ; channel dup 1 spawn w channel over send 1 swap send";
    assert_eq!(counts(gone), (2, 0, 0));
    // A channel through itself: to another fibre, and to nobody.
    assert_eq!(counts(": v receive receive ; channel dup 1 spawn v dup dup send 5 swap send"), (2, 0, 0));
    assert_eq!(counts("channel dup send"), (0, 0, 1));
    // In a value that waits to be received, and is not.
    assert_eq!(counts(": w channel swap send ; channel 1 spawn w"), (1, 1, 0));
}

#[test]
fn a_channel_that_is_moved_takes_no_other_endpoint() {
    let peak = |source: &str| {
        let pool = SMALL.pool().unwrap();
        run(&compile(source.as_bytes()).unwrap(), &pool, None, &mut std::io::sink()).unwrap();
        pool.classes().map(|class| class.peak).sum::<usize>()
    };
    // Two fibres, their stacks, and a channel.
    assert_eq!(peak(": w drop ; channel 1 spawn w"), 5);
    assert_eq!(peak(": w drop ; channel dup 1 spawn w"), 6);
    // Another channel, of which either fibre has an endpoint, to move it through.
    assert_eq!(peak(": w receive ; channel dup 1 spawn w channel swap send"), 7);
    assert_eq!(peak(": w receive ; channel dup 1 spawn w channel dup rot send"), 8);
}

#[test]
fn the_end_of_a_stream_can_be_asked_for() {
    let sum = format!(
        "{PIPELINE} channel 4 over 2 spawn numbers
         0 begin over receive-or-end while + repeat ."
    );
    assert_eq!(prints(&sum), "10 ");
    assert_eq!(counts(&sum), (2, 0, 0));
    assert_eq!(prints("channel receive-or-end . depth ."), "0 0 ");
}

#[test]
fn deadlocks_are_told_with_their_places() {
    let source = "
: left  ( a b -- ) over receive over send ;
: right ( a b -- ) dup receive 2 pick send ;
channel channel over over 2 spawn left 2 spawn right";
    let (_, end) = outcome_in(SMALL, source, None);
    let end = end.unwrap();
    assert_eq!((end.outcome.finished, end.outcome.deadlocked), (1, 2));
    let mut messages: Vec<String> = end.deadlocked.iter().map(brief).collect();
    messages.sort();
    assert_eq!(
        messages,
        [
            "2:25: deadlock: fibre `left` waits to receive, and all who could send wait for others; have one go first",
            "3:24: deadlock: fibre `right` waits to receive, and all who could send wait for others; have one go first",
        ]
    );
    // Those that collapse before are not among them, nor is the one that was stuck when an error stopped all.
    let both = format!("{source} : lone channel receive ; 0 spawn lone");
    let (_, end) = outcome_in(SMALL, &both, None);
    let end = end.unwrap();
    assert_eq!((end.outcome.collapsed, end.deadlocked.len()), (1, 2));
    assert!(outcome_in(SMALL, &format!("{source} pause pause 1 0 /"), None).1.is_err());
    let (_, end) = outcome_in(SMALL, "channel dup send", None);
    assert_eq!(
        end.unwrap().deadlocked[0].to_string(),
        "1:13: deadlock: the first fibre waits to send, and all who could receive wait for others; have one go first\n    \
         channel dup send\n                ^"
    );
}

#[test]
fn a_busy_fibre_lets_the_others_run() {
    // It never ends; the limit of steps is for all.
    let (printed, end) = outcome_in(SMALL, ": busy begin again ; 0 spawn busy pause 1 . pause 2 .", Some(100_000));
    assert_eq!(printed, "1 2 ");
    assert!(
        matches!(end, Err(RunError::Program(error)) if brief(&error) == "1:14: the limit of steps is used up; allow more with --steps")
    );
    // `pause` gives each its turn.
    assert_eq!(prints(": three dup . pause dup . pause . ; 1 1 spawn three 2 1 spawn three"), "1 2 1 2 1 2 ");
}

#[test]
fn the_limit_of_steps_is_exact() {
    let source = ": f 1 ; f f + drop"; // a jump, (call, 1, return) twice, +, drop, and the return of the program
    let program = compile(source.as_bytes()).unwrap();
    let pool = SMALL.pool().unwrap();
    for (steps, ends) in [(0, false), (1, false), (9, false), (10, true), (11, true), (u64::MAX, true)] {
        let end = run(&program, &pool, Some(steps), &mut std::io::sink());
        assert_eq!(end.is_ok(), ends, "{steps}");
        assert_eq!(live(&pool), 0);
    }
}

/// An allocator that refuses one request.
struct Refusing<'a> {
    pool: &'a Pool,
    requests: Cell<usize>,
    refused: usize,
}

// SAFETY: blocks come from the pool, go back there, and stay valid meanwhile; all handles are references to the same
// allocator.
unsafe impl Allocator for &Refusing<'_> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let nth = self.requests.replace(self.requests.get() + 1);
        if nth == self.refused { Err(AllocError) } else { self.pool.allocate(layout) }
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { self.pool.deallocate(block, layout) }
    }
}

#[test]
fn whichever_request_is_refused_it_is_an_error_and_nothing_is_lost() {
    let source = format!(
        "{PIPELINE}
         channel 3 over 2 spawn numbers channel swap over 2 spawn squares dup 3 2 spawn sum
         channel dup rot over 2 spawn w receive receive .
         : w ( c self ) drop channel dup 2 pick send swap drop 9 swap send ;"
    );
    let program = compile(source.as_bytes()).unwrap();
    let pool = SMALL.pool().unwrap();
    let unrefused = Refusing { pool: &pool, requests: Cell::new(0), refused: usize::MAX };
    let _ = run(&program, &unrefused, None, &mut std::io::sink());
    let requests = unrefused.requests.get();
    assert!(requests > 12, "{requests}");
    for refused in 0..requests {
        let refusing = Refusing { pool: &pool, requests: Cell::new(0), refused };
        let error = run(&program, &refusing, None, &mut std::io::sink()).unwrap_err();
        assert!(error.to_string().contains(": out of memory for "), "request {refused}: {error}");
        assert_eq!(live(&pool), 0, "request {refused}");
    }
}

#[test]
fn output_that_cannot_be_written_ends_the_program() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("full"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let program = compile(b": w begin 1 print again ; 0 spawn w begin pause again").unwrap();
    let pool = SMALL.pool().unwrap();
    let error = run(&program, &pool, None, &mut Full).unwrap_err();
    assert!(matches!(&error, RunError::Output(error) if error.to_string() == "full"), "{error}");
    assert_eq!(live(&pool), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        exercise(&bytes);
    }

    #[test]
    fn no_words_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let program = assembled(&bytes);
        prop_assert!(compile(program.as_bytes()).is_ok(), "{}", program);
        exercise(program.as_bytes());
    }

    #[test]
    fn no_row_of_words_makes_it_panic(
        words in prop::collection::vec(prop::sample::select(&STRUCTURE[..]), 0..20),
        rest in "[ -~\\n]{0,20}",
    ) {
        exercise(format!("{} {rest}", words.join(" ")).as_bytes());
    }

    /// Most rows of words are refused; these get as far as to run.
    #[test]
    fn no_program_makes_it_panic(
        f in prop::collection::vec(0..RUNNABLE.len(), 0..20),
        main in prop::collection::vec(0..RUNNABLE.len(), 0..40),
    ) {
        let words = |chosen: &[usize]| chosen.iter().map(|i| RUNNABLE[*i]).collect::<Vec<_>>().join(" ");
        let source = format!(": f {} ; : g 0 if then ; {}", words(&f), words(&main));
        prop_assert!(compile(source.as_bytes()).is_ok(), "{}", source);
        exercise(source.as_bytes());
    }
}

const STRUCTURE: [&str; 20] = [
    ":", ";", "if", "else", "then", "begin", "until", "while", "repeat", "again", "spawn", ".\"", "(", ")", "\\", "f",
    "g", "1", "receive", "channel",
];

const RUNNABLE: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "-1",
    "+",
    "-",
    "*",
    "/",
    "mod",
    "=",
    "<",
    "dup",
    "dup",
    "drop",
    "swap",
    "over",
    "rot",
    "pick",
    "f",
    "g",
    "spawn f",
    "spawn g",
    "1 spawn f",
    "2 spawn f",
    "channel",
    "channel",
    "channel dup 1 spawn f",
    "send",
    "dup send",
    "1 over send",
    "receive",
    "dup receive",
    "receive-or-end",
    "pause",
    "exit",
    "halt",
    "if 1 else 2 then",
    "begin 1 until",
    "begin pause 0 until",
    "depth print",
    "cr",
];

const PROGRAM: &str = env!("CARGO_BIN_EXE_stack-language");
const PRIMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/primes.stack");

fn command(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // It may have ended without reading all.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("its output")
}

/// Exit code, what it printed, and what it complained of.
fn program(arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let output = command(arguments, input);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_sample_prints_primes() {
    let (code, printed, complaint) = program(&[PRIMES], "");
    assert_eq!((code, &*complaint), (Some(0), ""));
    let primes = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47];
    let expected: String = primes.iter().map(|prime| format!("{prime} is {prime:b}\n")).collect();
    assert_eq!(printed, expected);
    let (code, printed, _) = program(&["--report", PRIMES], "");
    assert_eq!(code, Some(0));
    let report: Vec<&str> = printed.strip_prefix(&*expected).expect("the same").lines().collect();
    assert_eq!(report[0], "1 finished, 16 collapsed");
    assert!(report.last().unwrap().trim_start().starts_with("all ") && report.last().unwrap().ends_with(" 0"));
}

#[test]
fn errors_name_the_file() {
    let (code, printed, complaint) = program(&["-"], "1 .\n  foo");
    assert_eq!((code, &*printed), (Some(1), ""));
    let expected =
        "stack-language: standard input:2:3: unknown word `foo`; define it with `: foo ... ;`\n      foo\n      ^\n";
    assert_eq!(complaint, expected);
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("stack-language-{}", std::process::id()));
    std::fs::write(&file, "1 . 0 /").expect("the target directory can be written to");
    let name = file.to_str().expect("a path of text");
    let (code, printed, complaint) = program(&[name], "");
    std::fs::remove_file(&file).expect("it is there");
    assert_eq!((code, &*printed), (Some(1), "1 "));
    assert_eq!(
        complaint,
        format!(
            "stack-language: {name}:1:7: stack underflow: 2 values are needed, and there is only 1\n    1 . 0 /\n          ^\n"
        )
    );
}

#[test]
fn options_limit_the_machine() {
    let limits = [
        (["--frames", "3"], ": f f ; f", "1:5: out of memory for a frame, after 3 calls in this fibre"),
        (["--fibres", "1"], ": f ; 0 spawn f", "1:9: out of memory for a fibre"),
        (["--channels", "1"], "channel channel", "1:9: out of memory for a channel"),
        (["--steps", "100"], "begin again", "1:7: the limit of steps is used up"),
    ];
    for (option, source, message) in limits {
        let (code, _, complaint) = program(&[&option[..], &["-"]].concat(), source);
        assert_eq!(code, Some(1), "{option:?}");
        assert!(complaint.starts_with(&format!("stack-language: standard input:{message}")), "{complaint}");
    }
}

#[test]
fn a_deadlock_is_a_failure_and_a_collapse_is_none() {
    let (code, printed, complaint) = program(&["--report", "-"], "channel dup send");
    assert_eq!(code, Some(1));
    assert!(printed.starts_with("0 finished, 0 collapsed, 1 deadlocked\n"), "{printed}");
    assert!(complaint.contains("standard input:1:13: deadlock: the first fibre waits to send"), "{complaint}");
    assert_eq!(program(&["-"], "channel receive"), (Some(0), String::new(), String::new()));
}

#[test]
fn arguments_that_mean_nothing_get_the_usage() {
    let wrong: [&[&str]; 9] = [
        &[],
        &["a", "b"],
        &["--verbose", "a"],
        &["--frames"],
        &["--frames", "x", "a"],
        &["--steps", "-1", "a"],
        &["--fibres", "1.5", "a"],
        &["--channels", "", "a"],
        &["-x"],
    ];
    for arguments in wrong {
        let (code, printed, complaint) = program(arguments, "");
        assert_eq!((code, &*printed), (Some(2), ""), "{arguments:?}");
        let lines: Vec<&str> = complaint.lines().collect();
        assert!(lines.len() == 2 && lines[1].starts_with("usage: stack-language "), "{complaint}");
    }
    for help in ["--help", "-h"] {
        assert!(program(&[help], "").1.starts_with("usage: stack-language "));
    }
}

#[test]
fn what_cannot_be_had_is_an_error_with_a_message() {
    let (code, _, complaint) = program(&["/no/such/file"], "");
    assert_eq!(code, Some(1));
    assert!(complaint.starts_with("stack-language: /no/such/file cannot be read: "), "{complaint}");
    let (code, _, complaint) = program(&["--frames", "18446744073709551615", "-"], "1 .");
    assert_eq!(code, Some(1));
    assert_eq!(complaint, "stack-language: out of memory for so many frames, fibres and channels; ask for fewer\n");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_and_a_closed_pipe_is_none() {
    let full = File::create("/dev/full").expect("a device that is always full");
    let output = Command::new(PROGRAM).arg(PRIMES).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write the output: "));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = Command::new(PROGRAM).arg(PRIMES).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}
