//! What `versus` prints.

use std::process::{Command, Output};

use fibra_benches::Workload;

fn versus(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_versus")).args(arguments).output().expect("it can be started")
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn a_list_of_the_workloads() {
    assert_eq!(lines(&versus(&["--list"])), Workload::ALL.map(Workload::name));
}

#[test]
fn a_line_for_each_contender() {
    let lines = lines(&versus(&["pool-ti"]));
    let contenders = Workload::PoolTight.contenders();
    assert_eq!(lines.len(), contenders.len());
    for (line, contender) in lines.iter().zip(contenders) {
        let [workload, name, value, ratio] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("not four columns: {line}");
        };
        assert_eq!((workload, name), ("pool-tight", contender.name));
        assert!(value.parse::<f64>().is_ok_and(|value| value > 0.0), "{line}");
        assert!(ratio.parse::<f64>().is_ok_and(|ratio| ratio >= 0.0), "{line}");
    }
    assert!(lines[0].ends_with("\t1.00"), "the first is what the others are compared with: {}", lines[0]);
}

#[test]
fn a_name_that_nothing_begins_with() {
    let output = versus(&["pool", "no-such-row"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty(), "nothing was measured");
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("usage: versus"));
}
