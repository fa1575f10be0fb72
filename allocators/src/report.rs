//! Counts and tables as text: for people, for spreadsheets, for programs, and as source to paste.

use core::fmt::{self, Write};

use crate::MemReq;

pub(crate) mod sealed {
    use core::fmt::Display;

    /// Something that has counts, in rows and in all.
    ///
    /// The first column of a record is what the row is about; it is `None` in the record of all. Each record is a snapshot,
    /// so that whatever guards the counts is not held while a writer runs.
    pub trait Records {
        /// What the counts are printed as. The pointer's width where that does, because a chip pays for every formatter.
        type Number: Copy + Display;
        type Record: AsRef<[Option<Self::Number>]>;
        const COLUMNS: &'static [&'static str];

        fn records(&self) -> impl Iterator<Item = Self::Record>;
        fn all(&self) -> Self::Record;
    }
}

use sealed::Records;

/// The counts of an allocator, to be written as an aligned table (`Display`), as CSV or as JSON.
///
/// Made by [`SizeClasses::report`](crate::SizeClasses::report), [`Statistics::report`](crate::Statistics::report) and
/// [`Counting::report`](crate::Counting::report). It has a row for each size and one for all of them together, and is
/// written row by row, each as it is at that moment. No lock is held while the writer runs, so the writer may itself use the
/// allocator. The allocator may go on meanwhile, in other threads too; then the rows are of slightly different moments.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::{MemReq, SizeClasses, table};
///
/// let mut memory = [MaybeUninit::uninit(); 1024];
/// let system = SizeClasses::new(&table([MemReq::new(64, 2), MemReq::new(256, 1)]), &mut memory)?;
/// let _hundred = Box::new_in([0_u8; 100], &system);
///
/// print!("{}", system.report());
///
/// let mut csv = String::new();
/// system.report().write_csv(&mut csv)?;
/// assert_eq!(csv, "block_size,reserved,peak,live\n64,2,0,0\n256,1,1,1\nall,3,1,1\n");
///
/// let mut json = String::new();
/// system.report().write_json(&mut json)?;
/// assert!(json.ends_with(r#""all":{"reserved":3,"peak":1,"live":1}}"#));
/// # Ok::<(), std::boxed::Box<dyn core::error::Error>>(())
/// ```
pub struct Report<'a, S: ?Sized>(pub(crate) &'a S);

impl<S: Records + ?Sized> Report<'_, S> {
    /// Writes the counts as comma-separated values: a line of names, a line for each row, and the line of all, in whose
    /// first column there is `all`. What does not add up is left empty there.
    ///
    /// # Errors
    ///
    /// The writer's first error.
    ///
    /// # Examples
    ///
    /// ```
    /// use allocator_api2::alloc::Global;
    /// use fibra_allocators::Counting;
    ///
    /// let mut csv = String::new();
    /// Counting::new(Global).report().write_csv(&mut csv)?;
    /// assert_eq!(csv.lines().last(), Some("all,,0,0,0,0,0,0,0,0"));
    /// # Ok::<(), core::fmt::Error>(())
    /// ```
    pub fn write_csv<W: Write + ?Sized>(&self, to: &mut W) -> fmt::Result {
        for (column, name) in S::COLUMNS.iter().enumerate() {
            to.write_str(if column == 0 { "" } else { "," })?;
            to.write_str(name)?;
        }
        to.write_char('\n')?;
        self.each(&mut |record| csv_line(record, to))
    }

    /// Writes the counts as one JSON object: `rows`, an array of an object for each row, and `all`, an object.
    ///
    /// # Errors
    ///
    /// The writer's first error.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{MemReq, SizeClasses, table};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let system = SizeClasses::new(&table([MemReq::new(64, 2)]), &mut memory)?;
    /// let mut json = String::new();
    /// system.report().write_json(&mut json)?;
    /// assert!(json.starts_with(r#"{"rows":[{"block_size":64,"reserved":2,"peak":0,"live":0}],"all":"#));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn write_json<W: Write + ?Sized>(&self, to: &mut W) -> fmt::Result {
        to.write_str(r#"{"rows":["#)?;
        for (row, record) in self.0.records().enumerate() {
            to.write_str(if row == 0 { "" } else { "," })?;
            json_object::<S, W>(&record, to)?;
        }
        to.write_str(r#"],"all":"#)?;
        json_object::<S, W>(&self.0.all(), to)?;
        to.write_char('}')
    }

    /// The widths of the table's columns: that of the widest number or name, and at least [`LEAST_WIDTH`].
    fn widths(&self) -> [usize; MOST_COLUMNS] {
        let mut widths = [LEAST_WIDTH; MOST_COLUMNS];
        for (width, name) in widths.iter_mut().zip(S::COLUMNS) {
            *width = name.len().max(LEAST_WIDTH);
        }
        // It only counts, so it cannot fail.
        let _ = self.each(&mut |record| {
            for (column, width) in widths.iter_mut().enumerate() {
                *width = cell_width(record, column).max(*width);
            }
            Ok(())
        });
        widths
    }

    /// Visits each record, and then that of all. Through a reference, so that a chip has this loop once.
    fn each(&self, visit: &mut dyn FnMut(&[Option<S::Number>]) -> fmt::Result) -> fmt::Result {
        for record in self.0.records() {
            visit(record.as_ref())?;
        }
        visit(self.0.all().as_ref())
    }
}

