//! Random networks of fibres: whatever they do, each value arrives at most once and in order, each fibre is counted once,
//! the same network has the same trace, and nothing is left.

mod common;

use std::cell::RefCell;
use std::collections::HashSet;
use std::future::Future;
use std::mem::forget;
use std::pin::{Pin, pin};

use common::{Checking, P, counts, poll_once};
use fibra_core::{Endpoint, Outcome, Reader, Setup, Writer, yield_now};
use futures::future::{Either, join, select};
use proptest::prelude::*;

/// What a fibre does, step by step. Numbers name its ends, modulo how many it has.
#[derive(Clone, Debug)]
enum Step {
    Write(u8),
    Read(u8),
    ReadOrEnd(u8),
    TryWrite(u8),
    TryRead(u8),
    Yield,
    DropWriter(u8),
    DropReader(u8),
    DupWriter(u8),
    DupReader(u8),
    /// Polls a read once and forgets it, or drops it.
    BeginRead(u8, bool),
    BeginWrite(u8, bool),
    Select(u8, u8),
    JoinReadWrite(u8, u8),
    CancelWrite(u8, u8),
    /// Gives a writer and a reader to a child with the rest of the steps from there on.
    Spawn(u8, u8, bool),
    TwoWayWrite(u8),
    TwoWayRead(u8),
    DropTwoWay(u8),
    Leave,
    Stop,
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    let n = any::<u8>;
    prop_oneof![
        8 => n().prop_map(Write),
        8 => n().prop_map(Read),
        3 => n().prop_map(ReadOrEnd),
        2 => n().prop_map(TryWrite),
        2 => n().prop_map(TryRead),
        4 => Just(Yield),
        1 => n().prop_map(DropWriter),
        1 => n().prop_map(DropReader),
        1 => n().prop_map(DupWriter),
        1 => n().prop_map(DupReader),
        2 => (n(), any::<bool>()).prop_map(|(end, forget)| BeginRead(end, forget)),
        2 => (n(), any::<bool>()).prop_map(|(end, forget)| BeginWrite(end, forget)),
        3 => (n(), n()).prop_map(|(a, b)| Select(a, b)),
        2 => (n(), n()).prop_map(|(a, b)| JoinReadWrite(a, b)),
        1 => (n(), 0..3_u8).prop_map(|(end, rounds)| CancelWrite(end, rounds)),
        2 => (n(), n(), any::<bool>()).prop_map(|(w, r, next)| Spawn(w, r, next)),
        3 => n().prop_map(TwoWayWrite),
        3 => n().prop_map(TwoWayRead),
        1 => n().prop_map(DropTwoWay),
        1 => Just(Leave),
    ]
}

/// The whole network: channels as (writing fibre, reading fibre), two-way channels as pairs, and each fibre's steps.
#[derive(Clone, Debug)]
struct Network {
    channels: Vec<(u8, u8)>,
    two_way: Vec<(u8, u8)>,
    fibres: Vec<Vec<Step>>,
}

fn network() -> impl Strategy<Value = Network> {
    let pair = || (any::<u8>(), any::<u8>());
    (
        prop::collection::vec(pair(), 1..10),
        prop::collection::vec(pair(), 0..3),
        prop::collection::vec(prop::collection::vec(step(), 0..15), 1..8),
        prop::option::weighted(0.1, (any::<prop::sample::Index>(), any::<prop::sample::Index>())),
    )
        .prop_map(|(channels, two_way, mut fibres, stop)| {
            if let Some((fibre, at)) = stop {
                let steps = fibre.get(&fibres).len();
                let nth = fibre.index(fibres.len());
                fibres[nth].insert(at.index(steps + 1), Step::Stop);
            }
            Network { channels, two_way, fibres }
        })
}

/// A value: the channel, the writer, and how many that writer had made before. Owns memory, so that a value that is dropped
/// twice or never is seen by an address sanitizer.
#[derive(Debug)]
struct Value {
    channel: usize,
    writer: usize,
    nth: Box<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Started(usize),
    Wrote(usize, usize, usize),
    /// Channel, reader, writer, number.
    Got(usize, usize, usize, usize),
    Ended(usize),
}

#[derive(Default)]
struct Book {
    trace: RefCell<Vec<Event>>,
    /// Of each writer, how many values it has made.
    made: RefCell<Vec<usize>>,
    readers: RefCell<usize>,
    spawned: RefCell<usize>,
    dropped: RefCell<usize>,
}

impl Book {
    fn note(&self, event: Event) {
        self.trace.borrow_mut().push(event);
    }
}

struct Out<'p> {
    channel: usize,
    id: usize,
    end: Writer<'p, Value>,
}

struct In<'p> {
    channel: usize,
    id: usize,
    end: Reader<'p, Value>,
}

/// What a fibre has.
#[derive(Default)]
struct Ends<'p> {
    outs: Vec<Out<'p>>,
    ins: Vec<In<'p>>,
    both: Vec<Endpoint<'p, Box<usize>>>,
}

