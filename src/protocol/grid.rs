//! Where the windows of a photo lie at a scale (PyTorch-Encoding, `MultiEvalModule`).

use std::ops::Range;

use super::whole::{At, Base, Before, Crop, Look, Protocol, Windows};
use super::{MAX_SIDE, STEP};
use crate::resample::{Pair, corners};
use crate::{Error, Result};

/// Windows along one side of a photo at a scale. All but `scaled` is in pixels of what a window yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Of the photo at this scale.
    pub scaled: usize,
    /// Of the map that the windows make up.
    pub size: usize,
    pub crop: usize,
    pub stride: usize,
    /// How many windows.
    pub count: usize,
}

impl Axis {
    fn new(scaled: usize, crop: usize, stride: usize, doubled: bool) -> Axis {
        let count = scaled.max(crop).saturating_sub(crop).div_ceil(stride) + 1;
        let unit = if doubled { 1 } else { 2 };
        // Where maps are not upsampled there is one window, and the stride says nothing.
        let stride = (stride / unit).max(1);
        Axis { scaled, size: scaled.div_ceil(unit), crop: crop / unit, stride, count }
    }

    /// How many windows cover a pixel.
    pub fn cover(&self, at: usize) -> usize {
        let windows = self.windows(at..at + 1);
        windows.len()
    }

    /// The windows that cover any of these pixels.
    pub fn windows(&self, pixels: Range<usize>) -> Range<usize> {
        let first = if pixels.start < self.crop { 0 } else { (pixels.start - self.crop) / self.stride + 1 };
        first..((pixels.end - 1) / self.stride).min(self.count - 1) + 1
    }

    /// Rows that are whole once so many windows are done.
    pub fn whole(&self, done: usize) -> usize {
        if done == self.count { self.size } else { done * self.stride }
    }
}

/// A scale: its windows down and across.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    pub scale: f64,
    pub height: Axis,
    pub width: Axis,
}

impl Grid {
    pub fn windows(&self) -> usize {
        self.height.count * self.width.count
    }
}

impl Protocol {
    /// (height, width) of a photo after [`Protocol::before`].
    pub fn photo_size(&self, photo: (usize, usize)) -> (usize, usize) {
        match self.before {
            Before::Nothing => photo,
            Before::Float { wider_than, .. } if photo.1 <= wider_than => photo,
            Before::Float { size, .. } | Before::Pillow(size) | Before::OpenCv(size) => size,
        }
    }

    /// The scales of a photo of (height, width); none where it is seen in one pass.
    ///
    /// # Errors
    /// [`Error::Size`] for a photo without pixels, and where a side would pass [`MAX_SIDE`](super::MAX_SIDE).
    pub fn grids(&self, photo: (usize, usize)) -> Result<Vec<Grid>> {
        self.check()?;
        let Look::Windows(windows) = &self.look else { return Ok(Vec::new()) };
        if photo.0 == 0 || photo.1 == 0 {
            return Err(Error::Size(format!("a photo of {}×{} pixels: expected at least one", photo.1, photo.0)));
        }
        windows.scales.iter().map(|scale| self.grid(windows, self.photo_size(photo), *scale)).collect()
    }

    fn grid(&self, windows: &Windows, (height, width): (usize, usize), scale: f64) -> Result<Grid> {
        let base = match windows.base {
            Base::Pixels(pixels) => pixels,
            Base::Photo(times) => height.max(width).saturating_mul(times),
        };
        let long = self.long_side(base, scale)?;
        let crop = match windows.crop {
            Crop::Pixels(pixels) => pixels,
            Crop::Base => base.checked_next_multiple_of(STEP).unwrap_or(usize::MAX),
        };
        if crop > MAX_SIDE {
            return Err(Error::Size(format!("windows of {crop} pixels a side: expected {MAX_SIDE} at most")));
        }
        // As the published code has it: int(1.0 * w * long_size / h + 0.5).
        let other = |side: usize, longer: usize| ((side as f64 * long as f64 / longer as f64 + 0.5) as usize).max(1);
        let (h, w) = if height > width { (long, other(width, height)) } else { (other(height, width), long) };
        let stride = windows.stride_of(crop)?;
        let axis = |scaled| Axis::new(scaled, crop, stride, self.doubled);
        let grid = Grid { scale, height: axis(h), width: axis(w) };
        if !self.doubled && grid.windows() > 1 {
            return Err(Error::Size(format!(
                "{} windows of maps that are not upsampled: they must be one; choose a larger crop",
                grid.windows()
            )));
        }
        Ok(grid)
    }

