//! tokio's multi-threaded runtime, with its `mpsc` channel of capacity one.

use std::future::Future;
use std::sync::Arc;

use tokio::runtime::Builder;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::workers::{self, CONSUMERS, outside, round_trip, worker_bodies};
use crate::workloads::{Answer, communications, skynet_one_channel};

/// tokio finds its runtime by itself.
#[derive(Clone, Copy)]
pub(super) struct Process;

type Writer = mpsc::Sender<u64>;
type Reader = mpsc::Receiver<u64>;
type SharedReader = Arc<Mutex<Reader>>;

pub(super) fn run(set_up: impl FnOnce(Process, Answer) + Send + 'static) -> u64 {
    let runtime = Builder::new_multi_thread().worker_threads(workers::number()).build();
    runtime.expect("the system has threads").block_on(async {
        let (answer, result) = oneshot::channel();
        tokio::spawn(async move { set_up(Process, answer) });
        result.await.expect("the network ended without an answer")
    })
}

#[inline]
pub(super) fn spawn(_: Process, future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}

#[inline]
fn channel(_: Process) -> (Writer, Reader) {
    mpsc::channel(1)
}

#[inline]
fn duplicate(writer: &Writer) -> Writer {
    writer.clone()
}

fn share(reader: Reader) -> [SharedReader; CONSUMERS] {
    let shared = Arc::new(Mutex::new(reader));
    std::array::from_fn(|_| shared.clone())
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
macro_rules! recv_shared {
    ($reader:ident) => {
        $reader.lock().await.recv().await.expect("the writer is there")
    };
}
macro_rules! send_blocking {
    ($writer:ident, $value:expr) => {
        $writer.blocking_send($value).expect("the reader is there")
    };
}
macro_rules! recv_blocking {
    ($reader:ident) => {
        $reader.blocking_recv().expect("the writer is there")
    };
}

communications!(send, recv);
skynet_one_channel!(send, recv, [] Process, Writer, Send);
worker_bodies!(send, recv, recv_shared);
round_trip!(send, recv, send_blocking, recv_blocking);
outside!(send, recv, spawn);
