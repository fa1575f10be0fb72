//! Counts as text: tables, CSV and JSON, by writers that fail, panic, or use the allocator themselves.

mod support;

use std::fmt::{self, Write};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};

use allocator_api2::alloc::Global;
use allocator_api2::boxed::Box;
use fibra_allocators::{Allocator, Counting, MemReq, SizeClasses, SpinLock, Statistics, table, write_rust, write_toml};
use support::{layout, release};

/// Some requests of different sizes: 48 and 2000 bytes live, 100 bytes released, and one refused.
fn busy() -> Statistics<Global, SpinLock> {
    let stats = Statistics::over(Global);
    for (size, align) in [(48, 8), (2000, 16), (100, 1)] {
        let block = (&stats).allocate(layout(size, align)).expect("room");
        // What stays live is the test's to leak, but not a sanitizer's to find.
        if size == 100 {
            release(&stats, block, layout(size, align));
        } else {
            release(stats.inner(), block, layout(size, align));
        }
    }
    assert!((&stats).allocate(layout(isize::MAX as usize, 1)).is_err());
    stats
}

fn csv(write: impl FnOnce(&mut String) -> fmt::Result) -> String {
    let mut text = String::new();
    write(&mut text).expect("a string takes all");
    text
}

#[test]
fn statistics_as_a_table() {
    let table = busy().report().to_string();
    let lines: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let heading = "size align live peak total failed live bytes peak bytes total bytes wasted bytes";
    assert_eq!(lines[0].join(" "), heading);
    assert_eq!(lines[1], ["48", "8", "1", "1", "1", "0", "48", "48", "48", "0"]);
    assert_eq!(lines[2], ["100", "1", "0", "1", "1", "0", "0", "100", "100", "0"]);
    assert_eq!(lines[3], ["2000", "16", "1", "1", "1", "0", "2000", "2000", "2000", "0"]);
    assert_eq!(lines[4][1..], ["1", "0", "0", "0", "1", "0", "0", "0", "0"]);
    assert_eq!(lines[5], ["all", "2", "3", "3", "1", "2048", "2148", "2148", "0"]);
    assert_eq!(lines.len(), 6);
}

#[test]
fn the_columns_of_a_table_are_aligned_however_wide() {
    let stats = busy();
    let table = stats.report().to_string();
    let widths: Vec<_> = table.lines().map(str::len).collect();
    // The refused request has 19 digits on a 64-bit machine.
    assert!(widths.iter().all(|width| *width == widths[0]), "{table}");
    let ends = |line: &str| -> Vec<usize> {
        let bytes = line.as_bytes();
        (0..bytes.len()).filter(|i| bytes[*i] != b' ' && bytes.get(i + 1).is_none_or(|next| *next == b' ')).collect()
    };
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(ends(lines[1]), ends(lines[2]));
    assert_eq!(ends(lines[1]), ends(lines[4]));
    assert_eq!(Counting::new(Global).report().to_string().lines().count(), 2);
}

#[test]
fn statistics_as_csv() {
    let stats = busy();
    let text = csv(|to| stats.report().write_csv(to));
    let expected = format!(
        "size,align,live,peak,total,failed,live_bytes,peak_bytes,total_bytes,wasted_bytes\n\
         48,8,1,1,1,0,48,48,48,0\n\
         100,1,0,1,1,0,0,100,100,0\n\
         2000,16,1,1,1,0,2000,2000,2000,0\n\
         {},1,0,0,0,1,0,0,0,0\n\
         all,,2,3,3,1,2048,2148,2148,0\n",
        isize::MAX
    );
    assert_eq!(text, expected);
}

