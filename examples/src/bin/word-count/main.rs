//! Counts the words of files, or of the standard input, on several threads:
//!
//! ```text
//! word-count --top 10 README.md          the ten most frequent words
//! word-count --workers 4 < large.txt     all of them, as `tr -cs '[:alnum:]' '\n' | sort | uniq -c` prints them
//! ```
//!
//! Files are read by a fibre. The standard input may keep its reader waiting for as long as it likes, so it has a thread
//! of its own, which is connected to the fibres by an asynchronous channel.

mod arguments;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use fibra_examples::command_line::{Output, Trouble};
use fibra_examples::word_count::{CHUNK_SIZE, Chunk, Chunks, Counts, count, read, receive};
use fibra_std::chips::sink;
use fibra_std::{Concurrent, OutsideWriter, Reader, Shared, SharedProcess, WriteBlocking, asynchronous};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use arguments::{Arguments, Input, Request};

fn main() -> ExitCode {
    let request = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(request) => request,
        Err(what) => {
            // If not even that can be written, the exit code has to do.
            let _ = writeln!(io::stderr(), "word-count: {what}\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    let mut output = Output::new();
    let done = match request {
        Request::Help => writeln!(output, "{}\n{}", arguments::USAGE, arguments::HELP).map_err(Trouble::from),
        Request::Count(arguments) => run(arguments, &mut output),
    };
    output.end("word-count", done)
}

fn run(arguments: Arguments, output: &mut Output) -> Result<(), Trouble> {
    let Arguments { input, workers, top } = arguments;
    let bar = progress(&input);
    let counts = count_words(&input, workers, &bar);
    bar.finish_and_clear();
    let counts = counts?;
    let counts = match top {
        Some(top) => counts.top(top),
        None => counts.sorted(),
    };
    for (word, count) in counts {
        if output.line(format_args!("{count:>7} {}", word.escape_ascii())).is_break() {
            break;
        }
    }
    Ok(())
}

fn count_words(input: &Input, workers: usize, bar: &ProgressBar) -> Result<Counts, Trouble> {
    let mut trouble = None;
    let mut counts = Counts::default();
    let run = Shared::new().workers(workers).run(|p| {
        let chunks = match input {
            Input::Files(files) => {
                let chunks = files.iter().flat_map(|file| chunks_of(file, bar));
                p.pipe(|to| read(chunks, to, &mut trouble)).map_err(no_room)?
            }
            Input::Standard => p.pipe_from(from_standard_input(p, bar, &mut trouble)?),
        };
        let counted = chunks.fan_out(workers, count).map_err(no_room)?;
        counted.end(|from| sink(|more| counts.add_all(more), from)).map_err(no_room)
    });
    match (run, trouble) {
        (_, Some(trouble)) | (Ok((Err(trouble), _)), None) => Err(trouble),
        (Ok((Ok(()), _)), None) => Ok(counts),
        (Err(error), None) => Err(no_room(error)),
    }
}

fn no_room<E>(_: E) -> Trouble {
    Trouble::Memory("the fibres: try fewer workers".to_owned())
}

fn chunks_of(file: &Path, bar: &ProgressBar) -> impl Iterator<Item = Result<Chunk, Trouble>> {
    let (text, error) = match File::open(file) {
        Ok(text) => (Some(Chunks::new(bar.wrap_read(text), CHUNK_SIZE)), None),
        Err(error) => (None, Some(Err(error))),
    };
    let name = file.display();
    let trouble = move |error| Trouble::Input(format!("{name} cannot be read: {error}"));
    text.into_iter().flatten().chain(error).map(move |chunk| chunk.map_err(&trouble))
}

/// Spawns the fibre that gets the chunks of the standard input from a thread, and gives the end that they come from.
fn from_standard_input<'p>(
    p: &'p SharedProcess<'p, '_>,
    bar: &ProgressBar,
    trouble: &'p mut Option<Trouble>,
) -> Result<Reader<'p, Chunk, Concurrent>, Trouble> {
    let (to_process, from_thread) = asynchronous().map_err(no_room)?;
    let bar = bar.clone();
    thread::Builder::new().spawn(move || read_standard_input(to_process, &bar)).map_err(no_room)?;
    let (to, from) = p.channel().map_err(no_room)?;
    p.fibre().waker().spawn(receive(from_thread.inside(p), to, trouble)).map_err(no_room)?;
    Ok(from)
}

/// Nobody waits for the thread that runs this: it may have to wait for somebody at a keyboard.
fn read_standard_input(mut to: OutsideWriter<Result<Chunk, Trouble>>, bar: &ProgressBar) {
    for chunk in Chunks::new(bar.wrap_read(io::stdin().lock()), CHUNK_SIZE) {
        let chunk = chunk.map_err(|error| Trouble::Input(format!("the standard input cannot be read: {error}")));
        if to.write_blocking(chunk).is_err() {
            return; // the process has ended
        }
    }
}

/// How far it has come, for somebody who watches: on a terminal, and not in a continuous integration's log.
fn progress(input: &Input) -> ProgressBar {
    let target = match std::env::var_os("CI") {
        Some(_) => ProgressDrawTarget::hidden(),
        None => ProgressDrawTarget::stderr(), // hidden where it is no terminal
    };
    let (length, style) = match input {
        Input::Files(files) => {
            let lengths = files.iter().map(|file| file.metadata().map_or(0, |metadata| metadata.len()));
            (Some(lengths.sum()), "{wide_bar} {bytes}/{total_bytes} {eta}")
        }
        Input::Standard => (None, "{spinner} {bytes} {elapsed}"),
    };
    let style = ProgressStyle::with_template(style).expect("a valid template");
    ProgressBar::with_draw_target(length, target).with_style(style)
}
