//! Programs that try to break shared processes.

use fibra_std::Shared;

/// A fibre that stops its process and then parks is stopped, not panicked.
#[test]
fn who_stops_and_parks_has_not_panicked() {
    for workers in 1..=2 {
        let (_, outcome) = Shared::new()
            .workers(workers)
            .run(|p| {
                let (w, mut r) = p.channel::<u8>().unwrap();
                p.spawn(async move {
                    p.stop();
                    r.read().await;
                })
                .unwrap();
                std::mem::forget(w);
            })
            .unwrap();
        assert_eq!((outcome.stopped, outcome.panicked), (1, 0), "{workers} workers");
    }
}
