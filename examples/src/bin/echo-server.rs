//! A server that sends back what it receives. Each connection is two fibres with a channel between them: see
//! [`fibra_examples::echo`].
//!
//! ```sh
//! cargo run --release --bin echo-server -- --connections 10000      # then, elsewhere: echo-load, or nc 127.0.0.1 7007
//! ```
//!
//! All its fibres, channels and blocks come from a pool that is made for so many connections; one more is refused with a
//! message, and the others are served on. Ctrl-C (or SIGTERM) ends it in order: it accepts nothing more, sends what it has
//! received, closes the connections, and prints what became of its fibres and of its memory. Ctrl-C again ends it at once,
//! for peers that never pause, or that do not take what is theirs.

use std::io::Write;
use std::net::{TcpListener, ToSocketAddrs};
use std::process::ExitCode;

use async_io::Async;
use fibra_examples::command_line::{Output, Trouble, counted};
use fibra_examples::echo::{self, Pool, Tally};
use fibra_examples::options::{Command, Given, Number};
use fibra_std::{Error, Fate, Malloc, Report, Setup, SizeClasses, StopHandle};
use futures::channel::oneshot;

const CONNECTIONS: &str = "--connections";

const COMMAND: Command = Command {
    name: "echo-server",
    about: "Sends back what it receives, until Ctrl-C; then it closes the connections, and prints what that took. Ctrl-C\n\
            again ends it at once.",
    address: "127.0.0.1:7007",
    numbers: &[Number {
        option: CONNECTIONS,
        about: "how many connections it has memory for at once",
        default: 10_000,
        range: 1..=1_000_000,
    }],
};

fn main() -> ExitCode {
    COMMAND.run(serve)
}

fn serve(given: &Given, output: &mut Output) -> Result<(), Trouble> {
    let n_connections = given.number(CONNECTIONS);
    let no_memory = || Trouble::Memory(counted(n_connections, "connection"));
    let sizes = echo::sizes::<oneshot::Receiver<()>>(n_connections as usize).map_err(|_| no_memory())?;
    let pool = SizeClasses::in_parent(&sizes, Malloc).map_err(|_| no_memory())?;
    let listener = listen(&given.address)?;

    let (end, to_end) = oneshot::channel();
    let tally = Tally::default();
    let mut lost = String::new();
    let mut report = |report: &Report| {
        if report.fate() != Fate::Collapsed {
            lost += &format!("{report}\n");
        }
    };
    let run = Setup::with_allocator(&pool).isolate_panics().report(&mut report).run(|p| {
        on_signal(end, p.stop_handle())?;
        // Whoever reads this may connect, and may send a signal.
        writeln!(output, "listening on {}", listener.get_ref().local_addr()?)?;
        output.flush()?;
        echo::serve(p, &listener, to_end, &tally).map_err(|_| no_memory())
    });
    let outcome = match run {
        Ok((Ok(()), outcome)) => outcome,
        Ok((Err(trouble), _)) => return Err(trouble),
        Err(Error::OutOfMemory) => return Err(no_memory()),
        Err(error) => return Err(Trouble::Found(error.to_string())),
    };
    writeln!(output, "served {} connections, refused {}\n{lost}{outcome}", tally.served(), tally.refused())?;
    write!(output, "{}", pool.report())?;
    match live(&pool) {
        0 => Ok(()),
        live => Err(Trouble::Found(format!("{live} blocks are still live"))),
    }
}

fn listen(address: &str) -> Result<Async<TcpListener>, Trouble> {
    let bind = || {
        let mut error = None;
        for address in address.to_socket_addrs()? {
            match Async::<TcpListener>::bind(address) {
                Ok(listener) => return Ok(listener),
                Err(why) => error = Some(why),
            }
        }
        Err(error.unwrap_or_else(|| std::io::ErrorKind::NotFound.into()))
    };
    bind().map_err(|why| Trouble::Input(format!("cannot listen on {address}: {why}; give another ADDRESS")))
}

/// The first signal ends the server in order, the second at once.
fn on_signal(end: oneshot::Sender<()>, stop: Option<StopHandle>) -> Result<(), Trouble> {
    let mut end = Some(end);
    let handle = move || match (end.take(), stop) {
        (Some(end), _) => drop(end.send(())),
        (None, Some(stop)) => stop.stop(),
        (None, None) => {}
    };
    ctrlc::set_handler(handle).map_err(|error| Trouble::Found(format!("cannot handle Ctrl-C: {error}")))
}

fn live(pool: &Pool) -> usize {
    pool.classes().map(|class| class.live).sum()
}
