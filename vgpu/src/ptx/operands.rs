//! The slots and predicates of an operation: what is decoded with numbers of its own operands gets its places at the end.

use crate::ir::{Address, Condition, MbarrierOp, Op, Pred, Slot, WaitPhase, WgmmaA};

/// Calls `slot` and `pred` for every one in `op`.
pub fn visit(op: &mut Op, slot: &mut impl FnMut(&mut Slot), pred: &mut impl FnMut(&mut Pred)) {
    match op {
        Op::Mov { d, a, .. }
        | Op::Un { d, a, .. }
        | Op::Cvt { d, a, .. }
        | Op::Cvta { d, a, .. }
        | Op::Movmatrix { d, a } => [d, a].into_iter().for_each(slot),
        Op::Special { d, .. } | Op::ActiveMask { d } => slot(d),
        Op::Pack16x2 { d, parts } | Op::Pack32x2 { d, parts } | Op::Pack8x2 { d, parts } => {
            slot(d);
            parts.iter_mut().for_each(slot);
        }
        Op::Pack16x4 { d, parts } => {
            slot(d);
            parts.iter_mut().for_each(slot);
        }
        Op::Unpack16x2 { d, a } | Op::Unpack32x2 { d, a } | Op::Unpack8x2 { d, a } => {
            d.iter_mut().flatten().for_each(&mut *slot);
            slot(a);
        }
        Op::Unpack16x4 { d, a } => {
            d.iter_mut().flatten().for_each(&mut *slot);
            slot(a);
        }
        Op::Bin { d, a, b, .. } | Op::CvtPack { d, a, b, .. } | Op::AddCarry { d, a, b, .. } => {
            [d, a, b].into_iter().for_each(slot);
        }
        Op::Tern { d, a, b, c, .. }
        | Op::Lop3 { d, a, b, c, .. }
        | Op::PrmtMode { d, a, b, c, .. }
        | Op::MadCarry { d, a, b, c, .. } => [d, a, b, c].into_iter().for_each(slot),
        Op::Bfi { d, a, b, position, length, .. } => [d, a, b, position, length].into_iter().for_each(slot),
        Op::Setp { combine, p, q, a, b, .. } => {
            [a, b].into_iter().for_each(slot);
            pred(p);
            q.iter_mut().for_each(&mut *pred);
            combine_pred(combine, pred);
        }
        Op::Setp2 { p, q, a, b, .. } => {
            [a, b].into_iter().for_each(slot);
            [p, q].into_iter().for_each(pred);
        }
        Op::Set { combine, d, a, b, .. } => {
            [d, a, b].into_iter().for_each(slot);
            combine_pred(combine, pred);
        }
        Op::Selp { d, a, b, p, .. } => {
            [d, a, b].into_iter().for_each(slot);
            pred(&mut p.pred);
        }
        Op::PredLogic { d, a, b, .. } => [d, &mut a.pred, &mut b.pred].into_iter().for_each(pred),
        Op::PredMov { d, a } => [d, &mut a.pred].into_iter().for_each(pred),
        Op::PredConst { d, .. } => pred(d),
        Op::Ld { d, a, .. } => {
            d.iter_mut().flatten().for_each(&mut *slot);
            address(a, slot);
        }
        Op::St { a, b, .. } => {
            address(a, slot);
            b.iter_mut().for_each(slot);
        }
        Op::Atom { d, a, b, c, .. } => {
            d.iter_mut().for_each(&mut *slot);
            address(a, slot);
            slot(b);
            c.iter_mut().for_each(slot);
        }
        Op::Isspacep { p, a, .. } => {
            pred(p);
            slot(a);
        }
        Op::CpAsync { dst, src, src_size, ignore_src, .. } => {
            address(dst, slot);
            address(src, slot);
            src_size.iter_mut().for_each(slot);
            ignore_src.iter_mut().for_each(|condition| pred(&mut condition.pred));
        }
        Op::Ldmatrix { d, a, .. } => {
            d.iter_mut().for_each(&mut *slot);
            address(a, slot);
        }
        Op::Stmatrix { a, b, .. } => {
            address(a, slot);
            b.iter_mut().for_each(slot);
        }
        Op::Mma(mma) => {
            for slots in [&mut mma.d, &mut mma.a, &mut mma.b, &mut mma.c] {
                slots.iter_mut().for_each(&mut *slot);
            }
        }
        Op::Shfl { d, p, a, b, c, members, .. } => {
            [d, a, b, c, members].into_iter().for_each(slot);
            p.iter_mut().for_each(pred);
        }
        Op::Vote { d, a, members, .. } => {
            slot(members);
            [d, &mut a.pred].into_iter().for_each(pred);
        }
        Op::Ballot { d, a, members } => {
            [d, members].into_iter().for_each(slot);
            pred(&mut a.pred);
        }
        Op::Match { d, p, a, members, .. } => {
            [d, a, members].into_iter().for_each(slot);
            p.iter_mut().for_each(pred);
        }
        Op::Redux { d, a, members, .. } => [d, a, members].into_iter().for_each(slot),
        Op::Elect { d, p, members } => {
            d.iter_mut().for_each(&mut *slot);
            slot(members);
            pred(p);
        }
        Op::Barrier { id, threads, d, p, a, .. } => {
            slot(id);
            threads.iter_mut().for_each(&mut *slot);
            d.iter_mut().for_each(slot);
            p.iter_mut().for_each(&mut *pred);
            a.iter_mut().for_each(|condition| pred(&mut condition.pred));
        }
        Op::BarWarp { members } => slot(members),
        Op::Brx { a, .. } => slot(a),
        Op::Mbarrier(m) => {
            address(&mut m.a, slot);
            match &mut m.op {
                MbarrierOp::Init { count: x }
                | MbarrierOp::ExpectTx { bytes: x }
                | MbarrierOp::CompleteTx { bytes: x } => {
                    slot(x);
                }
                MbarrierOp::Arrive { state, count, expect, .. } => {
                    [state, count, expect].into_iter().flatten().for_each(slot);
                }
                MbarrierOp::Test { p, phase: WaitPhase::State(x) | WaitPhase::Parity(x), .. } => {
                    slot(x);
                    pred(p);
                }
                MbarrierOp::PendingCount { d, state } => [d, state].into_iter().for_each(slot),
                MbarrierOp::Inval | MbarrierOp::AfterCopies { .. } => {}
            }
        }
        Op::Bulk(bulk) => {
            for a in [&mut bulk.shared, &mut bulk.mbarrier].into_iter().flatten() {
                address(&mut a.1, slot);
            }
            address(&mut bulk.other, slot);
            [&mut bulk.bytes, &mut bulk.multicast].into_iter().flatten().for_each(&mut *slot);
            if let Some(tile) = &mut bulk.tensor {
                tile.coordinates.iter_mut().for_each(&mut *slot);
                tile.im2col.iter_mut().flatten().for_each(slot);
            }
        }
        Op::PrefetchMap { a, .. } => address(a, slot),
        Op::Wgmma(w) => {
            w.d.iter_mut().chain(&mut w.c).for_each(&mut *slot);
            match &mut w.a {
                WgmmaA::Shared(a) => slot(a),
                WgmmaA::Registers(a) => a.iter_mut().for_each(&mut *slot),
            }
            slot(&mut w.b);
            pred(&mut w.add.pred);
        }
        Op::Mapa { d, a, rank, .. } => [d, a, rank].into_iter().for_each(slot),
        Op::GetCtaRank { d, a, .. } => [d, a].into_iter().for_each(slot),
        Op::StAsync { a, b, mbarrier, .. } => {
            address(a, slot);
            b.iter_mut().for_each(&mut *slot);
            address(mbarrier, slot);
        }
        Op::Printf { d, format, arguments } => {
            d.iter_mut().for_each(&mut *slot);
            [format, arguments].into_iter().for_each(slot);
        }
        Op::AssertFail { message, file, line, function } => {
            [message, file, line, function].into_iter().for_each(slot);
        }
        Op::BulkCommit
        | Op::BulkWait { .. }
        | Op::WgmmaFence
        | Op::WgmmaCommit
        | Op::WgmmaWait { .. }
        | Op::ProxyFence(_)
        | Op::ClusterBarrier(_)
        | Op::MaxRegisters { .. }
        | Op::GridDependency(_)
        | Op::CpAsyncCommit
        | Op::CpAsyncWait { .. }
        | Op::CpAsyncWaitAll
        | Op::Fence { .. }
        | Op::Bra { .. }
        | Op::Exit
        | Op::Trap
        | Op::Nop => {}
    }
}

fn address(a: &mut Address, slot: &mut impl FnMut(&mut Slot)) {
    a.base.iter_mut().for_each(slot);
}

fn combine_pred(combine: &mut Option<(crate::ir::Logic, Condition)>, pred: &mut impl FnMut(&mut Pred)) {
    if let Some((_, condition)) = combine {
        pred(&mut condition.pred);
    }
}

/// Whether a destination may be the slot or predicate of a source that dies here: the rule in [`crate::ir`].
pub fn may_alias(op: &Op) -> bool {
    match op {
        Op::Mov { wide, .. } => !wide,
        Op::Un { ty, .. } => !ty.is_wide(),
        Op::Bin { op, ty, .. } => !ty.is_wide() && *op != crate::ir::BinOp::MulWide,
        Op::Cvt { to, from, .. } => !to.is_wide() && !from.is_wide(),
        Op::Setp { q, .. } => q.is_none(),
        Op::PredLogic { .. } | Op::PredMov { .. } => true,
        _ => false,
    }
}
