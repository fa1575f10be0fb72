//! Tells the report what it was compiled with.

use std::process::Command;

fn first_line(program: &str) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CXXFLAGS");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    println!("cargo::rustc-env=FIBRA_RUSTC={}", first_line(&rustc));
    println!("cargo::rustc-env=FIBRA_CC={}", first_line("cc"));
    let asserting = !std::env::var("CXXFLAGS").is_ok_and(|flags| flags.contains("-DNDEBUG"));
    println!("cargo::rustc-env=FIBRA_CXX_ASSERTS={asserting}");
}
