//! Where moving pictures come from: cameras, files, streams and pipes, one [`Source`] each. A source writes each frame's bytes straight
//! into memory that its caller gives, in the format that they came in: nothing is converted on the host.

mod camera;
mod ffmpeg;
mod folder;
mod open;
mod pipe;
mod rate;
mod raw;
mod reconnect;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod v4l2;
mod writer;
mod y4m;

pub use self::camera::{CameraFormat, CameraOptions};
pub use self::ffmpeg::{Address, Decoded, Encoder, Ffmpeg, FfmpegOptions, Programs};
pub use self::folder::Folder;
pub use self::open::{SourceOptions, open};
pub use self::rate::Rate;
pub use self::raw::{Raw, RawOptions};
pub use self::reconnect::{Reconnect, Tell};
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub use self::v4l2::{Camera, cameras};
pub use self::writer::{Y4mWriter, unwritable};
pub use self::y4m::{Y4m, Y4mOptions};
use crate::error::Result;
use crate::image::decode;
use crate::pixels::Format;

/// The largest frame taken by default, in pixels: as of photos.
pub const DEFAULT_MAX_PIXELS: u64 = decode::DEFAULT_MAX_PIXELS;

/// An error, without the source's name, for a size that no frame has or that is not allowed.
fn check_size(width: u64, height: u64, max_pixels: u64) -> Result<(), String> {
    let pixels = u128::from(width) * u128::from(height);
    // In no format has a pixel more than 12 bytes.
    if pixels.saturating_mul(12) > isize::MAX as u128 || pixels > u128::from(max_pixels) {
        return Err(format!(
            "{width}×{height} is {pixels} pixels, more than the {max_pixels} allowed; raise the limit (--max-pixels) or make the \
             frames smaller"
        ));
    }
    if pixels == 0 {
        return Err(format!("{width}×{height} pixels: there is nothing in it"));
    }
    Ok(())
}

/// Something that yields frames, one after the other.
pub trait Source: Send {
    /// One line for people: `/dev/video0 (vivid): nv12, 1280×720 at 30 frames a second`.
    fn describe(&self) -> String;

    /// Frames come when they come, whoever is ready for them: the newest matters. Otherwise they wait, and all of them matter.
    fn is_live(&self) -> bool;

    /// Frames a second, where it says so.
    fn rate(&self) -> Option<Rate> {
        None
    }

    /// Waits for the next frame and brings its bytes into memory of `room`.
    ///
    /// # Errors
    /// The source is lost: unplugged, ended by somebody else, cut off. Opened anew it may be there again.
    fn next(&mut self, room: &mut dyn Room) -> Result<Next>;
}

/// Memory for frames.
pub trait Room {
    /// For a frame of this format and size: [`Format::bytes`] bytes, rows and planes without padding. Asked again for the same frame it
    /// may give other memory.
    ///
    /// # Errors
    /// A size that no frame has; too little memory; nobody wants frames any more. A source hands it on as it is.
    fn frame(&mut self, format: Format, width: usize, height: usize) -> Result<&mut [u8]>;
}

/// What came of waiting.
#[derive(Debug)]
pub enum Next {
    /// A frame, whole, in the memory that was asked for last.
    Frame(Frame),
    /// A frame that is damaged: one line that says how. The next may be whole.
    Corrupt(String),
    /// There is no more.
    End,
}

/// What is known of a frame beside its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When it was taken, in nanoseconds: since 1970 of what is live, since the first frame of what is not.
    pub stamp: i64,
    /// Frames that the source itself has lost just before this one, as far as it tells.
    pub missed: u64,
}

#[cfg(test)]
mod tests;
