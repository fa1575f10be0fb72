//! What a fibre of a program has: its stack, and an endpoint of each channel that the stack names.

extern crate std;

use core::task::{Context, Poll, ready};
use std::borrow::ToOwned;
use std::format;
use std::string::String;

use fibra_core::{AllocError, Direction, Endpoint};

use super::words::{Binary, Unary};

/// How many values the stack of a fibre has room for.
pub const VALUES: usize = 64;
/// How many channels a fibre can hold.
pub const CHANNELS: usize = 16;

#[derive(Clone, Copy)]
pub enum Value {
    Number(i64),
    /// The channel in this place of the fibre's own table.
    Channel(u8),
}

/// What goes through a channel of the language.
pub enum Message<'p> {
    Number(i64),
    Channel(Channel<'p>),
}

/// A fibre's hold on a channel.
pub struct Channel<'p> {
    /// No two channels of a process have the same.
    pub id: u64,
    pub endpoint: Endpoint<'p, Message<'p>>,
}

impl Channel<'_> {
    fn dup(&self) -> Result<Self, String> {
        let endpoint =
            self.endpoint.dup().map_err(|AllocError| no_memory("another endpoint of the channel", "--channels"))?;
        Ok(Channel { id: self.id, endpoint })
    }
}

struct Held<'p> {
    channel: Channel<'p>,
    /// How many values on the stack name it, and one more while a word waits on it.
    values: usize,
}

/// What a program's word complains of is text, of which the caller knows the place.
pub type Checked<T> = Result<T, String>;

pub fn no_memory(what: &str, option: &str) -> String {
    format!("out of memory for {what}; give the machine more with {option}")
}

pub struct Stack<'p> {
    values: [Value; VALUES],
    depth: usize,
    held: [Option<Held<'p>>; CHANNELS],
    /// The channel on which a word waits, or was begun.
    using: Option<(u8, Direction)>,
}

impl<'p> Stack<'p> {
    pub fn new() -> Self {
        Stack { values: [Value::Number(0); VALUES], depth: 0, held: [const { None }; CHANNELS], using: None }
    }

    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Which way the fibre waits.
    pub fn waits(&self) -> Option<Direction> {
        self.using.map(|(_, direction)| direction)
    }

    #[inline]
    pub fn push(&mut self, value: Value) -> Checked<()> {
        let Some(place) = self.values.get_mut(self.depth) else { return Err(self.overflow()) };
        *place = value;
        self.depth += 1;
        Ok(())
    }

    pub fn push_number(&mut self, number: i64) -> Checked<()> {
        self.push(Value::Number(number))
    }

    #[cold]
    fn overflow(&self) -> String {
        format!("stack overflow: a fibre has room for {VALUES} values; keep fewer, or let other fibres keep them")
    }

    /// The uppermost values, the top last.
    #[inline]
    pub fn top<const N: usize>(&mut self) -> Checked<&mut [Value; N]> {
        match self.depth.checked_sub(N).and_then(|from| self.values[from..].first_chunk_mut()) {
            Some(top) => Ok(top),
            None => Err(underflow(self.depth, N)),
        }
    }

    /// The uppermost numbers, which stay there.
    #[inline]
    fn numbers<const N: usize>(&mut self) -> Checked<[i64; N]> {
        let mut numbers = [0; N];
        for (number, value) in numbers.iter_mut().zip(*self.top::<N>()?) {
            let Value::Number(value) = value else {
                return Err("a number is needed, and there is a channel".to_owned());
            };
            *number = value;
        }
        Ok(numbers)
    }

    #[inline]
    pub fn pop_number(&mut self) -> Checked<i64> {
        let [number] = self.numbers()?;
        self.depth -= 1;
        Ok(number)
    }

    #[inline]
    pub fn unary(&mut self, op: Unary) -> Checked<()> {
        let [a] = self.numbers()?;
        let result = match op {
            Unary::Negate => a.checked_neg(),
            Unary::Abs => a.checked_abs(),
            Unary::Not => Some(i64::from(a == 0)),
        };
        let Some(result) = result else {
            return Err(format!("overflow: the result for {a} does not fit into 64 bits"));
        };
        *self.top()? = [Value::Number(result)];
        Ok(())
    }

