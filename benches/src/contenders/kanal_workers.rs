//! kanal's channel of capacity zero, on tokio's multi-threaded runtime.

use super::tokio_workers::{Process, run, spawn};
use crate::workers::{CONSUMERS, outside, round_trip, worker_bodies};
use crate::workloads::{communications, skynet_one_channel};

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

fn share(reader: Reader) -> [Reader; CONSUMERS] {
    std::array::from_fn(|_| reader.clone())
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
macro_rules! send_blocking {
    ($writer:ident, $value:expr) => {
        $writer.as_sync().send($value).expect("the reader is there")
    };
}
macro_rules! recv_blocking {
    ($reader:ident) => {
        $reader.as_sync().recv().expect("the writer is there")
    };
}

communications!(send, recv);
skynet_one_channel!(send, recv, [] Process, Writer, Send);
worker_bodies!(send, recv, recv);
round_trip!(send, recv, send_blocking, recv_blocking);
outside!(send, recv, spawn);
