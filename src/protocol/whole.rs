//! How a whole photo is taken: its size before, its windows, what is taken of each, how they merge, what is handed out. The network
//! knows nothing of it.

use super::{MAX_SIDE, STEP, Size};
use crate::{Error, Result};

/// A way to run the network over a whole photo.
#[derive(Clone, Debug, PartialEq)]
pub struct Protocol {
    /// What becomes of the photo first of all.
    pub before: Before,
    /// In how many passes the network sees it.
    pub look: Look,
    /// What is taken of each pass.
    pub stage: Stage,
    /// Whether that is upsampled ×2 (align_corners=True) before it is merged.
    pub doubled: bool,
    /// The size of what is handed out.
    pub at: At,
    /// Where it insists on another than the model's.
    pub normalisation: Option<Normalisation>,
}

impl Default for Protocol {
    /// One pass at the model's own size, as most programs take it.
    fn default() -> Protocol {
        Protocol {
            before: Before::Nothing,
            look: Look::Native,
            stage: Stage::Scores,
            doubled: true,
            at: At::Photo,
            normalisation: None,
        }
    }
}

/// What becomes of the photo before anything else: (height, width).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// The normalised photo is resized, bilinear without antialias; only one wider than so many pixels.
    Float {
        /// To this.
        size: (usize, usize),
        /// align_corners
        corners: bool,
        /// 0: each.
        wider_than: usize,
    },
    /// The 8-bit photo is resized as Pillow's `BILINEAR` does, which antialiases.
    Pillow((usize, usize)),
    /// The 8-bit photo is resized as OpenCV's `INTER_LINEAR` does.
    OpenCv((usize, usize)),
}

/// In how many passes the network sees a photo.
#[derive(Clone, Debug, PartialEq)]
pub enum Look {
    /// In one, at the size that is the model's or was asked for.
    Native,
    /// In one, at this size.
    Once(Size),
    /// In one for each window of each scale.
    Windows(Windows),
}

/// Windows of a photo at several scales.
#[derive(Clone, Debug, PartialEq)]
pub struct Windows {
    /// The longer side at scale 1.
    pub base: Base,
    /// Their side, which the network sees.
    pub crop: Crop,
    /// From one to the next; two thirds of the crop, rounded down, where nothing is said.
    pub stride: Option<usize>,
    /// Times the base, rounded up.
    pub scales: Vec<f64>,
    /// What is done with mirrored windows.
    pub flip: Flip,
}

impl Windows {
    /// From one window of this crop to the next.
    ///
    /// # Errors
    /// [`Error::Size`] for a stride of 0 or above the crop.
    pub(super) fn stride_of(&self, crop: usize) -> Result<usize> {
        let usual = crop * 2 / 3;
        match self.stride {
            None => Ok(usual),
            Some(stride) if (1..=crop).contains(&stride) => Ok(stride),
            Some(stride) => {
                let what = format!("--stride {stride}: expected 1 to the crop's {crop}, such as {usual}");
                Err(Error::Size(what))
            }
        }
    }
}

/// The longer side of a photo at scale 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// So many pixels.
    Pixels(usize),
    /// So many times the photo's own.
    Photo(usize),
}

/// The side of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crop {
    /// So many pixels.
    Pixels(usize),
    /// The base, up to the next multiple of [`STEP`].
    Base,
}

/// What is done with mirrored windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flip {
    /// There are none.
    None,
    /// Their results, mirrored back, are added.
    Sum,
    /// The mean of both is taken.
    Mean,
}

impl Flip {
    /// As `--flip` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Flip::None => "none",
            Flip::Sum => "sum",
            Flip::Mean => "mean",
        }
    }

    /// Passes a window.
    pub fn passes(self) -> usize {
        if self == Flip::None { 1 } else { 2 }
    }
}

/// What is taken of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The labels' scores.
    Scores,
    /// The pixels' embeddings, of any length.
    Raw,
    /// Their unit vectors.
    Unit,
    /// Their unit vectors times 1/0.07, rounded to float16.
    Scaled,
}

/// The size of what is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The photo's, as it is after [`Protocol::before`].
    Photo,
    /// That of the one scale's map.
    Scale,
}

/// Per channel, of colours in 0–1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalisation {
    /// Subtracted.
    pub mean: [f32; 3],
    /// Divided by.
    pub std: [f32; 3],
}

