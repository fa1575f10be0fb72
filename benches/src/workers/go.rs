//! The contender that is written in another language, and so is another program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Its name in the third column.
pub(super) const NAME: &str = "go";

/// The program with Go's rows, compiled beside this one when it is first asked for; or why there is none.
///
/// # Errors
///
/// What is missing, in words.
pub fn program() -> Result<&'static Path, &'static str> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PROGRAM.get_or_init(build).as_deref().map_err(String::as_str)
}

fn build() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    // Named for this program, so that several of them do not write the same one.
    let mut program = this.into_os_string();
    program.push("-go");
    let output = Command::new("go")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/go"))
        .args(["build", "-o"])
        .arg(&program)
        .output()
        .map_err(|error| format!("`go` cannot be started: {error}"))?;
    match output.status.success() {
        true => Ok(program.into()),
        false => Err(format!("`go build` failed: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
