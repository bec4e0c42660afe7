//! What the network sees: photos, or windows of one.

use crate::ops::patchify::Normalise;
use crate::ops::{Buf, CutWindows, Picture, PlanBuilder};

/// The image encoder's input, before it is cut in patches.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    /// Whole photos, each resized to the network's size.
    Photos(Picture),
    /// Windows of one photo, as [`CutWindows`] takes them.
    Windows { photo: Picture, seen: Buf, weights: Buf, density: usize },
}

impl Input {
    pub fn batch(&self) -> usize {
        match self {
            Input::Photos(photo) => photo.buf.batch(),
            Input::Windows { seen, .. } => seen.batch(),
        }
    }

    /// Normalised and cut: `out` is `[b, h, w, patch·patch·3]`.
    pub fn cut(&self, d: &mut PlanBuilder, normalise: &Normalise, patch: usize, out: Buf) {
        match *self {
            Input::Photos(photo) => d.patchify(photo, normalise, patch, out),
            Input::Windows { photo, seen, weights, density } => {
                d.cut_windows(CutWindows { photo, seen, weights, density, normalise: *normalise, patch, out });
            }
        }
    }
}
