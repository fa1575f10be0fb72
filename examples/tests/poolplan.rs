//! The planner as its users meet it: what it prints, what it draws, and what it complains of.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const POOLPLAN: &str = env!("CARGO_BIN_EXE_poolplan");

fn run(arguments: &[&str]) -> Output {
    Command::new(POOLPLAN).args(arguments).output().expect("the program starts")
}

/// What it prints when all goes well.
fn prints(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success(), "{:?}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// What it complains of, with this exit code; it prints nothing else.
fn complains(arguments: &[&str], code: i32) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    String::from_utf8(output.stderr).expect("text")
}

/// A file of the test's own, gone at its end.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str, contents: &[u8]) -> Self {
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("poolplan-{}-{name}", std::process::id()));
        std::fs::write(&file, contents).expect("the target directory can be written to");
        Temporary(file)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path of text")
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Two sizes, 3 and 1 blocks at once; never all four.
const TRACE: &[u8] = b"# a comment, and a line of nothing

a 0x10 100       # an address
a second 100 8
a third  90 1
f second
f 0x10
f third
\ta large 2000 64\r
f large
a large 1999
a nothing 0
f nothing
";

#[test]
fn a_trace_is_profiled_planned_and_tried() {
    let trace = Temporary::new("plan", TRACE);
    let printed = prints(&[trace.path()]);
    let lines: Vec<Vec<&str>> = printed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0].join(" "), format!("{}: 11 operations", trace.path()));
    assert_eq!(lines[2][..4], ["size", "align", "live", "peak"]);
    // 90 bytes are of another granule than 100.
    assert_eq!(lines[3][..5], ["90", "1", "0", "1", "1"]);
    assert_eq!(lines[4][..5], ["100", "8", "0", "2", "2"]);
    assert_eq!(lines[5][..5], ["1999", "1", "0", "1", "1"]);
    assert_eq!(lines[6][..5], ["2048", "64", "0", "1", "1"]);
    assert_eq!(lines[7][..5], ["all", "0", "3", "5", "0"]);
    assert_eq!(lines[9], ["classes", "bytes", "wasted", "%"]);
    assert_eq!(lines[10][..3], ["1", "10240", "5903"]);
    assert_eq!(lines[11][..3], ["2", "4432", "95"]);
    assert_eq!(lines[12][..3], ["3", "4384", "47"]);
    assert!(lines[11].ends_with(&["<"]), "{printed}");
    assert!(printed.contains("\nRecommended: 2 classes; more would save less than a tenth.\n"), "{printed}");
    assert!(printed.contains("\nThe same run on it: nothing was refused.\n"), "{printed}");
    let table = "const SIZES: Table<2> = table([\n    MemReq::new(112, 3),\n    MemReq::new(2048, 2),\n]);\n";
    assert!(printed.contains(table), "{printed}");
    assert!(printed.ends_with("[[class]]\nblock_size = 2048\nn_blocks = 2\n\n"), "{printed}");
}

#[test]
fn together_reserves_what_is_needed_at_the_same_time() {
    let trace = Temporary::new("together", b"a x 100\na y 100\nf x\nf y\na x 130\na y 130\na z 130\n");
    let apart = prints(&["--rust", "--classes", "1", trace.path()]);
    assert!(apart.contains("MemReq::new(144, 5)"), "{apart}");
    let together = prints(&["--rust", "--classes", "1", "--together", trace.path()]);
    assert!(together.contains("MemReq::new(144, 3)"), "{together}");
    for workload in ["fibres", "json", "log-uniform"] {
        let printed = prints(&["--together", "--workload", workload]);
        assert!(printed.contains("nothing was refused"), "{printed}");
    }
}

