//! Which size classes serve a program best.
//!
//! The sizes of the profile, sorted, are cut into runs of neighbours, a class for each run. What a run costs does not depend
//! on the others, so the best way to cut the sizes from the i-th on into at most c runs is the best first run and then the
//! best way to cut the rest into c - 1. That is computed from the largest size down, and kept with each result where its
//! first run ends.

use core::fmt;

use crate::fixup::{MAX_ALIGN, MOST_BYTES};
use crate::{GRANULE, Layout, MemReq, Table};

/// One row of a profile: blocks of `size` bytes are needed, and at most `peak` of them at once.
///
/// [`Statistics::profile`](crate::Statistics::profile) gives such rows; a [`MemReq`] can be turned into one where only the size
/// matters.
///
/// # Examples
///
/// ```
/// use fibra_allocators::{Demand, Layout, MemReq};
///
/// assert_eq!(Demand::new(Layout::new::<[u64; 5]>(), 3).size, 40);
/// assert_eq!(Demand::from(MemReq::new(40, 3)), Demand { size: 40, align: 1, peak: 3 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Demand {
    /// The size, in bytes.
    pub size: usize,
    /// The alignment, in bytes: a power of two up to 4096.
    pub align: usize,
    /// The greatest number of such blocks that are live at once.
    pub peak: usize,
}

impl Demand {
    /// At most `peak` blocks of this layout at once.
    ///
    /// For an example see [`Demand`].
    #[must_use]
    pub const fn new(layout: Layout, peak: usize) -> Self {
        Demand { size: layout.size(), align: layout.align(), peak }
    }
}

impl From<MemReq> for Demand {
    fn from(MemReq { block_size, n_blocks }: MemReq) -> Self {
        Demand { size: block_size, align: 1, peak: n_blocks }
    }
}

/// Why there is no plan. Rows are those of the profile, counted from 0 in the order given.
///
/// # Examples
///
/// ```
/// use fibra_allocators::{MemReq, OptimiseError, optimise, optimise_scratch};
///
/// let mut scratch = [0; optimise_scratch(1, 1)];
/// let error = optimise([MemReq::new(64, 0)], 1, &mut scratch).unwrap_err();
/// assert_eq!(error, OptimiseError::NoBlocks { row: 0 });
/// assert_eq!(error.to_string(), "row 0 of the profile needs 0 blocks");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OptimiseError {
    /// The profile has no rows.
    Empty,
    /// This row needs no blocks.
    NoBlocks {
        /// The row.
        row: usize,
    },
    /// This row needs blocks of no bytes.
    NoBytes {
        /// The row.
        row: usize,
    },
    /// The alignment of this row is no power of two, or more than 4096, which no size class gives.
    Alignment {
        /// The row.
        row: usize,
    },
    /// This row alone needs more than can be addressed.
    Overflow {
        /// The row.
        row: usize,
    },
    /// Every table of so few classes takes more than can be addressed.
    TooLarge,
    /// 0 classes, or more than the 255 that a [`Table`] can have.
    Classes,
    /// The scratch memory has fewer words than [`optimise_scratch`] says.
    ScratchTooSmall {
        /// Words that would do.
        needed: usize,
        /// Words that there are.
        got: usize,
    },
}

impl fmt::Display for OptimiseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptimiseError::Empty => f.write_str("the profile has no rows"),
            OptimiseError::NoBlocks { row } => write!(f, "row {row} of the profile needs 0 blocks"),
            OptimiseError::NoBytes { row } => write!(f, "row {row} of the profile needs blocks of 0 bytes"),
            OptimiseError::Alignment { row } => {
                write!(f, "row {row} of the profile has an alignment that is not a power of two up to {MAX_ALIGN}")
            }
            OptimiseError::Overflow { row } => {
                write!(f, "row {row} of the profile needs more than can be addressed")
            }
            OptimiseError::TooLarge => f.write_str("every table of so few classes takes more than can be addressed"),
            OptimiseError::Classes => f.write_str("the number of classes is not from 1 to 255"),
            OptimiseError::ScratchTooSmall { needed, got } => {
                write!(f, "the optimiser needs {needed} words of scratch memory and has {got}")
            }
        }
    }
}

impl core::error::Error for OptimiseError {}

