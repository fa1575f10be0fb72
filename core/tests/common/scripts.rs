//! A machine for random tests: fibres whose routines do what a script of bytes says, against a model of what is called, what
//! is resumed next, what is returned, and what is destroyed in which order.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use fibra_core::{Async, Continuation, Frame, Next, Reader, Setup, Writer, coroutine, yield_now};

use crate::common::{Caught, Checking, P, Tally, Token, poll_once};

/// What is so at each moment.
#[derive(Default)]
struct Model {
    routines: RefCell<Vec<Info>>,
    /// Of each coroutine or call by an `async` routine: the routines that are called, the topmost last.
    stacks: RefCell<Vec<Vec<usize>>>,
    /// How many frames there are.
    frames: Cell<usize>,
    calls: Cell<usize>,
    deepest: Cell<usize>,
}

#[derive(Clone, Copy, Default)]
struct Info {
    stack: Option<usize>,
    /// The step with which it is to be resumed.
    next: u32,
    is_gone: bool,
    returned: Option<usize>,
}

impl Model {
    fn make(&self) -> usize {
        self.routines.borrow_mut().push(Info::default());
        self.routines.borrow().len() - 1
    }

    fn info(&self, id: usize) -> Info {
        self.routines.borrow()[id]
    }

    fn change(&self, id: usize, change: impl FnOnce(&mut Info)) {
        change(&mut self.routines.borrow_mut()[id]);
    }

    fn new_stack(&self) -> usize {
        self.stacks.borrow_mut().push(Vec::new());
        self.stacks.borrow().len() - 1
    }

    fn call(&self, stack: usize, id: usize) {
        self.stacks.borrow_mut()[stack].push(id);
        self.calls.set(self.calls.get() + 1);
        self.deepest.set(self.deepest.get().max(self.stacks.borrow()[stack].len()));
        let info = self.info(id);
        assert!(!info.is_gone && info.stack.is_none());
        self.change(id, |info| {
            info.stack = Some(stack);
            info.next = 0;
            info.returned = None;
        });
    }

    fn assert_on_top(&self, id: usize) -> usize {
        let stack = self.info(id).stack.expect("it is called");
        assert_eq!(self.stacks.borrow()[stack].last(), Some(&id), "only the topmost runs, or is destroyed");
        stack
    }

    fn leave(&self, id: usize) {
        let stack = self.assert_on_top(id);
        self.stacks.borrow_mut()[stack].pop();
        self.change(id, |info| info.stack = None);
    }

    fn destroyed(&self, id: usize) {
        assert!(!self.info(id).is_gone, "it was destroyed already");
        if self.info(id).stack.is_some() {
            self.leave(id);
        }
        self.change(id, |info| info.is_gone = true);
    }

    fn abandon(&self, stack: usize) {
        for id in std::mem::take(&mut self.stacks.borrow_mut()[stack]) {
            self.change(id, |info| info.stack = None);
        }
    }
}

enum End<'p, 'e> {
    Reader(Reader<'p, Token<'e>>),
    Writer(Writer<'p, Token<'e>>),
}

struct World<'p, 'e> {
    process: &'p P<'p, 'e, 'e>,
    frames: [&'e Checking; 2],
    script: &'e [u8],
    at: Cell<usize>,
    model: &'e Model,
    values: &'e Tally,
    ends: RefCell<Vec<End<'p, 'e>>>,
    panics: bool,
}

type W<'p, 'e> = Rc<World<'p, 'e>>;

impl<'p, 'e> World<'p, 'e> {
    fn byte(&self) -> u8 {
        let at = self.at.replace(self.at.get() + 1);
        self.script.get(at).copied().unwrap_or(0)
    }

    fn is_over(&self) -> bool {
        self.at.get() >= self.script.len()
    }

    fn below(&self, n: usize) -> usize {
        usize::from(self.byte()) % n.max(1)
    }

    fn take_end(&self) -> Option<End<'p, 'e>> {
        let n = self.ends.borrow().len();
        (n > 0).then(|| self.ends.borrow_mut().swap_remove(self.below(n)))
    }

    fn check(&self) {
        let live: usize = self.frames.iter().map(|frames| frames.live()).sum();
        assert_eq!(live, self.model.frames.get(), "a block for each frame");
    }

    fn make_channel(&self) {
        if let Ok((w, r)) = self.process.channel() {
            self.ends.borrow_mut().extend([End::Writer(w), End::Reader(r)]);
        }
    }

