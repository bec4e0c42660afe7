//! The executor on kernels written as operations: arithmetic at its edges, divergence, barriers, what lanes do together.

mod support;

use support::{Lab, MODE, OPTIONS, OUT, THREAD};
use vgpu_cuda::exec::Options;
use vgpu_cuda::fault::{Check, Fault};
use vgpu_cuda::ir::*;

fn run(lab: &Lab, block: u32) -> Vec<u64> {
    lab.run(1, block, &OPTIONS).unwrap_or_else(|fault| panic!("{fault}")).0
}

fn fault(lab: &Lab, block: u32) -> Fault {
    lab.run(1, block, &OPTIONS).expect_err("a fault")
}

/// The result of one operation on constants, in every lane of a warp.
fn result(ty: Ty, sources: &[u64], wide: &[bool], op: impl Fn(Slot, &[Slot]) -> Op) -> u64 {
    let mut lab = Lab::new();
    let slots: Vec<Slot> = sources
        .iter()
        .zip(wide)
        .map(|(&x, &wide)| if wide { lab.wide_constant(x) } else { lab.constant(x as u32) })
        .collect();
    let d = lab.slot();
    lab.op(op(d, &slots));
    lab.store(ty, d);
    lab.op(Op::Exit);
    let out = run(&lab, 32);
    assert!(out.iter().all(|&x| x == out[0]));
    out[0]
}

fn binary(op: BinOp, ty: Ty, mode: Mode, a: u64, b: u64) -> u64 {
    let shift = matches!(op, BinOp::Shl | BinOp::Shr);
    let out = if op == BinOp::MulWide { Ty::U64 } else { ty };
    let wide = ty.is_wide();
    result(out, &[a, b], &[wide, wide && !shift], |d, s| Op::Bin { op, ty, mode, d, a: s[0], b: s[1] })
}

#[test]
fn integer_operations_at_their_edges() {
    let cases = [
        (BinOp::Add, Ty::U32, 0xffff_ffff, 2, 1),
        (BinOp::Add, Ty::U16, 0xffff, 2, 1),
        (BinOp::Sub, Ty::S64, 0, 1, u64::MAX),
        (BinOp::MulHi, Ty::S32, 0xffff_fffe, 3, 0xffff_ffff),
        (BinOp::MulHi, Ty::U64, u64::MAX, u64::MAX, u64::MAX - 1),
        (BinOp::MulWide, Ty::S32, 0xffff_ffff, 2, u64::MAX - 1),
        (BinOp::MulWide, Ty::U32, 0xffff_ffff, 2, 0x1_ffff_fffe),
        (BinOp::Div, Ty::U32, 7, 0, 0xffff_ffff),
        (BinOp::Div, Ty::S32, 0x8000_0000, 0xffff_ffff, 0x8000_0000),
        (BinOp::Rem, Ty::S32, 0xffff_fff9, 3, 0xffff_ffff),
        (BinOp::Min, Ty::S16, 0x8000, 1, 0x8000),
        (BinOp::Max, Ty::U16, 0x8000, 1, 0x8000),
        (BinOp::Shl, Ty::U32, 1, 32, 0),
        (BinOp::Shl, Ty::U64, 1, 63, 1 << 63),
        (BinOp::Shr, Ty::S32, 0x8000_0000, 99, 0xffff_ffff),
        (BinOp::Shr, Ty::U16, 0x8000, 16, 0),
        (BinOp::Shr, Ty::S16, 0x8000, 15, 0xffff),
        (BinOp::Xor, Ty::U64, 0xff00_0000_0000_00ff, u64::MAX, 0x00ff_ffff_ffff_ff00),
    ];
    for (op, ty, a, b, want) in cases {
        let got = binary(op, ty, MODE, a, b);
        assert_eq!(got, want, "{op:?} {ty:?} {a:#x} {b:#x}: {got:#x}");
    }
}

