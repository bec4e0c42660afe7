//! `mbarrier`, and what goes with clusters: their barrier, their addresses, stores that a barrier counts.

use super::{Decoder, Modifiers, Result, count_error, exactly, is_sink};
use crate::ir::{
    Address, AtomOp, ClusterBarrier, Mbarrier, MbarrierOp, Op, Order, ProxyFence, Scope, Slot, Space, Ty, WaitPhase,
};
use crate::ptx::ast::{Instruction, Operand, Value};

/// Of a barrier object: where nothing is said, the address is generic.
fn space(m: &mut Modifiers<'_>) -> Space {
    let known = [("shared", Space::Shared), ("shared::cta", Space::Shared), ("shared::cluster", Space::SharedCluster)];
    m.choose(&known).unwrap_or(Space::Generic)
}

/// As [`space`], of an object in the block's own shared memory.
fn own_space(d: &Decoder<'_, '_>, m: &mut Modifiers<'_>) -> Result<Space> {
    match space(m) {
        Space::SharedCluster => d.syntax("this operation is of a barrier in the block's own shared memory"),
        own => Ok(own),
    }
}

/// An order without its scope.
type Semantics = (&'static str, fn(Scope) -> Order);

const RELAXED: Semantics = ("relaxed", Order::Relaxed);
const ACQUIRE: Semantics = ("acquire", Order::Acquire);
const RELEASE: Semantics = ("release", Order::Release);

/// `.sem.scope`: both, or neither for `default` of the block.
fn order(d: &Decoder<'_, '_>, m: &mut Modifiers<'_>, default: Semantics) -> Result<Order> {
    match m.choose(&[default, RELAXED]) {
        None => Ok((default.1)(Scope::Cta)),
        Some(semantics) => match m.choose(&[("cta", Scope::Cta), ("cluster", Scope::Cluster)]) {
            Some(scope) => Ok(semantics(scope)),
            None => d.syntax("an order of `mbarrier` is one of `.cta` or `.cluster`"),
        },
    }
}

pub fn decode<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    d.need(m.take("b64"), i, "b64")?;
    let Some(what) = m.take_if(|name| OPERATIONS.contains(&name)) else {
        return d.unknown("this operation of `mbarrier`");
    };
    match what {
        "init" => {
            let space = own_space(d, m)?;
            let [at, count] = exactly(i)?;
            let count = d.source(count, Ty::U32)?;
            emit(d, MbarrierOp::Init { count }, space, at, Order::Weak)
        }
        "inval" => {
            let space = own_space(d, m)?;
            let [at] = exactly(i)?;
            emit(d, MbarrierOp::Inval, space, at, Order::Weak)
        }
        "expect_tx" | "complete_tx" => transaction(d, i, m, what),
        "arrive" | "arrive_drop" => arrive(d, i, m, what == "arrive_drop"),
        "test_wait" | "try_wait" => wait(d, i, m, what == "try_wait"),
        _ => {
            let [to, state] = exactly(i)?;
            let state = d.source(state, Ty::U64)?;
            let to = d.dest(to, Ty::U32)?;
            let a = Address { base: None, narrow: false, offset: 0 };
            let op = MbarrierOp::PendingCount { d: to, state };
            d.emit(Op::Mbarrier(Box::new(Mbarrier { op, space: Space::Shared, a, order: Order::Weak })))
        }
    }
}

const OPERATIONS: [&str; 9] =
    ["init", "inval", "expect_tx", "complete_tx", "arrive", "arrive_drop", "test_wait", "try_wait", "pending_count"];

fn emit<'a>(d: &mut Decoder<'_, 'a>, op: MbarrierOp, space: Space, at: &Operand<'a>, order: Order) -> Result<()> {
    let (a, space) = d.address(at, space)?;
    d.emit(Op::Mbarrier(Box::new(Mbarrier { op, space, a, order })))
}

fn transaction<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>, what: &str) -> Result<()> {
    let order = order(d, m, RELAXED)?;
    let space = space(m);
    let [at, bytes] = exactly(i)?;
    let bytes = d.source(bytes, Ty::U32)?;
    let op = if what == "expect_tx" { MbarrierOp::ExpectTx { bytes } } else { MbarrierOp::CompleteTx { bytes } };
    emit(d, op, space, at, order)
}

