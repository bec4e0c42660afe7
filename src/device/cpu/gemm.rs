//! The one matrix product of this device: every linear layer and convolution.
//!
//! out[m, n] = func(Σₖ x[m, k]·w[n, k] + bias[n] + Σ add[m, n]), after Goto & van de Geijn (2008): the weights lie in
//! panels of [`NR`] columns, packed once at load; a task takes a block of rows, packs `KC` of their values at a time into
//! panels of [`MR`] rows, and the micro-kernel keeps an `MR`×`NR` tile of sums in registers.
//! The rows are gathered while packing, so a convolution is the same product (implicit im2col), with the ReLU that
//! comes before it applied on the way.
//!
//! By hand, not by a crate (gemm, rten-gemm): rows are gathered as they are packed, bias, residuals and function are applied to sums
//! in registers, and the order of the sums, on which equal bits rest, is this file's.

use std::ops::Range;

use rayon::prelude::*;

use super::epilogue::{Bias, Epilogue};
use super::simd::{Isa, mul_add, multiversion};
use super::{Cpu, half, math, scratch};
use crate::ops;

/// Rows and columns of the tile in registers: 12 of the 16 vector registers of AVX2 (24 of 32 with NEON).
pub const MR: usize = 6;
pub const NR: usize = 16;
/// Values of k packed at a time. A panel of weights (64 KiB) and one of rows (24 KiB) stream from the second-level cache,
/// which keeps up where they are long; half of it would bring twice the beginnings and ends of tiles.
const KC: usize = 1024;
/// Rows of a task at most: the more, the less often the weights come from memory; the packed block (960 KiB) streams from
/// the last cache. With 512 and 144 instead, ViT-L's products take 7 % longer (EPYC Milan, 512 KiB of second level).
const MC: usize = 40 * MR;
/// float32 values of packing memory that a task takes: its rows, and a part of a panel of weights that was float16.
pub const PACK: usize = MC * KC + WIDENED;
const WIDENED: usize = KC * NR;

impl Cpu {
    pub(super) fn gemm(&mut self, op: &ops::Gemm) {
        self.blocked_gemm(op, Patches::rows(&[], op.x.count, op.w.weight.k), Bias::plain);
    }

    /// One [`BlockedGemm`] for every batch item and block of rows. `patches` is the left side but for its values, `op.x`; `bias`
    /// says where a row finds its own.
    pub(super) fn blocked_gemm<'a>(
        &'a mut self,
        op: &ops::Gemm,
        patches: Patches<'_>,
        bias: impl Fn(&'a [f32]) -> Bias<'a>,
    ) {
        let (isa, (w, values)) = (self.isa, self.weights.linear(op.w));
        let (per_task, bias) = (rows_per_task(op.out.count, self.workers.threads), values.map(bias));
        self.arena.by_blocks(op.out, per_task, |inputs, b, i, block| {
            let epilogue = Epilogue::of(&op.epilogue, w.n, bias, inputs, b);
            let x = Patches { x: inputs.item(op.x, b), ..patches };
            let gemm = BlockedGemm { x, w, epilogue, layout: Layout::Rows };
            gemm.block(isa, i * per_task, block.len() / w.n, block);
        });
    }
}

/// Weights `[n, k]` in panels: `[⌈n / NR⌉, k, NR]`, zeros beyond n.
pub struct Packed {
    pub n: usize,
    pub k: usize,
    panels: Panels,
}

/// float16 wherever that keeps every value to the bit, as it does for what a file has in float16: it becomes float32
/// again a part of a panel at a time, for all the rows of a task, and so the results are those of float32.
enum Panels {
    Full(Vec<f32>),
    Half(Vec<u16>),
}

impl Packed {
    /// `w` is `[n, k]`, row-major.
    pub fn new(n: usize, k: usize, w: &[f32]) -> Packed {
        assert_eq!(w.len(), n * k);
        let panels = if w.par_chunks(1 << 12).all(half::exact) {
            Panels::Half(panels(n, k, w, half::narrow))
        } else {
            Panels::Full(panels(n, k, w, |value| value))
        };
        Packed { n, k, panels }
    }

    /// Bytes of `[n, k]`, whose values are `halves` or not.
    pub fn bytes(n: usize, k: usize, halves: bool) -> usize {
        n.div_ceil(NR) * k * NR * if halves { size_of::<u16>() } else { size_of::<f32>() }
    }

    /// Rows k0 .. k1 (at most `KC`) of a panel; `widened` has [`WIDENED`] values of room.
    #[inline(always)]
    fn panel<'a>(&'a self, index: usize, k0: usize, k1: usize, widened: &'a mut [f32]) -> &'a [f32] {
        let place = (index * self.k + k0) * NR..(index * self.k + k1) * NR;
        match &self.panels {
            Panels::Full(panels) => &panels[place],
            Panels::Half(panels) => {
                let widened = &mut widened[..place.len()];
                widened.iter_mut().zip(&panels[place]).for_each(|(widened, bits)| *widened = half::widen(*bits));
                widened
            }
        }
    }

