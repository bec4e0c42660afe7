//! Host side of kernels/sm90/attention.cu: attention on warpgroups, whose queries, keys, values and results are described by tensor
//! maps.

use bytemuck::{Pod, Zeroable};

use super::ACTIVATION_BYTES;
use super::attention;
use super::compile::{Assembler, Refused};
use super::driver::{EACH, L2Promotion, TensorElement, TensorMap, TensorMapSpec};
use super::modules::KernelId;
use super::prefetch::{PREFETCHES, Prefetch};
use crate::ops::{Attention, Buf};

/// The file beside kernels/attention.cu.
pub const MODULE: &str = "sm90/attention";

/// AttentionParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    qkv: TensorMap,
    out: TensorMap,
    tokens: u32,
    heads: u32,
    scale: f32,
    padding: u32,
    next: [Prefetch; PREFETCHES],
    /// A tensor map's alignment.
    tail: [u64; 2],
}

/// By this kernel. Buffers, and heads of a whole swizzled row, are aligned as tensor maps need it.
pub fn launch(to: &mut Assembler<'_>, kernel: KernelId, op: &Attention) -> Refused {
    let params = Params {
        qkv: map(to, op.qkv, op.size(), kernel.spec.step as u32)?,
        out: map(to, op.out, op.size(), kernel.spec.group)?,
        tokens: op.out.rows() as u32,
        heads: op.heads as u32,
        scale: attention::scale(op),
        padding: 0,
        next: to.next_weights(),
        tail: [0; 2],
    };
    to.launch(kernel, attention::grid(op, kernel), &params)
}

/// `{size, channels / size, tokens, batch}`, in boxes of some tokens of one head's queries, keys or values, or results.
fn map(to: &Assembler<'_>, buf: Buf, size: usize, tokens: u32) -> Result<TensorMap, String> {
    let [head, row] = [size, buf.channels()].map(|values| (ACTIVATION_BYTES * values) as u64);
    to.tensor_map(&TensorMapSpec {
        element: TensorElement::F16,
        address: to.address(buf),
        dims: &[size as u64, (buf.channels() / size) as u64, buf.rows() as u64, buf.batch() as u64],
        strides: &[head, row, row * buf.rows() as u64],
        tile: &[size as u32, 1, tokens, 1],
        every: EACH,
        l2_promotion: L2Promotion::Bytes128,
    })
}
