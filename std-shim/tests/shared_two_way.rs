//! A fibre that holds all endpoints of a two-way channel, and reads from both.

use fibra_std::{Shared, run};
use futures::future::join;

#[test]
fn who_waits_for_itself_in_both_endpoints_collapses() {
    let (_, outcome) = run(|p| {
        let (mut a, mut b) = p.two_way::<u8>().unwrap();
        p.spawn(async move { _ = join(a.read(), b.read()).await }).unwrap();
    })
    .unwrap();
    assert_eq!((outcome.collapsed, outcome.deadlocked), (1, 0), "one thread");
    let (_, outcome) = Shared::new()
        .workers(1)
        .run(|p| {
            let (mut a, mut b) = p.two_way::<u8>().unwrap();
            p.spawn(async move { _ = join(a.read(), b.read()).await }).unwrap();
        })
        .unwrap();
    assert_eq!((outcome.collapsed, outcome.deadlocked), (1, 0), "shared");
}
