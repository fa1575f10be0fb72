//! Devices: functions that block, each on a thread of its own, with asynchronous channels to the fibres.
//!
//! A device is another sequential process at the other end of a channel, and ends like one: when its function gives `None`, and
//! when nobody can read what it has, or write to it, any more. When it ends, its ends of the channels go, and so the fibres that
//! wait for it collapse, or are told ([`Reader::read_or_end`](crate::Reader::read_or_end)). If the function panics, the device ends in the same way, after
//! the panic hook has written its message.
//!
//! Nobody can take a thread back from a function that blocks. So it borrows nothing, and may outlive everything else: a device
//! that waits for its next line, say, hears that nobody wants it when it has come. The handle that each function here gives is
//! that of the thread: dropped, it lets the thread go on by itself; joined, it waits for the device to end, and tells whether it
//! panicked. A program that ends takes its devices along, so one that has written its last should
//! [join](JoinHandle::join) the device, after its end of the channel has gone.
//!
//! The fibres that use a device must have a wake cell ([`FibreOptions::waker`](crate::FibreOptions::waker)).
//!
//! ```
//! use fibra_std::device;
//! use std::sync::mpsc;
//!
//! // What blocks: here, a channel of the standard library.
//! let (to_device, next) = mpsc::channel::<u32>();
//! let (print, printed) = mpsc::channel::<String>();
//!
//! let (numbers, _) = device::source("numbers", move || next.recv().ok())?;
//! let (lines, printer) = device::sink("printer", move |line| print.send(line).ok())?;
//!
//! for n in 1..=3 {
//!     to_device.send(n)?;
//! }
//! drop(to_device); // so the source will end
//!
//! let (_, outcome) = fibra_std::run(|p| {
//!     let (mut numbers, mut lines) = (numbers.inside(p), lines.inside(p));
//!     let fibre = async move {
//!         loop {
//!             lines.write(format!("number {}", numbers.read().await)).await;
//!         }
//!     };
//!     p.fibre().waker().spawn(fibre).unwrap();
//! })?;
//! assert_eq!(outcome.collapsed, 1); // nothing more comes from the source
//!
//! printer.join().unwrap(); // the last line has been printed
//! assert_eq!(printed.iter().last().as_deref(), Some("number 3"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io::{self, Write as _};
use std::thread::{Builder, JoinHandle};

use crate::blocking::{ReadBlocking, WriteBlocking};
use crate::{AllocError, OutsideReader, OutsideWriter, asynchronous};

/// A device that gives values: calls `next` again and again, and offers each value to whoever reads. Ends at `None`.
///
/// It is one value ahead of its readers: `next` is called for another one as soon as they have taken the last. `name` is that of
/// the thread.
///
/// # Errors
/// What the operating system says if it refuses a thread; [`io::ErrorKind::OutOfMemory`] if there is none for the channel.
/// `next` was not called then.
///
/// For an example see [`device`](self).
pub fn source<T: Send + 'static>(
    name: &str,
    mut next: impl FnMut() -> Option<T> + Send + 'static,
) -> io::Result<(OutsideReader<T>, JoinHandle<()>)> {
    let (mut to, from) = asynchronous().map_err(out_of_memory)?;
    let thread = move || while next().is_some_and(|value| to.write_blocking(value).is_ok()) {};
    Ok((from, start(name, thread)?))
}

/// A device that takes values: calls `take` with each that is written. Ends at `None`: then the value is lost that it was
/// given.
///
/// A write completes when the device has taken the value, so before `take` has done with it. `name` is that of the thread.
///
/// # Errors
/// As [`source`].
///
/// For an example see [`device`](self).
pub fn sink<T: Send + 'static>(
    name: &str,
    mut take: impl FnMut(T) -> Option<()> + Send + 'static,
) -> io::Result<(OutsideWriter<T>, JoinHandle<()>)> {
    let (to, mut from) = asynchronous().map_err(out_of_memory)?;
    let thread = move || while from.read_blocking().is_ok_and(|value| take(value).is_some()) {};
    Ok((to, start(name, thread)?))
}

