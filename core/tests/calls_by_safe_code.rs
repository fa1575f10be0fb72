//! What a safe caller of explicit continuations may do, however odd: nothing is lost, dropped twice, or used after it went.

mod common;

use std::cell::{Cell, RefCell, RefMut};
use std::future::Future;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use common::*;
use fibra_allocators::Bump;
use fibra_core::{
    AllocError, AllocRef, Allocator, Continuation, Curried, Frame, Layout, Next, Reader, Writer, coroutine,
};

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Adds to what it borrows, a few times, and once more when it is dropped.
struct Adds<'x>(&'x mut Vec<u32>, u32);
impl<'x> Continuation for Adds<'x> {
    type Step = u32;
    type Return = ();
    const START: u32 = 0;
    fn resume(&mut self, n: u32, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        self.0.push(n);
        if n == self.1 {
            return Next::finish(());
        }
        cx.waker().wake_by_ref();
        Next::give_way(n + 1)
    }
}
impl Drop for Adds<'_> {
    fn drop(&mut self) {
        self.0.push(99);
    }
}

/// Its callee borrows from it, and so may the callee's block.
struct Owner {
    list: Vec<u32>,
    bump: Option<Bump<fibra_core_backing::Borrowed<'static>>>,
    until: u32,
}
#[inline(never)]
fn forgotten<T>(value: T) -> &'static mut T {
    Box::leak(Box::new(value))
}
#[inline(never)]
fn forgotten_frame<'a, A: AllocRef + 'a>(
    list: &'a mut Vec<u32>,
    until: u32,
    allocator: A,
) -> &'a mut Frame<Adds<'a>, A> {
    Box::leak(Box::new(Frame::new_in(Adds(list, until), allocator).unwrap()))
}
thread_local!(static GLOBAL: &'static Checking = forgotten(Checking::new()));

impl Continuation for Owner {
    type Step = u32;
    type Return = Vec<u32>;
    const START: u32 = 0;
    fn resume<'a>(&'a mut self, n: u32, _: &mut Context<'_>) -> Poll<Next<'a, Self>> {
        self.list.push(100 + n);
        if n == 2 {
            return Next::finish(std::mem::take(&mut self.list));
        }
        let (list, until) = (&mut self.list, self.until);
        match &self.bump {
            Some(bump) => Next::call(forgotten_frame(list, until, bump), n + 1),
            None => Next::call(forgotten_frame(list, until, GLOBAL.with(|global| *global)), n + 1),
        }
    }
}
fn owner(inside: bool, until: u32) -> Owner {
    let bump = inside.then(|| Bump::new(forgotten([MaybeUninit::uninit(); 1024]).as_mut_slice()));
    Owner { list: Vec::new(), bump, until }
}

#[test]
fn a_forgotten_callee_may_borrow_from_its_caller_in_a_frame() {
    for inside in [false, true] {
        let checking = Checking::new();
        let mut frame = Frame::new_in(owner(inside, 2), &checking).unwrap().curried();
        let mut call = frame.call();
        let list = loop {
            if let Poll::Ready(list) = Pin::new(&mut call).poll(&mut cx()) {
                break list;
            }
        };
        assert_eq!(list, [100, 0, 1, 2, 99, 101, 0, 1, 2, 99, 102]);
        drop(call);
        assert_eq!(frame.list, [0; 0]);
        drop(frame);
        // Dropped and forgotten in the middle.
        for polls in 0..6 {
            for forget in [true, false] {
                let mut frame = Frame::new_in(owner(inside, 2), &checking).unwrap().curried();
                let mut call = frame.call();
                for _ in 0..polls {
                    if Pin::new(&mut call).poll(&mut cx()).is_ready() {
                        break;
                    }
                }
                if forget {
                    std::mem::forget(call);
                    frame.list.push(5);
                    frame.list.shrink_to_fit();
                    let mut call = Box::pin(frame.call());
                    let _ = call.as_mut().poll(&mut cx());
                } else {
                    drop(call);
                }
                drop(frame);
            }
        }
        checking.assert_empty();
    }
}

/// The same in a coroutine.
struct Main(Owner);
impl Continuation for Main {
    type Step = u32;
    type Return = ();
    const START: u32 = 0;
    fn resume<'a>(&'a mut self, n: u32, _: &mut Context<'_>) -> Poll<Next<'a, Self>> {
        let Owner { list, bump, until } = &mut self.0;
        list.push(100 + n);
        if n == 2 {
            return Next::finish(());
        }
        match bump {
            Some(bump) => Next::call(forgotten_frame(list, *until, &*bump), n + 1),
            None => Next::call(forgotten_frame(list, *until, GLOBAL.with(|global| *global)), n + 1),
        }
    }
}
impl Drop for Main {
    fn drop(&mut self) {
        assert!(self.0.list.iter().all(|n| *n < 1000));
    }
}

#[test]
fn a_forgotten_callee_may_borrow_from_its_caller_in_a_coroutine() {
    for inside in [false, true] {
        for polls in 0..8 {
            let mut main = Box::pin(coroutine(Main(owner(inside, 2))));
            for _ in 0..polls {
                if main.as_mut().poll(&mut cx()).is_ready() {
                    break;
                }
            }
        }
    }
}

/// Holds its callee through a guard.
struct Guards<'r, 'x, 'c> {
    cell: &'r RefCell<Curried<Adds<'x>, &'c Checking>>,
    guard: Option<RefMut<'r, Curried<Adds<'x>, &'c Checking>>>,
}
impl Continuation for Guards<'_, '_, '_> {
    type Step = ();
    type Return = ();
    const START: () = ();
    fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        if self.guard.take().is_some() {
            return Next::finish(());
        }
        Next::call(self.guard.insert(self.cell.borrow_mut()), ())
    }
}

