//! A size-class table in a file, as the program itself prints it.

use fibra_allocators::{GRANULE, MemReq, OptimiseError, Table, optimise, optimise_scratch};

/// As many classes as a table can have.
pub const MOST: usize = 255;

/// Reads an array of tables named `class`, each with `block_size` and `n_blocks`. Gives a sentence on what is wrong, and what
/// was expected, if it is none.
pub fn parse(text: &str) -> Result<Table<MOST>, String> {
    let document: toml::Table = text.parse().map_err(|error| format!("expected TOML: {error}"))?;
    let classes = document.get("class").and_then(toml::Value::as_array).filter(|classes| !classes.is_empty());
    let classes = classes.ok_or("expected an array of tables, `[[class]]`")?;
    let row = |(i, class): (usize, &toml::Value)| {
        let number = |key: &str| {
            let number = class.get(key).and_then(toml::Value::as_integer).and_then(|n| usize::try_from(n).ok());
            let number = number.filter(|number| *number > 0);
            number.ok_or_else(|| format!("class {}: expected `{key}` as a whole number from 1", i + 1))
        };
        Ok(MemReq::new(number("block_size")?, number("n_blocks")?))
    };
    let rows = classes.iter().enumerate().map(row).collect::<Result<Vec<MemReq>, String>>()?;
    let mut sizes: Vec<usize> = rows.iter().map(|row| row.block_size.div_ceil(GRANULE)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    if sizes.len() > MOST {
        return Err(format!("expected at most {MOST} different sizes, found {}", sizes.len()));
    }
    // With a class for each size nothing is left to choose, so this is `fixup` for a number of rows that was read.
    let mut scratch = vec![0; optimise_scratch(rows.len(), MOST)];
    let plan = optimise(rows, MOST, &mut scratch).map_err(|error| match error {
        OptimiseError::Overflow { row } => format!("class {}: expected no more than can be addressed", row + 1),
        _ => "expected no more than can be addressed".to_owned(),
    })?;
    plan.table(MOST).ok_or_else(|| "expected no more than can be addressed".to_owned())
}
