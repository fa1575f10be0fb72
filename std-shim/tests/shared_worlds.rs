//! Random worlds on several workers: fibres that do at random whatever safe code can do to ends and operations (move them
//! about, start and forget them, poll them with foreign wakers and on other threads, send them over channels, drop them in
//! destructors and in a dump's visitor), while a thread outside wakes and drops their wakers; and then every value must have
//! been dropped once, every block be back, every fibre be accounted for.
//!
//! `FIBRA_WORLDS` says how many worlds of each kind (10 by default), `FIBRA_FIRST_WORLD` where to begin.

mod common;

use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use common::{Checked, Random, Tally, Token, counts, number};
use fibra_std::{Concurrent, Endpoint, Reader, Shared, SharedProcess, Writer, yield_now};
use futures::StreamExt;
use futures::future::Either;
use futures::stream::FuturesUnordered;

type Fut<'p> = Pin<Box<dyn Future<Output = Option<Item<'p>>> + Send + 'p>>;

/// A value, perhaps with an end inside.
struct Value<'p>(#[allow(dead_code, reason = "it is counted")] Token<'p>, Option<Box<Item<'p>>>);

/// What lies about in a world for any fibre to take: ends, and operations that somebody began.
enum Item<'p> {
    W(Writer<'p, Value<'p>, Concurrent>),
    R(Reader<'p, Value<'p>, Concurrent>),
    E(Endpoint<'p, Value<'p>, Concurrent>),
    F(Fut<'p>),
}
use Item::*;

#[derive(Clone, Copy, Debug)]
struct Kind {
    panics: bool,
    stop: bool,
    two_way: bool,
    wakers: bool,
}

struct World<'p, 'e> {
    p: &'p SharedProcess<'p, 'e, &'e Checked>,
    tally: &'p Tally,
    random: &'p Random,
    items: Mutex<VecDeque<Item<'p>>>,
    spawned: &'p AtomicUsize,
    left: AtomicUsize,
    outside: Mutex<mpsc::Sender<Waker>>,
    kind: Kind,
}

struct WakesNobody;
impl Wake for WakesNobody {
    fn wake(self: Arc<Self>) {}
}

struct Bomb;
impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        if !thread::panicking() {
            panic!("bomb")
        }
    }
}

impl<'p, 'e> World<'p, 'e> {
    fn random(&self, n: usize) -> usize {
        self.random.below(n)
    }

    fn push(&self, item: Item<'p>) {
        self.items.lock().unwrap_or_else(PoisonError::into_inner).push_back(item)
    }

