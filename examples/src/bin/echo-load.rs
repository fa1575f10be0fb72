//! Loads an echo server, and checks every byte that it sends back. It has nothing of fibra's in it: threads of control are
//! tokio's tasks.
//!
//! ```sh
//! cargo run --release --bin echo-load -- --connections 1000 --seconds 60      # with echo-server running elsewhere
//! ```
//!
//! It opens the connections, and on each sends messages of random length, one after the other, for as long as asked; a byte
//! depends on its connection and its place, so that one which is lost, doubled or changed shows. Then every tenth connection is reset
//! with messages on their way, and every tenth closes its side at once after a long message, all of which has still to come back. New
//! connections take their places, all send some more, and close. It prints how fast that was; the exit code is 0 if every byte
//! came back, each once and in its place, and 1 if not.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use fibra_examples::command_line::{Output, Trouble, counted};
use fibra_examples::options::{Command, Given, Number};
use fibra_examples::pattern::Pattern;
use futures::stream::{self, StreamExt, TryStreamExt};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

const CONNECTIONS: &str = "--connections";
const SECONDS: &str = "--seconds";
const MESSAGES: &str = "--messages";
const LONGEST: &str = "--longest";
const PATIENCE: &str = "--patience";

const COMMAND: Command = Command {
    name: "echo-load",
    about: "Loads an echo server: sends messages of random length on many connections, and checks every byte that comes back.\n\
            The exit code is 1 if one is lost or wrong.",
    address: "127.0.0.1:7007",
    numbers: &[
        Number { option: CONNECTIONS, about: "how many connections", default: 1000, range: 1..=1_000_000 },
        Number { option: SECONDS, about: "for how long", default: 60, range: 0..=1_000_000 },
        Number {
            option: MESSAGES,
            about: "how many messages on each connection, instead of for how long (0: as long as it takes)",
            default: 0,
            range: 0..=u32::MAX,
        },
        Number {
            option: LONGEST,
            about: "how long the longest message is, in bytes",
            default: 8192,
            range: 1..=1 << 30,
        },
        Number {
            option: PATIENCE,
            about: "for how many seconds nothing may come before what is missing counts as lost",
            default: 30,
            range: 1..=1_000_000,
        },
    ],
};

/// How many connections are being opened at once.
const OPENING: usize = 64;
/// What a connection that closes its side has on its way: more than the buffers of both sides hold.
const BURST: u64 = 1 << 20;
/// How many messages each connection sends after some have been dropped.
const AFTERWARDS: u32 = 10;
/// How many faults are shown.
const SHOWN: usize = 10;

fn main() -> ExitCode {
    COMMAND.run(|given, output| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let load = Load::new(given);
        LocalSet::new().block_on(&runtime, load.run(output))
    })
}

/// When a connection has sent enough.
#[derive(Clone, Copy)]
enum Until {
    /// At this time.
    Time(Instant),
    /// After so many messages.
    Messages(u32),
}

/// What is asked for, and what was found.
struct Load {
    address: String,
    n_connections: u32,
    seconds: u32,
    messages: u32,
    longest: u32,
    patience: Duration,
    seen: Rc<Seen>,
}

/// What has come back.
struct Seen {
    /// In nanoseconds.
    latencies: RefCell<Histogram<u64>>,
    messages: Cell<u64>,
    bytes: Cell<u64>,
}

impl Seen {
    fn add_bytes(&self, n: usize) {
        self.bytes.set(self.bytes.get() + n as u64);
    }
}

impl Load {
    fn new(given: &Given) -> Self {
        let latencies = Histogram::new_with_max(3_600_000_000_000, 3).expect("an hour, to three digits");
        let seen = Seen { latencies: RefCell::new(latencies), messages: Cell::new(0), bytes: Cell::new(0) };
        Load {
            address: given.address.clone(),
            n_connections: given.number(CONNECTIONS),
            seconds: given.number(SECONDS),
            messages: given.number(MESSAGES),
            longest: given.number(LONGEST),
            patience: Duration::from_secs(given.number(PATIENCE).into()),
            seen: Rc::new(seen),
        }
    }