/// The columns of a table are at least so wide.
const LEAST_WIDTH: usize = 10;
const MOST_COLUMNS: usize = 10;

impl<S: Records + ?Sized> fmt::Display for Report<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for ((column, name), width) in S::COLUMNS.iter().enumerate().zip(widths) {
            pad(column, width - name.len(), f)?;
            name.chars().try_for_each(|c| f.write_char(if c == '_' { ' ' } else { c }))?;
        }
        f.write_char('\n')?;
        self.each(&mut |record| table_line(record, &widths, f))
    }
}

fn table_line<N: Copy + fmt::Display>(
    record: &[Option<N>],
    widths: &[usize],
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    for (column, width) in (0..record.len()).zip(widths) {
        // A number may have grown since the widths were taken.
        pad(column, width.saturating_sub(cell_width(record, column)), f)?;
        cell(record, column, f)?;
    }
    f.write_char('\n')
}

fn pad<W: Write + ?Sized>(column: usize, spaces: usize, to: &mut W) -> fmt::Result {
    let between = usize::from(column > 0);
    (0..between + spaces).try_for_each(|_| to.write_char(' '))
}

fn cell<N: fmt::Display, W: Write + ?Sized>(record: &[Option<N>], column: usize, to: &mut W) -> fmt::Result {
    match record.get(column) {
        Some(Some(number)) => write!(to, "{number}"),
        _ if column == 0 => to.write_str("all"),
        _ => Ok(()),
    }
}

fn cell_width<N: fmt::Display>(record: &[Option<N>], column: usize) -> usize {
    let mut width = Width(0);
    // It only counts, so it cannot fail.
    let _ = cell(record, column, &mut width);
    width.0
}

fn csv_line<N: fmt::Display, W: Write + ?Sized>(record: &[Option<N>], to: &mut W) -> fmt::Result {
    for column in 0..record.len() {
        to.write_str(if column == 0 { "" } else { "," })?;
        cell(record, column, to)?;
    }
    to.write_char('\n')
}

fn json_object<S: Records + ?Sized, W: Write + ?Sized>(record: &S::Record, to: &mut W) -> fmt::Result {
    let mut before = '{';
    for (name, number) in S::COLUMNS.iter().zip(record.as_ref()) {
        if let Some(number) = number {
            write!(to, r#"{before}"{name}":{number}"#)?;
            before = ',';
        }
    }
    to.write_char('}')
}

/// Counts what is written.
struct Width(usize);

impl Write for Width {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

impl<S: Records + ?Sized> fmt::Debug for Report<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Report(")?;
        self.write_json(f)?;
        f.write_char(')')
    }
}

/// Writes the rows of a size-class table as Rust source: a constant named `SIZES`, to be pasted.
///
/// # Errors
///
/// The writer's first error.
///
/// # Examples
///
/// ```
/// use fibra_allocators::{MemReq, table, write_rust};
///
/// let mut source = String::new();
/// write_rust(table([MemReq::new(64, 10), MemReq::new(32, 100)]).rows().iter().copied(), &mut source)?;
/// assert_eq!(source, "\
/// const SIZES: Table<2> = table([
///     MemReq::new(32, 100),
///     MemReq::new(64, 10),
/// ]);
/// ");
/// # Ok::<(), core::fmt::Error>(())
/// ```
pub fn write_rust<W: Write + ?Sized>(
    rows: impl IntoIterator<Item = MemReq, IntoIter: Clone>,
    to: &mut W,
) -> fmt::Result {
    let rows = rows.into_iter();
    writeln!(to, "const SIZES: Table<{}> = table([", rows.clone().count())?;
    for MemReq { block_size, n_blocks } in rows {
        writeln!(to, "    MemReq::new({block_size}, {n_blocks}),")?;
    }
    to.write_str("]);\n")
}

/// Writes the rows of a size-class table as TOML: an array of tables named `class`.
///
/// # Errors
///
/// The writer's first error.
///
/// # Examples
///
/// ```
/// use fibra_allocators::{MemReq, write_toml};
///
/// let mut toml = String::new();
/// write_toml([MemReq::new(32, 100), MemReq::new(64, 10)], &mut toml)?;
/// assert_eq!(toml, "\
/// [[class]]
/// block_size = 32
/// n_blocks = 100
///
/// [[class]]
/// block_size = 64
/// n_blocks = 10
/// ");
/// # Ok::<(), core::fmt::Error>(())
/// ```
pub fn write_toml<W: Write + ?Sized>(rows: impl IntoIterator<Item = MemReq>, to: &mut W) -> fmt::Result {
    for (row, MemReq { block_size, n_blocks }) in rows.into_iter().enumerate() {
        to.write_str(if row == 0 { "" } else { "\n" })?;
        write!(to, "[[class]]\nblock_size = {block_size}\nn_blocks = {n_blocks}\n")?;
    }
    Ok(())
}
