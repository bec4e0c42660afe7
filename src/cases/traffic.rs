//! The fewest bytes that an operation can move: each value that it needs once, each value of its output once.

use super::{Op, Prepared, Values, Winner};
use crate::device::Element;

/// Bytes of the outputs.
pub fn stored_bytes(op: &Op, prepared: &Prepared) -> u64 {
    let pixel = match op {
        Op::Argmax { labels, output: Winner::MaskBesideBest | Winner::Best, .. } => {
            Element::of_labels(*labels).bytes(2) + Element::F32.bytes(2)
        }
        _ => prepared.out_element.bytes(2),
    };
    (prepared.out_shape.iter().product::<usize>() * pixel) as u64
}

/// With activations and matrices in float16, vectors in float32.
pub fn least_bytes(op: &Op, prepared: &Prepared) -> u64 {
    let elements = |shape: [usize; 4]| shape.iter().product::<usize>();
    let matrices: usize = prepared.matrices.iter().map(|matrix| 2 * matrix.n * matrix.k).sum();
    let vectors: usize = prepared.vectors.iter().map(|vector| 4 * vector.len()).sum();
    let out = stored_bytes(op, prepared) as usize;
    let inputs: usize = prepared.inputs.iter().map(|input| elements(input.shape) * input.element.bytes(2)).sum();
    let bytes = match *op {
        Op::Gemm { batch, first, rows, behind, to, k, n, x, out: to_element, .. } => {
            let unread = batch * (first + behind) * k * x.bytes(2);
            let adds = prepared.inputs[1..].iter().filter(|add| add.shape[2] > 1 || to + rows == 1).count();
            let unwritten = batch * to * n * (to_element.bytes(2) + adds * Element::F32.bytes(2));
            inputs + matrices + vectors + out - unread - unwritten
        }
        // The class token is not read.
        Op::AddPositions { batch, dim, .. } => inputs + vectors + out - batch * dim * Element::F32.bytes(2),
        // Rows of the tables.
        Op::EmbedTokens { tokens, width, .. } => {
            let mut ids: Vec<u32> = match &prepared.inputs[0].values {
                Values::U32(ids) => ids.clone(),
                _ => Vec::new(),
            };
            ids.sort_unstable();
            ids.dedup();
            inputs + 2 * ids.len() * width + 4 * tokens * width + out
        }
        Op::TakeRows { batch, .. } => 2 * out + 4 * batch,
        // At most 16 pixels a point, often the same as another's.
        Op::Sample { batch, points, channels, .. } => {
            let pixels = (16 * batch * points * channels * 2).min(elements(prepared.inputs[0].shape) * 2);
            pixels + 8 * batch * points + out
        }
        // Transposed convolutions repeat their bias for every place of the kernel, and it is kept so.
        _ => inputs + matrices + vectors + out,
    };
    bytes as u64
}