    #[inline]
    pub fn binary(&mut self, op: Binary) -> Checked<()> {
        let [a, b] = self.numbers()?;
        let result = match op {
            Binary::Add => a.checked_add(b),
            Binary::Subtract => a.checked_sub(b),
            Binary::Multiply => a.checked_mul(b),
            Binary::Divide => a.checked_div(b),
            Binary::Modulo => a.checked_rem(b),
            Binary::Min => Some(a.min(b)),
            Binary::Max => Some(a.max(b)),
            Binary::Equal => Some(i64::from(a == b)),
            Binary::Unequal => Some(i64::from(a != b)),
            Binary::Less => Some(i64::from(a < b)),
            Binary::Greater => Some(i64::from(a > b)),
            Binary::LessOrEqual => Some(i64::from(a <= b)),
            Binary::GreaterOrEqual => Some(i64::from(a >= b)),
            Binary::And => Some(a & b),
            Binary::Or => Some(a | b),
            Binary::Xor => Some(a ^ b),
        };
        let Some(result) = result else { return Err(impossible(op, a, b)) };
        self.depth -= 1;
        *self.top()? = [Value::Number(result)];
        Ok(())
    }

    /// Copies the value below `above` others to the top.
    #[inline]
    pub fn copy(&mut self, above: usize) -> Checked<()> {
        let Some(from) = self.depth.checked_sub(above + 1) else { return Err(underflow(self.depth, above + 1)) };
        let value = self.values[from];
        self.push(value)?;
        if let Value::Channel(place) = value {
            self.hold(place);
        }
        Ok(())
    }

    /// `( n -- value )`
    pub fn pick(&mut self) -> Checked<()> {
        let above = self.pop_number()?;
        match usize::try_from(above) {
            Ok(above) if above < self.depth => self.copy(above),
            _ => Err(format!("there is no value number {above}: below are {}, counted from 0", self.depth)),
        }
    }

    #[inline]
    pub fn drop_top(&mut self) -> Checked<()> {
        let [value] = *self.top()?;
        self.depth -= 1;
        if let Value::Channel(place) = value {
            self.let_go(place);
        }
        Ok(())
    }

    fn hold(&mut self, place: u8) {
        if let Some(held) = &mut self.held[usize::from(place)] {
            held.values += 1;
        }
    }

    /// A value that named the channel has left the stack. Drops the endpoint if it was the last.
    fn let_go(&mut self, place: u8) {
        let held = &mut self.held[usize::from(place)];
        if let Some(Held { values, .. }) = held {
            *values -= 1;
            if *values == 0 {
                *held = None;
            }
        }
    }

