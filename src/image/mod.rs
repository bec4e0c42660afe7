//! Photos in; masks, overlays and arrays out.

pub mod contours;
pub mod decode;
mod exif;
#[cfg(feature = "overlay")]
mod fonts;
#[cfg(feature = "overlay")]
#[doc(hidden)]
pub mod heat;
mod idat;
mod jpeg;
#[cfg(feature = "overlay")]
#[doc(hidden)]
pub mod legend;
pub mod mask;
pub mod npy;
#[cfg(feature = "overlay")]
pub mod overlay;
pub mod palette;
pub(crate) mod photo_files;
#[doc(hidden)]
pub mod resize;
#[cfg(feature = "overlay")]
mod text;
mod tiff;
