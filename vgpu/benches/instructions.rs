//! Nanoseconds per warp instruction, by class: `cargo bench -p vgpu --bench instructions`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use support::{Lab, MODE, OPTIONS, OUT, THREAD};
use vgpu_cuda::exec::{Options, TensorMode};
use vgpu_cuda::ir::*;

const COPIES: usize = 64;
const ROUNDS: u32 = 2_000;

/// A loop of many copies of the instruction, minus the empty loop.
fn time(name: &str, options: &Options, ops: impl Fn(&mut Lab) -> Vec<Op>) {
    let seconds = |copies: usize| {
        let mut lab = Lab::new();
        lab.shared_bytes = 16 << 10;
        let zero = lab.constant(0);
        let word = |lab: &mut Lab, slot| {
            lab.op(Op::Mov { wide: false, d: slot, a: zero });
        };
        let (count, one, rounds, p) = (lab.slot(), lab.constant(1), lab.constant(ROUNDS), lab.pred());
        word(&mut lab, count);
        let before = lab.code.len();
        let body = ops(&mut lab);
        // What the instruction's set-up wrote into the code runs once.
        assert!(lab.code.len() >= before);
        let top = lab.code.len() as u32;
        for _ in 0..copies {
            body.iter().for_each(|op| {
                lab.op(op.clone());
            });
        }
        lab.op(Op::Bin { op: BinOp::Add, ty: Ty::U32, mode: MODE, d: count, a: count, b: one });
        lab.op(Op::Setp { cmp: Cmp::Lt, ty: Ty::U32, ftz: false, combine: None, p, q: None, a: count, b: rounds });
        lab.guarded(Some(Condition { pred: p, negate: false }), Op::Bra { target: top });
        lab.op(Op::Exit);
        let mut best = f64::INFINITY;
        for _ in 0..3 {
            let start = Instant::now();
            lab.run(1, 32, options).unwrap_or_else(|fault| panic!("{fault}"));
            best = best.min(start.elapsed().as_secs_f64());
        }
        (best, body.len())
    };
    let ((empty, _), (full, each)) = (seconds(0), seconds(COPIES));
    let ns = (full - empty) * 1e9 / (ROUNDS as f64 * (COPIES * each) as f64);
    println!("{name:28} {ns:8.1} ns");
}

fn binary(op: BinOp, ty: Ty) -> impl Fn(&mut Lab) -> Vec<Op> {
    move |lab| {
        let (d, a, b) = (lab.slot(), lab.slot(), lab.slot());
        for slot in [a, b] {
            let value = if ty.is_wide() { lab.wide_constant(0x3ff0_0000_0000_0003) } else { lab.constant(0x3f80_3c03) };
            lab.op(Op::Mov { wide: ty.is_wide(), d: slot, a: value });
        }
        vec![Op::Bin { op, ty, mode: MODE, d, a, b }]
    }
}

fn convert(to: Ty, from: Ty, round: Round) -> impl Fn(&mut Lab) -> Vec<Op> {
    move |lab| {
        let (d, a, value) = (lab.slot(), lab.slot(), lab.constant(0x3f80_3c03));
        lab.op(Op::Mov { wide: false, d: a, a: value });
        vec![Op::Cvt { to, from, mode: Mode { round, ..MODE }, d, a }]
    }
}

fn unary(op: UnOp, ty: Ty) -> impl Fn(&mut Lab) -> Vec<Op> {
    move |lab| {
        let (d, a, value) = (lab.slot(), lab.slot(), lab.constant(0x3f80_3c03));
        lab.op(Op::Mov { wide: false, d: a, a: value });
        vec![Op::Un { op, ty, mode: MODE, d, a }]
    }
}

fn shared(lab: &mut Lab, step: u32) -> Address {
    let (address, size, base) = (lab.slot(), lab.constant(step), lab.constant(0x400));
    lab.op(Op::Tern { op: TernOp::MadLo, ty: Ty::U32, mode: MODE, d: address, a: THREAD, b: size, c: base });
    Address { base: Some(address), narrow: true, offset: 0 }
}

fn mma(acc: Accumulator) -> impl Fn(&mut Lab) -> Vec<Op> {
    move |lab| {
        let slots = |lab: &mut Lab, n: usize| -> Box<[Slot]> {
            let one = lab.constant(0x2c00_2c00);
            (0..n)
                .map(|_| {
                    let slot = lab.slot();
                    lab.op(Op::Mov { wide: false, d: slot, a: one });
                    slot
                })
                .collect()
        };
        let size = if acc == Accumulator::F16 { 2 } else { 4 };
        let (a, b, c) = (slots(lab, 4), slots(lab, 2), slots(lab, size));
        vec![Op::Mma(Box::new(Mma { kind: MmaKind::F16K16, acc, d: c.clone(), a, b, c }))]
    }
}

