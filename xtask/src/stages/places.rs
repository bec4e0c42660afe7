//! Where things are: the bundle's own files, and what lies beside it where it stands in a build folder.

use std::path::{Path, PathBuf};

use crate::Outcome;

/// The folder that holds run.sh. It may be anywhere.
pub struct Bundle {
    pub folder: PathBuf,
}

impl Bundle {
    /// From the runner's own place, `bin/stages`.
    pub fn find() -> Outcome<Bundle> {
        let own = std::env::current_exe().map_err(|e| format!("this program's own place: {e}"))?;
        let folder = own.parent().and_then(Path::parent).ok_or("this program lies in no bundle")?;
        let bundle = Bundle { folder: folder.to_path_buf() };
        match bundle.program().is_file() {
            true => Ok(bundle),
            false => Err(format!(
                "{}: not there; this program runs from a bundle (cargo xtask bundle), as its run.sh starts it",
                bundle.program().display()
            )),
        }
    }

    pub fn program(&self) -> PathBuf {
        self.folder.join("bin/lseg-fast")
    }

    pub fn tests(&self) -> PathBuf {
        self.folder.join("bin/tests")
    }

    /// The Python package, of whatever version.
    pub fn wheel(&self) -> Outcome<PathBuf> {
        let folder = self.folder.join("wheel");
        let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut wheels = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let found = wheels.find(|path| path.extension().is_some_and(|ending| ending == "whl"));
        found.ok_or(format!("{}: no wheel is in it", folder.display()))
    }

    /// What stands for the repository's root in the tests.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    pub fn gpu(&self, name: &str) -> PathBuf {
        self.folder.join("gpu").join(name)
    }

    /// What it was made from.
    pub fn commit(&self) -> String {
        std::fs::read_to_string(self.folder.join("commit.txt")).unwrap_or_else(|e| format!("commit.txt: {e}"))
    }

    /// The folder around it, as `target` around `target/bundle`.
    pub fn beside(&self, path: &str) -> PathBuf {
        self.folder.join("..").join(path)
    }
}

/// A folder for what is too large for the results (a checkpoint of 1.5 GB), gone with its owner.
pub struct Scratch {
    pub folder: PathBuf,
}

impl Scratch {
    pub fn new() -> Outcome<Scratch> {
        let folder = std::env::temp_dir().join(format!("lseg-stages-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        Ok(Scratch { folder })
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Whatever still lies there is in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
