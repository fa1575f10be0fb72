//! Pipelines: what is spawned and connected in one expression, and what is left when a part of it does not fit: nothing.

mod common;

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::mem::MaybeUninit;

use common::{Checking, OnDrop, Tally, Token, Trace, assert_outcome, counts, panic_of, rounds, run, with_pool};
use fibra_core::chips::{bound, buffer, filter, sink, source, transducer};
use fibra_core::{
    AllocRef, MemReq, Outcome, Pipe, PipeError, PipeErrorKind, Process, Reader, SizeClasses, SpawnErrorKind, Writer,
    channel_layout, dup_layout, table, yield_now,
};

type Value<'a> = (u64, Token<'a>);

async fn square<'a>(mut from: Reader<'_, Value<'a>>, mut to: Writer<'_, Value<'a>>) {
    loop {
        let (n, token) = from.read().await;
        yield_now().await;
        to.write((n * n, token)).await;
    }
}

#[test]
fn an_expression_is_a_whole_network() {
    let sum = Cell::new(0);
    let outcome = with_pool(|pool| {
        let (built, outcome) = fibra_core::run(pool, |p| {
            p.pipe(|to| source(1..=20, to))?
                .then(|from, to| transducer(|n: u64| n * n, from, to))?
                .fan_out(4, |from, to| filter(|n| n % 2 == 0, from, to))?
                .then(buffer::<3, _>)?
                .end(|from| sink(|n| sum.set(sum.get() + n), from))
        })
        .unwrap();
        built.unwrap();
        outcome
    });
    assert_eq!(sum.get(), (1..=20).map(|n| n * n).filter(|n| n % 2 == 0).sum());
    assert_outcome(outcome, [2, 6, 0, 0, 0]);
}

/// In a fibre as in the closure of `run`.
#[test]
fn a_fibre_builds_a_pipeline_and_reads_from_it() {
    let (checking, seen) = (Checking::new(), RefCell::new(Vec::new()));
    let outcome = run(&checking, |p| {
        let seen = &seen;
        p.spawn(async move {
            let build = || p.pipe(|to| source(0.., to))?.then(|from, to| transducer(|n: i32| n - 1, from, to));
            let pipe = build().unwrap();
            assert_eq!(format!("{pipe:?}"), "Pipe(Reader(`i32`))");
            let mut numbers = pipe.into_reader();
            for _ in 0..3 {
                let n = numbers.read().await;
                seen.borrow_mut().push(n);
            }
        })
        .unwrap();
    });
    assert_eq!(seen.into_inner(), [-1, 0, 1]);
    assert_outcome(outcome, [1, 2, 0, 0, 0]);
}

#[test]
fn stages_keep_the_order() {
    let (checking, seen) = (Checking::new(), Trace::new());
    let outcome = run(&checking, |p| {
        let build = || -> Result<_, Box<dyn Error>> {
            let mut pipe = p.pipe(|to| source(0..100, to))?;
            for _ in 0..10 {
                pipe = pipe.then(|from, to| transducer(|n: u64| n + 1, from, to))?.then(buffer::<2, _>)?;
            }
            Ok(pipe.end(|from| sink(|n| seen.push(n), from))?)
        };
        build().unwrap();
    });
    assert_eq!(seen.take(), (10..110).collect::<Vec<_>>());
    assert_outcome(outcome, [11, 11, 0, 0, 0]);
}

/// Each value goes to one of the fibres, they work at the same time, and the whole ends with the source.
#[test]
fn a_fan_out_shares_the_work() {
    for n in 1..=5 {
        let (checking, tally, busy) = (Checking::new(), Tally::default(), Cell::new((0, 0)));
        let seen = RefCell::new(Vec::new());
        let outcome = run(&checking, |p| {
            let (tally, busy, seen) = (&tally, &busy, &seen);
            p.pipe(|to| source((0..20).map(|n| (n, tally.token())), to))
                .and_then(|pipe| {
                    pipe.fan_out(n, |mut from, mut to| async move {
                        loop {
                            let value = from.read().await;
                            let (now, most) = busy.get();
                            busy.set((now + 1, most.max(now + 1)));
                            rounds(10).await;
                            busy.set((busy.get().0 - 1, busy.get().1));
                            to.write(value).await;
                        }
                    })
                })
                .and_then(|pipe| pipe.end(|from| sink(|(n, _)| seen.borrow_mut().push(n), from)))
                .unwrap();
        });
        let mut seen = seen.into_inner();
        seen.sort_unstable();
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
        assert_eq!((busy.get(), tally.alive()), ((0, n), 0));
        assert_outcome(outcome, [1, n + 1, 0, 0, 0]);
    }
}

