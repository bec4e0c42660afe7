//! `wmma`: matrices of 16×16, 32×8 or 8×32 results, by loads, stores and `mma` of 16×8.
//!
//! How a fragment's elements lie in registers is nobody's business but the GPU's: here as `mma` has them, tile after tile.
//! Where a has 8 rows, the product is turned: the 32 columns of b are the rows of `mma`.

use super::arith::PLAIN;
use super::{Decoder, Modifiers, Result, count_error, exactly};
use crate::ir::{Accumulator, Address, BinOp, Mma, MmaKind, Op, Order, Slot, Space, Special, TernOp, Ty};
use crate::ptx::ast::{Instruction, Operand, Value};
use crate::ptx::scope::Symbol;

/// Rows, columns and depth of a product.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    m: usize,
    n: usize,
    k: usize,
}

impl Shape {
    /// Whether the product is turned.
    fn turned(self) -> bool {
        self.m == 8
    }

    /// Rows and columns as `mma` has them.
    fn rows_and_columns(self) -> (usize, usize) {
        if self.turned() { (self.n, self.m) } else { (self.m, self.n) }
    }
}

const SHAPES: [(&str, Shape); 4] = [
    ("m16n16k16", Shape { m: 16, n: 16, k: 16 }),
    ("m32n8k16", Shape { m: 32, n: 8, k: 16 }),
    ("m8n32k16", Shape { m: 8, n: 32, k: 16 }),
    ("m16n16k8", Shape { m: 16, n: 16, k: 8 }),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Matrix {
    A,
    B,
    C,
}

/// How a matrix lies in a warp's registers. Each register holds elements that follow each other in the second coordinate;
/// lane l adds l / 4 to the first and l % 4 · `lane_step` to the second.
struct Fragment {
    ty: Ty,
    /// First element of each register.
    at: Vec<[usize; 2]>,
    lane_step: usize,
    /// Registers that the instruction names: more than there are hold the same again.
    named: usize,
    /// The registers of one tile of `mma`.
    tile: usize,
}

impl Fragment {
    /// Elements of a register.
    fn together(&self) -> usize {
        4 / self.ty.bytes()
    }
}

/// `None`: there is no such matrix.
fn fragment(matrix: Matrix, shape: Shape, ty: Ty) -> Option<Fragment> {
    let (rows, columns) = shape.rows_and_columns();
    if matrix == Matrix::C {
        let pairs = ty == Ty::F16;
        if !pairs && !matches!(ty, Ty::F32 | Ty::S32) {
            return None;
        }
        let mut at = Vec::new();
        for (row, column) in tiles(rows, columns) {
            let of_tile: &[[usize; 2]] = if pairs { &[[0, 0], [8, 0]] } else { &[[0, 0], [0, 1], [8, 0], [8, 1]] };
            at.extend(of_tile.iter().map(|[i, j]| [row + i, column + j]));
        }
        let named = at.len();
        return Some(Fragment { ty, at, lane_step: 2, named, tile: if pairs { 2 } else { 4 } });
    }
    let depth = match ty {
        Ty::F16 | Ty::Bf16 | Ty::S8 => 16,
        Ty::Tf32 => 8,
        _ => return None,
    };
    if shape.k != depth {
        return None;
    }
    let together = 4 / ty.bytes();
    // A register of each lane covers 4 · `together` of k.
    let steps = depth / (4 * together);
    let (count, tile_rows) = if (matrix == Matrix::A) != shape.turned() { (rows, 16) } else { (columns, 8) };
    let mut at = Vec::new();
    for first in (0..count).step_by(tile_rows) {
        for step in 0..steps {
            at.extend((0..tile_rows).step_by(8).map(|row| [first + row, step * 4 * together]));
        }
    }
    let named = if ty == Ty::F16 { 8 } else { at.len() };
    Some(Fragment { ty, tile: steps * tile_rows / 8, at, lane_step: together, named })
}

/// First row and column of each 16×8 tile.
fn tiles(rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).step_by(16).flat_map(move |row| (0..columns).step_by(8).map(move |column| (row, column)))
}

pub fn decode<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let what = m.take_if(|name| ["load", "store", "mma"].contains(&name));
    d.need(m.take("sync"), i, "sync")?;
    d.need(m.take("aligned"), i, "aligned")?;
    match what {
        Some("mma") => product(d, i, m),
        Some("load") => load(d, i, m),
        Some(_) => store(d, i, m),
        None => d.unknown("this operation of `wmma`"),
    }
}

const LAYOUTS: [(&str, bool); 2] = [("row", true), ("col", false)];