#[test]
fn a_table_that_was_printed_can_be_read_and_tried() {
    let trace = Temporary::new("try", TRACE);
    let table = Temporary::new("try.toml", prints(&["--toml", trace.path()]).as_bytes());
    let printed = prints(&["--try", table.path(), trace.path()]);
    let outcome = format!("\n{}: 2 classes, 4432 bytes. The same run on it: nothing was refused.\n", table.path());
    let report = "block size   reserved       peak       live\n       112          3          3          0\n\
                  \x20     2048          2          1          0\n       all          5          4          0\n";
    assert!(printed.ends_with(&(outcome + report)), "{printed}");

    // Unsorted, merged, and too few.
    let few = "[[class]]\nblock_size=2048\nn_blocks=1\n[[class]]\nblock_size=100\nn_blocks=1\n\
               [[class]]\nblock_size=112\nn_blocks=1\n";
    let few = Temporary::new("few.toml", few.as_bytes());
    let printed = prints(&["--try", few.path(), trace.path()]);
    let outcome = format!("\n{}: 2 classes, 2272 bytes. The same run on it: 1 request was refused.\n", few.path());
    assert!(printed.contains(&outcome), "{printed}");
}

#[test]
fn tables_that_are_none() {
    let trace = Temporary::new("no-table", TRACE);
    let many: String = (1..=256).map(|i| format!("[[class]]\nblock_size = {}\nn_blocks = 1\n", i * 16)).collect();
    let cases = [
        ("[[class", "expected TOML: "),
        ("", "expected an array of tables, `[[class]]`"),
        ("class = []", "expected an array of tables, `[[class]]`"),
        ("class = 7", "expected an array of tables, `[[class]]`"),
        ("class = [7]", "class 1: expected `block_size` as a whole number from 1"),
        ("[[class]]\nblock_size = 8", "class 1: expected `n_blocks` as a whole number from 1"),
        ("[[class]]\nblock_size = 0\nn_blocks = 1", "class 1: expected `block_size` as a whole number from 1"),
        ("[[class]]\nblock_size = 8\nn_blocks = -1", "class 1: expected `n_blocks` as a whole number from 1"),
        ("[[class]]\nblock_size = 8\nn_blocks = 1.5", "class 1: expected `n_blocks` as a whole number from 1"),
        (
            "[[class]]\nblock_size = 1024\nn_blocks = 9223372036854775807",
            "class 1: expected no more than can be addressed",
        ),
        (
            "[[class]]\nblock_size = 1024\nn_blocks = 4503599627370496\n\
             [[class]]\nblock_size = 2048\nn_blocks = 2251799813685248\n",
            "expected no more than can be addressed",
        ),
        (&many, "expected at most 255 different sizes, found 256"),
    ];
    for (text, what) in cases {
        let table = Temporary::new("bad.toml", text.as_bytes());
        let complaint = complains(&["--try", table.path(), trace.path()], 1);
        assert!(complaint.starts_with(&format!("poolplan: {}: {what}", table.path())), "{complaint}");
    }
    let complaint = complains(&["--try", "/no/such/table", trace.path()], 1);
    assert!(complaint.starts_with("poolplan: /no/such/table: cannot be read: "), "{complaint}");
}

#[test]
fn as_many_classes_as_are_asked_for() {
    let trace = Temporary::new("classes", TRACE);
    for (classes, rows) in [("1", 1), ("2", 2), ("3", 3), ("4", 4), ("255", 4)] {
        let rust = prints(&["--classes", classes, "--rust", trace.path()]);
        assert_eq!(rust.matches("MemReq::new(").count(), rows);
        assert!(rust.starts_with(&format!("const SIZES: Table<{rows}> = table([\n")), "{rust}");
        let toml = prints(&["--toml", trace.path(), "--classes", classes]);
        assert_eq!(toml.matches("[[class]]\n").count(), rows);
        assert!(prints(&["--classes", classes, trace.path()]).contains("\nAs asked: "));
    }
}

#[test]
fn more_classes_never_reserve_more() {
    for workload in ["fibres", "json", "log-uniform"] {
        let mut least = usize::MAX;
        let printed = prints(&["--workload", workload, "--classes", "40"]);
        let chart = printed.lines().skip_while(|line| !line.contains("classes ")).skip(1);
        let mut shown = 0;
        for line in chart.take_while(|line| !line.is_empty()) {
            let bytes: usize = line.split_whitespace().nth(1).expect("a column").parse().expect("a number");
            assert!(bytes <= least, "{printed}");
            (least, shown) = (bytes, shown + 1);
        }
        assert!(shown > 1 && shown <= 40, "{printed}");
    }
}

