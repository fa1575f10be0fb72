//! The programs as their users meet them: what they print, and how they end.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const SQUARES: &str = env!("CARGO_BIN_EXE_squares");
const SQUARES_BY_HAND: &str = env!("CARGO_BIN_EXE_squares-by-hand");
const SAME_FRINGE: &str = env!("CARGO_BIN_EXE_same-fringe");
const SIEVE: &str = env!("CARGO_BIN_EXE_sieve");
const DEADLOCK: &str = env!("CARGO_BIN_EXE_deadlock");
const JSON_POOLS: &str = env!("CARGO_BIN_EXE_json-pools");
const TWO_PROCESSES: &str = env!("CARGO_BIN_EXE_two-processes");

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
fn squares_are_the_same_on_any_number_of_workers() {
    for count in ["0", "1", "20", "70000"] {
        let alone = prints(SQUARES, &[count]);
        assert_eq!(alone, prints(SQUARES, &["--workers", "1", count]));
        for workers in ["2", "3", "8"] {
            let together = prints(SQUARES, &[count, "--workers", workers]);
            assert_eq!(until_memory(&alone), until_memory(&together));
            // How many blocks were needed at once may differ: a fibre may have left before the next one was spawned.
            let all: Vec<&str> = together.lines().last().unwrap().split_whitespace().collect();
            assert!(matches!(all[..], ["all", "12", "3" | "4" | "5", "0"]), "{all:?}");
        }
    }
}

#[test]
fn a_number_of_workers_that_means_nothing_gets_the_usage() {
    let wrong: [&[&str]; 7] = [
        &["--workers"],
        &["--workers", "0"],
        &["--workers", "257"],
        &["--workers", "two"],
        &["--workers", "2", "--workers", "2"],
        &["--workers=2"],
        &["20", "--workers", "2", "20"],
    ];
    for arguments in wrong {
        let usage = complains(SQUARES, arguments, 2);
        assert!(usage.starts_with("usage: squares [--workers N] ") && usage.lines().count() == 1, "{usage}");
    }
    assert!(complains(SIEVE, &["--workers", "2"], 2).starts_with("usage: sieve [--help"));
}

#[test]
fn two_processes_leave_nothing_behind() {
    let known = [
        ("1", "1 takes 0 steps"),
        ("2", "2 takes 1 step"),
        ("10", "9 takes 19 steps"),
        ("10000", "6171 takes 261 steps"),
    ];
    for (limit, most) in known {
        let printed = prints(TWO_PROCESSES, &[limit]);
        let lines: Vec<&str> = printed.lines().collect();
        assert_eq!(lines[0], format!("{most}, the most of all numbers up to {limit}"));
        let after = |what: &str| lines.iter().position(|line| line.starts_with(what)).expect(what);
        assert_eq!(lines[after("asking:")], "asking: 1 finished, 1 collapsed");
        let all: Vec<&str> = lines[after("       all")].split_whitespace().collect();
        assert_eq!((all[2], all[3]), ("2", "0"), "peak and live: {printed}");
        let answering = after("answering:");
        assert_eq!(lines[answering], "answering: 0 finished, 4 collapsed");
        assert!(lines[answering + 1].ends_with(" bytes, 4 at the peak, 0 live"), "{printed}");
        assert_eq!(lines.last(), Some(&"2 processes: 1 finished, 5 collapsed; blocks of channels that are live: 0"));
    }
}

/// What a program prints before it accounts for its memory.
fn until_memory(printed: &str) -> &str {
    printed.split("block size").next().unwrap()
}

#[test]
fn squares_by_hand_are_the_same_to_the_byte() {
    for count in ["0", "1", "2", "20", "70000"] {
        let (printed, by_hand) = (prints(SQUARES, &[count]), prints(SQUARES_BY_HAND, &[count]));
        assert_eq!(until_memory(&printed), until_memory(&by_hand));
        assert_eq!(by_hand.lines().count(), printed.lines().count());
        // Two channels, three fibres, and the frame of the subroutine.
        let all = by_hand.lines().last().unwrap();
        assert_eq!(all.split_whitespace().collect::<Vec<_>>(), ["all", "12", "6", "0"]);
    }
    let twenty = prints(SQUARES_BY_HAND, &[]);
    assert!(twenty.starts_with("0\n1\n4\n9\n") && twenty.contains("\n361\n1 finished, 2 collapsed\n"), "{twenty}");
}

#[test]
fn same_fringe_compares_a_million_leaves_and_accounts_for_its_frames() {
    let printed = prints(SAME_FRINGE, &[]);
    let parts = [
        "balanced and ragged:\nthe same 1000000 leaves\n3 finished, 0 collapsed\n",
        "balanced and ragged, one leaf changed:\n\
         500000 leaves alike, then 500000 on the left and 1000000 on the right\n1 finished, 2 collapsed\n",
        "leaning left and leaning right:\nthe same 100000 leaves\n3 finished, 0 collapsed\n",
    ];
    for part in parts {
        assert!(printed.contains(part), "{printed}");
    }
    let totals = printed.lines().filter_map(|line| line.trim_start().strip_prefix("all "));
    let totals: Vec<Vec<usize>> =
        totals.map(|line| line.split_whitespace().map(|n| n.parse().unwrap()).collect()).collect();
    assert_eq!(totals.len(), parts.len());
    assert!(totals.iter().all(|columns| columns[2] == 0), "nothing is live: {printed}");
    assert!(totals[0][1] < 100 && totals[1][1] < 100 && totals[2][1] > 100_000, "{printed}");
}

