//! Each chip: what it passes on, how it ends, and that nothing is lost or left, whoever leaves first.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;

use common::{Checking, Copies, P, Tally, Token, Trace, Value, assert_outcome, counts, poll_once, rounds, run, take};
use fibra_core::chips::{bound, buffer, delta, filter, merge, pace, prefix, sink, source, transducer, zip};
use fibra_core::{Reader, Writer};
use futures::stream::{FuturesUnordered, StreamExt};
use proptest::prelude::*;

/// The chips with one input and one output (and what else they need) that pass on all that they read, as it is.
#[derive(Clone, Copy, Debug)]
enum Wire {
    Transducer,
    Filter,
    Prefix,
    Bound,
    Buffer1,
    Buffer2,
    Buffer7,
    Delta,
    Merge,
    Zip,
    Pace,
}
use Wire::*;

const WIRES: [Wire; 11] = [Transducer, Filter, Prefix, Bound, Buffer1, Buffer2, Buffer7, Delta, Merge, Zip, Pace];

impl Wire {
    /// How many fibres it takes.
    fn fibres(self) -> usize {
        if matches!(self, Zip | Pace) { 2 } else { 1 }
    }

    /// Whether it leaves by itself when its input has ended.
    fn finishes(self) -> bool {
        matches!(self, Buffer1 | Buffer2 | Buffer7 | Merge | Zip)
    }

    fn chip<'p, T: Clone + 'p>(
        self,
        p: &'p P<'p, '_, '_>,
        from: Reader<'p, T>,
        to: Writer<'p, T>,
    ) -> Pin<Box<dyn Future<Output = ()> + 'p>> {
        let for_ever = || {
            let (w, r) = p.channel().unwrap();
            p.spawn(source(std::iter::repeat(()), w)).unwrap();
            r
        };
        match self {
            Transducer => Box::pin(transducer(|value| value, from, to)),
            Filter => Box::pin(filter(|_| true, from, to)),
            Prefix => Box::pin(prefix([], from, to)),
            Bound => Box::pin(bound(usize::MAX, from, to)),
            Buffer1 => Box::pin(buffer::<1, _>(from, to)),
            Buffer2 => Box::pin(buffer::<2, _>(from, to)),
            Buffer7 => Box::pin(buffer::<7, _>(from, to)),
            Delta => Box::pin(delta(from, [to])),
            Merge => Box::pin(merge([from], to)),
            Zip => Box::pin(zip(|value, ()| value, from, for_ever(), to)),
            Pace => Box::pin(pace(for_ever(), from, to)),
        }
    }

    fn spawn<'p, T: Clone + 'p>(self, p: &'p P<'p, '_, '_>, from: Reader<'p, T>, to: Writer<'p, T>) {
        p.spawn(self.chip(p, from, to)).unwrap();
    }
}

/// Spawns the fibres of a line in both orders: the chip must not care who is there first.
fn both_ways(mut each: impl FnMut(Wire, bool)) {
    for wire in WIRES {
        for reader_first in [false, true] {
            each(wire, reader_first);
        }
    }
}

#[test]
fn the_producer_leaves_first() {
    both_ways(|wire, reader_first| {
        let (checking, copies, seen) = (Checking::new(), Copies::default(), Trace::new());
        let outcome = run(&checking, |p| {
            let (copies, seen) = (&copies, &seen);
            let (w1, r1) = p.channel().unwrap();
            let (w2, r2) = p.channel().unwrap();
            let produce = source((0..10).map(|n| copies.value(n)), w1);
            if reader_first {
                p.spawn(take(usize::MAX, r2, seen)).unwrap();
                wire.spawn(p, r1, w2);
                p.spawn(produce).unwrap();
            } else {
                p.spawn(produce).unwrap();
                wire.spawn(p, r1, w2);
                p.spawn(take(usize::MAX, r2, seen)).unwrap();
            }
        });
        assert_eq!(seen.take(), (0..10).collect::<Vec<_>>(), "{wire:?}");
        assert_eq!((copies.tally.alive(), copies.made.get()), (0, 0), "{wire:?}");
        let finished = 2 + usize::from(wire.finishes());
        assert_outcome(outcome, [finished, 2 + wire.fibres() - finished, 0, 0, 0]);
    });
}

#[test]
fn the_consumer_leaves_first() {
    both_ways(|wire, reader_first| {
        let (checking, copies, seen) = (Checking::new(), Copies::default(), Trace::new());
        let outcome = run(&checking, |p| {
            let (copies, seen) = (&copies, &seen);
            let (w1, r1) = p.channel().unwrap();
            let (w2, r2) = p.channel().unwrap();
            let produce = source((0..).map(|n| copies.value(n)), w1);
            if reader_first {
                p.spawn(take(3, r2, seen)).unwrap();
                wire.spawn(p, r1, w2);
                p.spawn(produce).unwrap();
            } else {
                p.spawn(produce).unwrap();
                wire.spawn(p, r1, w2);
                p.spawn(take(3, r2, seen)).unwrap();
            }
        });
        assert_eq!(seen.take(), [0, 1, 2], "{wire:?}");
        assert_eq!(copies.tally.alive(), 0, "{wire:?}");
        assert!(copies.tally.made() <= 3 + 7 + 2, "{wire:?}: nothing goes on for ever: {}", copies.tally.made());
        assert_outcome(outcome, [1, 1 + wire.fibres(), 0, 0, 0]);
    });
}

