//! Result files that are either whole or not there.

mod target;
pub(crate) mod temporary;

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};
use target::{Target, keep_rights};
use temporary::Temporary;

/// What a loss of power may do to a file that was just written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing waits for the disk: for some seconds, some file systems may leave the file empty.
    Renamed,
    /// The file is on the disk before it takes its name: the old or the new file is left.
    Synced,
}

/// Writes the file `path` through `write`: beside it and without a name, or under a temporary one, which it exchanges for
/// its own when all is written. The folder is created where it is missing. An existing file is replaced and its rights
/// are kept; through a link, the file it leads to.
///
/// # Errors
/// [`Error::Output`] if the folder cannot be created, `path` is there but no regular file, is a link that leads nowhere or
/// is not to be trusted, or anything cannot be written. What was at `path` before is then untouched and no temporary file
/// stays.
pub fn write_atomically(
    path: &Path,
    durability: Durability,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    try_write(path, durability, |out| write(out)).map_err(|e| Error::output(path, e))
}

/// What a file is written through whose beginning is known at its end.
pub trait WriteSeek: Write + Seek {}

impl<T: Write + Seek> WriteSeek for T {}

/// As [`write_atomically`], where what is written can fail for reasons of its own.
///
/// # Errors
/// As [`write_atomically`], and what `write` gives.
pub fn write_whole(
    path: &Path,
    durability: Durability,
    write: impl FnOnce(&mut dyn WriteSeek) -> Result<()>,
) -> Result<()> {
    let mut own = None;
    let written = try_write(path, durability, |out| {
        write(out).map_err(|error| {
            own = Some(error);
            io::Error::other("the content could not be made")
        })
    });
    own.map_or(written.map_err(|e| Error::output(path, e)), Err)
}

/// A file beside its target that another program writes, by its name; dropped, it is removed.
pub(crate) struct Beside {
    target: Target,
    file: File,
    temporary: Temporary,
    path: PathBuf,
}

impl Beside {
    /// An empty file with a temporary name in the folder of `path`, which is created where it is missing, and the rights of the file
    /// that it will replace.
    ///
    /// # Errors
    /// [`Error::Output`], as [`write_atomically`].
    pub fn of(path: &Path) -> Result<Beside> {
        Beside::make(path).map_err(|e| Error::output(path, e))
    }

    fn make(path: &Path) -> io::Result<Beside> {
        let target = Target::of(path)?;
        fs::create_dir_all(target.folder())?;
        let (file, temporary) = Temporary::named(target.folder())?;
        if let Some(replaced) = &target.replaced {
            keep_rights(&file, replaced)?;
        }
        Ok(Beside { target, file, temporary, path: path.to_owned() })
    }

    /// Its name meanwhile.
    pub fn path(&self) -> &Path {
        self.temporary.path().unwrap_or(&self.path)
    }

    /// Gives it its own name in place of what is there.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub fn publish(self) -> Result<()> {
        let Beside { target, file, temporary, path } = self;
        temporary.publish(file, target.folder(), &target.path).map_err(|e| Error::output(&path, e))
    }
}

/// Creates the folder `path` and those above it where they are missing.
///
/// # Errors
/// [`Error::Output`].
pub fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| Error::output(path, e))
}

fn try_write(
    path: &Path,
    durability: Durability,
    write: impl FnOnce(&mut dyn WriteSeek) -> io::Result<()>,
) -> io::Result<()> {
    let target = Target::of(path)?;
    let folder = target.folder();
    fs::create_dir_all(folder)?;

    let (file, temporary) = Temporary::new(folder)?;
    if let Some(replaced) = &target.replaced {
        // Before the first byte: what was private is so at every moment.
        keep_rights(&file, replaced)?;
    }
    let file = fill(file, write)?;
    if durability == Durability::Synced {
        file.sync_all()?;
    }
    temporary.publish(file, folder, &target.path)?;
    if durability == Durability::Synced {
        // So that "done" is true even then. Not every system syncs folders; old or new file, one of them is there anyway.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(())
}

/// Puts into the file what `write` gives. An error is the file's own, if it had one: what writes through another writer
/// (PNG's) gives one in which the disk's is no more than words.
fn fill(file: File, write: impl FnOnce(&mut dyn WriteSeek) -> io::Result<()>) -> io::Result<File> {
    let mut out = BufWriter::new(Watched { file, failed: None });
    let written = write(&mut out).and_then(|()| out.flush());
    let Watched { file, failed } = out.into_parts().0;
    match written {
        Ok(()) => Ok(file),
        Err(error) => Err(failed.map_or(error, io::Error::from_raw_os_error)),
    }
}

/// A file that keeps the number of its last error.
struct Watched {
    file: File,
    failed: Option<i32>,
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).inspect_err(|error| self.failed = error.raw_os_error())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Watched {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to).inspect_err(|error| self.failed = error.raw_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::Durability::{Renamed, Synced};
    use super::temporary::tests::names;
    use super::*;

    fn put(path: &Path, text: &str) -> Result<()> {
        write_atomically(path, Renamed, |out| out.write_all(text.as_bytes()))
    }

    #[test]
    fn a_file_is_written_and_replaced_and_its_folder_created() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/file");
        for (text, durability) in [("one", Renamed), ("two", Renamed), ("three", Synced)] {
            write_atomically(&path, durability, |out| out.write_all(text.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(names(path.parent().unwrap()), ["file"]);
    }

    #[test]
    fn what_another_program_writes_takes_its_name_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/file");
        for text in ["one", "two"] {
            let beside = Beside::of(&path).unwrap();
            assert_eq!(beside.path().parent(), path.parent());
            fs::write(beside.path(), text).unwrap();
            beside.publish().unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(names(path.parent().unwrap()), ["file"]);
        }
        let beside = Beside::of(&path).unwrap();
        fs::write(beside.path(), "half").unwrap();
        drop(beside);
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(names(path.parent().unwrap()), ["file"]);
        assert!(matches!(Beside::of(folder.path()), Err(Error::Output { .. })));
    }

    #[test]
    fn whichever_write_fails_the_old_file_stands_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        for fails_at in 0..5 {
            let error = write_atomically(&path, Renamed, |out| {
                for write in 0..5 {
                    if write == fails_at {
                        return Err(io::Error::other("disk full"));
                    }
                    out.write_all(&[b'x'; 10_000])?;
                }
                Ok(())
            });
            assert!(error.unwrap_err().to_string().contains("disk full"));
            assert_eq!(fs::read_to_string(&path).unwrap(), "old");
            assert_eq!(names(folder.path()), ["file"]);
        }
    }

    #[test]
    fn folders_and_devices_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(put(folder.path(), "x"), Err(Error::Output { .. })));
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(matches!(put(&folder.path().join("file/below"), "x"), Err(Error::Output { .. })));
        #[cfg(unix)]
        assert!(matches!(put(Path::new("/dev/null"), "x"), Err(Error::Output { .. })));
    }
}