#[test]
fn float_operations_at_their_edges() {
    let f = |x: f32| x.to_bits() as u64;
    let ftz = Mode { ftz: true, ..MODE };
    let down = Mode { round: Round::Rm, ..MODE };
    let cut = Mode { round: Round::Rz, ..MODE };
    let tiny = 1e-40f32;
    let cases = [
        (BinOp::Add, MODE, f(1.5), f(-0.25), f(1.25)),
        (BinOp::Add, MODE, f(tiny), f(tiny), f(2.0 * tiny)),
        (BinOp::Add, ftz, f(-tiny), f(-tiny), f(-0.0)),
        (BinOp::Add, MODE, f(f32::INFINITY), f(f32::NEG_INFINITY), 0x7fff_ffff),
        (BinOp::Add, down, f(1.0), f(-1.0), f(-0.0)),
        (BinOp::Add, cut, f(1.0), f(-1e-30), f(1f32.next_down())),
        (BinOp::MulLo, down, f(0.1), f(0.1), f(0.01)),
        (BinOp::Div, MODE, f(1.0), f(0.0), f(f32::INFINITY)),
        (BinOp::Min, MODE, f(f32::NAN), f(3.0), f(3.0)),
        (BinOp::Max, MODE, f(-0.0), f(0.0), f(0.0)),
        (BinOp::Max, Mode { nan: true, ..MODE }, f(1.0), f(f32::NAN), 0x7fff_ffff),
        (BinOp::CopySign, MODE, f(-1.0), f(5.0), f(-5.0)),
    ];
    for (op, mode, a, b, want) in cases {
        let got = binary(op, Ty::F32, mode, a, b);
        assert_eq!(got, want, "{op:?} {mode:?} {a:#x} {b:#x}: {got:#x}");
    }
    assert_eq!(binary(BinOp::Add, Ty::F16x2, MODE, 0x3c00_7bff, 0x3c00_7bff), 0x4000_7c00);
    assert_eq!(binary(BinOp::MulLo, Ty::Bf16x2, MODE, 0x3f80_4000, 0xbf80_4040), 0xbf80_40c0);
    assert_eq!(binary(BinOp::Add, Ty::F64, MODE, 1f64.to_bits(), 2f64.to_bits()), 3f64.to_bits());
}

#[test]
fn conversions_at_their_edges() {
    let f = |x: f32| x.to_bits() as u64;
    let round = |round| Mode { round, ..MODE };
    let sat = Mode { saturate: true, ..MODE };
    let cases = [
        (Ty::S32, Ty::F32, round(Round::Rzi), f(f32::NAN), 0),
        (Ty::S32, Ty::F32, round(Round::Rzi), f(-3e9), 0x8000_0000),
        (Ty::S32, Ty::F32, round(Round::Rmi), f(-0.5), 0xffff_ffff),
        (Ty::U8, Ty::F32, round(Round::Rni), f(300.0), 255),
        (Ty::F32, Ty::F32, round(Round::Rmi), f(-0.5), f(-1.0)),
        (Ty::F32, Ty::F32, sat, f(f32::NAN), 0),
        (Ty::F16, Ty::F32, MODE, f(65519.9), 0x7bff),
        (Ty::F32, Ty::F16, MODE, 0x0001, f(5.960_464_5e-8)),
        (Ty::F32, Ty::S32, MODE, 0x7fff_ffff, f(2147483648.0)),
        (Ty::F32, Ty::S32, round(Round::Rz), 0x7fff_ffff, 0x4eff_ffff),
        (Ty::S64, Ty::S32, MODE, 0x8000_0000, 0xffff_ffff_8000_0000),
        (Ty::U32, Ty::U64, MODE, 0x1_0000_0005, 5),
        (Ty::S16, Ty::S8, MODE, 0x80, 0xff80),
        (Ty::U8, Ty::S32, sat, 0xffff_ff00, 0),
        (Ty::S32, Ty::U32, sat, 0xffff_ffff, 0x7fff_ffff),
    ];
    for (to, from, mode, a, want) in cases {
        let got = result(to, &[a], &[from.is_wide()], |d, s| Op::Cvt { to, from, mode, d, a: s[0] });
        assert_eq!(got, want, "{to:?} from {from:?} {mode:?} {a:#x}: {got:#x}");
    }
    let pair = |to| {
        result(Ty::U32, &[f(1.0), f(2.0)], &[false; 2], |d, s| Op::CvtPack { to, mode: MODE, d, a: s[0], b: s[1] })
    };
    assert_eq!(pair(Ty::F16x2), 0x3c00_4000);
    assert_eq!(pair(Ty::Bf16x2), 0x3f80_4000);
}