/// A stage in the middle leaves, between two chips of each kind: the input side collapses, and the output side as it does
/// when its producer leaves.
#[test]
fn a_stage_in_the_middle_leaves() {
    both_ways(|wire, reader_first| {
        let (checking, copies, seen) = (Checking::new(), Copies::default(), Trace::new());
        let outcome = run(&checking, |p| {
            let (copies, seen) = (&copies, &seen);
            let (w1, r1) = p.channel().unwrap();
            let (w2, r2) = p.channel().unwrap();
            let (w3, r3) = p.channel().unwrap();
            let (w4, r4) = p.channel().unwrap();
            let produce = source((0..).map(|n| copies.value(n)), w1);
            if reader_first {
                p.spawn(take(usize::MAX, r4, seen)).unwrap();
                wire.spawn(p, r3, w4);
                p.spawn(bound(4, r2, w3)).unwrap();
                wire.spawn(p, r1, w2);
                p.spawn(produce).unwrap();
            } else {
                p.spawn(produce).unwrap();
                wire.spawn(p, r1, w2);
                p.spawn(bound(4, r2, w3)).unwrap();
                wire.spawn(p, r3, w4);
                p.spawn(take(usize::MAX, r4, seen)).unwrap();
            }
        });
        assert_eq!(seen.take(), [0, 1, 2, 3], "{wire:?}");
        assert_eq!(copies.tally.alive(), 0, "{wire:?}");
        let finished = 2 + usize::from(wire.finishes());
        assert_outcome(outcome, [finished, 3 + 2 * wire.fibres() - finished, 0, 0, 0]);
    });
}

/// Nobody reads or writes at all: the ends were dropped before the chip began.
#[test]
fn neighbours_that_were_never_there() {
    for wire in WIRES {
        for (has_input, has_output) in [(false, false), (false, true), (true, false)] {
            let (checking, copies) = (Checking::new(), Copies::default());
            let outcome = run(&checking, |p| {
                let copies = &copies;
                let (w1, r1) = p.channel().unwrap();
                let (w2, r2) = p.channel().unwrap();
                wire.spawn(p, r1, w2);
                if has_input {
                    p.spawn(source((0..20).map(|n| copies.value(n)), w1)).unwrap();
                }
                if has_output {
                    p.spawn(sink(|_: Value<'_>| unreachable!(), r2)).unwrap();
                }
            });
            assert_eq!(copies.tally.alive(), 0, "{wire:?}");
            let [finished, collapsed, rest @ ..] = counts(outcome);
            let expected = if has_input { 0 } else { usize::from(wire.finishes()) };
            assert_eq!((finished, rest), (expected, [0; 3]), "{wire:?}");
            assert_eq!(finished + collapsed, wire.fibres() + usize::from(has_input) + usize::from(has_output));
        }
    }
}

/// A value without a size, whose drops count.
#[derive(Debug)]
struct Nothing;

thread_local! {
    static ALIVE: Cell<isize> = const { Cell::new(0) };
}

impl Nothing {
    fn new() -> Self {
        ALIVE.set(ALIVE.get() + 1);
        Nothing
    }
}

impl Clone for Nothing {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl Drop for Nothing {
    fn drop(&mut self) {
        ALIVE.set(ALIVE.get() - 1);
    }
}

#[test]
fn values_of_no_size() {
    const { assert!(size_of::<Nothing>() == 0) };
    for wire in WIRES {
        for (written, read) in [(9, usize::MAX), (usize::MAX, 4)] {
            let (checking, seen) = (Checking::new(), Cell::new(0));
            run(&checking, |p| {
                let seen = &seen;
                let (w1, r1) = p.channel().unwrap();
                let (w2, mut r2) = p.channel().unwrap();
                p.spawn(source(std::iter::repeat_with(Nothing::new).take(written), w1)).unwrap();
                wire.spawn(p, r1, w2);
                p.spawn(async move {
                    while seen.get() < read && r2.read_or_end().await.is_some() {
                        seen.set(seen.get() + 1);
                    }
                })
                .unwrap();
            });
            assert_eq!(seen.get(), written.min(read), "{wire:?}");
            assert_eq!(ALIVE.get(), 0, "{wire:?}");
        }
    }
}

/// A chip goes on in another fibre, wherever it waits, and loses nothing on the way.
#[test]
fn a_chip_moves_from_fibre_to_fibre() {
    for wire in WIRES {
        for (before, after) in [(0, 0), (0, 5), (5, 0), (1, 1)] {
            let (checking, copies, seen) = (Checking::new(), Copies::default(), Trace::new());
            let outcome = run(&checking, |p| {
                let (copies, seen) = (&copies, &seen);
                let (w1, r1) = p.channel().unwrap();
                let (w2, mut r2) = p.channel().unwrap();
                let (mut hand_on, mut handed_on) = p.channel().unwrap();
                let (mut give_back, mut given_back) = p.channel().unwrap();
                let mut chip = wire.chip(p, r1, w2);
                p.spawn(source((0..20).map(|n| copies.value(n)), w1)).unwrap();
                p.spawn(async move {
                    for _ in 0..4 {
                        rounds(before).await;
                        assert!(poll_once(&mut chip).await.is_pending());
                        hand_on.write(chip).await;
                        chip = given_back.read().await;
                    }
                    chip.await;
                })
                .unwrap();
                p.spawn(async move {
                    loop {
                        let mut chip: Pin<Box<dyn Future<Output = ()>>> = handed_on.read().await;
                        rounds(after).await;
                        assert!(poll_once(&mut chip).await.is_pending());
                        give_back.write(chip).await;
                    }
                })
                .unwrap();
                p.spawn(async move {
                    while let Some(value) = r2.read_or_end().await {
                        seen.push(value.n);
                        rounds(3).await;
                    }
                })
                .unwrap();
            });
            assert_eq!(seen.take(), (0..20).collect::<Vec<_>>(), "{wire:?}");
            assert_eq!(copies.tally.alive(), 0, "{wire:?}");
            assert_eq!(counts(outcome)[2..], [0; 3], "{wire:?}");
        }
    }
}

/// A chip is a future like any other: several of them in one fibre, polled with wakers of a foreign combinator.
#[test]
fn chips_work_within_one_fibre() {
    let (checking, copies, seen) = (Checking::new(), Copies::default(), Trace::new());
    let outcome = run(&checking, |p| {
        let (copies, seen) = (&copies, &seen);
        let [(w0, r0), (w1, r1), (w2, r2), (w3, r3), (w4, r4)] = [(); 5].map(|()| p.channel().unwrap());
        let chips: [Pin<Box<dyn Future<Output = ()>>>; 6] = [
            Box::pin(source((0..10).map(|n| copies.value(n)), w0)),
            Box::pin(buffer::<3, _>(r0, w1)),
            Box::pin(source((100..110).map(|n| copies.value(n)), w2)),
            Box::pin(merge([r1, r2], w3)),
            Box::pin(bound(20, r3, w4)),
            Box::pin(take(usize::MAX, r4, seen)),
        ];
        p.spawn(async move {
            let mut left = chips.into_iter().collect::<FuturesUnordered<_>>();
            while left.next().await.is_some() {}
        })
        .unwrap();
    });
    let seen = seen.take();
    let (small, large): (Vec<u64>, Vec<u64>) = seen.iter().partition(|n| **n < 100);
    assert_eq!(seen.len(), 20);
    assert_eq!(small, (0..10).collect::<Vec<_>>());
    assert_eq!(large, (100..110).collect::<Vec<_>>());
    assert_eq!(copies.tally.alive(), 0);
    assert_outcome(outcome, [1, 0, 0, 0, 0]);
}

// source, sink, transducer, filter, prefix, bound

#[test]
fn a_source_without_items_leaves_at_once() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (w, r) = p.channel::<u8>().unwrap();
        p.spawn(source([], w)).unwrap();
        p.spawn(sink(|_| unreachable!(), r)).unwrap();
    });
    assert_outcome(outcome, [1, 1, 0, 0, 0]);
}

