//! What a program asked of its allocator, one operation after the other.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead};
use std::ptr::NonNull;

use fibra_std::{AllocError, AllocRef, Layout};

/// The greatest alignment that a size class gives, in bytes.
const MAX_ALIGN: usize = 4096;

/// Operations in the order in which they happened. Blocks have numbers, which are used again after a release.
#[derive(Default)]
pub struct Trace {
    pub operations: Vec<Operation>,
    /// One more than the greatest number of a block.
    blocks: usize,
    free: Vec<usize>,
}

#[derive(Clone, Copy)]
pub enum Operation {
    Allocate { block: usize, layout: Layout },
    Release { block: usize },
}

/// Why a trace cannot be read.
pub enum TraceError {
    Read(io::Error),
    /// Lines are counted from 1.
    Line {
        line: usize,
        what: String,
    },
    Empty,
}

impl From<io::Error> for TraceError {
    fn from(error: io::Error) -> Self {
        TraceError::Read(error)
    }
}

impl Trace {
    pub fn allocate(&mut self, layout: Layout) -> usize {
        let block = self.free.pop().unwrap_or_else(|| {
            self.blocks += 1;
            self.blocks - 1
        });
        self.operations.push(Operation::Allocate { block, layout });
        block
    }

    pub fn release(&mut self, block: usize) {
        self.operations.push(Operation::Release { block });
        self.free.push(block);
    }

    /// Reads the text format that the program's help describes. `seen` is told of each line's length in bytes.
    pub fn read(mut from: impl BufRead, mut seen: impl FnMut(usize)) -> Result<Self, TraceError> {
        let mut trace = Trace::default();
        let mut live: HashMap<String, (usize, usize)> = HashMap::new();
        let mut bytes = Vec::new();
        let mut line = 0;
        loop {
            bytes.clear();
            match from.read_until(b'\n', &mut bytes)? {
                0 => break,
                length => seen(length),
            }
            line += 1;
            let read = std::str::from_utf8(&bytes).map_err(|_| "expected text in UTF-8".to_owned());
            read.and_then(|text| trace.read_line(text, line, &mut live))
                .map_err(|what| TraceError::Line { line, what })?;
        }
        let asks = |operation: &Operation| matches!(operation, Operation::Allocate { layout, .. } if layout.size() > 0);
        if trace.operations.iter().any(asks) { Ok(trace) } else { Err(TraceError::Empty) }
    }

    fn read_line(&mut self, text: &str, line: usize, live: &mut HashMap<String, (usize, usize)>) -> Result<(), String> {
        let text = text.split('#').next().unwrap_or_default().trim();
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            [] => {}
            ["a", id, size] | ["a", id, size, _] => {
                if let Some((_, since)) = live.get(id) {
                    return Err(format!("`{}` is live since line {since}: expected `f {0}` before", short(id)));
                }
                let layout = layout(size, words.get(3).copied().unwrap_or("1"))?;
                live.insert(id.to_owned(), (self.allocate(layout), line));
            }
            ["f", id] => {
                let Some((block, _)) = live.remove(id) else {
                    return Err(format!("`{}` is not live: expected `a {0} SIZE` before", short(id)));
                };
                self.release(block);
            }
            ["a", ..] => return Err(format!("expected `a ID SIZE [ALIGN]`, found `{}`", short(text))),
            ["f", ..] => return Err(format!("expected `f ID`, found `{}`", short(text))),
            _ => return Err(format!("expected `a ID SIZE [ALIGN]` or `f ID`, found `{}`", short(text))),
        }
        Ok(())
    }

    /// Does it all, and releases at the end what is left. Gives the number of requests that were refused.
    pub fn replay(&self, allocator: impl AllocRef, mut done: impl FnMut(usize)) -> usize {
        let mut blocks: Vec<Option<Block<_>>> = (0..self.blocks).map(|_| None).collect();
        let mut refused = 0;
        for (i, operation) in self.operations.iter().enumerate() {
            match *operation {
                Operation::Allocate { block, layout } => {
                    blocks[block] = Block::new(allocator.clone(), layout).ok();
                    refused += usize::from(blocks[block].is_none());
                }
                Operation::Release { block } => blocks[block] = None,
            }
            done(i + 1);
        }
        refused
    }
}

fn layout(size: &str, align: &str) -> Result<Layout, String> {
    let bytes =
        size.parse().map_err(|_| format!("expected SIZE as a number of bytes in decimal, found `{}`", short(size)))?;
    let align = align
        .parse()
        .ok()
        .filter(|align: &usize| align.is_power_of_two() && *align <= MAX_ALIGN)
        .ok_or_else(|| format!("expected ALIGN as a power of two up to {MAX_ALIGN}, found `{}`", short(align)))?;
    Layout::from_size_align(bytes, align)
        .map_err(|_| format!("expected a SIZE that can be addressed, found `{}`", short(size)))
}

/// As much of what was found as helps to find it.
fn short(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TraceError::Read(error) => write!(f, "cannot be read: {error}"),
            TraceError::Line { line, what } => write!(f, "line {line}: {what}"),
            TraceError::Empty => {
                f.write_str("asks for no memory: expected at least one line `a ID SIZE` with a SIZE of 1 or more")
            }
        }
    }
}

/// Memory that goes back to where it came from.
struct Block<A: AllocRef> {
    start: NonNull<u8>,
    layout: Layout,
    allocator: A,
}

impl<A: AllocRef> Block<A> {
    fn new(allocator: A, layout: Layout) -> Result<Self, AllocError> {
        Ok(Block { start: allocator.allocate(layout)?.cast(), layout, allocator })
    }
}

impl<A: AllocRef> Drop for Block<A> {
    fn drop(&mut self) {
        // SAFETY: it came from this allocator with this layout, and only this value, which ends here, releases it.
        unsafe { self.allocator.deallocate(self.start, self.layout) }
    }
}
