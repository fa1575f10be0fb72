//! From text to tokens: what white space parts, without the comments.

extern crate std;

use std::string::ToString;
use std::vec::Vec;

use super::source::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'s> {
    /// Of its first byte in the source.
    pub at: usize,
    pub kind: Kind<'s>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'s> {
    Word(&'s str),
    /// Between `."` and `"`; where it begins in the source.
    Text(usize, &'s str),
}

pub fn tokens(source: &str) -> Result<Vec<Token<'_>>, Error> {
    let mut tokens = Vec::new();
    let mut next = if source.starts_with('\u{FEFF}') { '\u{FEFF}'.len_utf8() } else { 0 };
    loop {
        let rest = &source[next..];
        let word = rest.trim_start();
        let at = source.len() - word.len();
        let word = &word[..word.find(char::is_whitespace).unwrap_or(word.len())];
        if word.is_empty() {
            return Ok(tokens);
        }
        next = at + word.len();
        let wrong = |what: &str| Err(Error::new(source, at, what.to_string()));
        let kind = match word {
            "\\" => {
                next += source[next..].find('\n').unwrap_or(source.len() - next);
                continue;
            }
            "(" => match source[next..].find(')') {
                Some(length) => {
                    next += length + 1;
                    continue;
                }
                None => return wrong("the comment that begins here is never closed; end it with `)`"),
            },
            ".\"" => {
                // One character parts the text from its word.
                let begin = next + source[next..].chars().next().map_or(0, char::len_utf8);
                let end = if source[next..].starts_with('\n') { None } else { source[begin..].find(['"', '\n']) };
                let Some(length) = end.filter(|length| source[begin + length..].starts_with('"')) else {
                    return wrong("the text that begins here is not closed on its line; end it with `\"`");
                };
                next = begin + length + 1;
                Kind::Text(begin, &source[begin..begin + length])
            }
            _ => Kind::Word(word),
        };
        tokens.push(Token { at, kind });
    }
}
