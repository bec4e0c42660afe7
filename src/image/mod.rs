//! Photos in; masks, overlays and arrays out.

pub mod decode;
pub mod mask;
pub mod npy;
pub mod palette;
