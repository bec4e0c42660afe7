//! How a photo becomes the network's input, in one pass or in many.

#[doc(hidden)]
pub mod grid;
pub mod preset;
#[doc(hidden)]
pub mod strips;
mod whole;

use std::fmt;
use std::str::FromStr;

pub use self::whole::{At, Base, Before, Crop, Flip, Look, Normalisation, Protocol, Stage, Windows};
use crate::{Error, Result};

/// Every side of the network's input is a multiple of this.
pub const STEP: usize = 32;

/// The longest side that the network is run at: beyond it a typing error is likelier than a wish.
pub const MAX_SIDE: usize = 32_768;

/// The longest side of the network's input that a model may bring about by itself: a longer one is to be asked for.
pub const MAX_MODEL_SIDE: usize = 2_048;

/// The size at which the network sees a photo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Size {
    /// The photo's own.
    Native,
    /// This one, whatever the photo's shape.
    Exact {
        /// Pixels of a column.
        height: usize,
        /// Pixels of a row.
        width: usize,
    },
    /// The longer side gets this length, the other follows the photo's shape.
    LongSide(usize),
}

impl Size {
    /// The network's (height, width) for a photo of `photo_height` × `photo_width` pixels: each side rounded to the
    /// nearest multiple of 32, halves up, and at least 32.
    ///
    /// # Errors
    /// [`Error::Size`] if the photo has no pixels or a side would pass [`MAX_SIDE`].
    pub fn network_size(&self, photo_height: usize, photo_width: usize) -> Result<(usize, usize)> {
        if photo_height == 0 || photo_width == 0 {
            return Err(Error::Size(format!("a photo of {photo_width}×{photo_height} pixels: expected at least one")));
        }
        let (height, width) = match *self {
            Size::Native => (round(photo_height, 1, 1), round(photo_width, 1, 1)),
            Size::Exact { height, width } => (round(height, 1, 1), round(width, 1, 1)),
            Size::LongSide(long) => {
                let longer = photo_height.max(photo_width);
                (round(photo_height, long, longer), round(photo_width, long, longer))
            }
        };
        if height.max(width) > MAX_SIDE {
            return Err(Error::Size(format!(
                "size {self} of a {photo_width}×{photo_height} photo makes the network's input {width} wide and {height} \
                 high; at most {MAX_SIDE} a side is possible, choose a smaller size such as long:480"
            )));
        }
        Ok((height, width))
    }

    /// As [`Size::network_size`], where this is a model's own size and nobody asked for another.
    ///
    /// # Errors
    /// [`Error::Size`] also if a side would pass [`MAX_MODEL_SIDE`].
    pub fn models_network_size(&self, photo_height: usize, photo_width: usize) -> Result<(usize, usize)> {
        let (height, width) = self.network_size(photo_height, photo_width)?;
        if height.max(width) > MAX_MODEL_SIDE {
            return Err(Error::Size(format!(
                "the model's own size, {self}, makes the network's input {width} wide and {height} high; more than \
                 {MAX_MODEL_SIDE} a side is to be asked for: --size {self}, or a smaller one such as --size long:480"
            )));
        }
        Ok((height, width))
    }
}

/// `side · scale / base` rounded to the nearest positive multiple of [`STEP`], exactly; saturates.
fn round(side: usize, scale: usize, base: usize) -> usize {
    let (side, scale, base, step) = (side as u128, scale as u128, base as u128, STEP as u128);
    let steps = side.saturating_mul(scale).saturating_mul(2).saturating_add(base * step) / (2 * base * step);
    usize::try_from(steps.max(1) * step).unwrap_or(usize::MAX)
}

impl FromStr for Size {
    type Err = Error;

