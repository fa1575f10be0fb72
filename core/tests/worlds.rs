//! Random worlds: fibres that do at random whatever safe code can do to ends and operations (move them about, start and
//! forget them, poll them with foreign wakers, send them over channels, drop them in destructors and in a dump's visitor),
//! and then every value must have been dropped once, every block be back, every fibre be accounted for.
//!
//! `FIBRA_WORLDS` says how many worlds of each kind (300 by default), `FIBRA_FIRST_WORLD` where to begin.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use common::{Caught, Checking, Tally, Token};
use fibra_core::{Endpoint, Process, Reader, Setup, Writer, yield_now};
use futures::StreamExt;

type Fut<'p> = Pin<Box<dyn Future<Output = Option<Item<'p>>> + 'p>>;
/// A value, perhaps with an end inside.
struct V<'p>(#[allow(dead_code)] Token<'p>, Option<Box<Item<'p>>>);
/// What lies about in a world for any fibre to take: ends, and operations that somebody began.
enum Item<'p> {
    W(Writer<'p, V<'p>>),
    R(Reader<'p, V<'p>>),
    E(Endpoint<'p, V<'p>>),
    F(Fut<'p>),
}
use Item::*;

struct World<'p, 'e> {
    p: &'p Process<'p, 'e, &'e Checking>,
    tally: &'p Tally,
    rng: Rc<Cell<u64>>,
    items: RefCell<Vec<Item<'p>>>,
    spawned: &'p Cell<usize>,
    ended: &'p Cell<usize>,
    left: Cell<usize>,
    kind: Kind,
}
#[derive(Clone, Copy)]
struct Kind {
    panics: bool,
    stop: bool,
    two_way: bool,
    hub: bool,
}

struct WakesNobody;
impl Wake for WakesNobody {
    fn wake(self: Arc<Self>) {}
}
struct Bomb;
impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        if !std::thread::panicking() {
            panic!("bomb")
        }
    }
}

