//! docs/licences/THIRD-PARTY.md names every crate that is in the program, at its version, with the text of its licence, and
//! crates/lseg-py/licences/PyO3.txt what the Python wheel has beside.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// "name version" of all that `cargo tree` finds linked into a package, but for the project's own.
fn linked(package: &str, target: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--package", package, "--edges", "normal", "--prefix", "none"])
        // What releases have.
        .args((package == "lseg-fast").then_some(["--features", "serve"]).into_iter().flatten())
        .args(["--target", target])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    // "rayon v1.12.0 (*)"
    // Those of this repository have a path behind them.
    let others = tree.lines().filter(|line| !line.contains(env!("CARGO_MANIFEST_DIR")));
    let crates = others.filter_map(|line| {
        let (name, rest) = line.split_once(" v")?;
        Some(format!("{name} {}", rest.split(' ').next()?))
    });
    crates.collect()
}

/// "name version" of what a text names, in lines of a list: one, and then more about it, or several.
fn named(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("- "));
    lines.flat_map(|line| line.split(", ")).map(str::to_owned).collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn every_crate_in_the_program_is_named_with_its_licence() {
    let text = read("docs/licences/THIRD-PARTY.md");
    let named = named(&text);
    let linked: BTreeSet<String> = TARGETS.into_iter().flat_map(|target| linked("lseg-fast", target)).collect();
    assert!(linked.len() > 50, "{linked:?}");
    let missing: Vec<_> = linked.difference(&named).collect();
    assert!(missing.is_empty(), "make THIRD-PARTY.md again, as its first lines say; it lacks {missing:?}");
    assert!(text.matches("```text").count() >= 5, "the licences' texts");
}

#[test]
fn every_crate_in_the_python_wheel_is_named_with_its_licence() {
    let text = read("crates/lseg-py/licences/PyO3.txt");
    let named: BTreeSet<String> = named(&text).union(&named(&read("docs/licences/THIRD-PARTY.md"))).cloned().collect();
    let linked: BTreeSet<String> = TARGETS.into_iter().flat_map(|target| linked("lseg-py", target)).collect();
    assert!(linked.iter().any(|name| name.starts_with("pyo3 ")), "{linked:?}");
    let missing: Vec<_> = linked.difference(&named).collect();
    assert!(missing.is_empty(), "PyO3.txt lacks {missing:?}");
    assert!(text.contains("Permission is hereby granted"), "the licence's text");
}