/// A matrix in memory, as the modifiers tell.
struct InMemory {
    fragment: Fragment,
    space: Space,
    /// Whether the second coordinate's neighbours are neighbours in memory.
    second_is_near: bool,
    /// Elements from one row (or column) to the next, where the instruction does not say.
    stride: usize,
}

fn in_memory(d: &Decoder<'_, '_>, i: &Instruction<'_>, m: &mut Modifiers<'_>, matrix: Matrix) -> Result<InMemory> {
    let (Some(by_rows), Some(shape)) = (m.choose(&LAYOUTS), m.choose(&SHAPES)) else {
        return d.unknown("`wmma` of this layout or shape");
    };
    let spaces = [("global", Space::Global), ("shared", Space::Shared), ("shared::cta", Space::Shared)];
    let space = m.choose(&spaces).unwrap_or(Space::Generic);
    let ty = d.need_type(i, m)?;
    let Some(fragment) = fragment(matrix, shape, ty) else {
        return d.unknown("`wmma` of this shape and type");
    };
    let Shape { m, n, k } = shape;
    let (second_is_near, stride) = match matrix {
        Matrix::A => (by_rows, if by_rows { k } else { m }),
        Matrix::B => (!by_rows, if by_rows { n } else { k }),
        Matrix::C => (by_rows != shape.turned(), if by_rows { n } else { m }),
    };
    Ok(InMemory { fragment, space, second_is_near, stride })
}

/// The lanes' addresses: the register of the first, and what a step in the far coordinate adds, in bytes.
struct Addresses {
    base: u32,
    wide: bool,
    offset: i64,
    step: u32,
    space: Space,
}

impl Addresses {
    fn new<'a>(
        d: &mut Decoder<'_, 'a>,
        matrix: &InMemory,
        at: &Operand<'a>,
        stride: Option<&Operand<'a>>,
    ) -> Result<Addresses> {
        // What is wrong with the address is said as of any other.
        let (_, space) = d.aside(|d| d.address(at, matrix.space))?;
        let Operand::Memory { base: Some(name), offset } = at else {
            return d.syntax("expected an address in a register");
        };
        let wide = match d.find(name)? {
            Some(Symbol::Register(_, bytes)) => bytes == 8,
            _ => space != Space::Shared,
        };
        let address = d.source_value(Value::Name(name, 0), if wide { 8 } else { 4 })?;
        let start = d.temporary(if wide { 8 } else { 4 });
        let to = d.write(start);
        d.emit(Op::Mov { wide, d: to, a: address })?;
        let bytes = matrix.fragment.ty.bytes();
        let stride = match stride {
            Some(stride) => d.source(stride, Ty::U32)?,
            None => d.constant(matrix.stride as u64, 4)?,
        };
        let size = d.constant(bytes as u64, 4)?;
        let step = binary(d, BinOp::MulLo, stride, size)?;
        let lane = d.temporary(4);
        let to = d.write(lane);
        d.emit(Op::Special { what: Special::LaneId, d: to })?;
        let (a, b) = (d.read(lane), d.constant(2, 4)?);
        let first = binary(d, BinOp::Shr, a, b)?;
        let (a, b) = (d.read(lane), d.constant(3, 4)?);
        let second = binary(d, BinOp::And, a, b)?;
        let (a, b) = (d.read(second), d.constant(matrix.fragment.lane_step as u64, 4)?);
        let second = binary(d, BinOp::MulLo, a, b)?;
        let (far, near) = if matrix.second_is_near { (first, second) } else { (second, first) };
        let (a, b) = (d.read(near), d.constant(bytes as u64, 4)?);
        let near = binary(d, BinOp::MulLo, a, b)?;
        let lanes = d.temporary(4);
        let (a, b, c) = (d.read(far), d.read(step), d.read(near));
        let to = d.write(lanes);
        d.emit(Op::Tern { op: TernOp::MadLo, ty: Ty::U32, mode: PLAIN, d: to, a, b, c })?;
        let addresses = Addresses { base: start, wide, offset: *offset, step, space };
        let base = addresses.plus(d, lanes, 1)?;
        Ok(Addresses { base, ..addresses })
    }

    /// A register with the base and `count` times another register.
    fn plus(&self, d: &mut Decoder<'_, '_>, register: u32, count: usize) -> Result<u32> {
        let sum = d.temporary(if self.wide { 8 } else { 4 });
        let (a, b, c) = (d.read(register), d.constant(count as u64, 4)?, d.read(self.base));
        let to = d.write(sum);
        let op = if self.wide { TernOp::MadWide } else { TernOp::MadLo };
        d.emit(Op::Tern { op, ty: Ty::U32, mode: PLAIN, d: to, a, b, c })?;
        Ok(sum)
    }

    /// The address of an element of lane 0.
    fn of(&self, d: &mut Decoder<'_, '_>, matrix: &InMemory, [first, second]: [usize; 2]) -> Result<Address> {
        let (far, near) = if matrix.second_is_near { (first, second) } else { (second, first) };
        let base = if far == 0 { self.base } else { self.plus(d, self.step, far)? };
        let offset = self.offset.wrapping_add((near * matrix.fragment.ty.bytes()) as i64);
        Ok(Address { base: Some(d.read(base)), narrow: !self.wide, offset })
    }
}

