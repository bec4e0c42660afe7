//! `bar` and `barrier`: a warp arrives at a barrier of its block.

use super::barrier::{Arrival, BARRIERS};
use super::block::{Cta, Env};
use super::control;
use super::registers::{ALL, Registers};
use super::run::{Flow, Step, exit_at_once, no_such};
use super::warp::{AtBarrier, Group, Warp};
use crate::fault::{BadAccess, Check};
use crate::ir::{BarrierKind, Inst, Op};

/// Barriers of the block. Aligned ones take all lanes of the warp that are not done.
pub(super) fn arrive(
    env: &Env<'_>,
    cta: &mut Cta<'_>,
    warp: &mut Warp<'_>,
    inst: &Inst,
    pc: u32,
    lanes: u32,
    active: u32,
) -> Step {
    let Op::Barrier { kind, id, threads, a, .. } = &inst.op else { return Err(no_such(inst)) };
    let aligned = !matches!(kind, BarrierKind::SyncUnaligned | BarrierKind::ArriveUnaligned);
    let mut cohort = active;
    if aligned {
        if active | warp.waiting_at(pc) != warp.live {
            exit_at_once(env, cta, warp)?;
        }
        cohort |= warp.waiting_at(pc);
        if warp.exited_early != 0 {
            let detail = format!("a barrier of a warp whose lanes {:#010x} ended elsewhere", warp.exited_early);
            return Err(Box::new(BadAccess {
                check: Check::Barrier,
                lanes: cohort,
                address: None,
                detail,
                other: None,
            }));
        }
        if cohort != warp.live {
            warp.wait(Group { pc, lanes: active, busy: true });
            return Ok(Flow::Only(lanes & !active));
        }
        warp.stop_waiting(pc, cohort);
    }
    let r: &Registers<'_> = &warp.registers;
    let number = control::uniform(r, cohort, *id)?;
    let expected = threads.map(|slot| control::uniform(r, cohort, slot)).transpose()?;
    let bad = |detail: String| {
        Err(Box::new(BadAccess { check: Check::Barrier, lanes: cohort, address: None, detail, other: None }))
    };
    if number as usize >= BARRIERS {
        return bad(format!("barrier {number}: a block has {BARRIERS}"));
    }
    if let Some(n) = expected
        && (n == 0 || n % 32 != 0)
    {
        return bad(format!("a barrier for {n} threads: it must be a multiple of 32"));
    }
    let holds = a.map(|c| r.condition(c, cohort)).transpose()?.unwrap_or(0);
    let arrival = Arrival { warp: warp.index, lanes: cohort, kind: *kind, expected, holds };
    cta.barriers[number as usize].arrive(&arrival)?;
    cta.touched |= 1 << number;
    let rest = lanes & !active;
    if matches!(kind, BarrierKind::Arrive | BarrierKind::ArriveUnaligned) {
        return Ok(Flow::Only(rest | cohort));
    }
    warp.at_barrier.push(AtBarrier { id: number, group: Group { pc, lanes: cohort, busy: true } });
    Ok(Flow::Only(rest))
}

/// A barrier that reduces completed: its result in the lanes that waited.
pub(super) fn finish_reduction(env: &Env<'_>, warp: &mut Warp<'_>, group: Group, holds: u32, threads: u32) {
    let Some(Inst { op: Op::Barrier { kind, d, p, .. }, .. }) = env.launch.kernel.code.get(group.pc as usize) else {
        return;
    };
    let truth = match kind {
        BarrierKind::RedAnd => holds == threads,
        _ => holds != 0,
    };
    if let Some(d) = d {
        warp.registers.put(*d, group.lanes, &[holds; 32]);
    }
    if let Some(p) = p {
        warp.registers.put_pred(*p, group.lanes, if truth { ALL } else { 0 });
    }
}