impl<'p> Ends<'p> {
    fn add_out(&mut self, book: &Book, channel: usize, end: Writer<'p, Value>) {
        book.made.borrow_mut().push(0);
        self.outs.push(Out { channel, id: book.made.borrow().len() - 1, end });
    }

    fn add_in(&mut self, book: &Book, channel: usize, end: Reader<'p, Value>) {
        *book.readers.borrow_mut() += 1;
        self.ins.push(In { channel, id: *book.readers.borrow(), end });
    }
}

fn make(book: &Book, channel: usize, writer: usize) -> Value {
    let nth = book.made.borrow()[writer];
    book.made.borrow_mut()[writer] += 1;
    Value { channel, writer, nth: Box::new(nth) }
}

fn got(book: &Book, channel: usize, reader: usize, value: Value) {
    assert_eq!(value.channel, channel, "a value came from another channel");
    book.note(Event::Got(channel, reader, value.writer, *value.nth));
}

/// Counts the fibre's destruction, however it comes.
struct Gone<'b>(&'b Book);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        *self.0.dropped.borrow_mut() += 1;
    }
}

fn nth<T>(all: &mut [T], n: u8) -> Option<&mut T> {
    let len = all.len();
    if len == 0 { None } else { all.get_mut(usize::from(n) % len) }
}

fn take<T>(all: &mut Vec<T>, n: u8) -> Option<T> {
    if all.is_empty() { None } else { Some(all.remove(usize::from(n) % all.len())) }
}

type Boxed<'p> = Pin<Box<dyn Future<Output = ()> + 'p>>;

fn fibre<'p>(p: &'p P<'p, '_, '_>, book: &'p Book, mut ends: Ends<'p>, steps: &'p [Step]) -> Boxed<'p> {
    let id = *book.spawned.borrow();
    *book.spawned.borrow_mut() += 1;
    let gone = Gone(book);
    Box::pin(async move {
        let _gone = gone;
        book.note(Event::Started(id));
        for (at, step) in steps.iter().enumerate() {
            match step {
                Step::Write(n) => {
                    if let Some(out) = nth(&mut ends.outs, *n) {
                        let value = make(book, out.channel, out.id);
                        let number = *value.nth;
                        out.end.write(value).await;
                        book.note(Event::Wrote(out.channel, out.id, number));
                    }
                }
                Step::Read(n) => {
                    if let Some(from) = nth(&mut ends.ins, *n) {
                        let value = from.end.read().await;
                        got(book, from.channel, from.id, value);
                    }
                }
                Step::ReadOrEnd(n) => {
                    if let Some(from) = nth(&mut ends.ins, *n) {
                        match from.end.read_or_end().await {
                            Some(value) => got(book, from.channel, from.id, value),
                            None => book.note(Event::Ended(from.channel)),
                        }
                    }
                }
                Step::TryWrite(n) => {
                    if let Some(out) = nth(&mut ends.outs, *n) {
                        let value = make(book, out.channel, out.id);
                        let _ = out.end.try_write(value);
                    }
                }
                Step::TryRead(n) => {
                    if let Some(from) = nth(&mut ends.ins, *n)
                        && let Some(value) = from.end.try_read()
                    {
                        got(book, from.channel, from.id, value);
                    }
                }
                Step::Yield => yield_now().await,
                Step::DropWriter(n) => drop(take(&mut ends.outs, *n)),
                Step::DropReader(n) => drop(take(&mut ends.ins, *n)),
                Step::DupWriter(n) => {
                    if let Some(out) = nth(&mut ends.outs, *n) {
                        let (channel, end) = (out.channel, out.end.dup().unwrap());
                        ends.add_out(book, channel, end);
                    }
                }
                Step::DupReader(n) => {
                    if let Some(from) = nth(&mut ends.ins, *n) {
                        let (channel, end) = (from.channel, from.end.dup().unwrap());
                        ends.add_in(book, channel, end);
                    }
                }
                Step::BeginRead(n, forgets) => {
                    if let Some(from) = nth(&mut ends.ins, *n) {
                        let mut read = from.end.read();
                        let polled = poll_once(&mut read).await;
                        if *forgets {
                            forget(read);
                        } else {
                            yield_now().await;
                            drop(read);
                        }
                        if let std::task::Poll::Ready(value) = polled {
                            got(book, from.channel, from.id, value);
                        }
                    }
                }
                Step::BeginWrite(n, forgets) => {
                    if let Some(out) = nth(&mut ends.outs, *n) {
                        let mut write = out.end.write(make(book, out.channel, out.id));
                        let _ = poll_once(&mut write).await;
                        if *forgets {
                            forget(write);
                        } else {
                            yield_now().await;
                        }
                    }
                }
                Step::Select(a, b) => {
                    let (Some(mut one), Some(mut two)) = (take(&mut ends.ins, *a), take(&mut ends.ins, *b)) else {
                        continue;
                    };
                    let first = {
                        let (one, two) = (pin!(one.end.read()), pin!(two.end.read()));
                        match select(one, two).await {
                            Either::Left((value, _)) => (true, value),
                            Either::Right((value, _)) => (false, value),
                        }
                    };
                    let from = if first.0 { &one } else { &two };
                    got(book, from.channel, from.id, first.1);
                    ends.ins.extend([one, two]);
                }
                Step::JoinReadWrite(a, b) => {
                    if let (Some(from), Some(out)) = (nth(&mut ends.ins, *a), nth(&mut ends.outs, *b)) {
                        let value = make(book, out.channel, out.id);
                        let (value, ()) = join(from.end.read(), out.end.write(value)).await;
                        got(book, from.channel, from.id, value);
                    }
                }
                Step::CancelWrite(n, rounds) => {
                    if let Some(out) = nth(&mut ends.outs, *n) {
                        let mut write = out.end.write(make(book, out.channel, out.id));
                        let _ = poll_once(&mut write).await;
                        common::rounds(usize::from(*rounds)).await;
                        drop(write.cancel());
                    }
                }
                Step::Spawn(w, r, next) => {
                    let mut theirs = Ends::default();
                    theirs.outs.extend(take(&mut ends.outs, *w));
                    theirs.ins.extend(take(&mut ends.ins, *r));
                    let child = fibre(p, book, theirs, &steps[at + 1..]);
                    if *next {
                        p.spawn_next(child).await.unwrap();
                    } else {
                        p.spawn(child).unwrap();
                    }
                }
                Step::TwoWayWrite(n) => {
                    if let Some(end) = nth(&mut ends.both, *n) {
                        end.write(Box::new(id)).await;
                    }
                }
                Step::TwoWayRead(n) => {
                    if let Some(end) = nth(&mut ends.both, *n) {
                        let writer = *end.read().await;
                        book.note(Event::Got(usize::MAX, id, writer, 0));
                    }
                }
                Step::DropTwoWay(n) => drop(take(&mut ends.both, *n)),
                Step::Leave => break,
                Step::Stop => p.stop(),
            }
        }
    })
}