impl<'p, 'e> World<'p, 'e> {
    fn rand(&self, n: usize) -> usize {
        let mut x = self.rng.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.rng.set(x);
        ((x >> 11) % n as u64) as usize
    }
    fn push(&self, i: Item<'p>) {
        self.items.borrow_mut().push(i)
    }
    fn take(&self) -> Option<Item<'p>> {
        let n = self.items.borrow().len();
        if n == 0 {
            return None;
        }
        let i = self.rand(n);
        Some(self.items.borrow_mut().swap_remove(i))
    }
    fn value(&self) -> V<'p> {
        let nested = if self.rand(4) == 0 {
            match self.take() {
                Some(W(w)) => Some(Box::new(W(w))),
                Some(i) => {
                    self.push(i);
                    None
                }
                None => None,
            }
        } else {
            None
        };
        V(self.tally.token(), nested)
    }
    fn waker(&self) -> Waker {
        match self.rand(6) {
            0 if self.kind.panics => Waker::from(Arc::new(Bomb)),
            1 => Waker::noop().clone(),
            _ => Waker::from(Arc::new(WakesNobody)),
        }
    }
    /// An operation that owns the end it is on.
    fn op(&self, item: Item<'p>) -> Fut<'p> {
        let kind = self.rand(3);
        match item {
            W(mut w) => {
                let v = self.value();
                Box::pin(async move {
                    w.write(v).await;
                    Some(W(w))
                })
            }
            R(mut r) => {
                if kind == 0 {
                    Box::pin(async move {
                        match r.read_or_end().await {
                            Some(v) => v.1.map(|b| *b),
                            None => Some(R(r)),
                        }
                    })
                } else {
                    Box::pin(async move {
                        let v = r.read().await;
                        drop(r);
                        v.1.map(|b| *b)
                    })
                }
            }
            E(mut e) => {
                if kind == 0 {
                    let v = self.value();
                    Box::pin(async move {
                        e.write(v).await;
                        Some(E(e))
                    })
                } else {
                    Box::pin(async move {
                        let v = e.read().await;
                        drop(v);
                        Some(E(e))
                    })
                }
            }
            F(f) => f,
        }
    }
    /// Begins an operation and forgets it if it does not complete at once.
    fn start_and_forget(&self, item: &mut Item<'p>, cx: &mut Context<'_>) {
        match item {
            W(w) => {
                let v = self.value();
                let mut f = w.write(v);
                if Pin::new(&mut f).poll(cx).is_pending() {
                    std::mem::forget(f)
                }
            }
            R(r) => {
                if self.rand(2) == 0 {
                    let mut f = r.read();
                    if Pin::new(&mut f).poll(cx).is_pending() {
                        std::mem::forget(f)
                    }
                } else {
                    let mut f = r.read_or_end();
                    if Pin::new(&mut f).poll(cx).is_pending() {
                        std::mem::forget(f)
                    }
                }
            }
            E(e) => {
                if self.rand(2) == 0 {
                    let mut f = e.read();
                    if Pin::new(&mut f).poll(cx).is_pending() {
                        std::mem::forget(f)
                    }
                } else {
                    let v = self.value();
                    let mut f = e.write(v);
                    if Pin::new(&mut f).poll(cx).is_pending() {
                        std::mem::forget(f)
                    }
                }
            }
            F(_) => {}
        }
    }
    /// Something that takes no waiting.
    fn sync_action(self: &Rc<Self>) {
        match self.rand(10) {
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
                if let Some(mut i) = self.take() {
                    match &mut i {
                        W(w) => {
                            let v = self.value();
                            drop(w.try_write(v))
                        }
                        R(r) => drop(r.try_read()),
                        E(e) => {
                            if self.rand(2) == 0 {
                                drop(e.try_read())
                            } else {
                                let v = self.value();
                                drop(e.try_write(v))
                            }
                        }
                        F(_) => {}
                    }
                    self.push(i);
                }
            }
            5 => {
                if let Some(i) = self.take() {
                    match &i {
                        W(w) => self.push(W(w.dup().unwrap())),
                        R(r) => self.push(R(r.dup().unwrap())),
                        E(e) => self.push(E(e.dup().unwrap())),
                        F(_) => {}
                    }
                    self.push(i);
                }
            }
            6 => self.spawn(),
            7 => {
                if let Some(mut i) = self.take() {
                    let w = self.waker();
                    let cx = &mut Context::from_waker(&w);
                    if let F(f) = &mut i {
                        if let Poll::Ready(x) = f.as_mut().poll(cx) {
                            if let Some(x) = x {
                                self.push(x)
                            }
                        } else {
                            self.push(i)
                        }
                    } else {
                        self.start_and_forget(&mut i, cx);
                        self.push(i)
                    }
                }
            }
            8 => {
                if let Some(i) = self.take() {
                    let f = self.op(i);
                    self.push(F(f))
                }
            }
            9 => {
                let me = self.clone();
                let mut n = 0;
                self.p.dump(|_| {
                    n += 1;
                    if n < 4 {
                        me.sync_action()
                    }
                })
            }
            _ => {}
        }
    }
    fn spawn(self: &Rc<Self>) {
        if self.left.get() == 0 {
            return;
        }
        self.left.set(self.left.get() - 1);
        let me = self.clone();
        let opts = self.rand(3);
        let r = if opts == 0 {
            self.p.fibre().name("n").spawn(fibre(me)).is_ok()
        } else if opts == 1 && self.kind.hub {
            self.p.fibre().waker().spawn(fibre(me)).is_ok()
        } else {
            self.p.spawn(fibre(me)).is_ok()
        };
        if r {
            self.spawned.set(self.spawned.get() + 1)
        }
    }
}
/// Acts once more when its fibre goes.
struct Guard<'p, 'e>(Rc<World<'p, 'e>>);
impl Drop for Guard<'_, '_> {
    fn drop(&mut self) {
        self.0.ended.set(self.0.ended.get() + 1);
        for _ in 0..self.0.rand(3) {
            if !std::thread::panicking() {
                self.0.sync_action()
            }
        }
        if self.0.kind.panics && !std::thread::panicking() && self.0.rand(30) == 0 {
            panic!("guard")
        }
    }
}
/// Finishes after one poll, with an operation still pending inside.
struct Sneaky<'p, 'e>(Rc<World<'p, 'e>>, Option<Fut<'p>>);
impl Future for Sneaky<'_, '_> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(f) = &mut self.1
            && let Poll::Ready(Some(x)) = f.as_mut().poll(cx)
        {
            self.0.push(x);
            self.1 = None
        }
        Poll::Ready(())
    }
}

