//! An echo server made of fibres. Each connection is two of them and a channel.
//!
//! ```text
//!              accept ---- stop, which nothing is ever written to
//!                            |
//!                            v
//!   socket -------------> receive ---- blocks ----> send -------------> socket
//! ```
//!
//! It ends without a word being said:
//!
//! - The peer has no more to say: `receive` ends, and with it the channel's writer. `send` first sends what it has, for as long
//!   as it waits for the socket it is alive; then it waits for a block that cannot come, and collapses. With it goes the
//!   socket, which by then has everything. So a peer that closes its side gets all of its bytes back.
//! - The peer does not take its bytes any more: `send` ends, and with it the channel's reader. If `receive` waits to write, it
//!   collapses. It may as well wait for the socket, which keeps it alive: therefore what `send` holds is a [`Sending`], which
//!   closes the connection when it is dropped, for whatever reason.
//! - The server is to end: `accept` ends, and with it the writer of `stop`. Each `receive` hears of that when nothing more
//!   has come, and the rest happens as above.

extern crate std;

use core::convert::Infallible;
use core::fmt;
use core::ops::Deref;
use core::pin::pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use async_io::{Async, Timer};
use fibra_allocators::{AllocRef, Extent, FixupError, Layout, MemReq, PoolBox, SizeClasses, Table, fixup};
use fibra_core::{
    Process, Reader, SpawnErrorKind, Writer, channel_layout, dup_layout, fibre_layout_with_options, yield_now,
};
use fibra_std::Malloc;
use futures::AsyncWriteExt;
use futures::future::{Either, select};

/// A socket that two fibres use.
pub type Socket = Arc<Async<TcpStream>>;

/// What is read from a socket at once. It is moved from fibre to fibre, not copied.
pub struct Block {
    len: usize,
    bytes: [u8; Self::SIZE],
}

impl Block {
    /// In bytes: a page together with the length.
    pub const SIZE: usize = 4096 - size_of::<usize>();