/// A device that answers: calls `answer` with each value that is written, and offers what it gives to whoever reads. Ends at
/// `None`.
///
/// It takes the next question when the last answer has been read. Of several fibres with questions, one at a time should
/// have both ends, or each would have to know whose answer comes next. `name` is that of the thread.
///
/// # Errors
/// As [`source`].
///
/// ```
/// use fibra_std::device;
/// use std::time::Duration;
///
/// let slow_square = |n: u32| {
///     std::thread::sleep(Duration::from_millis(1));
///     n.checked_mul(n)
/// };
/// let (questions, answers, _) = device::service("squares", slow_square)?;
/// let (_, outcome) = fibra_std::run(|p| {
///     let (mut questions, mut answers) = (questions.inside(p), answers.inside(p));
///     let fibre = async move {
///         for n in 1..=3 {
///             questions.write(n).await;
///             assert_eq!(answers.read().await, n * n); // meanwhile the other fibres run
///         }
///     };
///     p.fibre().waker().spawn(fibre).unwrap();
/// })?;
/// assert_eq!(outcome.finished, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn service<Q: Send + 'static, A: Send + 'static>(
    name: &str,
    mut answer: impl FnMut(Q) -> Option<A> + Send + 'static,
) -> io::Result<(OutsideWriter<Q>, OutsideReader<A>, JoinHandle<()>)> {
    let (ask, mut asked) = asynchronous::<Q>().map_err(out_of_memory)?;
    let (mut answers, answered) = asynchronous::<A>().map_err(out_of_memory)?;
    let mut serve = move || answers.write_blocking(answer(asked.read_blocking().ok()?)?).ok();
    let thread = move || while serve().is_some() {};
    Ok((ask, answered, start(name, thread)?))
}

/// The lines of standard input, without their ends. After an error, which is given, it ends.
///
/// The device waits for a line before anybody asks for it. Two such devices share the lines.
///
/// # Errors
/// As [`source`].
///
/// ```no_run
/// let (lines, _) = fibra_std::device::stdin_lines()?;
/// fibra_std::run(|p| {
///     let mut lines = lines.inside(p);
///     let fibre = async move {
///         while let Some(Ok(line)) = lines.read_or_end().await {
///             println!("{} letters", line.chars().count());
///         }
///     };
///     p.fibre().waker().spawn(fibre).unwrap();
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn stdin_lines() -> io::Result<(OutsideReader<io::Result<String>>, JoinHandle<()>)> {
    source("stdin", lines(|line| io::stdin().read_line(line)))
}

/// Standard output: what is written goes there at once, as it is. After an error it ends, so that those who write collapse.
///
/// # Errors
/// As [`source`].
///
/// ```
/// let (out, printer) = fibra_std::device::stdout()?;
/// fibra_std::run(|p| {
///     let mut out = out.inside(p);
///     p.fibre().waker().spawn(async move { out.write("hello\n").await }).unwrap();
/// })?;
/// printer.join().unwrap(); // otherwise the program might end before it has been printed
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn stdout<B: AsRef<[u8]> + Send + 'static>() -> io::Result<(OutsideWriter<B>, JoinHandle<()>)> {
    let mut out = io::stdout();
    sink("stdout", move |bytes: B| out.write_all(bytes.as_ref()).and_then(|()| out.flush()).ok())
}

/// Gives the lines that `read_line` appends, up to the first error, and that.
fn lines(mut read_line: impl FnMut(&mut String) -> io::Result<usize>) -> impl FnMut() -> Option<io::Result<String>> {
    let mut has_failed = false;
    move || {
        let mut line = String::new();
        match if has_failed { Ok(0) } else { read_line(&mut line) } {
            Ok(0) => None,
            Ok(_) => {
                let end =
                    line.strip_suffix('\n').map_or(line.len(), |line| line.strip_suffix('\r').unwrap_or(line).len());
                line.truncate(end);
                Some(Ok(line))
            }
            Err(error) => {
                has_failed = true;
                Some(Err(error))
            }
        }
    }
}

fn start(name: &str, device: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).spawn(device)
}

fn out_of_memory(_: AllocError) -> io::Error {
    io::ErrorKind::OutOfMemory.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead;

    #[test]
    fn lines_come_without_their_ends_up_to_the_first_error() {
        let mut input: &[u8] = b"one\n\r\ntwo \r\n\xff\nlost\n";
        let mut next = lines(move |line| input.read_line(line));
        let mut line = || next().map(|line| line.map_err(|error| error.kind()));
        assert_eq!(line(), Some(Ok("one".to_owned())));
        assert_eq!(line(), Some(Ok(String::new())));
        assert_eq!(line(), Some(Ok("two ".to_owned())));
        assert_eq!(line(), Some(Err(io::ErrorKind::InvalidData)));
        assert_eq!((line(), line()), (None, None));
    }

    #[test]
    fn the_last_line_needs_no_end() {
        let mut input: &[u8] = b"a\nb";
        let mut next = lines(move |line| input.read_line(line));
        let all: Vec<_> = std::iter::from_fn(|| next().map(Result::unwrap)).collect();
        assert_eq!(all, ["a", "b"]);
    }
}