/// The source makes an item when it can offer it, and drops its iterator with the items that it has not made.
#[test]
fn a_source_makes_its_items_one_by_one() {
    let (checking, copies, made) = (Checking::new(), Copies::default(), Cell::new(0));
    let items: Vec<_> = (0..10).map(|n| copies.value(n)).collect();
    let outcome = run(&checking, |p| {
        let made = &made;
        let (w, mut r) = p.channel().unwrap();
        p.spawn(source(items.into_iter().inspect(|value| made.set(value.n + 1)), w)).unwrap();
        p.spawn(async move {
            for n in 0..3 {
                rounds(3).await;
                assert_eq!(made.get(), n + 1);
                assert_eq!(r.read().await.n, n);
            }
        })
        .unwrap();
    });
    assert_eq!((made.get(), copies.tally.alive()), (4, 0));
    assert_outcome(outcome, [1, 1, 0, 0, 0]);
}

#[test]
fn a_transducer_changes_types_and_keeps_state() {
    let (checking, seen) = (Checking::new(), Trace::new());
    run(&checking, |p| {
        let seen = &seen;
        let (w1, r1) = p.channel().unwrap();
        let (w2, r2) = p.channel().unwrap();
        let mut sum = 0;
        p.spawn(source(1..=4, w1)).unwrap();
        p.spawn(transducer(
            move |n: i32| {
                sum += n;
                sum.to_string()
            },
            r1,
            w2,
        ))
        .unwrap();
        p.spawn(sink(|text: String| seen.push(text), r2)).unwrap();
    });
    assert_eq!(seen.take(), ["1", "3", "6", "10"]);
}