impl Protocol {
    /// Whether it can be done at all.
    ///
    /// # Errors
    /// [`Error::Size`]: a crop that is no multiple of [`STEP`], a stride of 0 or above the crop, a scale that is not above 0 or comes
    /// twice, several of them where a map of one is handed out, a base beyond [`MAX_SIDE`].
    pub fn check(&self) -> Result<()> {
        let Look::Windows(windows) = &self.look else { return Ok(()) };
        let refused = |what: String| Err(Error::Size(what));
        let Windows { base, crop, scales, .. } = windows;
        if let Crop::Pixels(crop) = *crop
            && (crop == 0 || !crop.is_multiple_of(STEP) || crop > MAX_SIDE)
        {
            return refused(format!("--crop {crop}: expected a multiple of {STEP} up to {MAX_SIDE}, such as 480"));
        }
        if scales.is_empty() {
            return refused("--scales: expected at least one number, such as 1".to_owned());
        }
        if self.at == At::Scale && scales.len() > 1 {
            return refused(format!(
                "--scales {}: a map that is handed out at its own size has one scale",
                join(scales)
            ));
        }
        for (i, scale) in scales.iter().enumerate() {
            if !(*scale > 0.0 && scale.is_finite()) {
                return refused(format!("--scales {}: expected numbers above 0, found {scale}", join(scales)));
            }
            if scales[..i].contains(scale) {
                return refused(format!("--scales {}: {scale} comes twice", join(scales)));
            }
            if let Base::Pixels(base) = *base {
                self.long_side(base, *scale)?;
            }
        }
        if let Crop::Pixels(crop) = *crop {
            windows.stride_of(crop)?;
        }
        Ok(())
    }

    /// The longer side of a photo at a scale.
    ///
    /// # Errors
    /// [`Error::Size`] beyond [`MAX_SIDE`].
    pub(super) fn long_side(&self, base: usize, scale: f64) -> Result<usize> {
        let long = (base as f64 * scale).ceil();
        if base == 0 || long > MAX_SIDE as f64 {
            return Err(Error::Size(format!(
                "--base {base} at scale {scale} is a longer side of {long} pixels: expected 1 to {MAX_SIDE}"
            )));
        }
        Ok(long as usize)
    }

    /// What it does, a name and a text a line; those that `--preset` is held against are the options' names.
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        let size = |(height, width): (usize, usize)| format!("{height}x{width}");
        let before = match self.before {
            Before::Nothing => "nothing".to_owned(),
            Before::Float { size: to, corners, wider_than } => {
                let which = if wider_than == 0 { String::new() } else { format!(" wider than {wider_than}") };
                format!("float photo{which} to {}, align_corners={corners}, no antialias", size(to))
            }
            Before::Pillow(to) => format!("8-bit photo to {}, as Pillow's BILINEAR", size(to)),
            Before::OpenCv(to) => format!("8-bit photo to {}, as OpenCV's INTER_LINEAR", size(to)),
        };
        let mut lines = vec![("before", before)];
        match &self.look {
            Look::Native => lines.push(("passes", "one, at --size or the model's own size".to_owned())),
            Look::Once(to) => lines.push(("passes", format!("one, at {to}"))),
            Look::Windows(windows) => {
                lines.push(("passes", "one a window and flip".to_owned()));
                let base = match windows.base {
                    Base::Pixels(pixels) => pixels.to_string(),
                    Base::Photo(1) => "the photo's longer side".to_owned(),
                    Base::Photo(times) => format!("{times} times the photo's longer side"),
                };
                lines.push(("base", base));
                lines.push((
                    "crop",
                    match windows.crop {
                        Crop::Pixels(pixels) => pixels.to_string(),
                        Crop::Base => format!("the base, up to a multiple of {STEP}"),
                    },
                ));
                if let (Crop::Pixels(crop), stride) = (windows.crop, windows.stride) {
                    lines.push(("stride", stride.unwrap_or(crop * 2 / 3).to_string()));
                }
                lines.push(("padding", "right and below, black".to_owned()));
                lines.push(("scales", join(&windows.scales)));
                lines.push(("flip", windows.flip.name().to_owned()));
                lines.push(("merged", "windows divided by their count, scales added".to_owned()));
            }
        }
        let stage = match self.stage {
            Stage::Scores => "scores",
            Stage::Raw => "embeddings as they are",
            Stage::Unit => "unit embeddings",
            Stage::Scaled => "unit embeddings / 0.07, rounded to float16",
        };
        lines.push(("taken", format!("{stage}{}", if self.doubled { ", upsampled x2" } else { "" })));
        let at = match self.at {
            At::Photo if self.before == Before::Nothing => "the photo's size",
            At::Photo => "the resized photo's size",
            At::Scale => "the map's own size",
        };
        lines.push(("handed out", at.to_owned()));
        if let Some(Normalisation { mean, std }) = self.normalisation {
            let numbers = |values: [f32; 3]| values.map(|value| value.to_string()).join(" ");
            lines.extend([("mean", numbers(mean)), ("std", numbers(std))]);
        }
        lines
    }
}

/// "0.5 1 1.5"
pub(super) fn join(scales: &[f64]) -> String {
    scales.iter().map(f64::to_string).collect::<Vec<_>>().join(" ")
}
