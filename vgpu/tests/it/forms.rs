//! PTX text to result: the forms of instructions that nvcc writes, each with what the PTX ISA says of it.

use vgpu_cuda::fault::{Check, Fault};

use crate::children::in_child;
use crate::lab::{OPTIONS, run_ptx};

/// A kernel that leaves each lane's `%r0`, of one warp. Before `body`: `%r1` and `%f1` are the lane's number, `%rd1` the
/// input (word i is 100 + i), `%rd2` the lane's word of it, `%rd4` a word of zeros behind the output, `%r2` the lane's
/// word of shared memory, in which all is 0.
fn results(body: &str) -> Vec<u32> {
    run(body).unwrap_or_else(|fault| panic!("{fault}\n{body}"))
}

#[allow(clippy::result_large_err)]
fn run(body: &str) -> Result<Vec<u32>, Fault> {
    with("", body)
}

/// With something declared before the kernel.
#[allow(clippy::result_large_err)]
fn with(before: &str, body: &str) -> Result<Vec<u32>, Fault> {
    let text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n{before}.visible .entry forms(.param .u64 in, .param .u64 out) {{\n\
         .reg .pred %p<9>;\n.reg .b16 %h<9>;\n.reg .b32 %r<30>;\n.reg .f32 %f<9>;\n.reg .b64 %rd<12>;\n.reg .f64 %fd<5>;\n\
         .shared .align 16 .b8 sm[2048];\n.local .align 16 .b8 own[64];\n\
         ld.param.u64 %rd1, [in];\nld.param.u64 %rd3, [out];\nmov.u32 %r1, %laneid;\ncvt.rn.f32.u32 %f1, %r1;\n\
         mul.wide.u32 %rd9, %r1, 4;\nadd.s64 %rd2, %rd1, %rd9;\nadd.s64 %rd3, %rd3, %rd9;\n\
         ld.param.u64 %rd4, [out];\nadd.s64 %rd4, %rd4, 128;\n\
         mov.u32 %r2, sm;\nshl.b32 %r29, %r1, 4;\nadd.s32 %r29, %r2, %r29;\nmov.u32 %r0, 0;\n\
         st.shared.v4.u32 [%r29], {{%r0,%r0,%r0,%r0}};\nst.shared.v4.u32 [%r29+512], {{%r0,%r0,%r0,%r0}};\n\
         bar.sync 0;\nmad.lo.u32 %r2, %r1, 4, %r2;\n{body}\nst.global.u32 [%rd3], %r0;\nret;\n}}\n"
    );
    let input: Vec<u32> = (100..164).collect();
    let mut out = run_ptx(&text, &input, 36, &OPTIONS)?;
    out.truncate(32);
    Ok(out)
}

