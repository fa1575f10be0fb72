//! The programs as their users meet them: what they print, and how they end.

use std::io::Read;
use std::process::{Command, Output, Stdio};

const SQUARES: &str = env!("CARGO_BIN_EXE_squares");
const SIEVE: &str = env!("CARGO_BIN_EXE_sieve");
const DEADLOCK: &str = env!("CARGO_BIN_EXE_deadlock");

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().expect("the program starts")
}

/// What the program prints when all goes well.
fn prints(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success(), "{:?}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// What the program complains of, with this exit code; it prints nothing else.
fn complains(program: &str, arguments: &[&str], code: i32) -> String {
    let output = run(program, arguments);
    assert_eq!(output.status.code(), Some(code), "{program} {arguments:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn squares_prints_twenty_and_accounts_for_its_memory() {
    let printed = prints(SQUARES, &[]);
    let lines: Vec<&str> = printed.lines().collect();
    for n in 0..20_u64 {
        assert_eq!(lines[n as usize], (n * n).to_string());
    }
    assert_eq!(lines[20], "1 finished, 2 collapsed");
    assert_eq!(lines[21].split_whitespace().collect::<Vec<_>>(), ["block", "size", "reserved", "peak", "live"]);
    let mut blocks = 0;
    let (all, classes) = lines[22..].split_last().expect("the line of all");
    assert_eq!(all.split_whitespace().collect::<Vec<_>>(), ["all", "12", "5", "0"]);
    for class in classes {
        let [size, reserved, peak, live] =
            class.split_whitespace().map(|n| n.parse::<usize>().unwrap()).collect::<Vec<_>>()[..]
        else {
            panic!("{class}")
        };
        assert!(size > 0 && peak <= reserved && live == 0, "{class}");
        blocks += peak;
    }
    assert_eq!(blocks, 5, "two channels and three fibres");
}

#[test]
fn squares_prints_as_many_as_asked() {
    assert!(prints(SQUARES, &["0"]).starts_with("1 finished, 2 collapsed\n"));
    assert!(prints(SQUARES, &["1"]).starts_with("0\n1 finished, 2 collapsed\n"));
    let many = prints(SQUARES, &["70000"]);
    assert_eq!(many.lines().nth(69_999), Some("4899860001"), "more than fits in 32 bits");
}

#[test]
fn the_firmware_prints_the_same() {
    let golden = include_str!("../cortex-m3/golden/squares.txt");
    let until_memory = |text: &str| text.split("block size").next().unwrap().to_owned();
    assert_eq!(until_memory(golden), until_memory(&prints(SQUARES, &[])));
}

#[test]
fn sieve_prints_the_primes_and_collapses() {
    assert_eq!(prints(SIEVE, &["30"]), "2\n3\n5\n7\n11\n13\n17\n19\n23\n29\n1 finished, 11 collapsed\n");
    assert_eq!(prints(SIEVE, &[]).lines().count(), 25 + 1);
    for none in ["0", "1"] {
        assert_eq!(prints(SIEVE, &[none]), "1 finished, 1 collapsed\n");
    }
    let printed = prints(SIEVE, &["10000"]);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[lines.len() - 2..], ["9973", "1 finished, 1230 collapsed"]);
}

#[test]
fn deadlock_names_every_fibre_and_channel() {
    assert_eq!(
        prints(DEADLOCK, &[]),
        "fibre `1` deadlocked while reading from channel `2 to 1`: the other end was held by fibre `2`\n\
         fibre `2` deadlocked while reading from channel `1 to 2`: the other end was held by fibre `1`\n\
         0 finished, 0 collapsed, 2 deadlocked\n"
    );
    assert_eq!(
        prints(DEADLOCK, &["1"]),
        "fibre `1` deadlocked while reading from channel `1 to 1`: the other end was held by fibre `1`\n\
         0 finished, 0 collapsed, 1 deadlocked\n"
    );
    let printed = prints(DEADLOCK, &["1000"]);
    for (i, line) in printed.lines().take(1000).enumerate() {
        let (before, this) = (if i == 0 { 1000 } else { i }, i + 1);
        assert!(line.starts_with(&format!("fibre `{this}` deadlocked")), "{line}");
        assert!(line.contains(&format!("`{before} to {this}`")), "{line}");
        assert!(line.ends_with(&format!("held by fibre `{before}`")), "{line}");
    }
    assert_eq!(printed.lines().nth(1000), Some("0 finished, 0 collapsed, 1000 deadlocked"));
}

#[test]
fn arguments_that_mean_nothing_get_the_usage() {
    for (program, name) in [(SQUARES, "squares"), (SIEVE, "sieve"), (DEADLOCK, "deadlock")] {
        let wrong: [&[&str]; 9] = [
            &["x"],
            &[""],
            &["-1"],
            &["1.5"],
            &["4294967296"],
            &["99999999999999999999999"],
            &["1", "2"],
            &["--help", "1"],
            &["--verbose"],
        ];
        for arguments in wrong {
            let usage = complains(program, arguments, 2);
            assert!(usage.starts_with(&format!("usage: {name} ")), "{usage}");
            assert_eq!(usage.lines().count(), 1, "{usage}");
        }
    }
    assert!(complains(DEADLOCK, &["0"], 2).starts_with("usage: deadlock "));
}

#[cfg(unix)]
#[test]
fn an_argument_that_is_no_text_gets_the_usage() {
    use std::os::unix::ffi::OsStrExt;
    let output = Command::new(SQUARES).arg(std::ffi::OsStr::from_bytes(&[0xFF])).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn help_is_given_where_it_is_asked_for() {
    for program in [SQUARES, SIEVE, DEADLOCK] {
        for help in ["--help", "-h"] {
            assert!(prints(program, &[help]).starts_with("usage: "));
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    for (program, size) in [(SQUARES, "1000000"), (SIEVE, "20000"), (DEADLOCK, "10000")] {
        let mut child = Command::new(program)
            .arg(size)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        drop(child.stdout.take());
        let mut complaint = String::new();
        child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        assert_eq!(complaint, "");
        assert!(child.wait().unwrap().success());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_with_a_message() {
    for (program, size) in [(SQUARES, "100000"), (SIEVE, "30000"), (DEADLOCK, "1000")] {
        let full = std::fs::File::create("/dev/full").expect("a device that is always full");
        let output = Command::new(program).arg(size).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(complaint.contains("cannot write the output: "), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
}

/// With a limit on the address space, so that it does not depend on how much memory the machine has. A sanitizer needs more
/// than any limit that is of use here.
#[cfg(target_os = "linux")]
#[test]
fn too_little_memory_is_an_error_with_a_message() {
    if std::env::var_os("ASAN_OPTIONS").is_some() {
        return;
    }
    let limited = [
        (SIEVE, "4294967295", "sieve: out of memory for a fibre for each prime up to 4294967295\n"),
        (DEADLOCK, "2", "deadlock: out of memory for 2 fibres\n"), // the pool itself is refused
    ];
    for (program, size, message) in limited {
        let output = Command::new("sh")
            .args(["-c", "ulimit -v 1000000 && exec \"$0\" \"$1\"", program, size])
            .output()
            .expect("a shell");
        assert_eq!(String::from_utf8_lossy(&output.stderr), message);
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_ring_that_the_pool_cannot_hold_is_an_error_with_a_message() {
    assert_eq!(complains(DEADLOCK, &["4294967295"], 1), "deadlock: out of memory for 4294967295 fibres\n");
}
