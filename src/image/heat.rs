//! A label's similarity over a photo in colours, and beside it the scale that says which value a colour is.

use std::io::{self, Write};

use super::decode::Photo;
use super::legend::{self, INK, MARGIN, PanelSize};
use super::overlay::Overlay;
use super::text::Text;

/// Every fifteenth colour of viridis (van der Walt and Smith, matplotlib 1.5, CC0), which is even to the eye and grows
/// lighter all the way. Between them it is straight, at most 5 of 255 from the original.
const ANCHORS: [[u8; 3]; 18] = [
    [68, 1, 84],
    [72, 23, 105],
    [71, 42, 122],
    [67, 61, 132],
    [61, 78, 138],
    [53, 94, 141],
    [46, 109, 142],
    [41, 123, 142],
    [35, 137, 142],
    [31, 151, 139],
    [33, 165, 133],
    [46, 179, 124],
    [70, 192, 111],
    [101, 203, 94],
    [137, 213, 72],
    [176, 221, 47],
    [216, 226, 25],
    [253, 231, 37],
];
const LEVELS: usize = 256;

/// Rows that the scale's panel has room for beside a very low photo, and its bar's width in heights of its text.
const FEWEST_ROWS: usize = 4;
const BAR: f32 = 1.2;
/// The distance of the bar from the values above and below it, in heights of the text.
const GAP: f32 = 0.3;
const LONGEST_VALUE: f32 = 13.0;

/// The scores that the first and the last colour stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Range {
    /// The picture's own least and largest.
    #[default]
    Own,
    /// What lies outside has the nearest one's colour.
    Fixed { low: f32, high: f32 },
}

/// A picture in colours with its scale.
pub struct Heat {
    picture: Photo,
    scale: Option<Photo>,
}

impl Heat {
    /// Of (height, width) pixels, whose scores `row(y, scores)` gives: row by row, twice over where the range is the
    /// picture's own.
    ///
    /// # Errors
    /// What `row` yields.
    pub fn new(
        (height, width): (usize, usize),
        range: Range,
        mut row: impl FnMut(usize, &mut [f32]) -> io::Result<()>,
    ) -> io::Result<Heat> {
        let mut scores = vec![0.0; width];
        let (low, high) = match range {
            Range::Fixed { low, high } => (low, high),
            Range::Own => {
                let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
                for y in 0..height {
                    row(y, &mut scores)?;
                    (low, high) = scores.iter().fold((low, high), |(low, high), s| (low.min(*s), high.max(*s)));
                }
                (low, high)
            }
        };
        let colours = colours();
        let mut rgb = Vec::with_capacity(3 * width * height);
        for y in 0..height {
            row(y, &mut scores)?;
            scores.iter().for_each(|score| rgb.extend_from_slice(&colours[level(*score, low, high)]));
        }
        let scale = scale(&colours, values(low, high), width, height);
        Ok(Heat { picture: Photo { width, height, rgb }, scale })
    }

    /// Writes it as an RGB PNG, the scale on the right.
    ///
    /// # Errors
    /// As [`Overlay::write`].
    pub fn write(self, out: impl Write) -> io::Result<()> {
        Overlay::beside(&self.picture, self.scale).write(out)
    }
}

/// From the least score's to the largest's.
fn colours() -> Vec<[u8; 3]> {
    let steps = (LEVELS - 1) / (ANCHORS.len() - 1);
    let between = |i: usize| {
        let (from, to) = (ANCHORS[i / steps], ANCHORS[(i / steps + 1).min(ANCHORS.len() - 1)]);
        let t = (i % steps) as f32 / steps as f32;
        std::array::from_fn(|c| (f32::from(from[c]) + t * (f32::from(to[c]) - f32::from(from[c]))).round() as u8)
    };
    (0..LEVELS).map(between).collect()
}

/// The colour's number; the first where all scores are equal. In float64, as a range may be wider than float32 tells.
fn level(score: f32, low: f32, high: f32) -> usize {
    let [score, low, high] = [score, low, high].map(f64::from);
    if high <= low {
        return 0;
    }
    (((score - low) / (high - low)).clamp(0.0, 1.0) * (LEVELS - 1) as f64).round() as usize
}