/// out = thread < 20 ? 100 + thread : 200 + thread, by branches.
fn diverging() -> Lab {
    let mut lab = Lab::new();
    let p = lab.below(20);
    let d = lab.slot();
    let (low, high) = (lab.constant(100), lab.constant(200));
    let add = |d, b| Op::Bin { op: BinOp::Add, ty: Ty::U32, mode: MODE, d, a: THREAD, b };
    let at = lab.code.len() as u32;
    lab.guarded(Some(Condition { pred: p, negate: false }), Op::Bra { target: at + 3 });
    lab.op(add(d, high));
    lab.op(Op::Bra { target: at + 4 });
    lab.op(add(d, low));
    lab.store(Ty::U32, d);
    lab.op(Op::Exit);
    lab
}

#[test]
fn branches_diverge_and_meet() {
    for schedule in 0..8 {
        let options = Options { schedule, ..OPTIONS };
        let (out, counts) = diverging().run(1, 32, &options).expect("no fault");
        for (i, &x) in out.iter().enumerate() {
            assert_eq!(x, i as u64 + if i < 20 { 100 } else { 200 });
        }
        if schedule == 0 {
            // 7 + branch (20 lanes) + (add, branch) + add + store + exit: the store is executed once, by all.
            assert_eq!((counts.issued, counts.instructions.store_global), (13, 1));
            assert_eq!(counts.active_lanes, 9 * 32 + 20 + 12 + 12 + 20);
        }
    }
}

#[test]
fn loops_of_unlike_length() {
    // sum of 0..=thread
    let mut lab = Lab::new();
    let (sum, i, zero, one) = (lab.slot(), lab.slot(), lab.constant(0), lab.constant(1));
    let p = lab.pred();
    lab.op(Op::Mov { wide: false, d: sum, a: zero });
    lab.op(Op::Mov { wide: false, d: i, a: zero });
    let top = lab.op(Op::Bin { op: BinOp::Add, ty: Ty::U32, mode: MODE, d: sum, a: sum, b: i });
    lab.op(Op::Bin { op: BinOp::Add, ty: Ty::U32, mode: MODE, d: i, a: i, b: one });
    lab.op(Op::Setp { cmp: Cmp::Le, ty: Ty::U32, ftz: false, combine: None, p, q: None, a: i, b: THREAD });
    lab.guarded(Some(Condition { pred: p, negate: false }), Op::Bra { target: top });
    lab.store(Ty::U32, sum);
    lab.op(Op::Exit);
    for schedule in [0, 1, 2] {
        let out = lab.run(2, 96, &Options { schedule, ..OPTIONS }).expect("no fault").0;
        for (i, &x) in out.iter().enumerate() {
            assert_eq!(x, (i * (i + 1) / 2) as u64);
        }
    }
}

fn shuffled(mode: ShflMode, by: u32, clamp: u32) -> (Vec<u64>, u64) {
    let mut lab = Lab::new();
    let (b, c, members) = (lab.constant(by), lab.constant(clamp), lab.constant(u32::MAX));
    let (d, flag, p) = (lab.slot(), lab.slot(), lab.pred());
    lab.op(Op::Shfl { mode, d, p: Some(p), a: THREAD, b, c, members });
    lab.op(Op::Ballot { d: flag, a: Condition { pred: p, negate: false }, members });
    lab.op(Op::St { space: Space::Global, order: Order::Weak, ty: Ty::U32, a: OUT, b: Box::new([d, flag]) });
    lab.op(Op::Exit);
    let out = run(&lab, 32);
    (out.iter().map(|x| x & 0xffff_ffff).collect(), out[0] >> 32)
}

#[test]
fn shuffles() {
    let (out, inside) = shuffled(ShflMode::Down, 1, 0x1f);
    assert_eq!((out[0], out[30], out[31], inside), (1, 31, 31, 0x7fff_ffff));
    let (out, inside) = shuffled(ShflMode::Up, 2, 0);
    assert_eq!((out[0], out[1], out[2], inside), (0, 1, 0, 0xffff_fffc));
    let (out, inside) = shuffled(ShflMode::Bfly, 16, 0x1f);
    assert_eq!((out[0], out[31], inside), (16, 15, 0xffff_ffff));
    // Segments of 8 lanes.
    let (out, inside) = shuffled(ShflMode::Down, 4, 0x1807);
    assert_eq!((out[3], out[4], out[11], out[12], inside), (7, 4, 15, 12, 0x0f0f_0f0f));
    let (out, _) = shuffled(ShflMode::Idx, 2, 0x181f);
    assert_eq!((out[0], out[9], out[31]), (2, 10, 26));
}

