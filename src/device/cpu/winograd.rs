//! 3×3 convolutions of stride 1 and pad 1 by Winograd's F(4×4, 3×3) (Lavin & Gray, 1509.09308): an output tile of 4×4
//! pixels is Aᵀ[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]A of the 6×6 inputs d under it. The ⊙, summed over the input channels, is 36
//! products of matrices (tiles × inputs × outputs), a quarter of the multiply-adds of the plain convolution.
//!
//! A task takes rows of tiles and goes through blocks of `TILES` tiles, `KC` inputs and a third of the 36 frequencies,
//! so that the transformed inputs (380 KiB) stay in the second-level cache; the output's memory sums up the parts.
//!
//! The points of interpolation are 0, ±3/4, ±3/2, ∞: every coefficient but those of G is exact in float32, and the
//! error against float64 is 2.4, 1.8, 1.6 times that of plain float32 sums for 256 (after a ReLU), 512, 1024 inputs
//! (1.3e-6, 2.2e-6, 2.9e-6 of the outputs' root mean square); with the usual 0, ±1, ±2, ∞ it is 5.0, 3.7, 3.5 times.
//!
//! A NaN or an infinity reaches every pixel of the tiles that read it (a NaN at least those of the plain convolution):
//! up to 3 pixels further than its 3×3 neighbours, and an infinity may come out as NaN.
//!
//! By hand: the crates of matrix products have no such transform, and those of convolutions are frameworks.

use rayon::prelude::*;

use super::epilogue::Epilogue;
use super::gemm::{MR, NR, tile_rows};
use super::math;
use super::simd::{mul_add, multiversion};
use crate::ops::conv::Shape;

/// Output pixels of a tile along one axis, and input pixels under it.
const SIDE: usize = 4;
const UNDER: usize = SIDE + 2;
/// The points beside 0 and ∞ are ±these.
const POINTS: [f32; 2] = [0.75, 1.5];
/// Frequencies come in three passes of two rows of six: those of ± the first point, of ± the second, of 0 and ∞.
const PASSES: usize = 3;
const FREQUENCIES: usize = 2 * UNDER;
/// Input channels at a time, and the stride of their rows (no power of two, which would crowd few sets of the cache).
const KC: usize = 256;
const STRIDE: usize = KC + NR;
/// Tiles at a time at most: whole panels of [`MR`].
const TILES: usize = 5 * MR;

const _: () = assert!(TILES.is_multiple_of(MR));

/// float32 values of working memory that a task takes.
pub const WORK: usize = TILES * FREQUENCIES * (STRIDE + NR) + FREQUENCIES * KC;

static ZEROS: [f32; KC] = [0.0; KC];

/// With more input channels the filters, four times a plain convolution's weights and always float32, are not worth their
/// memory: in LSeg those are the two coarsest maps, 5 of 777 GFLOP and 75 MB.
const MOST_INPUTS: usize = 512;

/// Whether a convolution is done this way.
pub fn suits(shape: Shape) -> bool {
    let Shape { outputs, inputs, kernel, stride, pad } = shape;
    (kernel, stride, pad) == (3, 1, 1) && outputs >= 64 && (64..=MOST_INPUTS).contains(&inputs)
}

/// Transformed weights G·g·Gᵀ: `[⌈n / NR⌉, ⌈inputs / KC⌉, PASSES, FREQUENCIES, KC or the rest, NR]`, zeros beyond n.
pub struct Filters {
    pub n: usize,
    pub inputs: usize,
    panels: Vec<f32>,
}

impl Filters {
    /// `w` is `[n, 3, 3, inputs]`.
    pub fn new(n: usize, inputs: usize, w: &[f32]) -> Filters {
        assert_eq!(w.len(), n * 9 * inputs);
        let mut panels = vec![0.0; n.div_ceil(NR) * PASSES * FREQUENCIES * inputs * NR];
        let rows = w.par_chunks(9 * inputs * NR);
        panels.par_chunks_mut(PASSES * FREQUENCIES * inputs * NR).zip(rows).for_each(|(panel, rows)| {
            // The outputs of a panel share cache lines: innermost, they meet them while they are near.
            for c in 0..inputs {
                let (k0, kc) = block_of(c, inputs);
                let block = &mut panel[(PASSES * FREQUENCIES * k0 + c - k0) * NR..];
                for (j, row) in rows.chunks_exact(9 * inputs).enumerate() {
                    let values = transform_filter(std::array::from_fn(|tap| f64::from(row[tap * inputs + c])));
                    block[j..].iter_mut().step_by(kc * NR).zip(values).for_each(|(slot, value)| *slot = value);
                }
            }
        });
        Filters { n, inputs, panels }
    }

