//! Loads, stores, atomics, fences and asynchronous copies.
//!
//! Hints about caches change nothing that is checked: those below are taken and dropped, with the policy operand of
//! `.L2::cache_hint`. What clusters and bulk copies brought is in `mbarrier.rs` and `bulk.rs`.

use super::arith::is_float;
use super::convert::space;
use super::{Decoder, Modifiers, Result, bulk, count_error, exactly, is_sink, mbarrier};
use crate::ir::{AtomOp, Op, Order, Scope, Slot, Space, Ty};
use crate::ptx::ast::{Instruction, Operand, Value};

/// Performance hints of loads and stores.
const HINTS: [&str; 20] = [
    "ca",
    "cg",
    "cs",
    "lu",
    "cv",
    "wb",
    "wt",
    "L1::evict_normal",
    "L1::evict_unchanged",
    "L1::evict_first",
    "L1::evict_last",
    "L1::no_allocate",
    "L2::evict_normal",
    "L2::evict_first",
    "L2::evict_last",
    "L2::64B",
    "L2::128B",
    "L2::256B",
    "L2::cache_hint",
    "unified",
];

/// Takes the hints; true if a cache policy is the last operand.
fn take_hints(m: &mut Modifiers<'_>) -> bool {
    let has_policy = m.take("L2::cache_hint");
    while m.take_if(|name| HINTS.contains(&name)).is_some() {}
    has_policy
}

/// The operands without the cache policy.
fn without_policy<'i, 'a>(i: &'i Instruction<'a>, has_policy: bool) -> &'i [Operand<'a>] {
    match i.operands.split_last() {
        Some((_, rest)) if has_policy => rest,
        _ => &i.operands,
    }
}

const SCOPES: [(&str, Scope); 4] =
    [("cta", Scope::Cta), ("cluster", Scope::Cluster), ("gpu", Scope::Gpu), ("sys", Scope::Sys)];

/// An order without its scope.
type Semantics = fn(Scope) -> Order;

const SEMANTICS: [(&str, Semantics); 4] = [
    ("relaxed", Order::Relaxed),
    ("acquire", Order::Acquire),
    ("release", Order::Release),
    ("acq_rel", Order::AcquireRelease),
];

/// Of a load or a store: weak where nothing is said.
fn order(m: &mut Modifiers<'_>) -> Order {
    if m.take("volatile") {
        return Order::Relaxed(Scope::Sys);
    }
    match m.choose(&SEMANTICS) {
        Some(order) => order(m.choose(&SCOPES).unwrap_or(Scope::Gpu)),
        None => {
            m.take("weak");
            Order::Weak
        }
    }
}

pub fn decode<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    match i.opcode {
        "st" if m.take("async") => mbarrier::store(d, i, m),
        "red" if m.take("async") => mbarrier::reduce(d, i, m),
        "ld" | "ldu" => load(d, i, m),
        "st" => store(d, i, m),
        "atom" | "red" => atomic(d, i, m),
        "membar" => membar(d, i, m),
        "fence" => fence(d, i, m),
        "prefetch" if m.take("tensormap") => bulk::prefetch_map(d, i, m),
        "cp" => copy_async(d, i, m),
        "createpolicy" => policy(d, i, m),
        _ => hint(d, m),
    }
}

fn elements(m: &mut Modifiers<'_>) -> usize {
    m.choose(&[("v2", 2), ("v4", 4)]).unwrap_or(1)
}

/// The types that memory holds.
fn check_type(d: &Decoder<'_, '_>, i: &Instruction<'_>, ty: Ty, count: usize) -> Result<()> {
    if matches!(ty, Ty::E4m3 | Ty::E5m2 | Ty::E4m3x2 | Ty::E5m2x2 | Ty::Tf32) || ty.bytes() * count > 16 {
        return d.unknown(format!("`{}` of this type", i.opcode));
    }
    Ok(())
}

/// The type as which a register wider than the value takes it: floats are bits.
fn bits(ty: Ty) -> Ty {
    match ty {
        _ if !is_float(ty) => ty,
        Ty::F64 => Ty::U64,
        Ty::F16 | Ty::Bf16 => Ty::U16,
        _ => Ty::U32,
    }
}

/// The parts of a vector operand, or the single one.
fn parts<'a>(d: &mut Decoder<'_, 'a>, operand: &Operand<'a>, count: usize) -> Result<Vec<Value<'a>>> {
    match (d.vector(operand)?, operand) {
        (Some(values), _) if values.len() == count => Ok(values),
        (None, Operand::Value(value)) if count == 1 => Ok(vec![*value]),
        _ => d.syntax(format!("expected {count} value(s)")),
    }
}