#[test]
fn a_fan_out_of_none_ends_both_sides() {
    let checking = Checking::new();
    let ended = Cell::new(false);
    let outcome = run(&checking, |p| {
        let ended = &ended;
        p.pipe(|to| source(0.., to))
            .and_then(|pipe| pipe.fan_out(0, |from, to| transducer(|n: i32| n, from, to)))
            .and_then(|pipe| pipe.end(|mut from| async move { ended.set(from.read_or_end().await.is_none()) }))
            .unwrap();
    });
    assert!(ended.get());
    assert_outcome(outcome, [1, 1, 0, 0, 0]);
}

/// Any stage that leaves takes all others with it.
#[test]
fn a_stage_that_leaves_dissolves_the_pipeline() {
    for leaver in 0..4 {
        let (checking, tally, seen) = (Checking::new(), Tally::default(), Cell::new(0));
        let outcome = run(&checking, |p| {
            let (tally, seen) = (&tally, &seen);
            let passes = |nth| if nth == leaver { 5 } else { usize::MAX };
            let items = std::iter::repeat_with(|| tally.token()).take(passes(0));
            p.pipe(|to| source(items, to))
                .and_then(|pipe| pipe.then(|from, to| bound(passes(1), from, to)))
                .and_then(|pipe| pipe.then(|from, to| bound(passes(2), from, to)))
                .and_then(|pipe| {
                    pipe.end(|mut from| async move {
                        while seen.get() < passes(3) {
                            drop(from.read().await);
                            seen.set(seen.get() + 1);
                        }
                    })
                })
                .unwrap();
        });
        assert_eq!((seen.get(), tally.alive()), (5, 0), "stage {leaver}");
        assert_outcome(outcome, [1, 3, 0, 0, 0]);
    }
}

/// One of the fibres of a fan-out leaves; the others go on with the rest.
#[test]
fn a_fan_out_outlives_one_of_its_fibres() {
    let (checking, tally, seen) = (Checking::new(), Tally::default(), Cell::new(0));
    let outcome = run(&checking, |p| {
        let (tally, seen) = (&tally, &seen);
        let mut nth = 0;
        p.pipe(|to| source((0..30).map(|_| tally.token()), to))
            .and_then(|pipe| {
                pipe.fan_out(3, |from, to| {
                    nth += 1;
                    bound(if nth == 2 { 1 } else { usize::MAX }, from, to)
                })
            })
            .and_then(|pipe| pipe.end(|from| sink(|_| seen.set(seen.get() + 1), from)))
            .unwrap();
    });
    assert_eq!((seen.get(), tally.alive()), (30, 0));
    assert_outcome(outcome, [2, 3, 0, 0, 0]);
}

#[test]
fn a_pipe_that_is_dropped_collapses() {
    let (checking, tally) = (Checking::new(), Tally::default());
    let outcome = run(&checking, |p| {
        let tally = &tally;
        let pipe = p
            .pipe(|to| source(std::iter::repeat_with(|| (2, tally.token())), to))
            .and_then(|pipe| pipe.fan_out(3, square))
            .unwrap();
        drop(pipe);
    });
    assert_eq!(tally.alive(), 0);
    assert_outcome(outcome, [0, 4, 0, 0, 0]);
}

// Errors

/// A pipeline with each of the methods; its values and its stages must be dropped once.
fn build<'p, 'a: 'p, A: AllocRef>(
    p: &'p Process<'p, '_, A>,
    tally: &'a Tally,
    seen: &'a Cell<usize>,
) -> Result<(), PipeError> {
    let [one, two, three, four] = [(); 4].map(|()| tally.token());
    p.pipe(move |to| {
        source(
            (0..10).map(move |n| {
                let _kept = &one;
                (n, tally.token())
            }),
            to,
        )
    })?
    .then(move |from, to| {
        transducer(
            move |value: Value<'a>| {
                let _kept = &two;
                value
            },
            from,
            to,
        )
    })?
    .fan_out(3, move |from, to| {
        let _kept = &three;
        square(from, to)
    })?
    .end(move |from| {
        sink(
            move |_| {
                let _kept = &four;
                seen.set(seen.get() + 1);
            },
            from,
        )
    })
}

