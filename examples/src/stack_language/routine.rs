//! A word of the program as an explicit continuation. Here the language meets fibra.

extern crate std;

use core::task::{Context, Poll, ready};
use std::format;
use std::string::String;

use fibra_allocators::PoolBox;
use fibra_core::{AllocRef, Continuation, Curried, Direction, Next, NoFrame, Process, SpawnErrorKind, coroutine};

use super::machine::{Lost, Machine};
use super::stack::{Channel, Checked, Stack, Value, no_memory};
use super::words::Op;

/// What a fibre has, whichever of its words runs.
pub struct Fibre<'p, 'env, A: AllocRef> {
    process: &'p Process<'p, 'env, A>,
    machine: &'p Machine<'env>,
    /// The word that was spawned; the first fibre has none.
    spawned: Option<u32>,
    stack: Stack<'p>,
    /// Calls in progress.
    calls: usize,
    /// Of the instruction that runs, or ran last.
    at: usize,
}

/// A word that was called or spawned.
///
/// The fibre's stack is with the word that runs: it goes to the callee with the call, and comes back with the return.
pub struct Routine<'p, 'env, A: AllocRef> {
    fibre: Option<PoolBox<Fibre<'p, 'env, A>, &'p A>>,
    /// Of the next instruction.
    next: usize,
    /// Kept until the fibre was taken back from it.
    callee: Option<Curried<Self, &'p A>>,
}

/// Where a word can be resumed.
#[derive(Clone, Copy)]
pub enum Step {
    /// At its next instruction.
    Run,
    /// Behind a call.
    Returned,
    /// In `send`, while the value is offered.
    Send,
    /// In `receive`.
    Receive,
    /// In `receive-or-end`.
    ReceiveOrEnd,
}

/// What the instructions of a word come to, and cannot do by themselves.
enum Request {
    Go(Step),
    GiveWay,
    Call(u32),
    Return,
    EndFibre,
}

impl<A: AllocRef> Continuation for Routine<'_, '_, A> {
    type Step = Step;
    type Return = ();
    const START: Step = Step::Run;

    #[inline(always)]
    fn resume(&mut self, step: Step, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        if let Step::Returned = step {
            // With that the callee's frame goes back to the pool.
            self.fibre = self.callee.take().and_then(|mut callee| callee.fibre.take());
        }
        // It is away only during a call, and then the callee is resumed, not its caller.
        let Some(fibre) = &mut self.fibre else { return Next::end_fibre() };

        let goes_on = |()| Request::Go(Step::Run);
        let request = match step {
            Step::Run | Step::Returned => fibre.run(&mut self.next),
            Step::Send => ready!(fibre.stack.poll_send(cx)).map(goes_on),
            Step::Receive => ready!(fibre.stack.poll_receive(cx)).map(goes_on),
            Step::ReceiveOrEnd => ready!(fibre.stack.poll_receive_or_end(cx)).map(goes_on),
        };
        match request {
            Ok(Request::Go(step)) => Next::go(step),
            Ok(Request::GiveWay) => Next::give_way(Step::Run),
            Ok(Request::Call(word)) => self.call(word),
            Ok(Request::Return) => Next::finish(()),
            Ok(Request::EndFibre) => Next::end_fibre(),
            Err(what) => fibre.fail(what),
        }
    }
}

impl<'p, 'env, A: AllocRef> Routine<'p, 'env, A> {
    /// Calls a word, in a frame from the pool. If there is none, the fibre comes back with the error.
    fn call(&mut self, word: u32) -> Poll<Next<'_, Self>> {
        let Some(mut fibre) = self.fibre.take() else { return Next::end_fibre() };
        fibre.calls += 1;
        let process = fibre.process;
        let next = fibre.machine.program.words[word as usize].entry;
        match process.frame(Routine { fibre: Some(fibre), next, callee: None }) {
            Ok(frame) => Next::call(self.callee.insert(frame.curried()), Step::Returned),
            Err(NoFrame { routine }) => match &routine.fibre {
                Some(fibre) => fibre.fail(out_of_frames(fibre.calls - 1)),
                None => Next::end_fibre(),
            },
        }
    }
}

#[cold]
fn out_of_frames(calls: usize) -> String {
    no_memory(&format!("a frame, after {calls} calls in this fibre"), "--frames")
}

/// So many instructions a fibre may run before all others get their turn.
const SLICE: u32 = 1000;

