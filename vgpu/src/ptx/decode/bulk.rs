//! `cp.async.bulk`, `cp.reduce.async.bulk` and their groups: plain bytes, and boxes of tensors.

use super::{Decoder, Modifiers, Result, count_error, exactly};
use crate::ir::{BinOp, Bulk, BulkDirection, BulkReduce, Op, Slot, Space, TensorTile, Ty};
use crate::ptx::ast::{Instruction, Operand, Value};

const MBARRIER: &str = "mbarrier::complete_tx::bytes";

/// Behind `cp.async.bulk` (`reduce`: `cp.reduce.async.bulk`).
pub fn decode<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>, reduce: bool) -> Result<()> {
    if !reduce && m.take("commit_group") {
        let [] = exactly(i)?;
        return d.emit(Op::BulkCommit);
    }
    if !reduce && m.take("wait_group") {
        let read = m.take("read");
        let pending = group_number(d, i)?;
        return d.emit(Op::BulkWait { pending, read });
    }
    let prefetch = !reduce && m.take("prefetch");
    let dims = if m.take("tensor") {
        let dims = [("1d", 1), ("2d", 2), ("3d", 3), ("4d", 4), ("5d", 5)];
        let Some(dims) = m.choose(&dims) else {
            return d.unknown("a tensor of other than 1 to 5 dimensions");
        };
        Some(dims)
    } else {
        None
    };
    let direction = direction(d, i, m, prefetch)?;
    let reduction = if reduce { Some(reduction(d, i, m, direction, dims.is_some())?) } else { None };
    let by_barrier = m.take(MBARRIER);
    let needs_barrier = matches!(direction.1, BulkDirection::GlobalToShared | BulkDirection::SharedToCluster);
    if by_barrier != needs_barrier {
        return d.unknown("a bulk copy of this direction that is completed in this way");
    }
    if !needs_barrier && !prefetch {
        d.need(m.take("bulk_group"), i, "bulk_group")?;
    }
    let shape = Shape {
        to: direction.0,
        direction: direction.1,
        dims,
        im2col: dims.is_some() && im2col(d, m, direction.1, dims)?,
        multicast: direction == (Space::SharedCluster, BulkDirection::GlobalToShared) && m.take("multicast::cluster"),
        reduce: reduction,
    };
    if reduce && !matches!(direction.1, BulkDirection::SharedToGlobal | BulkDirection::SharedToCluster)
        || dims.is_some() && direction.1 == BulkDirection::SharedToCluster
    {
        return d.unknown("a bulk copy of this direction");
    }
    let has_policy = direction.1 != BulkDirection::SharedToCluster && m.take("L2::cache_hint");
    let operands = match i.operands.split_last() {
        Some((_, rest)) if has_policy => rest,
        _ => &i.operands,
    };
    copy(d, i, operands, shape)
}

/// The number of groups that a wait leaves.
pub fn group_number(d: &Decoder<'_, '_>, i: &Instruction<'_>) -> Result<u32> {
    match exactly(i)? {
        [Operand::Value(Value::Int(pending))] => Ok(u32::try_from(*pending).unwrap_or(u32::MAX)),
        _ => d.syntax("a wait for groups takes a number"),
    }
}

/// Where the bytes go (as a space), and the direction.
fn direction(
    d: &Decoder<'_, '_>,
    i: &Instruction<'_>,
    m: &mut Modifiers<'_>,
    prefetch: bool,
) -> Result<(Space, BulkDirection)> {
    if prefetch {
        d.need(m.take("L2"), i, "L2")?;
        d.need(m.take("global"), i, "global")?;
        return Ok((Space::Global, BulkDirection::Prefetch));
    }
    let spaces = [("shared::cluster", Space::SharedCluster), ("shared::cta", Space::Shared), ("global", Space::Global)];
    match (m.choose(&spaces), m.choose(&spaces)) {
        (Some(to @ (Space::SharedCluster | Space::Shared)), Some(Space::Global)) => {
            Ok((to, BulkDirection::GlobalToShared))
        }
        (Some(Space::Global), Some(Space::Shared)) => Ok((Space::Global, BulkDirection::SharedToGlobal)),
        (Some(to @ Space::SharedCluster), Some(Space::Shared)) => Ok((to, BulkDirection::SharedToCluster)),
        _ => d.unknown("a bulk copy between these spaces"),
    }
}

