//! The same pipeline with its steps framed by hand and by `steps!`: they cannot be told apart.

mod common;

use std::task::{Context, Poll, ready};

use common::{Checking, Trace, assert_outcome, run};
use fibra_core::{AllocRef, Continuation, Frame, Next, Reader, Writer, coroutine, steps};

/// What the two ways share: the routines' locals.
struct Source<'p> {
    next: u64,
    to: Writer<'p, u64>,
}

struct Triple(u64);

struct Stage<'p, A: AllocRef> {
    from: Reader<'p, u64>,
    to: Writer<'p, u64>,
    pool: A,
    triple: Option<Frame<Triple, A>>,
    trace: &'p Trace<String>,
}

struct Sink<'p> {
    from: Reader<'p, u64>,
    trace: &'p Trace<String>,
}

mod by_hand {
    use super::*;

    pub struct ByHand<T>(pub T);

    #[derive(Clone, Copy)]
    pub enum SourceStep {
        Begin,
        Write,
    }

    impl Continuation for ByHand<Source<'_>> {
        type Step = SourceStep;
        type Return = ();
        const START: SourceStep = SourceStep::Begin;

        fn resume(&mut self, step: SourceStep, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
            match step {
                SourceStep::Begin => {
                    if self.0.next == 5 {
                        return Next::finish(());
                    }
                    self.0.to.begin_write(self.0.next);
                    self.0.next += 1;
                    Next::go(SourceStep::Write)
                }
                SourceStep::Write => {
                    ready!(self.0.to.poll_write(cx));
                    Next::go(SourceStep::Begin)
                }
            }
        }
    }

    #[derive(Clone, Copy)]
    pub enum StageStep {
        Read,
        Tripled,
        Write,
    }

    impl<A: AllocRef> Continuation for ByHand<Stage<'_, A>> {
        type Step = StageStep;
        type Return = ();
        const START: StageStep = StageStep::Read;

        fn resume(&mut self, step: StageStep, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
            match step {
                StageStep::Read => {
                    let n = ready!(self.0.from.poll_read(cx));
                    self.0.trace.push(format!("read {n}"));
                    let Ok(frame) = Frame::new_in(Triple(n), self.0.pool.clone()) else { return Next::end_fibre() };
                    Next::call(self.0.triple.insert(frame), StageStep::Tripled)
                }
                StageStep::Tripled => {
                    self.0.to.begin_write(self.0.triple.take().and_then(Frame::into_result).unwrap());
                    Next::go(StageStep::Write)
                }
                StageStep::Write => {
                    ready!(self.0.to.poll_write(cx));
                    self.0.trace.push("written".into());
                    Next::go(StageStep::Read)
                }
            }
        }
    }

    impl Continuation for ByHand<Sink<'_>> {
        type Step = ();
        type Return = ();
        const START: () = ();

        fn resume(&mut self, (): (), cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
            let n = ready!(self.0.from.poll_read(cx));
            self.0.trace.push(format!("sink {n}"));
            Next::go(())
        }
    }
}

use by_hand::ByHand;

// Used by both: a subroutine is one, however it was written.
steps! {
    impl Triple => u64, |self, _cx|
    GiveWay => {
        Next::give_way(Step::Triple)
    }
    Triple => { Next::finish(3 * self.0) }
}

steps! {
    impl Source<'_>, |self, cx|
    Begin => {
        if self.next == 5 {
            return Next::finish(());
        }
        self.to.begin_write(self.next);
        self.next += 1;
        Next::go(Step::Write)
    }
    Write => {
        ready!(self.to.poll_write(cx));
        Next::go(Step::Begin)
    }
}

steps! {
    impl [A: AllocRef] Stage<'_, A>, |self, cx|
    Read => {
        let n = ready!(self.from.poll_read(cx));
        self.trace.push(format!("read {n}"));
        let Ok(frame) = Frame::new_in(Triple(n), self.pool.clone()) else { return Next::end_fibre() };
        Next::call(self.triple.insert(frame), Step::Tripled)
    }
    Tripled => {
        self.to.begin_write(self.triple.take().and_then(Frame::into_result).unwrap());
        Next::go(Step::Write)
    }
    Write => {
        ready!(self.to.poll_write(cx));
        self.trace.push("written".into());
        Next::go(Step::Read)
    }
}

steps! {
    impl Sink<'_>, |self, cx|
    Read => {
        let n = ready!(self.from.poll_read(cx));
        self.trace.push(format!("sink {n}"));
        Next::go(Step::Read)
    }
}

#[test]
fn framed_by_hand_and_by_the_macro_they_do_the_same() {
    let (by_hand, by_macro) = (Trace::new(), Trace::new());

    let checking = Checking::new();
    let pool = &checking;
    let outcome = run(&checking, |p| {
        let (to, from) = p.channel().unwrap();
        let (to_sink, from_stage) = p.channel().unwrap();
        let trace = &by_hand;
        p.spawn(coroutine(ByHand(Source { next: 0, to }))).unwrap();
        p.spawn(coroutine(ByHand(Stage { from, to: to_sink, pool, triple: None, trace }))).unwrap();
        p.spawn(coroutine(ByHand(Sink { from: from_stage, trace }))).unwrap();
    });
    assert_outcome(outcome, [1, 2, 0, 0, 0]);

    let outcome = run(&checking, |p| {
        let (to, from) = p.channel().unwrap();
        let (to_sink, from_stage) = p.channel().unwrap();
        let trace = &by_macro;
        p.spawn(coroutine(Source { next: 0, to })).unwrap();
        p.spawn(coroutine(Stage { from, to: to_sink, pool, triple: None, trace })).unwrap();
        p.spawn(coroutine(Sink { from: from_stage, trace })).unwrap();
    });
    assert_outcome(outcome, [1, 2, 0, 0, 0]);

    let events = by_macro.take();
    assert_eq!(by_hand.take(), events);
    let sunk: Vec<&String> = events.iter().filter(|event| event.starts_with("sink")).collect();
    assert_eq!(sunk, ["sink 0", "sink 3", "sink 6", "sink 9", "sink 12"]);
}

#[test]
fn it_begins_with_the_first_step_and_has_a_name_for_each() {
    assert_eq!(format!("{:?}", <Triple as Continuation>::START), "GiveWay");
    assert_eq!(format!("{:?}", <Source<'_> as Continuation>::START), "Begin");
    assert_eq!(size_of::<<Source<'_> as Continuation>::Step>(), 1);
}
