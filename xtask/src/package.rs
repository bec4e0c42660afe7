//! The packages as crates.io would have them: made, measured, unpacked far from the checkout, built and tested there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::bundle::write;
use crate::{Outcome, Places, cargo, demo, run};

/// What crates.io takes.
const MOST_BYTES: u64 = 10 << 20;

/// A package of this workspace that is to be published.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
    /// The registries that it may go to: any where there is no list.
    publish: Option<Vec<String>>,
    targets: Vec<Target>,
}

/// A library or a program of a package.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Target {
    crate_types: Vec<String>,
}

impl Package {
    /// "lseg-fast-0.1.0": its file without the ending, and its folder.
    fn folder(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    /// Where it is built: where the dependencies are already, but for a shared library, whose file has no hash in its name and
    /// would be taken for the workspace's own.
    fn target(&self, places: &Places) -> PathBuf {
        let is_shared = self.targets.iter().any(|target| target.crate_types.iter().any(|name| name == "cdylib"));
        if is_shared { places.target.join("package-test") } else { places.target.clone() }
    }
}

pub fn check(places: &Places) -> Outcome {
    let packages = published(&metadata(places, &["--no-deps"])?)?;
    demo::write(places)?;
    pack(places, &packages)?;
    let place = std::env::temp_dir().join(format!("lseg-fast-packages-{}", std::process::id()));
    fs::create_dir_all(&place).map_err(|e| format!("{}: {e}", place.display()))?;
    let tested = unpack(places, &packages, &place).and_then(|()| test(places, &packages, &place));
    if tested.is_ok() {
        let _ = fs::remove_dir_all(&place);
    }
    tested.map_err(|reason| format!("{reason}; the unpacked packages are in {}", place.display()))
}

/// What `cargo metadata` says.
pub fn metadata(places: &Places, arguments: &[&str]) -> Outcome<String> {
    let mut command = cargo();
    command.current_dir(&places.root).args(["metadata", "--locked", "--format-version", "1"]).args(arguments);
    let output = command.output().map_err(|e| format!("cargo metadata: {e}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("cargo metadata: {e}"))
}

/// Those of `cargo metadata` that are to be published.
fn published(metadata: &str) -> Outcome<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let all: Metadata = serde_json::from_str(metadata).map_err(|e| format!("cargo metadata: {e}"))?;
    Ok(all.packages.into_iter().filter(|package| package.publish.as_ref().is_none_or(|to| !to.is_empty())).collect())
}

fn pack(places: &Places, packages: &[Package]) -> Outcome {
    let mut command = cargo();
    // What is not committed is packed too: the check is of what lies here.
    command.current_dir(&places.root).args(["package", "--quiet", "--locked", "--no-verify", "--allow-dirty"]);
    packages.iter().for_each(|package| {
        command.args(["--package", &package.name]);
    });
    command.arg("--target-dir").arg(&places.target);
    run(&mut command, "cargo package")
}

fn file(places: &Places, package: &Package) -> PathBuf {
    places.target.join("package").join(format!("{}.crate", package.folder()))
}

/// Each beside the others; they take one another from there, as they will from crates.io.
fn unpack(places: &Places, packages: &[Package], place: &Path) -> Outcome {
    let mut patches = "[patch.crates-io]\n".to_owned();
    for package in packages {
        let file = file(places, package);
        let bytes = fs::metadata(&file).map_err(|e| format!("{}: {e}", file.display()))?.len();
        let shown = format!("{}: {:.2} MiB", package.folder(), bytes as f64 / f64::from(1 << 20));
        if bytes >= MOST_BYTES {
            return Err(format!(
                "{shown}, and crates.io takes less than {}: tar -tvzf {}",
                MOST_BYTES >> 20,
                file.display()
            ));
        }
        eprintln!("{shown}");
        run(Command::new("tar").arg("-C").arg(place).arg("-xzf").arg(&file), "tar")?;
        patches += &format!("{} = {{ path = {:?} }}\n", package.name, place.join(package.folder()));
    }
    write(&place.join(".cargo/config.toml"), &patches)
}

/// The tests of each package: those of its code and its documentation, and tests/package.rs.
fn test(places: &Places, packages: &[Package], place: &Path) -> Outcome {
    for package in packages {
        let mut tests = cargo();
        tests.current_dir(place.join(package.folder())).args(["test", "--quiet"]);
        tests.env("CARGO_TARGET_DIR", package.target(places));
        run(&mut tests, &format!("the tests of the package {}", package.folder()))?;
    }
    eprintln!("passed: {} packages build and pass their tests from what crates.io would have", packages.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_are_published_that_may_go_somewhere() {
        let all = r#"{"packages": [
            {"name": "a", "version": "0.1.0", "publish": null, "id": "path+file:///a", "targets": []},
            {"name": "b", "version": "0.2.0", "publish": [], "targets": [{"crate_types": ["lib"]}]},
            {"name": "c", "version": "0.3.0", "publish": ["crates-io"], "targets": [{"crate_types": ["bin"]}]}
        ]}"#;
        let folders: Vec<String> = published(all).unwrap().iter().map(Package::folder).collect();
        assert_eq!(folders, ["a-0.1.0", "c-0.3.0"]);
    }
}