    /// The same, for a value that goes to another fibre: gives it an endpoint, this one's own if that is not needed here
    /// any more.
    fn give_away(&mut self, place: u8) -> Checked<Option<Channel<'p>>> {
        let held = &mut self.held[usize::from(place)];
        match held {
            Some(Held { values: 2.., channel }) => {
                let another = channel.dup()?;
                self.let_go(place);
                Ok(Some(another))
            }
            _ => Ok(held.take().map(|held| held.channel)),
        }
    }

    /// Pushes a value that names the channel. Of two endpoints of the same channel one is enough.
    pub fn push_channel(&mut self, channel: Channel<'p>) -> Checked<()> {
        if self.depth == VALUES {
            return Err(self.overflow());
        }
        let same = |held: &Option<Held<'_>>| held.as_ref().is_some_and(|held| held.channel.id == channel.id);
        let place = match self.held.iter().position(same).or_else(|| self.held.iter().position(Option::is_none)) {
            Some(place) => place,
            None => {
                return Err(format!("a fibre can hold {CHANNELS} channels; drop one, or let another fibre hold it"));
            }
        };
        match &mut self.held[place] {
            Some(held) => held.values += 1,
            empty => *empty = Some(Held { channel, values: 1 }),
        }
        self.push(Value::Channel(place as u8))
    }

    /// Moves the uppermost `count` values to an empty stack.
    pub fn move_to(&mut self, count: i64, to: &mut Stack<'p>) -> Checked<()> {
        let Some(from) = usize::try_from(count).ok().and_then(|count| self.depth.checked_sub(count)) else {
            let there = self.depth;
            return Err(format!("{count} values cannot be moved to the new fibre: there are {there}"));
        };
        for i in from..self.depth {
            match self.values[i] {
                Value::Number(number) => to.push_number(number)?,
                Value::Channel(place) => {
                    if let Some(channel) = self.give_away(place)? {
                        to.push_channel(channel)?;
                    }
                }
            }
        }
        self.depth = from;
        Ok(())
    }

    /// Takes a channel from the top, to be used until the word on it is [done](Self::done).
    fn begin(&mut self, direction: Direction) -> Checked<u8> {
        let place = match *self.top()? {
            [Value::Channel(place)] => place,
            [Value::Number(number)] => {
                return Err(format!("a channel is needed on the top of the stack, and there is the number {number}"));
            }
        };
        self.depth -= 1;
        self.using = Some((place, direction));
        Ok(place)
    }

    fn done(&mut self) {
        if let Some((place, _)) = self.using.take() {
            self.let_go(place);
        }
    }

    fn used(&mut self) -> Option<&mut Endpoint<'p, Message<'p>>> {
        let (place, _) = self.using?;
        Some(&mut self.held[usize::from(place)].as_mut()?.channel.endpoint)
    }

    /// `( value channel -- )`: offers the value.
    pub fn begin_send(&mut self) -> Checked<()> {
        let [value, _] = *self.top()?;
        self.begin(Direction::Write)?;
        let message = match value {
            Value::Number(number) => Some(Message::Number(number)),
            Value::Channel(place) => self.give_away(place)?.map(Message::Channel),
        };
        self.depth -= 1;
        if let (Some(endpoint), Some(message)) = (self.used(), message) {
            endpoint.begin_write(message);
        }
        Ok(())
    }

    /// Completes when the value was received.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Checked<()>> {
        let Some(endpoint) = self.used() else { return Poll::Pending };
        ready!(endpoint.poll_write(cx));
        self.done();
        Poll::Ready(Ok(()))
    }

    /// `( channel -- ... )`
    pub fn begin_receive(&mut self) -> Checked<()> {
        self.begin(Direction::Read).map(|_| ())
    }

    /// Completes with `( -- value )`.
    pub fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Checked<()>> {
        let Some(endpoint) = self.used() else { return Poll::Pending };
        let message = ready!(endpoint.poll_read(cx));
        Poll::Ready(self.received(message))
    }

    /// Completes with `( -- value 1 )` or `( -- 0 )`.
    pub fn poll_receive_or_end(&mut self, cx: &mut Context<'_>) -> Poll<Checked<()>> {
        let Some(endpoint) = self.used() else { return Poll::Pending };
        let result = match ready!(endpoint.poll_read_or_end(cx)) {
            Some(message) => self.received(message).and_then(|()| self.push_number(1)),
            None => {
                self.done();
                self.push_number(0)
            }
        };
        Poll::Ready(result)
    }

    fn received(&mut self, message: Message<'p>) -> Checked<()> {
        self.done();
        match message {
            Message::Number(number) => self.push_number(number),
            Message::Channel(channel) => self.push_channel(channel),
        }
    }
}

#[cold]
fn underflow(depth: usize, needs: usize) -> String {
    let (s, are) = if needs == 1 { ("", "is") } else { ("s", "are") };
    let has = match depth {
        0 => "none".to_owned(),
        _ => format!("only {depth}"),
    };
    format!("stack underflow: {needs} value{s} {are} needed, and there is {has}")
}

#[cold]
fn impossible(op: Binary, a: i64, b: i64) -> String {
    match op {
        Binary::Divide | Binary::Modulo if b == 0 => format!("division of {a} by zero; test for 0 before"),
        _ => format!("overflow: the result for {a} and {b} does not fit into 64 bits"),
    }
}