    /// Bytes of the filters from `inputs` to `n` channels.
    pub fn bytes(n: usize, inputs: usize) -> usize {
        n.div_ceil(NR) * PASSES * FREQUENCIES * inputs * NR * size_of::<f32>()
    }

    /// `[FREQUENCIES, kc, NR]` for outputs of panel `j` and inputs k0 .. k0 + kc.
    fn panel(&self, j: usize, k0: usize, kc: usize, pass: usize) -> &[f32] {
        let start = (j * self.inputs + k0) * PASSES * FREQUENCIES * NR;
        &self.panels[start + pass * FREQUENCIES * kc * NR..][..FREQUENCIES * kc * NR]
    }
}

/// First input and number of inputs of the block that holds input `c`.
fn block_of(c: usize, inputs: usize) -> (usize, usize) {
    let k0 = c / KC * KC;
    (k0, KC.min(inputs - k0))
}

/// G·g·Gᵀ in the order of the passes: rows ±first point, ±second, 0 and ∞; columns 0, ±first, ±second, ∞.
fn transform_filter(g: [f64; 9]) -> [f32; PASSES * FREQUENCIES] {
    let points = [f64::from(POINTS[0]), f64::from(POINTS[1])];
    let squares = points.map(|p| p * p);
    let row = |p: f64, scale: f64| [scale, scale * p, scale * p * p];
    let signed = |i: usize, sign: f64| row(sign * points[i], 1.0 / (2.0 * squares[i] * (squares[i] - squares[1 - i])));
    let (zero, infinity) = ([1.0 / (squares[0] * squares[1]), 0.0, 0.0], [0.0, 0.0, 1.0]);
    let rows = [signed(0, 1.0), signed(0, -1.0), signed(1, 1.0), signed(1, -1.0), zero, infinity];
    let columns = [zero, rows[0], rows[1], rows[2], rows[3], infinity];
    let half: [[f64; 3]; UNDER] =
        rows.map(|row| std::array::from_fn(|x| row[0] * g[x] + row[1] * g[3 + x] + row[2] * g[6 + x]));
    std::array::from_fn(|i| {
        let (line, column) = (half[i / UNDER], columns[i % UNDER]);
        (line[0] * column[0] + line[1] * column[1] + line[2] * column[2]) as f32
    })
}

/// A convolution of one map.
#[derive(Clone, Copy)]
pub struct Conv<'a> {
    /// `[h, w, inputs]`
    pub x: &'a [f32],
    pub h: usize,
    pub w: usize,
    /// Whether the input passes a ReLU first.
    pub relu: bool,
    pub filters: &'a Filters,
    pub epilogue: Epilogue<'a>,
}

/// Rows of the map that a task computes, on `threads` threads: whole tiles.
pub fn rows_per_task(h: usize, w: usize, threads: usize) -> usize {
    let rows = h.div_ceil(SIDE);
    let tasks = (rows * w.div_ceil(SIDE)).div_ceil(TILES).next_multiple_of(threads.max(1));
    SIDE * rows.div_ceil(tasks)
}

impl<'a> Conv<'a> {
    /// `kc` channels from `k0` of pixel (y − 1, x − 1); zeros outside the map.
    #[inline(always)]
    fn pixel(&self, y: usize, x: usize, k0: usize, kc: usize) -> &'a [f32] {
        let (y, x) = (y.wrapping_sub(1), x.wrapping_sub(1));
        if y >= self.h || x >= self.w {
            return &ZEROS[..kc];
        }
        &self.x[(y * self.w + x) * self.filters.inputs + k0..][..kc]
    }
}