/// Whether a tensor's load mode is im2col.
fn im2col(d: &Decoder<'_, '_>, m: &mut Modifiers<'_>, direction: BulkDirection, dims: Option<usize>) -> Result<bool> {
    let name = if direction == BulkDirection::SharedToGlobal { "im2col_no_offs" } else { "im2col" };
    if m.take("tile") || !m.take(name) {
        return Ok(false);
    }
    if dims.is_some_and(|dims| dims < 3) {
        return d.syntax("`.im2col` is of tensors of 3 to 5 dimensions");
    }
    Ok(true)
}

fn reduction(
    d: &Decoder<'_, '_>,
    i: &Instruction<'_>,
    m: &mut Modifiers<'_>,
    direction: (Space, BulkDirection),
    of_tensor: bool,
) -> Result<(BulkReduce, Option<Ty>)> {
    let operations = [
        ("add", BulkReduce::Op(BinOp::Add)),
        ("min", BulkReduce::Op(BinOp::Min)),
        ("max", BulkReduce::Op(BinOp::Max)),
        ("inc", BulkReduce::Inc),
        ("dec", BulkReduce::Dec),
        ("and", BulkReduce::Op(BinOp::And)),
        ("or", BulkReduce::Op(BinOp::Or)),
        ("xor", BulkReduce::Op(BinOp::Xor)),
    ];
    let Some(op) = m.choose(&operations) else {
        return d.unknown("this operation of `cp.reduce.async.bulk`");
    };
    if of_tensor {
        return Ok((op, None));
    }
    let noftz = m.take("noftz");
    let ty = d.need_type(i, m)?;
    let to_global = direction.1 == BulkDirection::SharedToGlobal;
    let fits = match op {
        BulkReduce::Op(BinOp::Add) if to_global => {
            matches!(ty, Ty::U32 | Ty::S32 | Ty::U64 | Ty::F32 | Ty::F64 | Ty::F16 | Ty::Bf16)
        }
        BulkReduce::Op(BinOp::Add) => matches!(ty, Ty::U32 | Ty::S32 | Ty::U64),
        BulkReduce::Op(BinOp::Min | BinOp::Max) if to_global => {
            matches!(ty, Ty::U32 | Ty::S32 | Ty::U64 | Ty::S64 | Ty::F16 | Ty::Bf16)
        }
        BulkReduce::Op(BinOp::Min | BinOp::Max) => matches!(ty, Ty::U32 | Ty::S32),
        BulkReduce::Op(_) => ty == Ty::U32 || to_global && ty == Ty::U64,
        BulkReduce::Inc | BulkReduce::Dec => ty == Ty::U32,
    };
    let rounds = op == BulkReduce::Op(BinOp::Add) && matches!(ty, Ty::F16 | Ty::Bf16);
    if !fits || noftz != rounds {
        return d.unknown("`cp.reduce.async.bulk` of this operation and type");
    }
    Ok((op, Some(ty)))
}

/// What the modifiers said.
struct Shape {
    to: Space,
    direction: BulkDirection,
    dims: Option<usize>,
    im2col: bool,
    multicast: bool,
    reduce: Option<(BulkReduce, Option<Ty>)>,
}

/// The operands, one after the other.
struct Operands<'i, 'a> {
    instruction: &'i Instruction<'a>,
    rest: std::slice::Iter<'i, Operand<'a>>,
}

impl<'i, 'a> Operands<'i, 'a> {
    fn next(&mut self) -> Result<&'i Operand<'a>> {
        self.rest.next().ok_or_else(|| count_error(self.instruction, "more"))
    }
}