#[test]
fn a_filter_drops_what_it_does_not_pick() {
    for reader_stays in [true, false] {
        let (checking, copies, seen) = (Checking::new(), Copies::default(), Trace::new());
        let outcome = run(&checking, |p| {
            let (copies, seen) = (&copies, &seen);
            let (w1, r1) = p.channel().unwrap();
            let (w2, r2) = p.channel().unwrap();
            p.spawn(source((0..9).map(|n| copies.value(n)), w1)).unwrap();
            p.spawn(filter(|value: &Value<'_>| value.n % 4 == 3, r1, w2)).unwrap();
            if reader_stays {
                p.spawn(take(usize::MAX, r2, seen)).unwrap();
            }
        });
        assert_eq!(copies.tally.alive(), 0);
        if reader_stays {
            assert_eq!(seen.take(), [3, 7]);
            assert_outcome(outcome, [2, 1, 0, 0, 0]);
        } else {
            assert_eq!(copies.tally.made(), 5, "up to the first that it picks, and one that the source offers");
            assert_outcome(outcome, [0, 2, 0, 0, 0]);
        }
    }
}

#[test]
fn a_prefix_comes_first_even_if_a_value_waits() {
    let (checking, copies, seen) = (Checking::new(), Copies::default(), Trace::new());
    let outcome = run(&checking, |p| {
        let (copies, seen) = (&copies, &seen);
        let (w1, r1) = p.channel().unwrap();
        let (w2, r2) = p.channel().unwrap();
        p.spawn(source((5..8).map(|n| copies.value(n)), w1)).unwrap();
        p.spawn(prefix([copies.value(0), copies.value(1)], r1, w2)).unwrap();
        p.spawn(take(usize::MAX, r2, seen)).unwrap();
    });
    assert_eq!(seen.take(), [0, 1, 5, 6, 7]);
    assert_eq!(copies.tally.alive(), 0);
    assert_outcome(outcome, [2, 1, 0, 0, 0]);
}

/// A loop that a prefix starts runs until a stage leaves.
#[test]
fn a_loop_of_chips_runs_and_dissolves() {
    let (checking, seen) = (Checking::new(), Trace::new());
    let outcome = run(&checking, |p| {
        let seen = &seen;
        let (to_delta, from_prefix) = p.channel().unwrap();
        let (to_next, from_delta) = p.channel().unwrap();
        let (to_prefix, from_next) = p.channel().unwrap();
        let (to_bound, out) = p.channel().unwrap();
        let (to_sink, from_bound) = p.channel().unwrap();
        p.spawn(prefix([0], from_next, to_delta)).unwrap();
        p.spawn(delta(from_prefix, [to_next, to_bound])).unwrap();
        p.spawn(transducer(|n| n + 1, from_delta, to_prefix)).unwrap();
        p.spawn(bound(1000, out, to_sink)).unwrap();
        p.spawn(sink(|n: u32| seen.push(n), from_bound)).unwrap();
    });
    assert_eq!(seen.take(), (0..1000).collect::<Vec<_>>());
    assert_outcome(outcome, [1, 4, 0, 0, 0]);
}

#[test]
fn a_bound_reads_nothing_that_it_does_not_pass_on() {
    for n in [0, 1, 5, 8, 9] {
        let (checking, seen, written) = (Checking::new(), Trace::new(), Cell::new(0));
        let outcome = run(&checking, |p| {
            let (seen, written) = (&seen, &written);
            let (mut w1, r1) = p.channel().unwrap();
            let (w2, r2) = p.channel().unwrap();
            p.spawn(async move {
                for n in 0..8 {
                    w1.write(n).await;
                    written.set(n + 1);
                }
            })
            .unwrap();
            p.spawn(bound(n, r1, w2)).unwrap();
            p.spawn(sink(|n: usize| seen.push(n), r2)).unwrap();
        });
        assert_eq!(seen.take(), (0..n.min(8)).collect::<Vec<_>>());
        assert_eq!(written.get(), n.min(8));
        // Of the bound and the producer, the one with less to do leaves first; with 8 both.
        assert_outcome(outcome, [1 + usize::from(n == 8), 2 - usize::from(n == 8), 0, 0, 0]);
    }
}

// buffer

/// What is done to a buffer from outside, after it has had time to do its part.
#[derive(Clone, Copy, Debug)]
enum Do {
    Write,
    Read,
}

/// A buffer of `N` is a queue that accepts unless it holds `N` values, and gives unless it is empty.
fn is_a_queue<const N: usize>(script: &[Do], writer_leaves: bool) {
    let (checking, copies) = (Checking::new(), Copies::default());
    let outcome = run(&checking, |p| {
        let copies = &copies;
        let (mut w, from) = p.channel().unwrap();
        let (to, mut r) = p.channel().unwrap();
        p.spawn(buffer::<N, _>(from, to)).unwrap();
        p.spawn(async move {
            let mut model = VecDeque::new();
            let mut next = 0;
            for step in script {
                rounds(2).await;
                match step {
                    Do::Write => {
                        let accepted = w.try_write(copies.value(next)).is_ok();
                        assert_eq!(accepted, model.len() < N, "with {} of {N}", model.len());
                        if accepted {
                            model.push_back(next);
                            next += 1;
                        }
                    }
                    Do::Read => assert_eq!(r.try_read().map(|value| value.n), model.pop_front()),
                }
            }
            if writer_leaves {
                drop(w);
                for n in model {
                    assert_eq!(r.read().await.n, n);
                }
                assert!(r.read_or_end().await.is_none());
            } else {
                drop(r);
                for n in 0..N - model.len() {
                    rounds(2).await;
                    assert!(w.try_write(copies.value(next)).is_ok(), "it accepts {n} more, until it is full");
                }
                w.write(copies.value(next)).await;
                unreachable!("it has collapsed");
            }
        })
        .unwrap();
    });
    assert_eq!(copies.tally.alive(), 0);
    assert_outcome(outcome, if writer_leaves { [2, 0, 0, 0, 0] } else { [0, 2, 0, 0, 0] });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_buffer_is_a_bounded_queue(
        script in prop::collection::vec(prop_oneof![5 => Just(Do::Write), 4 => Just(Do::Read)], 0..40),
        n in 0..5,
        writer_leaves: bool,
    ) {
        match n {
            0 => is_a_queue::<1>(&script, writer_leaves),
            1 => is_a_queue::<2>(&script, writer_leaves),
            2 => is_a_queue::<3>(&script, writer_leaves),
            3 => is_a_queue::<5>(&script, writer_leaves),
            _ => is_a_queue::<16>(&script, writer_leaves),
        }
    }
}

#[test]
fn a_buffer_fills_and_empties_again_and_again() {
    use Do::*;
    let fill_and_empty = [Write, Write, Write, Write, Read, Read, Read, Read];
    is_a_queue::<3>(&fill_and_empty.repeat(5), true);
    is_a_queue::<3>(&fill_and_empty.repeat(5), false);
}

/// Nobody waits in vain: several writers and several readers on the two channels of one buffer.
#[test]
fn a_buffer_serves_several_writers_and_readers() {
    let (checking, copies, seen) = (Checking::new(), Copies::default(), Trace::new());
    let outcome = run(&checking, |p| {
        let (copies, seen) = (&copies, &seen);
        let (w, from) = p.channel().unwrap();
        let (to, r) = p.channel().unwrap();
        for nth in 0..5 {
            p.spawn(source((0..20).map(move |n| copies.value(100 * nth + n)), w.dup().unwrap())).unwrap();
        }
        drop(w);
        for _ in 0..3 {
            p.spawn(take(usize::MAX, r.dup().unwrap(), seen)).unwrap();
        }
        drop(r);
        p.spawn(buffer::<4, _>(from, to)).unwrap();
    });
    let seen = seen.take();
    for nth in 0..5 {
        let of_one: Vec<_> = seen.iter().filter(|n| **n / 100 == nth).map(|n| n % 100).collect();
        assert_eq!(of_one, (0..20).collect::<Vec<_>>(), "all of writer {nth}, in order");
    }
    assert_eq!((seen.len(), copies.tally.alive()), (100, 0));
    assert_outcome(outcome, [9, 0, 0, 0, 0]);
}

// delta

/// Runs a delta with `N` readers, each of which reads so many values and leaves. Gives what each has seen, the copies that
/// were made, and the outcome's counts.
fn run_delta<const N: usize>(written: u64, reads: [usize; N]) -> ([Vec<u64>; N], usize, [usize; 5]) {
    let (checking, copies) = (Checking::new(), Copies::default());
    let seen = [(); N].map(|()| Trace::new());
    let outcome = run(&checking, |p| {
        let copies = &copies;
        let (w, from) = p.channel().unwrap();
        let mut readers = Vec::new();
        let to = [(); N].map(|()| {
            let (to, r) = p.channel().unwrap();
            readers.push(r);
            to
        });
        p.spawn(source((0..written).map(|n| copies.value(n)), w)).unwrap();
        p.spawn(delta(from, to)).unwrap();
        for (r, (n, seen)) in readers.into_iter().zip(reads.into_iter().zip(&seen)) {
            p.spawn(take(n, r, seen)).unwrap();
        }
    });
    assert_eq!(copies.tally.alive(), 0);
    (seen.map(|seen| seen.take()), copies.made.get(), counts(outcome))
}

#[test]
fn a_delta_copies_for_all_outputs_but_one() {
    let all = || (0..6).collect::<Vec<_>>();
    assert_eq!(run_delta(6, []), ([], 0, [1, 1, 0, 0, 0]));
    assert_eq!(run_delta(6, [usize::MAX]), ([all()], 0, [2, 1, 0, 0, 0]));
    assert_eq!(run_delta(6, [usize::MAX; 3]), ([all(), all(), all()], 12, [4, 1, 0, 0, 0]));
}

#[test]
fn a_delta_without_outputs_goes_on_reading() {
    let (checking, copies) = (Checking::new(), Copies::default());
    let outcome = run(&checking, |p| {
        let copies = &copies;
        let (mut w, from) = p.channel().unwrap();
        p.spawn(delta::<0, Value<'_>>(from, [] as [Writer<'_, _>; 0])).unwrap();
        p.spawn(async move {
            for n in 1..=6 {
                w.write(copies.value(n)).await;
                rounds(2).await;
                assert_eq!((copies.tally.made(), copies.tally.alive()), (n as usize, 0));
            }
        })
        .unwrap();
    });
    assert_eq!(copies.tally.made(), 6);
    assert_outcome(outcome, [1, 1, 0, 0, 0]);
}