    /// What has come, in a block of its own; `None` if nothing more will.
    fn receive<A: AllocRef>(mut from: impl Read, memory: &A) -> io::Result<Option<PoolBox<Self, A>>> {
        let empty = || Block { len: 0, bytes: [0; Self::SIZE] };
        let mut block = PoolBox::new_with_in(empty, memory.clone()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        block.len = from.read(&mut block.bytes)?;
        Ok((block.len != 0).then_some(block))
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What the server has done so far. Threads may share it.
#[derive(Debug, Default)]
pub struct Tally {
    served: AtomicUsize,
    refused: AtomicUsize,
}

impl Tally {
    /// How many connections were taken on.
    #[must_use]
    pub fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// How many were refused.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Counts a connection.
    fn count(&self, peer: SocketAddr, connected: Result<(), SpawnErrorKind>) {
        match connected {
            Ok(()) => self.served.fetch_add(1, Ordering::Relaxed),
            Err(why) => {
                complain(format_args!("refused {peer}: {why}"));
                self.refused.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

/// If it cannot be written, there is nobody to tell.
fn complain(what: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{what}");
}

/// Spawns the fibre that accepts connections, until `end`.
///
/// # Errors
/// If there is no memory for it.
pub fn serve<'p, A: AllocRef>(
    p: &'p Process<'p, '_, A>,
    listener: &'p Async<TcpListener>,
    end: impl Future + 'p,
    tally: &'p Tally,
) -> Result<(), SpawnErrorKind> {
    let stop = p.channel().map_err(|_| SpawnErrorKind::OutOfMemory)?;
    let accepting = accept(p, listener, end, stop, tally);
    p.fibre().name("accept").essential().waker().spawn(accepting).map_err(|error| error.kind)
}

/// Accepts connections, until `end`; then the reader of `stop` is told.
pub async fn accept<'p, A: AllocRef>(
    p: &'p Process<'p, '_, A>,
    listener: &Async<TcpListener>,
    end: impl Future,
    stop: (Writer<'p, Infallible>, Reader<'p, Infallible>),
    tally: &Tally,
) {
    /// An attempt after the system ran out of descriptors fails at once, and so would the next.
    const PAUSE: Duration = Duration::from_millis(100);

    let (_running, stop) = stop;
    let mut end = pin!(end);
    loop {
        match select(&mut end, pin!(listener.accept())).await {
            Either::Left(_) => return,
            Either::Right((Ok((socket, peer)), _)) => tally.count(peer, connect(p, socket, &stop)),
            Either::Right((Err(error), _)) => {
                complain(format_args!("cannot accept a connection: {error}"));
                Timer::after(PAUSE).await;
            }
        }
        // However many queue for it, those that are being served come first.
        yield_now().await;
    }
}

/// Spawns the two fibres of a connection. Without memory for both, the connection is closed.
///
/// # Errors
/// If there is no memory for it.
pub fn connect<'p, A: AllocRef>(
    p: &'p Process<'p, '_, A>,
    socket: Async<TcpStream>,
    stop: &Reader<'p, Infallible>,
) -> Result<(), SpawnErrorKind> {
    // Else the last part of a longer message waits for the peer's acknowledgement. If that cannot be had, it is only slower.
    let _ = socket.get_ref().set_nodelay(true);
    let socket = Arc::new(socket);
    let sending = Sending(socket.clone());
    let no_memory = |_| SpawnErrorKind::OutOfMemory;
    let (to, from) = p.channel().map_err(no_memory)?;
    let stop = stop.dup().map_err(no_memory)?;
    p.fibre().name("send").waker().spawn(send(from, sending)).map_err(|error| error.kind)?;
    let receiving = receive(socket, p.allocator().clone(), to, stop);
    p.fibre().name("receive").waker().spawn(receiving).map_err(|error| error.kind)
}

/// Reads blocks from the socket, and writes them to the channel.
pub async fn receive<'p, A: AllocRef>(
    socket: Socket,
    memory: A,
    mut to: Writer<'p, PoolBox<Block, A>>,
    mut stop: Reader<'p, Infallible>,
) {
    loop {
        // A block is taken only for what has come, so connections that rest need none.
        let received = pin!(socket.read_with(|from| Block::receive(from, &memory)));
        // Both waits end here: one on `stop` that went on would keep this fibre alive when nobody takes its blocks.
        let received = match select(received, stop.read_or_end()).await {
            Either::Left((received, _)) => received,
            Either::Right(_) => return,
        };
        match received {
            Ok(Some(block)) => to.write(block).await,
            Ok(None) => return,
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => return complain("no block for what has come"),
            Err(_) => return,
        }
    }
}

/// Reads blocks from the channel, and writes them to the socket.
pub async fn send<A: AllocRef>(mut from: Reader<'_, PoolBox<Block, A>>, socket: Sending) {
    loop {
        let block = from.read().await;
        if (&**socket).write_all(&block).await.is_err() {
            return;
        }
    }
}

/// A hold on a connection that closes it, so that whoever waits for the socket hears of it.
pub struct Sending(pub Socket);

impl Deref for Sending {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.0
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // Fails if the peer was faster.
        let _ = self.0.get_ref().shutdown(Shutdown::Both);
    }
}

const N_SIZES: usize = 7;

/// The memory of a server: size classes from the host's memory.
pub type Pool = SizeClasses<N_SIZES, Extent<Malloc>>;

/// What a server needs for so many connections at once, and for an `end` of this type.
///
/// # Errors
/// If it is more than can be addressed, or for no connection at all.
pub fn sizes<E: Future>(n_connections: usize) -> Result<Table<N_SIZES>, FixupError> {
    type Memory = &'static Pool;
    type Message = PoolBox<Block, Memory>;

    fn layout_of<X, F: Future<Output = ()>>(_: impl Fn(X) -> F) -> Layout {
        fibre_layout_with_options::<F>()
    }
    let accept = layout_of(|(p, listener, end, stop, tally): (&'static Process<'_, '_, Memory>, _, E, _, _)| {
        accept(p, listener, end, stop, tally)
    });
    let receive = layout_of(|(socket, memory, to, stop): (_, Memory, _, _)| receive(socket, memory, to, stop));
    let send = layout_of(|(from, sending): (Reader<'_, Message>, _)| send(from, sending));
    let row = |layout: Layout, n_blocks| MemReq::new(layout.size(), n_blocks);
    fixup([
        row(accept, 1),
        row(channel_layout::<Infallible>(), 1),
        row(channel_layout::<Message>(), n_connections),
        row(dup_layout::<Infallible>(), n_connections),
        row(receive, n_connections),
        row(send, n_connections),
        // One that is being received or waits to be read, and one that is being sent.
        row(Layout::new::<Block>(), n_connections.saturating_mul(2)),
    ])
}