fn fibre<'p, 'e>(w: Rc<World<'p, 'e>>) -> Pin<Box<dyn Future<Output = ()> + 'p>>
where
    'e: 'p,
{
    let odd = w.rand(8) == 0;
    if odd && let Some(i) = w.take() {
        let f = w.op(i);
        return Box::pin(Sneaky(w.clone(), Some(f)));
    }
    Box::pin(async move {
        let _g = Guard(w.clone());
        for _ in 0..w.rand(40) {
            match w.rand(16) {
                0 => yield_now().await,
                1 | 2 => {
                    if let Some(i) = w.take() {
                        let f = w.op(i);
                        if let Some(x) = f.await {
                            w.push(x)
                        }
                    }
                }
                3 => {
                    if let Some(i) = w.take() {
                        let mut f = w.op(i);
                        if let Poll::Ready(x) = poll_fn(|cx| Poll::Ready(f.as_mut().poll(cx))).await {
                            if let Some(x) = x {
                                w.push(x)
                            }
                        } else {
                            w.push(F(f))
                        }
                    }
                }
                4 => {
                    if let Some(mut i) = w.take() {
                        poll_fn(|cx| {
                            w.start_and_forget(&mut i, cx);
                            Poll::Ready(())
                        })
                        .await;
                        w.push(i)
                    }
                }
                5 => {
                    if let (Some(a), Some(b)) = (w.take(), w.take()) {
                        let (a, b) = (w.op(a), w.op(b));
                        match w.rand(if w.kind.hub { 2 } else { 3 }) {
                            0 => {
                                let (x, y) = futures::future::join(a, b).await;
                                x.into_iter().chain(y).for_each(|x| w.push(x))
                            }
                            1 => match futures::future::select(a, b).await {
                                futures::future::Either::Left((x, f)) | futures::future::Either::Right((x, f)) => {
                                    x.into_iter().for_each(|x| w.push(x));
                                    w.push(F(f))
                                }
                            },
                            _ => {
                                let mut fu: futures::stream::FuturesUnordered<_> = [a, b].into_iter().collect();
                                while let Some(x) = fu.next().await {
                                    x.into_iter().for_each(|x| w.push(x))
                                }
                            }
                        }
                    }
                }
                6 if w.rand(12) == 0 => pending::<()>().await,
                7 if w.kind.panics && w.rand(3) == 0 => panic!("fibre"),
                8 if w.kind.stop && w.rand(6) == 0 => w.p.stop(),
                9 if w.left.get() > 0 && w.rand(2) == 0 => {
                    w.left.set(w.left.get() - 1);
                    w.spawned.set(w.spawned.get() + 1);
                    if w.p.spawn_next(fibre(w.clone())).await.is_err() {
                        w.spawned.set(w.spawned.get() - 1);
                    }
                }
                10 => {
                    poll_fn(|cx| {
                        if w.rand(2) == 0 {
                            cx.waker().wake_by_ref();
                        } else {
                            drop(cx.waker().clone())
                        }
                        Poll::Ready(())
                    })
                    .await
                }
                _ => w.sync_action(),
            }
        }
    })
}

fn run_world(seed: u64, kind: Kind) {
    let checking = Checking::new();
    let tally = Tally::default();
    let (spawned, ended) = (Cell::new(0), Cell::new(0));
    let mut texts = Caught::default();
    let mut catch = |f: &mut dyn FnMut()| texts.catch(f);
    let mut setup = Setup::new(&checking).catch(&mut catch).isolate_panics();
    if kind.hub {
        setup = setup.hub(common::hub!(4));
    }
    let result = setup.run(|p| {
        let world = Rc::new(World {
            p,
            tally: &tally,
            rng: Rc::new(Cell::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)),
            items: RefCell::default(),
            spawned: &spawned,
            ended: &ended,
            left: Cell::new(60),
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
    let outcome = result.map_or_else(|failure| failure.outcome, |(_, outcome)| outcome);
    assert_eq!(tally.alive(), 0, "world {seed}: values ({outcome})");
    assert_eq!(checking.live(), 0, "world {seed}: blocks ({outcome})");
    if !kind.panics {
        let fibres: usize = common::counts(outcome).iter().sum();
        assert_eq!(fibres, spawned.get(), "world {seed}: {outcome}");
    }
}

#[test]
fn whatever_happens_nothing_is_lost() {
    let number = |name, default| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (first, worlds) = (number("FIBRA_FIRST_WORLD", 1u64), number("FIBRA_WORLDS", 300u64));
    std::panic::set_hook(Box::new(|info| {
        // Panics that the worlds throw themselves are none of the test's output.
        if !info.payload().downcast_ref::<&str>().is_some_and(|text| ["guard", "fibre", "bomb"].contains(text)) {
            eprintln!("{info}");
        }
    }));
    for bits in 0..16 {
        let kind = Kind { panics: bits & 1 != 0, stop: bits & 2 != 0, two_way: bits & 4 != 0, hub: bits & 8 != 0 };
        for seed in first..first + worlds {
            run_world(seed, kind);
        }
    }
}
