//! embassy's raw executor, with its channel of capacity one and a mutex that does nothing.

use std::future::Future;
use std::rc::Rc;

use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::channel::Channel;

use super::embassy_executor::{Process, run, spawn};
use crate::workloads::{communications, skynet_ten_channels};

pub(super) use super::embassy_executor::spawn_batches;

type Writer = Rc<Channel<NoopRawMutex, u64, 1>>;
type Reader = Writer;

#[inline]
fn channel(_: Process) -> (Writer, Reader) {
    let channel = Rc::new(Channel::new());
    (channel.clone(), channel)
}

macro_rules! send {
    ($writer:ident, $value:expr) => {
        $writer.send($value).await
    };
}
macro_rules! receive {
    ($reader:ident) => {
        $reader.receive().await
    };
}

communications!(send, receive);
skynet_ten_channels!(send, receive);
