//! fibra again, with routines written as explicit continuations.

use std::task::{Context, Poll, ready};

use fibra_core::{Continuation, Next, coroutine};

use super::fibra::{Process, Reader, Writer, channel, duplicate, run, spawn};
use crate::measure::resident_bytes;
use crate::workload::{BATCH, RING, STAGES};
use crate::workloads::{Answer, child_ran, children_ran, forget_children};

#[derive(Clone, Copy)]
enum Step {
    Begin,
    Read,
    Write,
    WriteSecond,
}

/// Writes 0, 1, ... n - 1.
struct Count<'p> {
    next: u64,
    n: u64,
    to: Writer<'p>,
}

impl Count<'_> {
    #[inline(always)]
    fn begin(&mut self) -> Poll<Next<'_, Self>> {
        if self.next == self.n {
            return Next::finish(());
        }
        self.to.begin_write(self.next);
        self.next += 1;
        Next::go(Step::Write)
    }
}

impl Continuation for Count<'_> {
    type Step = Step;
    type Return = ();
    const START: Step = Step::Begin;

    #[inline(always)]
    fn resume(&mut self, step: Step, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        if let Step::Write = step {
            ready!(self.to.poll_write(cx));
        }
        self.begin()
    }
}

/// Adds n values up.
struct Sum<'p> {
    left: u64,
    sum: u64,
    from: Reader<'p>,
    answer: Option<Answer>,
}

impl Continuation for Sum<'_> {
    type Step = ();
    type Return = ();
    const START: () = ();

    #[inline(always)]
    fn resume(&mut self, (): (), cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        while self.left != 0 {
            self.sum += ready!(self.from.poll_read(cx));
            self.left -= 1;
        }
        let _ = self.answer.take().map(|answer| answer.send(self.sum));
        Next::finish(())
    }
}

/// Passes n values on, each with something added.
struct Pass<'p, const ADD: u64> {
    left: u64,
    from: Reader<'p>,
    to: Writer<'p>,
}

impl<const ADD: u64> Continuation for Pass<'_, ADD> {
    type Step = Step;
    type Return = ();
    const START: Step = Step::Read;

    #[inline(always)]
    fn resume(&mut self, step: Step, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        match step {
            Step::Read if self.left == 0 => Next::finish(()),
            Step::Read => {
                self.to.begin_write(ready!(self.from.poll_read(cx)) + ADD);
                self.left -= 1;
                Next::go(Step::Write)
            }
            _ => {
                ready!(self.to.poll_write(cx));
                Next::go(Step::Read)
            }
        }
    }
}

pub(super) fn one_to_one(n: u64) -> u64 {
    run(move |p, answer| {
        let (to, from) = channel(p);
        spawn(p, coroutine(Count { next: 0, n, to }));
        spawn(p, coroutine(Sum { left: n, sum: 0, from, answer: Some(answer) }));
    })
}

pub(super) fn pipeline(n: u64) -> u64 {
    run(move |p, answer| {
        let (to, mut last) = channel(p);
        spawn(p, coroutine(Count { next: 0, n, to }));
        for _ in 0..STAGES {
            let (to, next) = channel(p);
            spawn(p, coroutine(Pass::<0> { left: n, from: last, to }));
            last = next;
        }
        spawn(p, coroutine(Sum { left: n, sum: 0, from: last, answer: Some(answer) }));
    })
}

/// Sends 0, then copies n - 1 values, and reads one more.
struct Prefix<'p> {
    left: u64,
    from: Reader<'p>,
    to: Writer<'p>,
}

impl Continuation for Prefix<'_> {
    type Step = Step;
    type Return = ();
    const START: Step = Step::Begin;

    #[inline(always)]
    fn resume(&mut self, step: Step, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        match step {
            Step::Begin => {
                self.to.begin_write(0);
                Next::go(Step::Write)
            }
            Step::Read => {
                let value = ready!(self.from.poll_read(cx));
                if self.left == 0 {
                    return Next::finish(());
                }
                self.to.begin_write(value);
                Next::go(Step::Write)
            }
            _ => {
                ready!(self.to.poll_write(cx));
                self.left -= 1;
                Next::go(Step::Read)
            }
        }
    }
}

