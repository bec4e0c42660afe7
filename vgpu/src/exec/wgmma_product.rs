//! The numbers of a warpgroup product: factors from shared memory, converted once and kept, and a warp's sixteen rows of sums.
//!
//! Both factors come in *blocks* of 8 rows × 16 bytes, as a fragment register of `mma` is one: of a, rows 0–7 | 8–15 of the
//! warp × the halves of k; of b, the same for each eight columns. d is laid out as of `mma`, eight columns after eight.

use std::rc::Rc;
use std::sync::LazyLock;

use super::TensorMode;
use super::half::{self, Format};
use super::mma::{accumulate, addend, interleave, put};
use super::registers::{ALL, Lanes, Registers};
use super::tensor_core::{self, BF16, E4M3, E5M2, F16, Small, TF32};
use crate::ir::{Accumulator, Element, Wgmma};
use crate::mem::{LineSet, SharedMemory};
use crate::profile::{Profile, TensorCore};

/// 8 rows × 16 bytes.
pub(super) type Block = Lanes;

/// A warp's rows of a: block h + 2·k for rows 8h on.
pub(super) type Rows = [Block; 4];

/// Up to 16 k × 8 columns.
type Panel = [[f32; 8]; 16];

/// b, ready to be multiplied by: panels of eight columns (two where k = 32), or bits.
enum Columns {
    Floats(Vec<Panel>),
    /// Of each column, in the order of k.
    Bits(Vec<[u32; 32]>),
}

/// What the bytes of a factor are.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    element: Element,
    mn_major: bool,
    negate: bool,
}

/// A b that was converted, and from which bytes.
struct Kept {
    set: Rc<LineSet>,
    kind: Kind,
    bytes: Vec<[u32; 4]>,
    /// [`SharedMemory::changes`] when these were its bytes, last.
    changes: u64,
    columns: Columns,
}

/// The last few b: the four warps use the same, and so may another warpgroup.
#[derive(Default)]
pub(super) struct Factors {
    kept: Vec<Kept>,
    next: usize,
}

/// b of a pipeline of eight stages of four steps of k.
const KEPT: usize = 32;

impl Factors {
    /// The place of b, converted again if its bytes are others than last time.
    fn columns(&mut self, shared: &SharedMemory, set: &Rc<LineSet>, kind: Kind, mode: TensorMode) -> &Columns {
        let found = self.kept.iter().position(|kept| Rc::ptr_eq(&kept.set, set) && kept.kind == kind);
        let place = found.unwrap_or_else(|| {
            let empty =
                Kept { set: set.clone(), kind, bytes: Vec::new(), changes: 0, columns: Columns::Bits(Vec::new()) };
            if self.kept.len() < KEPT {
                self.kept.push(empty);
                return self.kept.len() - 1;
            }
            self.next = (self.next + 1) % KEPT;
            self.kept[self.next] = empty;
            self.next
        });
        let kept = &mut self.kept[place];
        if kept.changes == shared.changes() {
            return &self.kept[place].columns;
        }
        kept.changes = shared.changes();
        if kept.bytes.is_empty() || !shared.holds(set.lines(), &kept.bytes) {
            kept.bytes.resize(set.lines().len(), [0; 4]);
            shared.gather(set.lines(), &mut kept.bytes);
            kept.columns = convert(&kept.bytes, kind, mode);
        }
        &self.kept[place].columns
    }
}

fn convert(bytes: &[[u32; 4]], kind: Kind, mode: TensorMode) -> Columns {
    let blocks: &[[Block; 2]] = bytemuck::cast_slice(bytes);
    if mode == TensorMode::Fast || is_integer(kind.element) {
        return Columns::Floats(blocks.iter().flat_map(|b| float_panels(b, kind)).collect());
    }
    Columns::Bits(blocks.iter().flat_map(|b| element_rows(b, kind)).collect())
}

/// Their products and sums of 32 of them are float32 values.
fn is_integer(element: Element) -> bool {
    matches!(element, Element::S8 | Element::U8)
}

/// 16-bit elements transposed.
fn transposed(block: &Block) -> Block {
    let halves: &[u16; 64] = bytemuck::cast_ref(block);
    bytemuck::cast(interleave(&interleave(&interleave(halves))))
}

/// The elements of row `row` of a block, in the order of k.
fn elements(block: &Block, element: Element, row: usize) -> impl Iterator<Item = u32> + '_ {
    let width = 8 * element.bytes();
    let mask = u32::MAX >> (32 - width);
    block[4 * row..4 * row + 4].iter().flat_map(move |&word| (0..32 / width).map(move |i| word >> (i * width) & mask))
}

/// What an 8-bit float stands for.
static E4M3_VALUES: LazyLock<[f32; 256]> = LazyLock::new(|| std::array::from_fn(|bits| E4M3.value(bits as u32) as f32));
static E5M2_VALUES: LazyLock<[f32; 256]> = LazyLock::new(|| std::array::from_fn(|bits| E5M2.value(bits as u32) as f32));