#[cfg(all(test, unix))]
mod unix_tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};

    use super::*;

    fn put(path: &Path) -> Result<()> {
        write_atomically(path, Durability::Renamed, |out| out.write_all(b"new"))
    }

    #[track_caller]
    fn refused(path: &Path, word: &str) {
        let message = put(path).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }

    #[test]
    fn a_new_result_has_the_rights_of_any_new_file_and_another_keeps_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let [plain, ours] = ["plain", "ours"].map(|name| folder.path().join(name));
        File::create(&plain).unwrap();
        put(&ours).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&ours), mode(&plain));
        for rights in [0o600, 0o640, 0o444, 0o666] {
            fs::set_permissions(&ours, fs::Permissions::from_mode(rights)).unwrap();
            put(&ours).unwrap();
            assert_eq!(mode(&ours), rights);
        }
        // Only root may give files away.
        if chown(&ours, Some(12345), Some(54321)).is_ok() {
            put(&ours).unwrap();
            let data = fs::metadata(&ours).unwrap();
            assert_eq!((data.uid(), data.gid(), data.mode() & 0o7777), (12345, 54321, 0o666));
        }
    }

    #[test]
    fn a_link_is_followed_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("other")).unwrap();
        fs::write(at("other/there"), "old").unwrap();
        for (link, end, file) in [
            ("to a file", "other/there", "other/there"),
            ("to a link", "to a file", "other/there"),
            ("to nothing yet", "other/new", "other/new"),
            ("to that", "to nothing yet too", "other/newer"),
            ("to nothing yet too", "other/newer", "other/newer"),
        ] {
            symlink(end, at(link)).unwrap();
            if link == "to that" {
                continue;
            }
            put(&at(link)).unwrap();
            assert_eq!(fs::read_to_string(at(file)).unwrap(), "new", "{link}");
            assert!(at(link).is_symlink(), "{link}");
        }
        fs::remove_file(at("other/newer")).unwrap();
        put(&at("to that")).unwrap();
        assert!(at("other/newer").is_file() && at("to that").is_symlink());

        symlink("nowhere/new", at("to no folder")).unwrap();
        refused(&at("to no folder"), "whose folder is not there");
        symlink("loop", at("loop")).unwrap();
        refused(&at("loop"), "symbolic links");
        assert!(at("loop").is_symlink() && at("to no folder").is_symlink() && !at("nowhere").exists());
    }

    /// As /dev/stdout is, where standard output is a temporary file of Python's.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_without_a_name_is_not_mistaken_for_its_last_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("gone")).unwrap();
        let link = folder.path().join("link");
        symlink(format!("/proc/self/fd/{}", file.as_raw_fd()), &link).unwrap();
        put(&link).unwrap();
        assert_eq!(fs::read(folder.path().join("gone")).unwrap(), b"new");

        fs::remove_file(folder.path().join("gone")).unwrap();
        refused(&link, "no name any more");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// As root only, who alone can make another user's link.
    #[test]
    fn another_users_link_in_a_shared_folder_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("shared")).unwrap();
        fs::write(at("precious"), "old").unwrap();
        symlink(at("precious"), at("shared/file")).unwrap();
        symlink(folder.path(), at("shared/folder")).unwrap();
        if lchown(at("shared/file"), Some(12345), None).and(lchown(at("shared/folder"), Some(12345), None)).is_err() {
            return;
        }
        put(&at("shared/file")).unwrap();
        fs::write(at("precious"), "old").unwrap();
        fs::set_permissions(at("shared"), fs::Permissions::from_mode(0o1777)).unwrap();
        symlink("shared/file", at("own")).unwrap();
        for way in ["shared/file", "shared/folder/precious", "shared/folder/new", "own"] {
            refused(&at(way), "another user's link");
        }
        assert_eq!(fs::read_to_string(at("precious")).unwrap(), "old");
        assert!(!at("new").exists());
    }
}
