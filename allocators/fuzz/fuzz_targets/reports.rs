//! What the allocators write, others can read: JSON, CSV and TOML with the readers that everybody uses, tables and traces by
//! their own description. And it is true.

#![no_main]

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::mem::MaybeUninit;

use fibra_allocators::{
    Allocator, Counting, Counts, Debugging, Layout, MemReq, NoLock, RowCounts, SizeClasses, Statistics, Table, fixup,
    write_rust, write_toml,
};
use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Unstructured::new(bytes);
    match byte(&mut input) % 3 {
        0 => tables(&mut input),
        1 => counts(&mut input),
        _ => records(&mut input),
    }
});

fn byte(input: &mut Unstructured<'_>) -> u8 {
    input.arbitrary().unwrap_or(0)
}

/// Writes nothing of what would be too much, as a full disk.
struct Full(usize);

impl Write for Full {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

/// What was written; and a writer with less room than that hears of it.
fn written(room: u8, write: impl Fn(&mut dyn Write) -> fmt::Result) -> String {
    let mut text = String::new();
    write(&mut text).expect("a string takes everything");
    let room = usize::from(room);
    assert_eq!(write(&mut Full(room)).is_err(), room < text.len());
    text
}

fn tables(input: &mut Unstructured<'_>) {
    let rows: Vec<MemReq> = (0..byte(input) % 12)
        .map(|_| {
            MemReq::new(input.arbitrary::<usize>().unwrap_or(0) >> 1, input.arbitrary::<usize>().unwrap_or(0) >> 1)
        })
        .collect();
    let room = byte(input);

    let text = written(room, |to| write_toml(rows.iter().copied(), to));
    let document: toml::Table = text.parse().expect("TOML");
    let classes = document.get("class").map_or(&[][..], |classes| classes.as_array().expect("an array"));
    let number = |class: &toml::Value, name: &str| class[name].as_integer().expect("a number") as usize;
    let read: Vec<_> = classes.iter().map(|c| MemReq::new(number(c, "block_size"), number(c, "n_blocks"))).collect();
    assert_eq!(read, rows);

    let text = written(room, |to| write_rust(rows.iter().copied(), to));
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(&*format!("const SIZES: Table<{}> = table([", rows.len())));
    for row in &rows {
        let MemReq { block_size, n_blocks } = row;
        assert_eq!(lines.next(), Some(&*format!("    MemReq::new({block_size}, {n_blocks}),")));
    }
    assert!(lines.eq(["]);"]) && text.ends_with('\n'));
}

/// Allocates and releases as the input says.
fn exercise(input: &mut Unstructured<'_>, allocator: &dyn Allocator, mut look: impl FnMut(&mut Unstructured<'_>)) {
    let mut live = Vec::new();
    for _ in 0..100 {
        if input.is_empty() {
            break;
        }
        let code = byte(input);
        let layout = |input: &mut Unstructured<'_>| {
            let size = usize::from(input.arbitrary::<u16>().unwrap_or(0)) % 700;
            Layout::from_size_align(size, 1 << (byte(input) % 9)).expect("small")
        };
        match code % 4 {
            0 | 1 => {
                let layout = layout(input);
                live.extend(allocator.allocate(layout).map(|block| (block.cast::<u8>(), layout)));
            }
            2 if !live.is_empty() => {
                let (block, old) = live.swap_remove(usize::from(code / 4) % live.len());
                let new = layout(input);
                // SAFETY: allocated with this layout, and the sizes are as each method wants.
                let moved = unsafe {
                    match new.size() < old.size() {
                        true => allocator.shrink(block, old, new),
                        false => allocator.grow(block, old, new),
                    }
                };
                live.push(moved.map_or((block, old), |moved| (moved.cast(), new)));
            }
            3 if !live.is_empty() => {
                let (block, layout) = live.swap_remove(usize::from(code / 4) % live.len());
                // SAFETY: allocated with this layout.
                unsafe { allocator.deallocate(block, layout) };
            }
            _ => look(input),
        }
    }
    for (block, layout) in live {
        // SAFETY: allocated with this layout.
        unsafe { allocator.deallocate(block, layout) };
    }
}

fn table(input: &mut Unstructured<'_>) -> Table<4> {
    let rows = [(); 4].map(|()| MemReq::new(1 + usize::from(byte(input)) * 3, 1 + usize::from(byte(input)) % 9));
    fixup(rows).expect("rows of at least 1 block of 1 byte")
}