fn arrive<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>, drop: bool) -> Result<()> {
    let expects = m.take("expect_tx");
    let no_complete = !expects && m.take("noComplete");
    let order = order(d, m, RELEASE)?;
    let space = space(m);
    let (to, at, number) = match i.operands.as_slice() {
        [to, at] if !expects && !no_complete => (to, at, None),
        [to, at, number] => (to, at, Some(number)),
        _ => return Err(count_error(i, if expects || no_complete { "3" } else { "2 or 3" })),
    };
    if space == Space::SharedCluster && (no_complete || !is_sink(to)) {
        return d.syntax("an arrival in the cluster's shared memory returns no state: its destination is `_`");
    }
    let number = match number {
        Some(number) => Some(d.source(number, Ty::U32)?),
        None => None,
    };
    let (count, expect) = if expects { (None, number) } else { (number, None) };
    let state = d.dest_or_sink(to, Ty::U64)?;
    emit(d, MbarrierOp::Arrive { state, count, expect, drop, no_complete }, space, at, order)
}

fn wait<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>, may_wait: bool) -> Result<()> {
    let parity = m.take("parity");
    let order = order(d, m, ACQUIRE)?;
    let space = own_space(d, m)?;
    let (to, at, phase) = match i.operands.as_slice() {
        [to, at, phase] => (to, at, phase),
        // How long it may be suspended: as long as nothing changes.
        [to, at, phase, hint] if may_wait => {
            d.source(hint, Ty::U32)?;
            (to, at, phase)
        }
        _ => return Err(count_error(i, if may_wait { "3 or 4" } else { "3" })),
    };
    let phase =
        if parity { WaitPhase::Parity(d.source(phase, Ty::U32)?) } else { WaitPhase::State(d.source(phase, Ty::U64)?) };
    let p = d.pred_dest_of(to)?;
    emit(d, MbarrierOp::Test { p, phase, may_wait }, space, at, order)
}

/// `cp.async.mbarrier.arrive`, behind `cp.async.mbarrier`.
pub fn after_copies<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    d.need(m.take("arrive"), i, "arrive")?;
    d.need(m.take("b64"), i, "b64")?;
    let no_increment = m.take("noinc");
    let space = own_space(d, m)?;
    let [at] = exactly(i)?;
    emit(d, MbarrierOp::AfterCopies { no_increment }, space, at, Order::Release(Scope::Cta))
}

/// `barrier.cluster`, behind these words.
pub fn cluster(d: &mut Decoder<'_, '_>, i: &Instruction<'_>, m: &mut Modifiers<'_>) -> Result<()> {
    let arrive = m.take("arrive");
    d.need(arrive || m.take("wait"), i, "arrive")?;
    let relaxed = arrive && m.take("relaxed");
    if !relaxed {
        // The default.
        m.take(if arrive { "release" } else { "acquire" });
    }
    let aligned = m.take("aligned");
    let [] = exactly(i)?;
    d.emit(Op::ClusterBarrier(ClusterBarrier { arrive, relaxed, aligned }))
}

/// `fence.proxy` and `fence.mbarrier_init`; `None`: another fence.
pub fn fence(d: &mut Decoder<'_, '_>, i: &Instruction<'_>, m: &mut Modifiers<'_>) -> Option<Result<()>> {
    if m.take("mbarrier_init") {
        let whole = m.take("release") && m.take("cluster");
        return Some(d.need(whole, i, "release.cluster").and_then(|()| proxy(d, i, ProxyFence::MbarrierInit)));
    }
    if !m.take("proxy") {
        return None;
    }
    if m.take("alias") {
        return Some(proxy(d, i, ProxyFence::Alias));
    }
    if !m.take("async") {
        return Some(d.unknown("this proxy of `fence.proxy`"));
    }
    let which = [("global", (false, true)), ("shared::cta", (true, false)), ("shared::cluster", (true, false))];
    let (shared, global) = m.choose(&which).unwrap_or((true, true));
    Some(proxy(d, i, ProxyFence::Async { shared, global }))
}

fn proxy(d: &mut Decoder<'_, '_>, i: &Instruction<'_>, fence: ProxyFence) -> Result<()> {
    let [] = exactly(i)?;
    d.emit(Op::ProxyFence(fence))
}

