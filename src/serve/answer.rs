//! What a client gets for a frame, in one message: the length of a head, the head as JSON, the mask in runs, the scores in bytes.

use std::time::Duration;

use serde::Serialize;

use crate::engine::{Labels, Output, Results};
use crate::image::palette::palette;

/// Bytes of scores in one answer at most: of more they are halved in size, again and again.
const SCORES: usize = 1 << 20;

#[derive(Serialize)]
pub struct Head<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    /// The client's own number of it.
    pub frame: u32,
    /// The client's own number of the words that it was asked about.
    pub id: u64,
    pub epoch: u64,
    pub labels: &'a [String],
    pub colours: Vec<String>,
    pub shares: Vec<f64>,
    pub width: usize,
    pub height: usize,
    pub network_width: usize,
    pub network_height: usize,
    /// Frames that newer ones have replaced, since the last answer.
    pub skipped: u64,
    mask_bytes: usize,
    scores_size: ScoresSize,
    /// Of each label: what its bytes 0 and 255 stand for.
    scores_range: Vec<[f32; 2]>,
    pub milliseconds: Times,
}

#[derive(Clone, Copy, Default, Serialize)]
struct ScoresSize {
    width: usize,
    height: usize,
}

/// Where the time went, in milliseconds.
#[derive(Clone, Copy, Serialize)]
pub struct Times {
    pub decode: f64,
    pub wait: f64,
    pub engine: f64,
}

impl Times {
    pub fn new(decode: Duration, wait: Duration, engine: Duration) -> Times {
        let [decode, wait, engine] = [decode, wait, engine].map(|time| 1000.0 * time.as_secs_f64());
        Times { decode, wait, engine }
    }
}

/// What the client said of the frame, and what else is known.
pub struct About {
    pub frame: u32,
    pub id: u64,
    pub skipped: u64,
    pub network: (usize, usize),
    pub times: Times,
}

/// The message. `results` have a mask of bytes, and scores where they are wanted.
pub fn message(about: About, labels: &Labels, results: &Results) -> Vec<u8> {
    let [height, width, _] = results.shape(Output::Mask8).unwrap_or_default();
    let count = labels.names().len();
    let mut counts = vec![0; 1 << 8];
    let mask = runs(results.mask8(0).unwrap_or_default(), &mut counts);
    let scores = results.values(Output::Scores, 0).zip(results.shape(Output::Scores));
    let scores = scores.map(|(values, [_, height, width])| Bytes::new(values, width, height));
    let Bytes { size, range, bytes } = scores.unwrap_or_default();
    let head = Head {
        kind: "frame",
        frame: about.frame,
        id: about.id,
        epoch: labels.epoch(),
        labels: labels.names(),
        colours: colours(count),
        shares: counts[..count].iter().map(|pixels| *pixels as f64 / (width * height).max(1) as f64).collect(),
        width,
        height,
        network_width: about.network.1,
        network_height: about.network.0,
        skipped: about.skipped,
        mask_bytes: mask.len(),
        scores_size: size,
        scores_range: range,
        milliseconds: about.times,
    };
    let head = serde_json::to_vec(&head).expect("a head is plain values");
    [&(head.len() as u32).to_le_bytes(), &*head, &mask, &bytes].concat()
}

/// "#fcf06c", one a label.
pub fn colours(labels: usize) -> Vec<String> {
    palette(labels).into_iter().map(|[r, g, b]| format!("#{r:02x}{g:02x}{b:02x}")).collect()
}

/// Runs of equal labels, each the label and its length: 7 bits a byte, the lowest first, the highest bit where more follow. Counts
/// the pixels of each label.
fn runs(mask: &[u8], counts: &mut [u64]) -> Vec<u8> {
    let (mut rest, mut out) = (mask, Vec::new());
    while let Some(&label) = rest.first() {
        let length = rest.iter().position(|other| *other != label).unwrap_or(rest.len());
        counts[usize::from(label)] += length as u64;
        out.push(label);
        let mut left = length;
        while left > 127 {
            out.push(left as u8 | 128);
            left >>= 7;
        }
        out.push(left as u8);
        rest = &rest[length..];
    }
    out
}

