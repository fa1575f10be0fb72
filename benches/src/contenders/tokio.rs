//! tokio's current-thread runtime, with its `mpsc` channel of capacity one.

use std::future::Future;

use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};

use crate::workloads::{Answer, batches, child_ran, communications, skynet_one_channel};

/// tokio finds its runtime by itself.
#[derive(Clone, Copy)]
pub(super) struct Process;

type Writer = mpsc::Sender<u64>;
type Reader = mpsc::Receiver<u64>;

pub(super) fn run(set_up: impl FnOnce(Process, Answer)) -> u64 {
    let runtime = Builder::new_current_thread().build().expect("a runtime without drivers needs nothing");
    runtime.block_on(async {
        let (answer, result) = oneshot::channel();
        set_up(Process, answer);
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

/// kanal runs on the same executor, so this is its figure too.
pub(super) fn spawn_batches(n: u64) -> u64 {
    run(move |p, answer| {
        spawn(p, async move {
            let ran = batches(n, || spawn(p, async { child_ran() })).await;
            let _ = answer.send(ran);
        });
    })
}
