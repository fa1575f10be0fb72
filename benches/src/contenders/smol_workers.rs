//! What smol is made of: async-executor's static executor, run by as many threads as there are workers, and
//! async-channel's channel of capacity one.

use std::future::Future;
use std::thread;

use async_channel::{Receiver, Sender};
use async_executor::StaticExecutor;
use futures_lite::future::block_on;
use tokio::sync::oneshot;

use crate::workers::{self, CONSUMERS, outside, round_trip, worker_bodies};
use crate::workloads::{Answer, communications, skynet_one_channel};

type Process = &'static StaticExecutor;
type Writer = Sender<u64>;
type Reader = Receiver<u64>;

fn run(set_up: impl FnOnce(Process, Answer) + Send + 'static) -> u64 {
    // A new one for each run, so that what one leaves behind is not in the next one's way.
    let executor: Process = Box::leak(Box::new(StaticExecutor::new()));
    let (stop, stopped) = async_channel::bounded::<()>(1);
    thread::scope(|s| {
        for _ in 0..workers::number() {
            s.spawn(|| block_on(executor.run(stopped.recv())));
        }
        let (answer, result) = oneshot::channel();
        executor.spawn(async move { set_up(executor, answer) }).detach();
        let result = block_on(result);
        drop(stop);
        result.expect("the network ended without an answer")
    })
}

#[inline]
fn spawn(p: Process, future: impl Future<Output = ()> + Send + 'static) {
    p.spawn(future).detach();
}

#[inline]
fn channel(_: Process) -> (Writer, Reader) {
    async_channel::bounded(1)
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
        $writer.send_blocking($value).expect("the reader is there")
    };
}
macro_rules! recv_blocking {
    ($reader:ident) => {
        $reader.recv_blocking().expect("the writer is there")
    };
}

communications!(send, recv);
skynet_one_channel!(send, recv, [] Process, Writer, Send);
worker_bodies!(send, recv, recv);
round_trip!(send, recv, send_blocking, recv_blocking);
outside!(send, recv, spawn);