fn load<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let mut order = order(m);
    if order.releases() {
        return d.syntax("a load cannot release");
    }
    let space = space(m).unwrap_or(Space::Generic);
    if m.take("nc") || i.opcode == "ldu" {
        order = Order::NonCoherent;
    }
    let has_policy = take_hints(m);
    let count = elements(m);
    let ty = d.need_type(i, m)?;
    check_type(d, i, ty, count)?;
    let [to, from] = without_policy(i, has_policy) else {
        return Err(count_error(i, "2"));
    };
    let (a, space) = d.address(from, space)?;
    let mut slots = Vec::with_capacity(count);
    for value in parts(d, to, count)? {
        slots.push(match value {
            Value::Name("_", 0) => None,
            _ => Some(d.wide_dest(value, bits(ty), true)?),
        });
    }
    d.emit(Op::Ld { space, order, ty, d: slots.into_boxed_slice(), a })
}

fn store<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let order = order(m);
    if order.acquires() {
        return d.syntax("a store cannot acquire");
    }
    let space = space(m).unwrap_or(Space::Generic);
    if space == Space::Const {
        return d.syntax("constants cannot be stored to");
    }
    let has_policy = take_hints(m);
    let count = elements(m);
    let ty = d.need_type(i, m)?;
    check_type(d, i, ty, count)?;
    let [to, from] = without_policy(i, has_policy) else {
        return Err(count_error(i, "2"));
    };
    let (a, space) = d.address(to, space)?;
    if space == Space::Param {
        return d.syntax("the parameters of a kernel cannot be stored to");
    }
    let mut slots: Vec<Slot> = Vec::with_capacity(count);
    for value in parts(d, from, count)? {
        slots.push(d.wide_source(value, bits(ty))?);
    }
    d.emit(Op::St { space, order, ty, a, b: slots.into_boxed_slice() })
}

const ATOMICS: [(&str, AtomOp); 10] = [
    ("add", AtomOp::Add),
    ("min", AtomOp::Min),
    ("max", AtomOp::Max),
    ("and", AtomOp::And),
    ("or", AtomOp::Or),
    ("xor", AtomOp::Xor),
    ("exch", AtomOp::Exch),
    ("cas", AtomOp::Cas),
    ("inc", AtomOp::Inc),
    ("dec", AtomOp::Dec),
];

/// Which types an atomic takes.
fn takes(op: AtomOp, ty: Ty) -> bool {
    match op {
        AtomOp::Add => matches!(
            ty,
            Ty::U32 | Ty::S32 | Ty::U64 | Ty::S64 | Ty::F32 | Ty::F64 | Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2
        ),
        AtomOp::Min | AtomOp::Max => matches!(ty, Ty::U32 | Ty::S32 | Ty::U64 | Ty::S64),
        AtomOp::And | AtomOp::Or | AtomOp::Xor | AtomOp::Exch => matches!(ty, Ty::U32 | Ty::U64),
        AtomOp::Cas => matches!(ty, Ty::U16 | Ty::U32 | Ty::U64),
        AtomOp::Inc | AtomOp::Dec => ty == Ty::U32,
    }
}

fn atomic<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    // Where nothing is said: relaxed, of the GPU.
    let semantics = m.choose(&SEMANTICS).unwrap_or(Order::Relaxed);
    let order = semantics(m.choose(&SCOPES).unwrap_or(Scope::Gpu));
    let space = space(m).unwrap_or(Space::Generic);
    if matches!(space, Space::Local | Space::Param | Space::Const) {
        return d.syntax("atomics are of global or shared memory");
    }
    let Some(op) = m.choose(&ATOMICS) else {
        return d.unknown(format!("this operation of `{}`", i.opcode));
    };
    let half = m.take("noftz");
    let has_policy = take_hints(m);
    let ty = d.need_type(i, m)?;
    if !takes(op, ty) || half != matches!(ty, Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2) {
        return d.unknown(format!("`{}` of this operation and type", i.opcode));
    }
    let operands = without_policy(i, has_policy);
    let (to, rest) = if i.opcode == "red" {
        (None, operands)
    } else {
        match operands.split_first() {
            Some((to, rest)) => (Some(to), rest),
            None => return Err(count_error(i, "3 or 4")),
        }
    };
    let (at, b, c) = match (rest, op) {
        ([at, b, c], AtomOp::Cas) => (at, b, Some(c)),
        ([at, b], AtomOp::Add | AtomOp::Min | AtomOp::Max | AtomOp::And | AtomOp::Or | AtomOp::Xor) => (at, b, None),
        ([at, b], AtomOp::Exch | AtomOp::Inc | AtomOp::Dec) => (at, b, None),
        _ => return Err(count_error(i, if op == AtomOp::Cas { "4" } else { "3 (`red` 2)" })),
    };
    let (a, space) = d.address(at, space)?;
    let b = d.source(b, ty)?;
    let c = match c {
        Some(c) => Some(d.source(c, ty)?),
        None => None,
    };
    let to = match to {
        Some(to) if !is_sink(to) => Some(d.dest(to, ty)?),
        _ => None,
    };
    d.emit(Op::Atom { op, space, order, ty, d: to, a, b, c })
}

