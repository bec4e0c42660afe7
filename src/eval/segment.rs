//! From a photo to its mask.

use crate::Result;
use crate::engine::{Engine, Output, Wanted, WholeOptions};
use crate::image::decode::Photo;
use crate::protocol::Protocol;

/// The index of each pixel's label [height, width].
pub struct Mask {
    pub width: usize,
    pub height: usize,
    pub labels: Vec<u16>,
}

/// A photo's mask: of the photo's size, or where photos are taken as a protocol says of that one's.
///
/// # Errors
/// As [`Engine::run_photo`] and [`Engine::run_whole`].
pub fn segment(engine: &mut Engine, photo: Photo, whole: Option<(&Protocol, WholeOptions)>) -> Result<Mask> {
    let mut results = match whole {
        Some((protocol, options)) => engine.run_whole(photo, protocol, Wanted::MASK, options)?,
        None => engine.run_photo(photo, Wanted::MASK)?,
    };
    let [height, width, _] = results.shape(Output::Mask).unwrap_or_default();
    Ok(Mask { width, height, labels: results.take_masks() })
}
