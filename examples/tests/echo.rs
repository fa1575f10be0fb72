//! The echo server and its load generator: no byte is lost, nothing stays behind, and who is unfaithful is found out.
#![cfg(unix)]

use std::convert::Infallible;
use std::future::Pending;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use async_io::Async;
use fibra_examples::echo::{self, Block};
use fibra_examples::pattern::Pattern;
use fibra_std::{AllocRef, Malloc, MemReq, Outcome, Setup, SizeClasses, SpawnErrorKind, table};

const SERVER: &str = env!("CARGO_BIN_EXE_echo-server");
const LOAD: &str = env!("CARGO_BIN_EXE_echo-load");

/// A server in a process of its own.
struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    complaints: BufReader<ChildStderr>,
    address: SocketAddr,
}

/// How a server ended.
struct End {
    success: bool,
    output: String,
    complaints: String,
}

impl Server {
    fn start(n_connections: usize) -> Self {
        let mut command = Command::new(SERVER);
        command.args(["--connections", &n_connections.to_string(), "127.0.0.1:0"]);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the server starts");
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let complaints = BufReader::new(child.stderr.take().unwrap());
        let mut first = String::new();
        output.read_line(&mut first).unwrap();
        let address = first.strip_prefix("listening on ").expect(&first).trim_end().parse().unwrap();
        Server { child, output, complaints, address }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// A connection that is being served.
    fn served(&self) -> TcpStream {
        let mut stream = self.connect();
        assert_eq!(ask(&mut stream, b'?').unwrap(), Some(b'?'));
        stream
    }

    fn signal(&self, signal: &str) {
        let killed = Command::new("sh").args(["-c", "kill -$0 $1", signal, &self.child.id().to_string()]).status();
        assert!(killed.unwrap().success());
    }

    fn end(mut self) -> End {
        self.signal("TERM");
        self.wait()
    }

    fn wait(&mut self) -> End {
        let (mut output, mut complaints) = (String::new(), String::new());
        self.output.read_to_string(&mut output).unwrap();
        self.complaints.read_to_string(&mut complaints).unwrap();
        End { success: self.child.wait().unwrap().success(), output, complaints }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl End {
    /// Connections that were served, and that were refused.
    fn connections(&self) -> (usize, usize) {
        let line = self.output.lines().next().expect("a line of connections");
        let (served, refused) = line.strip_prefix("served ").unwrap().split_once(" connections, refused ").unwrap();
        (served.parse().unwrap(), refused.parse().unwrap())
    }

    /// How many fibres, by what became of them.
    fn fibres(&self) -> Vec<(usize, String)> {
        let line = self.output.lines().nth(1).expect("a line of fibres");
        let counts = line.split(", ").map(|part| part.split_once(' ').unwrap());
        counts.map(|(n, fate)| (n.parse().unwrap(), fate.to_owned())).collect()
    }

    /// What is live in all, in the last line of the pool's table.
    fn live(&self) -> usize {
        let all = self.output.lines().last().unwrap().trim_start().strip_prefix("all ").expect(&self.output);
        all.split_whitespace().last().unwrap().parse().unwrap()
    }

    /// All fibres of all connections have ended as they should, and left nothing behind.
    fn is_in_order(&self) {
        assert!(self.success, "{}", self.output);
        assert_eq!(self.live(), 0, "{}", self.output);
        let fibres = self.fibres();
        assert_eq!(fibres.iter().map(|(n, _)| n).sum::<usize>(), 2 * self.connections().0 + 1, "{}", self.output);
        assert!(fibres.iter().all(|(_, fate)| fate == "finished" || fate == "collapsed"), "{}", self.output);
    }
}

/// Sends a byte, and gives what comes back; `None` if the connection is closed.
fn ask(stream: &mut TcpStream, byte: u8) -> io::Result<Option<u8>> {
    stream.write_all(&[byte])?;
    let mut back = [0];
    Ok((stream.read(&mut back)? == 1).then_some(back[0]))
}

/// Whether the other side has closed the connection, in whatever way.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.read(&mut [0]).is_ok_and(|n| n == 0)
        || stream.read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

fn bytes(n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    Pattern::new(1).fill(0, &mut bytes);
    bytes
}

fn load(address: SocketAddr, options: &[&str]) -> Output {
    Command::new(LOAD).args(options).arg(address.to_string()).output().expect("the load starts")
}

#[test]
fn fifty_connections_get_every_byte_back_and_nothing_stays() {
    let server = Server::start(60);
    let output = load(server.address, &["--connections", "50", "--messages", "800"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.starts_with("50 connections: 40000 messages in "), "{printed}");
    assert!(printed.contains("\ndropped 10 (5 reset, 5 half-closed"), "{printed}");
    assert!(printed.ends_with("\nevery byte came back\n"), "{printed}");

    let end = server.end();
    end.is_in_order();
    assert_eq!(end.complaints, "");
    assert_eq!(end.connections(), (60, 0));
    let collapsed = end.fibres().iter().find(|(_, fate)| fate == "collapsed").unwrap().0;
    assert!(collapsed >= 50, "the sending fibres of those that were not reset: {}", end.output);
}

#[test]
fn a_server_without_connections_ends_with_its_first_fibre() {
    let end = Server::start(1).end();
    end.is_in_order();
    assert_eq!((end.connections(), end.fibres()[0].0), ((0, 0), 1));
}

#[test]
fn one_connection_too_many_is_refused_with_a_message_and_the_others_are_served() {
    let server = Server::start(2);
    let (mut one, mut two) = (server.served(), server.served());
    let mut three = server.connect();
    assert!(is_closed(&mut three));
    for stream in [&mut one, &mut two] {
        assert_eq!(ask(stream, 7).unwrap(), Some(7));
    }
    // When one has gone, there is room for another.
    one.shutdown(Shutdown::Write).unwrap();
    assert_eq!(one.read(&mut [0]).unwrap(), 0);
    let mut four = server.served();
    assert_eq!(ask(&mut two, 8).unwrap(), Some(8));
    assert_eq!(ask(&mut four, 9).unwrap(), Some(9));
    let refused = three.local_addr().unwrap();
    drop((two, four));
    let end = server.end();
    end.is_in_order();
    assert_eq!(end.connections(), (3, 1));
    assert!(end.complaints.starts_with(&format!("refused {refused}: ")), "{}", end.complaints);
    assert_eq!(end.complaints.lines().count(), 1, "{}", end.complaints);
}

#[test]
fn a_peer_that_closes_its_side_gets_back_what_it_sent_before() {
    // From nothing to more than all buffers on the way hold.
    for n in [0, 1, Block::SIZE - 1, Block::SIZE, Block::SIZE + 1, 1 << 24] {
        let server = Server::start(1);
        let mut stream = server.connect();
        let sent = bytes(n);
        let back = thread::scope(|s| {
            let mut to = stream.try_clone().unwrap();
            let sent = &sent;
            s.spawn(move || {
                to.write_all(sent).unwrap();
                to.shutdown(Shutdown::Write).unwrap();
            });
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            back
        });
        assert!(back == sent, "{} of {n} bytes came back", back.len());
        let end = server.end();
        end.is_in_order();
        assert_eq!(end.output.lines().nth(1), Some("2 finished, 1 collapsed"));
    }
}

#[test]
fn a_peer_that_resets_takes_its_fibres_along() {
    let server = Server::start(1);
    let mut stream = server.served();
    for n in [1, 1 << 20] {
        // As much as is taken without reading anything. To go with bytes unread is a reset.
        stream.set_nonblocking(true).unwrap();
        while let Ok(1..) = stream.write(&bytes(n)) {
            if n == 1 {
                break;
            }
        }
        stream.set_nonblocking(false).unwrap();
        assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
        drop(stream);
        // There is room for a single connection, so another one is served only once that has gone.
        stream = loop {
            let mut another = server.connect();
            if ask(&mut another, 5).is_ok_and(|back| back == Some(5)) {
                break another;
            }
        };
    }
    server.end().is_in_order();
}

#[test]
fn a_signal_ends_the_server_in_order() {
    let server = Server::start(20);
    let idle: Vec<TcpStream> = (0..10).map(|_| server.served()).collect();
    // What fits in the buffers, so that it has come when the signal does, while the server sleeps.
    let sent = bytes(60_000);
    let mut busy: Vec<TcpStream> = (0..10).map(|_| server.served()).collect();
    server.signal("STOP");
    for stream in &mut busy {
        stream.write_all(&sent).unwrap();
    }
    server.signal("TERM");
    server.signal("CONT");
    for mut stream in busy {
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        assert!(back == sent, "{} of {} bytes came back", back.len(), sent.len());
    }
    for mut stream in idle {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    let mut server = server;
    let end = server.wait();
    end.is_in_order();
    assert_eq!(end.fibres(), [(21, "finished".to_owned()), (20, "collapsed".to_owned())]);
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    // Whether the server has come so far that it cannot send any more is only known afterwards.
    for pause in (0..).map(|n| Duration::from_millis(50 << n)) {
        let mut server = Server::start(2);
        let (mut idle, mut stubborn) = (server.served(), server.served());
        stubborn.set_nonblocking(true).unwrap();
        loop {
            while let Ok(1..) = stubborn.write(&[0; 65536]) {}
            thread::sleep(pause);
            if stubborn.write(&[0; 65536]).is_err() {
                break;
            }
        }
        server.signal("TERM");
        assert_eq!(idle.read(&mut [0]).unwrap(), 0, "the first signal has come");
        server.signal("TERM");
        let end = server.wait();
        assert!(end.success);
        assert_eq!(end.live(), 0);
        let fibres = end.fibres();
        assert_eq!(fibres.iter().map(|(n, _)| n).sum::<usize>(), 5);
        if let Some((n, _)) = fibres.iter().find(|(_, fate)| fate == "stopped") {
            assert!((1..=2).contains(n), "{}", end.output);
            return;
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_out_of_descriptors_goes_on_when_it_has_some() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 16 && exec \"$0\" 127.0.0.1:0", SERVER]);
    let mut server = Server::spawn(command);
    let streams: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    let mut complaint = String::new();
    server.complaints.read_line(&mut complaint).unwrap();
    assert!(complaint.starts_with("cannot accept a connection: "), "{complaint}");
    for mut stream in streams {
        assert_eq!(ask(&mut stream, 1).unwrap(), Some(1));
    }
    let end = server.end();
    end.is_in_order();
    assert_eq!(end.connections(), (20, 0));
}

/// Runs the fibres of one connection in this process, and gives what became of them, and what `peer` made of the connection
/// on another thread. It gets both ends, the second as a twin of the one that is served.
fn run_one<A: AllocRef, T: Send>(
    memory: A,
    peer: impl FnOnce(TcpStream, TcpStream) -> T + Send,
) -> (Result<(), SpawnErrorKind>, Outcome, T) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    let twin = far.try_clone().unwrap();
    thread::scope(|s| {
        let peer = s.spawn(move || peer(near, twin));
        let (connected, outcome) = Setup::with_allocator(memory)
            .run(|p| {
                let no_memory = |_| SpawnErrorKind::OutOfMemory;
                let (running, stop) = p.channel::<Infallible>().map_err(no_memory)?;
                let (own, mut itself) = p.channel::<()>().map_err(no_memory)?;
                // So that nothing stops it: a fibre that waits for itself is there until the end.
                p.spawn(async move { drop((itself.read().await, running, own)) }).map_err(|error| error.kind)?;
                echo::connect(p, Async::new(far).unwrap(), &stop)
            })
            .unwrap();
        (connected, outcome, peer.join().unwrap())
    })
}

#[test]
fn a_write_that_fails_ends_the_fibre_that_waits_for_the_socket() {
    let pool = SizeClasses::in_parent(&table([MemReq::new(4096, 9)]), Malloc).unwrap();
    let (connected, outcome, _open) = run_one(&pool, |mut near, far| {
        // Now the server's side cannot write, but it could read for ever.
        far.shutdown(Shutdown::Write).unwrap();
        near.write_all(b"?").unwrap();
        (near, far)
    });
    assert_eq!(connected, Ok(()));
    assert_eq!((outcome.finished, outcome.collapsed), (2, 0));
    assert!(pool.classes().all(|class| class.live == 0));
}

#[test]
fn every_shortage_of_memory_closes_the_connection_and_leaves_nothing() {
    // Three for what is around it; the connection's own channel, its end of `stop`, its two fibres, and two blocks.
    for n_blocks in 3..=9 {
        let pool = SizeClasses::in_parent(&table([MemReq::new(4096, n_blocks)]), Malloc).unwrap();
        let (connected, outcome, back) = run_one(&pool, |mut near, _| {
            // If the server is faster, not even that can be sent.
            let _ = near.write_all(b"ping").and_then(|()| near.shutdown(Shutdown::Write));
            let mut back = Vec::new();
            // It is a reset if there was no block for what was sent.
            let _ = near.read_to_end(&mut back);
            back
        });
        assert_eq!(connected, if n_blocks < 7 { Err(SpawnErrorKind::OutOfMemory) } else { Ok(()) }, "{n_blocks}");
        assert_eq!(outcome.finished + outcome.collapsed, [0, 0, 0, 1, 2, 2, 2][n_blocks - 3], "{n_blocks}");
        assert_eq!(back, if n_blocks < 8 { b"".as_slice() } else { b"ping" }, "{n_blocks}");
        assert!(pool.classes().all(|class| class.live == 0), "{n_blocks}");
    }
}

#[test]
fn a_server_for_more_connections_than_can_be_addressed_is_an_error() {
    assert!(echo::sizes::<Pending<()>>(0).is_err());
    assert!(echo::sizes::<Pending<()>>(1).is_ok());
    assert!(echo::sizes::<Pending<()>>(usize::MAX / 2).is_err());
    assert!(echo::sizes::<Pending<()>>(usize::MAX).is_err());
}

#[test]
fn an_address_that_cannot_be_listened_on_is_an_error_with_a_message() {
    let server = Server::start(1);
    for address in [server.address.to_string(), "nonsense".to_owned()] {
        let output = Command::new(SERVER).arg(&address).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(complaint.starts_with(&format!("echo-server: cannot listen on {address}: ")), "{complaint}");
    }
}

/// With a limit on the address space, so that it does not depend on how much memory the machine has.
#[cfg(target_os = "linux")]
#[test]
fn too_little_memory_is_an_error_with_a_message() {
    if std::env::var_os("ASAN_OPTIONS").is_some() {
        return;
    }
    let command = "ulimit -v 1000000 && exec \"$0\" --connections 1000000";
    let output = Command::new("sh").args(["-c", command, SERVER]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "echo-server: out of memory for 1000000 connections\n");
    assert_eq!(output.status.code(), Some(1));
}

/// What the load finds out about a server that handles so many connections, one after the other.
fn found_out(n: usize, handle: impl Fn(TcpStream) -> io::Result<()> + Send) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::scope(|s| {
        s.spawn(move || {
            for stream in listener.incoming().take(n) {
                // The load goes when it has seen enough.
                let _ = handle(stream.unwrap());
            }
        });
        let options = ["--connections", "1", "--messages", "100", "--longest", "1000", "--patience", "1"];
        let output = load(address, &options);
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stdout).unwrap()
    })
}

/// Sends back what comes, as `change` leaves it, until there is no more; `change` is told where in the stream it is.
fn echo_changed(mut stream: &TcpStream, change: impl Fn(usize, &mut Vec<u8>)) -> io::Result<()> {
    let (mut part, mut at) = ([0; 4096], 0);
    loop {
        let n = stream.read(&mut part)?;
        if n == 0 {
            return Ok(());
        }
        let mut bytes = part[..n].to_vec();
        change(at, &mut bytes);
        stream.write_all(&bytes)?;
        at += n;
    }
}

#[test]
fn the_load_finds_a_byte_that_is_changed() {
    let found = found_out(1, |stream| {
        echo_changed(&stream, |at, bytes| {
            if let Some(byte) = 3000_usize.checked_sub(at).and_then(|nth| bytes.get_mut(nth)) {
                *byte ^= 0x10;
            }
        })
    });
    assert!(found.ends_with("\nconnection 0: byte 3000 came back wrong\n"), "{found}");
}

#[test]
fn the_load_finds_bytes_that_change_places() {
    let found = found_out(1, |stream| echo_changed(&stream, |_, bytes| bytes.reverse()));
    assert!(found.contains("\nconnection 0: byte 0 came back wrong\n"), "{found}");
}

#[test]
fn the_load_finds_a_byte_that_is_lost() {
    let found = found_out(1, |stream| echo_changed(&stream, |_, bytes| bytes.truncate(bytes.len() - 1)));
    let missing = "\n1 connection waited 1s for bytes that did not come\n";
    // Unless it came in parts, and the next one showed it.
    assert!(found.contains(missing) || found.contains(" came back wrong\n"), "{found}");
}

#[test]
fn the_load_finds_a_byte_too_many() {
    // The first connection is reset in the end; the one that takes its place looks for the end of the stream.
    let found = found_out(2, |stream| {
        echo_changed(&stream, |_, _| {})?;
        (&stream).write_all(b"!")
    });
    assert!(found.contains("\nconnection 1: more came back than the "), "{found}");
}

#[test]
fn the_load_finds_a_connection_that_is_closed() {
    let found = found_out(1, |mut stream| {
        let n = stream.read(&mut [0; 4096])?;
        stream.write_all(&vec![0; n][..0])
    });
    assert!(found.contains("\nconnection 0: the server closed it after 0 of ") || found.contains("reset"), "{found}");
}

#[test]
fn a_load_without_a_server_is_an_error_with_a_message() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = load(address, &[]);
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.starts_with(&format!("echo-load: cannot connect to {address}: ")), "{complaint}");
    assert!(output.stdout.is_empty());
}