/// Writes n values to both.
struct Delta<'p> {
    left: u64,
    value: u64,
    from: Reader<'p>,
    first: Writer<'p>,
    second: Writer<'p>,
}

impl Continuation for Delta<'_> {
    type Step = Step;
    type Return = ();
    const START: Step = Step::Read;

    #[inline(always)]
    fn resume(&mut self, step: Step, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        match step {
            Step::Read if self.left == 0 => Next::finish(()),
            Step::Read => {
                self.value = ready!(self.from.poll_read(cx));
                self.first.begin_write(self.value);
                self.left -= 1;
                Next::go(Step::Write)
            }
            Step::Write => {
                ready!(self.first.poll_write(cx));
                self.second.begin_write(self.value);
                Next::go(Step::WriteSecond)
            }
            _ => {
                ready!(self.second.poll_write(cx));
                Next::go(Step::Read)
            }
        }
    }
}

pub(super) fn commstime(n: u64) -> u64 {
    run(move |p, answer| {
        let (to_delta, from_prefix) = channel(p);
        let (to_successor, successor_in) = channel(p);
        let (to_prefix, prefix_in) = channel(p);
        let (to_consumer, consumer_in) = channel(p);
        spawn(p, coroutine(Prefix { left: n, from: prefix_in, to: to_delta }));
        spawn(p, coroutine(Delta { left: n, value: 0, from: from_prefix, first: to_successor, second: to_consumer }));
        spawn(p, coroutine(Pass::<1> { left: n, from: successor_in, to: to_prefix }));
        spawn(p, coroutine(Sum { left: n, sum: 0, from: consumer_in, answer: Some(answer) }));
    })
}

/// Makes the token, and counts the laps.
struct First<'p> {
    laps: u64,
    hops: u64,
    from: Reader<'p>,
    to: Writer<'p>,
    answer: Option<Answer>,
}

impl Continuation for First<'_> {
    type Step = Step;
    type Return = ();
    const START: Step = Step::Begin;

    #[inline(always)]
    fn resume(&mut self, step: Step, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        match step {
            Step::Begin if self.laps == 0 => {
                let _ = self.answer.take().map(|answer| answer.send(self.hops));
                Next::finish(())
            }
            Step::Begin => {
                self.to.begin_write(self.hops);
                Next::go(Step::Write)
            }
            Step::Read => {
                self.hops = ready!(self.from.poll_read(cx)) + 1;
                self.laps -= 1;
                Next::go(Step::Begin)
            }
            _ => {
                ready!(self.to.poll_write(cx));
                Next::go(Step::Read)
            }
        }
    }
}

pub(super) fn ring(laps: u64) -> u64 {
    run(move |p, answer| {
        let (first, mut last) = channel(p);
        for _ in 1..RING {
            let (to, next) = channel(p);
            spawn(p, coroutine(Pass::<1> { left: laps, from: last, to }));
            last = next;
        }
        spawn(p, coroutine(First { laps, hops: 0, from: last, to: first, answer: Some(answer) }));
    })
}

/// An empty fibre.
struct Child;

impl Continuation for Child {
    type Step = ();
    type Return = ();
    const START: () = ();

    #[inline(always)]
    fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        child_ran();
        Next::finish(())
    }
}

/// Has n batches of children run, one after the other.
struct Parent<'p, 'a> {
    p: Process<'p, 'a>,
    left: u64,
    total: u64,
    answer: Option<Answer>,
}

impl Continuation for Parent<'_, '_> {
    type Step = Step;
    type Return = ();
    const START: Step = Step::Begin;

    fn resume(&mut self, step: Step, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        match step {
            Step::Begin if self.left == 0 => {
                let _ = self.answer.take().map(|answer| answer.send(self.total));
                Next::finish(())
            }
            Step::Begin => {
                forget_children();
                for _ in 0..BATCH {
                    spawn(self.p, coroutine(Child));
                }
                Next::give_way(Step::Read)
            }
            _ if children_ran() < BATCH => Next::give_way(step),
            _ => {
                self.total += children_ran();
                self.left -= 1;
                Next::go(Step::Begin)
            }
        }
    }
}