#[test]
fn statistics_as_json() {
    let stats = Statistics::new(Global);
    let _live = Box::new_in([0_u8; 48], &stats);
    let counts =
        r#""live":1,"peak":1,"total":1,"failed":0,"live_bytes":48,"peak_bytes":48,"total_bytes":48,"wasted_bytes":0"#;
    let expected = format!(r#"{{"rows":[{{"size":48,"align":1,{counts}}}],"all":{{{counts}}}}}"#);
    assert_eq!(csv(|to| stats.report().write_json(to)), expected);
    assert_eq!(format!("{:?}", stats.report()), format!("Report({expected})"));
}

#[test]
fn classes_as_csv_and_json() {
    let mut memory = [MaybeUninit::uninit(); 4096];
    let system = SizeClasses::new(&table([MemReq::new(1024, 2), MemReq::new(64, 10)]), &mut memory).expect("room");
    let block = (&system).allocate(layout(1000, 1)).expect("room");
    let _live = Box::new_in([0_u8; 64], &system);
    release(&system, block, layout(1000, 1));
    let report = system.report();
    assert_eq!(csv(|to| report.write_csv(to)), "block_size,reserved,peak,live\n64,10,1,1\n1024,2,1,0\nall,12,2,1\n");
    assert_eq!(
        csv(|to| report.write_json(to)),
        "{\"rows\":[{\"block_size\":64,\"reserved\":10,\"peak\":1,\"live\":1},\
         {\"block_size\":1024,\"reserved\":2,\"peak\":1,\"live\":0}],\
         \"all\":{\"reserved\":12,\"peak\":2,\"live\":1}}"
    );
}

#[test]
fn no_rows_are_valid_text_too() {
    let stats = Statistics::new(Global);
    assert!(csv(|to| stats.report().write_json(to)).starts_with("{\"rows\":[],\"all\":{\"live\":0,"));
    assert_eq!(csv(|to| stats.report().write_csv(to)).lines().count(), 2);
    let counting = Counting::new(Global);
    assert_eq!(csv(|to| counting.report().write_csv(to)), csv(|to| stats.report().write_csv(to)));
    assert_eq!(csv(|to| counting.report().write_json(to)), csv(|to| stats.report().write_json(to)));
}

/// Takes so many bytes and no more.
struct Room(usize);

impl Write for Room {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

fn assert_needs_all(text: &str, write: impl Fn(&mut Room) -> fmt::Result) {
    for room in 0..text.len() {
        assert_eq!(write(&mut Room(room)), Err(fmt::Error), "{room} bytes");
    }
    assert_eq!(write(&mut Room(text.len())), Ok(()));
}

#[test]
fn a_failed_write_is_returned_wherever_it_fails() {
    let stats = busy();
    let report = stats.report();
    assert_needs_all(&report.to_string(), |to| write!(to, "{report}"));
    assert_needs_all(&csv(|to| report.write_csv(to)), |to| report.write_csv(to));
    assert_needs_all(&csv(|to| report.write_json(to)), |to| report.write_json(to));
    let rows = [MemReq::new(32, 100), MemReq::new(64, 7)];
    assert_needs_all(&csv(|to| write_rust(rows, to)), |to| write_rust(rows, to));
    assert_needs_all(&csv(|to| write_toml(rows, to)), |to| write_toml(rows, to));
}

/// Allocates from the very allocator that it writes about: in a section under its lock that would hang.
struct Entangled<'a> {
    stats: &'a Statistics<Global, SpinLock>,
    lines: Vec<Box<[u8; 300], &'a Statistics<Global, SpinLock>>>,
}

impl Write for Entangled<'_> {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        self.lines.push(Box::new_in([0; 300], self.stats));
        self.lines.truncate(3);
        Ok(())
    }
}

#[test]
fn a_writer_may_use_the_allocator_that_it_writes_about() {
    let stats = busy();
    let mut writer = Entangled { stats: &stats, lines: Vec::new() };
    stats.report().write_csv(&mut writer).expect("it takes all");
    stats.report().write_json(&mut writer).expect("it takes all");
    write!(writer, "{}", stats.report()).expect("it takes all");
    drop(writer);
    let row = stats.rows().find(|row| row.size == 300).expect("what the writer took");
    assert_eq!((row.counts.live, row.counts.peak), (0, 4));
}

struct Panics;

impl Write for Panics {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        panic!("the writer")
    }
}

#[test]
fn a_writer_that_panics_leaves_nothing_locked() {
    let stats = busy();
    assert!(catch_unwind(AssertUnwindSafe(|| stats.report().write_csv(&mut Panics))).is_err());
    assert_eq!(stats.counts().live, 2);
    let one_more = (&stats).allocate(layout(10, 1)).expect("room");
    release(&stats, one_more, layout(10, 1));
}

#[test]
fn through_a_trait_object() {
    let mut text = String::new();
    let to: &mut dyn Write = &mut text;
    busy().report().write_csv(to).expect("a string takes all");
    write_rust([MemReq::new(32, 1)], to).expect("a string takes all");
    write_toml([MemReq::new(32, 1)], to).expect("a string takes all");
    assert!(text.ends_with("]);\n[[class]]\nblock_size = 32\nn_blocks = 1\n"));
}

#[test]
fn what_is_printed_as_source_is_the_table() {
    // As pasted: the test below it prints the same again.
    use fibra_allocators::Table;
    const SIZES: Table<3> = table([MemReq::new(32, 100), MemReq::new(64, 20), MemReq::new(1024, 2)]);
    let source = csv(|to| write_rust(SIZES.rows().iter().copied(), to));
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    assert_eq!(lines[0], "const SIZES: Table<3> = table([");
    assert_eq!(lines[1..4], ["MemReq::new(32, 100),", "MemReq::new(64, 20),", "MemReq::new(1024, 2),"]);
    assert_eq!(lines[4..], ["]);"]);
    assert_eq!(csv(|to| write_rust([], to)), "const SIZES: Table<0> = table([\n]);\n");
    assert_eq!(csv(|to| write_toml([], to)), "");
}
