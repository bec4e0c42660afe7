//! The order of the modules, read from its sources: who may know whom, how long a file may be, and that some facts stand once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Modules of src from the ground up: each knows those of lower floors alone. A module that is not here lies below all of them.
const FLOORS: [&[&str]; 9] = [
    &["ops"],
    &["plan"],
    &["memory"],
    &["model", "device"],
    &["build", "checksum", "plan_report"],
    &["engine", "convert"],
    &["stream"],
    &["bench", "eval", "serve"],
    &["cli"],
];
/// Folders of our code.
const OURS: [&str; 12] = [
    "src", "crates", "kernels", "testing", "tests", "training", "vgpu", "xtask", "benches", "weights", "examples",
    "fuzz",
];
/// What builds and environments leave in them.
const NOT_OURS: [&str; 3] = ["target", ".venv", "__pycache__"];
const LONG: usize = 600;
const LONGEST: usize = 800;
/// What a file that is long says of itself, in so many lines from its top.
const REASON: &str = "one file";
const TOP: usize = 10;

/// Files under a folder with one of these endings, by their path from the project's root.
fn files(folder: &str, endings: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut folders) = (Vec::new(), vec![root.join(folder)]);
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        for path in paths {
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !NOT_OURS.contains(&name) {
                folders.push(path);
            } else if path.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
                let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                found.push((path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

/// The product's Rust: without comments, and without tests, which may look at anything.
fn product() -> Vec<(String, String)> {
    let (tests, comment) =
        (Regex::new(r"#\[cfg\(test\)\]\s*(pub(\(super\))? )?mod ").unwrap(), Regex::new(r"//[^\n]*").unwrap());
    let code = |text: String| {
        let end = tests.find(&text).map_or(text.len(), |tests| tests.start());
        comment.replace_all(&text[..end], "").into_owned()
    };
    let all: Vec<_> = files("src", &[".rs"]).into_iter().map(|(path, text)| (path, code(text))).collect();
    assert!(all.len() > 50, "src has more files than {}", all.len());
    all
}

/// "src/device/cuda/mod.rs" is in device.
fn top(path: &str) -> &str {
    path.split('/').nth(1).unwrap().trim_end_matches(".rs")
}

/// The modules that each knows, with a file that does.
fn imports() -> BTreeMap<String, BTreeMap<String, String>> {
    let named = Regex::new(r"\b(?:crate|lseg_fast)::(?:(\w+)|\{([^;]*?)\};)").unwrap();
    let first = Regex::new(r"(?:^|,)\s*(\w+)").unwrap();
    let product = product();
    let modules: BTreeSet<&str> =
        product.iter().map(|(path, _)| top(path)).filter(|name| !["lib", "main"].contains(name)).collect();
    let mut imports: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (path, text) in product.iter().filter(|(path, _)| modules.contains(top(path))) {
        let known = imports.entry(top(path).to_owned()).or_default();
        for found in named.captures_iter(text) {
            let names: Vec<&str> = match (found.get(1), found.get(2)) {
                (Some(one), _) => vec![one.as_str()],
                (_, Some(list)) => {
                    first.captures_iter(list.as_str()).map(|name| name.get(1).unwrap().as_str()).collect()
                }
                _ => unreachable!("one of both matches"),
            };
            for name in names.into_iter().filter(|name| modules.contains(name) && *name != top(path)) {
                known.entry(name.to_owned()).or_insert_with(|| path.clone());
            }
        }
    }
    assert!(imports["engine"].contains_key("device"), "imports are found at all");
    imports
}

fn refuse(wrong: Vec<String>, rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n  {}", wrong.join("\n  "));
}

#[test]
fn modules_know_lower_floors_alone() {
    let floor = |name: &str| FLOORS.iter().position(|names| names.contains(&name)).map_or(0, |floor| floor + 1);
    let mut wrong = Vec::new();
    for (module, known) in imports() {
        // Those below all of them may know each other; the circles below are looked for.
        let upward = known.iter().filter(|(name, _)| floor(name) >= floor(&module).max(1));
        wrong.extend(upward.map(|(name, path)| format!("{module} knows {name} ({path})")));
    }
    refuse(wrong, "a module knows one of its own or a higher floor");
}

#[test]
fn no_module_is_reached_again_from_what_it_knows() {
    fn search(
        at: &str,
        imports: &BTreeMap<String, BTreeMap<String, String>>,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Vec<String> {
        if let Some(start) = way.iter().position(|name| name == at) {
            return vec![[&way[start..], &[at.to_owned()]].concat().join(" → ")];
        }
        if done.contains(at) {
            return Vec::new();
        }
        way.push(at.to_owned());
        let circles = imports[at].keys().flat_map(|name| search(name, imports, way, done)).collect();
        way.pop();
        done.insert(at.to_owned());
        circles
    }
    let (imports, mut done) = (imports(), BTreeSet::new());
    let circles = imports.keys().flat_map(|module| search(module, &imports, &mut Vec::new(), &mut done)).collect();
    refuse(circles, "modules of src know each other in a circle");
}

#[test]
fn no_file_is_too_long() {
    let mut all: Vec<_> = OURS.iter().flat_map(|folder| files(folder, &[".rs", ".cu", ".cuh", ".py"])).collect();
    let build = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/build.rs")).unwrap();
    all.push(("build.rs".to_owned(), build));
    let mut wrong = Vec::new();
    for (path, text) in &all {
        let lines = text.lines().count();
        let reason = text.lines().take(TOP).any(|line| line.to_lowercase().contains(REASON));
        if lines > LONGEST {
            wrong.push(format!("{path}: {lines} lines, and at most {LONGEST} are allowed"));
        } else if lines > LONG && !reason {
            wrong.push(format!("{path}: {lines} lines; above {LONG}, its first {TOP} say why it is \"{REASON}\""));
        }
    }
    refuse(wrong, "files are too long");
}

/// What a pattern finds in the files that `is_place` takes.
fn found(pattern: &str, is_place: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let pattern = Regex::new(pattern).unwrap();
    let product = product();
    let places = product.iter().filter(|(path, text)| is_place(path, text));
    places
        .flat_map(|(path, text)| pattern.find_iter(text).map(move |found| format!("{path}: {}", found.as_str())))
        .collect()
}

const ARCH: &str = "src/device/cuda/arch.rs";

#[test]
fn what_an_architecture_can_do_stands_in_its_row() {
    let capability = r"\((?:8|9|1[0-9]), (?:\d|_)[^)]*\)";
    assert!(!found(capability, |path, _| path == ARCH).is_empty(), "the pattern finds the rows themselves");
    let elsewhere = found(capability, |path, text| path != ARCH && text.contains("capability"));
    refuse(elsewhere, &format!("a compute capability stands outside {ARCH}"));
}

#[test]
fn tiles_and_shared_memory_stand_in_the_kernels() {
    let on_the_host = |path: &str, _: &str| path.starts_with("src/device/cuda/") && path != ARCH;
    let mut wrong = found(r"\d{2,3}[x×]\d{2,3}", on_the_host);
    // Sizes of a block's shared memory: at least 16 KiB, in whole 256 bytes.
    let number = |found: &String| found.rsplit(' ').next().unwrap().replace('_', "").parse::<usize>().unwrap();
    let sizes = found(r"\b\d{2,3}_?\d{3}\b", on_the_host);
    wrong.extend(sizes.into_iter().filter(|size| number(size) >= 16 << 10 && number(size) % 256 == 0));
    refuse(wrong, "a kernel declares its tile and its shared memory, and the host reads them");
}

#[test]
fn a_tensors_name_stands_once() {
    let (name, holes) = (r#""(?:clip_pretrained|pretrained|scratch)\.[^"]+""#, Regex::new(r"\{[^}]*\}").unwrap());
    let elsewhere = found(name, |path, _| !path.starts_with("src/model/"));
    refuse(elsewhere, "tensors are named in src/model alone");
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for place in found(name, |path, _| path.starts_with("src/model/")) {
        let (path, name) = place.split_once(": ").unwrap();
        places.entry(holes.replace_all(name, "{}").into_owned()).or_default().push(path.to_owned());
    }
    assert!(!places.is_empty(), "the pattern finds names");
    let twice = places.into_iter().filter(|(_, paths)| paths.len() > 1);
    refuse(
        twice.map(|(name, paths)| format!("{name} in {}", paths.join(", "))).collect(),
        "a tensor's name stands twice",
    );
}