#[test]
fn a_frame_may_be_lent_by_a_guard() {
    let checking = Checking::new();
    let mut list = Vec::new();
    {
        let cell = RefCell::new(Frame::new_in(Adds(&mut list, 1), &checking).unwrap().curried());
        let mut first = Box::pin(coroutine(Guards { cell: &cell, guard: None }));
        let mut second = Box::pin(coroutine(Guards { cell: &cell, guard: None }));
        assert!(first.as_mut().poll(&mut cx()).is_pending());
        assert!(cell.try_borrow().is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| second.as_mut().poll(&mut cx()))).is_err());
        assert!(first.as_mut().poll(&mut cx()).is_ready());
        assert_eq!(*cell.borrow().0, [0, 1]);
        let mut third = Box::pin(coroutine(Guards { cell: &cell, guard: None }));
        assert!(third.as_mut().poll(&mut cx()).is_pending());
        drop(third);
        assert!(panic_of(|| cell.borrow().0.len()).contains("gone"));
        assert!(panic_of(|| cell.borrow_mut().call().as_mut_pin().poll(&mut cx())).contains("gone"));
    }
    assert_eq!(list, [0, 1, 0, 99]);
}
trait AsMutPin {
    fn as_mut_pin(&mut self) -> Pin<&mut Self>;
}
impl<T: Unpin> AsMutPin for T {
    fn as_mut_pin(&mut self) -> Pin<&mut Self> {
        Pin::new(self)
    }
}

/// An allocator whose handle panics when it is dropped.
struct Grumbles<'c>(&'c Checking, &'c Cell<bool>);
impl Clone for Grumbles<'_> {
    fn clone(&self) -> Self {
        panic!("clone")
    }
}
impl Drop for Grumbles<'_> {
    fn drop(&mut self) {
        if self.1.get() {
            panic!("handle");
        }
    }
}
// SAFETY: as `&Checking`.
unsafe impl Allocator for Grumbles<'_> {
    fn allocate(&self, layout: Layout) -> Result<std::ptr::NonNull<[u8]>, AllocError> {
        self.0.allocate(layout)
    }
    unsafe fn deallocate(&self, block: std::ptr::NonNull<u8>, layout: Layout) {
        // SAFETY: passed on.
        unsafe { self.0.deallocate(block, layout) }
    }
}

