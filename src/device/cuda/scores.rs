//! Host side of kernels/scores.cuh: how many labels of neighbouring pixels a warp's memory holds at a time.

use bytemuck::{Pod, Zeroable};

/// Pixels whose scores always fit in a warp's memory of `line` floats, however many labels there are.
pub fn most_pixels(line: usize) -> usize {
    line / 17
}

/// `Lines` of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Lines {
    labels: u32,
    lanes: u32,
    stride: u32,
    padding: u32,
}

impl Lines {
    /// For `pixels` pixels of `labels` labels in `line` floats: all labels if they fit, else in equal parts.
    pub fn new(line: usize, pixels: usize, labels: usize) -> Lines {
        let most = most_pixels(line);
        assert!(pixels <= most, "{pixels} pixels are taken at once, {most} at most");
        let all = Lines::of(labels);
        if pixels * all.stride as usize <= line {
            return all;
        }
        // The largest odd stride.
        let most = (line / pixels - 1) | 1;
        Lines::of(labels.div_ceil(labels.div_ceil(most)))
    }

    /// Groups of lanes that take a pixel each, and strides at which they and lanes on neighbouring pixels meet in no bank.
    fn of(labels: usize) -> Lines {
        let (lanes, stride) = match labels {
            ..=5 => (8, 9),
            6..=15 => (16, 17),
            _ => (32, labels | 1),
        };
        Lines { labels: labels as u32, lanes, stride: stride as u32, padding: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_no_two_lanes_meet_in_a_bank() {
        const LINE: usize = 1000;
        for pixels in 1..=most_pixels(LINE) {
            for labels in (1..200).chain([300, 1000, 65536]) {
                let Lines { labels: taken, lanes, stride, .. } = Lines::new(LINE, pixels, labels);
                assert!(taken >= 1 && taken as usize <= labels && taken <= stride && stride % 2 == 1);
                assert!(pixels * stride as usize <= LINE, "{pixels} pixels of {labels} labels");
                let places = (0..32).map(|lane| (lane / lanes, lane % lanes)).filter(|(_, label)| *label < taken);
                let mut banks: Vec<u32> = places.map(|(pixel, label)| (pixel * stride + label) % 32).collect();
                let lanes = banks.len();
                banks.sort_unstable();
                banks.dedup();
                assert_eq!(banks.len(), lanes, "{labels} labels");
            }
        }
    }
}