/// Whichever reader leaves, the others get one value more, and then all ends.
#[test]
fn one_reader_of_a_delta_leaves() {
    for leaver in 0..3 {
        let mut reads = [usize::MAX; 3];
        reads[leaver] = 2;
        let (seen, _, outcome) = run_delta(u64::MAX, reads);
        for (nth, seen) in seen.iter().enumerate() {
            assert_eq!(*seen, if nth == leaver { vec![0, 1] } else { vec![0, 1, 2] }, "reader {nth} of 3");
        }
        assert_eq!(outcome, [3, 2, 0, 0, 0]);
    }
}

/// One fibre reads all outputs, in an order in which a delta that wrote to one after the other would be stuck.
#[test]
fn the_outputs_of_a_delta_are_read_in_any_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let (w, from) = p.channel().unwrap();
            let (w0, r0) = p.channel().unwrap();
            let (w1, r1) = p.channel().unwrap();
            let (w2, r2) = p.channel().unwrap();
            p.spawn(source(0..4, w)).unwrap();
            p.spawn(delta(from, [w0, w1, w2])).unwrap();
            p.spawn(async move {
                let mut readers = [r0, r1, r2];
                for n in 0..4 {
                    for nth in order {
                        assert_eq!(readers[nth].read().await, n);
                    }
                }
            })
            .unwrap();
        });
        assert_outcome(outcome, [2, 1, 0, 0, 0]);
    }
}

