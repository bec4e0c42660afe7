//! How weights get their handles.

use super::{Matrix, Vector, Weight, conv, polyphase};
use crate::error::Result;

/// Where weights go at load.
pub trait Upload {
    /// Makes room for a model's weights at once: those that will come.
    fn expect(&mut self, _weights: &[Weight]) -> Result<()> {
        Ok(())
    }

    /// The largest size of a matrix's value that the device holds. Vectors are float32 on every device.
    fn largest_weight(&self) -> f32 {
        f32::MAX
    }

    /// `data` is `[n, k]`, row-major.
    fn matrix(&mut self, n: usize, k: usize, data: &[f32]) -> Result<Matrix>;

    /// The weights of a convolution: `data` is `[outputs, kernel·kernel·inputs]`. A device may keep them transformed, so
    /// that they serve convolutions alone.
    fn filters(&mut self, shape: conv::Shape, data: &[f32]) -> Result<Matrix> {
        self.matrix(shape.outputs, shape.kernel * shape.kernel * shape.inputs, data)
    }

    /// The weights of a [`Polyphase`](super::Polyphase), in its order; kept as a device likes.
    fn phases(&mut self, shape: polyphase::Shape, data: &[f32]) -> Result<Matrix> {
        let (n, k) = shape.size();
        self.matrix(n, k, data)
    }

    /// Does work that is cut in parts for rayon, on the device's threads or on as many as there are by default.
    ///
    /// # Errors
    /// Threads that cannot be had.
    fn in_parallel(&self, work: &mut (dyn FnMut() + Send)) -> Result<()>;

    fn vector(&mut self, data: &[f32]) -> Result<Vector>;
}
