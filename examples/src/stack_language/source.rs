//! The text of a program, and how an error shows its place in it.

extern crate std;

use core::fmt;
use std::string::String;

/// The longest program, in bytes.
pub const MOST_BYTES: usize = 16 << 20;

/// What is wrong with a program, and where. Shows as `line:column: what`, with the line and a caret below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted from 1, in characters.
    pub column: usize,
    /// What is wrong, and what to do.
    pub what: String,
    /// As much of the line as is shown, and where the caret goes.
    excerpt: String,
    caret: usize,
}

/// How much of a line is shown on either side of its error, in characters.
const SHOWN: usize = 60;

impl Error {
    /// An error at a byte of the source, which is at the beginning of a character.
    pub(super) fn new(source: &str, at: usize, what: String) -> Self {
        let before = source.get(..at).unwrap_or(source);
        let begin = before.rfind('\n').map_or(0, |newline| newline + 1);
        let on_line = &before[begin..];
        let column = on_line.chars().count();
        let skipped = column.saturating_sub(SHOWN);
        let line = source[begin..].lines().next().unwrap_or("");
        let mut excerpt = String::from(if skipped > 0 { "..." } else { "" });
        let caret = excerpt.len() + column - skipped;
        let mut shown = line.chars().skip(skipped);
        excerpt.extend(shown.by_ref().take(2 * SHOWN).map(visible));
        if shown.next().is_some() {
            excerpt += "...";
        }
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        Error { line, column: column + 1, what, excerpt, caret }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error { line, column, what, excerpt, caret } = self;
        write!(f, "{line}:{column}: {what}\n    {excerpt}\n    {:caret$}^", "")
    }
}

impl std::error::Error for Error {}

/// What is neither seen nor takes room, or moves what follows, is replaced.
fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// The source as text.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Error> {
    if bytes.len() > MOST_BYTES {
        let what = std::format!("the program is longer than {} MiB; take a shorter one", MOST_BYTES >> 20);
        return Err(Error::new("", 0, what));
    }
    core::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let what = std::format!("the byte 0x{:02X} is not UTF-8; save the program as UTF-8 text", bytes[at]);
        Error::new(&String::from_utf8_lossy(bytes), at, what)
    })
}

/// A name as messages show it.
pub(super) fn quoted(name: &str) -> String {
    std::format!("`{}`", shown(name))
}

/// The same, without the quotes.
pub(super) fn shown(name: &str) -> String {
    const MOST: usize = 40;
    let mut shown = String::new();
    for c in name.chars().take(MOST) {
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    if name.chars().nth(MOST).is_some() {
        shown += "...";
    }
    shown
}