    async fn run(&self, output: &mut Output) -> Result<(), Trouble> {
        let mut faults = Vec::new();
        let clients = self.open(0, self.n_connections).await?;

        let begin = Instant::now();
        let until = match self.messages {
            0 => Until::Time(begin + Duration::from_secs(self.seconds.into())),
            messages => Until::Messages(messages),
        };
        let bar = self.progress(until, clients.len());
        let mut clients = self.wait_for(clients, &mut faults, &bar, |client| client.send_until(until)).await;
        let took = begin.elapsed();
        let summary = self.summary(took);

        let kept = clients.split_off(clients.len().div_ceil(5));
        let (n_dropped, n_reset) = (clients.len(), clients.len().div_ceil(2));
        let half_closed = clients.split_off(n_reset);
        self.wait_for(clients, &mut faults, &bar, Client::reset).await;
        self.wait_for(half_closed, &mut faults, &bar, |client| client.finish(BURST)).await;
        let mut clients = self.open(self.n_connections, n_dropped as u32).await?;
        clients.extend(kept);
        let until = Until::Messages(AFTERWARDS);
        let clients = self.wait_for(clients, &mut faults, &bar, |client| client.send_until(until)).await;
        self.wait_for(clients, &mut faults, &bar, |client| client.finish(0)).await;
        bar.finish_and_clear();

        writeln!(output, "{}: {summary}", counted(self.n_connections, "connection"))?;
        writeln!(
            output,
            "dropped {n_dropped} ({n_reset} reset, {} half-closed with {BURST} bytes to come), and opened as many",
            n_dropped - n_reset
        )?;
        if faults.is_empty() {
            return Ok(writeln!(output, "every byte came back")?);
        }
        for fault in faults.iter().take(SHOWN) {
            writeln!(output, "{fault}")?;
        }
        let n_faults = counted(u32::try_from(faults.len()).unwrap_or(u32::MAX), "fault");
        Err(Trouble::Found(format!("{n_faults}; the server is not a faithful echo, or went away")))
    }

    async fn open(&self, first: u32, n: u32) -> Result<Vec<Client>, Trouble> {
        let bar = progress(n.into(), "opening");
        let clients = stream::iter(first..first + n)
            .map(|id| Client::open(&self.address, id, self.longest, self.seen.clone()))
            .buffer_unordered(OPENING)
            .inspect(|_| bar.inc(1))
            .try_collect()
            .await;
        bar.finish_and_clear();
        clients.map_err(|error| {
            let what = format!("cannot connect to {}: {error}", self.address);
            Trouble::Input(format!("{what}; is there a server, and are enough open files allowed (ulimit -n)?"))
        })
    }