    /// `native`, `HxW` or `long:L`.
    fn from_str(text: &str) -> Result<Size> {
        let side = |digits: &str| {
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse::<usize>().ok().filter(|&pixels| plain && pixels > 0)
        };
        let size = if text == "native" {
            Some(Size::Native)
        } else if let Some(long) = text.strip_prefix("long:") {
            side(long).map(Size::LongSide)
        } else {
            text.split_once('x').and_then(|(h, w)| Some(Size::Exact { height: side(h)?, width: side(w)? }))
        };
        size.ok_or_else(|| {
            Error::Size(format!(
                "size \"{text}\": expected native, HEIGHTxWIDTH (such as 480x640) or long:L (such as long:480)"
            ))
        })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Size::Native => f.write_str("native"),
            Size::Exact { height, width } => write!(f, "{height}x{width}"),
            Size::LongSide(long) => write!(f, "long:{long}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown_alike() {
        for (text, size) in [
            ("native", Size::Native),
            ("480x640", Size::Exact { height: 480, width: 640 }),
            ("long:480", Size::LongSide(480)),
        ] {
            assert_eq!(text.parse::<Size>().unwrap(), size);
            assert_eq!(size.to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_forms_named() {
        let texts =
            ["", "480", "x", "480x", "0x32", "32x0", "long:", "long:0", "long:-5", "long:+5", "Native", " native"];
        for text in texts.into_iter().chain(["1x2x3", "480 x 640", "long:99999999999999999999999", "4.5x3"]) {
            let error = text.parse::<Size>().unwrap_err().to_string();
            assert!(error.contains(&format!("\"{text}\"")) && error.contains("long:480"), "{error}");
        }
    }

    /// Photo (height, width), size, network (height, width).
    #[test]
    fn sides_are_rounded_to_the_nearest_multiple_of_32() {
        for (photo, size, expected) in [
            ((480, 640), "native", (480, 640)),
            ((47, 48), "native", (32, 64)),
            ((79, 80), "native", (64, 96)),
            ((1, 5000), "native", (32, 4992)),
            ((100, 100), "1x999", (32, 992)),
            ((7, 9), "480x640", (480, 640)),
            ((480, 640), "long:480", (352, 480)), // 360 lies 8 above 352
            ((640, 480), "long:480", (480, 352)),
            ((3024, 4032), "long:480", (352, 480)),
            ((1, 1), "long:480", (480, 480)),
            ((2, 1000), "long:480", (32, 480)),
            ((300, 400), "long:64", (64, 64)), // 48 is half way: up
            ((299, 400), "long:64", (32, 64)),
            ((300, 400), "long:1", (32, 32)),
        ] {
            assert_eq!(
                size.parse::<Size>().unwrap().network_size(photo.0, photo.1).unwrap(),
                expected,
                "{photo:?} {size}"
            );
        }
    }

    #[test]
    fn a_model_asks_for_2048_a_side_at_most() {
        for (photo, size, is_taken) in [
            ((5000, 4000), "long:2048", true),
            ((1, 1), "2048x2048", true),
            ((2048, 1000), "native", true),
            ((5000, 4000), "long:2080", false),
            ((1, 1), "32x4096", false),
            ((3000, 10), "native", false),
        ] {
            let asked = size.parse::<Size>().unwrap();
            let own = asked.models_network_size(photo.0, photo.1);
            assert_eq!(own.is_ok(), is_taken, "{photo:?} {size}");
            match own {
                Ok(own) => assert_eq!(own, asked.network_size(photo.0, photo.1).unwrap()),
                Err(error) => assert!(error.to_string().contains(&format!("--size {size}")), "{error}"),
            }
        }
    }

    #[test]
    fn impossible_sizes_are_errors() {
        let huge = format!("long:{}", usize::MAX);
        for (photo, size) in [((0, 5), "native"), ((5, 0), "long:480"), ((5, 5), "99999x32"), ((5, 5), &huge)] {
            assert!(matches!(size.parse::<Size>().unwrap().network_size(photo.0, photo.1), Err(Error::Size(_))));
        }
        assert!(Size::Native.network_size(usize::MAX, usize::MAX).is_err());
        assert!(Size::LongSide(usize::MAX).network_size(usize::MAX, usize::MAX).is_err());
    }
}
