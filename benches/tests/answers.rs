//! Each contender's answer to each workload, at sizes that finish at once, is the right one.

use fibra_benches::Workload;

#[test]
fn answers_are_right() {
    for workload in Workload::ALL {
        for n in [1, 10, 1000] {
            for contender in workload.contenders() {
                let answer = contender.run(n).answer;
                if let Some(right) = workload.answer(n) {
                    assert_eq!(answer, right, "{}, {}, n = {n}", workload.name(), contender.name);
                }
            }
        }
    }
}

#[test]
fn names_are_unique_and_found() {
    for workload in Workload::ALL {
        assert_eq!(Workload::named(workload.name()), Some(workload));
    }
    assert_eq!(Workload::named("no such row"), None);
}

#[test]
fn fibra_comes_first() {
    for workload in Workload::ALL {
        assert_eq!(workload.contenders()[0].name, "fibra", "{}", workload.name());
    }
}