/// Both ends as text, with three digits of their distance.
fn values(low: f32, high: f32) -> [String; 2] {
    const LARGE: f32 = 1e7;
    const MOST_DECIMALS: f64 = 9.0;
    let distance = f64::from(high) - f64::from(low);
    let distance = if distance > 0.0 { distance } else { 1.0 };
    let decimals = (2.0 - distance.log10().floor()).clamp(0.0, MOST_DECIMALS) as usize;
    [low, high].map(|value| if value.abs() < LARGE { format!("{value:.decimals$}") } else { format!("{value:.2e}") })
}

/// The largest value, the colours from the top down, the least value; `None` beside a photo as thin as gets no legend.
fn scale(colours: &[[u8; 3]], [low, high]: [String; 2], width: usize, height: usize) -> Option<Photo> {
    let size = PanelSize::new(FEWEST_ROWS, width, height);
    let text = Text::new(size.text);
    let [low, high] = [low, high].map(|value| text.line(&value, LONGEST_VALUE * size.text));
    let left = MARGIN * size.text;
    let widest = low.width().max(high.width()).max(BAR * size.text);
    let mut panel = legend::paper((left + widest + left).ceil() as usize, size.height, width, height)?;
    let bottom = size.height as f32 - left - size.text;
    high.draw(&mut panel, left, left, INK);
    low.draw(&mut panel, left, bottom, INK);

    let from_top = |y: f32| y.round() as usize;
    let rows = from_top(left + (1.0 + GAP) * size.text)..from_top(bottom - GAP * size.text);
    let columns = from_top(left)..from_top(left + BAR * size.text);
    let last = rows.len().saturating_sub(1).max(1);
    for (i, y) in rows.rev().enumerate() {
        let colour = colours[i * (LEVELS - 1) / last];
        panel.rgb[3 * y * panel.width..][3 * columns.start..3 * columns.end].as_chunks_mut::<3>().0.fill(colour);
    }
    Some(panel)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By green, which is most of a colour's lightness: of the whole, rounding to bytes takes back a step in some places.
    #[test]
    fn colours_grow_lighter_all_the_way() {
        let colours = colours();
        assert_eq!((colours.len(), colours[0], colours[255]), (256, ANCHORS[0], ANCHORS[17]));
        assert!(colours.windows(2).all(|two| two[0][1] <= two[1][1]));
    }

    #[test]
    fn ends_and_what_is_outside_have_the_ends_colours() {
        let levels = |low, high| [-3e38, -1.0, 0.0, 1.0, 3e38].map(|score| level(score, low, high));
        assert_eq!(levels(-1.0, 1.0), [0, 0, 128, 255, 255]);
        assert_eq!(levels(-3e38, 3e38), [0, 128, 128, 128, 255]);
        assert_eq!(levels(1.0, 1.0), [0; 5]);
    }

    #[test]
    fn values_have_the_digits_that_tell_them_apart() {
        for (low, high, expected) in [
            (0.0, 1.0, ["0.00", "1.00"]),
            (14.21, 27.94, ["14.2", "27.9"]),
            (0.2001, 0.2123, ["0.2001", "0.2123"]),
            (-1500.0, 20.0, ["-1500", "20"]),
            (3.5, 3.5, ["3.50", "3.50"]),
            (-3e38, 3e38, ["-3.00e38", "3.00e38"]),
        ] {
            assert_eq!(values(low, high), expected);
        }
    }

    /// Both values and every colour are in sight, whatever the photo's shape.
    #[test]
    fn the_scale_stands_beside_the_picture() {
        for (width, height) in [(1, 1), (640, 480), (200, 3000), (3000, 200)] {
            let panel = |low: &str| scale(&colours(), [low.into(), "27.9".into()], width, height).unwrap();
            let drawn = panel("14.2");
            assert!(drawn.height >= height && drawn.height < height + 100, "{width}×{height}: {}", drawn.height);
            assert_ne!(drawn.rgb, panel("15.3").rgb);
            let places = [0, 17].map(|i| drawn.rgb.as_chunks::<3>().0.iter().position(|pixel| *pixel == ANCHORS[i]));
            assert!(places[1].is_some() && places[1] < places[0], "{width}×{height}: {places:?}");
        }
        assert!(scale(&colours(), ["0".into(), "1".into()], 60_000_000, 1).is_none());
    }

    #[test]
    fn a_row_that_fails_is_told() {
        for fails in 0..4 {
            let mut rows = 0;
            let heat = Heat::new((2, 3), Range::Own, |_, _| {
                rows += 1;
                if rows > fails { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
            });
            assert!(heat.is_err(), "{fails}");
        }
    }
}
