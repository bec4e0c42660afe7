//! Where a result goes: which file a path means, and what of that file stays when it is replaced.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// As many links behind each other as Linux follows.
const MAX_LINKS: usize = 40;

/// A path, looked at before anything is written.
pub(super) struct Target {
    /// What is renamed over: no link.
    pub path: PathBuf,
    /// Of the regular file that is there.
    pub replaced: Option<Metadata>,
}

impl Target {
    /// Follows `path` through links. One that leads nowhere gives the file that it names, in a folder that is there.
    pub fn of(path: &Path) -> io::Result<Target> {
        refuse_strangers_links(path)?;
        // What the system itself finds there: of a link such as /proc/self/fd/1, the name alone need not lead to it.
        let found = match fs::metadata(path) {
            Ok(found) if !found.is_file() => {
                return Err(io::Error::new(ErrorKind::AlreadyExists, "it exists and is not a regular file"));
            }
            Ok(found) => Some(found),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let target = follow(path)?;
        if target != path {
            check_end(&target, found.as_ref())?;
        }
        Ok(Target { path: target, replaced: found })
    }

    pub fn folder(&self) -> &Path {
        folder(&self.path)
    }
}

/// The folder that a path's last name stands in.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Gives a new file the rights and, where that is allowed, the owner of the one that it replaces.
#[cfg(unix)]
pub(super) fn keep_rights(file: &File, replaced: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let new = file.metadata()?;
    let other = |old: u32, new: u32| (old != new).then_some(old);
    let _ = fchown(file, other(replaced.uid(), new.uid()), None);
    let has_group = fchown(file, None, other(replaced.gid(), new.gid())).is_ok();
    let mut mode = replaced.mode() & 0o777;
    if !has_group {
        // Another group than the one that the rights were meant for: it is given those of all.
        mode = mode & 0o707 | (mode & 0o007) << 3;
    }
    file.set_permissions(fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
pub(super) fn keep_rights(_: &File, _: &Metadata) -> io::Result<()> {
    Ok(())
}

/// What the links from `path` on name in the end.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        if !path.is_symlink() {
            return Ok(path);
        }
        path = folder(&path).join(fs::read_link(&path)?);
        refuse_strangers_links(&path)?;
    }
    Err(io::Error::other("it is a link into a loop of links; name the file itself"))
}

/// An error unless the end of a link is what was found behind it, or a free place.
fn check_end(end: &Path, found: Option<&Metadata>) -> io::Result<()> {
    let shown = end.display();
    match found {
        Some(found) if !fs::symlink_metadata(end).is_ok_and(|end| is_same(&end, found)) => {
            Err(io::Error::other("it is a link to a file that has no name any more; name a file"))
        }
        None if !folder(end).is_dir() => {
            Err(io::Error::new(ErrorKind::NotFound, format!("it is a link to {shown}, whose folder is not there")))
        }
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn is_same(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn is_same(_: &Metadata, _: &Metadata) -> bool {
    true
}

/// An error if a link on the way could be a trap: another user's, in a folder that all may write to (as /tmp). Linux has
/// the same rule (`fs.protected_symlinks`), but not for a name that is only read, and it may be switched off.
#[cfg(unix)]
fn refuse_strangers_links(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    const STICKY_AND_WRITABLE: u32 = 0o1002;
    for part in path.ancestors().filter(|part| part.is_symlink()) {
        let (link, folder) = (fs::symlink_metadata(part)?, fs::metadata(folder(part))?);
        let is_shared = folder.mode() & STICKY_AND_WRITABLE == STICKY_AND_WRITABLE;
        let trusted = [rustix::process::geteuid().as_raw(), folder.uid()];
        if is_shared && !trusted.contains(&link.uid()) {
            let part = part.display();
            let reason =
                format!("{part} is another user's link in a folder that all may write to; name the file itself");
            return Err(io::Error::new(ErrorKind::PermissionDenied, reason));
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_strangers_links(_: &Path) -> io::Result<()> {
    Ok(())
}
