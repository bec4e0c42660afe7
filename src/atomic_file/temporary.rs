//! Files that are there only once they are whole.
//!
//! On Linux a file is written without a name and gets one at its end: whatever kills the process, nothing stays. Where a
//! file system refuses that (network folders), and for the moment in which one file replaces another, it has a temporary
//! name, which is noted here for who ends the process.
//!
//! By hand, not by the crates tempfile or atomic-write-file: they do not know which of their files are under way when a signal
//! ends the process, and replace a link instead of the file behind it.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
#[cfg(feature = "cli")]
use std::{
    thread,
    time::{Duration, Instant},
};

use super::target::keep_rights;

/// The temporary files that have a name at this moment. Files are made and renamed under this lock, so that none is missed
/// when the process is ended.
static NAMED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// How often another name is tried where one is taken.
const TRIES: usize = 100;

/// Of a file that is being written: its name, if it has one. On drop the file is removed unless it was published.
pub(super) struct Temporary(Option<Name>);

impl Temporary {
    /// A new file in `folder`, with the rights of any new file of the user.
    pub fn new(folder: &Path) -> io::Result<(File, Temporary)> {
        match unnamed(folder) {
            Some(file) => Ok((file, Temporary(None))),
            None => Temporary::named(folder),
        }
    }

    /// As [`Temporary::new`], under a name in any case.
    pub fn named(folder: &Path) -> io::Result<(File, Temporary)> {
        let (file, name) = Name::make(folder, create)?;
        Ok((file, Temporary(Some(name))))
    }

    /// Its name, if it has one.
    pub fn path(&self) -> Option<&Path> {
        self.0.as_ref().map(|name| name.0.as_path())
    }

    /// Puts the file at `target`, which is in `folder`, in one step.
    pub fn publish(self, file: File, folder: &Path, target: &Path) -> io::Result<()> {
        let name = match self.0 {
            Some(name) => name,
            None => match link(&file, target) {
                Ok(()) => return Ok(()),
                // A link cannot replace a file, a rename can.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Name::make(folder, |path| link(&file, path))?.1,
                // A file system may give files without a name, but no name to one.
                Err(_) => copy(&file, folder)?,
            },
        };
        // Windows renames no open file.
        drop(file);
        name.rename(target)
    }
}

/// Removes what has a temporary name. While the answer is kept, no file gets one.
#[cfg(feature = "cli")]
pub(crate) fn remove_all() -> MutexGuard<'static, Vec<PathBuf>> {
    let names = lock();
    remove(&names);
    names
}