fn binary(d: &mut Decoder<'_, '_>, op: BinOp, a: Slot, b: Slot) -> Result<u32> {
    let register = d.temporary(4);
    let to = d.write(register);
    d.emit(Op::Bin { op, ty: Ty::U32, mode: PLAIN, d: to, a, b })?;
    Ok(register)
}

/// The registers of a fragment that an instruction names.
fn named<'a>(d: &mut Decoder<'_, 'a>, operand: &Operand<'a>, fragment: &Fragment) -> Result<Vec<u32>> {
    let values = match operand {
        Operand::Vector(values) => values.clone(),
        Operand::Value(value) => vec![*value],
        _ => return d.syntax("expected registers in braces"),
    };
    if values.len() != fragment.named {
        return d.syntax(format!("expected {} register(s), found {}", fragment.named, values.len()));
    }
    let mut found = Vec::with_capacity(values.len());
    for value in values {
        match d.register(value)? {
            (id, 4) => found.push(id),
            (_, bytes) => return d.syntax(format!("a register of {bytes} bytes where 4 are expected")),
        }
    }
    Ok(found)
}

fn load<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let Some(matrix) = m.choose(&[("a", Matrix::A), ("b", Matrix::B), ("c", Matrix::C)]) else {
        return d.unknown("`wmma.load` of this matrix");
    };
    let matrix = in_memory(d, i, m, matrix)?;
    let (to, at, stride) = match i.operands.as_slice() {
        [to, at] => (to, at, None),
        [to, at, stride] => (to, at, Some(stride)),
        _ => return Err(count_error(i, "2 or 3")),
    };
    let registers = named(d, to, &matrix.fragment)?;
    let addresses = Addresses::new(d, &matrix, at, stride)?;
    for (index, &register) in registers.iter().enumerate() {
        match matrix.fragment.at.get(index) {
            Some(&at) => load_register(d, &matrix, &addresses, at, register)?,
            None => {
                let a = d.read(registers[index % matrix.fragment.at.len()]);
                let to = d.write(register);
                d.emit(Op::Mov { wide: false, d: to, a })?;
            }
        }
    }
    Ok(())
}

fn load_register(
    d: &mut Decoder<'_, '_>,
    matrix: &InMemory,
    addresses: &Addresses,
    at: [usize; 2],
    register: u32,
) -> Result<()> {
    let (space, order) = (addresses.space, Order::Weak);
    let together = matrix.fragment.together();
    if matrix.second_is_near || together == 1 {
        let a = addresses.of(d, matrix, at)?;
        let to = d.write(register);
        return d.emit(Op::Ld { space, order, ty: Ty::U32, d: Box::new([Some(to)]), a });
    }
    let ty = if together == 2 { Ty::U16 } else { Ty::U8 };
    let mut parts = Vec::with_capacity(together);
    for part in 0..together {
        let a = addresses.of(d, matrix, [at[0], at[1] + part])?;
        let value = d.temporary(if together == 2 { 2 } else { 4 });
        let to = d.write(value);
        d.emit(Op::Ld { space, order, ty, d: Box::new([Some(to)]), a })?;
        parts.push(value);
    }
    if let &[low, high] = parts.as_slice() {
        let parts = [d.read(low), d.read(high)];
        let to = d.write(register);
        return d.emit(Op::Pack16x2 { d: to, parts });
    }
    // Bytes to halves, halves to a word.
    let (low, high) = (d.temporary(4), d.temporary(4));
    let steps = [(parts[0], parts[1], 0x40, low), (parts[2], parts[3], 0x40, high), (low, high, 0x5410, register)];
    for (a, b, selector, to) in steps {
        let (a, b, c) = (d.read(a), d.read(b), d.constant(selector, 4)?);
        let to = d.write(to);
        d.emit(Op::Tern { op: TernOp::Prmt, ty: Ty::U32, mode: PLAIN, d: to, a, b, c })?;
    }
    Ok(())
}

