//! What the user wants.

use std::ffi::{OsStr, OsString};
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;

use fibra_examples::command_line::{MOST_WORKERS, workers};

pub const USAGE: &str = "usage: word-count [--workers N] [--top N] [--help] [FILE...]";

pub const HELP: &str = "
Counts the words of the files, or of the standard input if there are none (or where the only one is `-`), and prints each
word with its count, in the order of their bytes. A word is a run of ASCII letters and digits, as it is written; every other
byte, and the end of a file, stands between words.

  --workers N  run on N threads (1 to 256; default: one for each processor)
  --top N      print only the N most frequent words, the most frequent first

The exit code is 0, or 1 if something went wrong, or 2 if the arguments mean nothing.";

pub enum Request {
    Help,
    Count(Arguments),
}

pub struct Arguments {
    pub input: Input,
    pub workers: usize,
    pub top: Option<usize>,
}

pub enum Input {
    Standard,
    Files(Vec<PathBuf>),
}

/// Gives a sentence on what is wrong if they mean nothing.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    let mut arguments = arguments.into_iter();
    let (mut files, mut n_workers, mut top, mut options) = (Vec::new(), None, None, true);
    while let Some(argument) = arguments.next() {
        match argument.to_str().filter(|_| options) {
            Some("--help" | "-h") => return Ok(Request::Help),
            Some("--") => options = false,
            Some("--workers") => {
                let given = arguments.next().and_then(|number| workers(&number));
                n_workers = Some(given.ok_or_else(|| format!("--workers needs a number from 1 to {MOST_WORKERS}"))?);
            }
            Some("--top") => {
                let given = arguments.next().and_then(|number| number.to_str()?.parse().ok());
                top = Some(given.ok_or("--top needs a number, for instance --top 10")?);
            }
            Some(option) if option.starts_with('-') && option != "-" => {
                return Err(format!("there is no option {option}"));
            }
            _ => files.push(PathBuf::from(argument)),
        }
    }
    let is_standard = |file: &PathBuf| options && file.as_os_str() == OsStr::new("-");
    let input = match &files[..] {
        [] => Input::Standard,
        [file] if is_standard(file) => Input::Standard,
        files if files.iter().any(is_standard) => {
            return Err("the standard input cannot be counted together with files".to_owned());
        }
        _ => Input::Files(files),
    };
    let processors = || thread::available_parallelism().map_or(1, NonZero::get).min(MOST_WORKERS);
    Ok(Request::Count(Arguments { input, workers: n_workers.unwrap_or_else(processors), top }))
}