#[test]
fn votes_matches_and_reductions() {
    let mut lab = Lab::new();
    let members = lab.constant(u32::MAX);
    let p = lab.below(10);
    let (ballot, same, sum, three, low) = (lab.slot(), lab.slot(), lab.slot(), lab.constant(3), lab.slot());
    lab.op(Op::Ballot { d: ballot, a: Condition { pred: p, negate: true }, members });
    lab.op(Op::Bin { op: BinOp::And, ty: Ty::U32, mode: MODE, d: low, a: THREAD, b: three });
    lab.op(Op::Match { all: false, wide: false, d: same, p: None, a: low, members });
    lab.op(Op::Redux { op: ReduxOp::Add, ty: Ty::U32, d: sum, a: THREAD, members });
    let mixed = lab.slot();
    lab.op(Op::Lop3 { d: mixed, a: same, b: sum, c: ballot, table: 0x96 });
    lab.op(Op::St { space: Space::Global, order: Order::Weak, ty: Ty::U32, a: OUT, b: Box::new([mixed, ballot]) });
    lab.op(Op::Exit);
    for (i, &x) in run(&lab, 32).iter().enumerate() {
        let same = 0x1111_1111u32 << (i % 4);
        assert_eq!(x >> 32, 0xffff_fc00);
        assert_eq!(x as u32, same ^ 496 ^ 0xffff_fc00);
    }
}

fn barrier(kind: BarrierKind, id: Slot) -> Op {
    Op::Barrier { kind, id, threads: None, d: None, p: None, a: None }
}

#[test]
fn barriers_order_shared_memory() {
    // Thread t writes shared[t], reads shared[127 - t] after the barrier.
    let mut lab = Lab::new();
    lab.shared_bytes = 512;
    let zero = lab.constant(0);
    let (mine, other, d, four, base, last) =
        (lab.slot(), lab.slot(), lab.slot(), lab.constant(4), lab.constant(0x400), lab.constant(127));
    let shared = |slot| Address { base: Some(slot), narrow: true, offset: 0 };
    let mad = |d, a, c| Op::Tern { op: TernOp::MadLo, ty: Ty::U32, mode: MODE, d, a, b: four, c };
    lab.op(mad(mine, THREAD, base));
    lab.op(Op::Bin { op: BinOp::Sub, ty: Ty::U32, mode: MODE, d, a: last, b: THREAD });
    lab.op(mad(other, d, base));
    let order = Order::Weak;
    lab.op(Op::St { space: Space::Shared, order, ty: Ty::U32, a: shared(mine), b: Box::new([THREAD]) });
    let at = lab.op(barrier(BarrierKind::Sync, zero));
    lab.op(Op::Ld { space: Space::Shared, order, ty: Ty::U32, d: Box::new([Some(d)]), a: shared(other) });
    lab.store(Ty::U32, d);
    lab.op(Op::Exit);
    for schedule in [0, 1, 2, 3] {
        let (out, counts) = lab.run(1, 128, &Options { schedule, ..OPTIONS }).expect("no fault");
        assert!(out.iter().enumerate().all(|(i, &x)| x == 127 - i as u64));
        assert_eq!((counts.barriers, counts.instructions.barrier), (1, 4));
    }
    lab.code[at as usize].op = Op::Nop;
    let fault = fault(&lab, 128);
    assert!(matches!(fault.check, Check::SharedRace | Check::Uninitialised), "{fault}");
}

#[test]
fn a_barrier_that_not_all_reach() {
    // Warp 1 waits at barrier 1, the others at 0.
    let mut lab = Lab::new();
    let (zero, one) = (lab.constant(0), lab.constant(1));
    let p = lab.below(32);
    let at = lab.code.len() as u32;
    lab.guarded(Some(Condition { pred: p, negate: false }), Op::Bra { target: at + 3 });
    lab.op(barrier(BarrierKind::Sync, zero));
    lab.op(Op::Exit);
    let line = lab.op(barrier(BarrierKind::Sync, one)) + 1;
    lab.op(Op::Exit);
    let fault = fault(&lab, 96);
    assert_eq!((fault.check, fault.warp, fault.line), (Check::Barrier, 0, line), "{fault}");
    assert!(fault.detail.contains("warp 1 waits at barrier 0"), "{fault}");
}

