//! Instructions by class, from how often each was issued.

use crate::counts::{Counts, Instructions};
use crate::ir::{BinOp, Inst, Op, Space, Ty, UnOp, WgmmaA};

/// Adds `hits[i]` issues of `code[i]`. Generic accesses were counted when it was known where they went.
pub(super) fn add(counts: &mut Counts, code: &[Inst], hits: &[u64]) {
    for (inst, &hits) in code.iter().zip(hits) {
        counts.issued += hits;
        if let Some(class) = class(&mut counts.instructions, &inst.op) {
            *class += hits;
        }
        if hits != 0 {
            tensor(counts, &inst.op, hits);
        }
        if matches!(inst.op, Op::Atom { .. }) {
            counts.atomics += hits;
        }
    }
}

/// Products of tensor cores.
fn tensor(counts: &mut Counts, op: &Op, hits: u64) {
    let name = |name: &str| name.to_lowercase();
    let (name, count) = match op {
        Op::Mma(m) => {
            let (kind, acc) = (format!("{:?}", m.kind), format!("{:?}", m.acc));
            let (element, depth) = kind.split_once('K').unwrap_or((&kind, ""));
            (format!("mma.m16n8k{depth}.{}.{}", name(&acc), name(element)), hits)
        }
        Op::Wgmma(w) => {
            let n = u64::from(w.n);
            let left = if matches!(w.a, WgmmaA::Shared(_)) { 64 * 32 } else { 0 };
            counts.wgmma_columns += hits * n / 4;
            counts.wgmma_flop += hits * 2 * 16 * n * w.a_type.depth() as u64;
            counts.wgmma_shared_bytes += hits * (32 * n + left) / 4;
            let (acc, a, b) = (format!("{:?}", w.acc), format!("{:?}", w.a_type), format!("{:?}", w.b_type));
            let depth = w.a_type.depth();
            (format!("wgmma.m64n{n}k{depth}.{}.{}.{}", name(&acc), name(&a), name(&b)), hits / 4)
        }
        _ => return,
    };
    *counts.tensor.entry(name).or_default() += count;
}

fn class<'a>(n: &'a mut Instructions, op: &Op) -> Option<&'a mut u64> {
    Some(match op {
        Op::Un { op, ty, .. } if is_special(*op, *ty) => &mut n.special,
        Op::Bin { op: BinOp::Div | BinOp::DivApprox | BinOp::DivFull, ty: Ty::F32, .. } => &mut n.special,
        Op::Un { ty, .. } | Op::Bin { ty, .. } | Op::Tern { ty, .. } => arithmetic(n, *ty),
        Op::Bfi { .. } | Op::Lop3 { .. } | Op::PrmtMode { .. } | Op::AddCarry { .. } | Op::MadCarry { .. } => {
            &mut n.integer
        }
        Op::Cvt { .. } | Op::CvtPack { .. } => &mut n.convert,
        Op::Setp { .. } | Op::Setp2 { .. } | Op::Set { .. } | Op::Selp { .. } => &mut n.compare,
        Op::PredLogic { .. } | Op::PredMov { .. } | Op::PredConst { .. } => &mut n.compare,
        Op::Mov { .. }
        | Op::Special { .. }
        | Op::Pack16x2 { .. }
        | Op::Pack16x4 { .. }
        | Op::Pack32x2 { .. }
        | Op::Unpack16x2 { .. }
        | Op::Unpack16x4 { .. }
        | Op::Unpack32x2 { .. }
        | Op::Pack8x2 { .. }
        | Op::Unpack8x2 { .. } => &mut n.mov,
        Op::Bra { .. } | Op::Brx { .. } | Op::Exit | Op::Trap => &mut n.branch,
        Op::Ld { space: Space::Generic, .. } | Op::St { space: Space::Generic, .. } => return None,
        Op::Ld { space: Space::Param | Space::Const, .. } => &mut n.param,
        Op::Ld { space: Space::Local, .. } | Op::St { space: Space::Local, .. } => &mut n.local,
        Op::Ld { space: Space::Shared, .. } => &mut n.load_shared,
        Op::St { space: Space::Shared, .. } | Op::Stmatrix { .. } => &mut n.store_shared,
        Op::Ld { .. } => &mut n.load_global,
        Op::St { .. } => &mut n.store_global,
        Op::Ldmatrix { .. } => &mut n.ldmatrix,
        Op::Mma(_) | Op::Wgmma(_) => &mut n.mma,
        Op::CpAsync { .. } => &mut n.cp_async,
        Op::Shfl { .. }
        | Op::Vote { .. }
        | Op::Ballot { .. }
        | Op::Match { .. }
        | Op::Redux { .. }
        | Op::Elect { .. }
        | Op::Movmatrix { .. } => &mut n.shuffle,
        Op::Barrier { .. } | Op::BarWarp { .. } => &mut n.barrier,
        Op::Atom { .. } => &mut n.atomic,
        _ => &mut n.other,
    })
}

fn is_special(op: UnOp, ty: Ty) -> bool {
    let function = matches!(
        op,
        UnOp::Sqrt
            | UnOp::SqrtApprox
            | UnOp::RsqrtApprox
            | UnOp::Rcp
            | UnOp::RcpApprox
            | UnOp::Ex2Approx
            | UnOp::Lg2Approx
            | UnOp::SinApprox
            | UnOp::CosApprox
            | UnOp::TanhApprox
    );
    function && ty != Ty::F64
}

fn arithmetic(n: &mut Instructions, ty: Ty) -> &mut u64 {
    match ty {
        Ty::F32 => &mut n.float,
        Ty::F64 => &mut n.double,
        Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2 => &mut n.half,
        _ => &mut n.integer,
    }
}

/// Sums of two threads' blocks.
pub(super) fn merge(into: &mut Counts, other: &Counts) {
    macro_rules! add {
        ($($field:ident),*) => { $( into.$field += other.$field; )* };
    }
    add!(active_lanes, issued, mma_flop, shared_requests, shared_wavefronts, shared_conflicts, global_load_requests);
    add!(global_load_sectors, global_load_least_sectors, global_load_bytes, global_store_requests);
    add!(global_store_sectors, global_store_least_sectors, global_store_bytes, unique_load_sectors);
    add!(unique_store_sectors, cp_async_bytes, local_bytes, barriers, atomics);
    add!(bulk_load_bytes, bulk_shared_bytes, bulk_store_bytes, bulk_prefetch_bytes, barrier_arrivals, barrier_waits);
    add!(cluster_barriers);
    let (into, other) = (&mut into.instructions, &other.instructions);
    into.load_global += other.load_global;
    into.store_global += other.store_global;
    into.load_shared += other.load_shared;
    into.store_shared += other.store_shared;
    into.local += other.local;
}