/// The best tables for a profile, one for each number of classes: made by [`optimise`], in its scratch memory.
///
/// # Examples
///
/// ```
/// use fibra_allocators::{MemReq, optimise, optimise_scratch};
///
/// let mut scratch = [0; optimise_scratch(3, 8)];
/// let plan = optimise([MemReq::new(64, 10), MemReq::new(512, 1), MemReq::new(4096, 2)], 8, &mut scratch)?;
/// for n in 1..=plan.classes() {
///     println!("{n} classes reserve {:?} bytes and waste {:?}", plan.bytes(n), plan.waste(n));
/// }
/// # Ok::<(), fibra_allocators::OptimiseError>(())
/// ```
pub struct Plan<'s> {
    /// Ascending by size, three words for each: see [`Row`].
    rows: &'s [usize],
    /// `bytes[c * n_rows + i]`: the fewest bytes in which at most `c + 1` classes serve the rows from `i` on.
    bytes: &'s [usize],
    /// `ends[c * n_rows + i]`: the last row of the first of those classes.
    ends: &'s [usize],
    n_rows: usize,
    classes: usize,
    asked: usize,
}

/// Sizes that always share a class.
#[derive(Clone, Copy)]
struct Row {
    /// A multiple of the alignment and of [`GRANULE`].
    size: usize,
    align: usize,
    peak: usize,
}

const WORDS: usize = 3;
/// More than any table can take.
const NEVER: usize = usize::MAX;

impl Row {
    fn get(rows: &[usize], at: usize) -> Row {
        let at = at * WORDS;
        Row { size: rows[at], align: rows[at + 1], peak: rows[at + 2] }
    }

    fn put(self, rows: &mut [usize], at: usize) {
        rows[at * WORDS..][..WORDS].copy_from_slice(&[self.size, self.align, self.peak]);
    }
}

/// The block of a class that serves rows up to this one, of at most this alignment; `None` if it would be large enough for the
/// next row, whose requests would then come here too.
fn block_size(rows: &[usize], n_rows: usize, last: usize, align: usize) -> Option<usize> {
    let block = Row::get(rows, last).size.checked_next_multiple_of(align)?;
    (last + 1 == n_rows || block < Row::get(rows, last + 1).size).then_some(block)
}

/// The scratch memory that [`optimise`] needs, in words, for a profile of so many rows and so many classes.
///
/// # Examples
///
/// ```
/// use fibra_allocators::optimise_scratch;
///
/// const WORDS: usize = optimise_scratch(320, 8);
/// assert_eq!(WORDS, 320 * (3 + 2 * 8));
/// ```
#[must_use]
pub const fn optimise_scratch(rows: usize, classes: usize) -> usize {
    let classes = if classes < rows { classes } else { rows };
    classes.saturating_mul(2).saturating_add(WORDS).saturating_mul(rows)
}

/// Finds, for each number of classes from 1 to `classes`, the size classes that serve this profile in the fewest bytes:
/// exactly, by dynamic programming.
///
/// A class that serves several rows has as many blocks as they need together, of the size of the largest. That suffices
/// whenever each row meets its peak. Where it is known that they do not meet them at the same time, [`optimise_by`] reserves
/// less.
///
/// Sizes are rounded up to [`GRANULE`] as by [`fixup`](crate::fixup), and to their alignments: the block of a class is a
/// multiple of each alignment in it, and a request never finds a class other than the one that was planned for it. (Where an
/// alignment is more than a granule, the tables to choose from are those in which neighbouring sizes share a class.)
///
/// O(classes × rows²) time, with the rows counted after rounding, in the [scratch memory](optimise_scratch) alone; neither
/// recursion nor allocation.
///
/// # Errors
///
/// An [`OptimiseError`] that says which row is at fault, or what else is.
///
/// # Examples
///
/// ```
/// use fibra_allocators::{MemReq, SizeClasses, optimise, optimise_scratch};
///
/// # if fibra_allocators::GRANULE == 16 {
/// let profile = [MemReq::new(24, 9000), MemReq::new(48, 10), MemReq::new(100, 200), MemReq::new(500, 1)];
/// let mut scratch = [0; optimise_scratch(4, 3)];
/// let plan = optimise(profile, 3, &mut scratch)?;
///
/// assert!(plan.waste(1) > plan.waste(2) && plan.waste(2) > plan.waste(3));
/// assert_eq!(plan.rows(2).collect::<Vec<_>>(), [MemReq::new(32, 9000), MemReq::new(512, 211)]);
/// assert_eq!(
///     plan.rows(3).collect::<Vec<_>>(),
///     [MemReq::new(32, 9000), MemReq::new(112, 210), MemReq::new(512, 1)],
/// );
///
/// let table = plan.table::<3>(3).expect("small enough to be addressed");
/// let mut memory = vec![core::mem::MaybeUninit::uninit(); table.arena_size()];
/// let system = SizeClasses::new(&table, &mut memory)?;
/// # let _ = system;
/// # }
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
pub fn optimise<D: Into<Demand>>(
    profile: impl IntoIterator<Item = D>,
    classes: usize,
    scratch: &mut [usize],
) -> Result<Plan<'_>, OptimiseError> {
    plan(profile, classes, scratch, |_, _, sum| sum)
}

