//! Runs a warp: picks a group of lanes, executes instruction after instruction until it waits, ends, or meets others.

use super::approx::{Jitter, mix};
use super::block::{Cta, Env};
use super::cluster::Moved;
use super::compare;
use super::control::{self, Cohort, rendezvous};
use super::memory::{self, Access, Atomic, Copy};
use super::registers::{ALL, Done, Registers};
use super::warp::{Group, Warp};
use super::{
    alu, block_barrier, bulk, cluster, convert, dependency, float, half, mbarrier, mma, print, remote, special, tensor,
    trace, wgmma, windows,
};
use crate::fault::{BadAccess, Check};
use crate::ir::{Inst, Op, ProxyFence, Scope, Slot, Ty, VoteMode};

/// What went wrong, at which instruction.
pub(super) struct LocatedFault {
    pub pc: u32,
    pub bad: Box<BadAccess>,
}

/// Where the lanes of an instruction go.
pub(super) enum Flow {
    /// All to the next one.
    Next,
    /// All there.
    Jump(u32),
    /// These to the next one; the others wait or ended, or were sent elsewhere.
    Only(u32),
    /// All to the next one, once others had their turn: what they look for is not there.
    Yield,
    /// Something is wrong with another instruction, at which lanes wait.
    Fails(LocatedFault),
}

pub(super) type Step = Result<Flow, Box<BadAccess>>;

/// Instructions that one of several groups runs before another gets its turn, in case it spins for them.
const PATIENCE: u64 = 4_000;

/// Until nothing of the warp can go on, or about `budget` instructions. How it ended.
pub(super) fn run(env: &Env<'_>, cta: &mut Cta<'_>, warp: &mut Warp<'_>, budget: u64) -> Result<Moved, LocatedFault> {
    let end = cta.issued.saturating_add(budget);
    let mut others = false;
    while cta.issued < end {
        let Some(group) = warp.take(cta.seed, others) else { return Ok(Moved::Yes) };
        let alone = warp.ready.is_empty();
        let limit = if alone { end } else { end.min(cta.issued + PATIENCE) };
        let in_order = cta.seed == 0 && !others;
        let left = run_group(env, cta, warp, group, in_order, limit)?;
        others = in_order && !alone && cta.issued >= limit && left.lanes != 0;
        warp.join(left);
        if std::mem::take(&mut warp.yields) {
            return Ok(Moved::Asked);
        }
    }
    Ok(if warp.ready.is_empty() { Moved::Yes } else { Moved::Spun })
}

/// Runs the group until it stands where another is (`in_order`: or beyond), is split, vanishes, or `limit` is reached.
/// Returns where it is then.
fn run_group(
    env: &Env<'_>,
    cta: &mut Cta<'_>,
    warp: &mut Warp<'_>,
    group: Group,
    in_order: bool,
    limit: u64,
) -> Result<Group, LocatedFault> {
    let code = &env.launch.kernel.code[..];
    let Group { mut pc, lanes, mut busy } = group;
    let trace = env.options.trace && cta.linear == 0 && warp.index == 0;
    let (is_watching, depends) = (cta.wgmma.is_watching(), cta.dependency.depends);
    while cta.issued < limit {
        let Some(inst) = code.get(pc as usize) else {
            // Past the last instruction: as if it ended with `exit`.
            exit(env, cta, warp, pc, lanes, busy)?;
            return Ok(Group { pc, lanes: 0, busy });
        };
        cta.issued += 1;
        cta.hits[pc as usize] += 1;
        cta.shared.at(pc);
        if depends {
            // A wait for a barrier may have told the warp of another's griddepcontrol.wait.
            cta.global.set_early(cta.is_early(warp.index));
        }
        let active = match inst.guard {
            None => lanes,
            Some(guard) => warp.registers.condition(guard, lanes).map_err(|bad| LocatedFault { pc, bad })?,
        };
        cta.counts.active_lanes += active.count_ones() as u64;
        if is_watching && active != 0 {
            wgmma::touch(env, cta, warp.index, pc).map_err(|bad| LocatedFault { pc, bad })?;
        }
        let flow = if active == 0 {
            Flow::Next
        } else {
            execute(env, cta, warp, inst, Group { pc, lanes, busy }, active).map_err(|bad| LocatedFault { pc, bad })?
        };
        if trace {
            trace::print(&warp.registers, inst, pc, active);
        }
        match flow {
            Flow::Next => {
                pc += 1;
                busy = true;
            }
            Flow::Jump(target) => {
                if active == lanes {
                    pc = target;
                } else {
                    warp.join(Group { pc: target, lanes: active, busy: false });
                    return Ok(Group { pc: pc + 1, lanes: lanes & !active, busy: false });
                }
            }
            Flow::Only(rest) => {
                pc += 1;
                if rest != lanes {
                    return Ok(Group { pc, lanes: rest, busy });
                }
                busy = true;
            }
            Flow::Yield => {
                warp.yields = true;
                return Ok(Group { pc: pc + 1, lanes, busy: true });
            }
            Flow::Fails(located) => return Err(located),
        }
        if let Some(next) = warp.ready.first()
            && meets(in_order, warp, next.pc, pc)
        {
            break;
        }
    }
    Ok(Group { pc, lanes, busy })
}