/// A copy that panics: the copies made before it, and the value, are dropped once.
#[test]
fn a_copy_that_panics_loses_nothing() {
    struct Fragile<'a>(#[expect(dead_code, reason = "it counts")] Token<'a>, &'a Tally, &'a Cell<usize>);
    impl Clone for Fragile<'_> {
        fn clone(&self) -> Self {
            let left = self.2.get();
            assert!(left > 0, "no copy left");
            self.2.set(left - 1);
            Fragile(self.1.token(), self.1, self.2)
        }
    }
    for left in 0..5 {
        let (checking, tally, left) = (Checking::new(), Tally::default(), Cell::new(left));
        let text = common::panic_of(|| {
            fibra_core::run(&checking, |p| {
                let (tally, left) = (&tally, &left);
                let (w, from) = p.channel().unwrap();
                let (w0, r0) = p.channel().unwrap();
                let (w1, r1) = p.channel().unwrap();
                let (w2, r2) = p.channel().unwrap();
                p.spawn(source(std::iter::repeat_with(move || Fragile(tally.token(), tally, left)), w)).unwrap();
                p.spawn(delta(from, [w0, w1, w2])).unwrap();
                for r in [r0, r1, r2] {
                    p.spawn(sink(drop, r)).unwrap();
                }
            })
        });
        assert_eq!((text.as_str(), tally.alive()), ("no copy left", 0));
        checking.assert_empty();
    }
}

// merge

/// Merges sources of so many values; gives the numbers of the sources, in the order in which their values came.
fn run_merge<const N: usize>(written: [u64; N], merge_first: bool) -> Vec<u64> {
    let (checking, copies, seen) = (Checking::new(), Copies::default(), Trace::new());
    let outcome = run(&checking, |p| {
        let (copies, seen) = (&copies, &seen);
        let mut writers = Vec::new();
        let from = [(); N].map(|()| {
            let (w, r) = p.channel().unwrap();
            writers.push(w);
            r
        });
        let (to, merged) = p.channel().unwrap();
        let mut from = Some((from, to));
        if merge_first {
            let (from, to) = from.take().unwrap();
            p.spawn(merge(from, to)).unwrap();
        }
        for (nth, (w, n)) in writers.into_iter().zip(written).enumerate() {
            p.spawn(source((0..n).map(move |n| copies.value(1000 * nth as u64 + n)), w)).unwrap();
        }
        if let Some((from, to)) = from {
            p.spawn(merge(from, to)).unwrap();
        }
        p.spawn(take(usize::MAX, merged, seen)).unwrap();
    });
    assert_eq!(copies.tally.alive(), 0);
    assert_outcome(outcome, [N + 2, 0, 0, 0, 0]);
    let seen = seen.take();
    for (nth, n) in written.into_iter().enumerate() {
        let of_one: Vec<_> = seen.iter().filter(|n| **n / 1000 == nth as u64).map(|n| n % 1000).collect();
        assert_eq!(of_one, (0..n).collect::<Vec<_>>(), "all of source {nth}, in order");
    }
    seen.into_iter().map(|n| n / 1000).collect()
}

#[test]
fn the_inputs_of_a_merge_take_turns() {
    for merge_first in [false, true] {
        assert_eq!(run_merge([], merge_first), []);
        assert_eq!(run_merge([5], merge_first), [0; 5]);
        assert_eq!(run_merge([0, 0, 0], merge_first), []);
        assert_eq!(run_merge([50, 50, 50], merge_first), [0, 1, 2].repeat(50));
        assert_eq!(run_merge([1, 4, 2], merge_first), [0, 1, 2, 1, 2, 1, 1]);
        assert_eq!(run_merge([0, 3, 0, 5], merge_first), [1, 3, 1, 3, 1, 3, 3, 3]);
    }
}