/// As [`optimise`], with another word on how many blocks a class needs: `n_blocks(smallest, largest)` for the class that serves
/// all requests of these sizes and those between, both given as rounded up to [`GRANULE`] and to the alignment.
///
/// With a whole trace at hand that is the greatest number of them that were live at once, which may be less than the sum of
/// the rows' peaks. Such a table serves that trace to the last block, and has nothing to spare for another order of things.
/// An answer of 0 counts as 1.
///
/// `n_blocks` is asked O(rows²) times.
///
/// # Errors
///
/// As for [`optimise`].
///
/// # Examples
///
/// ```
/// use fibra_allocators::{MemReq, optimise_by, optimise_scratch};
///
/// // Ten requests of either size, but never at the same time.
/// let mut scratch = [0; optimise_scratch(2, 1)];
/// let plan = optimise_by([MemReq::new(48, 10), MemReq::new(64, 10)], 1, &mut scratch, |_, _| 10)?;
/// assert_eq!(plan.rows(1).next(), Some(MemReq::new(64, 10)));
/// # Ok::<(), fibra_allocators::OptimiseError>(())
/// ```
pub fn optimise_by<D: Into<Demand>>(
    profile: impl IntoIterator<Item = D>,
    classes: usize,
    scratch: &mut [usize],
    mut n_blocks: impl FnMut(usize, usize) -> usize,
) -> Result<Plan<'_>, OptimiseError> {
    plan(profile, classes, scratch, |smallest, largest, _| n_blocks(smallest, largest).max(1))
}

fn plan<D: Into<Demand>>(
    profile: impl IntoIterator<Item = D>,
    classes: usize,
    scratch: &mut [usize],
    mut n_blocks: impl FnMut(usize, usize, usize) -> usize,
) -> Result<Plan<'_>, OptimiseError> {
    if classes == 0 || classes > u8::MAX as usize {
        return Err(OptimiseError::Classes);
    }
    let (n_rows, asked) = sort(profile, classes, scratch)?;
    let (got, needed) = (scratch.len(), optimise_scratch(n_rows, classes));
    if got < needed {
        return Err(OptimiseError::ScratchTooSmall { needed, got });
    }
    let classes = classes.min(n_rows);
    let (rows, rest) = scratch.split_at_mut(n_rows * WORDS);
    let (bytes, rest) = rest.split_at_mut(classes * n_rows);
    let ends = &mut rest[..classes * n_rows];
    bytes.fill(NEVER);

    for first in (0..n_rows).rev() {
        let smallest = Row::get(rows, first).size;
        let (mut sum, mut align) = (0_usize, GRANULE);
        for last in first..n_rows {
            let row = Row::get(rows, last);
            sum = sum.saturating_add(row.peak);
            align = align.max(row.align);
            let block = block_size(rows, n_rows, last, align);
            let Some(cost) = block.and_then(|block| block.checked_mul(n_blocks(smallest, row.size, sum))) else {
                continue;
            };
            for class in 0..classes {
                let rest = match class.checked_sub(1) {
                    _ if last + 1 == n_rows => 0,
                    None => NEVER,
                    Some(fewer) => bytes[fewer * n_rows + last + 1],
                };
                let total = cost.saturating_add(rest);
                let best = &mut bytes[class * n_rows + first];
                // Of equal ones that with the longer run, which needs fewer classes.
                if total <= MOST_BYTES && total <= *best {
                    *best = total;
                    ends[class * n_rows + first] = last;
                }
            }
        }
    }
    if bytes[(classes - 1) * n_rows] == NEVER {
        return Err(OptimiseError::TooLarge);
    }
    Ok(Plan { rows, bytes, ends, n_rows, classes, asked })
}

