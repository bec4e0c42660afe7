//! `mma.sync`: a 16×8 tile of products for the warp, and movmatrix.
//!
//! A fragment register, read over its 32 lanes, is a row-major block of 8 rows and 16 bytes a row (16-bit values: 8×8).
//! So a's registers are the blocks (rows 0–7 | 8–15) × (first k | last k), b's are the same of b transposed (8 columns ×
//! k), and c and d are two halves of 8×8 results.

use super::TensorMode;
use super::half::{self, Format};
use super::registers::{ALL, Done, Lanes, NAN, Registers};
use super::tensor_core::{self, BF16, E4M3, E5M2, F16, Small, TF32};
use crate::ir::{Accumulator, Mma, MmaKind, Slot};
use crate::profile::{EightBit, Profile, TensorCore};

/// One half of the result, row-major 8×8.
type Tile = [f32; 64];

/// Floating operations of one: 2·m·n·k.
pub(super) fn flop(kind: MmaKind) -> u64 {
    2 * 16 * 8 * depth(kind) as u64
}

fn depth(kind: MmaKind) -> usize {
    match kind {
        MmaKind::F16K16 | MmaKind::Bf16K16 => 16,
        MmaKind::F16K8 | MmaKind::Bf16K8 | MmaKind::Tf32K8 => 8,
        MmaKind::Tf32K4 => 4,
        MmaKind::S8K32 | MmaKind::E4m3K32 | MmaKind::E5m2K32 => 32,
    }
}

pub(super) fn multiply(r: &mut Registers<'_>, m: &Mma, mode: TensorMode, profile: &Profile) -> Done {
    for &slot in m.a.iter().chain(&m.b).chain(&m.c) {
        r.check(slot, ALL)?;
    }
    match (mode, m.kind) {
        (_, MmaKind::S8K32) => integers(r, m),
        (TensorMode::Fast, MmaKind::F16K16 | MmaKind::F16K8) => halves(r, m, Format::F16, depth(m.kind)),
        (TensorMode::Fast, MmaKind::Bf16K16 | MmaKind::Bf16K8) => halves(r, m, Format::Bf16, depth(m.kind)),
        _ => elements(r, m, mode, profile),
    }
    Ok(())
}

/// c of rows 8·half to 8·half + 7.
#[inline(always)]
pub(super) fn addend(r: &Registers<'_>, acc: Accumulator, c: &[Slot], half: usize) -> Tile {
    if acc == Accumulator::F16 {
        return half::to_f32(Format::F16, r.narrow(c[half]));
    }
    let (even, odd) = (r.narrow(c[2 * half]), r.narrow(c[2 * half + 1]));
    let mut tile = [0.0; 64];
    for i in 0..32 {
        tile[2 * i] = f32::from_bits(even[i]);
        tile[2 * i + 1] = f32::from_bits(odd[i]);
    }
    tile
}

#[inline(always)]
pub(super) fn put(r: &mut Registers<'_>, acc: Accumulator, d: &[Slot], half: usize, tile: &Tile) {
    if acc == Accumulator::F16 {
        r.put(d[half], ALL, &half::from_f32(Format::F16, tile));
        return;
    }
    let bits = |x: f32| if x.is_nan() { NAN } else { x.to_bits() };
    let (mut even, mut odd) = ([0; 32], [0; 32]);
    for i in 0..32 {
        even[i] = bits(tile[2 * i]);
        odd[i] = bits(tile[2 * i + 1]);
    }
    r.put(d[2 * half], ALL, &even);
    r.put(d[2 * half + 1], ALL, &odd);
}

#[inline(always)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    // Without the instruction, mul_add is a slow library call, and plain float32 sums need no fusing.
    if cfg!(target_feature = "fma") { a.mul_add(b, c) } else { a * b + c }
}

