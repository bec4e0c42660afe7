//! What holds in the package too, far from the repository: the README's first command does what the README says.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Its arguments, from `run` on.
fn first_command() -> Vec<String> {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let line = readme.lines().find_map(|line| Some(&line[line.find("run weights/demo/park.png")?..]));
    let line = line.expect("the README runs the demo model on weights/demo/park.png");
    // Every second part stands in quotes.
    let parts = line.split('"').enumerate();
    parts
        .flat_map(|(i, part)| if i % 2 == 1 { vec![part] } else { part.split_whitespace().collect() })
        .map(str::to_owned)
        .collect()
}

/// (share in per cent, label), from the lines "  25.0 %      0  dog".
fn shares(table: &str) -> Vec<(f64, String)> {
    let share = |line: &str| {
        let (share, rest) = line.split_once('%')?;
        let (_, label) = rest.trim().split_once(' ')?;
        Some((share.trim().parse().ok()?, label.trim().to_owned()))
    };
    table.lines().filter_map(share).collect()
}

#[test]
fn the_readmes_first_command_writes_a_mask_and_an_overlay_and_prints_shares() {
    let (arguments, folder) = (first_command(), tempfile::tempdir().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_lseg-fast"));
    let output = command.current_dir(ROOT).args(&arguments).arg("--out").arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let shares = shares(&String::from_utf8(output.stdout).unwrap());
    let labels = arguments.iter().skip_while(|word| *word != "--labels").nth(1).unwrap();
    assert_eq!(shares.len(), labels.split(',').count(), "{labels}: {shares:?}");
    assert!(shares.iter().all(|(_, label)| labels.contains(label)), "{shares:?}");
    let sum: f64 = shares.iter().map(|(share, _)| share).sum();
    assert!((sum - 100.0).abs() < 0.5, "{shares:?}");
    for file in ["park.mask.png", "park.overlay.png"] {
        let bytes = fs::read(folder.path().join(file)).unwrap();
        assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.ends_with(b"IEND\xaeB`\x82"), "{file}");
    }
}

#[test]
fn the_version_says_what_the_build_is() {
    let says = |option: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_lseg-fast")).arg(option).output().unwrap();
        assert!(output.status.success(), "{option}");
        String::from_utf8(output.stdout).unwrap()
    };
    let first = concat!("lseg-fast ", env!("CARGO_PKG_VERSION"));
    assert_eq!(says("-V").trim_end(), first);
    let long = says("--version");
    let lines: Vec<&str> = long.lines().collect();
    let [version, commit, features, kernels] = &*lines else { panic!("not four lines: {long}") };
    assert_eq!(*version, first);
    // Cargo notes in a package what it was made of; git tells it to releases alone.
    let commit = commit.strip_prefix("commit: ").unwrap();
    match fs::read_to_string(Path::new(ROOT).join(".cargo_vcs_info.json")) {
        Ok(noted) => assert!(commit.len() == 12 && noted.contains(commit), "{commit} is not of {noted}"),
        Err(_) if cfg!(debug_assertions) => assert_eq!(commit, "not recorded in debug builds"),
        Err(_) => assert!(commit == "unknown" || commit.len() == 12, "{commit}"),
    }
    assert!(features.starts_with("features: cli, overlay, demo"), "{features}");
    let kernels = kernels.strip_prefix("CUDA kernels: ").unwrap();
    assert!(kernels.ends_with("PTX") || kernels.starts_with("none"), "{kernels}");
}
