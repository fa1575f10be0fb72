//! What the programs that talk over a network do alike: an address and some numbers as arguments.

extern crate std;

use core::ops::RangeInclusive;
use std::ffi::OsString;
use std::format;
use std::io::{self, Write};
use std::process::ExitCode;
use std::string::{String, ToString};
use std::vec::Vec;

use crate::command_line::{Output, Trouble};

/// A program whose arguments are an address, and options that are numbers.
pub struct Command {
    /// What the user calls it.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// The address, if the user gives none.
    pub address: &'static str,
    /// Its options.
    pub numbers: &'static [Number],
}

/// An option that is a number.
pub struct Number {
    /// With its dashes.
    pub option: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// The number, if the user gives none.
    pub default: u32,
    /// The numbers that mean something.
    pub range: RangeInclusive<u32>,
}

/// What the user gave.
#[derive(Debug, PartialEq)]
pub struct Given {
    /// Where to listen, or to connect to.
    pub address: String,
    numbers: Vec<(&'static str, u32)>,
}

impl Given {
    /// What was given for the option, or its default.
    ///
    /// # Panics
    /// If the program has no such option.
    #[must_use]
    pub fn number(&self, option: &str) -> u32 {
        let found = self.numbers.iter().find(|(name, _)| *name == option);
        found.expect("an option of this program").1
    }
}

impl Command {
    /// Runs the program with what the user gave.
    ///
    /// The exit code is 0; 1 if something went wrong, with a message; 2 if the arguments mean nothing, with the usage.
    pub fn run(&self, main: impl FnOnce(&Given, &mut Output) -> Result<(), Trouble>) -> ExitCode {
        let given = match self.parse(std::env::args_os().skip(1)) {
            Ok(given) => given,
            Err(what) => {
                // If not even that can be written, the exit code has to do.
                let _ = writeln!(io::stderr(), "{}: {what}\n{}", self.name, self.usage());
                return ExitCode::from(2);
            }
        };
        let mut output = Output::new();
        let done = match given {
            Some(given) => main(&given, &mut output),
            None => write!(output, "{}\n\n{}\n\n{}", self.usage(), self.about, self.explained()).map_err(Trouble::from),
        };
        output.end(self.name, done)
    }

    /// Gives `None` if the user wants help.
    ///
    /// # Errors
    /// A sentence on what is wrong, if they mean nothing.
    pub fn parse(&self, arguments: impl IntoIterator<Item = OsString>) -> Result<Option<Given>, String> {
        let numbers = self.numbers.iter().map(|number| (number.option, number.default)).collect();
        let mut given = Given { address: self.address.to_string(), numbers };
        let (mut arguments, mut has_address) = (arguments.into_iter(), false);
        while let Some(argument) = arguments.next() {
            let Some(text) = argument.to_str() else {
                return Err(format!("there is no option or address `{}`", argument.display()));
            };
            if let Some(at) = self.numbers.iter().position(|number| number.option == text) {
                let value = arguments.next().ok_or_else(|| format!("{text} needs a value"))?;
                given.numbers[at].1 = self.numbers[at].parse(&value)?;
            } else if text == "--help" || text == "-h" {
                return Ok(None);
            } else if text.starts_with('-') {
                return Err(format!("there is no option `{text}`"));
            } else if has_address {
                return Err(format!("expected one address, found `{}` and `{text}`", given.address));
            } else {
                has_address = true;
                given.address = text.to_string();
            }
        }
        Ok(Some(given))
    }

    fn usage(&self) -> String {
        let options: String = self.numbers.iter().map(|number| format!(" [{} N]", number.option)).collect();
        format!("usage: {}{options} [ADDRESS] | --help", self.name)
    }

    fn explained(&self) -> String {
        let numbers = self.numbers.iter().map(|Number { option, about, default, range }| {
            let (least, most) = (range.start(), range.end());
            format!("  {option} N\n      {about}: {least} to {most} (default {default})\n")
        });
        let address = format!("  ADDRESS\n      host and port (default {})\n", self.address);
        numbers.chain([address]).collect()
    }
}

impl Number {
    fn parse(&self, value: &OsString) -> Result<u32, String> {
        let number = value.to_str().and_then(|value| value.parse().ok());
        number.filter(|number| self.range.contains(number)).ok_or_else(|| {
            let (least, most) = (self.range.start(), self.range.end());
            format!("{} needs a number from {least} to {most}, not `{}`", self.option, value.display())
        })
    }
}