/// Whether a group at `pc` joins another or, in order, must let it go first.
fn meets(in_order: bool, warp: &Warp<'_>, lowest: u32, pc: u32) -> bool {
    if in_order { pc >= lowest } else { warp.ready.iter().any(|g| g.pc == pc) }
}

/// The lanes end. `exited_early`: they parted from others of the warp and did something before, so that those which wait for
/// them do so in vain.
fn exit(
    env: &Env<'_>,
    cta: &mut Cta<'_>,
    warp: &mut Warp<'_>,
    pc: u32,
    lanes: u32,
    exited_early: bool,
) -> Result<(), LocatedFault> {
    cta.finish_arrivals(warp.index, lanes).map_err(|bad| LocatedFault { pc, bad })?;
    cta.shared.exit(warp.index, lanes).map_err(|bad| LocatedFault { pc, bad: Box::new(bad) })?;
    cta.end_bulk(warp.index, lanes).map_err(|bad| LocatedFault { pc, bad })?;
    wgmma::end(cta, warp.index, lanes, lanes == warp.live).map_err(|bad| LocatedFault { pc, bad })?;
    let exited_early = exited_early && lanes != warp.live;
    warp.live &= !lanes;
    if !exited_early {
        warp.retry_waiting();
        return Ok(());
    }
    warp.exited_early |= lanes;
    for group in &warp.waiting {
        let Some(inst) = env.launch.kernel.code.get(group.pc as usize) else { continue };
        if awaited(&warp.registers, &inst.op, group.lanes) & lanes == 0 {
            continue;
        }
        let check = if matches!(inst.op, Op::Barrier { .. }) { Check::Barrier } else { Check::Membership };
        let detail = format!("these lanes wait for lanes {lanes:#010x} of their warp, which ended elsewhere");
        let bad = Box::new(BadAccess { check, lanes: group.lanes, address: None, detail, other: None });
        return Err(LocatedFault { pc: group.pc, bad });
    }
    Ok(())
}

/// Whom `lanes` wait for at a `.sync` operation.
fn awaited(r: &Registers<'_>, op: &Op, lanes: u32) -> u32 {
    match op {
        Op::Shfl { members, .. }
        | Op::Vote { members, .. }
        | Op::Ballot { members, .. }
        | Op::Match { members, .. }
        | Op::Redux { members, .. }
        | Op::Elect { members, .. }
        | Op::BarWarp { members } => {
            let named = r.narrow(*members);
            (0..32).filter(|&l| lanes >> l & 1 == 1).fold(0, |all, l| all | named[l])
        }
        _ => ALL,
    }
}

fn jitter(env: &Env<'_>, cta: &Cta<'_>, warp: usize, pc: u32) -> Jitter {
    let on = env.options.jitter;
    let seed = if on { mix(mix(cta.linear) ^ (pc as u64) << 16 ^ warp as u64) >> 8 } else { 0 };
    Jitter { on, seed }
}

/// The decoder let something pass that has no meaning here.
#[cold]
pub(super) fn no_such(inst: &Inst) -> Box<BadAccess> {
    let detail = format!("the virtual GPU has no such operation: {:?}", inst.op);
    Box::new(BadAccess { check: Check::Trap, lanes: ALL, address: None, detail, other: None })
}