#[test]
fn a_barrier_in_a_divergent_branch() {
    let mut lab = Lab::new();
    let zero = lab.constant(0);
    let p = lab.below(7);
    let at = lab.code.len() as u32;
    lab.guarded(Some(Condition { pred: p, negate: false }), Op::Bra { target: at + 2 });
    let line = lab.op(barrier(BarrierKind::Sync, zero)) + 1;
    lab.store(Ty::U32, THREAD);
    lab.op(Op::Exit);
    let report = fault(&lab, 32);
    assert_eq!((report.check, report.line, report.lanes), (Check::Barrier, line, 0xffff_ff80), "{report}");
    // Threads that end early are not waited for.
    let mut clean = Lab::new();
    let zero = clean.constant(0);
    let p = clean.below(7);
    clean.guarded(Some(Condition { pred: p, negate: false }), Op::Exit);
    clean.op(barrier(BarrierKind::Sync, zero));
    clean.store(Ty::U32, THREAD);
    clean.op(Op::Exit);
    run(&clean, 96);
}

#[test]
fn producers_and_consumers_by_named_barriers() {
    // Warp 0 arrives for 64 threads and goes on; warp 1 waits for it.
    let mut lab = Lab::new();
    let (id, threads) = (lab.constant(3), lab.constant(64));
    let p = lab.below(32);
    let condition = |negate| Some(Condition { pred: p, negate });
    let named = |kind| Op::Barrier { kind, id, threads: Some(threads), d: None, p: None, a: None };
    lab.guarded(condition(false), named(BarrierKind::Arrive));
    lab.guarded(condition(true), named(BarrierKind::Sync));
    lab.store(Ty::U32, THREAD);
    lab.op(Op::Exit);
    assert!(run(&lab, 64).iter().enumerate().all(|(i, &x)| x == i as u64));
    // A third warp is one too many.
    assert_eq!(fault(&lab, 96).check, Check::Barrier);
}

#[test]
fn reductions_over_the_block() {
    let mut lab = Lab::new();
    let (zero, d) = (lab.constant(0), lab.slot());
    let p = lab.below(50);
    let a = Some(Condition { pred: p, negate: false });
    lab.op(Op::Barrier { kind: BarrierKind::RedPopc, id: zero, threads: None, d: Some(d), p: None, a });
    lab.store(Ty::U32, d);
    lab.op(Op::Exit);
    assert!(run(&lab, 96).iter().all(|&x| x == 50));
}

#[test]
fn members_that_never_arrive() {
    // Lanes 0–15 shuffle among all 32; the others go another way and wait at a different one.
    let mut lab = Lab::new();
    let (members, b, c, d) = (lab.constant(u32::MAX), lab.constant(1), lab.constant(0x1f), lab.slot());
    let p = lab.below(16);
    let shuffle = Op::Shfl { mode: ShflMode::Bfly, d, p: None, a: THREAD, b, c, members };
    let at = lab.code.len() as u32;
    lab.guarded(Some(Condition { pred: p, negate: false }), Op::Bra { target: at + 3 });
    lab.op(shuffle.clone());
    lab.op(Op::Exit);
    lab.op(shuffle);
    lab.op(Op::Exit);
    assert_eq!(fault(&lab, 32).check, Check::Membership);
}

#[test]
fn shuffles_of_half_warps_meet_their_members() {
    // Each half names its own lanes; the halves come one after the other.
    let mut lab = Lab::new();
    let (low, high) = (lab.constant(0xffff), lab.constant(0xffff_0000));
    let (members, b, c, d) = (lab.slot(), lab.constant(1), lab.constant(0x1f), lab.slot());
    let p = lab.below(16);
    let condition = Condition { pred: p, negate: false };
    lab.op(Op::Selp { wide: false, d: members, a: low, b: high, p: condition });
    lab.op(Op::Shfl { mode: ShflMode::Bfly, d, p: None, a: THREAD, b, c, members });
    lab.store(Ty::U32, d);
    lab.op(Op::Exit);
    assert!(run(&lab, 32).iter().enumerate().all(|(i, &x)| x == i as u64 ^ 1));
}

