//! Host side of kernels/argmax.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use super::scores::{Lines, most_pixels};
use crate::ops::{Argmax, Element};

/// ArgmaxParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    logits: u64,
    mask: u64,
    /// 0 where not asked for
    best: u64,
    not_finite: u64,
    height: u32,
    width: u32,
    labels: u32,
    mask_height: u32,
    mask_width: u32,
    columns: u32,
    is_u16: u32,
    resized: u32,
    lines: Lines,
}

/// ArgmaxConfidentParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ConfidentParams {
    argmax: Params,
    /// 0 where not asked for
    confidence: u64,
    /// 0 where there is none: no share is less
    threshold: f32,
    unlabelled: u32,
}

/// ArgmaxClearParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ClearParams {
    not_finite: u64,
}

/// Columns of the logits that `columns` neighbouring pixels of the mask see at most. The doubled map's pixels left of the first
/// and the last lie ⌈(columns − 1)·2·width/mask_width⌉ apart at most, theirs in the logits half of it; the last sees two more.
pub(super) fn seen(columns: usize, width: usize, mask_width: usize) -> usize {
    (((columns - 1) * 2 * width).div_ceil(mask_width).div_ceil(2) + 3).min(width)
}

/// Columns of a warp: of `most` half as many as long as they see more pixels than its memory of `line` floats holds.
pub(super) fn columns(most: usize, line: usize, width: usize, mask_width: usize) -> usize {
    let mut halves = std::iter::successors(Some(most), |columns| (*columns > 1).then_some(columns / 2));
    halves.find(|columns| seen(*columns, width, mask_width) <= most_pixels(line)).expect("one pixel sees three")
}

pub fn compile(op: &Argmax, to: &mut Assembler<'_>) -> Refused {
    let Argmax { logits, resized, mask, best, not_finite, confidence, threshold } = *op;
    let name = if op.is_confident() { "argmax_confident" } else { "argmax" };
    let kernel = to.find("argmax", |kernel| kernel.name == name)?;
    let spec = kernel.spec;
    let [batch, height, width, labels] = logits.shape;
    let [_, mask_height, mask_width, _] = mask.shape;
    let columns = columns(spec.columns, spec.room, width, mask_width);
    let params = Params {
        logits: to.address(logits),
        mask: to.address(mask),
        best: to.optional_address(best),
        not_finite: to.address(not_finite),
        height: height as u32,
        width: width as u32,
        labels: labels as u32,
        mask_height: mask_height as u32,
        mask_width: mask_width as u32,
        columns: columns as u32,
        is_u16: u32::from(mask.element == Element::U16),
        resized: resized.into(),
        lines: Lines::new(spec.room, seen(columns, width, mask_width), labels),
    };
    // A kernel and no memset: all that a pass queues is launches and copies.
    let clear = to.find("argmax", |kernel| kernel.name == "argmax_clear")?;
    to.launch(clear, [1, 1, 1], &ClearParams { not_finite: params.not_finite })?;
    let grid = [mask_width.div_ceil(columns) * mask_height.div_ceil(spec.rows), batch, 1];
    if !op.is_confident() {
        return to.launch(kernel, grid, &params);
    }
    let unlabelled = if mask.element == Element::U16 { u16::MAX.into() } else { u8::MAX.into() };
    let (confidence, threshold) = (to.optional_address(confidence), threshold.unwrap_or(0.0));
    to.launch(kernel, grid, &ConfidentParams { argmax: params, confidence, threshold, unlabelled })
}

#[cfg(test)]
mod tests {
    use super::{columns, most_pixels, seen};
    use crate::resample::Taps;

    #[test]
    fn no_warp_sees_more_than_it_holds() {
        const COLUMNS: usize = 32;
        const LINE: usize = 1536;
        for width in [1, 2, 7, 72, 240, 241, 1000] {
            for mask_width in [1, 3, 50, 100, 479, 480, 640, 5000] {
                let columns = columns(COLUMNS, LINE, width, mask_width);
                assert!(seen(columns, width, mask_width) <= most_pixels(LINE));
                assert!((1..=COLUMNS).contains(&columns));
                for begin in (0..mask_width).step_by(columns) {
                    let last = (begin + columns).min(mask_width) - 1;
                    let first = Taps::through_upsample(begin, width, mask_width).index[0];
                    let end = (Taps::through_upsample(last, width, mask_width).index[0] + 3).min(width);
                    let most = seen(columns, width, mask_width);
                    assert!(end - first <= most, "{first} to {end} of {width} in {mask_width} at {begin}");
                }
            }
        }
    }
}
