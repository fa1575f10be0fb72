//! From tokens to flat code, of which each instruction knows its place in the source.

extern crate std;

use std::borrow::ToOwned;
use std::collections::HashMap;
use std::format;
use std::string::String;
use std::vec::Vec;

use super::lexer::{Kind, Token, tokens};
use super::source::{Error, quoted, shown, text};
use super::words::{Op, STRUCTURE, built_in, instruction, nearest};

/// A program that can be [run](super::run).
#[derive(Debug)]
pub struct Program {
    pub(super) code: Vec<Op>,
    pub(super) words: Vec<Word>,
    pub(super) texts: Vec<String>,
    source: String,
    /// Where in the source each instruction comes from.
    places: Vec<usize>,
}

/// A word that the program defines.
#[derive(Debug)]
pub(super) struct Word {
    pub name: String,
    /// Where in the code it begins.
    pub entry: usize,
}

impl Program {
    /// An error in the instruction at `at`.
    pub(super) fn error(&self, at: usize, what: String) -> Error {
        Error::new(&self.source, self.place(at), what)
    }

    fn place(&self, at: usize) -> usize {
        self.places.get(at).copied().unwrap_or(0)
    }
}

/// Compiles a program.
///
/// Takes time and memory in proportion to its length; no nesting is too deep.
///
/// # Errors
/// The first thing that is wrong with it.
///
/// ```
/// let error = fibra_examples::stack_language::compile(b"6 7 *\n  pritn").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "2:3: unknown word `pritn`; did you mean `print`?\n      pritn\n      ^"
/// );
/// ```
pub fn compile(source: &[u8]) -> Result<Program, Error> {
    let source = text(source)?;
    let tokens = tokens(source)?;
    let mut compiler = Compiler::new(source, &tokens);
    for i in 0..tokens.len() {
        compiler.token(i)?;
    }
    compiler.end()
}

struct Compiler<'s, 't> {
    source: &'s str,
    tokens: &'t [Token<'s>],
    /// Tokens before this one have been dealt with.
    next: usize,
    code: Vec<Op>,
    places: Vec<usize>,
    words: Vec<Definition<'s>>,
    texts: Vec<String>,
    by_name: HashMap<&'s str, usize>,
    /// The definition that is open, and the jump past it.
    defining: Option<(usize, usize)>,
    /// What is open, the innermost last.
    open: Vec<Open>,
}

struct Definition<'s> {
    name: &'s str,
    at: usize,
    /// Where in the code it begins, once that is known.
    entry: Option<usize>,
}

/// A structure that is open: where in the source, and which instructions its end is about.
struct Open {
    at: usize,
    part: Part,
}

#[derive(Clone, Copy)]
enum Part {
    If { jump: usize },
    Else { jump: usize },
    Begin { start: usize },
    While { start: usize, jump: usize },
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::If { .. } => "if",
            Part::Else { .. } => "else",
            Part::Begin { .. } => "begin",
            Part::While { .. } => "while",
        }
    }

    fn closed_by(self) -> &'static str {
        match self {
            Part::If { .. } => "`else` or `then`",
            Part::Else { .. } => "`then`",
            Part::Begin { .. } => "`until`, `again`, or `while` and `repeat`",
            Part::While { .. } => "`repeat`",
        }
    }
}

/// To be filled in when it is known where to.
const UNKNOWN: u32 = u32::MAX;