    fn take(&self) -> Option<Item<'p>> {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        if items.is_empty() {
            return None;
        }
        let nth = self.random(items.len());
        items.swap_remove_back(nth)
    }

    fn value(&self) -> Value<'p> {
        let nested = match if self.random(4) == 0 { self.take() } else { None } {
            Some(W(w)) => Some(Box::new(W(w))),
            Some(other) => {
                self.push(other);
                None
            }
            None => None,
        };
        Value(self.tally.token(), nested)
    }

    fn waker(&self) -> Waker {
        match self.random(6) {
            0 if self.kind.panics => Waker::from(Arc::new(Bomb)),
            1 => Waker::noop().clone(),
            _ => Waker::from(Arc::new(WakesNobody)),
        }
    }

    /// An operation that owns the end it is on.
    fn operation(&self, item: Item<'p>) -> Fut<'p> {
        let kind = self.random(3);
        match item {
            W(mut w) => {
                let value = self.value();
                Box::pin(async move {
                    w.write(value).await;
                    Some(W(w))
                })
            }
            R(mut r) if kind == 0 => Box::pin(async move {
                match r.read_or_end().await {
                    Some(value) => value.1.map(|item| *item),
                    None => Some(R(r)),
                }
            }),
            R(mut r) => Box::pin(async move {
                let value = r.read().await;
                drop(r);
                value.1.map(|item| *item)
            }),
            E(mut e) if kind == 0 => {
                let value = self.value();
                Box::pin(async move {
                    e.write(value).await;
                    Some(E(e))
                })
            }
            E(mut e) => Box::pin(async move {
                drop(e.read().await);
                Some(E(e))
            }),
            F(future) => future,
        }
    }

    /// Begins an operation and forgets it if it does not complete at once.
    fn start_and_forget(&self, item: &mut Item<'p>, cx: &mut Context<'_>) {
        fn poll<F: Future + Unpin>(mut future: F, cx: &mut Context<'_>) {
            if Pin::new(&mut future).poll(cx).is_pending() {
                std::mem::forget(future)
            }
        }
        match (item, self.random(2)) {
            (W(w), _) => poll(w.write(self.value()), cx),
            (R(r), 0) => poll(r.read(), cx),
            (R(r), _) => poll(r.read_or_end(), cx),
            (E(e), 0) => poll(e.read(), cx),
            (E(e), _) => poll(e.write(self.value()), cx),
            (F(_), _) => {}
        }
    }

    /// Something that takes no waiting.
    fn act(self: &Arc<Self>) {
        match self.random(11) {
            0 | 1 => drop(self.take()),
            2 => {
                if let Ok((w, r)) = self.p.channel() {
                    self.push(W(w));
                    self.push(R(r))
                }
            }
            3 if self.kind.two_way => {
                if let Ok((a, b)) = self.p.two_way() {
                    self.push(E(a));
                    self.push(E(b))
                }
            }
            4 => {
                if let Some(mut item) = self.take() {
                    match (&mut item, self.random(2)) {
                        (W(w), _) => drop(w.try_write(self.value())),
                        (R(r), _) => drop(r.try_read()),
                        (E(e), 0) => drop(e.try_read()),
                        (E(e), _) => drop(e.try_write(self.value())),
                        (F(_), _) => {}
                    }
                    self.push(item);
                }
            }
            5 => {
                if let Some(item) = self.take() {
                    match &item {
                        W(w) => self.push(W(w.dup().unwrap())),
                        R(r) => self.push(R(r.dup().unwrap())),
                        E(e) => self.push(E(e.dup().unwrap())),
                        F(_) => {}
                    }
                    self.push(item);
                }
            }
            6 => self.spawn(),
            7 => {
                if let Some(mut item) = self.take() {
                    let waker = self.waker();
                    self.poll_once(&mut Context::from_waker(&waker), &mut item).into_iter().for_each(|i| self.push(i));
                    self.push(item)
                }
            }
            8 => {
                if let Some(item) = self.take() {
                    let future = self.operation(item);
                    self.push(F(future))
                }
            }
            9 => {
                let mut seen = 0;
                self.p.dump(|_| {
                    seen += 1;
                    if seen < 4 {
                        self.act()
                    }
                })
            }
            _ => self.random.spin(),
        }
    }

    /// Polls an operation, or begins one and forgets it. Gives what it gave.
    fn poll_once(&self, cx: &mut Context<'_>, item: &mut Item<'p>) -> Option<Item<'p>> {
        if let F(future) = item {
            if let Poll::Ready(given) = future.as_mut().poll(cx) {
                *future = Box::pin(pending());
                return given;
            }
        } else {
            self.start_and_forget(item, cx);
        }
        None
    }

    fn may_spawn(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn spawn(self: &Arc<Self>) {
        if !self.may_spawn() {
            return;
        }
        let is_ok = match self.random(4) {
            0 => self.p.fibre().name("named").spawn(fibre(self.clone(), false)).is_ok(),
            1 if self.kind.wakers => self.p.fibre().waker().spawn(fibre(self.clone(), true)).is_ok(),
            2 => self.p.spawn_with(|| fibre(self.clone(), false)).is_ok(),
            _ => self.p.spawn(fibre(self.clone(), false)).is_ok(),
        };
        if is_ok {
            self.spawned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Acts once more when its fibre goes.
struct Guard<'p, 'e>(Arc<World<'p, 'e>>);

impl Drop for Guard<'_, '_> {
    fn drop(&mut self) {
        for _ in 0..self.0.random(3) {
            if !thread::panicking() {
                self.0.act()
            }
        }
        if self.0.kind.panics && !thread::panicking() && self.0.random(30) == 0 {
            panic!("guard")
        }
    }
}

/// Finishes after one poll, with an operation still pending inside.
struct Sneaky<'p, 'e>(Arc<World<'p, 'e>>, Option<Item<'p>>);

impl Future for Sneaky<'_, '_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if let Some(mut item) = this.1.take() {
            this.0.poll_once(cx, &mut item).into_iter().for_each(|given| this.0.push(given));
            if this.0.random(2) == 0 {
                // To whoever takes it, while the poll goes on.
                this.0.push(item);
                this.0.random.spin();
            } else {
                this.1 = Some(item);
            }
        }
        Poll::Ready(())
    }
}

fn fibre<'p, 'e: 'p>(w: Arc<World<'p, 'e>>, has_waker: bool) -> Pin<Box<dyn Future<Output = ()> + Send + 'p>> {
    if w.random(8) == 0
        && let Some(item) = w.take()
    {
        return Box::pin(Sneaky(w.clone(), Some(item)));
    }
    Box::pin(async move {
        let _guard = Guard(w.clone());
        for _ in 0..w.random(40) {
            match w.random(18) {
                0 => yield_now().await,
                1 | 2 => {
                    if let Some(item) = w.take() {
                        let operation = w.operation(item);
                        operation.await.into_iter().for_each(|given| w.push(given))
                    }
                }
                3 | 4 => {
                    if let Some(mut item) = w.take() {
                        let given = poll_fn(|cx| Poll::Ready(w.poll_once(cx, &mut item))).await;
                        given.into_iter().for_each(|given| w.push(given));
                        w.push(item);
                        // Others may take it while this poll goes on; and this fibre again.
                        w.random.spin();
                    }
                }
                5 => {
                    if let (Some(a), Some(b)) = (w.take(), w.take()) {
                        let (a, b) = (w.operation(a), w.operation(b));
                        match w.random(if has_waker { 2 } else { 3 }) {
                            0 => {
                                let (a, b) = futures::future::join(a, b).await;
                                a.into_iter().chain(b).for_each(|given| w.push(given))
                            }
                            1 => match futures::future::select(a, b).await {
                                Either::Left((given, future)) | Either::Right((given, future)) => {
                                    given.into_iter().for_each(|given| w.push(given));
                                    w.push(F(future))
                                }
                            },
                            _ => {
                                let mut all: FuturesUnordered<_> = [a, b].into_iter().collect();
                                while let Some(given) = all.next().await {
                                    given.into_iter().for_each(|given| w.push(given))
                                }
                            }
                        }
                    }
                }
                6 if w.random(12) == 0 => pending::<()>().await,
                7 if w.kind.panics && w.random(3) == 0 => panic!("fibre"),
                8 if w.kind.stop && w.random(6) == 0 => w.p.stop(),
                9 if w.random(2) == 0 && w.may_spawn() => {
                    // Before it can run, and go.
                    w.spawned.fetch_add(1, Ordering::Relaxed);
                    if w.p.spawn_next(fibre(w.clone(), false)).await.is_err() {
                        w.spawned.fetch_sub(1, Ordering::Relaxed);
                    }
                }
                10 => {
                    let waker = poll_fn(|cx| {
                        if w.random(2) == 0 {
                            cx.waker().wake_by_ref();
                        }
                        Poll::Ready(cx.waker().clone())
                    })
                    .await;
                    match w.random(3) {
                        0 => waker.wake(),
                        1 => _ = w.outside.lock().unwrap_or_else(PoisonError::into_inner).send(waker),
                        _ => {}
                    }
                }
                // Not with a waker of its own, which would be kept in what nobody takes any more.
                11 if !has_waker && w.random(6) == 0 => {
                    if let Some(mut item) = w.take() {
                        // The waker of this poll, on another thread.
                        let given = poll_fn(|cx| {
                            let (waker, w, item) = (cx.waker(), &w, &mut item);
                            let poll = move || w.poll_once(&mut Context::from_waker(waker), item);
                            Poll::Ready(thread::scope(|scope| scope.spawn(poll).join()))
                        })
                        .await;
                        w.push(item);
                        given.into_iter().flatten().for_each(|given| w.push(given));
                    }
                }
                _ => w.act(),
            }
        }
    })
}

fn run_world(seed: u64, workers: usize, kind: Kind) {
    if std::env::var_os("FIBRA_SHOW").is_some() {
        eprintln!("world {seed} on {workers} workers, {kind:?}");
    }
    let (checked, tally, random, spawned) = (Checked::new(), Tally::default(), Random::new(seed), AtomicUsize::new(0));
    let (to, from) = mpsc::channel::<Waker>();
    let outcome = thread::scope(|scope| {
        let random = &random;
        if kind.wakers {
            scope.spawn(move || {
                for waker in from {
                    random.spin();
                    match random.below(3) {
                        0 => waker.wake(),
                        1 => waker.wake_by_ref(),
                        _ => {}
                    }
                }
            });
        }
        let mut process = Shared::with_allocator(&checked).workers(workers);
        if kind.panics {
            process = process.isolate_panics();
        }
        let result = process.run(|p| {
            let world = Arc::new(World {
                p,
                tally: &tally,
                random,
                items: Mutex::default(),
                spawned: &spawned,
                left: AtomicUsize::new(60),
                outside: Mutex::new(to),
                kind,
            });
            for _ in 0..8 {
                let (w, r) = p.channel().unwrap();
                world.push(W(w));
                world.push(R(r));
                if kind.two_way {
                    let (a, b) = p.two_way().unwrap();
                    world.push(E(a));
                    world.push(E(b));
                }
            }
            for _ in 0..15 {
                world.spawn();
            }
        });
        match result {
            Ok((_, outcome)) => outcome,
            Err(fibra_std::Error::Failed(failure)) => failure.outcome,
            Err(error) => panic!("{error}"),
        }
    });
    let world = format!("world {seed} on {workers} workers, {kind:?}: {outcome}");
    assert_eq!(tally.alive(), 0, "values: {world}");
    if !kind.panics {
        assert_eq!(counts(outcome).iter().sum::<usize>(), spawned.into_inner(), "fibres: {world}");
    }
    checked.assert_empty();
}

#[test]
fn whatever_happens_nothing_is_lost() {
    let (first, worlds) = (number("FIBRA_FIRST_WORLD", 1) as u64, number("FIBRA_WORLDS", 10) as u64);
    std::panic::set_hook(Box::new(|info| {
        // Panics that the worlds throw themselves are none of the test's output.
        if !info.payload().downcast_ref::<&str>().is_some_and(|text| ["guard", "fibre", "bomb"].contains(text)) {
            eprintln!("{info}");
        }
    }));
    for seed in first..first + worlds {
        for bits in 0..16 {
            let kind =
                Kind { panics: bits & 1 != 0, stop: bits & 2 != 0, two_way: bits & 4 != 0, wakers: bits & 8 != 0 };
            for workers in [1, 2, 4] {
                run_world(seed, workers, kind);
            }
        }
    }
}