#[allow(dead_code, reason = "some is only dropped")]
struct Makes<'t>(&'t Tally, Token<'t>, Option<OnDrop<Box<dyn FnMut() + 't>>>, bool);
impl<'t> Continuation for Makes<'t> {
    type Step = bool;
    type Return = (Token<'t>, OnDrop<Box<dyn FnMut() + 't>>);
    const START: bool = false;
    fn resume(&mut self, _: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        let bomb = self.3;
        let value = OnDrop(Box::new(move || {
            if bomb {
                panic!("value")
            }
        }) as Box<dyn FnMut()>);
        Next::finish((self.0.token(), value))
    }
}
struct CallsMakes<'t> {
    frame: Curried<Makes<'t>, Grumbles<'t>>,
}
impl Continuation for CallsMakes<'_> {
    type Step = u8;
    type Return = ();
    const START: u8 = 0;
    fn resume(&mut self, n: u8, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        match n {
            0 | 1 => Next::call(&mut self.frame, n + 1),
            _ => Poll::Pending,
        }
    }
}

#[test]
fn whatever_panics_all_else_is_dropped_once() {
    for what in 0..3 {
        let checking = Checking::new();
        let tally = Tally::default();
        let grumbles = Cell::new(what == 2);
        let bomb = OnDrop(Box::new(move || {
            if what == 1 {
                panic!("routine")
            }
        }) as Box<dyn FnMut()>);
        let routine = Makes(&tally, tally.token(), Some(bomb), what == 0);
        let Ok(frame) = Frame::new_in(routine, Grumbles(&checking, &grumbles)) else { unreachable!() };
        let mut main = Box::pin(coroutine(CallsMakes { frame: frame.curried() }));
        // The second call drops the first one's result.
        let first = catch_unwind(AssertUnwindSafe(|| main.as_mut().poll(&mut cx()).is_pending()));
        assert_eq!(first.is_err(), what == 0);
        assert!(catch_unwind(AssertUnwindSafe(|| drop(main))).is_err() == (what != 0));
        assert_eq!(tally.alive(), 0, "{what}");
        assert_eq!(checking.live(), 0, "{what}");
    }
}

#[allow(dead_code, reason = "some is only dropped")]
struct Bad<'t>(Token<'t>, Option<Box<Frame<Bad<'t>, &'t Checking>>>, u32, u32);
impl Continuation for Bad<'_> {
    type Step = u32;
    type Return = ();
    const START: u32 = 0;
    fn resume(&mut self, n: u32, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        match (&mut self.1, n) {
            (Some(frame), 0) => Next::call(frame, 1),
            _ if self.2 == 1 => panic!("resume"),
            _ if self.2 == 2 => Next::end_fibre(),
            _ => Poll::Pending,
        }
    }
}
impl Drop for Bad<'_> {
    fn drop(&mut self) {
        if self.3 == 1 {
            panic!("destructor");
        }
    }
}

#[test]
fn panics_at_any_depth_leave_nothing() {
    for how in 0..3 {
        for bomb in 0..6 {
            let checking = Checking::new();
            let tally = Tally::default();
            let mut inner = None;
            for depth in 0..5 {
                let bad = Bad(tally.token(), inner.take().map(Box::new), how, u32::from(depth == bomb));
                inner = Some(Frame::new_in(bad, &checking).unwrap());
            }
            let mut main = Box::pin(coroutine(Bad(tally.token(), inner.map(Box::new), how, u32::from(bomb == 5))));
            for _ in 0..2 {
                let _ = catch_unwind(AssertUnwindSafe(|| main.as_mut().poll(&mut cx())));
            }
            let _ = catch_unwind(AssertUnwindSafe(|| drop(main)));
            assert_eq!((tally.alive(), checking.live()), (0, 0), "{how} {bomb}");
        }
    }
}

struct Script<'t> {
    seed: u64,
    tally: &'t Tally,
}
impl Script<'_> {
    fn pick(&mut self, n: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % n
    }
}

