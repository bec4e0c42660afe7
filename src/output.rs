//! Result files that are either whole or not there.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use tempfile::{NamedTempFile, TempPath};

use crate::{Error, Result};

/// What shells report for a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// The temporary files that exist at this moment. Files are made and renamed under this lock, so that none is missed
/// when the process is interrupted.
static TEMPORARIES: LazyLock<Mutex<Vec<PathBuf>>> = LazyLock::new(Mutex::default);

/// Writes the file `path` through `write`: to a temporary file in the same folder, renamed when all is written. The
/// folder is created where it is missing. An existing file is replaced; through a link, the file it leads to.
///
/// # Errors
/// [`Error::Output`] if the folder cannot be created, `path` is there but no regular file, or anything cannot be
/// written. What was at `path` before is then untouched and no temporary file stays.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    try_write(path, write).map_err(|e| Error::output(path, e))
}

/// As [`write_atomically`], where what is written can fail for reasons of its own.
///
/// # Errors
/// As [`write_atomically`], and what `write` gives.
pub fn write_whole(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let mut own = None;
    let written = write_atomically(path, |out| {
        write(out).map_err(|error| {
            own = Some(error);
            io::Error::other("the content could not be made")
        })
    });
    own.map_or(written, Err)
}

/// Creates the folder `path` and those above it where they are missing.
///
/// # Errors
/// [`Error::Output`].
pub fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| Error::output(path, e))
}

/// Makes this process remove its temporary files when it is interrupted, terminated or its terminal closes, and end
/// with exit code 130. For programs, to be called once at their start; signals that are ignored stay ignored (as under
/// `nohup`), and then all of them keep what they did.
pub fn clean_up_on_interrupt() {
    // Without the handler all works as well, only a killed write may leave its temporary file.
    let _ = ctrlc::try_set_handler(|| {
        // The lock is held to the end: no file is begun or renamed meanwhile.
        let temporaries = lock();
        for path in temporaries.iter() {
            let _ = fs::remove_file(path);
        }
        std::process::exit(INTERRUPTED)
    });
}

fn lock() -> MutexGuard<'static, Vec<PathBuf>> {
    TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn try_write(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    // A rename would replace a device such as /dev/null by a file, and a link by its target's new content.
    if path.exists() && !path.is_file() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is not a regular file"));
    }
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;

    let (file, temporary) = Temporary::new(folder)?;
    let mut file = BufWriter::new(file);
    write(&mut file)?;
    file.into_inner().map_err(|e| e.into_error())?;
    temporary.persist(&target)
}

/// A temporary file's entry in [`TEMPORARIES`], removed from there and from the disk on drop.
struct Temporary {
    path: Option<TempPath>,
}

impl Temporary {
    fn new(folder: &Path) -> io::Result<(File, Temporary)> {
        let mut temporaries = lock();
        let (file, path) = create(folder)?.into_parts();
        temporaries.push(path.to_path_buf());
        Ok((file, Temporary { path: Some(path) }))
    }

    fn persist(mut self, target: &Path) -> io::Result<()> {
        let mut temporaries = lock();
        let Some(path) = self.path.take() else { return Ok(()) };
        temporaries.retain(|other| *other != *path);
        path.persist(target).map_err(|e| e.error)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            lock().retain(|other| *other != *path);
        }
    }
}

fn create(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".lseg-fast-").suffix(".tmp");
    // Temporary files are private by default; a result gets the rights that any new file of the user would.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_written_and_replaced_and_its_folder_created() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/file");
        for text in ["one", "two"] {
            write_atomically(&path, |out| out.write_all(text.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(names(path.parent().unwrap()), ["file"]);
    }

    #[test]
    #[cfg(unix)]
    fn a_result_has_the_rights_of_any_new_file_and_links_are_followed() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let [plain, ours, link] = ["plain", "ours", "link"].map(|name| folder.path().join(name));
        File::create(&plain).unwrap();
        write_atomically(&ours, |out| out.write_all(b"x")).unwrap();
        assert_eq!(fs::metadata(&ours).unwrap().mode(), fs::metadata(&plain).unwrap().mode());

        std::os::unix::fs::symlink(&plain, &link).unwrap();
        write_atomically(&link, |out| out.write_all(b"through")).unwrap();
        assert_eq!(fs::read(&plain).unwrap(), b"through");
        assert!(link.is_symlink());
    }

    #[test]
    fn after_a_failure_the_old_file_stands_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        let error = write_atomically(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("disk full"))
        });
        assert!(error.unwrap_err().to_string().contains("disk full"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn folders_and_devices_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &Path| write_atomically(path, |out| out.write_all(b"x"));
        assert!(matches!(write(folder.path()), Err(Error::Output { .. })));
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(matches!(write(&folder.path().join("file/below")), Err(Error::Output { .. })));
        #[cfg(unix)]
        assert!(matches!(write(Path::new("/dev/null")), Err(Error::Output { .. })));
    }
}
