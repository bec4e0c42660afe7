//! docs/licences/THIRD-PARTY.md names every crate that is in the program, at its version, with the text of its licence.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// "name version" of all that `cargo tree` finds linked in, but for the project's own.
fn linked(target: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--package", "lseg-fast", "--edges", "normal", "--prefix", "none"])
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

#[test]
fn every_crate_in_the_program_is_named_with_its_licence() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/licences/THIRD-PARTY.md");
    let text = std::fs::read_to_string(file).unwrap();
    let named: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("- "))
        .map(|line| line.split(',').next().unwrap_or_default().to_owned())
        .collect();
    let linked: BTreeSet<String> = TARGETS.into_iter().flat_map(linked).collect();
    assert!(linked.len() > 50, "{linked:?}");
    let missing: Vec<_> = linked.difference(&named).collect();
    assert!(missing.is_empty(), "make THIRD-PARTY.md again, as its first lines say; it lacks {missing:?}");
    assert!(text.matches("```text").count() >= 5, "the licences' texts");
}