/// Scores `[labels, height, width]` in bytes, each label with its own scale.
#[derive(Default)]
struct Bytes {
    size: ScoresSize,
    range: Vec<[f32; 2]>,
    bytes: Vec<u8>,
}

impl Bytes {
    fn new(values: &[f32], width: usize, height: usize) -> Bytes {
        let mut step = 1;
        // Networks' sides are multiples of 32.
        while values.len() / (step * step) > SCORES && width.is_multiple_of(2 * step) && height.is_multiple_of(2 * step)
        {
            step *= 2;
        }
        let size = ScoresSize { width: width / step, height: height / step };
        let mut made = Bytes { size, range: Vec::new(), bytes: Vec::with_capacity(values.len() / (step * step)) };
        let mut smaller = Vec::new();
        for plane in values.chunks_exact(width * height) {
            let plane = if step == 1 {
                plane
            } else {
                smaller.clear();
                shrink(plane, width, step, &mut smaller);
                &smaller
            };
            made.range.push(quantise(plane, &mut made.bytes));
        }
        made
    }
}

/// Means of step × step values.
fn shrink(plane: &[f32], width: usize, step: usize, out: &mut Vec<f32>) {
    let scale = 1.0 / (step * step) as f32;
    for rows in plane.chunks_exact(width * step) {
        out.extend((0..width).step_by(step).map(|x| {
            let row = |y: usize| rows[y * width + x..][..step].iter().sum::<f32>();
            scale * (0..step).map(row).sum::<f32>()
        }));
    }
}

/// As bytes; what 0 and 255 stand for.
pub fn quantise(values: &[f32], out: &mut Vec<u8>) -> [f32; 2] {
    let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
    let (low, high) = if low <= high { (low, high) } else { (0.0, 0.0) };
    let scale = if high > low { 255.0 / (high - low) } else { 0.0 };
    out.extend(values.iter().map(|v| ((v - low) * scale + 0.5) as u8));
    [low, high]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_comes_back_from_its_runs() {
        let mask: Vec<u8> = [(3, 1), (0, 127), (255, 128), (7, 20_000), (3, 2)]
            .into_iter()
            .flat_map(|(label, count)| vec![label; count])
            .collect();
        let mut counts = [0; 256];
        let packed = runs(&mask, &mut counts);
        assert_eq!((counts[3], counts[0], counts[255], counts[7]), (3, 127, 128, 20_000));
        let (mut unpacked, mut bytes) = (Vec::new(), packed.iter());
        while let Some(label) = bytes.next() {
            let (mut length, mut shift) = (0, 0);
            for byte in bytes.by_ref() {
                length |= usize::from(byte & 127) << shift;
                shift += 7;
                if byte & 128 == 0 {
                    break;
                }
            }
            unpacked.resize(unpacked.len() + length, *label);
        }
        assert_eq!(unpacked, mask);
        assert!(runs(&[], &mut counts).is_empty());
    }

    #[test]
    fn bytes_span_each_labels_scores() {
        let values = [[0.0, 1.0, 2.0, 3.0], [5.0; 4]].concat();
        let made = Bytes::new(&values, 2, 2);
        assert_eq!((made.bytes, made.range), (vec![0, 85, 170, 255, 0, 0, 0, 0], vec![[0.0, 3.0], [5.0, 5.0]]));
        // 5 labels of 480×480 are 1.15 MB: a quarter of that goes out, of means.
        let large: Vec<f32> = (0..5 * 480 * 480).map(|i| (i % 480) as f32).collect();
        let made = Bytes::new(&large, 480, 480);
        assert_eq!((made.size.width, made.size.height, made.bytes.len()), (240, 240, 5 * 240 * 240));
        assert_eq!(made.range[4], [0.5, 478.5]);
        assert_eq!((made.bytes[0], made.bytes[239]), (0, 255));
    }
}
