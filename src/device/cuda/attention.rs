//! Host side of kernels/attention.cu, and the choice between it and kernels/sm90/attention.cu.

use bytemuck::{Pod, Zeroable};

use super::compile::{Assembler, Forced, Refused};
use super::modules::{KernelId, Spec, kernels, variant};
use super::prefetch::{PREFETCHES, Prefetch};
use super::tiles::Family;
use super::wgmma_attention;
use crate::ops::Attention;

/// AttentionParams of the kernel file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    qkv: u64,
    out: u64,
    tokens: u32,
    heads: u32,
    scale: f32,
    padding: u32,
    next: [Prefetch; PREFETCHES],
}

/// Queries of a block: many or few. Large blocks read keys and values half as often and take the tensor cores' operands from
/// shared memory half as often; small ones leave fewer multiprocessors idle, which must be worth a tenth of the time.
fn queries([many, few]: [usize; 2], heads: usize, tokens: usize, multiprocessors: usize) -> usize {
    // What the busiest multiprocessor computes.
    let busiest = |queries: usize| (heads * tokens.div_ceil(queries)).div_ceil(multiprocessors) * queries;
    if 10 * busiest(many) <= 11 * busiest(few) { many } else { few }
}

/// The file of a family's kernels.
fn module(family: Family) -> &'static str {
    match family {
        Family::Warps => "attention",
        Family::Warpgroups => wgmma_attention::MODULE,
    }
}

/// Every way to compute it, where later tokens are kept from earlier ones if `causal`.
pub fn ways(causal: bool) -> impl Iterator<Item = Forced> {
    let variant = if causal { variant::CAUSAL } else { 0 };
    let way = |family, spec: Spec| Forced {
        family: Some(family),
        queries: Some(spec.rows),
        polynomial: spec.variant & variant::POLYNOMIAL != 0,
        ..Forced::default()
    };
    let of = move |family| kernels(module(family)).map(move |kernel| (family, kernel.spec));
    let all = [Family::Warps, Family::Warpgroups].into_iter().flat_map(of);
    all.filter(move |(_, spec)| spec.variant & variant::CAUSAL == variant).map(move |(family, spec)| way(family, spec))
}

pub fn scale(op: &Attention) -> f32 {
    1.0 / (op.size() as f32).sqrt()
}

/// Of both files' kernels.
pub fn grid(op: &Attention, kernel: KernelId) -> [usize; 3] {
    [op.out.batch() * op.out.rows().div_ceil(kernel.spec.rows), op.heads, 1]
}

pub fn compile(op: &Attention, to: &mut Assembler<'_>) -> Refused {
    let Attention { qkv, heads, causal, out } = *op;
    let (tokens, size) = (out.rows(), op.size());
    let variant = if causal { variant::CAUSAL } else { 0 };
    let takes = |kernel: &KernelId| kernel.spec.variant == variant && kernel.spec.columns == size;
    let of = |family| kernels(module(family)).filter(takes);
    let (limits, forced) = (to.limits(), to.forced());
    let warpgroups = || of(Family::Warpgroups).filter(|_| limits.warpgroups && forced.family != Some(Family::Warps));
    let is_forced = forced.family == Some(Family::Warpgroups) && warpgroups().next().is_some();
    // Warpgroups behind warps with as many queries.
    let mut by_queries: Vec<KernelId> = of(Family::Warps).filter(|_| !is_forced).chain(warpgroups()).collect();
    by_queries.sort_by_key(|kernel| kernel.spec.rows);
    let (Some(few), Some(many)) = (by_queries.first(), by_queries.last()) else {
        let head = to.find("attention", |kernel| kernel.spec.variant == variant)?.spec.columns;
        return Err(format!("heads of {size} channels, and a GPU takes heads of {head}"));
    };
    let chosen = || queries([many.spec.rows, few.spec.rows], out.batch() * heads, tokens, limits.multiprocessors);
    let kernel = if forced.queries.unwrap_or_else(chosen) == many.spec.rows { *many } else { *few };
    if warpgroups().any(|other| other == kernel) {
        let polynomial = Spec { variant: variant | variant::POLYNOMIAL, ..kernel.spec };
        let other = kernels(wgmma_attention::MODULE).find(|other| forced.polynomial && other.spec == polynomial);
        return wgmma_attention::launch(to, other.unwrap_or(kernel), op);
    }
    let params = Params {
        qkv: to.address(qkv),
        out: to.address(out),
        tokens: tokens as u32,
        heads: heads as u32,
        scale: scale(op),
        padding: 0,
        next: to.next_weights(),
    };
    to.launch(kernel, grid(op, kernel), &params)
}

#[cfg(test)]
mod tests {
    use super::super::tiles::Family;
    use super::{kernels, module, queries, ways};

    #[test]
    fn blocks_grow_unless_that_leaves_multiprocessors_idle() {
        let queries = |heads, tokens, multiprocessors| queries([128, 64], heads, tokens, multiprocessors);
        // vitl16 at 480×480 on an H100, an RTX 4090, an Orin: all busy with 128 queries a block; an A100 needs two rounds.
        assert_eq!([132, 128, 16, 108].map(|count| queries(16, 901, count)), [128, 128, 128, 64]);
        assert_eq!([132, 128, 16, 108].map(|count| queries(16 * 16, 901, count)), [128, 128, 128, 128]);
        // Few tokens: more blocks.
        assert_eq!(queries(12, 197, 128), 64);
        assert_eq!(queries(1, 1, 128), 64);
    }

    #[test]
    fn every_kernel_is_one_of_the_ways() {
        let all: usize = [Family::Warps, Family::Warpgroups].map(|family| kernels(module(family)).count()).iter().sum();
        assert_eq!(ways(false).count() + ways(true).count(), all);
    }
}
