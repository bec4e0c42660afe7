//! What threads do together: shuffles, votes, barriers.

use super::{Decoder, Modifiers, Result, count_error, exactly, is_sink, mbarrier};
use crate::ir::{BarrierKind, Op, ReduxOp, ShflMode, Slot, Ty, VoteMode};
use crate::ptx::ast::{Instruction, Operand};

pub fn decode<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    match i.opcode {
        "activemask" => {
            d.need(m.take("b32"), i, "b32")?;
            let [to] = exactly(i)?;
            let to = d.dest(to, Ty::U32)?;
            d.emit(Op::ActiveMask { d: to })
        }
        "bar" | "barrier" if m.take("warp") => {
            d.need(m.take("sync"), i, "sync")?;
            let [members] = exactly(i)?;
            let members = d.source(members, Ty::U32)?;
            d.emit(Op::BarWarp { members })
        }
        "barrier" if m.take("cluster") => mbarrier::cluster(d, i, m),
        "bar" | "barrier" => barrier(d, i, m),
        _ => {
            // The forms without members are gone since sm_70.
            d.need(m.take("sync"), i, "sync")?;
            match i.opcode {
                "shfl" => shuffle(d, i, m),
                "vote" => vote(d, i, m),
                "match" => matching(d, i, m),
                "redux" => reduce(d, i, m),
                _ => elect(d, i),
            }
        }
    }
}

fn shuffle<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let modes = [("up", ShflMode::Up), ("down", ShflMode::Down), ("bfly", ShflMode::Bfly), ("idx", ShflMode::Idx)];
    let Some(mode) = m.choose(&modes) else {
        return d.unknown("this mode of `shfl`");
    };
    d.need(m.take("b32"), i, "b32")?;
    let [to, a, b, c, members] = exactly(i)?;
    let (a, b) = (d.source(a, Ty::U32)?, d.source(b, Ty::U32)?);
    let (c, members) = (d.source(c, Ty::U32)?, d.source(members, Ty::U32)?);
    let (to, p) = d.dest_and_pred(to, Ty::U32)?;
    d.emit(Op::Shfl { mode, d: to, p, a, b, c, members })
}

fn vote<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let [to, a, members] = exactly(i)?;
    let members = d.source(members, Ty::U32)?;
    let a = d.condition(a)?;
    if m.take("ballot") {
        d.need(m.take("b32"), i, "b32")?;
        let to = d.dest(to, Ty::U32)?;
        return d.emit(Op::Ballot { d: to, a, members });
    }
    let Some(mode) = m.choose(&[("all", VoteMode::All), ("any", VoteMode::Any), ("uni", VoteMode::Uni)]) else {
        return d.unknown("this mode of `vote`");
    };
    d.need(m.take("pred"), i, "pred")?;
    let to = d.pred_dest_of(to)?;
    d.emit(Op::Vote { mode, d: to, a, members })
}

fn matching<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let all = m.take("all");
    if !all {
        d.need(m.take("any"), i, "any")?;
    }
    let ty = d.need_type(i, m)?;
    if !matches!(ty, Ty::U32 | Ty::U64) {
        return d.unknown("`match` of this type");
    }
    let [to, a, members] = exactly(i)?;
    let (a, members) = (d.source(a, ty)?, d.source(members, Ty::U32)?);
    let (to, p) = d.dest_and_pred(to, Ty::U32)?;
    if p.is_some() && !all {
        return d.syntax("`match.any` has no predicate");
    }
    d.emit(Op::Match { all, wide: ty.is_wide(), d: to, p, a, members })
}

fn reduce<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let operations = [
        ("add", ReduxOp::Add),
        ("min", ReduxOp::Min),
        ("max", ReduxOp::Max),
        ("and", ReduxOp::And),
        ("or", ReduxOp::Or),
        ("xor", ReduxOp::Xor),
    ];
    let Some(op) = m.choose(&operations) else {
        return d.unknown("this operation of `redux`");
    };
    let ty = d.need_type(i, m)?;
    if !matches!(ty, Ty::U32 | Ty::S32) {
        return d.unknown("`redux` of this type");
    }
    let [to, a, members] = exactly(i)?;
    let (a, members) = (d.source(a, ty)?, d.source(members, Ty::U32)?);
    let to = d.dest(to, ty)?;
    d.emit(Op::Redux { op, ty, d: to, a, members })
}

fn elect<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>) -> Result<()> {
    let [to, members] = exactly(i)?;
    let Operand::Pair(lane, p) = to else {
        return d.syntax("`elect.sync` has a register and a predicate");
    };
    let members = d.source(members, Ty::U32)?;
    let lane = Operand::Value(crate::ptx::ast::Value::Name(lane, 0));
    let lane = d.dest_or_sink(&lane, Ty::U32)?;
    let p = d.pred_dest(p)?;
    d.emit(Op::Elect { d: lane, p, members })
}

/// `bar` is `barrier.aligned`.
fn barrier<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    m.take("cta");
    let aligned = m.take("aligned") || i.opcode == "bar";
    if m.take("sync") {
        let kind = if aligned { BarrierKind::Sync } else { BarrierKind::SyncUnaligned };
        let (id, threads) = match i.operands.as_slice() {
            [id] => (d.source(id, Ty::U32)?, None),
            [id, threads] => (d.source(id, Ty::U32)?, Some(d.source(threads, Ty::U32)?)),
            _ => return Err(count_error(i, "1 or 2")),
        };
        return d.emit(Op::Barrier { kind, id, threads, d: None, p: None, a: None });
    }
    if m.take("arrive") {
        let kind = if aligned { BarrierKind::Arrive } else { BarrierKind::ArriveUnaligned };
        let [id, threads] = exactly(i)?;
        let (id, threads) = (d.source(id, Ty::U32)?, d.source(threads, Ty::U32)?);
        return d.emit(Op::Barrier { kind, id, threads: Some(threads), d: None, p: None, a: None });
    }
    d.need(m.take("red"), i, "sync")?;
    if !aligned {
        return d.unknown("`barrier.red` without `.aligned`");
    }
    reducing_barrier(d, i, m)
}

fn reducing_barrier<'a>(d: &mut Decoder<'_, 'a>, i: &Instruction<'a>, m: &mut Modifiers<'_>) -> Result<()> {
    let kinds = [("popc", BarrierKind::RedPopc), ("and", BarrierKind::RedAnd), ("or", BarrierKind::RedOr)];
    let Some(kind) = m.choose(&kinds) else {
        return d.unknown("this reduction of a barrier");
    };
    let name = if kind == BarrierKind::RedPopc { "u32" } else { "pred" };
    d.need(m.take(name), i, name)?;
    let (to, id, threads, a) = match i.operands.as_slice() {
        [to, id, a] => (to, id, None, a),
        [to, id, threads, a] => (to, id, Some(threads), a),
        _ => return Err(count_error(i, "3 or 4")),
    };
    let id = d.source(id, Ty::U32)?;
    let threads: Option<Slot> = match threads {
        Some(threads) => Some(d.source(threads, Ty::U32)?),
        None => None,
    };
    let a = Some(d.condition(a)?);
    if kind == BarrierKind::RedPopc {
        let to = if is_sink(to) { None } else { Some(d.dest(to, Ty::U32)?) };
        return d.emit(Op::Barrier { kind, id, threads, d: to, p: None, a });
    }
    let p = Some(d.pred_dest_of(to)?);
    d.emit(Op::Barrier { kind, id, threads, d: None, p, a })
}
