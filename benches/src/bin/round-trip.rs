//! How long a round trip takes between a thread that sleeps and a fibre, beside the same between two threads with nothing but a
//! mutex and a condition variable.
//!
//! ```text
//! round-trip [TRIPS [FORM]]
//! ```
//!
//! All forms take turns in one run, so that they meet the same machine; the table gives the median of the rounds, and the
//! fastest. Each trip puts both sides to sleep, so nearly all of it is the operating system's. `strace -cf` of one
//! form (0 is the first) shows how often that is asked: four times a trip at best (two sleeps, two wake-ups).

use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fibra_std::{
    Asynchronous, OutsideReader, OutsideWriter, ReadBlocking, Reader, Shared, WriteBlocking, Writer, asynchronous,
};

const ROUNDS: usize = 15;

fn main() {
    let trips = std::env::args().nth(1).map_or(10_000, |trips| trips.parse().expect("how many round trips"));
    let forms: [(&str, fn(u32) -> Duration); 4] = [
        ("mutex and condition variable", bare),
        ("fibre of one thread", |trips| trip(trips, sequential)),
        ("fibre of one worker", |trips| trip(trips, |from, to| shared(1, from, to))),
        ("fibre of two workers", |trips| trip(trips, |from, to| shared(2, from, to))),
    ];
    let only = std::env::args().nth(2).map(|form| form.parse::<usize>().expect("the number of a form"));
    let forms = only.map_or(&forms[..], |form| &forms[form..=form]);
    let mut times = vec![Vec::new(); forms.len()];
    for _ in 0..ROUNDS {
        for ((_, form), times) in forms.iter().zip(&mut times) {
            times.push(form(trips).as_nanos() as f64 / f64::from(trips));
        }
    }
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    let median = |times: &[f64]| times[times.len() / 2];
    println!("{:30} {:>10} {:>10} {:>10}", "ns for a round trip", "median", "fastest", "of first");
    for ((name, _), times_of) in forms.iter().zip(&times) {
        let ratio = median(times_of) / median(&times[0]);
        println!("{name:30} {:>10.0} {:>10.0} {ratio:>10.2}", median(times_of), times_of[0]);
    }
}

fn bare(trips: u32) -> Duration {
    struct Turns {
        is_pong: Mutex<bool>,
        changed: Condvar,
    }
    impl Turns {
        fn pass(&self, to_pong: bool) {
            *self.is_pong.lock().unwrap() = to_pong;
            self.changed.notify_one();
        }
        fn wait(&self, for_pong: bool) {
            drop(self.changed.wait_while(self.is_pong.lock().unwrap(), |is_pong| *is_pong != for_pong).unwrap());
        }
    }
    let turns = Turns { is_pong: Mutex::new(false), changed: Condvar::new() };
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..trips {
                turns.wait(true);
                turns.pass(false);
            }
        });
        let began = Instant::now();
        for _ in 0..trips {
            turns.pass(true);
            turns.wait(false);
        }
        began.elapsed()
    })
}

type Answer = fn(OutsideReader<u32>, OutsideWriter<u32>);

async fn answer(mut from: Reader<'_, u32, Asynchronous>, mut to: Writer<'_, u32, Asynchronous>) {
    loop {
        to.write(from.read().await).await;
    }
}

fn sequential(from: OutsideReader<u32>, to: OutsideWriter<u32>) {
    fibra_std::run(|p| p.fibre().waker().spawn(answer(from.inside(p), to.inside(p))).expect("room for a fibre"))
        .expect("memory");
}

fn shared(workers: usize, from: OutsideReader<u32>, to: OutsideWriter<u32>) {
    Shared::new()
        .workers(workers)
        .run(|p| p.fibre().waker().spawn(answer(from.inside(p), to.inside(p))).expect("room for a fibre"))
        .expect("memory");
}

fn trip(trips: u32, process: Answer) -> Duration {
    let (mut to, asked) = asynchronous().expect("memory");
    let (reply, mut from) = asynchronous().expect("memory");
    thread::scope(|scope| {
        scope.spawn(move || process(asked, reply));
        // The first trip waits for the process to be there.
        to.write_blocking(0).expect("the fibre reads");
        from.read_blocking().expect("the fibre writes");
        let began = Instant::now();
        for n in 0..trips {
            to.write_blocking(n).expect("the fibre reads");
            assert_eq!(from.read_blocking(), Ok(n));
        }
        let took = began.elapsed();
        drop((to, from));
        took
    })
}
