//! Photos in; masks, overlays and arrays out.

pub mod decode;
mod fonts;
pub mod legend;
pub mod mask;
pub mod npy;
pub mod overlay;
pub mod palette;
mod text;