/// What it is of the lane.
type Cases<'a, T> = &'a [(&'a str, fn(T) -> T)];

fn all_hold(cases: Cases<'_, u32>) {
    for (body, expected) in cases {
        let found = results(body);
        let expected: Vec<u32> = (0..32).map(expected).collect();
        assert_eq!(found, expected, "{body}");
    }
}

/// `%f0` is the result; `bound`: of the relative error (absolute below 1).
fn all_are_near(bound: f64, cases: Cases<'_, f64>) {
    for (body, exact) in cases {
        for (lane, bits) in results(&format!("{body}\nmov.b32 %r0, %f0;")).into_iter().enumerate() {
            let (found, exact) = (f64::from(f32::from_bits(bits)), exact(lane as f64));
            let is_near = found == exact || (found - exact).abs() <= bound * exact.abs().max(1.0);
            assert!(is_near, "{body}: lane {lane}: {found}, exactly {exact}");
        }
    }
}

#[test]
fn integers() {
    all_hold(&[
        ("mul.lo.s32 %r0, %r1, -3;", |l| l.wrapping_mul(u32::MAX - 2)),
        ("mul.hi.u32 %r0, %r1, 0x80000000;", |l| l / 2),
        ("mul.hi.s32 %r0, %r1, -2;", |l| if l == 0 { 0 } else { u32::MAX }),
        ("mul.wide.s32 %rd5, %r1, -2; shr.u64 %rd5, %rd5, 32; cvt.u32.u64 %r0, %rd5;", |l| {
            if l == 0 { 0 } else { u32::MAX }
        }),
        ("mul.wide.u32 %rd5, %r1, -2; shr.u64 %rd5, %rd5, 32; cvt.u32.u64 %r0, %rd5;", |l| l.saturating_sub(1)),
        ("mad.lo.s32 %r0, %r1, %r1, 5;", |l| l * l + 5),
        ("mad.wide.s32 %rd5, %r1, -1, %rd9; cvt.u32.u64 %r0, %rd5;", |l| 3 * l),
        ("add.s32 %r3, %r1, -16; div.s32 %r0, %r3, 5;", |l| ((l as i32 - 16) / 5) as u32),
        ("add.s32 %r3, %r1, -16; rem.s32 %r0, %r3, 5;", |l| ((l as i32 - 16) % 5) as u32),
        ("div.u32 %r0, %r1, 5;", |l| l / 5),
        ("rem.u32 %r0, %r1, 5;", |l| l % 5),
        ("add.s32 %r3, %r1, -16; abs.s32 %r0, %r3;", |l| l.abs_diff(16)),
        ("neg.s32 %r0, %r1;", |l| l.wrapping_neg()),
        ("add.s32 %r3, %r1, -16; min.s32 %r0, %r3, 3;", |l| (l as i32 - 16).min(3) as u32),
        ("add.s32 %r3, %r1, -16; max.u32 %r0, %r3, 3;", |l| l.wrapping_sub(16).max(3)),
        ("add.cc.u32 %r3, %r1, -8; addc.u32 %r0, 0, 0;", |l| u32::from(l >= 8)),
        ("sub.cc.u32 %r3, %r1, 8; subc.u32 %r0, 0, 0;", |l| if l < 8 { u32::MAX } else { 0 }),
        ("add.s32 %r3, %r1, 20; shl.b32 %r0, 1, %r3;", |l| 1u32.checked_shl(l + 20).unwrap_or(0)),
        ("add.s32 %r3, %r1, 20; shr.s32 %r0, 0x80000000, %r3;", |l| (i32::MIN >> (l + 20).min(31)) as u32),
        ("add.s32 %r3, %r1, 20; shr.u32 %r0, 0x80000000, %r3;", |l| 0x8000_0000u32.checked_shr(l + 20).unwrap_or(0)),
        ("shf.l.wrap.b32 %r0, 0x80000001, %r1, 36;", |l| l << 4 | 8),
        ("shf.r.wrap.b32 %r0, %r1, 7, 36;", |l| l >> 4 | 7 << 28),
        ("shf.r.clamp.b32 %r0, %r1, 7, 36;", |_| 7),
        ("and.b32 %r3, %r1, 6; or.b32 %r4, %r1, 8; xor.b32 %r0, %r3, %r4;", |l| (l & 6) ^ (l | 8)),
        ("not.b32 %r0, %r1;", |l| !l),
        ("lop3.b32 %r0, %r1, 12, 10, 0xe8;", |l| l & 12 | l & 10 | 12 & 10),
        ("clz.b32 %r0, %r1;", u32::leading_zeros),
        ("brev.b32 %r0, %r1;", u32::reverse_bits),
        ("popc.b32 %r0, %r1;", u32::count_ones),
        ("bfi.b32 %r0, %r1, -1, 8, 4;", |l| 0xffff_f0ff | (l & 15) << 8),
        ("bfe.u32 %r0, %r1, 1, 2;", |l| l >> 1 & 3),
        ("bfe.s32 %r0, %r1, 1, 2;", |l| ((l << 29) as i32 >> 30) as u32),
        // A selector's fourth bit copies the sign of the byte instead.
        ("prmt.b32 %r0, 0x83828180, 0x07060504, 0xb714;", |_| 0xff07_8104),
        (
            "setp.lt.u32 %p1, %r1, 9; setp.gt.and.u32 %p2|%p3, %r1, 3, %p1; selp.u32 %r3, 1, 0, %p2; \
             selp.u32 %r4, 2, 0, %p3; add.u32 %r0, %r3, %r4;",
            |l| u32::from(l > 3 && l < 9) + 2 * u32::from(l <= 3),
        ),
        ("add.s32 %r3, %r1, -16; slct.u32.s32 %r0, 5, 6, %r3;", |l| if l >= 16 { 5 } else { 6 }),
    ]);
}

#[test]
fn conversions() {
    all_hold(&[
        ("cvt.rn.f16x2.f32 %r0, 0f3F800000, %f1;", |l| {
            0x3c00 << 16 | u32::from(half::f16::from_f32(l as f32).to_bits())
        }),
        ("cvt.rn.bf16x2.f32 %r0, 0f3F800000, %f1;", |l| {
            0x3f80 << 16 | u32::from(half::bf16::from_f32(l as f32).to_bits())
        }),
        // 2049 lies between 2048 and 2050: to even.
        (
            "add.f32 %f2, %f1, 0f45000000; cvt.rn.f16.f32 %h1, %f2; cvt.f32.f16 %f3, %h1; cvt.rzi.u32.f32 %r0, %f3;",
            |l| 2048 + (l + l % 4 / 2) / 2 * 2,
        ),
        ("add.s32 %r3, %r1, -16; cvt.rn.f32.s32 %f2, %r3; mov.b32 %r0, %f2;", |l| (l as f32 - 16.0).to_bits()),
        ("fma.rn.f32 %f2, %f1, 0f3F000000, 0fC1000000; cvt.rzi.s32.f32 %r0, %f2;", |l| {
            (l as f32 / 2.0 - 8.0) as i32 as u32
        }),
        ("fma.rn.f32 %f2, %f1, 0f3F000000, 0fC1000000; cvt.rzi.u32.f32 %r0, %f2;", |l| (l as f32 / 2.0 - 8.0) as u32),
        ("fma.rn.f32 %f2, %f1, 0f3F000000, 0fC1000000; cvt.rmi.f32.f32 %f3, %f2; mov.b32 %r0, %f3;", |l| {
            (l as f32 / 2.0 - 8.0).floor().to_bits()
        }),
        ("fma.rn.f32 %f2, %f1, 0f3F000000, 0fC1000000; cvt.rpi.s32.f32 %r0, %f2;", |l| {
            (l as f32 / 2.0 - 8.0).ceil() as i32 as u32
        }),
        ("fma.rn.f32 %f2, %f1, 0f3F000000, 0fC1000000; cvt.rni.s32.f32 %r0, %f2;", |l| {
            (l as f32 / 2.0 - 8.0).round_ties_even() as i32 as u32
        }),
        ("cvt.rzi.s32.f32 %r0, 0f7FC00000;", |_| 0),
        ("cvt.rzi.s32.f32 %r0, 0f7F000000;", |_| i32::MAX as u32),
        ("neg.s32 %r3, %r1; cvt.s64.s32 %rd5, %r3; shr.u64 %rd5, %rd5, 32; cvt.u32.u64 %r0, %rd5;", |l| {
            if l == 0 { 0 } else { u32::MAX }
        }),
        ("neg.s32 %r3, %r1; cvt.u64.u32 %rd5, %r3; shr.u64 %rd5, %rd5, 32; cvt.u32.u64 %r0, %rd5;", |_| 0),
        ("add.u32 %r3, %r1, 240; cvt.s32.s8 %r0, %r3;", |l| (l + 240) as u8 as i8 as u32),
        ("cvt.rn.f64.s32 %fd1, %r1; cvt.rn.f32.f64 %f2, %fd1; mov.b32 %r0, %f2;", |l| (l as f32).to_bits()),
        ("cvt.sat.f32.f32 %f2, %f1; mov.b32 %r0, %f2;", |l| (l as f32).min(1.0).to_bits()),
    ]);
}

#[test]
fn floats() {
    all_hold(&[
        // Exact only when rounded once.
        ("mov.f32 %f2, 0f3F800001; fma.rn.f32 %f3, %f2, %f2, 0fBF800002; mov.b32 %r0, %f3;", |_| {
            2f32.powi(-46).to_bits()
        }),
        ("add.f32 %f2, %f1, 0f3F800000; rcp.rn.f32 %f3, %f2; mov.b32 %r0, %f3;", |l| {
            (1.0 / (l as f32 + 1.0)).to_bits()
        }),
        ("sqrt.rn.f32 %f3, %f1; mov.b32 %r0, %f3;", |l| (l as f32).sqrt().to_bits()),
        ("div.rn.f32 %f3, %f1, 0f40400000; mov.b32 %r0, %f3;", |l| (l as f32 / 3.0).to_bits()),
        ("copysign.f32 %f3, 0fBF800000, %f1; mov.b32 %r0, %f3;", |l| (-(l as f32)).to_bits()),
        ("abs.f32 %f2, 0fC0000000; neg.f32 %f3, %f2; mov.b32 %r0, %f3;", |_| (-2f32).to_bits()),
        ("min.f32 %f3, %f1, 0f7FC00000; mov.b32 %r0, %f3;", |l| (l as f32).to_bits()),
        ("max.NaN.f32 %f3, %f1, 0f7FC00000; mov.b32 %r0, %f3;", |_| 0x7fff_ffff),
        ("setp.ltu.f32 %p1, %f1, 0f7FC00000; selp.u32 %r0, 1, 0, %p1;", |_| 1),
        ("setp.lt.f32 %p1, %f1, 0f7FC00000; selp.u32 %r0, 1, 0, %p1;", |_| 0),
        ("setp.neu.f32 %p1, %f1, 0f40A00000; selp.u32 %r0, 1, 0, %p1;", |l| u32::from(l != 5)),
        // Subnormal: only `.ftz` makes it zero.
        ("mov.f32 %f2, 0f00000001; mul.f32 %f3, %f2, 0f3F800000; mov.b32 %r0, %f3;", |_| 1),
        ("mov.f32 %f2, 0f00000001; mul.ftz.f32 %f3, %f2, 0f3F800000; mov.b32 %r0, %f3;", |_| 0),
        // (2, 3) op (5, -1), and 1024 · 2 + 1, which f16 holds.
        ("mov.b32 %r3, 0x42004000; mov.b32 %r4, 0xbc004500; add.f16x2 %r0, %r3, %r4;", |_| 0x4000_4700),
        ("mov.b32 %r3, 0x42004000; mov.b32 %r4, 0xbc004500; max.f16x2 %r0, %r3, %r4;", |_| 0x4200_4500),
        (
            "mov.b32 %r3, 0x64004000; mov.b32 %r4, 0x40004500; mov.b32 %r5, 0x3c00bc00; \
             fma.rn.f16x2 %r0, %r3, %r4, %r5;",
            |_| 0x6800_4880,
        ),
        (
            "{ .reg .f16 low, high; mov.b32 %r3, 0x42004000; mov.b32 {low, high}, %r3; mul.f16 high, high, low; \
             mov.b32 %r0, {low, high}; }",
            |_| 0x4600_4000,
        ),
    ]);
}

#[test]
fn approximations() {
    // As precise as the PTX ISA says of each.
    all_are_near(
        2f64.powi(-22),
        &[
            ("mul.f32 %f2, %f1, 0fBE800000; ex2.approx.f32 %f0, %f2;", |l| (-l / 4.0).exp2()),
            ("mul.f32 %f2, %f1, 0fBE800000; ex2.approx.ftz.f32 %f0, %f2;", |l| (-l / 4.0).exp2()),
            ("add.f32 %f2, %f1, 0f3F800000; lg2.approx.f32 %f0, %f2;", |l| (l + 1.0).log2()),
            ("add.f32 %f2, %f1, 0f3F800000; rsqrt.approx.f32 %f0, %f2;", |l| 1.0 / (l + 1.0).sqrt()),
            ("add.f32 %f2, %f1, 0f3F800000; rcp.approx.ftz.f32 %f0, %f2;", |l| 1.0 / (l + 1.0)),
            ("sqrt.approx.f32 %f0, %f1;", f64::sqrt),
            ("div.approx.f32 %f0, %f1, 0f40400000;", |l| l / 3.0),
        ],
    );
    all_are_near(
        2f64.powi(-20),
        &[
            ("mul.f32 %f2, %f1, 0f3DCCCCCD; sin.approx.f32 %f0, %f2;", |l| (l * f64::from(0.1f32)).sin()),
            ("mul.f32 %f2, %f1, 0f3DCCCCCD; cos.approx.f32 %f0, %f2;", |l| (l * f64::from(0.1f32)).cos()),
        ],
    );
    all_are_near(
        2f64.powi(-10),
        &[
            ("mul.f32 %f2, %f1, 0f3E000000; tanh.approx.f32 %f0, %f2;", |l| (l / 8.0).tanh()),
            (
                "mul.f32 %f2, %f1, 0fBE800000; cvt.rn.f16x2.f32 %r3, %f2, %f2; ex2.approx.f16x2 %r4, %r3;\n\
             mov.b32 {%h1, %h2}, %r4; cvt.f32.f16 %f0, %h2;",
                |l| (-l / 4.0).exp2(),
            ),
        ],
    );
}

#[test]
fn lanes_together() {
    all_hold(&[
        ("shfl.sync.bfly.b32 %r0, %r1, 1, 0x1f, -1;", |l| l ^ 1),
        (
            "shfl.sync.down.b32 %r3|%p1, %r1, 4, 0x1f, -1; selp.u32 %r0, %r3, 99, %p1;",
            |l| if l < 28 { l + 4 } else { 99 },
        ),
        ("shfl.sync.up.b32 %r3|%p1, %r1, 4, 0, -1; selp.u32 %r0, %r3, 99, %p1;", |l| if l < 4 { 99 } else { l - 4 }),
        ("shfl.sync.idx.b32 %r0, %r1, 3, 0x181f, -1;", |l| l / 8 * 8 + 3),
        ("setp.lt.u32 %p1, %r1, 5; vote.sync.ballot.b32 %r0, !%p1, -1;", |_| !31),
        (
            "setp.lt.u32 %p1, %r1, 5; vote.sync.any.pred %p2, %p1, -1; vote.sync.all.pred %p3, %p1, -1; \
             selp.u32 %r3, 1, 0, %p2; selp.u32 %r0, 2, %r3, %p3;",
            |_| 1,
        ),
        (
            "setp.lt.u32 %p1, %r1, 5; @%p1 bra THERE; activemask.b32 %r0; bra.uni END; \
             THERE: activemask.b32 %r0; END:",
            |l| {
                if l < 5 { 31 } else { !31 }
            },
        ),
        ("and.b32 %r3, %r1, 3; match.any.sync.b32 %r0, %r3, -1;", |l| 0x1111_1111 << (l % 4)),
        ("match.all.sync.b32 %r3|%p1, 7, -1; selp.u32 %r0, %r3, 1, %p1;", |_| u32::MAX),
        ("redux.sync.add.s32 %r0, %r1, -1;", |_| 496),
        ("add.s32 %r3, %r1, -16; redux.sync.min.s32 %r0, %r3, -1;", |_| -16i32 as u32),
        ("redux.sync.or.b32 %r0, %r1, -1;", |_| 31),
        // Element (row, column) of an 8×8 block lies in half column % 2 of lane 4·row + column / 2.
        (
            "shl.b32 %r3, %r1, 1; add.u32 %r4, %r3, 1; shl.b32 %r4, %r4, 16; or.b32 %r3, %r3, %r4; \
             movmatrix.sync.aligned.m8n8.trans.b16 %r0, %r3;",
            |l| {
                let (row, column) = (l / 4, l % 4 * 2);
                let element = |column: u32| 8 * column + row;
                element(column) | element(column + 1) << 16
            },
        ),
    ]);
}

#[test]
fn memory() {
    all_hold(&[
        ("ld.global.nc.u32 %r0, [%rd2+4];", |l| 101 + l),
        ("ld.global.u8 %r0, [%rd2];", |l| 100 + l),
        ("ld.global.s8 %r0, [%rd2];", |l| (100 + l) as u8 as i8 as u32),
        ("ld.global.u16 %h1, [%rd2]; mov.u16 %h2, 1; mov.b32 %r0, {%h1, %h2};", |l| 65536 + 100 + l),
        ("ld.global.v4.u32 {%r3, %r4, %r5, %r0}, [%rd1+16];", |_| 107),
        ("ld.global.v2.f32 {%f2, %f3}, [%rd1+8]; mov.b32 %r0, %f3;", |_| 103),
        ("ld.global.u64 %rd5, [%rd1]; shr.u64 %rd5, %rd5, 32; cvt.u32.u64 %r0, %rd5;", |_| 101),
        ("st.shared.u32 [%r2], %r1; bar.warp.sync -1; xor.b32 %r3, %r2, 4; ld.shared.u32 %r0, [%r3];", |l| l ^ 1),
        (
            "mul.lo.u32 %r3, %r1, 3; mov.u32 %r4, sm; add.u32 %r4, %r4, %r3; st.shared.u8 [%r4+1], %r1; \
             ld.shared.u8 %r0, [%r4+1];",
            |l| l,
        ),
        ("st.local.v2.u32 [own+8], {%r1, %r2}; ld.local.u32 %r0, [own+8];", |l| l),
        ("mov.u64 %rd5, own; cvta.local.u64 %rd6, %rd5; st.u32 [%rd6+4], %r1; ld.local.u32 %r0, [own+4];", |l| l),
        (
            "mov.u64 %rd5, sm; cvta.shared.u64 %rd6, %rd5; add.s64 %rd6, %rd6, %rd9; st.u32 [%rd6], %r1; \
             ld.shared.u32 %r0, [%r2];",
            |l| l,
        ),
        (
            "mov.b64 %rd5, in; cvta.param.u64 %rd6, %rd5; isspacep.param %p1, %rd6; isspacep.global %p2, %rd6; \
             @%p1 ld.u64 %rd7, [%rd6]; sub.s64 %rd7, %rd7, %rd1; cvt.u32.u64 %r0, %rd7; @%p2 mov.u32 %r0, 99;",
            |_| 0,
        ),
        // In order, lowest lane first.
        ("atom.global.add.u32 %r0, [%rd4], 2;", |l| 2 * l),
        ("atom.global.add.f32 %f2, [%rd4], 0f3F000000; mov.b32 %r0, %f2;", |l| (l as f32 / 2.0).to_bits()),
        ("atom.global.max.s32 %r0, [%rd4], %r1;", |l| l.saturating_sub(1)),
        ("atom.global.exch.b32 %r0, [%rd4], %r1;", |l| l.saturating_sub(1)),
        ("add.u32 %r3, %r1, 1; atom.global.cas.b32 %r0, [%rd4], %r1, %r3;", |l| l),
        ("red.global.add.u32 [%rd4], %r1; atom.global.add.u32 %r0, [%rd4], 0;", |_| 496),
        ("mov.u32 %r3, sm; atom.shared.inc.u32 %r0, [%r3], 4;", |l| l % 5),
        ("mov.u32 %r3, sm; atom.shared.or.b32 %r0, [%r3], %r1;", |l| {
            l.checked_sub(1).map_or(0, |l| if l == 0 { 0 } else { u32::MAX >> l.leading_zeros() })
        }),
        // 8 of 16 bytes, the rest zero.
        (
            "shl.b32 %r3, %r1, 4; mov.u32 %r4, sm; add.u32 %r3, %r4, %r3; mov.u32 %r5, 8; \
             cp.async.cg.shared.global.L2::128B [%r3], [%rd1+16], 16, %r5; cp.async.commit_group; \
             cp.async.wait_group 0; ld.shared.v4.u32 {%r5, %r6, %r7, %r8}, [%r3]; mad.lo.u32 %r0, %r6, 1000, %r7;",
            |_| 105_000,
        ),
        ("cp.async.ca.shared.global [%r2], [%rd2], 4; cp.async.wait_all; ld.shared.u32 %r0, [%r2];", |l| 100 + l),
    ]);
}

#[test]
fn integers_that_saturate_or_carry() {
    all_hold(&[
        ("add.sat.s32 %r0, 0x7fffffff, %r1;", |_| 0x7fff_ffff),
        ("neg.s32 %r3, %r1; add.sat.s32 %r0, 0x80000000, %r3;", |_| 0x8000_0000),
        ("add.sat.s32 %r0, 0x80000000, %r1;", |l| 0x8000_0000 + l),
        ("sub.sat.s32 %r0, 0x80000000, %r1;", |_| 0x8000_0000),
        ("sub.sat.s32 %r0, %r1, 0x80000000;", |_| 0x7fff_ffff),
        ("sub.sat.s32 %r0, -1, 0x80000000;", |_| 0x7fff_ffff),
        ("mad.hi.sat.s32 %r0, 0x80000000, 0x80000000, 0x7fffffff;", |_| 0x7fff_ffff),
        ("mad.hi.sat.s32 %r0, 0x80000000, 0x7fffffff, 0x80000001;", |_| 0x8000_0000),
        ("mad.hi.s32 %r0, 0x80000000, 0x80000000, 0x7fffffff;", |_| 0xbfff_ffff),
        // Borrowed by the first, not by the second, which gives 0.
        (
            "sub.cc.s32 %r3, 0x80000001, 0x80000002; subc.cc.s32 %r4, %r3, -2; subc.s32 %r5, %r4, -2; \
             mad.lo.u32 %r0, %r4, 100, %r5;",
            |_| 2,
        ),
        // 0 − 2³² is borrowed although its low word is 0.
        (
            "sub.cc.u32 %r3, 0, 1; subc.cc.u32 %r4, 0, -1; subc.u32 %r5, 0, 0; shl.b32 %r4, %r4, 4; xor.b32 %r0, %r4, %r5;",
            |_| u32::MAX,
        ),
        ("sub.cc.u32 %r3, 5, 5; subc.cc.u32 %r4, 5, 5; subc.u32 %r0, %r4, 0;", |_| 0),
        ("add.cc.u32 %r3, -1, 1; addc.cc.u32 %r4, -1, -1; addc.u32 %r5, 0, 0; add.u32 %r0, %r4, %r5;", |_| 0),
        ("add.cc.u32 %r3, -1, 1; addc.cc.u32 %r4, -1, 0; addc.u32 %r5, 0, 0; add.u32 %r0, %r4, %r5;", |_| 1),
        (
            "mov.u64 %rd5, 0; sub.cc.u64 %rd6, %rd5, 1; subc.u64 %rd7, %rd5, 0; shr.u64 %rd7, %rd7, 63; cvt.u32.u64 %r0, %rd7;",
            |_| 1,
        ),
        ("mad.lo.cc.u32 %r3, -1, 1, 1; madc.hi.u32 %r0, -1, -1, 0;", |_| u32::MAX),
        (
            "mad.lo.cc.u32 %r3, -1, 1, 0; madc.hi.cc.u32 %r4, -1, -1, 1; addc.u32 %r5, 0, 0; add.u32 %r0, %r4, %r5;",
            |_| u32::MAX,
        ),
        (
            "mad.lo.cc.u32 %r3, 0, 0, -1; madc.hi.cc.s32 %r4, -1, 1, 1; addc.u32 %r5, 0, 0; shl.b32 %r5, %r5, 8; or.b32 %r0, %r4, %r5;",
            |_| 256,
        ),
        // The carry of a difference is that of x + !y + 1.
        ("sub.cc.u32 %r3, 0, 0; addc.u32 %r0, 0, 0;", |_| 1),
        ("sub.cc.u32 %r3, 0, 1; addc.u32 %r0, 0, 0;", |_| 0),
        ("add.cc.u32 %r3, 0, 0; subc.u32 %r0, 0, 0;", |_| u32::MAX),
        ("add.cc.u32 %r3, -1, -1; subc.u32 %r0, 0, 0;", |_| 0),
    ]);
}

#[test]
fn integers_in_parts() {
    all_hold(&[
        ("add.u16x2 %r0, 0xffff0001, 0x0002ffff;", |_| 0x0001_0000),
        ("add.s16x2 %r0, 0x7fff8000, 0x0001ffff;", |_| 0x8000_7fff),
        ("min.s16x2 %r0, 0x80000005, 0x7fff0004;", |_| 0x8000_0004),
        ("min.u16x2 %r0, 0x80000005, 0x7fff0004;", |_| 0x7fff_0004),
        ("max.s16x2 %r0, 0x80000005, 0x7fff0004;", |_| 0x7fff_0005),
        ("max.u16x2 %r0, 0x8000ffff, 0x7fff0004;", |_| 0x8000_ffff),
        ("min.relu.s16x2 %r0, 0x80000005, 0x7fff0004;", |_| 0x0000_0004),
        ("max.relu.s16x2 %r0, 0x80008000, 0xffff0004;", |_| 0x0000_0004),
        ("add.s32 %r3, %r1, -16; max.relu.s32 %r0, %r3, -5;", |l| l.saturating_sub(16)),
        ("add.s32 %r3, %r1, -16; min.relu.s32 %r0, %r3, 5;", |l| l.saturating_sub(16).min(5)),
        ("mul24.hi.u32 %r0, 0x12ffffff, 0x34ffffff;", |_| ((0xff_ffffu64 * 0xff_ffff) >> 16) as u32),
        ("mul24.hi.s32 %r0, 0x80ffffff, 0x12000001;", |_| u32::MAX),
        ("mul24.hi.s32 %r0, 0x00800000, 0x00800000;", |_| 1 << 30),
        ("mad24.hi.u32 %r0, 0xffffff, 0xffffff, -1;", |_| (((0xff_ffffu64 * 0xff_ffff) >> 16) as u32).wrapping_sub(1)),
        ("mad24.hi.sat.s32 %r0, 0x800000, 0x800000, 0x7fffffff;", |_| 0x7fff_ffff),
        ("mad24.hi.s32 %r0, 0x800000, 0x800000, 0x7fffffff;", |_| 0xbfff_ffff),
        ("dp2a.lo.s32.s32 %r0, 0x8000ffff, 0x7f7f80ff, %r1;", |l| (32768i32 * 128 + 1 + l as i32) as u32),
        ("dp2a.hi.s32.u32 %r0, 0x8000ffff, 0xff800000, 0;", |_| (-32768i32 * 255 - 128) as u32),
        ("dp2a.lo.u32.u32 %r0, 0xffffffff, 0x0000ffff, 0;", |_| 2 * 65535 * 255),
        ("dp2a.hi.u32.s32 %r0, 0xffff0001, 0xff80ffff, 1;", |_| (-128i32 - 65535 + 1) as u32),
        ("cvt.pack.sat.s16.s32 %r0, 0x12345, -70000;", |_| 0x7fff_8000),
        ("cvt.pack.sat.u16.s32 %r0, 0x12345, -1;", |_| 0xffff_0000),
        ("cvt.pack.sat.u8.s32.b32 %r0, 300, 7, 0xabcd1234;", |_| 0x1234_ff07),
        ("cvt.pack.sat.s8.s32.b32 %r0, -300, 127, 0xabcd1234;", |_| 0x1234_807f),
        ("cvt.pack.sat.s4.s32.b32 %r0, -9, 8, 0xabcd1234;", |_| 0xcd12_3487),
        ("cvt.pack.sat.u2.s32.b32 %r0, 9, 1, 0xabcd1234;", |_| 0xbcd1_234d),
    ]);
}

#[test]
fn variables_in_generic_accesses() {
    all_hold(&[
        ("st.u32 [own+4], %r1; ld.local.u32 %r0, [own+4];", |l| l),
        ("st.shared.u32 [%r2], %r1; bar.sync 0; ld.u32 %r0, [sm+8];", |_| 2),
        ("atom.add.u32 %r0, [sm], 1;", |l| l),
    ]);
}

#[test]
fn constants() {
    let before = ".const .align 4 .u32 c[2] = {5, 6};\n.const .align 8 .u64 p[2] = {generic(c)+4, c};\n";
    for (body, expected) in [
        ("ld.const.u64 %rd5, [p]; ld.u32 %r0, [%rd5];", 6),
        ("ld.const.u64 %rd5, [p+8]; ld.const.u32 %r0, [%rd5];", 5),
        ("mov.u64 %rd5, c; cvta.const.u64 %rd6, %rd5; isspacep.const %p1, %rd6; @%p1 ld.u32 %r0, [%rd6+4];", 6),
        ("{ .const .align 4 .u32 c[3] = {7, 8, 9}; ld.const.u32 %r0, [c+8]; }", 9),
        ("{ .const .u32 a = 3; .const .u64 q = generic(a); ld.const.u64 %rd5, [q]; ld.u32 %r0, [%rd5]; }", 3),
    ] {
        assert_eq!(with(before, body).unwrap_or_else(|fault| panic!("{fault}")), [expected; 32], "{body}");
    }
    let written = with(before, "mov.u64 %rd5, c; cvta.const.u64 %rd6, %rd5; st.u32 [%rd6], 1;").unwrap_err();
    assert_eq!(written.check, Check::AddressSpace);
}

#[test]
fn registers_wider_than_memory() {
    all_hold(&[
        (
            "ld.global.f32 %rd5, [%rd2]; st.global.f32 [%rd4], %rd5; shr.u64 %rd5, %rd5, 1; cvt.u32.u64 %r0, %rd5;",
            |l| (100 + l) / 2,
        ),
        ("ld.global.b16 %r3, [%rd2]; add.u32 %r0, %r3, 1;", |l| 101 + l),
        ("st.shared.f16 [%r2], %r1; ld.shared.f16 %r0, [%r2];", |l| l),
    ]);
}

#[test]
fn functions_with_registers() {
    let before = ".func (.reg .u32 sum, .reg .u32 more) both(.reg .u32 a, .reg .u32 b, .reg .pred p) {\n\
         add.u32 sum, a, b; @p add.u32 sum, sum, 100; mov.u32 more, 7; @!p ret; add.u32 more, more, a; ret; }\n";
    let body = "setp.gt.u32 %p1, %r1, 9; setp.gt.u32 %p2, %r1, 4; @%p2 call (%r3, %r4), both, (%r1, 1000, %p1); \
         @!%p2 mov.u32 %r3, 0; @!%p2 mov.u32 %r4, 0; mad.lo.u32 %r0, %r4, 10000, %r3;";
    let expected: Vec<u32> = (0..32)
        .map(|l| match l {
            0..=4 => 0,
            5..=9 => 70_000 + 1_000 + l,
            _ => (7 + l) * 10_000 + 1_100 + l,
        })
        .collect();
    assert_eq!(with(before, body).unwrap_or_else(|fault| panic!("{fault}")), expected);
}

#[test]
fn registers_of_vectors() {
    all_hold(&[
        ("{ .reg .v4 .u32 v; ld.global.v4.u32 v, [%rd1]; mad.lo.u32 %r0, v.y, 1000, v.a; }", |_| 101_103),
        (
            "{ .reg .v2 .f32 v; mov.f32 v.x, %f1; mov.f32 v.y, 0f00000000; st.shared.v2.f32 [%r29], v; ld.shared.u32 %r0, [%r29]; }",
            |l| (l as f32).to_bits(),
        ),
        (
            "{ .reg .v2 .b32 v; mov.b64 {v.x, v.y}, %rd9; mov.b64 %rd5, {v.y, v.x}; mov.b64 %rd6, v; shr.u64 %rd5, %rd5, 32; \
          add.u64 %rd5, %rd5, %rd6; cvt.u32.u64 %r0, %rd5; }",
            |l| 8 * l,
        ),
    ]);
}

#[test]
fn floats_that_saturate() {
    all_hold(&[
        ("add.sat.f32 %f2, %f1, 0f3F000000; mov.b32 %r0, %f2;", |l| if l == 0 { 0x3f00_0000 } else { 0x3f80_0000 }),
        ("neg.f32 %f2, %f1; sub.sat.f32 %f3, %f2, 0f3F000000; mov.b32 %r0, %f3;", |_| 0),
        ("mul.sat.f32 %f2, %f1, 0f7FC00000; mov.b32 %r0, %f2;", |_| 0),
        ("fma.rn.sat.f32 %f2, %f1, %f1, 0fFF800000; mov.b32 %r0, %f2;", |_| 0),
        ("mov.b32 %r3, 0x7e00bc00; mov.b32 %r4, 0x3c003c00; add.sat.f16x2 %r0, %r3, %r4;", |_| 0),
        ("mov.b32 %r3, 0x3c003800; mov.b32 %r4, 0x3c003400; fma.rn.sat.f16x2 %r0, %r3, %r4, %r4;", |_| 0x3c00_3600),
    ]);
}

const RUNTIME: &str = ".extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);\n\
     .extern .func __assertfail(.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e);\n";

/// `%rd8` is the address of the format `<%d %s %g>`, `%rd6` that of its values, `%rd1` that of the text "d".
const FORMAT: &str = "mov.u64 %rd5, own; cvta.local.u64 %rd6, %rd5; add.u64 %rd8, %rd6, 32; st.local.u32 [own+32], 0x2064253c; \
     st.local.u32 [own+36], 0x25207325; st.local.u32 [own+40], 0x000a3e67;\n";

const PRINT: &str = "{ .param .b64 f; .param .b64 a; .param .b32 r; st.param.b64 [f], %rd8; st.param.b64 [a], %rd6; \
     call.uni (r), vprintf, (f, a); ld.param.b32 %r0, [r]; }";

#[test]
fn printf_prints_once_a_lane() {
    let values =
        "st.local.u32 [own], %r1; st.local.u64 [own+8], %rd1; cvt.f64.f32 %fd1, %f1; st.local.f64 [own+16], %fd1;";
    let body = format!("{FORMAT}{values}{PRINT}");
    let test = "forms::printf_prints_once_a_lane";
    let said = in_child(test, &[], || assert_eq!(with(RUNTIME, &body).unwrap(), [3; 32]));
    let Some(said) = said else { return };
    let printed: Vec<&str> = said.stdout.lines().filter_map(|line| Some(&line[line.find('<')?..])).collect();
    assert_eq!(printed, (0..32).map(|l| format!("<{l} d {l}>")).collect::<Vec<_>>());
}

#[test]
fn printf_reads_no_undefined_bytes() {
    assert_eq!(with(RUNTIME, &format!("{FORMAT}{PRINT}")).unwrap_err().check, Check::Uninitialised);
    // No text lies there.
    let wild = "st.local.u32 [own], %r1; mov.u64 %rd7, 16; st.local.u64 [own+8], %rd7;";
    assert_eq!(with(RUNTIME, &format!("{FORMAT}{wild}{PRINT}")).unwrap_err().check, Check::OutOfBounds);
}

#[test]
fn assertions_say_what_failed() {
    let call = "setp.eq.u32 %p1, %r1, 7; @!%p1 bra GOOD; \
         { .param .b64 a; .param .b64 b; .param .b32 c; .param .b64 d; .param .b64 e; st.param.b64 [a], %rd8; \
         st.param.b64 [b], %rd1; st.param.b32 [c], 12; st.param.b64 [d], %rd1; st.param.b64 [e], 1; \
         call.uni __assertfail, (a, b, c, d, e); } trap; GOOD:";
    let fault = with(RUNTIME, &format!("{FORMAT}{call}")).unwrap_err();
    assert_eq!((fault.check, fault.check.code(), fault.lanes), (Check::Assert, 710, 1 << 7));
    assert_eq!(fault.detail, "assertion `<%d %s %g>\n` failed, d:12, in d");
}

/// A pointer to the kernel's parameters serves loads alone.
#[test]
fn parameters_are_not_written() {
    for store in ["st.u32 [%rd6+8], %r1;", "atom.add.u32 %r0, [%rd6], 1;", "red.add.u32 [%rd6], 1;"] {
        let found = run(&format!("mov.b64 %rd5, in; cvta.param.u64 %rd6, %rd5; {store}")).unwrap_err();
        assert_eq!(found.check, Check::AddressSpace, "{store}: {found}");
    }
    let found = run("mov.b64 %rd5, out; cvta.param.u64 %rd6, %rd5; ld.u64 %rd7, [%rd6+8];").unwrap_err();
    assert_eq!(found.check, Check::OutOfBounds, "{found}");
}

/// Row r of matrix m lies at byte 128·m + 16·r, its column c holds 64·m + 8·r + c.
const MATRICES: &str = "shl.b32 %r3, %r1, 3; add.u32 %r4, %r3, 1; shl.b32 %r4, %r4, 16; or.b32 %r4, %r4, %r3;\n\
     mov.u32 %r9, sm; shl.b32 %r5, %r1, 4; add.u32 %r9, %r9, %r5; add.u32 %r5, %r4, 0x20002; add.u32 %r6, %r4, 0x40004;\n\
     add.u32 %r7, %r4, 0x60006; st.shared.v4.u32 [%r9], {%r4, %r5, %r6, %r7}; bar.warp.sync -1;\n";

#[test]
fn matrices() {
    let load = |form: &str| results(&format!("{MATRICES}ldmatrix.sync.aligned.m8n8.{form}, [%r9]; mov.b32 %r0, %r10;"));
    let straight = |m: u32| (32 * m..32 * m + 32).map(|pair| ((2 * pair + 1) << 16) | (2 * pair)).collect::<Vec<u32>>();
    let turned = |m: u32| {
        let element = |l: u32, half: u32| 64 * m + 8 * (l % 4 * 2 + half) + l / 4;
        (0..32).map(|l| element(l, 0) | element(l, 1) << 16).collect::<Vec<u32>>()
    };
    assert_eq!(load("x1.shared.b16 {%r10}"), straight(0));
    assert_eq!(load("x2.shared.b16 {%r11, %r10}"), straight(1));
    assert_eq!(load("x4.shared.b16 {%r11, %r12, %r13, %r10}"), straight(3));
    assert_eq!(load("x4.trans.shared.b16 {%r11, %r12, %r10, %r13}"), turned(2));
}

#[test]
fn control() {
    all_hold(&[
        ("setp.ge.u32 %p1, %r1, 9; @!%p1 mov.u32 %r0, 5; @%p1 mov.u32 %r0, 6;", |l| if l < 9 { 5 } else { 6 }),
        (".pragma \"nounroll\"; LOOP: add.u32 %r0, %r0, 2; setp.lt.u32 %p1, %r0, %r1; @%p1 bra LOOP;", |l| {
            l.max(1).div_ceil(2) * 2
        }),
        ("setp.lt.u32 %p1, %r1, 9; @%p1 bra OUT; mov.u32 %r0, 7; bra.uni OUT; OUT: bar.warp.sync -1;", |l| {
            if l < 9 { 0 } else { 7 }
        }),
    ]);
}