/// `mapa` and `getctarank`.
pub fn rank<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let shared = m.take("shared::cluster");
    let ty = d.need_type(i, m)?;
    if !matches!((ty, shared), (Ty::U32, true) | (Ty::U64, _)) {
        return d.unknown(format!("`{}` of this type", i.opcode));
    }
    let wide = !shared;
    if i.opcode == "getctarank" {
        let [to, a] = exactly(i)?;
        let a = cluster_address(d, a, ty, wide)?;
        let to = d.dest(to, Ty::U32)?;
        return d.emit(Op::GetCtaRank { wide, d: to, a });
    }
    let [to, a, rank] = exactly(i)?;
    let a = cluster_address(d, a, ty, wide)?;
    let rank = d.source(rank, Ty::U32)?;
    let to = if wide { d.dest(to, ty)? } else { d.wide_dest(d.value(to)?, Ty::U32, true)? };
    d.emit(Op::Mapa { wide, d: to, a, rank })
}

/// An address as a value: of shared memory (of 32 bits, whatever its register) or generic.
fn cluster_address<'a>(d: &mut Decoder<'_, 'a>, operand: &Operand<'a>, ty: Ty, wide: bool) -> Result<Slot> {
    let value = d.value(operand)?;
    match value {
        Value::Name(..) if !wide && ty == Ty::U64 => d.wide_source(value, Ty::U32),
        _ => d.source_value(value, ty.bytes()),
    }
}

const MBARRIER: &str = "mbarrier::complete_tx::bytes";

/// An address of the cluster's shared memory; a generic one is converted first.
fn remote<'a>(d: &mut Decoder<'_, 'a>, operand: &Operand<'a>, generic: bool) -> Result<Address> {
    if generic {
        d.converted_address(operand, Space::SharedCluster)
    } else {
        d.address(operand, Space::SharedCluster).map(|(a, _)| a)
    }
}

/// `st.async`, behind `st.async`.
pub fn store<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    m.take("weak");
    let generic = !m.take("shared::cluster");
    d.need(m.take(MBARRIER), i, MBARRIER)?;
    let count = m.choose(&[("v2", 2), ("v4", 4)]).unwrap_or(1);
    let ty = d.need_type(i, m)?;
    if !matches!(ty.bytes(), 4 | 8) || ty.bytes() * count > 16 || matches!(ty, Ty::F16x2 | Ty::Bf16x2 | Ty::Tf32) {
        return d.unknown("`st.async` of this type");
    }
    let [to, b, mbarrier] = exactly(i)?;
    let a = remote(d, to, generic)?;
    let values = match b {
        Operand::Vector(values) if values.len() == count => values.clone(),
        Operand::Value(value) if count == 1 => vec![*value],
        _ => return d.syntax(format!("expected {count} value(s)")),
    };
    let mut slots = Vec::with_capacity(count);
    for value in values {
        slots.push(d.source_value(value, ty.bytes())?);
    }
    let mbarrier = remote(d, mbarrier, generic)?;
    d.emit(Op::StAsync { ty, reduce: None, a, b: slots.into_boxed_slice(), mbarrier })
}

/// `red.async`, behind `red.async`.
pub fn reduce<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    d.need(m.take("relaxed"), i, "relaxed")?;
    d.need(m.take("cluster"), i, "cluster")?;
    let generic = !m.take("shared::cluster");
    d.need(m.take(MBARRIER), i, MBARRIER)?;
    let operations = [
        ("add", AtomOp::Add),
        ("min", AtomOp::Min),
        ("max", AtomOp::Max),
        ("inc", AtomOp::Inc),
        ("dec", AtomOp::Dec),
        ("and", AtomOp::And),
        ("or", AtomOp::Or),
        ("xor", AtomOp::Xor),
    ];
    let Some(op) = m.choose(&operations) else {
        return d.unknown("this operation of `red.async`");
    };
    let ty = d.need_type(i, m)?;
    let fits = match op {
        AtomOp::Add => matches!(ty, Ty::U32 | Ty::S32 | Ty::U64),
        AtomOp::Min | AtomOp::Max => matches!(ty, Ty::U32 | Ty::S32),
        _ => ty == Ty::U32,
    };
    if !fits {
        return d.unknown("`red.async` of this type");
    }
    let [to, b, mbarrier] = exactly(i)?;
    let a = remote(d, to, generic)?;
    let b = d.source(b, ty)?;
    let mbarrier = remote(d, mbarrier, generic)?;
    d.emit(Op::StAsync { ty, reduce: Some(op), a, b: Box::new([b]), mbarrier })
}
