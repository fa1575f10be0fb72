//! Words are counted, whoever counts them and however the text comes.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use fibra_examples::word_count::{Chunks, Counts};
use proptest::prelude::*;

const WORD_COUNT: &str = env!("CARGO_BIN_EXE_word-count");

/// A file of the test's own, gone at its end.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str, contents: &[u8]) -> Self {
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("word-count-{}-{name}", std::process::id()));
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

/// Runs a program that gets `input`, and does not wait for it to read all of that.
fn run_with(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut to = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = to.write_all(input);
        });
        child.wait_with_output().expect("the program ends")
    })
}

fn word_count(arguments: &[&str]) -> Command {
    let mut command = Command::new(WORD_COUNT);
    command.args(arguments);
    command
}

/// What the program prints when all goes well.
fn prints(arguments: &[&str], input: &[u8]) -> String {
    let output = run_with(word_count(arguments), input);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success(), "{:?}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// What the program complains of, with this exit code; it prints nothing else.
fn complains(arguments: &[&str], code: i32) -> String {
    let output = run_with(word_count(arguments), b"some text");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    String::from_utf8(output.stderr).expect("text")
}

/// A text of several chunks: frequent words and rare ones, numbers, and every other byte that there is.
fn text() -> Vec<u8> {
    let mut text = Vec::new();
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    while text.len() < 1_500_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let [kind, between, common, rare, ..] = random.to_le_bytes();
        match kind {
            0..200 => write!(text, "w{}", common % 64).unwrap(),
            200..240 => write!(text, "Word{}x{common}", u32::from(rare) * 7).unwrap(),
            240..250 => write!(text, "{random}").unwrap(),
            // Around it there may be nothing at all.
            _ => text.push(between),
        }
        text.extend_from_slice(match between {
            0..30 => b"\n",
            30..60 => b", ",
            60..70 => b"",
            70..80 => "\u{e9}".as_bytes(),
            _ => b" ",
        });
    }
    text
}

/// A word longer than several chunks, among others.
fn long_word() -> Vec<u8> {
    [b"begin ".to_vec(), vec![b'x'; 1_000_000], b"\nend begin".to_vec()].concat()
}