/// What the pipeline allocates, in order: the part, and the stage.
const ALLOCATIONS: [(&str, &str); 13] = [
    ("channel", "source"),
    ("fibre", "source"),
    ("channel", "transducer"),
    ("fibre", "transducer"),
    ("channel", "square"),
    ("dup", "square"),
    ("dup", "square"),
    ("fibre", "square"),
    ("dup", "square"),
    ("dup", "square"),
    ("fibre", "square"),
    ("fibre", "square"),
    ("fibre", "sink"),
];

/// Builds it in the closure of `run` or in a fibre.
fn run_build(checking: &Checking, tally: &Tally, in_fibre: bool) -> (Result<(), PipeError>, usize, Outcome) {
    let (seen, built) = (Cell::new(0), Cell::new(None));
    let outcome = run(checking, |p| {
        let (seen, built) = (&seen, &built);
        if in_fibre {
            let _ = p.spawn(async move { built.set(Some(build(p, tally, seen))) });
        } else {
            built.set(Some(build(p, tally, seen)));
        }
    });
    assert_eq!(tally.alive(), 0);
    (built.take().unwrap(), seen.get(), outcome)
}

#[test]
fn nothing_is_allocated_but_channels_dups_and_fibres() {
    let (checking, tally) = (Checking::new(), Tally::default());
    let (built, seen, outcome) = run_build(&checking, &tally, false);
    assert_eq!((built, seen), (Ok(()), 10));
    assert_eq!(checking.calls(), ALLOCATIONS.len());
    assert_outcome(outcome, [1, 5, 0, 0, 0]);
}