#[inline(always)]
fn execute(env: &Env<'_>, cta: &mut Cta<'_>, warp: &mut Warp<'_>, inst: &Inst, group: Group, active: u32) -> Step {
    let Group { pc, lanes, .. } = group;
    let index = warp.index;
    let r = &mut warp.registers;
    match &inst.op {
        Op::Bra { target } => return Ok(Flow::Jump(*target)),
        Op::Mov { wide: false, d, a } => r.copy(*d, *a, active),
        Op::Mov { wide: true, d, a } => r.copy_wide(*d, *a, active),
        Op::Bin { op, ty, mode, d, a, b } => {
            let s = [*d, *a, *b];
            let done = match ty {
                Ty::F32 => float::binary(r, active, *op, *mode, s, jitter(env, cta, index, pc)),
                Ty::F64 => float::binary64(r, active, *op, *mode, s),
                Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2 => half::binary(r, active, *op, *ty, *mode, s),
                _ => alu::binary(r, active, *op, *ty, s),
            };
            done.ok_or_else(|| no_such(inst))??;
        }
        Op::Tern { op, ty, mode, d, a, b, c } => {
            let s = [*d, *a, *b, *c];
            let done = match ty {
                Ty::F32 if !is_select(*op) => float::ternary(r, active, *op, *mode, s),
                Ty::F64 if !is_select(*op) => float::ternary64(r, active, *op, *mode, s),
                Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2 => half::ternary(r, active, *op, *ty, *mode, s),
                _ => alu::ternary(r, active, *op, *ty, s),
            };
            done.ok_or_else(|| no_such(inst))??;
        }
        Op::Un { op, ty, mode, d, a } => {
            let s = [*d, *a];
            let done = match ty {
                Ty::F32 => float::unary(r, active, *op, *mode, s, jitter(env, cta, index, pc)),
                Ty::F64 => float::unary64(r, active, *op, *mode, s),
                Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2 => {
                    half::unary(r, active, *op, *ty, *mode, s, jitter(env, cta, index, pc))
                }
                _ => alu::unary(r, active, *op, *ty, s),
            };
            done.ok_or_else(|| no_such(inst))??;
        }
        Op::Setp { cmp, ty, ftz, combine, p, q, a, b } => {
            let bits = compare::compare(r, active, *cmp, *ty, *ftz, *a, *b)?;
            let (bits, other) = compare::combined(r, active, bits, *combine)?;
            r.put_pred(*p, active, bits);
            if let Some(q) = q {
                r.put_pred(*q, active, other);
            }
        }
        Op::Ld { space, order, ty, d, a } => {
            let access = Access { space: *space, order: *order, ty: *ty };
            memory::load(env, cta, warp, active, access, d, *a)?;
        }
        Op::St { space, order, ty, a, b } => {
            let access = Access { space: *space, order: *order, ty: *ty };
            memory::store(cta, warp, active, access, *a, b)?;
        }
        Op::Cvt { to, from, mode, d, a } => convert::convert(r, active, *to, *from, *mode, [*d, *a])?,
        Op::CvtPack { to, mode, d, a, b } => convert::pack(r, active, *to, *mode, [*d, *a, *b])?,
        Op::Selp { wide, d, a, b, p } => compare::select(r, active, *wide, [*d, *a, *b], *p)?,
        Op::Lop3 { d, a, b, c, table } => alu::lop3(r, active, *table, [*d, *a, *b, *c])?,
        Op::Mma(m) => {
            return whole_warp(warp, pc, lanes, active, |warp| {
                cta.counts.mma_flop += mma::flop(m.kind);
                mma::multiply(&mut warp.registers, m, env.options.tensor, env.profile)
            });
        }
        Op::Ldmatrix { transpose, d, a } => {
            return whole_warp(warp, pc, lanes, active, |warp| memory::load_matrix(cta, warp, *transpose, d, *a));
        }
        _ => return rarely(env, cta, warp, inst, group, active),
    }
    Ok(Flow::Next)
}

fn is_select(op: crate::ir::TernOp) -> bool {
    matches!(op, crate::ir::TernOp::SlctS32 | crate::ir::TernOp::SlctF32)
}