#[test]
fn arguments_that_mean_nothing_get_the_usage() {
    let wrong: [(&[&str], &str); 8] = [
        (&["--verbose"], "there is no option `--verbose`"),
        (&["--connections"], "--connections needs a value"),
        (&["--connections", "0"], "--connections needs a number from 1 to 1000000, not `0`"),
        (&["--connections", "x"], "--connections needs a number from 1 to 1000000, not `x`"),
        (&["--connections", "4294967297"], "--connections needs a number from 1 to 1000000, not `4294967297`"),
        (&["--connections", "--help"], "--connections needs a number from 1 to 1000000, not `--help`"),
        (&["one:1", "two:2"], "expected one address, found `one:1` and `two:2`"),
        (&["-x"], "there is no option `-x`"),
    ];
    for (program, name) in [(SERVER, "echo-server"), (LOAD, "echo-load")] {
        for (arguments, what) in wrong {
            let output = Command::new(program).args(arguments).output().unwrap();
            assert_eq!(output.status.code(), Some(2));
            assert_eq!(String::from_utf8_lossy(&output.stdout), "");
            let complaint = String::from_utf8(output.stderr).unwrap();
            assert!(complaint.starts_with(&format!("{name}: {what}\nusage: {name} ")), "{complaint}");
        }
    }
}

#[test]
fn help_names_every_option_and_its_default() {
    for (program, words) in [
        (SERVER, &["--connections N", "(default 10000)", "ADDRESS", "(default 127.0.0.1:7007)"][..]),
        (LOAD, &["--connections N", "--seconds N", "--messages N", "--longest N", "--patience N", "ADDRESS"]),
    ] {
        for help in ["--help", "-h"] {
            let output = Command::new(program).arg(help).output().unwrap();
            let printed = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success() && printed.starts_with("usage: "));
            assert!(words.iter().all(|word| printed.contains(word)), "{printed}");
        }
    }
}