    /// There may be no frame; then what was to be in it comes back, and goes.
    fn make_frame(self: &Rc<Self>) -> Option<Handle<'p, 'e>> {
        let frames = self.frames[self.below(2)];
        if self.byte() < 16 {
            frames.fail_nth(frames.calls());
        }
        let id = self.model.make();
        let kind = self.byte() % 4;
        if kind == 0 {
            let future: Boxed<'p, 'e> = Box::pin(follow(self.clone(), Alive(self.clone(), id)));
            let process = self.process.allocator();
            if self.byte() < 16 {
                process.fail_nth(process.calls());
            }
            let body = Body::Async(self.process.frame_async(future).ok()?);
            return Some(Handle { id, body, _counted: None });
        }
        let body = {
            let script = Script { world: self.clone(), id, kept: Vec::new(), lent: None, end: None };
            match Frame::new_in(script, frames) {
                Ok(frame) if kind == 1 => Body::Once(frame),
                Ok(frame) => Body::Kept(frame.curried()),
                Err(error) => {
                    assert!(error.routine.id == id && !self.model.info(id).is_gone);
                    return None;
                }
            }
        };
        self.model.frames.set(self.model.frames.get() + 1);
        Some(Handle { id, body, _counted: Some(Counted(self.model)) })
    }

    fn spawn(self: &Rc<Self>) {
        let Some(handle) = self.make_frame() else { return };
        let id = self.model.make();
        self.model.call(self.model.new_stack(), id);
        let root = coroutine(Root { world: self.clone(), id, handle: Some(handle) });
        if self.byte() < 16 {
            let process = self.process.allocator();
            process.fail_nth(process.calls());
        }
        drop(self.process.spawn(root));
    }
}

type Boxed<'p, 'e> = Pin<Box<dyn Future<Output = Token<'e>> + 'p>>;

enum Body<'p, 'e> {
    Once(Frame<Script<'p, 'e>, &'e Checking>),
    Kept(Frame<Script<'p, 'e>, &'e Checking, true>),
    Async(Frame<Async<Boxed<'p, 'e>>, &'p &'e Checking>),
}

/// A frame, and which routine is in it.
struct Handle<'p, 'e> {
    id: usize,
    body: Body<'p, 'e>,
    /// Counts it out after it has gone.
    _counted: Option<Counted<'e>>,
}

struct Counted<'e>(&'e Model);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.frames.set(self.0.frames.get() - 1);
    }
}

impl<'p, 'e> Handle<'p, 'e> {
    fn next<C: Continuation>(&mut self, then: C::Step) -> Poll<Next<'_, C>> {
        match &mut self.body {
            Body::Once(frame) => Next::call(frame, then),
            Body::Kept(frame) => Next::call(frame, then),
            Body::Async(frame) => Next::call(frame, then),
        }
    }

    fn result(&mut self) -> Option<Token<'e>> {
        match &mut self.body {
            Body::Once(frame) => frame.result(),
            Body::Kept(frame) => frame.result(),
            Body::Async(frame) => frame.result(),
        }
    }

    /// What its last call returned, as it must be.
    fn take_result(&mut self, model: &Model) -> Token<'e> {
        let token = self.result().expect("it has returned");
        assert_eq!(model.info(self.id).returned, Some(token.id));
        assert!(self.result().is_none(), "it was taken");
        token
    }
}

/// Tells the model when an `async` routine goes.
struct Alive<'p, 'e>(W<'p, 'e>, usize);

impl Drop for Alive<'_, '_> {
    fn drop(&mut self) {
        self.0.model.destroyed(self.1);
    }
}

/// The routine at the bottom of a fibre: calls another once.
struct Root<'p, 'e> {
    world: W<'p, 'e>,
    id: usize,
    handle: Option<Handle<'p, 'e>>,
}

impl Drop for Root<'_, '_> {
    fn drop(&mut self) {
        self.world.model.destroyed(self.id);
    }
}

impl Continuation for Root<'_, '_> {
    type Step = bool;
    type Return = ();
    const START: bool = false;

    fn resume(&mut self, has_returned: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        let model = self.world.model;
        let stack = model.assert_on_top(self.id);
        self.world.check();
        let handle = self.handle.as_mut().expect("it has one");
        if has_returned {
            drop(handle.take_result(model));
            return Next::finish(());
        }
        model.call(stack, handle.id);
        handle.next(true)
    }
}

/// An explicit routine.
struct Script<'p, 'e> {
    world: W<'p, 'e>,
    id: usize,
    kept: Vec<Handle<'p, 'e>>,
    lent: Option<Handle<'p, 'e>>,
    end: Option<End<'p, 'e>>,
}

impl Drop for Script<'_, '_> {
    fn drop(&mut self) {
        self.world.model.destroyed(self.id);
        if self.world.panics && !std::thread::panicking() && self.world.byte() > 250 {
            panic!("{}", ON_PURPOSE[1]);
        }
    }
}

const ON_PURPOSE: [&str; 2] = ["in a step, on purpose", "in a destructor, on purpose"];

/// Has hooks told of all panics but those on purpose.
pub fn be_quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<String>();
            if !text.is_some_and(|text| ON_PURPOSE.contains(&&**text)) {
                tell(info);
            }
        }));
    });
}