/// An input that seldom has a value gets its turn at once when it has one, however busy the others are.
#[test]
fn a_busy_input_of_a_merge_starves_nobody() {
    let (checking, seen) = (Checking::new(), Trace::new());
    run(&checking, |p| {
        let seen = &seen;
        let (w0, r0) = p.channel().unwrap();
        let (mut w1, r1) = p.channel().unwrap();
        let (w2, r2) = p.channel().unwrap();
        let (to, mut merged) = p.channel().unwrap();
        for busy in [w0.dup().unwrap(), w0] {
            p.spawn(source(std::iter::repeat(0), busy)).unwrap(); // so that one waits whenever the other has written
        }
        p.spawn(async move {
            for _ in 0..10 {
                rounds(20).await;
                seen.push(1);
                w1.write(1).await;
            }
            drop(w1);
        })
        .unwrap();
        for busy in [w2.dup().unwrap(), w2] {
            p.spawn(source(std::iter::repeat(2), busy)).unwrap();
        }
        p.spawn(merge([r0, r1, r2], to)).unwrap();
        p.spawn(async move {
            let mut rare = 0;
            while rare < 10 && seen.len() < 3000 {
                let n = merged.read().await;
                rare += usize::from(n == 1);
                seen.push(10 + n);
            }
        })
        .unwrap();
    });
    let seen = seen.take();
    assert_eq!(seen.iter().filter(|event| **event == 11).count(), 10);
    for (nth, _) in seen.iter().enumerate().filter(|(_, event)| **event == 1) {
        let until = seen[nth..].iter().position(|event| *event == 11).unwrap();
        // The value that it offers, the one that its reader has, and one of each other input.
        assert!(until <= 5, "waited for {} values of others: {seen:?}", until - 1);
    }
}

/// How many writes of three inputs complete while nobody reads the output.
fn taken_in_advance(merge_first: bool) -> usize {
    let (checking, taken, copies) = (Checking::new(), Cell::new(0), Copies::default());
    let outcome = run(&checking, |p| {
        let (taken, copies) = (&taken, &copies);
        let [(w0, r0), (w1, r1), (w2, r2)] = [(); 3].map(|()| p.channel().unwrap());
        let (to, merged) = p.channel().unwrap();
        let mut chip = Some(merge([r0, r1, r2], to));
        if merge_first {
            p.spawn(chip.take().unwrap()).unwrap();
        }
        for mut w in [w0, w1, w2] {
            p.spawn(async move {
                loop {
                    w.write(copies.value(0)).await;
                    taken.set(taken.get() + 1);
                }
            })
            .unwrap();
        }
        if let Some(chip) = chip {
            p.spawn(chip).unwrap();
        }
        p.spawn(async move {
            rounds(20).await;
            drop(merged);
        })
        .unwrap();
    });
    assert_eq!(copies.tally.alive(), 0, "what was with the merge's readers is dropped with it");
    assert_outcome(outcome, [1, 4, 0, 0, 0]);
    taken.get()
}

#[test]
fn a_merge_that_offers_accepts_nothing() {
    assert_eq!(taken_in_advance(false), 1, "the one that it offers");
    assert_eq!(taken_in_advance(true), 3, "one of each, for it waited for all");
}

/// The values that its readers have while the reader of the output goes are dropped; the merge does not wait for more.
#[test]
fn a_merge_without_reader_collapses_whatever_its_inputs_do() {
    let (checking, copies) = (Checking::new(), Copies::default());
    let outcome = run(&checking, |p| {
        let copies = &copies;
        let (mut w0, r0) = p.channel().unwrap();
        let (w1, r1) = p.channel::<Value<'_>>().unwrap();
        let (to, merged) = p.channel().unwrap();
        let (gone, mut has_gone) = p.channel::<()>().unwrap();
        drop(merged);
        let chip = merge([r0, r1], to);
        p.spawn(async move {
            let _gone = gone;
            chip.await;
        })
        .unwrap();
        p.spawn(async move {
            w0.write(copies.value(1)).await;
            has_gone.read_or_end().await;
            drop(w1); // was held until the merge had gone, and did not keep it
        })
        .unwrap();
    });
    assert_eq!(copies.tally.alive(), 0);
    assert_outcome(outcome, [1, 1, 0, 0, 0]);
}

// zip

