//! Random networks of chips give what a model made of iterators gives, whoever leaves first, and nothing is left of them.

mod common;

use std::cell::Cell;

use common::{Checking, Copies, P, Trace, Value, counts, run, take};
use fibra_core::Reader;
use fibra_core::chips::{bound, buffer, delta, filter, merge, pace, prefix, source, transducer, zip};
use proptest::prelude::*;

/// Where in a value the number of its network goes.
const PLACE: u64 = 1_000_000_000_000;

/// A network of chips that gives a stream, and is modelled by iterators.
#[derive(Clone, Debug)]
enum Net {
    Source(Vec<u64>),
    Transducer(u64, Box<Net>),
    Filter(u64, Box<Net>),
    Prefix(Vec<u64>, Box<Net>),
    Bound(usize, Box<Net>),
    Buffer(u8, Box<Net>),
    Pace(usize, Box<Net>),
    Zip(Box<Net>, Box<Net>),
    /// A delta whose two outputs go through chips and meet in a zip.
    Diamond(u64, u8, Box<Net>),
}

fn numbers(most: usize) -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0..100_u64, 0..most)
}

fn net() -> impl Strategy<Value = Net> {
    numbers(12).prop_map(Net::Source).prop_recursive(6, 24, 2, |net| {
        let inner = || net.clone().prop_map(Box::new);
        prop_oneof![
            (0..9_u64, inner()).prop_map(|(n, inner)| Net::Transducer(n, inner)),
            (2..4_u64, inner()).prop_map(|(n, inner)| Net::Filter(n, inner)),
            (numbers(4), inner()).prop_map(|(first, inner)| Net::Prefix(first, inner)),
            (0..12_usize, inner()).prop_map(|(n, inner)| Net::Bound(n, inner)),
            (0..3_u8, inner()).prop_map(|(n, inner)| Net::Buffer(n, inner)),
            (0..12_usize, inner()).prop_map(|(n, inner)| Net::Pace(n, inner)),
            (inner(), inner()).prop_map(|(left, right)| Net::Zip(left, right)),
            (0..9_u64, 0..3_u8, inner()).prop_map(|(n, size, inner)| Net::Diamond(n, size, inner)),
        ]
    })
}

impl Net {
    fn model(&self) -> Vec<u64> {
        match self {
            Net::Source(items) => items.clone(),
            Net::Transducer(n, inner) => inner.model().into_iter().map(|value| value + n).collect(),
            Net::Filter(n, inner) => inner.model().into_iter().filter(|value| value % n == 0).collect(),
            Net::Prefix(first, inner) => first.iter().copied().chain(inner.model()).collect(),
            Net::Bound(n, inner) | Net::Pace(n, inner) => inner.model().into_iter().take(*n).collect(),
            Net::Buffer(_, inner) => inner.model(),
            Net::Zip(left, right) => left.model().into_iter().zip(right.model()).map(|(a, b)| a + 3 * b).collect(),
            Net::Diamond(n, _, inner) => inner.model().into_iter().map(|value| value + 3 * (value + n)).collect(),
        }
    }

