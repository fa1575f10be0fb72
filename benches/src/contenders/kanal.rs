//! kanal's channel of capacity zero, on tokio's current-thread runtime.

use std::future::Future;

use super::tokio::{Process, run, spawn};
use crate::workloads::{communications, skynet_one_channel};

pub(super) use super::tokio::spawn_batches;

type Writer = kanal::AsyncSender<u64>;
type Reader = kanal::AsyncReceiver<u64>;

#[inline]
fn channel(_: Process) -> (Writer, Reader) {
    kanal::bounded_async(0)
}

#[inline]
fn duplicate(writer: &Writer) -> Writer {
    writer.clone()
}

macro_rules! send {
    ($writer:ident, $value:expr) => {
        $writer.send($value).await.expect("the reader is there")
    };
}
macro_rules! recv {
    ($reader:ident) => {
        $reader.recv().await.expect("the writer is there")
    };
}

communications!(send, recv);
skynet_one_channel!(send, recv, [] Process, Writer, Send);