multiversion! {
    /// Computes the rows of the map from `first` on that `out` holds; `first` is a multiple of the tiles' side.
    pub fn rows(c: &Conv<'_>, first: usize, work: &mut [f32], out: &mut [f32]) {
        let (n, inputs) = (c.filters.n, c.filters.inputs);
        let across = c.w.div_ceil(SIDE);
        let tiles = (out.len() / (c.w * n)).div_ceil(SIDE) * across;
        let per_block = tiles.div_ceil(tiles.div_ceil(TILES)).next_multiple_of(MR);
        let (values, work) = work.split_at_mut(TILES * FREQUENCIES * STRIDE);
        let (sums, columns) = work.split_at_mut(TILES * FREQUENCIES * NR);
        // Pixel (0, 0) of a tile, from the task's first row and column.
        let corner = |tile: usize| (tile / across * SIDE, tile % across * SIDE);
        for begin in (0..tiles).step_by(per_block) {
            let block = begin..(begin + per_block).min(tiles);
            for k0 in (0..inputs).step_by(KC) {
                let kc = KC.min(inputs - k0);
                for pass in 0..PASSES {
                    for (tile, values) in block.clone().zip(values.chunks_exact_mut(FREQUENCIES * STRIDE)) {
                        let (y, x) = corner(tile);
                        transform_input::<FMA>(c, pass, (first + y, x), k0, kc, columns, values);
                    }
                    for (j, n0) in (0..n).step_by(NR).enumerate() {
                        multiply::<FMA>(values, block.len(), c.filters.panel(j, k0, kc, pass), kc, sums);
                        let part = Part { pass, begin: k0 == 0 && pass == 0, last: k0 + kc == inputs, first, n0 };
                        for (tile, sums) in block.clone().zip(sums.as_chunks::<NR>().0.as_chunks::<FREQUENCIES>().0) {
                            transform_output::<FMA>(c, part, corner(tile), sums, out);
                        }
                    }
                }
            }
        }
    }
}

/// Two rows of Bᵀ·d·B for one tile whose first output is pixel (y, x): `[FREQUENCIES, STRIDE]`.
#[inline(always)]
fn transform_input<const FMA: bool>(
    c: &Conv<'_>,
    pass: usize,
    (y, x): (usize, usize),
    k0: usize,
    kc: usize,
    columns: &mut [f32],
    values: &mut [f32],
) {
    let (one, two) = columns.split_at_mut(UNDER * KC);
    for (i, (one, two)) in one.chunks_exact_mut(KC).zip(two.chunks_exact_mut(KC)).enumerate() {
        let under: [&[f32]; UNDER] = std::array::from_fn(|j| c.pixel(y + j, x + i, k0, kc));
        let (one, two) = (&mut one[..kc], &mut two[..kc]);
        match (pass, c.relu) {
            (0, true) => signed::<FMA>(under, math::relu, POINTS[0], POINTS[1], one, two),
            (0, false) => signed::<FMA>(under, |x| x, POINTS[0], POINTS[1], one, two),
            (1, true) => signed::<FMA>(under, math::relu, POINTS[1], POINTS[0], one, two),
            (1, false) => signed::<FMA>(under, |x| x, POINTS[1], POINTS[0], one, two),
            (_, true) => ends::<FMA>(under, math::relu, one, two),
            (_, false) => ends::<FMA>(under, |x| x, one, two),
        }
    }
    let (first, second) = values.split_at_mut(UNDER * STRIDE);
    for (columns, values) in [(one, first), (two, second)] {
        let under: [&[f32]; UNDER] = std::array::from_fn(|i| &columns[i * KC..][..kc]);
        let [zero, a, b, c, d, infinity] = values
            .get_disjoint_mut(std::array::from_fn::<_, UNDER, _>(|i| i * STRIDE..i * STRIDE + kc))
            .expect("rows of STRIDE do not overlap");
        signed::<FMA>(under, |x| x, POINTS[0], POINTS[1], a, b);
        signed::<FMA>(under, |x| x, POINTS[1], POINTS[0], c, d);
        ends::<FMA>(under, |x| x, zero, infinity);
    }
}

/// The rows of Bᵀ for ±`point`: (d₄ − o²·d₂) ± point·(d₃ − o²·d₁), o being the other point.
#[inline(always)]
fn signed<const FMA: bool>(
    d: [&[f32]; UNDER],
    f: impl Fn(f32) -> f32,
    point: f32,
    other: f32,
    plus: &mut [f32],
    minus: &mut [f32],
) {
    let square = -other * other;
    let [_, d1, d2, d3, d4, _] = d;
    let values = d1.iter().zip(d2).zip(d3).zip(d4);
    for ((plus, minus), (((d1, d2), d3), d4)) in plus.iter_mut().zip(minus).zip(values) {
        let even = mul_add::<FMA>(square, f(*d2), f(*d4));
        let odd = point * mul_add::<FMA>(square, f(*d1), f(*d3));
        *plus = even + odd;
        *minus = even - odd;
    }
}

/// The rows of Bᵀ for 0 and ∞: a²b²·d₀ − (a² + b²)·d₂ + d₄, and the same of d₁, d₃, d₅.
#[inline(always)]
fn ends<const FMA: bool>(d: [&[f32]; UNDER], f: impl Fn(f32) -> f32, zero: &mut [f32], infinity: &mut [f32]) {
    let [a, b] = POINTS.map(|p| p * p);
    let row = |x: f32, y: f32, z: f32| mul_add::<FMA>(a * b, f(x), mul_add::<FMA>(-(a + b), f(y), f(z)));
    let [d0, d1, d2, d3, d4, d5] = d;
    for (zero, ((x, y), z)) in zero.iter_mut().zip(d0.iter().zip(d2).zip(d4)) {
        *zero = row(*x, *y, *z);
    }
    for (infinity, ((x, y), z)) in infinity.iter_mut().zip(d1.iter().zip(d3).zip(d5)) {
        *infinity = row(*x, *y, *z);
    }
}