/// Puts the profile into the scratch memory, rounded, sorted, and with rows of equal size merged. Gives the number of rows
/// and the bytes that they ask for together.
fn sort<D: Into<Demand>>(
    profile: impl IntoIterator<Item = D>,
    classes: usize,
    scratch: &mut [usize],
) -> Result<(usize, usize), OptimiseError> {
    let (mut n_rows, mut asked) = (0, 0_usize);
    let mut profile = profile.into_iter().map(Into::into).enumerate();
    while let Some((row, demand)) = profile.next() {
        let new = rounded(demand, row)?;
        asked = asked.saturating_add(demand.size.saturating_mul(demand.peak));
        let mut at = n_rows;
        while at > 0 && Row::get(scratch, at - 1).size >= new.size {
            at -= 1;
        }
        if at < n_rows && Row::get(scratch, at).size == new.size {
            let Row { size, align, peak } = Row::get(scratch, at);
            Row { size, align: align.max(new.align), peak: peak.saturating_add(new.peak) }.put(scratch, at);
            continue;
        }
        if scratch.len() / WORDS == n_rows {
            let needed = optimise_scratch(row + 1 + profile.count(), classes);
            return Err(OptimiseError::ScratchTooSmall { needed, got: scratch.len() });
        }
        scratch.copy_within(at * WORDS..n_rows * WORDS, (at + 1) * WORDS);
        new.put(scratch, at);
        n_rows += 1;
    }
    if n_rows == 0 { Err(OptimiseError::Empty) } else { Ok((n_rows, asked)) }
}

fn rounded(Demand { size, align, peak }: Demand, row: usize) -> Result<Row, OptimiseError> {
    if size == 0 {
        return Err(OptimiseError::NoBytes { row });
    }
    if peak == 0 {
        return Err(OptimiseError::NoBlocks { row });
    }
    if !align.is_power_of_two() || align > MAX_ALIGN {
        return Err(OptimiseError::Alignment { row });
    }
    let align = align.max(GRANULE);
    let size = size.checked_next_multiple_of(align).ok_or(OptimiseError::Overflow { row })?;
    match size.checked_mul(peak) {
        Some(bytes) if bytes <= MOST_BYTES => Ok(Row { size, align, peak }),
        _ => Err(OptimiseError::Overflow { row }),
    }
}

