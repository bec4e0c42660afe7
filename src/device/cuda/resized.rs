//! Host side of kernels/resized.cuh.

use bytemuck::{Pod, Zeroable};

use super::argmax::{columns, seen};
use super::modules::Spec;
use super::scores::Lines;
use crate::ops::Buf;

/// `Resizing` of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Resizing {
    height: u32,
    width: u32,
    channels: u32,
    to_height: u32,
    to_width: u32,
    columns: u32,
    lines: Lines,
}

impl Resizing {
    /// Of a map to a size, `taken` channels of it.
    pub fn new(spec: &Spec, map: Buf, (to_height, to_width): (usize, usize), taken: usize) -> Resizing {
        let [_, height, width, channels] = map.shape;
        let columns = columns(spec.columns, spec.room, width, to_width);
        Resizing {
            height: height as u32,
            width: width as u32,
            channels: channels as u32,
            to_height: to_height as u32,
            to_width: to_width as u32,
            columns: columns as u32,
            lines: Lines::new(spec.room, seen(columns, width, to_width), taken),
        }
    }

    pub fn grid(&self, spec: &Spec) -> [usize; 3] {
        [self.to_width.div_ceil(self.columns) as usize * (self.to_height as usize).div_ceil(spec.rows), 1, 1]
    }
}