#[test]
fn a_workload_is_the_same_each_time() {
    for workload in ["json", "log-uniform"] {
        assert_eq!(prints(&["--workload", workload]), prints(&["--workload", workload]));
    }
    // The addresses differ from run to run, the sizes do not.
    assert_eq!(prints(&["--workload", "fibres"]), prints(&["--workload", "fibres"]));
}

#[test]
fn the_standard_input_is_a_trace_too() {
    let mut child = Command::new(POOLPLAN)
        .args(["--toml", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    child.stdin.take().unwrap().write_all(b"a 1 64\n").expect("it reads");
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "[[class]]\nblock_size = 64\nn_blocks = 1\n");
    assert!(output.status.success());
}

#[test]
fn a_file_whose_name_looks_like_an_option() {
    let complaint = complains(&["--toml", "--", "--no-such-file"], 1);
    assert!(complaint.starts_with("poolplan: --no-such-file: cannot be opened: "), "{complaint}");
}

#[test]
fn the_picture_stands_for_itself() {
    let trace = Temporary::new("<&>", TRACE);
    let svg = Temporary::new("chart.svg", b"");
    prints(&["--svg", svg.path(), trace.path()]);
    let picture = std::fs::read_to_string(&svg.0).expect("it was written");
    assert!(picture.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" "));
    assert!(picture.ends_with("</svg>\n"));
    assert!(picture.contains("-&lt;&amp;&gt;</title>"), "{picture}");
    assert!(picture.contains("<title>2 classes: 4432 bytes reserved, 95 wasted</title>"), "{picture}");
    assert_eq!(picture.matches("<rect ").count(), 1 + 4);
    assert_eq!(picture.matches("http").count(), 1, "nothing is fetched from elsewhere");
    for tag in ["svg", "title", "text"] {
        let open = picture.matches(&format!("<{tag}>")).count() + picture.matches(&format!("<{tag} ")).count();
        assert_eq!(open, picture.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn a_picture_that_cannot_be_written() {
    let trace = Temporary::new("no-svg", TRACE);
    let complaint = complains(&["--svg", "/no/such/place.svg", trace.path()], 1);
    assert!(complaint.starts_with("poolplan: cannot write the chart to /no/such/place.svg: "), "{complaint}");
    assert!(complaint.ends_with("; choose another FILE for --svg\n"), "{complaint}");
}

#[test]
fn bad_lines_are_named_with_what_was_expected() {
    let usual = "expected `a ID SIZE [ALIGN]` or `f ID`, found";
    let long = "x".repeat(100);
    let cases: [(&str, String); 16] = [
        ("x 1", format!("{usual} `x 1`")),
        ("a", "expected `a ID SIZE [ALIGN]`, found `a`".into()),
        ("a 1", "expected `a ID SIZE [ALIGN]`, found `a 1`".into()),
        ("a 1 2 4 8", "expected `a ID SIZE [ALIGN]`, found `a 1 2 4 8`".into()),
        ("f", "expected `f ID`, found `f`".into()),
        ("f 1 2", "expected `f ID`, found `f 1 2`".into()),
        ("f 1", "`1` is not live: expected `a 1 SIZE` before".into()),
        ("a ok 8", "`ok` is live since line 1: expected `f ok` before".into()),
        ("a 1 many", "expected SIZE as a number of bytes in decimal, found `many`".into()),
        ("a 1 -1", "expected SIZE as a number of bytes in decimal, found `-1`".into()),
        (
            "a 1 99999999999999999999",
            "expected SIZE as a number of bytes in decimal, found `99999999999999999999`".into(),
        ),
        ("a 1 18446744073709551615", "expected a SIZE that can be addressed, found `18446744073709551615`".into()),
        ("a 1 8 3", "expected ALIGN as a power of two up to 4096, found `3`".into()),
        ("a 1 8 8192", "expected ALIGN as a power of two up to 4096, found `8192`".into()),
        ("a 1 8 0", "expected ALIGN as a power of two up to 4096, found `0`".into()),
        (&long, format!("{usual} `{}...`", &long[..40])),
    ];
    for (line, what) in cases {
        let trace = Temporary::new("bad", format!("a ok 64\n\n{line}\na more 64\n").as_bytes());
        assert_eq!(complains(&[trace.path()], 1), format!("poolplan: {}: line 3: {what}\n", trace.path()));
    }
}

#[test]
fn traces_that_are_none() {
    for contents in ["", "# nothing\n", "a 1 0\nf 1\n"] {
        let trace = Temporary::new("empty", contents.as_bytes());
        let complaint = complains(&[trace.path()], 1);
        assert!(complaint.contains("asks for no memory: expected at least one line `a ID SIZE`"), "{complaint}");
    }
    let trace = Temporary::new("binary", b"a 1 64\na \xFF 64\n");
    assert!(complains(&[trace.path()], 1).contains(": line 2: expected text in UTF-8\n"));
    assert!(complains(&["/no/such/trace"], 1).starts_with("poolplan: /no/such/trace: cannot be opened: "));
    let directory = env!("CARGO_TARGET_TMPDIR");
    assert!(complains(&[directory], 1).starts_with(&format!("poolplan: {directory}: cannot be ")));
}

#[test]
fn more_memory_than_there_is() {
    if std::env::var_os("ASAN_OPTIONS").is_some() {
        return;
    }
    let trace = Temporary::new("huge", format!("a 1 {}\n", isize::MAX).as_bytes());
    let complaint = complains(&[trace.path()], 1);
    assert!(complaint.starts_with("poolplan: out of memory for "), "{complaint}");
}

#[test]
fn arguments_that_mean_nothing_get_the_usage() {
    let wrong: [(&[&str], &str); 14] = [
        (&[], "expected a trace or a workload"),
        (&["a", "b"], "expected one trace or one workload, found more"),
        (&["a", "--workload", "json"], "expected one trace or one workload, found more"),
        (&["--workload", "none"], "there is no workload `none`: expected fibres, json, log-uniform"),
        (&["--workload"], "--workload needs a value"),
        (&["--try"], "--try needs a value"),
        (&["--svg"], "--svg needs a value"),
        (&["--classes"], "--classes needs a value"),
        (&["--classes", "0", "a"], "expected a number of classes from 1 to 255, found `0`"),
        (&["--classes", "256", "a"], "expected a number of classes from 1 to 255, found `256`"),
        (&["--classes", "two", "a"], "expected a number of classes from 1 to 255, found `two`"),
        (&["--rust", "--toml", "a"], "--rust and --toml exclude each other"),
        (&["--verbose", "a"], "there is no option `--verbose`"),
        (&["-v", "a"], "there is no option `-v`"),
    ];
    for (arguments, what) in wrong {
        let complaint = complains(arguments, 2);
        let usage = complaint.strip_prefix(&format!("poolplan: {what}\n")).unwrap_or_else(|| panic!("{complaint}"));
        assert!(usage.starts_with("usage: poolplan "), "{usage}");
    }
}

#[test]
fn help_is_given_where_it_is_asked_for() {
    for help in ["--help", "-h"] {
        let printed = prints(&[help]);
        assert!(printed.starts_with("usage: poolplan "), "{printed}");
        for word in
            ["--classes", "--together", "--try", "--svg", "--rust", "--toml", "a ID SIZE [ALIGN]", "log-uniform"]
        {
            assert!(printed.contains(word), "{word}");
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = Command::new(POOLPLAN)
        .args(["--workload", "log-uniform"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let mut complaint = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert_eq!(complaint, "");
    assert!(child.wait().unwrap().success());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_with_a_message() {
    let full = std::fs::File::create("/dev/full").expect("a device that is always full");
    let output = Command::new(POOLPLAN)
        .args(["--workload", "json"])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.starts_with("poolplan: cannot write the output: "), "{complaint}");
}