#[test]
fn a_shuffle_outside_its_mask() {
    let mut lab = Lab::new();
    let (members, b, c, d) = (lab.constant(0xff), lab.constant(1), lab.constant(0x1f), lab.slot());
    lab.op(Op::Shfl { mode: ShflMode::Bfly, d, p: None, a: THREAD, b, c, members });
    lab.op(Op::Exit);
    let fault = fault(&lab, 32);
    assert_eq!((fault.check, fault.lanes), (Check::Membership, 0xffff_ff00), "{fault}");
}

#[test]
fn undefined_registers_are_copied_but_not_used() {
    let mut lab = Lab::new();
    let (a, b, d) = (lab.slot(), lab.slot(), lab.slot());
    let p = lab.below(5);
    // Defined in lanes 0–4.
    lab.guarded(Some(Condition { pred: p, negate: false }), Op::Mov { wide: false, d: a, a: THREAD });
    lab.op(Op::Mov { wide: false, d: b, a });
    let line = lab.op(Op::Bin { op: BinOp::Add, ty: Ty::U32, mode: MODE, d, a: THREAD, b }) + 1;
    lab.op(Op::Exit);
    let report = fault(&lab, 32);
    assert_eq!((report.check, report.line, report.lanes), (Check::Uninitialised, line, 0xffff_ffe0), "{report}");
    lab.code[line as usize - 1].guard = Some(Condition { pred: p, negate: false });
    run(&lab, 32);
}

#[test]
fn an_endless_loop_is_reported() {
    let mut lab = Lab::new();
    let at = lab.code.len() as u32;
    lab.op(Op::Bra { target: at });
    let fault = lab.run(1, 32, &Options { limit: 1_000_000, ..OPTIONS }).expect_err("endless");
    assert_eq!((fault.check, fault.line), (Check::Trap, at + 1), "{fault}");
}

#[test]
fn lanes_that_spin_do_not_starve_the_others() {
    // Lane 0 sets a word of local order; the others spin until the block's shared word is set.
    let mut lab = Lab::new();
    lab.shared_bytes = 16;
    let (zero, one, v) = (lab.constant(0), lab.constant(1), lab.slot());
    let word = Address { base: None, narrow: true, offset: 0x400 };
    let p = lab.below(1);
    let q = lab.pred();
    let order = Order::Relaxed(Scope::Gpu);
    let first = Some(Condition { pred: p, negate: false });
    let atom = |op, d, b| Op::Atom { op, space: Space::Shared, order, ty: Ty::U32, d, a: word, b, c: None };
    lab.guarded(first, Op::St { space: Space::Shared, order, ty: Ty::U32, a: word, b: Box::new([zero]) });
    let members = lab.constant(u32::MAX);
    lab.op(Op::BarWarp { members });
    let at = lab.code.len() as u32;
    lab.guarded(first, Op::Bra { target: at + 4 });
    lab.op(atom(AtomOp::Add, Some(v), zero));
    lab.op(Op::Setp { cmp: Cmp::Eq, ty: Ty::U32, ftz: false, combine: None, p: q, q: None, a: v, b: zero });
    lab.guarded(Some(Condition { pred: q, negate: false }), Op::Bra { target: at + 1 });
    lab.guarded(first, atom(AtomOp::Exch, None, one));
    lab.store(Ty::U32, THREAD);
    lab.op(Op::Exit);
    run(&lab, 32);
}

#[test]
fn threads_and_seeds_change_nothing() {
    let lab = diverging();
    let (want, _) = lab.run(40, 64, &OPTIONS).expect("no fault");
    for schedule in [0, 5, 6] {
        for threads in [1, 3] {
            let options = Options { schedule, threads, ..OPTIONS };
            let (out, counts) = lab.run(40, 64, &options).expect("no fault");
            assert_eq!(out, want);
            assert_eq!(lab.run(40, 64, &options).expect("no fault").1, counts);
        }
    }
}