/// Everything that is no inner loop's work.
#[inline(never)]
fn rarely(env: &Env<'_>, cta: &mut Cta<'_>, warp: &mut Warp<'_>, inst: &Inst, group: Group, active: u32) -> Step {
    let Group { pc, lanes, .. } = group;
    let r = &mut warp.registers;
    match &inst.op {
        Op::Special { what, d } => special::read(env, cta, warp, active, *what, *d),
        Op::Pack16x2 { d, parts } => control::pack_halves(r, active, *d, *parts),
        Op::Unpack16x2 { d, a } => control::unpack_halves(r, active, *d, *a),
        Op::Pack16x4 { .. }
        | Op::Unpack16x4 { .. }
        | Op::Pack32x2 { .. }
        | Op::Unpack32x2 { .. }
        | Op::Pack8x2 { .. }
        | Op::Unpack8x2 { .. } => special::pack(r, active, &inst.op),
        Op::Bfi { ty, d, a, b, position, length } => {
            alu::insert(r, active, ty.is_wide(), [*d, *a, *b, *position, *length])?;
        }
        Op::PrmtMode { mode, d, a, b, c } => alu::permute_mode(r, active, *mode, [*d, *a, *b, *c])?,
        Op::AddCarry { ty, subtract, carry_in, carry_out, d, a, b } => {
            let carry = alu::Carry { reads: *carry_in, writes: *carry_out };
            alu::add_carry(r, active, ty.is_wide(), *subtract, carry, [*d, *a, *b])?;
        }
        Op::MadCarry { ty, high, carry_in, carry_out, d, a, b, c } => {
            let carry = alu::Carry { reads: *carry_in, writes: *carry_out };
            alu::mad_carry(r, active, *ty, *high, carry, [*d, *a, *b, *c])?;
        }
        Op::Setp2 { cmp, ty, ftz, p, q, a, b } => {
            let (low, high) = compare::compare_halves(r, active, *cmp, *ty, *ftz, *a, *b)?;
            r.put_pred(*p, active, low);
            r.put_pred(*q, active, high);
        }
        Op::Set { cmp, ty, ftz, float, combine, d, a, b } => {
            if matches!(ty, Ty::F16x2 | Ty::Bf16x2) {
                let bits = compare::compare_halves(r, active, *cmp, *ty, *ftz, *a, *b)?;
                let one = match (float, ty) {
                    (false, _) => 0xffff,
                    (true, Ty::F16x2) => 0x3c00,
                    (true, _) => 0x3f80,
                };
                compare::spread_halves(r, active, *d, bits, one)?;
            } else {
                let bits = compare::compare(r, active, *cmp, *ty, *ftz, *a, *b)?;
                let (bits, _) = compare::combined(r, active, bits, *combine)?;
                compare::spread(r, active, *d, bits, if *float { 1f32.to_bits() } else { ALL })?;
            }
        }
        Op::PredLogic { op, d, a, b } => {
            let (x, y) = (r.condition(*a, active)?, r.condition(*b, active)?);
            r.put_pred(*d, active, compare::logic(*op, x, y));
        }
        Op::PredMov { d, a } => r.copy_pred(*d, *a, active),
        Op::PredConst { d, value } => r.put_pred(*d, active, if *value { ALL } else { 0 }),
        Op::Atom { op, space, order, ty, d, a, b, c } => {
            let access = Access { space: *space, order: *order, ty: *ty };
            memory::atomic(env, cta, warp, active, access, *a, Atomic { op: *op, d: *d, b: *b, c: *c })?;
        }
        Op::Cvta { space, to_generic, d, a } => windows::convert_address(r, active, *space, *to_generic, [*d, *a]),
        Op::Isspacep { space, p, a } => {
            let inside = windows::in_space(r, active, *space, *a)?;
            r.put_pred(*p, active, inside);
        }
        Op::CpAsync { bytes, dst, src, src_size, ignore_src } => {
            let copy = Copy { bytes: *bytes, dst: *dst, src: *src, src_size: *src_size, ignore_src: *ignore_src };
            memory::copy_async(cta, warp, active, copy)?;
        }
        Op::CpAsyncCommit => cta.shared.commit(warp.index, active),
        Op::CpAsyncWait { pending } => cta.shared.wait(warp.index, active, Some(*pending), &cta.global)?,
        Op::CpAsyncWaitAll => cta.shared.wait(warp.index, active, None, &cta.global)?,
        Op::Fence { scope } => {
            memory::fence(cta, warp.index, scope.reaches_blocks());
            for place in std::mem::take(&mut warp.unfenced) {
                cta.take_up(warp.index, place)?;
            }
            if cta.shared.has_barriers() || (*scope != Scope::Cta && !cta.peers.is_empty()) {
                warp.initialised = cta.knowledge(warp.index);
                cta.fence_peers(warp.index);
            }
        }
        Op::Brx { targets, a } => return branch_table(warp, lanes, active, targets, *a),
        Op::Exit => {
            // Where only some of a group end, they part here.
            let exited_early = group.busy && active == lanes;
            return Ok(match exit(env, cta, warp, pc, active, exited_early) {
                Ok(()) => Flow::Only(lanes & !active),
                Err(located) => Flow::Fails(located),
            });
        }
        Op::Trap => {
            let detail = "the kernel executed trap".to_string();
            return Err(Box::new(BadAccess { check: Check::Trap, lanes: active, address: None, detail, other: None }));
        }
        Op::Barrier { .. } => return block_barrier::arrive(env, cta, warp, inst, pc, lanes, active),
        Op::ActiveMask { d } => r.put(*d, active, &[active; 32]),
        Op::Stmatrix { transpose, a, b } => {
            return whole_warp(warp, pc, lanes, active, |warp| memory::store_matrix(cta, warp, *transpose, *a, b));
        }
        Op::Movmatrix { d, a } => {
            return whole_warp(warp, pc, lanes, active, |warp| {
                mma::transpose(&mut warp.registers, *d, *a);
                Ok(())
            });
        }
        Op::Wgmma(w) => {
            return whole_warp(warp, pc, lanes, active, |warp| wgmma::issue(env, cta, warp, pc, w));
        }
        Op::WgmmaFence => {
            return whole_warp(warp, pc, lanes, active, |warp| {
                wgmma::fence(cta, warp);
                Ok(())
            });
        }
        Op::WgmmaCommit => return whole_warp(warp, pc, lanes, active, |warp| wgmma::commit(cta, warp, pc)),
        Op::WgmmaWait { pending } => {
            return match whole_warp(warp, pc, lanes, active, |warp| wgmma::wait(cta, warp, pc, *pending))? {
                flow @ Flow::Only(rest) if rest != ALL => Ok(flow),
                _ => Ok(Flow::Only(if warp.suspended.is_empty() { ALL } else { 0 })),
            };
        }
        Op::Nop => {}
        Op::Mbarrier(m) => return mbarrier::execute(env, cta, warp, m, group, active),
        Op::Bulk(b) => bulk::execute(env, cta, warp, b, active, pc)?,
        Op::BulkCommit => cta.commit_bulk(warp.index, active),
        Op::BulkWait { pending, read } => cta.wait_bulk(warp.index, active, *pending, *read),
        Op::PrefetchMap { space, a } => tensor::prefetch_map(env, cta, warp, active, *space, *a)?,
        Op::ProxyFence(fence) => match fence {
            ProxyFence::Async { shared: true, .. } => cta.shared.fence_proxy(warp.index),
            ProxyFence::MbarrierInit => warp.initialised = cta.knowledge(warp.index),
            ProxyFence::Async { .. } | ProxyFence::Alias => {}
        },
        Op::ClusterBarrier(what) => return cluster::barrier(cta, warp, *what, group, active),
        Op::Mapa { wide, d, a, rank } => cluster::map_address(cta, warp, active, *wide, [*d, *a, *rank])?,
        Op::GetCtaRank { wide, d, a } => cluster::rank_of(cta, warp, active, *wide, [*d, *a])?,
        Op::MaxRegisters { count, increase } => {
            let part = Group { lanes: active, busy: true, ..group };
            return cluster::max_registers(cta, warp, *count, *increase, (part, lanes & !active));
        }
        Op::GridDependency(what) => dependency::execute(cta, warp.index, *what),
        Op::StAsync { ty, reduce, a, b, mbarrier } => {
            remote::store_async(env, cta, warp, (active, pc), (*ty, *reduce), (*a, b, *mbarrier))?;
        }
        Op::Printf { d, format, arguments } => print::print(env, cta, warp, active, *d, [*format, *arguments])?,
        Op::AssertFail { message, file, line, function } => {
            return Err(print::assertion(env, cta, warp, active, [*message, *file, *line, *function]));
        }
        _ => {
            if active != warp.live {
                exit_at_once(env, cta, warp)?;
            }
            return together(cta, warp, inst, pc, lanes, active);
        }
    }
    Ok(Flow::Next)
}

