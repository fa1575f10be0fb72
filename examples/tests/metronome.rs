//! The metronome: its fibres, its picture, and the program as its users meet it.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use fibra_examples::metronome::{Beat, Jitter, spawn};
use fibra_std::{Clock, Outcome, run};

const METRONOME: &str = env!("CARGO_BIN_EXE_metronome");

/// The beats that are shown until one is number `last`, and what became of the fibres.
fn beats(period: Duration, beats: u32, last: u32) -> (Vec<Beat>, Outcome) {
    let clock = Clock::new().expect("a thread");
    let shown = RefCell::new(Vec::new());
    let show = |beat: Beat| {
        shown.borrow_mut().push(beat);
        if beat.number >= last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let (spawned, outcome) = run(|p| spawn(p, clock.tick(period), beats, show)).expect("memory");
    spawned.expect("memory");
    (shown.into_inner(), outcome)
}

#[test]
fn beats_come_in_order_and_not_before_their_time() {
    let start = Instant::now();
    let (shown, outcome) = beats(Duration::from_millis(5), 20, u32::MAX);
    assert!(start.elapsed() >= Duration::from_millis(100));
    assert!(shown.is_sorted_by(|one, next| one.number < next.number));
    assert!(shown.iter().all(|beat| (1..=20).contains(&beat.number)));
    assert_eq!((outcome.finished, outcome.collapsed), (1, 1));
}

#[test]
fn beats_that_are_due_long_ago_are_missed_and_counted() {
    let clock = Clock::new().expect("a thread");
    let ticks = clock.tick(Duration::from_millis(1));
    std::thread::sleep(Duration::from_millis(20));
    let shown = RefCell::new(Vec::new());
    let show = |beat: Beat| {
        shown.borrow_mut().push(beat.number);
        ControlFlow::Continue(())
    };
    run(|p| spawn(p, ticks, 100, show)).expect("memory").0.expect("memory");
    assert!(shown.borrow()[0] >= 20, "{shown:?}");
    // All that there were are over.
    let ticks = clock.tick(Duration::from_millis(1));
    std::thread::sleep(Duration::from_millis(20));
    let none = |beat: Beat| unreachable!("{beat:?}");
    let (_, outcome) = run(|p| spawn(p, ticks, 10, none)).expect("memory");
    assert_eq!((outcome.finished, outcome.collapsed), (1, 1));
}

#[test]
fn when_nobody_listens_any_more_nobody_beats() {
    let (shown, outcome) = beats(Duration::from_millis(1), u32::MAX, 3);
    assert!(shown.last().expect("beats").number >= 3);
    assert_eq!((outcome.finished, outcome.collapsed), (1, 1));
}

#[test]
fn no_beats_are_no_beats() {
    let (shown, outcome) = beats(Duration::from_secs(3600), 0, u32::MAX);
    assert_eq!((shown.len(), outcome.finished, outcome.collapsed), (0, 1, 1));
}

fn jitter(late: impl IntoIterator<Item = u64>) -> Jitter {
    let mut jitter = Jitter::of(8).expect("memory");
    late.into_iter().for_each(|late| jitter.note(Duration::from_micros(late)));
    jitter
}

#[test]
fn jitter_is_drawn() {
    let picture = jitter([60, 99, 50, 51, 100, 1, 400]).to_string();
    assert_eq!(
        picture,
        "      µs late      beats\n     \
              0 to 20           1  █████████████\n    \
              20 to 50           0\n    \
              50 to 100          4  ██████████████████████████████████████████████████\n   \
             100 to 200          1  █████████████\n   \
             200 to 500          1  █████████████\n\
         median 0.060 ms, worst 0.400 ms\n"
    );
    assert_eq!(jitter([]).to_string(), "");
    let late = jitter([10_000, 3_600_000_000]).to_string();
    assert!(late.contains("\n 10000 and more        2  █████"), "{late}");
    assert!(late.ends_with("median 3600000.000 ms, worst 3600000.000 ms\n"), "{late}");
}

#[test]
fn the_middle_and_the_greatest() {
    assert_eq!(jitter([]).median_and_worst(), None);
    let us = Duration::from_micros;
    assert_eq!(jitter([7]).median_and_worst(), Some((us(7), us(7))));
    assert_eq!(jitter([3, 1, 9]).median_and_worst(), Some((us(3), us(9))));
    assert_eq!(jitter([3, 1, 9]).beats(), 3);
}

fn metronome(arguments: &[&str]) -> Output {
    Command::new(METRONOME).args(arguments).output().expect("the program starts")
}

#[test]
fn the_program_shows_each_beat_and_how_late_they_came() {
    let start = Instant::now();
    let output = metronome(&["--bpm", "3000", "--beats", "30", "--measure", "3"]);
    assert!(start.elapsed() >= Duration::from_millis(600));
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    let printed = String::from_utf8(output.stdout).expect("text");
    let (beats, end) = printed.split_once("\n\n").expect("a line between beats and picture");
    let mut last = 0;
    for beat in beats.lines() {
        let (number, sound) = beat.trim().split_once(' ').expect(beat);
        let number: u32 = number.parse().expect(beat);
        assert!(last < number && number <= 30, "{beat}");
        assert_eq!(sound, if number % 3 == 1 { "TICK" } else { "tock" });
        last = number;
    }
    let shown = beats.lines().count();
    let lines: Vec<&str> = end.lines().collect();
    let [missed, heading, rows @ .., jitter, outcome] = &lines[..] else { panic!("{end}") };
    assert_eq!(*missed, format!("30 beats, {} missed", 30 - shown));
    assert_eq!(heading.trim(), "µs late      beats");
    let counts = rows.iter().map(|row| {
        let words: Vec<&str> = row.split_whitespace().collect();
        words[3].parse::<usize>().expect(row)
    });
    assert_eq!(counts.sum::<usize>(), shown);
    assert!(jitter.starts_with("median ") && jitter.contains(" ms, worst "), "{jitter}");
    assert_eq!(*outcome, "1 finished, 1 collapsed");
}

#[test]
fn no_beats_have_no_picture() {
    let output = metronome(&["--beats", "0"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "\n0 beats, 0 missed\n1 finished, 1 collapsed\n");
    assert!(output.status.success());
}

#[test]
fn arguments_that_mean_nothing_get_a_sentence_and_the_usage() {
    let wrong: [(&[&str], &str); 9] = [
        (&["--bpm"], "--bpm needs a number from 1 to 60000, for instance --bpm 8"),
        (&["--bpm", "0"], "--bpm needs a number from 1 to 60000, for instance --bpm 8"),
        (&["--bpm", "60001"], "--bpm needs a number from 1 to 60000, for instance --bpm 8"),
        (&["--bpm", "fast"], "--bpm needs a number from 1 to 60000, for instance --bpm 8"),
        (&["--beats", "-1"], "--beats needs a number from 0 to 1000000, for instance --beats 8"),
        (&["--beats", "4294967296"], "--beats needs a number from 0 to 1000000, for instance --beats 8"),
        (&["--measure", "0"], "--measure needs a number from 1 to 1000, for instance --measure 8"),
        (&["--tempo", "120"], "there is no option --tempo"),
        (&["120"], "there is no option 120"),
    ];
    for (arguments, message) in wrong {
        let output = metronome(arguments);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
        let complaint = String::from_utf8(output.stderr).expect("text");
        assert_eq!(
            complaint,
            format!("metronome: {message}\nusage: metronome [--bpm N] [--beats N] [--measure N] [--help]\n")
        );
    }
}

#[test]
fn help_is_given_where_it_is_asked_for() {
    for help in ["--help", "-h"] {
        let output = metronome(&[help]);
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("usage: metronome "));
    }
}

#[test]
fn a_listener_that_has_heard_enough_is_no_error() {
    // The beats would take hours.
    let mut child = Command::new(METRONOME)
        .args(["--bpm", "600", "--beats", "1000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_with_a_message() {
    let full = std::fs::File::create("/dev/full").expect("a device that is always full");
    let mut command = Command::new(METRONOME);
    let output = command.args(["--beats", "1000000"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.starts_with("metronome: cannot write the output: "), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
}

/// A sanitizer needs more than any limit that is of use here.
#[cfg(target_os = "linux")]
#[test]
fn too_little_memory_is_an_error_with_a_message() {
    if std::env::var_os("ASAN_OPTIONS").is_some() {
        return;
    }
    let output =
        Command::new("sh").args(["-c", "ulimit -v 1000000 && exec \"$0\"", METRONOME]).output().expect("a shell");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "metronome: out of memory for 16 beats\n");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
}
