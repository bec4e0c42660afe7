//! Photos in; masks, overlays and arrays out.

pub mod contours;
pub mod decode;
mod exif;
mod fonts;
mod idat;
mod jpeg;
pub mod legend;
pub mod mask;
pub mod npy;
pub mod overlay;
pub mod palette;
mod text;
mod tiff;