type Row = Vec<(&'static str, u64)>;

fn row_of(Counts { live, peak, total, failed, live_bytes, peak_bytes, total_bytes, wasted_bytes }: Counts) -> Row {
    let number = |n: usize| n as u64;
    vec![
        ("live", number(live)),
        ("peak", number(peak)),
        ("total", total),
        ("failed", failed),
        ("live_bytes", number(live_bytes)),
        ("peak_bytes", number(peak_bytes)),
        ("total_bytes", total_bytes),
        ("wasted_bytes", wasted_bytes),
    ]
}

fn counts(input: &mut Unstructured<'_>) {
    let table = table(input);
    let mut memory = vec![MaybeUninit::uninit(); table.arena_size() + 16];
    let system = SizeClasses::new(&table, &mut memory).expect("what the table asks for");
    let stats = Statistics::<_, NoLock, 40>::over(Counting::new(&system));
    let report = |room: u8| {
        let rows = stats.rows().map(|RowCounts { size, align, counts }| {
            [("size", size as u64), ("align", align as u64)].into_iter().chain(row_of(counts)).collect()
        });
        compare(
            rows.collect(),
            &row_of(stats.counts()),
            &["size", "align"],
            &[&|to| stats.report().write_json(to), &|to| stats.report().write_csv(to), &|to| {
                write!(to, "{}", stats.report())
            }],
            room,
        );
        compare(
            Vec::new(),
            &row_of(stats.inner().counts()),
            &["size", "align"],
            &[&|to| stats.inner().report().write_json(to), &|to| stats.inner().report().write_csv(to), &|to| {
                write!(to, "{}", stats.inner().report())
            }],
            room,
        );
        let classes: Vec<_> = system.classes().map(|class| [class.reserved, class.peak, class.live]).collect();
        let sum = |at: usize| classes.iter().map(|class| class[at] as u64).sum();
        let rows = system.classes().zip(&classes).map(|(class, [reserved, peak, live])| {
            let (reserved, peak, live) = (*reserved as u64, *peak as u64, *live as u64);
            vec![("block_size", class.block_size as u64), ("reserved", reserved), ("peak", peak), ("live", live)]
        });
        let all = vec![("reserved", sum(0)), ("peak", sum(1)), ("live", sum(2))];
        compare(
            rows.collect(),
            &all,
            &["block_size"],
            &[&|to| system.report().write_json(to), &|to| system.report().write_csv(to), &|to| {
                write!(to, "{}", system.report())
            }],
            room,
        );
    };
    exercise(input, &&stats, |input| report(byte(input)));
    report(255);
}

/// Reads what the three writers wrote (JSON, CSV, a table), and compares it with the counts; in the line of all, some columns
/// are missing.
fn compare(
    rows: Vec<Row>,
    all: &Row,
    not_in_all: &[&str],
    writers: &[&dyn Fn(&mut dyn Write) -> fmt::Result; 3],
    room: u8,
) {
    let [json, csv, table] = writers.map(|write| written(room, write));

    let json: Value = serde_json::from_str(&json).expect("JSON");
    let object = |row: &Row| Value::Object(row.iter().map(|(name, n)| (name.to_string(), (*n).into())).collect());
    assert_eq!(json["rows"], Value::Array(rows.iter().map(object).collect()));
    assert_eq!(json["all"], object(all));
    assert_eq!(json.as_object().map(serde_json::Map::len), Some(2));

    let mut names = not_in_all.to_vec();
    names.extend(all.iter().map(|(name, _)| *name));
    let cells = |row: &Row| row.iter().map(|(_, n)| n.to_string()).collect::<Vec<_>>();
    let mut expected: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let mut last = vec![String::new(); not_in_all.len()];
    last[0] = "all".into();
    last.extend(cells(all));
    expected.push(last);

    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    assert!(reader.headers().expect("a first line").iter().eq(names.iter().copied()));
    let read = reader.records().map(|record| record.expect("CSV").iter().map(str::to_string).collect());
    assert_eq!(read.collect::<Vec<Vec<_>>>(), expected);

    let widths: Vec<usize> = table.lines().map(str::len).collect();
    assert!(widths.iter().all(|width| *width == widths[0]), "the lines of a table are of one width");
    let mut lines = table.lines();
    let header = names.iter().map(|name| name.replace('_', " ")).collect::<Vec<_>>().join(" ");
    assert!(lines.next().expect("a first line").split_whitespace().eq(header.split_whitespace()));
    for (line, cells) in lines.zip(&expected) {
        assert!(line.split_whitespace().eq(cells.iter().filter(|cell| !cell.is_empty())));
    }
    assert_eq!(table.lines().count(), expected.len() + 1);
}

/// Takes each line down, and checks that at every moment the trace says what is live.
fn records(input: &mut Unstructured<'_>) {
    let table = table(input);
    let mut memory = vec![MaybeUninit::uninit(); table.arena_size() + 16];
    let system = SizeClasses::new(&table, &mut memory).expect("what the table asks for");
    const TAG: &str = "a tag: with anything, \"in\" it";
    let tagged = Debugging::new(&system, TAG, String::new());
    let stats = Statistics::new(&tagged);
    let trace = Debugging::trace(&stats, String::new());
    exercise(input, &&trace, |_| {});
    assert_eq!(trace.failures(), 0);
    let text = trace.into_writer();
    let (mut live, mut failed) = (HashMap::new(), 0);
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let number = |word: &str| word.parse::<usize>().expect("a number");
        match *words {
            ["a", id, size, align] => {
                assert!(id.starts_with("0x") && usize::from_str_radix(&id[2..], 16).is_ok());
                assert!(number(size) > 0 && number(align).is_power_of_two());
                assert_eq!(live.insert(id, number(size)), None, "it was released before");
            }
            ["f", id] => assert!(live.remove(id).is_some(), "it was allocated before"),
            ["#", "refused", size, align] => {
                failed += 1;
                assert!(number(size) > 0 && number(align).is_power_of_two());
            }
            _ => panic!("{line}"),
        }
    }
    assert!(live.is_empty());
    assert_eq!(stats.counts().failed, failed);
    assert_eq!(tagged.failures(), 0);
    let text = tagged.into_writer();
    let refused = |line: &&str| line.ends_with(" -> refused");
    assert_eq!(text.lines().filter(refused).count() as u64, failed);
    assert!(text.lines().all(|line| line.strip_prefix(TAG).is_some_and(|line| line.starts_with(": "))));
}