fn store<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    d.need(m.take("d"), i, "d")?;
    let matrix = in_memory(d, i, m, Matrix::C)?;
    let (at, from, stride) = match i.operands.as_slice() {
        [at, from] => (at, from, None),
        [at, from, stride] => (at, from, Some(stride)),
        _ => return Err(count_error(i, "2 or 3")),
    };
    let registers = named(d, from, &matrix.fragment)?;
    let addresses = Addresses::new(d, &matrix, at, stride)?;
    let (space, order) = (addresses.space, Order::Weak);
    for (&register, &at) in registers.iter().zip(&matrix.fragment.at) {
        if matrix.second_is_near || matrix.fragment.together() == 1 {
            let a = addresses.of(d, &matrix, at)?;
            let b = d.read(register);
            d.emit(Op::St { space, order, ty: Ty::U32, a, b: Box::new([b]) })?;
            continue;
        }
        let halves = [d.temporary(2), d.temporary(2)];
        let a = d.read(register);
        let to = halves.map(|half| Some(d.write(half)));
        d.emit(Op::Unpack16x2 { d: to, a })?;
        for (part, half) in halves.into_iter().enumerate() {
            let a = addresses.of(d, &matrix, [at[0], at[1] + part])?;
            let b = d.read(half);
            d.emit(Op::St { space, order, ty: Ty::U16, a, b: Box::new([b]) })?;
        }
    }
    Ok(())
}

fn product<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let (Some(_), Some(_), Some(shape)) = (m.choose(&LAYOUTS), m.choose(&LAYOUTS), m.choose(&SHAPES)) else {
        return d.unknown("`wmma.mma` of these layouts or this shape");
    };
    let result = d.need_type(i, m)?;
    let second = d.need_type(i, m)?;
    // Of f16 only the types of result and addend are said.
    let (a, b, addend) = match m.ty() {
        None => (Ty::F16, Ty::F16, second),
        Some(b) => (second, b, d.need_type(i, m)?),
    };
    let known = match (a, result) {
        (Ty::F16, Ty::F32) => Some((MmaKind::F16K16, Accumulator::F32)),
        (Ty::F16, Ty::F16) => Some((MmaKind::F16K16, Accumulator::F16)),
        (Ty::Bf16, Ty::F32) => Some((MmaKind::Bf16K16, Accumulator::F32)),
        (Ty::Tf32, Ty::F32) => Some((MmaKind::Tf32K8, Accumulator::F32)),
        (Ty::S8, Ty::S32) => Some((MmaKind::S8K32, Accumulator::S32)),
        _ => None,
    };
    let of = |matrix, ty| fragment(matrix, shape, ty);
    let (Some((kind, acc)), Some(left), Some(right), Some(sum)) =
        (known.filter(|_| a == b && addend == result), of(Matrix::A, a), of(Matrix::B, b), of(Matrix::C, result))
    else {
        return d.unknown("`wmma.mma` of this shape and these types");
    };
    let [to, a, b, c] = exactly(i)?;
    let (a, b, c) = (named(d, a, &left)?, named(d, b, &right)?, named(d, c, &sum)?);
    let to = named(d, to, &sum)?;
    let ((rows, rows_tile), (columns, columns_tile)) =
        if shape.turned() { ((b, right.tile), (a, left.tile)) } else { ((a, left.tile), (b, right.tile)) };
    // Written at the end: a result's register may be the source of a later tile.
    let results: Vec<u32> = to.iter().map(|_| d.temporary(4)).collect();
    let (count_rows, count_columns) = shape.rows_and_columns();
    for (tile, (row, column)) in tiles(count_rows, count_columns).enumerate() {
        let part = |registers: &[u32], tile: usize, count: usize| registers[tile * count..][..count].to_vec();
        let mut a = reads(d, &part(&rows, row / 16, rows_tile));
        let mut b = reads(d, &part(&columns, column / 8, columns_tile));
        if kind == MmaKind::S8K32 {
            // The kind has k = 32: zeros behind.
            let zero = d.constant(0, 4)?;
            a.resize(4, zero);
            b.resize(2, zero);
        }
        let c = reads(d, &part(&c, tile, sum.tile)).into_boxed_slice();
        let to = part(&results, tile, sum.tile).into_iter().map(|id| d.write(id)).collect();
        let mma = Mma { kind, acc, d: to, a: a.into_boxed_slice(), b: b.into_boxed_slice(), c };
        d.emit(Op::Mma(Box::new(mma)))?;
    }
    for (&result, register) in results.iter().zip(to) {
        let a = d.read(result);
        let to = d.write(register);
        d.emit(Op::Mov { wide: false, d: to, a })?;
    }
    Ok(())
}

fn reads(d: &mut Decoder<'_, '_>, registers: &[u32]) -> Vec<Slot> {
    registers.iter().map(|&id| d.read(id)).collect()
}
