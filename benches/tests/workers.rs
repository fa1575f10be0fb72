//! Runtimes with workers: each contender's answers, and what `workers` prints.

use std::process::{Command, Output};

use fibra_benches::workers::{self, Row};

/// Sizes that finish at once. A tree's is a power of ten; where fibres wait, it is milliseconds.
fn sizes(row: Row) -> &'static [u64] {
    match row {
        Row::Hog => &[1, 2],
        Row::Stages | Row::FanOut | Row::Spawn | Row::Idle | Row::Job => &[1, 10],
        Row::Ring => &[1, 10],
        _ => &[1, 10, 1000],
    }
}

#[test]
fn answers_are_right() {
    for row in Row::ALL {
        for contender in row.contenders() {
            for &workers in row.workers() {
                for &n in sizes(row) {
                    let answer = contender.run(n, workers);
                    if let Some(right) = row.answer(n) {
                        assert_eq!(answer, right, "{}, {}, {workers} workers, n = {n}", row.name(), contender.name);
                    }
                }
            }
        }
    }
}

#[test]
fn names_are_unique_and_found() {
    for row in Row::ALL {
        assert_eq!(Row::named(row.name()), Some(row));
        assert!(Row::matching(row.name()).contains(&row));
    }
    assert_eq!(Row::matching("spawn"), [Row::Spawn], "a whole name stands for itself");
    assert_eq!(Row::matching("s"), [Row::Spawn, Row::SpawnMillion, Row::Skynet, Row::Stages]);
    assert_eq!(Row::matching("no such row"), []);
}

#[test]
fn a_row_with_two_workers_has_one_with_one() {
    for row in Row::ALL {
        let subjects = workers::subjects(row);
        let of = |workers| subjects.iter().filter(move |s| s.workers == workers).map(|s| s.name).collect::<Vec<_>>();
        if let [1, 2] = row.workers() {
            assert_eq!(of(1), of(2), "{}", row.name());
        }
        assert!(!of(row.workers()[0]).is_empty(), "{}", row.name());
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_workers")).args(arguments).output().expect("it can be started")
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn a_list_of_the_rows() {
    assert_eq!(lines(&run(&["--list"])), Row::ALL.map(Row::name));
}

#[test]
fn a_line_for_each_number_of_workers_and_contender() {
    let lines = lines(&run(&["--quick", "pairs"]));
    let subjects = workers::subjects(Row::Pairs);
    assert_eq!(lines.len(), subjects.len());
    for (line, subject) in lines.iter().zip(subjects) {
        let [row, workers, name, value, ratio, gain, processor, _others] = line.split('\t').collect::<Vec<_>>()[..]
        else {
            panic!("not eight columns: {line}");
        };
        assert_eq!((row, workers, name), ("pairs", &*subject.workers.to_string(), subject.name));
        for number in [value, ratio, processor] {
            assert!(number.parse::<f64>().is_ok_and(|value| value >= 0.0), "{line}");
        }
        assert_eq!(gain.parse::<f64>().is_ok(), subject.workers == 2, "{line}");
    }
    assert_eq!(
        lines[0].split('\t').nth(4),
        Some("1.00"),
        "the first is what the others are compared with: {}",
        lines[0]
    );
}

#[test]
fn all_rows_of_a_size_of_their_own_can_be_measured() {
    let rows = [Row::TwoCopies, Row::CacheLine, Row::Skynet, Row::Hog, Row::Idle, Row::Job, Row::Bytes];
    let mut arguments = vec!["--quick"];
    arguments.extend(rows.map(Row::name));
    let lines = lines(&run(&arguments));
    assert_eq!(lines.len(), rows.into_iter().map(|row| workers::subjects(row).len()).sum::<usize>());
    for line in lines {
        assert!(line.split('\t').nth(3).is_some_and(|value| value.parse::<f64>().is_ok_and(|v| v > 0.0)), "{line}");
    }
}

#[test]
fn a_name_that_nothing_begins_with() {
    let output = run(&["pairs", "no-such-row"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty(), "nothing was measured");
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("usage: workers"));
}