/// As [`remove_all`] for a thread that may hold the lock itself: gives up after half a second.
#[cfg(feature = "cli")]
pub(crate) fn try_remove_all() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(500) {
        if let Ok(names) = NAMED.try_lock() {
            return remove(&names);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(feature = "cli")]
fn remove(names: &[PathBuf]) {
    for path in names {
        let _ = fs::remove_file(path);
    }
}

fn lock() -> MutexGuard<'static, Vec<PathBuf>> {
    NAMED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A temporary file's entry in [`NAMED`], on drop removed from there and from the disk.
struct Name(PathBuf);

impl Name {
    /// Makes a file under a name that is free.
    fn make<T>(folder: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(T, Name)> {
        let mut taken = io::ErrorKind::AlreadyExists.into();
        for _ in 0..TRIES {
            let random = RandomState::new().build_hasher().finish();
            let name = Name(folder.join(format!(".lseg-fast-{random:016x}.tmp")));
            let noted = name.0.clone();
            let mut names = lock();
            // Noted first: between the file and its note nothing may fail.
            names.push(noted);
            match make(&name.0) {
                Ok(made) => return Ok((made, name)),
                Err(error) => {
                    names.pop();
                    drop(names);
                    if error.kind() != io::ErrorKind::AlreadyExists {
                        return Err(error);
                    }
                    taken = error;
                }
            }
        }
        Err(taken)
    }

    fn rename(self, target: &Path) -> io::Result<()> {
        let mut names = lock();
        fs::rename(&self.0, target)?;
        names.retain(|other| *other != self.0);
        Ok(())
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut names = lock();
        if let Some(at) = names.iter().position(|other| *other == self.0) {
            names.swap_remove(at);
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// The same file under a temporary name.
fn copy(mut file: &File, folder: &Path) -> io::Result<Name> {
    let (mut to, name) = Name::make(folder, create)?;
    keep_rights(&to, &file.metadata()?)?;
    file.rewind()?;
    io::copy(&mut file, &mut to)?;
    to.sync_all()?;
    Ok(name)
}

/// A file without a name, if the file system has such and /proc is there to name it.
#[cfg(target_os = "linux")]
fn unnamed(folder: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags, open};
    let file = open(folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::from_raw_mode(0o666)).ok()?;
    let file = File::from(file);
    fs::symlink_metadata(descriptor(&file)).is_ok().then_some(file)
}

#[cfg(not(target_os = "linux"))]
fn unnamed(_: &Path) -> Option<File> {
    None
}

#[cfg(target_os = "linux")]
fn link(file: &File, name: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    Ok(linkat(CWD, descriptor(file), CWD, name, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn descriptor(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)).into()
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    pub fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// With and without a name, as a new file and over an old one.
    #[test]
    fn a_file_appears_whole_and_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for make in [Temporary::new, Temporary::named] {
            for text in ["new", "over"] {
                let (mut file, temporary) = make(folder).unwrap();
                let named = temporary.0.is_some();
                file.write_all(text.as_bytes()).unwrap();
                let before = names(folder);
                assert_eq!(before.iter().filter(|name| name.starts_with(".lseg-fast-")).count(), usize::from(named));
                temporary.publish(file, folder, &folder.join("file")).unwrap();
                assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), text);
                assert_eq!(names(folder), ["file"]);
            }
            fs::remove_file(folder.join("file")).unwrap();
            drop(make(folder).unwrap());
            fs::create_dir(folder.join("in the way")).unwrap();
            let (file, temporary) = make(folder).unwrap();
            assert!(temporary.publish(file, folder, &folder.join("in the way")).is_err());
            assert_eq!(names(folder), ["in the way"]);
            fs::remove_dir(folder.join("in the way")).unwrap();
        }
        assert!(!lock().iter().any(|name| name.starts_with(folder)));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn where_a_file_can_get_no_name_its_copy_does() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut file = unnamed(folder.path()).unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
        copy(&file, folder.path()).unwrap().rename(&folder.path().join("file")).unwrap();
        assert_eq!(names(folder.path()), ["file"]);
        assert!(fs::read(folder.path().join("file")).unwrap() == [7; 100_000]);
        assert_eq!(fs::metadata(folder.path().join("file")).unwrap().mode() & 0o777, 0o600);
    }

    /// Where the child writes, and how it ends: by a signal that it waits for, or for want of memory.
    #[cfg(all(unix, feature = "cli"))]
    const FOLDER: &str = "LSEG_FAST_TEST_FOLDER";
    #[cfg(all(unix, feature = "cli"))]
    const ENDS_BY: &str = "LSEG_FAST_TEST_ENDS_BY";

    #[cfg(all(unix, feature = "cli"))]
    #[test]
    #[ignore = "run by the next test as a process of its own"]
    fn child_with_a_temporary_name() {
        let Some(folder) = std::env::var_os(FOLDER) else { return };
        crate::termination::handle_signals();
        let kept = Temporary::named(folder.as_ref()).unwrap();
        if std::env::var(ENDS_BY).unwrap() == "memory" {
            crate::termination::end_without_memory(5 << 20);
        }
        thread::sleep(Duration::from_secs(60));
        drop(kept);
    }

    /// What a file system without nameless files leaves to us.
    #[cfg(all(unix, feature = "cli"))]
    #[test]
    fn a_temporary_name_goes_with_the_process() {
        use std::os::unix::process::ExitStatusExt;
        use std::process::{Command, Stdio};
        for (end, signal) in [("TERM", Some(15)), ("INT", Some(2)), ("memory", None)] {
            let folder = tempfile::tempdir().unwrap();
            let child = Command::new("env")
                .arg("--default-signal=INT,TERM")
                .arg(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "atomic_file::temporary::tests::child_with_a_temporary_name",
                    "--ignored",
                    "--nocapture",
                ])
                .envs([(FOLDER, folder.path().as_os_str()), (ENDS_BY, end.as_ref())])
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            if signal.is_some() {
                let start = Instant::now();
                while names(folder.path()).is_empty() {
                    assert!(start.elapsed() < Duration::from_secs(60), "the child never began to write");
                    thread::sleep(Duration::from_millis(5));
                }
                // The handlers come beside the first file, on a thread of their own.
                thread::sleep(Duration::from_millis(100));
                assert!(
                    Command::new("kill")
                        .args([&format!("-{end}"), &child.id().to_string()])
                        .status()
                        .unwrap()
                        .success()
                );
            }
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(names(folder.path()), [""; 0], "{end}");
            assert_eq!(output.status.signal(), signal, "{end}: {stderr}");
            if signal.is_none() {
                assert_eq!(output.status.code(), Some(1));
                assert!(stderr.starts_with("error: out of memory: 5 MiB") && stderr.lines().count() == 1, "{stderr}");
            }
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_system_that_can_leaves_it_without_a_name() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        assert!(Temporary::new(folder.path()).unwrap().1.0.is_none());
    }
}