fn value(element: Element, bits: u32) -> f32 {
    match element {
        Element::F16 => F16.value(bits) as f32,
        Element::Bf16 => f32::from_bits(bits << 16),
        // The low 13 bits are not looked at.
        Element::Tf32 => f32::from_bits(bits & !0x1fff),
        Element::E4m3 => E4M3_VALUES[bits as usize & 0xff],
        Element::E5m2 => E5M2_VALUES[bits as usize & 0xff],
        Element::S8 => f32::from(bits as u8 as i8),
        Element::U8 => f32::from(bits as u8),
    }
}

fn half_format(element: Element) -> Option<Format> {
    match element {
        Element::F16 => Some(Format::F16),
        Element::Bf16 => Some(Format::Bf16),
        _ => None,
    }
}

/// Eight columns of b.
fn float_panels(blocks: &[Block; 2], kind: Kind) -> Vec<Panel> {
    let sign = if kind.negate { -1.0 } else { 1.0 };
    if let Some(format) = half_format(kind.element) {
        let mut panel = [[0.0; 8]; 16];
        for (half, block) in blocks.iter().enumerate() {
            let by_k = if kind.mn_major { *block } else { transposed(block) };
            let values = half::to_f32(format, &by_k).map(|x| sign * x);
            panel.as_flattened_mut()[64 * half..][..64].copy_from_slice(&values);
        }
        return vec![panel];
    }
    spread(blocks, kind.element, |bits| sign * value(kind.element, bits))
}

/// K-major blocks of 8 columns as panels.
fn spread(blocks: &[Block; 2], element: Element, value: impl Fn(u32) -> f32) -> Vec<Panel> {
    let depth = element.depth();
    let mut panels = vec![[[0.0; 8]; 16]; depth.div_ceil(16)];
    for (half, block) in blocks.iter().enumerate() {
        for column in 0..8 {
            for (i, bits) in elements(block, element, column).enumerate() {
                let k = half * depth / 2 + i;
                panels[k / 16][k % 16][column] = value(bits);
            }
        }
    }
    panels
}

/// Each of the eight rows (columns of b) that two blocks hold: bits of its elements.
fn element_rows(blocks: &[Block; 2], kind: Kind) -> [[u32; 32]; 8] {
    let sign = if kind.negate { 1 << (8 * kind.element.bytes() - 1) } else { 0 };
    let mut rows = [[0; 32]; 8];
    for (half, block) in blocks.iter().enumerate() {
        let block = if kind.mn_major { transposed(block) } else { *block };
        for (i, row) in rows.iter_mut().enumerate() {
            let from = half * kind.element.depth() / 2;
            for (into, bits) in row[from..].iter_mut().zip(elements(&block, kind.element, i)) {
                *into = bits ^ sign;
            }
        }
    }
    rows
}

/// A warp's rows of a from shared memory.
pub(super) fn rows(shared: &SharedMemory, set: &LineSet, mn_major: bool) -> Rows {
    let mut lines = [[0; 4]; 32];
    shared.gather(set.lines(), &mut lines);
    // In memory the halves of k come first, in registers those of the rows.
    let [a, b, c, d]: [Block; 4] = bytemuck::cast(lines);
    let rows = [a, c, b, d];
    if mn_major { rows.map(|block| transposed(&block)) } else { rows }
}

/// d = a·b (+ d) of a warp. `add`: with d.
#[allow(clippy::too_many_arguments)]
pub(super) fn multiply(
    r: &mut Registers<'_>,
    w: &Wgmma,
    a: &Rows,
    b: &Rc<LineSet>,
    add: bool,
    factors: &mut Factors,
    shared: &SharedMemory,
    mode: TensorMode,
    profile: &Profile,
) {
    let is_half = w.b_type.bytes() == 2;
    let kind = Kind { element: w.b_type, mn_major: w.transpose_b && is_half, negate: w.negate_b };
    match factors.columns(shared, b, kind, mode) {
        Columns::Floats(panels) if w.acc == Accumulator::S32 => integers(r, w, a, panels, add),
        Columns::Floats(panels) => floats(r, w, a, panels, add),
        Columns::Bits(columns) => exact(r, w, a, columns, add, profile),
    }
}

/// Rows 8·half on of a, by k in blocks of 8 × 8: as [`accumulate`] takes them.
fn left(a: &Rows, element: Element, half: usize, value: impl Fn(u32) -> f32) -> [f32; 256] {
    let mut out = [0.0; 256];
    for block in 0..2 {
        for row in 0..8 {
            for (i, bits) in elements(&a[half + 2 * block], element, row).enumerate() {
                let k = block * element.depth() / 2 + i;
                out[k / 8 * 64 + 8 * row + k % 8] = value(bits);
            }
        }
    }
    out
}