impl<'p, 'env, A: AllocRef> Fibre<'p, 'env, A> {
    /// Spawns a fibre, which begins at an instruction and has what `give` puts on its stack.
    pub fn spawn(
        process: &'p Process<'p, 'env, A>,
        machine: &'p Machine<'env>,
        spawned: Option<u32>,
        give: impl FnOnce(&mut Stack<'p>) -> Checked<()>,
    ) -> Checked<()> {
        let out_of_memory = || no_memory("a fibre", "--fibres");
        let next = spawned.map_or(0, |word| machine.program.words[word as usize].entry);
        let fibre = || Fibre { process, machine, spawned, stack: Stack::new(), calls: 0, at: next };
        let mut fibre = PoolBox::new_with_in(fibre, process.allocator()).map_err(|_| out_of_memory())?;
        give(&mut fibre.stack)?;
        match process.spawn(coroutine(Routine { fibre: Some(fibre), next, callee: None })) {
            Err(error) if error.kind == SpawnErrorKind::OutOfMemory => Err(out_of_memory()),
            // Or the process is ending, and the new fibre ends with it.
            _ => Ok(()),
        }
    }

    /// Runs instructions until one of them asks for something, or the slice is over: to be resumed for each of them takes
    /// three times as long.
    fn run(&mut self, next: &mut usize) -> Checked<Request> {
        let program = self.machine.program;
        self.at = *next;
        let mut left = self.machine.grant(SLICE)?;
        let request = loop {
            if left == 0 {
                break Ok(Request::GiveWay);
            }
            left -= 1;
            self.at = *next;
            // The last instruction of a program returns, so there is a next one after any other.
            let Some(&op) = program.code.get(*next) else { break Ok(Request::Return) };
            *next += 1;
            match self.execute(op, next) {
                Ok(None) => {}
                Ok(Some(request)) => break Ok(request),
                Err(what) => break Err(what),
            }
        };
        self.machine.give_back(left);
        request
    }

    /// Runs one instruction, which may have it go on elsewhere.
    #[inline(always)]
    fn execute(&mut self, op: Op, next: &mut usize) -> Checked<Option<Request>> {
        let stack = &mut self.stack;
        match op {
            Op::Number(number) => stack.push_number(number)?,
            Op::Binary(op) => stack.binary(op)?,
            Op::Unary(op) => stack.unary(op)?,
            Op::Dup => stack.copy(0)?,
            Op::Over => stack.copy(1)?,
            Op::Drop => stack.drop_top()?,
            Op::Swap => stack.top::<2>()?.swap(0, 1),
            Op::Rot => stack.top::<3>()?.rotate_left(1),
            Op::Pick => stack.pick()?,
            Op::Depth => stack.push(Value::Number(stack.depth() as i64))?,
            Op::Jump(to) => *next = to as usize,
            Op::JumpIfZero(to) => {
                if stack.pop_number()? == 0 {
                    *next = to as usize;
                }
            }
            Op::Call(word) => return Ok(Some(Request::Call(word))),
            Op::Return => {
                self.calls = self.calls.saturating_sub(1);
                return Ok(Some(Request::Return));
            }
            Op::Halt => return Ok(Some(Request::EndFibre)),
            Op::Spawn(word) => self.spawn_word(word)?,
            Op::Channel => {
                // The other endpoint goes at once: it would count as somebody who may yet answer.
                let (endpoint, _) = self.process.two_way().map_err(|_| no_memory("a channel", "--channels"))?;
                stack.push_channel(Channel { id: self.machine.number(), endpoint })?;
            }
            Op::Send => {
                stack.begin_send()?;
                return Ok(Some(Request::Go(Step::Send)));
            }
            Op::Receive => {
                stack.begin_receive()?;
                return Ok(Some(Request::Go(Step::Receive)));
            }
            Op::ReceiveOrEnd => {
                stack.begin_receive()?;
                return Ok(Some(Request::Go(Step::ReceiveOrEnd)));
            }
            Op::Pause => return Ok(Some(Request::GiveWay)),
            Op::Print => {
                let number = stack.pop_number()?;
                self.machine.print(format_args!("{number}\n"))?;
            }
            Op::Dot => {
                let number = stack.pop_number()?;
                self.machine.print(format_args!("{number} "))?;
            }
            Op::Emit => {
                let code = stack.pop_number()?;
                match u32::try_from(code).ok().and_then(char::from_u32) {
                    Some(character) => self.machine.print(format_args!("{character}"))?,
                    None => return Err(format!("{code} is the code of no character")),
                }
            }
            Op::Cr => self.machine.print(format_args!("\n"))?,
            Op::Text(number) => self.machine.print(format_args!("{}", self.machine.program.texts[number as usize]))?,
        }
        Ok(None)
    }

    #[inline(never)]
    fn spawn_word(&mut self, word: u32) -> Checked<()> {
        let count = self.stack.pop_number()?;
        let Fibre { process, machine, stack, .. } = self;
        Fibre::spawn(process, machine, Some(word), |to| stack.move_to(count, to))
    }

    /// An error of the program: it ends, in order.
    #[cold]
    fn fail<'a, C: Continuation>(&self, what: String) -> Poll<Next<'a, C>> {
        self.machine.fail(self.at, what);
        self.process.stop();
        Next::end_fibre()
    }
}

impl<A: AllocRef> Drop for Fibre<'_, '_, A> {
    fn drop(&mut self) {
        if let Some(direction) = self.stack.waits() {
            let sends = direction == Direction::Write;
            self.machine.lost(Lost { spawned: self.spawned, at: self.at, sends });
        }
    }
}
