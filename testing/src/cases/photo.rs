//! The colours of a photo of any format, in float64, from what the formats' names mean.

use lseg_fast::ops::Picture;
use lseg_fast::{Format, Yuv, YuvMatrix, YuvRange};

use super::reference::Near;
use super::{Input, Values};

const EPS: f64 = f32::EPSILON as f64;

/// A photo's pixels by row and column: red, green, blue, 1 for white.
pub type Colours = Vec<Vec<[Near; 3]>>;

/// Of each photo of a batch.
pub fn colours(photo: &Picture, input: &Input) -> Vec<Colours> {
    let values: Vec<f64> = match &input.values {
        Values::U8(bytes) => bytes.iter().copied().map(f64::from).collect(),
        values => values.f32().iter().copied().map(f64::from).collect(),
    };
    let (height, width) = (photo.height, photo.width);
    let pairs = width.div_ceil(2);
    let of_item = |item: &[f64]| {
        let pixel = |y: usize, x: usize| {
            let bytes = |step: usize, places: [usize; 3]| {
                places.map(|place| exact(item[(y * width + x) * step + place] / 255.0))
            };
            let plane = |c: usize| exact(item[(c * height + y) * width + x]);
            match photo.format {
                Format::Rgb8 => bytes(3, [0, 1, 2]),
                Format::Bgr8 => bytes(3, [2, 1, 0]),
                Format::Rgba8 => bytes(4, [0, 1, 2]),
                Format::Bgra8 => bytes(4, [2, 1, 0]),
                Format::Mono8 => bytes(1, [0; 3]),
                Format::Nv12(yuv) => {
                    let chroma = height * width + (y / 2 * pairs + x / 2) * 2;
                    rgb(yuv, item[y * width + x], item[chroma], item[chroma + 1])
                }
                Format::Yuyv(yuv) => {
                    let pair = (y * pairs + x / 2) * 4;
                    rgb(yuv, item[pair + x % 2 * 2], item[pair + 1], item[pair + 3])
                }
                Format::RgbF32 | Format::RgbF16 => [0, 1, 2].map(plane),
            }
        };
        (0..height).map(|y| (0..width).map(|x| pixel(y, x)).collect()).collect()
    };
    values.chunks_exact(values.len() / photo.buf.batch()).map(of_item).collect()
}

fn exact(value: f64) -> Near {
    Near { value, bound: 0.0 }
}

/// Red and blue from their differences to luma, and green from what luma is made of. In float32 a few roundings of each term.
fn rgb(Yuv { matrix, range }: Yuv, luma: f64, cb: f64, cr: f64) -> [Near; 3] {
    let (red_share, blue_share) = match matrix {
        YuvMatrix::Bt601 => (0.299, 0.114),
        YuvMatrix::Bt709 => (0.2126, 0.0722),
    };
    let (y, b, r) = match range {
        YuvRange::Video => ((luma - 16.0) / 219.0, (cb - 128.0) / 224.0, (cr - 128.0) / 224.0),
        YuvRange::Full => (luma / 255.0, (cb - 128.0) / 255.0, (cr - 128.0) / 255.0),
    };
    let (red, blue) = (y + 2.0 * (1.0 - red_share) * r, y + 2.0 * (1.0 - blue_share) * b);
    let green = (y - red_share * red - blue_share * blue) / (1.0 - red_share - blue_share);
    let bound = 6.0 * EPS * (y.abs() + 2.0 * b.abs() + 2.0 * r.abs());
    [red, green, blue].map(|value| Near { value: value.clamp(0.0, 1.0), bound })
}

/// The bytes that a colour may become: two where float32 cannot tell which is nearer.
pub fn bytes(colour: Near) -> Vec<u16> {
    let level = |value: f64| (255.0 * value.clamp(0.0, 1.0)).round_ties_even() as u16;
    let bound = colour.bound + 2.0 * EPS * colour.value.abs();
    let mut all = vec![level(colour.value), level(colour.value - bound), level(colour.value + bound)];
    all.dedup();
    all
}