impl<'s, 't> Compiler<'s, 't> {
    fn new(source: &'s str, tokens: &'t [Token<'s>]) -> Self {
        let mut words = Vec::new();
        let mut by_name = HashMap::new();
        for pair in tokens.windows(2) {
            if let (Kind::Word(":"), Kind::Word(name)) = (pair[0].kind, pair[1].kind) {
                by_name.entry(name).or_insert_with(|| {
                    words.push(Definition { name, at: pair[1].at, entry: None });
                    words.len() - 1
                });
            }
        }
        Compiler {
            source,
            tokens,
            next: 0,
            code: Vec::new(),
            places: Vec::new(),
            words,
            texts: Vec::new(),
            by_name,
            defining: None,
            open: Vec::new(),
        }
    }

    fn wrong<T>(&self, at: usize, what: String) -> Result<T, Error> {
        Err(Error::new(self.source, at, what))
    }

    fn emit(&mut self, at: usize, op: Op) -> usize {
        self.code.push(op);
        self.places.push(at);
        self.code.len() - 1
    }

    /// Where the next instruction goes. Each token makes one or two, and the source is short: so they can be counted in
    /// 32 bits.
    fn here(&self) -> u32 {
        self.code.len() as u32
    }

    /// Has the jump at `jump` go on here.
    fn land(&mut self, jump: usize) {
        let here = self.here();
        if let Some(Op::Jump(to) | Op::JumpIfZero(to)) = self.code.get_mut(jump) {
            *to = here;
        }
    }

    fn token(&mut self, i: usize) -> Result<(), Error> {
        if i < self.next {
            return Ok(());
        }
        self.next = i + 1;
        let Token { at, kind } = self.tokens[i];
        let word = match kind {
            Kind::Text(_, text) => {
                let number = self.texts.len() as u32;
                self.texts.push(text.to_owned());
                self.emit(at, Op::Text(number));
                return Ok(());
            }
            Kind::Word(word) => word,
        };
        match word {
            ":" => return self.begin_definition(at),
            ";" => return self.end_definition(at),
            "spawn" => return self.spawn(at),
            _ if STRUCTURE.contains(&word) => return self.structure(at, word),
            _ => {}
        }
        let op = match (instruction(word), self.by_name.get(word)) {
            (Some(op), _) => op,
            (None, Some(number)) => Op::Call(*number as u32),
            (None, None) => self.number(at, word)?,
        };
        self.emit(at, op);
        Ok(())
    }

    fn number(&self, at: usize, word: &str) -> Result<Op, Error> {
        if !is_number(word) {
            return self.wrong(at, self.unknown(word));
        }
        match word.parse() {
            Ok(number) => Ok(Op::Number(number)),
            Err(_) => {
                let what =
                    format!("the number {} does not fit; take one from {} to {}", quoted(word), i64::MIN, i64::MAX);
                self.wrong(at, what)
            }
        }
    }

    fn unknown(&self, word: &str) -> String {
        let name = quoted(word);
        for opening in ["(", ".\"", "\\"] {
            if word.starts_with(opening) {
                return format!("unknown word {name}; put a space after `{opening}`");
            }
        }
        let names = self.words.iter().map(|word| word.name).chain(built_in());
        match nearest(word, names) {
            Some(near) => format!("unknown word {name}; did you mean {}?", quoted(near)),
            None => format!("unknown word {name}; define it with `: {} ... ;`", shown(word)),
        }
    }

    fn begin_definition(&mut self, at: usize) -> Result<(), Error> {
        if let Some((number, _)) = self.defining {
            let Definition { name, at: begun, .. } = self.words[number];
            let what = format!(
                "a definition within that of {}, which begins in line {}; end that with `;` first",
                quoted(name),
                Error::new(self.source, begun, String::new()).line
            );
            return self.wrong(at, what);
        }
        if let Some(open) = self.open.last() {
            let (name, closed_by) = (open.part.name(), open.part.closed_by());
            let what = format!("a definition within `{name}`; close that with {closed_by} first");
            return self.wrong(at, what);
        }
        let (name_at, name) = match self.tokens.get(self.next).copied() {
            Some(Token { at, kind: Kind::Word(name) }) => (at, name),
            Some(Token { at, kind: Kind::Text(..) }) => (at, ".\""),
            None => return self.wrong(at, "`:` without a name; write `: name ... ;`".to_owned()),
        };
        self.next += 1;
        if name == ";" {
            return self.wrong(at, "`:` without a name; write `: name ... ;`".to_owned());
        }
        if built_in().any(|word| word == name) {
            return self.wrong(name_at, format!("{} is a word of the language; choose another name", quoted(name)));
        }
        if is_number(name) {
            return self.wrong(name_at, format!("{} is a number, and cannot be a name", quoted(name)));
        }
        let Some(&number) = self.by_name.get(name) else { return Ok(()) };
        if self.words[number].entry.is_some() {
            let line = Error::new(self.source, self.words[number].at, String::new()).line;
            let what = format!("{} is defined in line {line} already; choose another name", quoted(name));
            return self.wrong(name_at, what);
        }
        let past = self.emit(at, Op::Jump(UNKNOWN));
        self.words[number].entry = Some(self.code.len());
        self.defining = Some((number, past));
        Ok(())
    }

    fn end_definition(&mut self, at: usize) -> Result<(), Error> {
        self.nothing_open()?;
        let Some((_, past)) = self.defining.take() else {
            return self.wrong(at, "`;` without a definition to end; begin one with `: name`".to_owned());
        };
        self.emit(at, Op::Return);
        self.land(past);
        Ok(())
    }

    fn spawn(&mut self, at: usize) -> Result<(), Error> {
        let name = match self.tokens.get(self.next).map(|token| token.kind) {
            Some(Kind::Word(name)) => name,
            Some(Kind::Text(..)) => ".\"",
            None => return self.wrong(at, "`spawn` without a name; write `spawn name`".to_owned()),
        };
        let name_at = self.tokens[self.next].at;
        self.next += 1;
        if built_in().any(|word| word == name) || (is_number(name) && !self.by_name.contains_key(name)) {
            let what = format!("{} cannot be spawned; define a word that does it, and spawn that", quoted(name));
            return self.wrong(name_at, what);
        }
        match self.by_name.get(name) {
            Some(&number) => self.emit(at, Op::Spawn(number as u32)),
            None => return self.wrong(name_at, self.unknown(name)),
        };
        Ok(())
    }

    fn structure(&mut self, at: usize, word: &str) -> Result<(), Error> {
        let here = self.code.len();
        let innermost = self.open.last().map(|open| open.part);
        match (word, innermost) {
            ("if", _) => {
                let jump = self.emit(at, Op::JumpIfZero(UNKNOWN));
                self.open.push(Open { at, part: Part::If { jump } });
            }
            ("begin", _) => self.open.push(Open { at, part: Part::Begin { start: here } }),
            ("else", Some(Part::If { jump })) => {
                let end = self.emit(at, Op::Jump(UNKNOWN));
                self.land(jump);
                self.close_and_open(at, Part::Else { jump: end });
            }
            ("then", Some(Part::If { jump } | Part::Else { jump })) => {
                self.land(jump);
                self.open.pop();
            }
            ("while", Some(Part::Begin { start })) => {
                let jump = self.emit(at, Op::JumpIfZero(UNKNOWN));
                self.close_and_open(at, Part::While { start, jump });
            }
            ("repeat", Some(Part::While { start, jump })) => {
                self.emit(at, Op::Jump(start as u32));
                self.land(jump);
                self.open.pop();
            }
            ("until", Some(Part::Begin { start })) => {
                self.emit(at, Op::JumpIfZero(start as u32));
                self.open.pop();
            }
            ("again", Some(Part::Begin { start })) => {
                self.emit(at, Op::Jump(start as u32));
                self.open.pop();
            }
            (")", _) => return self.wrong(at, "`)` without a comment to end; begin one with `(`".to_owned()),
            (_, Some(part)) => {
                let (name, closed_by) = (part.name(), part.closed_by());
                return self.wrong(at, format!("`{word}` within `{name}`; close that with {closed_by} first"));
            }
            (_, None) => {
                let opening = match word {
                    "else" | "then" => "if",
                    "repeat" => "begin ... while",
                    _ => "begin",
                };
                return self.wrong(at, format!("`{word}` belongs to nothing; put `{opening}` before it"));
            }
        }
        Ok(())
    }

    fn close_and_open(&mut self, at: usize, part: Part) {
        self.open.pop();
        self.open.push(Open { at, part });
    }

    fn nothing_open(&self) -> Result<(), Error> {
        match self.open.last() {
            None => Ok(()),
            Some(Open { at, part }) => {
                self.wrong(*at, format!("`{}` is never closed; close it with {}", part.name(), part.closed_by()))
            }
        }
    }

    fn end(mut self) -> Result<Program, Error> {
        self.nothing_open()?;
        if let Some((number, _)) = self.defining {
            let Definition { name, at, .. } = self.words[number];
            return self.wrong(at, format!("the definition of {} is never closed; end it with `;`", quoted(name)));
        }
        self.emit(self.source.len(), Op::Return);
        let words = self.words.iter();
        let words = words.map(|word| Word { name: word.name.to_owned(), entry: word.entry.unwrap_or(0) }).collect();
        let Compiler { code, texts, places, source, .. } = self;
        Ok(Program { code, words, texts, source: source.to_owned(), places })
    }
}

fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
