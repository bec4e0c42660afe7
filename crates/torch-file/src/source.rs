//! The bytes behind a checkpoint: a file, read by position (a shared reference is enough, threads need no lock, and a
//! file that is cut short under us is an error, where a memory map would be a signal), or bytes in memory.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::{Error, Result};

/// A regular file and its length at opening, or bytes in memory.
pub(crate) struct Source {
    /// What errors call it.
    pub path: PathBuf,
    bytes: Bytes,
    pub len: u64,
}

enum Bytes {
    /// With the time of its last change at opening, where the file system has one.
    File(File, Option<SystemTime>),
    Memory(Cow<'static, [u8]>),
}

impl Source {
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|e| Error::io("open", path, e))?;
        // Opening a pipe would wait for its writer; a folder opens and then fails to read.
        if !metadata.is_file() {
            let what = if metadata.is_dir() { "a folder" } else { "no regular file" };
            return Err(Error::refused(path, format!("is {what}; name the checkpoint file itself")));
        }
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        let metadata = file.metadata().map_err(|e| Error::io("open", path, e))?;
        let bytes = Bytes::File(file, metadata.modified().ok());
        Ok(Source { path: path.to_owned(), bytes, len: metadata.len() })
    }

    pub fn memory(name: &str, bytes: Cow<'static, [u8]>) -> Self {
        Source { path: name.into(), len: bytes.len() as u64, bytes: Bytes::Memory(bytes) }
    }

    /// Bytes of memory that it holds; those that are part of the program are not among them.
    pub fn held(&self) -> usize {
        match &self.bytes {
            Bytes::Memory(Cow::Owned(bytes)) => bytes.len(),
            Bytes::Memory(Cow::Borrowed(_)) | Bytes::File(..) => 0,
        }
    }

    /// Fills `buffer` with the file's bytes from `offset`.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let read = match &self.bytes {
            Bytes::File(file, _) => read_exact_at(file, offset, buffer),
            Bytes::Memory(bytes) => copy_exact_at(bytes, offset, buffer),
        };
        read.map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self
                .damaged(format!("ends before byte {}; it was cut short", offset.saturating_add(buffer.len() as u64))),
            _ => Error::io("read", &self.path, e),
        })
    }

    /// `len` bytes from `offset`. Nothing is allocated for bytes that the file does not have.
    pub fn bytes(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        let end = offset.checked_add(len).filter(|&end| end <= self.len);
        let (Some(_), Ok(len)) = (end, usize::try_from(len)) else {
            return Err(self.damaged(format!(
                "{len} bytes are expected at byte {offset}, but the file has only {} bytes; it was cut short",
                self.len
            )));
        };
        let mut buffer = vec![0; len];
        self.read_at(offset, &mut buffer)?;
        Ok(buffer)
    }

    /// Checks that nobody wrote to the file since it was opened: what was read of it could be a mixture. (A file that
    /// another one took the place of is still there for who has it open.)
    pub fn unchanged(&self) -> Result<()> {
        let Bytes::File(file, modified) = &self.bytes else { return Ok(()) };
        let now = file.metadata().map_err(|e| Error::io("read", &self.path, e))?;
        if now.len() == self.len && now.modified().ok() == *modified {
            return Ok(());
        }
        Err(self.damaged("was written to while it was read; try again when that is done"))
    }

    /// An error about this file's contents.
    pub fn damaged(&self, reason: impl Into<String>) -> Error {
        Error::refused(&self.path, reason)
    }
}

fn copy_exact_at(bytes: &[u8], offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
    let part = rest.and_then(|rest| rest.get(..buffer.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
    buffer.copy_from_slice(part);
    Ok(())
}

#[cfg(unix)]
fn read_exact_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// A machine without reading by position has bytes in memory alone.
#[cfg(not(any(unix, windows)))]
fn read_exact_at(_: &File, _: u64, _: &mut [u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, buffer, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer = &mut buffer[read..];
        offset += read as u64;
    }
    Ok(())
}
