//! The words of the language, and the instructions that they stand for.

extern crate std;

use std::vec::Vec;

/// An instruction of the flat code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Number(i64),
    /// Prints a text, by its number.
    Text(u32),
    /// Goes on elsewhere in the code.
    Jump(u32),
    /// The same, if the value is 0.
    JumpIfZero(u32),
    /// Calls a word, by its number.
    Call(u32),
    Spawn(u32),
    Return,
    Halt,
    Binary(Binary),
    Unary(Unary),
    Dup,
    Drop,
    Swap,
    Over,
    Rot,
    Pick,
    Depth,
    Print,
    Dot,
    Emit,
    Cr,
    Channel,
    Send,
    Receive,
    ReceiveOrEnd,
    Pause,
}

/// What makes one number of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Min,
    Max,
    Equal,
    Unequal,
    Less,
    Greater,
    LessOrEqual,
    GreaterOrEqual,
    And,
    Or,
    Xor,
}

/// What makes one number of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    Negate,
    Abs,
    Not,
}

/// Words that are one instruction each.
const INSTRUCTIONS: &[(&str, Op)] = &[
    ("+", Op::Binary(Binary::Add)),
    ("-", Op::Binary(Binary::Subtract)),
    ("*", Op::Binary(Binary::Multiply)),
    ("/", Op::Binary(Binary::Divide)),
    ("mod", Op::Binary(Binary::Modulo)),
    ("min", Op::Binary(Binary::Min)),
    ("max", Op::Binary(Binary::Max)),
    ("=", Op::Binary(Binary::Equal)),
    ("<>", Op::Binary(Binary::Unequal)),
    ("<", Op::Binary(Binary::Less)),
    (">", Op::Binary(Binary::Greater)),
    ("<=", Op::Binary(Binary::LessOrEqual)),
    (">=", Op::Binary(Binary::GreaterOrEqual)),
    ("and", Op::Binary(Binary::And)),
    ("or", Op::Binary(Binary::Or)),
    ("xor", Op::Binary(Binary::Xor)),
    ("negate", Op::Unary(Unary::Negate)),
    ("abs", Op::Unary(Unary::Abs)),
    ("not", Op::Unary(Unary::Not)),
    ("dup", Op::Dup),
    ("drop", Op::Drop),
    ("swap", Op::Swap),
    ("over", Op::Over),
    ("rot", Op::Rot),
    ("pick", Op::Pick),
    ("depth", Op::Depth),
    ("print", Op::Print),
    (".", Op::Dot),
    ("emit", Op::Emit),
    ("cr", Op::Cr),
    ("channel", Op::Channel),
    ("send", Op::Send),
    ("receive", Op::Receive),
    ("receive-or-end", Op::ReceiveOrEnd),
    ("pause", Op::Pause),
    ("exit", Op::Return),
    ("halt", Op::Halt),
];

/// Words that give a program its structure.
pub const STRUCTURE: &[&str] =
    &[":", ";", "if", "else", "then", "begin", "until", "while", "repeat", "again", "spawn", ".\"", "(", ")", "\\"];

pub fn instruction(name: &str) -> Option<Op> {
    INSTRUCTIONS.iter().find(|(word, _)| *word == name).map(|(_, op)| *op)
}

/// All words that a program begins with.
pub fn built_in<'a>() -> impl Iterator<Item = &'a str> {
    INSTRUCTIONS.iter().map(|(name, _)| *name).chain(STRUCTURE.iter().copied())
}

/// The name that is most like this one, if any is.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 32;
    let name: Vec<char> = name.chars().take(LONGEST + 1).collect();
    if name.len() > LONGEST {
        return None;
    }
    let most = name.len().div_ceil(3);
    let near = names.filter(|other| other.len() <= 4 * LONGEST).map(|other| (distance(&name, other), other));
    // With another letter in each place, it is another word.
    let near = near.filter(|(distance, other)| *distance <= most && *distance < name.len().min(other.chars().count()));
    near.min_by_key(|(distance, _)| *distance).map(|(_, other)| other)
}

/// How many letters have to be put in, left out, replaced, or swapped with their neighbour.
fn distance(one: &[char], other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for (j, b) in other.iter().enumerate() {
            let mut least = (row[j] + usize::from(a != b)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = core::mem::replace(&mut row, next);
    }
    row[other.len()]
}