/// The two halves of 64 values interleaved: three times, and an 8×8 block is transposed.
#[inline(always)]
pub(super) fn interleave<T: Copy + Default>(x: &[T; 64]) -> [T; 64] {
    let mut out = [T::default(); 64];
    for i in 0..32 {
        out[2 * i] = x[i];
        out[2 * i + 1] = x[i + 32];
    }
    out
}

/// tile += a · b, where a is 8×k in blocks of 8×8 and b k×8. The length of k is not known to the compiler, or it would
/// unroll everything and run out of registers: eight rows of sums must stay in them.
#[inline(always)]
pub(super) fn accumulate(tile: &mut [[f32; 8]; 8], a: &[f32; 128], b: &[[f32; 8]; 16], depth: usize) {
    for k in 0..depth.min(16) {
        let row = b[k];
        let start = (k & 8) << 3 | k & 7;
        for i in 0..8 {
            let x = a[start + 8 * i];
            for n in 0..8 {
                tile[i][n] = fused(x, row[n], tile[i][n]);
            }
        }
    }
}

/// Blocks of 16-bit floats in float32.
#[inline(never)]
fn halves(r: &mut Registers<'_>, m: &Mma, format: Format, depth: usize) {
    let blocks = m.b.len().min(2);
    let mut b = [[0.0; 8]; 16];
    for block in 0..blocks {
        let columns: &[u16; 64] = bytemuck::cast_ref(r.narrow(m.b[block]));
        let rows = interleave(&interleave(&interleave(columns)));
        b.as_flattened_mut()[64 * block..][..64].copy_from_slice(&half::to_f32(format, &bytemuck::cast(rows)));
    }
    let mut tiles = [[0.0; 64]; 2];
    let mut a = [0.0; 128];
    for half in 0..2 {
        for block in 0..blocks {
            let rows = half::to_f32(format, r.narrow(m.a[half + 2 * block]));
            a[64 * block..64 * block + 64].copy_from_slice(&rows);
        }
        let mut tile: [[f32; 8]; 8] = bytemuck::cast(addend(r, m.acc, &m.c, half));
        accumulate(&mut tile, &a, &b, depth);
        tiles[half] = bytemuck::cast(tile);
    }
    put(r, m.acc, &m.d, 0, &tiles[0]);
    put(r, m.acc, &m.d, 1, &tiles[1]);
}

/// The elements of a fragment register in row `i` of its block: bits, in their order of k.
fn block_row(row: &Lanes, kind: MmaKind, i: usize) -> impl Iterator<Item = u32> + '_ {
    let width = match kind {
        MmaKind::Tf32K8 | MmaKind::Tf32K4 => 32,
        MmaKind::S8K32 | MmaKind::E4m3K32 | MmaKind::E5m2K32 => 8,
        _ => 16,
    };
    row[4 * i..4 * i + 4].iter().flat_map(move |&word| {
        (0..32 / width).map(move |part| ((word as u64 >> (part * width)) & ((1u64 << width) - 1)) as u32)
    })
}

/// All elements as bits: a by rows, b by columns, each in order of k.
fn factors(r: &Registers<'_>, m: &Mma) -> ([[u32; 32]; 16], [[u32; 32]; 8]) {
    let row = |slot: Slot, i: usize, into: &mut [u32; 32], at: usize| {
        for (k, bits) in block_row(r.narrow(slot), m.kind, i).enumerate() {
            into[at + k] = bits;
        }
    };
    let width = depth(m.kind) / m.b.len().max(1);
    let (mut a, mut b) = ([[0; 32]; 16], [[0; 32]; 8]);
    for (block, &slot) in m.b.iter().enumerate() {
        for i in 0..8 {
            row(slot, i, &mut b[i], block * width);
            row(m.a[2 * block], i, &mut a[i], block * width);
            row(m.a[2 * block + 1], i, &mut a[i + 8], block * width);
        }
    }
    (a, b)
}