    /// Spawns the network, counts its fibres, and gives the reader of its stream.
    fn build<'p, 'a: 'p>(
        &self,
        p: &'p P<'p, '_, '_>,
        copies: &'a Copies,
        spawned: &Cell<usize>,
    ) -> Reader<'p, Value<'a>> {
        let (to, out) = p.channel().unwrap();
        let build = |net: &Net| net.build(p, copies, spawned);
        let values = |numbers: &Vec<u64>| numbers.clone().into_iter().map(|n| copies.value(n));
        let plus = |n: u64| {
            move |mut value: Value<'a>| {
                value.n += n;
                value
            }
        };
        let join = |mut a: Value<'a>, b: Value<'a>| {
            a.n += 3 * b.n;
            a
        };
        let buffered = |size: u8, from, to| match size {
            0 => p.spawn(buffer::<1, _>(from, to)).unwrap(),
            1 => p.spawn(buffer::<2, _>(from, to)).unwrap(),
            _ => p.spawn(buffer::<5, _>(from, to)).unwrap(),
        };
        let mut fibres = 1;
        match self {
            Net::Source(items) => p.spawn(source(values(items), to)).unwrap(),
            Net::Transducer(n, inner) => p.spawn(transducer(plus(*n), build(inner), to)).unwrap(),
            Net::Filter(n, inner) => {
                let n = *n;
                p.spawn(filter(move |value: &Value<'a>| value.n.is_multiple_of(n), build(inner), to)).unwrap();
            }
            Net::Prefix(first, inner) => p.spawn(prefix(values(first), build(inner), to)).unwrap(),
            Net::Bound(n, inner) => p.spawn(bound(*n, build(inner), to)).unwrap(),
            Net::Buffer(size, inner) => buffered(*size, build(inner), to),
            Net::Pace(n, inner) => {
                let (tick, ticks) = p.channel().unwrap();
                p.spawn(source(std::iter::repeat_n((), *n), tick)).unwrap();
                p.spawn(pace(ticks, build(inner), to)).unwrap();
                fibres = 2;
            }
            Net::Zip(left, right) => p.spawn(zip(join, build(left), build(right), to)).unwrap(),
            Net::Diamond(n, size, inner) => {
                let (w1, r1) = p.channel().unwrap();
                let (w2, r2) = p.channel().unwrap();
                let (w3, r3) = p.channel().unwrap();
                let (w4, r4) = p.channel().unwrap();
                p.spawn(delta(build(inner), [w2, w1])).unwrap();
                buffered(*size, r1, w3);
                p.spawn(transducer(plus(*n), r2, w4)).unwrap();
                p.spawn(zip(join, r3, r4, to)).unwrap();
                fibres = 4;
            }
        }
        spawned.set(spawned.get() + fibres);
        out
    }
}

/// Merges the streams of some networks, reads up to `n` values, and leaves.
fn run_nets(nets: &[Net], n: usize) {
    let (checking, copies, seen, spawned) = (Checking::new(), Copies::default(), Trace::new(), Cell::new(1));
    let outcome = run(&checking, |p| {
        let (copies, seen) = (&copies, &seen);
        let mut streams = nets.iter().enumerate().map(|(nth, net)| {
            let (to, numbered) = p.channel().unwrap();
            let from = net.build(p, copies, &spawned);
            spawned.set(spawned.get() + 1);
            p.spawn(transducer(
                move |mut value: Value<'_>| {
                    value.n = PLACE * nth as u64 + value.n % PLACE;
                    value
                },
                from,
                to,
            ))
            .unwrap();
            numbered
        });
        let merged = if nets.len() == 1 {
            streams.next().unwrap()
        } else {
            let (to, merged) = p.channel().unwrap();
            spawned.set(spawned.get() + 1);
            p.spawn(merge([(); 3].map(|()| streams.next().unwrap()), to)).unwrap();
            merged
        };
        drop(streams);
        p.spawn(take(n, merged, seen)).unwrap();
    });
    let seen = seen.take();
    let models: Vec<_> = nets.iter().map(Net::model).collect();
    assert_eq!(seen.len(), n.min(models.iter().map(Vec::len).sum()));
    for (nth, model) in models.iter().enumerate() {
        let of_one: Vec<_> = seen.iter().filter(|n| **n / PLACE == nth as u64).collect();
        assert!(of_one.iter().zip(model).all(|(seen, model)| **seen % PLACE == model % PLACE));
        assert!(of_one.len() <= model.len());
    }
    assert_eq!(copies.tally.alive(), 0);
    let [finished, collapsed, rest @ ..] = counts(outcome);
    assert_eq!((finished + collapsed, rest), (spawned.get(), [0; 3]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_network_gives_what_its_model_gives(net in net(), n in prop_oneof![Just(usize::MAX), 0..10_usize]) {
        run_nets(&[net], n);
    }

    #[test]
    fn merged_networks_give_all_of_each(
        nets in prop::collection::vec(net(), 3),
        n in prop_oneof![Just(usize::MAX), 0..20_usize],
    ) {
        run_nets(&nets, n);
    }
}
