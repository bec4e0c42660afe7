//! Arithmetic at its edges, approximations, tensor cores.

use super::run;
use crate::lab::{Lab, MODE, OPTIONS, OUT, THREAD, run_ptx};
use vgpu_cuda::exec::Options;
use vgpu_cuda::ir::*;

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

/// 2^x of the lanes' x, as the approximation gives it.
fn exponentials(options: &Options) -> Vec<f32> {
    let text = ".version 7.4\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out) {\n\
        .reg .f32 %f<3>;\n.reg .b32 %r<2>;\n.reg .b64 %rd<6>;\n\
        ld.param.u64 %rd1, [in];\nld.param.u64 %rd2, [out];\nmov.u32 %r1, %tid.x;\nmul.wide.u32 %rd3, %r1, 4;\n\
        add.s64 %rd4, %rd1, %rd3;\nadd.s64 %rd5, %rd2, %rd3;\n\
        ld.global.f32 %f1, [%rd4];\nex2.approx.f32 %f2, %f1;\nst.global.f32 [%rd5], %f2;\nret;\n}\n";
    let input: Vec<u32> = (0..32).map(|i| (i as f32 * 0.37 - 5.0).to_bits()).collect();
    let out = run_ptx(text, &input, 32, options).expect("no fault");
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
