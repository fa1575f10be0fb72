//! What the user wants.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::workload;

pub const USAGE: &str =
    "usage: poolplan [--classes K] [--together] [--try FILE] [--svg FILE] [--rust | --toml] (TRACE | --workload NAME)";

pub const HELP: &str = "
Finds the size classes that serve a program with the least waste. It runs a trace of the program's allocations, or a
workload of its own, prints what was asked for by size, shows what each number of classes wastes at best, recommends
one, and prints the table to paste.

  --classes K      plan K classes (1 to 255) instead of the recommended number
  --together       reserve for each class what its sizes need at the same time in this trace, instead of what each
                   needs at its peak: less, but nothing to spare for another order of things
  --try FILE       run it on the table in FILE, too, which is TOML as printed here, and tell how that does
  --svg FILE       draw the chart into FILE, too
  --rust           print nothing but the table, as Rust source
  --toml           print nothing but the table, as TOML
  --workload NAME  fibres (a prime sieve of 300 fibres), json (documents that come and go), or log-uniform (1 byte to
                   64 KiB)

A trace is text, an operation on each line, in the order in which they happened; `-` is the standard input:

  a ID SIZE [ALIGN]   an allocation of SIZE bytes, aligned to ALIGN (1 if not given)
  f ID                its release

An ID is any word, for instance an address; it may be used again after its release. What is never released is kept to
the end. The rest of a line after `#` is a comment.

The exit code is 0, or 1 if something went wrong, or 2 if the arguments mean nothing.";

pub enum Request {
    Help,
    Plan(Arguments),
}

pub struct Arguments {
    pub source: Source,
    pub classes: Option<usize>,
    pub together: bool,
    pub tried: Option<PathBuf>,
    pub svg: Option<PathBuf>,
    pub print: Print,
}

pub enum Source {
    /// `-` is the standard input.
    Trace(PathBuf),
    Workload(String),
}

#[derive(Clone, Copy, PartialEq)]
pub enum Print {
    All,
    Rust,
    Toml,
}

/// Gives a sentence on what is wrong if they mean nothing.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    let mut arguments = arguments.into_iter();
    let (mut source, mut classes, mut together, mut print) = (None, None, false, Print::All);
    let (mut tried, mut svg) = (None, None);
    let mut options = true;
    while let Some(argument) = arguments.next() {
        let mut value = |option: &str| arguments.next().ok_or_else(|| format!("{option} needs a value"));
        match argument.to_str().filter(|_| options) {
            Some("--help" | "-h") => return Ok(Request::Help),
            Some("--") => options = false,
            Some("--classes") => classes = Some(number(&value("--classes")?)?),
            Some("--together") => together = true,
            Some("--try") => tried = Some(PathBuf::from(value("--try")?)),
            Some("--svg") => svg = Some(PathBuf::from(value("--svg")?)),
            Some(kind @ ("--rust" | "--toml")) => {
                let wanted = if kind == "--rust" { Print::Rust } else { Print::Toml };
                if print != Print::All && print != wanted {
                    return Err("--rust and --toml exclude each other".to_owned());
                }
                print = wanted;
            }
            Some("--workload") => {
                let name = value("--workload")?;
                let known = name.to_str().filter(|name| workload::NAMES.contains(name));
                let known = known.ok_or_else(|| {
                    format!("there is no workload `{}`: expected {}", name.display(), workload::NAMES.join(", "))
                })?;
                put(&mut source, Source::Workload(known.to_owned()))?;
            }
            Some(option) if option.starts_with('-') && option != "-" => {
                return Err(format!("there is no option `{option}`"));
            }
            _ => put(&mut source, Source::Trace(argument.into()))?,
        }
    }
    let source = source.ok_or("expected a trace or a workload")?;
    Ok(Request::Plan(Arguments { source, classes, together, tried, svg, print }))
}

fn put(place: &mut Option<Source>, source: Source) -> Result<(), String> {
    match place.replace(source) {
        None => Ok(()),
        Some(_) => Err("expected one trace or one workload, found more".to_owned()),
    }
}

fn number(value: &OsStr) -> Result<usize, String> {
    let number = value.to_str().and_then(|value| value.parse().ok());
    number
        .filter(|number| (1..=255).contains(number))
        .ok_or_else(|| format!("expected a number of classes from 1 to 255, found `{}`", value.display()))
}