/// `values` `[count, FREQUENCIES, STRIDE]` times `filters` `[FREQUENCIES, kc, NR]` → `sums` `[count, FREQUENCIES, NR]`,
/// one product a frequency. Tiles beyond `count` may be computed to fill a panel.
#[inline(always)]
fn multiply<const FMA: bool>(values: &[f32], count: usize, filters: &[f32], kc: usize, sums: &mut [f32]) {
    let sums = sums.as_chunks_mut::<NR>().0.as_chunks_mut::<FREQUENCIES>().0;
    for (f, filters) in filters.chunks_exact(kc * NR).enumerate() {
        for tile in (0..count).step_by(MR) {
            let rows = std::array::from_fn(|i| &values[((tile + i) * FREQUENCIES + f) * STRIDE..][..kc]);
            let mut acc = [[0.0; NR]; MR];
            tile_rows::<FMA>(rows, filters, &mut acc);
            for (sums, acc) in sums[tile..].iter_mut().zip(&acc) {
                sums[f] = *acc;
            }
        }
    }
}

/// A pass over some inputs and a panel of outputs.
#[derive(Clone, Copy)]
struct Part {
    pass: usize,
    /// Whether the outputs have no values yet, and whether these are the last inputs.
    begin: bool,
    last: bool,
    /// The task's first row.
    first: usize,
    n0: usize,
}

/// Aᵀ·m·A of two rows of m, into the output's memory; (y, x) is the tile's first pixel, y from the task's first row.
#[inline(always)]
fn transform_output<const FMA: bool>(
    c: &Conv<'_>,
    part: Part,
    (y, x): (usize, usize),
    m: &[[f32; NR]; FREQUENCIES],
    out: &mut [f32],
) {
    let (one, two) = m.split_at(UNDER);
    let mut z = [[[0.0; NR]; SIDE]; 2];
    for lane in 0..NR {
        let (one, two): ([f32; UNDER], [f32; UNDER]) =
            (std::array::from_fn(|i| one[i][lane]), std::array::from_fn(|i| two[i][lane]));
        let (one, two) = if part.pass < 2 {
            (std::array::from_fn(|i| one[i] + two[i]), std::array::from_fn(|i| one[i] - two[i]))
        } else {
            (one, two)
        };
        let (one, two) = (columns_out::<FMA>(one), columns_out::<FMA>(two));
        for i in 0..SIDE {
            z[0][i][lane] = one[i];
            z[1][i][lane] = two[i];
        }
    }
    let width = NR.min(c.filters.n - part.n0);
    let point = POINTS[part.pass.min(1)];
    let rows = [(z[0], 1.0), (z[1], point), (z[0], point * point), (z[1], point * point * point)];
    for (i, (z, scale)) in rows.iter().enumerate() {
        let end = part.last && (part.pass == 2 || part.pass == 1 && (i == 1 || i == 2));
        let scale = match (part.pass, i) {
            (2, 0 | 3) => 1.0,
            (2, _) => continue,
            _ => *scale,
        };
        let rows = out.len() / (c.w * c.filters.n);
        if y + i >= rows {
            break;
        }
        for (j, z) in z.iter().enumerate().take(c.w - x) {
            let mut sums = z.map(|z| z * scale);
            let pixel = (y + i) * c.w + x + j;
            if part.begin {
                c.epilogue.add_bias_residual(part.first * c.w + pixel, part.n0, width, &mut sums);
            }
            let place = &mut out[pixel * c.filters.n + part.n0..][..width];
            c.epilogue.store::<FMA>(part.begin, end, &mut sums, place);
        }
    }
}

/// Aᵀ on one line of six.
#[inline(always)]
fn columns_out<const FMA: bool>(m: [f32; UNDER]) -> [f32; SIDE] {
    let [a, b] = POINTS;
    let (even_a, odd_a, even_b, odd_b) = (m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]);
    [
        m[0] + even_a + even_b,
        mul_add::<FMA>(a, odd_a, b * odd_b),
        mul_add::<FMA>(a * a, even_a, b * b * even_b),
        mul_add::<FMA>(a * a * a, odd_a, mul_add::<FMA>(b * b * b, odd_b, m[5])),
    ]
}