    /// Row n, as the weights had it.
    pub fn row(&self, n: usize) -> impl Iterator<Item = f32> {
        let slot = move |k: usize| (n / NR * self.k + k) * NR + n % NR;
        (0..self.k).map(move |k| match &self.panels {
            Panels::Full(panels) => panels[slot(k)],
            Panels::Half(panels) => half::widen(panels[slot(k)]),
        })
    }
}

fn panels<T: Copy + Default + Send>(n: usize, k: usize, w: &[f32], store: impl Fn(f32) -> T + Sync) -> Vec<T> {
    let mut panels = vec![T::default(); n.div_ceil(NR) * k * NR];
    if k > 0 {
        panels.par_chunks_mut(k * NR).zip(w.par_chunks(k * NR)).for_each(|(panel, rows)| {
            for (j, row) in rows.chunks_exact(k).enumerate() {
                for (slot, value) in panel[j..].iter_mut().step_by(NR).zip(row) {
                    *slot = store(*value);
                }
            }
        });
    }
    panels
}

/// The left side: row m is the patch under the kernel at output pixel m of one map; a plain matrix is a 1×1 kernel.
#[derive(Clone, Copy)]
pub struct Patches<'a> {
    /// `[h, w, c]`
    pub x: &'a [f32],
    pub h: usize,
    pub w: usize,
    pub c: usize,
    /// Taps of a row.
    pub kernel: usize,
    pub stride: usize,
    /// Rows and columns before the map.
    pub pad: [usize; 2],
    /// Width of the output map.
    pub out_w: usize,
    /// Whether values pass a ReLU first.
    pub relu: bool,
}

static ZEROS: [f32; KC] = [0.0; KC];

impl<'a> Patches<'a> {
    /// The `w` rows of a matrix with `k` columns.
    pub fn rows(x: &'a [f32], w: usize, k: usize) -> Self {
        Patches { x, h: 1, w, c: k, kernel: 1, stride: 1, pad: [0; 2], out_w: w, relu: false }
    }

    /// `len` channels from `c0` of row m's pixel under `tap`; zeros outside the map and beyond the last row.
    #[inline(always)]
    fn segment(&self, m: usize, tap: usize, c0: usize, len: usize) -> &'a [f32] {
        let y = (m / self.out_w * self.stride + tap / self.kernel).wrapping_sub(self.pad[0]);
        let x = (m % self.out_w * self.stride + tap % self.kernel).wrapping_sub(self.pad[1]);
        if y >= self.h || x >= self.w {
            return &ZEROS[..len];
        }
        &self.x[(y * self.w + x) * self.c + c0..][..len]
    }

    /// Rows m .. m + MR, columns k0 .. k1, as `[k1 − k0, MR]`, each value through `f`; rows from `end` on are zeros.
    #[inline(always)]
    fn pack_panel(&self, m: usize, end: usize, k0: usize, k1: usize, f: impl Fn(f32) -> f32, panel: &mut [f32]) {
        let mut k = k0;
        while k < k1 {
            let (tap, c0) = (k / self.c, k % self.c);
            let len = (self.c - c0).min(k1 - k);
            let row = |i: usize| if m + i < end { self.segment(m + i, tap, c0, len) } else { &ZEROS[..len] };
            let rows: [&[f32]; MR] = std::array::from_fn(row);
            interleave(rows, &mut panel[(k - k0) * MR..][..len * MR], &f);
            k += len;
        }
    }
}

#[inline(always)]
fn interleave(rows: [&[f32]; MR], slots: &mut [f32], f: impl Fn(f32) -> f32) {
    let [a, b, c, d, e, g] = rows;
    let values = a.iter().zip(b).zip(c).zip(d).zip(e).zip(g);
    for (slot, (((((a, b), c), d), e), g)) in slots.as_chunks_mut::<MR>().0.iter_mut().zip(values) {
        *slot = [f(*a), f(*b), f(*c), f(*d), f(*e), f(*g)];
    }
}

/// Where the columns of a row go.
#[derive(Clone, Copy)]
pub enum Layout {
    /// `[rows, n]`
    Rows,
    /// Row `begin` + m is pixel (m / width, m % width) of a map; it goes to each `s`-th pixel of each `s`-th row, `offset` values
    /// further.
    Strided { begin: usize, width: usize, s: usize, offset: usize },
}

/// A product for one batch item.
#[derive(Clone, Copy)]
pub struct BlockedGemm<'a> {
    pub x: Patches<'a>,
    pub w: &'a Packed,
    pub epilogue: Epilogue<'a>,
    pub layout: Layout,
}