fn copy<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, operands: &[Operand<'a>], shape: Shape) -> Result<()> {
    let mut operands = Operands { instruction: i, rest: operands.iter() };
    let mut bulk = Bulk {
        direction: shape.direction,
        shared: None,
        other: crate::ir::Address { base: None, narrow: false, offset: 0 },
        bytes: None,
        tensor: None,
        mbarrier: None,
        multicast: None,
        reduce: shape.reduce,
    };
    match shape.direction {
        BulkDirection::GlobalToShared => {
            bulk.shared = Some(address(d, operands.next()?, shape.to)?);
            other(d, &mut bulk, operands.next()?, &shape)?;
        }
        BulkDirection::SharedToGlobal => {
            other(d, &mut bulk, operands.next()?, &shape)?;
            bulk.shared = Some(address(d, operands.next()?, Space::Shared)?);
        }
        BulkDirection::SharedToCluster => {
            bulk.shared = Some(address(d, operands.next()?, Space::SharedCluster)?);
            bulk.other = d.address(operands.next()?, Space::Shared)?.0;
        }
        BulkDirection::Prefetch => other(d, &mut bulk, operands.next()?, &shape)?,
    }
    if shape.dims.is_none() {
        bulk.bytes = Some(d.source(operands.next()?, Ty::U32)?);
    }
    if matches!(shape.direction, BulkDirection::GlobalToShared | BulkDirection::SharedToCluster) {
        bulk.mbarrier = Some(address(d, operands.next()?, shape.to)?);
    }
    if let Some(tile) = bulk.tensor.as_mut().filter(|_| shape.im2col) {
        // A store has no offsets.
        let count = if shape.direction == BulkDirection::SharedToGlobal { 0 } else { tile.coordinates.len() - 2 };
        tile.im2col = Some(if count == 0 { Box::new([]) } else { values(d, operands.next()?, count, Ty::U16)? });
    }
    if shape.multicast {
        bulk.multicast = Some(d.source(operands.next()?, Ty::U16)?);
    }
    if operands.rest.next().is_some() {
        return Err(count_error(i, "fewer"));
    }
    d.emit(Op::Bulk(Box::new(bulk)))
}

fn address<'a>(d: &mut Decoder<'_, 'a>, operand: &Operand<'a>, space: Space) -> Result<(Space, crate::ir::Address)> {
    d.address(operand, space).map(|(a, space)| (space, a))
}

/// The side that is no shared memory: bytes, or a tensor's map (generic) and coordinates.
fn other<'a>(d: &mut Decoder<'_, 'a>, bulk: &mut Bulk, operand: &Operand<'a>, shape: &Shape) -> Result<()> {
    let Some(dims) = shape.dims else {
        bulk.other = d.address(operand, Space::Global)?.0;
        return Ok(());
    };
    let Operand::Tensor { base, offset, coordinates } = operand else {
        return d.syntax("expected a tensor's map and coordinates, `[map, {x, y}]`");
    };
    bulk.other = d.address(&Operand::Memory { base: Some(base), offset: *offset }, Space::Generic)?.0;
    let coordinates = values(d, &Operand::Vector(coordinates.clone()), dims, Ty::S32)?;
    bulk.tensor = Some(TensorTile { coordinates, im2col: None });
    Ok(())
}

fn values<'a>(d: &mut Decoder<'_, 'a>, operand: &Operand<'a>, count: usize, ty: Ty) -> Result<Box<[Slot]>> {
    let Operand::Vector(values) = operand else {
        return d.syntax(format!("expected {count} values in braces"));
    };
    if values.len() != count {
        return d.syntax(format!("expected {count} values in braces, found {}", values.len()));
    }
    values.iter().map(|&value| d.source_value(value, ty.bytes())).collect()
}

/// `prefetch.tensormap`, behind these words.
pub fn prefetch_map<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let space = m
        .choose(&[("const", Space::Const), ("param", Space::Param), ("param::entry", Space::Param)])
        .unwrap_or(Space::Generic);
    let [at] = exactly(i)?;
    let (a, space) = d.address(at, space)?;
    d.emit(Op::PrefetchMap { space, a })
}