fn run_once(network: &Network, checking: &Checking) -> (Outcome, Vec<Event>) {
    let book = Book::default();
    let (_, outcome) = Setup::new(checking)
        .run(|p| {
            let book = &book;
            let n = network.fibres.len();
            let mut ends: Vec<Ends<'_>> = Vec::new();
            ends.resize_with(n, Ends::default);
            for (channel, (w, r)) in network.channels.iter().enumerate() {
                let (writer, reader) = p.channel().unwrap();
                ends[usize::from(*w) % n].add_out(book, channel, writer);
                ends[usize::from(*r) % n].add_in(book, channel, reader);
            }
            for (a, b) in &network.two_way {
                let (one, two) = p.two_way().unwrap();
                ends[usize::from(*a) % n].both.push(one);
                ends[usize::from(*b) % n].both.push(two);
            }
            for (ends, steps) in ends.into_iter().zip(&network.fibres) {
                p.spawn(fibre(p, book, ends, steps)).unwrap();
            }
        })
        .unwrap();
    let spawned = book.spawned.take();
    assert_eq!(counts(outcome).iter().sum::<usize>(), spawned, "each fibre once: {outcome}");
    assert_eq!(book.dropped.take(), spawned, "each fibre is destroyed");
    (outcome, book.trace.take())
}

/// Each value arrives once; and of one writer's values, one reader gets them in the order of their writing.
fn check(trace: &[Event]) {
    let mut arrived = HashSet::new();
    let mut last = std::collections::HashMap::new();
    let mut got = HashSet::new();
    for event in trace {
        if let Event::Got(channel, reader, writer, nth) = event
            && *channel != usize::MAX
        {
            assert!(arrived.insert((*writer, *nth)), "a value came twice: {event:?}");
            got.insert((*channel, *writer, *nth));
            if let Some(before) = last.insert((*reader, *writer), *nth) {
                assert!(before < *nth, "out of order: {before} before {nth}");
            }
        }
    }
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn random_networks_keep_the_promises(network in network()) {
        let checking = Checking::new();
        let (outcome, trace) = run_once(&network, &checking);
        checking.assert_empty();
        check(&trace);
        prop_assert_eq!(outcome.panicked, 0);
        let again = Checking::new();
        let (same_outcome, same_trace) = run_once(&network, &again);
        prop_assert_eq!(outcome, same_outcome);
        prop_assert_eq!(trace, same_trace);
        prop_assert_eq!(checking.calls(), again.calls());
    }

    /// Allocation fails at a random point of a random network: what panics there is caught, and nothing is left.
    #[test]
    fn random_networks_without_memory_leave_nothing(network in network(), nth in 0..40_usize) {
        let checking = Checking::new();
        checking.fail_nth(nth);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run_once(&network, &checking);
        }));
        prop_assert!(result.is_ok() || checking.calls() > nth);
        checking.assert_empty();
    }
}
