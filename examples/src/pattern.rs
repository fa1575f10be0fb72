//! Streams of bytes in which every byte depends on its place, so that one which is lost, doubled, moved or changed shows.

use fastrand::Rng;

/// An endless stream of bytes, another one for each seed.
///
/// ```
/// use fibra_examples::pattern::Pattern;
///
/// let pattern = Pattern::new(7);
/// let mut bytes = [0; 100];
/// pattern.fill(50, &mut bytes);
/// assert_eq!(pattern.first_wrong(60, &bytes[10..]), None);
/// bytes[99] ^= 1;
/// assert_eq!(pattern.first_wrong(50, &bytes), Some(99));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    seed: u64,
}

const WORD: usize = size_of::<u64>();

impl Pattern {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Pattern { seed: Rng::with_seed(seed).u64(..) }
    }

    /// The bytes from place `at` on.
    pub fn fill(&self, at: u64, bytes: &mut [u8]) {
        self.for_each_part(at, bytes.len(), |place, part| bytes[place..][..part.len()].copy_from_slice(part));
    }

    /// Which of these bytes, from place `at` on, is not as it should be.
    #[must_use]
    pub fn first_wrong(&self, at: u64, bytes: &[u8]) -> Option<usize> {
        let mut wrong = None;
        self.for_each_part(at, bytes.len(), |place, part| {
            let found = &bytes[place..][..part.len()];
            if found != part && wrong.is_none() {
                wrong = found.iter().zip(part).position(|(found, right)| found != right).map(|nth| place + nth);
            }
        });
        wrong
    }

    /// The stream from place `at` on, a word at a time, each with its place in what was asked for.
    #[inline]
    fn for_each_part(&self, at: u64, len: usize, mut each: impl FnMut(usize, &[u8])) {
        let word = |at: u64| Rng::with_seed(self.seed ^ (at / WORD as u64)).u64(..).to_le_bytes();
        let skipped = (at % WORD as u64) as usize;
        let first = &word(at)[skipped..];
        if len <= first.len() {
            return each(0, &first[..len]);
        }
        each(0, first);
        let mut place = first.len();
        while len - place >= WORD {
            each(place, &word(at + place as u64));
            place += WORD;
        }
        each(place, &word(at + place as u64)[..len - place]);
    }
}