#[derive(Clone, Copy)]
struct At {
    /// Another one each time.
    nth: u32,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Decide,
    Operate,
    Back,
}

impl<'p, 'e> Script<'p, 'e> {
    fn at(&self, what: What) -> At {
        let nth = self.world.at.get() as u32 + 1;
        self.world.model.change(self.id, |info| info.next = nth);
        At { nth, what }
    }

    fn go(&self) -> Poll<Next<'_, Self>> {
        Next::go(self.at(What::Decide))
    }

    /// Calls the frame that is lent.
    fn call(&mut self) -> Poll<Next<'_, Self>> {
        let then = self.at(What::Back);
        let model = self.world.model;
        let stack = model.assert_on_top(self.id);
        let handle = self.lent.as_mut().expect("lent before");
        model.call(stack, handle.id);
        handle.next(then)
    }

    fn take_kept(&mut self) -> Option<Handle<'p, 'e>> {
        let n = self.kept.len();
        (n > 0).then(|| self.kept.swap_remove(self.world.below(n)))
    }

    fn decide(&mut self) -> Poll<Next<'_, Self>> {
        let world = self.world.clone();
        let model = world.model;
        if world.is_over() {
            return self.finish();
        }
        match world.byte() {
            0..24 => self.finish(),
            24..48 => Next::give_way(self.at(What::Decide)),
            48..112 => {
                self.lent = world.make_frame();
                if self.lent.is_some() { self.call() } else { self.go() }
            }
            112..136 => {
                self.lent = self.take_kept();
                match &self.lent {
                    Some(handle) if !model.info(handle.id).is_gone => self.call(),
                    _ => {
                        // Drops it: what is gone is not called again.
                        self.lent = None;
                        self.go()
                    }
                }
            }
            136..180 => {
                self.end = world.take_end();
                match &mut self.end {
                    Some(End::Writer(w)) => w.begin_write(world.values.token()),
                    Some(End::Reader(_)) => {}
                    None => {
                        world.make_channel();
                        return self.go();
                    }
                }
                Next::go(self.at(What::Operate))
            }
            180..188 => {
                drop(self.take_kept());
                self.go()
            }
            188..200 => {
                // Never returned from a step.
                if let Some(handle) = self.kept.last_mut()
                    && !model.info(handle.id).is_gone
                {
                    let _ = handle.next::<Self>(At { nth: 0, what: What::Decide });
                    assert!(handle.result().is_none(), "the result of the last call went");
                }
                self.go()
            }
            200..208 => {
                // What is in the frames, or the frames.
                if let [one, other, ..] = &mut self.kept[..] {
                    let gone = [&one, &other].map(|handle| model.info(handle.id).is_gone);
                    match (&mut one.body, &mut other.body) {
                        (Body::Kept(a), Body::Kept(b)) if gone == [false; 2] => {
                            std::mem::swap(&mut **a, &mut **b);
                            std::mem::swap(&mut one.id, &mut other.id);
                        }
                        _ => std::mem::swap(one, other),
                    }
                }
                self.go()
            }
            208..224 => {
                world.spawn();
                self.go()
            }
            224..228 => Next::end_fibre(),
            228..232 if world.panics => panic!("{}", ON_PURPOSE[0]),
            232 => {
                world.process.stop();
                self.go()
            }
            233..240 => {
                drop(world.take_end());
                self.go()
            }
            _ => {
                // Made and kept, not called yet.
                let made = world.make_frame();
                self.kept.extend(made);
                self.go()
            }
        }
    }

    fn finish(&mut self) -> Poll<Next<'_, Self>> {
        let world = &self.world;
        let value = world.values.token();
        world.model.leave(self.id);
        world.model.change(self.id, |info| info.returned = Some(value.id));
        Next::finish(value)
    }
}

impl<'p, 'e> Continuation for Script<'p, 'e> {
    type Step = At;
    type Return = Token<'e>;
    const START: At = At { nth: 0, what: What::Decide };

    fn resume(&mut self, step: At, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        let world = self.world.clone();
        world.model.assert_on_top(self.id);
        assert_eq!(step.nth, world.model.info(self.id).next, "the step that is due");
        world.check();
        match step.what {
            What::Decide => {
                // Left by a call that was forgotten.
                let left = self.lent.take();
                self.kept.extend(left);
                self.decide()
            }
            What::Operate => {
                match &mut self.end {
                    Some(End::Reader(r)) => drop(ready!(r.poll_read(cx))),
                    Some(End::Writer(w)) => ready!(w.poll_write(cx)),
                    None => {}
                }
                let end = self.end.take();
                world.ends.borrow_mut().extend(end);
                self.go()
            }
            What::Back => {
                let handle = self.lent.as_mut().expect("it was lent");
                drop(handle.take_result(world.model));
                if world.byte().is_multiple_of(2) {
                    let handle = self.lent.take();
                    self.kept.extend(handle);
                }
                drop(self.lent.take());
                world.check();
                self.go()
            }
        }
    }
}