/// Every format, one result after the other.
fn elements(r: &mut Registers<'_>, m: &Mma, mode: TensorMode, profile: &Profile) {
    let (format, bytes) = format(m.kind);
    let k = depth(m.kind);
    let (mut a, mut b) = factors(r, m);
    if format.exponent_bits == TF32.exponent_bits && bytes == 4 {
        a.iter_mut().chain(&mut b).flatten().for_each(|x| *x >>= 13);
    }
    // A block holds the same bytes in every format.
    let eight = if bytes == 1 { profile.mma_8_bit } else { EightBit::Native(profile.tensor_core) };
    let (core, by_halves) = match eight {
        EightBit::Native(core) => (TensorCore { group: core.group * 2 / bytes, ..core }, false),
        EightBit::ByHalves => (profile.tensor_core, true),
    };
    for half in 0..2 {
        let mut tile = addend(r, m.acc, &m.c, half);
        for (i, result) in tile.iter_mut().enumerate() {
            let (x, y) = (&a[8 * half + i / 8][..k], &b[i % 8][..k]);
            *result = match (mode, m.acc) {
                (TensorMode::Fast, _) => x
                    .iter()
                    .zip(y)
                    .fold(*result, |c, (&x, &y)| fused(format.value(x) as f32, format.value(y) as f32, c)),
                (TensorMode::Hardware, acc) if by_halves => {
                    let terms = [(format, x), (format, y)];
                    tensor_core::dot_by_halves(core, terms, *result, acc == Accumulator::F16)
                }
                (TensorMode::Hardware, Accumulator::F16) => {
                    let c = ::half::f16::from_f32(*result).to_bits();
                    ::half::f16::from_bits(tensor_core::dot_f16(core, [(format, x), (format, y)], c)).to_f32()
                }
                (TensorMode::Hardware, _) => {
                    f32::from_bits(tensor_core::dot(core, [(format, x), (format, y)], result.to_bits()))
                }
            };
        }
        put(r, m.acc, &m.d, half, &tile);
    }
}

fn format(kind: MmaKind) -> (Small, usize) {
    match kind {
        MmaKind::F16K16 | MmaKind::F16K8 => (F16, 2),
        MmaKind::Bf16K16 | MmaKind::Bf16K8 => (BF16, 2),
        MmaKind::Tf32K8 | MmaKind::Tf32K4 => (TF32, 4),
        MmaKind::E5m2K32 => (E5M2, 1),
        MmaKind::E4m3K32 | MmaKind::S8K32 => (E4M3, 1),
    }
}

/// Signed bytes, sums of 32 bits that wrap.
fn integers(r: &mut Registers<'_>, m: &Mma) {
    let (a, b) = factors(r, m);
    let mut d = [[0; 32]; 4];
    for (i, row) in d.iter_mut().enumerate() {
        let c = r.narrow(m.c[i]);
        for l in 0..32 {
            let (x, y) = (&a[l / 4 + 8 * (i / 2)], &b[2 * (l % 4) + i % 2]);
            let product = |(&x, &y): (&u32, &u32)| (x as u8 as i8 as i32 * y as u8 as i8 as i32) as u32;
            row[l] = x.iter().zip(y).map(product).fold(c[l], u32::wrapping_add);
        }
    }
    for (slot, row) in m.d.iter().zip(&d) {
        r.put(*slot, ALL, row);
    }
}

/// `movmatrix.trans`: an 8×8 block of 16-bit values transposed over the warp.
pub(super) fn transpose(r: &mut Registers<'_>, d: Slot, a: Slot) {
    let from: [u16; 64] = bytemuck::cast(*r.narrow(a));
    let undef = r.undefined(a);
    let mut to = [0u16; 64];
    let mut to_undef = 0u64;
    let bit = |i: usize| (i / 2 + 32 * (i % 2)) as u32;
    for row in 0..8 {
        for column in 0..8 {
            to[8 * row + column] = from[8 * column + row];
            to_undef |= (undef >> bit(8 * column + row) & 1) << bit(8 * row + column);
        }
    }
    r.put_partly(d, ALL, &bytemuck::cast(to), to_undef);
}