    /// Runs a task for each client, until all are done or nothing comes any more. Gives the clients that go on.
    async fn wait_for<T: 'static, F: Future<Output = Result<T, Fault>> + 'static>(
        &self,
        clients: Vec<Client>,
        faults: &mut Vec<Fault>,
        bar: &Progress,
        task: impl Fn(Client) -> F,
    ) -> Vec<T> {
        let mut tasks = JoinSet::new();
        for client in clients {
            tasks.spawn_local(task(client));
        }
        let mut done = Vec::with_capacity(tasks.len());
        let (mut last, mut since) = (self.seen.bytes.get(), Instant::now());
        loop {
            match timeout(Progress::STEP, tasks.join_next()).await {
                Ok(None) => return done,
                Ok(Some(Ok(Ok(client)))) => done.push(client),
                Ok(Some(Ok(Err(fault)))) => faults.push(fault),
                Ok(Some(Err(panicked))) => std::panic::resume_unwind(panicked.into_panic()),
                Err(_) => bar.show(&self.seen),
            }
            let now = self.seen.bytes.get();
            if now != last || bar.is_before_end() {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > self.patience {
                let n_waiting = tasks.len() as u32;
                faults.push(Fault::Silence { n_waiting, patience: self.patience });
                return done;
            }
        }
    }

    fn summary(&self, took: Duration) -> String {
        let Seen { latencies, messages, bytes } = &*self.seen;
        let latencies = latencies.borrow();
        let at = |quantile| Duration::from_nanos(latencies.value_at_quantile(quantile));
        let (seconds, megabytes) = (took.as_secs_f64(), bytes.get() as f64 / 1e6);
        format!(
            "{} messages in {seconds:.1} s, {:.0} a second; {megabytes:.1} MB each way, {:.1} MB a second\n\
             latency: median {:.1?}, 99 % {:.1?}, worst {:.1?}",
            messages.get(),
            messages.get() as f64 / seconds,
            megabytes / seconds,
            at(0.5),
            at(0.99),
            Duration::from_nanos(latencies.max()),
        )
    }

    fn progress(&self, until: Until, n_clients: usize) -> Progress {
        let length = match until {
            Until::Time(_) => u64::from(self.seconds) * 1000,
            Until::Messages(messages) => u64::from(messages) * n_clients as u64,
        };
        Progress { bar: progress(length, "sending"), begin: Instant::now(), until }
    }
}

/// A connection, and how far it has come.
struct Client {
    id: u32,
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    pattern: Pattern,
    random: Rng,
    longest: u32,
    sent: u64,
    back: u64,
    seen: Rc<Seen>,
}

impl Client {
    async fn open(address: &str, id: u32, longest: u32, seen: Rc<Seen>) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        // Else the last part of a longer message waits for the server's acknowledgement.
        stream.set_nodelay(true)?;
        let (from, to) = stream.into_split();
        let (pattern, random) = (Pattern::new(id.into()), Rng::with_seed(id.into()));
        Ok(Client { id, from, to, pattern, random, longest, sent: 0, back: 0, seen })
    }

    /// Sends messages, each when the one before has come back.
    async fn send_until(mut self, until: Until) -> Result<Self, Fault> {
        let mut messages = 0;
        while match until {
            Until::Time(end) => Instant::now() < end,
            Until::Messages(enough) => messages < enough,
        } {
            let length = self.random.u32(1..=self.longest).into();
            let begin = Instant::now();
            self.exchange(length, Close::No).await?;
            let nanoseconds = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.seen.latencies.borrow_mut().saturating_record(nanoseconds);
            self.seen.messages.set(self.seen.messages.get() + 1);
            messages += 1;
        }
        Ok(self)
    }

    /// Sends so many bytes, closes this side, and sees that all comes back, and nothing more.
    async fn finish(mut self, length: u64) -> Result<(), Fault> {
        self.exchange(length, Close::Yes).await
    }

    /// Sends some messages, and goes without looking back.
    async fn reset(mut self) -> Result<(), Fault> {
        for _ in 0..AFTERWARDS {
            let length = self.random.u32(1..=self.longest).into();
            let (at, id) = (self.sent, self.id);
            self.sent += length;
            let write = write(&mut self.to, &self.pattern, at, length, Close::No);
            // The server reads no more while nothing is read here.
            if let Ok(result) = timeout(Duration::from_millis(10), write).await {
                result.map_err(|error| Fault::Write { id, error })?;
            }
        }
        let reset = self.from.as_ref().set_zero_linger();
        reset.map_err(|error| Fault::Write { id: self.id, error })
    }