/// Rows of a task, for `m` rows on `threads` threads: whole panels, at most `MC`, an equal share for each thread.
pub fn rows_per_task(m: usize, threads: usize) -> usize {
    let tasks = m.div_ceil(MC).next_multiple_of(threads.max(1));
    m.div_ceil(tasks).next_multiple_of(MR)
}

impl BlockedGemm<'_> {
    /// Computes these rows in [`Layout::Strided`].
    pub fn rows(&self, isa: Isa, rows: Range<usize>, out: &mut [f32]) {
        let end = rows.end;
        rows.step_by(MC).for_each(|first| self.block(isa, first, MC.min(end - first), out));
    }

    /// Computes rows `first .. first + count` (at most `MC`) into `out`, which in [`Layout::Rows`] holds those rows alone.
    pub fn block(&self, isa: Isa, first: usize, count: usize, out: &mut [f32]) {
        scratch::pack(PACK, |packed| block(isa, self, first, count, packed, out));
    }
}

multiversion! {
    fn block(p: &BlockedGemm<'_>, first: usize, count: usize, packed: &mut [f32], out: &mut [f32]) {
        assert!(count <= MC);
        let (n, k) = (p.w.n, p.w.k);
        let (widened, packed) = packed.split_at_mut(WIDENED);
        let mut k0 = 0;
        while k0 < k {
            let k1 = (k0 + KC).min(k);
            let stride = (k1 - k0) * MR;
            let panels = packed.chunks_exact_mut(stride).zip((first..first + count).step_by(MR));
            // Decided here and not for each segment, which may be three values long.
            if p.x.relu {
                panels.for_each(|(panel, m)| p.x.pack_panel(m, first + count, k0, k1, math::relu, panel));
            } else {
                panels.for_each(|(panel, m)| p.x.pack_panel(m, first + count, k0, k1, |x| x, panel));
            }
            for (j, n0) in (0..n).step_by(NR).enumerate() {
                let w = p.w.panel(j, k0, k1, widened);
                for (panel, m) in packed.chunks_exact(stride).zip((0..count).step_by(MR)) {
                    let mut sums = [[0.0; NR]; MR];
                    tile::<FMA>(panel, w, &mut sums);
                    for (sums, m) in sums.iter_mut().zip(m..count) {
                        finish::<FMA>(p, first, m, n0, k0 == 0, k1 == k, sums, out);
                    }
                }
            }
            k0 = k1;
        }
    }
}

/// sums[i][j] += Σₖ a[k][i]·b[k][j]: the micro-kernel.
#[inline(always)]
pub fn tile<const FMA: bool>(a: &[f32], b: &[f32], sums: &mut [[f32; NR]; MR]) {
    let mut acc = *sums;
    for (a, b) in a.as_chunks::<MR>().0.iter().zip(b.as_chunks::<NR>().0) {
        for i in 0..MR {
            for j in 0..NR {
                acc[i][j] = mul_add::<FMA>(a[i], b[j], acc[i][j]);
            }
        }
    }
    *sums = acc;
}

/// sums[i][j] += Σₖ rows[i][k]·b[k][j]: the micro-kernel on rows that lie apart.
#[inline(always)]
pub fn tile_rows<const FMA: bool>(rows: [&[f32]; MR], b: &[f32], sums: &mut [[f32; NR]; MR]) {
    let mut acc = *sums;
    let [r0, r1, r2, r3, r4, r5] = rows;
    let rows = r0.iter().zip(r1).zip(r2).zip(r3).zip(r4).zip(r5);
    for ((((((a0, a1), a2), a3), a4), a5), b) in rows.zip(b.as_chunks::<NR>().0) {
        let a = [*a0, *a1, *a2, *a3, *a4, *a5];
        for i in 0..MR {
            for j in 0..NR {
                acc[i][j] = mul_add::<FMA>(a[i], b[j], acc[i][j]);
            }
        }
    }
    *sums = acc;
}

/// One row of a tile, into memory: the first part of k adds bias and residuals, the last applies the function.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn finish<const FMA: bool>(
    p: &BlockedGemm<'_>,
    first: usize,
    m: usize,
    n0: usize,
    begin: bool,
    end: bool,
    sums: &mut [f32; NR],
    out: &mut [f32],
) {
    let n = p.w.n;
    let width = NR.min(n - n0);
    if begin {
        p.epilogue.add_bias_residual(first + m, n0, width, sums);
    }
    match p.layout {
        Layout::Rows => p.epilogue.store::<FMA>(begin, end, sums, &mut out[m * n + n0..][..width]),
        Layout::Strided { begin: from, width: across, s, offset } => {
            let m = first + m - from;
            let pixel = (m / across * across * s + m % across) * s;
            p.epilogue.store::<FMA>(begin, end, sums, &mut out[pixel * n + offset + n0..][..width]);
        }
    }
}