/// Does one thing after the other with its ends, and passes them on now and then.
struct Mixes<'p, 't> {
    script: Script<'t>,
    writers: Rc<RefCell<Vec<Writer<'p, Token<'t>>>>>,
    readers: Rc<RefCell<Vec<Reader<'p, Token<'t>>>>>,
    writer: Option<Writer<'p, Token<'t>>>,
    reader: Option<Reader<'p, Token<'t>>>,
    steps: u32,
}
impl<'p, 't> Continuation for Mixes<'p, 't> {
    type Step = u8;
    type Return = ();
    const START: u8 = 0;
    fn resume(&mut self, step: u8, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        self.steps += 1;
        if self.steps > 60 {
            return Next::finish(());
        }
        let foreign = self.script.pick(5) == 0;
        let mut other = Context::from_waker(Waker::noop());
        let cx = if foreign { &mut other } else { cx };
        match step {
            1 => ready!(self.writer.as_mut().map_or(Poll::Ready(()), |w| w.poll_write(cx))),
            2 => drop(ready!(self.reader.as_mut().map_or(Poll::Ready(None), |r| r.poll_read(cx).map(Some)))),
            _ => {}
        }
        let what = self.script.pick(18);
        if let Some(w) = &mut self.writer {
            match what {
                0 => w.begin_write(self.script.tally.token()),
                1 => {
                    w.begin_write(self.script.tally.token());
                    return Next::go(1);
                }
                2 => return Next::go(1),
                3 => drop(w.try_write(self.script.tally.token())),
                4 => {
                    let mut write = w.write(self.script.tally.token());
                    let _ = Pin::new(&mut write).poll(cx);
                    match self.script.pick(3) {
                        0 => std::mem::forget(write),
                        1 => drop(write),
                        _ => drop(write.cancel()),
                    }
                }
                5 => {
                    let dup = w.dup().unwrap();
                    self.writers.borrow_mut().push(dup);
                }
                6 => self.writers.borrow_mut().push(self.writer.take().unwrap()),
                7 => drop(w.poll_write(cx)),
                _ => {}
            }
        } else if self.script.pick(2) == 0 {
            self.writer = self.writers.borrow_mut().pop();
        }
        if let Some(r) = &mut self.reader {
            match what {
                8 => return Next::go(2),
                9 => drop(r.try_read()),
                10 => {
                    let mut read = r.read();
                    let _ = Pin::new(&mut read).poll(cx);
                    if self.script.pick(2) == 0 {
                        std::mem::forget(read);
                    }
                }
                11 => {
                    let mut read = r.read_or_end();
                    let _ = Pin::new(&mut read).poll(cx);
                    if self.script.pick(2) == 0 {
                        std::mem::forget(read);
                    }
                }
                12 => {
                    let dup = r.dup().unwrap();
                    self.readers.borrow_mut().push(dup);
                }
                13 => self.readers.borrow_mut().push(self.reader.take().unwrap()),
                14 => drop(r.poll_read(cx)),
                15 => self.reader = None,
                16 => self.writer = None,
                _ => {}
            }
        } else if self.script.pick(2) == 0 {
            self.reader = self.readers.borrow_mut().pop();
        }
        if self.script.pick(4) == 0 { Next::give_way(0) } else { Next::go(0) }
    }
}

#[test]
fn operations_of_all_kinds_mix() {
    let seeds = if cfg!(miri) { 2 } else { 4000 };
    for seed in 0..seeds {
        let tally = Tally::default();
        let checking = Checking::new();
        {
            let tally = &tally;
            let _ = fibra_core::run(&checking, |p| {
                let fibres = 2 + seed % 3;
                let (w, r) = p.channel::<Token<'_>>().unwrap();
                let stores = (Rc::new(RefCell::new(vec![w])), Rc::new(RefCell::new(vec![r])));
                for n in 0..fibres {
                    let script = Script { seed: seed * 77 + n, tally };
                    let mixes = Mixes {
                        script,
                        writers: stores.0.clone(),
                        readers: stores.1.clone(),
                        writer: None,
                        reader: None,
                        steps: 0,
                    };
                    p.spawn(coroutine(mixes)).unwrap();
                }
            });
        }
        assert_eq!(tally.alive(), 0, "{seed}");
        checking.assert_empty();
    }
}