fn membar<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let scopes = [("cta", Scope::Cta), ("gl", Scope::Gpu), ("gpu", Scope::Gpu), ("sys", Scope::Sys)];
    let [] = exactly(i)?;
    match m.choose(&scopes) {
        Some(scope) => d.emit(Op::Fence { scope }),
        None => d.unknown("this scope of `membar`"),
    }
}

fn fence(d: &mut Decoder<'_, '_>, i: &Instruction<'_>, m: &mut Modifiers<'_>) -> Result<()> {
    if let Some(done) = mbarrier::fence(d, i, m) {
        return done;
    }
    // One direction alone is taken for both. The default: `.acq_rel`.
    m.take_if(|name| ["sc", "acq_rel", "acquire", "release"].contains(&name));
    let [] = exactly(i)?;
    match m.choose(&SCOPES) {
        Some(scope) => d.emit(Op::Fence { scope }),
        None => d.unknown("this kind of `fence`"),
    }
}

fn copy_async<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    if m.take("reduce") {
        d.need(m.take("async") && m.take("bulk"), i, "async.bulk")?;
        return bulk::decode(d, i, m, true);
    }
    d.need(m.take("async"), i, "async")?;
    if m.take("bulk") {
        return bulk::decode(d, i, m, false);
    }
    if m.take("mbarrier") {
        return mbarrier::after_copies(d, i, m);
    }
    if m.take("commit_group") {
        let [] = exactly(i)?;
        return d.emit(Op::CpAsyncCommit);
    }
    if m.take("wait_all") {
        let [] = exactly(i)?;
        return d.emit(Op::CpAsyncWaitAll);
    }
    if m.take("wait_group") {
        return match exactly(i)? {
            [Operand::Value(Value::Int(pending))] => {
                let pending = u32::try_from(*pending).unwrap_or(u32::MAX);
                d.emit(Op::CpAsyncWait { pending })
            }
            _ => d.syntax("`cp.async.wait_group` takes a number"),
        };
    }
    let whole_lines = m.take("cg");
    if !whole_lines {
        d.need(m.take("ca"), i, "ca")?;
    }
    if !m.take("shared") {
        d.need(m.take("shared::cta"), i, "shared")?;
    }
    d.need(m.take("global"), i, "global")?;
    let has_policy = take_hints(m);
    let operands = without_policy(i, has_policy);
    let [dst, src, Operand::Value(Value::Int(bytes)), rest @ ..] = operands else {
        return d.syntax("`cp.async` takes two addresses and a number of bytes");
    };
    let bytes = match *bytes {
        16 => 16,
        bytes @ (4 | 8) if !whole_lines => bytes as u8,
        _ => return d.syntax("`cp.async` copies 4, 8 or 16 bytes, with `.cg` 16"),
    };
    let (dst, _) = d.address(dst, Space::Shared)?;
    let (src, _) = d.address(src, Space::Global)?;
    let (src_size, ignore_src) = match rest {
        [] => (None, None),
        [operand] if is_condition(d, operand)? => (None, Some(d.condition(operand)?)),
        [operand] => (Some(d.source(operand, Ty::U32)?), None),
        _ => return Err(count_error(i, "3 or 4")),
    };
    d.emit(Op::CpAsync { bytes, dst, src, src_size, ignore_src })
}

fn is_condition<'a>(d: &mut Decoder<'_, 'a>, operand: &Operand<'a>) -> Result<bool> {
    Ok(match operand {
        Operand::Not(_) => true,
        Operand::Value(Value::Name(name, 0)) => matches!(d.find(name)?, Some(crate::ptx::scope::Symbol::Predicate(_))),
        _ => false,
    })
}

/// A cache policy is never used: zero.
fn policy<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    d.need(m.take("fractional"), i, "fractional")?;
    while m.take_if(|name| name.starts_with("L2::evict_")).is_some() {}
    d.need(m.take("b64"), i, "b64")?;
    let (Some(to), 1..=2) = (i.operands.first(), i.operands.len()) else {
        return Err(count_error(i, "1 or 2"));
    };
    let a = d.constant(0, 8)?;
    let to = d.dest(to, Ty::U64)?;
    d.emit(Op::Mov { wide: true, d: to, a })
}

/// `prefetch`, `prefetchu`, `discard`, `applypriority`.
fn hint(d: &mut Decoder<'_, '_>, m: &mut Modifiers<'_>) -> Result<()> {
    space(m);
    let known = ["L1", "L2", "L2::evict_last", "L2::evict_normal"];
    while m.take_if(|name| known.contains(&name)).is_some() {}
    d.emit(Op::Nop)
}