/// Lanes to their own targets.
fn branch_table(warp: &mut Warp<'_>, lanes: u32, active: u32, targets: &[u32], a: Slot) -> Step {
    warp.registers.check(a, active)?;
    let index = *warp.registers.narrow(a);
    for l in (0..32).filter(|l| active >> l & 1 == 1) {
        let Some(&target) = targets.get(index[l] as usize) else {
            let detail = format!("a branch by entry {} of a table of {}", index[l], targets.len());
            return Err(Box::new(BadAccess {
                check: Check::OutOfBounds,
                lanes: 1 << l,
                address: None,
                detail,
                other: None,
            }));
        };
        warp.join(Group { pc: target, lanes: 1 << l, busy: false });
    }
    // The lanes that jumped are in the queue; the caller goes on with the others, if any.
    Ok(Flow::Only(lanes & !active))
}

/// Operations that take all 32 lanes at once.
#[inline(always)]
fn whole_warp(warp: &mut Warp<'_>, pc: u32, lanes: u32, active: u32, act: impl FnOnce(&mut Warp<'_>) -> Done) -> Step {
    if active == ALL {
        act(warp)?;
        return Ok(Flow::Next);
    }
    if warp.live != ALL {
        let detail = format!("an operation of all 32 lanes, of which {:#010x} ended or do not exist", ALL & !warp.live);
        return Err(control::membership(active, detail));
    }
    let arrived = active | warp.waiting_at(pc);
    if arrived != ALL {
        warp.wait(Group { pc, lanes: active, busy: true });
        return Ok(Flow::Only(lanes & !active));
    }
    warp.stop_waiting(pc, ALL);
    act(warp)?;
    Ok(Flow::Only(ALL))
}