fn main() {
    let o = &OPTIONS;
    time("mov", o, |lab| vec![Op::Mov { wide: false, d: lab.slot(), a: THREAD }]);
    time("add.u32", o, binary(BinOp::Add, Ty::U32));
    time("mul.lo.u32", o, binary(BinOp::MulLo, Ty::U32));
    time("shl.b32", o, binary(BinOp::Shl, Ty::U32));
    time("add.u64", o, binary(BinOp::Add, Ty::U64));
    time("mul.wide.u32", o, binary(BinOp::MulWide, Ty::U32));
    time("div.s32", o, binary(BinOp::Div, Ty::S32));
    time("add.f32", o, binary(BinOp::Add, Ty::F32));
    time("max.f32", o, binary(BinOp::Max, Ty::F32));
    time("div.rn.f32", o, binary(BinOp::Div, Ty::F32));
    time("add.f16x2", o, binary(BinOp::Add, Ty::F16x2));
    time("fma.rn.f32", o, |lab| {
        let (d, a) = (lab.slot(), lab.slot());
        let value = lab.constant(0x3f80_0000);
        lab.op(Op::Mov { wide: false, d: a, a: value });
        vec![Op::Tern { op: TernOp::Fma, ty: Ty::F32, mode: MODE, d, a, b: a, c: a }]
    });
    time("fma.rn.f16x2", o, |lab| {
        let (d, a) = (lab.slot(), lab.slot());
        let value = lab.constant(0x3c00_3c00);
        lab.op(Op::Mov { wide: false, d: a, a: value });
        vec![Op::Tern { op: TernOp::Fma, ty: Ty::F16x2, mode: MODE, d, a, b: a, c: a }]
    });
    time("setp.lt.s32", o, |lab| {
        let p = lab.pred();
        vec![Op::Setp { cmp: Cmp::Lt, ty: Ty::S32, ftz: false, combine: None, p, q: None, a: THREAD, b: THREAD }]
    });
    time("selp.b32", o, |lab| {
        let p = lab.below(7);
        let d = lab.slot();
        vec![Op::Selp { wide: false, d, a: THREAD, b: THREAD, p: Condition { pred: p, negate: false } }]
    });
    time("cvt.f32.f16", o, convert(Ty::F32, Ty::F16, Round::Rn));
    time("cvt.rn.f16.f32", o, convert(Ty::F16, Ty::F32, Round::Rn));
    time("cvt.rzi.s32.f32", o, convert(Ty::S32, Ty::F32, Round::Rzi));
    time("cvt.rn.f16x2.f32", o, |lab| {
        let (d, a, value) = (lab.slot(), lab.slot(), lab.constant(0x3f80_0000));
        lab.op(Op::Mov { wide: false, d: a, a: value });
        vec![Op::CvtPack { to: Ty::F16x2, mode: MODE, d, a, b: a }]
    });
    time("ex2.approx.f32", o, unary(UnOp::Ex2Approx, Ty::F32));
    time("rsqrt.approx.f32", o, unary(UnOp::RsqrtApprox, Ty::F32));
    time("lg2.approx.f32", o, unary(UnOp::Lg2Approx, Ty::F32));
    time("tanh.approx.f32", o, unary(UnOp::TanhApprox, Ty::F32));
    time("shfl.bfly", o, |lab| {
        let (d, b, c, members) = (lab.slot(), lab.constant(1), lab.constant(0x1f), lab.constant(u32::MAX));
        vec![Op::Shfl { mode: ShflMode::Bfly, d, p: None, a: THREAD, b, c, members }]
    });
    time("ld.param", o, |lab| {
        let a = Address { base: None, narrow: false, offset: 0 };
        vec![Op::Ld { space: Space::Param, order: Order::Weak, ty: Ty::U32, d: Box::new([Some(lab.slot())]), a }]
    });
    let weak = Order::Weak;
    time("st.shared.u32", o, |lab| {
        let a = shared(lab, 4);
        vec![Op::St { space: Space::Shared, order: weak, ty: Ty::U32, a, b: Box::new([THREAD]) }]
    });
    time("ld.shared.u32", o, |lab| {
        let a = shared(lab, 4);
        lab.op(Op::St { space: Space::Shared, order: weak, ty: Ty::U32, a, b: Box::new([THREAD]) });
        vec![Op::Ld { space: Space::Shared, order: weak, ty: Ty::U32, d: Box::new([Some(lab.slot())]), a }]
    });
    time("ldmatrix.x4", o, |lab| {
        let a = shared(lab, 16);
        lab.op(Op::St { space: Space::Shared, order: weak, ty: Ty::U32, a, b: Box::new([THREAD; 4]) });
        let d = Box::new([lab.slot(), lab.slot(), lab.slot(), lab.slot()]);
        vec![Op::Ldmatrix { transpose: false, d, a }]
    });
    time("st.global.v2.u32", o, |_| {
        vec![Op::St { space: Space::Global, order: weak, ty: Ty::U32, a: OUT, b: Box::new([THREAD; 2]) }]
    });
    time("ld.global.v2.u32", o, |lab| {
        let d = Box::new([Some(lab.slot()), Some(lab.slot())]);
        vec![Op::Ld { space: Space::Global, order: weak, ty: Ty::U32, d, a: OUT }]
    });
    time("cp.async 8 + commit + wait", o, |lab| {
        let dst = shared(lab, 8);
        let copy = Op::CpAsync { bytes: 8, dst, src: OUT, src_size: None, ignore_src: None };
        vec![copy, Op::CpAsyncCommit, Op::CpAsyncWait { pending: 0 }]
    });
    time("bar.sync", o, |lab| {
        let id = lab.constant(0);
        vec![Op::Barrier { kind: BarrierKind::Sync, id, threads: None, d: None, p: None, a: None }]
    });
    time("mma f16, f32 sums", o, mma(Accumulator::F32));
    time("mma f16, f16 sums", o, mma(Accumulator::F16));
    time("mma f16, f32 sums, hw", &Options { tensor: TensorMode::Hardware, ..*o }, mma(Accumulator::F32));
}