    /// (height, width) of what is handed out of these scales.
    pub fn out_size(&self, photo: (usize, usize), grids: &[Grid]) -> (usize, usize) {
        match (self.at, grids) {
            (At::Scale, [grid]) => (grid.height.size, grid.width.size),
            _ => self.photo_size(photo),
        }
    }

    /// What pixel `i` of `out` sees of a scale's map: itself, or its neighbours (align_corners=True). Where the second has no weight it is
    /// the first.
    pub fn seen(&self, i: usize, axis: &Axis, out: usize) -> Pair {
        let pair = match self.at {
            At::Scale => Pair { low: i, high: i, t: 0.0 },
            At::Photo => corners(i, axis.size, out),
        };
        if pair.t == 0.0 { Pair { high: pair.low, ..pair } } else { pair }
    }

    /// The crop of windows of a photo, pixels.
    pub fn crop(&self, grids: &[Grid]) -> usize {
        grids.first().map_or(0, |grid| if self.doubled { grid.width.crop } else { 2 * grid.width.crop })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::preset::{Knobs, Preset};

    fn passes(name: &str, photo: (usize, usize)) -> usize {
        let protocol = Preset::named(name).unwrap().protocol;
        let Look::Windows(windows) = &protocol.look else { return 1 };
        protocol.grids(photo).unwrap().iter().map(Grid::windows).sum::<usize>() * windows.flip.passes()
    }

    /// Counted by hand of the published loops.
    #[test]
    fn windows_are_as_many_as_published() {
        assert_eq!(passes("lseg-eval", (480, 640)), 36);
        assert_eq!(passes("lseg-eval", (6000, 8000)), 36);
        assert_eq!(passes("vlmaps", (480, 640)), 2);
        assert_eq!(passes("openscene", (240, 320)), 2);
        let native = Knobs { crop: Some(480), ..Knobs::default() }.protocol().unwrap();
        assert_eq!(native.grids((6000, 8000)).unwrap()[0].windows(), 475);
    }

    #[test]
    fn a_narrow_photo_has_at_least_one_pixel_a_side() {
        let protocol = Preset::named("lseg-eval").unwrap().protocol;
        for photo in [(1, 1000), (1000, 1), (1, 1)] {
            for grid in protocol.grids(photo).unwrap() {
                assert!(grid.height.size >= 1 && grid.width.size >= 1);
            }
        }
    }

    #[test]
    fn openscene_is_one_window_of_the_doubled_photo() {
        let protocol = Preset::named("openscene").unwrap().protocol;
        let grids = protocol.grids((240, 333)).unwrap();
        assert_eq!((protocol.crop(&grids), grids[0].windows()), (672, 1));
        assert_eq!(protocol.out_size((240, 333), &grids), (240, 333));
    }

    /// Every pixel's cover counted one by one.
    #[test]
    fn covers_are_counted() {
        for (scaled, crop, stride) in [(1, 32, 21), (33, 32, 21), (100, 32, 7), (64, 32, 32), (910, 480, 320)] {
            let axis = Axis::new(scaled, crop, stride, true);
            let spans: Vec<Range<usize>> = (0..axis.count).map(|i| i * stride..i * stride + crop).collect();
            assert!(spans.last().unwrap().end >= scaled.max(crop));
            for at in 0..scaled {
                let cover = spans.iter().filter(|span| span.contains(&at)).count();
                assert_eq!(axis.cover(at), cover, "{at} of {scaled}");
                assert!(axis.windows(at..at + 1).all(|i| spans[i].contains(&at)));
            }
            assert!((0..axis.count).all(|done| axis.whole(done) <= done * stride.max(1)));
        }
    }
}