/// `.sync` operations of a member mask.
fn together(cta: &mut Cta<'_>, warp: &mut Warp<'_>, inst: &Inst, pc: u32, lanes: u32, active: u32) -> Step {
    let gone = match &inst.op {
        Op::Shfl { mode, d, p, a, b, c, members } => rendezvous(warp, pc, active, *members, |r, cohort| {
            let inside = control::shuffle(r, cohort, *mode, [*d, *a, *b, *c])?;
            if let Some(p) = p {
                r.put_pred(*p, cohort.lanes, inside);
            }
            Ok(())
        })?,
        Op::Vote { mode, d, a, members } => rendezvous(warp, pc, active, *members, |r, Cohort { lanes, .. }| {
            let holds = r.condition(*a, lanes)?;
            let result = match mode {
                VoteMode::All => holds == lanes,
                VoteMode::Any => holds != 0,
                VoteMode::Uni => holds == lanes || holds == 0,
            };
            r.put_pred(*d, lanes, if result { ALL } else { 0 });
            Ok(())
        })?,
        Op::Ballot { d, a, members } => rendezvous(warp, pc, active, *members, |r, Cohort { lanes, .. }| {
            let holds = r.condition(*a, lanes)?;
            r.put(*d, lanes, &[holds; 32]);
            Ok(())
        })?,
        Op::Match { all, wide, d, p, a, members } => rendezvous(warp, pc, active, *members, |r, cohort| {
            let equal = control::matching(r, cohort, *all, *wide, [*d, *a])?;
            if let Some(p) = p {
                r.put_pred(*p, cohort.lanes, equal);
            }
            Ok(())
        })?,
        Op::Redux { op, ty, d, a, members } => {
            rendezvous(warp, pc, active, *members, |r, cohort| control::redux(r, cohort, *op, *ty, [*d, *a]))?
        }
        Op::Elect { d, p, members } => rendezvous(warp, pc, active, *members, |r, Cohort { lanes, .. }| {
            let leader = lanes.trailing_zeros();
            if let Some(d) = d {
                r.put(*d, lanes, &[leader; 32]);
            }
            r.put_pred(*p, lanes, 1 << leader);
            Ok(())
        })?,
        Op::BarWarp { members } => {
            let (index, live) = (warp.index, warp.live);
            rendezvous(warp, pc, active, *members, |_, Cohort { lanes, .. }| {
                cta.shared.warp_barrier(index, lanes, lanes == live);
                Ok(())
            })?
        }
        _ => return Err(no_such(inst)),
    };
    Ok(Flow::Only((lanes & !active) | gone))
}

/// Other lanes of the warp that stand at an `exit` end now: a barrier does not wait for threads that are done.
pub(super) fn exit_at_once(env: &Env<'_>, cta: &mut Cta<'_>, warp: &mut Warp<'_>) -> Done {
    let ends = |g: &Group| match env.launch.kernel.code.get(g.pc as usize) {
        _ if g.busy => false,
        Some(inst) => inst.op == Op::Exit && inst.guard.is_none(),
        None => true,
    };
    let ending = warp.ready.iter().filter(|g| ends(g)).fold(0, |lanes, g| lanes | g.lanes);
    if ending != 0 {
        warp.ready.retain(|g| !ends(g));
        cta.shared.exit(warp.index, ending)?;
        cta.end_bulk(warp.index, ending)?;
        wgmma::end(cta, warp.index, ending, ending == warp.live)?;
        warp.live &= !ending;
    }
    Ok(())
}