/// What the shell's own tools count.
#[cfg(unix)]
fn by_the_shell(text: &[u8], last: &str) -> String {
    let mut command = Command::new("sh");
    // An empty line comes of a text that does not begin with a word.
    let pipeline = format!("tr -cs '[:alnum:]' '\\n' | sed '/^$/d' | sort | uniq -c {last}");
    command.args(["-c", &pipeline]).env("LC_ALL", "C");
    let output = run_with(command, text);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[cfg(unix)]
#[test]
fn counts_what_the_shell_counts() {
    for (name, text) in
        [("text", text()), ("long", long_word()), ("empty", Vec::new()), ("none", b"\n-- ; --\n".to_vec())]
    {
        let file = Temporary::new(name, &text);
        let counted = by_the_shell(&text, "");
        for workers in ["1", "2", "5"] {
            assert!(prints(&["--workers", workers, file.path()], b"") == counted, "{name}, {workers} workers, a file");
            assert!(prints(&["--workers", workers], &text) == counted, "{name}, {workers} workers, standard input");
        }
        let most = by_the_shell(&text, "| sort -k 1,1nr -k 2 | head -n 10");
        assert_eq!(prints(&["--top", "10", "-"], &text), most);
    }
}

#[test]
fn the_end_of_a_file_is_the_end_of_a_word() {
    let (one, other) = (Temporary::new("one", b"a b c"), Temporary::new("other", b"c d a"));
    let counted = "      3 a\n      2 b\n      3 c\n      1 d\n";
    let again = Temporary::new("again", b"a-b-c");
    assert_eq!(prints(&[one.path(), other.path(), again.path()], b"not this"), counted);
    assert_eq!(prints(&["--top", "1", one.path(), other.path()], b""), "      2 a\n");
    assert_eq!(prints(&["--top", "0", one.path()], b""), "");
}

#[test]
fn a_text_that_cannot_be_read_is_an_error_with_its_name() {
    let file = Temporary::new("before", &text());
    for workers in ["1", "2"] {
        let complaint = complains(&["--workers", workers, file.path(), "/nonexistent/text", file.path()], 1);
        assert!(complaint.starts_with("word-count: /nonexistent/text cannot be read: "), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
    #[cfg(unix)]
    {
        assert!(complains(&[env!("CARGO_TARGET_TMPDIR")], 1).contains(" cannot be read: "));
        let folder = std::fs::File::open(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let output = word_count(&[]).stdin(folder).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(complaint.starts_with("word-count: the standard input cannot be read: "), "{complaint}");
    }
}

#[test]
fn arguments_that_mean_nothing_get_a_reason_and_the_usage() {
    let wrong: [(&[&str], &str); 8] = [
        (&["--workers"], "--workers needs a number from 1 to 256"),
        (&["--workers", "0"], "--workers needs a number from 1 to 256"),
        (&["--workers", "257"], "--workers needs a number from 1 to 256"),
        (&["--workers", "x"], "--workers needs a number from 1 to 256"),
        (&["--top"], "--top needs a number, for instance --top 10"),
        (&["--top", "-1"], "--top needs a number, for instance --top 10"),
        (&["--verbose"], "there is no option --verbose"),
        (&["a", "-"], "the standard input cannot be counted together with files"),
    ];
    for (arguments, reason) in wrong {
        let complaint = complains(arguments, 2);
        let lines: Vec<&str> = complaint.lines().collect();
        assert_eq!(lines[0], format!("word-count: {reason}"));
        assert!(lines[1].starts_with("usage: word-count ") && lines.len() == 2, "{complaint}");
    }
    assert!(complains(&["--", "--workers"], 1).starts_with("word-count: --workers cannot be read: "));
}

#[test]
fn help_is_given_where_it_is_asked_for() {
    for help in ["--help", "-h"] {
        assert!(prints(&["a", help], b"").starts_with("usage: word-count "));
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let file = Temporary::new("enough", &text());
    let mut child = word_count(&[file.path()]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut complaint = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert_eq!(complaint, "");
    assert!(child.wait().unwrap().success());
}

/// A text that comes in pieces of this size.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.1.min(buffer.len()).min(self.0.len());
        buffer[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

proptest! {
    #[test]
    fn chunks_are_the_text_cut_between_words(
        text in "[ab1 ,\u{e9}]{0,60}", size in 0..20_usize, piece in 1..20_usize
    ) {
        let chunks: Vec<Vec<u8>> = Chunks::new(Pieces(text.as_bytes(), piece), size).map(Result::unwrap).collect();
        prop_assert_eq!(chunks.concat(), text.as_bytes());
        let mut counts = Counts::default();
        for (nth, chunk) in chunks.iter().enumerate() {
            prop_assert!(!chunk.is_empty());
            let ends_in_word = chunk.last().is_some_and(u8::is_ascii_alphanumeric);
            prop_assert!(!ends_in_word || nth == chunks.len() - 1);
            let longest = text.split(|c: char| !c.is_ascii_alphanumeric()).map(str::len).max().unwrap_or(0);
            prop_assert!(chunk.len() <= size.max(2 * (longest + 1)).max(2), "{} bytes", chunk.len());
            let mut more = Counts::default();
            more.add(chunk);
            counts.add_all(more);
        }
        let mut expected = BTreeMap::new();
        for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
            *expected.entry(Box::<[u8]>::from(word.as_bytes())).or_insert(0_u64) += 1;
        }
        prop_assert_eq!(counts.sorted(), expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn chunks_end_after_the_first_error() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("as an example"))?;
            buffer[0] = b' ';
            Ok(1)
        }
    }
    let chunks: Vec<_> = Chunks::new(Broken(7), 3).map(|chunk| chunk.map_err(|error| error.to_string())).collect();
    assert_eq!(chunks, [Ok(b"   ".to_vec()), Ok(b"   ".to_vec()), Err("as an example".to_owned())]);
}
