//! Host side of kernels/feature_norms.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use super::resized::Resizing;
use crate::ops::FeatureNorms;

/// FeatureNormsParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    x: u64,
    out: u64,
    resizing: Resizing,
}

pub fn compile(op: &FeatureNorms, to: &mut Assembler<'_>) -> Refused {
    let FeatureNorms { x, out } = *op;
    let kernel = to.kernel("feature_norms")?;
    let resizing = Resizing::new(&kernel.spec, x, (out.shape[1], out.shape[2]), x.channels());
    to.launch(kernel, resizing.grid(&kernel.spec), &Params { x: to.address(x), out: to.address(out), resizing })
}
