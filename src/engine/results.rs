//! What comes out of a pass: from the device into the caller's memory.

use super::{Engine, Scores, Segmentation};
use crate::error::Result;
use crate::model::{FrameIo, scale};
use crate::ops::{Buf, Element};

impl Engine {
    /// A result of the last pass, whole.
    pub(super) fn read_all<T: bytemuck::Pod>(&mut self, result: Option<Buf>) -> Result<Vec<T>> {
        let result = result.expect("a pass has what was asked of it");
        let mut data = vec![T::zeroed(); result.len()];
        let program = &self.sessions.last().expect("a session has just run").program;
        self.device.read(program, result, 0, bytemuck::cast_slice_mut(&mut data))?;
        Ok(data)
    }

    pub(super) fn read_embeddings(&mut self, result: Option<Buf>) -> Result<Vec<f32>> {
        let mut data: Vec<f32> = self.read_all(result)?;
        self.unscale("head1", &mut data);
        self.check_embeddings(&data)?;
        Ok(data)
    }

    /// Values of the buffer of this name as the network defines them.
    pub(super) fn unscale(&self, buffer: &str, data: &mut [f32]) {
        let scale = self.model.scale;
        if scale != 1.0 && scale::scales(buffer) {
            data.iter_mut().for_each(|value| *value /= scale);
        }
    }

    pub(super) fn read_mask(&mut self, io: FrameIo, b: usize, segmentation: &mut Segmentation) -> Result<()> {
        let mask = io.mask.expect("a pass for a mask has a mask");
        let [_, height, width, _] = mask.shape;
        (segmentation.height, segmentation.width) = (height, width);
        segmentation.mask.resize(height * width, 0);
        let program = &self.sessions.last().expect("a session has just run").program;
        let labels = &mut segmentation.mask;
        if mask.element == Element::U16 {
            return self.device.read(program, mask, b * height * width * 2, bytemuck::cast_slice_mut(labels));
        }
        let first = b * height * width;
        let widen =
            |bytes: &[u8], labels: &mut [u16]| labels.iter_mut().zip(bytes).for_each(|(l, b)| *l = u16::from(*b));
        if let Some(bytes) = self.device.output_memory(program, mask)? {
            widen(&bytes[first..], labels);
            return Ok(());
        }
        // Into the second half of the labels' own memory, then over it from the front: a byte is read before it is overwritten.
        let pixels = labels.len();
        self.device.read(program, mask, first, &mut bytemuck::cast_slice_mut(labels)[pixels..])?;
        for i in 0..pixels {
            labels[i] = u16::from(bytemuck::cast_slice::<u16, u8>(labels)[pixels + i]);
        }
        Ok(())
    }

    /// Of a buffer `[1, labels, height, width]`.
    pub(super) fn read_scores(&mut self, result: Option<Buf>) -> Result<Scores> {
        let [_, labels, height, width] = result.expect("a pass has what was asked of it").shape;
        let data: Vec<f32> = self.read_all(result)?;
        self.check_scores(&data, height * width)?;
        Ok(Scores { labels, height, width, data })
    }
}