pub(super) fn spawn_batches(n: u64) -> u64 {
    run(move |p, answer| spawn(p, coroutine(Parent { p, left: n, total: 0, answer: Some(answer) })))
}

/// A fibre that parks.
struct Parked<'p> {
    from: Reader<'p>,
}

impl Continuation for Parked<'_> {
    type Step = Step;
    type Return = ();
    const START: Step = Step::Begin;

    fn resume(&mut self, step: Step, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        if let Step::Begin = step {
            child_ran();
            return Next::go(Step::Read);
        }
        std::hint::black_box(ready!(self.from.poll_read(cx)));
        Next::finish(())
    }
}

/// Has n fibres park, and answers with the bytes that became resident meanwhile.
struct Parker<'p, 'a> {
    p: Process<'p, 'a>,
    parked: usize,
    before: u64,
    writers: Vec<Option<Writer<'p>>>,
    answer: Option<Answer>,
}

impl Continuation for Parker<'_, '_> {
    type Step = Step;
    type Return = ();
    const START: Step = Step::Begin;

    fn resume(&mut self, step: Step, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        if let Step::Begin = step {
            forget_children();
            self.before = resident_bytes();
        }
        if children_ran() < self.parked as u64 {
            return Next::give_way(Step::Read);
        }
        while let Some(place) = self.writers.get_mut(self.parked) {
            let (to, from) = channel(self.p);
            spawn(self.p, coroutine(Parked { from }));
            *place = Some(to);
            self.parked += 1;
            // Now and then, so that the ready queue stays short.
            if self.parked.is_multiple_of(128) || self.parked == self.writers.len() {
                return Next::give_way(Step::Read);
            }
        }
        let _ = self.answer.take().map(|answer| answer.send(resident_bytes().saturating_sub(self.before)));
        // Keeps the writers until the run is over.
        Poll::Pending
    }
}

pub(super) fn bytes(n: u64) -> u64 {
    run(move |p, answer| {
        // Filled, so that its pages are resident before the count begins.
        let writers = (0..n).map(|_| None).collect();
        spawn(p, coroutine(Parker { p, parked: 0, before: 0, writers, answer: Some(answer) }));
    })
}

/// A node of the tree: a leaf writes its number to its parent, the others the sum of what their ten children write.
struct Node<'p, 'a> {
    p: Process<'p, 'a>,
    parent: Writer<'p>,
    children: Option<Reader<'p>>,
    number: u64,
    leaves: u64,
    /// Children that have not written yet.
    left: u64,
}

impl<'p, 'a> Node<'p, 'a> {
    fn new(p: Process<'p, 'a>, parent: Writer<'p>, number: u64, leaves: u64) -> Self {
        Node { p, parent, children: None, number, leaves, left: 10 }
    }
}

impl Continuation for Node<'_, '_> {
    type Step = Step;
    type Return = ();
    const START: Step = Step::Begin;

    fn resume(&mut self, step: Step, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        match (step, &mut self.children) {
            (Step::Begin, _) if self.leaves == 1 => {}
            (Step::Begin, children) => {
                let (to, from) = channel(self.p);
                let share = self.leaves / 10;
                for i in 0..10 {
                    spawn(self.p, coroutine(Node::new(self.p, duplicate(&to), self.number + i * share, share)));
                }
                *children = Some(from);
                self.number = 0;
                return Next::go(Step::Read);
            }
            (Step::Read, Some(children)) => {
                while self.left != 0 {
                    self.number += ready!(children.poll_read(cx));
                    self.left -= 1;
                }
            }
            _ => {
                ready!(self.parent.poll_write(cx));
                return Next::finish(());
            }
        }
        self.parent.begin_write(self.number);
        Next::go(Step::Write)
    }
}

/// `leaves` is a power of ten.
pub(super) fn skynet(leaves: u64) -> u64 {
    run(move |p, answer| {
        let (to, from) = channel(p);
        spawn(p, coroutine(Node::new(p, to, 0, leaves)));
        spawn(p, coroutine(Sum { left: 1, sum: 0, from, answer: Some(answer) }));
    })
}
