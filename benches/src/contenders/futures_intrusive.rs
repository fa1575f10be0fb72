//! futures-intrusive's unbuffered local channel, on the floor's executor: it brings none, and this is
//! the cheapest there is. Its channel keeps the floor's promises: a waker is used once, and dropped with the future that
//! left it.

use std::future::Future;
use std::rc::Rc;

use futures_intrusive::channel::LocalUnbufferedChannel;

use super::floor_executor::{Process, run, spawn};
use crate::workloads::{communications, skynet_one_channel};

pub(super) use super::floor_executor::spawn_batches;

type Writer = Rc<LocalUnbufferedChannel<u64>>;
type Reader = Writer;

#[inline]
fn channel(_: Process) -> (Writer, Reader) {
    let channel = Rc::new(LocalUnbufferedChannel::new());
    (channel.clone(), channel)
}

#[inline]
fn duplicate(writer: &Writer) -> Writer {
    writer.clone()
}

macro_rules! send {
    ($writer:ident, $value:expr) => {
        $writer.send($value).await.expect("nobody closes it")
    };
}
macro_rules! receive {
    ($reader:ident) => {
        $reader.receive().await.expect("nobody closes it")
    };
}

communications!(send, receive);
skynet_one_channel!(send, receive, [] Process, Writer);
