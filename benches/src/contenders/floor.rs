//! The floor: a channel with room for one value, one waiting writer and one waiting reader, on the floor's executor.
//!
//! Not a peer. Nothing here can be cancelled or dropped while it waits, a second reader would be forgotten, and nobody
//! notices when a fibre can never run again. It is what the machine takes for the bare switching.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

pub(super) use super::floor_executor::spawn_batches;
use super::floor_executor::{Process, Task, run, spawn, wake};
use crate::workloads::{communications, skynet_ten_channels};

#[derive(Default)]
struct Channel {
    value: Cell<Option<u64>>,
    writer: Cell<Option<Task>>,
    reader: Cell<Option<Task>>,
}

type Writer = Rc<Channel>;
type Reader = Rc<Channel>;

#[inline]
fn channel(_: Process) -> (Writer, Reader) {
    let channel = Rc::new(Channel::default());
    (channel.clone(), channel)
}

impl Channel {
    #[inline]
    fn write(&self, value: u64) -> Write<'_> {
        Write { channel: self, value: Some(value) }
    }

    #[inline]
    fn read(&self) -> Read<'_> {
        Read { channel: self }
    }
}

struct Write<'a> {
    channel: &'a Channel,
    /// Until it is in the channel.
    value: Option<u64>,
}

impl Future for Write<'_> {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let channel = self.channel;
        let full = channel.value.get().is_some();
        if self.value.is_none() && !full {
            return Poll::Ready(()); // the reader took it
        }
        if !full {
            channel.value.set(self.value.take());
            if let Some(reader) = channel.reader.take() {
                wake(reader);
                return Poll::Ready(()); // it has nothing else to do than to take it
            }
        }
        channel.writer.set(Some(Task::running(context)));
        Poll::Pending
    }
}

struct Read<'a> {
    channel: &'a Channel,
}

impl Future for Read<'_> {
    type Output = u64;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<u64> {
        let channel = self.channel;
        if let Some(value) = channel.value.take() {
            if let Some(writer) = channel.writer.take() {
                wake(writer);
            }
            return Poll::Ready(value);
        }
        channel.reader.set(Some(Task::running(context)));
        Poll::Pending
    }
}

macro_rules! write_to {
    ($writer:ident, $value:expr) => {
        $writer.write($value).await
    };
}
macro_rules! read_from {
    ($reader:ident) => {
        $reader.read().await
    };
}

communications!(write_to, read_from);
skynet_ten_channels!(write_to, read_from);
