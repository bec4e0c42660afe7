//! Host side of kernels/sm90/gemm_norm.cu, and the choice between it and a product with a LayerNorm behind it.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Refused};
use super::driver::{EACH, L2Promotion, TensorElement, TensorMap, TensorMapSpec};
use super::epilogue::Epilogue;
use super::modules::{KernelId, kernels};
use super::tiles::Family;
use super::{ACTIVATION_BYTES, gemm, layer_norm, memory};
use crate::ops::{self, Buf, GemmNorm};

/// The kernel file.
const MODULE: &str = "sm90/gemm_norm";
/// Rows of x that a block has copied at once, and bytes of a row of every box, both the swizzle's.
const ATOM_ROWS: usize = 8;
const ROW_BYTES: usize = 128;
/// Blocks of a multiprocessor, by the launch bounds of the kernel file.
const RESIDENT: usize = 2;

/// GemmNormParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    x: TensorMap,
    w: TensorMap,
    out: TensorMap,
    normed: TensorMap,
    epilogue: Epilogue,
    weight: u64,
    norm_bias: u64,
    depth: u32,
    eps: f32,
    /// A tensor map's alignment.
    tail: [u64; 2],
}

pub fn compile(op: &GemmNorm, to: &mut Assembler<'_>) -> Refused {
    match kernel(op, to) {
        Some(kernel) => launch(op, to, kernel),
        None => {
            gemm::compile(&op.gemm(), to)?;
            layer_norm::compile(&op.layer_norm(), to)
        }
    }
}

/// The kernel of both, where there is one for these rows and it is worth it: as long as the GPU holds all its blocks at once. Larger
/// tiles then read less, and the norm's launch is a smaller part.
fn kernel(op: &GemmNorm, to: &Assembler<'_>) -> Option<KernelId> {
    let (limits, family) = (to.limits(), to.forced().family);
    let rows = op.out.batch() * op.out.rows();
    let is_worth = |kernel: &KernelId| blocks(*kernel, rows) <= RESIDENT * limits.multiprocessors;
    kernels(MODULE)
        .filter(|_| limits.warpgroups && family != Some(Family::Warps) && memory::is_aligned(op.w.weight.k))
        .filter(|kernel| kernel.spec.most == op.out.channels())
        .find(|kernel| family == Some(Family::Warpgroups) || is_worth(kernel))
}

fn blocks(kernel: KernelId, rows: usize) -> usize {
    rows.div_ceil(kernel.spec.rows) * kernel.spec.cluster as usize
}

fn launch(op: &GemmNorm, to: &mut Assembler<'_>, kernel: KernelId) -> Refused {
    let GemmNorm { x, w, add, norm, out, normed } = *op;
    let (rows, columns, depth) = (out.batch() * out.rows(), out.channels(), w.weight.k);
    // All batch items' rows follow each other.
    let as_one = |buf: Buf| Buf { shape: [1, 1, rows, columns], ..buf }.all();
    let (weight, spec) = (to.matrix(w.weight), kernel.spec);
    let f16 =
        |address, size, stride, rows| map(to, (TensorElement::F16, ACTIVATION_BYTES), address, size, (stride, rows));
    let f32 = (TensorElement::F32, size_of::<f32>());
    let params = Params {
        x: f16(to.address(x), [depth, rows], depth, ATOM_ROWS)?,
        w: f16(weight.address, [depth, columns], weight.stride, spec.columns)?,
        out: map(to, f32, to.address(out), [columns, rows], (columns, spec.rows))?,
        normed: f16(to.address(normed), [columns, rows], columns, spec.rows)?,
        epilogue: Epilogue::new(to, w.bias, ops::Epilogue::add(as_one(add)), as_one(out)),
        weight: to.vector(norm.weight),
        norm_bias: to.vector(norm.bias),
        depth: depth as u32,
        eps: norm.eps,
        tail: [0; 2],
    };
    to.launch(kernel, [blocks(kernel, rows), 1, 1], &params)
}

/// Of so many values a row and rows, which lie `stride` values apart, in boxes of 128 bytes of `boxed` rows.
fn map(
    to: &Assembler<'_>,
    (element, bytes): (TensorElement, usize),
    address: u64,
    size: [usize; 2],
    (stride, boxed): (usize, usize),
) -> Result<TensorMap, String> {
    to.tensor_map(&TensorMapSpec {
        element,
        address,
        dims: &size.map(|side| side as u64),
        strides: &[(bytes * stride) as u64],
        tile: &[(ROW_BYTES / bytes) as u32, boxed as u32],
        every: EACH,
        l2_promotion: L2Promotion::Bytes128,
    })
}

#[cfg(test)]
mod tests {
    use super::super::compile::{Target, compile};
    use super::super::tiles::GpuLimits;
    use super::{MODULE, kernels};
    use crate::ops::layer_norm::Weights;
    use crate::ops::{Element, Linear, Vector};
    use crate::plan;

    fn kernels_of(limits: GpuLimits, rows: usize, columns: usize) -> Vec<&'static str> {
        let (plan, ()) = plan::record(2, &[], |d| {
            let shape = [1, 1, rows, columns];
            let [x, normed] = ["x", "normed"].map(|name| d.buffer(name, shape, Element::Activation));
            let [add, out] = ["add", "out"].map(|name| d.buffer(name, shape, Element::F32));
            let vector = Vector { index: 0, len: columns };
            let norm = Weights { weight: vector, bias: vector, eps: 1e-6 };
            d.gemm_norm(x, &Linear::of_shape(columns, columns), add, &norm, (out, normed));
        });
        let launches = compile(&plan, Target::absent(limits)).expect("every GPU computes it");
        launches.of_step(0).iter().map(|launch| launch.kernel.name).collect()
    }

    #[test]
    fn both_are_one_kernel_where_all_of_its_blocks_are_resident() {
        if kernels(MODULE).next().is_none() {
            eprintln!("skipped: no kernels were built");
            return;
        }
        let h100 = GpuLimits::absent((9, 0), 132);
        assert_eq!(kernels_of(h100, 901, 1024), ["wgmma_norm_1024"]);
        assert_eq!(kernels_of(h100, 240, 512), ["wgmma_norm_512"]);
        // 33 clusters of 8, two blocks to each of 132 multiprocessors.
        assert_eq!([2112, 2113].map(|rows| kernels_of(h100, rows, 1024).len()), [1, 2]);
        let elsewhere = [(h100, 768), (GpuLimits::absent((8, 9), 128), 1024), (h100.without_warpgroups(), 1024)];
        for (limits, columns) in elsewhere {
            assert_eq!(kernels_of(limits, 901, columns)[1..], ["layer_norm_1024"], "{limits:?}");
        }
    }
}