#[test]
fn same_fringe_with_too_few_frames_says_how_far_it_came() {
    let output = run(SAME_FRINGE, &["1000"]);
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    let said = complaint.strip_prefix("same-fringe: no frame of ").expect(&complaint);
    assert!(said.contains("level 1001 of a tree") && said.ends_with("try more than 1000 frames\n"), "{complaint}");
    // What could be compared was.
    assert!(String::from_utf8(output.stdout).unwrap().contains("the same 1000000 leaves\n"));
}

#[test]
fn the_firmware_prints_the_same() {
    let squares = include_str!("../cortex-m3/golden/squares.txt");
    assert_eq!(until_memory(squares), until_memory(&prints(SQUARES, &[])));
    let by_hand = include_str!("../cortex-m3/golden/squares-by-hand.txt");
    assert_eq!(until_memory(by_hand), until_memory(squares));
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

/// What `json-pools` prints: its summary; block size, reserved, peak and live of each class; requests to the host.
fn json_pools(count: &str) -> (String, Vec<[usize; 4]>, usize) {
    let printed = prints(JSON_POOLS, &[count]);
    let lines: Vec<&str> = printed.lines().collect();
    let [summary, heading, classes @ .., last] = &lines[..] else { panic!("{printed}") };
    assert_eq!(heading.split_whitespace().collect::<Vec<_>>(), ["block", "size", "reserved", "peak", "live"]);
    let numbers = |line: &&str| {
        let numbers: Vec<usize> = line.split_whitespace().map(|n| n.parse().unwrap()).collect();
        numbers.try_into().expect("four columns")
    };
    let requests = last.strip_prefix("requests that went to the host: ").expect(last).parse().unwrap();
    (summary.to_string(), classes.iter().map(numbers).collect(), requests)
}

#[test]
fn json_pools_runs_in_its_arena_and_gives_everything_back() {
    let (_, idle, _) = json_pools("0");
    let (summary, classes, requests) = json_pools("200");
    assert_eq!(requests, 0, "{summary}");
    assert!(classes.iter().map(|[_, _, peak, _]| peak).sum::<usize>() > 10_000, "it ran on the pools");
    for ([size, reserved, peak, live], [_, _, _, runtime]) in classes.iter().zip(&idle) {
        assert!(live <= peak && peak <= reserved, "of {size}");
        assert_eq!(live, runtime, "the documents left something of {size} behind");
    }
    assert_eq!(classes.len(), 12);
}

#[test]
fn json_pools_spills_to_the_host_and_gives_everything_back() {
    let (_, idle, _) = json_pools("0");
    let (_, classes, requests) = json_pools("1000");
    assert!(requests > 1000);
    assert!(classes.iter().any(|[_, reserved, peak, _]| peak == reserved), "something was exhausted");
    let live = |classes: &[[usize; 4]]| classes.iter().map(|class| class[3]).collect::<Vec<_>>();
    assert_eq!(live(&classes), live(&idle));
}

#[test]
fn json_pools_computes_what_it_would_on_the_heap() {
    for count in [0, 1, 17, 200, 700] {
        let here = fibra_examples::json::run(count).expect("documents that can be read");
        assert_eq!(json_pools(&count.to_string()).0, here.to_string());
        assert_eq!(here.documents, count);
    }
}

#[test]
fn arguments_that_mean_nothing_get_the_usage() {
    for program in [SQUARES, SQUARES_BY_HAND, SAME_FRINGE, SIEVE, DEADLOCK, JSON_POOLS, TWO_PROCESSES] {
        let name = Path::new(program).file_stem().expect("a file").display();
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
    assert!(complains(SAME_FRINGE, &["0"], 2).starts_with("usage: same-fringe "));
    assert!(complains(TWO_PROCESSES, &["0"], 2).starts_with("usage: two-processes "));
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
    for program in [SQUARES, SQUARES_BY_HAND, SAME_FRINGE, SIEVE, DEADLOCK, JSON_POOLS, TWO_PROCESSES] {
        for help in ["--help", "-h"] {
            assert!(prints(program, &[help]).starts_with("usage: "));
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let programs: [(&str, &[&str]); 5] = [
        (SQUARES, &["1000000"]),
        (SQUARES, &["1000000", "--workers", "2"]),
        (SQUARES_BY_HAND, &["1000000"]),
        (SIEVE, &["20000"]),
        (DEADLOCK, &["10000"]),
    ];
    for (program, arguments) in programs {
        let mut child = Command::new(program)
            .args(arguments)
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
    let programs = [
        (SQUARES, "100000"),
        (SQUARES_BY_HAND, "100000"),
        (SAME_FRINGE, "200000"),
        (SIEVE, "30000"),
        (DEADLOCK, "1000"),
        (JSON_POOLS, "1"),
        (TWO_PROCESSES, "1"),
    ];
    for (program, size) in programs {
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
