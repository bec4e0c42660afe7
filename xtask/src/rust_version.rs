//! The oldest Rust that the manifests promise: no dependency asks for a newer one, and where that toolchain is at hand, it builds
//! all. (Of the standard library, clippy's `incompatible_msrv` refuses what is newer.)

use std::process::Command;

use serde::Deserialize;

use crate::package::metadata;
use crate::{Outcome, Places, run};

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    rust_version: Option<String>,
    /// None of those of this workspace.
    source: Option<String>,
}

pub fn check(places: &Places) -> Outcome {
    let promised = env!("CARGO_PKG_RUST_VERSION");
    let all = metadata(places, &[])?;
    let newer = newer(&all, promised)?;
    if !newer.is_empty() {
        return Err(format!("the manifests promise Rust {promised}, and these need more: {}", newer.join(", ")));
    }
    let Some(toolchain) = toolchain(promised) else {
        eprintln!(
            "passed: no package needs a newer Rust than {promised} (that toolchain is not at hand to build with)"
        );
        return Ok(());
    };
    let mut build = Command::new("rustup");
    build.current_dir(&places.root).args([
        "run",
        &toolchain,
        "cargo",
        "check",
        "--locked",
        "--workspace",
        "--lib",
        "--bins",
    ]);
    // This cargo's own variables would name its compiler.
    build.env_remove("CARGO").env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
    build.env("CARGO_TARGET_DIR", places.target.join("rust-version"));
    run(&mut build, &format!("building with Rust {promised}"))
}

/// What of `cargo metadata` needs a newer Rust, or promises another one for this workspace.
fn newer(metadata: &str, promised: &str) -> Outcome<Vec<String>> {
    let Metadata { packages } = serde_json::from_str(metadata).map_err(|e| format!("cargo metadata: {e}"))?;
    let number = |version: &str| {
        let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
        Some((parts.next()??, parts.next()??))
    };
    let fits = |package: &Package| match (&package.source, &package.rust_version) {
        (None, version) => version.as_deref() == Some(promised),
        (Some(_), None) => true,
        (Some(_), Some(version)) => number(version) <= number(promised),
    };
    let named = |Package { name, version, rust_version, .. }: &Package| {
        format!("{name} {version} ({})", rust_version.as_deref().unwrap_or("none stated"))
    };
    Ok(packages.iter().filter(|package| !fits(package)).map(named).collect())
}

/// "1.89.0-x86_64-unknown-linux-gnu", where rustup has one of that version.
fn toolchain(version: &str) -> Option<String> {
    let output = Command::new("rustup").args(["toolchain", "list"]).output().ok()?;
    let list = String::from_utf8(output.stdout).ok()?;
    let is_it =
        |name: &&str| name.strip_prefix(version).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']));
    list.lines().filter_map(|line| line.split(' ').next()).find(is_it).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_newer_rust_is_named() {
        let all = r#"{"packages": [
            {"name": "ours", "version": "0.1.0", "rust_version": "1.89", "source": null},
            {"name": "other", "version": "0.1.0", "rust_version": "1.90", "source": null},
            {"name": "silent", "version": "0.1.0", "rust_version": null, "source": null},
            {"name": "fine", "version": "1.0.0", "rust_version": "1.89.0", "source": "registry"},
            {"name": "old", "version": "1.0.0", "rust_version": null, "source": "registry"},
            {"name": "new", "version": "2.1.0", "rust_version": "1.100", "source": "registry"}
        ]}"#;
        let named = newer(all, "1.89").unwrap();
        assert_eq!(named, ["other 0.1.0 (1.90)", "silent 0.1.0 (none stated)", "new 2.1.0 (1.100)"]);
    }
}
