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
fn a_beginning_stands_for_all_that_begin_with_it() {
    let pools = Workload::matching("pool");
    assert!(pools.len() > 5);
    assert!(Workload::ALL.into_iter().all(|w| pools.contains(&w) == w.is_pool()));
    assert_eq!(Workload::matching("pool-cold"), [Workload::PoolCold], "a whole name stands for itself");
    assert_eq!(Workload::matching("no such row"), []);
}

#[test]
fn fibra_comes_first() {
    for workload in Workload::ALL {
        let first = match workload {
            Workload::PoolTwoThreads | Workload::PoolHandover => "fibra-cached",
            _ => "fibra",
        };
        assert_eq!(workload.contenders()[0].name, first, "{}", workload.name());
    }
}