/// An `async` routine.
async fn follow<'p, 'e>(world: W<'p, 'e>, alive: Alive<'p, 'e>) -> Token<'e> {
    let model = world.model;
    let mut kept: Option<Handle<'p, 'e>> = None;
    while !world.is_over() {
        match world.byte() {
            0..40 => break,
            40..80 => yield_now().await,
            80..110 => match world.take_end() {
                Some(End::Reader(mut r)) => {
                    drop(r.read().await);
                    world.ends.borrow_mut().push(End::Reader(r));
                }
                Some(End::Writer(mut w)) => {
                    w.write(world.values.token()).await;
                    world.ends.borrow_mut().push(End::Writer(w));
                }
                None => world.make_channel(),
            },
            110..114 if world.panics => panic!("{}", ON_PURPOSE[0]),
            114..122 => world.spawn(),
            122..126 => kept = None,
            _ => {
                if kept.as_ref().is_none_or(|handle| model.info(handle.id).is_gone) {
                    kept = world.make_frame();
                }
                let Some(handle) = &mut kept else { continue };
                let (stack, id) = (model.new_stack(), handle.id);
                model.call(stack, id);
                let value = match &mut handle.body {
                    Body::Once(frame) => drive(&world, stack, frame.call()).await,
                    Body::Kept(frame) => drive(&world, stack, frame.call()).await,
                    Body::Async(frame) => drive(&world, stack, frame.call()).await,
                };
                assert!(model.stacks.borrow()[stack].is_empty());
                if let Some(value) = value {
                    assert_eq!(model.info(id).returned, Some(value.id));
                }
                assert!(handle.result().is_none());
            }
        }
        world.check();
    }
    drop(kept);
    let value = world.values.token();
    model.change(alive.1, |info| info.returned = Some(value.id));
    value
}

/// Awaits a call, or drops or forgets it half-way.
async fn drive<'e, F: Future<Output = Token<'e>> + Unpin>(
    world: &World<'_, 'e>,
    stack: usize,
    mut call: F,
) -> Option<Token<'e>> {
    let how = world.byte();
    if how < 128 {
        return Some(call.await);
    }
    for _ in 0..how % 4 {
        if let Poll::Ready(value) = poll_once(&mut call).await {
            return Some(value);
        }
        yield_now().await;
    }
    let has_begun = !how.is_multiple_of(4);
    if has_begun && how & 64 == 0 {
        drop(call);
    } else {
        std::mem::forget(call);
        world.model.abandon(stack);
    }
    None
}

/// What a script did, so that tests can see that they do something.
#[derive(Debug, Default)]
pub struct Done {
    pub calls: usize,
    pub deepest: usize,
    pub routines: usize,
    pub panics: usize,
    pub collapsed: usize,
    pub deadlocked: usize,
}

/// Runs a process with fibres that follow the script. All is checked on the way, and that nothing is left.
pub fn follow_script(script: &[u8]) -> Done {
    let (model, values) = (Model::default(), Tally::default());
    let (checking, frames) = (Checking::new(), [Checking::new(), Checking::new()]);
    let mut caught = Caught::default();
    let mut catch = |f: &mut dyn FnMut()| caught.catch(f);
    let result = Setup::new(&checking).catch(&mut catch).isolate_panics().run(|p| {
        let (panics, script) = script.split_first().map_or((false, script), |(first, rest)| (first & 1 == 1, rest));
        let at = Cell::new(0);
        let ends = RefCell::default();
        let world = Rc::new(World {
            process: p,
            frames: frames.each_ref(),
            script,
            at,
            model: &model,
            values: &values,
            ends,
            panics,
        });
        for _ in 0..3 {
            world.make_channel();
            world.spawn();
        }
    });
    for text in &caught.0 {
        assert!(ON_PURPOSE.contains(&&**text), "{text}");
    }
    let outcome = result.map_or_else(|failure| failure.outcome, |(_, outcome)| outcome);
    assert!(
        model.routines.borrow().iter().all(|info| info.is_gone && info.stack.is_none()),
        "each routine was destroyed"
    );
    assert!(model.stacks.borrow().iter().all(Vec::is_empty));
    assert_eq!((values.alive(), model.frames.get()), (0, 0));
    checking.assert_empty();
    frames.iter().for_each(Checking::assert_empty);
    Done {
        calls: model.calls.get(),
        deepest: model.deepest.get(),
        routines: model.routines.borrow().len(),
        panics: caught.0.len(),
        collapsed: outcome.collapsed,
        deadlocked: outcome.deadlocked,
    }
}