    /// Sends so many bytes, and waits until they have come back; or until the end of the stream, if this side closes.
    async fn exchange(&mut self, length: u64, close: Close) -> Result<(), Fault> {
        let Client { id, from, to, pattern, sent, back, seen, .. } = self;
        let (id, at) = (*id, *sent);
        *sent += length;
        let write = async { write(to, pattern, at, length, close).await.map_err(|error| Fault::Write { id, error }) };
        let read = async {
            let mut bytes = [0; PART];
            while *back < *sent || close == Close::Yes {
                match from.read(&mut bytes).await {
                    Ok(0) if *back == *sent => return Ok(()),
                    Ok(0) => return Err(Fault::Lost { id, sent: *sent, back: *back }),
                    Ok(n) => {
                        let surplus = (*back + n as u64).saturating_sub(*sent);
                        let wrong = pattern.first_wrong(*back, &bytes[..n - surplus.min(n as u64) as usize]);
                        if let Some(nth) = wrong {
                            return Err(Fault::Wrong { id, place: *back + nth as u64 });
                        }
                        if surplus > 0 {
                            return Err(Fault::Surplus { id, sent: *sent });
                        }
                        *back += n as u64;
                        seen.add_bytes(n);
                    }
                    Err(error) => return Err(Fault::Read { id, sent: *sent, back: *back, error }),
                }
            }
            Ok(())
        };
        futures::try_join!(write, read).map(|_| ())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Close {
    No,
    Yes,
}

/// How much is made, sent, and read at once.
const PART: usize = 8192;

async fn write(
    to: &mut OwnedWriteHalf,
    pattern: &Pattern,
    mut at: u64,
    length: u64,
    close: Close,
) -> std::io::Result<()> {
    let mut bytes = [0; PART];
    let end = at + length;
    while at < end {
        let part = &mut bytes[..(end - at).min(PART as u64) as usize];
        pattern.fill(at, part);
        to.write_all(part).await?;
        at += part.len() as u64;
    }
    if close == Close::Yes { to.shutdown().await } else { Ok(()) }
}

/// What a server must not do.
enum Fault {
    Wrong { id: u32, place: u64 },
    Surplus { id: u32, sent: u64 },
    Lost { id: u32, sent: u64, back: u64 },
    Read { id: u32, sent: u64, back: u64, error: std::io::Error },
    Write { id: u32, error: std::io::Error },
    Silence { n_waiting: u32, patience: Duration },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Wrong { id, place } => write!(f, "connection {id}: byte {place} came back wrong"),
            Fault::Surplus { id, sent } => write!(f, "connection {id}: more came back than the {sent} bytes sent"),
            Fault::Lost { id, sent, back } => {
                write!(f, "connection {id}: the server closed it after {back} of {sent} bytes")
            }
            Fault::Read { id, sent, back, error } => {
                write!(f, "connection {id}: nothing can be read after {back} of {sent} bytes: {error}")
            }
            Fault::Write { id, error } => write!(f, "connection {id}: nothing can be sent: {error}"),
            Fault::Silence { n_waiting, patience } => {
                let waiting = counted(*n_waiting, "connection");
                write!(f, "{waiting} waited {patience:?} for bytes that did not come")
            }
        }
    }
}

/// How far the sending has come, for somebody who watches.
struct Progress {
    bar: ProgressBar,
    begin: Instant,
    until: Until,
}

impl Progress {
    const STEP: Duration = Duration::from_millis(100);

    fn show(&self, seen: &Seen) {
        let messages = seen.messages.get();
        self.bar.set_message(format!("{messages} messages"));
        match self.until {
            Until::Time(_) => self.bar.set_position(self.begin.elapsed().as_millis() as u64),
            Until::Messages(_) => self.bar.set_position(messages),
        }
    }

    fn is_before_end(&self) -> bool {
        matches!(self.until, Until::Time(end) if Instant::now() < end)
    }

    fn finish_and_clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// On a terminal, and not in a continuous integration's log.
fn progress(length: u64, what: &'static str) -> ProgressBar {
    let target = match std::env::var_os("CI") {
        Some(_) => ProgressDrawTarget::hidden(),
        None => ProgressDrawTarget::stderr(), // hidden where it is no terminal
    };
    let style = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {eta}").expect("a valid template");
    ProgressBar::with_draw_target(Some(length), target).with_style(style).with_message(what)
}
