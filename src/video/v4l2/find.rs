//! The cameras of this machine, and what is said of one that cannot be had.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::abi;
use super::device::Device;
use super::driver::{Driver, Refusal};
use crate::error::Error;

/// Nodes that give frames, by number, with their cameras' names. One that cannot be opened is not among them.
pub fn cameras() -> Vec<(PathBuf, String)> {
    let cameras = nodes().into_iter().filter_map(|path| Device::open(&path).ok().map(|device| (path, device)));
    cameras.map(|(path, device)| (path, device.card().to_owned())).collect()
}

/// All of `/dev/video0`, `/dev/video1`, …
fn nodes() -> Vec<PathBuf> {
    let number = |name: &str| name.strip_prefix("video")?.parse::<u32>().ok();
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let mut nodes: Vec<(u32, PathBuf)> =
        entries.filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path()))).collect();
    nodes.sort();
    nodes.into_iter().map(|(_, path)| path).collect()
}

/// The first camera.
///
/// # Errors
/// [`Error::Video`]: there is none, or none that may be opened.
pub fn first() -> Result<PathBuf, Error> {
    if let Some((path, _)) = cameras().into_iter().next() {
        return Ok(path);
    }
    let refused =
        nodes().into_iter().find_map(|path| Device::open(&path).err().map(|refusal| explain(&path, &refusal)));
    Err(match refused {
        Some(error) => Error::Video(format!("no camera that gives frames: {error}")),
        None => Error::Video("no camera: there is no /dev/video*; plug one in, or load its driver".to_owned()),
    })
}

/// What a refusal means: what was asked, what the system said, what to do.
pub fn explain(path: &Path, Refusal { request, error }: &Refusal) -> Error {
    let shown = path.display();
    let remedy = match error.raw_os_error() {
        Some(libc::ENOENT) => return Error::Video(format!("{shown}: no such camera; {}", those_there_are())),
        Some(libc::EACCES | libc::EPERM) => {
            "cameras are for the group video: sudo usermod -aG video \"$USER\", then log in again"
        }
        Some(libc::EBUSY) => "another program uses it, and a camera has one reader: fuser names it",
        Some(libc::ENOTTY) => "not a camera that Video4Linux knows",
        Some(libc::ENODEV | libc::ENXIO | libc::EIO) => "the camera was unplugged, or its driver has failed",
        Some(libc::ENOSPC) => {
            "its bus has too little room: a smaller --camera-size, --camera-format mjpeg, or another USB port"
        }
        Some(libc::ENOMEM) => "too little memory for its buffers: a smaller --camera-size",
        Some(libc::EINVAL) => "its driver does not take this: another --camera-format or --camera-size",
        _ if error.kind() == ErrorKind::Unsupported => return Error::Video(format!("{shown}: {error}")),
        _ => return Error::Video(format!("{shown}: {request}: {error}")),
    };
    Error::Video(format!("{shown}: {request}: {error}; {remedy}"))
}

fn those_there_are() -> String {
    let cameras: Vec<String> =
        cameras().into_iter().map(|(path, card)| format!("{} ({card})", path.display())).collect();
    if cameras.is_empty() { "there is none".to_owned() } else { format!("there are {}", cameras.join(", ")) }
}

/// A frame that does not come.
pub(super) fn silent(path: &Path, seconds: f64) -> Error {
    let wait = abi::DQBUF.1;
    Error::Video(format!(
        "{}: no frame for {seconds} s ({wait}): the camera is silent; plug it in again",
        path.display()
    ))
}