impl Plan<'_> {
    /// The greatest number of classes that there is a table for: what was asked for, or as many as there are sizes if that is
    /// less.
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::{MemReq, optimise, optimise_scratch};
    ///
    /// let mut scratch = [0; optimise_scratch(2, 8)];
    /// assert_eq!(optimise([MemReq::new(64, 1), MemReq::new(128, 1)], 8, &mut scratch)?.classes(), 2);
    /// # Ok::<(), fibra_allocators::OptimiseError>(())
    /// ```
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// What the profile asks for with all its blocks, in bytes: what a table without waste would take.
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::{MemReq, optimise, optimise_scratch};
    ///
    /// let mut scratch = [0; optimise_scratch(2, 2)];
    /// assert_eq!(optimise([MemReq::new(60, 10), MemReq::new(100, 1)], 2, &mut scratch)?.asked(), 700);
    /// # Ok::<(), fibra_allocators::OptimiseError>(())
    /// ```
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked
    }

    /// What the blocks of the best table of at most `n` classes take, in bytes; `None` for no classes, and where all such
    /// tables take more than can be addressed.
    ///
    /// It never grows with `n`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::{MemReq, optimise, optimise_scratch};
    ///
    /// let mut scratch = [0; optimise_scratch(2, 2)];
    /// let plan = optimise([MemReq::new(64, 10), MemReq::new(128, 1)], 2, &mut scratch)?;
    /// assert_eq!((plan.bytes(0), plan.bytes(1), plan.bytes(2)), (None, Some(11 * 128), Some(640 + 128)));
    /// # Ok::<(), fibra_allocators::OptimiseError>(())
    /// ```
    #[must_use]
    pub fn bytes(&self, n: usize) -> Option<usize> {
        let class = n.min(self.classes).checked_sub(1)?;
        Some(self.bytes[class * self.n_rows]).filter(|bytes| *bytes != NEVER)
    }

    /// What the best table of at most `n` classes takes more than was [asked](Plan::asked) for, in bytes; 0 if it takes less,
    /// as it may by [`optimise_by`]; `None` as for [`bytes`](Plan::bytes).
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::{MemReq, optimise, optimise_scratch};
    ///
    /// let mut scratch = [0; optimise_scratch(2, 2)];
    /// let plan = optimise([MemReq::new(64, 10), MemReq::new(128, 1)], 2, &mut scratch)?;
    /// assert_eq!((plan.waste(1), plan.waste(2)), (Some(640), Some(0)));
    /// # Ok::<(), fibra_allocators::OptimiseError>(())
    /// ```
    #[must_use]
    pub fn waste(&self, n: usize) -> Option<usize> {
        Some(self.bytes(n)?.saturating_sub(self.asked))
    }

    /// The rows of the best table of at most `n` classes, smallest block first; none where [`bytes`](Plan::bytes) is `None`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::{MemReq, optimise, optimise_scratch, write_rust};
    ///
    /// let mut scratch = [0; optimise_scratch(2, 2)];
    /// let plan = optimise([MemReq::new(64, 10), MemReq::new(128, 1)], 2, &mut scratch)?;
    /// assert_eq!(plan.rows(1).collect::<Vec<_>>(), [MemReq::new(128, 11)]);
    ///
    /// let mut source = String::new();
    /// write_rust(plan.rows(2), &mut source)?;
    /// assert!(source.contains("MemReq::new(64, 10)"));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn rows(&self, n: usize) -> impl Iterator<Item = MemReq> + Clone + '_ {
        let mut first = if self.bytes(n).is_some() { 0 } else { self.n_rows };
        let mut left = n.min(self.classes);
        core::iter::from_fn(move || {
            if first == self.n_rows {
                return None;
            }
            left -= 1;
            let (row, fewer) = self.run(left, first);
            first = fewer;
            Some(row)
        })
    }

    /// The first class of the best table of `class + 1` classes for the rows from `first` on, and where its rows end.
    fn run(&self, class: usize, first: usize) -> (MemReq, usize) {
        let at = class * self.n_rows + first;
        let end = self.ends[at] + 1;
        let rest = if end == self.n_rows { 0 } else { self.bytes[at - first - self.n_rows + end] };
        let align = (first..end).map(|row| Row::get(self.rows, row).align).fold(GRANULE, usize::max);
        // It is what the class was chosen with.
        let block_size = Row::get(self.rows, end - 1).size.next_multiple_of(align);
        (MemReq { block_size, n_blocks: (self.bytes[at] - rest) / block_size }, end)
    }

    /// The best table of at most `n` classes; `None` if it has more than `N` rows, and as for [`bytes`](Plan::bytes).
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::{MemReq, optimise, optimise_scratch, table};
    ///
    /// let mut scratch = [0; optimise_scratch(3, 2)];
    /// let plan = optimise([MemReq::new(64, 10), MemReq::new(128, 1), MemReq::new(144, 1)], 2, &mut scratch)?;
    /// assert_eq!(plan.table(2), Some(table([MemReq::new(64, 10), MemReq::new(144, 2)])));
    /// assert_eq!(plan.table::<1>(2), None);
    /// # Ok::<(), fibra_allocators::OptimiseError>(())
    /// ```
    #[must_use]
    pub fn table<const N: usize>(&self, n: usize) -> Option<Table<N>> {
        self.bytes(n)?;
        let mut rows = [MemReq::new(0, 0); N];
        let mut len = 0;
        for row in self.rows(n) {
            *rows.get_mut(len)? = row;
            len += 1;
        }
        Some(Table::fixed_up(rows, len))
    }

    /// The number of classes after which more of them help little: the fewest whose table takes at most a tenth more than that
    /// of the [most](Plan::classes).
    ///
    /// O(classes).
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::{MemReq, optimise, optimise_scratch};
    ///
    /// let mut scratch = [0; optimise_scratch(4, 4)];
    /// let two_groups = [MemReq::new(32, 100), MemReq::new(48, 100), MemReq::new(992, 100), MemReq::new(1008, 100)];
    /// assert_eq!(optimise(two_groups, 4, &mut scratch)?.knee(), 2);
    /// # Ok::<(), fibra_allocators::OptimiseError>(())
    /// ```
    #[must_use]
    pub fn knee(&self) -> usize {
        let most = self.classes;
        let least = self.bytes(most).unwrap_or(NEVER);
        let near = |n: &usize| self.bytes(*n).is_some_and(|bytes| bytes - least <= least / 10);
        (1..most).find(near).unwrap_or(most)
    }
}

impl fmt::Debug for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries((1..=self.classes).map(|n| (n, self.bytes(n)))).finish()
    }
}
