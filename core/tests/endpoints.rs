//! Endpoints come and go in any order, in any place, and leave nothing behind.

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::{Checking, OnDrop, assert_outcome, poll_and_forget, rounds, run};
use fibra_core::{Endpoint, Reader, Writer};

enum End<'p> {
    Writer(Writer<'p, String>),
    Reader(Reader<'p, String>),
    Endpoint(#[expect(dead_code, reason = "dropped only")] Endpoint<'p, String>),
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(n - 1);
    let insert = |rest: &Vec<usize>, at: usize| {
        let mut longer = rest.clone();
        longer.insert(at, n - 1);
        longer
    };
    shorter.iter().flat_map(|rest| (0..n).map(move |at| insert(rest, at))).collect()
}

#[test]
fn ends_go_in_any_order() {
    for order in permutations(5) {
        let checking = Checking::new();
        run(&checking, |p| {
            let (w, r) = p.channel().unwrap();
            let (w2, r2, w3) = (w.dup().unwrap(), r.dup().unwrap(), w.dup().unwrap());
            let mut ends = [
                Some(End::Writer(w)),
                Some(End::Reader(r)),
                Some(End::Writer(w2)),
                Some(End::Reader(r2)),
                Some(End::Writer(w3)),
            ];
            for (gone, nth) in order.iter().enumerate() {
                assert_eq!(checking.live() > 0, gone < 5);
                drop(ends[*nth].take());
            }
            assert_eq!(checking.live(), 0, "the channel goes with its last end");
        });
    }
}

#[test]
fn two_way_endpoints_go_in_any_order() {
    for order in permutations(4) {
        let checking = Checking::new();
        run(&checking, |p| {
            let (a, b) = p.two_way().unwrap();
            let (c, d) = (a.dup().unwrap(), b.dup().unwrap());
            let mut ends = [a, b, c, d].map(|end| Some(End::Endpoint(end)));
            for nth in order {
                drop(ends[nth].take());
            }
            assert_eq!(checking.live(), 0, "the channel goes with its last endpoint");
        });
    }
}

/// The same while each of them has an operation pending that was forgotten.
#[test]
fn ends_go_in_any_order_with_operations_pending() {
    for writers_wait in [false, true] {
        for order in permutations(4) {
            let checking = Checking::new();
            let outcome = run(&checking, |p| {
                let (w, r) = p.channel::<String>().unwrap();
                let ends =
                    [End::Writer(w.dup().unwrap()), End::Reader(r.dup().unwrap()), End::Writer(w), End::Reader(r)];
                let order = order.clone();
                p.spawn(async move {
                    let mut ends = ends.map(Some);
                    for end in ends.iter_mut().flatten() {
                        match end {
                            End::Writer(w) if writers_wait => {
                                poll_and_forget(w.write("pending".to_owned())).await;
                            }
                            End::Reader(r) if !writers_wait => poll_and_forget(r.read()).await,
                            _ => {}
                        }
                    }
                    for nth in order {
                        drop(ends[nth].take());
                        rounds(1).await;
                    }
                })
                .unwrap();
            });
            assert_outcome(outcome, [1, 0, 0, 0, 0]);
        }
    }
}

#[test]
fn fibres_that_wait_end_in_any_order() {
    for order in permutations(4) {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let (w, r) = p.channel::<usize>().unwrap();
            let mut stops = Vec::new();
            for n in 0..4 {
                let mut r = r.dup().unwrap();
                let (stop, mut stopped) = p.channel::<()>().unwrap();
                stops.push(Some(stop));
                p.spawn(async move {
                    let read = std::pin::pin!(r.read());
                    let stopped = std::pin::pin!(stopped.read_or_end());
                    futures::future::select(read, stopped).await;
                    let _ = n;
                })
                .unwrap();
            }
            drop(r);
            let order = order.clone();
            p.spawn(async move {
                let _w = w;
                for nth in order {
                    rounds(2).await;
                    drop(stops[nth].take());
                }
            })
            .unwrap();
        });
        assert_outcome(outcome, [5, 0, 0, 0, 0]);
    }
}

/// The destructor of a value in one end's slot drops other ends, of the same channel and of others.
#[test]
fn an_end_goes_inside_the_drop_of_another() {
    for same_channel in [false, true] {
        for delivered in [false, true] {
            let checking = Checking::new();
            let outcome = run(&checking, |p| {
                type Shared<'p, T> = Rc<RefCell<Vec<T>>>;
                struct Value<'p>(#[allow(dead_code, reason = "dropped only")] OnDropBox<'p>);
                type OnDropBox<'p> = OnDrop<Box<dyn FnMut() + 'p>>;
                let kept: Shared<'_, (Writer<'_, Value<'_>>, Reader<'_, Value<'_>>)> = Rc::default();
                let (mut w, mut r) = p.channel::<Value<'_>>().unwrap();
                let other = p.channel::<Value<'_>>().unwrap();
                kept.borrow_mut().push(if same_channel { (w.dup().unwrap(), r.dup().unwrap()) } else { other });
                let drops = kept.clone();
                let value = Value(OnDrop(Box::new(move || drops.borrow_mut().clear())));
                drop(kept);
                p.spawn(async move {
                    if delivered {
                        poll_and_forget(r.read()).await;
                        w.write(value).await;
                        drop(w);
                        drop(r);
                    } else {
                        poll_and_forget(w.write(value)).await;
                        drop(r);
                        drop(w);
                    }
                })
                .unwrap();
            });
            assert_outcome(outcome, [1, 0, 0, 0, 0]);
        }
    }
}

/// A guard on the stack of a fibre drops an end of a channel on which the same fibre waits.
#[test]
fn an_end_goes_while_its_counterpart_is_dropped() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (w, mut r) = p.channel::<u8>().unwrap();
        let (_keep, mut never) = p.channel::<u8>().unwrap();
        p.spawn(async move {
            let w = RefCell::new(Some(w));
            let _guard = OnDrop(|| drop(w.borrow_mut().take()));
            futures::future::join(r.read(), never.read()).await;
        })
        .unwrap();
    });
    assert_outcome(outcome, [0, 0, 1, 0, 0]);
}

#[test]
fn ends_say_what_they_are() {
    let checking = Checking::new();
    run(&checking, |p| {
        let (w, r) = p.channel_named::<u8>("letters").unwrap();
        let (e, _) = p.two_way::<u16>().unwrap();
        assert_eq!(format!("{w:?} {r:?} {e:?}"), "Writer(`letters`) Reader(`letters`) Endpoint(`u16`)");
    });
}

/// Many channels are made and dropped in changing order; the process's list of them stays whole.
#[test]
fn channels_come_and_go() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        p.spawn(async move {
            let mut channels = Vec::new();
            for n in 0_usize..200 {
                channels.push(p.channel::<usize>().unwrap());
                if n % 3 == 2 {
                    drop(channels.swap_remove(n * 7 % channels.len()));
                }
                if n % 50 == 49 {
                    for (w, r) in &mut channels {
                        poll_and_forget(r.read()).await;
                        w.try_write(n).unwrap();
                        assert_eq!(r.try_read(), Some(n));
                    }
                }
            }
            while !channels.is_empty() {
                drop(channels.swap_remove(channels.len() / 2));
            }
            assert_eq!(p.allocator().live(), 1, "this fibre");
        })
        .unwrap();
    });
    assert_outcome(outcome, [1, 0, 0, 0, 0]);
}
