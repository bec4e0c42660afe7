//! What lanes of a warp do together: rendezvous of `.sync` operations, shuffles, votes, matches, reductions.

use super::registers::{Done, Registers, halves};
use super::warp::{Group, Warp};
use crate::fault::{BadAccess, Check};
use crate::ir::{ReduxOp, ShflMode, Slot, Ty};

pub(super) fn membership(lanes: u32, detail: String) -> Box<BadAccess> {
    Box::new(BadAccess { check: Check::Membership, lanes, address: None, detail, other: None })
}

/// Lanes that execute a `.sync` operation together now, and the members they named.
#[derive(Clone, Copy)]
pub(super) struct Cohort {
    pub lanes: u32,
    pub members: u32,
}

/// The lanes of `active` arrive at `pc`. Those whose members are all there are returned, cohort by cohort; the others wait.
pub(super) fn rendezvous(
    warp: &mut Warp<'_>,
    pc: u32,
    active: u32,
    members: Slot,
    mut act: impl FnMut(&mut Registers<'_>, Cohort) -> Done,
) -> Result<u32, Box<BadAccess>> {
    warp.registers.check(members, active)?;
    if members.is_constant() {
        let mask = warp.registers.narrow(members)[0];
        if mask & (warp.live | warp.exited_early) == active && active & !mask == 0 {
            act(&mut warp.registers, Cohort { lanes: active, members: mask })?;
            return Ok(active);
        }
    }
    let named = *warp.registers.narrow(members);
    let mut arrived = active | warp.waiting_at(pc);
    let outside = lanes_where(active, |l| named[l] >> l & 1 == 0);
    if outside != 0 {
        return Err(membership(outside, "a lane executes an operation whose member mask leaves it out".to_string()));
    }
    let mut gone = 0;
    while arrived != 0 {
        let mask = named[arrived.trailing_zeros() as usize];
        let cohort = lanes_where(arrived, |l| named[l] == mask);
        if mask & warp.exited_early != 0 {
            let detail = format!("lanes wait for members {:#010x} that ended elsewhere", mask & warp.exited_early);
            return Err(membership(cohort, detail));
        }
        if mask & warp.live & !cohort == 0 {
            act(&mut warp.registers, Cohort { lanes: cohort, members: mask })?;
            gone |= cohort;
        }
        arrived &= !cohort;
    }
    if gone & !active != 0 {
        warp.stop_waiting(pc, gone);
    }
    if active & !gone != 0 {
        warp.wait(Group { pc, lanes: active & !gone, busy: true });
    }
    Ok(gone)
}

fn lanes_where(lanes: u32, test: impl Fn(usize) -> bool) -> u32 {
    let mut found = 0;
    for l in 0..32 {
        found |= (test(l) as u32) << l;
    }
    found & lanes
}

/// The slots of a shuffle: d, a, b, c.
pub(super) fn shuffle(
    r: &mut Registers<'_>,
    cohort: Cohort,
    mode: ShflMode,
    [d, a, b, c]: [Slot; 4],
) -> Result<u32, Box<BadAccess>> {
    r.check(b, cohort.lanes)?;
    r.check(c, cohort.lanes)?;
    let (values, undef) = (r.narrow(a), r.undefined(a));
    let (by, clamps) = (r.narrow(b), r.narrow(c));
    // Per lane: the lane it asks for, and whether that lies inside of its segment.
    let ask = |f: fn(u32, u32, u32, u32) -> (u32, bool)| {
        let (mut source, mut inside) = ([0u32; 32], [0u32; 32]);
        for l in 0..32 {
            let lane = l as u32;
            let segment = clamps[l] >> 8 & 31;
            let last = (lane & segment) | (clamps[l] & 31 & !segment);
            let (asked, valid) = f(lane, by[l] & 31, segment, last);
            source[l] = if valid { asked } else { lane } & 31;
            inside[l] = (valid as u32) << l;
        }
        (source, inside.iter().fold(0, |all, bit| all | bit))
    };
    let (source, inside) = match mode {
        ShflMode::Up => ask(|l, step, _, last| (l.wrapping_sub(step), l as i32 - step as i32 >= last as i32)),
        ShflMode::Down => ask(|l, step, _, last| (l + step, l + step <= last)),
        ShflMode::Bfly => ask(|l, step, _, last| (l ^ step, l ^ step <= last)),
        ShflMode::Idx => ask(|l, step, segment, last| {
            let asked = (l & segment) | (step & !segment);
            (asked, asked <= last)
        }),
    };
    let out = source.map(|l| values[l as usize & 31]);
    let (mut from_undef, mut absent) = (0, 0);
    if undef != 0 || cohort.lanes != u32::MAX {
        for (l, &source) in source.iter().enumerate() {
            absent |= (cohort.lanes >> source & 1 ^ 1) << l;
            from_undef |= (undef >> source & 1) << l | (undef >> (source + 32) & 1) << (l + 32);
        }
        absent &= cohort.lanes;
    }
    if absent != 0 {
        let detail = "a shuffle reads a lane that does not take part".to_string();
        return Err(membership(absent, detail));
    }
    r.put_partly(d, cohort.lanes, &out, from_undef);
    Ok(inside)
}

pub(super) fn redux(r: &mut Registers<'_>, cohort: Cohort, op: ReduxOp, ty: Ty, [d, a]: [Slot; 2]) -> Done {
    r.check(a, cohort.lanes)?;
    let x = r.narrow(a);
    let values = (0..32).filter(|&l| cohort.lanes >> l & 1 == 1).map(|l| x[l]);
    let signed = ty == Ty::S32;
    let pick = |a: u32, b: u32, largest: bool| {
        let less = if signed { (a as i32) < b as i32 } else { a < b };
        if less != largest { a } else { b }
    };
    let result = values.reduce(|a, b| match op {
        ReduxOp::Add => a.wrapping_add(b),
        ReduxOp::Min => pick(a, b, false),
        ReduxOp::Max => pick(a, b, true),
        ReduxOp::And => a & b,
        ReduxOp::Or => a | b,
        ReduxOp::Xor => a ^ b,
    });
    r.put(d, cohort.lanes, &[result.unwrap_or(0); 32]);
    Ok(())
}

/// `match`: for each lane the lanes of the cohort with its value, or (`all`) the whole cohort if all are equal. Returns the
/// predicate of `all`.
pub(super) fn matching(
    r: &mut Registers<'_>,
    cohort: Cohort,
    all: bool,
    wide: bool,
    [d, a]: [Slot; 2],
) -> Result<u32, Box<BadAccess>> {
    let values: [u64; 32] = if wide {
        r.check_wide(a, cohort.lanes)?;
        *r.wide(a)
    } else {
        r.check(a, cohort.lanes)?;
        r.narrow(a).map(u64::from)
    };
    let same = |l: usize| lanes_where(cohort.lanes, |m| values[m] == values[l]);
    if all {
        let equal = same(cohort.lanes.trailing_zeros() as usize & 31) == cohort.lanes;
        let value = if equal { cohort.members & cohort.lanes } else { 0 };
        r.put(d, cohort.lanes, &[value; 32]);
        return Ok(if equal { cohort.lanes } else { 0 });
    }
    let out = std::array::from_fn(same);
    r.put(d, cohort.lanes, &out);
    Ok(0)
}

/// A value that must be the same in all lanes of an instruction.
pub(super) fn uniform(r: &Registers<'_>, active: u32, slot: Slot) -> Result<u32, Box<BadAccess>> {
    r.check(slot, active)?;
    let x = r.narrow(slot);
    let value = x[active.trailing_zeros() as usize & 31];
    let unlike = lanes_where(active, |l| x[l] != value);
    if unlike != 0 {
        let detail = "an operand of a barrier differs between the lanes".to_string();
        return Err(Box::new(BadAccess { check: Check::Barrier, lanes: unlike, address: None, detail, other: None }));
    }
    Ok(value)
}

/// Halves of parts packed into a slot: what is undefined of a 16-bit part is undefined of its half.
pub(super) fn pack_halves(r: &mut Registers<'_>, active: u32, d: Slot, [low, high]: [Slot; 2]) {
    let (x, y) = (r.narrow(low), r.narrow(high));
    let mut out = [0; 32];
    for l in 0..32 {
        out[l] = (x[l] & 0xffff) | y[l] << 16;
    }
    let undef = (r.undefined(low) as u32) as u64 | r.undefined(high) << 32;
    r.put_partly(d, active, &out, undef);
}

pub(super) fn unpack_halves(r: &mut Registers<'_>, active: u32, d: [Option<Slot>; 2], a: Slot) {
    let x = *r.narrow(a);
    let undef = r.undefined(a);
    if let Some(low) = d[0] {
        r.put_partly(low, active, &x.map(|x| x & 0xffff), halves(undef as u32));
    }
    if let Some(high) = d[1] {
        r.put_partly(high, active, &x.map(|x| x >> 16), halves((undef >> 32) as u32));
    }
}