#[test]
fn a_zip_is_as_long_as_its_shorter_input() {
    for (left, right) in [(0, 0), (0, 3), (3, 0), (2, 5), (5, 2), (4, 4)] {
        for zip_first in [false, true] {
            let (checking, copies, seen) = (Checking::new(), Copies::default(), Trace::new());
            let outcome = run(&checking, |p| {
                let (copies, seen) = (&copies, &seen);
                let (w1, r1) = p.channel().unwrap();
                let (w2, r2) = p.channel().unwrap();
                let (to, zipped) = p.channel().unwrap();
                let mut chip = Some(zip(|a: Value<'_>, b: Value<'_>| (a, b), r1, r2, to));
                if zip_first {
                    p.spawn(chip.take().unwrap()).unwrap();
                }
                p.spawn(source((0..left).map(|n| copies.value(n)), w1)).unwrap();
                p.spawn(source((0..right).map(|n| copies.value(100 + n)), w2)).unwrap();
                if let Some(chip) = chip {
                    p.spawn(chip).unwrap();
                }
                p.spawn(sink(|(a, b): (Value<'_>, Value<'_>)| seen.push((a.n, b.n)), zipped)).unwrap();
            });
            let shorter = left.min(right);
            assert_eq!(seen.take(), (0..shorter).map(|n| (n, 100 + n)).collect::<Vec<_>>());
            assert_eq!(copies.tally.alive(), 0);
            // A longer source collapses, unless its last value was taken for a partner that never came.
            let [finished, collapsed, rest @ ..] = counts(outcome);
            assert_eq!((finished + collapsed, rest), (4, [0; 3]));
            assert!(finished >= 2 && (left.abs_diff(right) < 2 || finished == 2), "{left}, {right}: {outcome}");
        }
    }
}

/// One fibre writes to both inputs, the right one first.
#[test]
fn the_inputs_of_a_zip_are_written_in_any_order() {
    let (checking, seen) = (Checking::new(), Trace::new());
    let outcome = run(&checking, |p| {
        let seen = &seen;
        let (mut w1, r1) = p.channel().unwrap();
        let (mut w2, r2) = p.channel().unwrap();
        let (to, zipped) = p.channel().unwrap();
        p.spawn(zip(|a: u32, b: char| (a, b), r1, r2, to)).unwrap();
        p.spawn(sink(|pair| seen.push(pair), zipped)).unwrap();
        p.spawn(async move {
            w2.write('a').await;
            w1.write(1).await;
            w1.write(2).await;
            w2.write('b').await;
        })
        .unwrap();
    });
    assert_eq!(seen.take(), [(1, 'a'), (2, 'b')]);
    assert_outcome(outcome, [2, 1, 0, 0, 0]);
}

/// A zip leaves at the end of one input though the other stays silent; but not while it holds the last value of that input:
/// the partner may come.
#[test]
fn a_zip_does_not_wait_for_a_partner_in_vain() {
    for ends_left in [false, true] {
        let (checking, copies) = (Checking::new(), Copies::default());
        let outcome = run(&checking, |p| {
            let copies = &copies;
            let (w1, r1) = p.channel().unwrap();
            let (w2, r2) = p.channel().unwrap();
            let (to, mut zipped) = p.channel().unwrap();
            p.spawn(zip(|a: Value<'_>, b: Value<'_>| a.n + b.n, r1, r2, to)).unwrap();
            let (ends, mut stays) = if ends_left { (w1, w2) } else { (w2, w1) };
            p.spawn(source([copies.value(1)], ends)).unwrap();
            p.spawn(async move {
                rounds(5).await;
                stays.write(copies.value(10)).await;
                assert_eq!(zipped.read().await, 11);
                assert!(zipped.read_or_end().await.is_none());
                drop(stays);
            })
            .unwrap();
        });
        assert_eq!(copies.tally.alive(), 0);
        assert_outcome(outcome, [3, 0, 0, 0, 0]);
    }
}

// pace

#[test]
fn a_value_passes_for_each_tick() {
    let (checking, seen, written) = (Checking::new(), RefCell::new(Vec::new()), Cell::new(0));
    let outcome = run(&checking, |p| {
        let (seen, written) = (&seen, &written);
        let (mut tick, ticks) = p.channel().unwrap();
        let (mut w, from) = p.channel().unwrap();
        let (to, paced) = p.channel().unwrap();
        p.spawn(pace(ticks, from, to)).unwrap();
        p.spawn(sink(|n: u32| seen.borrow_mut().push(n), paced)).unwrap();
        p.spawn(async move {
            for n in 0.. {
                w.write(n).await;
                written.set(n + 1);
            }
        })
        .unwrap();
        p.spawn(async move {
            for n in 0..5 {
                rounds(5).await;
                assert_eq!((seen.borrow().len(), written.get()), (n, n as u32), "it takes no value without a tick");
                tick.write("tick").await;
            }
        })
        .unwrap();
    });
    assert_eq!(seen.into_inner(), [0, 1, 2, 3, 4]);
    assert_eq!(written.get(), 5);
    assert_outcome(outcome, [1, 3, 0, 0, 0]);
}

/// The ends are in a chip once: an `async fn` would have room for its arguments twice.
#[test]
fn chips_are_small() {
    fn twice<'p>((from, to): (Reader<'p, u64>, Writer<'p, u64>)) -> impl Future<Output = ()> {
        transducer(|n| 2 * n, from, to)
    }
    fn nothing(from: Reader<'_, u64>) -> impl Future<Output = ()> {
        sink(|_| (), from)
    }
    let words = |layout: fibra_core::Layout| layout.size() / size_of::<usize>();
    let size = words(fibra_core::fibre_layout_of(&twice));
    assert!(size <= 11, "{size} words");
    let size = words(fibra_core::fibre_layout_of(&nothing));
    assert!(size <= 8, "{size} words");
}