#[test]
fn the_lowest_block_is_reported() {
    // Every block from 3 on traps.
    let mut lab = Lab::new();
    let p = lab.below(3 * 32);
    lab.guarded(Some(Condition { pred: p, negate: true }), Op::Trap);
    lab.op(Op::Exit);
    for _ in 0..20 {
        let fault = lab.run(64, 32, &Options { threads: 4, ..OPTIONS }).expect_err("traps");
        assert_eq!((fault.check, fault.block), (Check::Trap, [3, 0, 0]));
    }
}

#[test]
fn blocks_that_wait_for_each_other() {
    // Block b spins until the counter in its grid's first word reaches b, then adds one.
    let mut lab = Lab::new();
    lab.communicates = true;
    let (v, zero, one, block) = (lab.slot(), lab.constant(0), lab.constant(1), lab.slot());
    let q = lab.pred();
    let word = Address { base: Some(support::BASE), narrow: false, offset: 0 };
    let order = Order::AcquireRelease(Scope::Gpu);
    let atom = |d, b| Op::Atom { op: AtomOp::Add, space: Space::Global, order, ty: Ty::U32, d, a: word, b, c: None };
    lab.op(Op::Special { what: Special::CtaidX, d: block });
    let at = lab.code.len() as u32;
    lab.op(atom(Some(v), zero));
    lab.op(Op::Setp { cmp: Cmp::Ne, ty: Ty::U32, ftz: false, combine: None, p: q, q: None, a: v, b: block });
    lab.guarded(Some(Condition { pred: q, negate: false }), Op::Bra { target: at });
    lab.op(atom(None, one));
    lab.op(Op::Exit);
    for schedule in [0, 1, 2] {
        let (out, _) = lab.run(50, 1, &Options { schedule, ..OPTIONS }).unwrap_or_else(|f| panic!("{f}"));
        assert_eq!(out[0], 50);
    }
}

/// One mma whose operands come from each lane's number, stored as two of its results.
fn tile(options: &Options) -> Vec<f32> {
    let mut lab = Lab::new();
    let slots = |lab: &mut Lab, n: u32, base: u32| -> Box<[Slot]> {
        (0..n)
            .map(|i| {
                // Pairs of small integers that differ by lane and register.
                let (slot, factor, add, mask) = (
                    lab.slot(),
                    lab.constant(0x0101_0003 + i * 0x0003_0001),
                    lab.constant(base + i),
                    lab.constant(0x0003_0003),
                );
                let (scaled, cut) = (lab.slot(), lab.slot());
                lab.op(Op::Tern {
                    op: TernOp::MadLo,
                    ty: Ty::U32,
                    mode: MODE,
                    d: scaled,
                    a: THREAD,
                    b: factor,
                    c: add,
                });
                lab.op(Op::Bin { op: BinOp::And, ty: Ty::U32, mode: MODE, d: cut, a: scaled, b: mask });
                let (halves, shift) = (lab.slot(), lab.constant(0x3c00_3c00));
                // 0x3c00 + 1024·k: the powers of two 1, 2, 4, 8.
                let ten = lab.constant(10);
                lab.op(Op::Bin { op: BinOp::Shl, ty: Ty::U32, mode: MODE, d: halves, a: cut, b: ten });
                lab.op(Op::Bin { op: BinOp::Add, ty: Ty::U32, mode: MODE, d: slot, a: halves, b: shift });
                slot
            })
            .collect()
    };
    let (a, b) = (slots(&mut lab, 4, 1), slots(&mut lab, 2, 7));
    let zero = lab.constant(0);
    let c: Box<[Slot]> = Box::new([zero; 4]);
    let d: Box<[Slot]> = (0..4).map(|_| lab.slot()).collect();
    let mma = Mma { kind: MmaKind::F16K16, acc: Accumulator::F32, d: d.clone(), a: a.clone(), b: b.clone(), c };
    lab.op(Op::Mma(Box::new(mma)));
    let mut out = vec![];
    for pair in [[a[0], a[1]], [a[2], a[3]], [b[0], b[1]], [d[0], d[1]], [d[2], d[3]]] {
        let mut lab = lab.clone();
        lab.op(Op::St { space: Space::Global, order: Order::Weak, ty: Ty::U32, a: OUT, b: Box::new(pair) });
        lab.op(Op::Exit);
        out.push(lab.run(1, 32, options).expect("no fault").0);
    }
    let register = |i: usize, l: usize| (out[i / 2][l] >> (32 * (i % 2))) as u32;
    let half = |bits: u32| half::f16::from_bits(bits as u16).to_f32();
    // Rows and columns as the PTX ISA draws them for m16n8k16.
    let mut errors = vec![];
    for row in 0..16 {
        for column in 0..8 {
            let a = |k: usize| {
                let (l, i) = (row % 8 * 4 + k % 8 / 2, (row / 8) + 2 * (k / 8));
                half(register(i, l) >> (16 * (k % 2)))
            };
            let b = |k: usize| half(register(4 + k / 8, column * 4 + k % 8 / 2) >> (16 * (k % 2)));
            let want: f32 = (0..16).map(|k| a(k) * b(k)).sum();
            let got = f32::from_bits(register(6 + 2 * (row / 8) + column % 2, row % 8 * 4 + column / 2));
            errors.push(got - want);
        }
    }
    errors
}

