//! A workload that allocates as programs do that nobody wrote with pools in mind: it reads documents, changes them, and
//! writes them again.

extern crate std;

use core::fmt;
use std::string::{String, ToString};
use std::vec::Vec;

use serde_json::{Map, Value, json};

/// What became of the documents. The same for the same number of them, whatever allocator it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Summary {
    /// How many there were.
    pub documents: u32,
    /// Bytes of text read.
    pub read: usize,
    /// Bytes of text written.
    pub written: usize,
    /// Of the text written.
    pub checksum: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { documents, read, written, checksum } = self;
        write!(f, "documents {documents}, bytes read {read}, bytes written {written}, checksum {checksum:016x}")
    }
}

/// Runs `documents` of them through, all of which are in memory at once.
///
/// # Errors
///
/// If a document cannot be read or written, which would be a mistake in here.
pub fn run(documents: u32) -> serde_json::Result<Summary> {
    let mut summary = Summary { documents, read: 0, written: 0, checksum: 0xCBF2_9CE4_8422_2325 };
    let mut orders = Vec::new();
    for number in 0..documents {
        let text = order(number);
        summary.read += text.len();
        orders.push(serde_json::from_str::<Value>(&text)?);
    }
    orders.iter_mut().for_each(settle);
    // Newest first, so that memory comes back in another order than it went.
    while let Some(order) = orders.pop() {
        let text = serde_json::to_string(&order)?;
        summary.written += text.len();
        // Fowler, Noll and Vo's, in 64 bits.
        summary.checksum = text
            .bytes()
            .fold(summary.checksum, |checksum, byte| (checksum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
    }
    Ok(summary)
}

/// A document: between one line and dozens, of words, numbers and escapes.
fn order(number: u32) -> String {
    let words = ["fibre", "channel", "endpoint", "a longer name with spaces in it", "quoted \"name\"", "\u{e9}t\u{e9}"];
    let lines = (0..1 + number * 7 % 31).map(|line| {
        let name = words[((number + line) % 6) as usize];
        json!({
            "name": name,
            "count": line % 9 + 1,
            "price": f64::from(number % 97) + 0.25 * f64::from(line),
            "tags": words[..(line % 4) as usize],
            "note": name.repeat((line % 13) as usize),
        })
    });
    json!({ "number": number, "customer": { "name": words[(number % 6) as usize] }, "lines": lines.collect::<Value>() })
        .to_string()
}

/// Adds what the order costs, line by line and in all, and forgets the notes.
fn settle(order: &mut Value) {
    let mut total = 0.0;
    if let Some(lines) = order["lines"].as_array_mut() {
        lines.retain(|line| line["count"] != 5);
        for line in lines {
            let cost = line["price"].as_f64().unwrap_or(0.0) * line["count"].as_f64().unwrap_or(0.0);
            line["note"].take();
            line["cost"] = cost.into();
            total += cost;
        }
    }
    let customer = order["customer"]["name"].as_str().unwrap_or("").to_uppercase();
    let mut settled = Map::new();
    settled.insert("total".to_string(), total.into());
    settled.insert(customer, order.take());
    *order = settled.into();
}