fn left_floats(a: &Rows, w: &Wgmma, half: usize) -> [f32; 256] {
    let sign = if w.negate_a { -1.0 } else { 1.0 };
    let Some(format) = half_format(w.a_type) else {
        return left(a, w.a_type, half, |bits| sign * value(w.a_type, bits));
    };
    let mut out = [0.0; 256];
    for block in 0..2 {
        let values = half::to_f32(format, &a[half + 2 * block]).map(|x| sign * x);
        out[64 * block..][..64].copy_from_slice(&values);
    }
    out
}

/// The registers of eight columns of d.
fn fragment(w: &Wgmma, block: usize) -> std::ops::Range<usize> {
    let width = if w.acc == Accumulator::F16 { 2 } else { 4 };
    block * width..(block + 1) * width
}

#[inline(never)]
fn floats(r: &mut Registers<'_>, w: &Wgmma, a: &Rows, panels: &[Panel], add: bool) {
    let a = [left_floats(a, w, 0), left_floats(a, w, 1)];
    let depth = w.a_type.depth();
    for (block, panels) in panels.chunks_exact(depth.div_ceil(16)).enumerate() {
        let place = fragment(w, block);
        for (half, a) in a.iter().enumerate() {
            let mut tile = [[0.0; 8]; 8];
            if add {
                tile = bytemuck::cast(addend(r, w.acc, &w.c[place.clone()], half));
            }
            for (a, panel) in a.as_chunks::<128>().0.iter().zip(panels) {
                accumulate(&mut tile, a, panel, depth);
            }
            put(r, w.acc, &w.d[place.clone()], half, &bytemuck::cast(tile));
        }
    }
}

/// A whole number below 2²² in magnitude: in the last bits of its sum with 1.5·2²³.
#[inline(always)]
fn whole(x: f32) -> i32 {
    const MIDDLE: f32 = 12_582_912.0;
    (x + MIDDLE).to_bits() as i32 - MIDDLE.to_bits() as i32
}

/// Sums of 32 bits: they wrap, or end at the largest.
#[inline(never)]
fn integers(r: &mut Registers<'_>, w: &Wgmma, a: &Rows, panels: &[Panel], add: bool) {
    let a = [left_floats(a, w, 0), left_floats(a, w, 1)];
    let depth = w.a_type.depth();
    for (block, panels) in panels.as_chunks::<2>().0.iter().enumerate() {
        let place = fragment(w, block);
        for (half, a) in a.iter().enumerate() {
            let mut tile = [[0.0; 8]; 8];
            for (a, panel) in a.as_chunks::<128>().0.iter().zip(panels) {
                accumulate(&mut tile, a, panel, depth);
            }
            let sums = tile.as_flattened();
            for odd in 0..2 {
                let slot = place.start + 2 * half + odd;
                let mut out = if add { *r.narrow(w.c[slot]) } else { [0; 32] };
                for (i, out) in out.iter_mut().enumerate() {
                    let (sum, c) = (whole(sums[2 * i + odd]), *out as i32);
                    *out = (if w.saturate { c.saturating_add(sum) } else { c.wrapping_add(sum) }) as u32;
                }
                r.put(w.d[slot], ALL, &out);
            }
        }
    }
}

fn format(element: Element) -> Small {
    match element {
        Element::F16 => F16,
        Element::Bf16 => BF16,
        Element::Tf32 => TF32,
        Element::E5m2 => E5M2,
        Element::E4m3 | Element::S8 | Element::U8 => E4M3,
    }
}

/// As the hardware adds, one result after the other.
#[inline(never)]
fn exact(r: &mut Registers<'_>, w: &Wgmma, a: &Rows, columns: &[[u32; 32]], add: bool, profile: &Profile) {
    let kind = Kind { element: w.a_type, mn_major: false, negate: w.negate_a };
    let core = if w.a_type.bytes() == 1 { profile.wgmma_8_bit } else { profile.tensor_core };
    let core = TensorCore { group: w.a_type.depth(), ..core };
    let depth = w.a_type.depth();
    // Of tf32 the upper 19 bits.
    let shift = if w.a_type == Element::Tf32 { 13 } else { 0 };
    let cut = |row: &[u32; 32]| row.map(|bits| bits >> shift);
    let (left, right) = (format(w.a_type), format(w.b_type));
    for half in 0..2 {
        let rows = element_rows(&[a[half], a[half + 2]], kind).map(|row| cut(&row));
        for (block, columns) in columns.as_chunks::<8>().0.iter().enumerate() {
            let columns = columns.map(|column| cut(&column));
            let place = fragment(w, block);
            let mut tile = if add { addend(r, w.acc, &w.c[place.clone()], half) } else { [0.0; 64] };
            for (i, result) in tile.iter_mut().enumerate() {
                let terms = [(left, &rows[i / 8][..depth]), (right, &columns[i % 8][..depth])];
                *result = if w.acc == Accumulator::F16 {
                    let c = ::half::f16::from_f32(*result).to_bits();
                    ::half::f16::from_bits(tensor_core::dot_f16(core, terms, c)).to_f32()
                } else {
                    f32::from_bits(tensor_core::dot(core, terms, result.to_bits()))
                };
            }
            put(r, w.acc, &w.d[place], half, &tile);
        }
    }
}