#[test]
fn tensor_cores_multiply_tiles() {
    // The sums are exact, so every mode gives the same.
    for tensor in [vgpu_cuda::exec::TensorMode::Fast, vgpu_cuda::exec::TensorMode::Hardware] {
        assert!(tile(&Options { tensor, ..OPTIONS }).iter().all(|&error| error == 0.0));
    }
}

#[test]
fn lanes_of_one_slot_may_hold_values_of_unlike_width() {
    // Where branches part, a slot is a 32-bit value's for some lanes and half of a 64-bit value for others.
    let mut lab = Lab::new();
    let (slot, wide) = (lab.slot(), lab.wide_constant(u64::MAX));
    let p = lab.below(16);
    let low = Some(Condition { pred: p, negate: false });
    let high = Some(Condition { pred: p, negate: true });
    lab.op(Op::Mov { wide: false, d: slot, a: THREAD });
    lab.guarded(low, Op::Mov { wide: true, d: slot, a: wide });
    lab.guarded(high, Op::St { space: Space::Global, order: Order::Weak, ty: Ty::U32, a: OUT, b: Box::new([slot]) });
    lab.op(Op::Exit);
    assert!(run(&lab, 32).iter().enumerate().skip(16).all(|(i, &x)| x == i as u64));
}

/// 2^x of the lanes' x, as the approximation gives it.
fn exponentials(options: &Options) -> Vec<f32> {
    let text = ".version 7.4\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out) {\n\
        .reg .f32 %f<3>;\n.reg .b32 %r<2>;\n.reg .b64 %rd<6>;\n\
        ld.param.u64 %rd1, [in];\nld.param.u64 %rd2, [out];\nmov.u32 %r1, %tid.x;\nmul.wide.u32 %rd3, %r1, 4;\n\
        add.s64 %rd4, %rd1, %rd3;\nadd.s64 %rd5, %rd2, %rd3;\n\
        ld.global.f32 %f1, [%rd4];\nex2.approx.f32 %f2, %f1;\nst.global.f32 [%rd5], %f2;\nret;\n}\n";
    let input: Vec<u32> = (0..32).map(|i| (i as f32 * 0.37 - 5.0).to_bits()).collect();
    let out = support::run_ptx(text, &input, 32, options).expect("no fault");
    out.into_iter().map(f32::from_bits).collect()
}

#[test]
fn jitter_moves_approximations_inside_their_bounds() {
    let exact: Vec<f64> = (0..32).map(|i| f64::from(i as f32 * 0.37 - 5.0).exp2()).collect();
    let plain = exponentials(&OPTIONS);
    let moved = exponentials(&Options { jitter: true, ..OPTIONS });
    for (i, exact) in exact.iter().enumerate() {
        for found in [plain[i], moved[i]] {
            // The PTX manual's bound: 2 units in the last place.
            assert!((f64::from(found) / exact - 1.0).abs() <= 2f64.powi(-22), "2^x of lane {i}: {found}, not {exact}");
        }
    }
    let differing = plain.iter().zip(&moved).filter(|(a, b)| a != b).count();
    assert!(differing >= 8, "{differing} of 32 moved");
    assert_eq!(moved, exponentials(&Options { jitter: true, ..OPTIONS }), "the same each time");
}