/// Every single allocation fails, one after another, alone and with all that come after it.
#[test]
fn each_allocation_of_a_pipeline_fails_in_turn() {
    for in_fibre in [false, true] {
        for for_good in [false, true] {
            for (nth, (part, stage)) in ALLOCATIONS.into_iter().enumerate() {
                let (checking, tally) = (Checking::new(), Tally::default());
                let first = usize::from(in_fibre); // the builder is the first allocation then
                if for_good {
                    checking.fail_from(first + nth);
                } else {
                    checking.fail_nth(first + nth);
                }
                let (built, seen, outcome) = run_build(&checking, &tally, in_fibre);
                let error = built.unwrap_err();
                let (failed, layout) = match error.kind {
                    PipeErrorKind::Channel(layout) => ("channel", layout),
                    PipeErrorKind::Dup(layout) => ("dup", layout),
                    PipeErrorKind::Fibre(SpawnErrorKind::OutOfMemory, layout) => ("fibre", layout),
                    kind => panic!("{kind:?}"),
                };
                assert_eq!(failed, part, "allocation {nth}");
                assert!(error.stage.contains(stage), "allocation {nth}: {error}");
                match part {
                    "channel" => assert_eq!(layout, channel_layout::<Value<'_>>()),
                    "dup" => assert_eq!(layout, dup_layout::<Value<'_>>()),
                    _ => assert!(layout.size() > 0),
                }
                // Those that were spawned before: all collapse, and nothing came out.
                let spawned = ALLOCATIONS[..nth].iter().filter(|(part, _)| *part == "fibre").count();
                assert_eq!(counts(outcome), [usize::from(in_fibre), spawned, 0, 0, 0], "allocation {nth}");
                assert_eq!(seen, 0);
                assert_eq!(checking.calls(), first + nth + 1, "nothing is tried after a failure");
            }
        }
    }
}

#[test]
fn an_error_says_what_was_where_and_what_to_do() {
    let text = |nth| {
        let (checking, tally) = (Checking::new(), Tally::default());
        checking.fail_nth(nth);
        let (built, ..) = run_build(&checking, &tally, false);
        let error: Box<dyn Error> = built.unwrap_err().into();
        error.to_string()
    };
    let (size, align) = (channel_layout::<Value<'_>>().size(), align_of::<usize>());
    let channel = text(4);
    assert!(channel.starts_with("the pipeline ends before the stage `pipelines::square"), "{channel}");
    let (_, what) = channel.rsplit_once("`: ").unwrap();
    assert_eq!(
        what,
        format!(
            "the process's allocator has no block for its channel; \
             reserve a block more of {size} bytes, aligned to {align}"
        )
    );
    let dup = text(5);
    let size = dup_layout::<Value<'_>>().size();
    assert!(dup.contains("has no block for a fibre's end of a channel; "), "{dup}");
    assert!(dup.ends_with(&format!("of {size} bytes, aligned to {align}")), "{dup}");
    let fibre = text(12);
    assert!(fibre.contains("chips::sink"), "{fibre}");
    assert!(fibre.contains("has no block for the fibre; reserve a block more of "), "{fibre}");
}

/// Where a class has exactly as large blocks as the errors ask for, one more each time, the pipeline is built in the end.
#[test]
fn reserving_what_the_errors_ask_for_is_enough() {
    let mut rows: Vec<MemReq> = Vec::new();
    for attempt in 0.. {
        let mut memory = vec![MaybeUninit::uninit(); 64 * 1024];
        let mut classes = [MemReq { block_size: 8, n_blocks: 1 }; 32];
        classes[..rows.len()].copy_from_slice(&rows);
        let pool = SizeClasses::new(&table(classes), &mut memory).unwrap();
        let (tally, seen) = (Tally::default(), Cell::new(0));
        let (built, _) = fibra_core::run(&pool, |p| build(p, &tally, &seen)).unwrap();
        let Err(error) = built else {
            assert!(attempt <= ALLOCATIONS.len());
            assert_eq!(seen.get(), 10);
            return;
        };
        let (PipeErrorKind::Channel(layout)
        | PipeErrorKind::Dup(layout)
        | PipeErrorKind::Fibre(SpawnErrorKind::OutOfMemory, layout)) = error.kind
        else {
            panic!("{error}");
        };
        rows.push(MemReq { block_size: layout.size(), n_blocks: 1 });
    }
}

/// While a process closes, nothing is spawned: the destructor of a fibre tries.
#[test]
fn a_process_that_closes_builds_no_pipeline() {
    let (checking, tally, seen) = (Checking::new(), Tally::default(), Cell::new(0));
    let error = Cell::new(None);
    let outcome = run(&checking, |p| {
        let (tally, seen, error) = (&tally, &seen, &error);
        let guard = OnDrop(move || error.set(build(p, tally, seen).err()));
        let (w, mut r) = p.channel::<()>().unwrap();
        p.spawn(async move {
            let _guard = guard;
            let _w = w;
            r.read().await; // deadlocks with itself, so the guard is dropped when the process closes
        })
        .unwrap();
    });
    let error = error.take().unwrap();
    assert!(matches!(error.kind, PipeErrorKind::Fibre(SpawnErrorKind::Closing, _)), "{error}");
    assert!(error.to_string().ends_with("the process is ending"), "{error}");
    assert_eq!((tally.alive(), seen.get()), (0, 0));
    assert_outcome(outcome, [0, 0, 1, 0, 0]);
}

/// A stage that panics while it is made.
#[test]
fn a_panic_while_building_leaves_nothing() {
    for nth in 0..3 {
        let (checking, tally) = (Checking::new(), Tally::default());
        let text = panic_of(|| {
            fibra_core::run(&checking, |p| {
                let tally = &tally;
                let mut made = 0;
                let stage = |from, to| {
                    assert!(made < nth, "enough");
                    made += 1;
                    square(from, to)
                };
                p.pipe(|to| source(std::iter::repeat_with(|| (1, tally.token())), to))
                    .and_then(|pipe| pipe.fan_out(3, stage))
                    .map(Pipe::into_reader)
                    .is_ok()
            })
        });
        assert_eq!((text.as_str(), tally.alive()), ("enough", 0));
        checking.assert_empty();
    }
}

#[test]
fn an_error_calls_a_stage_what_reports_call_its_fibre() {
    async fn idle(to: Writer<'_, u8>) {
        std::future::pending::<()>().await;
        drop(to);
    }
    let checking = Checking::new();
    let mut reported = "";
    fibra_core::Setup::new(&checking)
        .report(&mut |report| reported = report.wait().fibre())
        .run(|p| drop(p.pipe(idle).unwrap()))
        .unwrap();
    assert_eq!(reported.rsplit("::").next(), Some("idle"));

    let mut stage = "";
    let calls = checking.calls();
    checking.fail_nth(calls + 1); // the fibre
    run(&checking, |p| stage = p.pipe(idle).unwrap_err().stage);
    assert_eq!(stage, reported);
}
