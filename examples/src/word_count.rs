//! Counting words: a reader cuts the text into chunks, counters that share them count the words of each, and what they have
//! counted is added up at the end.
//!
//! ```text
//!                 .---> count ---.
//!   .------.      |              |      .------.
//!   | read |------+---> count ---+----->| sink |      one counter for each worker
//!   '------'      |              |      '------'
//!                 '---> count ---'
//! ```
//!
//! A word is a run of ASCII letters and digits, as it is written (`The` and `the` are two), however long. Every other byte
//! stands between words: also those of letters beyond ASCII.
//!
//! Chunks end where a word ends, so nobody needs to look at two of them. They move through the channels; and since a write
//! waits for a read, there are never more than one for each counter and the two that the reader has in hand.

extern crate std;

use std::boxed::Box;
use std::collections::HashMap;
use std::io::{self, Read};
use std::vec::Vec;

use fibra_core::{Reach, Reader, Writer};

/// How many bytes of text a counter is given at a time; more only if a single word is longer.
pub const CHUNK_SIZE: usize = 256 * 1024;

/// Whole words, and what stands between them.
pub type Chunk = Vec<u8>;

/// The chunks of a text. Its end is the end of a word, too.
pub struct Chunks<I> {
    text: I,
    size: usize,
    /// The beginning of a word, whose end has not been read.
    begun: Vec<u8>,
    has_ended: bool,
}

impl<I: Read> Chunks<I> {
    /// Chunks of `size` bytes at the most, where no word is longer.
    pub fn new(text: I, size: usize) -> Self {
        Chunks { text, size, begun: Vec::new(), has_ended: false }
    }
}

/// Ends after the first error.
impl<I: Read> Iterator for Chunks<I> {
    type Item = io::Result<Chunk>;

    fn next(&mut self) -> Option<io::Result<Chunk>> {
        if self.has_ended {
            return None;
        }
        let mut chunk = Vec::with_capacity(self.size.max(self.begun.len()));
        chunk.append(&mut self.begun);
        let mut size = self.size.max(1);
        loop {
            while chunk.len() >= size {
                size *= 2; // a long word
            }
            let wanted = size - chunk.len();
            let words = chunk.len();
            match self.text.by_ref().take(wanted as u64).read_to_end(&mut chunk) {
                Ok(read) if read < wanted => {
                    self.has_ended = true;
                    return Some(Ok(chunk)).filter(|_| words + read > 0);
                }
                Ok(_) => {}
                Err(error) => {
                    self.has_ended = true;
                    return Some(Err(error));
                }
            }
            // What was there before is the beginning of one word.
            if let Some(end) = chunk[words..].iter().rposition(|byte| !is_of_word(*byte)) {
                self.begun = chunk.split_off(words + end + 1);
                return Some(Ok(chunk));
            }
        }
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

/// How often each word was seen.
#[derive(Default)]
pub struct Counts {
    counts: HashMap<Box<[u8]>, u64>,
}

impl Counts {
    /// Counts the words in a chunk.
    pub fn add(&mut self, chunk: &[u8]) {
        for word in chunk.split(|byte| !is_of_word(*byte)).filter(|word| !word.is_empty()) {
            match self.counts.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(self.counts.insert(word.into(), 1)),
            }
        }
    }

    /// Adds what another one has counted.
    pub fn add_all(&mut self, mut other: Counts) {
        if other.counts.len() > self.counts.len() {
            std::mem::swap(self, &mut other);
        }
        for (word, count) in other.counts {
            *self.counts.entry(word).or_default() += count;
        }
    }

    /// All words, in the order of their bytes, each with its count.
    #[must_use]
    pub fn sorted(self) -> Vec<(Box<[u8]>, u64)> {
        let mut counts: Vec<_> = self.counts.into_iter().collect();
        counts.sort_unstable();
        counts
    }

    /// The `n` words that were seen most often, those first; of equals, in the order of their bytes.
    #[must_use]
    pub fn top(self, n: usize) -> Vec<(Box<[u8]>, u64)> {
        let mut counts = self.sorted();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts.truncate(n);
        counts
    }
}

/// Writes the chunks, and leaves after the last, or when one cannot be had: then it says why in `trouble`.
pub async fn read<E, R: Reach>(
    chunks: impl IntoIterator<Item = Result<Chunk, E>>,
    mut to: Writer<'_, Chunk, R>,
    trouble: &mut Option<E>,
) {
    for chunk in chunks {
        match chunk {
            Ok(chunk) => to.write(chunk).await,
            Err(error) => {
                *trouble = Some(error);
                return;
            }
        }
    }
}

/// The same as [`read`] for chunks that come from outside of the process, where somebody else waits for them.
pub async fn receive<E, R: Reach>(
    mut chunks: Reader<'_, Result<Chunk, E>, impl Reach>,
    mut to: Writer<'_, Chunk, R>,
    trouble: &mut Option<E>,
) {
    loop {
        match chunks.read().await {
            Ok(chunk) => to.write(chunk).await,
            Err(error) => {
                *trouble = Some(error);
                return;
            }
        }
    }
}

/// Counts the words of the chunks that it gets, and writes what it has counted when there are no more.
pub async fn count<R: Reach>(mut from: Reader<'_, Chunk, R>, mut to: Writer<'_, Counts, R>) {
    let mut counts = Counts::default();
    while let Some(chunk) = from.read_or_end().await {
        counts.add(&chunk);
    }
    to.write(counts).await;
}
