//! README, CONTRIBUTING and docs/: every link and every path that they name is there, and README stays short.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Lines of README.md, and columns of a line outside tables.
const README_LINES: usize = 140;
const README_COLUMNS: usize = 120;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Their paths from the root, and texts.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "training/README.md"].map(PathBuf::from).to_vec();
    for folder in ["docs", "docs/licences"] {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        let pages = entries.filter(|name| Path::new(name).extension().is_some_and(|end| end == "md"));
        paths.extend(pages.map(|name| Path::new(folder).join(name)));
    }
    // Licences' texts, which are not ours.
    paths.retain(|path| path.file_name().unwrap() != "THIRD-PARTY.md");
    assert!(paths.len() > 12, "docs has more pages than {paths:?}");
    paths.into_iter().map(|path| (path.clone(), read(&root().join(path)))).collect()
}

/// A heading's name in links, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
    kept.replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let (mut seen, mut dead) = (0, Vec::new());
    for (path, text) in documents() {
        for target in link.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()) {
            if target.contains("://") {
                continue;
            }
            seen += 1;
            let (file, heading) = target.split_once('#').map_or((target, None), |(file, name)| (file, Some(name)));
            let place =
                if file.is_empty() { root().join(&path) } else { root().join(&path).parent().unwrap().join(file) };
            let is_there = place.exists() && heading.is_none_or(|name| anchors(&read(&place)).contains(name));
            if !is_there {
                dead.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(seen > 50, "links are found at all");
    assert!(dead.is_empty(), "links that lead nowhere:\n  {}", dead.join("\n  "));
}

/// "src/image/{jpeg,tiff}.rs" is two paths.
fn expanded(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let (choices, after) = rest.split_once('}').unwrap_or((rest, ""));
    choices.split(',').flat_map(|choice| expanded(&format!("{before}{}{after}", choice.trim()))).collect()
}

#[test]
fn every_path_that_is_named_is_there() {
    let named = Regex::new(
        r"(?:^|[\s`(|])((?:src|kernels|tests|testing|crates|vgpu|xtask|benches|weights|fuzz|docs|examples)/(?:\{[\w, -]+\}|[\w./-])*)",
    )
    .unwrap();
    let placeholder = Regex::new(r"\b(?:NAME|TARGET)\b").unwrap();
    let (mut seen, mut missing) = (0, Vec::new());
    for (document, text) in documents() {
        for path in named.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()) {
            if placeholder.is_match(path) {
                continue;
            }
            for path in expanded(path.trim_end_matches(['.', ','])) {
                seen += 1;
                if !root().join(&path).exists() {
                    missing.push(format!("{}: {path}", document.display()));
                }
            }
        }
    }
    assert!(seen > 100, "paths are found at all");
    assert!(missing.is_empty(), "paths that are not there:\n  {}", missing.join("\n  "));
}

#[test]
fn readme_is_short() {
    let text = read(&root().join("README.md"));
    let lines = text.lines().count();
    assert!(
        lines <= README_LINES,
        "README.md has {lines} lines; at most {README_LINES} sell and start, docs/ explains"
    );
    let wide: Vec<&str> =
        text.lines().filter(|line| !line.starts_with('|') && line.chars().count() > README_COLUMNS).collect();
    assert!(wide.is_empty(), "lines of README.md wider than {README_COLUMNS} columns:\n{}", wide.join("\n"));
}
